"""Evaluation and prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.layers.base import Array, Layer
from spherecnn.training.data import Dataset, batches
from spherecnn.training.task import TASKS, Classify, LossFunction, Tally, Task, make_task

METRICS = Classify.known


def evaluate(
    model: Layer,
    data: Dataset,
    *,
    task: str | Task | None = None,
    loss: str | LossFunction | None = None,
    batch_size: int = 32,
    metrics: Sequence[str] | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a model on a data set, without training it.

    Parameters
    ----------
    model : Layer
    data : Dataset
    task : str or Task, optional
        As in `fit`.
    loss : str or callable, optional
        As in `fit`.
    batch_size : int
    metrics : sequence of str, optional
        Scores by name. Classes: "accuracy", "iou" (K,) with "mean_iou", "recall" (K,) and "mean_recall", "confusion"
        (K, K) with rows of truth.
        Values: those of `regression_errors`. Holes: "hole_l1", "hole_l2", "hole_psnr". By default, those that
        the task reports. They use the area weights and the ignored class of the task.
    progress : bool
        Show a bar.

    Returns
    -------
    dict
        "loss" and the scores.

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
    check_at_least("batch_size", batch_size, 1)
    task = make_task(task, loss, model, data)
    names = list(task.report if metrics is None else metrics)
    for name in names:
        check_choice("a metric", name, task.known)
    names += ["mean_iou"] if "iou" in names and "mean_iou" not in names else []
    tally = Tally(task, scores=bool(names))
    total = math.ceil(len(data) / batch_size)
    hidden = None if progress else True
    with tqdm(batches(len(data), batch_size), "evaluating", total, leave=False, disable=hidden) as bar:
        for indices in bar:
            x, target = data.batch(indices)
            y = model(as_input(model, x))
            tally.add(y, target, task.measure(y, target)[0])
    return tally.results(names)


def predict(model: Layer, x: Array, batch_size: int = 32, *, task: str | Task | None = None) -> Array:
    """Return the model's output for inputs x (N, ..., C), computed batch by batch.

    With a `task`, by name or as an object, return what the outputs mean: classes, values in the unit of the targets,
    or filled pictures.

    Examples
    --------
    >>> import spherecnn as sc
    >>> predict(sc.layers.ReLU(), np.array([[1.0], [-1.0], [2.0]]), batch_size=2)
    array([[1.], [0.], [2.]])
    """
    if len(x) == 0:
        raise InputError("x holds no samples; expected at least one: pass an array (N, ..., C).")
    if isinstance(task, str):
        check_choice("task", task, tuple(TASKS))
        named: Any = TASKS[task]
        return predict(model, x, batch_size, task=named())
    parts = []
    for i in batches(len(x), batch_size):
        given = as_input(model, x[i])
        y = model(given)
        parts.append(y if task is None else task.outputs(y, given))
    return np.concatenate(parts)


def as_input(model: Layer, x: Array) -> Array:
    """Contiguous, and in the precision of the model's weights."""
    dtype = model.dtype if x.dtype.kind == "f" and model.dtype is not None else x.dtype
    return np.ascontiguousarray(x, dtype)
