"""Sums over many sites: blocks sum parts of them, then one block sums the parts of each row, always in one order."""

from __future__ import annotations

from typing import Any

from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.intrinsics import advance, ld1, load4_nc, st1, store4
from spherecnn.kernels.gpu.launch import gpu_kernel
from spherecnn.kernels.gpu.layout import THREADS, batches, vectors_of, width_of

SPACE = 4 * THREADS  # floats of shared memory that `sum_lanes` takes


@device_function
def sum_lanes(space, values, width, t, log_vectors):
    """Sum `values` over the threads of a block with the same vector; the first of these threads gets the sums."""
    for i in range(width):
        st1(space, int32(i * THREADS + t), values[i])
    cuda.syncthreads()
    half = int32(THREADS >> 1)
    while half >> log_vectors:
        if t < half:
            for i in range(width):
                at = int32(i * THREADS + t)
                st1(space, at, float32(ld1(space, at) + ld1(space, int32(at + half))))
        cuda.syncthreads()
        half = int32(half >> 1)
    for i in range(width):
        values[i] = ld1(space, int32(i * THREADS + t))


def _make_sum(width: int) -> Any:
    @gpu_kernel("f4* i4* i4* f4* i4 i4 i4 i4 i4", threads=THREADS, constants=(width,))
    def sum_listed(part, first, entry, y, log_vectors, channels, own, samples, rows):
        """Block (row, chunk, set): sum the listed parts of the samples of a set; a sample has `own` parts."""
        t = int32(cuda.threadIdx.x)
        row, chunk, z = int32(cuda.blockIdx.x), int32(cuda.blockIdx.y), int32(cuda.blockIdx.z)
        apart = int32(int32(THREADS) >> log_vectors)
        vector = int32(t & ((int32(1) << log_vectors) - 1))
        c = int32(((chunk << log_vectors) + vector) * width)
        space = cuda.shared.array(SPACE, float32)
        total = cuda.local.array(width, float32)
        for i in range(width):
            total[i] = float32(0)
        if c < channels:
            n = int32(0)
            while n < samples:
                of_sample = advance(part, (z * samples + n) * own * channels + c)
                e, end = int32(ld1(first, row) + (t >> log_vectors)), ld1(first, int32(row + 1))
                while e < end:
                    at = int32(ld1(entry, e) * channels)
                    if width == 4:
                        f0, f1, f2, f3 = load4_nc(of_sample, at)
                        total[0] += f0
                        total[1] += f1
                        total[2] += f2
                        total[3] += f3
                    else:
                        total[0] += ld1(of_sample, at)
                    e = int32(e + apart)
                n = int32(n + 1)
        sum_lanes(space, total, width, t, log_vectors)
        if t >> log_vectors == 0 and c < channels:
            ys = advance(y, (z * rows + row) * channels + c)
            if width == 4:
                store4(ys, int32(0), total[0], total[1], total[2], total[3])
            else:
                st1(ys, int32(0), total[0])

    return sum_listed


_sum = {width: _make_sum(width) for width in (1, 4)}


def sum_parts(part: DeviceArray, first: DeviceArray, entry: DeviceArray, together: bool) -> DeviceArray:
    """Sum parts (N, P, C): row r is the sum of parts entry[first[r]] .. entry[first[r + 1] - 1].

    Returns (R, C), over all samples, if `together`, else (N, R, C).
    """
    samples, own, channels = part.shape
    width, vectors, rows = width_of(channels), vectors_of(channels), len(first) - 1
    chunks = -(-channels // (width * vectors))
    sets, each = (1, samples) if together else (samples, 1)
    y = empty((sets, rows, channels), part.dtype)
    log_vectors = vectors.bit_length() - 1
    for some in batches(sets):
        parts = part if together else part[some]
        grid = rows, chunks, some.stop - some.start
        _sum[width](grid, parts, first, entry, y[some], log_vectors, channels, own, each, rows)
    return y.reshape(rows, channels) if together else y
