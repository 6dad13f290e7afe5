"""Spherical MNIST on the vertices of an icosphere: the published network of mesh convolutions and its settings.

    python scripts/mesh_mnist.py --data FOLDER

FOLDER holds the four files of MNIST; with --archive, the published archive of projected digits is read instead. The
published code looks at the accuracy on the 10,000 test digits after every epoch and reports the best. Here 5,000 of
the training digits are held out to see how the training goes and to choose the best epoch, and the test digits are
looked at once, at the end: with the weights of the last epoch, and with those of the best one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from mesh_training import (  # beside this file
    Best,
    Settings,
    draw_classes,
    held_out,
    in_words,
    test_accuracy,
    train,
    training_options,
    write_results,
)
from reporting import Script, command_line
from scipy.ndimage import map_coordinates

import spherecnn as sc
from spherecnn.cli.options import FOLDER
from spherecnn.datasets.mesh_mnist import PROJECTIONS
from spherecnn.files import make_folder

# Percent, upright digits in training and test.
PUBLISHED = 99.23
QUICK = {"digits": 1000, "epochs": 1, "held": 200}
RESULTS = (
    *("projection", "level", "width", "parameters", "digits", "held", "augment", "lr", "schedule", "batch", "epochs"),
    *("seed", "best epoch", "validation %", "test last %", "test best %", "seconds"),
)


class Wobble:
    """Augmentation: shift flat digits and turn them about their middle, each at random, then put them on the sphere.

    Shifts are even up to `shift` pixels each way, turns up to `degrees` either way.
    """

    def __init__(self, project: Any, shift: float, degrees: float):
        self.project, self.shift, self.degrees = project, shift, degrees

    def __call__(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        count, height, width = x.shape
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees, (count, 1, 1)))
        down, right = rng.uniform(-self.shift, self.shift, (2, count, 1, 1))
        row, column = np.arange(height)[:, None] - (height - 1) / 2, np.arange(width) - (width - 1) / 2
        rows = np.cos(angle) * row - np.sin(angle) * column + (height - 1) / 2 - down
        columns = np.sin(angle) * row + np.cos(angle) * column + (width - 1) / 2 - right
        number = np.broadcast_to(np.arange(count)[:, None, None], rows.shape)
        moved = map_coordinates(x.astype(np.float32), [number, rows, columns], order=1, mode="constant")
        return self.project(moved), y


@click.command(
    cls=Script,
    epilog="""\b
Examples:
  python scripts/mesh_mnist.py --data mnist/ --quick
  python scripts/mesh_mnist.py --data mnist/ --out runs/mesh_mnist
  python scripts/mesh_mnist.py --data mnist/ --epochs 30 --schedule cosine --shift 2 --turn 10 --minutes 45
  python scripts/mesh_mnist.py --data mnist/ --epochs 30 --schedule cosine --shift 2 --turn 10 --resume""",
)
@click.option("--data", type=FOLDER, help="Folder with the four files of MNIST.")
@click.option("--archive", type=click.Path(dir_okay=False, path_type=Path), help="The published archive, instead.")
@click.option("--projection", type=click.Choice(PROJECTIONS), default="published", show_default=True)
@click.option("--level", type=click.IntRange(2, 8), default=4, show_default=True, help="Of the icosphere.")
@click.option("--width", type=click.IntRange(1), default=16, show_default=True, help="Of the first convolution.")
@click.option("--digits", type=click.IntRange(2), help="Use so many of the training digits, chosen at random.")
@click.option("--held", type=click.IntRange(0), default=5000, show_default=True, help="Held out for validation.")
@click.option("--augment", is_flag=True, help="The same as --shift 2 --turn 10.")
@click.option("--shift", type=click.FloatRange(0), default=0.0, help="Shift digits by up to so many pixels.")
@click.option("--turn", type=click.FloatRange(0), default=0.0, help="Turn digits by up to so many degrees.")
@training_options(epochs=100, batch=64, lr=1e-2, schedule="step", out="runs/mesh_mnist")
@click.option("--quick", is_flag=True, help="1,000 digits and one epoch, whatever else is said: to see that it runs.")
def main(
    data: Path | None,
    archive: Path | None,
    projection: str,
    level: int,
    width: int,
    digits: int | None,
    held: int,
    augment: bool,
    shift: float,
    turn: float,
    epochs: int,
    batch: int,
    lr: float,
    schedule: str,
    minutes: float | None,
    resume: bool,
    seed: int,
    device: str,
    threads: int | None,
    out: Path,
    quick: bool,
) -> None:
    """Train the published network on spherical MNIST, and test it on the 10,000 test digits."""
    if quick:
        digits, epochs, held = QUICK["digits"], QUICK["epochs"], QUICK["held"]
    if augment:
        shift, turn = shift or 2.0, turn or 10.0
    grid = sc.grids.Icosphere(level)
    read = reader(data, archive, grid, projection)
    whole = read("train")
    pick = np.random.default_rng(seed).permutation(len(whole))[:digits]
    kept, other = (pick[part] for part in held_out(len(pick), held, seed))
    moved = shift > 0 or turn > 0
    if moved and archive is not None:
        raise click.UsageError("the archive holds digits on the sphere; expected flat ones to move: give --data.")
    if not moved and archive is None and digits is None:
        whole.load()
    net = sc.models.mesh_classifier(1, len(whole.classes), grid, width=width, rng=seed).to(device)
    learn = sc.training.Subset(whole.flat if moved else whole, kept)
    settings = Settings(epochs, batch, lr, schedule, seed, minutes=minutes, resume=resume)
    make_folder(out)
    config = {"run": {"projection": projection, "level": level, "held": held, "shift": shift, "turn": turn}}
    history = train(
        net,
        learn,
        sc.training.Subset(whole, other) if held else None,
        Best(),
        settings,
        out,
        config | {"model": net.config},
        Wobble(whole.project, shift, turn) if moved else None,
    )
    test = read("test")
    tested = test_accuracy(net, out, test, held > 0)
    seen = 100 * history.best if held else float("nan")
    moves = f"{shift:g} pixels, {turn:g} degrees" if moved else "none"
    row = (projection if archive is None else "archive", level, width, net.parameter_count, len(kept), held, moves)
    row += (lr, schedule, batch, history.epochs, seed, history.best_epoch, round(seen, 2))
    row += (round(tested["last"], 2), round(tested["best"], 2), round(sum(history["seconds"]), 1))
    write_results(out, RESULTS, row, command_line("mesh_mnist"))
    draw(net, test, out / "predictions.png")
    click.echo(
        f"{net.parameter_count:,} parameters, {in_words(tested, history, test, 'digits')}; published {PUBLISHED} %, "
        f"the best epoch in test.\nWrote {out}: log.csv, curves.png, results.csv, predictions.png and the weights."
    )


def reader(data: Path | None, archive: Path | None, grid: Any, projection: str) -> Any:
    """A function from "train" or "test" to a data set."""
    if (data is None) == (archive is None):
        raise click.UsageError("expected --data FOLDER or --archive FILE, one of them: give the digits.")
    if archive is not None:
        parts = sc.datasets.read_mesh_mnist(archive, grid)
        return parts.__getitem__
    return lambda split: sc.datasets.mesh_mnist(data, grid, split=split, projection=projection)


def draw(net: Any, data: Any, path: Path) -> None:
    """Draw the first digits as they lie on the sphere, with their true and predicted classes."""
    x, y = data.batch(np.arange(min(12, len(data))))
    draw_classes(x[..., 0], data, sc.training.predict(net, x).argmax(axis=1), y, path, (0, -90))


if __name__ == "__main__":
    main()
