"""Learning Spherical Convolution, compared: a planar network on panoramas by eleven methods, over latitude.

    python scripts/sphconv_accuracy.py --help

A small planar network learns ordinary pictures. Then it is to see the same kind of pictures on panoramas. The truth
is what it says of the tangent picture about every pixel; each method comes near to that at its own cost.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from reporting import Script  # beside this file
from scipy.spatial.transform import Rotation
from sphconv_accuracy_methods import PROJECTED, SPHCONV, Method, all_methods, last_of  # beside this file
from tqdm import tqdm

import spherecnn as sc
from spherecnn.cli.options import device_options
from spherecnn.files import make_folder, write_atomic
from spherecnn.grids.resample import nearest_sites
from spherecnn.layers.base import Layer

Array = np.ndarray
COLUMNS = ("method", "latitude", "error", "accuracy", "multiply_adds", "parameters")
BANDS = ((0, 30), (30, 60), (60, 90))
HELD = 1 / 3
BATCH = 8
# Methods whose errors are shown as maps.
MAPPED = ("DIRECT", "INTERP", "SphConv, as a whole")


@dataclass(frozen=True)
class Settings:
    """How large everything is.

    Rows of the panoramas; channels and convolutions of the planar network, and its epochs; panoramas to learn from and
    to measure errors on; pictures at each latitude, and degrees between those; steps of Adam of what learns by it.
    """

    height: int = 64
    width: int = 16
    depth: int = 4
    epochs: int = 15
    panoramas: int = 48
    shown: int = 16
    pictures: int = 120
    step: int = 5
    steps: int = 200

    @property
    def latitudes(self) -> Array:
        """Degrees at which pictures are placed."""
        return np.arange(0, 90, self.step)


QUICK = Settings(height=32, width=4, depth=4, epochs=8, panoramas=16, shown=6, pictures=20, step=15, steps=20)

# --- pictures, and panoramas with pictures on them --------------------------------------------------------------


@dataclass(frozen=True)
class Pictures:
    """Planar pictures (n, side, side, 1) in [0, 1] and their classes, divided for training and for testing."""

    train: tuple[Array, Array]
    test: tuple[Array, Array]
    name: str

    @property
    def side(self) -> int:
        return self.train[0].shape[1]


def load(folder: Path | None, seed: int) -> Pictures:
    """Read a folder in the MNIST format, or scikit-learn's digits at twice their size, a third of them for testing."""
    grid = sc.grids.Equirect(1)
    if folder is not None:
        parts = [sc.datasets.mnist(folder, grid, split=split) for split in ("train", "test")]
        found = [p.flat.batch(np.arange(len(p))) for p in parts]
        return Pictures(found[0], found[1], folder.name)
    parts = [sc.datasets.digits(grid, split=split) for split in ("train", "test")]
    images, labels = (np.concatenate(a) for a in zip(*(p.flat.batch(np.arange(len(p))) for p in parts), strict=True))
    images = sc.layers.Upsample((16, 16), padding_mode="replicate")(images)
    kept, held = sc.datasets.stratified_split(labels, HELD, seed)
    return Pictures((images[kept], labels[kept]), (images[held], labels[held]), "digits")


