"""`spherecnn mesh train`: train a network on shapes, into a run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import click

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli import train as general
from spherecnn.cli.mesh.project import grid_of, project, shape_options
from spherecnn.cli.tasks import TASKS
from spherecnn.errors import InputError
from spherecnn.files import make_folder, write_atomic
from spherecnn.training.optim import OPTIMIZERS
from spherecnn.training.schedule import SCHEDULES

# The published network, for meshes.
MODEL = "mesh_modelnet"
# Holds the folder that was projected, beside what became of it.
SOURCE = "source.txt"


@click.command(
    "train",
    epilog="""\b
Examples:
  spherecnn mesh train ModelNet40/ --epochs 60 --out runs/modelnet
  spherecnn mesh train shapes/ --test-numbers 7-9 --up-axis y --augment yaw --out runs/shapes
  spherecnn mesh train shapes-level4 --level 4 --width 8 --out runs/small
  spherecnn mesh train ModelNet40/ --device cuda --out runs/modelnet
  spherecnn mesh train --resume runs/shapes --epochs 80""",
)
@click.argument("folder", type=o.FOLDER, required=False)
@click.option("--resume", type=o.FOLDER, help="Go on with the run in this folder.")
@shape_options
@click.option(
    "--model",
    type=click.Choice(list(TASKS["classify"].models)),
    help=f"Network.  [default: {MODEL}; classifier for methods that are not on meshes]",
)
@o.width_option
@click.option("--epochs", type=o.AT_LEAST_1, default=60, show_default=True, help="Passes over the shapes, in all.")
@click.option("--batch-size", type=o.AT_LEAST_1, default=16, show_default=True, help="Shapes a step.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), default=5e-3, show_default=True, help="Learning rate.")
@click.option(
    "--optimizer", type=click.Choice(list(OPTIMIZERS)), default="adam", show_default=True, help="Update rule."
)
@click.option(
    "--schedule", type=click.Choice(["none", *SCHEDULES]), default="cosine", show_default=True, help="Of the rate."
)
@o.rotate_option("--augment", "Turn the training shapes at random; yaw: about the vertical axis.")
@click.option(
    "--validation",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the training shapes to validate on; 0 trains on all.",
)
@click.option(
    "--test-numbers",
    help="Which shapes are not trained on, by the numbers in their names, such as 7-9; by default test folders, or "
    "the last 30 % of each class.",
)
@o.seed_option
@click.option("--out", type=o.FOLDER, help="Run folder; a new one under runs/ by default.")
@o.device_options
@o.threads_option
@click.pass_context
def command(ctx: click.Context, folder: Path | None, resume: Path | None, **options: Any) -> None:
    """Train a network to tell the classes of the shapes in a FOLDER.

    FOLDER holds meshes, or what `spherecnn mesh project` wrote of them. Meshes are projected first, into a folder
    beside the run that later runs use again.
    """
    if resume is not None:
        go_on(ctx, folder, resume, options)
        return
    if folder is None:
        raise click.UsageError("no FOLDER of shapes was given, and no --resume", ctx)
    out = options["out"] or o.new_run("mesh")
    grid = grid_of(options["method"], options["level"], options["height"])
    source = projected(folder, out, grid, options.pop("up_axis"), options.pop("jobs"))
    on_mesh = isinstance(grid, sc.grids.MeshGrid)
    options["model"] = options["model"] or (MODEL if on_mesh else "classifier")
    given = options | o.size_of(grid) | {"data": str(source), "task": "classify", "out": out}
    settings: dict[str, Any] = general.command.make_context("train", ["--data", str(source)]).params | given
    general.train(**settings, next_command="mesh evaluate")


def go_on(ctx: click.Context, folder: Path | None, resume: Path, options: dict[str, Any]) -> None:
    """Go on with a run by its own settings."""
    given = [n for n in options if ctx.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE]
    if folder is not None or set(given) - general.FREE:
        wrong = ["FOLDER"] * (folder is not None) + sorted(set(given) - general.FREE)
        raise click.UsageError(f"--resume goes on with the run's own settings; leave out {', '.join(wrong)}", ctx)
    again = [f"--{name}={options[name]}" for name in given]
    general.command.main([f"--resume={resume}", *again], standalone_mode=False)


def projected(folder: Path, out: Path, grid: Any, up: str, jobs: int | None) -> Path:
    """The folder of the projected shapes: the one given, or one beside the run, after projecting what is missing."""
    if sc.datasets.holds_projections(folder):
        return folder
    if not sc.datasets.holds_shapes(folder):
        raise InputError(
            f"{folder} holds neither meshes nor projected shapes; expected a folder of shapes, sorted by class: check "
            "the path."
        )
    size = "-".join(str(value) for value in grid.config().values())
    source = str(folder.resolve())
    target = out.parent / f"{folder.resolve().name}-{size}-{up}"
    if target.exists() and not _is_of(target, source):  # shapes of another folder of this name
        target = target.with_name(f"{target.name}-{hashlib.blake2b(source.encode(), digest_size=3).hexdigest()}")
    write_atomic(make_folder(target) / SOURCE, source.encode())
    click.echo(project(folder, target, grid, up, jobs))
    return target


def _is_of(target: Path, source: str) -> bool:
    """Whether what is projected in a folder came from this one."""
    said = target / SOURCE
    return said.is_file() and said.read_text() == source
