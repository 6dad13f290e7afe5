"""What the two scripts share that give every vertex a class: training, scores of each class, a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mesh_training import Settings, held_out, train, with_weights, write_results  # beside this file
from reporting import markdown_table, table_csv

import spherecnn as sc
from spherecnn.files import make_folder, write_atomic
from spherecnn.grids.resample import resample

HEIGHT = 128
SCORES = ("accuracy", "mean_precision", "mean_recall", "mean_iou", "recall", "iou", "average_precision")
RESULTS = (
    *("data", "level", "width", "parameters", "samples", "held", "area", "lr", "schedule", "batch", "epochs", "seed"),
    *("weights", "epoch", "accuracy", "mean_iou", "mean_recall", "mean_precision", "loss"),
)


@dataclass
class Experiment:
    """A network, its task and its data. `picture` makes a field (P,) or colours (P, 3) to show of inputs (P, C)."""

    name: str
    net: Any
    task: Any
    data: Any
    validation: Any
    test: Any
    picture: Any

    def run(self, settings: Settings, out: Path, about: str, area: bool, level: int, width: int) -> str:
        """Train, test with the weights of the best epoch, write everything; return what to say."""
        make_folder(out)
        config = {"run": {"data": self.name, "level": level, "width": width, "area": area}, "model": self.net.config}
        history = train(self.net, self.data, self.validation, self.task, settings, out, config)
        net = with_weights(self.net, out, "best")
        names = [name for name in SCORES if name in self.task.known]
        found = sc.training.evaluate(
            net, self.test, task=self.task, batch_size=settings.batch, metrics=names, progress=True
        )
        held = 0 if self.validation is None else len(self.validation)
        row = (self.name, level, width, net.parameter_count, len(self.data), held, "solid angle" if area else "equal")
        row += (settings.lr, settings.schedule, settings.batch, history.epochs, settings.seed, "best")
        row += (history.best_epoch, *(_number(found.get(n)) for n in RESULTS[-5:]))
        write_results(out, RESULTS, row, about)
        table = self.classes(found, out)
        self.draw(net, out / "prediction.png")
        return (
            f"{table}\n{net.parameter_count:,} parameters, {history.epochs} epochs, epoch {history.best_epoch} tested "
            f"on {len(self.test):,} samples: mean IoU {found['mean_iou']:.4f}, mean recall {found['mean_recall']:.4f}, "
            f"mean average precision {found['mean_precision']:.4f}.\n"
            f"Wrote {out}: log.csv, curves.png, results.csv, classes.csv, prediction.png and the weights."
        )

    def classes(self, found: dict[str, Any], out: Path) -> str:
        """Write classes.csv; return the table."""
        header = ("class", "IoU", "recall", "average precision")
        scores = zip(found["iou"], found["recall"], found["average_precision"], strict=True)
        rows = [
            (name, *map(_number, values))
            for k, (name, values) in enumerate(zip(self.test.classes, scores, strict=True))
            if k not in self.task.unscored
        ]
        write_atomic(out / "classes.csv", table_csv([header, *rows]))
        return markdown_table(header, rows)

    def draw(self, net: Any, path: Path) -> None:
        """Draw the first sample of the test part, its true classes and the predicted ones, as panoramas."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        x, (truth,) = self.test.batch(np.array([0]))
        (found,) = sc.training.predict(net, x, task=self.task)
        classes, grid = self.test.classes, net.grid
        target = sc.grids.Equirect(HEIGHT)
        shown = resample(np.float32(_columns(self.picture(x[0]))), grid, target, "bilinear")
        maps = (_labels(labels, grid, target) for labels in (truth, found))
        figure = Figure(figsize=(13, 3.2), layout="constrained")
        titles = ("input", "truth", "prediction")
        for axes, title, image in zip(figure.subplots(1, 3), titles, (shown, *maps), strict=True):
            if image.ndim == 2:
                image = sc.viz.colour_labels(image, len(classes))
            axes.imshow(image.squeeze(), extent=(-180, 180, -90, 90), cmap="viridis")
            axes.set_title(title, fontsize=10)
            axes.set_axis_off()
        colours = sc.viz.palette(len(classes))
        seen = sorted({*truth.tolist(), *found.tolist()})
        patches = [Patch(color=colours[k], label=classes[k]) for k in seen]
        figure.legend(handles=patches, loc="outside lower center", ncols=min(8, len(seen)), frameon=False, fontsize=8)
        sc.viz.save(figure, path, dpi=100)


def parts(data: Any, share: float, seed: int, most: int | None) -> tuple[Any, Any]:
    """A training and a validation part of a data set, at most so many samples in all; None where none is held out."""
    pick = np.random.default_rng(seed).permutation(len(data))[:most]
    kept, other = held_out(len(pick), round(share * len(pick)), seed)
    return sc.training.Subset(data, pick[kept]), sc.training.Subset(data, pick[other]) if len(other) else None


def _columns(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 2 else values[:, None]


def _labels(labels: np.ndarray, grid: Any, target: Any) -> np.ndarray:
    return resample(labels[:, None], grid, target, "nearest")[..., 0]


def _number(value: Any) -> Any:
    return "" if value is None or np.isnan(value) else round(float(value), 4)
