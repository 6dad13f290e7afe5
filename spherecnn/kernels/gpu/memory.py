"""Memory of the GPU in blocks that are used again, and pinned memory of the host, which copies pass through."""

from __future__ import annotations

import ctypes
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from spherecnn.kernels.gpu.calls import NOT_READY, call, cu

if TYPE_CHECKING:
    from spherecnn.kernels.gpu.driver import Gpu

PINNED = 64 << 20  # bytes of pinned memory before copies wait for earlier ones
SMALLEST = 64 << 10


class Block:
    """Device memory, given back to the pool that it came from when its last array dies."""

    __slots__ = ("address", "pool", "size")

    def __init__(self, address: int, size: int, pool: Pool):
        self.address, self.size, self.pool = address, size, pool

    def __del__(self) -> None:
        self.pool.give(self.address, self.size)


class Pool:
    """Blocks of dead arrays by size, for the next array of that size; new ones come from the stream's own pool.

    A block is used again by work that comes later on the stream, so nothing waits.

    Attributes
    ----------
    held, used, peak : int
        Bytes of free blocks, of blocks in use, and the most that were ever in use.
    """

    def __init__(self, gpu: Gpu):
        self.gpu = gpu
        self.lock = threading.RLock()  # a block may die while its own thread is in here
        self.free: dict[int, list[int]] = {}
        self.held = self.used = self.peak = 0
        self.closed = False

    def take(self, size: int) -> Block:
        size = size_class(size)
        with self.lock:
            found = self.free.get(size)
            if found:
                address = found.pop()
                self.held -= size
            else:
                address = self.gpu.new_memory(size)
            self.used += size
            self.peak = max(self.peak, self.used)
        return Block(address, size, self)

    def give(self, address: int, size: int) -> None:
        # After a fork another thread may have held the lock, and the memory is the parent's; at exit all ends.
        if self.gpu.forked or sys.is_finalizing():
            return
        with self.lock:
            self.used -= size
            if not self.closed:
                self.held += size
                self.free.setdefault(size, []).append(address)
                return
        _free({size: [address]}, self.gpu.main)

    def close(self) -> None:
        """Give all free blocks back to the driver, and the others when their arrays die."""
        self.closed = True
        self.release()

    def release(self) -> None:
        """Give all free blocks back to the driver."""
        with self.lock:
            free, self.held = dict(self.free), 0
            self.free.clear()
        _free(free, self.gpu.main)


def _free(blocks: dict[int, list[int]], stream: Any) -> None:
    for addresses in blocks.values():
        for address in addresses:
            cu.cuMemFreeAsync(address, stream)


def size_class(size: int) -> int:
    """Round up to an eighth of a power of two, at least 512, so that nearly equal sizes share blocks."""
    step = max(512, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step


class Pinned:
    """Memory of the host that the GPU reads and writes by itself, and the event after its last copy."""

    def __init__(self, size: int):
        self.size = size
        self.address = int(call(cu.cuMemAllocHost, size))
        self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))
        self.event = call(cu.cuEventCreate, cu.CUevent_flags.CU_EVENT_DISABLE_TIMING)

    def mark(self, stream: Any) -> None:
        """Note that a copy was put on the stream."""
        call(cu.cuEventRecord, self.event, stream)

    @property
    def done(self) -> bool:
        """Whether the last copy is over."""
        (status,) = cu.cuEventQuery(self.event)
        return status != NOT_READY

    def wait(self) -> None:
        """Wait for the last copy."""
        call(cu.cuEventSynchronize, self.event)


class PinnedPool:
    """Pinned memory by powers of two; what is given back may still be copied from, and is taken again after that."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free: dict[int, deque[Pinned]] = {}
        self.size = 0

    def take(self, size: int) -> Pinned:
        size = max(SMALLEST, 1 << (size - 1).bit_length())
        with self.lock:
            free = self.free.setdefault(size, deque())
            if not free or (not free[0].done and self.size + size <= PINNED):
                self.size += size
                return Pinned(size)
            found = free.popleft()
        found.wait()
        return found

    def give(self, pinned: Pinned) -> None:
        self.free[pinned.size].append(pinned)


class Fetched:
    """A copy from the GPU that is on its way: nothing waits until it is read."""

    def __init__(self, source: Any, gpu: Gpu):
        stream = gpu.stream
        self.shape, self.dtype, self.nbytes, self.gpu = source.shape, source.dtype, source.nbytes, gpu
        self.pool, self.pinned = gpu.pinned, gpu.pinned.take(max(1, source.nbytes))
        if source.nbytes:
            call(cu.cuMemcpyDtoHAsync, self.pinned.address, source.address, source.nbytes, stream)
        self.pinned.mark(stream)

    @property
    def done(self) -> bool:
        """Whether the copy is there."""
        return self.pinned.done

    def read(self) -> np.ndarray:
        """Wait for the copy and return it."""
        self.gpu.enter()
        self.pinned.wait()
        return self.pinned.bytes[: self.nbytes].copy().view(self.dtype).reshape(self.shape)

    def __del__(self) -> None:
        if hasattr(self, "pinned"):
            self.pool.give(self.pinned)
