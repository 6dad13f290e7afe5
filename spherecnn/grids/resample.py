"""Values from one grid to another: nearest site, bilinear, or exact area averages."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

from spherecnn.errors import FLOATS, InputError, check_choice
from spherecnn.grids.base import Grid, angles
from spherecnn.grids.equirect import Equirect

# A position this close to a pixel centre, in pixels, is that centre: rounding of angles must not blur.
SNAP = 1e-9
# Source values averaged at a time, so that a large picture is never held as floats.
_BAND = 1 << 24


def sampling_matrix(source: Equirect, xyz: np.ndarray, method: str = "bilinear") -> sparse.csr_array:
    """Matrix that reads an image on `source` at directions `xyz`.

    Longitude wraps at the seam. A row beyond a pole is the row it came from, half a turn away; when the
    width is odd, half a turn falls between two columns and both are read. At a pixel centre the matrix
    row is a single one.

    Parameters
    ----------
    source : Equirect
        Grid of the image, with H x W pixels.
    xyz : ndarray (P, 3)
        Directions of any length.
    method : {"nearest", "bilinear"}
        Interpolation in latitude and longitude.

    Returns
    -------
    csr_array (P, H * W)
        Float64; each row sums to one.

    Raises
    ------
    InputError
        If `xyz` is not (P, 3) and finite, or the method is unknown.

    Examples
    --------
    >>> grid = Equirect(2)
    >>> sampling_matrix(grid, np.array([[0.0, 0.0, 1.0]])).toarray()  # the north pole: one row, both ways
    array([[0.25, 0.25, 0.25, 0.25, 0.  , 0.  , 0.  , 0.  ]])
    """
    check_choice("method", method, ("nearest", "bilinear"))
    xyz = check_directions(xyz, rank=2)
    points, sites = len(xyz), source.sites
    if method == "nearest":
        entries = (np.ones(points), (np.arange(points), nearest_sites(source, xyz)))
    else:
        site, weight = _bilinear_taps(source, xyz)
        entries = (weight.ravel(), (np.repeat(np.arange(points), 4), site.ravel()))
    matrix = sparse.csr_array(entries, shape=(points, sites))
    matrix.eliminate_zeros()
    return matrix


def nearest_sites(source: Equirect, xyz: np.ndarray) -> np.ndarray:
    """Index of the pixel of `source` that holds each direction: (P, 3) -> (P,)."""
    row, column = source.pixel(*angles(xyz))
    row = np.clip(np.floor(_snap(row) + 0.5), 0, source.height - 1)
    column = np.floor(_snap(column) + 0.5) % source.width
    return (row * source.width + column).astype(np.int64)


def resample(values: np.ndarray, source: Grid, target: Grid, method: str = "bilinear") -> np.ndarray:
    r"""Carry values from one grid to another.

    ``"bilinear"`` and ``"nearest"`` read an equirectangular source at the sites of any target. ``"area"``
    averages exactly between two equirectangular grids, which is what a smaller image needs:

    .. math:: y_p = \frac{\sum_q |p \cap q|\, x_q}{\sum_q |p \cap q|}

    with :math:`|p \cap q|` the solid angle that target pixel p shares with source pixel q.

    Parameters
    ----------
    values : ndarray (..., H, W, C)
        Floats keep their dtype. Integers become float32, except with ``"nearest"``, which keeps any dtype.
    source : Equirect
        Grid of the values.
    target : Grid
        Grid of the result; for ``"area"`` an Equirect.
    method : {"bilinear", "nearest", "area"}
        How to read the source.

    Returns
    -------
    ndarray (..., H, W, C) or (..., P, C)

    Raises
    ------
    InputError
        If the shape does not fit the source, or the method does not serve these grids.

    Examples
    --------
    >>> x = np.arange(8.0).reshape(2, 4, 1)
    >>> resample(x, Equirect(2), Equirect(1), "area")[..., 0]
    array([[2.5, 4.5]])
    """
    check_choice("method", method, ("bilinear", "nearest", "area"))
    if not isinstance(source, Equirect):
        raise InputError(
            f"the source grid is {source!r}; expected an Equirect: resample from an equirectangular image."
        )
    values = np.asarray(values)
    if values.ndim < 3 or values.shape[-3:-1] != source.shape:
        raise InputError(
            f"values have shape {values.shape}; expected (..., {source.height}, {source.width}, C) "
            f"for {source!r}: give the grid of the values, with channels as the last axis."
        )
    images = np.ascontiguousarray(values).reshape(-1, *values.shape[-3:])
    if method == "area":
        if not isinstance(target, Equirect):
            raise InputError(f"the target grid is {target!r}; expected an Equirect for method 'area': use 'bilinear'.")
        result = _area(images, source, target)
    elif method == "nearest":
        flat = images.reshape(len(images), source.sites, -1)
        result = flat[:, nearest_sites(source, target.xyz)]
    else:
        matrix = sampling_matrix(source, target.xyz).astype(_float_of(images.dtype))
        result = np.stack([matrix @ x.reshape(source.sites, -1) for x in images])
    return result.reshape(*values.shape[:-3], *target.shape, values.shape[-1])


def overlap(source: np.ndarray, target: np.ndarray) -> sparse.csr_array:
    """Matrix that averages over intervals: rows are the intervals between the `target` edges, ascending.

    Entry (i, j) is the share of target interval i that source interval j covers.

    Examples
    --------
    >>> overlap(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.5, 3.0])).toarray().round(2)
    array([[0.67, 0.33, 0.  ],
           [0.  , 0.33, 0.67]])
    """
    edges = np.union1d(source, target)
    middle, length = (edges[:-1] + edges[1:]) / 2, np.diff(edges)
    row = np.clip(np.searchsorted(target, middle) - 1, 0, len(target) - 2)
    column = np.clip(np.searchsorted(source, middle) - 1, 0, len(source) - 2)
    shared = sparse.csr_array((length, (row, column)), shape=(len(target) - 1, len(source) - 1))
    whole = 1 / shared.sum(axis=1)
    return sparse.csr_array(sparse.diags_array(whole) @ shared)


def check_directions(xyz: np.ndarray, rank: int) -> np.ndarray:
    """Return directions as contiguous float64, refusing a wrong rank, a last axis other than 3, and NaN."""
    xyz = np.ascontiguousarray(xyz, dtype=np.float64)
    if xyz.ndim != rank or xyz.shape[-1] != 3:
        raise InputError(
            f"xyz has shape {xyz.shape}; expected {rank} axes with x, y, z in the last: "
            "stack directions, as grid.xyz does."
        )
    if not np.isfinite(xyz).all():
        raise InputError("xyz holds NaN or infinite values; expected finite directions: remove them first.")
    return xyz


def _snap(x: np.ndarray) -> np.ndarray:
    whole = np.rint(x)
    return np.where(np.abs(x - whole) < SNAP, whole, x)


def _bilinear_taps(source: Equirect, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the four sites (P, 4) around each direction and their weights (P, 4)."""
    height, width, pole = source.height, source.width, int(source.pole_rows)
    row, column = source.pixel(*angles(xyz))
    row, column = _snap(row), _snap(column)
    north = np.floor(row)
    sites, weights = [], []
    for line, share in ((north, north + 1 - row), (north + 1, row - north)):
        beyond = (line < 0) | (line >= height)
        line = np.where(line < 0, pole - 1 - line, np.where(line >= height, 2 * height - 1 - pole - line, line))
        x = np.where(beyond, column + width / 2, column)
        west = np.floor(x)
        sites += [line * width + west % width, line * width + (west + 1) % width]
        weights += [share * (west + 1 - x), share * (x - west)]
    return np.stack(sites, axis=-1).astype(np.int64), np.stack(weights, axis=-1)


