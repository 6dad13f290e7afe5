"""Cyclones and rivers of vapour in fields of a climate model, on an icosphere: the published U-Net and its settings.

    python scripts/mesh_climate.py --data FOLDER

FOLDER holds the NPZ files published with the mesh networks and the lists train_split.txt, val_split.txt and
test_split.txt; without it weather is made up. Scores are of the whole test part and not means over batches, and average
precision compares log-odds and not scores, which are known up to a constant for each vertex. The published code
builds a schedule that it never steps: the rate is constant here too, unless another schedule is named.
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
from spherecnn.datasets.mesh_files import FIELDS, WEATHER_WEIGHT

QUICK = {"epochs": 2, "most": 16, "level": 3, "width": 4, "batch": 4}


@click.command(
    cls=Script,
    epilog="""\b
Examples:
  python scripts/mesh_climate.py --quick
  python scripts/mesh_climate.py --data climate_sphere_l5/ --out runs/mesh_climate
  python scripts/mesh_climate.py --data climate_sphere_l5/ --batch 32 --lr 3e-3 --schedule cosine --area""",
)
@click.option("--data", type=FOLDER, help="Folder with the files and the three lists; made up without it.")
@click.option("--level", type=click.IntRange(1, 7), default=5, show_default=True, help="Of the icosphere.")
@click.option("--width", type=click.IntRange(1), default=8, show_default=True, help="Of the network.")
@click.option("--balance/--no-balance", default=True, show_default=True, help="Weigh the classes as published.")
@click.option("--area", is_flag=True, help="Weigh vertices by solid angle, in the loss and in the scores.")
@training_options(epochs=50, batch=256, lr=1e-2, schedule="none", out="runs/mesh_climate")
@click.option("--quick", is_flag=True, help="A small network, level 3, 16 samples and two epochs: to see that it runs.")
def main(
    data: Path | None,
    level: int,
    width: int,
    balance: bool,
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
    """Train the published U-Net on climate data, and test it."""
    most = None
    if quick:
        epochs, most, level, width, batch = QUICK.values()
    grid = sc.grids.Icosphere(level)
    if data is None:
        data = out / "made_up"
        click.echo(f"No --data: making up weather in {data}.")
        sc.datasets.make_climate(data, grid, samples=(16, 4, 4) if quick else (64, 16, 16), seed=seed)
    learn, other, test = (
        parts(sc.datasets.mesh_climate(data, grid, split=split), 0.0, seed, most)[0]
        for split in ("train", "val", "test")
    )
    depth = min(5, level)
    net = sc.models.mesh_unet(len(FIELDS), len(learn.classes), grid, width=width, depth=depth, rng=seed).to(device)
    weight = np.array(WEATHER_WEIGHT) if balance else None
    task = sc.training.Detect(area=grid.area if area else None, weight=weight)
    settings = Settings(epochs, batch, lr, schedule, seed, step=20, gamma=0.4, minutes=minutes, resume=resume)
    experiment = Experiment("climate", net, task, learn, other, test, vapour)
    click.echo(experiment.run(settings, out, command_line("mesh_climate"), area, level, width))


def vapour(x: np.ndarray) -> np.ndarray:
    """Vertically integrated water vapour, the field TMQ."""
    return x[:, FIELDS.index("TMQ")]


if __name__ == "__main__":
    main()
