"""Taps side by side, a block of sites at a time: copied where they are few channels, blended where they have shares."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from spherecnn.kernels import register_tiles, vector
from spherecnn.kernels.blend_tiles import (
    NARROW,
    blend_four,
    blend_narrow,
    blend_one,
    blend_two,
    rows_four,
    rows_narrow,
    rows_one,
    rows_two,
    together_four,
    together_narrow,
    together_one,
    together_two,
)
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op
from spherecnn.kernels.tasks import spell_task, task_room
from spherecnn.kernels.vector import Source

copy_taps_4, copy_taps_8 = register_tiles.copy_taps_4, register_tiles.copy_taps_8
VECTOR_BYTES = vector.HOST.bytes
SITES = vector.SITES

# With fewer channels than this, taps are copied side by side, so that one reduction runs over taps and channels.
FEW_CHANNELS = 8
# A block of expanded sites stays in the second-level cache.
EXPANDED_SITES, EXPANDED_BYTES = 96, 1 << 18


@op
def blend(x: Any, stencil: Any) -> Any:
    r"""Blend sites by the shares of a stencil whose slots all have tap 0; its adjoint is `blend` on the transpose.

    .. math:: y_{n,p,c} = \sum_u share(u)\; x_{n,\,source(p,u),\,c}

    Parameters
    ----------
    x : ndarray (N, P_in, C)
    stencil : Stencil
        With one tap, and shares.

    Returns
    -------
    ndarray (N, P_out, C)
    """
    y = np.zeros((len(x), stencil.sites_out, x.shape[2]), x.dtype)
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1)
    for out, _, source, share in stencil.shared_slots():
        y[:, out] += padded[:, source] * per_site(share, x)
    return y


def per_site(share: Any, x: Any) -> Any:
    """A share, or those of some sites, in the type of x, to multiply values (N, sites, C)."""
    return np.asarray(share, x.dtype).reshape(-1, 1)


# --- cpu -----------------------------------------------------------------------------------------------------


@blend.on("cpu")
def _blend_cpu(x: Any, stencil: Any) -> Any:
    stencil.check_size(x.shape[2])
    y = empty((len(x), stencil.sites_out, x.shape[2]), x.dtype)
    blend_tasks(x, y, stencil.tables(x.dtype))
    return y


@kernel(inline=True)
def block_sites(n, depth, itemsize):
    """How many of n sites to expand at a time, in whole tiles."""
    fit = EXPANDED_BYTES // (depth * itemsize) // SITES * SITES
    return min(n, min(EXPANDED_SITES, max(SITES, fit)))


@kernel(inline=True)
def aligned(size, x):
    """An array of at least `size` elements of the type of x, aligned to a vector: others cost two lines a store."""
    room = np.empty(size + VECTOR_BYTES // x.itemsize, x.dtype)
    past = room.ctypes.data % VECTOR_BYTES
    return room[(VECTOR_BYTES - past) % VECTOR_BYTES // x.itemsize :]


@kernel(inline=True)
def spare_end(x):
    """The last elements of a flat array, with room for a vector behind them; and where they start."""
    limit = max(0, len(x) - FEW_CHANNELS)
    spare = np.zeros(3 * FEW_CHANNELS, x.dtype)
    for i in range(limit, len(x)):
        spare[i - limit] = x[i]
    return spare, limit


class Matrix(NamedTuple):
    """The rows of a task in the matrix of a `SparseStencil`: those of n sites, from row `first`; channels of a site."""

    indptr: Any
    indices: Any
    data: Any
    first: int
    n: int
    channels: int
    together: bool


class Shares(NamedTuple):
    """What a task of blended taps needs: the share of each slot, or a matrix without slots.

    Slots runs[t] .. runs[t + 1] belong to tap t.
    """

    share: Any
    runs: Any
    matrix: Any


@kernel(inline=True)
def blended(tables):
    """Whether taps blend several sites."""
    return len(tables.share) + len(tables.indptr) > 0


@kernel(inline=True)
def shares_of(a, tables, first, slots, taps, x):
    """The shares of the slots of task `a`, in the type of x; empty where there are none."""
    start, n = tables.start[tables.task[a]], 0
    for g in range(tables.task[a], tables.task[a + 1]):
        n += tables.size[g]
    each = 1 if tables.together else taps
    matrix = Matrix(tables.indptr, tables.indices, tables.data, start * each, n, x.shape[2], tables.together)
    if len(tables.share) == 0:
        return Shares(np.empty(0, x.dtype), np.empty(0, np.int32), matrix)
    runs = np.zeros(taps + 1, np.int32)
    for u in range(slots):
        runs[tables.tap[first + u] + 1] += 1
    for t in range(taps):
        runs[t + 1] += runs[t]
    return Shares(tables.share[first : first + slots].copy(), runs, matrix)


@kernel(inline=True)
def tap_span(tables, first, slots, taps):
    """The first of the taps that a task reads, and how many there are from it to the last; all of them if blended."""
    if blended(tables):
        return 0, taps
    least, most = taps, 0
    for u in range(first, first + slots):
        least, most = min(least, tables.tap[u]), max(most, tables.tap[u])
    return least, most - least + 1


@kernel(inline=True)
def expand(source, shares, p0, n, lead, taps, depth, row, spare, limit):
    """Put the taps of n sites from p0, from tap `lead` on, side by side; zero where no slot reads.

    Tap t, channel c of site p0 + p goes to row[p * depth + (t - lead) * channels + c].
    """
    channels = source.channels
    if len(shares.share) + len(shares.matrix.indptr):
        blend_taps(source, shares, p0, n, taps, depth, row, 0, spare, limit)
        return
    in_order = source.slots == taps
    for u in range(source.slots):
        in_order = in_order and source.tap[source.first + u] == lead + u
    if in_order and channels > FEW_CHANNELS:
        ones = Shares(np.ones(taps, row.dtype), np.arange(taps + 1).astype(np.int32), shares.matrix)
        blend_taps(source, ones, p0, n, taps, depth, row, 0, spare, limit)
        return
    if in_order:
        if channels <= 4:
            copy_taps_4(source, p0, n, spare, limit, row, depth)
        else:
            copy_taps_8(source, p0, n, spare, limit, row, depth)
        for p in range(n):
            row[p * depth + taps * channels : (p + 1) * depth] = 0
        return
    for p in range(n):
        out = row[p * depth : (p + 1) * depth]
        out[:] = 0
        for u in range(source.slots):
            at = source.offset[u * source.step + p0 + p]
            if at >= 0:
                to = (source.tap[source.first + u] - lead) * channels
                values = source.array[source.start + at : source.start + at + channels]
                for c in range(channels):
                    out[to + c] += values[c]


@kernel(inline=True)
def blend_taps(source, shares, p0, n, taps, depth, row, r0, spare, limit):
    """Blend every tap of n sites: row[r0 + p * depth + tap * channels + c], then zeros up to the next site.

    The last vector may overlap the one before: the same sums twice. Fewer channels than the narrowest tile need a
    depth with room for one beyond the taps.
    """
    channels, lanes = source.channels, VECTOR_BYTES // row.itemsize
    share, runs, c = shares.share, shares.runs, 0
    if len(shares.matrix.indptr):
        form_rows(source, shares.matrix, p0, n, taps, depth, row, r0, spare, limit)
    elif channels < lanes:
        while c < channels:
            c = max(0, min(c, channels - NARROW))
            blend_narrow(source, runs, share, p0, n, taps, c, row, r0 + c, depth, spare, limit)
            c += NARROW
    else:
        while channels - c >= 4 * lanes:
            blend_four(source, runs, share, p0, n, taps, c, row, r0 + c, depth, spare, limit)
            c += 4 * lanes
        if channels - c >= 2 * lanes:
            blend_two(source, runs, share, p0, n, taps, c, row, r0 + c, depth, spare, limit)
            c += 2 * lanes
        while c < channels:
            c = min(c, channels - lanes)
            blend_one(source, runs, share, p0, n, taps, c, row, r0 + c, depth, spare, limit)
            c += lanes
    for p in range(n):
        for i in range(r0 + p * depth + taps * channels, r0 + (p + 1) * depth):
            row[i] = 0


@kernel(inline=True)
def form_rows(source, matrix, p0, n, taps, depth, row, to, spare, limit):
    """`blend_taps` for a matrix: its rows times the channels of x; the last site again for those beyond."""
    more, n = n, min(n, matrix.n - p0)
    form_whole_rows(source, matrix, p0, n, taps, depth, row, to, spare, limit)
    for p in range(n, more):
        row[to + p * depth : to + (p + 1) * depth] = row[to + (n - 1) * depth : to + n * depth]


@kernel(inline=True)
def form_whole_rows(source, matrix, p0, n, taps, depth, row, to, spare, limit):
    """The rows of n sites from p0."""
    channels, lanes, c = source.channels, VECTOR_BYTES // row.itemsize, 0
    x, x0, r0 = source.array, source.start, matrix.first + p0 * taps
    if matrix.together:
        form_together(source, matrix, p0, n, depth, row, to, spare, limit)
        return
    if channels < lanes:
        while c < channels:
            c = max(0, min(c, channels - NARROW))
            rows_narrow(x, x0, matrix, r0, n, taps, channels, c, row, to + c, depth, spare, limit)
            c += NARROW
        return
    while channels - c >= 4 * lanes:
        rows_four(x, x0, matrix, r0, n, taps, channels, c, row, to + c, depth, spare, limit)
        c += 4 * lanes
    if channels - c >= 2 * lanes:
        rows_two(x, x0, matrix, r0, n, taps, channels, c, row, to + c, depth, spare, limit)
        c += 2 * lanes
    while c < channels:
        c = min(c, channels - lanes)
        rows_one(x, x0, matrix, r0, n, taps, channels, c, row, to + c, depth, spare, limit)
        c += lanes


@kernel(inline=True)
def form_together(source, matrix, p0, n, depth, row, to, spare, limit):
    """The rows of n sites from p0, all taps of a site at once."""
    channels, lanes, c = source.channels, VECTOR_BYTES // row.itemsize, 0
    x, x0, r0 = source.array, source.start, matrix.first + p0
    if channels < lanes:
        while c < channels:
            c = max(0, min(c, channels - NARROW))
            together_narrow(x, x0, matrix, r0, n, channels, c, row, to + c, depth, spare, limit)
            c += NARROW
        return
    while channels - c >= 4 * lanes:
        together_four(x, x0, matrix, r0, n, channels, c, row, to + c, depth, spare, limit)
        c += 4 * lanes
    if channels - c >= 2 * lanes:
        together_two(x, x0, matrix, r0, n, channels, c, row, to + c, depth, spare, limit)
        c += 2 * lanes
    while c < channels:
        c = min(c, channels - lanes)
        together_one(x, x0, matrix, r0, n, channels, c, row, to + c, depth, spare, limit)
        c += lanes


@kernel()
def blend_tasks(x, y, tables):
    """Blend a block of sites at a time, beside the outputs, and copy."""
    samples, sites_in, channels = x.shape
    xs = x.reshape(-1)
    tasks, depth = len(tables.task) - 1, max(channels, NARROW)
    zero = np.zeros(max(channels, FEW_CHANNELS), x.dtype)
    spare, limit = spare_end(xs)
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = task_room(tables)
        n, slots, first = spell_task(a, tables, channels, 1, offset, target)
        shares = shares_of(a, tables, first, slots, 1, x)
        x0, flat, step = sample * sites_in * channels, offset.reshape(-1), offset.shape[1]
        source = Source(xs, x0, flat, step, tables.tap, first, slots, channels, zero)
        most = block_sites(n, depth, x.itemsize)
        row = aligned(most * depth, x)
        for p0 in range(0, n, most):
            m = min(most, n - p0)
            blend_taps(source, shares, p0, m, 1, depth, row, 0, spare, limit)
            for p in range(m):
                out = y[sample, target[p0 + p]]
                for c in range(channels):
                    out[c] = row[p * depth + c]
