"""What a network learns: its loss, its scores, which epoch is the best, and what its outputs mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.layers.base import Array, Layer, Shape
from spherecnn.training.data import Dataset
from spherecnn.training.losses import INPAINT_LOSSES, LOSSES, CrossEntropyLoss, InpaintLoss, Loss
from spherecnn.training.meters import ClassMeter, Meter, SumMeter
from spherecnn.training.regression import (
    ABSOLUTE,
    HOLE,
    RELATIVE,
    error_sums,
    errors_of,
    hole_errors_of,
    hole_sums,
)

LossFunction = Callable[[Array, Array], tuple[float, Array]]


class Task:
    """A loss without scores; the tasks below add to it.

    Attributes
    ----------
    name : str
    metrics : tuple of str
        The scores in the log, beside the loss.
    report : tuple of str
        The scores that `evaluate` gives when none are named.
    known : tuple of str
        All scores that may be named.
    criterion, goal : str
        The best epoch has the least ("min") or the greatest ("max") of this: "loss" or one of `metrics`.
    loss : callable
        ``loss(y, target) -> (value, dy)``.
    """

    name = "loss"
    metrics: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    criterion, goal = "loss", "min"
    losses: tuple[str, ...] = ()

    def __init__(self, loss: LossFunction):
        self.loss = loss

    def measure(self, y: Array, target: Array) -> tuple[float, Array]:
        """Return the loss of a batch and the gradient of the output."""
        return self.loss(y, target)

    def inputs(self, shape: Shape, dtype: np.dtype, target: Array) -> tuple[Array, ...]:
        """Return what `errors` takes beside an output of this shape and dtype: the loss's `Loss.inputs`."""
        assert isinstance(self.loss, Loss)
        return self.loss.inputs(shape, dtype, target)

    def errors(self, y: Array, *inputs: Array) -> tuple[Any, Array]:
        """Return the loss of a batch and the gradient of the output, from what `inputs` returned: `measure` in two."""
        assert isinstance(self.loss, Loss)
        return self.loss.errors(y, *inputs)

    def weight(self, y: Array, target: Array) -> float:
        """Return how much the loss of this batch weighs in a mean over batches."""
        return self.loss.count(y, target) if isinstance(self.loss, Loss) else float(len(y))

    def meter(self) -> Meter | None:
        """Return a new meter of the scores, or None where there are none."""
        return None

    def outputs(self, y: Array, x: Array) -> Array:
        """Return what outputs y of the network for inputs x mean."""
        return y

    def __repr__(self) -> str:
        return f"{type(self).__name__}(loss={type(self.loss).__name__})"


class Classify(Task):
    """One class for each sample, or for each site.

    Parameters
    ----------
    loss : {"cross_entropy"} or callable
    area : ndarray (P,), optional
        Weight of each site, usually ``grid.area``, where there is a class for each site.
    weight : ndarray (K,), optional
        Weight of each class in the loss; see `class_weights`.
    ignore_index : int
        Targets of this value count neither in the loss nor in the scores.
    unscored : sequence of int
        Classes whose targets count neither in the loss nor in the scores, and which are left out of means over
        classes, although a network may have outputs for them. To predict one where another class is true is a miss.

    Examples
    --------
    >>> task = Classify(weight=np.array([1.0, 3.0]))
    >>> task.outputs(np.array([[0.2, 0.1]]), np.zeros((1, 1)))
    array([0])
    """

    name = "classify"
    metrics: tuple[str, ...] = ("accuracy",)
    report: tuple[str, ...] = ("accuracy",)
    known: tuple[str, ...] = ("accuracy", "iou", "mean_iou", "recall", "mean_recall", "confusion")
    losses = ("cross_entropy",)

    def __init__(
        self,
        loss: str | LossFunction = "cross_entropy",
        area: Array | None = None,
        weight: Array | None = None,
        ignore_index: int = -100,
        unscored: Sequence[int] = (),
    ):
        if isinstance(loss, str):
            check_choice("loss", loss, self.losses)
            loss = CrossEntropyLoss(area, weight, ignore_index)
        super().__init__(loss)
        self.area = getattr(loss, "area", area)
        self.ignore_index = getattr(loss, "ignore_index", ignore_index)
        self.unscored = tuple(check_at_least("a class of unscored", k, 0) for k in unscored)

    def measure(self, y: Array, target: Array) -> tuple[float, Array]:
        return super().measure(y, self.scored(target))

    def inputs(self, shape: Shape, dtype: np.dtype, target: Array) -> tuple[Array, ...]:
        return super().inputs(shape, dtype, self.scored(target))

    def weight(self, y: Array, target: Array) -> float:
        return super().weight(y, self.scored(target))

    def scored(self, target: Array) -> Array:
        """The targets, those of unscored classes as `ignore_index`."""
        if not self.unscored:
            return target
        return np.where(np.isin(target, self.unscored), self.ignore_index, target)

    def meter(self) -> Meter:
        return ClassMeter(self.area, self.ignore_index, self.unscored)

    def outputs(self, y: Array, x: Array) -> Array:
        return np.argmax(y, axis=-1)


