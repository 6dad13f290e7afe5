"""Aligned arrays that reuse memory: fresh pages from the system cost more than many kernels that fill them."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

ALIGNMENT = 64
_SMALL = 1 << 16
_LIMIT = 1 << 31


class _Pool:
    """Blocks given back by dead arrays, keyed by size class."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.free: dict[int, list[np.ndarray]] = {}
        self.held = 0

    def take(self, size: int) -> np.ndarray:
        with self.lock:
            blocks = self.free.get(size)
            if blocks:
                self.held -= size
                return blocks.pop()
        return np.empty(size + ALIGNMENT, np.uint8)

    def give(self, block: np.ndarray, size: int) -> None:
        with self.lock:
            if self.held + size <= _LIMIT:
                self.held += size
                self.free.setdefault(size, []).append(block)

    def clear(self) -> None:
        with self.lock:
            self.free.clear()
            self.held = 0


POOL = _Pool()


class _Lease:
    """Owns a block while any array reads it; NumPy keeps it alive as the arrays' base."""

    def __init__(self, size: int):
        self.size = size
        self.block = POOL.take(size)
        address = self.block.ctypes.data
        start = -address % ALIGNMENT
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (size,),
            "typestr": "|u1",
            "data": (address + start, False),
        }

    def __del__(self) -> None:
        POOL.give(self.block, self.size)


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an uninitialised, 64-byte aligned, C-contiguous array; its memory is reused after it dies."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _SMALL:
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + nbytes].view(dtype).reshape(shape)
    raw = np.asarray(_Lease(_size_class(nbytes)))
    return raw[:nbytes].view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an aligned array of zeros."""
    x = empty(shape, dtype)
    x.fill(0)
    return x


def _size_class(nbytes: int) -> int:
    """Round up to an eighth of a power of two, so that nearly equal sizes share blocks."""
    step = 1 << max(12, nbytes.bit_length() - 4)
    return -(-nbytes // step) * step


def release() -> None:
    """Give the memory that is kept for reuse back to the system."""
    POOL.clear()
