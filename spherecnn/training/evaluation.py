"""Evaluation and prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.kernels.arrays import to_host
from spherecnn.kernels.precision import get_precision
from spherecnn.kernels.precision import precision as use_precision
from spherecnn.layers.base import Array, Layer
from spherecnn.training.data import Dataset, batches
from spherecnn.training.placement import on, place
from spherecnn.training.step import Outcome, Outcomes, expect, fetched, see
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
    device: str | None = None,
    precision: str | None = None,
) -> dict[str, Any]:
    """Measure a model on a data set, without training it.

    On the GPU batches are copied there, and of each the loss and what the scores need comes back.

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
    device, precision : str, optional
        As in `fit`; the model stays on the device.

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
    where = place(model, device, precision)
    task = make_task(task, loss, model, data)
    names = list(task.report if metrics is None else metrics)
    for name in names:
        check_choice("a metric", name, task.known)
    names += ["mean_iou"] if "iou" in names and "mean_iou" not in names else []
    tally = Tally(task, scores=bool(names))
    total = math.ceil(len(data) / batch_size)
    hidden = None if progress else True

    def take(outcome: Outcome) -> None:
        tally.add(outcome.seen, outcome.target, outcome.loss, outcome.count)

    with (
        use_precision(precision or get_precision()),
        tqdm(batches(len(data), batch_size), "evaluating", total, leave=False, disable=hidden) as bar,
        Outcomes(take, tally.meter) as outcomes,
    ):
        for step, indices in enumerate(bar, 1):
            x, target = data.batch(indices)
            y = model(on(where, as_input(model, x)))
            value, seen = task.measure(y, target)[0], see(tally.meter, y)
            expect(tally.meter, y)
            outcomes.add(Outcome(step, target, task.weight(y, target), fetched(value), seen=fetched(seen)))
    return tally.results(names)


def predict(
    model: Layer,
    x: Array,
    batch_size: int = 32,
    *,
    task: str | Task | None = None,
    device: str | None = None,
    precision: str | None = None,
) -> Array:
    """Return the model's output for inputs x (N, ..., C) on the host, computed batch by batch.

    With a `task`, by name or as an object, return what the outputs mean: classes, values in the unit of the targets,
    or filled pictures. `device` and `precision` are as in `fit`; the model stays on the device.

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
        return predict(model, x, batch_size, task=named(), device=device, precision=precision)
    where, parts = place(model, device, precision), []
    with use_precision(precision or get_precision()):
        for i in batches(len(x), batch_size):
            given = as_input(model, x[i])
            y = to_host(model(on(where, given)))
            parts.append(y if task is None else task.outputs(y, given))
    return np.concatenate(parts)


def as_input(model: Layer, x: Array) -> Array:
    """Contiguous, and in the precision of the model's weights."""
    dtype = model.dtype if x.dtype.kind == "f" and model.dtype is not None else x.dtype
    return np.ascontiguousarray(x, dtype)