class Sphere:
    """Panoramas of H x 2H pixels, and tangent pictures whose pixels are as large as the panorama's at the equator."""

    def __init__(self, height: int, side: int):
        self.grid = sc.grids.Equirect(height)
        self.pitch = 2 * math.pi / self.grid.width
        self.side = side
        self.fov_deg = 2 * math.degrees(math.atan(side * self.pitch / 2))

    def panoramas(self, pictures: Array, places: Array) -> Array:
        """Put pictures (n, m, side, side, 1), upright, at places (n, m, 2), latitude and longitude, of n panoramas."""
        count, each = places.shape[:2]
        turns = Rotation.concatenate([sc.datasets.looking_at(lat, lon) for lat, lon in places.reshape(-1, 2)])
        flat = pictures.reshape(count * each, *pictures.shape[2:])
        apart = sc.datasets.project_planar(flat, self.grid, self.fov_deg, turns)
        return apart.reshape(count, each, *self.grid.shape, 1).max(axis=1)

    def filled(self, images: Array, count: int, rng: np.random.Generator) -> Array:
        """`count` panoramas full of pictures, at random places of which none is within a picture of another."""
        return np.concatenate([self._filled(images, rng) for _ in range(count)])

    def _filled(self, images: Array, rng: np.random.Generator) -> Array:
        found = np.empty((0, 3))
        for point in rng.standard_normal((400, 3)):
            point /= np.linalg.norm(point)
            if (found @ point < math.cos(math.radians(self.fov_deg))).all():
                found = np.vstack([found, point])
        places = np.stack(sc.grids.angles(found), axis=-1)[None]
        return self.panoramas(images[rng.integers(0, len(images), len(found))][None], places)

    def tangent_sites(self, lat: float, lon: float) -> Array:
        """The pixels (side * side,) nearest to those of a tangent picture at a place, as in the paper's detector."""
        at = (np.arange(self.side) - (self.side - 1) / 2) * self.pitch
        v, u = np.meshgrid(-at, at, indexing="ij")
        plane = np.stack([np.ones_like(u), u, v], axis=-1).reshape(-1, 3)
        return nearest_sites(self.grid, sc.datasets.looking_at(lat, lon).apply(plane))


# --- the planar network -----------------------------------------------------------------------------------------


