"""Pickles of arrays, read without running anything that they ask for."""

from __future__ import annotations

import math
import os
import pickle
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array

from spherecnn.datasets.idx import read_bytes
from spherecnn.datasets.mesh_mnist import standard
from spherecnn.errors import InputError
from spherecnn.grids import Grid


def read_pickled_arrays(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a pickle, plain or gzip-compressed, of a dictionary of arrays, such as the published spherical MNIST.

    A pickle may name any function to call. Here nothing that a file names is imported or called: the names by which
    NumPy arrays, their numbers and SciPy's COO, CSC and CSR matrices are stored stand for plain records of this module,
    from which the arrays are made once the file is read, and every other name is refused.

    Parameters
    ----------
    path : path
        The file, for example ``mnist_ico4.zip`` (it is gzip, whatever its name) or ``icosphere_4.pkl``.

    Returns
    -------
    dict
        What the file holds: arrays, sparse arrays, numbers, texts, and lists and tuples of them.

    Raises
    ------
    InputError
        If the file is missing, damaged, asks for anything else, or holds no dictionary.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "digits.pkl"
    >>> _ = path.write_bytes(pickle.dumps({"labels": np.array([5, 0])}))
    >>> read_pickled_arrays(path)
    {'labels': array([5, 0])}
    """
    path = Path(path)
    try:
        found = _plain(_Reader(BytesIO(read_bytes(path, "a pickle of arrays")), path).load(), {})
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit in memory; expected smaller arrays: read it on another machine."
        ) from error
    # A damaged pickle raises whatever its next byte happens to mean.
    except Exception as error:
        reason = str(error).split("\n")[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"{path} is no whole pickle of arrays ({reason}); expected one as it was published: fetch it again."
        ) from error
    if not isinstance(found, dict):
        raise InputError(
            f"{path} holds a {type(found).__name__}; expected a dictionary of arrays: give a published archive."
        )
    return found


class _Record:
    """What a file may ask for. With `__setstate__` no attribute of a class can be set by a file."""

    __slots__ = ("state",)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Ndarray(_Record):
    """An array: version, shape, dtype, order and bytes are its state."""

    def value(self) -> np.ndarray:
        _, shape, dtype, fortran, raw = self.state
        return _array(raw, dtype, shape, "F" if fortran else "C")


class _Reconstruct(_Record):
    def __new__(cls, *args: Any) -> Any:
        return _Ndarray()


class _FromBuffer(_Record):
    def __new__(cls, raw: Any, dtype: Any, shape: Any, order: Any) -> Any:
        return _array(raw, dtype, shape, order)


class _Scalar(_Record):
    def __new__(cls, dtype: Any, raw: Any) -> Any:
        return _array(raw, dtype, (), "C")[()]


class _Dtype(_Record):
    __slots__ = ("code",)

    def __init__(self, code: Any, *args: Any):
        self.code, self.state = code, ()

    def value(self) -> np.dtype:
        if not isinstance(self.code, str) or not re.fullmatch(r"b1|[iu][1248]|f[248]|[SU]\d{1,4}", self.code):
            raise ValueError(f"it holds an array of {self.code!r}, and not of numbers or texts")
        order = self.state[1] if len(self.state) > 1 else "|"
        return np.dtype((order if order in ("<", ">") else "") + self.code)


class _Latin1(_Record):
    """How old protocols store bytes."""

    def __new__(cls, text: Any, encoding: Any) -> Any:
        if encoding != "latin1":
            raise ValueError(f"it stores bytes as {encoding!r}")
        return text.encode("latin1")


class _NoBytes(_Record):
    """How old protocols store no bytes."""

    def __new__(cls) -> Any:
        return b""


class _Sparse(_Record):
    kind: Any = None

    def value(self) -> Any:
        state = _plain(self.state, {})
        shape = tuple(int(n) for n in state["_shape"])
        if self.kind is coo_array:
            rows, columns = state["coords"] if "coords" in state else (state["row"], state["col"])
            return coo_array((state["data"], (rows, columns)), shape=shape)
        made = self.kind((state["data"], state["indices"], state["indptr"]), shape=shape)
        made.check_format(full_check=True)
        return made


class _Coo(_Sparse):
    kind = coo_array


class _Csc(_Sparse):
    kind = csc_array


class _Csr(_Sparse):
    kind = csr_array


_NUMPY = {"_reconstruct": _Reconstruct, "scalar": _Scalar, "_frombuffer": _FromBuffer}
_KNOWN: dict[tuple[str, str], type] = {
    **{
        (f"numpy.{core}.multiarray", name): _NUMPY[name]
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FromBuffer for core in ("core", "_core")},
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Latin1,
    ("__builtin__", "bytes"): _NoBytes,
    **{
        (f"scipy.sparse.{dash}{kind}", f"{kind}_{form}"): made
        for kind, made in (("coo", _Coo), ("csc", _Csc), ("csr", _Csr))
        for dash in ("", "_")
        for form in ("matrix", "array")
    },
}


# The unpickler in Python, since that in C makes room for as many numbered objects as a file says there are.
class _Reader(pickle._Unpickler):
    def __init__(self, file: BytesIO, path: Path):
        super().__init__(file)
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise InputError(
                f"{self.path} asks for {module}.{name}; expected nothing but arrays: "
                "do not open it with pickle, which would run what it asks for."
            )
        return _KNOWN[module, name]


def _array(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    kind, shape = dtype.value(), tuple(int(n) for n in shape)
    if not isinstance(raw, (bytes, bytearray)) or min(shape, default=0) < 0:
        raise ValueError("an array has no bytes or a negative size")
    if len(raw) != math.prod(shape) * kind.itemsize or kind.itemsize == 0:
        raise ValueError(f"an array of shape {shape} has {len(raw)} bytes")
    found = np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")
    return found.astype(kind.newbyteorder("="))


def _plain(found: Any, made: dict[int, tuple[Any, Any]]) -> Any:
    """Arrays for records, in dictionaries, lists and tuples; what is shared, in `made` by its id, is made once."""
    if id(found) not in made:
        made[id(found)] = found, _made(found, made)
    return made[id(found)][1]


def _made(found: Any, made: dict[int, tuple[Any, Any]]) -> Any:
    if isinstance(found, (_Ndarray, _Sparse)):
        return found.value()
    if isinstance(found, dict):
        return {_plain(key, made): _plain(value, made) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return type(found)(_plain(value, made) for value in found)
    if isinstance(found, (str, bytes, int, float, np.ndarray, np.generic)) or found is None:
        return found
    raise ValueError(f"it holds a {type(found).__name__}")


class DigitArchive:
    """Digits on vertices from the published archive: values 0 to 255 become (v / 255 - 0.1307) / 0.3081.

    Parameters
    ----------
    values : ndarray (n, P)
        Values 0 to 255 on the vertices.
    labels : ndarray (n,)
        Classes.
    grid : Grid
        With P sites.
    """

    def __init__(self, values: np.ndarray, labels: np.ndarray, grid: Grid):
        self.values, self.labels, self.grid = values, labels.astype(np.int64), grid
        self.classes = [str(k) for k in range(10)]

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, P, 1) float32 and classes (n,)."""
        return standard(self.values[indices])[..., None], self.labels[indices]


def read_mesh_mnist(path: str | os.PathLike[str], grid: Grid) -> dict[str, DigitArchive]:
    """Read the published archive of spherical MNIST: the parts "train" and "test".

    It is a pickle of ``train_inputs`` (60000, P) float32, ``train_labels`` (60000,), ``test_inputs`` (10000, P) and
    ``test_labels`` (10000,), compressed by gzip, with P the vertices of an icosphere; see `read_pickled_arrays`.

    Raises
    ------
    InputError
        If the file is no such archive, or of another level than the grid.
    """
    found = read_pickled_arrays(path)
    parts = {}
    for split in ("train", "test"):
        names = f"{split}_inputs", f"{split}_labels"
        missing = [name for name in names if not isinstance(found.get(name), np.ndarray)]
        if missing:
            raise InputError(
                f"{path} has no array {missing[0]} but {', '.join(map(str, found)) or 'nothing'}; expected "
                "train_inputs, train_labels, test_inputs and test_labels: give a published archive."
            )
        values, labels = (found[name] for name in names)
        if values.ndim != 2 or values.shape[1] != grid.sites or values.dtype.kind not in "iuf":
            raise InputError(
                f"{names[0]} in {path} has shape {values.shape} and dtype {values.dtype}; expected numbers "
                f"(n, {grid.sites}) for {grid!r}: read it with the grid of its level."
            )
        if labels.shape != (len(values),) or labels.dtype.kind not in "iu" or len(values) == 0:
            raise InputError(
                f"{names[1]} in {path} has shape {labels.shape} and dtype {labels.dtype}; expected {len(values)} "
                "classes, at least one: make the archive again."
            )
        if labels.min() < 0 or labels.max() > 9 or not np.isfinite(values).all():
            raise InputError(
                f"{path} holds the classes {labels.min()} to {labels.max()}, or values that are not finite; "
                "expected 0 to 9 and finite values: make the archive again."
            )
        parts[split] = DigitArchive(values.astype(np.float32, copy=False), labels, grid)
    return parts