class Segment(Classify):
    """A class for each site; the best epoch has the greatest mean intersection over union. Parameters as `Classify`.

    Examples
    --------
    >>> Segment(ignore_index=255).metrics
    ('mean_iou', 'accuracy')
    """

    name = "segment"
    metrics: tuple[str, ...] = ("mean_iou", "accuracy")
    report: tuple[str, ...] = ("accuracy", "mean_iou", "iou")
    criterion, goal = "mean_iou", "max"


class Regress(Task):
    """Values for each site or sample, such as depth or elevation; the best epoch has the least RMSE.

    The network learns (target - mean) / std, which suits its weights whatever the unit is; scores and `outputs`
    are in the unit of the targets. Targets that are NaN or infinite are missing: they do not count.

    Parameters
    ----------
    loss : {"l1", "mse", "huber", "berhu"} or callable
        On the standardised values.
    area : ndarray (P,), optional
        Weight of each site, usually ``grid.area``.
    mean, std : float
        Of the targets; see `target_moments`.

    Examples
    --------
    >>> Regress(mean=100.0, std=10.0).outputs(np.array([[0.5]]), np.zeros((1, 1)))
    array([[105.]])
    """

    name = "regress"
    metrics = ABSOLUTE
    report = (*ABSOLUTE, *RELATIVE)
    known = (*ABSOLUTE, *RELATIVE)
    criterion = "rmse"
    losses = ("l1", "mse", "huber", "berhu")

    def __init__(self, loss: str | LossFunction = "l1", area: Array | None = None, mean: float = 0.0, std: float = 1.0):
        if isinstance(loss, str):
            check_choice("loss", loss, self.losses)
            loss = LOSSES[loss](area=area)
        super().__init__(loss)
        if not (np.isfinite(mean) and 0 < std < np.inf):
            raise InputError(f"mean is {mean} and std is {std}; expected finite numbers, std above 0: change them.")
        self.area, self.mean, self.std = getattr(loss, "area", area), mean, std

    def _standard(self, target: Array, dtype: np.dtype) -> Array:
        return ((target - self.mean) / self.std).astype(dtype, copy=False)

    def measure(self, y: Array, target: Array) -> tuple[float, Array]:
        return self.loss(y, self._standard(target, y.dtype))

    def inputs(self, shape: Shape, dtype: np.dtype, target: Array) -> tuple[Array, ...]:
        return super().inputs(shape, dtype, self._standard(target, dtype))

    def weight(self, y: Array, target: Array) -> float:
        return super().weight(y, self._standard(target, y.dtype))

    def meter(self) -> SumMeter:
        return SumMeter(lambda y, target: error_sums(self.outputs(y, y), target, area=self.area), errors_of)

    def outputs(self, y: Array, x: Array) -> Array:
        return y * y.dtype.type(self.std) + y.dtype.type(self.mean)


