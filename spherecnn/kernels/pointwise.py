"""Functions of each element, the dropout mask and softmax, each with its gradient.

A function of one element is written once more as scalar code beside its op; `unary` and `binary` make the
parallel kernel of it. A gradient op takes dy and what its formula needs, the input x or the output y.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import prange
from scipy import special

from spherecnn.kernels import elementary
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import Op, op

Array = np.ndarray
# Elements of one task: fixed, so that vector tails fall in the same places on any thread count.
CHUNK = 1 << 14
ROOT_2_PI = math.sqrt(2 * math.pi)
GELU_SCALE, GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715
gelu_scale, gelu_cubic = elementary.constant(GELU_SCALE), elementary.constant(GELU_CUBIC)


def unary(operation: Op) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated scalar function f(x, parameter) as the CPU body of `operation`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        scalar = elementary.inlined(function)

        @kernel()
        def run(x, parameter, y):
            for k in prange((x.size + CHUNK - 1) // CHUNK):
                xs = x[k * CHUNK : (k + 1) * CHUNK]
                ys = y[k * CHUNK : (k + 1) * CHUNK]
                for i in range(xs.size):
                    ys[i] = scalar(xs[i], parameter)

        @operation.on("cpu")
        def body(x: Array, parameter: float = 0.0) -> Array:
            y = empty(x.shape, x.dtype)
            run(flat(x), x.dtype.type(parameter), flat(y))
            return y

        return function

    return register


def binary(operation: Op) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated scalar function f(a, b, parameter) as the CPU body of `operation`."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        scalar = elementary.inlined(function)

        @kernel()
        def run(a, b, parameter, y):
            for k in prange((y.size + CHUNK - 1) // CHUNK):
                span = slice(k * CHUNK, (k + 1) * CHUNK)
                aa = a[span]
                bb = b[span]
                ys = y[span]
                for i in range(ys.size):
                    ys[i] = scalar(aa[i], bb[i], parameter)

        @operation.on("cpu")
        def body(a: Array, b: Array, parameter: float = 0.0) -> Array:
            y = empty(a.shape, a.dtype)
            run(flat(a), flat(b), a.dtype.type(parameter), flat(y))
            return y

        return function

    return register


def flat(x: Array) -> Array:
    """Return the elements in C order on one axis; a view where x is contiguous."""
    return np.ascontiguousarray(x).reshape(-1)


@op
def add(a: Array, b: Array) -> Array:
    """a + b, of equal shape."""
    return a + b


@binary(add)
def _add(a, b, zero):
    return a + b


@op
def relu(x: Array) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.where(x <= 0, 0, x).astype(x.dtype)


@unary(relu)
def _relu(x, zero):
    return zero if x <= zero else x


@op
def relu_grad(dy: Array, y: Array) -> Array:
    """dy where the output y is positive (or NaN), else 0."""
    return np.where(y <= 0, 0, dy).astype(dy.dtype)


@binary(relu_grad)
def _relu_grad(dy, y, zero):
    return zero if y <= zero else dy


@op
def leaky_relu(x: Array, negative_slope: float, /) -> Array:
    """x above 0, negative_slope x below."""
    return np.where(x > 0, x, x * x.dtype.type(negative_slope))


@unary(leaky_relu)
def _leaky_relu(x, negative_slope):
    return x if x > 0 else x * negative_slope


@op
def leaky_relu_grad(dy: Array, x: Array, negative_slope: float, /) -> Array:
    """dy above x = 0, negative_slope dy below."""
    return np.where(x > 0, dy, dy * dy.dtype.type(negative_slope))


@binary(leaky_relu_grad)
def _leaky_relu_grad(dy, x, negative_slope):
    return dy if x > 0 else dy * negative_slope


@op
def elu(x: Array, alpha: float, /) -> Array:
    """x above 0, alpha (exp(x) - 1) below."""
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


@unary(elu)
def _elu(x, alpha):
    return x if x > 0 else alpha * elementary.expm1(x)


@op
def elu_grad(dy: Array, x: Array, alpha: float, /) -> Array:
    """dy above x = 0, alpha exp(x) dy below."""
    return np.where(x > 0, dy, dy * x.dtype.type(alpha) * np.exp(np.minimum(x, 0)))


@binary(elu_grad)
def _elu_grad(dy, x, alpha):
    return dy if x > 0 else dy * alpha * elementary.exp(x)


@op
def gelu(x: Array) -> Array:
    """x Phi(x), Phi the cumulative distribution function of the standard normal."""
    return x * special.ndtr(x)


@unary(gelu)
def _gelu(x, _):
    return x * elementary.normal_cdf(x)


@op
def gelu_grad(dy: Array, x: Array) -> Array:
    """dy (Phi(x) + x phi(x)), phi the density of the standard normal."""
    return dy * (special.ndtr(x) + x * np.exp(-(x**2) / 2) / ROOT_2_PI)


@binary(gelu_grad)
def _gelu_grad(dy, x, _):
    return dy * (elementary.normal_cdf(x) + x * elementary.normal_density(x))


@op
def gelu_tanh(x: Array) -> Array:
    """x (1 + tanh u) / 2, where u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    return x / 2 * (1 + np.tanh(GELU_SCALE * (x + GELU_CUBIC * x**3)))


