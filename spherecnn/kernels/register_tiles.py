"""Register tiles of the channel mix, its gradients and sums of sites: intrinsics that keep their sums in registers."""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
from numba.extending import intrinsic

from spherecnn.kernels.vector import I64, INT, VOID, Emitter


def mix_tile(vectors: int, sites: int, partial: bool = False) -> Any:
    """Return the intrinsic of the channel mix for a register tile.

    ``mix(source, p0, weights, w0, k0, sink, q0, left)`` computes, for p < sites and k < K = vectors * lanes,

        sink row q0 + p [k0 + k] = bias[k0 + k] + sum over slots u and channels c of
            source row (u, p0 + p) [c] * weights[w0 + (tap(u) * channels + c) * K + k]

    Slots and channels are at least 1. A partial tile writes `left` outputs of its last vector; others take no notice.
    """

    @intrinsic
    def mix(typing, source, p0, weights, w0, k0, sink, q0, left):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            x, x0, offset, step, tap, first, slots, channels, zero = e.fields(0)
            w, start, bias, bias_start = e.fields(2)
            y, y0, target = e.fields(5)
            p0, w0, k0, q0 = args[1], args[3], args[4], args[6]
            x, offset, tap = e.at(x, x0), e.at(offset, p0), e.at(tap, first)
            w, bias, y, target = e.at(w, start, w0), e.at(bias, bias_start, k0), e.at(y, y0, k0), e.at(target, q0)
            block = vectors * e.lanes
            slice_size = e.b.mul(channels, ir.Constant(I64, block))
            at = [v * e.lanes for v in range(vectors)]
            begin = [e.load(e.at(bias, v)) for v in at]

            def slot(u: Any, sums: list[Any]) -> list[Any]:
                row = e.at(offset, e.b.mul(u, step))
                sources = [e.row(x, e.index(e.at(row, p)), zero) for p in range(sites)]
                slot_weights = e.at(w, e.b.mul(e.index(e.at(tap, u)), slice_size))

                def channel(c: Any, carried: list[Any]) -> list[Any]:
                    pointer, sums = carried[0], carried[1:]
                    ws = [e.load(e.at(pointer, v)) for v in at]
                    new = []
                    for p in range(sites):
                        xs = e.broadcast(e.at(sources[p], c))
                        new += [e.fma(xs, ws[v], sums[p * vectors + v]) for v in range(vectors)]
                    return [e.at(pointer, block), *new]

                return e.repeat(channels, [slot_weights, *sums], channel)[1:]

            sums = e.repeat(slots, begin * sites, slot)
            mask = e.first_lanes(args[7])
            for p in range(sites):
                out = e.at(y, e.index(e.at(target, p)))
                for i, v in enumerate(at):
                    if partial and i == vectors - 1:
                        e.store_some(sums[p * vectors + i], e.at(out, v), mask)
                    else:
                        e.store(sums[p * vectors + i], e.at(out, v))
            return context.get_dummy_value()

        return VOID(source, INT, weights, INT, INT, sink, INT, INT), codegen

    return mix


def _touch() -> Any:
    @intrinsic
    def touch(typing, array, start, place, p0, n, channels):
        """Fetch ahead of time rows place[p0] to place[p0 + n - 1] of an array, a cache line at a time.

        What lies beyond the array is fetched in vain; n is at least 1.
        """

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            x, place, n, channels = e.at(e.data(0), args[1]), e.at(e.data(2), args[3]), args[4], args[5]

            def row(p: Any, _: list[Any]) -> list[Any]:
                e.fetch(e.at(x, e.index(e.at(place, p))), channels)
                return []

            e.repeat(n, [], row)
            return context.get_dummy_value()

        return VOID(array, INT, place, INT, INT, INT), codegen

    return touch


touch = _touch()


