"""Weights in the order in which the kernels of convolutions read them."""

from __future__ import annotations

import numpy as np

from spherecnn.kernels.cuda import cuda, float32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.intrinsics import bits_f32, cvt_tf32, ld1, quotient, st1
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel

TURNED = 32  # side of the squares in which weights are transposed
SQUARE = TURNED * (TURNED + 1)
FLOAT32 = np.dtype(np.float32)


@gpu_kernel("f4* f4* i4 i4 i4 i4 i4 i4 i4", threads=256, budget=1250)
def pack_weights(w, packed, taps, reads, outputs, makes, adjoint, blocked, rounded):
    """Order weights (taps, reads, outputs) as [output][tap][input], or of the adjoint as [input][tap][output].

    With `blocked`, as [output][block of 8 inputs][tap][input of the block], zeros beyond the last. `rounded` to TF32.
    """
    square = cuda.shared.array(SQUARE, float32)
    thread, tap = cuda.threadIdx.x, cuda.blockIdx.z
    column, line = thread & 31, thread >> 5
    # rows of w are its inputs c, columns its outputs k
    c0, k0 = cuda.blockIdx.y * TURNED, cuda.blockIdx.x * TURNED
    i = line
    while i < TURNED:
        c, k = c0 + i, k0 + column
        value = float32(0)
        if c < reads and k < outputs:
            value = ld1(w, (tap * reads + c) * outputs + k)
        if rounded:
            value = bits_f32(cvt_tf32(value))
        st1(square, i * (TURNED + 1) + column, value)
        i += 8
    cuda.syncthreads()
    i = line
    while i < TURNED:
        if adjoint:
            # row (group, c) of the result: the outputs of the group that read it
            c, k = c0 + i, k0 + column
            group = quotient(k, makes)
            if c < reads and k < outputs:
                to = ((group * reads + c) * taps + tap) * makes + k - group * makes
                if blocked:
                    own, padded = k - group * makes, ((makes + 7) >> 3) * 8 * taps
                    to = (group * reads + c) * padded + (own >> 3) * 8 * taps + tap * 8 + (own & 7)
                st1(packed, to, ld1(square, i * (TURNED + 1) + column))
        else:
            k, c = k0 + i, c0 + column
            if c < reads and k < outputs:
                to = (k * taps + tap) * reads + c
                if blocked:
                    to = k * (((reads + 7) >> 3) * 8 * taps) + (c >> 3) * 8 * taps + tap * 8 + (c & 7)
                st1(packed, to, ld1(square, column * (TURNED + 1) + i))
        i += 8


def packed_weights(w: DeviceArray, groups: int, adjoint: bool, blocked: bool, precision: str) -> DeviceArray:
    """Weights as `mix_kernel` reads them: a row for each output, (tap, input) along it."""
    taps, reads, outputs = w.shape
    makes = outputs // groups
    rows, along = (groups * reads, makes) if adjoint else (outputs, reads)
    packed = empty((rows, row_size(taps, along, blocked)), FLOAT32)
    if blocked and along % 8:
        packed.fill(0)
    grid = (blocks_for(outputs, TURNED), blocks_for(reads, TURNED), taps)
    pack_weights(grid, w, packed, taps, reads, outputs, makes, int(adjoint), int(blocked), int(precision == "tf32"))
    return packed


def row_size(taps: int, along: int, blocked: bool) -> int:
    """Numbers in a row of packed weights."""
    return blocks_for(along, 8) * 8 * taps if blocked else along * taps