class Inpaint(Task):
    """Fill holes of pictures; the best epoch has the least absolute error in the holes.

    Inputs are (N, H, W, C + 1), the picture with holes and the mask of the holes; targets are
    (N, H, W, C + 1), the whole picture and the mask; see `datasets.inpainting`.

    Parameters
    ----------
    loss : {"l1", "mse", "huber"} or callable
        The error in `InpaintLoss`.
    area : ndarray (P,), optional
        Weight of each site, usually ``grid.area``.

    Examples
    --------
    >>> x = np.array([[[0.0, 1.0], [0.5, 0.0]]])  # a hole, then a pixel that is known
    >>> Inpaint().outputs(np.full((1, 2, 1), 0.9), x)
    array([[[0.9],
            [0.5]]])
    """

    name = "inpaint"
    metrics: tuple[str, ...] = ("hole_l1", "hole_psnr")
    report = HOLE
    known = HOLE
    criterion = "hole_l1"
    losses = INPAINT_LOSSES

    def __init__(self, loss: str | LossFunction = "l1", area: Array | None = None):
        super().__init__(InpaintLoss(loss, area=area) if isinstance(loss, str) else loss)
        self.area = getattr(loss, "area", area)

    def meter(self) -> SumMeter:
        return SumMeter(lambda y, target: hole_sums(np.clip(y, 0, 1), target, area=self.area), hole_errors_of)

    def outputs(self, y: Array, x: Array) -> Array:
        """The picture as it was given, with the holes filled."""
        return np.where(x[..., -1:] > 0, np.clip(y, 0, 1), x[..., :-1])


TASKS: dict[str, type[Task]] = {"classify": Classify, "segment": Segment, "regress": Regress, "inpaint": Inpaint}


class Tally:
    """Means over batches: of the loss, weighted by what each batch counts, and the scores of a task."""

    def __init__(self, task: Task, scores: bool = True):
        self.task = task
        self.total = self.count = 0.0
        self.meter = task.meter() if scores else None

    def add(self, seen: Array, target: Array, value: float, count: float) -> None:
        """Take in a batch: what the meter sees of the output, the target, the loss, and how much that weighs."""
        self.total += value * count
        self.count += count
        if self.meter is not None:
            self.meter.add(seen, target)

    @property
    def loss(self) -> float:
        return self.total / self.count if self.count > 0 else 0.0

    def results(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the loss and the named scores."""
        found = {} if self.meter is None else self.meter.results()
        return {"loss": self.loss} | {name: found.get(name) for name in names}


def make_task(task: str | Task | None, loss: str | LossFunction | None, model: Layer, data: Dataset) -> Task:
    """Return the task of a name, or of a loss alone: classes for the cross-entropy, and no scores otherwise.

    By name, the sites are weighted by the area of ``model.grid`` where the output has these sites, and
    ``data.ignore_index`` is ignored where there is one.

    Raises
    ------
    InputError
        If a name is unknown, or a task that has its loss comes with another.
    """
    if isinstance(task, Task):
        if loss is not None:
            raise InputError(f"loss is given beside {task!r}, which has one; expected one of them: leave loss out.")
        return task
    area = site_area(model, data)
    if task is None:
        if loss is None or isinstance(loss, str):
            check_choice("loss", loss or "cross_entropy", tuple(LOSSES))
            loss = LOSSES[loss or "cross_entropy"](area=area)
        return Classify(loss) if isinstance(loss, CrossEntropyLoss) else Task(loss)
    check_choice("task", task, tuple(TASKS))
    settings: dict[str, Any] = {"area": area} | ({} if loss is None else {"loss": loss})
    if issubclass(TASKS[task], Classify) and hasattr(data, "ignore_index"):
        settings["ignore_index"] = data.ignore_index
    return TASKS[task](**settings)


def site_area(model: Layer, data: Dataset) -> Array | None:
    """The area of ``model.grid`` where the model's output has the grid's sites, else None."""
    shape = model.out_shape((1, *data.batch(np.array([0]))[0].shape[1:]))
    grid = getattr(model, "grid", None)
    if grid is not None and len(shape) > 2 and shape[1:-1] == tuple(grid.shape):
        return grid.area
    return None
