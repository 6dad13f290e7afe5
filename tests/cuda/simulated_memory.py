"""Memory as kernels see it: bounds, alignment, what was never written, and who races whom."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from simulated_values import POISON, SimulationError, float32, int32, uint8, uint32

Stamp = tuple[int, int, int, int, int]
"""When an access was: block, barriers passed, warp, warp barriers passed since, thread."""

ANY_BLOCK: Stamp = (-1, 0, -1, 0, -1)
IN_FLIGHT: Stamp = (-2, 0, -2, 0, -2)


class Now:
    """The running thread and what it has passed; one for the whole simulator."""

    __slots__ = ("block", "hub", "stamp", "thread")


NOW = Now()


def unordered(one: Stamp, other: Stamp) -> bool:
    """Whether no barrier stands between two accesses of different threads."""
    if one[0] != other[0]:
        return True
    return one[1] == other[1] and one[4] != other[4] and not (one[2] == other[2] and one[3] < other[3])


class Races:
    """Who last wrote and who read each word since, by address."""

    __slots__ = ("reads", "writes")

    def __init__(self) -> None:
        self.reads: dict[int, Stamp] = {}
        self.writes: dict[int, Stamp] = {}

    def read(self, address: int) -> None:
        """Note a read; it raises if another thread's write may come before or after."""
        now, reads = NOW.stamp, self.reads
        written = self.writes.get(address)
        if written is not None and written is not now and unordered(written, now):
            if written is IN_FLIGHT:
                raise SimulationError("read of memory that an asynchronous copy is still writing (cp_async_wait)")
            if written[0] == now[0] or not NOW.block.fenced:
                raise SimulationError(f"race: read of what {_who(written)} wrote, with no barrier between")
        seen = reads.get(address)
        if seen is not now:
            reads[address] = now if seen is None else _together(seen, now)

    def read_all(self, addresses: range) -> None:
        """Note reads of neighbouring elements."""
        now, reads, writes = NOW.stamp, self.reads, self.writes
        for address in addresses:
            if address in writes:
                self.read(address)
            elif (seen := reads.get(address)) is not now:
                reads[address] = now if seen is None else _together(seen, now)

    def write(self, address: int) -> str | None:
        """Note a write; the race that it makes, if the value written is a new one."""
        now = NOW.stamp
        written, self.writes[address] = self.writes.get(address), now
        if written is not None and written is not now and unordered(written, now):
            return f"write over what {_who(written)} wrote"
        seen = self.reads.get(address)
        if seen is not None and seen is not now and unordered(seen, now):
            return f"write over what {_who(seen)} read"
        return None

    def fly(self, addresses: range) -> None:
        """An asynchronous copy to these addresses has begun."""
        for address in addresses:
            race = self.write(address)
            if race:
                raise SimulationError(f"race: asynchronous {race}, with no barrier between")
            self.writes[address] = IN_FLIGHT

    def land(self, addresses: range) -> None:
        """An asynchronous copy to these addresses has ended, for the thread that began it."""
        for address in addresses:
            self.writes[address] = NOW.stamp


def _together(seen: Stamp, now: Stamp) -> Stamp:
    if seen is ANY_BLOCK or not unordered(seen, now):
        return now if seen is not ANY_BLOCK else seen
    if seen[0] != now[0]:
        return ANY_BLOCK
    if seen[2] < 0:
        return seen
    return (now[0], now[1], now[2] if seen[2] == now[2] else -1, max(seen[3], now[3]), -1)


def _who(stamp: Stamp) -> str:
    if stamp is IN_FLIGHT:
        return "an asynchronous copy"
    if stamp[4] < 0:
        return "several threads"
    return f"thread {stamp[4]}" if stamp[0] == NOW.stamp[0] else f"thread {stamp[4]} of another block"


def as_float(value: Any) -> float32:
    """The value, if it is a float32."""
    if type(value) is not float32:
        if value is POISON:
            POISON.use()
        raise SimulationError(f"{value!r}, which is a {type(value).__name__}, is written where a float32 stands")
    return value


def _integer(cast: Any) -> Any:
    def checked(value: Any) -> int:
        if isinstance(value, (float, np.floating)):
            raise SimulationError(f"{value!r}, which is a {type(value).__name__}, is written where an integer stands")
        return cast(value)

    return checked


CASTS = {
    np.dtype(np.float32): as_float,
    np.dtype(np.int32): _integer(int32),
    np.dtype(np.uint32): _integer(uint32),
    np.dtype(np.uint8): _integer(uint8),
}
"""What a store accepts, by the type of the memory."""

POISONS = {np.dtype(np.int32): -1, np.dtype(np.uint32): 0xFFFFFFFF, np.dtype(np.uint8): 0xFF}
"""Integers in memory that was never written: all bits are ones."""


