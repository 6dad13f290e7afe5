"""The published kernel sizes of spherical convolution: for every layer of a planar network and every row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.stencils.planar import fold
from spherecnn.stencils.tangent_rows import COVERAGE, MOST_TAPS

Size = tuple[int, int]

# Receptive fields of the layers of VGG-16 in pixels of its input, from the first that is learned on the panorama.
VGG16_FIELDS = {
    "1_2": 5,
    "2_1": 10,
    "2_2": 14,
    "3_1": 24,
    "3_2": 32,
    "3_3": 40,
    "4_1": 60,
    "4_2": 76,
    "4_3": 92,
    "5_1": 132,
    "5_2": 164,
    "5_3": 196,
    "6": 224,
}


@dataclass
class _Pixels:
    """A set of pixels of a panorama: `mask` (rows, W) from row `top` on."""

    top: int
    mask: np.ndarray

    def overlap(self, other: _Pixels) -> np.ndarray:
        """Mask of the rows of self: which of its pixels are in `other` too."""
        found = np.zeros_like(self.mask)
        first, last = max(self.top, other.top), min(self.top + len(self.mask), other.top + len(other.mask))
        if first < last:
            found[first - self.top : last - self.top] = other.mask[first - other.top : last - other.top]
        return found & self.mask

    def bounds(self, mask: np.ndarray | None = None) -> tuple[int, int, int, int]:
        """First and last row, first and last column of the set, or of the part of it that `mask` says."""
        mask = self.mask if mask is None else mask
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        return self.top + int(rows[0]), self.top + int(rows[-1]), int(columns[0]), int(columns[-1])


def row_sizes(
    height: int,
    receptive_fields: Mapping[str, int],
    strides: Mapping[str, int],
    fov_deg: float = 65.5,
    tangent_size: int = 640,
    first_kernel: int = 3,
    coverage: float = COVERAGE,
    most_taps: int = MOST_TAPS,
) -> dict[str, list[Size]]:
    """Sizes (width, height) of the kernels of every layer at rows 0 to H / 2, by the published rule.

    A layer of a planar network looks at a square of pixels of a tangent image. At each row of the panorama these are
    carried back to the sphere; T are the panorama's pixels around them (each coordinate rounded down and up).
    A kernel of 3x3 outputs of the layer below covers the set C of pixels: through the sizes already chosen for
    the lower layers, and at last through a planar kernel on tangent planes, since the first layer is computed exactly.
    The kernel is large enough when C holds more than 0.95 of T, or when it has more than 49 taps. Else it grows by
    two rows if T begins before C or ends after it, else by two columns if that is so of columns, and else it stays.

    Parameters
    ----------
    height : int
        Rows H of the panorama, even; it has 2 H columns and half-pixel rows.
    receptive_fields : dict of str to int
        Layers from below with their receptive fields in pixels of the tangent image, as `VGG16_FIELDS`.
    strides : dict of str to int
        Of each layer: pixels of the panorama from one of its inputs to the next.
    fov_deg, tangent_size : float, int
        The tangent image: pixels for so many degrees.
    first_kernel : int
        Size of the kernel of the first layer, which is computed on tangent planes.
    coverage : float
    most_taps : int

    Returns
    -------
    dict of str to list of (width, height)
        H / 2 + 1 rows for each layer, in pixels of the panorama, which include the stride; `taps` makes numbers of
        taps of them. Rows below the equator have the sizes of their mirror images.

    Raises
    ------
    InputError
        If H is odd or a layer has no stride.

    Notes
    -----
    Source: Su and Grauman, Learning Spherical Convolution for Fast Features from 360° Imagery, NIPS 2017, section 3.
    Where a kernel reaches over a pole, what it covers beyond stands half a turn away, at both ends of its rows of
    pixels: it then counts as wide enough. This is the published rule, and why the last rows have narrow kernels.

    Examples
    --------
    >>> sizes = row_sizes(40, {"a": 7, "b": 11}, {"a": 1, "b": 1}, fov_deg=60, tangent_size=30)
    >>> [sizes["a"][row] for row in (0, 2, 5, 20)]
    [(3, 3), (11, 3), (7, 3), (3, 3)]
    """
    check_at_least("height", height, 2)
    if height % 2:
        raise InputError(f"height is {height}; expected an even number, with rows in mirrored pairs: change it.")
    missing = [layer for layer in receptive_fields if layer not in strides]
    if missing:
        raise InputError(f"strides has none for layer {missing[0]!r}; expected one for each layer: add it.")
    degrees = fov_deg / tangent_size
    reach = [_tangent_pixels(height, row, first_kernel, degrees) for row in range(height)]
    found: dict[str, list[Size]] = {}
    for layer, field in receptive_fields.items():
        targets = [_tangent_pixels(height, row, field, degrees) for row in range(height // 2 + 1)]
        chosen = [
            _choose(row, target, reach, strides[layer], coverage, most_taps) for row, target in enumerate(targets)
        ]
        found[layer] = chosen
        mirrored = [chosen[min(row, height - 1 - row)] for row in range(height)]
        reach = [_window(row, size, reach) for row, size in enumerate(mirrored)]
    return found


def taps(sizes: list[Size], stride: int = 1) -> list[Size]:
    """Return numbers of taps (rows, columns) for all rows of the panorama from `row_sizes` of a layer.

    Examples
    --------
    >>> taps([(9, 5), (5, 5), (5, 5)], stride=2)
    [(3, 5), (3, 3), (3, 3), (3, 5)]
    """
    upper = [(_count(height, stride), _count(width, stride)) for width, height in sizes[:-1]]
    return upper + upper[::-1]


def _count(size: int, stride: int) -> int:
    return 2 * -(-(size - 1) // (2 * stride)) + 1


def _choose(row: int, target: _Pixels, reach: list[_Pixels], stride: int, coverage: float, most_taps: int) -> Size:
    """Grow the kernel of one row until it covers its target."""
    width = height = 2 * stride + 1
    wanted = np.count_nonzero(target.mask)
    while True:
        covered = _window(row, (width, height), reach)
        inside = target.overlap(covered)
        many = ((width - 1) // stride + 1) * ((height - 1) // stride + 1) > most_taps
        if np.count_nonzero(inside) / wanted > coverage or many:
            return width, height
        top, bottom, west, east = covered.bounds()
        bare_top, bare_bottom, bare_west, bare_east = target.bounds(target.mask & ~inside)
        if bare_top < top or bare_bottom > bottom:
            height += 2 * stride
        elif bare_west < west or bare_east > east:
            width += 2 * stride
        else:
            return width, height


def _window(row: int, size: Size, reach: list[_Pixels]) -> _Pixels:
    """Pixels below a window (width, height) of outputs about a row; `reach` are those below one output of each row."""
    width, height = size
    rows, turned = fold(row + np.arange(height) - height // 2, len(reach), pole_rows=False)
    below = [reach[r] for r in rows]
    top, bottom = min(b.top for b in below), max(b.top + len(b.mask) for b in below)
    union = np.zeros((bottom - top, below[0].mask.shape[1]), bool)
    for pixels, flag in zip(below, turned, strict=True):
        mask = np.roll(pixels.mask, pixels.mask.shape[1] // 2, axis=1) if flag else pixels.mask
        union[pixels.top - top : pixels.top - top + len(mask)] |= mask
    return _Pixels(top, _widen(union, width))


def _widen(mask: np.ndarray, width: int) -> np.ndarray:
    """The union of `width` copies side by side, about the middle one, around the panorama."""
    result, copies = mask, 1
    while copies < width:
        step = min(copies, width - copies)
        result, copies = result | np.roll(result, step, axis=1), copies + step
    return np.roll(result, -(width // 2), axis=1)


def _tangent_pixels(height: int, row: int, size: int, degrees: float) -> _Pixels:
    """Pixels around the back-projected pixels of a square of a tangent image about the middle column of a row.

    The square spans ``size * degrees``; its pixels are equally far apart on the plane.
    """
    width = 2 * height
    focal = size / 2 / np.tan(np.radians(size * degrees) / 2)
    step = np.arange(size) - (size - 1) / 2
    lat = (height / 2 - 0.5 - row) * np.pi / height
    up, x = np.meshgrid(lat - np.arctan(step / focal), step, indexing="ij")
    length = np.hypot(step, focal)[:, None]
    ahead, high = length * np.cos(up), length * np.sin(up)
    columns = np.arctan2(x, ahead) / (2 * np.pi) * width + width // 2
    rows = (np.pi / 2 - np.arctan2(high, np.hypot(ahead, x))) / np.pi * height - 0.5
    pixels = [(r(rows).astype(int), c(columns).astype(int)) for r in (np.floor, np.ceil) for c in (np.floor, np.ceil)]
    mask = np.zeros((height, width), bool)
    for i, j in pixels:
        line, turned = fold(i, height, pole_rows=False)
        mask[line, (j + np.where(turned, width // 2, 0)) % width] = True
    lines = np.flatnonzero(mask.any(1))
    return _Pixels(int(lines[0]), mask[lines[0] : lines[-1] + 1].copy())
