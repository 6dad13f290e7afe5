"""What the intrinsics of kernels/gpu/intrinsics.py do, in NumPy: one table, by their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from simulated_memory import NOW, Memory, as_float
from simulated_threads import COLLECTIVES, FULL, WAITING, collective
from simulated_values import SimulationError, float32, int32, uint32

LANES = np.arange(32)
GROUP, PLACE = LANES // 4, LANES % 4
"""A fragment of a tensor core's matrix: the row of a lane and the pair of columns that it holds."""


def f32_bits(x: float32) -> int:
    return int(x.view(np.uint32))


def bits_f32(bits: int) -> float32:
    return np.uint32(bits & FULL).view(np.float32)


def cvt_tf32(x: float32) -> int:
    """Round to nearest, ties away from zero, to 10 bits of mantissa; NaN stays NaN."""
    return 0x7FFFFFFF if x != x else (f32_bits(x) + 0x1000) & 0xFFFFE000


def bf16_bits(x: float32) -> int:
    """Round to nearest, ties to even, to 7 bits of mantissa; NaN stays NaN."""
    bits = f32_bits(x)
    return 0x7FFF if x != x else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def pack_bf16x2(high: float32, low: float32) -> int:
    return bf16_bits(high) << 16 | bf16_bits(low)


def divide(a: float32, b: float32) -> float32:
    return float32(a) / float32(b)


def reciprocal(a: float32) -> float32:
    return float32(1) / float32(a)


