"""`spherecnn predict`: what a trained network makes of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spherecnn.cli import options as o
from spherecnn.cli.tasks import task_of


@click.command(
    "predict",
    epilog="""\b
Examples:
  spherecnn predict runs/photos new/*.jpg --out predictions.csv
  spherecnn predict runs/land new/*.jpg --out maps/
  spherecnn predict runs/depth new/*.jpg --out depth/ --png16
  spherecnn predict runs/fill new/*.jpg --masks holes/ --out filled/ --device cuda""",
)
@click.argument("run", type=o.FOLDER)
@click.argument("files", type=click.Path(dir_okay=False, path_type=Path), nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="CSV file (classify) or folder (other tasks) to write; inside the run by default.",
)
@click.option("--masks", type=o.FOLDER, help="Folder of PNG masks with the pictures' stems, white is a hole (inpaint).")
@click.option("--png16", is_flag=True, help="Write values as 16-bit PNG too, divided by --label-scale (regress).")
@o.weights_option
@o.batch_option
@o.device_options
@o.threads_option
def command(run: Path, files: tuple[Path, ...], out: Path | None, weights: str, device: str, **options: Any) -> None:
    """Apply a RUN to equirectangular pictures (JPEG, PNG, any size).

    \b
    classify  a CSV: file, class, probability
    segment   for each picture class numbers as PNG, an overlay, globe views
    regress   for each picture values as NPY, a map, globe views
    inpaint   for each picture the filled picture, globe views
    """
    model, config = o.load_run(run, weights, device)
    click.echo(task_of(config).predict(model, config, files, out, run, **options))
