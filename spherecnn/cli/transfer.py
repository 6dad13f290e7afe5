"""`spherecnn transfer`: a planar network carried over to the sphere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
import numpy as np
from safetensors import SafetensorError, safe_open

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.tasks.classify import as_channels
from spherecnn.datasets.folder import pictures_in
from spherecnn.datasets.transforms import KINDS
from spherecnn.errors import InputError
from spherecnn.files import make_folder, write_atomic
from spherecnn.training.config import load_config, save_config
from spherecnn.transfer import Report
from spherecnn.transfer.sphere import COPIED, LEARNED

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(
    "transfer",
    epilog="""\b
Examples:
  spherecnn transfer --weights runs/planar/best.safetensors --to circular --out runs/circular
  spherecnn transfer --weights runs/planar/best.safetensors --to sphconv --data photos/ --out runs/sphconv
  spherecnn transfer --weights runs/planar/best.safetensors --to ktn --data digits --finetune 200 --device cuda
  spherecnn transfer --weights torch.safetensors --model net.toml --map names.toml --to tangent""",
)
@click.option(
    "--weights",
    type=FILE,
    required=True,
    help="Checkpoint of a planar network, such as best.safetensors of a run, or a torch state dict as safetensors.",
)
@click.option("--to", "method", type=click.Choice(COPIED + LEARNED), required=True, help="Method of the new network.")
@click.option(
    "--data",
    help="Panoramas to learn from (sphconv, ktn) and to measure errors on: digits, MNIST-format files, or a folder of "
    "pictures. By default, for sphconv and ktn, those of the run.",
)
@click.option("--rotate", type=click.Choice(KINDS), help="Turn them at random; so3 for digits, else none by default.")
@click.option("--pictures", type=click.IntRange(2), default=100, show_default=True, help="How many panoramas.")
@click.option(
    "--samples", type=o.AT_LEAST_1, default=40, show_default=True, help="Columns of each row that are computed exactly."
)
@click.option(
    "--inputs",
    type=click.Choice(["own", "exact"]),
    default="own",
    show_default=True,
    help="What a layer learns from: the new network's outputs before it, or exact ones (as published).",
)
@click.option("--steps", type=o.AT_LEAST_1, default=300, show_default=True, help="Of Adam for each layer (ktn).")
@click.option(
    "--finetune", type=click.IntRange(0), default=0, show_default=True, help="Steps of Adam for all layers together."
)
@click.option(
    "--pitch",
    type=click.FloatRange(0, 90, min_open=True, max_open=True),
    help="Degrees of a pixel in the middle of the pictures that the network was trained on; the panorama's by default.",
)
@click.option("--height", type=o.AT_LEAST_1, help="Rows of the panoramas; those of the network by default.")
@click.option("--model", type=FILE, help="TOML file of the planar network that torch's weights are for.")
@click.option("--map", "names", type=FILE, help='JSON or TOML file of names, "ours" = "theirs", for torch\'s weights.')
@o.seed_option
@click.option("--out", type=o.FOLDER, help="Folder to write; a new one under runs/ by default.")
@o.device_options
@o.threads_option
def command(
    weights: Path,
    method: str,
    data: str | None,
    rotate: str | None,
    pictures: int,
    pitch: float | None,
    height: int | None,
    model: Path | None,
    names: Path | None,
    finetune: int,
    out: Path | None,
    threads: int | None,
    **options: Any,
) -> None:
    """Carry a planar network, trained on ordinary pictures, over to the sphere; no labels are needed.

    On a panorama the new network comes near to what the planar one gives on a picture taken in each direction. One that
    was trained on panoramas has learned their distortion, and loses by it.

    \b
    circular, sphere, tangent  copy the weights
    sphconv                    kernels of every row, solved for to give what the planar network gives on tangent planes
    ktn                        the planar kernels and a small network that makes the rows' kernels from them
    """
    if out is not None and out.resolve() == weights.resolve().parent:
        raise InputError(f"--out is {out}, where the weights are; expected another folder: the planar network stays.")
    planar, said = load_planar(weights, model, names)
    run = weights.parent if (weights.parent / "config.toml").is_file() and not said else None
    config = None if run is None else load_config(run / "config.toml")
    grid = planar.grid if height is None else sc.grids.Equirect(height)
    source = data or (config["data"] if config and method in LEARNED else None)
    if source is None and method in LEARNED:
        raise InputError(
            f"--to {method} learns from panoramas and {weights} is not of a run that names any; expected --data: name "
            "a folder of pictures, or digits."
        )
    images = None
    if source is not None:
        images = panoramas_of(source, grid, planar.config["in_channels"], rotate, pictures, options["seed"])
    options |= {"pitch": None if pitch is None else math.tan(math.radians(pitch)), "finetune_steps": finetune}
    sphere, report = sc.transfer.to_sphere(planar, method, images=images, grid=grid, progress=True, **options)
    out = make_folder(out or o.new_run(method))
    header = {"transfer": {"from": str(weights.resolve()), "method": method, "data": source}}
    sc.training.save_checkpoint(out / "best.safetensors", sphere, header)
    written = ["best.safetensors"]
    if config is not None:
        save_config(out / "config.toml", config | {"method": method, "height": grid.height})
        written.insert(0, "config.toml")
    written += write_errors(report, out)
    click.echo("\n".join([*said, *told(report, sphere), f"Wrote {out}: {', '.join(written)}.", next_step(out, config)]))


def load_planar(weights: Path, model: Path | None, names: Path | None) -> tuple[Any, list[str]]:
    """The planar network of a checkpoint, or of torch's weights and a model file; for torch also what was mapped."""
    if is_checkpoint(weights):
        if model or names:
            raise InputError(
                f"--model and --map are for weights of torch and {weights} is a checkpoint of spherecnn, which says "
                "what network it is of: leave them out."
            )
        header, arrays, _ = sc.training.load_checkpoint(weights)
        planar = sc.models.build(header["model"])
        sc.training.restore_model(planar, header, arrays)
        return planar, []
    if model is None:
        raise InputError(
            f"{weights} is no checkpoint of spherecnn, so it does not say what network it is of; expected --model: "
            "name a TOML file with model, in_channels, classes, grid and so on, as docs/transfer.md shows."
        )
    planar = sc.models.build({"method": "planar"} | load_config(model), rng=0)
    pairs = sc.transfer.from_torch(weights, planar, names)
    return planar, [o.table(["ours", "torch's"], list(pairs.items())), ""]


