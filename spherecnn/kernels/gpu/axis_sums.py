"""Sums over axes, `kernels.arrays.sum_over`: a fixed partition, and what each addition loses is kept and added too.

Axes are joined to (outer, rows, columns), one group of summed axes after the other. A block sums a slice of the rows
of some columns: each thread every so-many-th row, then a tree. A second launch sums the slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from spherecnn.errors import InputError
from spherecnn.kernels import arrays as cpu
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu.array import DeviceArray, empty, zeros
from spherecnn.kernels.gpu.elements import check_float32, check_size, divider, quotient
from spherecnn.kernels.gpu.intrinsics import ld1, st1
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel

Array = DeviceArray
THREADS = 256
WIDEST = 5  # a block has at most 2^5 columns, whose floats are one line of memory
MOST_BLOCKS = 1024  # the same on every GPU, so that the bits are
LEAST_ROWS = 8  # of a thread, if there are so many
FEW_ROWS, MANY_COLUMNS = 16, 1 << 17  # where a thread does well to sum whole columns
LARGEST = 3.4028234663852886e38


@device_function
def plus(total, lost, x):
    """Add x to a sum, and to `lost` what rounding takes from it.

    Source: Knuth, "The art of computer programming", volume 2, section 4.2.2, theorem B.
    """
    after = total + x
    taken = after - total
    return after, lost + ((total - (after - taken)) + (x - taken))


@device_function
def whole(total, lost):
    """The sum with what was lost; one that is not finite stays as it is."""
    return total + lost if abs(total) <= float32(LARGEST) else total


@device_function
def sum_rows(x, start, columns, r, rows, step):
    """Sum a column that begins at x[start]: rows r, r + step, and so on, four loads at a time."""
    total, lost = float32(0), float32(0)
    while r + 3 * step < rows:
        a, b = ld1(x, int32(start + r * columns)), ld1(x, int32(start + (r + step) * columns))
        c, d = ld1(x, int32(start + (r + 2 * step) * columns)), ld1(x, int32(start + (r + 3 * step) * columns))
        total, lost = plus(total, lost, a)
        total, lost = plus(total, lost, b)
        total, lost = plus(total, lost, c)
        total, lost = plus(total, lost, d)
        r = int32(r + 4 * step)
    while r < rows:
        total, lost = plus(total, lost, ld1(x, int32(start + r * columns)))
        r = int32(r + step)
    return total, lost


@gpu_kernel("f4* f4* i4 i4 i4 i4 u4 i4 i4 u4 i4", threads=THREADS, budget=220)
def sum_slices(x, y, rows, columns, width, tiles, m_tiles, h_tiles, slices, m_slices, h_slices):
    totals, losses = cuda.shared.array(THREADS, float32), cuda.shared.array(THREADS, float32)
    part = quotient(int32(cuda.blockIdx.x), m_tiles, h_tiles)
    tile = int32(cuda.blockIdx.x - part * tiles)
    outer = quotient(part, m_slices, h_slices)
    thread, high = int32(cuda.threadIdx.x), int32(THREADS >> width)
    line = int32(thread >> width)
    column = int32((tile << width) + (thread & ((1 << width) - 1)))
    first = int32((part - outer * slices) * high + line)
    total, lost = float32(0), float32(0)
    if column < columns:
        total, lost = sum_rows(x, int32(outer * rows * columns + column), columns, first, rows, int32(high * slices))
    totals[thread], losses[thread] = total, lost
    cuda.syncthreads()
    half = int32(high >> 1)
    while half > 0:
        if line < half:
            other = int32(thread + (half << width))
            total, lost = plus(total, lost + losses[other], totals[other])
            totals[thread], losses[thread] = total, lost
        cuda.syncthreads()
        half = int32(half >> 1)
    if line == 0 and column < columns:
        st1(y, int32(part * columns + column), whole(total, lost))


@gpu_kernel("f4* f4* i4 i4 i4 u4 i4", threads=THREADS)
def sum_columns(x, y, count, rows, columns, multiplier, shift):
    v = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if v < count:
        outer = quotient(v, multiplier, shift)
        start = int32(outer * (rows - 1) * columns + v)
        total, lost = sum_rows(x, start, columns, int32(0), rows, int32(1))
        st1(y, v, whole(total, lost))


@cpu.sum_over.on("cuda")
def _sum_over(x: Array, axes: tuple[int, ...]) -> Array:
    check_float32("sum_over", x)
    check_size("sum_over", x)
    summed = {axis % x.ndim for axis in axes}
    if len(summed) < len(axes):
        raise InputError(f"sum_over was given the axes {tuple(axes)} of a shape {x.shape}; expected each axis once.")
    shape = tuple(n for axis, n in enumerate(x.shape) if axis not in summed)
    if x.size == 0:
        return zeros(shape, x.dtype)
    if math.prod(shape) == x.size:
        return x.copy().reshape(shape)
    groups = _groups(x.shape, summed)
    for place in reversed(range(len(groups))):
        if groups[place][1]:
            outer = math.prod(n for n, _ in groups[:place])
            columns = math.prod(n for n, gone in groups[place + 1 :] if not gone)
            x = _summed(x, outer, groups[place][0], columns)
    return x.reshape(shape)


def _groups(shape: Sequence[int], summed: set[int]) -> list[tuple[int, bool]]:
    """Neighbouring axes that are all summed, or all kept, as one: its size, and whether it is summed."""
    groups: list[tuple[int, bool]] = []
    for axis, n in enumerate(shape):
        if n > 1:
            size = groups.pop()[0] if groups and groups[-1][1] == (axis in summed) else 1
            groups.append((size * n, axis in summed))
    return groups


def _summed(x: Array, outer: int, rows: int, columns: int) -> Array:
    """Sum (outer, rows, columns) over the rows."""
    if rows <= FEW_ROWS or (columns >= 1 << WIDEST and outer * columns >= MANY_COLUMNS):
        y = empty((outer, columns), x.dtype)
        sum_columns(blocks_for(y.size, THREADS), x, y, y.size, rows, columns, *divider(columns))
        return y
    width = min((columns - 1).bit_length(), WIDEST)
    tiles = blocks_for(columns, 1 << width)
    slices = max(1, min(MOST_BLOCKS // (outer * tiles), rows // ((THREADS >> width) * LEAST_ROWS)))
    y = empty((outer, slices, columns), x.dtype)
    numbers = (width, tiles, *divider(tiles), slices, *divider(slices))
    sum_slices(outer * slices * tiles, x, y, rows, columns, *numbers)
    return y if slices == 1 else _summed(y, outer, slices, columns)