def outer_tile(vectors: int, channels: int, partial: bool = False) -> Any:
    """Return the intrinsic of the weight gradient for a register tile.

    ``outer(source, o0, c0, gradient, k0, n, d, d0, dstep, left)`` computes, for c < channels and k < vectors * lanes,

        d[d0 + c * dstep + k] += sum over p < n of source row (o0 + p) [c0 + c] * gradient row p [k0 + k]

    where o0 counts from the first entry of the source's offsets; n is at least 1. A partial tile reads `left` channels
    of the last vector of the gradient, zeros beyond; others take no notice.
    """

    @intrinsic
    def outer(typing, source, o0, c0, gradient, k0, n, d, d0, dstep, left):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            x, x0, offset, _, _, _, _, _, zero = e.fields(0)
            g, g0, target = e.fields(3)
            o0, c0, k0, n, d0, dstep = args[1], args[2], args[4], args[5], args[7], args[8]
            x, offset, g, d = e.at(x, x0, c0), e.at(offset, o0), e.at(g, g0, k0), e.at(e.data(6), d0)
            rows = [e.at(d, e.b.mul(dstep, ir.Constant(I64, c))) for c in range(channels)]
            at, mask = [v * e.lanes for v in range(vectors)], e.first_lanes(args[9])

            def position(p: Any, sums: list[Any]) -> list[Any]:
                row = e.row(x, e.index(e.at(offset, p)), zero)
                flow = e.at(g, e.index(e.at(target, p)))
                gs = [e.load(e.at(flow, v)) for v in (at[:-1] if partial else at)]
                if partial:
                    gs.append(e.load_some(e.at(flow, at[-1]), mask))
                new = []
                for c in range(channels):
                    xs = e.broadcast(e.at(row, c))
                    new += [e.fma(xs, gs[v], sums[c * vectors + v]) for v in range(vectors)]
                return new

            sums = e.repeat(n, [e.load(e.at(row, v)) for row in rows for v in at], position)
            for c, row in enumerate(rows):
                for i, v in enumerate(at):
                    e.store(sums[c * vectors + i], e.at(row, v))
            return context.get_dummy_value()

        return VOID(source, INT, INT, gradient, INT, INT, d, INT, INT, INT), codegen

    return outer


def _copy_taps(lanes: int) -> Any:
    @intrinsic
    def copy_taps(typing, source, p0, n, spare, limit, row, depth):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            e.vector = ir.VectorType(e.element, lanes)
            x, x0, offset, step, _, _, slots, channels, zero = e.fields(0)
            p0, n, limit, depth = args[1], args[2], args[4], args[6]
            offset, spare, row = e.at(offset, p0), e.data(3), e.data(5)

            def site(p: Any, _: list[Any]) -> list[Any]:
                def slot(u: Any, carried: list[Any]) -> list[Any]:
                    (to,) = carried
                    relative = e.index(e.at(offset, e.b.mul(u, step), p))
                    place = e.b.add(x0, relative)
                    past = e.b.icmp_signed(">=", place, limit)
                    pointer = e.b.select(past, e.at(spare, e.b.sub(place, limit)), e.at(x, place))
                    negative = e.b.icmp_signed("<", relative, ir.Constant(I64, 0))
                    e.store(e.load(e.b.select(negative, zero, pointer)), to)
                    return [e.at(to, channels)]

                e.repeat(slots, [e.at(row, e.b.mul(p, depth))], slot)
                return []

            e.repeat(n, [], site)
            return context.get_dummy_value()

        return VOID(source, INT, INT, spare, INT, row, INT), codegen

    return copy_taps


# ``copy_taps(source, p0, n, spare, limit, row, depth)`` copies, for p < n and every slot u, the channels of source
# row (u, p0 + p) to row[p * depth + u * channels]. It moves whole vectors of 4 or 8 elements in ascending order:
# what is too much is overwritten by the next copy, and sources from `limit` on, near the end of the array, are read
# from `spare`, a copy of array[limit:] with room behind it.
copy_taps_4, copy_taps_8 = _copy_taps(4), _copy_taps(8)


def depthwise_tile(vectors: int, sites: int, stream: bool = False) -> Any:
    """Return the intrinsic of a convolution that keeps channels apart, for a few vectors of channels.

    ``depthwise(source, p0, weights, c0, sink)`` computes, for p < sites and c < vectors * lanes,

        sink row p0 + p [c0 + c] = bias[c0 + c]
            + sum over slots u of source row (u, p0 + p) [c0 + c] * weights[tap(u) * channels + c0 + c]

    With `stream` it stores past the caches, and every sink row must be aligned to a vector.
    """

    @intrinsic
    def depthwise(typing, source, p0, weights, c0, sink):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            x, x0, offset, step, tap, first, slots, channels, zero = e.fields(0)
            w, start, bias, bias_start = e.fields(2)
            y, y0, target = e.fields(4)
            p0, c0 = args[1], args[3]
            # the zeros are one row of all channels, so c0 is added once, after the choice between row and zeros
            x, offset, tap, target = e.at(x, x0), e.at(offset, p0), e.at(tap, first), e.at(target, p0)
            w, bias, y = e.at(w, start, c0), e.at(bias, bias_start, c0), e.at(y, y0, c0)
            at = [v * e.lanes for v in range(vectors)]
            begin = [e.load(e.at(bias, v)) for v in at]

            def slot(u: Any, sums: list[Any]) -> list[Any]:
                row = e.at(offset, e.b.mul(u, step))
                slot_weights = e.at(w, e.b.mul(e.index(e.at(tap, u)), channels))
                ws = [e.load(e.at(slot_weights, v)) for v in at]
                sources = [e.at(e.row(x, e.index(e.at(row, p)), zero), c0) for p in range(sites)]
                xs = [e.load(e.at(pointer, v)) for pointer in sources for v in at]
                return [e.fma(value, ws[i % vectors], sums[i]) for i, value in enumerate(xs)]

            sums = e.repeat(slots, begin * sites, slot)
            for p in range(sites):
                out = e.at(y, e.index(e.at(target, p)))
                for i, v in enumerate(at):
                    (e.stream if stream else e.store)(sums[p * vectors + i], e.at(out, v))
            return context.get_dummy_value()

        return VOID(source, INT, weights, INT, sink), codegen

    return depthwise