def is_checkpoint(weights: Path) -> bool:
    """Whether a file is a checkpoint of ours; refuses what is no safetensors file."""
    if not weights.is_file():
        raise InputError(f"{weights} is not a file; expected weights as safetensors: check the path.")
    try:
        with safe_open(weights, framework="numpy") as file:
            return "spherecnn" in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{weights} is not safetensors ({error}); expected a checkpoint of a run, or in torch "
            "safetensors.torch.save_file(net.state_dict(), path): save the weights so."
        ) from error


def panoramas_of(source: str, grid: Any, channels: int, rotate: str | None, count: int, seed: int) -> np.ndarray:
    """At most `count` panoramas (N, H, W, C) of a data set, chosen and turned at random by the seed."""
    rng = np.random.default_rng(seed)
    if source == "digits" or o.holds_idx(Path(source)):
        options: dict[str, Any] = {"rotate": rotate or "so3", "seed": seed}
        data = sc.datasets.digits(grid, **options) if source == "digits" else sc.datasets.mnist(source, grid, **options)
        return data.batch(_choose(len(data), count, rng))[0]
    folder = Path(source)
    if not folder.is_dir():
        raise InputError(
            f"--data is {source!r}; expected digits, a folder of MNIST-format files, or a folder of panoramas: check "
            "the path."
        )
    inside = folder / "images" if (folder / "images").is_dir() else folder
    files = [f for part in [inside, *sorted(p for p in inside.rglob("*") if p.is_dir())] for f in pictures_in(part)]
    if len(files) < 2:
        raise InputError(
            f"{inside} holds {len(files)} pictures (.jpg, .jpeg, .png); expected 2 or more panoramas: name another "
            "folder."
        )
    chosen = [files[i] for i in _choose(len(files), count, rng)]
    x = sc.datasets.PanoramaFolder(chosen, np.zeros(len(chosen)), [], grid).load().batch(np.arange(len(chosen)))[0]
    turned, _ = sc.datasets.RotateAugment(grid, rotate or "none")(x, np.zeros(len(x)), rng)
    return as_channels(turned, channels)


def _choose(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.permutation(total)[:count])


def write_errors(report: Report, out: Path) -> list[str]:
    """Write the errors of each layer and row as a table and a picture, where there are any; return the names."""
    rows = report.rows()
    if not rows:
        return []
    cells = [
        [row["layer"], row["row"], *(f"{row[key]:.6g}" for key in ("lat", "size", "before", "after"))] for row in rows
    ]
    header = ["layer", "row", "lat", "size", "planar", report.method]
    write_atomic(out / "errors.csv", o.csv_text([header, *cells]).encode())
    sc.viz.save(sc.viz.latitude_curves(rows, "planar", report.method), out / "errors.png")
    return ["errors.csv", "errors.png"]


def told(report: Report, sphere: Any) -> list[str]:
    """What was done, and the errors of each layer as shares of its outputs' size."""
    learned = f", learned {len(report.learned)} from {report.pictures[0]} panoramas" if report.learned else ""
    lines = [
        f"{sphere.config['model']}, {report.method} on {sphere.grid!r}, {sphere.parameter_count:,} parameters: "
        f"copied {len(report.copied)} arrays{learned}."
    ]
    if not report.errors:
        return lines
    header = ["layer", "planar", report.method, "planar, poles", f"{report.method}, poles"]
    cells = [
        [line["layer"], *(o.number(line[key]) for key in ("before", "after", "before_poles", "after_poles"))]
        for line in report.summary()
    ]
    return [
        *lines,
        f"\nErrors against the exact outputs of {report.pictures[1]} panoramas, as shares of the outputs' size; poles: "
        "beyond 60 degrees.\n",
        o.table(header, cells),
        "",
    ]


def next_step(out: Path, config: dict[str, Any] | None) -> str:
    """What to do with the new network."""
    if config is not None:
        return f"Next: spherecnn evaluate {out} --rotate so3"
    return (
        f"Next, in Python: header, arrays, _ = sc.training.load_checkpoint('{out / 'best.safetensors'}'); "
        "net = sc.models.build(header['model']); sc.training.restore_model(net, header, arrays)"
    )
