"""Losses: one pass gives the weighted sum of the losses, a float, and its gradient.

Sums run in float64 over a fixed number of elements, then over these partial sums in order. Divide the weights
by their sum beforehand to get a weighted mean with its gradient. On the GPU a sum is an array without axes: nothing
waits for it until ``float(...)`` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange
from scipy import special

from spherecnn.errors import InputError
from spherecnn.kernels import elementary
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import Op, op
from spherecnn.kernels.pointwise import CHUNK, flat, rows

Array = np.ndarray
Loss = tuple[float, Array]


def per_element(operation: Op) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated scalar function f(x, target, parameter) -> (loss, df/dx) as a CPU body."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        scalar = elementary.inlined(function)

        @kernel(reassociate=True)
        def run(x, target, weight, parameter, dx):
            sums = np.zeros((x.size + CHUNK - 1) // CHUNK)
            for k in prange(len(sums)):
                span = slice(k * CHUNK, (k + 1) * CHUNK)
                xs = x[span]
                targets = target[span]
                dxs = dx[span]
                weights = weight[span] if weight.size > 1 else weight
                step = 1 if weight.size > 1 else 0
                total = 0.0
                for i in range(xs.size):
                    loss, slope = scalar(xs[i], targets[i], parameter)
                    total += weights[i * step] * loss
                    dxs[i] = weights[i * step] * slope
                sums[k] = total
            return sums

        @operation.on("cpu")
        def body(x: Array, target: Array, weight: Array | None = None, parameter: float = 1.0) -> Loss:
            dx = empty(x.shape, x.dtype)
            each = np.ones(1, x.dtype) if weight is None else _spread(weight, x)
            sums = run(flat(x), flat(target.astype(x.dtype, copy=False)), each, x.dtype.type(parameter), flat(dx))
            return float(sums.sum()), dx

        return function

    return register


def _spread(weight: Array, x: Array) -> Array:
    """Weights of every element of x, in the dtype of x; one element where they are all the same number."""
    if weight.size == 1:
        return weight.astype(x.dtype).reshape(1)
    return flat(np.broadcast_to(weight.astype(x.dtype, copy=False), x.shape))


def _weighted(loss: Array, slope: Array, weight: Array | None, x: Array) -> Loss:
    w = np.ones(1) if weight is None else weight
    return float((w * loss).sum(dtype=np.float64)), (w * slope).astype(x.dtype)


@op
def mse_loss(x: Array, target: Array, weight: Array | None = None) -> Loss:
    """Squared error (x - target)^2. `weight` broadcasts to the shape of x."""
    return _weighted((x - target) ** 2, 2 * (x - target), weight, x)


@per_element(mse_loss)
def _mse(x, target, _):
    off = x - target
    return off * off, off + off


@op
def l1_loss(x: Array, target: Array, weight: Array | None = None) -> Loss:
    """Absolute error |x - target|, of slope 0 where they are equal. `weight` broadcasts to the shape of x."""
    return _weighted(np.abs(x - target), np.sign(x - target), weight, x)


@per_element(l1_loss)
def _l1(x, target, _):
    off = x - target
    return abs(off), np.sign(off)


@op
def huber_loss(x: Array, target: Array, weight: Array | None = None, delta: float = 1.0, /) -> Loss:
    """d^2 / 2 for d = |x - target| up to delta, delta (d - delta / 2) beyond. `weight` broadcasts to x.

    Source: Huber, "Robust estimation of a location parameter", 1964.
    """
    off = x - target
    inside = np.clip(off, -delta, delta)
    return _weighted(inside * (off - inside / 2), inside, weight, x)


@per_element(huber_loss)
def _huber(x, target, delta):
    off = x - target
    inside = -delta if off < -delta else off
    inside = delta if inside > delta else inside
    return inside * (off - inside / 2), inside


@op
def berhu_threshold(x: Array, target: Array, weight: Array | None = None, share: float = 0.2) -> float:
    """`share` of the largest |x - target| whose weight is above 0; 1 if that is 0. `weight` broadcasts to x.

    Examples
    --------
    >>> berhu_threshold(np.array([1.0, 5.0, 9.0]), np.zeros(3), np.array([1.0, 1.0, 0.0]))
    1.0
    """
    counts = True if weight is None else np.broadcast_to(weight > 0, x.shape)
    return share * float(np.max(np.abs(x - target), initial=0.0, where=counts)) or 1.0


berhu_threshold.on("cpu")(berhu_threshold.definition)


@op
def berhu_loss(x: Array, target: Array, weight: Array | None = None, threshold: float = 1.0, /) -> Loss:
    """d = |x - target| up to the threshold c, (d^2 + c^2) / (2 c) beyond. `weight` broadcasts to the shape of x.

    The threshold is a number, or on the GPU what `berhu_threshold` returns there.

    Source: Laina et al., "Deeper depth prediction with fully convolutional residual networks", 3DV 2016, section 3.2.
    """
    off = x - target
    size = np.abs(off)
    beyond = size > threshold
    loss = np.where(beyond, (off**2 + threshold**2) / (2 * threshold), size)
    return _weighted(loss, np.where(beyond, off / threshold, np.sign(off)), weight, x)


@per_element(berhu_loss)
def _berhu(x, target, threshold):
    off = x - target
    beyond = abs(off) > threshold
    half = threshold + threshold
    return ((off * off + threshold * threshold) / half, off / threshold) if beyond else (abs(off), np.sign(off))


@op
def binary_cross_entropy_with_logits(
    x: Array, target: Array, weight: Array | None = None, pos_weight: float = 1.0, /
) -> Loss:
    """-(pos_weight t log s(x) + (1 - t) log(1 - s(x))), s the sigmoid, t the target.

    `weight` broadcasts to the shape of x.
    """
    positive, negative = pos_weight * target, 1 - target
    loss = positive * np.logaddexp(0, -x) + negative * np.logaddexp(0, x)
    return _weighted(loss, negative * special.expit(x) - positive * special.expit(-x), weight, x)


@per_element(binary_cross_entropy_with_logits)
def _binary_cross_entropy(x, target, pos_weight):
    positive, negative = pos_weight * target, 1.0 - target
    small = elementary.exp(-abs(x))
    rest = math.log1p(small)
    likely, unlikely = 1.0 / (1.0 + small), small / (1.0 + small)
    up, down = (likely, unlikely) if x > 0 else (unlikely, likely)
    loss = positive * (rest + max(-x, 0.0)) + negative * (rest + max(x, 0.0))
    return loss, negative * up - positive * down


@op
def cross_entropy(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    class_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[float, float, Array]:
    """Softmax cross-entropy of each site, weighted and summed.

    With p = softmax(logits), v the class weights, w the weight and k the label of a site, s the smoothing,
    a site contributes w ((1 - s) v_k (-log p_k) + s / K sum_j v_j (-log p_j)).

    Parameters
    ----------
    logits : ndarray (..., K)
    labels : ndarray (...) of int
        Classes 0 to K - 1; a site labelled `ignore_index` counts for nothing.
    weight : ndarray, optional
        Weights of the sites; broadcasts to the shape of `labels`.
    class_weight : ndarray (K,), optional
    ignore_index : int
    label_smoothing : float

    Returns
    -------
    total : float
        Sum over sites.
    normaliser : float
        Sum of w v_k over the sites that count: total / normaliser is the weighted mean, as in PyTorch.
    dlogits : ndarray (..., K)
        Gradient of `total`.

    Raises
    ------
    InputError
        If a label is not a class. On the GPU, where a look would wait, both sums and the gradient of that site are
        NaN instead.
    """
    classes = logits.shape[-1]
    counts = labels != ignore_index
    if not np.isin(labels[counts], np.arange(classes)).all():
        raise unknown_label(classes, ignore_index)
    v = np.ones(classes) if class_weight is None else class_weight
    w = np.broadcast_to(1 if weight is None else weight, labels.shape) * counts
    target = np.eye(classes)[np.where(counts, labels, 0)]
    share = ((1 - label_smoothing) * target + label_smoothing / classes) * v * w[..., None]
    log_p = special.log_softmax(logits.astype(np.float64), axis=-1)
    total = -np.multiply(share, log_p, where=share != 0, out=np.zeros_like(log_p)).sum()
    dlogits = share.sum(axis=-1, keepdims=True) * special.softmax(logits, axis=-1) - share
    return float(total), float((w * (target @ v)).sum()), dlogits.astype(logits.dtype)


@cross_entropy.on("cpu")
def _cross_entropy(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    class_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[float, float, Array]:
    classes = logits.shape[-1]
    sites = np.empty(labels.shape)
    sites[...] = 1 if weight is None else weight
    sites = flat(sites)
    v = np.ones(classes) if class_weight is None else np.asarray(class_weight, np.float64)
    dlogits = empty(logits.shape, logits.dtype)
    sums = _cross_entropy_rows(
        rows(logits),
        flat(labels).astype(np.int64, copy=False),
        sites,
        v,
        ignore_index,
        float(label_smoothing),
        max(1, CHUNK // classes),
        rows(dlogits),
    )
    total, normaliser, unknown = sums.sum(axis=0)
    if unknown:
        raise unknown_label(classes, ignore_index)
    return float(total), float(normaliser), dlogits


def unknown_label(classes: int, ignore_index: int) -> InputError:
    """What to say of labels that are no class."""
    return InputError(
        f"the labels hold values outside 0 to {classes - 1}; expected classes of these logits, or "
        f"{ignore_index} to ignore a site: relabel them or widen the last layer."
    )


@kernel(reassociate=True)
def _cross_entropy_rows(logits, labels, weight, class_weight, ignore_index, smoothing, per_chunk, dlogits):
    """Write dlogits; return per chunk the loss, the sum of weights and the number of unknown labels."""
    count, classes = logits.shape
    sums = np.zeros(((count + per_chunk - 1) // per_chunk, 3))
    every = smoothing / classes
    whole = every * class_weight.sum()
    for k in prange(len(sums)):
        own = sums[k]
        for r in range(k * per_chunk, min((k + 1) * per_chunk, count)):
            # Not in one tuple assignment: Numba then loses that dxs is a view, and drops writes to it as dead.
            dxs = dlogits[r]
            xs = logits[r]
            label = labels[r]
            w = weight[r]
            if label == ignore_index or label < 0 or label >= classes:
                own[2] += label != ignore_index
                dxs[:] = 0
                continue
            top = xs.max()
            total = smooth = 0.0
            for j in range(classes):
                grown = elementary.exp(xs[j] - top)
                dxs[j] = grown
                total += grown
                if smoothing > 0:
                    smooth += class_weight[j] * (top - xs[j])
            log_total = math.log(total)
            main = (1.0 - smoothing) * class_weight[label]
            own[0] += w * (main * (log_total + top - xs[label]) + every * smooth + whole * log_total)
            own[1] += w * class_weight[label]
            scale = w * (main + whole) / total
            for j in range(classes):
                dxs[j] = dxs[j] * scale - w * every * class_weight[j]
            dxs[label] -= w * main
    return sums
