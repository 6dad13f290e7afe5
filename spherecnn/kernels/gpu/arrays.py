"""CUDA bodies of `kernels.arrays`: making, joining, cutting, turning, repeating and adding arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels import arrays as cpu
from spherecnn.kernels.cuda import cuda, int32
from spherecnn.kernels.gpu import device
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import (
    SPAN,
    THREADS,
    blocks,
    check_float32,
    check_size,
    divider,
    first_rest,
    next_rest,
    quotient,
    vectors,
)
from spherecnn.kernels.gpu.intrinsics import ld1, load4, load4_nc, st1, store4
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel
from spherecnn.kernels.gpu.moves import TILE, copy_strided, copy_turned, pieces_of

Array = DeviceArray
Shape = tuple[int, ...]
MOVES = ("LDG.E.128", "STG.E.128")


# --- made, joined, cut and turned --------------------------------------------------------------------------------


@gpu_kernel("i4* i4 i4 i4", threads=THREADS, claims=("STG.E.128",))
def fill_words(y, word, count, vectors):
    v = int32(cuda.blockIdx.x * SPAN + cuda.threadIdx.x)
    w = int32(v + THREADS)
    if v < vectors:
        store4(y, int32(4 * v), word, word, word, word)
    if w < vectors:
        store4(y, int32(4 * w), word, word, word, word)
    i = first_rest(vectors)
    while i < count:
        st1(y, i, word)
        i = next_rest(i)


@cpu.full.on("cuda")
def _full(shape: Shape, value: float, like: Array, dtype: Any = None) -> Array:
    y = empty(shape, like.dtype if dtype is None else dtype)
    check_size("full", y)
    if value == 0 or y.itemsize == 1:
        y.fill(int(value))
    else:
        word = int(np.array(value, y.dtype).view(np.int32))
        fill_words(blocks(y.size), pieces_of(y, 4), word, y.size, vectors(y.size, y))
    return y


@cpu.concatenate.on("cuda")
def _concatenate(arrays: Sequence[Array], axis: int) -> Array:
    first = arrays[0]
    axis %= first.ndim
    for x in arrays:
        if (
            x.dtype != first.dtype
            or x.shape[:axis] + x.shape[axis + 1 :] != first.shape[:axis] + first.shape[axis + 1 :]
        ):
            raise InputError(
                f"arrays of shape {first.shape} ({first.dtype}) and {x.shape} ({x.dtype}) were to be joined along axis "
                f"{axis}; expected ones that differ in that axis only."
            )
    y = empty((*first.shape[:axis], sum(x.shape[axis] for x in arrays), *first.shape[axis + 1 :]), first.dtype)
    check_size("concatenate", y)
    for x, part, outer, inner, whole in _parts(y, [x.shape[axis] for x in arrays], axis, arrays):
        if outer == 1:
            device.current().copy(part, x)
        else:
            copy_strided(x, part, (outer, inner), (inner, 1), (whole, 1))
    return y


def _others(x: Array, axis: int) -> tuple[Shape, Shape]:
    return x.shape[:axis], x.shape[axis + 1 :]


@cpu.split.on("cuda")
def _split(x: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
    axis %= x.ndim
    if sum(sizes) != x.shape[axis]:
        raise InputError(f"an array of shape {x.shape} was to be cut into {tuple(sizes)} along axis {axis}.")
    check_size("split", x)
    made = tuple(empty((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype) for size in sizes)
    for y, part, outer, inner, whole in _parts(x, sizes, axis, made):
        if outer == 1:
            device.current().copy(y, part)
        else:
            copy_strided(part, y, (outer, inner), (whole, 1), (inner, 1))
    return made


def _parts(joined: Array, sizes: Sequence[int], axis: int, arrays: Sequence[Array]) -> Any:
    """Each array that is not empty, its part of the joined one from its first element on, and how it lies there."""
    outer, row = math.prod(joined.shape[:axis]), math.prod(joined.shape[axis + 1 :])
    flat, at = joined.ravel(), 0
    for array, size in zip(arrays, sizes, strict=True):
        inner = size * row
        if array.size:
            last = (outer - 1) * joined.shape[axis] * row
            yield array, flat[at : at + last + inner], outer, inner, joined.shape[axis] * row
        at += inner


@cpu.transpose.on("cuda")
def _transpose(x: Array, axes: Sequence[int]) -> Array:
    check_size("transpose", x)
    axes = [axis % x.ndim for axis in axes]
    if sorted(axes) != list(range(x.ndim)):
        raise InputError(
            f"an array of shape {x.shape} was to be turned to axes {tuple(axes)}; expected each axis once."
        )
    y = empty(tuple(x.shape[axis] for axis in axes), x.dtype)
    if x.size == 0:
        return y
    sizes, order = _groups(x.shape, axes)
    if order == list(range(len(order))):
        device.current().copy(y, x)
        return y
    turned = len(order) - 2
    if order == [*range(turned), turned + 1, turned] and x.itemsize == 4 and min(sizes[-2:]) >= TILE // 2:
        copy_turned(x, y, math.prod(sizes[:-2]), sizes[-2], sizes[-1])
        return y
    strides = _strides(sizes)
    box = [sizes[axis] for axis in order]
    copy_strided(x, y, box, [strides[axis] for axis in order], _strides(box))
    return y


def _groups(shape: Shape, axes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Join axes that stay neighbours, and leave out those of one element: the sizes, and the order of the result."""
    wide = [axis for axis in axes if shape[axis] > 1]
    rank = {axis: place for place, axis in enumerate(sorted(wide))}
    runs: list[list[int]] = []
    for axis in wide:
        if runs and rank[axis] == rank[runs[-1][-1]] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    by_source = sorted(runs)
    return [math.prod(shape[axis] for axis in run) for run in by_source], [by_source.index(run) for run in runs]


