"""Dropout's masks, drawn on the GPU: a counter-based generator, whose key the generator on the host gives.

Element i takes word ``i % 4`` of block ``i // 4``: any thread computes any element, and a key gives one mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.kernels import arrays as cpu
from spherecnn.kernels.cuda import cuda, device_function, int32, uint32
from spherecnn.kernels.gpu import device
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import check_size
from spherecnn.kernels.gpu.intrinsics import ld1, multiply_high, store4
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel

THREADS = 256
EACH = 16  # elements of a thread, which one move of 16 bytes writes
ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85  # the golden ratio and sqrt(3) - 1
DIGITS = 24  # binary digits of a number, as many as a float32 has


@device_function
def philox(a, b, c, d, key, other):
    """Four words of 32 random bits of a counter (a, b, c, d) and a key of two words: Philox4x32-10.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
    """
    for _ in range(ROUNDS):
        high, low = multiply_high(uint32(MULTIPLIERS[0]), a), uint32(uint32(MULTIPLIERS[0]) * a)
        top, bottom = multiply_high(uint32(MULTIPLIERS[1]), c), uint32(uint32(MULTIPLIERS[1]) * c)
        a, b, c, d = uint32(top ^ b ^ key), bottom, uint32(high ^ d ^ other), low
        key, other = uint32(key + uint32(WEYL[0])), uint32(other + uint32(WEYL[1]))
    return a, b, c, d


@device_function
def four_kept(block, key, other, threshold):
    """The mask of four elements, a byte each, as one word."""
    a, b, c, d = philox(uint32(block), uint32(0), uint32(0), uint32(0), key, other)
    kept = int32(a >> uint32(8) >= threshold) | int32(b >> uint32(8) >= threshold) << 8
    return int32(kept | int32(c >> uint32(8) >= threshold) << 16 | int32(d >> uint32(8) >= threshold) << 24)


@gpu_kernel("u4* i4* u4 i4", threads=THREADS, claims=("STG.E.128",), budget=300)
def keep_mask(key, words, threshold, moves):
    v = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    if v < moves:
        one, other, block = ld1(key, 0), ld1(key, 1), int32(4 * v)
        a, b = four_kept(block, one, other, threshold), four_kept(block + 1, one, other, threshold)
        c, d = four_kept(block + 2, one, other, threshold), four_kept(block + 3, one, other, threshold)
        store4(words, block, a, b, c, d)


@cpu.keep_mask.on("cuda")
def _keep_mask(shape: tuple[int, ...], p: float, rng: np.random.Generator, like: Any) -> DeviceArray:
    # A graph that is run again asks for a new key each time.
    key = empty((2,), np.uint32)
    device.current().feed(key, lambda: rng.integers(0, 2**32, 2, dtype=np.uint32))
    count = int(np.prod(shape))
    moves = blocks_for(count, EACH)
    words = empty((4 * moves,), np.int32)  # whole moves: the last one may reach beyond the mask
    check_size("keep_mask", words)
    threshold = min(int(np.ceil(p * 2**DIGITS)), 2**DIGITS)
    keep_mask(blocks_for(moves, THREADS), key, words, threshold, moves)
    return DeviceArray(words.memory, words.offset, shape, np.dtype(np.bool_))
