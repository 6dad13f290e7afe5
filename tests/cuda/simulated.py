"""A device whose memory is NumPy's and whose kernels run in the simulator: true wrappers on true kernels, no GPU."""

from __future__ import annotations

import ctypes
import weakref
from collections import Counter
from typing import Any

import numpy as np
from simulated_memory import Memory, Races, poisoned
from simulated_threads import Order
from simulated_values import SimulationError, float32, int32
from simulator import bound, run_grid

GUARD = 256
"""Bytes before and after each block of memory, which nothing may write."""

KINDS = {"f4*": (np.float32,), "i4*": (np.int32,), "u4*": (np.uint32,), "u1*": (np.uint8, np.bool_)}
LAUNCHED: set[str] = set()
"""Names of all kernels that any test has run so far."""

MOST_SHARED = 99 << 10  # of a block on the smallest of the GPUs that are supported
MOST_BLOCKS = (2**31 - 1, 65535, 65535)


class Block:
    """Device memory between two guards; its bytes are ones until something is written."""

    def __init__(self, size: int, device: SimulatedDevice):
        self.size, self.device = size, weakref.ref(device)
        self.whole = poisoned(size + 2 * GUARD, GUARD)
        self.address = self.whole.ctypes.data + GUARD
        self.written = bytearray(size)

    def bytes(self, first: int, last: int) -> tuple[np.ndarray, memoryview]:
        """Some of its bytes, and which of them were written."""
        return self.whole[GUARD + first : GUARD + last], memoryview(self.written)[first:last]

    def broken(self) -> bool:
        """Whether something wrote beside the block."""
        return bool((self.whole[:GUARD] != 0xFF).any() or (self.whole[GUARD + self.size :] != 0xFF).any())

    def __del__(self) -> None:
        device = self.device()
        if device is not None and self.broken():
            device.faults.append(f"memory beside a block of {self.size} bytes was written")
        self.whole[:] = 0xFF


class SimulatedDevice:
    """What `spherecnn.kernels.gpu.device.current` gives in tests.

    Parameters
    ----------
    seed : int, optional
        Threads and blocks run in their order (0), backwards (1), or shuffled.
    cc : (int, int), optional
        Compute capability that wrappers are told.
    multiprocessors : int, optional
        How many wrappers are told of.

    Attributes
    ----------
    launches : Counter
        Launches by the names of kernels.
    uploaded, downloaded : int
        Bytes copied from and to the host so far.
    used, peak : int
        Bytes that arrays hold, and the most that they held.
    """

    name = "simulated"

    def __init__(self, seed: int = 0, cc: tuple[int, int] = (9, 0), multiprocessors: int = 4):
        self.cc, self.multiprocessors, self.order = cc, multiprocessors, Order(seed)
        self.launches: Counter[str] = Counter()
        self.uploaded = self.downloaded = self.used = self.peak = 0
        self.blocks: weakref.WeakSet[Block] = weakref.WeakSet()
        self.faults: list[str] = []

    # --- memory --------------------------------------------------------------------------------------------------

    def allocate(self, size: int) -> Block:
        block = Block(size, self)
        self.blocks.add(block)
        self.used += size
        self.peak = max(self.peak, self.used)
        weakref.finalize(block, self._freed, size).atexit = False
        return block

    def _freed(self, size: int) -> None:
        self.used -= size

    def check(self) -> None:
        """Raise if anything was written beside the memory of arrays."""
        self.faults += [
            f"memory beside a block of {block.size} bytes was written" for block in self.blocks if block.broken()
        ]
        if self.faults:
            raise SimulationError("; ".join(self.faults))

    def _bytes(self, array: Any) -> tuple[np.ndarray, memoryview | None]:
        """The bytes of a device array, and which of them were written (None for memory of another library)."""
        if not hasattr(array.memory, "written"):
            return np.frombuffer((ctypes.c_uint8 * array.nbytes).from_address(array.address), np.uint8), None
        if array.memory not in self.blocks:
            raise SimulationError(f"an array of shape {array.shape} lies on another device")
        first, last = array.offset, array.offset + array.nbytes
        if not 0 <= first <= last <= array.memory.size:
            raise SimulationError(f"an array of shape {array.shape} reaches beyond its memory")
        return array.memory.bytes(first, last)

    def _write(self, array: Any, value: Any) -> None:
        data, written = self._bytes(array)
        data[:] = value
        if written is not None:
            written[:] = b"\1" * data.size

    def upload(self, to: Any, host: np.ndarray) -> None:
        self._same_size(to, host)
        self._write(to, host.reshape(-1).view(np.uint8))
        self.uploaded += host.nbytes

    def download(self, source: Any, host: np.ndarray) -> None:
        self._same_size(source, host)
        host.reshape(-1).view(np.uint8)[:] = self._bytes(source)[0]
        self.downloaded += host.nbytes

    def copy(self, to: Any, source: Any) -> None:
        self._same_size(to, source)
        data, written = self._bytes(source)
        self._write(to, data)
        own = self._bytes(to)[1]
        if own is not None and written is not None:
            own[:] = written

    def fill(self, to: Any, byte: int) -> None:
        self._write(to, byte)

    def feed(self, to: Any, make: Any) -> None:
        self.upload(to, make())

    def _same_size(self, one: Any, other: Any) -> None:
        if one.nbytes != other.nbytes:
            raise SimulationError(f"a copy between {one.nbytes} and {other.nbytes} bytes")

    def adopt(self, address: int, stream: int | None) -> None:
        """Memory of another library is the host's here too."""

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    # --- kernels -------------------------------------------------------------------------------------------------

    def launch(self, kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], shared: int) -> None:
        self.launches[kernel.name] += 1
        LAUNCHED.add(kernel.name)
        if len(args) != len(kernel.arguments):
            raise SimulationError(f"{kernel.name} takes {len(kernel.arguments)} arguments and was given {len(args)}")
        if any(not 0 < size <= most for size, most in zip(grid, MOST_BLOCKS, strict=True)):
            raise SimulationError(f"{kernel.name} was launched with a grid of {grid}; at most {MOST_BLOCKS}")
        if shared > MOST_SHARED:
            raise SimulationError(f"{kernel.name} was launched with {shared} bytes of shared memory")
        races = Races()
        arguments = tuple(
            self._argument(value, kind, f"argument {place} of {kernel.name}", races)
            for place, (value, kind) in enumerate(zip(args, kernel.arguments, strict=True))
        )
        run_grid(bound(kernel.function), grid, kernel.threads, arguments, shared, self.order)

    def _argument(self, value: Any, kind: str, name: str, races: Races) -> Any:
        if kind.endswith("*"):
            return self._pointer(value, kind, name, races)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise SimulationError(f"{name} is {value!r}; expected a number ({kind})")
        if kind == "f4":
            return float32(value)
        if isinstance(value, (float, np.floating)) or (kind == "u4" and not 0 <= value < 2**32):
            raise SimulationError(f"{name} is {value!r}; expected {kind}")
        return int(value) if kind == "u4" else int32(value)

    def _pointer(self, value: Any, kind: str, name: str, races: Races) -> Memory:
        if value is None or (isinstance(value, int) and value == 0):
            return Memory(np.empty(0, KINDS[kind][0]), f"{name}, a null pointer", races)
        if not hasattr(value, "memory"):
            raise SimulationError(f"{name} is {type(value).__name__}; expected an array on the device")
        if value.dtype not in KINDS[kind]:
            raise SimulationError(f"{name} is {value.dtype}; expected {kind}")
        data, written = self._bytes(value)
        return Memory(data.view(value.dtype), f"{name}, of shape {value.shape}", races, written)
