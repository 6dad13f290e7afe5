"""Max pooling on a stencil, with switches. (Average pooling is `depthwise` with equal weights.)"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from spherecnn.errors import InputError
from spherecnn.kernels.expand import (
    FEW_CHANNELS,
    NARROW,
    aligned,
    blend_taps,
    block_sites,
    per_site,
    shares_of,
    spare_end,
)
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op
from spherecnn.kernels.tasks import spell_task, task_room
from spherecnn.kernels.vector import Source

NO_SWITCH = 255


@op
def max_pool(x: Any, stencil: Any) -> Any:
    r"""Largest value over the taps of each site, and the tap (switch) that it came from; the first of equals.

    .. math:: y_{n,p,c} = \max_t \sum_{u:\,tap(u)=t} share(u)\, x_{n,\,source(p,u),\,c}

    A tap that reads no site never wins; NaN always does. Without shares each tap reads one site.

    Parameters
    ----------
    x : ndarray (N, P_in, C)
    stencil : Stencil
        At most 255 taps.

    Returns
    -------
    y : ndarray (N, P_out, C)
    switch : uint8 ndarray (N, P_out, C)
    """
    shape = (len(x), stencil.sites_out, x.shape[2])
    value, reads = np.zeros((stencil.taps, *shape), x.dtype), np.zeros((stencil.taps, stencil.sites_out), bool)
    for out, tap, source, share in stencil.shared_slots():
        out, source = out[source >= 0], source[source >= 0]
        value[tap][:, out] += x[:, source] * per_site(share, x)
        reads[tap, out] = True
    y, switch = np.full(shape, -np.inf, x.dtype), np.full(shape, NO_SWITCH, np.uint8)
    for tap in range(stencil.taps):
        wins = (value[tap] > y) | (np.isnan(value[tap]) & ~np.isnan(y)) | (switch == NO_SWITCH)
        wins &= reads[tap][:, None]
        y, switch = np.where(wins, value[tap], y), np.where(wins, np.uint8(tap), switch)
    return y, switch


@op
def max_pool_dx(dy: Any, switch: Any, stencil: Any) -> Any:
    r"""Data gradient of `max_pool`: each dy goes to the sites of the tap that its switch names.

    .. math:: dx_{n,q,c} = \sum_{(p,u):\,source(p,u)=q} share(u)\, dy_{n,p,c}\,[switch_{n,p,c} = tap(u)]

    Returns
    -------
    ndarray (N, P_in, C)
    """
    dx = np.zeros((len(dy), stencil.sites_in, dy.shape[2]), dy.dtype)
    for out, tap, source, share in stencil.shared_slots():
        out, source = out[source >= 0], source[source >= 0]
        for n in range(len(dy)):
            np.add.at(dx[n], source, np.where(switch[n, out] == tap, dy[n, out] * per_site(share, dy), 0))
    return dx


@max_pool.on("cpu")
def _max_pool_cpu(x: Any, stencil: Any) -> Any:
    if stencil.sparse:
        raise InputError(f"{stencil!r} is a matrix; expected slots for max pooling: use a stencil of shares.")
    shape = (len(x), stencil.sites_out, x.shape[2])
    y, switch = empty(shape, x.dtype), empty(shape, np.uint8)
    if stencil.blends:
        max_pool_blended(x, y, switch, stencil.taps, stencil.tables(x.dtype))
    else:
        max_pool_tasks(x, y, switch, stencil.tables(x.dtype))
    return y, switch


@max_pool_dx.on("cpu")
def _max_pool_dx_cpu(dy: Any, switch: Any, stencil: Any) -> Any:
    adjoint = stencil.transposed
    dx = empty((len(dy), stencil.sites_in, dy.shape[2]), dy.dtype)
    max_pool_dx_tasks(dy, switch, dx, adjoint.tables(dy.dtype))
    return dx


@kernel()
def max_pool_tasks(x, y, switch, tables):
    samples, _, channels = x.shape
    tasks = len(tables.task) - 1
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = task_room(tables)
        n, slots, first = spell_task(a, tables, 1, 1, offset, target)
        for p in range(n):
            best = y[sample, target[p]]
            by = switch[sample, target[p]]
            empty_so_far = True
            for u in range(slots):
                if offset[u, p] < 0:
                    continue
                row, t = x[sample, offset[u, p]], np.uint8(tables.tap[first + u])
                if empty_so_far:
                    for c in range(channels):
                        best[c] = row[c]
                        by[c] = t
                    empty_so_far = False
                else:
                    for c in range(channels):
                        wins = not (row[c] <= best[c]) and best[c] == best[c]
                        best[c] = row[c] if wins else best[c]
                        by[c] = t if wins else by[c]
            if empty_so_far:
                for c in range(channels):
                    best[c] = -np.inf
                    by[c] = NO_SWITCH


@kernel()
def max_pool_blended(x, y, switch, taps, tables):
    """Blend the taps of a block of sites, then compare them."""
    samples, sites_in, channels = x.shape
    xs, depth = x.reshape(-1), taps * channels + NARROW
    tasks, most = len(tables.task) - 1, block_sites(tables.most_sites, depth, x.itemsize)
    nothing = np.zeros(max(channels, FEW_CHANNELS), x.dtype)
    spare, limit = spare_end(xs)
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = task_room(tables)
        n, slots, first = spell_task(a, tables, channels, 1, offset, target)
        shares, row = shares_of(a, tables, first, slots, taps, x), aligned(most * depth, x)
        x0, flat, step = sample * sites_in * channels, offset.reshape(-1), offset.shape[1]
        source = Source(xs, x0, flat, step, tables.tap, first, slots, channels, nothing)
        for p0 in range(0, n, most):
            m = min(most, n - p0)
            blend_taps(source, shares, p0, m, taps, depth, row, 0, spare, limit)
            for p in range(m):
                best = y[sample, target[p0 + p]]
                by = switch[sample, target[p0 + p]]
                for c in range(channels):
                    best[c] = row[p * depth + c]
                    by[c] = 0
                for t in range(1, taps):
                    values = row[p * depth + t * channels : p * depth + (t + 1) * channels]
                    for c in range(channels):
                        wins = not (values[c] <= best[c]) and best[c] == best[c]
                        best[c] = values[c] if wins else best[c]
                        by[c] = np.uint8(t) if wins else by[c]


@kernel()
def max_pool_dx_tasks(dy, switch, dx, tables):
    samples, _, channels = dy.shape
    tasks = len(tables.task) - 1
    zero = np.zeros(1, dy.dtype)[0]
    one = np.ones(1, dy.dtype)[0]
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = task_room(tables)
        n, slots, first = spell_task(a, tables, 1, 1, offset, target)
        share = shares_of(a, tables, first, slots, NO_SWITCH, dy).share
        for p in range(n):
            out = dx[sample, target[p]]
            for c in range(channels):
                out[c] = 0
            for u in range(slots):
                if offset[u, p] < 0:
                    continue
                row = dy[sample, offset[u, p]]
                by = switch[sample, offset[u, p]]
                t = np.uint8(tables.tap[first + u])
                factor = share[u] if len(share) else one
                for c in range(channels):
                    out[c] += factor * row[c] if by[c] == t else zero
