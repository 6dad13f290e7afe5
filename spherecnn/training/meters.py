"""Scores summed over batches: each meter adds batches up and gives the scores of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from spherecnn.kernels.classes import argmax
from spherecnn.kernels.op import device_of
from spherecnn.layers.base import Array, Shape
from spherecnn.training.metrics import accuracy_of, confusion, iou_of, recall_of
from spherecnn.training.regression import Sums


class Meter(Protocol):
    """What a task measures beside its loss.

    A meter may have ``see(y)``, which returns what `add` takes in place of an output: on the GPU that is computed
    there, and only that is copied to the host. With it comes ``expect(shape)``, which is told the shape of each output.
    Where `aside` is True, `add` may run in another thread beside compiled kernels: it has none itself.
    """

    def add(self, y: Array, target: Array) -> None:
        """Take in a batch, on the host."""

    def results(self) -> dict[str, Any]:
        """Return the scores by name."""


class ClassMeter:
    """Accuracy, confusion matrix, intersection over union and recall of class scores.

    Sites whose true class is unscored do not count, and unscored classes are NaN and left out of the means.
    """

    aside = True

    def __init__(self, area: Array | None, ignore_index: int, unscored: Sequence[int] = ()):
        self.area, self.ignore_index, self.unscored = area, ignore_index, list(unscored)
        self.matrix: Array | None = None
        self.count: int | None = None

    def expect(self, shape: Shape) -> None:
        """Be told the number of classes by the shape of an output."""
        self.count = shape[-1]

    def see(self, y: Array) -> Array:
        """On the GPU, the class of each site."""
        return y if device_of(y) == "cpu" else argmax(y)

    def add(self, y: Array, target: Array) -> None:
        matrix = confusion(y, target, classes=self.count, area=self.area, ignore_index=self.ignore_index)
        self.matrix = matrix if self.matrix is None else self.matrix + matrix

    def results(self) -> dict[str, Any]:
        if self.matrix is None:
            return {}
        matrix = self.matrix.copy()
        matrix[self.unscored] = 0
        (ious, mean_iou), (recalls, mean_recall) = (score(matrix, self.unscored) for score in (iou_of, recall_of))
        means = {"accuracy": accuracy_of(matrix), "mean_iou": mean_iou, "mean_recall": mean_recall}
        return means | {"iou": ious, "recall": recalls, "confusion": matrix}


class SumMeter:
    """Errors that follow from sums: `sums` of a batch, `errors` of their total."""

    aside = True

    def __init__(self, sums: Callable[[Array, Array], Sums], errors: Callable[[Sums], dict[str, float]]):
        self.sums, self.errors = sums, errors
        self.total: Sums = {}

    def add(self, y: Array, target: Array) -> None:
        for name, value in self.sums(y, target).items():
            self.total[name] = self.total.get(name, 0.0) + value

    def results(self) -> dict[str, Any]:
        return self.errors(self.total) if self.total else {}
