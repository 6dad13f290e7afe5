"""Omni-MNIST, the comparison of the SphereNet paper: the same network on digits at every latitude, method by method.

    python scripts/omnimnist.py --data FOLDER --method planar --method tangent

FOLDER holds the four files of MNIST. Each network is trained once for each seed. A run that was stopped goes on where
it was, and a finished one is not repeated, so that a long table can be made in parts; the table and the picture show
every run of the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from reporting import Script, command_line, markdown_table, read, span, table_csv  # beside this file

import spherecnn as sc
from spherecnn.cli.options import FOLDER, device_options, seed_option, threads_option
from spherecnn.files import make_folder, write_atomic
from spherecnn.layers.registry import methods_on

# Error of the paper on Omni-MNIST, percent, kernels of 5 and 100 epochs.
PUBLISHED = {"tangent": 5.59, "planar": 9.61}
# The published rate, batch and epochs, and a setting that gets as far as it can in a few epochs.
SETTINGS: dict[str, dict[str, Any]] = {
    "quick": {"lr": 1e-3, "schedule": "cosine", "epochs": 5},
    "published": {"lr": 1e-4, "schedule": "none", "epochs": 100},
}
BATCH = 128
TEST_SEED = 1
BANDS = np.arange(0, 91, 15)
RUN = ("method", "kernel", "parameters", "digits", "lr", "schedule", "epochs", "seed")
RESULTS = (*RUN, "epoch", "train loss", "train error %", "test loss", "test error %", "seconds")
LATITUDES = (*RUN, "from", "to", "test digits", "test error %")


@dataclass(frozen=True)
class Run:
    """One training: a network of a method, and how it is trained."""

    method: str
    kernel: int
    digits: int
    lr: float
    schedule: str
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        rate = f"{self.lr:g}" + ("-cosine" if self.schedule == "cosine" else "")
        return f"{self.method}-{self.kernel}x{self.kernel}-{self.digits}-{rate}-{self.epochs}-{self.seed}"


@click.command(
    cls=Script,
    epilog="""\b
Examples:
  python scripts/omnimnist.py --data mnist/ --out runs/omnimnist
  python scripts/omnimnist.py --data mnist/ --method tangent --kernel-size 5 --seeds 3
  python scripts/omnimnist.py --data mnist/ --setting published --method planar --method tangent""",
)
@click.option("--data", type=FOLDER, required=True, help="Folder with the four files of MNIST.")
@click.option(
    "--method",
    "methods",
    type=click.Choice(methods_on(sc.grids.Equirect)),
    default=("planar", "circular", "tangent"),
    multiple=True,
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--kernel-size",
    "kernels",
    type=click.IntRange(1),
    default=(3,),
    multiple=True,
    show_default=True,
    help="May repeat.",
)
@click.option(
    "--setting",
    type=click.Choice(list(SETTINGS)),
    default="quick",
    show_default=True,
    help="quick: a larger rate that falls to 0 over 5 epochs; published: Adam 1e-4 for 100 epochs.",
)
@click.option("--epochs", type=click.IntRange(1), help="Instead of those of the setting.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Instead of that of the setting.")
@click.option("--digits", type=click.IntRange(1), help="Train on so many, chosen at random; on all by default.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Trainings of each network.")
@seed_option
@device_options
@threads_option
@click.option("--out", type=FOLDER, default=Path("runs/omnimnist"), show_default=True, help="Folder to write.")
def main(
    data: Path,
    methods: tuple[str, ...],
    kernels: tuple[int, ...],
    setting: str,
    epochs: int | None,
    lr: float | None,
    digits: int | None,
    seeds: int,
    seed: int,
    device: str,
    threads: int | None,
    out: Path,
) -> None:
    """Train SphereNet's network on Omni-MNIST for each method; write a table and a picture."""
    make_folder(out)
    train, test = (sc.datasets.omni_mnist(data, split=part, seed=TEST_SEED) for part in ("train", "test"))
    chosen = SETTINGS[setting]
    count = min(digits or len(train), len(train))
    for own in range(seed, seed + seeds):
        for kernel in kernels:
            for method in methods:
                run = Run(
                    method, kernel, count, lr or chosen["lr"], chosen["schedule"], epochs or chosen["epochs"], own
                )
                click.echo(f"{run.name}: {execute(run, train, test, out / run.name, device)}")
    text = report(out, test)
    click.echo(
        f"\n{text}\nWrote {out}: results.csv, latitudes.csv, results.md, omnimnist.png and a folder for each run."
    )