def pointer_at(table: Memory, index: int) -> Memory:
    """The float32 memory of the device from an address on."""
    from spherecnn.kernels.gpu import device

    low, high = table.load_many(index, 2)
    address = low | high << 32
    for block in list(device.current().blocks):
        start = address - block.address
        if 0 <= start < block.size:
            data, written = block.bytes(start, block.size)
            whole = data[: data.size // 4 * 4].view(np.float32)
            return Memory(whole, f"the memory at address {address:#x}", table.races, written)
    raise SimulationError(f"a pointer to {address:#x}, where no array is")


def _in(memory: Memory, shared: bool, name: str) -> Memory:
    if memory.shared != shared:
        raise SimulationError(f"{name} of {memory.name}, which is not {'shared' if shared else 'global'} memory")
    return memory


def load4_nc(memory: Memory, index: int) -> tuple[Any, ...]:
    """By the read-only path: what this launch has written is not seen there."""
    if not memory.races.writes.keys().isdisjoint(_in(memory, False, "load4_nc").addresses(index, 4)):
        raise SimulationError(f"load4_nc of element {index} of {memory.name}, which this kernel writes")
    return memory.load_many(index, 4)


def _atomic(change: Callable[[int, int], int]) -> Callable[..., int]:
    def atomic(memory: Memory, index: int, value: int) -> int:
        if memory.data.dtype.kind == "f":
            raise SimulationError(f"atomic on {memory.name}, which is float: sums of floats would depend on the order")
        memory.addresses(index, 1)
        memory.must_be_written(index)
        old = memory.data.item(index)
        memory.data[index] = memory.cast(change(old, value))
        memory.mark(index, 1)
        return old

    return atomic


def _cp_async(size: int) -> Callable[..., None]:
    def copy(shared: Memory, place: int, source: Memory, index: int, count: int) -> None:
        """Size bytes, of which count are read and the rest are zeros, once waited for."""
        elements, read = size // shared.step, count // shared.step
        if not 0 <= count <= size:
            raise SimulationError(f"cp_async{size} of {count} bytes")
        destination = _in(shared, True, f"cp_async{size}").addresses(place, elements)
        values = np.zeros(elements, shared.data.dtype)
        if read:
            if (_in(source, False, f"cp_async{size}").base + index * source.step) % size:
                raise SimulationError(f"misaligned copy of {size} bytes from element {index} of {source.name}")
            values[:read] = [source.load(index + offset) for offset in range(read)]
        shared.races.fly(destination)
        shared.data[place : place + elements].view(np.uint8)[:] = 0xFF
        NOW.thread.copies.append((shared, place, values))

    return copy


def cp_async_commit() -> None:
    NOW.thread.groups.append(NOW.thread.copies)
    NOW.thread.copies = []


def cp_async_wait(flying: int) -> None:
    groups = NOW.thread.groups
    while len(groups) > flying:
        for shared, place, values in groups.pop(0):
            shared.data[place : place + values.size] = values
            shared.races.land(shared.addresses(place, values.size))
            shared.mark(place, values.size)


def _lanes(requests: dict[int, Any], name: str) -> list[Any]:
    if len(requests) != 32:
        raise SimulationError(f"{name} by {len(requests)} lanes; it takes the whole warp")
    return [requests[lane] for lane in range(32)]


def _tf32_fragments(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.empty((16, 8), np.float32), np.empty((8, 8), np.float32)
    a, b = (a & 0xFFFFE000).view(np.float32), (b & 0xFFFFE000).view(np.float32)
    for part, (down, along) in enumerate(((0, 0), (8, 0), (0, 4), (8, 4))):
        left[GROUP + down, PLACE + along] = a[:, part]
    for part in range(2):
        right[PLACE + 4 * part, GROUP] = b[:, part]
    return left, right


def _bf16_fragments(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.empty((16, 16), np.float32), np.empty((16, 8), np.float32)
    for half, (a_half, b_half) in enumerate(((a << 16, b << 16), (a & 0xFFFF0000, b & 0xFFFF0000))):
        for part, (down, along) in enumerate(((0, 0), (8, 0), (0, 8), (8, 8))):
            left[GROUP + down, 2 * PLACE + along + half] = a_half.view(np.float32)[:, part]
        for part in range(2):
            right[2 * PLACE + 8 * part + half, GROUP] = b_half.view(np.float32)[:, part]
    return left, right


def _mma(name: str, fragments: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Callable[..., Any]:
    """D = A B + C of a warp, 16 x 8: fragments a (4 registers), b (2), c and d (4 floats)."""

    def product(requests: dict[int, Any]) -> dict[int, Any]:
        operands = _lanes(requests, name)
        bits = np.array([lane[:6] for lane in operands], np.int64).astype(np.uint32)
        d = np.empty((16, 8))
        left, right = fragments(np.ascontiguousarray(bits[:, :4]), np.ascontiguousarray(bits[:, 4:]))
        places = [(GROUP + 8 * (part // 2), 2 * PLACE + part % 2) for part in range(4)]
        c = np.array([[as_float(value) for value in lane[6:]] for lane in operands])
        for part, place in enumerate(places):
            d[place] = c[:, part]
        d = (left.astype(np.float64) @ right.astype(np.float64) + d).astype(np.float32)
        return dict(enumerate(zip(*(d[place] for place in places), strict=True)))

    COLLECTIVES[name] = product
    return lambda *operands: collective(name, FULL, operands)


def _load_matrices(name: str) -> Callable[..., Any]:
    """Four 8 x 8 matrices of 16-bit elements from shared memory; lane 8 m + r gives row r of matrix m."""

    def load(requests: dict[int, Any]) -> dict[int, Any]:
        rows = np.empty((32, 8), np.uint16)
        for lane, (memory, index) in enumerate(_lanes(requests, name)):
            count = 16 // _in(memory, True, name).step
            memory.races.read_all(memory.addresses(index, count))
            rows[lane] = memory.data[index : index + count].view(np.uint16)
        words = rows.reshape(4, 8, 8).view(np.uint32)
        return {lane: tuple(words[:, lane // 4, lane % 4].tolist()) for lane in range(32)}

    COLLECTIVES[name] = load
    return lambda memory, index: collective(name, FULL, (memory, index))


def _shuffle(requests: dict[int, Any]) -> dict[int, Any]:
    results = {}
    for lane, (value, source) in requests.items():
        if source not in requests:
            raise SimulationError(f"lane {lane} takes a value of lane {source}, which gives none")
        if type(requests[source][0]) is not type(value):
            raise SimulationError(f"lanes {lane} and {source} shuffle values of different types")
        results[lane] = requests[source][0]
    return results


def _ballot(requests: dict[int, Any]) -> dict[int, Any]:
    return dict.fromkeys(requests, sum(1 << lane for lane, value in requests.items() if value))


COLLECTIVES |= {"shfl_sync": _shuffle, "ballot_sync": _ballot}

EMULATORS: dict[str, Callable[..., Any]] = {
    "f32_bits": f32_bits,
    "bits_f32": bits_f32,
    "cvt_tf32": cvt_tf32,
    "pack_bf16x2": pack_bf16x2,
    "mma_tf32": _mma("mma_tf32", _tf32_fragments),
    "mma_bf16": _mma("mma_bf16", _bf16_fragments),
    "ldmatrix_x4": _load_matrices("ldmatrix_x4"),
    "ld1": Memory.load,
    "st1": Memory.store,
    "load2": lambda memory, index: memory.load_many(index, 2),
    "st2": lambda memory, index, a, b: memory.store_many(index, (a, b)),
    "load4": lambda memory, index: memory.load_many(index, 4),
    "load4_nc": load4_nc,
    "quotient": lambda a, b: int32(int(a) // int(b)),
    "load4_if": lambda memory, index, there: load4_nc(memory, index) if there >= 0 else (float32(0),) * 4,
    "ld1_if": lambda memory, index, there: memory.load(index) if there >= 0 else float32(0),
    "advance": lambda memory, count: memory[count:],
    "pointer_at": pointer_at,
    "store4": lambda memory, index, *values: memory.store_many(index, values),
    "cp_async16": _cp_async(16),
    "cp_async4": _cp_async(4),
    "cp_async_commit": cp_async_commit,
    "cp_async_wait": cp_async_wait,
    "divide": divide,
    "reciprocal": reciprocal,
    "square_root": np.sqrt,
    "multiply_high": lambda a, b: uint32(a) * uint32(b) >> 32,
    "atomic_add_int": _atomic(lambda old, value: old + value),
    "atomic_min_int": _atomic(min),
    "atomic_exchange": _atomic(lambda old, value: value),
}
WAITING |= {*COLLECTIVES, "shfl_xor_sync", "shfl_up_sync", "shfl_down_sync", "any_sync", "all_sync"}
