"""Taps side by side, a block of sites at a time: copied where they are few channels, blended where they have shares."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import prange
from numba.extending import intrinsic

from spherecnn.kernels import vector
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op
from spherecnn.kernels.tasks import spell_task, task_room
from spherecnn.kernels.vector import I64, INT, VOID, Emitter, Source

copy_taps_4, copy_taps_8 = vector.copy_taps_4, vector.copy_taps_8
VECTOR_BYTES = vector.HOST.bytes
SITES = vector.SITES

# With fewer channels than this, taps are copied side by side, so that one reduction runs over taps and channels.
FEW_CHANNELS = 8
# A block of expanded sites stays in the second-level cache.
EXPANDED_SITES, EXPANDED_BYTES = 96, 1 << 18
NARROW = 4  # elements of the narrow blending tile
MOST_AT_ONCE = 4  # sites that one pass of a blending tile adds


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
        y[:, out] += padded[:, source] * x.dtype.type(share)
    return y


# --- cpu -----------------------------------------------------------------------------------------------------


@blend.on("cpu")
def _blend_cpu(x: Any, stencil: Any) -> Any:
    stencil.check_size(x.shape[2])
    y = empty((len(x), stencil.sites_out, x.shape[2]), x.dtype)
    blend_tasks(x, y, stencil.tables)
    return y


def blend_tile(lanes: int | None, vectors: int) -> Any:
    """Return the intrinsic that blends the sites of one tap, a few vectors of channels at a time.

    ``tile(source, u0, count, share, p0, n, c0, row, r0, depth)`` computes, for p < n and k < vectors * lanes,

        row[r0 + p * depth + k] = sum over u0 <= u < u0 + count of share[u] * source row (u, p0 + p) [c0 + k]

    n and count are at least 1. None stands for the lanes of the host's vectors.
    """

    @intrinsic
    def tile(typing, source, u0, count, share, p0, n, c0, row, r0, depth):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            if lanes is not None:
                e.lanes = lanes
                e.vector = ir.VectorType(e.element, lanes)
                e.zero = ir.Constant(e.vector, [0.0] * lanes)
            x, x0, offset, step, _, _, _, _, zero = e.fields(0)
            u0, count, n, depth = args[1], args[2], args[5], args[9]
            # the zeros are one row of all channels: c0 is added after the choice between row and zeros
            x, offset, c0 = e.at(x, x0), e.at(offset, args[4]), args[6]
            share, row = e.data(3), e.at(e.data(7), args[8])

            def add(first: Any, sites: int, fresh: bool) -> None:
                """Emit one pass over n rows that adds `sites` slots from `first`."""
                slots = [e.b.add(first, ir.Constant(I64, j)) for j in range(sites)]
                weights = [e.broadcast(e.at(share, u)) for u in slots]
                places = [e.at(offset, e.b.mul(step, u)) for u in slots]

                def site(p: Any, _: list[Any]) -> list[Any]:
                    out = e.at(row, e.b.mul(p, depth))
                    at = [v * e.lanes for v in range(vectors)]
                    sums = [e.zero if fresh else e.load(e.at(out, v)) for v in at]
                    for place, weight in zip(places, weights, strict=True):
                        values = e.at(e.row(x, e.index(e.at(place, p)), zero), c0)
                        sums = [e.fma(weight, e.load(e.at(values, v)), s) for v, s in zip(at, sums, strict=True)]
                    for v, total in zip(at, sums, strict=True):
                        e.store(total, e.at(out, v))
                    return []

                e.repeat(n, [], site)

            def choose(first: Any, left: Any, fresh: bool) -> None:
                """Emit a pass for however many slots are left, up to MOST_AT_ONCE."""
                done = e.b.append_basic_block("done")
                most = e.b.append_basic_block("most")
                cases = [e.b.append_basic_block(f"sites{j}") for j in range(1, MOST_AT_ONCE)]
                branch = e.b.switch(left, most)
                for j, case in enumerate(cases, 1):
                    branch.add_case(ir.Constant(I64, j), case)
                for j, case in enumerate([*cases, most], 1):
                    e.b.position_at_end(case)
                    add(first, j, fresh)
                    e.b.branch(done)
                e.b.position_at_end(done)

            choose(u0, count, fresh=True)
            more = e.b.sub(count, ir.Constant(I64, 1))
            passes = e.b.sdiv(more, ir.Constant(I64, MOST_AT_ONCE))

            def further(i: Any, _: list[Any]) -> list[Any]:
                done = e.b.mul(e.b.add(i, ir.Constant(I64, 1)), ir.Constant(I64, MOST_AT_ONCE))
                choose(e.b.add(u0, done), e.b.sub(count, done), fresh=False)
                return []

            e.repeat(passes, [], further, always=False)
            return context.get_dummy_value()

        return VOID(source, INT, INT, share, INT, INT, INT, row, INT, INT), codegen

    return tile


blend_four, blend_two, blend_one = (blend_tile(None, vectors) for vectors in (4, 2, 1))
blend_narrow = blend_tile(NARROW, 1)


@kernel(inline=True)
def block_sites(n, depth, itemsize):
    """How many of n sites to expand at a time, in whole tiles."""
    fit = EXPANDED_BYTES // (depth * itemsize) // SITES * SITES
    return min(n, min(EXPANDED_SITES, max(SITES, fit)))


@kernel(inline=True)
def spare_end(x):
    """The last elements of a flat array, with room for a vector behind them; and where they start."""
    limit = max(0, len(x) - FEW_CHANNELS)
    spare = np.zeros(3 * FEW_CHANNELS, x.dtype)
    for i in range(limit, len(x)):
        spare[i - limit] = x[i]
    return spare, limit


@kernel(inline=True)
def shares_of(tables, first, slots, x):
    """The shares of the slots of a task, in the type of x; empty where there are none."""
    if len(tables.share) == 0:
        return np.empty(0, x.dtype)
    return tables.share[first : first + slots].astype(x.dtype)


@kernel(inline=True)
def expand(source, share, p0, n, taps, depth, row, spare, limit):
    """Put the taps of n sites from p0 side by side: row[p * depth + tap * channels + c], zero where no slot reads."""
    channels = source.channels
    if len(share):
        blend_taps(source, share, p0, n, taps, depth, row, 0)
        return
    in_order = source.slots == taps
    for u in range(source.slots):
        in_order = in_order and source.tap[source.first + u] == u
    if in_order and channels <= FEW_CHANNELS:
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
                to = source.tap[source.first + u] * channels
                values = source.array[source.start + at : source.start + at + channels]
                for c in range(channels):
                    out[to + c] += values[c]


@kernel(inline=True)
def blend_taps(source, share, p0, n, taps, depth, row, r0):
    """Blend every tap of n sites: row[r0 + p * depth + tap * channels + c]."""
    channels, u = source.channels, 0
    for t in range(taps):
        count = 0
        while u + count < source.slots and source.tap[source.first + u + count] == t:
            count += 1
        if count:
            blend_tap(source, u, count, share, p0, n, row, r0 + t * channels, depth)
        else:
            for p in range(n):
                at = r0 + p * depth + t * channels
                row[at : at + channels] = 0
        u += count
    for p in range(n):
        row[r0 + p * depth + taps * channels : r0 + (p + 1) * depth] = 0


@kernel(inline=True)
def blend_tap(source, u, count, share, p0, n, row, r0, depth):
    """All channels of one tap; the last vector may overlap the one before, the same sums twice."""
    channels, lanes = source.channels, VECTOR_BYTES // row.itemsize
    if channels < NARROW:
        for p in range(n):
            out = row[r0 + p * depth : r0 + p * depth + channels]
            out[:] = 0
            for j in range(u, u + count):
                at = source.offset[j * source.step + p0 + p]
                if at >= 0:
                    values = source.array[source.start + at : source.start + at + channels]
                    for c in range(channels):
                        out[c] += share[j] * values[c]
        return
    c = 0
    if channels < lanes:
        while c < channels:
            c = min(c, channels - NARROW)
            blend_narrow(source, u, count, share, p0, n, c, row, r0 + c, depth)
            c += NARROW
        return
    while channels - c >= 4 * lanes:
        blend_four(source, u, count, share, p0, n, c, row, r0 + c, depth)
        c += 4 * lanes
    if channels - c >= 2 * lanes:
        blend_two(source, u, count, share, p0, n, c, row, r0 + c, depth)
        c += 2 * lanes
    while c < channels:
        c = min(c, channels - lanes)
        blend_one(source, u, count, share, p0, n, c, row, r0 + c, depth)
        c += lanes


@kernel()
def blend_tasks(x, y, tables):
    """Blend to the outputs themselves, whose sites follow each other in a task of shares."""
    samples, sites_in, channels = x.shape
    xs, ys = x.reshape(-1), y.reshape(-1)
    tasks = len(tables.task) - 1
    zero = np.zeros(channels, x.dtype)
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = task_room(tables)
        n, slots, first = spell_task(a, tables, channels, channels, offset, target)
        share = shares_of(tables, first, slots, x)
        source = Source(
            xs,
            sample * sites_in * channels,
            offset.reshape(-1),
            offset.shape[1],
            tables.tap,
            first,
            slots,
            channels,
            zero,
        )
        y0 = sample * y.shape[1] * channels
        p = 0
        while p < n:
            m = 1
            while p + m < n and target[p + m] == target[p + m - 1] + channels:
                m += 1
            blend_taps(source, share, p, m, 1, channels, ys, y0 + target[p])
            p += m