def execute(run: Run, train: Any, test: Any, folder: Path, device: str) -> str:
    """Train a run, or what is left of it; return what to say."""
    if (folder / "latitudes.csv").exists():
        return "kept from before"
    net = sc.models.spherenet(run.method, 1, len(train.classes), train.grid, kernel_size=run.kernel, rng=run.seed)
    pick = np.random.default_rng(run.seed).permutation(len(train))[: run.digits]
    about = dict(zip(RUN, values(run, net.parameter_count), strict=True))
    history = sc.training.fit(
        net,
        sc.training.Subset(train.flat, np.sort(pick)),
        validation=test,
        task=sc.training.Classify(),
        augment=train.place,
        schedule=None if run.schedule == "none" else run.schedule,
        epochs=run.epochs,
        batch_size=BATCH,
        lr=run.lr,
        seed=run.seed,
        out=folder,
        resume=(folder / "last.safetensors").exists(),
        device=device,
        config={"run": about, "model": net.config},
    )
    scores = [sc.training.predict(net, test.batch(indices)[0]) for indices in sc.training.batches(len(test), BATCH)]
    rows = bands(np.concatenate(scores).argmax(axis=1), test)
    write_atomic(folder / "latitudes.csv", table_csv([LATITUDES[len(RUN) :], *rows]))
    return f"test error {100 * (1 - history['val_accuracy'][-1]):.2f} %"


def values(run: Run, parameters: int) -> tuple[Any, ...]:
    """The cells of `RUN`."""
    return (run.method, run.kernel, parameters, run.digits, run.lr, run.schedule, run.epochs, run.seed)


def latitude(test: Any) -> np.ndarray:
    """Latitude of the centre of each digit, degrees."""
    return np.degrees(np.arcsin(np.clip(test.rotations.apply([1.0, 0.0, 0.0])[:, 2], -1, 1)))


def examples(test: Any) -> list[tuple[np.ndarray, str]]:
    """Pictures and titles of the first digits, one of each class, that lie near some latitudes."""
    lat, found = latitude(test), []
    for label, wanted in enumerate((80, 60, 40, 20, 0, -30, -55, -80)):
        near = np.flatnonzero((test.labels == label) & (np.abs(lat - wanted) < 5) & ~test.mirrored)
        for i in near[:1]:
            side = f"{abs(lat[i]):.0f}° {'north' if lat[i] > 0 else 'south'}"
            found.append((test.batch(np.array([i]))[0][0, :, :, 0], f"{test.classes[label]} at {side}"))
    return found


def bands(predicted: np.ndarray, test: Any) -> Iterator[tuple[Any, ...]]:
    """Yield (from, to, digits, error in percent) for bands of the latitude of a digit's centre, both hemispheres."""
    lat, wrong = np.abs(latitude(test)), predicted != test.labels
    for low, high in pairwise(BANDS):
        within = (lat >= low) & (lat < high)
        yield low, high, int(within.sum()), round(100 * float(wrong[within].mean()), 3)


def report(out: Path, test: Any) -> str:
    """Write results.csv, latitudes.csv, results.md and the picture from all runs of a folder; return the table."""
    from omnimnist_figure import figure  # beside this file

    results, latitudes = [], []
    for path in sorted(out.glob("*/latitudes.csv")):
        about = tuple(sc.training.load_config(path.parent / "config.toml")["run"].values())
        for row in read(path.parent / "log.csv"):
            errors = {part: round(100 * (1 - float(row[f"{part}_accuracy"])), 3) for part in ("train", "val")}
            losses = {part: round(float(row[f"{part}_loss"]), 5) for part in ("train", "val")}
            cells = (losses["train"], errors["train"], losses["val"], errors["val"], round(float(row["seconds"]), 1))
            results.append((*about, int(row["epoch"]), *cells))
        latitudes += [(*about, *row.values()) for row in read(path)]
    for name, header, rows in (("results", RESULTS, results), ("latitudes", LATITUDES, latitudes)):
        write_atomic(out / f"{name}.csv", table_csv([header, *rows], "# " + command_line("omnimnist")))
    rows = read(out / "results.csv")
    text = markdown(rows)
    write_atomic(out / "results.md", text.encode())
    drawing = figure(rows, read(out / "latitudes.csv"), PUBLISHED, examples(test))
    sc.viz.save(drawing, out / "omnimnist.png", dpi=100)
    return text


def markdown(rows: list[dict[str, str]]) -> str:
    """The table, a line for each network: the last epoch, the range over the seeds, and what is published."""
    header = ["method", "kernel", "parameters", "digits", "epochs", "rate", "seeds", "training error %", "test error %"]
    header.append("seconds an epoch")
    lines: list[Iterable[Any]] = []
    last = [row for row in rows if row["epoch"] == row["epochs"]]
    for key in dict.fromkeys(tuple(row[name] for name in RUN[:-1]) for row in last):
        found = [row for row in last if tuple(row[name] for name in RUN[:-1]) == key]
        method, kernel, parameters, digits, lr, schedule, epochs = key
        columns = (("train error %", 2), ("test error %", 2), ("seconds", 0))
        spans = [span([float(row[name]) for row in found], places) for name, places in columns]
        rate = lr + (", cosine" if schedule == "cosine" else "")
        sizes = [f"{kernel}x{kernel}", f"{int(parameters):,}", f"{int(digits):,}"]
        lines.append([method, *sizes, epochs, rate, len(found), *spans])
    lines += [
        [f"{method}, published", "5x5", "196,106", "60,000", 100, "0.0001", "-", "-", error, "-"]
        for method, error in PUBLISHED.items()
    ]
    return markdown_table(header, lines)


if __name__ == "__main__":
    main()
