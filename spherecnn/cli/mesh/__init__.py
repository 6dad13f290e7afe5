"""`spherecnn mesh COMMAND`: triangle meshes of the sphere, signals on them and networks for both."""

from __future__ import annotations

import click

from spherecnn.cli.group import Commands

COMMANDS = ("icosphere", "info", "operators", "project", "convert", "train", "evaluate", "view")


@click.command(
    cls=Commands,
    package=__name__,
    modules=COMMANDS,
    epilog="""\b
Examples:
  spherecnn mesh icosphere --level 5 --out sphere.ply
  spherecnn mesh info sphere.ply --out info.png""",
)
def command() -> None:
    """Triangle meshes of the sphere: make, measure and view them, and train networks on them.

    A mesh is a file (.ply, .off, .obj, .stl, .glb) of triangles about the origin, or a level of the icosphere.
    """
