"""What kernels of single elements share: the elements of a thread, moves of 16 bytes, arrays too large for a launch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels.cuda import cuda, device_function, int32, uint32
from spherecnn.kernels.gpu.array import DeviceArray
from spherecnn.kernels.gpu.intrinsics import multiply_high

THREADS = 256
EACH = 2  # moves of 16 bytes that a thread has under way from each array: enough to fill the memory's pipes
SPAN = THREADS * EACH  # moves of a block
MOST = 1 << 30  # elements of one launch: indices are int32


def blocks(count: int) -> int:
    """How many blocks take so many elements of 4 bytes."""
    return -(-count // (4 * SPAN))


def vectors(count: int, *arrays: DeviceArray) -> int:
    """How many moves of 4 elements there are in the first `count`; none if an array begins between two."""
    return 0 if any(a.address % (4 * a.itemsize) for a in arrays) else count // 4


def spans(rows: int, width: int = 1) -> Iterator[slice]:
    """Cut `rows` rows of `width` elements into parts that one launch can number."""
    step = max(1, MOST // max(1, width) // 4 * 4)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def parts(*arrays: DeviceArray) -> Iterator[tuple[DeviceArray, ...]]:
    """Cut arrays of one size into flat parts that one launch can number; as they are, if that is one."""
    if arrays[0].size <= MOST:
        return iter((arrays,))
    flat = [a.ravel() for a in arrays]
    return (tuple(a[span] for a in flat) for span in spans(flat[0].size))


def check_float32(name: str, *arrays: Any) -> None:
    """Raise InputError unless all arrays are float32 and of one shape."""
    first = arrays[0]
    for a in arrays:
        if a.dtype != np.float32:
            raise InputError(
                f"{name} was given {a.dtype} on the GPU; expected float32: convert it before it goes there."
            )
        if a.shape != first.shape:
            raise InputError(f"{name} was given shapes {first.shape} and {a.shape}; expected equal ones.")


def check_size(name: str, *arrays: Any) -> None:
    """Raise InputError if an array has more elements than a launch can number."""
    for a in arrays:
        if a.size > MOST:
            raise InputError(
                f"{name} was given {a.size} elements (shape {a.shape}) on the GPU; expected at most {MOST}: "
                "use a smaller batch."
            )


def divider(d: int) -> tuple[int, int]:
    """Return the multiplier and the shift of `quotient` by d: no division on the GPU.

    Source: Granlund and Montgomery, "Division by invariant integers using multiplication", PLDI 1994, figure 4.1.
    """
    shift = (d - 1).bit_length()
    return ((1 << 32) * ((1 << shift) - d)) // d + 1, shift


@device_function
def quotient(n, multiplier, shift):
    """n // d for 0 <= n < 2^31; multiplier is uint32 and shift int32, both of `divider`."""
    return int32(uint32(multiply_high(uint32(n), multiplier) + uint32(n)) >> uint32(shift))


@device_function
def first_rest(vectors):
    """The first element of this thread among those that no move of 16 bytes takes."""
    return int32(4 * vectors + cuda.blockIdx.x * THREADS + cuda.threadIdx.x)


@device_function
def next_rest(i):
    """The element after i of this thread."""
    return int32(i + cuda.gridDim.x * THREADS)