@unary(gelu_tanh)
def _gelu_tanh(x, _):
    half = elementary.HALF(x)
    return half * x * (elementary.ONE(x) + elementary.tanh(gelu_scale(x) * (x + gelu_cubic(x) * x * x * x)))


@op
def gelu_tanh_grad(dy: Array, x: Array) -> Array:
    """dy (1 + tanh u + x (1 - tanh^2 u) u') / 2, with u as in `gelu_tanh`."""
    t = np.tanh(GELU_SCALE * (x + GELU_CUBIC * x**3))
    return dy / 2 * (1 + t + x * (1 - t**2) * GELU_SCALE * (1 + 3 * GELU_CUBIC * x**2))


@binary(gelu_tanh_grad)
def _gelu_tanh_grad(dy, x, _):
    one, cubic = elementary.ONE(x), gelu_cubic(x) * x * x
    t = elementary.tanh(gelu_scale(x) * (x + cubic * x))
    slope = gelu_scale(x) * (one + cubic + cubic + cubic)
    return elementary.HALF(x) * dy * (one + t + x * (one - t * t) * slope)


@op
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return special.expit(x)


@unary(sigmoid)
def _sigmoid(x, _):
    return elementary.sigmoid(x)


@op
def sigmoid_grad(dy: Array, y: Array) -> Array:
    """dy y (1 - y)."""
    return dy * y * (1 - y)


@binary(sigmoid_grad)
def _sigmoid_grad(dy, y, _):
    return dy * y * (elementary.ONE(y) - y)


@op
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(x)


@unary(tanh)
def _tanh(x, _):
    return elementary.tanh(x)


@op
def tanh_grad(dy: Array, y: Array) -> Array:
    """dy (1 - y^2)."""
    return dy * (1 - y**2)


@binary(tanh_grad)
def _tanh_grad(dy, y, _):
    return dy * (elementary.ONE(y) - y * y)


@op
def dropout(x: Array, keep: Array, scale: float, /) -> Array:
    """scale x where the boolean mask `keep` holds, else 0; its own gradient, with dy for x."""
    return x * (keep * x.dtype.type(scale))


@binary(dropout)
def _dropout(x, keep, scale):
    return x * (keep * scale)


@op
def softmax(x: Array) -> Array:
    """exp(x_k) / sum_j exp(x_j) over the last axis."""
    return special.softmax(x, axis=-1)


@softmax.on("cpu")
def _softmax(x: Array) -> Array:
    y = empty(x.shape, x.dtype)
    _softmax_rows(rows(x), rows(y))
    return y


@op
def softmax_grad(dy: Array, y: Array) -> Array:
    """y_k (dy_k - sum_j dy_j y_j) over the last axis."""
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


@softmax_grad.on("cpu")
def _softmax_grad(dy: Array, y: Array) -> Array:
    dx = empty(y.shape, y.dtype)
    _softmax_grad_rows(rows(dy), rows(y), rows(dx))
    return dx


def rows(x: Array) -> Array:
    """Join all axes but the last; a view where x is contiguous."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


@kernel(reassociate=True)
def _softmax_rows(x, y):
    for r in prange(x.shape[0]):
        xs = x[r]
        ys = y[r]
        top = xs.max()
        total = 0.0
        for k in range(xs.size):
            grown = elementary.exp(xs[k] - top)
            ys[k] = grown
            total += grown
        for k in range(xs.size):
            ys[k] /= total


@kernel(reassociate=True)
def _softmax_grad_rows(dy, y, dx):
    for r in prange(y.shape[0]):
        dys = dy[r]
        ys = y[r]
        dxs = dx[r]
        shared = 0.0
        for k in range(ys.size):
            shared += dys[k] * ys[k]
        for k in range(ys.size):
            dxs[k] = ys[k] * (dys[k] - shared)
