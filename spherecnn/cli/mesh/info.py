"""`spherecnn mesh info`: how even a mesh is, and what its operators are off."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
import numpy as np

from spherecnn.cli import options as o
from spherecnn.cli.mesh import sources as s
from spherecnn.errors import InputError
from spherecnn.grids import MeshGrid, mesh_quality
from spherecnn.grids.base import solid_angles
from spherecnn.grids.mesh_checks import FLAT
from spherecnn.grids.mesh_files import read_triangles
from spherecnn.grids.operators import derivatives, face_areas, laplacian
from spherecnn.grids.subdivide import edges

DEGREES = range(1, 9)


@click.command(
    "info",
    epilog="""\b
Examples:
  spherecnn mesh info --level 5
  spherecnn mesh info sphere.ply --out info.png""",
)
@click.argument("mesh", type=s.FILE, required=False)
@s.level_option
@click.option("--out", type=s.PATH, help="Picture to write: the mesh by area and angle, histograms, errors.")
def command(mesh: Path | None, level: int | None, out: Path | None) -> None:
    """Measure a MESH: counts, areas, edges, shapes, neighbours, and the error of its operators on harmonics.

    A mesh that cannot serve as a grid of the sphere is refused, with what is wrong and how often.
    """
    s.check_picture(out)
    grid = opened(mesh, level)
    errors = operator_errors(grid)
    click.echo(f"{mesh or repr(grid)}\n\n{counts(grid)}\n")
    click.echo(o.table(["", "min", "mean", "max", "max / min"], spreads(grid)))
    click.echo(f"\n{shares(mesh_quality.valences(grid), 'neighbours', 'vertices')}\n")
    click.echo("Relative errors on spherical harmonics:\n")
    rows = [[str(d), f"{100 * a:.3g} %", f"{100 * b:.3g} %"] for d, (a, b) in zip(DEGREES, errors, strict=True)]
    click.echo(o.table(["degree", "Laplacian", "gradient"], rows))
    if out:
        from spherecnn.viz.mesh_panels import draw_quality

        draw_quality(grid, out, errors, title=mesh.name if mesh else repr(grid))
        click.echo(f"\nDrew it in {out}.")
    name = mesh or f"--level {level}"
    click.echo(
        f"\nNext: spherecnn mesh operators {name} --out operators.npz" + ("" if out else ", or --out for a picture")
    )


def opened(mesh: Path | None, level: int | None) -> MeshGrid:
    """The mesh; where it is refused, how many of its parts are wrong stands in the sentence."""
    try:
        return s.open_mesh(mesh, level)
    except InputError as error:
        wrong = faults(mesh) if mesh is not None and s.is_mesh(mesh) else ""
        if not wrong:
            raise
        raise InputError(f"{str(error).rstrip('.')} ({wrong}).") from error


def faults(path: Path) -> str:
    """How many parts of a mesh in a file are wrong, in words; nothing where none is, or it cannot be read."""
    try:
        vertices, faces = read_triangles(path)
        corners = vertices[faces]
    except (InputError, IndexError):  # the refusal says it
        return ""
    times = np.bincount(edges(faces, len(vertices))[1].ravel())
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    side = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max(axis=1)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    found = {
        ("edge of one face", "edges of one face"): (times == 1).sum(),
        ("edge of more than two faces", "edges of more than two faces"): (times > 2).sum(),
        ("face without area", "faces without area"): (area <= FLAT * side**2).sum(),
        ("face turned away from the origin", "faces turned away from the origin"): (volume < 0).sum(),
        ("vertex that repeats another", "vertices that repeat others"): len(vertices)
        - len(np.unique(vertices, axis=0)),
        ("vertex without a face", "vertices without faces"): len(np.setdiff1d(np.arange(len(vertices)), faces)),
    }
    words = [f"{count:,} {one if count == 1 else many}" for (one, many), count in found.items() if count]
    return f"{', '.join(words)} in all, in {len(faces):,} faces and {len(vertices):,} vertices" if words else ""


def counts(grid: MeshGrid) -> str:
    """Counts and sums in lines."""
    reach = np.linalg.norm(grid.vertices, axis=1)
    flat = face_areas(grid).sum()
    lines = {
        "vertices": f"{grid.sites:,}",
        "edges": f"{len(mesh_quality.edges(grid)):,}",
        "faces": f"{len(grid.faces):,}",
        "Euler number": str(mesh_quality.euler_number(grid)),
        "radius": f"{reach.min():.6g} to {reach.max():.6g}",
        "solid angles": f"{grid.area.sum():.6f}, {grid.area.sum() / (4 * math.pi):.6f} of the sphere",
        "flat faces": f"{flat:.6f}, {flat / (4 * math.pi):.6f} of the unit sphere",
        "halvings": f"{grid.poolings}, so many times it can be coarsened",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in lines.items())


def spreads(grid: MeshGrid) -> list[list[Any]]:
    """Rows of a table: least, mean and greatest of what a mesh is measured by."""
    angles = np.degrees(mesh_quality.face_angles(grid))
    corners = (grid.xyz[grid.faces[:, k]] for k in range(3))
    measured = {
        "area of a vertex, sr": grid.area,
        "area of a face, sr": solid_angles(*corners),
        "edge length": mesh_quality.edge_lengths(grid),
        "smallest angle, degrees": angles.min(axis=1),
        "largest angle, degrees": angles.max(axis=1),
        "quality of a face, 2 r / R": mesh_quality.radius_ratios(grid),
    }
    return [
        [name, *(f"{v:.4g}" for v in (x.min(), x.mean(), x.max(), x.max() / max(x.min(), 1e-300)))]
        for name, x in measured.items()
    ]


def shares(numbers: np.ndarray, what: str, counted: str) -> str:
    """How often each whole number occurs, in a sentence.

    Examples
    --------
    >>> shares(np.array([5, 6, 6]), "neighbours", "vertices")
    '5 neighbours: 1; 6 neighbours: 2 vertices.'
    """
    values, times = np.unique(numbers, return_counts=True)
    return "; ".join(f"{v} {what}: {n:,}" for v, n in zip(values, times, strict=True)) + f" {counted}."


def operator_errors(grid: MeshGrid) -> np.ndarray:
    """Relative errors (8, 2) of Laplacian and gradient on harmonics of degree 1 to 8."""
    curved, (east, north) = laplacian(grid, "mass"), derivatives(grid, "compass")
    return np.array([mesh_quality.harmonic_errors(grid, curved, east, north, degree) for degree in DEGREES])
