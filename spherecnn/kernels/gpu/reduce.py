"""Sums of a whole array on the GPU: a fixed partition among blocks, and trees of a fixed order.

Each thread sums some hundred numbers at most, and all further sums are pairwise: float32 keeps six digits of a sum of
any size.
"""

from __future__ import annotations

from typing import Any

from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import SPAN, THREADS
from spherecnn.kernels.gpu.intrinsics import ld1, st1
from spherecnn.kernels.gpu.launch import gpu_kernel

MOST_BLOCKS = 1056  # eight for each multiprocessor of an H100; the same number everywhere, and so the same bits
WARPS = THREADS // 32
FULL = 0xFFFFFFFF


def sum_blocks(count: int) -> int:
    """How many blocks share a sum over so many elements of 4 bytes: at least one, which says 0 of none."""
    return max(1, min(MOST_BLOCKS, -(-count // (4 * SPAN))))


@device_function
def block_sum(value):
    """The sum over a block, for all its threads."""
    sums = cuda.shared.array(WARPS, float32)
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_xor_sync(FULL, value, step)
    if cuda.threadIdx.x & 31 == 0:
        sums[cuda.threadIdx.x >> 5] = value
    cuda.syncthreads()
    total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    cuda.syncthreads()
    return total


@device_function
def greater(a, b):
    """The greater of two numbers; NaN if one of them is."""
    return a if a > b or a != a else b


@device_function
def block_max(value):
    """The greatest number of a block, for all its threads; NaN if there is one."""
    tops = cuda.shared.array(WARPS, float32)
    for step in (16, 8, 4, 2, 1):
        value = greater(value, cuda.shfl_xor_sync(FULL, value, step))
    if cuda.threadIdx.x & 31 == 0:
        tops[cuda.threadIdx.x >> 5] = value
    cuda.syncthreads()
    value = tops[0]
    for warp in range(1, WARPS):
        value = greater(value, tops[warp])
    cuda.syncthreads()
    return value


@device_function
def column_sum(x, start, count):
    """The sum of so many numbers from `start` on, for all threads of the block."""
    a = b = c = d = float32(0)  # four loads under way
    i = int32(cuda.threadIdx.x)
    while i < count:
        a += ld1(x, int32(start + i))
        b += ld1(x, int32(start + i + THREADS)) if i + THREADS < count else float32(0)
        c += ld1(x, int32(start + i + 2 * THREADS)) if i + 2 * THREADS < count else float32(0)
        d += ld1(x, int32(start + i + 3 * THREADS)) if i + 3 * THREADS < count else float32(0)
        i = int32(i + 4 * THREADS)
    return block_sum((a + b) + (c + d))


@gpu_kernel("f4* f4* i4", threads=THREADS)
def add_up(parts, totals, count):
    """Sum rows of numbers, a block for each row."""
    row = int32(cuda.blockIdx.x)
    total = column_sum(parts, int32(row * count), count)
    if cuda.threadIdx.x == 0:
        st1(totals, row, total)


class Parts:
    """Where the blocks of a kernel leave their sums: rows of `blocks` numbers, which `totals` adds up.

    Attributes
    ----------
    array : DeviceArray
        For the kernel to write: the totals themselves if there is one block.
    """

    def __init__(self, blocks: int, rows: int = 1):
        self.blocks, self.sums = blocks, empty((rows,), "float32")
        self.array = self.sums if blocks == 1 else empty((rows, blocks), "float32")

    def totals(self) -> list[DeviceArray]:
        """Return the sum of each row, without axes."""
        if self.blocks > 1:
            add_up(len(self.sums), self.array, self.sums, self.blocks)
        return [self.sums[row] for row in range(len(self.sums))]


def dense(shape: tuple[int, ...], weight: Any) -> tuple[int, int, int]:
    """How weights that broadcast to a shape repeat: element i has weight ``(i // inner) % period``.

    The third number is 0 if they do not repeat like that: axes that are repeated stand between others.
    """
    sizes = (1,) * (len(shape) - weight.ndim) + tuple(weight.shape)
    own = [axis for axis, size in enumerate(sizes) if size > 1]
    if not own:
        return 1, 1, 1
    inner = 1
    for size in shape[own[-1] + 1 :]:
        inner *= size
    plain = all(sizes[axis] == shape[axis] for axis in range(own[0], own[-1] + 1))
    return inner, weight.size, int(plain)
