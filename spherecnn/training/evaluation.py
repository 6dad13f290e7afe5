"""Evaluation and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.layers.base import Array, Layer
from spherecnn.training.data import Dataset, batches
from spherecnn.training.losses import LOSSES, CrossEntropyLoss, Loss
from spherecnn.training.metrics import accuracy_of, confusion, iou_of

METRICS = ("accuracy", "confusion", "iou")
LossFunction = Callable[[Array, Array], tuple[float, Array]]


def evaluate(
    model: Layer,
    data: Dataset,
    *,
    loss: str | LossFunction = "cross_entropy",
    batch_size: int = 32,
    metrics: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measure a model on a data set, without training it.

    Parameters
    ----------
    model : Layer
    data : Dataset
    loss : str or callable
        As in `fit`.
    batch_size : int
    metrics : sequence of str, optional
        Any of "accuracy", "confusion" and "iou", for classes; by default accuracy with the cross-entropy and
        none with other losses. They use the area weights and the ignored class of the loss.

    Returns
    -------
    dict
        "loss"; as asked, "accuracy", "confusion" (K, K) with rows of truth, "iou" (K,) and "mean_iou".

    Examples
    --------
    >>> import spherecnn as sc
    >>> from spherecnn.training import ArrayDataset
    >>> data = ArrayDataset(np.zeros((4, 3), np.float32), np.array([0, 0, 0, 1]))
    >>> net = sc.layers.Linear(3, 2, rng=0)
    >>> net.bias.value[:] = 1, 0
    >>> evaluate(net, data)["accuracy"]
    0.75
    """
    loss = make_loss(loss, model, data)
    metrics = metrics if metrics is not None else ("accuracy",) if isinstance(loss, CrossEntropyLoss) else ()
    for name in metrics:
        check_choice("a metric", name, METRICS)
    tally = Tally(loss, classes=bool(metrics))
    for indices in batches(len(data), batch_size):
        x, target = data.batch(indices)
        y = model(as_input(model, x))
        tally.add(y, target, loss(y, target)[0])
    found: dict[str, Any] = {"loss": tally.loss}
    if tally.matrix is not None:
        each, mean = iou_of(tally.matrix)
        known = {"accuracy": accuracy_of(tally.matrix), "confusion": tally.matrix, "iou": each}
        found |= {name: known[name] for name in metrics}
        found |= {"mean_iou": mean} if "iou" in metrics else {}
    return found


def predict(model: Layer, x: Array, batch_size: int = 32) -> Array:
    """Return the model's output for inputs x (N, ..., C), computed batch by batch.

    Examples
    --------
    >>> import spherecnn as sc
    >>> predict(sc.layers.ReLU(), np.array([[1.0], [-1.0], [2.0]]), batch_size=2)
    array([[1.], [0.], [2.]])
    """
    if len(x) == 0:
        raise InputError("x holds no samples; expected at least one: pass an array (N, ..., C).")
    return np.concatenate([model(as_input(model, x[i])) for i in batches(len(x), batch_size)])


class Tally:
    """Means over batches: of the loss, weighted by what each batch counts, and of the confusion matrix."""

    def __init__(self, loss: LossFunction, classes: bool):
        self.criterion, self.classes = loss, classes
        self.total = self.count = 0.0
        self.matrix: Array | None = None

    def add(self, y: Array, target: Array, value: float) -> None:
        count = self.criterion.count(y, target) if isinstance(self.criterion, Loss) else float(len(y))
        self.total += value * count
        self.count += count
        if self.classes:
            ignored = getattr(self.criterion, "ignore_index", -100)
            matrix = confusion(y, target, area=getattr(self.criterion, "area", None), ignore_index=ignored)
            self.matrix = matrix if self.matrix is None else self.matrix + matrix

    @property
    def loss(self) -> float:
        return self.total / self.count if self.count > 0 else 0.0

    @property
    def accuracy(self) -> float | None:
        return None if self.matrix is None else accuracy_of(self.matrix)


def make_loss(loss: str | LossFunction, model: Layer, data: Dataset) -> LossFunction:
    """Return the loss of a name, weighted by the area of ``model.grid`` where the output has its sites."""
    if not isinstance(loss, str):
        return loss
    check_choice("loss", loss, tuple(LOSSES))
    shape = model.out_shape((1, *data.batch(np.array([0]))[0].shape[1:]))
    grid = getattr(model, "grid", None)
    if grid is not None and len(shape) > 2 and shape[1:-1] == tuple(grid.shape):
        return LOSSES[loss](area=grid.area)
    return LOSSES[loss]()


def as_input(model: Layer, x: Array) -> Array:
    """Contiguous, and in the precision of the model's weights."""
    dtype = model.dtype if x.dtype.kind == "f" and model.dtype is not None else x.dtype
    return np.ascontiguousarray(x, dtype)
