"""Taps side by side, a block of sites at a time: copied where they are few channels, blended where they have shares."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    blend_tasks(x, y, stencil.tables)
    return y


def _of_lanes(e: Emitter, lanes: int | None) -> None:
    """Make the vectors of an emitter narrower."""
    if lanes is not None:
        e.lanes = lanes
        e.vector = ir.VectorType(e.element, lanes)
        e.zero = ir.Constant(e.vector, [0.0] * lanes)


def _within(e: Emitter, x: Any, place: Any, spare: Any, limit: Any) -> Any:
    """Pointer to an element of x, or to its copy near the end of the array."""
    past = e.b.icmp_signed(">=", place, limit)
    return e.b.select(past, e.at(spare, e.b.sub(place, limit)), e.at(x, place))


def blend_tile(lanes: int | None, vectors: int) -> Any:
    """Return the intrinsic that blends the sites of every tap, a few vectors of channels at a time.

    ``tile(source, runs, share, p0, n, taps, c0, row, r0, depth, spare, limit)`` computes, for p < n, t < taps and
    k < vectors * lanes,

        row[r0 + p * depth + t * channels + k] =
            sum over runs[t] <= u < runs[t + 1] of share[u] * source row (u, p0 + p) [c0 + k]

    n and taps are at least 1. None stands for the lanes of the host's vectors. A tile of fewer lanes may be wider
    than the channels: what it writes beyond them is overwritten by the next tap, and sources from `limit` on, near
    the end of the array, are read from `spare`. The loop over taps stands in here since a call with arrays for each
    tap would count references, which threads share.
    """

    @intrinsic
    def tile(typing, source, runs, share, p0, n, taps, c0, row, r0, depth, spare, limit):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            _of_lanes(e, lanes)
            x, x0, offset, step, _, _, _, channels, zero = e.fields(0)
            n, taps, depth = args[4], args[5], args[9]
            # the zeros are one row of all channels: c0 is added after the choice between row and zeros
            offset, c0 = e.at(offset, args[3]), args[6]
            runs, share, row = e.data(1), e.data(2), e.at(e.data(7), args[8])
            spare, limit = e.data(10), args[11]
            at = [v * e.lanes for v in range(vectors)]

            def values(place: Any) -> Any:
                """Pointer to the channels of a source, to its copy near the end of the array, or to zeros."""
                if lanes is None:
                    return e.row(e.at(x, x0), place, zero)
                pointer = _within(e, x, e.b.add(x0, place), spare, limit)
                return e.b.select(e.b.icmp_signed("<", place, ir.Constant(I64, 0)), zero, pointer)

            def add(out: Any, first: Any, sites: int, fresh: bool) -> None:
                """Emit a pass over n rows that adds `sites` slots from `first`."""
                slots = [e.b.add(first, ir.Constant(I64, j)) for j in range(sites)]
                weights = [e.broadcast(e.at(share, u)) for u in slots]
                places = [e.at(offset, e.b.mul(step, u)) for u in slots]

                def site(p: Any, _: list[Any]) -> list[Any]:
                    to = e.at(out, e.b.mul(p, depth))
                    sums = [e.zero if fresh else e.load(e.at(to, v)) for v in at]
                    for place, weight in zip(places, weights, strict=True):
                        found = e.at(values(e.index(e.at(place, p))), c0)
                        sums = [e.fma(weight, e.load(e.at(found, v)), s) for v, s in zip(at, sums, strict=True)]
                    for v, total in zip(at, sums, strict=True):
                        e.store(total, e.at(to, v))
                    return []

                e.repeat(n, [], site)

            def choose(out: Any, first: Any, left: Any, fresh: bool) -> None:
                """Emit a pass for however many slots are left, up to MOST_AT_ONCE."""
                done = e.b.append_basic_block("done")
                cases = {j: e.b.append_basic_block(f"sites{j}") for j in range(0 if fresh else 1, MOST_AT_ONCE + 1)}
                branch = e.b.switch(left, cases[MOST_AT_ONCE])
                for j, case in cases.items():
                    if j < MOST_AT_ONCE:
                        branch.add_case(ir.Constant(I64, j), case)
                    e.b.position_at_end(case)
                    add(out, first, j, fresh)
                    e.b.branch(done)
                e.b.position_at_end(done)

            def tap(t: Any, _: list[Any]) -> list[Any]:
                first, out = e.index(e.at(runs, t)), e.at(row, e.b.mul(t, channels))
                count = e.b.sub(e.index(e.at(runs, t, 1)), first)
                choose(out, first, count, fresh=True)

                def further(i: Any, _: list[Any]) -> list[Any]:
                    done = e.b.mul(e.b.add(i, ir.Constant(I64, 1)), ir.Constant(I64, MOST_AT_ONCE))
                    choose(out, e.b.add(first, done), e.b.sub(count, done), fresh=False)
                    return []

                passes = e.b.sdiv(e.b.sub(count, ir.Constant(I64, 1)), ir.Constant(I64, MOST_AT_ONCE))
                e.repeat(passes, [], further, always=False)
                return []

            e.repeat(taps, [], tap)
            return context.get_dummy_value()

        return VOID(source, runs, share, INT, INT, INT, INT, row, INT, INT, spare, INT), codegen

    return tile


def rows_tile(lanes: int | None, vectors: int) -> Any:
    """Return the intrinsic that forms rows of a sparse matrix times x, a few vectors of channels at a time.

    ``tile(x, x0, matrix, r0, n, taps, channels, c0, row, to, depth, spare, limit)`` computes, for p < n, t < taps and
    k < vectors * lanes,

        row[to + p * depth + t * channels + k] = sum over entries (q, a) of matrix row r0 + p * taps + t of
            a * x[x0 + q * matrix.channels + c0 + k]

    n and taps are at least 1. Lanes, `spare` and `limit` are as for `blend_tile`.
    """

    @intrinsic
    def tile(typing, x, x0, matrix, r0, n, taps, channels, c0, row, to, depth, spare, limit):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            _of_lanes(e, lanes)
            indptr, indices, data, _, _, whole = e.fields(2)
            begin, n, taps, channels = e.b.add(args[1], args[7]), args[4], args[5], args[6]
            x, indptr, row = e.data(0), e.at(indptr, args[3]), e.at(e.data(8), args[9])
            depth, spare, limit = args[10], e.data(11), args[12]
            at = [v * e.lanes for v in range(vectors)]

            def entry(first: Any) -> Any:
                def add(j: Any, sums: list[Any]) -> list[Any]:
                    k = e.b.add(first, j)
                    place = e.b.add(begin, e.b.mul(e.index(e.at(indices, k)), whole))
                    found = e.at(x, place) if lanes is None else _within(e, x, place, spare, limit)
                    share = e.spread(e.number(e.b.load(e.at(data, k))))
                    return [e.fma(share, e.load(e.at(found, v)), s) for v, s in zip(at, sums, strict=True)]

                return add

            def site(p: Any, _: list[Any]) -> list[Any]:
                rows, out = e.at(indptr, e.b.mul(p, taps)), e.at(row, e.b.mul(p, depth))

                def tap(t: Any, _: list[Any]) -> list[Any]:
                    first = e.index(e.at(rows, t))
                    count = e.b.sub(e.index(e.at(rows, t, 1)), first)
                    sums = e.repeat(count, [e.zero] * vectors, entry(first), always=False)
                    for v, total in zip(at, sums, strict=True):
                        e.store(total, e.at(out, e.b.mul(t, channels), v))
                    return []

                e.repeat(taps, [], tap)
                return []

            e.repeat(n, [], site)
            return context.get_dummy_value()

        return VOID(x, INT, matrix, INT, INT, INT, INT, INT, row, INT, INT, spare, INT), codegen

    return tile


rows_four, rows_two, rows_one = (rows_tile(None, vectors) for vectors in (4, 2, 1))
rows_narrow = rows_tile(NARROW, 1)
blend_four, blend_two, blend_one = (blend_tile(None, vectors) for vectors in (4, 2, 1))
blend_narrow = blend_tile(NARROW, 1)


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
    first_row, n = tables.start[tables.task[a]] * taps, 0
    for g in range(tables.task[a], tables.task[a + 1]):
        n += tables.size[g]
    matrix = Matrix(tables.indptr, tables.indices, tables.data, first_row, n, x.shape[2])
    if len(tables.share) == 0:
        return Shares(np.empty(0, x.dtype), np.empty(0, np.int32), matrix)
    runs = np.zeros(taps + 1, np.int32)
    for u in range(slots):
        runs[tables.tap[first + u] + 1] += 1
    for t in range(taps):
        runs[t + 1] += runs[t]
    return Shares(tables.share[first : first + slots].astype(x.dtype), runs, matrix)


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