def _area(images: np.ndarray, source: Equirect, target: Equirect) -> np.ndarray:
    dtype = _float_of(images.dtype)
    rows = sparse.csc_array(overlap(_row_edges(source), _row_edges(target)).astype(dtype))
    columns = overlap(np.linspace(0, 1, source.width + 1), np.linspace(0, 1, target.width + 1)).astype(dtype)
    channels = images.shape[-1]
    result = np.empty((len(images), *target.shape, channels), dtype)
    band = max(1, _BAND // (source.width * channels))
    for image, out in zip(images, result, strict=True):
        bands = np.zeros((target.height, source.width * channels), dtype)
        for start in range(0, source.height, band):
            part = image[start : start + band].reshape(-1, source.width * channels)
            bands += rows[:, start : start + band] @ part.astype(dtype, copy=False)
        turned = bands.reshape(target.height, source.width, channels).transpose(1, 0, 2)
        averaged = columns @ turned.reshape(source.width, -1)
        out[...] = averaged.reshape(target.width, target.height, channels).transpose(1, 0, 2)
    return result


def _row_edges(grid: Equirect) -> np.ndarray:
    """Edges of the rows as 1 - sin(lat), from the north pole: their differences are in proportion to area."""
    edges = np.concatenate([[0.0], np.cumsum(grid.row_area)]) * (grid.width / (2 * math.pi))
    edges[-1] = 2.0
    return edges


def _float_of(dtype: np.dtype) -> np.dtype:
    if dtype in FLOATS:
        return dtype
    if dtype.kind in "iub":
        return np.dtype(np.float32)
    raise InputError(f"values have dtype {dtype}; expected float32, float64 or integers: convert them with astype.")
