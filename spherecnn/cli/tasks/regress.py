"""Regression: values for each pixel, such as depth or elevation."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.cli.tasks.base import EXAMPLES, DenseCommands, each_output, turned
from spherecnn.files import write_atomic
from spherecnn.training.data import Subset
from spherecnn.training.regression import ABSOLUTE, RELATIVE
from spherecnn.training.task import Task

NAMES = {
    "rmse": "RMSE",
    "mae": "MAE",
    "abs_rel": "abs rel",
    "sq_rel": "sq rel",
    "rmse_log": "RMSE log",
    "delta1": "delta < 1.25",
    "delta2": "delta < 1.25^2",
    "delta3": "delta < 1.25^3",
}


class Regress(DenseCommands):
    """Paired folders of pictures and values."""

    name = "regress"
    asked = (*ABSOLUTE, *RELATIVE)
    takes = ("ignore_label", "label_scale")
    predicts = ("png16",)

    def open(self, source: str, grid: Any, part: str, config: dict[str, Any], rotate: str = "none") -> Any:
        data = sc.datasets.paired(
            source,
            grid,
            kind="values",
            split="all" if part == "test" else part,
            validation=config["validation"],
            seed=config["seed"],
            scale=config.get("label_scale", 1.0),
            missing=config.get("ignore_label"),
        )
        return turned(data.load(), rotate, config["seed"])

    def outputs(self, data: Any) -> int:
        return int(data.batch(np.array([0]))[1].shape[-1])

    def learned(self, data: Any, config: dict[str, Any]) -> dict[str, Any]:
        mean, std = sc.training.target_moments(data, area=data.grid.area)
        return {"label_mean": mean, "label_std": std}

    def task(self, config: dict[str, Any], grid: Any) -> Task:
        loss = config.get("loss") or "l1"
        return sc.training.Regress(loss, area=grid.area, mean=config["label_mean"], std=config["label_std"])

    def report(self, found: dict[str, Any], config: dict[str, Any], out: Path) -> tuple[str, list[str]]:
        known = {name: found[name] for name in self.asked if not math.isnan(found[name])}
        rows = [[NAMES[name], o.number(value)] for name, value in known.items()]
        write_atomic(out / "errors.csv", o.csv_text([["error", "value"], *map(list, known.items())]).encode())
        said = f"loss {found['loss']:.4f}, errors weighted by area.\n\n{o.table(['error', 'value'], rows)}\n"
        return said, ["errors.csv"]

    def draw_examples(self, model: Any, task: Task, data: Any, config: dict[str, Any], out: Path) -> list[str]:
        written: list[str] = []
        few = Subset(data, np.arange(min(EXAMPLES, len(data))))
        for i, _, y in each_output(model, task, few, EXAMPLES):
            stem, true = data.files[i].stem, data.batch(np.array([i]))[1][0]
            shown = sc.viz.panorama(y, data.grid)
            # between sites an error is not what it is at them
            found, right = (sc.viz.panorama(values, data.grid, "nearest") for values in (y, true))
            for k, end in enumerate(ends(y)):
                limits = common_limits(y[..., k], true[..., k])
                sc.viz.value_map(
                    shown[..., k], out / f"{stem}-predicted{end}.png", limits=limits, title=f"{stem}{end}, predicted"
                )
                sc.viz.error_map(found[..., k], right[..., k], out / f"{stem}-error{end}.png")
                written += [f"{stem}-predicted{end}.png", f"{stem}-error{end}.png"]
        return written

    def write(
        self, x: np.ndarray, y: np.ndarray, stem: Path, model: Any, config: dict[str, Any], **options: Any
    ) -> None:
        buffer = io.BytesIO()
        np.save(buffer, y if y.shape[-1] > 1 else y[..., 0], allow_pickle=False)
        write_atomic(o.beside(stem, ".npy"), buffer.getvalue())
        shown = sc.viz.panorama(y, model.grid)
        for k, end in enumerate(ends(y)):
            if options["png16"]:
                stored = shown[..., k] / config.get("label_scale", 1.0)
                write_atomic(o.beside(stem, f"-values{end}.png"), png16(stored))
            sc.viz.value_map(shown[..., k], o.beside(stem, f"-map{end}.png"), title=f"{stem.name}{end}")
            sc.viz.globe(y[..., k], model.grid, o.beside(stem, f"-globe{end}.png"), title=f"{stem.name}{end}")

    def said(self, config: dict[str, Any], **options: Any) -> str:
        bits = f"NAME-values.png (16 bits, values / {config.get('label_scale', 1.0):g}), " if options["png16"] else ""
        return f"NAME.npy (values), {bits}NAME-map.png, NAME-globe.png"


def ends(y: np.ndarray) -> list[str]:
    """What the names of the files of each channel end with."""
    return [""] if y.shape[-1] == 1 else [f"-{k}" for k in range(y.shape[-1])]


def common_limits(*values: np.ndarray) -> tuple[float, float] | None:
    """The least and the greatest finite value of all."""
    finite = np.concatenate([v[np.isfinite(v)] for v in values])
    return (float(finite.min()), float(finite.max())) if finite.size else None


def png16(values: np.ndarray) -> bytes:
    """Values, rounded and kept within 0 to 65535, as a 16-bit PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.rint(values), 0, 65535).astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()
