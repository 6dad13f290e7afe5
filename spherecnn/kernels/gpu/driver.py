"""The GPU through CUDA's driver: one context, one stream, a pool of memory, launches, graphs.

All work is put on one stream. It waits for the default stream and that for it, so arrays of other libraries, which
work there by default, need no further care. Memory is given back in the order of the stream too: a block that a dead
array leaves is used again by work that comes after, without waiting.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from spherecnn.errors import InputError

try:
    from cuda.bindings import driver as cu
except ImportError as error:
    raise InputError(
        f"arrays on a GPU need the CUDA extra, which is not installed ({error}): pip install 'spherecnn[cuda]'."
    ) from None

OLDEST_DRIVER = 13000  # CUDA 13.0: drivers from 580 on
OLDEST_CC = (8, 0)
STATIC_SHARED = 48 << 10  # bytes; more must be allowed for each kernel
KINDS = {"i4": ctypes.c_int32, "u4": ctypes.c_uint32, "f4": ctypes.c_float}


class CudaError(RuntimeError):
    """A call of the driver that failed for no reason of the user's."""


def call(function: Any, *args: Any) -> Any:
    """Call the driver; return its one result, or a tuple of several."""
    status, *results = function(*args)
    if status != cu.CUresult.CUDA_SUCCESS:
        _, told = cu.cuGetErrorString(status)
        raise CudaError(f"{function.__name__}: {(told or b'unknown error').decode()} ({status.name})")
    return results[0] if len(results) == 1 else tuple(results)


class Block:
    """Device memory, given back to the pool that it came from when its last array dies."""

    __slots__ = ("address", "pool", "size")

    def __init__(self, address: int, size: int, pool: Pool):
        self.address, self.size, self.pool = address, size, pool

    def __del__(self) -> None:
        self.pool.give(self.address, self.size)


class Pool:
    """Blocks of dead arrays by size, for the next array of that size; new ones come from the stream's own pool."""

    def __init__(self, gpu: Gpu):
        self.gpu = gpu
        self.lock = threading.RLock()
        self.free: dict[int, list[int]] = {}
        self.held = self.used = self.peak = 0

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
        with self.lock:
            self.used -= size
            self.held += size
            self.free.setdefault(size, []).append(address)

    def release(self) -> None:
        """Give all free blocks back to the driver."""
        with self.lock:
            for addresses in self.free.values():
                for address in addresses:
                    call(cu.cuMemFreeAsync, address, self.gpu.stream)
            self.free.clear()
            self.held = 0


