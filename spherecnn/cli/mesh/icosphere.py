"""`spherecnn mesh icosphere`: the mesh of a level, or a finer one of a mesh, as a file."""

from __future__ import annotations

from pathlib import Path

import click

from spherecnn.cli.mesh import sources as s
from spherecnn.errors import InputError
from spherecnn.grids import MeshGrid, read_mesh, write_mesh
from spherecnn.grids.descend import MOST_LEVELS

# Of what --refine makes; more take minutes and gigabytes.
_MOST_FACES = 20 * 4**MOST_LEVELS


@click.command(
    "icosphere",
    epilog="""\b
Examples:
  spherecnn mesh icosphere --level 5 --out sphere.ply
  spherecnn mesh icosphere --level 4 --order trimesh --out sphere.off
  spherecnn mesh icosphere --from cube.off --refine 2 --out finer.off""",
)
@click.option("--level", type=s.LEVELS, help="How often the edges of the icosahedron are halved.")
@click.option("--from", "source", type=s.FILE, help="Mesh to refine, in place of --level.")
@click.option(
    "--refine", type=click.IntRange(0, MOST_LEVELS), help="How often the edges of --from are halved.  [default: 1]"
)
@click.option(
    "--order",
    type=click.Choice(["published", "trimesh"]),
    default="published",
    show_default=True,
    help="Order of vertices and faces: that of the published meshes and data sets, or that of trimesh.",
)
@click.option("--out", type=s.PATH, required=True, help="PLY, OFF, OBJ, STL or GLB file to write.")
@click.option("--picture", type=s.PATH, help="Picture of the mesh to write as well.")
def command(
    level: int | None, source: Path | None, refine: int | None, order: str, out: Path, picture: Path | None
) -> None:
    """Write an icosphere, the icosahedron whose faces are divided in four again and again, as a mesh file.

    OFF and OBJ keep every digit; PLY, STL and GLB round to float32.
    """
    if not s.is_mesh(out):
        raise InputError(f"the mesh to write is {out}; expected a name in {', '.join(s.MESHES)}: rename it.")
    s.check_picture(picture)
    grid = _made(level, source, refine, order)
    write_mesh(out, grid)
    click.echo(f"Wrote {grid!r}, {len(grid.vertices):,} vertices and {len(grid.faces):,} faces, to {out}.")
    if picture:
        from spherecnn.viz import draw_mesh

        draw_mesh(grid, None, picture, title=repr(grid))
        click.echo(f"Drew it in {picture}.")
    click.echo(f"Next: spherecnn mesh info {out} --out {out.stem}.png")


def _made(level: int | None, source: Path | None, refine: int | None, order: str) -> MeshGrid:
    if source is None:
        if refine is not None:
            raise InputError("--refine was given without --from; expected both, or --level: name a mesh to refine.")
        grid = s.open_mesh(None, level)
        return _in_trimesh_order(level) if order == "trimesh" and level is not None else grid
    if level is not None or order == "trimesh":
        given = "--level" if level is not None else "--order trimesh"
        raise InputError(f"--from and {given} were given; expected one of them: leave one out.")
    grid, times = read_mesh(source), 1 if refine is None else refine
    if len(grid.faces) * 4**times > _MOST_FACES:
        raise InputError(
            f"{source} refined {times} times has {len(grid.faces) * 4**times:,} faces; expected at most "
            f"{_MOST_FACES:,}: refine it less."
        )
    for _ in range(times):
        grid = grid.refine()
    return grid


def _in_trimesh_order(level: int) -> MeshGrid:
    import trimesh

    made = trimesh.creation.icosphere(subdivisions=level)
    return MeshGrid(made.vertices, made.faces)
