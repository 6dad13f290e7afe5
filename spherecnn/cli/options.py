"""What the commands share: options, data by name, run folders, tables."""

from __future__ import annotations

import csv
import functools
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

import spherecnn as sc
from spherecnn.datasets.transforms import KINDS
from spherecnn.errors import InputError
from spherecnn.grids.polyhedron import MOST_LEVELS
from spherecnn.kernels.precision import PRECISIONS
from spherecnn.layers.base import DEVICES
from spherecnn.layers.registry import METHODS
from spherecnn.training.checkpoint import load_checkpoint, restore_model
from spherecnn.training.config import load_config

Option = Callable[[Any], Any]
AT_LEAST_1 = click.IntRange(1)
FOLDER = click.Path(file_okay=False, path_type=Path)


def threads_option(command: Any) -> Any:
    """--threads N, set before the command runs."""

    def use(ctx: click.Context, param: click.Parameter, n: int | None) -> int | None:
        if n is not None:
            sc.set_num_threads(n)
        return n

    return click.option(
        "--threads", type=AT_LEAST_1, callback=use, help="Threads of the kernels; all cores by default."
    )(command)


def device_options(command: Any) -> Any:
    """--device, passed on to the command, and --precision, in which it runs; that there is no GPU is said at once."""

    @functools.wraps(command)
    def run(*args: Any, device: str, precision: str, **options: Any) -> Any:
        if device == "cuda":
            gpu()
        elif precision != "float32" and _moved_here():
            click.echo(f"The CPU computes in its own type: float32, and not {precision} as the config says.")
            precision = "float32"
        elif precision != "float32":
            raise InputError(
                f"--precision {precision} was given without --device cuda; expected float32 on the CPU, which computes "
                "in it: add --device cuda, or leave --precision out."
            )
        with sc.precision(precision):
            return command(*args, device=device, **options)

    where = click.option(
        "--device", type=click.Choice(DEVICES), default="cpu", show_default=True, help="cuda is an NVIDIA GPU."
    )
    how = click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default="float32",
        show_default=True,
        help="Of products on a GPU: tf32 and bf16 are faster, with 10 and 7 digits (bits) of the factors.",
    )
    return where(how(run))


def _moved_here() -> bool:
    """Whether --device was given and --precision was not, but stands in the config of a run."""
    source, kinds = click.get_current_context().get_parameter_source, click.core.ParameterSource
    return source("device") is kinds.COMMANDLINE and source("precision") is kinds.DEFAULT_MAP


def gpu() -> Any:
    """The GPU, which is made ready if it is not; one sentence where there is none."""
    from spherecnn.kernels.gpu import device

    return device.current()


def rotate_option(name: str, text: str) -> Option:
    """An option that takes a kind of rotation."""
    return click.option(name, type=click.Choice(KINDS), default="none", show_default=True, help=text)


seed_option = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of everything random."
)
method_option = click.option(
    "--method",
    type=click.Choice(list(METHODS)),
    default="circular",
    show_default=True,
    help="How to convolve.",
)
_height_option = click.option(
    "--height",
    type=AT_LEAST_1,
    help="Rows for equirectangular methods, 60 by default; there are twice as many columns.",
)
_level_option = click.option(
    "--level",
    type=click.IntRange(0, MOST_LEVELS),
    help="Level, 4 by default: 20 * 4^level triangles for spherephd, 10 * 4^level + 2 vertices for mesh.",
)
width_option = click.option(
    "--width",
    type=AT_LEAST_1,
    default=16,
    show_default=True,
    help="Channels of the first convolution of the network.",
)
batch_option = click.option("--batch-size", type=AT_LEAST_1, default=32, show_default=True, help="Pictures a step.")


def grid_options(command: Any) -> Any:
    """--height and --level, of which a method takes one; see `grid_of`."""
    return _height_option(_level_option(command))


def grid_of(options: dict[str, Any]) -> Any:
    """The grid of a method, from the options method, height and level."""
    return sc.layers.method(options["method"]).grid(height=options.get("height"), level=options.get("level"))


def size_of(grid: Any) -> dict[str, Any]:
    """What a run's config keeps of its grid: height or level, None for the other."""
    return {name: grid.config().get(name) for name in ("height", "level")}


weights_option = click.option(
    "--weights",
    type=click.Choice(["best", "last"]),
    default="best",
    show_default=True,
    help="Which checkpoint.",
)


def holds_idx(folder: Path) -> bool:
    """Whether a folder holds MNIST-format files."""
    return any(folder.glob("*idx?-ubyte*"))


def same_classes(data: Any, config: dict[str, Any]) -> None:
    """Refuse data of other classes than those of a run."""
    names = list(config["classes"])
    if list(data.classes) != names:
        raise InputError(
            f"the data has the classes {list(data.classes)}; expected {names}, which the run was trained on: "
            "name data of the same classes."
        )


def weight_of(config: dict[str, Any]) -> np.ndarray | None:
    """The weights of the classes in a run's config."""
    return None if config.get("class_weight") is None else np.array(config["class_weight"])


def load_run(run: Path, weights: str, device: str = "cpu") -> tuple[Any, dict[str, Any]]:
    """Return the model of a run folder on a device, with "best" or "last" weights, and the config of the run."""
    if not (run / "config.toml").is_file():
        raise InputError(f"{run} holds no config.toml; expected a run folder: name one that `spherecnn train` wrote.")
    header, arrays, _ = load_checkpoint(run / f"{weights}.safetensors")
    model = sc.models.build(header["model"])
    restore_model(model, header, arrays)
    return model.to(device), load_config(run / "config.toml")


def new_run(name: str) -> Path:
    """A folder name under runs/ that no run has yet."""
    return Path("runs") / time.strftime(f"{name}-%Y%m%d-%H%M%S")


def beside(stem: Path, end: str) -> Path:
    """The path of a file whose name is that of `stem` and `end`; dots in the stem stay."""
    return stem.with_name(stem.name + end)


def number(value: float) -> str:
    """A number with four significant digits, or a dash where there is none."""
    return "-" if np.isnan(value) else f"{value:.4g}"


def confusion_csv(matrix: np.ndarray, names: list[str]) -> str:
    """Rows are the true classes, columns the predicted ones."""
    lines = [["true \\ predicted", *names]]
    lines += [[name, *(f"{n:g}" for n in row)] for name, row in zip(names, matrix, strict=True)]
    return csv_text(lines)


def csv_text(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Align rows of text and numbers under a header: text to the left, numbers to the right.

    Examples
    --------
    >>> print(table(["name", "size"], [["conv", 9], ["pool", 10]]))
    name  size
    ----  ----
    conv     9
    pool    10
    """
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]
    cells = [list(header), *([f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    cells.insert(1, ["-" * w for w in widths])
    return "\n".join(
        "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True)).rstrip()
        for row in cells
    )
