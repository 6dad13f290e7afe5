"""`spherecnn demo`: the methods side by side on real digits on a sphere, as one table and a few pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.tasks.classify import Classify
from spherecnn.errors import InputError
from spherecnn.files import make_folder, write_atomic
from spherecnn.training.data import Subset

METHODS = ("planar", "circular", "coord", "tangent", "spherephd", "mesh")
COLUMNS = ("method", "sites", "parameters", "accuracy upright", "accuracy rotated", "seconds")
VALIDATION = 0.1
# What the sites of a grid are, and the end of the name of its globe.
SITES = {
    sc.grids.Equirect: ("pixels", ""),
    sc.grids.Polyhedron: ("faces", "-faces"),
    sc.grids.Icosphere: ("vertices", "-mesh"),
}


@dataclass(frozen=True)
class Size:
    """How much the demo computes: rows and levels have numbers of sites of one size."""

    height: int
    level: int
    mesh_level: int
    width: int
    epochs: int

    def grid(self, method: str) -> Any:
        """The grid of a method in this size."""
        grids = sc.grids.Equirect(self.height), sc.grids.Polyhedron(self.level), sc.grids.Icosphere(self.mesh_level)
        kind = type(sc.layers.method(method).grid())
        return next(grid for grid in grids if isinstance(grid, kind))


FULL = Size(height=60, level=4, mesh_level=4, width=16, epochs=8)
QUICK = Size(height=32, level=3, mesh_level=4, width=16, epochs=4)


class Digits(NamedTuple):
    """The same digits on one grid: to train on and to validate on, and for testing upright and rotated."""

    training: Any
    validation: Any
    upright: Any
    rotated: Any


@dataclass(frozen=True)
class Result:
    """What a method reached; the confusion is that of the rotated digits."""

    method: str
    sites: int
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
  spherecnn demo --quick --out runs/first
  spherecnn demo --device cuda""",
)
@click.option("--quick", is_flag=True, help="A shorter form: smaller pictures, fewer epochs.")
@click.option("--out", type=o.FOLDER, help="Folder to write; a new one under runs/ by default.")
@o.seed_option
@o.device_options
@o.threads_option
def command(quick: bool, out: Path | None, seed: int, device: str, threads: int | None) -> None:
    """Train the methods on real digits on a sphere; test them upright and rotated.

    planar, circular, coord and tangent work on equirectangular pictures, spherephd on the faces of an icosahedron,
    mesh on the vertices of an icosphere.
    """
    out = out or o.new_run("demo")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; expected a new folder for the demo: name another, or none.")
    demo(QUICK if quick else FULL, out, seed, device)


def demo(size: Size, out: Path, seed: int, device: str = "cpu") -> None:
    """Run the demo into a folder."""
    grids = {method: size.grid(method) for method in METHODS}
    data = {grid: open_digits(grid, seed) for grid in grids.values()}
    first = data[grids[METHODS[0]]]
    click.echo(
        f"{len(first.training)} real handwritten digits on a sphere, {', '.join(map(repr, data))}, all upright at "
        f"lat 0, lon 0; tested on {len(first.upright)} others, upright and turned by random rotations of the sphere."
    )
    draw_samples(list(data.values()), make_folder(out))
    compile_kernels(data, size, device)
    results = []
    for method in METHODS:
        click.echo(f"\n{method}")
        results.append(compare(method, size, seed, data[grids[method]], out, device))
    draw_results(results, first.training.classes, out)
    rows: list[list[Any]] = [[r.method, r.sites, r.parameters, r.upright, r.rotated, r.seconds] for r in results]
    write_atomic(out / "results.csv", o.csv_text([COLUMNS, *rows]).encode())
    shown = [[*row[:3], f"{row[3]:.1%}", f"{row[4]:.1%}", round(row[5], 1)] for row in rows]
    click.echo(
        f"\n{o.table(COLUMNS, shown)}\n\n"
        f"Wrote {out}: results.csv, samples.png, globe.png, globe-faces.png, globe-mesh.png, curves.png, and for each "
        "method a run and a confusion matrix of the rotated digits.\n"
        "The networks have seen upright digits only; to train on digits that are turned at random as well:\n"
        f"Next: spherecnn train --data digits --height {size.height} --augment so3"
    )


def open_digits(grid: Any, seed: int) -> Digits:
    """Put the digits on a grid; equal seeds give equal splits and rotations on every grid."""
    config = {"validation": VALIDATION, "seed": seed}
    training, validation = (Classify().open("digits", grid, part, config) for part in ("train", "validation"))
    tests = (sc.datasets.digits(grid, split="test", rotate=kind, seed=seed) for kind in ("none", "so3"))
    return Digits(training, validation, *tests)


def compile_kernels(data: dict[Any, Digits], size: Size, device: str) -> None:
    """Train throw-away networks for a step, so that the seconds of the table are those of training."""
    start = time.perf_counter()
    for method in METHODS:
        grid = size.grid(method)
        training = data[grid].training
        few = Subset(training, np.arange(32))
        model = sc.models.classifier(method, 1, len(training.classes), grid, width=size.width, rng=0)
        sc.training.fit(model, few, validation=few, epochs=1, progress=False, device=device)
    click.echo(f"Compiled the kernels, or read them from the cache: {time.perf_counter() - start:.1f} s.")


def compare(method: str, size: Size, seed: int, data: Digits, out: Path, device: str) -> Result:
    """Train and test one method."""
    classes, grid = list(data.training.classes), data.training.grid
    model = sc.models.classifier(method, 1, len(classes), grid, width=size.width, rng=seed)
    settings = {"epochs": size.epochs, "lr": 3e-3, "schedule": "cosine", "seed": seed}
    start = time.perf_counter()
    history = sc.training.fit(
        model,
        data.training,
        validation=data.validation,
        **settings,
        device=device,
        out=out / method,
        config={"data": "digits", "method": method, "width": size.width}
        | o.size_of(grid)
        | settings
        | {"validation": VALIDATION, "classes": classes},
    )
    seconds = time.perf_counter() - start
    tests = data.upright, data.rotated
    up, turned = (sc.training.evaluate(model, test, metrics=["accuracy", "confusion"]) for test in tests)
    accuracy, count = (up["accuracy"], turned["accuracy"]), model.parameter_count
    return Result(method, grid.sites, count, *accuracy, seconds, history.rows, turned["confusion"])


def draw_samples(data: Sequence[Digits], out: Path) -> None:
    """The same test digits upright and rotated, flat and one of them on a globe, on every kind of grid."""
    labels = data[0].upright.labels
    chosen = np.array([np.flatnonzero(labels == k)[0] for k in (2, 3, 5, 7)])
    turn = data[0].rotated.rotations[chosen[1]]
    lat, lon = (round(np.degrees(a)) for a in sc.grids.angles(turn.apply([1.0, 0.0, 0.0])))
    views = [(lat, lon), (lat, (lon + 250) % 360 - 180), (90, 0), (-90, 0)]
    shown, titles = [], []
    for digits in data:
        grid = digits.upright.grid
        where, end = SITES[type(grid)]
        for test, how in ((digits.upright, "upright"), (digits.rotated, "rotated")):
            pictures = test.batch(chosen)[0]
            shown += [sc.viz.panorama(picture, grid, "nearest") for picture in pictures]
            titles += [f"{k}, {how}, {where}" for k in labels[chosen]]
        title = f"a rotated 3 on {grid.sites:,} {where}, from above and aside"
        sc.viz.globe(pictures[1], grid, out / f"globe{end}.png", views, title=title)
    sc.viz.panel(shown, out / "samples.png", titles)


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
