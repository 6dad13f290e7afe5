"""The record of a run: one row an epoch."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import Any

COLUMNS = ("epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds")


@dataclass
class History:
    """What `fit` returns.

    Attributes
    ----------
    rows : list of dict
        One row an epoch, with the keys of `COLUMNS`; None where there is no such number.
    best : float or None
        Lowest validation loss, or training loss without validation.
    best_epoch : int
        Its epoch, counted from 1.
    stopped_early : bool
        True when `patience` ended the run.

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

    def add(self, row: dict[str, Any]) -> bool:
        """Append an epoch; return whether it is the best so far."""
        self.rows.append({name: row.get(name) for name in COLUMNS})
        loss = row["train_loss"] if row.get("val_loss") is None else row["val_loss"]
        if self.best is not None and loss >= self.best:
            return False
        self.best, self.best_epoch = loss, row["epoch"]
        return True

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        return [row[column] for row in self.rows]

    def to_csv(self) -> str:
        """Return the rows as CSV text; numbers are written so that they read back exactly."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()
