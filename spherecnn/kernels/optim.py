"""Optimiser steps, in place, and the squared norm for gradient clipping; equations and names as PyTorch's."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from spherecnn.errors import InputError
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.op import op
from spherecnn.kernels.pointwise import CHUNK, flat

Array = np.ndarray


@op
def sgd_step(
    value: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
    first: bool,
) -> None:
    """Gradient descent on `value`, in place; `velocity` is the momentum buffer, None without momentum.

    g = grad + weight_decay value; velocity = g at the `first` step, else
    momentum velocity + (1 - dampening) g;
    value -= lr (g + momentum velocity) with `nesterov`, else lr velocity.
    """
    g = grad + weight_decay * value
    if velocity is not None:
        velocity[...] = g if first else momentum * velocity + (1 - dampening) * g
        g = g + momentum * velocity if nesterov else velocity
    value -= lr * g


@sgd_step.on("cpu")
def _sgd_step(
    value: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
    first: bool,
) -> None:
    real = value.dtype.type
    if velocity is None:
        _descend(_whole(value), flat(grad), real(lr), real(weight_decay))
        return
    if first:
        velocity.fill(0)
    fresh = 1.0 if first else 1 - dampening
    scalars = real(lr), real(momentum), real(fresh), real(weight_decay)
    _descend_with_momentum(_whole(value), flat(grad), _whole(velocity), *scalars, bool(nesterov))


@op
def adam_step(
    value: Array,
    grad: Array,
    mean: Array,
    square: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Step number `step` (from 1) of Adam on `value`, in place; with `decoupled` weight decay it is AdamW.

    Adam: g = grad + weight_decay value. AdamW: value *= 1 - lr weight_decay, g = grad. Then
    mean = beta1 mean + (1 - beta1) g, square = beta2 square + (1 - beta2) g^2,
    value -= lr / (1 - beta1^step) mean / (sqrt(square / (1 - beta2^step)) + eps).

    Source: Kingma and Ba, ICLR 2015, algorithm 1; Loshchilov and Hutter, ICLR 2019, algorithm 2.
    """
    g = grad if decoupled else grad + weight_decay * value
    if decoupled:
        value *= 1 - lr * weight_decay
    mean[...] = beta1 * mean + (1 - beta1) * g
    square[...] = beta2 * square + (1 - beta2) * g * g
    value -= lr / (1 - beta1**step) * mean / (np.sqrt(square / (1 - beta2**step)) + eps)


@adam_step.on("cpu")
def _adam_step(
    value: Array,
    grad: Array,
    mean: Array,
    square: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    scalars = (
        lr / (1 - beta1**step),
        1 / math.sqrt(1 - beta2**step),
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        eps,
        0.0 if decoupled else weight_decay,
        1 - lr * weight_decay if decoupled else 1.0,
    )
    _adam(_whole(value), flat(grad), _whole(mean), _whole(square), *(value.dtype.type(s) for s in scalars))


@op
def squared_norm(x: Array) -> float:
    """Sum of squares, accumulated in float64."""
    return float(np.square(x, dtype=np.float64).sum())


@squared_norm.on("cpu")
def _squared_norm(x: Array) -> float:
    return float(_chunk_squares(flat(x)).sum())


def _whole(x: Array) -> Array:
    """The elements of an array that a step writes, on one axis."""
    if not x.flags.c_contiguous:
        raise InputError(
            f"an array of shape {x.shape} that a step writes is not C-contiguous; expected one that is: "
            "copy it with numpy.ascontiguousarray."
        )
    return x.reshape(-1)


@kernel()
def _descend(value, grad, lr, decay):
    for k in prange((value.size + CHUNK - 1) // CHUNK):
        span = slice(k * CHUNK, (k + 1) * CHUNK)
        values = value[span]
        grads = grad[span]
        for i in range(values.size):
            values[i] -= lr * (grads[i] + decay * values[i])


@kernel()
def _descend_with_momentum(value, grad, velocity, lr, momentum, fresh, decay, nesterov):
    for k in prange((value.size + CHUNK - 1) // CHUNK):
        span = slice(k * CHUNK, (k + 1) * CHUNK)
        values = value[span]
        grads = grad[span]
        velocities = velocity[span]
        for i in range(values.size):
            g = grads[i] + decay * values[i]
            velocities[i] = momentum * velocities[i] + fresh * g
            values[i] -= lr * (g + momentum * velocities[i] if nesterov else velocities[i])


@kernel()
def _adam(value, grad, mean, square, rate, root, beta1, fresh1, beta2, fresh2, eps, decay, shrink):
    for k in prange((value.size + CHUNK - 1) // CHUNK):
        span = slice(k * CHUNK, (k + 1) * CHUNK)
        values = value[span]
        grads = grad[span]
        means = mean[span]
        squares = square[span]
        for i in range(values.size):
            g = grads[i] + decay * values[i]
            means[i] = beta1 * means[i] + fresh1 * g
            squares[i] = beta2 * squares[i] + fresh2 * g * g
            values[i] = shrink * values[i] - rate * means[i] / (np.sqrt(squares[i]) * root + eps)


@kernel(reassociate=True)
def _chunk_squares(x):
    sums = np.zeros((x.size + CHUNK - 1) // CHUNK)
    for k in prange(len(sums)):
        total = 0.0
        for value in x[k * CHUNK : (k + 1) * CHUNK]:
            total += np.float64(value) * value
        sums[k] = total
    return sums
