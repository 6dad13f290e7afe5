"""CUDA bodies of `kernels.loss`. Sums are arrays without axes: nothing here waits for the GPU.

A label that is no class cannot be refused without waiting: it makes the sums NaN, and the gradient of its site too, so
that nothing is trained by it unseen. `training.losses` looks at labels while they are on the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels import arrays, loss
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu import elementary
from spherecnn.kernels.gpu.array import DeviceArray, empty, to_device
from spherecnn.kernels.gpu.elements import SPAN, THREADS, check_float32, check_size, divider, quotient, vectors
from spherecnn.kernels.gpu.intrinsics import divide, ld1, load4_nc, st1, store4
from spherecnn.kernels.gpu.launch import gpu_kernel
from spherecnn.kernels.gpu.reduce import (
    Parts,
    block_max,
    block_sum,
    dense,
    greater,
    sum_blocks,
)
from spherecnn.kernels.op import Op

Array = DeviceArray
MOVES = ("LDG.E.128", "STG.E.128")
ONE, SHARED, SIDE_BY_SIDE, MIXED = range(4)  # weights: none; one for four neighbours; four in a row; any
WEIGHTS = "f4* i4 u4 i4 i4 u4 i4"


class Weights(NamedTuple):
    """Weights as kernels take them, see `weights_at`; element i has number ``(i // inner) % period``."""

    array: Any
    mode: int
    inner: int
    inner_shift: int
    period: int
    per: int
    per_shift: int


def weights_for(name: str, weight: Array | None, shape: tuple[int, ...]) -> Weights:
    """The weights of the elements of a shape, repeated on the GPU first if they do not repeat evenly."""
    if weight is None:
        return Weights(0, ONE, 1, 0, 1, 1, 0)
    if weight.dtype != np.float32:
        raise InputError(f"{name} was given weights of {weight.dtype} on the GPU; expected float32: convert them.")
    inner, period, plain = dense(shape, weight)
    if not plain:
        weight = weight.reshape((1,) * (len(shape) - weight.ndim) + weight.shape)
        for axis, size in enumerate(shape):
            weight = weight if weight.shape[axis] == size else arrays.repeat(weight, size, axis)
        inner, period = 1, weight.size
    mode = MIXED
    if period == 1 or inner % 4 == 0:
        mode = SHARED
    elif inner == 1 and period % 4 == 0 and weight.address % 16 == 0:
        mode = SIDE_BY_SIDE
    return Weights(weight, mode, *divider(inner), period, *divider(period))


@device_function
def weight_at(weight, mode, inner, inner_shift, period, per, per_shift, i):
    """The weight of element i."""
    if mode == ONE:
        return float32(1)
    q = quotient(i, inner, inner_shift)
    return ld1(weight, int32(q - quotient(q, per, per_shift) * period))


@device_function
def weights_at(weight, mode, inner, inner_shift, period, per, per_shift, i):
    """The weights of elements i to i + 3, where i is a multiple of 4."""
    if mode == SIDE_BY_SIDE:
        return load4_nc(weight, int32(i - quotient(i, per, per_shift) * period))
    a = weight_at(weight, mode, inner, inner_shift, period, per, per_shift, i)
    if mode != MIXED:
        return a, a, a, a
    b = weight_at(weight, mode, inner, inner_shift, period, per, per_shift, int32(i + 1))
    c = weight_at(weight, mode, inner, inner_shift, period, per, per_shift, int32(i + 2))
    d = weight_at(weight, mode, inner, inner_shift, period, per, per_shift, int32(i + 3))
    return a, b, c, d


def per_element(operation: Op, held: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the scalar function f(x, target, parameter) -> (loss, df/dx) as the CUDA body of `operation`.

    With `held` the parameter is read from memory: an earlier kernel may have computed it.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        scalar = device_function(function)
        kinds = f"f4* f4* f4{'*' if held else ''} f4* f4* i4 i4 {WEIGHTS}"

        @gpu_kernel(kinds, threads=THREADS, blocks=4, constants=(operation.name,), claims=MOVES, budget=1200)
        def loss_of(x, target, parameter, dx, sums, count, vectors, weight, mode, mi, si, period, mp, sp):
            number = ld1(parameter, int32(0)) if held else parameter
            total = float32(0)
            v = int32(cuda.blockIdx.x * SPAN + cuda.threadIdx.x)
            while 4 * v < count:
                w = int32(v + THREADS)
                if w < vectors:
                    a, b = load4_nc(x, int32(4 * v)), load4_nc(x, int32(4 * w))
                    p, q = load4_nc(target, int32(4 * v)), load4_nc(target, int32(4 * w))
                    r = weights_at(weight, mode, mi, si, period, mp, sp, int32(4 * v))
                    s = weights_at(weight, mode, mi, si, period, mp, sp, int32(4 * w))
                    l0, d0 = scalar(a[0], p[0], number)
                    l1, d1 = scalar(a[1], p[1], number)
                    l2, d2 = scalar(a[2], p[2], number)
                    l3, d3 = scalar(a[3], p[3], number)
                    store4(dx, int32(4 * v), r[0] * d0, r[1] * d1, r[2] * d2, r[3] * d3)
                    total += (r[0] * l0 + r[1] * l1) + (r[2] * l2 + r[3] * l3)
                    l0, d0 = scalar(b[0], q[0], number)
                    l1, d1 = scalar(b[1], q[1], number)
                    l2, d2 = scalar(b[2], q[2], number)
                    l3, d3 = scalar(b[3], q[3], number)
                    store4(dx, int32(4 * w), s[0] * d0, s[1] * d1, s[2] * d2, s[3] * d3)
                    total += (s[0] * l0 + s[1] * l1) + (s[2] * l2 + s[3] * l3)
                else:
                    for half in range(2):
                        i = int32(4 * v if half == 0 else 4 * w)
                        end = min(int32(i + 4), count)
                        while i < end:
                            c = weight_at(weight, mode, mi, si, period, mp, sp, i)
                            l0, d0 = scalar(ld1(x, i), ld1(target, i), number)
                            st1(dx, i, c * d0)
                            total += c * l0
                            i = int32(i + 1)
                v = int32(v + cuda.gridDim.x * SPAN)
            total = block_sum(total)
            if cuda.threadIdx.x == 0:
                st1(sums, int32(cuda.blockIdx.x), total)

        @operation.on("cuda")
        def body(x: Array, target: Array, weight: Array | None = None, parameter: Any = 1.0) -> tuple[Any, Array]:
            check_float32(operation.name, x, target)
            check_size(operation.name, x)
            given = weights_for(operation.name, weight, x.shape)
            number = parameter if isinstance(parameter, DeviceArray) or not held else to_device(np.float32(parameter))
            dx, sums = empty(x.shape, x.dtype), Parts(sum_blocks(x.size))
            whole = vectors(x.size, x, target, dx)
            loss_of(sums.blocks, x, target, number, dx, sums.array, x.size, whole, *given)
            return sums.totals()[0], dx

        return function

    return register


@device_function
def sign(x):
    """-1, 0 or 1; NaN of NaN."""
    return float32(1) if x > float32(0) else (float32(-1) if x < float32(0) else x)


@per_element(loss.mse_loss)
def _mse(x, target, _):
    off = x - target
    return off * off, off + off


@per_element(loss.l1_loss)
def _l1(x, target, _):
    off = x - target
    return abs(off), sign(off)


@per_element(loss.huber_loss)
def _huber(x, target, delta):
    off = x - target
    inside = -delta if off < -delta else off
    inside = delta if inside > delta else inside
    return inside * (off - float32(0.5) * inside), inside


@per_element(loss.berhu_loss, held=True)
def _berhu(x, target, threshold):
    off = x - target
    size = abs(off)
    ratio = divide(off, threshold)
    beyond = size > threshold
    return (
        float32(0.5) * (off * ratio + threshold) if beyond else size,
        ratio if beyond else sign(off),
    )


@per_element(loss.binary_cross_entropy_with_logits)
def _binary_cross_entropy(x, target, pos_weight):
    positive, negative = pos_weight * target, float32(1) - target
    small = elementary.exp(-abs(x))
    rest = math.log1p(small)
    likely = divide(float32(1), float32(1) + small)
    unlikely = small * likely
    up, down = (likely, unlikely) if x > float32(0) else (unlikely, likely)
    above = x if x > float32(0) else float32(0)
    below = -x if x < float32(0) else float32(0)
    value = positive * (rest + below) + negative * (rest + above)
    return value, negative * up - positive * down


# --- the threshold of BerHu --------------------------------------------------------------------------------------


@gpu_kernel(f"f4* f4* f4* i4 {WEIGHTS}", threads=THREADS)
def largest_error(x, target, tops, count, weight, mode, mi, si, period, mp, sp):
    """The largest |x - target| of each block."""
    top = float32(0)
    i = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    while i < count:
        if weight_at(weight, mode, mi, si, period, mp, sp, i) > float32(0):
            top = greater(top, abs(ld1(x, i) - ld1(target, i)))
        i = int32(i + cuda.gridDim.x * THREADS)
    top = block_max(top)
    if cuda.threadIdx.x == 0:
        st1(tops, int32(cuda.blockIdx.x), top)


@gpu_kernel("f4* f4 f4* i4", threads=THREADS)
def share_of_largest(tops, share, threshold, count):
    top = float32(0)
    i = int32(cuda.threadIdx.x)
    while i < count:
        top = greater(top, ld1(tops, i))
        i = int32(i + THREADS)
    top = share * block_max(top)
    if cuda.threadIdx.x == 0:
        st1(threshold, int32(0), float32(1) if top == float32(0) else top)


@loss.berhu_threshold.on("cuda")
def _berhu_threshold(x: Array, target: Array, weight: Array | None = None, share: float = 0.2) -> Array:
    check_float32("berhu_threshold", x, target)
    check_size("berhu_threshold", x)
    given = weights_for("berhu_threshold", weight, x.shape)
    tops, threshold = empty((sum_blocks(x.size),), x.dtype), empty((), x.dtype)
    largest_error(tops.size, x, target, tops, x.size, *given)
    share_of_largest(1, tops, float(share), threshold, tops.size)
    return threshold
