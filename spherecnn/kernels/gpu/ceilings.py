"""What a GPU can do at most, as kernels of ours can ask it: copies, multiply-adds, products of tensor cores.

Each kernel does one thing and almost nothing else, so that the time of other kernels can be held against it. Tensor
cores are asked by ``mma.sync``, as all kernels here do; what newer instructions reach beyond is not in these figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spherecnn.kernels.cuda import cuda, float32, int32
from spherecnn.kernels.gpu.intrinsics import f32_bits, load4, mma_bf16, mma_tf32, st1, store4
from spherecnn.kernels.gpu.launch import GpuKernel, blocks_for, gpu_kernel

COPY_THREADS, FOURS = 256, 4  # each thread moves so many times 16 bytes
THREADS = 256
CHAINS = 16  # of multiply-adds that do not wait for each other
PRODUCTS = 8  # of a warp that do not wait for each other
SUMS = 4 * PRODUCTS  # numbers of a thread
FMA_FLOP = 2 * CHAINS  # of a thread in one turn
TF32_FLOP, BF16_FLOP = (2 * 16 * 8 * depth * PRODUCTS for depth in (8, 16))  # of a warp in one turn


@gpu_kernel("f4* f4* i4", threads=COPY_THREADS, claims=("LDG.E.128", "STG.E.128"), budget=160)
def copy_fours(x, y, fours):
    """y = x, 16 bytes at a time; `fours` is a multiple of all that a block moves."""
    first = (cuda.blockIdx.x * COPY_THREADS * FOURS + cuda.threadIdx.x) * 4
    step = int32(4 * COPY_THREADS)
    if first < fours * 4:
        a0, a1, a2, a3 = load4(x, first)
        b0, b1, b2, b3 = load4(x, first + step)
        c0, c1, c2, c3 = load4(x, first + 2 * step)
        d0, d1, d2, d3 = load4(x, first + 3 * step)
        store4(y, first, a0, a1, a2, a3)
        store4(y, first + step, b0, b1, b2, b3)
        store4(y, first + 2 * step, c0, c1, c2, c3)
        store4(y, first + 3 * step, d0, d1, d2, d3)


@gpu_kernel("f4* i4 f4 f4", threads=THREADS, claims=("FFMA",), budget=600)
def multiply_add(y, turns, a, b):
    """Chains s = a s + b of so many turns; their sum is written, so that they are computed."""
    s = cuda.local.array(CHAINS, float32)
    for i in range(CHAINS):
        s[i] = float32(i)
    for _ in range(turns):
        for i in range(CHAINS):
            s[i] = a * s[i] + b
    total = float32(0)
    for i in range(CHAINS):
        total += s[i]
    st1(y, cuda.blockIdx.x * THREADS + cuda.threadIdx.x, total)


def _product_kernel(name: str, product: Any) -> GpuKernel:
    @gpu_kernel("f4* i4 f4 f4", threads=THREADS, constants=(name,), claims=("HMMA",), budget=600)
    def multiply_matrices(y, turns, a, b):
        """Products of 16 rows and 8 columns, added up; factors are the same everywhere."""
        left, right = f32_bits(a), f32_bits(b)
        s = cuda.local.array(SUMS, float32)
        for i in range(SUMS):
            s[i] = float32(0)
        for _ in range(turns):
            for i in range(PRODUCTS):
                s[4 * i], s[4 * i + 1], s[4 * i + 2], s[4 * i + 3] = product(
                    left, left, left, left, right, right, s[4 * i], s[4 * i + 1], s[4 * i + 2], s[4 * i + 3]
                )
        total = float32(0)
        for i in range(SUMS):
            total += s[i]
        st1(y, cuda.blockIdx.x * THREADS + cuda.threadIdx.x, total)

    return multiply_matrices


multiply_tf32, multiply_bf16 = _product_kernel("tf32", mma_tf32), _product_kernel("bf16", mma_bf16)


@dataclass(frozen=True)
class Ceiling:
    """A piece of work, and the bytes or operations that it takes."""

    name: str
    amount: float
    kernel: GpuKernel
    grid: int
    args: tuple[Any, ...]

    def __call__(self) -> None:
        self.kernel(self.grid, *self.args)


def whole_copies(size: int) -> int:
    """How many floats of about so many bytes `copy_fours` moves without a rest."""
    each = 4 * COPY_THREADS * FOURS
    return max(1, size // 4 // each) * each


def copy_ceiling(x: Any, y: Any) -> Ceiling:
    """The copy of an array of `whole_copies` floats: bytes read and written."""
    fours = x.size // 4
    return Ceiling("copy", 2.0 * x.nbytes, copy_fours, blocks_for(fours, COPY_THREADS * FOURS), (x, y, fours))


def arithmetic_ceilings(y: Any, blocks: int, turns: int) -> list[Ceiling]:
    """Multiply-adds and products by so many blocks; y has room for a number of each of their threads."""
    warps = blocks * THREADS // 32
    return [
        Ceiling("float32", float(blocks * THREADS * FMA_FLOP * turns), multiply_add, blocks, (y, turns, 0.5, 1.0)),
        Ceiling("tf32", float(warps * TF32_FLOP * turns), multiply_tf32, blocks, (y, turns, 0.5, 0.25)),
        # The bits of 0.5 and 0.25 are those of a pair of bfloat16: that number and a zero.
        Ceiling("bf16", float(warps * BF16_FLOP * turns), multiply_bf16, blocks, (y, turns, 0.5, 0.25)),
    ]
