"""CUDA bodies of `kernels.pointwise`.

As on the CPU a function of one element is written once, as scalar code; `unary` and `binary` make the kernel of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels import pointwise
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu import elementary
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import (
    SPAN,
    THREADS,
    blocks,
    check_float32,
    first_rest,
    next_rest,
    parts,
    vectors,
)
from spherecnn.kernels.gpu.intrinsics import ld1, load4_nc, st1, store4
from spherecnn.kernels.gpu.launch import gpu_kernel
from spherecnn.kernels.op import Op

Array = DeviceArray
MOVES = ("LDG.E.128", "STG.E.128")
BUDGET = 700  # instructions; one call of a scalar function takes 40 of them at most


def unary(operation: Op) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated scalar function f(x, parameter) as the CUDA body of `operation`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        scalar = device_function(function)

        @gpu_kernel("f4* f4 f4* i4 i4", threads=THREADS, constants=(operation.name,), claims=MOVES, budget=BUDGET)
        def pointwise(x, parameter, y, count, vectors):
            v = int32(cuda.blockIdx.x * SPAN + cuda.threadIdx.x)
            w = int32(v + THREADS)
            if w < vectors:
                a, b = load4_nc(x, int32(4 * v)), load4_nc(x, int32(4 * w))
                f0, f1 = scalar(a[0], parameter), scalar(a[1], parameter)
                f2, f3 = scalar(a[2], parameter), scalar(a[3], parameter)
                g0, g1 = scalar(b[0], parameter), scalar(b[1], parameter)
                g2, g3 = scalar(b[2], parameter), scalar(b[3], parameter)
                store4(y, int32(4 * v), f0, f1, f2, f3)
                store4(y, int32(4 * w), g0, g1, g2, g3)
            elif v < vectors:
                a = load4_nc(x, int32(4 * v))
                f0, f1 = scalar(a[0], parameter), scalar(a[1], parameter)
                f2, f3 = scalar(a[2], parameter), scalar(a[3], parameter)
                store4(y, int32(4 * v), f0, f1, f2, f3)
            i = first_rest(vectors)
            while i < count:
                st1(y, i, scalar(ld1(x, i), parameter))
                i = next_rest(i)

        @operation.on("cuda")
        def body(x: Array, parameter: float = 0.0) -> Array:
            check_float32(operation.name, x)
            y = empty(x.shape, x.dtype)
            for xs, ys in parts(x, y):
                pointwise(blocks(ys.size), xs, float(parameter), ys, ys.size, vectors(ys.size, xs, ys))
            return y

        return function

    return register


def binary(operation: Op) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated scalar function f(a, b, parameter) as the CUDA body of `operation`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        scalar = device_function(function)

        @gpu_kernel("f4* f4* f4 f4* i4 i4", threads=THREADS, constants=(operation.name,), claims=MOVES, budget=BUDGET)
        def pointwise(a, b, parameter, y, count, vectors):
            v = int32(cuda.blockIdx.x * SPAN + cuda.threadIdx.x)
            w = int32(v + THREADS)
            if w < vectors:
                p, q = load4_nc(a, int32(4 * v)), load4_nc(b, int32(4 * v))
                r, s = load4_nc(a, int32(4 * w)), load4_nc(b, int32(4 * w))
                f0, f1 = scalar(p[0], q[0], parameter), scalar(p[1], q[1], parameter)
                f2, f3 = scalar(p[2], q[2], parameter), scalar(p[3], q[3], parameter)
                g0, g1 = scalar(r[0], s[0], parameter), scalar(r[1], s[1], parameter)
                g2, g3 = scalar(r[2], s[2], parameter), scalar(r[3], s[3], parameter)
                store4(y, int32(4 * v), f0, f1, f2, f3)
                store4(y, int32(4 * w), g0, g1, g2, g3)
            elif v < vectors:
                p, q = load4_nc(a, int32(4 * v)), load4_nc(b, int32(4 * v))
                f0, f1 = scalar(p[0], q[0], parameter), scalar(p[1], q[1], parameter)
                f2, f3 = scalar(p[2], q[2], parameter), scalar(p[3], q[3], parameter)
                store4(y, int32(4 * v), f0, f1, f2, f3)
            i = first_rest(vectors)
            while i < count:
                st1(y, i, scalar(ld1(a, i), ld1(b, i), parameter))
                i = next_rest(i)

        @operation.on("cuda")
        def body(a: Array, b: Array, parameter: float = 0.0) -> Array:
            check_float32(operation.name, a, b)
            y = empty(a.shape, a.dtype)
            for aa, bb, ys in parts(a, b, y):
                pointwise(blocks(ys.size), aa, bb, float(parameter), ys, ys.size, vectors(ys.size, aa, bb, ys))
            return y

        return function

    return register


@binary(pointwise.add)
def _add(a, b, _):
    return a + b


@unary(pointwise.relu)
def _relu(x, _):
    return float32(0) if x <= float32(0) else x


@binary(pointwise.relu_grad)
def _relu_grad(dy, y, _):
    return float32(0) if y <= float32(0) else dy


@unary(pointwise.leaky_relu)
def _leaky_relu(x, negative_slope):
    return x if x > float32(0) else x * negative_slope


@binary(pointwise.leaky_relu_grad)
def _leaky_relu_grad(dy, x, negative_slope):
    return dy if x > float32(0) else dy * negative_slope


@unary(pointwise.elu)
def _elu(x, alpha):
    return x if x > float32(0) else alpha * elementary.expm1(x)


@binary(pointwise.elu_grad)
def _elu_grad(dy, x, alpha):
    return dy if x > float32(0) else dy * alpha * elementary.exp(x)


@unary(pointwise.gelu)
def _gelu(x, _):
    below, _density = elementary.normal_pair(x)
    return x * below


@binary(pointwise.gelu_grad)
def _gelu_grad(dy, x, _):
    below, density = elementary.normal_pair(x)
    return dy * (below + x * density)


SCALE_2, CUBIC = np.float32(2 * pointwise.GELU_SCALE), np.float32(pointwise.GELU_CUBIC)


@unary(pointwise.gelu_tanh)
def _gelu_tanh(x, _):
    # (1 + tanh u) / 2 = sigmoid(2 u)
    return x * elementary.sigmoid(SCALE_2 * (x + CUBIC * x * x * x))


@binary(pointwise.gelu_tanh_grad)
def _gelu_tanh_grad(dy, x, _):
    cubic = CUBIC * x * x
    value, slope = elementary.logistic_pair(SCALE_2 * (x + cubic * x))
    return dy * (value + x * slope * (SCALE_2 * (float32(1) + cubic + cubic + cubic)))


@unary(pointwise.sigmoid)
def _sigmoid(x, _):
    return elementary.sigmoid(x)


@binary(pointwise.sigmoid_grad)
def _sigmoid_grad(dy, y, _):
    return dy * y * (float32(1) - y)


@unary(pointwise.tanh)
def _tanh(x, _):
    return elementary.tanh(x)


@binary(pointwise.tanh_grad)
def _tanh_grad(dy, y, _):
    return dy * (float32(1) - y * y)


@device_function
def _kept(x, keep, scale):
    """x times scale, or times 0: a NaN stays one."""
    return x * (scale if keep else float32(0))


@gpu_kernel("f4* i4* u1* f4 f4* i4 i4", threads=THREADS, claims=MOVES, budget=130)
def dropout(x, words, keep, scale, y, count, vectors):
    v = int32(cuda.blockIdx.x * SPAN + cuda.threadIdx.x)
    w = int32(v + THREADS)
    if w < vectors:
        a, b = load4_nc(x, int32(4 * v)), load4_nc(x, int32(4 * w))
        m, n = ld1(words, v), ld1(words, w)
        _store_kept(y, int32(4 * v), a, m, scale)
        _store_kept(y, int32(4 * w), b, n, scale)
    elif v < vectors:
        _store_kept(y, int32(4 * v), load4_nc(x, int32(4 * v)), ld1(words, v), scale)
    i = first_rest(vectors)
    while i < count:
        st1(y, i, _kept(ld1(x, i), ld1(keep, i), scale))
        i = next_rest(i)


@device_function
def _store_kept(y, at, a, mask, scale):
    """Four elements and the four bytes of their mask."""
    f0, f1 = _kept(a[0], mask & 0xFF, scale), _kept(a[1], mask & 0xFF00, scale)
    f2, f3 = _kept(a[2], mask & 0xFF0000, scale), _kept(a[3], (mask >> 24) & 0xFF, scale)
    store4(y, at, f0, f1, f2, f3)


@pointwise.dropout.on("cuda")
def _dropout(x: Array, keep: Array, scale: float, /) -> Array:
    check_float32("dropout", x)
    if keep.shape != x.shape or keep.dtype != np.bool_:
        raise InputError(
            f"dropout was given a mask of shape {keep.shape} and dtype {keep.dtype}; expected booleans of {x.shape}."
        )
    y = empty(x.shape, x.dtype)
    for xs, kept, ys in parts(x, keep, y):
        moves = vectors(ys.size, xs, kept, ys)
        words = DeviceArray(kept.memory, kept.offset, (moves,), np.dtype(np.int32))
        dropout(blocks(ys.size), xs, words, kept, float(scale), ys, ys.size, moves)
    return y
