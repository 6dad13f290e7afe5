"""Arrays on the GPU: what layers and kernels need of an array, and no more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels.gpu import device

DTYPES = tuple(np.dtype(kind) for kind in (np.float32, np.int32, np.uint32, np.uint8, np.bool_))


_KNOWN = frozenset(DTYPES)
ALIGNED = 16  # bytes


class DeviceArray:
    """A C-contiguous array in the memory of the GPU.

    Layers and ops take it where they take a NumPy array. It has no arithmetic of its own, and NumPy's functions
    refuse it: nothing is copied to the host unless `to_host` or ``float`` asks for it. PyTorch, CuPy and others read
    it in place, through ``__cuda_array_interface__``: ``torch.as_tensor(y, device="cuda")``.

    Parameters
    ----------
    memory : Memory
    offset : int
        Bytes from the start of the memory.
    shape : tuple of int
    dtype : numpy.dtype
    """

    __slots__ = ("__weakref__", "dtype", "memory", "offset", "shape", "size")
    __array_ufunc__ = None  # NumPy's operators give up at once

    def __init__(self, memory: device.Memory, offset: int, shape: tuple[int, ...], dtype: np.dtype):
        self.memory, self.offset, self.shape, self.dtype = memory, offset, shape, dtype
        self.size = math.prod(shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def address(self) -> int:
        """Where the first element is."""
        return self.memory.address + self.offset

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # Without a stream: the kernels run on one that waits for the default stream, and that waits for them.
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.address, False), "version": 3}

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array without axes has no length")
        return self.shape[0]

    def reshape(self, *shape: Any) -> DeviceArray:
        """Return the same elements with other axes; one of them may be -1."""
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if -1 in sizes:
            known = -math.prod(sizes)
            sizes = tuple(self.size // known if n == -1 and known else n for n in sizes)
        if math.prod(sizes) != self.size or -1 in sizes:
            raise ValueError(f"an array of shape {self.shape} has no shape {tuple(shape)}")
        return DeviceArray(self.memory, self.offset, tuple(map(int, sizes)), self.dtype)

    def ravel(self) -> DeviceArray:
        """Return the elements on one axis."""
        return self.reshape(self.size)

    def view(self, dtype: Any) -> DeviceArray:
        """Return the same bytes as another type of the same size."""
        if np.dtype(dtype).itemsize != self.itemsize:
            raise ValueError(f"{self.dtype} has no view as {np.dtype(dtype)}")
        return DeviceArray(self.memory, self.offset, self.shape, np.dtype(dtype))

    def __getitem__(self, key: Any) -> DeviceArray:
        """Return part of the first axis, in place: ``x[a:b]`` or ``x[i]``."""
        if isinstance(key, slice) and key.step in (None, 1) and self.shape:
            start, stop, _ = key.indices(self.shape[0])
            shape = (max(0, stop - start), *self.shape[1:])
        elif isinstance(key, int) and self.shape and -self.shape[0] <= key < self.shape[0]:
            start, shape = key % self.shape[0], self.shape[1:]
        else:
            raise InputError(
                f"an array on the GPU was indexed with {key!r}; expected a number or a slice of the first axis: "
                "copy it with sc.to_host first."
            )
        row = math.prod(self.shape[1:]) * self.itemsize
        return DeviceArray(self.memory, self.offset + start * row, shape, self.dtype)

    def __deepcopy__(self, _: Any) -> DeviceArray:
        return self.copy()

    def __reduce__(self) -> Any:
        raise InputError("an array on the GPU was to be pickled; expected one on the host: use sc.to_host first.")

    def copy(self) -> DeviceArray:
        """Return a copy, on the GPU."""
        made = empty(self.shape, self.dtype)
        if self.size:
            device.current().copy(made, self)
        return made

    def fill(self, value: float) -> None:
        """Set all elements, to 0 or, of one byte each, to any number."""
        if value != 0 and self.itemsize != 1:
            raise ValueError(f"fill takes 0 for {self.dtype}, not {value}: use kernels.arrays.full")
        if self.size:
            device.current().fill(self, int(value))

    def astype(self, dtype: Any, copy: bool = True) -> DeviceArray:
        """Return the array itself, or a copy; the type cannot change on the GPU."""
        if np.dtype(dtype) != self.dtype:
            raise InputError(
                f"an array on the GPU is {self.dtype}; expected to stay so: convert it before sc.to_device "
                f"({np.dtype(dtype)} was asked for)."
            )
        return self.copy() if copy else self

    def __float__(self) -> float:
        return float(self._one())

    def __int__(self) -> int:
        return int(self._one())

    def _one(self) -> Any:
        if self.size != 1:
            raise TypeError(f"an array of shape {self.shape} is not one number")
        return to_host(self).reshape(())

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise InputError(
            f"an array on the GPU of shape {self.shape} was given to NumPy; expected one on the host: "
            "copy it with sc.to_host."
        )

    def __repr__(self) -> str:
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"


class _Foreign:
    """Memory that another library owns."""

    def __init__(self, owner: Any, address: int, size: int):
        self.owner, self.address, self.size = owner, address, size


def empty(shape: tuple[int, ...], dtype: Any) -> DeviceArray:
    """Return an uninitialised array on the GPU."""
    kind = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
    if kind not in _KNOWN:
        raise InputError(
            f"an array on the GPU was asked for with dtype {kind}; expected one of "
            f"{', '.join(str(d) for d in DTYPES)}: convert with x.astype('float32')."
        )
    whole = tuple(map(int, shape))
    memory = device.current().allocate(max(1, math.prod(whole)) * kind.itemsize)
    return DeviceArray(memory, 0, whole, kind)


def zeros(shape: tuple[int, ...], dtype: Any) -> DeviceArray:
    """Return an array of zeros on the GPU."""
    made = empty(shape, dtype)
    made.fill(0)
    return made


def to_device(x: Any) -> DeviceArray:
    """Return an array on the GPU: a copy of one on the host; one that is there already, in place.

    Arrays of PyTorch, CuPy, Numba and others on the GPU are read where they are (``__cuda_array_interface__``),
    without a copy, and stay alive as long as the result; only a view that does not begin at a multiple of 16 bytes is
    copied, there. Integers of 64 bits, such as class numbers, become int32.

    Parameters
    ----------
    x : array
        float32, integers, or booleans; contiguous if it is on the GPU.

    Raises
    ------
    InputError
        If there is no GPU or no CUDA, the dtype is float64, or an array on the GPU is not C-contiguous.
    """
    if isinstance(x, DeviceArray):
        return x
    if hasattr(x, "__cuda_array_interface__"):
        return _adopt(x)
    host = np.asarray(x)
    if host.dtype == np.int64 or (host.dtype.kind == "u" and host.dtype.itemsize in (2, 8)):
        bounds = np.iinfo(np.int32)
        if host.size and (host.min() < bounds.min or host.max() > bounds.max):
            raise InputError(
                f"integers from {host.min()} to {host.max()} were given for the GPU; expected numbers of 32 bits: "
                "renumber them."
            )
        host = host.astype(np.int32)
    elif host.dtype.kind == "i" and host.dtype.itemsize < 4:
        host = host.astype(np.int32)
    made = empty(host.shape, _accepted(host.dtype))
    if host.size:
        device.current().upload(made, np.ascontiguousarray(host))
    return made


def to_host(x: Any) -> np.ndarray:
    """Return an array as a NumPy array: a copy of one on the GPU; one that is on the host already, itself."""
    if not isinstance(x, DeviceArray):
        if not hasattr(x, "__cuda_array_interface__"):
            return np.asarray(x)
        x = _adopt(x)
    host = np.empty(x.shape, x.dtype)
    if x.size:
        device.current().download(x, host)
    return host


def _adopt(x: Any) -> DeviceArray:
    """An array of another library, in place."""
    told = x.__cuda_array_interface__
    kind, shape = _accepted(np.dtype(told["typestr"])), tuple(told["shape"])
    strides, row = told.get("strides"), kind.itemsize
    for size, stride in zip(shape[::-1], (strides or ())[::-1], strict=False):
        if size > 1 and stride != row:
            raise InputError(
                f"an array on the GPU has shape {shape} and strides {strides}; expected a C-contiguous one: "
                "call its contiguous() (PyTorch) or cupy.ascontiguousarray."
            )
        row *= size
    if told.get("mask") is not None:
        raise InputError("an array on the GPU has a mask; expected one without: fill its gaps first.")
    address = told["data"][0]
    device.current().adopt(address, told.get("stream"))
    found = DeviceArray(_Foreign(x, address, math.prod(shape) * kind.itemsize), 0, shape, kind)
    return found.copy() if address % ALIGNED else found  # a view at an odd place: kernels move 16 bytes at once


def _accepted(kind: np.dtype) -> np.dtype:
    if kind not in DTYPES:
        raise InputError(
            f"an array of dtype {kind} was given for the GPU; expected float32, integers or booleans: "
            "convert it with x.astype('float32'), and a model with model.astype('float32')."
        )
    return kind