def weighted_tile(vectors: int, stream: bool = False) -> Any:
    """Return the intrinsic of a sparse matrix times rows of an array, a few vectors of elements at a time.

    ``weighted(entries, p0, n, x, x0, step, y, y0, blocks)`` computes, for p < n and k < blocks * vectors * lanes,

        y[y0 + p * step + k] = sum over first[p0 + p] <= j < first[p0 + p + 1] of
            entries.data[j] * x[x0 + entries.index[j] * step + k]

    n and blocks are at least 1. With `stream` it stores past the caches, and every row of y must be aligned to a
    vector.
    """

    @intrinsic
    def weighted(typing, entries, p0, n, x, x0, step, y, y0, blocks):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            data, index, first = e.fields(0)
            x, step, y, blocks = e.at(e.data(3), args[4]), args[5], e.at(e.data(6), args[7]), args[8]
            first, at = e.at(first, args[1]), [v * e.lanes for v in range(vectors)]

            def row(p: Any, _: list[Any]) -> list[Any]:
                begin = e.index(e.at(first, p))
                count = e.b.sub(e.index(e.at(first, p, 1)), begin)
                weights, sources, out = e.at(data, begin), e.at(index, begin), e.at(y, e.b.mul(p, step))

                def block(i: Any, _: list[Any]) -> list[Any]:
                    k = e.b.mul(i, ir.Constant(I64, vectors * e.lanes))

                    def entry(j: Any, sums: list[Any]) -> list[Any]:
                        source = e.at(x, e.b.mul(e.index(e.at(sources, j)), step), k)
                        weight = e.broadcast(e.at(weights, j))
                        return [e.fma(weight, e.load(e.at(source, v)), s) for v, s in zip(at, sums, strict=True)]

                    sums = e.repeat(count, [e.zero] * vectors, entry, always=False)
                    for v, total in zip(at, sums, strict=True):
                        (e.stream if stream else e.store)(total, e.at(out, k, v))
                    return []

                return e.repeat(blocks, [], block)

            e.repeat(args[2], [], row)
            return context.get_dummy_value()

        return VOID(entries, INT, INT, x, INT, INT, y, INT, INT), codegen

    return weighted


def depthwise_outer_tile(slots: int) -> Any:
    """Return the intrinsic of a depthwise weight gradient, for `slots` taps and one vector of channels.

    ``outer(source, u0, c0, gradient, n, d)`` computes, for u0 <= u < u0 + slots and one vector of c,

        d[tap(u) * channels + c0 + c] += sum over p < n of source row (u, p) [c0 + c] * gradient row p [c0 + c]
    """

    @intrinsic
    def outer(typing, source, u0, c0, gradient, n, d):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            x, x0, offset, step, tap, first, _, channels, zero = e.fields(0)
            g, g0, target = e.fields(3)
            u0, c0, n = args[1], args[2], args[4]
            x, g, d, tap = e.at(x, x0), e.at(g, g0, c0), e.at(e.data(5), c0), e.at(tap, first, u0)
            numbers = [e.b.add(u0, ir.Constant(I64, u)) for u in range(slots)]
            rows = [e.at(offset, e.b.mul(step, u)) for u in numbers]
            to = [e.at(d, e.b.mul(e.index(e.at(tap, u)), channels)) for u in range(slots)]

            def position(p: Any, sums: list[Any]) -> list[Any]:
                gs = e.load(e.at(g, e.index(e.at(target, p))))
                pointers = [e.at(e.row(x, e.index(e.at(row, p)), zero), c0) for row in rows]
                return [e.fma(e.load(pointer), gs, total) for pointer, total in zip(pointers, sums, strict=True)]

            for pointer, value in zip(to, e.repeat(n, [e.zero] * slots, position), strict=True):
                e.store(e.b.fadd(value, e.load(pointer)), pointer)
            return context.get_dummy_value()

        return VOID(source, INT, INT, gradient, INT, d), codegen

    return outer
