"""Copies between places of memory with other strides: joining, cutting, turning and repeating arrays.

Memory is moved in pieces of 16, 4 or 1 bytes, whatever it holds. Piece v of the result stands, axis by axis, at
``index * stride`` of the source and of the target.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels.cuda import cuda, int32
from spherecnn.kernels.gpu.array import DeviceArray
from spherecnn.kernels.gpu.elements import divider, quotient
from spherecnn.kernels.gpu.intrinsics import ld1, load4, st1, store4
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel

Array = DeviceArray
THREADS = 256
TILE, PADDED = 32, 33  # a tile that is turned, and the floats of its row in shared memory: no two in one bank
WORDS = TILE * PADDED
LINES = THREADS // TILE
AXES = 5
POINTER = {16: "i4*", 4: "i4*", 1: "u1*"}


def _mover(size: int) -> Any:
    """The kernel of pieces of a size."""

    @gpu_kernel(
        f"{POINTER[size]} {POINTER[size]} i4 {'i4 i4 i4 u4 i4 ' * (AXES - 1)}i4 i4",
        threads=THREADS,
        constants=(size,),
        budget=80,
        claims=("LDG.E.128", "STG.E.128") if size == 16 else (),
    )
    def move(x, y, pieces, n4, s4, t4, m4, h4, n3, s3, t3, m3, h3, n2, s2, t2, m2, h2, n1, s1, t1, m1, h1, s0, t0):
        v = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        if v >= pieces:
            return
        q = quotient(v, m4, h4)
        source, target, v = int32((v - q * n4) * s4), int32((v - q * n4) * t4), q
        q = quotient(v, m3, h3)
        source, target, v = int32(source + (v - q * n3) * s3), int32(target + (v - q * n3) * t3), q
        q = quotient(v, m2, h2)
        source, target, v = int32(source + (v - q * n2) * s2), int32(target + (v - q * n2) * t2), q
        q = quotient(v, m1, h1)
        source, target = int32(source + (v - q * n1) * s1 + q * s0), int32(target + (v - q * n1) * t1 + q * t0)
        if size == 16:
            a = load4(x, int32(4 * source))
            store4(y, int32(4 * target), a[0], a[1], a[2], a[3])
        else:
            st1(y, target, ld1(x, source))

    return move


MOVERS = {size: _mover(size) for size in POINTER}


@gpu_kernel("i4* i4* i4 i4 i4 u4 i4 i4 u4 i4", threads=THREADS, budget=200)
def turn(x, y, rows, columns, across, multiplier, shift, tiles, multiplier_2, shift_2):
    """Turn matrices: a tile is read along its rows and written along its columns."""
    tile = cuda.shared.array(WORDS, int32)
    block, lane, line = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x & 31), int32(cuda.threadIdx.x >> 5)
    matrix = quotient(block, multiplier_2, shift_2)
    block = int32(block - matrix * tiles)
    down = quotient(block, multiplier, shift)
    row, column = int32(down * TILE), int32((block - down * across) * TILE)
    start = int32(matrix * rows * columns)
    for k in range(0, TILE, LINES):
        r, c = int32(row + line + k), int32(column + lane)
        if r < rows and c < columns:
            tile[int32((line + k) * PADDED + lane)] = ld1(x, int32(start + r * columns + c))
    cuda.syncthreads()
    for k in range(0, TILE, LINES):
        r, c = int32(row + lane), int32(column + line + k)
        if r < rows and c < columns:
            st1(y, int32(start + c * rows + r), tile[int32(lane * PADDED + line + k)])


def pieces_of(x: Array, size: int) -> Array:
    """The memory of an array as pieces: words for 16 and 4 bytes, else bytes."""
    kind = np.dtype(np.int32 if size > 1 else np.uint8)
    return DeviceArray(x.memory, x.offset, (x.nbytes // kind.itemsize,), kind)


def copy_strided(x: Array, y: Array, sizes: Sequence[int], sources: Sequence[int], targets: Sequence[int]) -> None:
    """Copy the elements that a box of indices names.

    Parameters
    ----------
    x, y : DeviceArray
        Source and target, which begin at the first element of the box.
    sizes : sequence of int
        Of the box.
    sources, targets : sequence of int
        Strides in elements; the last ones are 1 unless pieces are single elements.

    Raises
    ------
    InputError
        If the box needs more than five axes.
    """
    if math.prod(sizes) == 0:
        return
    aligned = x.address % 16 == 0 and y.address % 16 == 0
    size, pieces, numbers = _plan(tuple(sizes), tuple(sources), tuple(targets), x.itemsize, aligned)
    MOVERS[size](blocks_for(pieces, THREADS), pieces_of(x, size), pieces_of(y, size), pieces, *numbers)


@functools.lru_cache(maxsize=1024)
def _plan(
    sizes: tuple[int, ...], sources: tuple[int, ...], targets: tuple[int, ...], itemsize: int, aligned: bool
) -> tuple[int, int, tuple[int, ...]]:
    """Bytes of a piece, the number of pieces, and the numbers of the axes, last axis first."""
    box = _joined(sizes, sources, targets)
    size = 16 if aligned and _in_moves(box, 16 // itemsize) else itemsize
    if size > itemsize:
        pack = size // itemsize
        box = [(n, s // pack, t // pack) for n, s, t in box[:-1]] + [(box[-1][0] // pack, 1, 1)]
    if len(box) > AXES:
        raise InputError(f"axes of an array were moved in {len(box)} groups on the GPU; expected at most {AXES}.")
    box = [(1, 0, 0)] * (AXES - len(box)) + box
    numbers = tuple(number for n, s, t in box[:0:-1] for number in (n, s, t, *divider(n)))
    return size, math.prod(n for n, _, _ in box), (*numbers, box[0][1], box[0][2])


def _joined(sizes: Sequence[int], sources: Sequence[int], targets: Sequence[int]) -> list[tuple[int, int, int]]:
    """The axes without those of one element, neighbours joined where both arrays run through them in one go."""
    box: list[tuple[int, int, int]] = []
    for n, s, t in zip(sizes, sources, targets, strict=True):
        if n == 1:
            continue
        if box and box[-1][1] == n * s and box[-1][2] == n * t:
            box[-1] = (box[-1][0] * n, s, t)
        else:
            box.append((n, s, t))
    return box or [(1, 1, 1)]


def _in_moves(box: list[tuple[int, int, int]], pack: int) -> bool:
    """Whether the box falls into moves of so many elements."""
    last, source, target = box[-1]
    outer = (number for _, s, t in box[:-1] for number in (s, t))
    return source == target == 1 and last % pack == 0 and all(number % pack == 0 for number in outer)


def copy_turned(x: Array, y: Array, matrices: int, rows: int, columns: int) -> None:
    """Turn matrices of elements of 4 bytes."""
    across, down = blocks_for(columns, TILE), blocks_for(rows, TILE)
    tiles = across * down
    dividers = (across, *divider(across), tiles, *divider(tiles))
    turn(matrices * tiles, pieces_of(x, 4), pieces_of(y, 4), rows, columns, *dividers)
