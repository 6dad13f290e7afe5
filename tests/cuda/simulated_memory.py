"""Memory as kernels see it: bounds, alignment, what was never written, and who races whom."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from simulated_values import POISON, SimulationError, float32, int32, uint8, uint32

Stamp = tuple[int, int, int, int, int]
"""When an access was: block, barriers passed, warp, warp barriers passed since, thread."""

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
        now = NOW.stamp
        written = self.writes.get(address)
        if written is not None and written is not now and unordered(written, now):
            if written is IN_FLIGHT:
                raise SimulationError("read of memory that an asynchronous copy is still writing (cp_async_wait)")
            if written[0] == now[0] or not NOW.block.fenced:
                raise SimulationError(f"race: read of what {_who(written)} wrote, with no barrier between")
        seen = self.reads.get(address)
        if seen is not now:
            self.reads[address] = now if seen is None else _together(seen, now)

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


def _together(seen: Stamp, now: Stamp) -> Stamp:
    if not unordered(seen, now):
        return now
    if seen[0] != now[0]:
        return (-1, 0, -1, 0, -1)
    return (now[0], now[1], now[2] if seen[2] == now[2] else -1, max(seen[3], now[3]), -1)


def _who(stamp: Stamp) -> str:
    if stamp is IN_FLIGHT:
        return "an asynchronous copy"
    if stamp[4] < 0:
        return "several threads"
    return f"thread {stamp[4]}" if stamp[0] == NOW.stamp[0] else f"thread {stamp[4]} of another block"


def _float(value: Any) -> float32:
    if type(value) is not float32:
        raise SimulationError(f"{value!r}, which is a {type(value).__name__}, is written where a float32 stands")
    return value


def _integer(cast: Any) -> Any:
    def checked(value: Any) -> int:
        if isinstance(value, (float, np.floating)):
            raise SimulationError(f"{value!r}, which is a {type(value).__name__}, is written where an integer stands")
        return cast(value)

    return checked


CASTS = {
    np.dtype(np.float32): _float,
    np.dtype(np.int32): _integer(int32),
    np.dtype(np.uint32): _integer(uint32),
    np.dtype(np.uint8): _integer(uint8),
}
"""What a store accepts, by the type of the memory."""


class Memory:
    """An array in global or shared memory.

    Every access is checked: its bounds, its alignment, and against the accesses of other threads.
    Floats are read as np.float32, integers as Python's.
    """

    __slots__ = ("base", "cast", "data", "get", "name", "races", "shape", "shared", "size", "step")

    def __init__(self, data: np.ndarray, name: str, races: Races, shared: bool = False, shape: Any = None):
        if data.dtype == np.bool_:
            data = data.view(np.uint8)
        if data.dtype not in CASTS:
            raise SimulationError(f"{name} holds {data.dtype}; kernels take float32, int32, uint32, uint8 and bool")
        if data.ndim != 1 or not data.flags.c_contiguous:
            raise SimulationError(f"{name} is not flat: {data.shape}; kernels take raw pointers")
        self.data, self.name, self.races, self.shared = data, name, races, shared
        self.size, self.step, self.base = data.size, data.itemsize, data.ctypes.data
        self.shape = shape or (data.size,)
        self.cast = CASTS[data.dtype]
        self.get = data.__getitem__ if self.cast is _float else data.item

    def _outside(self, index: int, count: int = 1) -> SimulationError:
        what = f"element {index}" if count == 1 else f"elements {index} to {index + count - 1}"
        return SimulationError(f"{what} of {self.name}, which has {self.size}")

    def load(self, index: int) -> Any:
        """One element."""
        if not 0 <= index < self.size:
            raise self._outside(index)
        address = self.base + index * self.step
        self.races.read(address)
        if self.shared and self.cast is not _float and address not in self.races.writes:
            raise SimulationError(f"element {index} of {self.name} is read before it is written")
        return self.get(index)

    def store(self, index: int, value: Any) -> None:
        """Write one element."""
        if not 0 <= index < self.size:
            raise self._outside(index)
        value = self.cast(value)
        race = self.races.write(self.base + index * self.step)
        if race and not _same(self.data[index], value):
            raise SimulationError(f"race: {race}, with no barrier between (element {index} of {self.name})")
        self.data[index] = value

    def window(self, index: int, count: int) -> np.ndarray:
        """So many elements from an index on, which one access moves: their address must be a multiple of its size."""
        if not 0 <= index <= self.size - count:
            raise self._outside(index, count)
        if (self.base + index * self.step) % (count * self.step):
            raise SimulationError(f"misaligned access of {count * self.step} bytes at element {index} of {self.name}")
        return self.data[index : index + count]

    def addresses(self, index: int, count: int) -> range:
        """The addresses of so many elements."""
        start = self.base + index * self.step
        return range(start, start + count * self.step, self.step)

    def load_many(self, index: int, count: int) -> tuple[Any, ...]:
        """Neighbouring elements by one access."""
        window = self.window(index, count)
        for address in self.addresses(index, count):
            self.races.read(address)
        return tuple(window) if self.cast is _float else tuple(window.tolist())

    def store_many(self, index: int, values: tuple[Any, ...]) -> None:
        """Write neighbouring elements by one access."""
        self.window(index, len(values))
        for offset, value in enumerate(values):
            self.store(index + offset, value)

    def _flat(self, indices: tuple[int, ...]) -> int:
        place = 0
        for index, size in zip(indices, self.shape, strict=True):
            if not 0 <= index < size:
                raise SimulationError(f"index {indices} of {self.name}, which is {self.shape}")
            place = place * size + index
        return place

    def __getitem__(self, index: Any) -> Any:
        if type(index) is slice:
            return Memory(self.data[index], self.name, self.races, self.shared)
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
