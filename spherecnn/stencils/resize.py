"""Between images of two sizes: the sparse matrix that resizes, seamless at the seam and the poles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from spherecnn.errors import InputError

RESIZE_MODES = ("nearest", "bilinear", "area")
RESIZE_PADDING_MODES = ("sphere", "sphere_poles", "circular", "replicate")


@dataclass(frozen=True)
class _Taps:
    """One axis: output `row` reads input `at`, counted on beyond both ends, with a weight."""

    size_in: int
    size_out: int
    row: np.ndarray
    at: np.ndarray
    weight: np.ndarray


def _taps(size_in: int, size_out: int, mode: str, pole_rows: bool) -> _Taps:
    """Where output pixels lie among input pixels, in whole numbers, so that no rounding shifts or blurs them."""
    i = np.arange(size_out)
    if mode == "area":
        return _coverage(size_in, size_out)
    # pixel i has its centre at place / whole, counted in input pixels from the centre of the first
    place, whole = (i * (size_in - 1), size_out - 1) if pole_rows else ((2 * i + 1) * size_in - size_out, 2 * size_out)
    if mode == "nearest":
        return _Taps(size_in, size_out, i, (2 * place + whole) // (2 * whole), np.ones(size_out))
    after = (place % whole) / whole
    taps = _Taps(
        size_in,
        size_out,
        np.repeat(i, 2),
        (place[:, None] // whole + [0, 1]).ravel(),
        np.stack([1 - after, after], axis=1).ravel(),
    )
    used = taps.weight != 0
    return _Taps(size_in, size_out, taps.row[used], taps.at[used], taps.weight[used])


def _coverage(size_in: int, size_out: int) -> _Taps:
    """The share of output pixel i that input pixel j covers; both axes have length size_in * size_out."""
    first, last = np.arange(size_out) * size_in, np.arange(1, size_out + 1) * size_in
    count = -(-last // size_out) - first // size_out
    row = np.repeat(np.arange(size_out), count)
    at = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first // size_out, count)
    shared = np.minimum(last[row], (at + 1) * size_out) - np.maximum(first[row], at * size_out)
    return _Taps(size_in, size_out, row, at, shared / size_in)


def check_resize(shape_in: tuple[int, int], shape_out: tuple[int, int], mode: str, padding_mode: str) -> None:
    """Refuse sizes that these modes cannot map."""
    height, width = shape_in
    if padding_mode == "sphere_poles" and (mode == "area" or min(height, shape_out[0]) < 2):
        raise InputError(
            f"an image of {height} rows, the first and last on the poles, cannot be resized to {shape_out[0]} rows "
            f"with mode={mode!r}; expected at least 2 rows each, and 'nearest' or 'bilinear', since a pole row is half "
            "as high as the others: choose these, or padding_mode='sphere'."
        )
    if padding_mode == "sphere" and mode == "bilinear" and width % 2 and shape_out[0] > height:
        raise InputError(
            f"the image has {width} columns; expected an even number for bilinear rows over the poles, where a row is "
            "seen half a turn away: use padding_mode='circular', or an even width."
        )


@lru_cache(maxsize=32)
def resize(
    shape_in: tuple[int, int],
    shape_out: tuple[int, int],
    mode: str = "bilinear",
    padding_mode: str = "sphere",
    dtype: Any = np.float64,
    transposed: bool = False,
) -> sparse.csr_array:
    """Matrix that maps an (H, W) image to another size; both cover the same area, edge to edge.

    Entries of a row stand in the order in which one meets them along the image, across the seam too, so that a
    rolled image is summed in the same order, to the same bits.

    Parameters
    ----------
    shape_in, shape_out : (H, W)
    mode : {"nearest", "bilinear", "area"}
        "nearest" takes the pixel that holds the centre, "bilinear" weighs the two rows and columns about it, "area"
        averages what the new pixel covers.
    padding_mode : {"sphere", "sphere_poles", "circular", "replicate"}
        What lies beyond the edge: see `layers.Upsample`.
    dtype : float32 or float64
    transposed : bool
        True for the adjoint.

    Returns
    -------
    csr_array (H' W', H W), or its transpose

    Examples
    --------
    >>> resize((1, 2), (1, 4), "bilinear", "circular").toarray()
    array([[0.75, 0.25],
           [0.75, 0.25],
           [0.25, 0.75],
           [0.25, 0.75]])
    """
    check_resize(shape_in, shape_out, mode, padding_mode)
    height, width = shape_in
    rows = _taps(height, shape_out[0], mode, pole_rows=padding_mode == "sphere_poles")
    columns = _taps(width, shape_out[1], mode, pole_rows=False)
    turned = np.zeros(len(rows.at), bool)
    line = rows.at.clip(0, height - 1)
    if padding_mode == "sphere":
        around = rows.at % (2 * height)
        turned = around >= height
        line = np.where(turned, 2 * height - 1 - around, around)
    # columns, and columns half a turn away; both before they wrap, for the order
    unwrapped = columns.at + (width // 2) * turned[:, None]
    column = unwrapped.clip(0, width - 1) if padding_mode == "replicate" else unwrapped % width
    out = (rows.row[:, None] * shape_out[1] + columns.row).ravel()
    source = (line[:, None] * width + column).ravel()
    weight = np.outer(rows.weight, columns.weight).ravel()
    if transposed:
        seen_from = columns.row - (unwrapped - column) // width * shape_out[1]
        order = np.lexsort((seen_from.ravel(), np.repeat(rows.row, len(columns.row)), source))
        return _csr(source[order], out[order], weight[order], (height * width, shape_out[0] * shape_out[1]), dtype)
    order = np.argsort(out, kind="stable")
    return _csr(out[order], source[order], weight[order], (shape_out[0] * shape_out[1], height * width), dtype)


def _csr(row: np.ndarray, column: np.ndarray, weight: np.ndarray, shape: tuple[int, int], dtype: Any) -> Any:
    """A read-only matrix of entries sorted by row, which keep their order."""
    first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=shape[0]))])
    tables = weight.astype(dtype), column.astype(np.int32), first.astype(np.int32)
    for table in tables:
        table.setflags(write=False)
    return sparse.csr_array(tables, shape=shape)