def train_planar(
    pictures: Pictures, sphere: Sphere, settings: Settings, seed: int, device: str
) -> tuple[Layer, Layer, float]:
    """Train on pictures in a black surround; return the features, the classifier and its accuracy.

    The features (side, side, width) are of the pixels of the picture; the largest of each 4 x 4 go to a linear layer.
    """
    depth, side = settings.depth, pictures.side
    net = sc.models.stack("planar", 1, settings.width, sphere.grid, width=settings.width, depth=depth, rng=seed)
    classes, cells = int(pictures.train[1].max()) + 1, -(-side // 4)
    pool = sc.layers.MaxPool2d(4, ceil_mode=True)
    linear = sc.layers.Linear(cells**2 * settings.width, classes, rng=seed)
    head = sc.layers.Sequential(sc.layers.ReLU(), pool, sc.layers.Flatten(), linear)
    # The same weights without padding: they see the surround of the picture as on a panorama.
    patch = sc.transfer.chain_to(net, last_of(net)).valid()
    around = [(0, 0), (depth, depth), (depth, depth), (0, 0)]
    train, test = (sc.training.ArrayDataset(np.pad(x, around), y) for x, y in (pictures.train, pictures.test))
    model = sc.layers.Sequential(patch, head)
    model.to(device)
    sc.training.fit(
        model, train, task="classify", epochs=settings.epochs, batch_size=64, lr=2e-3, schedule="cosine", seed=seed
    )
    scores = sc.training.predict(model, test.x)
    model.to("cpu")
    return net, head, float((scores.argmax(axis=1) == test.y).mean())


# --- measuring ----------------------------------------------------------------------------------------------------


def errors(found: Array, truth: Array, sphere: Sphere, latitudes: Array) -> Array:
    """Root mean square error at latitudes (L,), both hemispheres, over the spread of the truth there.

    A row counts for the nearest of the latitudes. The spread is about the mean of each channel over all panoramas.
    """
    squares, own = ((found - truth) ** 2).mean(axis=(0, 2, 3)), ((truth - means(truth)) ** 2).mean(axis=(0, 2, 3))
    north = np.degrees(np.abs(sphere.grid.row_lat))
    near = np.abs(north[:, None] - latitudes).argmin(axis=1)
    return np.sqrt(np.bincount(near, squares, len(latitudes)) / np.bincount(near, own, len(latitudes)))


def means(truth: Array) -> Array:
    """Mean of each channel."""
    return truth.mean(axis=(0, 1, 2), dtype=np.float64)


def spread(truth: Array) -> float:
    """Root mean square of all features about the mean of their channel."""
    return float(np.sqrt(((truth - means(truth)) ** 2).mean()))


def accuracies(
    methods: list[Method], head: Layer, pictures: Pictures, sphere: Sphere, settings: Settings, rng: np.random.Generator
) -> Array:
    """Share of pictures at each latitude whose class is found from the features of each method (methods, L).

    The same pictures at the same longitudes for all: half of them in the north, the others at the antipodes of those.
    """
    count = min(settings.pictures, len(pictures.test[0])) // 2
    pick = rng.permutation(len(pictures.test[0]))[: 2 * count].reshape(count, 2)
    lon = rng.uniform(-math.pi, math.pi, count)
    right = np.zeros((len(methods), len(settings.latitudes)))
    bar = tqdm(total=right.size, desc="accuracy", leave=False, disable=None)
    for j, lat in enumerate(np.radians(settings.latitudes)):
        places = np.array([[(lat, at), (-lat, at + math.pi)] for at in lon])
        panoramas = sphere.panoramas(pictures.test[0][pick], places)
        sites = np.array([[sphere.tangent_sites(*place) for place in pair] for pair in places])
        for i, method in enumerate(methods):
            features = apply(method, panoramas)
            flat = features.reshape(len(features), sphere.grid.sites, -1)
            seen = np.stack([f[at] for f, at in zip(flat, sites, strict=True)])
            scores = head(seen.reshape(-1, sphere.side, sphere.side, flat.shape[2]))
            right[i, j] = (scores.argmax(axis=1) == pictures.test[1][pick].ravel()).mean()
            bar.update()
    bar.close()
    return right


def apply(method: Method, panoramas: Array) -> Array:
    """Features of panoramas, a few at a time."""
    parts = [method.features(panoramas[some]) for some in sc.training.batches(len(panoramas), BATCH)]
    return np.concatenate(parts)


# --- the command --------------------------------------------------------------------------------------------------


@click.command(
    cls=Script,
    epilog="""\b
Examples:
  python scripts/sphconv_accuracy.py --out runs/sphconv
  python scripts/sphconv_accuracy.py --data FOLDER --epochs 3 --out runs/sphconv-fashion""",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder in the MNIST format, for example of Fashion-MNIST; scikit-learn's digits without it.",
)
@click.option("--height", type=click.IntRange(8), help="Rows of the panoramas, twice as many columns.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of the planar network.")
@click.option("--panoramas", type=click.IntRange(1), help="Panoramas that SphConv and KTN learn from.")
@click.option("--pictures", type=click.IntRange(2), help="Test pictures at each latitude.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything that is random.")
@click.option("--quick", is_flag=True, help="Less of everything: a minute, and the same order of the methods.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/sphconv_accuracy"),
    show_default=True,
    help="Folder to write.",
)
@device_options
def main(data: Path | None, seed: int, quick: bool, out: Path, device: str, **changes: int | None) -> None:
    """Compare methods that carry a planar network over to panoramas: error and accuracy over latitude, and cost."""
    make_folder(out)
    settings = replace(QUICK if quick else Settings(), **{k: v for k, v in changes.items() if v is not None})
    pictures, start = load(data, seed), time.perf_counter()
    sphere = Sphere(settings.height, pictures.side)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)]
    click.echo(
        f"{pictures.name}: {len(pictures.train[0])} pictures to learn from, {len(pictures.test[0])} to test, "
        f"{pictures.side} pixels or {sphere.fov_deg:.0f} degrees wide on panoramas of {sphere.grid.height} x "
        f"{sphere.grid.width}"
    )
    net, head, planar = train_planar(pictures, sphere, settings, seed, device)
    click.echo(f"The planar network finds {planar:.1%} of the test pictures on the plane.")
    learn = sphere.filled(pictures.train[0], settings.panoramas, streams[0])
    methods = all_methods(net, learn, settings.steps, seed, device)
    shown = sphere.filled(pictures.test[0], settings.shown, streams[1])
    truth = apply(methods[0], shown)
    error, maps = [], {}
    for method in methods:
        found = apply(method, shown)
        error.append(errors(found, truth, sphere, settings.latitudes))
        if method.name.startswith(MAPPED):
            maps[method.name] = np.sqrt(((found - truth)[0] ** 2).mean(axis=-1)) / spread(truth)
    right = accuracies(methods, head, pictures, sphere, settings, streams[2])
    rows = [
        (method.name, lat, f"{e:.5f}", f"{a:.4f}", method.multiply_adds, method.parameters)
        for method, *curves in zip(methods, error, right, strict=True)
        for lat, e, a in zip(settings.latitudes, *curves, strict=True)
    ]
    seconds = time.perf_counter() - start
    about = (
        f"# {pictures.name}, {sphere.fov_deg:.1f} degrees wide; planar accuracy {planar:.4f}; {seconds:.0f} s; "
        + command_line()
    )
    report(rows, shown[0, :, :, 0], maps, about, out)


