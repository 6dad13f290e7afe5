"""The engine: gather the sites of a stencil, mix their channels. Forward, data gradient, weight gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from spherecnn.kernels import vector
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty, zeros
from spherecnn.kernels.op import op

copy_taps_4, copy_taps_8 = vector.copy_taps_4, vector.copy_taps_8
mix_wide, mix_pair, mix_single = vector.mix_tile(*vector.WIDE), vector.mix_tile(*vector.PAIR), vector.mix_tile(*vector.SINGLE)
outer_full, outer_single = vector.outer_tile(*vector.OUTER), vector.outer_tile(1, vector.OUTER[1])
sum_full, sum_single = vector.outer_tile(vector.OUTER[0], 1), vector.outer_tile(1, 1)
WIDE_VECTORS, WIDE_SITES = vector.WIDE
PAIR_VECTORS, PAIR_SITES = vector.PAIR
SINGLE_SITES = vector.SINGLE[1]
OUTER_VECTORS, OUTER_CHANNELS = vector.OUTER
SITES = vector.SITES
VECTOR_BYTES = vector.HOST.bytes

# With fewer channels than this, taps are copied side by side, so that one reduction runs over taps and channels.
FEW_CHANNELS = 8
EXPANDED_SITES = 96
# The weight gradient is summed in parts, which depend on the shape and not on the number of threads, then these in order.
PARTS, PART_SITES = 16, 512


@op
def gather_gemm(x: Any, w: Any, b: Any, stencil: Any, groups: int = 1) -> Any:
    r"""Convolve: gather the sites of each tap, mix their channels.

    .. math:: y_{n,p,k} = b_k + \sum_{u} \sum_c x_{n,\,source(p,u),\,c}\; w_{tap(u),\,c,\,k}

    Parameters
    ----------
    x : ndarray (N, P_in, C)
    w : ndarray (taps, C / groups, K)
    b : ndarray (K,) or None
    stencil : Stencil
    groups : int
        Output channel k reads the input channels of group k // (K / groups) only.

    Returns
    -------
    ndarray (N, P_out, K)
    """
    y = np.zeros((len(x), stencil.sites_out, w.shape[2]), x.dtype)
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1)  # source -1 is the last row: zeros
    for out, tap, source in stencil.slots():
        inputs = np.split(padded[:, source], groups, axis=2)
        weights = np.split(w[tap], groups, axis=1)
        y[:, out] += np.concatenate([i @ j for i, j in zip(inputs, weights, strict=True)], axis=2)
    return y if b is None else y + b


@op
def gather_gemm_dx(dy: Any, w: Any, stencil: Any, groups: int = 1) -> Any:
    r"""Data gradient of `gather_gemm`: the same kernel on the transposed stencil, with transposed weights.

    .. math:: dx_{n,q,c} = \sum_{(p,u):\,source(p,u)=q}\ \sum_k dy_{n,p,k}\; w_{tap(u),\,c,\,k}

    Parameters
    ----------
    dy : ndarray (N, P_out, K)
    w : ndarray (taps, C / groups, K)
    stencil : Stencil
        The stencil of the forward pass.
    groups : int

    Returns
    -------
    ndarray (N, P_in, C)
    """
    adjoint = np.concatenate([g.transpose(0, 2, 1) for g in np.split(w, groups, axis=2)], axis=2)
    return gather_gemm.definition(dy, adjoint, None, stencil.transposed, groups)


@op
def gather_gemm_dw(x: Any, dy: Any, stencil: Any, groups: int = 1) -> Any:
    r"""Weight and bias gradient of `gather_gemm`.

    .. math:: dw_{t,c,k} = \sum_n \sum_{(p,u):\,tap(u)=t} x_{n,\,source(p,u),\,c}\; dy_{n,p,k},\qquad db_k = \sum_{n,p} dy_{n,p,k}

    Parameters
    ----------
    x : ndarray (N, P_in, C)
    dy : ndarray (N, P_out, K)
    stencil : Stencil
    groups : int

    Returns
    -------
    dw : ndarray (taps, C / groups, K)
    db : ndarray (K,)
    """
    dw = np.zeros((stencil.taps, x.shape[2] // groups, dy.shape[2]), x.dtype)
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1)
    for out, tap, source in stencil.slots():
        inputs = np.split(padded[:, source], groups, axis=2)
        gradients = np.split(dy[:, out], groups, axis=2)
        dw[tap] += np.concatenate([np.tensordot(i, g, ((0, 1), (0, 1))) for i, g in zip(inputs, gradients, strict=True)], axis=1)
    return dw, dy.sum((0, 1))


# --- cpu -----------------------------------------------------------------------------------------------------


@gather_gemm.on("cpu")
def _gather_gemm_cpu(x: Any, w: Any, b: Any, stencil: Any, groups: int = 1) -> Any:
    return _mix_sites(x, w, b, stencil, groups, adjoint=False)


@gather_gemm_dx.on("cpu")
def _gather_gemm_dx_cpu(dy: Any, w: Any, stencil: Any, groups: int = 1) -> Any:
    return _mix_sites(dy, w, None, stencil.transposed, groups, adjoint=True)


def _mix_sites(x: Any, w: Any, b: Any, stencil: Any, groups: int, adjoint: bool) -> Any:
    samples, _, channels = x.shape
    taps, lanes = len(w), VECTOR_BYTES // x.itemsize
    reads, makes = channels // groups, (w.shape[1] if adjoint else w.shape[2] // groups)
    padded = -(-makes // lanes) * lanes
    stencil.check_size(max(channels, makes * groups))
    packed = empty((groups * padded * taps * reads,), x.dtype)
    pack(w, packed, groups, reads, makes, padded, adjoint)
    bias = zeros((groups, padded), x.dtype)
    if b is not None:
        bias[:, :makes] = b.reshape(groups, makes)
    y = empty((samples, stencil.sites_out, makes * groups), x.dtype)
    sites, slots = stencil.widest
    mix_tasks(x, packed, bias.reshape(-1), y, groups, taps, padded, sites, slots, *stencil.tables)
    return y


@gather_gemm_dw.on("cpu")
def _gather_gemm_dw_cpu(x: Any, dy: Any, stencil: Any, groups: int = 1) -> Any:
    samples, _, channels = x.shape
    makes, reads, taps = dy.shape[2], channels // groups, stencil.taps
    lanes = VECTOR_BYTES // x.itemsize
    padded = -(-(makes // groups) // lanes) * lanes
    stencil.check_size(max(channels, makes))
    expanded = reads % OUTER_CHANNELS != 0
    depth = -(-taps * reads // OUTER_CHANNELS) * OUTER_CHANNELS
    size = groups * depth * padded
    parts = max(2, min(PARTS, samples * stencil.sites_out // PART_SITES))
    part = empty((parts, size), x.dtype)
    bias_part = empty((parts, groups * padded), x.dtype)
    sites, slots = stencil.widest
    outer_tasks(x, dy, part, bias_part, groups, taps, depth, padded, expanded, sites, slots, *stencil.tables)
    dw, db = empty((taps, reads, makes), x.dtype), np.empty(makes, x.dtype)
    sum_parts(part, bias_part, dw, db, groups, depth, padded)
    return dw, db


@kernel()
def pack(w, packed, groups, reads, makes, padded, adjoint):
    """Order the weights as the tiles read them: [group][block of outputs][tap][input channel][output in block]."""
    taps = w.shape[0]
    lanes = VECTOR_BYTES // w.itemsize
    for i in prange(groups * taps):
        g, t = i // taps, i % taps
        start = 0
        while start < padded:
            block = block_size(makes - start, lanes)
            at = g * padded * taps * reads + start * taps * reads + t * reads * block
            for c in range(reads):
                row = packed[at + c * block : at + (c + 1) * block]
                row[:] = 0
                if adjoint:
                    for k in range(min(block, makes - start)):
                        row[k] = w[t, start + k, g * reads + c]
                else:
                    row[: makes - start] = w[t, c, g * makes + start : g * makes + min(start + block, makes)]
            start += block


@kernel(inline=True)
def block_size(left, lanes):
    """Output channels of the next tile when `left` remain."""
    if left >= WIDE_VECTORS * lanes:
        return WIDE_VECTORS * lanes
    if left >= PAIR_VECTORS * lanes:
        return PAIR_VECTORS * lanes
    return lanes


@kernel(inline=True)
def spell(shift, base, channels, offset):
    """Write the element offsets of sites base + shift; negative where the base or the shift is."""
    if base < 0:
        offset[:] = -1
        return
    least, step = np.int32(base * channels), np.int32(channels)
    for s in range(len(offset)):
        offset[s] = least + shift[s] * step if shift[s] >= 0 else np.int32(-1)


@kernel(inline=True)
def task_tables(a, channels_in, channels_out, offset, target, task, start, size, out_base, out_kind, first, base, kind, column):
    """Spell out task `a`: element offsets of sources (slot, site) and targets (site); return sites and slots.

    The last site is repeated up to a full tile: it is computed twice, to the same place.
    """
    n, slots = 0, first[task[a] + 1] - first[task[a]]
    for g in range(task[a], task[a + 1]):
        m, window = size[g], slice(start[g], start[g] + size[g])
        # Slices, since an index that is a sum keeps Numba from vectorising: it might be negative.
        spell(column[out_kind[g], window], out_base[g], channels_out, target[n : n + m])
        for u in range(slots):
            spell(column[kind[first[g] + u], window], base[first[g] + u], channels_in, offset[u, n : n + m])
        n += m
    for p in range(n, (n + SITES - 1) // SITES * SITES):
        target[p] = target[n - 1]
        for u in range(slots):
            offset[u, p] = offset[u, n - 1]
    return n, slots


@kernel(inline=True)
def spare_end(x):
    """The last elements of a flat array, with room for a vector behind them; and where they start."""
    limit = max(0, len(x) - 8)
    spare = np.zeros(24, x.dtype)
    for i in range(limit, len(x)):
        spare[i - limit] = x[i]
    return spare, limit


@kernel(inline=True)
def expand(x, x0, offset, p0, n, tap, t0, slots, taps, reads, depth, row, zero, spare, limit):
    """Copy the taps of sites p0 .. p0 + n side by side: row[p * depth + tap * reads + c], zero where no slot reads."""
    in_order = slots == taps
    for u in range(slots):
        in_order = in_order and tap[t0 + u] == u
    if in_order and reads <= 8:
        flat = offset.reshape(-1)
        step = offset.shape[1]
        if reads <= 4:
            copy_taps_4(x, x0, flat, p0, step, slots, n, zero, spare, limit, row, depth, reads)
        else:
            copy_taps_8(x, x0, flat, p0, step, slots, n, zero, spare, limit, row, depth, reads)
        for p in range(n):
            for i in range(taps * reads, depth):
                row[p * depth + i] = 0
        return
    for p in range(n):
        at = p * depth
        for i in range(depth):
            row[at + i] = 0
        for u in range(slots):
            source = offset[u, p0 + p]
            if source >= 0:
                to = at + tap[t0 + u] * reads
                for c in range(reads):
                    row[to + c] += x[x0 + source + c]


@kernel(inline=True)
def mix(
    x, x0, offset, o0, ostep, tap, t0, slots, channels, depth, packed, w0, bias, b0, zero, y, y0, target, p0, n, makes, tail
):
    """Run the tiles over n sites and `makes` output channels; `depth` is the length of a full reduction."""
    lanes = VECTOR_BYTES // x.itemsize
    k = 0
    while k < makes:
        block = block_size(makes - k, lanes)
        w1 = w0 + k * depth
        if block == WIDE_VECTORS * lanes:
            for p in range(0, n, WIDE_SITES):
                mix_wide(
                    x, x0, offset, o0 + p, ostep, tap, t0, slots, channels, packed, w1, bias, b0 + k, zero, y, y0 + k, target, p0 + p
                )
        elif block == PAIR_VECTORS * lanes:
            for p in range(0, n, PAIR_SITES):
                mix_pair(
                    x, x0, offset, o0 + p, ostep, tap, t0, slots, channels, packed, w1, bias, b0 + k, zero, y, y0 + k, target, p0 + p
                )
        elif makes - k >= lanes:
            for p in range(0, n, SINGLE_SITES):
                mix_single(
                    x, x0, offset, o0 + p, ostep, tap, t0, slots, channels, packed, w1, bias, b0 + k, zero, y, y0 + k, target, p0 + p
                )
        else:
            mix_tail(
                x, x0, offset, o0, ostep, tap, t0, slots, channels, packed, w1, bias, b0 + k, zero, y, y0 + k, target, p0, n, makes - k, tail
            )
        k += block


@kernel(inline=True)
def mix_tail(
    x, x0, offset, o0, ostep, tap, t0, slots, channels, packed, w1, bias, b1, zero, y, y1, target, p0, n, left, tail
):
    """The last output channels, fewer than a vector: a whole tile beside `y`, of which `left` columns are copied."""
    lanes = VECTOR_BYTES // x.itemsize
    places = np.arange(SINGLE_SITES).astype(np.int32) * np.int32(lanes)
    for p in range(0, n, SINGLE_SITES):
        mix_single(x, x0, offset, o0 + p, ostep, tap, t0, slots, channels, packed, w1, bias, b1, zero, tail, 0, places, 0)
        for q in range(min(SINGLE_SITES, n - p)):
            at = y1 + target[p0 + p + q]
            for k in range(left):
                y[at + k] = tail[q * lanes + k]


@kernel()
def mix_tasks(
    x, packed, bias, y, groups, taps, padded, most_sites, most_slots,
    task, start, size, out_base, out_kind, first, tap, base, kind, column,
):  # fmt: skip
    samples, sites_in, channels = x.shape
    reads, outputs = channels // groups, y.shape[2]
    makes = outputs // groups
    depth = taps * reads
    xs, ys = x.reshape(-1), y.reshape(-1)
    tasks = len(task) - 1
    room = (most_sites + SITES - 1) // SITES * SITES
    zero = np.zeros(max(channels, 8), x.dtype)
    spare, limit = spare_end(xs)
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = np.empty((most_slots, room), np.int32), np.empty(room, np.int32)
        n, slots = task_tables(
            a, channels, outputs, offset, target, task, start, size, out_base, out_kind, first, base, kind, column
        )
        t0 = first[task[a]]
        tail = np.empty(SINGLE_SITES * (VECTOR_BYTES // x.itemsize), x.dtype)
        if reads < FEW_CHANNELS and taps > 1:
            row = np.empty((EXPANDED_SITES + SITES) * depth + 8, x.dtype)
            places = (np.arange(EXPANDED_SITES + SITES) * depth).astype(np.int32)
            whole = np.zeros(1, np.int32)
            for g in range(groups):
                for p0 in range(0, n, EXPANDED_SITES):
                    m = min(EXPANDED_SITES, n - p0)
                    filled = (m + SITES - 1) // SITES * SITES
                    expand(xs, sample * sites_in * channels + g * reads, offset, p0, filled, tap, t0, slots, taps, reads, depth, row, zero, spare, limit)
                    mix(
                        row, 0, places, 0, 0, whole, 0, 1, depth, depth, packed, g * padded * depth, bias, g * padded, zero,
                        ys, sample * y.shape[1] * outputs + g * makes, target, p0, m, makes, tail,
                    )  # fmt: skip
        else:
            for g in range(groups):
                mix(
                    xs, sample * sites_in * channels + g * reads, offset.reshape(-1), 0, room, tap, t0, slots, reads, depth,
                    packed, g * padded * depth, bias, g * padded, zero,
                    ys, sample * y.shape[1] * outputs + g * makes, target, 0, n, makes, tail,
                )  # fmt: skip


@kernel()
def outer_tasks(
    x, dy, part, bias_part, groups, taps, depth, padded, expanded, most_sites, most_slots,
    task, start, size, out_base, out_kind, first, tap, base, kind, column,
):  # fmt: skip
    samples, sites_in, channels = x.shape
    outputs = dy.shape[2]
    reads, makes = channels // groups, outputs // groups
    xs, gs = x.reshape(-1), dy.reshape(-1)
    tasks, parts = len(task) - 1, len(part)
    room = (most_sites + SITES - 1) // SITES * SITES
    lanes = VECTOR_BYTES // x.itemsize
    zero = np.zeros(max(channels, 8), x.dtype)
    spare, limit = spare_end(xs)
    for i in prange(parts):
        sums, bias_sums = part[i], bias_part[i]
        sums[:] = 0
        bias_sums[:] = 0
        block_sums = np.empty(groups * padded, x.dtype)
        one, nowhere = np.ones(1, x.dtype), np.zeros(room, np.int32)
        offset, target = np.empty((most_slots, room), np.int32), np.empty(room, np.int32)
        row = np.empty(room * depth + 8 if expanded else 1, x.dtype)
        places = (np.arange(room) * depth).astype(np.int32)
        copies = padded != makes
        gradient = np.zeros(room * padded if copies else 1, x.dtype)
        rows_of_padded = (np.arange(room) * padded).astype(np.int32)
        for q in range(i * samples * tasks // parts, (i + 1) * samples * tasks // parts):
            sample, a = q // tasks, q % tasks
            n, slots = task_tables(
                a, channels, outputs, offset, target, task, start, size, out_base, out_kind, first, base, kind, column
            )
            t0 = first[task[a]]
            x0, g0 = sample * sites_in * channels, sample * dy.shape[1] * outputs
            block_sums[:] = 0
            for g in range(groups):
                if copies:
                    for p in range(n):
                        at = g0 + target[p] + g * makes
                        for k in range(makes):
                            gradient[p * padded + k] = gs[at + k]
                if expanded:
                    expand(xs, x0 + g * reads, offset, 0, n, tap, t0, slots, taps, reads, depth, row, zero, spare, limit)
                flow, f0 = (gradient, 0) if copies else (gs, g0 + g * makes)
                spots = rows_of_padded if copies else target
                k = 0
                while k < padded:
                    if padded - k >= OUTER_VECTORS * lanes:
                        sum_full(one, 0, nowhere, 0, n, zero, flow, f0 + k, spots, 0, block_sums, g * padded + k, padded)
                        k += OUTER_VECTORS * lanes
                    else:
                        sum_single(one, 0, nowhere, 0, n, zero, flow, f0 + k, spots, 0, block_sums, g * padded + k, padded)
                        k += lanes
                for u in range(1 if expanded else slots):
                    d0 = g * depth * padded + (0 if expanded else tap[t0 + u] * reads * padded)
                    k = 0
                    while k < padded:
                        block = OUTER_VECTORS * lanes if padded - k >= OUTER_VECTORS * lanes else lanes
                        for c in range(0, depth if expanded else reads, OUTER_CHANNELS):
                            source, s0 = (row, c) if expanded else (xs, x0 + g * reads + c)
                            where = places if expanded else offset[u]
                            if block > lanes:
                                outer_full(source, s0, where, 0, n, zero, flow, f0 + k, spots, 0, sums, d0 + c * padded + k, padded)
                            else:
                                outer_single(source, s0, where, 0, n, zero, flow, f0 + k, spots, 0, sums, d0 + c * padded + k, padded)
                        k += block
            for k in range(groups * padded):
                bias_sums[k] += block_sums[k]


@kernel()
def sum_parts(part, bias_part, dw, db, groups, depth, padded):
    """Add the parts in order, and drop the padding."""
    taps, reads, outputs = dw.shape
    makes = outputs // groups
    for i in prange(taps * reads):
        out = dw[i // reads, i % reads]
        for g in range(groups):
            at = (g * depth + i) * padded
            for k in range(makes):
                out[g * makes + k] = part[0, at + k]
            for j in range(1, len(part)):
                for k in range(makes):
                    out[g * makes + k] += part[j, at + k]
    for k in range(outputs):
        at = k // makes * padded + k % makes
        total = bias_part[0, at]
        for j in range(1, len(part)):
            total += bias_part[j, at]
        db[k] = total
