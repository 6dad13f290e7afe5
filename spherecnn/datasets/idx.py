"""MNIST and other sets in the IDX format."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from spherecnn.datasets.planar import PlanarDataset
from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Grid

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PREFIX = {"train": "train", "test": "t10k"}


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, plain or gzip-compressed.

    The header is two zero bytes, a byte for the number type, a byte for the number of axes and one
    big-endian 32-bit size for each axis; the values follow, big-endian, last axis fastest.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    ndarray
        In the machine's byte order.

    Raises
    ------
    InputError
        If the file is missing, damaged, too short, too long or not IDX.

    Notes
    -----
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section "The IDX file format".
    """
    path = Path(path)
    content = read_bytes(path, "an IDX file")
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES or content[3] == 0:
        raise InputError(
            f"{path} starts with {content[:4]!r}, which is no IDX header: give a file in the MNIST format."
        )
    dtype, axes = np.dtype(_TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise InputError(f"{path} ends within its header of {start} bytes; expected a whole IDX file: fetch it again.")
    shape = struct.unpack(f">{axes}I", content[4:start])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise InputError(
            f"{path} holds {len(content)} bytes; expected {expected} for shape {shape} of {dtype.name}: "
            f"it is {'truncated' if len(content) < expected else 'too long'}, so fetch it again."
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def read_bytes(path: Path, wanted: str) -> bytes:
    """The bytes of a file, plain or gzip-compressed; `wanted` says what it should be."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is a damaged gzip file ({error}); expected a whole one: fetch it again.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected {wanted}: check the path.") from error


def mnist(
    folder: str | os.PathLike[str],
    grid: Grid,
    *,
    split: str = "train",
    rotate: str = "none",
    fov_deg: float = 120.0,
    seed: int = 0,
    flip: bool = False,
) -> PlanarDataset:
    """Read MNIST, Fashion-MNIST or any set with the same four files, and put its pictures on the sphere.

    Parameters
    ----------
    folder : path
        Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
        ``t10k-labels-idx1-ubyte``, or the same names with a dot before ``idx``, plain or with ``.gz``.
    grid : Grid
        Where the pictures are put.
    split : {"train", "test"}
        Which two of the files.
    rotate : {"none", "yaw", "so3", "tilt"}
        Orientation of each picture: upright at lat 0, lon 0, or drawn once from these rotations.
    fov_deg : float
        Field of view of a picture in degrees.
    seed : int
        Seeds the orientations.
    flip : bool
        Mirror every second picture, left to right, at random.

    Returns
    -------
    PlanarDataset

    Raises
    ------
    InputError
        If a file is missing or damaged, or pictures and labels do not belong together.
    """
    check_choice("split", split, tuple(_PREFIX))
    images = read_idx(_find(folder, f"{_PREFIX[split]}-images", "idx3-ubyte"))
    labels = read_idx(_find(folder, f"{_PREFIX[split]}-labels", "idx1-ubyte"))
    if images.ndim != 3 or images.dtype != np.uint8 or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(
            f"{folder} holds images {images.shape} of {images.dtype} and labels {labels.shape} of "
            f"{labels.dtype}; expected (n, h, w) of uint8 and (n,) of integers: "
            "give files in the MNIST format."
        )
    if len(images) == 0 or labels.min() < 0:
        raise InputError(
            f"{folder} holds no images or negative labels; expected classes from 0: give a set in the MNIST format."
        )
    classes = [str(k) for k in range(int(labels.max()) + 1)]
    return PlanarDataset(
        images,
        labels,
        classes,
        grid,
        white=255,
        rotate=rotate,
        fov_deg=fov_deg,
        seed=(seed, int(split == "test")),
        flip=flip,
    )


def _find(folder: str | os.PathLike[str], stem: str, kind: str) -> Path:
    names = [f"{stem}{dot}{kind}{end}" for dot in "-." for end in ("", ".gz")]
    for name in names:
        if (path := Path(folder) / name).is_file():
            return path
    raise InputError(f"{folder} has none of {', '.join(names)}; expected an MNIST folder: check the path.")
