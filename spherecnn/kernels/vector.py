"""Register tiles as LLVM vector code: what Numba's own loops do not reach, emitted once for every host.

A tile keeps its sums in vector registers over a whole reduction. Auto-vectorised loops reach a third of the
multiply-add peak of a core; these tiles reach nine tenths (docs/speed.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import llvmlite.binding
import llvmlite.ir as ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from spherecnn.kernels.jit import config

I32, I64 = ir.IntType(32), ir.IntType(64)
INT = types.int64
VOID = types.void


@dataclass(frozen=True)
class Host:
    """The vector unit: bytes per register, number of registers, fused multiply-add or not."""

    name: str
    bytes: int
    registers: int
    fused: bool


def host() -> Host:
    """Describe the vector unit that Numba compiles for (NUMBA_CPU_FEATURES counts)."""
    if config.CPU_FEATURES is not None:
        features = {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    else:
        features = {name for name, present in llvmlite.binding.get_host_cpu_features().items() if present}
    if llvmlite.binding.get_process_triple().startswith(("aarch64", "arm64")):
        return Host("NEON", 16, 32, True)
    if "avx512f" in features:
        return Host("AVX-512", 64, 32, True)
    if "avx" in features:
        return Host("AVX2" if "avx2" in features else "AVX", 32, 16, "fma" in features)
    return Host("SSE2", 16, 16, False)


HOST = host()

# (vectors of output channels, output sites) of the three tiles of the channel mix, widest first, and the
# (vectors, input channels) of the weight gradient. Sums, one row of weights and one broadcast must fit the registers.
if HOST.registers >= 32:
    WIDE, PAIR, SINGLE = (4, 6), (2, 12), (1, 12)
    OUTER = (2, 8)
else:
    WIDE, PAIR, SINGLE = (2, 6), (2, 6), (1, 12)
    OUTER = (2, 4)
LINE_BYTES = 64  # of a cache, on all hosts that matter
SITES = 12  # a multiple of the sites of every tile
DEPTHWISE = (4, 4) if HOST.registers >= 32 else (2, 4)


class Source(NamedTuple):
    """Where a tile reads: slot u of site p begins at array[start + offset[u * step + p]], or is `zero` if negative."""

    array: Any
    start: int
    offset: Any
    step: int
    tap: Any
    first: int  # slot u multiplies weight slice tap[first + u]
    slots: int
    channels: int
    zero: Any


class Weights(NamedTuple):
    """Packed weights and bias of one group of channels."""

    array: Any
    start: int
    bias: Any
    bias_start: int


class Rows(NamedTuple):
    """Where a tile writes or reads gradients: row p begins at array[start + offset[p]]."""

    array: Any
    start: int
    offset: Any


class Emitter:
    """Shorthand over an LLVM builder for vectors of one floating-point type."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any):
        self.context, self.b, self.signature, self.args = context, builder, signature, args
        first = signature.args[0]
        self.double = (first if isinstance(first, types.Array) else first.types[0]).dtype == types.float64
        self.element = ir.DoubleType() if self.double else ir.FloatType()
        self.lanes = HOST.bytes // (8 if self.double else 4)
        self.vector = ir.VectorType(self.element, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def data(self, i: int) -> Any:
        """Pointer to the first element of array argument i."""
        return self._data(self.signature.args[i], self.args[i])

    def fields(self, i: int) -> list[Any]:
        """The fields of named-tuple argument i: numbers, and pointers for arrays."""
        found = []
        for j, kind in enumerate(self.signature.args[i].types):
            value = self.b.extract_value(self.args[i], j)
            found.append(self._data(kind, value) if isinstance(kind, types.Array) else value)
        return found

    def _data(self, kind: Any, value: Any) -> Any:
        return self.context.make_array(kind)(self.context, self.b, value).data

    def at(self, pointer: Any, *offsets: Any) -> Any:
        """Pointer moved by element offsets (Python or LLVM integers)."""
        for offset in offsets:
            pointer = self.b.gep(pointer, [ir.Constant(I64, offset) if isinstance(offset, int) else offset])
        return pointer

    def index(self, pointer: Any) -> Any:
        """Load an int32 and widen it."""
        return self.b.sext(self.b.load(pointer), I64)

    def load(self, pointer: Any) -> Any:
        return self.b.load(self.b.bitcast(pointer, self.vector.as_pointer()), align=8 if self.double else 4)

    def store(self, value: Any, pointer: Any) -> None:
        self.b.store(value, self.b.bitcast(pointer, self.vector.as_pointer()), align=8 if self.double else 4)

    def stream(self, value: Any, pointer: Any) -> None:
        """Store past the caches; the pointer must be aligned to a vector."""
        stored = self.b.store(value, self.b.bitcast(pointer, self.vector.as_pointer()), align=HOST.bytes)
        stored.set_metadata("nontemporal", self.b.module.add_metadata([ir.Constant(I32, 1)]))

    def number(self, value: Any) -> Any:
        """A double as an element."""
        return value if self.double else self.b.fptrunc(value, self.element)

    def broadcast(self, pointer: Any) -> Any:
        return self.spread(self.b.load(pointer))

    def spread(self, value: Any) -> Any:
        """A vector that has this element in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.b.insert_element(undefined, value, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        if not HOST.fused:
            return self.b.fadd(self.b.fmul(a, b), c)
        name = f"llvm.fma.v{self.lanes}f{64 if self.double else 32}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, name), [a, b, c])

    def row(self, array: Any, offset: Any, zero: Any) -> Any:
        """Pointer to an element offset of an array, or to zeros where the offset is negative."""
        negative = self.b.icmp_signed("<", offset, ir.Constant(I64, 0))
        return self.b.select(negative, zero, self.at(array, offset))

    def repeat(
        self, count: Any, carried: list[Any], body: Callable[[Any, list[Any]], list[Any]], always: bool = True
    ) -> list[Any]:
        """Emit ``for i in range(count): carried = body(i, carried)``; return the last `carried`.

        With `always` the count is known to be at least 1.
        """
        entry = self.b.block
        loop, done = self.b.append_basic_block("loop"), self.b.append_basic_block("done")
        if always:
            self.b.branch(loop)
        else:
            self.b.cbranch(self.b.icmp_signed(">", count, ir.Constant(I64, 0)), loop, done)
        self.b.position_at_end(loop)
        i = self.b.phi(I64)
        i.add_incoming(ir.Constant(I64, 0), entry)
        phis = []
        for value in carried:
            phi = self.b.phi(value.type)
            phi.add_incoming(value, entry)
            phis.append(phi)
        results = body(i, phis)
        following = self.b.add(i, ir.Constant(I64, 1))
        end = self.b.block
        i.add_incoming(following, end)
        for phi, result in zip(phis, results, strict=True):
            phi.add_incoming(result, end)
        self.b.cbranch(self.b.icmp_signed("<", following, count), loop, done)
        self.b.position_at_end(done)
        if always:
            return results
        merged = []
        for value, result in zip(carried, results, strict=True):
            phi = self.b.phi(value.type)
            phi.add_incoming(value, entry)
            phi.add_incoming(result, end)
            merged.append(phi)
        return merged


def mix_tile(vectors: int, sites: int) -> Any:
    """Return the intrinsic of the channel mix for a register tile.

    ``mix(source, p0, weights, w0, k0, sink, q0)`` computes, for p < sites and k < K = vectors * lanes,

        sink row q0 + p [k0 + k] = bias[k0 + k] + sum over slots u and channels c of
            source row (u, p0 + p) [c] * weights[w0 + (tap(u) * channels + c) * K + k]

    Slots and channels are at least 1.
    """

    @intrinsic
    def mix(typing, source, p0, weights, w0, k0, sink, q0):
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
            for p in range(sites):
                out = e.at(y, e.index(e.at(target, p)))
                for i, v in enumerate(at):
                    e.store(sums[p * vectors + i], e.at(out, v))
            return context.get_dummy_value()

        return VOID(source, INT, weights, INT, INT, sink, INT), codegen

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
            line, byte = LINE_BYTES // (8 if e.double else 4), ir.IntType(8).as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
            fetch = cgutils.get_or_insert_function(e.b.module, kind, "llvm.prefetch.p0")
            how = [ir.Constant(I32, value) for value in (0, 3, 1)]  # to read, keep in all caches, data
            lines = e.b.sdiv(e.b.add(channels, ir.Constant(I64, line - 1)), ir.Constant(I64, line))

            def row(p: Any, _: list[Any]) -> list[Any]:
                begin = e.at(x, e.index(e.at(place, p)))

                def one(i: Any, _: list[Any]) -> list[Any]:
                    at = e.at(begin, e.b.mul(i, ir.Constant(I64, line)))
                    e.b.call(fetch, [e.b.bitcast(at, byte), *how])
                    return []

                return e.repeat(lines, [], one)

            e.repeat(n, [], row)
            return context.get_dummy_value()

        return VOID(array, INT, place, INT, INT, INT), codegen

    return touch


touch = _touch()


def outer_tile(vectors: int, channels: int) -> Any:
    """Return the intrinsic of the weight gradient for a register tile.

    ``outer(source, o0, c0, gradient, k0, n, d, d0, dstep)`` computes, for c < channels and k < vectors * lanes,

        d[d0 + c * dstep + k] += sum over p < n of source row (o0 + p) [c0 + c] * gradient row p [k0 + k]

    where o0 counts from the first entry of the source's offsets; n is at least 1.
    """

    @intrinsic
    def outer(typing, source, o0, c0, gradient, k0, n, d, d0, dstep):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            x, x0, offset, _, _, _, _, _, zero = e.fields(0)
            g, g0, target = e.fields(3)
            o0, c0, k0, n, d0, dstep = args[1], args[2], args[4], args[5], args[7], args[8]
            x, offset, g, d = e.at(x, x0, c0), e.at(offset, o0), e.at(g, g0, k0), e.at(e.data(6), d0)
            rows = [e.at(d, e.b.mul(dstep, ir.Constant(I64, c))) for c in range(channels)]
            at = [v * e.lanes for v in range(vectors)]

            def position(p: Any, sums: list[Any]) -> list[Any]:
                row = e.row(x, e.index(e.at(offset, p)), zero)
                flow = e.at(g, e.index(e.at(target, p)))
                gs = [e.load(e.at(flow, v)) for v in at]
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

        return VOID(source, INT, INT, gradient, INT, INT, d, INT, INT), codegen

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
