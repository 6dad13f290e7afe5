"""Seconds of work on a GPU, by events on the stream that does it, and of the host that asks for it."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from spherecnn.bench.case import Work
from spherecnn.kernels.gpu import device
from spherecnn.kernels.gpu.calls import call, cu


class Clock:
    """Times work of ours."""

    def __init__(self) -> None:
        self.gpu: Any = device.current()
        flags = cu.CUevent_flags.CU_EVENT_DEFAULT
        self.begin, self.end = (call(cu.cuEventCreate, flags) for _ in range(2))

    def __call__(self, work: Work, repeats: int) -> float:
        """Seconds of one of `repeats` pieces of work in a row."""
        self.gpu.synchronize()
        call(cu.cuEventRecord, self.begin, self.gpu.stream)
        for _ in range(repeats):
            work()
        call(cu.cuEventRecord, self.end, self.gpu.stream)
        call(cu.cuEventSynchronize, self.end)
        return float(call(cu.cuEventElapsedTime, self.begin, self.end)) / 1e3 / repeats

    def issue(self, work: Work, repeats: int) -> float:
        """Seconds that the host takes to ask for one of `repeats` pieces of work."""
        self.gpu.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        seconds = time.perf_counter() - start
        self.gpu.synchronize()
        return seconds / repeats

    def peak(self, work: Work) -> float:
        """MiB that work takes at most over what its arrays hold before it."""
        pool = self.gpu.pool
        before = pool.peak = pool.used
        work()
        return (pool.peak - before) / 2**20


class TorchClock:
    """Times work of torch."""

    def __init__(self, torch: Any):
        self.torch = torch
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __call__(self, work: Work, repeats: int) -> float:
        self.torch.cuda.synchronize()
        self.begin.record()
        for _ in range(repeats):
            work()
        self.end.record()
        self.end.synchronize()
        return self.begin.elapsed_time(self.end) / 1e3 / repeats

    def issue(self, work: Work, repeats: int) -> float:
        self.torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        seconds = time.perf_counter() - start
        self.torch.cuda.synchronize()
        return seconds / repeats

    def peak(self, work: Work) -> float:
        self.torch.cuda.synchronize()
        self.torch.cuda.reset_peak_memory_stats()
        before = self.torch.cuda.memory_allocated()
        work()
        self.torch.cuda.synchronize()
        return (self.torch.cuda.max_memory_allocated() - before) / 2**20


def card(gpu: Any) -> str:
    """What the GPU is, and its clocks and power as nvidia-smi tells them."""
    asked = ["nvidia-smi", "--query-gpu=clocks.max.sm,clocks.max.mem,power.limit", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return gpu.describe()
    lines = told.stdout.strip().splitlines()
    return f"{gpu.describe()}, at most {lines[0]}" if told.returncode == 0 and lines else gpu.describe()


def cache_bytes(gpu: Any) -> int:
    """Size of the second-level cache."""
    return int(call(cu.cuDeviceGetAttribute, cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, gpu.handle))
