"""Classification: a class for each picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from tqdm import tqdm

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.tasks.base import LUMA, TaskCommands, turned
from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.training.data import batches
from spherecnn.training.task import Task


class Classify(TaskCommands):
    """Digits, MNIST-format files, or a folder with a sub-folder a class."""

    name = "classify"
    models = ("classifier", "resnet", "spherenet", "spherephd")
    counts = "classes"
    asked = ("accuracy", "confusion")
    takes = ("class_weights",)

    def open(self, source: str, grid: Any, part: str, config: dict[str, Any], rotate: str = "none") -> Any:
        folder, seed, share = Path(source), config["seed"], config["validation"]
        if source == "digits" or o.holds_idx(folder):
            split = "test" if part == "test" else "train"
            planar = sc.datasets.digits if source == "digits" else partial(sc.datasets.mnist, folder)
            data = planar(grid, split=split, rotate=rotate, seed=seed)
            return data if part == "test" else sc.training.split(data, share, seed)[part == "validation"]
        if not folder.is_dir():
            raise InputError(
                f"--data is {source!r}; expected digits, a folder of MNIST-format files, or a folder with one "
                "sub-folder of pictures for each class: check the path."
            )
        split = "all" if part == "test" else part
        data = sc.datasets.panoramas(folder, grid, split=split, validation=share, seed=seed).load()
        return turned(data, rotate, seed)

    def held_back(self, config: dict[str, Any], grid: Any, rotate: str, data: str | None) -> Any:
        """The test part of `data`, or of the run's own data; of its own folder of pictures, the validation part."""
        source = data or config["data"]
        own_pictures = data is None and source != "digits" and not o.holds_idx(Path(source))
        held = self.open(source, grid, "validation" if own_pictures else "test", config, rotate)
        o.same_classes(held, config)
        return held

    def outputs(self, data: Any) -> int:
        return len(data.classes)

    def learned(self, data: Any, config: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {"classes": list(data.classes)}
        if config.get("class_weights") == "balanced":
            found["class_weight"] = sc.training.class_weights(data, len(data.classes)).tolist()
        return found

    def task(self, config: dict[str, Any], grid: Any) -> Task:
        return sc.training.Classify(weight=o.weight_of(config))

    def describe(self, data: Any) -> str:
        return f", {len(data.classes)} classes"

    def report(self, found: dict[str, Any], config: dict[str, Any], out: Path) -> tuple[str, list[str]]:
        names = list(config["classes"])
        write_atomic(out / "confusion.csv", o.confusion_csv(found["confusion"], names).encode())
        sc.viz.confusion(found["confusion"], names, out / "confusion.png")
        return f"accuracy {found['accuracy']:.1%}, loss {found['loss']:.4f}.", ["confusion.csv", "confusion.png"]

    def predict(
        self, model: Any, config: dict[str, Any], files: Sequence[Path], out: Path | None, run: Path, **options: Any
    ) -> str:
        for name in ("masks", "png16"):
            if options[name]:
                raise InputError(f"--{name} is given for a run of the task {self.name}, which has none: leave it out.")
        out, batch_size = out or run / "predictions.csv", options["batch_size"]
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
        return f"Classified {len(files)} pictures.\nWrote {out}: file, class, probability."


def as_channels(x: np.ndarray, channels: int) -> np.ndarray:
    """Colour pictures as a network of 1 or 3 channels takes them."""
    if channels not in (1, 3):
        raise InputError(
            f"the network takes {channels} channels and a picture has 3; expected 1 or 3: use another run."
        )
    return x if channels == 3 else x @ LUMA
