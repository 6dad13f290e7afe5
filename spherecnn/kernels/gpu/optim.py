"""CUDA bodies of `kernels.optim`: one launch for all parameters, which reads addresses and numbers from a table.

What changes from step to step stands in the table, so a recorded launch stays right: `step_table` writes it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spherecnn.kernels import optim
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu import device
from spherecnn.kernels.gpu.array import DeviceArray, empty, to_device
from spherecnn.kernels.gpu.elements import SPAN, THREADS, check_float32, check_size, vectors
from spherecnn.kernels.gpu.intrinsics import (
    bits_f32,
    divide,
    ld1,
    load4,
    load4_nc,
    pointer_at,
    square_root,
    st1,
    store4,
)
from spherecnn.kernels.gpu.launch import gpu_kernel
from spherecnn.kernels.gpu.reduce import Parts, block_sum, column_sum, sum_blocks

Array = DeviceArray
RECORD = 24  # words: 4 addresses of 2 words, then SIZE, FIRST, VECTORS and one that is not used, then NUMBERS
SIZE, FIRST, VECTORS, NUMBERS = 8, 9, 10, 12
MOST_NUMBERS = RECORD - NUMBERS
MOVES = ("LDG.E.128", "STG.E.128")
INFINITE = float("inf")
EACH = 4 * SPAN  # elements of a block


@optim.step_table.on("cuda")
def _step_table(columns: Sequence[Sequence[Array]], rows: Sequence[Sequence[float]], before: Any = None) -> Array:
    values = columns[0]
    for arrays in zip(*columns, strict=True):
        check_float32("a step", *arrays)
        check_size("a step", *arrays)
    records = np.zeros((len(values), RECORD), np.uint32)
    addresses = np.array([[a.address for a in column] for column in columns], np.uint64)
    records[:, : 2 * len(columns)] = np.ascontiguousarray(addresses.T).view(np.uint32)
    records[:, SIZE] = [a.size for a in values]
    records[:, FIRST] = np.concatenate([[0], np.cumsum(_blocks(values))[:-1]])[: len(values)]
    records[:, VECTORS] = np.where((addresses % 16 == 0).all(axis=0), records[:, SIZE] // 4, 0)
    for record, numbers in zip(records, rows, strict=True):
        record[NUMBERS : NUMBERS + len(numbers)] = np.array(numbers, np.float32).view(np.uint32)
    if getattr(before, "shape", None) != records.shape:
        return to_device(records)
    device.current().upload(before, records)
    return before


def _blocks(arrays: Sequence[Array]) -> list[int]:
    return [-(-a.size // EACH) for a in arrays]


@device_function
def record_of(table, parameters):
    """Where the record of this block's parameter begins: the last one whose first block is not beyond it."""
    low, high = int32(0), parameters
    while high - low > 1:
        middle = int32((low + high) >> 1)
        if int32(ld1(table, int32(middle * RECORD + FIRST))) <= int32(cuda.blockIdx.x):
            low = middle
        else:
            high = middle
    return int32(low * RECORD)


@device_function
def place(table, record):
    """Sizes of this block's parameter: elements, moves of 16 bytes, and the first move of this thread."""
    size, first, fours, _ = load4(table, int32(record + SIZE))
    move = int32((int32(cuda.blockIdx.x) - int32(first)) * SPAN + cuda.threadIdx.x)
    return int32(size), int32(fours), move


# --- gradient descent --------------------------------------------------------------------------------------------


@device_function
def descend(x, g, v, lr, momentum, fresh, decay, nesterov):
    """One element's value and velocity after a step."""
    g = g + decay * x
    v = momentum * v + fresh * g
    return x - lr * (g + momentum * v if nesterov > float32(0) else v), v


