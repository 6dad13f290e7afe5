"""`spherecnn demo`: the methods side by side on real digits on a sphere, as one table and a few pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.tasks.classify import Classify
from spherecnn.errors import InputError
from spherecnn.files import make_folder, write_atomic
from spherecnn.training.data import Subset

METHODS = ("planar", "circular", "coord", "tangent")
COLUMNS = ("method", "parameters", "accuracy upright", "accuracy rotated", "seconds")
VALIDATION = 0.1


@dataclass(frozen=True)
class Size:
    """How much the demo computes."""

    height: int
    width: int
    epochs: int


FULL = Size(height=60, width=16, epochs=8)
QUICK = Size(height=32, width=16, epochs=4)


@dataclass(frozen=True)
class Result:
    """What a method reached; the confusion is that of the rotated digits."""

    method: str
    parameters: int
    upright: float
    rotated: float
    seconds: float
    log: list[dict[str, Any]]
    confusion: np.ndarray


@click.command(
    "demo",
    epilog="""\b
Examples:
  spherecnn demo
  spherecnn demo --quick --out runs/first""",
)
@click.option("--quick", is_flag=True, help="A shorter form: smaller pictures, fewer epochs.")
@click.option("--out", type=o.FOLDER, help="Folder to write; a new one under runs/ by default.")
@o.seed_option
@o.threads_option
def command(quick: bool, out: Path | None, seed: int, threads: int | None) -> None:
    """Train planar, circular, coord and tangent on real digits on a sphere; test them upright and rotated."""
    out = out or o.new_run("demo")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; expected a new folder for the demo: name another, or none.")
    demo(QUICK if quick else FULL, out, seed)


def demo(size: Size, out: Path, seed: int) -> None:
    """Run the demo into a folder."""
    grid = sc.grids.Equirect(size.height)
    training, validation = (
        Classify().open("digits", grid, part, {"validation": VALIDATION, "seed": seed})
        for part in ("train", "validation")
    )
    upright, rotated = (sc.datasets.digits(grid, split="test", rotate=kind, seed=seed) for kind in ("none", "so3"))
    click.echo(
        f"{len(training)} real handwritten digits on a sphere, {grid!r}, all upright at lat 0, lon 0; "
        f"tested on {len(upright)} others, upright and turned by random rotations of the sphere."
    )
    draw_samples(upright, rotated, make_folder(out))
    compile_kernels(training, size)
    results = []
    for method in METHODS:
        click.echo(f"\n{method}")
        results.append(compare(method, size, seed, training, validation, upright, rotated, out))
    draw_results(results, training.classes, out)
    rows = [[r.method, r.parameters, r.upright, r.rotated, r.seconds] for r in results]
    write_atomic(out / "results.csv", o.csv_text([COLUMNS, *rows]).encode())
    shown = [[r.method, r.parameters, f"{r.upright:.1%}", f"{r.rotated:.1%}", round(r.seconds, 1)] for r in results]
    click.echo(
        f"\n{o.table(COLUMNS, shown)}\n\n"
        f"Wrote {out}: results.csv, samples.png, globe.png, curves.png, and for each method a run and a "
        "confusion matrix of the rotated digits.\n"
        "The networks have seen upright digits only; to train on digits that are turned at random as well:\n"
        f"Next: spherecnn train --data digits --height {size.height} --augment so3"
    )


def compile_kernels(data: Any, size: Size) -> None:
    """Train throw-away networks for a step, so that the seconds of the table are those of training."""
    start = time.perf_counter()
    few = Subset(data, np.arange(32))
    for method in METHODS:
        model = sc.models.classifier(method, 1, len(data.classes), data.grid, width=size.width, rng=0)
        sc.training.fit(model, few, validation=few, epochs=1, progress=False)
    click.echo(f"Compiled the kernels, or read them from the cache: {time.perf_counter() - start:.1f} s.")


def compare(
    method: str, size: Size, seed: int, training: Any, validation: Any, upright: Any, rotated: Any, out: Path
) -> Result:
    """Train and test one method."""
    classes = list(training.classes)
    model = sc.models.classifier(method, 1, len(classes), training.grid, width=size.width, rng=seed)
    settings = {"epochs": size.epochs, "lr": 3e-3, "schedule": "cosine", "seed": seed}
    start = time.perf_counter()
    history = sc.training.fit(
        model,
        training,
        validation=validation,
        **settings,
        out=out / method,
        config={"data": "digits", "method": method, "height": size.height, "width": size.width}
        | settings
        | {"validation": VALIDATION, "classes": classes},
    )
    seconds = time.perf_counter() - start
    up, turned = (sc.training.evaluate(model, d, metrics=["accuracy", "confusion"]) for d in (upright, rotated))
    accuracy, count = (up["accuracy"], turned["accuracy"]), model.parameter_count
    return Result(method, count, *accuracy, seconds, history.rows, turned["confusion"])


def draw_samples(upright: Any, rotated: Any, out: Path) -> None:
    """The same test digits upright and rotated, flat and one of them on a globe."""
    chosen = np.array([np.flatnonzero(upright.labels == k)[0] for k in (2, 3, 5, 7)])
    pictures = [data.batch(chosen)[0] for data in (upright, rotated)]
    titles = [f"{k}, {how}" for how in ("upright", "rotated") for k in upright.labels[chosen]]
    sc.viz.panel(np.concatenate(pictures), out / "samples.png", titles)
    middle = rotated.rotations[chosen[1]].apply([1.0, 0.0, 0.0])
    lat, lon = (round(np.degrees(a)) for a in sc.grids.angles(middle))
    views = [(lat, lon), (lat, (lon + 250) % 360 - 180), (90, 0), (-90, 0)]
    sc.viz.globe(pictures[1][1], upright.grid, out / "globe.png", views, title="a rotated 3, from above and aside")


def draw_results(results: list[Result], classes: list[str], out: Path) -> None:
    """Learning curves of all methods in one picture, and the confusion of each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("val_loss", "val_accuracy"), strict=True):
        for result in results:
            axes.plot([r["epoch"] for r in result.log], [r[name] for r in result.log], ".-", label=result.method)
        axes.set(xlabel="epoch", ylabel=name.replace("val_", "validation "))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    sc.viz.save(figure, out / "curves.png")
    for result in results:
        path, title = out / f"confusion-{result.method}.png", f"{result.method}, rotated digits"
        sc.viz.confusion(result.confusion, classes, path, title=title)
