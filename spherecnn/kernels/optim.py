"""Optimiser steps, in place, and the norm for gradient clipping; equations and names as PyTorch's.

`sgd_step` and `adam_step` take one parameter. `sgd_steps` and `adam_steps` take all, each with its row of numbers
(`sgd_numbers`, `adam_numbers`), which `step_table` puts beside them. On the GPU a step is one launch, which reads
numbers and addresses from memory: in a recorded step nothing else changes from one to the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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
    if velocity is not None and first:
        velocity.fill(0)
    numbers = sgd_numbers(lr, momentum, dampening, nesterov, weight_decay, first)
    _descend_one(value, grad, velocity, *numbers)


def sgd_numbers(
    lr: float, momentum: float, dampening: float, nesterov: bool, weight_decay: float, first: bool
) -> tuple[float, ...]:
    """The row of `sgd_steps` for one parameter: lr, momentum, share of g in the velocity, weight decay, nesterov."""
    return lr, momentum, 1.0 if first else 1 - dampening, weight_decay, float(nesterov)


@op
def sgd_steps(values: Sequence[Array], grads: Sequence[Array], velocities: Sequence[Array], table: Any) -> None:
    """`sgd_step` of all parameters, in place; `table` holds their rows of `sgd_numbers`.

    Velocities are 0 before the first step; there are none (an empty sequence) without momentum.
    """
    for i, (value, grad) in enumerate(zip(values, grads, strict=True)):
        lr, momentum, fresh, decay, nesterov = table[i]
        g = grad + decay * value
        if velocities:
            velocities[i][...] = momentum * velocities[i] + fresh * g
            g = g + momentum * velocities[i] if nesterov else velocities[i]
        value -= lr * g


@sgd_steps.on("cpu")
def _sgd_steps(values: Sequence[Array], grads: Sequence[Array], velocities: Sequence[Array], table: Any) -> None:
    for i, (value, grad) in enumerate(zip(values, grads, strict=True)):
        _descend_one(value, grad, velocities[i] if velocities else None, *table[i])


def _descend_one(
    value: Array,
    grad: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    fresh: float,
    decay: float,
    nesterov: float,
) -> None:
    real = value.dtype.type
    if velocity is None:
        _descend(_whole(value), flat(grad), real(lr), real(decay))
        return
    scalars = real(lr), real(momentum), real(fresh), real(decay)
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
    numbers = adam_numbers(step, lr, beta1, beta2, eps, weight_decay, decoupled)
    _adam_one(value, grad, mean, square, numbers)


def adam_numbers(
    step: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool
) -> tuple[float, ...]:
    """The row of `adam_steps` for one parameter: what `adam_step` makes of these, ready to multiply with."""
    return (
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


@op
def adam_steps(
    values: Sequence[Array], grads: Sequence[Array], means: Sequence[Array], squares: Sequence[Array], table: Any
) -> None:
    """`adam_step` of all parameters, in place; `table` holds their rows of `adam_numbers`."""
    for value, grad, mean, square, numbers in zip(values, grads, means, squares, table, strict=True):
        rate, root, beta1, fresh1, beta2, fresh2, eps, decay, shrink = numbers
        g = grad + decay * value
        mean[...] = beta1 * mean + fresh1 * g
        square[...] = beta2 * square + fresh2 * g * g
        value[...] = shrink * value - rate * mean / (np.sqrt(square) * root + eps)


@adam_steps.on("cpu")
def _adam_steps(
    values: Sequence[Array], grads: Sequence[Array], means: Sequence[Array], squares: Sequence[Array], table: Any
) -> None:
    for value, grad, mean, square, numbers in zip(values, grads, means, squares, table, strict=True):
        _adam_one(value, grad, mean, square, numbers)


def _adam_one(value: Array, grad: Array, mean: Array, square: Array, numbers: Sequence[float]) -> None:
    scalars = (value.dtype.type(s) for s in numbers)
    _adam(_whole(value), flat(grad), _whole(mean), _whole(square), *scalars)


@op
def step_table(columns: Sequence[Sequence[Array]], rows: Sequence[Sequence[float]], before: Any = None) -> Any:
    """Return the numbers of a step (a row for each parameter) as `sgd_steps` and the others take them.

    `columns` are the sequences of arrays that the step takes: values, gradients, and what it keeps. On the CPU the
    table is the rows. On the GPU it also holds the addresses and sizes of the arrays, and it is written to the memory
    of the table `before` it if there is one for so many parameters: a recorded step finds it there.
    """
    return rows


step_table.on("cpu")(step_table.definition)


@op
def clip_gradients(grads: Sequence[Array], most: float, table: Any = None) -> float:
    r"""Scale gradients in place so that their norm together is at most `most`; return the norm before.

    .. math:: g \leftarrow g \min(1,\ c / (\lVert g \rVert + 10^{-6}))

    A norm that is NaN or infinite leaves them as they are. `table` is a `step_table` of these gradients; without it
    one is made, if it is needed.
    """
    norm = math.sqrt(sum(squared_norm.definition(grad) for grad in grads))
    scale = most / (norm + 1e-6)
    if scale < 1 and math.isfinite(norm):
        for grad in grads:
            grad *= grad.dtype.type(scale)
    return norm


@clip_gradients.on("cpu")
def _clip_gradients(grads: Sequence[Array], most: float, table: Any = None) -> float:
    norm = math.sqrt(sum(squared_norm(grad) for grad in grads))
    scale = most / (norm + 1e-6)
    if scale < 1 and math.isfinite(norm):
        for grad in grads:
            grad *= grad.dtype.type(scale)
    return norm


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
