"""`spherecnn evaluate`: measure a trained network on pictures that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.errors import InputError
from spherecnn.files import make_folder, write_atomic


@click.command(
    "evaluate",
    epilog="""\b
Examples:
  spherecnn evaluate runs/circular
  spherecnn evaluate runs/circular --rotate so3
  spherecnn evaluate runs/photos --data photos-of-another-day/""",
)
@click.argument("run", type=o.FOLDER)
@click.option("--data", help="Data to measure on; by default what the run's own data held back.")
@o.rotate_option("--rotate", "Turn every picture at random.")
@o.weights_option
@o.batch_option
@click.option("--out", type=o.FOLDER, help="Where to write; a folder inside the run by default.")
@o.threads_option
def command(
    run: Path,
    data: str | None,
    rotate: str,
    weights: str,
    batch_size: int,
    out: Path | None,
    threads: int | None,
) -> None:
    """Measure a run: accuracy, and a confusion matrix as picture and CSV."""
    model, config = o.load_run(run, weights)
    held = held_back(config, model.grid, rotate, data)
    names = list(config["classes"])
    if list(held.classes) != names:
        raise InputError(
            f"the data has the classes {list(held.classes)}; expected {names}, which the run was trained on: "
            "name data of the same classes."
        )
    found = sc.training.evaluate(model, held, batch_size=batch_size, metrics=["accuracy", "confusion"])
    out = make_folder(out or run / ("evaluate" if rotate == "none" else f"evaluate-{rotate}"))
    write_atomic(out / "confusion.csv", confusion_csv(found["confusion"], names).encode())
    sc.viz.confusion(found["confusion"], names, out / "confusion.png")
    turned = {"none": "as they are", "yaw": "turned about the axis", "so3": "turned at random"}[rotate]
    click.echo(
        f"{len(held)} pictures, {turned}: accuracy {found['accuracy']:.1%}, loss {found['loss']:.4f}.\n"
        f"Wrote {out}: confusion.csv, confusion.png.\n"
        f"Next: spherecnn predict {run} PICTURE... --out predictions.csv"
    )


def held_back(config: dict[str, Any], grid: Any, rotate: str, data: str | None) -> Any:
    """The test part of `data`, or of the run's own data; of its own folder of pictures, the validation part.

    The run's seed decides what is held back.
    """
    source = data or config["data"]
    own_pictures = data is None and source != "digits" and not o.holds_idx(Path(source))
    part = "validation" if own_pictures else "test"
    return o.open_data(source, grid, part, validation=config["validation"], seed=config["seed"], rotate=rotate)


def confusion_csv(matrix: np.ndarray, names: list[str]) -> str:
    """Rows are the true classes, columns the predicted ones."""
    lines = [["true \\ predicted", *names]]
    lines += [[name, *(f"{n:g}" for n in row)] for name, row in zip(names, matrix, strict=True)]
    return o.csv_text(lines)
