"""Spherical MNIST: the general classifier of each method, on as many sites and with as many parameters, tested upright
and rotated.

    python scripts/spherical_mnist.py --data FOLDER --method circular --method spherephd

FOLDER holds the four files of MNIST. Each network is trained once on upright and once on rotated digits, and tested on
both. A run that was stopped goes on after its last epoch, and a finished one is not repeated, so that a long table can
be made in parts; the table and the picture show every run of the folder.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from reporting import Script, command_line, markdown_table, read, span, table_csv  # beside this file

import spherecnn as sc
from spherecnn.cli.options import FOLDER, device_options, seed_option, threads_option
from spherecnn.files import make_folder, write_atomic
from spherecnn.layers.face_methods import SpherePHDMethod
from spherecnn.layers.registry import METHODS, methods_on

BATCH = 64
FOV = 120.0
TEST_SEED = 1
PLACES = {"none": "upright", "so3": "rotated"}
QUICK = {"digits": 2000, "epochs": 2}
RESULTS = (
    *("method", "train", "sites", "width", "parameters", "digits", "lr", "epochs", "seed", "batch", "fov"),
    *("train accuracy %", "upright accuracy %", "rotated accuracy %"),
)
SHORT = ("accuracy in training %", "upright %", "rotated %")
# Planar methods first, as they were made.
ORDER = sorted(METHODS, key=lambda name: isinstance(METHODS[name], SpherePHDMethod))


@dataclass(frozen=True)
class Run:
    """One training: a network of a method, and the digits that it learns from."""

    method: str
    train: str
    sites: int
    width: int
    parameters: int
    digits: int
    lr: float
    epochs: int
    seed: int
    batch: int = BATCH
    fov: float = FOV

    @property
    def name(self) -> str:
        size = f"{self.sites}-{self.width}"
        return f"{self.method}-{self.train}-{size}-{self.digits}-{self.lr:g}-{self.epochs}-{self.seed}"


@click.command(
    cls=Script,
    epilog="""\b
