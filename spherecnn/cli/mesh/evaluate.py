"""`spherecnn mesh evaluate`: measure a network on shapes that it has not seen."""

from __future__ import annotations

from pathlib import Path

import click

from spherecnn.cli import options as o
from spherecnn.cli.evaluate import measure
from spherecnn.cli.mesh.project import jobs_option, up_axis_option
from spherecnn.cli.mesh.train import projected
from spherecnn.cli.tasks import task_of
from spherecnn.cli.tasks.classify import Classify
from spherecnn.datasets.shape_folder import SPLITS
from spherecnn.errors import InputError


@click.command(
    "evaluate",
    epilog="""\b
Examples:
  spherecnn mesh evaluate runs/modelnet
  spherecnn mesh evaluate runs/shapes --weights last --rotate yaw --device cuda
  spherecnn mesh evaluate runs/shapes other-shapes/ --part all --up-axis y""",
)
@click.argument("run", type=o.FOLDER)
@click.argument("folder", type=o.FOLDER, required=False)
@click.option(
    "--part", type=click.Choice(SPLITS), default="test", show_default=True, help="Which shapes, as training has it."
)
@up_axis_option
@jobs_option
@o.rotate_option("--rotate", "Turn every shape at random.")
@o.weights_option
@o.batch_option
@click.option("--out", type=o.FOLDER, help="Where to write; a folder inside the run by default.")
@o.device_options
@o.threads_option
def command(
    run: Path,
    folder: Path | None,
    part: str,
    up_axis: str,
    jobs: int | None,
    rotate: str,
    weights: str,
    batch_size: int,
    out: Path | None,
    device: str,
    threads: int | None,
) -> None:
    """Measure a RUN on the shapes it was not trained on: accuracy, scores of each class, confusion matrix.

    With FOLDER, of meshes or of projected shapes, on the shapes there.
    """
    model, config = o.load_run(run, weights, device)
    kind = task_of(config)
    if "channel_mean" not in config or not isinstance(kind, Classify):
        raise InputError(f"{run} is no run on shapes; expected one of `spherecnn mesh train`: use spherecnn evaluate.")
    source = Path(config["data"]) if folder is None else projected(folder, run, model.grid, up_axis, jobs)
    held = kind.open_shapes(source, model.grid, part, config, rotate)
    o.same_classes(held, config)
    name = "-".join(["evaluate", *([part] if part != "test" else []), *([rotate] if rotate != "none" else [])])
    out = out or run / name
    click.echo(measure(model, config, held, batch_size, out, rotate))
    click.echo(f"Next: look at {out / 'confusion.png'}")
