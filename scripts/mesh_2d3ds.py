"""Classes of what a panorama of a room shows, on the vertices of an icosphere: the published U-Net and its settings.

    python scripts/mesh_2d3ds.py --data FOLDER --fold 3

FOLDER holds area_1 to area_6 of 2D-3D-S as published with the mesh networks; without it rooms are made up. The
published code chooses the best epoch by the test areas; here a tenth of the training panoramas is held out for that,
and the test areas are looked at once. Scores are of the whole test part: vertices of the classes unknown and invalid
count nowhere, where the published code leaves them in the union if another class is predicted there.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from mesh_segment import Experiment, parts  # beside this file
from mesh_training import Settings, training_options
from reporting import Script, command_line

import spherecnn as sc
from spherecnn.cli.options import FOLDER
from spherecnn.datasets.mesh_files import ROOMS_MEAN, ROOMS_STD, ROOMS_UNSCORED

QUICK = {"epochs": 2, "most": 16, "level": 3, "width": 4, "batch": 4}


class Rooms(sc.training.Detect):
    """The scores of `Detect`; the best epoch has the greatest mean IoU."""

    metrics = ("mean_iou", "mean_recall", "accuracy")
    criterion = "mean_iou"


@click.command(
    cls=Script,
    epilog="""\b
Examples:
  python scripts/mesh_2d3ds.py --quick
  python scripts/mesh_2d3ds.py --data 2d3ds_sphere/ --fold 1 --out runs/mesh_2d3ds_1
  python scripts/mesh_2d3ds.py --data 2d3ds_sphere/ --width 32 --schedule cosine --epochs 60 --area""",
)
@click.option("--data", type=FOLDER, help="Folder with area_1 to area_6; rooms are made up without it.")
@click.option("--fold", type=click.IntRange(1, 3), default=3, show_default=True, help="Which areas are the test.")
@click.option("--level", type=click.IntRange(1, 7), default=5, show_default=True, help="Of the icosphere.")
@click.option("--width", type=click.IntRange(1), default=16, show_default=True, help="Of the network; 32 in the paper.")
@click.option("--rgb", is_flag=True, help="Without depth.")
@click.option("--held", type=click.FloatRange(0, 0.9), default=0.1, show_default=True, help="Share for validation.")
@click.option("--area", is_flag=True, help="Weigh vertices by solid angle, in the loss and in the scores.")
@training_options(epochs=200, batch=16, lr=1e-2, schedule="step", out="runs/mesh_2d3ds")
@click.option(
    "--quick", is_flag=True, help="A small network, level 3, few samples and two epochs: to see that it runs."
)
def main(
    data: Path | None,
    fold: int,
    level: int,
    width: int,
    rgb: bool,
    held: float,
    area: bool,
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
    """Train the published U-Net on 2D-3D-S, and test it on the areas of a fold."""
    most = None
    if quick:
        epochs, most, level, width, batch = QUICK.values()
    grid = sc.grids.Icosphere(level)
    if data is None:
        data = out / "made_up"
        click.echo(f"No --data: making up rooms in {data}.")
        sc.datasets.make_2d3ds(data, grid, samples=3 if quick else 8, seed=seed)
    whole, test = (
        sc.datasets.mesh_2d3ds(data, grid, fold=fold, split=split, depth=not rgb) for split in ("train", "test")
    )
    learn, other = parts(whole, held, seed, most)
    channels = 3 if rgb else 4
    net = sc.models.mesh_unet(channels, len(whole.classes), grid, width=width, depth=min(5, level), rng=seed).to(device)
    task = Rooms(area=grid.area if area else None, weight=sc.datasets.rooms_weight(), unscored=ROOMS_UNSCORED)
    settings = Settings(epochs, batch, lr, schedule, seed, step=20, gamma=0.9, minutes=minutes, resume=resume)
    experiment = Experiment(f"2d3ds fold {fold}", net, task, learn, other, _some(test, most), colours)
    click.echo(experiment.run(settings, out, command_line("mesh_2d3ds"), area, level, width))


def colours(x: np.ndarray) -> np.ndarray:
    """Red, green and blue in [0, 1] of standardised channels."""
    return np.clip(x[:, :3] * np.float32(ROOMS_STD[:3]) + np.float32(ROOMS_MEAN[:3]), 0, 1)


def _some(data: sc.datasets.VertexFiles, most: int | None) -> sc.training.Subset:
    return sc.training.Subset(data, np.arange(len(data))[:most])


if __name__ == "__main__":
    main()
