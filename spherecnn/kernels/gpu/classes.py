"""CUDA body of `kernels.classes`: a thread for each site, or a warp where there are many classes."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels.classes import argmax, kind_of
from spherecnn.kernels.cuda import cuda, int32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import check_size
from spherecnn.kernels.gpu.intrinsics import ld1, st1
from spherecnn.kernels.gpu.launch import GpuKernel, blocks_for, gpu_kernel

THREADS = 128
WARP = 32
FULL = 0xFFFFFFFF


def _make(kind: str, lanes: int) -> GpuKernel:
    """A kernel that `lanes` threads (1 or a warp) of which look at a site."""

    @gpu_kernel(f"f4* {kind}* i4 i4", threads=THREADS, constants=(kind, lanes))
    def argmax(scores, found, sites, classes):
        thread = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
        site, lane = int32(thread // lanes), int32(thread % lanes)
        if site >= sites:
            return
        first = int32(site * classes)
        best = min(lane, int32(classes - 1))
        top = ld1(scores, int32(first + best))
        j = int32(lane + lanes)
        while j < classes:
            score = ld1(scores, int32(first + j))
            if score > top or (score != score and top == top):
                best, top = j, score
            j = int32(j + lanes)
        if lanes > 1:
            step = int32(lanes // 2)
            while step > 0:
                score = cuda.shfl_xor_sync(FULL, top, step)
                other = int32(cuda.shfl_xor_sync(FULL, best, step))
                above = score > top or (score != score and top == top)
                equal = score == top or (score != score and top != top)
                if above or (equal and other < best):
                    best, top = other, score
                step = int32(step // 2)
        if lane == 0:
            st1(found, site, best)

    return argmax


KERNELS = {(kind, lanes): _make(kind, lanes) for kind, lanes in (("u1", 1), ("u1", WARP), ("i4", WARP))}
MANY = 64


@argmax.on("cuda")
def _argmax(scores: DeviceArray) -> DeviceArray:
    if scores.dtype != np.float32 or not scores.ndim:
        raise InputError(
            f"scores on the GPU have shape {scores.shape} and dtype {scores.dtype}; expected float32 (..., K): "
            "convert them."
        )
    check_size("argmax", scores)
    classes = scores.shape[-1]
    found = empty(scores.shape[:-1], kind_of(classes))
    kind, lanes = "u1" if found.dtype == np.uint8 else "i4", 1 if classes < MANY else WARP
    if found.size:
        KERNELS[kind, lanes](blocks_for(found.size * lanes, THREADS), scores, found, found.size, classes)
    return found