def size_class(size: int) -> int:
    """Round up to an eighth of a power of two, at least 512, so that nearly equal sizes share blocks."""
    step = max(512, 1 << max(0, size.bit_length() - 4))
    return -(-size // step) * step


class Gpu:
    """The first GPU that this process may see (``CUDA_VISIBLE_DEVICES`` chooses it).

    Raises
    ------
    InputError
        If there is none, or the driver or the GPU is too old.
    """

    def __init__(self) -> None:
        _start()
        self.handle = call(cu.cuDeviceGet, 0)
        self.name = call(cu.cuDeviceGetName, 256, self.handle).rstrip(b"\0").decode()
        attribute, ask = cu.CUdevice_attribute, cu.cuDeviceGetAttribute
        major = call(ask, attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, self.handle)
        minor = call(ask, attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, self.handle)
        self.cc = (int(major), int(minor))
        if self.cc < OLDEST_CC:
            raise InputError(
                f"the GPU {self.name} has compute capability {major}.{minor}; expected at least "
                f"{OLDEST_CC[0]}.{OLDEST_CC[1]} (2020 and newer): use another GPU or the CPU."
            )
        self.multiprocessors = int(call(ask, attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, self.handle))
        # The context that other libraries use too.
        self.context = call(cu.cuDevicePrimaryCtxRetain, self.handle)
        call(cu.cuCtxSetCurrent, self.context)
        self.stream = call(cu.cuStreamCreate, cu.CUstream_flags.CU_STREAM_DEFAULT)
        source = call(cu.cuDeviceGetDefaultMemPool, self.handle)
        keep = cu.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        call(cu.cuMemPoolSetAttribute, source, keep, cu.cuuint64_t(2**64 - 1))
        self.source = source
        self.pool = Pool(self)
        self.functions: dict[Any, Any] = {}

    # --- memory ------------------------------------------------------------------------------------------------

    def allocate(self, size: int) -> Block:
        return self.pool.take(size)

    def new_memory(self, size: int) -> int:
        status, address = cu.cuMemAllocAsync(size, self.stream)
        if status == cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            self.release()
            status, address = cu.cuMemAllocAsync(size, self.stream)
        if status == cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            free, total = call(cu.cuMemGetInfo)
            raise InputError(
                f"the GPU {self.name} has {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, and an array of "
                f"{size / 2**20:.0f} MiB does not fit: use a smaller batch or picture, or end other programs on it."
            )
        if status != cu.CUresult.CUDA_SUCCESS:
            raise CudaError(f"cuMemAllocAsync: {status.name}")
        return int(address)

    def release(self) -> None:
        """Give the memory that is kept for reuse back to the system."""
        self.pool.release()
        self.synchronize()
        call(cu.cuMemPoolTrimTo, self.source, 0)

    @contextlib.contextmanager
    def use_pool(self, pool: Pool) -> Iterator[None]:
        """Take memory from another pool meanwhile: what a graph uses must stay its own."""
        before, self.pool = self.pool, pool
        try:
            yield
        finally:
            self.pool = before

    # --- copies ------------------------------------------------------------------------------------------------

    def upload(self, to: Any, host: np.ndarray) -> None:
        call(cu.cuMemcpyHtoDAsync, to.address, host.ctypes.data, host.nbytes, self.stream)

    def download(self, source: Any, host: np.ndarray) -> None:
        call(cu.cuMemcpyDtoHAsync, host.ctypes.data, source.address, host.nbytes, self.stream)
        self.synchronize()

    def copy(self, to: Any, source: Any) -> None:
        call(cu.cuMemcpyDtoDAsync, to.address, source.address, source.nbytes, self.stream)

    def fill(self, to: Any, byte: int) -> None:
        call(cu.cuMemsetD8Async, to.address, byte, to.nbytes, self.stream)

    def synchronize(self) -> None:
        call(cu.cuStreamSynchronize, self.stream)

    # --- kernels -----------------------------------------------------------------------------------------------

    def launch(self, kernel: Any, grid: tuple[int, ...], args: tuple[Any, ...], shared: int) -> None:
        function, kinds = self.functions.get((kernel.name, shared)) or self._load(kernel, shared)
        values = tuple(a.address if hasattr(a, "address") else a for a in args)
        call(cu.cuLaunchKernel, function, *grid, kernel.threads, 1, 1, shared, self.stream, (values, kinds), 0)

    def _load(self, kernel: Any, shared: int) -> tuple[Any, tuple[Any, ...]]:
        """The function of a kernel in this context, allowed to use its shared memory."""
        from spherecnn.kernels.cuda import entry_name

        cubin = kernel.cubin(self.cc)
        # The module is never unloaded: its kernels serve as long as the process.
        function = call(cu.cuModuleGetFunction, call(cu.cuModuleLoadData, cubin), entry_name(cubin).encode())
        if shared > STATIC_SHARED:
            most = cu.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            call(cu.cuFuncSetAttribute, function, most, shared)
        kinds = tuple(ctypes.c_void_p if k.endswith("*") else KINDS[k] for k in kernel.arguments)
        self.functions[kernel.name, shared] = function, kinds
        return function, kinds

    def __repr__(self) -> str:
        return f"Gpu({self.name}, compute capability {self.cc[0]}.{self.cc[1]})"


def _start() -> None:
    """Load the driver and see that it is there, new enough, and has a GPU."""
    try:
        call(cu.cuInit, 0)
        version, count = call(cu.cuDriverGetVersion), call(cu.cuDeviceGetCount)
    except (CudaError, RuntimeError) as error:
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


class Graph:
    """Recorded work that is run again as one: a training step whose shapes repeat.

    Parameters
    ----------
    gpu : Gpu
    pool : Pool
        Where all arrays of the work live; it must have seen the work once, so that nothing is allocated anew.
    """

    def __init__(self, gpu: Gpu, pool: Pool):
        self.gpu, self.pool, self.ready = gpu, pool, None

    @contextlib.contextmanager
    def record(self) -> Iterator[None]:
        """Record the launches and copies inside instead of running them."""
        mode = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        with self.gpu.use_pool(self.pool):
            call(cu.cuStreamBeginCapture, self.gpu.stream, mode)
            try:
                yield
            except BaseException:
                cu.cuStreamEndCapture(self.gpu.stream)
                raise
            recorded = call(cu.cuStreamEndCapture, self.gpu.stream)
        self.ready = call(cu.cuGraphInstantiate, recorded, 0)
        call(cu.cuGraphDestroy, recorded)

    def replay(self) -> None:
        """Run the recorded work."""
        call(cu.cuGraphLaunch, self.ready, self.gpu.stream)
