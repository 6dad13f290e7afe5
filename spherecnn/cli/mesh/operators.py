"""`spherecnn mesh operators`: the differential operators of a mesh as arrays, or what they make of a signal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy import sparse

from spherecnn.cli import faces
from spherecnn.cli import options as o
from spherecnn.cli.mesh import sources as s
from spherecnn.cli.mesh.applied import draw, read_fields, scalars, winds
from spherecnn.cli.signals import Signal, grid_arrays, is_signal, write_signal
from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.grids import MeshGrid
from spherecnn.grids import operators as op


@click.command(
    "operators",
    epilog="""\b
Examples:
  spherecnn mesh operators --level 5 --out operators.npz
  spherecnn mesh operators sphere.off --laplacian published --derivatives published --out operators.npz
  spherecnn mesh operators --apply height.npz --out slope.npz
  spherecnn mesh operators --apply wind.npz --wind --radius 6371000 --out spin.npz

\b
Read a matrix in Python:
  f = np.load("operators.npz")
  laplacian = scipy.sparse.csr_array(
      (f["laplacian_data"], f["laplacian_indices"], f["laplacian_indptr"]), shape=f["laplacian_shape"])""",
)
@click.argument("mesh", type=s.FILE, required=False)
@s.level_option
@click.option("--out", type=s.PATH, required=True, help=".npz file to write: matrices, or with --apply values.")
@click.option(
    "--laplacian",
    type=click.Choice(op.LAPLACIANS),
    default="mass",
    show_default=True,
    help="Divided by the areas of the vertices (mass), this times their mean (scaled), or as published: not divided.",
)
@click.option(
    "--derivatives",
    type=click.Choice(op.DERIVATIVES),
    default="compass",
    show_default=True,
    help="Along unit vectors to the east and north at the vertex, or as published: along the gradient of latitude.",
)
@click.option("--apply", "source", type=s.FILE, help="Values (.npz, .npy) to apply the operators to.")
@click.option("--wind", is_flag=True, help="Two channels flow to the east and to the north: divergence and vorticity.")
@click.option("--channel", "channels", multiple=True, help="Channels to differentiate; all by default.")
@click.option(
    "--radius",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="What a length of one of the mesh stands for, with --apply: 6371000 for metres on the Earth.",
)
@click.option("--picture", type=s.PATH, help="Picture of the results.  [default: beside --out, in .png]")
def command(
    mesh: Path | None, level: int | None, out: Path, source: Path | None, picture: Path | None, **given: Any
) -> None:
    """Write the operators of a MESH as sparse matrices, or with --apply what they make of values on it.

    \b
    laplacian        (P, P)    of the function that is linear on each triangle
    east, north      (P, P)    derivatives at the vertices
    gradient         (3 F, P)  on the faces: x, then y, then z
    face_to_vertex   (P, F)    means over the faces around a vertex
    div_*, vort_*    (P, P)    divergence and vorticity of a wind, from its parts to the east and to the north

    Each is in CSR form, NAME_data, NAME_indices, NAME_indptr and NAME_shape, beside the mesh and its areas.
    With --apply, each channel gives laplacian, east and north.
    """
    s.check_picture(picture)
    if out.suffix.lower() != ".npz":
        raise InputError(f"the file to write is {out}; expected a name in .npz: rename it.")
    if source is None:
        _refuse_without_values(picture, given)
        grid = s.open_mesh(mesh, level)
        _write_matrices(out, grid, given)
        return
    if not is_signal(source):
        raise InputError(
            f"--apply is {source}; expected values in {' or '.join(faces.SUFFIXES)}: make them with "
            "`spherecnn mesh convert`."
        )
    stated = s.open_mesh(mesh, level) if mesh is not None or level is not None else None
    _apply(source, stated, out, picture or out.with_suffix(".png"), given)


def matrices(grid: MeshGrid, laplacian: str = "mass", derivatives: str = "compass") -> dict[str, sparse.csr_array]:
    """All operators of a mesh by name."""
    east, north = op.derivatives(grid, derivatives)
    div, vort = op.divergence(grid), op.vorticity(grid)
    return {
        "laplacian": op.laplacian(grid, laplacian),
        "east": east,
        "north": north,
        "gradient": op.gradient(grid),
        "face_to_vertex": op.face_to_vertex(grid),
        **{f"div_{way}": matrix for way, matrix in zip(("east", "north"), div, strict=True)},
        **{f"vort_{way}": matrix for way, matrix in zip(("east", "north"), vort, strict=True)},
    }


def _write_matrices(out: Path, grid: MeshGrid, given: dict[str, Any]) -> None:
    found = matrices(grid, given["laplacian"], given["derivatives"])
    arrays: dict[str, Any] = {
        **grid_arrays(grid),
        "vertices": grid.vertices,
        "faces": grid.faces,
        "vertex_areas": op.vertex_areas(grid),
        "face_areas": op.face_areas(grid),
        "face_normals": op.face_normals(grid),
        "laplacian_kind": np.array(given["laplacian"]),
        "derivatives_kind": np.array(given["derivatives"]),
    }
    for name, matrix in found.items():
        matrix.sort_indices()
        parts = {
            "data": matrix.data,
            "indices": matrix.indices,
            "indptr": matrix.indptr,
            "shape": np.array(matrix.shape),
        }
        arrays |= {f"{name}_{part}": array for part, array in parts.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(out, buffer.getvalue())
    rows = [[name, " x ".join(map(str, m.shape)), int(m.nnz)] for name, m in found.items()]
    click.echo(f"Wrote the operators of {grid!r} to {out}:\n\n{o.table(['matrix', 'shape', 'entries'], rows)}\n")
    click.echo("Next: read one in Python, as `spherecnn mesh operators --help` shows, or --apply them to values.")


def _apply(source: Path, stated: MeshGrid | None, out: Path, picture: Path, given: dict[str, Any]) -> None:
    grid, signal = read_fields(source, stated)
    channels, radius = given["channels"], given["radius"]
    if given["wind"]:
        applied = winds(signal, channels, radius)
    else:
        applied = scalars(signal, channels, given["laplacian"], given["derivatives"], radius)
    made = [field for one in applied for field in one.made]
    write_signal(out, Signal(np.stack([m.values for m in made], axis=-1), grid, tuple(m.name for m in made)))
    drawn = draw(picture, grid, applied, source.name)
    rows = [[m.name, *(f"{v:.4g}" for v in (m.values.min(), m.values.max())), m.unit] for m in made]
    some = f", those of the first {drawn} channels" if drawn < len(applied) else ""
    click.echo(f"Applied to {source}, {grid!r}, {s.describe(signal)}:\n")
    click.echo(o.table(["channel", "min", "max", "unit"], rows))
    click.echo(f"\nValues in {out}, drawn in {picture}{some}.")
    click.echo(f"Next: spherecnn mesh view {out} --channel '{made[0].name}' --out view.png")


def _refuse_without_values(picture: Path | None, given: dict[str, Any]) -> None:
    used = {
        "--wind": given["wind"],
        "--channel": given["channels"],
        "--radius": given["radius"] != 1,
        "--picture": picture,
    }
    for name, value in used.items():
        if value:
            raise InputError(
                f"{name} was given without --apply; expected it with values to apply the operators to: leave it out."
            )
