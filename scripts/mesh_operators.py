"""What the mesh operators are off on spherical harmonics: by level, form and degree, near the poles, after a rotation.

    python scripts/mesh_operators.py
    python scripts/mesh_operators.py --level 2 --level 3 --out runs/quick

All real harmonics of degree 1 to 8 are put on the vertices, and what the operators make of them is compared with the
exact answer. Errors are shares of the root mean square of the exact gradient, or of the exact Laplacian.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np
from mesh_operators_figure import figure  # beside this file
from reporting import Script, markdown_table, read, table_csv
from scipy import sparse
from tqdm import tqdm

import spherecnn as sc
from spherecnn.cli.options import FOLDER, seed_option
from spherecnn.files import make_folder, write_atomic
from spherecnn.grids import Icosphere, MeshGrid, operators
from spherecnn.grids.base import compass

DEGREES = range(1, 9)
BELT = math.radians(75)
FORMS = (
    ("laplacian", "published"),
    ("laplacian", "mass"),
    ("east", "published"),
    ("east", "compass"),
    ("north", "published"),
    ("north", "compass"),
    ("divergence", "faces"),
    ("vorticity", "faces"),
)
MAPS = (("laplacian", "published"), ("laplacian", "mass"), ("north", "published"), ("north", "compass"))
NORMS = ("rms", "largest", "rms in the belt", "largest in the belt")
HEADER = ("mesh", "level", "sites", "operator", "form", "degree", *NORMS)
POLES = ("level", "ring", "degrees from the pole", "length of north", "length of east", "turned by degrees")
POLES += ("published error", "compass error")
ROTATION = ("level", "angle", "operator", "form", "rms", "largest")
RINGS = (0, 1, 2, 3, 4, 6, 8, 16)
ANGLES = (10.0, 36.0, 72.0, 180.0)


@click.command(cls=Script)
@click.option(
    "--level",
    "levels",
    type=click.IntRange(1, 8),
    default=(2, 3, 4, 5, 6, 7),
    multiple=True,
    show_default=True,
    help="Levels of the icosphere; give the option several times.",
)
@seed_option
@click.option("--out", type=FOLDER, default=Path("runs/mesh_operators"), show_default=True, help="Folder to write.")
def main(levels: tuple[int, ...], seed: int, out: Path) -> None:
    """Measure the mesh operators on spherical harmonics; write tables and a picture.

    \b
    Example:
      python scripts/mesh_operators.py --level 2 --level 3 --out runs/quick
    """
    make_folder(out)
    levels = tuple(sorted(set(levels)))
    rows, poles, turns = [], [], []
    for level in tqdm(levels, desc="levels", disable=None):
        grid = Icosphere(level)
        rows += measure(grid, "icosphere", level)
        rows += [row for name, mesh in other_meshes(level, seed) for row in measure(mesh, name, level)]
        poles += near_the_poles(grid)
        turns += rotation(grid, seed)
    about = f"# python scripts/mesh_operators.py --seed {seed}"
    for name, header, found in (("", HEADER, rows), ("_poles", POLES, poles), ("_rotation", ROTATION, turns)):
        write_atomic(out / f"mesh_operators{name}.csv", table_csv([header, *found], about))
    written = read(out / "mesh_operators.csv")
    drawn = Icosphere(min(5, levels[-1]))
    on_icosphere = pooled([row for row in written if row["mesh"] == "icosphere"])
    sc.viz.save(figure(on_icosphere, errors_of_one(drawn), drawn), out / "mesh_operators.png", dpi=100)
    click.echo(
        f"{markdown(written)}\n{meshes_markdown(written)}\n{poles_markdown(read(out / 'mesh_operators_poles.csv'))}"
    )
    click.echo(rotation_markdown(read(out / "mesh_operators_rotation.csv")))
    click.echo(f"Wrote {out}: mesh_operators.csv, _poles.csv and _rotation.csv, and mesh_operators.png.")


def other_meshes(level: int, seed: int) -> list[tuple[str, MeshGrid]]:
    """Meshes with about as many vertices as the icosphere of a level: parallels and meridians, and a shaken icosphere.

    The vertices of the icosphere are moved at random, by a tenth of the mean edge along each axis, and put back onto
    the sphere.
    """
    import trimesh

    rows = round(5**0.5 * 2**level)
    uv = trimesh.creation.uv_sphere(count=[rows, 2 * rows])
    grid = Icosphere(level)
    steps = np.random.default_rng(seed).standard_normal((grid.sites, 3)) * grid.pixel_side / 10
    shaken = grid.xyz + steps
    shaken /= np.linalg.norm(shaken, axis=1, keepdims=True)
    return [("UV sphere", MeshGrid(uv.vertices, uv.faces)), ("shaken icosphere", MeshGrid(shaken, grid.faces))]


def harmonics(degree: int, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""All real harmonics of a degree and their derivatives to the east and the north: three of (P, 2 degree + 1).

    .. math:: Y_{l, \pm m} = N_{lm} \cos^m lat\; P_l^{(m)}(\sin lat)\; \{\cos, \sin\}(m\,lon)

    with :math:`P_l^{(m)}` the m-th derivative of the Legendre polynomial. They are orthonormal over the sphere.
    """
    sine, cosine = np.sin(lat), np.cos(lat)
    legendre = np.polynomial.Legendre.basis(degree)
    value, east, north = [], [], []
    for m in range(degree + 1):
        norm = math.sqrt((2 * degree + 1) / (4 * math.pi) * math.factorial(degree - m) / math.factorial(degree + m))
        part = norm * (math.sqrt(2) if m else 1) * legendre.deriv(m)(sine)
        slope = norm * (math.sqrt(2) if m else 1) * legendre.deriv(m + 1)(sine)
        less = cosine ** max(m - 1, 0)  # cos^m over cos, wherever it is multiplied by m
        for wave, turned in ((np.cos(m * lon), -np.sin(m * lon)), (np.sin(m * lon), np.cos(m * lon)))[: 1 + (m > 0)]:
            value.append(cosine**m * part * wave)
            east.append(m * less * part * turned)
            north.append((cosine ** (m + 1) * slope - m * less * sine * part) * wave)
    return tuple(np.stack(columns, axis=-1) for columns in (value, east, north))  # type: ignore[return-value]


