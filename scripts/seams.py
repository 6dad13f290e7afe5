"""Seams of SpherePHD: how far the response to a field of latitude alone depends on longitude, without training.

    python scripts/seams.py

Random kernels of 10 taps read a zonal field on the faces of a polyhedron. On faces that point the same way an ideal
method answers with a function of latitude; what is left after such a function has been fitted is the spread.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from reporting import Script, markdown_table, read, table_csv  # beside this file

import spherecnn as sc
from spherecnn.cli.options import FOLDER, seed_option
from spherecnn.files import make_folder, write_atomic
from spherecnn.grids import Polyhedron
from spherecnn.kernels.gather_gemm import gather_gemm
from spherecnn.stencils import FACE_ORIENTATIONS, spherephd

REGIONS = ("caps", "belt")
# Kernels as drawn; less their means, to answer to differences alone; and these answers over the edge of a face.
KERNELS = ("as drawn", "sum 0", "sum 0, over the edge")
HEADER = ("level", "kernels", "orientation", *(f"{region} %" for region in REGIONS), "largest of a face %")
DEGREE = 12


@click.command(cls=Script)
@click.option("--kernels", "count", type=click.IntRange(1), default=100, show_default=True, help="Random kernels.")
@click.option("--level", "levels", type=click.IntRange(2, 8), default=(3, 4, 5, 6), multiple=True, show_default=True)
@seed_option
@click.option("--out", type=FOLDER, default=Path("runs/seams"), show_default=True, help="Folder to write.")
def main(count: int, levels: tuple[int, ...], seed: int, out: Path) -> None:
    """Measure the seams of both orientations; write a table and a picture."""
    make_folder(out)
    drawn = np.random.default_rng(seed).standard_normal((10, count))
    rows = [row for level in levels for row in measure(Polyhedron(level), drawn)]
    about = f"# python scripts/seams.py --kernels {count} --seed {seed}"
    write_atomic(out / "seams.csv", table_csv([HEADER, *rows], about))
    sc.viz.save(figure(Polyhedron(4), without_sum(drawn)[:, 0]), out / "seams.png", dpi=100)
    click.echo(f"{markdown(read(out / 'seams.csv'))}\nWrote {out}: seams.csv and seams.png.")


def measure(grid: Polyhedron, drawn: np.ndarray) -> list[tuple[object, ...]]:
    """Rows of the table for a level: the spread of each kind of answer in each orientation."""
    rows = []
    for name in KERNELS:
        kernels = drawn if name == KERNELS[0] else without_sum(drawn)
        for orientation in FACE_ORIENTATIONS:
            y = response(grid, kernels, orientation)
            found = spread(grid, y / np.sqrt(grid.area)[:, None] if name == KERNELS[2] else y)
            rows.append((grid.level, name, orientation, *(f"{100 * share:.2f}" for share in found)))
    return rows


def without_sum(kernels: np.ndarray) -> np.ndarray:
    """Kernels (taps, K) less their means: they answer to differences alone."""
    return kernels - kernels.mean(axis=0)


def zonal(grid: Polyhedron) -> np.ndarray:
    """The field, sin(3 lat)."""
    return np.sin(3 * grid.lat)


def response(grid: Polyhedron, kernels: np.ndarray, orientation: str) -> np.ndarray:
    """The field convolved with kernels (taps, K): (P, K)."""
    stencil = spherephd(grid, "rotated", 1, orientation)
    return gather_gemm(zonal(grid)[None, :, None], np.ascontiguousarray(kernels[:, None]), None, stencil)[0]


def spread(grid: Polyhedron, y: np.ndarray) -> tuple[float, float, float]:
    r"""What is no function of latitude in responses (P, K), as a share of their standard deviation.

    .. math:: \sqrt{\operatorname{mean}_p (y_p - q(lat_p))^2} \,/\, \operatorname{std}_p\, y_p

    over the faces with the apex to the north, weighed by area, with q the polynomial of degree 12 that is nearest in
    the north cap, in the south cap and in the belt. Returned are the medians over the kernels for both caps together,
    for the belt, and of the largest residual of a single face.
    """
    kept = grid.north_up
    area, lat, y, section = grid.area[kept], grid.lat[kept], y[kept], grid.section[kept]
    deviation = np.sqrt(np.average((y - np.average(y, axis=0, weights=area)) ** 2, axis=0, weights=area))
    residual = np.empty_like(y)
    belt = (section >= 5) & (section < 15)
    for region in (section < 5, section >= 15, belt):
        middle, half = (lat[region].max() + lat[region].min()) / 2, np.ptp(lat[region]) / 2
        basis = np.polynomial.legendre.legvander((lat[region] - middle) / half, DEGREE)
        weight = np.sqrt(area[region])[:, None]
        found = np.linalg.lstsq(weight * basis, weight * y[region], rcond=None)[0]
        residual[region] = y[region] - basis @ found
    shares = [
        np.median(np.sqrt(np.average(residual[where] ** 2, axis=0, weights=area[where])) / deviation)
        for where in (~belt, belt)
    ]
    return float(shares[0]), float(shares[1]), float(np.median(np.abs(residual).max(axis=0) / deviation))


def markdown(rows: list[dict[str, str]]) -> str:
    """The table: the spread in the caps and in the belt, a column for each level."""
    levels = sorted({int(row["level"]) for row in rows})
    found = {(row["kernels"], row["orientation"], int(row["level"])): row for row in rows}
    lines = [
        (kernels, orientation, region, *(found[kernels, orientation, level][f"{region} %"] for level in levels))
        for kernels, orientation in dict.fromkeys(key[:2] for key in found)
        for region in REGIONS
    ]
    return markdown_table(("kernels", "orientation", "faces in the", *(f"level {level}" for level in levels)), lines)


def figure(grid: Polyhedron, kernel: np.ndarray) -> Figure:
    """Draw the response of one kernel about the north pole, on faces with the apex to the north, both ways."""
    drawing = Figure(figsize=(8, 4.2), layout="constrained")
    kept = grid.north_up & (grid.xyz[:, 2] > 0.3)
    corners = grid.vertices[grid.faces[kept]]
    flat = corners[..., :2] / np.sqrt((1 + corners[..., 2:]) / 2)  # equal areas
    ways = {way: response(grid, kernel[:, None], way)[kept, 0] for way in FACE_ORIENTATIONS}
    most = max(np.abs(y).max() for y in ways.values())
    for axes, (way, y) in zip(drawing.subplots(1, 2), ways.items(), strict=True):
        shown = axes.add_collection(PolyCollection(flat, array=y, cmap="RdBu_r", clim=(-most, most), edgecolors="none"))
        axes.set(
            title=f'orientation="{way}"', xticks=[], yticks=[], aspect="equal", xlim=(-1.25, 1.25), ylim=(-1.25, 1.25)
        )
        axes.axis("off")
    drawing.colorbar(shown, ax=drawing.axes, shrink=0.8, label="response to sin(3 lat)")
    return drawing


if __name__ == "__main__":
    main()