Examples:
  python scripts/spherical_mnist.py --data mnist/ --quick
  python scripts/spherical_mnist.py --data mnist/ --method spherephd --train so3 --digits 60000 --epochs 10""",
)
@click.option("--data", type=FOLDER, required=True, help="Folder with the four files of MNIST.")
@click.option(
    "--method",
    "--methods",
    "methods",
    type=click.Choice([*methods_on(sc.grids.Equirect), *methods_on(sc.grids.Polyhedron)]),
    default=("planar", "circular", "spherephd", "spherephd_north"),
    multiple=True,
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--train",
    "trains",
    type=click.Choice(list(PLACES)),
    default=tuple(PLACES),
    multiple=True,
    show_default=True,
    help="Upright digits, or rotated ones, drawn anew in every epoch. May be repeated.",
)
@click.option("--level", type=click.IntRange(2, 8), default=4, show_default=True, help="Of the faces; pixels follow.")
@click.option("--width", type=click.IntRange(1), default=16, show_default=True, help="Of the planar network.")
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True)
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True, help="Falls to 0.")
@click.option("--digits", type=click.IntRange(1), help="Train on so many, chosen at random; on all by default.")
@click.option("--quick", is_flag=True, help="2,000 digits and 2 epochs, whatever else is said: to see that it runs.")
@seed_option
@device_options
@threads_option
@click.option("--out", type=FOLDER, default=Path("runs/spherical_mnist"), show_default=True, help="Folder to write.")
def main(
    data: Path,
    methods: tuple[str, ...],
    trains: tuple[str, ...],
    level: int,
    width: int,
    epochs: int,
    lr: float,
    digits: int | None,
    quick: bool,
    seed: int,
    device: str,
    threads: int | None,
    out: Path,
) -> None:
    """Train the classifier on spherical MNIST for each method; write a table and a picture."""
    make_folder(out)
    if quick:
        digits, epochs = QUICK["digits"], QUICK["epochs"]
    for train in trains:
        for method in methods:
            grid = grid_of(method, level)
            digit_data = sc.datasets.mnist(data, grid, rotate=train, fov_deg=FOV)
            count = min(digits or len(digit_data), len(digit_data))
            channels, parameters = fitting_width(method, level, width, len(digit_data.classes))
            run = Run(method, train, grid.sites, channels, parameters, count, lr, epochs, seed)
            click.echo(f"{run.name}: {execute(run, digit_data, data, out / run.name, device)}")
            text = report(out)
    click.echo(f"\n{text}\nWrote {out}: results.csv, results.md, spherical_mnist.png and a folder for each run.")


def grid_of(method: str, level: int) -> sc.grids.Grid:
    """The faces of a level, or a panorama of about as many pixels that can be halved twice."""
    kind = METHODS[method]
    if isinstance(kind, SpherePHDMethod):
        return kind.grid(level=level)
    return sc.grids.Equirect(4 * round(math.sqrt(10 * 4**level) / 4))


def fitting_width(method: str, level: int, width: int, classes: int) -> tuple[int, int]:
    """The width whose network has about as many parameters as the planar one of `width`, and how many it has."""

    def parameters(name: str, channels: int) -> int:
        return sc.models.classifier(name, 1, classes, grid_of(name, level), channels, rng=0).parameter_count

    wanted = parameters("planar", width)
    found = {channels: parameters(method, channels) for channels in range(1, width + 1)}
    return min(found.items(), key=lambda item: abs(item[1] - wanted))


def execute(run: Run, train: Any, source: Path, folder: Path, device: str) -> str:
    """Train a run, or what is left of it, and test it on both kinds of digits; return what to say."""
    if (folder / "tested.csv").exists():
        return "kept from before"
    net = sc.models.classifier(run.method, 1, len(train.classes), train.grid, run.width, rng=run.seed)
    pick = np.random.default_rng(run.seed).permutation(len(train))[: run.digits]
    history = sc.training.fit(
        net,
        sc.training.Subset(train.flat, np.sort(pick)),
        task=sc.training.Classify(),
        augment=train.place,
        schedule="cosine",
        epochs=run.epochs,
        batch_size=run.batch,
        lr=run.lr,
        seed=run.seed,
        out=folder,
        resume=(folder / "last.safetensors").exists(),
        device=device,
        config={"run": asdict(run), "model": net.config},
    )
    scores = [100 * history["train_accuracy"][-1]]
    for place in PLACES:
        test = sc.datasets.mnist(source, train.grid, split="test", rotate=place, fov_deg=run.fov, seed=TEST_SEED)
        scores.append(100 * sc.training.evaluate(net, test, batch_size=run.batch, progress=True)["accuracy"])
    row = (*asdict(run).values(), *(round(s, 2) for s in scores))
    write_atomic(folder / "tested.csv", table_csv([RESULTS, row]))
    return f"{scores[1]:.2f} % of upright and {scores[2]:.2f} % of rotated digits"


def report(out: Path) -> str:
    """Write results.csv, results.md and the picture from all runs of a folder; return the table."""
    from spherical_mnist_figure import figure  # beside this file

    rows = [row for path in sorted(out.glob("*/tested.csv")) for row in read(path)]
    about = "# " + command_line("spherical_mnist")
    write_atomic(out / "results.csv", table_csv([RESULTS, *([row[n] for n in RESULTS] for row in rows)], about))
    text = markdown(rows)
    write_atomic(out / "results.md", text.encode())
    sc.viz.save(figure(rows), out / "spherical_mnist.png", dpi=100)
    return text


def markdown(rows: list[dict[str, str]]) -> str:
    """The table, a line for each network and what it was trained on; the range over the seeds, if there are several."""
    header = ("trained on", "method", "sites", "width", "parameters", "digits", "epochs", "seeds", *SHORT)
    same = ("train", "method", "sites", "width", "parameters", "digits", "lr", "epochs")
    keys = dict.fromkeys(tuple(row[name] for name in same) for row in rows)
    lines = []
    for key in sorted(keys, key=lambda key: (list(PLACES).index(key[0]), ORDER.index(key[1]))):
        found = [row for row in rows if tuple(row[name] for name in same) == key]
        train, method, sites, width, parameters, digits, _, epochs = key
        spans = [span([float(row[name]) for row in found], 2) for name in RESULTS[-3:]]
        cells = [PLACES[train], method, f"{int(sites):,}", width, f"{int(parameters):,}", f"{int(digits):,}", epochs]
        lines.append((*cells, len(found), *spans))
    return markdown_table(header, lines)


if __name__ == "__main__":
    main()