def matrices(grid: MeshGrid) -> dict[tuple[str, str], Any]:
    """The operators by name and form, each one that multiplies functions, or east and north parts one above the other.

    The published Laplacian is an integral over the area of a vertex. It is divided by the mean of these areas, one
    number for the whole mesh, since a layer has one weight for all vertices.
    """
    found: dict[tuple[str, str], Any] = {
        ("laplacian", "published"): operators.laplacian(grid) * (grid.sites / operators.face_areas(grid).sum()),
        ("laplacian", "mass"): operators.laplacian(grid, "mass"),
    }
    for form in operators.DERIVATIVES:
        found["east", form], found["north", form] = operators.derivatives(grid, form)
    for name in ("divergence", "vorticity"):
        found[name, "faces"] = sparse.hstack(getattr(operators, name)(grid), format="csr")
    return found


def answers(degree: int, grid: MeshGrid) -> dict[str, tuple[np.ndarray, np.ndarray, float]]:
    """For each operator what it is given, the exact answer, and the root mean square that errors are shares of.

    Divergence and vorticity are given the gradients of harmonics and these turned by a quarter, of which the exact
    answer is the Laplacian.
    """
    value, east, north = harmonics(degree, grid.lat, grid.lon)
    eigenvalue = degree * (degree + 1)
    second = -eigenvalue * value, eigenvalue / math.sqrt(4 * math.pi)
    first = math.sqrt(eigenvalue / (4 * math.pi))
    return {
        "laplacian": (value, *second),
        "east": (value, east, first),
        "north": (value, north, first),
        "divergence": (np.concatenate([east, north]), *second),
        "vorticity": (np.concatenate([-north, east]), *second),
    }