def _strides(sizes: Sequence[int]) -> list[int]:
    return [math.prod(sizes[k + 1 :]) for k in range(len(sizes))]


@cpu.repeat.on("cuda")
def _repeat(x: Array, times: int, axis: int) -> Array:
    axis %= x.ndim
    y = empty((*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :]), x.dtype)
    check_size("repeat", y)
    inner = math.prod(x.shape[axis + 1 :])
    outer = math.prod(x.shape[: axis + 1])
    copy_strided(x, y, (outer, times, inner), (inner, 0, 1), (times * inner, inner, 1))
    return y


@cpu.precise.on("cuda")
def _precise(x: Array) -> Array:
    return x.copy()


# --- added and scaled --------------------------------------------------------------------------------------------


@gpu_kernel("f4* f4* i4 i4", threads=THREADS, claims=MOVES, budget=80)
def add_to(total, x, count, vectors):
    v = int32(cuda.blockIdx.x * SPAN + cuda.threadIdx.x)
    w = int32(v + THREADS)
    if w < vectors:
        a, b = load4(total, int32(4 * v)), load4(x, int32(4 * v))
        c, d = load4(total, int32(4 * w)), load4(x, int32(4 * w))
        store4(total, int32(4 * v), a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])
        store4(total, int32(4 * w), c[0] + d[0], c[1] + d[1], c[2] + d[2], c[3] + d[3])
    elif v < vectors:
        a, b = load4(total, int32(4 * v)), load4(x, int32(4 * v))
        store4(total, int32(4 * v), a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])
    i = first_rest(vectors)
    while i < count:
        st1(total, i, ld1(total, i) + ld1(x, i))
        i = next_rest(i)


@gpu_kernel("f4* f4* i4 i4 i4 u4 i4", threads=THREADS, claims=MOVES, budget=60)
def add_repeated(total, x, moves, by_fours, period, multiplier, shift):
    """Add x again and again; a move is four elements, or one, and x has `period` of them."""
    v = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if v >= moves:
        return
    at = int32(v - quotient(v, multiplier, shift) * period)
    if by_fours > 0:
        a, b = load4(total, int32(4 * v)), load4(x, int32(4 * at))
        store4(total, int32(4 * v), a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])
    else:
        st1(total, v, ld1(total, v) + ld1(x, at))


@cpu.accumulate.on("cuda")
def _accumulate(total: Array, x: Array) -> None:
    own = x.shape
    while own and own[0] == 1:
        own = own[1:]
    if x.ndim > total.ndim or own != total.shape[total.ndim - len(own) :]:
        raise InputError(
            f"an array of shape {x.shape} was to be added to one of shape {total.shape}; expected that shape, without "
            "some of its first axes."
        )
    check_float32("accumulate", total)
    check_float32("accumulate", x)
    check_size("accumulate", total)
    if total.size == 0:
        return
    if x.size == total.size:
        add_to(blocks(total.size), total, x, total.size, vectors(total.size, total, x))
        return
    each = 4 if x.size % 4 == 0 and vectors(x.size, total, x) else 1
    moves, period = total.size // each, x.size // each
    add_repeated(blocks_for(moves, THREADS), total, x, moves, each // 4, period, *divider(period))


@gpu_kernel("f4* f4* f4* i4 i4 u4 i4 i4 u4 i4", threads=THREADS, claims=MOVES, budget=60)
def scaled_sites(x, factors, y, moves, by_fours, m_row, h_row, sites, m_sites, h_sites):
    v = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if v >= moves:
        return
    row = quotient(v, m_row, h_row)
    factor = ld1(factors, int32(row - quotient(row, m_sites, h_sites) * sites))
    if by_fours > 0:
        a = load4_nc(x, int32(4 * v))
        store4(y, int32(4 * v), a[0] * factor, a[1] * factor, a[2] * factor, a[3] * factor)
    else:
        st1(y, v, ld1(x, v) * factor)


@cpu.scale_sites.on("cuda")
def _scale_sites(x: Array, factors: Array) -> Array:
    check_float32("scale_sites", x)
    check_float32("scale_sites", factors)
    check_size("scale_sites", x)
    if x.ndim != 3 or factors.shape != x.shape[1:2]:
        raise InputError(
            f"scale_sites was given sites {x.shape} and factors {factors.shape}; expected one for each site."
        )
    y = empty(x.shape, x.dtype)
    if y.size:
        _, sites, channels = x.shape
        each = 4 if channels % 4 == 0 and vectors(x.size, x, y) else 1
        moves, row = x.size // each, channels // each
        numbers = (moves, each // 4, *divider(row), sites, *divider(sites))
        scaled_sites(blocks_for(moves, THREADS), x, factors, y, *numbers)
    return y


@gpu_kernel("f4* f4* f4 f4 i4", threads=THREADS)
def moved_towards(running, now, momentum, factor, count):
    i = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if i < count:
        before = ld1(running, i)
        st1(running, i, before + momentum * (ld1(now, i) * factor - before))


@cpu.move_towards.on("cuda")
def _move_towards(running: Array, now: Array, momentum: float, factor: float) -> None:
    check_float32("move_towards", running, now)
    check_size("move_towards", running)
    count = running.size
    moved_towards(blocks_for(count, THREADS), running, now, float(momentum), float(factor), count)
