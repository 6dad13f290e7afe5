"""A simulated device that records work and runs it again, as the GPU's graphs do, and that counts what waits."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from simulated import SimulatedDevice

from spherecnn.kernels.gpu.device import NotRecordable


class Fetched:
    """A copy to the host, made at once: it is what the device array held when it was asked for."""

    done = False  # as if it took its time

    def __init__(self, host: np.ndarray):
        self.host = host

    def read(self) -> np.ndarray:
        return self.host


class SimulatedGraph:
    """Launches and copies, kept with their arguments: their memory lives as long as the graph."""

    def __init__(self, device: RecordingDevice):
        self.device, self.work, self.feeds, self.ready = device, [], [], None

    def warm(self):
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def record(self):
        self.device.recording = self
        try:
            yield
        finally:
            self.device.recording = None
        self.ready = True

    @contextlib.contextmanager
    def pause(self):
        self.device.recording = None
        try:
            yield
        finally:
            self.device.recording = self

    def replay(self):
        assert self.ready
        for to, make in self.feeds:
            self.device.upload(to, make())
        for name, arguments in self.work:
            getattr(self.device, name)(*arguments)
        self.device.replays += 1


class RecordingDevice(SimulatedDevice):
    """A `SimulatedDevice` with graphs.

    Attributes
    ----------
    replays : int
        How often a graph was run again.
    waits : int
        How often the host waited for the device: downloads, but not what is fetched.
    fetched : list of int
        Bytes of each copy to the host that nothing waited for.
    """

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **settings)
        self.recording: SimulatedGraph | None = None
        self.replays = self.waits = 0
        self.fetched: list[int] = []

    def graph(self):
        return SimulatedGraph(self)

    def _recorded(self, name: str, *arguments: Any) -> bool:
        if self.recording is not None:
            self.recording.work.append((name, arguments))
        return self.recording is not None

    def _needs_host(self) -> None:
        if self.recording is not None:
            raise NotRecordable("a copy from or to the host cannot be recorded in a graph")

    def launch(self, *arguments):
        if not self._recorded("launch", *arguments):
            super().launch(*arguments)

    def copy(self, *arguments):
        if not self._recorded("copy", *arguments):
            super().copy(*arguments)

    def fill(self, *arguments):
        if not self._recorded("fill", *arguments):
            super().fill(*arguments)

    def upload(self, to, host):
        self._needs_host()
        super().upload(to, host)

    def download(self, source, host):
        self._needs_host()
        self.waits += 1
        super().download(source, host)

    def fetch(self, source):
        self._needs_host()
        host = np.empty(source.shape, source.dtype)
        super().download(source, host)
        self.fetched.append(host.nbytes)
        return Fetched(host)

    def feed(self, to, make):
        if self.recording is None:
            self.upload(to, make())
        else:
            self.recording.feeds.append((to, make))

    def adopt(self, address, stream):
        """Memory of another library is host memory here."""
