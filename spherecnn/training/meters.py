"""Scores summed over batches: each meter adds batches up and gives the scores of all of them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from spherecnn.layers.base import Array
from spherecnn.training.metrics import accuracy_of, confusion, iou_of
from spherecnn.training.regression import Sums


class Meter(Protocol):
    """What a task measures beside its loss."""

    def add(self, y: Array, target: Array) -> None:
        """Take in a batch."""

    def results(self) -> dict[str, Any]:
        """Return the scores by name."""


class ClassMeter:
    """Accuracy, confusion matrix and intersection over union of class scores."""

    def __init__(self, area: Array | None, ignore_index: int):
        self.area, self.ignore_index = area, ignore_index
        self.matrix: Array | None = None

    def add(self, y: Array, target: Array) -> None:
        matrix = confusion(y, target, area=self.area, ignore_index=self.ignore_index)
        self.matrix = matrix if self.matrix is None else self.matrix + matrix

    def results(self) -> dict[str, Any]:
        if self.matrix is None:
            return {}
        each, mean = iou_of(self.matrix)
        return {"accuracy": accuracy_of(self.matrix), "mean_iou": mean, "iou": each, "confusion": self.matrix}


class SumMeter:
    """Errors that follow from sums: `sums` of a batch, `errors` of their total."""

    def __init__(self, sums: Callable[[Array, Array], Sums], errors: Callable[[Sums], dict[str, float]]):
        self.sums, self.errors = sums, errors
        self.total: Sums = {}

    def add(self, y: Array, target: Array) -> None:
        for name, value in self.sums(y, target).items():
            self.total[name] = self.total.get(name, 0.0) + value

    def results(self) -> dict[str, Any]:
        return self.errors(self.total) if self.total else {}