def measure(grid: MeshGrid, mesh: str, level: int) -> list[tuple[object, ...]]:
    """Rows of the table for a mesh: relative errors of each operator on each degree, over all its orders.

    The errors are weighted by area. Derivatives have no errors at the poles themselves, where there is no east. The
    belt ends at 75 degrees north and south.
    """
    found = matrices(grid)
    pole = np.hypot(grid.xyz[:, 0], grid.xyz[:, 1]) < operators.POLE
    belt = np.abs(grid.lat) <= BELT
    rows: list[tuple[object, ...]] = []
    for degree in DEGREES:
        known = answers(degree, grid)
        for name, form in FORMS:
            given, exact, scale = known[name]
            off = (found[name, form] @ given - exact) / scale
            regions = (~pole if name in ("east", "north") else np.full(grid.sites, True)), belt
            norms = [norm for where in regions for norm in norms_of(off[where], grid.area[where])]
            rows.append((mesh, level, grid.sites, name, form, degree, *(f"{norm:.3e}" for norm in norms)))
    return rows


def norms_of(off: np.ndarray, area: np.ndarray) -> tuple[float, float]:
    """Root mean square, weighted by area, and maximum of errors (P, K)."""
    return math.sqrt(np.average((off**2).mean(axis=1), weights=area)), float(np.abs(off).max())


def near_the_poles(grid: Icosphere) -> list[tuple[object, ...]]:
    """Rows about the published derivatives, ring by ring around the poles.

    Applied to x, y and z, a derivative says which vector it multiplies gradients by. Its length should be one, and its
    direction east or north. The errors are the largest difference from the unit vector, ring 0 is the poles.
    """
    ways = {form: [m @ grid.xyz for m in operators.derivatives(grid, form)] for form in operators.DERIVATIVES}
    true = compass(grid.lat, grid.lon)
    links = abs(operators.laplacian(grid))
    poles = np.flatnonzero(np.hypot(grid.xyz[:, 0], grid.xyz[:, 1]) < operators.POLE)
    ring = sparse.csgraph.dijkstra(links, unweighted=True, indices=poles, min_only=True)
    rows: list[tuple[object, ...]] = []
    for k in RINGS:
        where = ring == k
        if not where.any():
            break
        lengths = [np.linalg.norm(way[where], axis=1) for way in reversed(ways["published"])]
        turned = [
            np.degrees(np.arctan2(np.linalg.norm(np.cross(way, unit)[where], axis=1), (way * unit)[where].sum(axis=1)))
            for way, unit in zip(ways["published"], true, strict=True)
        ]
        off = {
            form: max(np.linalg.norm((w - t)[where], axis=1).max() for w, t in zip(found, true, strict=True))
            for form, found in ways.items()
        }
        away = 90 - np.degrees(np.abs(grid.lat[where]))
        rows.append(
            (grid.level, k, f"{away.mean():.2f}", *(f"{x.min():.3f} to {x.max():.3f}" for x in lengths))
            + ((f"{np.max(turned):.1f}", f"{off['published']:.3f}", f"{off['compass']:.3f}") if k else ("", "", ""))
        )
    return rows


def rotation(grid: Icosphere, seed: int) -> list[tuple[object, ...]]:
    """Rows about turns around the axis: the operator of a turned field against what it made of the field, turned.

    The field is a sum of all harmonics with random weights. What has been computed is turned by reading it between the
    vertices. Numbers are shares of the root mean square, over the belt.
    """
    drawn = np.random.default_rng(seed)
    weights = [drawn.standard_normal(2 * degree + 1) / degree for degree in DEGREES]

    def field(lon: np.ndarray) -> np.ndarray:
        parts = (harmonics(degree, grid.lat, lon)[0] @ w for degree, w in zip(DEGREES, weights, strict=True))
        return sum(parts, np.zeros(grid.sites))

    belt, found = np.abs(grid.lat) <= BELT, matrices(grid)
    rows: list[tuple[object, ...]] = []
    for angle in ANGLES:
        turn = math.radians(angle)
        back = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        read_back = sc.grids.resample.sampling_matrix(grid, grid.xyz @ back.T)
        for (name, form), matrix in found.items():
            if form != "faces":
                first, then = read_back @ (matrix @ field(grid.lon)), matrix @ field(grid.lon - turn)
                rms, largest = norms_of((then - first)[belt, None], grid.area[belt])
                scale = math.sqrt(np.average(then[belt] ** 2, weights=grid.area[belt]))
                rows.append((grid.level, f"{angle:g}", name, form, f"{rms / scale:.1e}", f"{largest / scale:.1e}"))
    return rows