class Memory:
    """An array in global or shared memory.

    Every access is checked: its bounds, its alignment, and against the accesses of other threads.
    Floats are read as np.float32, integers as Python's.

    Parameters
    ----------
    data : numpy.ndarray
        Flat and contiguous.
    name : str
        For messages.
    races : Races
        Of all that may be the same memory.
    written : memoryview, optional
        For each byte whether it was ever written (at the first byte of an element); without, all were.
    shared : bool, optional
    shape : tuple of int, optional
        For shared arrays of several axes.
    """

    __slots__ = ("base", "cast", "data", "get", "name", "poison", "races", "shape", "shared", "size", "step", "written")

    def __init__(
        self,
        data: np.ndarray,
        name: str,
        races: Races,
        written: memoryview | None = None,
        shared: bool = False,
        shape: tuple[int, ...] = (),
    ):
        if data.dtype == np.bool_:
            data = data.view(np.uint8)
        if data.dtype not in CASTS:
            raise SimulationError(f"{name} holds {data.dtype}; kernels take float32, int32, uint32, uint8 and bool")
        if data.ndim != 1 or not data.flags.c_contiguous:
            raise SimulationError(f"{name} is not flat: {data.shape}; kernels take raw pointers")
        self.data, self.name, self.races, self.shared = data, name, races, shared
        self.size, self.step, self.base = data.size, data.itemsize, data.ctypes.data
        self.shape, self.written = shape or (data.size,), written
        self.cast = CASTS[data.dtype]
        self.poison = POISONS.get(data.dtype)
        self.get = data.__getitem__ if self.cast is as_float else data.item

    def _outside(self, index: int, count: int = 1) -> SimulationError:
        what = f"element {index}" if count == 1 else f"elements {index} to {index + count - 1}"
        return SimulationError(f"{what} of {self.name}, which has {self.size}")

    def load(self, index: int) -> Any:
        """One element."""
        if not 0 <= index < self.size:
            raise self._outside(index)
        self.races.read(self.base + index * self.step)
        if self.cast is not as_float:
            self.must_be_written(index)
        return self.get(index)

    def must_be_written(self, index: int) -> None:
        """Integers have no NaN that would show: one that looks like the poison must have been written."""
        if self.get(index) == self.poison and self.written is not None and not self.written[index * self.step]:
            raise SimulationError(f"element {index} of {self.name} is read before it is written")

    def store(self, index: int, value: Any) -> None:
        """Write one element."""
        if not 0 <= index < self.size:
            raise self._outside(index)
        value = self.cast(value)
        race = self.races.write(self.base + index * self.step)
        if race and not _same(self.data[index], value):
            raise SimulationError(f"race: {race}, with no barrier between (element {index} of {self.name})")
        self.data[index] = value
        if self.written is not None:
            self.written[index * self.step] = 1

    def mark(self, index: int, count: int) -> None:
        """These elements are written now."""
        if self.written is not None:
            self.written[index * self.step : (index + count) * self.step] = b"\1" * (count * self.step)

    def addresses(self, index: int, count: int) -> range:
        """The addresses of so many elements, which one access moves: a multiple of its size."""
        if not 0 <= index <= self.size - count:
            raise self._outside(index, count)
        start, bytes_moved = self.base + index * self.step, count * self.step
        if start % bytes_moved:
            raise SimulationError(f"misaligned access of {bytes_moved} bytes at element {index} of {self.name}")
        return range(start, start + bytes_moved, self.step)

    def load_many(self, index: int, count: int) -> tuple[Any, ...]:
        """Neighbouring elements by one access."""
        self.races.read_all(self.addresses(index, count))
        if self.cast is not as_float:
            for place in range(index, index + count):
                self.must_be_written(place)
        return tuple(map(self.get, range(index, index + count)))

    def store_many(self, index: int, values: tuple[Any, ...]) -> None:
        """Write neighbouring elements by one access."""
        self.addresses(index, len(values))
        for place, value in enumerate(values, index):
            self.store(place, value)

    def _flat(self, indices: tuple[int, ...]) -> int:
        place = 0
        for index, size in zip(indices, self.shape, strict=True):
            if not 0 <= index < size:
                raise SimulationError(f"index {indices} of {self.name}, which is {self.shape}")
            place = place * size + index
        return place

    def __getitem__(self, index: Any) -> Any:
        if type(index) is slice:
            start, stop, step = index.indices(self.size)
            if step != 1:
                raise SimulationError(f"a slice of {self.name} with a step")
            written = None if self.written is None else self.written[start * self.step : stop * self.step]
            return Memory(self.data[index], self.name, self.races, written, self.shared)
        return self.load(self._flat(index) if type(index) is tuple else index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.store(self._flat(index) if type(index) is tuple else index, value)

    def __len__(self) -> int:
        return self.shape[0]


def _same(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)


class Local(list):
    """A thread's own array, which cannot be read before it is written."""

    __slots__ = ("cast", "shape")

    def __init__(self, shape: Any, dtype: Any):
        self.shape = shape if isinstance(shape, tuple) else (shape,)
        self.cast = CASTS[np.dtype(dtype)]
        super().__init__([POISON] * math.prod(self.shape))

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(index) is tuple:
            index = self._flat(index)
        if index < 0:
            raise SimulationError(f"element {index} of a local array")
        super().__setitem__(index, self.cast(value))

    def _flat(self, indices: tuple[int, ...]) -> int:
        place = 0
        for index, size in zip(indices, self.shape, strict=True):
            if not 0 <= index < size:
                raise SimulationError(f"index {indices} of a local array of {self.shape}")
            place = place * size + index
        return place


class LocalGrid(Local):
    """A local array of several axes."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(self._flat(index))


def local_array(shape: Any, dtype: Any) -> Local:
    """``cuda.local.array``."""
    return (LocalGrid if isinstance(shape, tuple) and len(shape) > 1 else Local)(shape, dtype)


def poisoned(size: int, alignment: int = 1024) -> np.ndarray:
    """Bytes of ones, which are NaN as float32 and -1 as int32, at an aligned address."""
    raw = np.full(size + alignment, 0xFF, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size]
