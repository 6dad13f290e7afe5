"""Losses: callable objects that return the mean over what counts and its gradient, in one pass."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.kernels import loss as kernels
from spherecnn.layers.base import Array
from spherecnn.training.metrics import site_weights


class Loss:
    r"""A mean of the errors e of the elements, weighted by the area a of their sites, and its gradient.

    .. math:: L = \sum_i a_i e_i \Big/ \sum_i a_i

    Parameters
    ----------
    area : ndarray (P,), optional
        Weight of each site, usually ``grid.area`` in steradians, for outputs (N, H, W, K) or (N, P, K).
        Without it every site weighs the same.
    """

    def __init__(self, area: Array | None = None):
        self.area = None if area is None else np.ravel(area).astype(np.float64)

    def __call__(self, y: Array, target: Array) -> tuple[float, Array]:
        """Return the mean loss of an output y and the gradient dy, of the shape and dtype of y."""
        raise NotImplementedError

    def count(self, y: Array, target: Array) -> float:
        """Return the sum of the weights: how much this mean weighs in a mean over batches."""
        raise NotImplementedError


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
        total = self.count(y, target)
        sites = site_weights(self.area, target.shape) / (total or 1.0)
        value, _, dy = kernels.cross_entropy(y, target, sites, self.weight, self.ignore_index, self.label_smoothing)
        return value, dy

    def count(self, y: Array, target: Array) -> float:
        if target.shape != y.shape[:-1] or target.dtype.kind not in "iu":
            raise InputError(
                f"targets have shape {target.shape} and dtype {target.dtype} for scores {y.shape}; "
                f"expected class numbers of shape {y.shape[:-1]}, integers: convert them."
            )
        if self.weight is not None and self.weight.shape != y.shape[-1:]:
            raise InputError(f"weight has shape {self.weight.shape}; expected {y.shape[-1:]}: give one number a class.")
        counted = np.asarray(target != self.ignore_index, np.float64)
        if self.weight is not None:
            counted *= self.weight.take(target, mode="clip")
        return float((counted * site_weights(self.area, target.shape)).sum())


class _ElementLoss(Loss):
    """The mean of an error of each element of y and a target of the same shape.

    Elements whose target is NaN or infinite are missing: they do not count and get no gradient. `mask`, which
    broadcasts to y, weighs the elements further; 0 leaves one out. Where nothing counts, loss and gradient are 0.
    """

    kernel = kernels.mse_loss
    options: tuple[float, ...] = ()

    def __call__(self, y: Array, target: Array, mask: Array | None = None) -> tuple[float, Array]:
        each, kept, total = self.weights(y, target, mask)
        return self.kernel(y, kept, each / (total or 1.0), *self.options_of(y, kept, each))

    def count(self, y: Array, target: Array, mask: Array | None = None) -> float:
        return self.weights(y, target, mask)[2]

    def options_of(self, y: Array, target: Array, each: Array) -> tuple[float, ...]:
        """Further arguments of the kernel for this batch."""
        return self.options

    def weights(self, y: Array, target: Array, mask: Array | None) -> tuple[Array, Array, float]:
        """Weights that broadcast to y, the target with 0 where it does not count, and the sum of the weights."""
        if target.shape != y.shape:
            raise InputError(
                f"targets have shape {target.shape}; expected {y.shape}, that of the output: reshape them."
            )
        each = site_weights(self.area, y.shape[:-1])[..., None]
        if mask is not None:
            each = each * _mask(mask, y.shape)
        finite = np.isfinite(target)
        if not finite.all():
            target, each = np.where(finite, target, 0), each * finite
        return each, target, float(each.sum()) * y.size / each.size


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

    kernel = kernels.berhu_loss

    def __init__(self, share: float = 0.2, area: Array | None = None):
        super().__init__(area)
        if not 0 < share <= 1:
            raise InputError(f"share is {share}; expected a number above 0 and at most 1: change it.")
        self.share = share

    def options_of(self, y: Array, target: Array, each: Array) -> tuple[float, ...]:
        largest = float(np.max(np.abs(y - target), initial=0.0, where=np.broadcast_to(each > 0, y.shape)))
        return (self.share * largest or 1.0,)


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
        self.error = LOSSES[loss](area=area)

    def __call__(self, y: Array, target: Array) -> tuple[float, Array]:
        picture, holes = split_holes(y, target)
        return self.error(y, picture, self._weigh(holes))  # type: ignore[call-arg]

    def count(self, y: Array, target: Array) -> float:
        picture, holes = split_holes(y, target)
        return self.error.count(y, picture, self._weigh(holes))  # type: ignore[call-arg]

    def _weigh(self, holes: Array) -> Array:
        return np.where(holes, self.hole, self.valid)


def split_holes(y: Array, target: Array) -> tuple[Array, Array]:
    """Part an inpainting target for the output y: the picture, of the shape of y, and the holes (..., 1) bool."""
    if target.shape != (*y.shape[:-1], y.shape[-1] + 1):
        raise InputError(
            f"targets have shape {target.shape} for outputs {y.shape}; expected one channel more, the holes: "
            "give the picture and its mask side by side."
        )
    return np.ascontiguousarray(target[..., :-1]), target[..., -1:] > 0


INPAINT_LOSSES = ("l1", "mse", "huber")
LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropyLoss,
    "mse": MSELoss,
    "l1": L1Loss,
    "huber": HuberLoss,
    "berhu": BerHuLoss,
    "bce": BCEWithLogitsLoss,
}
