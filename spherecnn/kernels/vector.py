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

    def first_lanes(self, left: Any) -> Any:
        """A mask of the first `left` lanes."""
        lane = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
        undefined = ir.Constant(lane.type, ir.Undefined)
        one = self.b.insert_element(undefined, left, ir.Constant(I32, 0))
        every = self.b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))
        return self.b.icmp_signed("<", lane, every)

    def load_some(self, pointer: Any, mask: Any) -> Any:
        """Load the lanes of a mask; zero elsewhere. Nothing beyond them is touched."""
        pointer = self.b.bitcast(pointer, self.vector.as_pointer())
        kind = ir.FunctionType(self.vector, [pointer.type, I32, mask.type, self.vector])
        size = ir.Constant(I32, 8 if self.double else 4)
        return self.b.call(self._masked("load", kind), [pointer, size, mask, self.zero])

    def store_some(self, value: Any, pointer: Any, mask: Any) -> None:
        """Store the lanes of a mask. Nothing beyond them is touched."""
        pointer = self.b.bitcast(pointer, self.vector.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [self.vector, pointer.type, I32, mask.type])
        size = ir.Constant(I32, 8 if self.double else 4)
        self.b.call(self._masked("store", kind), [value, pointer, size, mask])

    def _masked(self, what: str, kind: Any) -> Any:
        name = f"llvm.masked.{what}.v{self.lanes}f{64 if self.double else 32}.p0"
        return cgutils.get_or_insert_function(self.b.module, kind, name)

    def fetch(self, pointer: Any, elements: Any) -> None:
        """Fetch the cache lines of elements ahead of time; what lies beyond an array is fetched in vain."""
        line, byte = LINE_BYTES // (8 if self.double else 4), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
        call = cgutils.get_or_insert_function(self.b.module, kind, "llvm.prefetch.p0")
        how = [ir.Constant(I32, value) for value in (0, 3, 1)]  # to read, keep in all caches, data

        def one(i: Any, _: list[Any]) -> list[Any]:
            at = self.at(pointer, self.b.mul(i, ir.Constant(I64, line)))
            self.b.call(call, [self.b.bitcast(at, byte), *how])
            return []

        lines = self.b.sdiv(self.b.add(elements, ir.Constant(I64, line - 1)), ir.Constant(I64, line))
        self.repeat(lines, [], one, always=False)

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
