"""Recorded work: what was launched once is run again as one."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from spherecnn.kernels.gpu.calls import call, cu
from spherecnn.kernels.gpu.memory import Pool

if TYPE_CHECKING:
    from spherecnn.kernels.gpu.driver import Gpu


class Graph:
    """Launches and copies within the GPU that are recorded and run again as one: a training step.

    All arrays that are made while it is recorded live in a pool of its own, which nothing else uses, so that they are
    still there when it is run again. Arrays that kernels take beside them are kept alive as long as the graph; what a
    kernel finds by an address that it reads from memory is for its owner to keep.
    It is recorded on a stream of its own, which does not wait for the default stream: other libraries and other
    threads go on meanwhile.

    Parameters
    ----------
    gpu : Gpu
    """

    def __init__(self, gpu: Gpu):
        self.gpu, self.pool = gpu, Pool(gpu)
        # At exit the driver takes back all by itself.
        weakref.finalize(self, self.pool.close).atexit = False
        self.ready: Any = None
        self.feeds: list[tuple[Any, Callable[[], np.ndarray]]] = []
        self.kept: dict[int, Any] = {}

    def keep(self, arrays: Iterable[Any]) -> None:
        """Keep memory of other owners alive that the recorded work reads or writes."""
        for array in arrays:
            memory = getattr(array, "memory", None)
            if memory is not None and getattr(memory, "pool", None) is not self.pool:
                self.kept[id(memory)] = memory

    @contextlib.contextmanager
    def warm(self) -> Iterator[None]:
        """Run work with the memory of this graph, without recording it: kernels and tables are loaded by that.

        What other work has left free goes back to the driver, so that this can have it.
        """
        self.gpu.common.release()
        with self.gpu.use(pool=self.pool):
            yield

    @contextlib.contextmanager
    def record(self) -> Iterator[None]:
        """Record the launches and copies inside instead of running them.

        Raises
        ------
        NotRecordable
            If one of them needs the host; nothing is recorded, and the GPU is as usable as before.
        """
        # Relaxed: memory may still be asked for, on the stream of the other work.
        mode = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
        aside = call(cu.cuStreamCreate, cu.CUstream_flags.CU_STREAM_NON_BLOCKING)
        try:
            call(cu.cuStreamBeginCapture, aside, mode)
            try:
                with self.gpu.use(pool=self.pool, stream=aside, recording=self):
                    yield
            except BaseException:
                _, recorded = cu.cuStreamEndCapture(aside)
                if recorded is not None and int(recorded):
                    cu.cuGraphDestroy(recorded)
                raise
            recorded = call(cu.cuStreamEndCapture, aside)
            ready = call(cu.cuGraphInstantiate, recorded, 0)
            call(cu.cuGraphDestroy, recorded)
        finally:
            cu.cuStreamDestroy(aside)
        weakref.finalize(self, _destroy, ready, self.gpu.main).atexit = False
        self.ready = ready

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Run what is inside at once, in the midst of `record`: what the host prepares for the work to come."""
        with self.gpu.use(pool=self.gpu.common, stream=self.gpu.main, recording=None):
            yield

    def replay(self) -> None:
        """Run the recorded work, on fresh numbers where it is fed by the host (`Gpu.feed`)."""
        for to, make in self.feeds:
            self.gpu.upload(to, make())
        call(cu.cuGraphLaunch, self.ready, self.gpu.stream)


def _destroy(ready: Any, stream: Any) -> None:
    cu.cuStreamSynchronize(stream)  # it may still run
    cu.cuGraphExecDestroy(ready)