def errors_of_one(grid: Icosphere, degree: int = 4, order: int = 3) -> dict[tuple[str, str], np.ndarray]:
    """Relative errors (P,) of some operators for one harmonic, NaN where there is no answer."""
    known, found = answers(degree, grid), matrices(grid)
    pole = np.hypot(grid.xyz[:, 0], grid.xyz[:, 1]) < operators.POLE
    maps = {}
    for (name, form), matrix in found.items():
        if (name, form) in MAPS:
            given, exact, scale = known[name]
            maps[name, form] = np.abs((matrix @ given - exact)[:, order] / scale)
            if name != "laplacian":
                maps[name, form][pole] = np.nan
    return maps


def pooled(rows: list[dict[str, str]]) -> dict[tuple[str, str], dict[str, dict[int, float]]]:
    """Errors over all degrees by operator and form, then by norm, then by level."""
    found: dict[tuple[str, str], dict[str, dict[int, list[float]]]] = {}
    for row in rows:
        for norm in NORMS:
            by_level = found.setdefault((row["operator"], row["form"]), {}).setdefault(norm, {})
            by_level.setdefault(int(row["level"]), []).append(float(row[norm]))
    return {
        key: {
            norm: {
                level: math.sqrt(np.mean(np.square(values))) if norm.startswith("rms") else max(values)
                for level, values in by_level.items()
            }
            for norm, by_level in norms.items()
        }
        for key, norms in found.items()
    }


def order(by_level: dict[int, float]) -> float:
    """Order of convergence: of errors that go as 2 to the power of minus the order times the level, from level 4 on."""
    levels = [level for level in by_level if level >= 4] or list(by_level)
    if len(levels) < 2:
        return math.nan
    return -float(np.polyfit(levels, [math.log2(by_level[level]) for level in levels], 1)[0])


def percent(share: float) -> str:
    """A share as a percentage of three digits."""
    return f"{100 * share:.3g}"


def markdown(rows: list[dict[str, str]], norms: Iterable[str] = ("rms", "largest")) -> str:
    """The table: errors in per cent on icospheres by level, and the order of convergence, by operator and norm."""
    rows = [row for row in rows if row["mesh"] == "icosphere"]
    found, levels = pooled(rows), sorted({int(row["level"]) for row in rows})
    lines = [(*key, norm, *_cells(found[key][norm], levels)) for norm in norms for key in found]
    return markdown_table(("operator", "form", "error %", *(f"level {level}" for level in levels), "order"), lines)


def meshes_markdown(rows: list[dict[str, str]], norm: str = "rms") -> str:
    """The same for one norm and the forms that converge, on each of the other meshes."""
    levels, lines = sorted({int(row["level"]) for row in rows}), []
    for mesh in dict.fromkeys(row["mesh"] for row in rows):
        found = pooled([row for row in rows if row["mesh"] == mesh])
        lines += [(mesh, *key, *_cells(found[key][norm], levels)) for key in found if key[1] != "published"]
    return markdown_table(("mesh", "operator", "form", *(f"level {level}" for level in levels), "order"), lines)


def _cells(by_level: dict[int, float], levels: list[int]) -> list[str]:
    return [*(percent(by_level[level]) for level in levels), f"{order(by_level):.1f}"]


def poles_markdown(rows: list[dict[str, str]]) -> str:
    """The rings around the poles on the finest level."""
    finest = max(int(row["level"]) for row in rows)
    header = [name for name in POLES if name != "level"]
    return markdown_table(header, ([row[name] for name in header] for row in rows if int(row["level"]) == finest))


def rotation_markdown(rows: list[dict[str, str]]) -> str:
    """The differences after a turn, the root mean square, a column for each level; the worst of what are not exact."""
    levels = sorted({int(row["level"]) for row in rows})
    cells: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in rows:
        turn = "half a turn" if row["angle"] == "180" else "other angles"
        by_level = cells.setdefault((turn, row["operator"], row["form"]), {})
        by_level[int(row["level"])] = max(by_level.get(int(row["level"]), 0.0), float(row["rms"]))
    lines = [(*key, *(f"{by_level[level]:.1e}" for level in levels)) for key, by_level in cells.items()]
    return markdown_table(("turned by", "operator", "form", *(f"level {level}" for level in levels)), lines)


if __name__ == "__main__":
    main()
