"""Convolution that keeps channels apart: no channel mix to amortise the gather, so it has tiles of its own.

Measured (benchmarks/depthwise.py): the tiles of `gather_gemm`, one channel a group, are about 25 times slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from spherecnn.kernels import register_tiles, vector
from spherecnn.kernels.gather_gemm import sum_single
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op
from spherecnn.kernels.tasks import spell_task, task_room
from spherecnn.kernels.vector import Rows, Source, Weights

VECTORS, TILE_SITES = vector.DEPTHWISE
tile_full, tile_pair, tile_single = (register_tiles.depthwise_tile(vectors, TILE_SITES) for vectors in (VECTORS, 2, 1))
tile_stream = register_tiles.depthwise_tile(VECTORS, TILE_SITES, stream=True)
outer_nine, outer_three, outer_one = (register_tiles.depthwise_outer_tile(n) for n in (9, 3, 1))
VECTOR_BYTES = vector.HOST.bytes
PARTS = 16
# Outputs larger than this leave the caches anyway; written past them, they are not read first.
STREAM_BYTES = 1 << 24


@op
def depthwise(x: Any, w: Any, b: Any, stencil: Any) -> Any:
    r"""Convolve each channel with its own kernel.

    .. math:: y_{n,p,c} = b_c + \sum_u x_{n,\,source(p,u),\,c}\; w_{tap(u),\,c}

    Parameters
    ----------
    x : ndarray (N, P_in, C)
    w : ndarray (taps, C)
    b : ndarray (C,) or None
    stencil : Stencil

    Returns
    -------
    ndarray (N, P_out, C)
    """
    y = np.zeros((len(x), stencil.sites_out, x.shape[2]), x.dtype)
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1)
    for out, tap, source in stencil.slots():
        y[:, out] += padded[:, source] * w[tap]
    return y if b is None else y + b


@op
def depthwise_dw(x: Any, dy: Any, stencil: Any) -> Any:
    r"""Weight and bias gradient of `depthwise`; its data gradient is `depthwise` of dy on the transposed stencil.

    .. math::
        dw_{t,c} = \sum_n \sum_{(p,u):\,tap(u)=t} x_{n,\,source(p,u),\,c}\; dy_{n,p,c},\qquad
        db_c = \sum_{n,p} dy_{n,p,c}

    Returns
    -------
    dw : ndarray (taps, C)
    db : ndarray (C,)
    """
    dw = np.zeros((stencil.taps, x.shape[2]), x.dtype)
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1)
    for out, tap, source in stencil.slots():
        dw[tap] += (padded[:, source] * dy[:, out]).sum((0, 1))
    return dw, dy.sum((0, 1))


@depthwise.on("cpu")
def _depthwise_cpu(x: Any, w: Any, b: Any, stencil: Any) -> Any:
    channels = x.shape[2]
    stencil.check_size(channels)
    y = empty((len(x), stencil.sites_out, channels), x.dtype)
    bias = np.zeros(channels, x.dtype) if b is None else b
    depthwise_tasks(x, w.reshape(-1), bias, y, stencil.tables(x.dtype))
    return y


@depthwise_dw.on("cpu")
def _depthwise_dw_cpu(x: Any, dy: Any, stencil: Any) -> Any:
    channels = x.shape[2]
    stencil.check_size(channels)
    parts = max(1, min(PARTS, len(x) * (len(stencil.task) - 1)))
    part = np.empty((parts, stencil.taps + 1, channels), x.dtype)  # the last row holds the bias gradient
    depthwise_outer_tasks(x, dy, part, stencil.tables(x.dtype))
    total = part[0].copy()
    for other in part[1:]:
        total += other
    return total[:-1], total[-1]


@kernel()
def depthwise_tasks(x, w, bias, y, tables):
    samples, sites_in, channels = x.shape
    xs, ys = x.reshape(-1), y.reshape(-1)
    tasks, lanes = len(tables.task) - 1, VECTOR_BYTES // x.itemsize
    zero = np.zeros(channels, x.dtype)
    weights = Weights(w, 0, bias, 0)
    streams = ys.nbytes >= STREAM_BYTES and channels % (VECTORS * lanes) == 0
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = task_room(tables)
        n, slots, first = spell_task(a, tables, channels, channels, offset, target)
        x0, y0 = sample * sites_in * channels, sample * y.shape[1] * channels
        source = Source(xs, x0, offset.reshape(-1), offset.shape[1], tables.tap, first, slots, channels, zero)
        sink = Rows(ys, y0, target)
        if channels < lanes:
            few_channels(source, weights, sink, n)
            continue
        for p in range(0, n, TILE_SITES):
            c = 0
            while c < channels:
                left = channels - c
                if streams:
                    tile_stream(source, p, weights, c, sink)
                    c += VECTORS * lanes
                elif left >= VECTORS * lanes:
                    tile_full(source, p, weights, c, sink)
                    c += VECTORS * lanes
                elif left >= 2 * lanes:
                    tile_pair(source, p, weights, c, sink)
                    c += 2 * lanes
                else:
                    # The last vector may overlap the one before: the same sums twice.
                    tile_single(source, p, weights, min(c, channels - lanes), sink)
                    c += lanes


@kernel(inline=True)
def few_channels(source, weights, sink, n):
    """Fewer channels than a vector."""
    for p in range(n):
        for c in range(source.channels):
            total = weights.bias[c]
            for u in range(source.slots):
                at = source.offset[u * source.step + p]
                if at >= 0:
                    w = weights.array[source.tap[source.first + u] * source.channels + c]
                    total += source.array[source.start + at + c] * w
            sink.array[sink.start + sink.offset[p] + c] = total


@kernel()
def depthwise_outer_tasks(x, dy, part, tables):
    samples, sites_in, channels = x.shape
    xs, gs = x.reshape(-1), dy.reshape(-1)
    tasks, parts, lanes = len(tables.task) - 1, len(part), VECTOR_BYTES // x.itemsize
    zero = np.zeros(channels, x.dtype)
    bias_at, whole = (part.shape[1] - 1) * channels, channels // lanes * lanes
    for i in prange(parts):
        sums = part[i].reshape(-1)
        sums[:] = 0
        offset, target = task_room(tables)
        flat, step = offset.reshape(-1), offset.shape[1]
        ones = Source(np.ones(1, x.dtype), 0, np.zeros(step, np.int32), 0, tables.tap, 0, 1, 1, zero)
        for q in range(i * samples * tasks // parts, (i + 1) * samples * tasks // parts):
            sample, a = q // tasks, q % tasks
            n, slots, first = spell_task(a, tables, channels, channels, offset, target)
            source = Source(xs, sample * sites_in * channels, flat, step, tables.tap, first, slots, channels, zero)
            flow = Rows(gs, sample * dy.shape[1] * channels, target)
            for c in range(0, whole, lanes):
                sum_single(ones, 0, 0, flow, c, n, sums, bias_at + c, channels, 0)
                u = 0
                while u < slots:
                    if slots - u >= 9:
                        outer_nine(source, u, c, flow, n, sums)
                        u += 9
                    elif slots - u >= 3:
                        outer_three(source, u, c, flow, n, sums)
                        u += 3
                    else:
                        outer_one(source, u, c, flow, n, sums)
                        u += 1
            for c in range(whole, channels):
                add_channel(source, flow, c, n, sums, bias_at)


@kernel(inline=True)
def add_channel(source, flow, c, n, sums, bias_at):
    """One channel beyond the whole vectors."""
    for p in range(n):
        g = flow.array[flow.start + flow.offset[p] + c]
        sums[bias_at + c] += g
        for u in range(source.slots):
            at = source.offset[u * source.step + p]
            if at >= 0:
                sums[source.tap[source.first + u] * source.channels + c] += source.array[source.start + at + c] * g
