"""Losses: callable objects that return the mean over what counts and its gradient, in one pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.kernels import arrays
from spherecnn.kernels import loss as kernels
from spherecnn.kernels.op import device_of
from spherecnn.layers.base import Array, Shape
from spherecnn.training.metrics import site_weights


class Loss:
    r"""A mean of the errors e of the elements, weighted by the area a of their sites, and its gradient.

    .. math:: L = \sum_i a_i e_i \Big/ \sum_i a_i

    A subclass implements `inputs`, which runs on the host, `errors`, which runs where the output is, and `count`.
    A call is both. A recorded step of training calls them apart: what `inputs` returns is copied to the GPU, and
    `errors` is what is recorded.

    Parameters
    ----------
    area : ndarray (P,), optional
        Weight of each site, usually ``grid.area`` in steradians, for outputs (N, H, W, K) or (N, P, K).
        Without it every site weighs the same.
    """

    def __init__(self, area: Array | None = None):
        self.area = None if area is None else np.ravel(area).astype(np.float64)

    def __call__(self, y: Array, target: Array) -> tuple[float, Array]:
        """Return the mean loss of an output y and the gradient dy, of the shape and dtype of y.

        The target is on the host. With y on the GPU the loss is an array without axes there: ``float(loss)`` waits.
        """
        return self.errors(y, *(beside(y, a) for a in self.inputs(y.shape, y.dtype, target)))

    def inputs(self, shape: Shape, dtype: np.dtype, target: Array) -> tuple[Array, ...]:
        """Return what `errors` takes beside an output of this shape and dtype: arrays on the host, made of the target.

        Raises
        ------
        InputError
            If the target does not fit.
        """
        raise NotImplementedError

    def errors(self, y: Array, *inputs: Array) -> tuple[float, Array]:
        """Return the mean loss of an output and its gradient; no more is asked of the host."""
        raise NotImplementedError

    def count(self, y: Array, target: Array) -> float:
        """Return the sum of the weights: how much this mean weighs in a mean over batches."""
        raise NotImplementedError


def beside(y: Any, table: Array) -> Any:
    """Return a host array where y is; on the GPU, float64 becomes float32."""
    return arrays.beside(y, table if device_of(y) == "cpu" else for_gpu(table))


def for_gpu(table: Array) -> Array:
    """Return one of the arrays of `Loss.inputs` in the dtype that it has on the GPU."""
    kinds = {"f": np.float32, "b": np.int32, "i": np.int32, "u": np.int32}
    return np.ascontiguousarray(table, kinds[table.dtype.kind])


class CrossEntropyLoss(Loss):
    r"""Cross-entropy of class scores (logits) y (..., K) and class numbers t (...).

    .. math:: L = -\sum_s a_s w_{t_s} \log \mathrm{softmax}(y_s)_{t_s} \Big/ \sum_s a_s w_{t_s}

    Label smoothing :math:`\epsilon` mixes in all classes as PyTorch does: a site's error becomes
    :math:`(1 - \epsilon)\,w_t\,l_t + \epsilon/K \sum_k w_k l_k`, :math:`l_k = -\log \mathrm{softmax}(y)_k`.
    Where no target counts, loss and gradient are 0.

    Parameters
    ----------
    area : ndarray (P,), optional
        As in `Loss`.
    weight : ndarray (K,), optional
        Weight w of each class.
    ignore_index : int
        Targets of this value do not count.
    label_smoothing : float
        :math:`\epsilon` in [0, 1].

    Raises
    ------
    InputError
        If shapes do not fit, a target is no class, or a setting is out of range.

    Examples
    --------
    >>> value, dy = CrossEntropyLoss()(np.zeros((1, 2)), np.array([0]))
    >>> round(value, 4), dy
    (0.6931, array([[-0.5,  0.5]]))
    """

    def __init__(
        self,
        area: Array | None = None,
        weight: Array | None = None,
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ):
        super().__init__(area)
        if not 0 <= label_smoothing <= 1:
            raise InputError(f"label_smoothing is {label_smoothing}; expected a number from 0 to 1: change it.")
        self.weight = None if weight is None else np.asarray(weight, np.float64)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def __call__(self, y: Array, target: Array) -> tuple[float, Array]:
        if device_of(y) == "cpu":  # where the kernel itself looks at the classes
            return self.errors(y, *self._inputs(y.shape, target))
        return super().__call__(y, target)

    def inputs(self, shape: Shape, dtype: np.dtype, target: Array) -> tuple[Array, ...]:
        found = self._inputs(shape, target)
        self._check_classes(shape[-1], target)
        return found

    def _inputs(self, shape: Shape, target: Array) -> tuple[Array, ...]:
        total = self._total(shape, target)
        each = np.ones((1,) * target.ndim) if self.area is None else site_weights(self.area, target.shape)
        sites = each / (total or 1.0)
        return (target, sites) if self.weight is None else (target, sites, self.weight)

    def errors(self, y: Array, *inputs: Array) -> tuple[float, Array]:
        target, sites, weight = (*inputs, None)[:3]
        value, _, dy = kernels.cross_entropy(y, target, sites, weight, self.ignore_index, self.label_smoothing)
        return value, dy

    def count(self, y: Array, target: Array) -> float:
        return self._total(y.shape, target)

    def _total(self, shape: Shape, target: Array) -> float:
        if target.shape != shape[:-1] or target.dtype.kind not in "iu":
            raise InputError(
                f"targets have shape {target.shape} and dtype {target.dtype} for scores {shape}; "
                f"expected class numbers of shape {shape[:-1]}, integers: convert them."
            )
        if self.weight is not None and self.weight.shape != shape[-1:]:
            raise InputError(f"weight has shape {self.weight.shape}; expected {shape[-1:]}: give one number a class.")
        if self.area is None and self.weight is None:
            return float(np.count_nonzero(target != self.ignore_index))
        counted = np.asarray(target != self.ignore_index, np.float64)
        if self.weight is not None:
            counted *= self.weight.take(target, mode="clip")
        return float((counted * site_weights(self.area, target.shape)).sum())

    def _check_classes(self, classes: int, target: Array) -> None:
        # Most targets need no more than the first look.
        if target.size and (target.min() < 0 or target.max() >= classes):
            unknown = ((target < 0) | (target >= classes)) & (target != self.ignore_index)
            if unknown.any():
                raise kernels.unknown_label(classes, self.ignore_index)


class _ElementLoss(Loss):
    """The mean of an error of each element of y and a target of the same shape.

    Elements whose target is NaN or infinite are missing: they do not count and get no gradient. `mask`, which
    broadcasts to y, weighs the elements further; 0 leaves one out. Where nothing counts, loss and gradient are 0.
    """

    kernel = kernels.mse_loss
    options: tuple[float, ...] = ()

    def __call__(self, y: Array, target: Array, mask: Array | None = None) -> tuple[float, Array]:
        return self.errors(y, *(beside(y, a) for a in self.inputs(y.shape, y.dtype, target, mask)))

    def inputs(self, shape: Shape, dtype: np.dtype, target: Array, mask: Array | None = None) -> tuple[Array, ...]:
        each, kept, total = self.weights(shape, target, mask)
        return kept.astype(dtype, copy=False), (each / (total or 1.0)).astype(dtype, copy=False)

    def errors(self, y: Array, *inputs: Array) -> tuple[float, Array]:
        return self.kernel(y, *inputs, *self.options)

    def count(self, y: Array, target: Array, mask: Array | None = None) -> float:
        return self.weights(y.shape, target, mask)[2]

    def weights(self, shape: Shape, target: Array, mask: Array | None) -> tuple[Array, Array, float]:
        """Weights that broadcast to an output, the target with 0 where it does not count, and the sum of weights."""
        if target.shape != shape:
            raise InputError(f"targets have shape {target.shape}; expected {shape}, that of the output: reshape them.")
        each = site_weights(self.area, shape[:-1])[..., None]
        if mask is not None:
            each = each * _mask(mask, shape)
        finite = np.isfinite(target)
        if not finite.all():
            target, each = np.where(finite, target, 0), each * finite
        return each, target, float(each.sum()) * math.prod(shape) / each.size


def _mask(mask: Array, shape: tuple[int, ...]) -> Array:
    """A mask as weights that broadcast to a shape, finite and at least 0."""
    mask = np.asarray(mask, np.float64)
    if mask.ndim == len(shape) - 1:
        mask = mask[..., None]
    fits = mask.ndim == len(shape) and all(m in (1, n) for m, n in zip(mask.shape, shape, strict=True))
    if not fits or not (np.isfinite(mask) & (mask >= 0)).all():
        raise InputError(
            f"the mask has shape {mask.shape}; expected one that broadcasts to {shape}, with weights of at least 0: "
            "give 1 where an element counts and 0 where it does not."
        )
    return np.broadcast_to(mask, (*shape[:-1], mask.shape[-1]))


class MSELoss(_ElementLoss):
    """Mean squared error, e = (y - t)^2. Parameters as in `Loss`.

    Examples
    --------
    >>> MSELoss()(np.array([[3.0, 0.0]]), np.zeros((1, 2)))
    (4.5, array([[3., 0.]]))
    """


class L1Loss(_ElementLoss):
    r"""Mean absolute error, :math:`e = |y - t|`; its gradient is 0 where they are equal. Parameters as in `Loss`.

    Examples
    --------
    >>> L1Loss()(np.array([[3.0, 0.0]]), np.zeros((1, 2)))
    (1.5, array([[0.5, 0. ]]))
    """

    kernel = kernels.l1_loss


class HuberLoss(_ElementLoss):
    r"""Mean Huber error: :math:`d^2/2` for :math:`d = |y - t| \le \delta`, else :math:`\delta(d - \delta/2)`.

    Source: Huber, "Robust estimation of a location parameter", 1964.

    Parameters
    ----------
    delta : float
        Above 0.
    area : ndarray (P,), optional
        As in `Loss`.

    Examples
    --------
    >>> HuberLoss(delta=1.0)(np.array([[3.0, 0.5]]), np.zeros((1, 2)))
    (1.3125, array([[0.5 , 0.25]]))
    """

    kernel = kernels.huber_loss

    def __init__(self, delta: float = 1.0, area: Array | None = None):
        super().__init__(area)
        if not delta > 0:
            raise InputError(f"delta is {delta}; expected a number above 0: change it.")
        self.options = (delta,)


class BerHuLoss(_ElementLoss):
    r"""Reverse Huber: :math:`d = |y - t|` up to c, :math:`(d^2 + c^2) / (2c)` beyond; large errors count more.

    c is a share of the largest error of the batch; it is held constant in the gradient.

    Source: Laina et al., 3DV 2016, section 3.2, where c is a fifth of the largest error.

    Parameters
    ----------
    share : float
        c over the largest error, above 0 and at most 1.
    area : ndarray (P,), optional
        As in `Loss`.

    Examples
    --------
    >>> BerHuLoss()(np.array([[5.0, 0.5]]), np.zeros((1, 2)))
    (6.75, array([[2.5, 0.5]]))
    """

    def __init__(self, share: float = 0.2, area: Array | None = None):
        super().__init__(area)
        if not 0 < share <= 1:
            raise InputError(f"share is {share}; expected a number above 0 and at most 1: change it.")
        self.share = share

    def errors(self, y: Array, *inputs: Array) -> tuple[float, Array]:
        return kernels.berhu_loss(y, *inputs, kernels.berhu_threshold(y, *inputs, self.share))


class BCEWithLogitsLoss(_ElementLoss):
    r"""Mean binary cross-entropy of scores y and targets t in [0, 1].

    .. math:: e = -t \log \sigma(y) - (1 - t) \log(1 - \sigma(y))

    Parameters as in `Loss`.

    Examples
    --------
    >>> value, dy = BCEWithLogitsLoss()(np.zeros((1, 1)), np.ones((1, 1)))
    >>> round(value, 4), dy
    (0.6931, array([[-0.5]]))
    """

    kernel = kernels.binary_cross_entropy_with_logits


class InpaintLoss(Loss):
    r"""Reconstruction error over the whole picture, in which the holes weigh more.

    .. math:: L = \sum_i a_i w_i e_i \Big/ \sum_i a_i w_i,\qquad w_i = h \text{ in a hole and } v \text{ elsewhere}

    The target (N, H, W, C + 1) is the whole picture and, as last channel, the holes: above 0 in a hole.

    Source: Liu et al., ECCV 2018, section 3.3, with h = 6 and v = 1; they divide by the number of all pixels.

    Parameters
    ----------
    loss : {"l1", "mse", "huber"}
        The error e.
    hole, valid : float
        The weights h, above 0, and v, at least 0.
    area : ndarray (P,), optional
        As in `Loss`.

    Raises
    ------
    InputError
        If shapes do not fit or a setting is out of range.

    Examples
    --------
    >>> target = np.array([[[1.0, 1.0], [0.0, 0.0]]])  # a hole, then a pixel that is known
    >>> InpaintLoss()(np.zeros((1, 2, 1)), target)[0].__round__(4)
    0.8571
    """

    def __init__(self, loss: str = "l1", hole: float = 6.0, valid: float = 1.0, area: Array | None = None):
        super().__init__(area)
        check_choice("loss", loss, INPAINT_LOSSES)
        if not (hole > 0 and valid >= 0):
            raise InputError(
                f"hole is {hole} and valid is {valid}; expected a weight above 0 and one of at least 0: change them."
            )
        self.hole, self.valid = hole, valid
        self.error: _ElementLoss = INPAINT_ERRORS[loss](area=area)

    def inputs(self, shape: Shape, dtype: np.dtype, target: Array) -> tuple[Array, ...]:
        picture, holes = split_holes(shape, target)
        return self.error.inputs(shape, dtype, picture, self._weigh(holes))

    def errors(self, y: Array, *inputs: Array) -> tuple[float, Array]:
        return self.error.errors(y, *inputs)

    def count(self, y: Array, target: Array) -> float:
        picture, holes = split_holes(y.shape, target)
        return self.error.count(y, picture, self._weigh(holes))

    def _weigh(self, holes: Array) -> Array:
        return np.where(holes, self.hole, self.valid)


def split_holes(shape: Shape, target: Array) -> tuple[Array, Array]:
    """Part an inpainting target for an output of this shape: the picture, and the holes (..., 1) bool."""
    if target.shape != (*shape[:-1], shape[-1] + 1):
        raise InputError(
            f"targets have shape {target.shape} for outputs {shape}; expected one channel more, the holes: "
            "give the picture and its mask side by side."
        )
    return np.ascontiguousarray(target[..., :-1]), target[..., -1:] > 0


INPAINT_ERRORS: dict[str, type[_ElementLoss]] = {"l1": L1Loss, "mse": MSELoss, "huber": HuberLoss}
INPAINT_LOSSES = tuple(INPAINT_ERRORS)
LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropyLoss,
    "mse": MSELoss,
    "l1": L1Loss,
    "huber": HuberLoss,
    "berhu": BerHuLoss,
    "bce": BCEWithLogitsLoss,
}