def _sgd(moving: int) -> Any:
    @gpu_kernel("u4* i4", threads=THREADS, constants=(moving,), claims=MOVES)
    def sgd(table, parameters):
        record = record_of(table, parameters)
        size, fours, v = place(table, record)
        value, grad = pointer_at(table, record), pointer_at(table, int32(record + 2))
        velocity = pointer_at(table, int32(record + 4)) if moving else value
        words = load4(table, int32(record + NUMBERS))
        nesterov = bits_f32(ld1(table, int32(record + NUMBERS + 4)))
        lr, momentum, fresh, decay = bits_f32(words[0]), bits_f32(words[1]), bits_f32(words[2]), bits_f32(words[3])
        if not moving:
            momentum, fresh, nesterov = float32(0), float32(1), float32(0)
        zero = float32(0)
        for _ in range(2):
            i = int32(4 * v)
            if v < fours:
                x, g = load4(value, i), load4_nc(grad, i)
                s = load4(velocity, i) if moving else (zero, zero, zero, zero)
                x0, s0 = descend(x[0], g[0], s[0], lr, momentum, fresh, decay, nesterov)
                x1, s1 = descend(x[1], g[1], s[1], lr, momentum, fresh, decay, nesterov)
                x2, s2 = descend(x[2], g[2], s[2], lr, momentum, fresh, decay, nesterov)
                x3, s3 = descend(x[3], g[3], s[3], lr, momentum, fresh, decay, nesterov)
                store4(value, i, x0, x1, x2, x3)
                if moving:
                    store4(velocity, i, s0, s1, s2, s3)
            else:
                end = min(int32(i + 4), size)
                while i < end:
                    s0 = ld1(velocity, i) if moving else zero
                    x0, s0 = descend(ld1(value, i), ld1(grad, i), s0, lr, momentum, fresh, decay, nesterov)
                    st1(value, i, x0)
                    if moving:
                        st1(velocity, i, s0)
                    i = int32(i + 1)
            v = int32(v + THREADS)

    return sgd


SGD = {moving: _sgd(moving) for moving in (0, 1)}


@optim.sgd_steps.on("cuda")
def _sgd_steps(values: Sequence[Array], grads: Sequence[Array], velocities: Sequence[Array], table: Any) -> None:
    SGD[int(bool(velocities))](sum(_blocks(values)), table, len(values))


@optim.sgd_step.on("cuda")
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
    kept = [] if velocity is None else [velocity]
    numbers = optim.sgd_numbers(lr, momentum, dampening, nesterov, weight_decay, first)
    table = _step_table([[value], [grad], *([a] for a in kept)], [numbers])
    _sgd_steps([value], [grad], kept, table)


# --- Adam --------------------------------------------------------------------------------------------------------


@device_function
def adapt(x, g, m, s, a, b, eps, decay, shrink):
    """One element's value, mean and square after a step; a and b are words of the table."""
    g = g + decay * x
    m = bits_f32(a[2]) * m + bits_f32(a[3]) * g
    s = bits_f32(b[0]) * s + bits_f32(b[1]) * g * g
    return shrink * x - bits_f32(a[0]) * divide(m, square_root(s) * bits_f32(a[1]) + eps), m, s


@gpu_kernel("u4* i4", threads=THREADS, claims=MOVES)
def adam(table, parameters):
    record = record_of(table, parameters)
    size, fours, v = place(table, record)
    value, grad = pointer_at(table, record), pointer_at(table, int32(record + 2))
    mean, square = pointer_at(table, int32(record + 4)), pointer_at(table, int32(record + 6))
    a = load4(table, int32(record + NUMBERS))  # rate, root, beta1, 1 - beta1
    b = load4(table, int32(record + NUMBERS + 4))  # beta2, 1 - beta2, eps, decay
    shrink = bits_f32(ld1(table, int32(record + NUMBERS + 8)))
    eps, decay = bits_f32(b[2]), bits_f32(b[3])
    for _ in range(2):
        i = int32(4 * v)
        if v < fours:
            x, g = load4(value, i), load4_nc(grad, i)
            m, s = load4(mean, i), load4(square, i)
            x0, m0, s0 = adapt(x[0], g[0], m[0], s[0], a, b, eps, decay, shrink)
            x1, m1, s1 = adapt(x[1], g[1], m[1], s[1], a, b, eps, decay, shrink)
            x2, m2, s2 = adapt(x[2], g[2], m[2], s[2], a, b, eps, decay, shrink)
            x3, m3, s3 = adapt(x[3], g[3], m[3], s[3], a, b, eps, decay, shrink)
            store4(value, i, x0, x1, x2, x3)
            store4(mean, i, m0, m1, m2, m3)
            store4(square, i, s0, s1, s2, s3)
        else:
            end = min(int32(i + 4), size)
            while i < end:
                x0, m0, s0 = adapt(ld1(value, i), ld1(grad, i), ld1(mean, i), ld1(square, i), a, b, eps, decay, shrink)
                st1(value, i, x0)
                st1(mean, i, m0)
                st1(square, i, s0)
                i = int32(i + 1)
        v = int32(v + THREADS)


