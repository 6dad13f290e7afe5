"""What layers do with arrays besides computing: making, joining, cutting, turning and adding them, on any device.

Layers call these in place of NumPy's functions, and so run on arrays that NumPy does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import device_of, op

Array = np.ndarray
Shape = tuple[int, ...]
MOST_CONSTANTS = 8  # tables of a layer, for so many shapes of input


@op
def full(shape: Shape, value: float, like: Array, dtype: Any = None) -> Array:
    """Return an array of one value, where the array `like` is, and of its dtype unless another is given.

    Examples
    --------
    >>> full((2,), 0.5, np.zeros(3))
    array([0.5, 0.5])
    """
    dtype = like.dtype if dtype is None else dtype
    return np.full(shape, value, dtype) if value else np.zeros(shape, dtype)


@op
def concatenate(arrays: Sequence[Array], axis: int) -> Array:
    """Join arrays that differ in one axis only, along it."""
    return np.concatenate(arrays, axis=axis)


@concatenate.on("cpu")
def _concatenate_cpu(arrays: Sequence[Array], axis: int) -> Array:
    shape = list(arrays[0].shape)
    shape[axis] = sum(x.shape[axis] for x in arrays)
    return np.concatenate(arrays, axis=axis, out=empty(tuple(shape), np.result_type(*arrays)))


@op
def split(x: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
    """Cut an array into parts of these sizes along an axis: contiguous copies.

    Examples
    --------
    >>> split(np.array([[1, 2, 3]]), (1, 2), -1)
    (array([[1]]), array([[2, 3]]))
    """
    return tuple(part.copy() for part in np.split(x, np.cumsum(sizes)[:-1], axis=axis))


@split.on("cpu")
def _split_cpu(x: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
    return tuple(_filled(part) for part in np.split(x, np.cumsum(sizes)[:-1], axis=axis))


@op
def transpose(x: Array, axes: Sequence[int]) -> Array:
    """Return a contiguous copy with the axes in another order: axis i of the result is axis axes[i] of x."""
    return x.transpose(axes).copy()


@transpose.on("cpu")
def _transpose_cpu(x: Array, axes: Sequence[int]) -> Array:
    return _filled(x.transpose(axes))


def _filled(view: Array) -> Array:
    """A contiguous copy in memory that is reused."""
    copied = empty(view.shape, view.dtype)
    copied[...] = view
    return copied


@op
def repeat(x: Array, times: int, axis: int) -> Array:
    """Repeat each element so many times, side by side along an axis.

    Examples
    --------
    >>> repeat(np.array([[1, 2]]), 3, 1)
    array([[1, 1, 1, 2, 2, 2]])
    """
    return np.repeat(x, times, axis=axis)


@op
def sum_over(x: Array, axes: tuple[int, ...]) -> Array:
    """Sum over these axes, which the result has not.

    Examples
    --------
    >>> sum_over(np.array([[1, 2], [3, 4]]), (0,))
    array([4, 6])
    """
    return np.asarray(x.sum(axis=axes))


@op
def accumulate(total: Array, x: Array) -> None:
    """total += x, in place; x is repeated along the first axes of `total` that it has not, or has of size 1."""
    total += x


@op
def scale_sites(x: Array, factors: Array) -> Array:
    r"""Multiply sites (N, P, C) by a factor each, (P,): :math:`y_{n,p,c} = f_p\, x_{n,p,c}`"""
    return x * factors[:, None]


@scale_sites.on("cpu")
def _scale_sites_cpu(x: Array, factors: Array) -> Array:
    return np.multiply(x, factors[:, None], out=empty(x.shape, x.dtype))


@op
def move_towards(running: Array, now: Array, momentum: float, factor: float) -> None:
    """running += momentum (factor now - running), in place."""
    running += momentum * (now * factor - running)


@op
def precise(x: Array) -> Array:
    """Return a copy in the precision in which `norm` takes moments: float64 on the host, float32 on the GPU."""
    return x.astype(np.float64)


@op
def keep_mask(shape: Shape, p: float, rng: np.random.Generator, like: Array) -> Array:
    """Return booleans, where the array `like` is, each False with probability p: the mask of `pointwise.dropout`.

    On the host each comes from a number of the generator. On the GPU they are drawn there, from a key that the
    generator gives: other bits, but again the same for the same state of the generator.
    """
    return rng.random(shape, dtype=np.float32) >= p


for _operation in (full, repeat, sum_over, accumulate, move_towards, precise, keep_mask):
    _operation.on("cpu")(_operation.definition)


# --- no kernels: which memory, and whose --------------------------------------------------------------------------


def contiguous(x: Any, dtype: Any = None) -> Any:
    """Return x, or a copy if it is not C-contiguous, writeable and of this dtype.

    Read-only arrays are another type to the compiled kernels. Arrays on the GPU are always contiguous.

    Raises
    ------
    InputError
        If an array on the GPU is of another dtype.
    """
    if isinstance(x, np.ndarray) or device_of(x) == "cpu":
        return np.require(x, dtype, ["C", "W"])
    if dtype is not None and x.dtype != dtype:
        raise InputError(
            f"an array on the GPU has dtype {x.dtype}; expected {np.dtype(dtype)}: convert it before it goes there."
        )
    return x


def adopt(x: Any) -> Any:
    """Return an array of another library on the GPU as ours, in place; any other as it is."""
    if isinstance(x, np.ndarray) or hasattr(x, "memory") or not hasattr(x, "__cuda_array_interface__"):
        return x
    return to_device(x)


def alias(x: Any) -> Any:
    """Return another array object of the same memory."""
    return x.reshape(x.shape)


def to_device(x: Any) -> Any:
    """Return an array on the GPU, see `kernels.gpu.array.to_device`."""
    from spherecnn.kernels.gpu import array

    return array.to_device(x)


def to_host(x: Any) -> Array:
    """Return an array as a NumPy array: itself, or a copy of one on the GPU."""
    if device_of(x) == "cpu":
        return np.asarray(x)
    from spherecnn.kernels.gpu import array

    return array.to_host(x)


def assign(target: Any, source: Any) -> None:
    """Copy `source`, of equal shape, into `target`, each on any device."""
    if device_of(target) == "cpu":
        target[...] = to_host(source)
        return
    from spherecnn.kernels.gpu import device

    device.current().upload(target, np.require(to_host(source), target.dtype, ["C"]))


def beside(x: Any, table: Array) -> Any:
    """Return a host array where x is: itself, or a copy on the GPU."""
    return table if device_of(x) == "cpu" else to_device(table)


class Constants:
    """The tables that a layer computes with, made once and kept beside the arrays that they meet."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}

    def beside(self, x: Any, key: tuple[Any, ...], make: Callable[[], Array]) -> Any:
        """Return the array of `make`, which depends on `key` alone, where x is; it must not be written."""
        place = (device_of(x), *key)
        if place not in self.kept:
            if len(self.kept) >= MOST_CONSTANTS:
                self.kept.pop(next(iter(self.kept)))
            self.kept[place] = beside(x, make())
        return self.kept[place]


class FirstLook:
    """Checks of what is in arrays: of all on the host; of those on a GPU, where a look waits, the first of a shape."""

    def __init__(self) -> None:
        self.seen: set[Shape] = set()

    def __call__(self, x: Any, check: Callable[[Array], None]) -> None:
        """Run `check` on the values of x, if they are to be looked at; it raises what it finds."""
        if device_of(x) == "cpu":
            check(x)
        elif x.shape not in self.seen:
            check(to_host(x))
            self.seen.add(x.shape)
