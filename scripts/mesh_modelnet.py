"""Classes of shapes by what a sphere around them sees: the published network for ModelNet40 and its settings.

    python scripts/mesh_modelnet.py --data FOLDER

FOLDER holds triangle meshes in the layout of ModelNet, CLASS/train/*.off and CLASS/test/*.off, or another that
`spherecnn mesh project` knows; without it shapes are made up. They are projected on the icosphere once, which goes on
where it stopped. The published code looks at the test accuracy after every epoch; here a tenth of the training shapes
is held out to choose the best epoch, and the test shapes are looked at once.
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
    in_words,
    test_accuracy,
    train,
    training_options,
    write_results,
)
from reporting import Script, command_line

import spherecnn as sc
from spherecnn.cli.options import FOLDER
from spherecnn.files import make_folder

# Percent on ModelNet40, manually aligned, width 32.
PUBLISHED = 90.5
MEAN = (0.7139052, 0.6935615, 0.5850884, 0.53355956, 0.76255935, 0.5651189)
STD = (0.27971452, 0.2606435, 0.27366385, 0.21440032, 0.19869797, 0.24401328)
QUICK = {"epochs": 2, "level": 4, "width": 4, "batch": 8}
RESULTS = (
    *("level", "width", "parameters", "classes", "shapes", "held", "lr", "schedule", "batch", "epochs", "seed"),
    *("best epoch", "validation %", "test last %", "test best %", "seconds"),
)


@click.command(
    cls=Script,
    epilog="""\b
Examples:
  python scripts/mesh_modelnet.py --quick
  python scripts/mesh_modelnet.py --data modelnet40/ --out runs/mesh_modelnet --minutes 600
  python scripts/mesh_modelnet.py --data shapes/ --test-numbers 7-9 --epochs 60 --schedule cosine""",
)
@click.option("--data", type=FOLDER, help="Folder of triangle meshes; shapes are made up without it.")
@click.option("--projected", type=FOLDER, help="Where projected shapes are kept; a folder in --out by default.")
@click.option("--up", type=click.Choice(["z", "y"]), default="z", show_default=True, help="Axis that points up.")
@click.option("--test-numbers", help="Numbers of the files to test on, such as 7-9, where no folder says it.")
@click.option("--level", type=click.IntRange(4, 8), default=5, show_default=True, help="Of the icosphere.")
@click.option("--width", type=click.IntRange(1), default=16, show_default=True, help="Of the network; 32 in the paper.")
@click.option("--held", type=click.FloatRange(0, 0.9), default=0.1, show_default=True, help="Share for validation.")
@click.option(
    "--moments",
    type=click.Choice(["own", "published"]),
    default="own",
    show_default=True,
    help="Means and deviations of the channels: of the training shapes, or those published for ModelNet40.",
)
@training_options(epochs=300, batch=16, lr=5e-3, schedule="none", out="runs/mesh_modelnet")
@click.option("--quick", is_flag=True, help="A small network, level 4 and two epochs: to see that it runs.")
def main(
    data: Path | None,
    projected: Path | None,
    up: str,
    test_numbers: str | None,
    level: int,
    width: int,
    held: float,
    moments: str,
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
    """Train the published network on shapes, and test it."""
    if quick:
        epochs, level, width, batch = QUICK.values()
    make_folder(out)
    grid = sc.grids.Icosphere(level)
    if data is None:
        data = out / "made_up"
        click.echo(f"No --data: making up shapes in {data}.")
        sc.datasets.make_shapes(data, samples=(4, 1) if quick else (40, 10), seed=seed)
    folder = projected or out / f"projected_{level}"
    done = sc.datasets.project_shapes(data, folder, grid, up=up)
    if done.damaged:
        click.echo(f"{len(done.damaged)} damaged shapes are left out: see {folder / 'damaged.txt'}.")
    given: dict[str, Any] = {"mean": MEAN, "std": STD} if moments == "published" else {}
    given |= {"test_numbers": test_numbers, "validation": held, "seed": seed}
    learn = sc.datasets.shapes(folder, grid, split="train", **given)
    given |= {"mean": learn.mean, "std": learn.std}  # of all parts those of the training part, read once
    test = sc.datasets.shapes(folder, grid, split="test", **given)
    other = sc.datasets.shapes(folder, grid, split="validation", **given) if held else None
    net = sc.models.mesh_modelnet(6, len(learn.classes), grid, width=width, rng=seed).to(device)
    settings = Settings(epochs, batch, lr, schedule, seed, step=25, gamma=0.7, minutes=minutes, resume=resume)
    config = {"run": {"level": level, "width": width, "held": held, "up": up}, "model": net.config}
    history = train(net, learn, other, Best(), settings, out, config)
    tested = test_accuracy(net, out, test, other is not None)
    count, seen = len(other) if other else 0, 100 * history.best if other else float("nan")
    row = (level, width, net.parameter_count, len(learn.classes), len(learn), count, lr, schedule, batch)
    row += (history.epochs, seed, history.best_epoch, *(round(v, 2) for v in (seen, tested["last"], tested["best"])))
    write_results(out, RESULTS, (*row, round(sum(history["seconds"]), 1)), command_line("mesh_modelnet"))
    draw(net, test, out / "predictions.png")
    click.echo(
        f"{net.parameter_count:,} parameters, {in_words(tested, history, test, 'shapes')}; published on ModelNet40 "
        f"{PUBLISHED} %.\nWrote {out}: log.csv, curves.png, results.csv, predictions.png and the weights."
    )


def draw(net: Any, data: Any, path: Path) -> None:
    """Draw how near some shapes come to the sphere, with their true and predicted classes."""
    x, y = data.batch(np.linspace(0, len(data) - 1, min(12, len(data))).round().astype(int))
    draw_classes(-x[..., 0], data, sc.training.predict(net, x).argmax(axis=1), y, path, (20, 30))


if __name__ == "__main__":
    main()
