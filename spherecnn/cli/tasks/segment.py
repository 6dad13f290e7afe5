"""Segmentation: a class for each pixel."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.tasks.base import EXAMPLES, DenseCommands, each_output, turned
from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.training.data import Subset
from spherecnn.training.task import Task

IGNORED = 255


class Segment(DenseCommands):
    """Paired folders of pictures and class numbers."""

    name = "segment"
    asked = ("accuracy", "iou", "mean_iou", "confusion")
    takes = ("ignore_label", "class_weights")

    def open(self, source: str, grid: Any, part: str, config: dict[str, Any], rotate: str = "none") -> Any:
        named = (Path(source) / "classes.txt").is_file()
        data = sc.datasets.paired(
            source,
            grid,
            split="all" if part == "test" else part,
            validation=config["validation"],
            seed=config["seed"],
            ignore_index=ignored(config),
            classes=None if named else config.get("classes"),
        )
        return turned(data.load(), rotate, config["seed"])

    def held_back(self, config: dict[str, Any], grid: Any, rotate: str, data: str | None) -> Any:
        held = super().held_back(config, grid, rotate, data)
        o.same_classes(held, config)
        return held

    def outputs(self, data: Any) -> int:
        return len(data.classes)

    def learned(self, data: Any, config: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {"classes": list(data.classes)}
        if config.get("class_weights") == "balanced":
            weights = sc.training.class_weights(
                data, len(data.classes), area=data.grid.area, ignore_index=ignored(config)
            )
            found["class_weight"] = weights.tolist()
        return found

    def task(self, config: dict[str, Any], grid: Any) -> Task:
        return sc.training.Segment(area=grid.area, weight=o.weight_of(config), ignore_index=ignored(config))

    def describe(self, data: Any) -> str:
        return f", {len(data.classes)} classes"

    def report(self, found: dict[str, Any], config: dict[str, Any], out: Path) -> tuple[str, list[str]]:
        names, matrix = list(config["classes"]), found["confusion"]
        share = 100 * matrix / max(matrix.sum(), 1e-300)
        rows = [
            [name, f"{true:.1f} %", f"{seen:.1f} %", o.number(iou)]
            for name, true, seen, iou in zip(names, share.sum(1), share.sum(0), found["iou"], strict=True)
        ]
        write_atomic(out / "confusion.csv", o.confusion_csv(share.round(4), names).encode())
        table = [["class", "true share", "predicted share", "iou"]]
        table += [[n, *map(str, v)] for n, *v in zip(names, share.sum(1), share.sum(0), found["iou"], strict=True)]
        write_atomic(out / "iou.csv", o.csv_text(table).encode())
        sc.viz.confusion(share.round(2), names, out / "confusion.png", title="% of the labelled sphere")
        said = (
            f"mean IoU {found['mean_iou']:.4f}, accuracy {found['accuracy']:.1%}, loss {found['loss']:.4f}, "
            f"weighted by area.\n\n{o.table(['class', 'true', 'predicted', 'IoU'], rows)}\n"
        )
        return said, ["iou.csv", "confusion.csv", "confusion.png"]

    def draw_examples(self, model: Any, task: Task, data: Any, config: dict[str, Any], out: Path) -> list[str]:
        names, written = list(config["classes"]), []
        few = Subset(data, np.arange(min(EXAMPLES, len(data))))
        for i, x, y in each_output(model, task, few, EXAMPLES):
            stem, true = data.files[i].stem, data.batch(np.array([i]))[1][0]
            x, y, true = (sc.viz.panorama(values, data.grid) for values in (x, y, true))
            sc.viz.label_map(y, names, out / f"{stem}-predicted.png", image=x, title=f"{stem}, predicted")
            sc.viz.error_map(y, true, out / f"{stem}-error.png", classes=len(names))
            written += [f"{stem}-predicted.png", f"{stem}-error.png"]
        return written

    def write(
        self, x: np.ndarray, y: np.ndarray, stem: Path, model: Any, config: dict[str, Any], **options: Any
    ) -> None:
        names = list(config["classes"])
        shown = sc.viz.overlay(x, y, len(names))
        sc.viz.globe(shown, model.grid, o.beside(stem, "-globe.png"), title=stem.name)
        x, y = (sc.viz.panorama(values, model.grid) for values in (x, y))
        write_atomic(o.beside(stem, "-labels.png"), label_png(y, len(names)))
        sc.viz.label_map(y, names, o.beside(stem, "-overlay.png"), image=x, title=stem.name)

    def said(self, config: dict[str, Any], **options: Any) -> str:
        return (
            f"NAME-labels.png (class numbers 0 to {len(config['classes']) - 1}, with a palette), "
            "NAME-overlay.png, NAME-globe.png"
        )


def ignored(config: dict[str, Any]) -> int:
    """The class number that means no class."""
    label = config.get("ignore_label")
    if label is not None and label != int(label):
        raise InputError(f"--ignore-label is {label} for the task segment; expected a whole number: change it.")
    return IGNORED if label is None else int(label)


def label_png(labels: np.ndarray, classes: int) -> bytes:
    """Class numbers as PNG: with a palette, or 16 bits where there are more than 256 classes."""
    buffer = io.BytesIO()
    if classes > 256:
        Image.fromarray(labels.astype(np.uint16)).save(buffer, "PNG")
    else:
        picture = Image.fromarray(labels.astype(np.uint8))
        picture.putpalette((sc.viz.palette(classes) * 255).round().astype(np.uint8).tobytes())
        picture.save(buffer, "PNG")
    return buffer.getvalue()
