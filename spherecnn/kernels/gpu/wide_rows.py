"""How threads share channels-last arrays whose channels are summed over: wide rows of whole moves of 16 bytes.

Rows of few channels are joined into one that such moves fill; a thread keeps to its columns of it, and so to its
channels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from spherecnn.kernels.cuda import cuda, device_function, int32, uint32
from spherecnn.kernels.gpu.array import DeviceArray
from spherecnn.kernels.gpu.intrinsics import ld1, load4_nc, st1, store4
from spherecnn.kernels.gpu.launch import blocks_for

Array = DeviceArray
THREADS = 256
STEP = 4  # wide rows that a thread has under way
MOST_BLOCKS = 1056  # eight for each multiprocessor of an H100; the same number everywhere, and so the same bits
GEOMETRY = "i4 i4 i4 i4 i4 i4"
"""Columns, wide rows of a sample, those of a block, blocks of a sample, channels, channels of a group."""


class Geometry(NamedTuple):
    """How the threads share (samples, sites, channels)."""

    vector: int  # elements of a move: 4 or 1
    columns: int  # moves of a wide row
    height: int  # wide rows of a sample
    per: int  # wide rows of a block
    chunks: int  # blocks of a sample
    channels: int
    samples: int
    lanes: int  # rows joined in a wide row

    @property
    def grid(self) -> tuple[int, int]:
        return self.samples * self.chunks, blocks_for(self.columns, THREADS)

    @property
    def width(self) -> int:
        return self.columns * self.vector


def geometry(samples: int, sites: int, channels: int, *arrays: Array) -> Geometry:
    """Moves of 16 bytes where the arrays and the samples begin at them, else of 4."""
    lanes = 4 // math.gcd(channels, 4)
    vector = 4
    if sites % lanes or any(a.address % 16 for a in arrays):
        vector = lanes = 1
    columns, height = channels * lanes // vector, sites // lanes
    tiles = blocks_for(columns, THREADS)
    step = STEP * max(1, THREADS // columns)
    most = max(1, MOST_BLOCKS // max(1, samples * tiles))
    per = step * max(1, -(-height // (step * most)))
    return Geometry(vector, columns, height, per, max(1, -(-height // per)), channels, samples, lanes)


# --- a thread's place --------------------------------------------------------------------------------------------


@device_function
def place(columns, height, per, chunks):
    """This thread's sample, chunk, column, first row, rows between its rows, end of the chunk; no rows if it idles."""
    sample = int32(uint32(cuda.blockIdx.x) // uint32(chunks))
    chunk = int32(cuda.blockIdx.x - sample * chunks)
    tile = min(columns, int32(THREADS))
    lane = int32(uint32(cuda.threadIdx.x) // uint32(tile))
    column = int32(cuda.threadIdx.x - lane * tile + cuda.blockIdx.y * THREADS)
    step = int32(uint32(THREADS) // uint32(tile))
    first = int32(chunk * per)
    end = min(int32(first + per), height)
    if lane >= step or column >= columns:
        end = first
    return sample, chunk, column, int32(first + lane), step, end


@device_function
def channel_of(element, channels):
    """The channel of an element of a wide row."""
    while element >= channels:
        element = int32(element - channels)
    return element


@device_function
def group_of(sample, element, channels, of_group):
    """The place of a channel's group among the groups of all samples."""
    groups = int32(uint32(channels) // uint32(of_group))
    return int32(sample * groups + int32(uint32(channel_of(element, channels)) // uint32(of_group)))


def _read(vector: int) -> Any:
    def four(x, i):
        return load4_nc(x, i)

    def one(x, i):  # what three of them become is not used
        a = ld1(x, i)
        return a, a, a, a

    return device_function(four if vector == 4 else one)


def _write(vector: int) -> Any:
    def four(y, i, a, b, c, d):
        store4(y, i, a, b, c, d)

    def one(y, i, a, b, c, d):
        st1(y, i, a)

    return device_function(four if vector == 4 else one)


READ, WRITE = ({vector: make(vector) for vector in (4, 1)} for make in (_read, _write))
MOVES = {4: ("LDG.E.128", "STG.E.128"), 1: ()}
