"""The GPU through CUDA's driver: one context, one stream, a pool of memory, launches.

All work is put on one stream. It waits for the default stream and that for it, so arrays of other libraries, which
work there by default, need no further care. Memory is given back in the order of the stream too: a block that a dead
array leaves is used again by work that comes after, without waiting. Several threads may use the GPU: their work is
done in the order in which it is asked for.

The environment variable ``SPHERECNN_CUDA_SYNC=1`` waits for every kernel, so that an error names the kernel that
made it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels.gpu.calls import OUT_OF_MEMORY, SUCCESS, CudaError, NotRecordable, call, cu, explain
from spherecnn.kernels.gpu.graph import Graph
from spherecnn.kernels.gpu.memory import Block, Fetched, PinnedPool, Pool

OLDEST_DRIVER = 13000  # CUDA 13.0: drivers from 580 on
OLDEST_CC = (8, 0)
STATIC_SHARED = 48 << 10  # bytes; more must be allowed for each kernel
DEFAULT_STREAM = 1  # in __cuda_array_interface__: ours waits for that by itself
CHUNK = 16 << 20  # bytes of an upload that pass through pinned memory at once
PACKED = {"i4": "i4x", "u4": "I4x", "f4": "f4x"}  # eight bytes an argument


class Launcher:
    """A kernel that is loaded, with room for its arguments; each thread has its own."""

    __slots__ = ("address", "allowed", "arguments", "buffer", "function", "pointers")

    def __init__(self, function: Any, kinds: tuple[str, ...]):
        self.function, self.allowed = function, STATIC_SHARED
        self.arguments = struct.Struct("=" + "".join(PACKED.get(kind, "Q") for kind in kinds))
        self.buffer = (ctypes.c_char * max(8, self.arguments.size))()
        first = ctypes.addressof(self.buffer)
        self.pointers = (ctypes.c_void_p * max(1, len(kinds)))(*(first + 8 * i for i in range(len(kinds))))
        self.address = ctypes.addressof(self.pointers)


class _Here(threading.local):
    """What a thread has of its own; the context is made current when it first asks."""

    def __init__(self, gpu: Gpu):
        call(cu.cuCtxSetCurrent, gpu.context)
        self.stream, self.pool = gpu.main, gpu.common
        self.recording: Graph | None = None
        self.launchers: dict[Any, Launcher] = {}


class _Forked:
    """What a process has that was forked from one that used the GPU."""

    def __getattr__(self, name: str) -> Any:
        raise InputError(
            "this process was forked from one that uses the GPU, and cannot use it; expected a process of its own: "
            "start it with multiprocessing's method 'spawn'."
        )


class Gpu:
    """The first GPU that this process may see (``CUDA_VISIBLE_DEVICES`` chooses it).

    Raises
    ------
    InputError
        If there is none, or the driver or the GPU is too old.
    """

    def __init__(self) -> None:
        self.version = start()
        self.handle = call(cu.cuDeviceGet, 0)
        self.name = call(cu.cuDeviceGetName, 256, self.handle).split(b"\0")[0].decode()
        ask = cu.CUdevice_attribute
        self.cc = (
            self._attribute(ask.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self._attribute(ask.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        if self.cc < OLDEST_CC:
            raise InputError(
                f"the GPU {self.name} has compute capability {self.cc[0]}.{self.cc[1]}; expected at least "
                f"{OLDEST_CC[0]}.{OLDEST_CC[1]} (2020 and newer): use another GPU or the CPU."
            )
        if not self._attribute(ask.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED):
            raise InputError(
                f"the GPU {self.name} has no memory pools here; expected them, as outside some virtual machines: "
                "use another machine or the CPU."
            )
        self.multiprocessors = self._attribute(ask.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        self.memory = int(call(cu.cuDeviceTotalMem, self.handle))
        self.context = call(cu.cuDevicePrimaryCtxRetain, self.handle)  # the one that other libraries use too
        call(cu.cuCtxSetCurrent, self.context)
        self.main = call(cu.cuStreamCreate, cu.CUstream_flags.CU_STREAM_DEFAULT)
        self.source = call(cu.cuDeviceGetDefaultMemPool, self.handle)
        keep = cu.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        call(cu.cuMemPoolSetAttribute, self.source, keep, cu.cuuint64_t(2**64 - 1))
        self.common, self.pinned = Pool(self), PinnedPool()
        self.functions: dict[Any, Any] = {}
        self.lock = threading.Lock()
        self.forked = False
        self.careful = os.environ.get("SPHERECNN_CUDA_SYNC", "0") not in ("", "0")
        self._here: Any = _Here(self)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._fork)

    def _attribute(self, which: Any) -> int:
        return int(call(cu.cuDeviceGetAttribute, which, self.handle))

    def _fork(self) -> None:
        self.forked, self._here = True, _Forked()

    def enter(self) -> None:
        """Make this thread ready to call the driver."""
        _ = self._here.stream

    @property
    def stream(self) -> Any:
        """The stream that work of this thread is put on."""
        return self._here.stream

    @property
    def pool(self) -> Pool:
        """Where new arrays of this thread come from."""
        return self._here.pool

    @contextlib.contextmanager
    def use(self, **settings: Any) -> Iterator[None]:
        """Use another pool or stream meanwhile, in this thread."""
        here = self._here
        before = {name: getattr(here, name) for name in settings}
        vars(here).update(settings)
        try:
            yield
        finally:
            vars(here).update(before)

    def graph(self) -> Graph:
        """Return a graph to record work in."""
        return Graph(self)

    def feed(self, to: Any, make: Callable[[], np.ndarray]) -> None:
        """Copy what `make` returns into an array; in a graph, anew before each replay."""
        graph = self._here.recording
        if graph is None:
            self.upload(to, make())
        else:
            graph.feeds.append((to, make))

    def _needs_host(self, what: str) -> None:
        if self._here.recording is not None:
            raise NotRecordable(f"{what} cannot be recorded in a graph: it would be the same each time")

    # --- memory ------------------------------------------------------------------------------------------------

    def allocate(self, size: int) -> Block:
        return self._here.pool.take(size)

    def new_memory(self, size: int) -> int:
        """Return the address of memory from the driver; what is kept for reuse is given up for it."""
        status, address = cu.cuMemAllocAsync(size, self.main)
        if status == OUT_OF_MEMORY:
            gc.collect()
            self.release()
            status, address = cu.cuMemAllocAsync(size, self.main)
        if status == OUT_OF_MEMORY:
            free, total = call(cu.cuMemGetInfo)
            raise InputError(
                f"the GPU {self.name} has {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, and an array of "
                f"{size / 2**20:.0f} MiB does not fit: use a smaller batch or picture, or end other programs on it."
            )
        if status != SUCCESS:
            raise CudaError(f"cuMemAllocAsync: {explain(status)}")
        return int(address)

    def release(self) -> None:
        """Give the memory that is kept for reuse back to the system; that of graphs stays."""
        self.common.release()
        call(cu.cuStreamSynchronize, self.main)
        call(cu.cuMemPoolTrimTo, self.source, 0)

    def adopt(self, address: int, stream: int | None) -> None:
        """See that memory of another library is on this GPU, and let what follows wait for the library's stream."""
        where = cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        here = self._here.stream
        status, ordinal = cu.cuPointerGetAttribute(where, address)
        if status == SUCCESS and int(ordinal) != int(self.handle):
            raise InputError(
                f"an array is on GPU {int(ordinal)}; expected it on GPU {int(self.handle)}, the one in use: move it, "
                "or choose the GPU by CUDA_VISIBLE_DEVICES."
            )
        if stream not in (None, DEFAULT_STREAM):
            self._needs_host("waiting for another stream")
            event = call(cu.cuEventCreate, cu.CUevent_flags.CU_EVENT_DISABLE_TIMING)
            call(cu.cuEventRecord, event, stream)
            call(cu.cuStreamWaitEvent, here, event, 0)
            call(cu.cuEventDestroy, event)

    # --- copies ------------------------------------------------------------------------------------------------

    def upload(self, to: Any, host: np.ndarray) -> None:
        """Copy a contiguous host array, which may change at once afterwards; nothing waits for the GPU."""
        self._needs_host("a copy from the host")
        data, stream = host.reshape(-1).view(np.uint8), self._here.stream
        for first in range(0, data.size, CHUNK):
            part = data[first : first + CHUNK]
            pinned = self.pinned.take(part.size)
            pinned.bytes[: part.size] = part
            call(cu.cuMemcpyHtoDAsync, to.address + first, pinned.address, part.size, stream)
            pinned.mark(stream)
            self.pinned.give(pinned)

    def download(self, source: Any, host: np.ndarray) -> None:
        self._needs_host("a copy to the host")
        call(cu.cuMemcpyDtoHAsync, host.ctypes.data, source.address, host.nbytes, self._here.stream)
        self.synchronize()

    def fetch(self, source: Any) -> Fetched:
        """Start a copy to the host, to be read later."""
        self._needs_host("a copy to the host")
        return Fetched(source, self)

    def copy(self, to: Any, source: Any) -> None:
        if self._here.recording is not None:
            self._here.recording.keep((to, source))
        call(cu.cuMemcpyDtoDAsync, to.address, source.address, source.nbytes, self._here.stream)

    def fill(self, to: Any, byte: int) -> None:
        if self._here.recording is not None:
            self._here.recording.keep((to,))
        call(cu.cuMemsetD8Async, to.address, byte, to.nbytes, self._here.stream)

    def synchronize(self) -> None:
        self._needs_host("waiting for the GPU")
        call(cu.cuStreamSynchronize, self._here.stream)

    # --- kernels -----------------------------------------------------------------------------------------------

    def launch(self, kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], shared: int) -> None:
        here = self._here
        launcher = here.launchers.get(kernel)
        if launcher is None:
            launcher = here.launchers[kernel] = Launcher(self._load(kernel), kernel.arguments)
        if shared > launcher.allowed:
            most = cu.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            (status,) = cu.cuFuncSetAttribute(launcher.function, most, shared)
            if status != SUCCESS:
                raise CudaError(f"{kernel.name} needs {shared} bytes of shared memory: {explain(status)}")
            launcher.allowed = shared
        if here.recording is not None:
            here.recording.keep(args)
        values = [0 if a is None else getattr(a, "address", a) for a in args]
        try:
            launcher.arguments.pack_into(launcher.buffer, 0, *values)
        except struct.error as error:
            raise CudaError(
                f"{kernel.name} takes {' '.join(kernel.arguments)} and got {values}: {error}; numbers of 32 bits "
                "limit the size of arrays"
            ) from None
        (status,) = cu.cuLaunchKernel(
            launcher.function, *grid, kernel.threads, 1, 1, shared, here.stream, launcher.address, 0
        )
        if status != SUCCESS:
            raise CudaError(f"{kernel.name}, grid {grid}, {shared} bytes shared: {explain(status)}")
        if self.careful and here.recording is None:
            (status,) = cu.cuStreamSynchronize(here.stream)
            if status != SUCCESS:
                raise CudaError(f"{kernel.name}, grid {grid}: {explain(status)}")

    def _load(self, kernel: Any) -> Any:
        """The function of a kernel in this context."""
        from spherecnn.kernels.cuda import entry_name

        with self.lock:
            if kernel not in self.functions:
                cubin = kernel.cubin(self.cc)
                # The module is never unloaded: its kernels serve as long as the process.
                module = call(cu.cuModuleLoadData, cubin)
                self.functions[kernel] = call(cu.cuModuleGetFunction, module, entry_name(cubin).encode())
            return self.functions[kernel]

    def describe(self) -> str:
        """The GPU and its driver in words."""
        driver = f"driver {driver_version()}, CUDA {self.version // 1000}.{self.version % 1000 // 10}"
        return (
            f"{self.name}, compute capability {self.cc[0]}.{self.cc[1]}, {self.multiprocessors} multiprocessors, "
            f"{self.memory / 2**30:.1f} GiB, {driver}"
        )

    def __repr__(self) -> str:
        return f"Gpu({self.name}, compute capability {self.cc[0]}.{self.cc[1]})"


def driver_version() -> str:
    """The version of the driver, as 580.65.06, where the system tells it."""
    try:
        found = re.search(r"\d+\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        found = None
    return found.group() if found else "of unknown version"


def start() -> int:
    """Load the driver and see that it is there, new enough, and has a GPU; return its version of CUDA."""
    try:
        call(cu.cuInit, 0)
        version, count = call(cu.cuDriverGetVersion), call(cu.cuDeviceGetCount)
    except RuntimeError as error:
        raise InputError(
            f"no NVIDIA GPU can be used here ({error}); expected one with a driver from 580 on: "
            "install the driver, or use the CPU."
        ) from None
    if version < OLDEST_DRIVER:
        raise InputError(
            f"the NVIDIA driver supports CUDA {version // 1000}.{version % 1000 // 10}; expected at least 13.0: "
            "update it to 580 or newer, or use the CPU."
        )
    if count == 0:
        raise InputError("this machine shows no NVIDIA GPU; expected one: check CUDA_VISIBLE_DEVICES or use the CPU.")
    return int(version)
