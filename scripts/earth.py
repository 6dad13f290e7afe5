"""Land, sea and lakes from one picture of the Earth: U-Nets by several methods, and what they do at the seam.

    python scripts/earth.py --help

There is one planet only, so a band of longitudes is held out: in training its labels are ignored and its pixels have
one colour, and the scores are of the band alone. Training pictures are the planet turned about its axis by a random
number of columns, half of them tilted too. The weights are those of the last epoch. A finished run is kept in the
folder and not repeated.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import sys
import zlib
from pathlib import Path
from typing import Any

import click
import numpy as np
from reporting import Script  # beside this file
from scipy.spatial.transform import Rotation

import spherecnn as sc
from spherecnn.cli.options import device_options
from spherecnn.datasets.folder import fit_to_grid
from spherecnn.files import make_folder, write_atomic
from spherecnn.layers.base import Layer
from spherecnn.layers.registry import methods_on
from spherecnn.training.metrics import iou_of

Array = np.ndarray
Band = tuple[float, float]
PICTURE, MASK = "bmng.jpg", "lsmask_10min_h.bin"
CLASSES = ["sea", "land", "lake"]
IGNORED = 255
MAX_TILT = math.radians(30)
SEAMS = 32
STRIP_DEGREES = 5.0
TABLE = {
    "iou_sea_away": "sea",
    "iou_land_away": "land",
    "iou_lake_away": "lake",
    "iou_away": "mean IoU",
    "iou_inside": "seam inside",
    "strip_iou_away": "strip",
    "strip_iou_inside": "strip, seam inside",
    "jump": "jump",
    "strip_changed": "strip changed",
    "changed_half_turn": "all changed",
    "changed_other_turn": "other turn",
}
LEGEND = """\
sea, land, lake, mean IoU: of the held-out band, weighted by area, seam half a turn away; seam inside: seam in the band;
strip: mean IoU within 5 degrees of the seam's place, seam half a turn away and there; jump: change of the probabilities
across the seam over that between the same columns when the seam is far away; changed: share of the strip's and of all
area whose class is another when the seam is half a turn away; other turn: by a turn that is no multiple of the stride.
"""


# --- the planet ----------------------------------------------------------------------------------------------


def read_mask(path: Path) -> Array:
    """Classes (H, 2 H) of a compressed file of bytes whose rows run from south to north; here north is first."""
    try:
        content = path.read_bytes()
        raw = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else zlib.decompress(content)
    except OSError as error:
        raise sc.InputError(
            f"{path} cannot be read ({error}); expected the land-sea-lake mask of basemap, gzip or zlib: see --data."
        ) from error
    except (EOFError, zlib.error) as error:
        raise sc.InputError(f"{path} is damaged ({error}); expected a whole gzip or zlib file.") from error
    height = math.isqrt(len(raw) // 2)
    values = np.frombuffer(raw, np.uint8)
    if height == 0 or 2 * height * height != len(raw) or values.max() >= len(CLASSES):
        raise sc.InputError(
            f"{path} holds {len(raw)} bytes up to {values.max(initial=0)}; expected H x 2 H bytes of 0 (sea), 1 (land) "
            "and 2 (lake)."
        )
    return values.reshape(height, 2 * height)[::-1].astype(np.int64)


def read_earth(folder: Path, grid: sc.grids.Equirect) -> tuple[Array, Array]:
    """Picture (H, W, 3) in [0, 1] and classes (H, W), north first; a pixel is of the class with most of its area."""
    for name in (PICTURE, MASK):
        if not (folder / name).is_file():
            raise sc.InputError(
                f"{folder} has no {name}; expected a folder with {PICTURE} (equirectangular Blue Marble, north first) "
                f"and {MASK} (its land-sea-lake mask, rows from south to north), both of basemap."
            )
    pixels, mask = sc.datasets.read_panorama(folder / PICTURE), read_mask(folder / MASK)
    check_coasts(pixels, mask)
    shares = fit_to_grid(np.eye(len(CLASSES), dtype=np.float32)[mask], grid)
    return np.clip(fit_to_grid(pixels, grid) / 255, 0, 1), shares.argmax(axis=-1)


def check_coasts(pixels: Array, mask: Array) -> float:
    """Correlation of the share of blue with water between 60 south and 60 north; greatest for the mask as it is.

    Upside down, mirrored, half a turn away or moved by one of its pixels, the mask must fit the picture less well.
    """
    grid = sc.grids.Equirect(len(mask))
    colour = fit_to_grid(pixels, grid)
    blue, water = colour[..., 2] / (colour.sum(axis=-1) + 1), (mask != 1).astype(np.float32)
    rows = slice(len(mask) // 6, -(len(mask) // 6))  # polar ice is white, and the sea under it is not blue
    weight = grid.row_area[rows, None]
    others = [water[::-1], water[:, ::-1], np.roll(water, grid.width // 2, axis=1)]
    others += [np.roll(water, shift, axis=(0, 1)) for shift in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    here, *there = (correlation(blue[rows], other[rows], weight) for other in (water, *others))
    if not here > max(there):
        raise sc.InputError(
            f"the coasts of {PICTURE} and {MASK} do not coincide (correlation {here:.3f}, and {max(there):.3f} for the "
            "mask turned over or moved); expected the picture north first and the mask south first, both from 180 west."
        )
    return here


def correlation(a: Array, b: Array, weight: Array) -> float:
    """Correlation of two fields, each row weighted."""
    weight = np.broadcast_to(weight / (weight.sum() * a.shape[1]), a.shape)
    a, b = a - (weight * a).sum(), b - (weight * b).sum()
    return float((weight * a * b).sum() / np.sqrt((weight * a**2).sum() * (weight * b**2).sum()))


def columns_in(band: Band, grid: sc.grids.Equirect) -> Array:
    """Which columns (W,) have their centre in a band, west to east in degrees; it may go over 180."""
    west, east = band
    return (np.degrees(grid.column_lon) - west) % 360 < ((east - west) % 360 or 360)


def hide(picture: Array, labels: Array, columns: Array, grid: sc.grids.Equirect) -> tuple[Array, Array]:
    """What may be trained on: some columns have the mean colour of the others, and no labels.

    Ignoring the labels is not enough. Batch normalisation takes its statistics from all pixels, so that pixels
    without labels have a gradient, which draws them to the mean: the network learns to say nothing there.
    """
    weight = np.where(columns, 0, grid.row_area[:, None])
    colour = np.einsum("hw,hwc->c", weight / weight.sum(), picture).astype(picture.dtype)
    return np.where(columns[:, None], colour, picture), np.where(columns, IGNORED, labels)


class Turns:
    """Augmentation: turn each picture and its labels about the axis by whole columns, half of them tilted first."""

    def __init__(self, grid: sc.grids.Equirect, tilt: bool = True):
        self.grid, self.tilt = grid, tilt
        self.yaw = sc.datasets.RotateAugment(grid, "yaw")

    def __call__(self, x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        tilted = np.flatnonzero(rng.random(len(x)) < 0.5) if self.tilt else []
        if len(tilted):
            around, angle = rng.uniform(0, 2 * np.pi, len(tilted)), rng.uniform(0, MAX_TILT, len(tilted))
            turns = Rotation.from_euler("ZYZ", np.stack([around, angle, -around], axis=1))
            x, y = x.copy(), y.copy()
            x[tilted] = sc.datasets.rotate(x[tilted], turns, self.grid)
            y[tilted] = sc.datasets.rotate(y[tilted][..., None], turns, self.grid, "nearest")[..., 0]
        return self.yaw(x, y, rng)


# --- training ------------------------------------------------------------------------------------------------


def train(model: Layer, picture: Array, labels: Array, folder: Path, settings: dict[str, Any]) -> None:
    """Train on the planet as `settings` say, or take the weights of the run that `folder` holds."""
    last = folder / "last.safetensors"
    if last.exists() and sc.training.load_config(folder / "config.toml") != settings:
        raise sc.InputError(f"{folder} holds a run of other settings; expected those of this call: name another --out.")
    grid, count = model.grid, settings["steps"] * settings["batch_size"]
    weight = sc.training.class_weights(one(picture, labels), len(CLASSES), area=grid.area, ignore_index=IGNORED)
    task = sc.training.Segment(area=grid.area, weight=weight ** settings["balance"], ignore_index=IGNORED)
    sc.training.fit(
        model,
        one(picture, labels, count),
        task=task,
        schedule="cosine",
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        lr=settings["lr"],
        augment=Turns(grid, settings["tilt"]),
        seed=settings["seed"],
        out=folder,
        config=settings,
        resume=last.exists(),
    )


def one(picture: Array, labels: Array, count: int = 1) -> sc.training.ArrayDataset:
    """The one planet, `count` times over."""
    repeat = [np.broadcast_to(a, (count, *a.shape)) for a in (picture, labels)]
    return sc.training.ArrayDataset(*repeat, classes=CLASSES)


# --- scores --------------------------------------------------------------------------------------------------


class Views:
    """What a network says of the planet when the seam lies west of a column: probabilities (H, W, K), unturned."""

    def __init__(self, model: Layer, picture: Array):
        self.model, self.picture = model, picture
        self.kept: dict[int, Array] = {}

    def __getitem__(self, seam: int) -> Array:
        seam %= self.picture.shape[1]
        if seam not in self.kept:
            scores = sc.training.predict(self.model, np.roll(self.picture, -seam, axis=1)[None])
            self.kept[seam] = np.roll(sc.layers.Softmax()(scores)[0], seam, axis=1)
        return self.kept[seam]


def measure(views: Views, labels: Array, band: Band, grid: sc.grids.Equirect, stride: int) -> dict[str, Any]:
    """Scores by name, and "profile", the jumps of the probabilities from column to column.

    `stride` is the total stride of the network: turned by a multiple of it, a network that wraps its columns gives
    the same, turned; by other numbers of columns, pooling has other blocks, and nothing gives quite the same.
    """
    seams, inside, half = all_seams(band, grid), columns_in(band, grid), grid.width // 2
    reach = max(1, round(STRIP_DEGREES / 360 * grid.width))
    strips = {s: np.isin((np.arange(grid.width) - s + reach) % grid.width, np.arange(2 * reach)) for s in seams}
    in_band = [s for s in seams if (strips[s] <= inside).all()]
    found: dict[str, Any] = {}
    for name, shift in (("away", half), ("inside", 0)):
        for what, chosen in (("", [inside] * len(in_band)), ("strip_", [strips[s] for s in in_band])):
            places = zip(in_band, chosen, strict=True)
            table = sum(table_of(views[s + shift], labels, columns, grid) for s, columns in places)
            each, found[f"{what}iou_{name}"] = iou_of(table)
            found |= {f"{what}iou_{c}_{name}": float(v) for c, v in zip(CLASSES, each, strict=True)}
            found[f"{what}accuracy_{name}"] = float(np.trace(table) / table.sum())
    row_area = grid.row_area / grid.row_area.sum()
    found["profile"] = jump_profile(views, seams, row_area)
    found["jump"] = float(found["profile"][0])
    everywhere = np.ones(grid.width, bool)
    for name, shift, where in (
        ("changed_half_turn", half, {}),
        ("changed_other_turn", half + stride // 2, {}),
        ("strip_changed", half, strips),
    ):
        pairs = [(views[s], views[s + shift], where.get(s, everywhere)) for s in seams]
        found[name] = float(np.mean([changed(a, b, columns, row_area) for a, b, columns in pairs]))
    return found


def all_seams(band: Band, grid: sc.grids.Equirect) -> list[int]:
    """Columns with the seam at their western edge, all around the planet; the first is in the middle of the band."""
    middle = band[0] + ((band[1] - band[0]) % 360 or 360) / 2
    first = round((middle + 180) / 360 * grid.width)
    steps = np.unique(np.arange(SEAMS) * grid.width // SEAMS)
    return [int((first + k) % grid.width) for k in steps]


def jump_profile(views: Views, seams: list[int], row_area: Array) -> Array:
    """Change of the probabilities between neighbouring columns (W,) by their distance from the seam, the seam first.

    It is relative to the change between the same columns when the seam is at least a quarter turn away.
    """
    change = np.stack([row_area @ np.abs(views[s] - np.roll(views[s], 1, axis=1)).mean(axis=-1) for s in seams])
    width = change.shape[1]
    distance = (np.arange(width) - np.array(seams)[:, None]) % width
    far = (distance >= width / 4) & (distance <= width * 3 / 4)
    plain = np.broadcast_to((change * far).sum(axis=0) / far.sum(axis=0), change.shape)
    order = np.argsort(distance, axis=1)
    return np.take_along_axis(change, order, 1).sum(axis=0) / np.take_along_axis(plain, order, 1).sum(axis=0)


def table_of(p: Array, labels: Array, columns: Array, grid: sc.grids.Equirect) -> Array:
    """Confusion matrix of some columns, in steradians."""
    target = np.where(columns, labels, IGNORED)
    return sc.training.confusion(p[None], target[None], area=grid.area, ignore_index=IGNORED)


def changed(a: Array, b: Array, columns: Array, row_area: Array) -> float:
    """Share of the area of some columns where two predictions are of other classes."""
    return float(row_area @ (a.argmax(axis=-1) != b.argmax(axis=-1))[:, columns].mean(axis=1))


# --- the command ---------------------------------------------------------------------------------------------


@click.command(
    cls=Script,
    epilog="""\b
