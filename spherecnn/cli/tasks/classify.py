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

# Networks of mesh convolutions, which take no method.
ON_MESHES = ("mesh_classifier", "mesh_modelnet")


class Classify(TaskCommands):
    """Digits, MNIST-format files, or a folder with a sub-folder a class."""

    name = "classify"
    models = ("classifier", "resnet", "spherenet", "spherephd", *ON_MESHES)
    counts = "classes"
    asked = ("accuracy", "confusion")
    takes = ("class_weights", "test_numbers")

    def open(self, source: str, grid: Any, part: str, config: dict[str, Any], rotate: str = "none") -> Any:
        folder, seed, share = Path(source), config["seed"], config["validation"]
        if sc.datasets.holds_projections(folder):
            return self.open_shapes(folder, grid, part, config, rotate)
        if source == "digits" or o.holds_idx(folder):
            split = "test" if part == "test" else "train"
            planar = sc.datasets.digits if source == "digits" else partial(sc.datasets.mnist, folder)
            data = planar(grid, split=split, rotate=rotate, seed=seed)
            return data if part == "test" or share == 0 else sc.training.split(data, share, seed)[part == "validation"]
        if not folder.is_dir():
            raise InputError(
                f"--data is {source!r}; expected digits, a folder of MNIST-format files, or a folder with one "
                "sub-folder of pictures for each class: check the path."
            )
        if sc.datasets.holds_shapes(folder):
            raise InputError(
                f"--data is {source!r}, which holds meshes; expected shapes that are projected on a sphere: run "
                "`spherecnn mesh project` first, or `spherecnn mesh train`."
            )
        split = "all" if part == "test" else part
        data = sc.datasets.panoramas(folder, grid, split=split, validation=share, seed=seed).load()
        return turned(data, rotate, seed)

    def open_shapes(self, folder: Path, grid: Any, part: str, config: dict[str, Any], rotate: str = "none") -> Any:
        """Open a part of a folder of projected shapes, standardised as the run's training part was."""
        data = sc.datasets.shapes(
            folder,
            grid,
            split=part,
            mean=config.get("channel_mean"),
            std=config.get("channel_std"),
            **{name: config.get(name) for name in ("test_numbers", "validation", "seed")},
        )
        return turned(data, rotate, config["seed"])

    def held_back(self, config: dict[str, Any], grid: Any, rotate: str, data: str | None) -> Any:
        """The test part of `data`, or of the run's own data; of its own folder of pictures, the validation part."""
        source = data or config["data"]
        with_test = source == "digits" or o.holds_idx(Path(source)) or sc.datasets.holds_projections(source)
        own_pictures = data is None and not with_test
        held = self.open(source, grid, "validation" if own_pictures else "test", config, rotate)
        o.same_classes(held, config)
        return held

    def outputs(self, data: Any) -> int:
        return len(data.classes)

    def build(self, config: dict[str, Any], data: Any) -> Any:
        if config["model"] not in ON_MESHES:
            return super().build(config, data)
        channels, network = data.batch(np.array([0]))[0].shape[-1], getattr(sc.models, config["model"])
        kinds = sc.layers.method(config["method"]).kinds
        return network(channels, self.outputs(data), data.grid, config["width"], rng=config["seed"], **kinds)

    def learned(self, data: Any, config: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {"classes": list(data.classes)}
        if isinstance(data, sc.datasets.ProjectedShapes):
            found |= {"channel_mean": data.mean.tolist(), "channel_std": data.std.tolist()}
        if config.get("class_weights") == "balanced":
            found["class_weight"] = sc.training.class_weights(data, len(data.classes)).tolist()
        return found

    def task(self, config: dict[str, Any], grid: Any) -> Task:
        return sc.training.Classify(weight=o.weight_of(config))

    def describe(self, data: Any) -> str:
        return f", {len(data.classes)} classes"

    def report(self, found: dict[str, Any], config: dict[str, Any], out: Path) -> tuple[str, list[str]]:
        names = list(config["classes"])
        header, rows = class_table(found["confusion"], names)
        write_atomic(out / "confusion.csv", o.confusion_csv(found["confusion"], names).encode())
        write_atomic(out / "classes.csv", o.csv_text([header, *rows]).encode())
        sc.viz.confusion(found["confusion"], names, out / "confusion.png")
        said = f"accuracy {found['accuracy']:.1%}, loss {found['loss']:.4f}."
        return f"{said}\n\n{o.table(header, rows)}\n", ["classes.csv", "confusion.csv", "confusion.png"]

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


def class_table(confusion: np.ndarray, names: Sequence[str]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows: of each class its samples, those predicted as it, those of both, what it is mistaken for most.

    Examples
    --------
    >>> header, rows = class_table(np.array([[3, 1], [0, 2]]), ["cup", "jug"])
    >>> print(o.table(header, rows))
    class  samples  predicted  correct  recall  precision  mistaken for
    -----  -------  ---------  -------  ------  ---------  ------------
    cup          4          3        3    75 %      100 %  jug
    jug          2          3        2   100 %       67 %  -
    """
    header = ["class", "samples", "predicted", "correct", "recall", "precision", "mistaken for"]
    rows: list[list[Any]] = []
    for k, name in enumerate(names):
        samples, predicted, correct = (int(n) for n in (confusion[k].sum(), confusion[:, k].sum(), confusion[k, k]))
        wrong = np.where(np.arange(len(names)) == k, 0, confusion[k])
        shares = [f"{correct / n:.0%}".replace("%", " %") if n else "-" for n in (samples, predicted)]
        rows.append([name, samples, predicted, correct, *shares, names[int(wrong.argmax())] if wrong.any() else "-"])
    return header, rows


def as_channels(x: np.ndarray, channels: int) -> np.ndarray:
    """Colour pictures as a network of 1 or 3 channels takes them."""
    if channels not in (1, 3):
        raise InputError(
            f"the network takes {channels} channels and a picture has 3; expected 1 or 3: use another run."
        )
    return x if channels == 3 else x @ LUMA
