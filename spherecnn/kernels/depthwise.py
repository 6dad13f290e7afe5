"""Convolution that keeps channels apart: no channel mix to amortise the gather, so it has tiles of its own.

Measured: through the tiles of `gather_gemm` with one channel per group it is some thirty times slower (docs/speed.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from spherecnn.kernels import vector
from spherecnn.kernels.gather_gemm import sum_single, task_tables
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op

VECTORS, TILE_SITES = vector.DEPTHWISE
tile_full, tile_pair, tile_single = (vector.depthwise_tile(vectors, TILE_SITES) for vectors in (VECTORS, 2, 1))
outer_nine, outer_three, outer_one = (vector.depthwise_outer_tile(n) for n in (9, 3, 1))
SITES = vector.SITES
VECTOR_BYTES = vector.HOST.bytes
PARTS = 16


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

    .. math:: dw_{t,c} = \sum_n \sum_{(p,u):\,tap(u)=t} x_{n,\,source(p,u),\,c}\; dy_{n,p,c},\qquad db_c = \sum_{n,p} dy_{n,p,c}

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
    sites, slots = stencil.widest
    depthwise_tasks(x, w.reshape(-1), bias, y, sites, slots, *stencil.tables)
    return y


@depthwise_dw.on("cpu")
def _depthwise_dw_cpu(x: Any, dy: Any, stencil: Any) -> Any:
    channels = x.shape[2]
    stencil.check_size(channels)
    parts = max(1, min(PARTS, len(x) * (len(stencil.task) - 1)))
    part = np.empty((parts, stencil.taps + 1, channels), x.dtype)  # the last row holds the bias gradient
    sites, slots = stencil.widest
    depthwise_outer_tasks(x, dy, part, sites, slots, *stencil.tables)
    total = part[0].copy()
    for other in part[1:]:
        total += other
    return total[:-1], total[-1]


@kernel()
def depthwise_tasks(
    x, w, bias, y, most_sites, most_slots,
    task, start, size, out_base, out_kind, first, tap, base, kind, column,
):  # fmt: skip
    samples, sites_in, channels = x.shape
    xs, ys = x.reshape(-1), y.reshape(-1)
    tasks = len(task) - 1
    room = (most_sites + SITES - 1) // SITES * SITES
    lanes = VECTOR_BYTES // x.itemsize
    zero = np.zeros(channels, x.dtype)
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = np.empty((most_slots, room), np.int32), np.empty(room, np.int32)
        n, slots = task_tables(
            a, channels, channels, offset, target, task, start, size, out_base, out_kind, first, base, kind, column
        )
        t0, x0, y0 = first[task[a]], sample * sites_in * channels, sample * y.shape[1] * channels
        if channels >= lanes:
            flat = offset.reshape(-1)
            for p in range(0, n, TILE_SITES):
                v = 0
                while v < channels:
                    left = channels - v
                    c = min(v, channels - lanes)  # the last vector may overlap the one before: the same sums twice
                    if left >= VECTORS * lanes:
                        tile_full(xs, x0 + c, flat, p, room, tap, t0, slots, w, c, channels, bias, c, zero, ys, y0 + c, target, p)
                        v += VECTORS * lanes
                    elif left >= 2 * lanes:
                        tile_pair(xs, x0 + c, flat, p, room, tap, t0, slots, w, c, channels, bias, c, zero, ys, y0 + c, target, p)
                        v += 2 * lanes
                    else:
                        tile_single(xs, x0 + c, flat, p, room, tap, t0, slots, w, c, channels, bias, c, zero, ys, y0 + c, target, p)
                        v += lanes
        else:
            for p in range(n):
                for c in range(channels):
                    total = bias[c]
                    for u in range(slots):
                        if offset[u, p] >= 0:
                            total += xs[x0 + offset[u, p] + c] * w[tap[t0 + u] * channels + c]
                    ys[y0 + target[p] + c] = total


@kernel()
def depthwise_outer_tasks(
    x, dy, part, most_sites, most_slots,
    task, start, size, out_base, out_kind, first, tap, base, kind, column,
):  # fmt: skip
    samples, sites_in, channels = x.shape
    xs, gs = x.reshape(-1), dy.reshape(-1)
    tasks, parts = len(task) - 1, len(part)
    room = (most_sites + SITES - 1) // SITES * SITES
    lanes = VECTOR_BYTES // x.itemsize
    zero = np.zeros(channels, x.dtype)
    bias_at = (part.shape[1] - 1) * channels
    for i in prange(parts):
        sums = part[i].reshape(-1)
        one, nowhere = np.ones(1, x.dtype), np.zeros(room, np.int32)
        sums[:] = 0
        offset, target = np.empty((most_slots, room), np.int32), np.empty(room, np.int32)
        flat = offset.reshape(-1)
        for q in range(i * samples * tasks // parts, (i + 1) * samples * tasks // parts):
            sample, a = q // tasks, q % tasks
            n, slots = task_tables(
                a, channels, channels, offset, target, task, start, size, out_base, out_kind, first, base, kind, column
            )
            t0, x0, g0 = first[task[a]], sample * sites_in * channels, sample * dy.shape[1] * channels
            whole = channels // lanes * lanes
            for c in range(0, whole, lanes):
                sum_single(one, 0, nowhere, 0, n, zero, gs, g0 + c, target, 0, sums, bias_at + c, channels)
                u = 0
                while u < slots:
                    if slots - u >= 9:
                        outer_nine(
                            xs, x0 + c, flat, u * room, room, tap, t0 + u, n, zero, gs, g0 + c, target, sums, c, channels
                        )
                        u += 9
                    elif slots - u >= 3:
                        outer_three(
                            xs, x0 + c, flat, u * room, room, tap, t0 + u, n, zero, gs, g0 + c, target, sums, c, channels
                        )
                        u += 3
                    else:
                        outer_one(
                            xs, x0 + c, flat, u * room, room, tap, t0 + u, n, zero, gs, g0 + c, target, sums, c, channels
                        )
                        u += 1
            for c in range(whole, channels):
                for p in range(n):
                    sums[bias_at + c] += gs[g0 + target[p] + c]
                for u in range(slots):
                    total = zero[0]
                    for p in range(n):
                        if offset[u, p] >= 0:
                            total += xs[x0 + offset[u, p] + c] * gs[g0 + target[p] + c]
                    sums[tap[t0 + u] * channels + c] += total
