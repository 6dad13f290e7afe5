"""The engine: gather the sites of a stencil, mix their channels. Forward, data gradient, weight gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from spherecnn.kernels import register_tiles, vector
from spherecnn.kernels.expand import (
    FEW_CHANNELS,
    NARROW,
    aligned,
    blended,
    block_sites,
    expand,
    per_site,
    shares_of,
    spare_end,
    tap_span,
)
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty, zeros
from spherecnn.kernels.op import op
from spherecnn.kernels.pointwise import relu
from spherecnn.kernels.register_tiles import touch
from spherecnn.kernels.tasks import spell_task, task_room
from spherecnn.kernels.vector import Rows, Source, Weights

mix_wide, mix_pair, mix_single = (register_tiles.mix_tile(*size) for size in (vector.WIDE, vector.PAIR, vector.SINGLE))
mix_part = register_tiles.mix_tile(*vector.SINGLE, partial=True)
outer_full, sum_full = (register_tiles.outer_tile(vector.OUTER[0], n) for n in (vector.OUTER[1], 1))
outer_single, sum_single = (register_tiles.outer_tile(1, n) for n in (vector.OUTER[1], 1))
outer_part, sum_part = (register_tiles.outer_tile(1, n, partial=True) for n in (vector.OUTER[1], 1))
WIDE_VECTORS, WIDE_SITES = vector.WIDE
PAIR_VECTORS, PAIR_SITES = vector.PAIR
SINGLE_SITES = vector.SINGLE[1]
OUTER_VECTORS, OUTER_CHANNELS = vector.OUTER
SITES = vector.SITES
VECTOR_BYTES = vector.HOST.bytes

# Rows are fetched for a site so far ahead: more than a tile, since a fetch takes longer.
AHEAD = 2 * SITES

# The weight gradient is summed in parts, whose number does not depend on the threads, and the parts in order.
PARTS, PART_SITES = 16, 512
# A task that reads fewer than one of so many taps is told apart: only what it reads is expanded and summed.
SPARSE = 4


@op
def gather_gemm(x: Any, w: Any, b: Any, stencil: Any, groups: int = 1, rectified: bool = False) -> Any:
    r"""Convolve: gather the sites of each tap, mix their channels.

    .. math:: y_{n,p,k} = b_{bias(p),\,k} + \sum_{u} share(u) \sum_c x_{n,\,source(p,u),\,c}\; w_{tap(u),\,c,\,k}

    Parameters
    ----------
    x : ndarray (N, P_in, C)
    w : ndarray (taps, C / groups, K)
    b : ndarray (K,), or (biases, K) for a stencil with several rows of biases, or None
    stencil : Stencil
    groups : int
        Output channel k reads the input channels of group k // (K / groups) only.
    rectified : bool
        Return max(y, 0), as `relu`.

    Returns
    -------
    ndarray (N, P_out, K)
    """
    y = np.zeros((len(x), stencil.sites_out, w.shape[2]), x.dtype)
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1)  # source -1 is the last row: zeros
    for out, tap, source, share in stencil.shared_slots():
        inputs = np.split(padded[:, source] * per_site(share, x), groups, axis=2)
        weights = np.split(w[tap], groups, axis=1)
        y[:, out] += np.concatenate([i @ j for i, j in zip(inputs, weights, strict=True)], axis=2)
    y = y if b is None else y + b.reshape(stencil.biases, -1)[stencil.bias_rows()]
    return relu.definition(y) if rectified else y


@op
def gather_gemm_dx(dy: Any, w: Any, stencil: Any, groups: int = 1) -> Any:
    r"""Data gradient of `gather_gemm`: the same kernel on the transposed stencil, with transposed weights.

    .. math:: dx_{n,q,c} = \sum_{(p,u):\,source(p,u)=q} share(u) \sum_k dy_{n,p,k}\; w_{tap(u),\,c,\,k}

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

    .. math::
        dw_{t,c,k} = \sum_n \sum_{(p,u):\,tap(u)=t} share(u)\, x_{n,\,source(p,u),\,c}\; dy_{n,p,k},\qquad
        db_{r,k} = \sum_n \sum_{p:\,bias(p)=r} dy_{n,p,k}

    Parameters
    ----------
    x : ndarray (N, P_in, C)
    dy : ndarray (N, P_out, K)
    stencil : Stencil
    groups : int

    Returns
    -------
    dw : ndarray (taps, C / groups, K)
    db : ndarray (K,), or (biases, K)
    """
    dw = np.zeros((stencil.taps, x.shape[2] // groups, dy.shape[2]), x.dtype)
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1)
    for out, tap, source, share in stencil.shared_slots():
        inputs = np.split(padded[:, source] * per_site(share, x), groups, axis=2)
        gradients = np.split(dy[:, out], groups, axis=2)
        dw[tap] += np.concatenate(
            [np.tensordot(i, g, ((0, 1), (0, 1))) for i, g in zip(inputs, gradients, strict=True)], axis=1
        )
    db = np.zeros((stencil.biases, dy.shape[2]), dy.dtype)
    np.add.at(db, stencil.bias_rows(), dy.sum(0))
    return dw, db if stencil.biases > 1 else db[0]


# --- cpu -----------------------------------------------------------------------------------------------------


@gather_gemm.on("cpu")
def _gather_gemm_cpu(x: Any, w: Any, b: Any, stencil: Any, groups: int = 1, rectified: bool = False) -> Any:
    y = _mix_sites(x, w, b, stencil, groups, adjoint=False)
    return relu(y) if rectified else y


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
    biases = 1 if b is None else stencil.biases
    bias = zeros((biases, groups, padded), x.dtype)
    if b is not None:
        bias[..., :makes] = b.reshape(biases, groups, makes)
    y = empty((samples, stencil.sites_out, makes * groups), x.dtype)
    mix_tasks(x, packed, bias.reshape(-1), y, groups, taps, padded, stencil.tables(x.dtype))
    return y


@gather_gemm_dw.on("cpu")
def _gather_gemm_dw_cpu(x: Any, dy: Any, stencil: Any, groups: int = 1) -> Any:
    samples, _, channels = x.shape
    makes, reads, taps = dy.shape[2], channels // groups, stencil.taps
    lanes = VECTOR_BYTES // x.itemsize
    padded = -(-(makes // groups) // lanes) * lanes
    stencil.check_size(max(channels, makes))
    parts = parts_of(stencil, samples, reads)
    part = empty((int(parts.start[-1]) * groups * padded,), x.dtype)
    bias_part = empty((len(parts.lead), stencil.biases * groups * padded), x.dtype)
    outer_tasks(x, dy, part, bias_part, groups, taps, padded, parts, stencil.tables(x.dtype))
    dw, db = empty((taps, reads, makes), x.dtype), np.empty((stencil.biases, makes), x.dtype)
    sum_parts(part, bias_part, dw, db, groups, padded, parts)
    return dw, db if stencil.biases > 1 else db[0]


class Parts(NamedTuple):
    """The parts of a weight gradient: part i sums taps lead[i] to lead[i] + span[i], from row start[i] on."""

    lead: Any
    span: Any
    start: Any
    by_rows: bool  # the samples of a task follow each other, not the tasks of a sample


def parts_of(stencil: Any, samples: int, reads: int) -> Parts:
    """Divide the tasks of all samples in parts; where rows have taps of their own, a part has few of them."""
    count = max(2, min(PARTS, samples * stencil.sites_out // PART_SITES))
    tasks = len(stencil.task) - 1
    by_rows = not stencil.blends and stencil.taps > SPARSE * stencil.most_slots
    lead, span = np.zeros(count, np.int64), np.full(count, stencil.taps)
    if by_rows:
        first = stencil.first[stencil.task]
        least, most = np.minimum.reduceat(stencil.tap, first[:-1]), np.maximum.reduceat(stencil.tap, first[:-1])
        for i in range(count):
            its = slice(i * tasks // count, -(-(i + 1) * tasks // count))
            lead[i], span[i] = least[its].min(), most[its].max() - least[its].min() + 1
    # What a task expands is filled up to whole tiles, beyond the taps of its part.
    rows = span * reads + OUTER_CHANNELS
    return Parts(lead, span, np.concatenate([[0], np.cumsum(rows)]), by_rows)


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
def mix(source, weights, depth, lead, sink, p0, n, makes, latest):
    """Run the tiles over n sites and `makes` output channels.

    `depth` is the length of a full reduction, over all taps, and `lead` where in it the source begins. With `latest`,
    of `last_sources`, the rows that later tiles read first are fetched meanwhile.
    """
    lanes = VECTOR_BYTES // source.array.itemsize
    k = 0
    while k < makes:
        block, left = block_size(makes - k, lanes), makes - k
        at = k * depth + lead * block
        if left < lanes:
            for p in range(0, n, SINGLE_SITES):
                mix_part(source, p, weights, at, k, sink, p0 + p, left)
        elif block == WIDE_VECTORS * lanes:
            for p in range(0, n, WIDE_SITES):
                if k == 0 and len(latest):
                    touch(source.array, source.start, latest, p + AHEAD, WIDE_SITES, source.channels)
                mix_wide(source, p, weights, at, k, sink, p0 + p, left)
        elif block == PAIR_VECTORS * lanes:
            for p in range(0, n, PAIR_SITES):
                if k == 0 and len(latest):
                    touch(source.array, source.start, latest, p + AHEAD, PAIR_SITES, source.channels)
                mix_pair(source, p, weights, at, k, sink, p0 + p, left)
        else:
            for p in range(0, n, SINGLE_SITES):
                mix_single(source, p, weights, at, k, sink, p0 + p, left)
        k += block


@kernel(inline=True)
def last_sources(offset, n, slots):
    """The greatest offset that each site reads: on a grid in order, mostly what no site before it has read."""
    latest = np.zeros(n + AHEAD + SITES, np.int32)
    for u in range(slots):
        row = offset[u]
        for p in range(n):
            latest[p] = max(latest[p], row[p])
    latest[n:] = latest[n - 1]
    return latest


@kernel()
def mix_tasks(x, packed, bias, y, groups, taps, padded, tables):
    samples, sites_in, channels = x.shape
    reads, outputs = channels // groups, y.shape[2]
    depth, makes = taps * reads, outputs // groups
    xs, ys = x.reshape(-1), y.reshape(-1)
    tasks = len(tables.task) - 1
    zero = np.zeros(max(channels, FEW_CHANNELS), x.dtype)
    spare, limit = spare_end(xs)
    few = reads < FEW_CHANNELS and taps > 1
    rows = len(bias) // (groups * padded)
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = task_room(tables)
        n, slots, first = spell_task(a, tables, channels, outputs, offset, target)
        shares = shares_of(a, tables, first, slots, taps, x)
        lead, span = tap_span(tables, first, slots, taps)
        expanded = blended(tables) or (few and span <= SPARSE * slots)
        stride = span * reads + (NARROW if reads < NARROW else 0)
        most = block_sites(n, stride, x.itemsize) if expanded else n
        bias_row = tables.bias[tables.task[a]] if rows > 1 else 0
        row = aligned((most + SITES) * stride + FEW_CHANNELS if expanded else 1, x)
        places = (np.arange(most + SITES if expanded else 0) * stride).astype(np.int32)
        flat, step = offset.reshape(-1), offset.shape[1]
        latest = last_sources(offset, n, 0 if expanded else slots)
        nothing = latest[:0]
        for g in range(groups):
            x0, y0 = sample * sites_in * channels + g * reads, sample * y.shape[1] * outputs + g * makes
            source = Source(xs, x0, flat, step, tables.tap, first, slots, reads, zero)
            weights = Weights(packed, g * padded * depth, bias, (bias_row * groups + g) * padded)
            sink = Rows(ys, y0, target)
            for p0 in range(0, n, most):
                m = min(most, n - p0)
                if expanded:
                    full = (m + SITES - 1) // SITES * SITES
                    expand(source, shares, p0, full, lead, span, stride, row, spare, limit)
                    joined = Source(row, 0, places, 0, tables.only_tap, 0, 1, span * reads, zero)
                    if tables.together:  # sites in an order that is not that of the memory
                        touch(ys, y0, target, p0, m, makes)
                    mix(joined, weights, depth, lead * reads, sink, p0, m, makes, nothing)
                else:
                    mix(source, weights, depth, 0, sink, p0, m, makes, latest)


@kernel()
def outer_tasks(x, dy, part, bias_part, groups, taps, padded, parts, tables):
    samples, sites_in, channels = x.shape
    outputs = dy.shape[2]
    reads, makes = channels // groups, outputs // groups
    xs, gs = x.reshape(-1), dy.reshape(-1)
    tasks, count = len(tables.task) - 1, len(parts.lead)
    zero = np.zeros(max(channels, FEW_CHANNELS), x.dtype)
    spare, limit = spare_end(xs)
    expanded = blended(tables) or reads % OUTER_CHANNELS != 0
    for i in prange(count):
        rows = parts.start[i + 1] - parts.start[i]
        sums = part[parts.start[i] * groups * padded : parts.start[i + 1] * groups * padded]
        bias_sums = bias_part[i]
        sums[:] = 0
        bias_sums[:] = 0
        block_sums = np.empty(groups * padded, x.dtype)
        offset, target = task_room(tables)
        flat, step = offset.reshape(-1), offset.shape[1]
        ones = Source(np.ones(1, x.dtype), 0, np.zeros(step, np.int32), 0, tables.tap, 0, 1, 1, zero)
        for q in range(i * samples * tasks // count, (i + 1) * samples * tasks // count):
            sample, a = (q % samples, q // samples) if parts.by_rows else (q // tasks, q % tasks)
            n, slots, first = spell_task(a, tables, channels, outputs, offset, target)
            shares = shares_of(a, tables, first, slots, taps, x)
            lead, span = tap_span(tables, first, slots, taps)
            depth = (span * reads + OUTER_CHANNELS - 1) // OUTER_CHANNELS * OUTER_CHANNELS
            stride = depth + (NARROW if reads < NARROW else 0)
            most = block_sites(n, stride, x.itemsize)
            row = aligned(most * stride + FEW_CHANNELS if expanded else 1, x)
            places = (np.arange(most if expanded else 0) * stride).astype(np.int32)
            joined = Source(row, 0, places, 0, tables.tap, 0, 1, depth, zero)
            block_sums[:] = 0
            for g in range(groups):
                flow = Rows(gs, sample * dy.shape[1] * outputs + g * makes, target)
                x0 = sample * sites_in * channels + g * reads
                source = Source(xs, x0, flat, step, tables.tap, first, slots, reads, zero)
                add_outer(ones, 0, 1, flow, n, makes, block_sums, g * padded, padded)
                for p0 in range(0, n if expanded else 0, most):
                    m = min(most, n - p0)
                    expand(source, shares, p0, m, lead, span, stride, row, spare, limit)
                    part_of_flow = Rows(flow.array, flow.start, flow.offset[p0 : p0 + m])
                    at = (g * rows + (lead - parts.lead[i]) * reads) * padded
                    if tables.together:
                        touch(flow.array, flow.start, part_of_flow.offset, 0, m, makes)
                    add_outer(joined, 0, depth, part_of_flow, m, makes, sums, at, padded)
                for u in range(0 if expanded else slots):
                    at = (g * rows + (tables.tap[first + u] - parts.lead[i]) * reads) * padded
                    add_outer(source, u * step, reads, flow, n, makes, sums, at, padded)
            bias_at = tables.bias[tables.task[a]] * groups * padded
            for k in range(len(block_sums)):
                bias_sums[bias_at + k] += block_sums[k]


@kernel(inline=True)
def add_outer(source, o0, channels, flow, n, makes, sums, at, padded):
    """sums[at + c * padded + k] += sum over n sites of source channel c times gradient channel k; all k < makes."""
    lanes = VECTOR_BYTES // sums.itemsize
    k = 0
    while k < makes:
        left = makes - k
        if channels == 1:
            if left >= OUTER_VECTORS * lanes:
                sum_full(source, o0, 0, flow, k, n, sums, at + k, padded, left)
            elif left >= lanes:
                sum_single(source, o0, 0, flow, k, n, sums, at + k, padded, left)
            else:
                sum_part(source, o0, 0, flow, k, n, sums, at + k, padded, left)
        for c in range(0, channels // OUTER_CHANNELS * OUTER_CHANNELS, OUTER_CHANNELS):
            if left >= OUTER_VECTORS * lanes:
                outer_full(source, o0, c, flow, k, n, sums, at + c * padded + k, padded, left)
            elif left >= lanes:
                outer_single(source, o0, c, flow, k, n, sums, at + c * padded + k, padded, left)
            else:
                outer_part(source, o0, c, flow, k, n, sums, at + c * padded + k, padded, left)
        k += OUTER_VECTORS * lanes if left >= OUTER_VECTORS * lanes else lanes


@kernel()
def sum_parts(part, bias_part, dw, db, groups, padded, parts):
    """Add the parts in order, and drop the padding."""
    taps, reads, outputs = dw.shape
    makes = outputs // groups
    for i in prange(taps * reads):
        out = dw[i // reads, i % reads]
        out[:] = 0
        for j in range(len(parts.lead)):
            row = i - parts.lead[j] * reads
            if row < 0 or row >= parts.span[j] * reads:
                continue
            rows = parts.start[j + 1] - parts.start[j]
            for g in range(groups):
                at = (parts.start[j] * groups + g * rows + row) * padded
                for k in range(makes):
                    out[g * makes + k] += part[at + k]
    for r in range(len(db)):
        for k in range(outputs):
            at = (r * groups + k // makes) * padded + k % makes
            total = bias_part[0, at]
            for j in range(1, len(bias_part)):
                total += bias_part[j, at]
            db[r, k] = total
