"""Divergence and vorticity of real winds by the mesh operators, against a spectral reference.

    python scripts/mesh_winds.py --winds FOLDER

The folder holds the reference files of windspharm (A. Dawson, MIT): the winds, and what a spectral method makes of
them, on one grid with rows from the north pole to the south pole and columns from longitude 0 to the east.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure
from reporting import Script, markdown_table, read, table_csv  # beside this file
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu
from tqdm import tqdm

import spherecnn as sc
from spherecnn.cli.options import FOLDER
from spherecnn.errors import InputError
from spherecnn.files import make_folder, write_atomic
from spherecnn.grids import Icosphere, operators
from spherecnn.grids.base import compass

RADIUS = 6.3712e6
FIELDS = {
    "uwnd": "wind to the east, m/s",
    "vwnd": "wind to the north, m/s",
    "vrt": "vorticity, 1/s",
    "div": "divergence, 1/s",
    "psi": "stream function, m2/s",
    "chi": "velocity potential, m2/s",
}
READINGS = {"linear": 1, "quintic": 5}
# What is computed from what, and what it should be.
PRODUCTS = {
    "vorticity of the winds": "vrt",
    "divergence of the winds": "div",
    "Laplacian of the stream function": "vrt",
    "Laplacian of the velocity potential": "div",
}
HEADER = ("level", "sites", "edge degrees", "product", "read", "smoothed", "correlation", "difference")


@click.command(cls=Script)
@click.option("--winds", "folder", type=FOLDER, required=True, help="Folder with uwnd.ref.npy, vwnd.ref.npy and so on.")
@click.option(
    "--level",
    "levels",
    type=click.IntRange(2, 8),
    default=(4, 5, 6, 7),
    multiple=True,
    show_default=True,
    help="Levels of the icosphere; give the option several times.",
)
@click.option(
    "--degree", type=click.IntRange(1), default=20, show_default=True, help="Degree that the smoothing takes by half."
)
@click.option("--out", type=FOLDER, default=Path("runs/mesh_winds"), show_default=True, help="Folder to write.")
def main(folder: Path, levels: tuple[int, ...], degree: int, out: Path) -> None:
    """Compute divergence and vorticity of winds on icospheres; write a table and a picture.

    \b
    Example:
      python scripts/mesh_winds.py --winds FOLDER --level 4 --level 5
    """
    fields = load(folder)
    make_folder(out)
    levels = tuple(sorted(set(levels)))
    rows = [row for level in tqdm(levels, desc="levels", disable=None) for row in compare(fields, level, degree)]
    about = f"# python scripts/mesh_winds.py --winds FOLDER --degree {degree}; radius {RADIUS:g} m"
    write_atomic(out / "mesh_winds.csv", table_csv([HEADER, *rows], about))
    sc.viz.save(figure(fields, Icosphere(min(5, levels[-1]))), out / "mesh_winds.png", dpi=100)
    click.echo(f"{markdown(read(out / 'mesh_winds.csv'))}\nWrote {out}: mesh_winds.csv and mesh_winds.png.")


def load(folder: Path) -> dict[str, np.ndarray]:
    """Read the fields (H, W), axes of length one dropped."""
    fields = {}
    for name, what in FIELDS.items():
        path = folder / f"{name}.ref.npy"
        try:
            fields[name] = np.load(path, allow_pickle=False).squeeze().astype(float)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); expected {what}, an array as .npy.") from None
        shape = fields[name].shape
        if len(shape) != 2 or shape[1] % 2 or shape != fields["uwnd"].shape:
            raise InputError(
                f"{path} has shape {shape}; expected (H, W), W even, as {FIELDS['uwnd']}: give one time and one height."
            )
    return fields


def read_at(field: np.ndarray, xyz: np.ndarray, degree: int) -> np.ndarray:
    """Read a field (H, W), rows from pole to pole, columns from longitude 0, at directions (P, 3) by splines: (P,).

    Beyond a pole a row goes on half a turn away, so that the field is periodic both ways.
    """
    height, width = field.shape
    over = np.roll(field[-2:0:-1], width // 2, axis=1)
    lat, lon = sc.grids.angles(xyz)
    places = [(np.pi / 2 - lat) * (height - 1) / np.pi, lon % (2 * np.pi) * width / (2 * np.pi)]
    return ndimage.map_coordinates(np.concatenate([field, over]), places, order=degree, mode="grid-wrap")


def winds_at(fields: dict[str, np.ndarray], grid: Icosphere, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the winds at the vertices as vectors in space, which have no seam at the poles: u and v (P,)."""
    height, width = fields["uwnd"].shape
    lat = np.linspace(np.pi / 2, -np.pi / 2, height)[:, None] + np.zeros(width)
    lon = np.arange(width) * 2 * np.pi / width + np.zeros((height, 1))
    east, north = compass(lat, lon)
    vectors = fields["uwnd"][..., None] * east + fields["vwnd"][..., None] * north
    found = np.stack([read_at(vectors[..., k], grid.xyz, degree) for k in range(3)], axis=-1)
    east, north = compass(grid.lat, grid.lon)
    return (found * east).sum(axis=1), (found * north).sum(axis=1)


