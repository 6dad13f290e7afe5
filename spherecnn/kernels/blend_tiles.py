"""Intrinsics that blend several sites to each tap: by the shares of slots, or by the rows of a sparse matrix."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba.extending import intrinsic

from spherecnn.kernels.vector import I64, INT, VOID, Emitter
from spherecnn.stencils.sparse import TOGETHER

# The last entry of a row is mostly the only one that no row before it has read: it is fetched so many sites ahead.
AHEAD = 24
NARROW = 4  # elements of the narrow tile
MOST_AT_ONCE = 4  # sites that one pass adds


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
            indptr, indices, data, _, _, whole, _ = e.fields(2)
            begin, n, taps, channels = e.b.add(args[1], args[7]), args[4], args[5], args[6]
            x, indptr, row = e.data(0), e.at(indptr, args[3]), e.at(e.data(8), args[9])
            depth, spare, limit = args[10], e.data(11), args[12]
            at = [v * e.lanes for v in range(vectors)]

            def entry(first: Any) -> Any:
                def add(j: Any, sums: list[Any]) -> list[Any]:
                    k = e.b.add(first, j)
                    place = e.b.add(begin, e.b.mul(e.index(e.at(indices, k)), whole))
                    found = e.at(x, place) if lanes is None else _within(e, x, place, spare, limit)
                    share = e.broadcast(e.at(data, k))
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


def together_tile(lanes: int | None, vectors: int) -> Any:
    """Return the intrinsic that forms all taps of a site from the same few others.

    ``tile(x, x0, matrix, r0, n, channels, c0, row, to, depth, spare, limit)`` computes, for p < n, t < TOGETHER and
    k < vectors * lanes,

        row[to + p * depth + t * channels + k] = sum over entries (q, a_0, a_1, ...) of matrix row r0 + p of
            a_t * x[x0 + q * matrix.channels + c0 + k]

    so that a site is read once for all taps, and fetched before. n is at least 1, and the first row of the matrix has
    entries. Lanes, `spare` and `limit` are as for `blend_tile`.
    """

    @intrinsic
    def tile(typing, x, x0, matrix, r0, n, channels, c0, row, to, depth, spare, limit):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            _of_lanes(e, lanes)
            indptr, indices, data, start, sites, whole, _ = e.fields(2)
            begin, n, channels = e.b.add(args[1], args[6]), args[4], args[5]
            x, indptr, row = e.data(0), e.at(indptr, args[3]), e.at(e.data(7), args[8])
            depth, spare, limit = args[9], e.data(10), args[11]
            at = [v * e.lanes for v in range(vectors)]
            fetched = e.b.select(e.b.icmp_signed("==", args[6], ir.Constant(I64, 0)), whole, ir.Constant(I64, 0))
            last = e.b.sub(e.b.sub(e.b.add(start, sites), args[3]), ir.Constant(I64, 1))

            def site(p: Any, _: list[Any]) -> list[Any]:
                first, out = e.index(e.at(indptr, p)), e.at(row, e.b.mul(p, depth))
                count = e.b.sub(e.index(e.at(indptr, p, 1)), first)
                later = e.b.add(p, ir.Constant(I64, AHEAD))
                later = e.b.select(e.b.icmp_signed("<", later, last), later, last)
                newest = e.b.sub(e.index(e.at(indptr, later, 1)), ir.Constant(I64, 1))
                e.fetch(e.at(x, args[1], e.b.mul(e.index(e.at(indices, newest)), whole)), fetched)

                def add(j: Any, sums: list[Any]) -> list[Any]:
                    k = e.b.add(first, j)
                    place = e.b.add(begin, e.b.mul(e.index(e.at(indices, k)), whole))
                    found = e.at(x, place) if lanes is None else _within(e, x, place, spare, limit)
                    values, shares = [e.load(e.at(found, v)) for v in at], e.at(data, e.b.mul(k, four))
                    new = []
                    for t in range(TOGETHER):
                        share = e.broadcast(e.at(shares, t))
                        new += [e.fma(share, values[v], sums[t * vectors + v]) for v in range(vectors)]
                    return new

                sums = e.repeat(count, [e.zero] * (TOGETHER * vectors), add, always=False)
                for t in range(TOGETHER):
                    to = e.at(out, e.b.mul(channels, ir.Constant(I64, t)))
                    for v, total in zip(at, sums[t * vectors :], strict=False):
                        e.store(total, e.at(to, v))
                return []

            four = ir.Constant(I64, TOGETHER)
            e.repeat(n, [], site)
            return context.get_dummy_value()

        return VOID(x, INT, matrix, INT, INT, INT, INT, row, INT, INT, spare, INT), codegen

    return tile


together_four, together_two, together_one = (together_tile(None, vectors) for vectors in (4, 2, 1))
together_narrow = together_tile(NARROW, 1)
rows_four, rows_two, rows_one = (rows_tile(None, vectors) for vectors in (4, 2, 1))
rows_narrow = rows_tile(NARROW, 1)
blend_four, blend_two, blend_one = (blend_tile(None, vectors) for vectors in (4, 2, 1))
blend_narrow = blend_tile(NARROW, 1)
