"""The record of a run: one row an epoch."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass
class History:
    """What `fit` returns.

    Attributes
    ----------
    rows : list of dict
        One row an epoch, with the keys of `columns`; None where there is no such number.
    best : float or None
        Best value of the criterion, in validation, or in training without validation.
    best_epoch : int
        Its epoch, counted from 1.
    stopped_early : bool
        True when `patience` ended the run.
    metrics : list of str
        The scores beside the loss.
    criterion, goal : str
        What decides which epoch is the best: "loss" or a score, the least ("min") or the greatest ("max").

    Examples
    --------
    >>> history = History()
    >>> history.add({"epoch": 1, "lr": 0.1, "train_loss": 2.0, "val_loss": 3.0})
    True
    >>> history["val_loss"], history.best
    ([3.0], 3.0)
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    stopped_early: bool = False
    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    criterion: str = "loss"
    goal: str = "min"

    @property
    def columns(self) -> list[str]:
        """Names of the numbers of an epoch."""
        scores = ["loss", *self.metrics]
        return ["epoch", "lr", *(f"{part}_{name}" for part in ("train", "val") for name in scores), "seconds"]

    def add(self, row: dict[str, Any]) -> bool:
        """Append an epoch; return whether it is the best so far."""
        self.rows.append({name: row.get(name) for name in self.columns})
        value = row.get(f"val_{self.criterion}")
        if row.get("val_loss") is None:
            value = row.get(f"train_{self.criterion}")
        if self.best_epoch and not self._better(value):
            return False
        self.best, self.best_epoch = value, row["epoch"]
        return True

    def _better(self, value: float | None) -> bool:
        if value is None or math.isnan(value):
            return False
        if self.best is None or math.isnan(self.best):
            return True
        return value < self.best if self.goal == "min" else value > self.best

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        return [row[column] for row in self.rows]

    def to_csv(self) -> str:
        """Return the rows as CSV text; numbers are written so that they read back exactly."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()
