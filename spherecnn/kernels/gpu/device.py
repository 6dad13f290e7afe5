"""Which device runs the kernels: the GPU, or in tests a simulator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np


class CudaError(RuntimeError):
    """A call of the driver that failed for no reason of the user's."""


class NotRecordable(CudaError):
    """Work that waits for the GPU, or reads memory of the host, while a graph is recorded."""


class Memory(Protocol):
    """A block of device memory, given back when the last array that reads it dies."""

    address: int
    size: int


class Fetched(Protocol):
    """A copy to the host that is on its way."""

    @property
    def done(self) -> bool:
        """Whether it is there."""

    def read(self) -> np.ndarray:
        """Wait for it and return it."""


class Graph(Protocol):
    """Work that is recorded and run again as one; see `driver.Gpu.graph`."""

    def warm(self) -> AbstractContextManager[None]:
        """Run work with the memory of the graph, without recording it."""

    def record(self) -> AbstractContextManager[None]:
        """Record work instead of running it."""

    def pause(self) -> AbstractContextManager[None]:
        """Run work, inside of `record`, instead of recording it."""

    def replay(self) -> None:
        """Run the recorded work."""


class Device(Protocol):
    """What arrays and kernels need of a device. All work is done in the order in which it is asked for."""

    name: str
    cc: tuple[int, int]
    multiprocessors: int

    def allocate(self, size: int) -> Memory:
        """Return `size` bytes, not initialised, at a multiple of 256."""

    def upload(self, to: Any, host: np.ndarray) -> None:
        """Copy a contiguous host array into a device array of its size."""

    def download(self, source: Any, host: np.ndarray) -> None:
        """Copy a device array into a contiguous host array of its size, and wait for it."""

    def fetch(self, source: Any) -> Fetched:
        """Start to copy a device array to the host."""

    def adopt(self, address: int, stream: int | None) -> None:
        """Make ready for memory of another library, which has put its work on `stream`."""

    def graph(self) -> Graph:
        """Return a graph to record work in."""

    def feed(self, to: Any, make: Callable[[], np.ndarray]) -> None:
        """Copy what `make` returns into a device array; in a graph, anew before each replay."""

    def copy(self, to: Any, source: Any) -> None:
        """Copy one device array into another of its size."""

    def fill(self, to: Any, byte: int) -> None:
        """Set every byte of a device array."""

    def launch(self, kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], shared: int) -> None:
        """Run a kernel; `args` are device arrays and numbers."""

    def synchronize(self) -> None:
        """Wait until all work is done."""


_current: list[Device] = []
_first = threading.Lock()


def current() -> Device:
    """Return the device in use; the first GPU, unless a test has put another one in its place."""
    if not _current:
        from spherecnn.kernels.gpu.driver import Gpu

        with _first:
            if not _current:
                _current.append(Gpu())
    return _current[-1]


def push(device: Device) -> None:
    """Use this device from now on."""
    _current.append(device)


def pop() -> None:
    """Use the device before the last `push` again."""
    _current.pop()
