"""`spherecnn evaluate`: measure a trained network on pictures that it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.tasks import task_of
from spherecnn.files import make_folder


@click.command(
    "evaluate",
    epilog="""\b
Examples:
  spherecnn evaluate runs/circular
  spherecnn evaluate runs/circular --rotate so3
  spherecnn evaluate runs/photos --data photos-of-another-day/
  spherecnn evaluate runs/land --weights last --device cuda""",
)
@click.argument("run", type=o.FOLDER)
@click.option("--data", help="Data to measure on; by default what the run's own data held back.")
@o.rotate_option("--rotate", "Turn every picture at random.")
@o.weights_option
@o.batch_option
@click.option("--out", type=o.FOLDER, help="Where to write; a folder inside the run by default.")
@o.device_options
@o.threads_option
def command(
    run: Path,
    data: str | None,
    rotate: str,
    weights: str,
    batch_size: int,
    out: Path | None,
    device: str,
    threads: int | None,
) -> None:
    """Measure a RUN on pictures that it has not seen, with the scores of its task.

    \b
    classify  accuracy, confusion matrix
    segment   intersection over union of each class and its mean, accuracy
    regress   RMSE, MAE; for depths the relative errors too
    inpaint   L1, L2 and PSNR in the holes
    """
    model, config = o.load_run(run, weights, device)
    held = task_of(config).held_back(config, model.grid, rotate, data)
    out = out or run / ("evaluate" if rotate == "none" else f"evaluate-{rotate}")
    click.echo(measure(model, config, held, batch_size, out, rotate) + f"\nNext: spherecnn predict {run} PICTURE...")


def measure(model: Any, config: dict[str, Any], held: Any, batch_size: int, out: Path, rotate: str) -> str:
    """Measure a model on data and write the files of its task; return what to say."""
    kind = task_of(config)
    task = kind.task(config, model.grid)
    found = sc.training.evaluate(model, held, task=task, batch_size=batch_size, metrics=kind.asked, progress=True)
    make_folder(out)
    said, written = kind.report(found, config, out)
    written += kind.draw_examples(model, task, held, config, out)
    turned = {"none": "as they are", "yaw": "turned about the axis", "so3": "turned at random"}[rotate]
    noun = getattr(held, "noun", "pictures")
    return f"{len(held)} {noun}, {turned}: {said}\nWrote {out}: {', '.join(written)}."