Examples:
  python scripts/earth.py --data data/earth --out runs/earth
  python scripts/earth.py --data data/earth --height 256 --method planar --method circular --out runs/earth256""",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help=f"Folder with {PICTURE} (Blue Marble, north first) and {MASK} (land-sea-lake mask, south first) of basemap.",
)
@click.option("--height", type=click.IntRange(8), default=128, show_default=True, help="Rows; twice as many columns.")
@click.option(
    "--method",
    "methods",
    type=click.Choice(methods_on(sc.grids.Equirect)),
    default=("planar", "circular", "coord", "sphere"),
    multiple=True,
    show_default=True,
    help="May be repeated.",
)
@click.option(
    "--band",
    type=(float, float),
    default=(20.0, 80.0),
    show_default=True,
    help="Western and eastern edge of the held-out longitudes, degrees.",
)
@click.option("--epochs", type=click.IntRange(1), default=6, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=50, show_default=True, help="Steps an epoch.")
@click.option("--batch-size", type=click.IntRange(1), default=4, show_default=True, help="Turned planets a step.")
@click.option("--lr", type=float, default=3e-3, show_default=True, help="First learning rate of Adam.")
@click.option("--width", type=click.IntRange(1), default=16, show_default=True, help="Channels of the first stage.")
@click.option("--depth", type=click.IntRange(1), default=4, show_default=True, help="Poolings of the U-Net.")
@click.option(
    "--balance",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Power of the class weights: 0 counts area alone, 1 every class the same.",
)
@click.option("--tilt/--no-tilt", default=True, show_default=True, help="Tilt half of the planets by up to 30 degrees.")
@click.option("--seed", "seeds", type=click.IntRange(0), default=(0,), multiple=True, show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/earth"),
    show_default=True,
    help="Folder to write.",
)
@device_options
def main(
    data: Path, height: int, methods: tuple[str, ...], band: Band, out: Path, device: str, **settings: Any
) -> None:
    """Train U-Nets to see land, sea and lakes; write a table, a CSV and a picture of what happens at the seam."""
    from earth_figure import figure  # beside this file

    try:
        grid = sc.grids.Equirect(height)
        picture, labels = read_earth(data, grid)
        known = hide(picture, labels, columns_in(band, grid), grid)
        make_folder(out)
        seeds, rows, shown = settings.pop("seeds"), [], {}
        for seed in seeds:
            for method in methods:
                run = {"method": method, "height": height, "seed": seed, "band": list(band), **settings}
                click.echo(f"{method}, seed {seed}")
                model = sc.models.unet(
                    method, 3, len(CLASSES), grid, width=settings["width"], depth=settings["depth"], rng=seed
                )
                train(model.to(device), *known, out / f"{method}-{seed}", run)
                views = Views(model, picture)
                found = measure(views, labels, band, grid, 2 ** settings["depth"])
                shown.setdefault(method, (views, found.pop("profile")))
                about = {"method": method, "height": height, "seed": seed, "parameters": model.parameter_count}
                rows.append(about | found)
        table = summary(rows)
        write_atomic(out / "results.md", table.encode())
        write_atomic(out / "results.csv", to_csv(rows).encode())
        sc.viz.save(figure(picture, labels, shown, band, all_seams(band, grid)[0], grid), out / "earth.png", dpi=90)
    except sc.InputError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"\n{table}\n{LEGEND}\nWrote {out}: results.csv, results.md, earth.png and a folder for each run.")


def summary(rows: list[dict[str, Any]]) -> str:
    """A table with one line a method: the mean over the seeds, and the range where there are several."""
    lines = [" | ".join(["method", "parameters", *TABLE.values()]), "|".join(["---"] * (2 + len(TABLE)))]
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        cells = [
            method,
            f"{mine[0]['parameters']:,}",
            *(span([row[name] for row in mine], ".2%" if "changed" in name else ".3f") for name in TABLE),
        ]
        lines.append(" | ".join(cells))
    return "".join(f"| {line} |\n" for line in lines).replace("| ---|", "|---|").replace("--- |", "---|")


def span(values: list[float], how: str) -> str:
    low, mean, high = (format(v, how) for v in (min(values), np.mean(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Rows as CSV, with a last line that begins with # and is the command."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return text.getvalue() + "# " + " ".join(["python scripts/earth.py", *sys.argv[1:]]) + "\n"


if __name__ == "__main__":
    main()
