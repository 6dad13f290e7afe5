"""Register tiles as LLVM vector code: what Numba's own loops do not reach, emitted once for every host.

A tile keeps its sums in vector registers over a whole reduction. Auto-vectorised loops reach a third of the
multiply-add peak of a core; these tiles reach nine tenths (docs/speed.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite.binding
import llvmlite.ir as ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

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
SITES = 12  # a multiple of the sites of every tile
DEPTHWISE = (4, 4) if HOST.registers >= 32 else (2, 4)


class Emitter:
    """Shorthand over an LLVM builder for vectors of one floating-point type."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any, array: int = 0):
        self.context, self.b, self.signature, self.args = context, builder, signature, args
        self.double = signature.args[array].dtype == types.float64
        self.element = ir.DoubleType() if self.double else ir.FloatType()
        self.lanes = HOST.bytes // (8 if self.double else 4)
        self.vector = ir.VectorType(self.element, self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)

    def data(self, i: int) -> Any:
        """Pointer to the first element of array argument i."""
        return self.context.make_array(self.signature.args[i])(self.context, self.b, self.args[i]).data

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

    def broadcast(self, pointer: Any) -> Any:
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.b.insert_element(undefined, self.b.load(pointer), ir.Constant(I32, 0))
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

    def repeat(self, count: Any, carried: list[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
        """Emit ``for i in range(count): carried = body(i, carried)`` for count >= 1; return the last `carried`."""
        entry = self.b.block
        loop, done = self.b.append_basic_block("loop"), self.b.append_basic_block("done")
        self.b.branch(loop)
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
        return results


def mix_tile(vectors: int, sites: int) -> Any:
    """Return the intrinsic of the channel mix for a register tile.

    ``mix(x, x0, offset, o0, ostep, tap, t0, slots, channels, w, w0, bias, b0, zero, y, y0, target, y_at)`` computes,
    for p < sites and k < vectors * lanes,

        y[y0 + target[y_at + p] + k] = bias[b0 + k]
            + sum over u < slots, c < channels of x[x0 + offset[o0 + u * ostep + p] + c] * w[w0 + (tap[t0 + u] * channels + c) * K + k]

    where K = vectors * lanes and a negative offset reads from `zero`. slots and channels are at least 1.
    """

    @intrinsic
    def mix(typing, x, x0, offset, o0, ostep, tap, t0, slots, channels, w, w0, bias, b0, zero, y, y0, target, y_at):
        arrays = {0: x, 2: offset, 5: tap, 9: w, 11: bias, 13: zero, 14: y, 16: target}
        signature = VOID(*(arrays.get(i, INT) for i in range(18)))

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            (_, x0, _, o0, ostep, _, t0, slots, channels, _, w0, _, b0, _, _, y0, _, y_at) = args
            block = vectors * e.lanes
            x, offset, tap, w = e.at(e.data(0), x0), e.at(e.data(2), o0), e.at(e.data(5), t0), e.at(e.data(9), w0)
            bias, zero, y, target = e.at(e.data(11), b0), e.data(13), e.at(e.data(14), y0), e.at(e.data(16), y_at)
            slice_size = e.b.mul(channels, ir.Constant(I64, block))
            start = [e.load(e.at(bias, v * e.lanes)) for v in range(vectors)]

            def slot(u: Any, sums: list[Any]) -> list[Any]:
                row = e.at(offset, e.b.mul(u, ostep))
                sources = [e.row(x, e.index(e.at(row, p)), zero) for p in range(sites)]
                weights = e.at(w, e.b.mul(e.index(e.at(tap, u)), slice_size))

                def channel(c: Any, carried: list[Any]) -> list[Any]:
                    pointer, sums = carried[0], carried[1:]
                    ws = [e.load(e.at(pointer, v * e.lanes)) for v in range(vectors)]
                    new = []
                    for p in range(sites):
                        xs = e.broadcast(e.at(sources[p], c))
                        new += [e.fma(xs, ws[v], sums[p * vectors + v]) for v in range(vectors)]
                    return [e.at(pointer, block), *new]

                return e.repeat(channels, [weights, *sums], channel)[1:]

            sums = e.repeat(slots, start * sites, slot)
            for p in range(sites):
                out = e.at(y, e.index(e.at(target, p)))
                for v in range(vectors):
                    e.store(sums[p * vectors + v], e.at(out, v * e.lanes))
            return context.get_dummy_value()

        return signature, codegen

    return mix


def outer_tile(vectors: int, channels: int) -> Any:
    """Return the intrinsic of the weight gradient for a register tile.

    ``outer(x, x0, offset, o0, n, zero, g, g0, target, t0, d, d0, dstep)`` computes, for c < channels and k < vectors * lanes,

        d[d0 + c * dstep + k] += sum over p < n of x[x0 + offset[o0 + p] + c] * g[g0 + target[t0 + p] + k]

    where a negative offset reads from `zero`; n is at least 1.
    """

    @intrinsic
    def outer(typing, x, x0, offset, o0, n, zero, g, g0, target, t0, d, d0, dstep):
        arrays = {0: x, 2: offset, 5: zero, 6: g, 8: target, 10: d}
        signature = VOID(*(arrays.get(i, INT) for i in range(13)))

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            (_, x0, _, o0, n, _, _, g0, _, t0, _, d0, dstep) = args
            x, offset, zero = e.at(e.data(0), x0), e.at(e.data(2), o0), e.data(5)
            g, target, d = e.at(e.data(6), g0), e.at(e.data(8), t0), e.at(e.data(10), d0)
            rows = [e.at(d, e.b.mul(dstep, ir.Constant(I64, c))) for c in range(channels)]

            def position(p: Any, sums: list[Any]) -> list[Any]:
                source = e.row(x, e.index(e.at(offset, p)), zero)
                gradient = e.at(g, e.index(e.at(target, p)))
                gs = [e.load(e.at(gradient, v * e.lanes)) for v in range(vectors)]
                new = []
                for c in range(channels):
                    xs = e.broadcast(e.at(source, c))
                    new += [e.fma(xs, gs[v], sums[c * vectors + v]) for v in range(vectors)]
                return new

            start = [e.load(e.at(rows[c], v * e.lanes)) for c in range(channels) for v in range(vectors)]
            sums = e.repeat(n, start, position)
            for c in range(channels):
                for v in range(vectors):
                    e.store(sums[c * vectors + v], e.at(rows[c], v * e.lanes))
            return context.get_dummy_value()

        return signature, codegen

    return outer


def _copy_taps(lanes: int) -> Any:
    @intrinsic
    def copy_taps(typing, x, x0, offset, o0, ostep, slots, n, zero, spare, limit, row, depth, channels):
        arrays = {0: x, 2: offset, 7: zero, 8: spare, 10: row}
        signature = VOID(*(arrays.get(i, INT) for i in range(13)))

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            e.vector = ir.VectorType(e.element, lanes)
            (_, x0, _, o0, ostep, slots, n, _, _, limit, _, depth, channels) = args
            x, offset, zero, spare, row = e.data(0), e.at(e.data(2), o0), e.data(7), e.data(8), e.data(10)

            def site(p: Any, _: list[Any]) -> list[Any]:
                out = e.at(row, e.b.mul(p, depth))

                def slot(u: Any, carried: list[Any]) -> list[Any]:
                    (to,) = carried
                    relative = e.index(e.at(offset, e.b.mul(u, ostep), p))
                    source = e.b.add(x0, relative)
                    past = e.b.icmp_signed(">", source, limit)
                    pointer = e.b.select(past, e.at(spare, e.b.sub(source, limit)), e.at(x, source))
                    negative = e.b.icmp_signed("<", relative, ir.Constant(I64, 0))
                    e.store(e.load(e.b.select(negative, zero, pointer)), to)
                    return [e.at(to, channels)]

                e.repeat(slots, [out], slot)
                return []

            e.repeat(n, [], site)
            return context.get_dummy_value()

        return signature, codegen

    return copy_taps


# ``copy_taps(x, x0, offset, o0, ostep, slots, n, zero, spare, limit, row, depth, channels)`` copies, for p < n and u < slots,
# the `channels` elements from x[x0 + offset[o0 + u * ostep + p]] to row[p * depth + u * channels]. It moves whole vectors of
# 4 or 8 elements in ascending order: what is too much is overwritten by the next copy, and sources beyond `limit`, near the
# end of x, are read from `spare`, a copy of x[limit:] with room behind it.
copy_taps_4, copy_taps_8 = _copy_taps(4), _copy_taps(8)


def depthwise_tile(vectors: int, sites: int) -> Any:
    """Return the intrinsic of a convolution that keeps channels apart, for a few vectors of channels.

    ``depthwise(x, x0, offset, o0, ostep, tap, t0, slots, w, w0, wstep, bias, b0, zero, y, y0, target, y_at)`` computes, for
    p < sites and k < vectors * lanes,

        y[y0 + target[y_at + p] + k] = bias[b0 + k]
            + sum over u < slots of x[x0 + offset[o0 + u * ostep + p] + k] * w[w0 + tap[t0 + u] * wstep + k]
    """

    @intrinsic
    def depthwise(typing, x, x0, offset, o0, ostep, tap, t0, slots, w, w0, wstep, bias, b0, zero, y, y0, target, y_at):
        arrays = {0: x, 2: offset, 5: tap, 8: w, 11: bias, 13: zero, 14: y, 16: target}
        signature = VOID(*(arrays.get(i, INT) for i in range(18)))

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            (_, x0, _, o0, ostep, _, t0, slots, _, w0, wstep, _, b0, _, _, y0, _, y_at) = args
            x, offset, tap, w = e.at(e.data(0), x0), e.at(e.data(2), o0), e.at(e.data(5), t0), e.at(e.data(8), w0)
            zero, y, target = e.data(13), e.at(e.data(14), y0), e.at(e.data(16), y_at)
            lanes = [v * e.lanes for v in range(vectors)]
            start = [e.load(e.at(e.data(11), b0, v)) for v in lanes]

            def slot(u: Any, sums: list[Any]) -> list[Any]:
                row = e.at(offset, e.b.mul(u, ostep))
                weights = e.at(w, e.b.mul(e.index(e.at(tap, u)), wstep))
                ws = [e.load(e.at(weights, v)) for v in lanes]
                sources = [e.row(x, e.index(e.at(row, p)), zero) for p in range(sites)]
                xs = [e.load(e.at(source, v)) for source in sources for v in lanes]
                return [e.fma(value, ws[i % vectors], sums[i]) for i, value in enumerate(xs)]

            sums = e.repeat(slots, start * sites, slot)
            for p in range(sites):
                out = e.at(y, e.index(e.at(target, p)))
                for i, v in enumerate(lanes):
                    e.store(sums[p * vectors + i], e.at(out, v))
            return context.get_dummy_value()

        return signature, codegen

    return depthwise


def depthwise_outer_tile(slots: int) -> Any:
    """Return the intrinsic of the weight gradient of a depthwise convolution, for `slots` taps and one vector of channels.

    ``outer(x, x0, offset, o0, ostep, tap, t0, n, zero, g, g0, target, d, d0, dstep)`` computes, for u < slots and one vector of k,

        d[d0 + tap[t0 + u] * dstep + k] += sum over p < n of x[x0 + offset[o0 + u * ostep + p] + k] * g[g0 + target[p] + k]
    """

    @intrinsic
    def outer(typing, x, x0, offset, o0, ostep, tap, t0, n, zero, g, g0, target, d, d0, dstep):
        arrays = {0: x, 2: offset, 5: tap, 8: zero, 9: g, 11: target, 12: d}
        signature = VOID(*(arrays.get(i, INT) for i in range(15)))

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            (_, x0, _, o0, ostep, _, t0, n, _, _, g0, _, _, d0, dstep) = args
            x, offset, tap, zero = e.at(e.data(0), x0), e.at(e.data(2), o0), e.at(e.data(5), t0), e.data(8)
            g, target, d = e.at(e.data(9), g0), e.data(11), e.at(e.data(12), d0)
            rows = [e.at(offset, e.b.mul(ostep, ir.Constant(I64, u))) for u in range(slots)]
            to = [e.at(d, e.b.mul(e.index(e.at(tap, u)), dstep)) for u in range(slots)]

            def position(p: Any, sums: list[Any]) -> list[Any]:
                gs = e.load(e.at(g, e.index(e.at(target, p))))
                return [e.fma(e.load(e.row(x, e.index(e.at(rows[u], p)), zero)), gs, sums[u]) for u in range(slots)]

            for u, value in enumerate(e.repeat(n, [e.zero] * slots, position)):
                e.store(e.b.fadd(value, e.load(to[u])), to[u])
            return context.get_dummy_value()

        return signature, codegen

    return outer
