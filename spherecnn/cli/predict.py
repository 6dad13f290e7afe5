"""`spherecnn predict`: classify pictures with a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.training.data import batches

# Shares of red, green and blue in the grey that a network of one channel sees (ITU-R BT.601).
LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)


@click.command(
    "predict",
    epilog="""\b
Example:
  spherecnn predict runs/photos new/*.jpg --out predictions.csv""",
)
@click.argument("run", type=o.FOLDER)
@click.argument("files", type=click.Path(dir_okay=False, path_type=Path), nargs=-1, required=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="CSV file to write.")
@o.weights_option
@o.batch_option
@o.threads_option
def command(run: Path, files: tuple[Path, ...], out: Path, weights: str, batch_size: int, threads: int | None) -> None:
    """Classify equirectangular pictures (JPEG, PNG, any size) with a RUN: file, class, probability."""
    model, config = o.load_run(run, weights)
    names = list(config["classes"])
    pictures = sc.datasets.PanoramaFolder(files, np.zeros(len(files), int), names, model.grid)
    rows: list[list[Any]] = [["file", "class", "probability"]]
    with tqdm(total=len(files), desc="predicting", unit="file", leave=False, disable=None) as bar:
        for indices in batches(len(files), batch_size):
            x = as_channels(pictures.batch(indices)[0], model.config["in_channels"])
            probability = softmax(sc.training.predict(model, x, batch_size), axis=-1)
            best = probability.argmax(axis=-1)
            rows += [
                [str(files[i]), names[k], f"{p[k]:.4f}"] for i, k, p in zip(indices, best, probability, strict=True)
            ]
            bar.update(len(indices))
    write_atomic(out, o.csv_text(rows).encode())
    click.echo(f"Classified {len(files)} pictures.\nWrote {out}: file, class, probability.")


def as_channels(x: np.ndarray, channels: int) -> np.ndarray:
    """Colour pictures as a network of 1 or 3 channels takes them."""
    if channels not in (1, 3):
        raise InputError(
            f"the network takes {channels} channels and a picture has 3; expected 1 or 3: use another run."
        )
    return x if channels == 3 else x @ LUMA
