"""`spherecnn mesh project`: project a folder of shapes on a sphere, for networks to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.mesh.sources import LEVELS
from spherecnn.datasets.shape_projection import DAMAGED, UP

# How many damaged shapes are named.
NAMED = 3
LEVEL = 5

jobs_option = click.option("--jobs", type=o.AT_LEAST_1, help="Processes that project; one a core by default.")
up_axis_option = click.option(
    "--up-axis",
    type=click.Choice(list(UP)),
    default="z",
    show_default=True,
    help="Axis of the shapes that points up.",
)


def shape_options(command: Any) -> Any:
    """--method, --level, --height, --up-axis and --jobs: how shapes are projected; see `grid_of` and `project`."""
    for option in (
        jobs_option,
        up_axis_option,
        click.option("--height", type=o.AT_LEAST_1, help="Rows of the sphere, for methods on pixels."),
        click.option("--level", type=LEVELS, help="Level of the sphere, for meshes and faces.  [default: 5]"),
        click.option(
            "--method",
            type=click.Choice(list(sc.layers.METHODS)),
            default="mesh",
            show_default=True,
            help="For networks of which method: which sphere it is.",
        ),
    ):
        command = option(command)
    return command


def grid_of(method: str, level: int | None, height: int | None) -> Any:
    """The sphere of a method; of level 5 where it has levels."""
    has_levels = "level" in sc.layers.method(method).grid().config()
    return o.grid_of({"method": method, "level": LEVEL if has_levels and level is None else level, "height": height})


def project(folder: Path, out: Path, grid: Any, up: str, jobs: int | None) -> str:
    """Project a folder; return what to say."""
    done = sc.datasets.project_shapes(folder, out, grid, up=up, jobs=jobs)
    said = [f"{done.made} shapes projected on {grid!r}, {done.kept} there already, {len(done.damaged)} damaged."]
    said += [f"  {reason}" for _, reason in done.damaged[:NAMED]]
    if len(done.damaged) > NAMED:
        said.append(f"  and {len(done.damaged) - NAMED} more")
    if done.damaged:
        said.append(f"All that are damaged are named in {out / DAMAGED}; the others are used without them.")
    return "\n".join([*said, f"Wrote {out}: a file .npz for each shape."])


@click.command(
    "project",
    epilog="""\b
Examples:
  spherecnn mesh project ModelNet40/ --out ModelNet40-level5
  spherecnn mesh project shapes/ --up-axis y --level 4 --out shapes-level4
  spherecnn mesh project shapes/ --method circular --height 60 --out shapes-pixels""",
)
@click.argument("folder", type=o.FOLDER)
@click.option("--out", type=o.FOLDER, required=True, help="Folder to write to; what is there already is kept.")
@shape_options
def command(
    folder: Path, out: Path, method: str, level: int | None, height: int | None, up_axis: str, jobs: int | None
) -> None:
    """Project the shapes of a FOLDER on a sphere around them.

    From each point of the sphere a ray goes to the centre of the shape. Six numbers are kept: how far it gets, how it
    meets the surface (absolute dot and cross product of ray and normal), and the same of the convex hull. Shapes are
    .off, .obj, .ply, .stl or .glb; they need not be closed.

    \b
    FOLDER is in one of these forms:
      chair/train/*.off, chair/test/*.off    ModelNet
      chair/*.off                            a folder for each class
      chair0.off, chair1.off                 the class in the name
    """
    said = project(folder, out, grid_of(method, level, height), up_axis, jobs)
    click.echo(f"{said}\nNext: spherecnn mesh train {out}")