@optim.adam_steps.on("cuda")
def _adam_steps(
    values: Sequence[Array], grads: Sequence[Array], means: Sequence[Array], squares: Sequence[Array], table: Any
) -> None:
    adam(sum(_blocks(values)), table, len(values))


@optim.adam_step.on("cuda")
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
    numbers = optim.adam_numbers(step, lr, beta1, beta2, eps, weight_decay, decoupled)
    adam(sum(_blocks([value])), _step_table([[value], [grad], [mean], [square]], [numbers]), 1)


# --- norms -------------------------------------------------------------------------------------------------------


@device_function
def square_of(x, i, fours, size):
    """The sum of squares of four elements, the i-th such."""
    if i < fours:
        a = load4_nc(x, int32(4 * i))
        return (a[0] * a[0] + a[1] * a[1]) + (a[2] * a[2] + a[3] * a[3])
    total, k, end = float32(0), int32(4 * i), min(int32(4 * i + 4), size)
    while k < end:
        total += ld1(x, k) * ld1(x, k)
        k = int32(k + 1)
    return total


@gpu_kernel("f4* f4* i4 i4", threads=THREADS, claims=MOVES[:1])
def squares(x, sums, count, vectors):
    total = float32(0)
    v = int32(cuda.blockIdx.x * SPAN + cuda.threadIdx.x)
    while 4 * v < count:
        total += square_of(x, v, vectors, count) + square_of(x, int32(v + THREADS), vectors, count)
        v = int32(v + cuda.gridDim.x * SPAN)
    total = block_sum(total)
    if cuda.threadIdx.x == 0:
        st1(sums, int32(cuda.blockIdx.x), total)


@optim.squared_norm.on("cuda")
def _squared_norm(x: Array) -> Array:
    check_float32("squared_norm", x)
    check_size("squared_norm", x)
    sums = Parts(sum_blocks(x.size))
    squares(sums.blocks, x, sums.array, x.size, vectors(x.size, x))
    return sums.totals()[0]


@gpu_kernel("u4* i4 f4*", threads=THREADS, claims=MOVES[:1])
def squares_of_gradients(table, parameters, sums):
    record = record_of(table, parameters)
    size, fours, v = place(table, record)
    grad = pointer_at(table, int32(record + 2))
    total = block_sum(square_of(grad, v, fours, size) + square_of(grad, int32(v + THREADS), fours, size))
    if cuda.threadIdx.x == 0:
        st1(sums, int32(cuda.blockIdx.x), total)


@gpu_kernel("f4* i4 f4 f4*", threads=THREADS)
def norm_and_factor(sums, count, most, found):
    """The norm of all gradients, and what clips them: 1 if nothing does, or the norm is not finite."""
    norm = square_root(column_sum(sums, int32(0), count))
    factor = divide(most, norm + float32(1e-6))
    if cuda.threadIdx.x == 0:
        st1(found, int32(0), norm)
        st1(found, int32(1), factor if factor < float32(1) and norm < float32(INFINITE) else float32(1))


@gpu_kernel("u4* i4 f4*", threads=THREADS, claims=MOVES)
def scale_gradients(table, parameters, found):
    factor = ld1(found, int32(1))
    if factor == float32(1):
        return
    record = record_of(table, parameters)
    size, fours, v = place(table, record)
    grad = pointer_at(table, int32(record + 2))
    for _ in range(2):
        i = int32(4 * v)
        if v < fours:
            g = load4(grad, i)
            store4(grad, i, factor * g[0], factor * g[1], factor * g[2], factor * g[3])
        else:
            end = min(int32(i + 4), size)
            while i < end:
                st1(grad, i, factor * ld1(grad, i))
                i = int32(i + 1)
        v = int32(v + THREADS)


@optim.clip_gradients.on("cuda")
def _clip_gradients(grads: Sequence[Array], most: float, table: Any = None) -> Array:
    table = _step_table([grads, grads], [()] * len(grads)) if table is None else table
    blocks = sum(_blocks(grads))
    sums, found = empty((max(1, blocks),), "float32"), empty((2,), "float32")
    squares_of_gradients(blocks, table, len(grads), sums)
    norm_and_factor(1, sums, blocks, float(most), found)
    scale_gradients(blocks, table, len(grads), found)
    return found[0]