def products(fields: dict[str, np.ndarray], grid: Icosphere, reading: str) -> dict[str, np.ndarray]:
    """What the mesh operators make of the fields, 1/s."""
    degree = READINGS[reading]
    u, v = winds_at(fields, grid, degree)
    found = {}
    for name in ("vorticity", "divergence"):
        from_east, from_north = getattr(operators, name)(grid)
        found[f"{name} of the winds"] = (from_east @ u + from_north @ v) / RADIUS
    laplacian = operators.laplacian(grid, "mass")
    for name, field in (("stream function", "psi"), ("velocity potential", "chi")):
        found[f"Laplacian of the {name}"] = laplacian @ read_at(fields[field], grid.xyz, degree) / RADIUS**2
    return found


def smoother(grid: Icosphere, degree: int) -> Callable[[np.ndarray], np.ndarray]:
    r"""Return a function that damps the harmonics of degree l by :math:`(1 + t\,l(l+1))^{-2}`, `degree` by half."""
    time = (math.sqrt(2) - 1) / (degree * (degree + 1))
    mass = operators.vertex_areas(grid)
    system = sparse.csc_array(sparse.diags_array(mass) - time * operators.laplacian(grid))
    solver = splu(system, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.0)
    return lambda values: solver.solve(mass * solver.solve(mass * values))


def compare(fields: dict[str, np.ndarray], level: int, degree: int) -> list[tuple[object, ...]]:
    """Rows of the table for a level: correlation with the reference, and the relative root mean square difference."""
    grid = Icosphere(level)
    smooth, rows = smoother(grid, degree), []
    true = {name: read_at(fields[name], grid.xyz, 5) for name in ("vrt", "div")}
    for reading in READINGS:
        for product, ours in products(fields, grid, reading).items():
            reference = true[PRODUCTS[product]]
            for smoothed, pair in (("no", (ours, reference)), (f"from {degree}", (smooth(ours), smooth(reference)))):
                numbers = agreement(*pair, grid.area)
                edge = math.degrees(grid.pixel_side)
                rows.append((level, grid.sites, f"{edge:.2f}", product, reading, smoothed, *numbers))
    return rows


def agreement(ours: np.ndarray, reference: np.ndarray, area: np.ndarray) -> tuple[str, str]:
    """Correlation, and root mean square of the difference over that of the reference, weighted by area."""
    a, b = (x - np.average(x, weights=area) for x in (ours, reference))
    correlation = np.average(a * b, weights=area) / math.sqrt(
        np.average(a * a, weights=area) * np.average(b * b, weights=area)
    )
    off = math.sqrt(np.average((ours - reference) ** 2, weights=area) / np.average(reference**2, weights=area))
    return f"{correlation:.5f}", f"{off:.4f}"


def markdown(rows: list[dict[str, str]]) -> str:
    """The table: correlation and difference in per cent for each product, a column for each level."""
    levels = sorted({int(row["level"]) for row in rows})
    found: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in rows:
        percent = float(f"{100 * float(row['difference']):.2g}")
        cell = f"{float(row['correlation']):.4f}, {percent:g} %"
        found.setdefault((row["product"], row["read"], row["smoothed"]), {})[int(row["level"])] = cell
    shown = {key: cells for key, cells in found.items() if key[1] == "quintic" or key[2] == "no"}
    lines = [(*key, *(shown[key][level] for level in levels)) for key in sorted(shown, key=_line)]
    return markdown_table(("product", "read", "smoothed", *(f"level {level}" for level in levels)), lines)


def _line(key: tuple[str, str, str]) -> tuple[int, bool, bool]:
    product, reading, smoothed = key
    return list(PRODUCTS).index(product), reading == "linear", smoothed != "no"


def figure(fields: dict[str, np.ndarray], grid: Icosphere) -> Figure:
    """Draw the reference, ours and ten times the difference as panoramas, for vorticity and divergence."""
    drawing = Figure(figsize=(13, 4.7), layout="constrained")
    found = products(fields, grid, "quintic")
    for line, (name, field) in zip(drawing.subplots(2, 3), (("vorticity", "vrt"), ("divergence", "div")), strict=True):
        reference, ours = read_at(fields[field], grid.xyz, 5), found[f"{name} of the winds"]
        most = float(f"{1e6 * np.quantile(np.abs(reference), 0.998):.1g}")
        pictures = {
            f"{name}, spectral reference": reference,
            f"{name} by the mesh, level {grid.level}": ours,
            "difference, times 10": 10 * (ours - reference),
        }
        for axes, (title, values) in zip(line, pictures.items(), strict=True):
            picture = sc.viz.panorama(1e6 * values, grid)
            shown = axes.imshow(picture, extent=(-180, 180, -90, 90), cmap="RdBu_r", vmin=-most, vmax=most)
            axes.set_title(title, fontsize=10)
            axes.set(xticks=range(-180, 181, 90), yticks=range(-90, 91, 45))
            axes.tick_params(labelsize=8)
            for ticks in (axes.xaxis, axes.yaxis):
                ticks.set_major_formatter("{x:.0f}°")
        drawing.colorbar(shown, ax=list(line), label="1e-6 / s", shrink=0.9)
    return drawing


if __name__ == "__main__":
    main()