def report(rows: list[tuple[Any, ...]], panorama: Array, maps: dict[str, Array], about: str, out: Path) -> None:
    """Write results.csv, results.md and the picture; say what they show."""
    from sphconv_accuracy_figure import figure  # beside this file

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    write_atomic(out / "results.csv", (text.getvalue() + about + "\n").encode())
    found = [dict(zip(COLUMNS, map(str, row), strict=True)) for row in rows]
    said = f"{markdown(found)}\n{claims(found)}\n"
    write_atomic(out / "results.md", said.encode())
    sc.viz.save(figure(found, panorama, maps), out / "sphconv_accuracy.png", dpi=100)
    click.echo(f"\n{said}\nWrote {out}: results.csv, results.md and sphconv_accuracy.png")


def markdown(rows: list[dict[str, str]]) -> str:
    """The table, a line for each method: cost, and means over bands of latitude."""
    bands = [f"{a} to {b}" for a, b in BANDS]
    heads = ["method", "million multiply-adds", "parameters"]
    heads += [f"error, {b}°" for b in bands] + [f"accuracy, {b}°" for b in bands]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name in names(rows):
        own = [r for r in rows if r["method"] == name]
        cells = [name, f"{float(own[0]['multiply_adds']) / 1e6:,.0f}", f"{int(own[0]['parameters']):,}"]
        for what in ("error", "accuracy"):
            for low, high in BANDS:
                mean = np.mean([float(r[what]) for r in own if low <= float(r["latitude"]) < high])
                cells.append(f"{mean:.3f}" if name != "exact" or what == "accuracy" else "0")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def claims(rows: list[dict[str, str]]) -> str:
    """What the curves say of the paper's statements, above 30 degrees."""
    high = {n: {r["latitude"]: float(r["error"]) for r in rows if r["method"] == n} for n in names(rows)}

    def compare(one: str, other: str) -> str:
        ratios = [high[other][lat] / high[one][lat] for lat in high[one] if float(lat) > 30]
        return (
            f"- Above 30 degrees the error of {other} is {min(ratios):.2g} to {max(ratios):.2g} times that of {one}, "
            f"which has the smaller one at {sum(r > 1 for r in ratios)} of {len(ratios)} latitudes."
        )

    direct, interp = (next(n for n in high if n.startswith(word)) for word in ("DIRECT", "INTERP"))
    pairs = [(SPHCONV, direct), (SPHCONV, interp), (PROJECTED, direct)]
    return "\n".join(compare(*pair) for pair in pairs)


def names(rows: list[dict[str, str]]) -> list[str]:
    """Names of the methods, in order."""
    return list(dict.fromkeys(row["method"] for row in rows))


def command_line() -> str:
    return " ".join(["python scripts/sphconv_accuracy.py", *sys.argv[1:]])


if __name__ == "__main__":
    main()
