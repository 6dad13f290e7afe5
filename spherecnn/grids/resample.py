"""Values from one grid to another: nearest site, bilinear, exact area averages, supersampling, views stitched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from scipy import sparse

from spherecnn.errors import FLOATS, InputError, check_choice
from spherecnn.grids.base import SNAP, Grid
from spherecnn.grids.equirect import Equirect
from spherecnn.grids.perspective import Perspective

__all__ = [
    "SNAP",
    "check_directions",
    "check_readable",
    "nearest_sites",
    "overlap",
    "resample",
    "sampling_matrix",
    "stitch",
]

READS = ("nearest", "bilinear", "cubic")
METHODS = (*READS, "area", "supersample")
Target: TypeAlias = Grid | Perspective
# Source values averaged at a time, so that a large picture is never held as floats.
_BAND = 1 << 24
# Directions located at a time, so that the tables of a large target are never held whole.
_POINTS = 1 << 19


def sampling_matrix(source: Grid | Perspective, xyz: np.ndarray, method: str = "bilinear") -> sparse.csr_array:
    """Matrix that reads an image on `source` at directions `xyz`.

    On an equirectangular image longitude wraps at the seam. A row beyond a pole is the row it came from, half a turn
    away; when the width is odd, half a turn falls between two columns and both are read. On a cubemap the
    neighbouring faces are read over edges and corners, see `Cubemap.taps`. Other grids are read linearly between the
    sites around, see the ``taps`` of each. At a site the matrix row is a single one.

    Parameters
    ----------
    source : Grid or Perspective
        Grid of the image, one that has ``nearest`` and ``taps``. A view must see all directions.
    xyz : ndarray (P, 3)
        Directions of any length.
    method : {"nearest", "bilinear", "cubic"}
        ``"bilinear"`` is in latitude and longitude, on the faces of the cube, or linear between the sites around.
        ``"cubic"`` is for an Equirect, see `Equirect.cubic_taps`.

    Returns
    -------
    csr_array (P, Q) for Q source sites
        Float64; each row sums to one.

    Raises
    ------
    InputError
        If `xyz` is not (P, 3) and finite, a view does not see all of it, the source cannot be read between its sites,
        or the method is unknown.

    Examples
    --------
    >>> from spherecnn.grids import Cubemap
    >>> grid = Equirect(2)
    >>> sampling_matrix(grid, np.array([[0.0, 0.0, 1.0]])).toarray()  # the north pole: one row, both ways
    array([[0.25, 0.25, 0.25, 0.25, 0.  , 0.  , 0.  , 0.  ]])
    >>> sampling_matrix(Cubemap(1), np.array([[1.0, 1.0, 0.0]])).toarray()  # an edge: both faces
    array([[0.5, 0.5, 0. , 0. , 0. , 0. ]])
    """
    check_choice("method", method, READS)
    xyz = check_directions(xyz, rank=2)
    if isinstance(source, Grid):
        check_readable(source)
    elif not source.inside(xyz).all():
        raise InputError(
            f"{source!r} does not see every direction; expected directions inside it: "
            "choose them with inside(xyz), or use grids.resample.stitch."
        )
    if method == "nearest":
        site = source.nearest(xyz)[:, None]
        weight = np.ones(site.shape)
    elif method == "bilinear":
        site, weight = source.taps(xyz)
    elif isinstance(source, Grid) and type(source).cubic_taps is not Grid.cubic_taps:
        site, weight = source.cubic_taps(xyz)
    else:
        raise InputError(f"the source is {source!r}; expected an Equirect for method 'cubic': use 'bilinear'.")
    entries = weight.ravel(), (np.repeat(np.arange(len(xyz)), site.shape[1]), site.ravel())
    matrix = sparse.csr_array(entries, shape=(len(xyz), source.sites))
    matrix.eliminate_zeros()
    return matrix


def nearest_sites(source: Grid, xyz: np.ndarray) -> np.ndarray:
    """Index of the site of `source` that holds each direction: (P, 3) -> (P,)."""
    return source.nearest(xyz)


def resample(values: np.ndarray, source: Grid, target: Target, method: str = "bilinear") -> np.ndarray:
    r"""Carry values from one grid to another, or to a view.

    ``"bilinear"`` and ``"nearest"`` read the source at the sites of any target, over seam, poles and the edges of a
    cube. On grids without rows and columns, as `Healpix` and `Icosphere`, ``"bilinear"`` means linear between the
    sites around. ``"cubic"`` reads 4 x 4 pixels of an equirectangular picture, for a target that is finer; it may
    overshoot. All three skip pixels where the target is coarser than the source. ``"area"`` averages exactly between
    two equirectangular grids, which is what a smaller image needs:

    .. math:: y_p = \frac{\sum_q |p \cap q|\, x_q}{\sum_q |p \cap q|}

    with :math:`|p \cap q|` the solid angle that target pixel p shares with source pixel q. ``"supersample"`` does
    nearly the same for all pairs of grids: it cuts each target site into k x k parts, reads bilinearly in the middle
    of each, and averages by the solid angle there. k is the ratio of the pixel sides, rounded: 1 is bilinear. It reads
    about as many places as the source has pixels. A pixel of a cubemap or of HEALPix is cut into smaller ones, a face
    of a polyhedron into triangles, and the vertex of an icosphere has a third of each face around it.

    Parameters
    ----------
    values : ndarray (..., \*source.shape, C)
        Floats keep their dtype. Integers become float32, except with ``"nearest"``, which keeps any dtype.
    source : Grid
        Grid of the values, one that has ``nearest`` and ``taps``. For views, see `stitch`.
    target : Grid or Perspective
        Grid of the result; for ``"area"`` an Equirect.
    method : {"bilinear", "nearest", "cubic", "area", "supersample"}
        How to read the source.

    Returns
    -------
    ndarray (..., \*target.shape, C)

    Raises
    ------
    InputError
        If the shape does not fit the source, or the method does not serve these grids.

    Examples
    --------
    >>> from spherecnn.grids import Cubemap
    >>> x = np.arange(8.0).reshape(2, 4, 1)
    >>> resample(x, Equirect(2), Equirect(1), "area")[..., 0]
    array([[2.5, 4.5]])
    >>> resample(x, Equirect(2), Cubemap(1))[..., 0, 0, 0]  # front, right, back, left, up, down
    array([3.5, 4.5, 3.5, 2.5, 1.5, 5.5])
    """
    check_choice("method", method, METHODS)
    check_readable(source)
    images, outer = _images(values, source)
    if method == "area":
        if not (isinstance(source, Equirect) and isinstance(target, Equirect)):
            raise InputError(
                f"the grids are {source!r} and {target!r}; expected two Equirect for method 'area': "
                "use 'bilinear', or 'supersample' to a coarser target."
            )
        result = _area(images.reshape(-1, *source.shape, images.shape[-1]), source, target)
    elif method == "supersample":
        result = _supersample(images, source, target)
    else:
        result = _read(images, source, target.xyz, method)
    return result.reshape(*outer, *target.shape, images.shape[-1])


def stitch(
    pictures: Sequence[np.ndarray],
    views: Sequence[Perspective],
    target: Target,
    method: str = "bilinear",
    fill: float = math.nan,
) -> np.ndarray:
    r"""Put views together on a grid: the inverse of resampling to a `Perspective`.

    Each site is the mean of the views that see it,

    .. math:: y_p = \frac{\sum_k w_k(p)\, x_k(p)}{\sum_k w_k(p)},\qquad
        w_k = \max\left((1 - |u| / u_{max})(1 - |v| / v_{max}),\ 10^{-6}\right)

    with (u, v) the place of p on the plane of view k: a view counts fully in its middle and fades towards its border,
    so that views that overlap join without a step. ``"nearest"`` takes one pixel, of the view with the greatest
    weight. Where views only touch, as six of 90 degrees do, each is read alone up to its border and repeats its
    outermost pixels there; put these on a `Cubemap` of their size, where they are the faces to the bit, and resample
    that, to read over the edges.

    Parameters
    ----------
    pictures : sequence of ndarray (..., h, w, C)
        One for each view, of its shape.
    views : sequence of Perspective
        Their cameras.
    target : Grid or Perspective
        Grid of the result.
    method : {"bilinear", "nearest"}
        How to read the views.
    fill : number
        The value where no view sees a site; not a number by default.

    Returns
    -------
    ndarray (..., \*target.shape, C)
        Float dtypes are kept; integers become float32, except with ``"nearest"``.

    Raises
    ------
    InputError
        If the pictures do not fit the views or each other, or integers cannot hold the fill.

    Examples
    --------
    >>> stitch([np.full((2, 2, 1), 7.0)], [Perspective(2, 2, 120)], Equirect(2))[..., 0]
    array([[nan,  7.,  7., nan],
           [nan,  7.,  7., nan]])
    """
    check_choice("method", method, ("bilinear", "nearest"))
    if len(pictures) == 0 or len(pictures) != len(views):
        raise InputError(
            f"there are {len(pictures)} pictures and {len(views)} views; expected at least one, and a view for each."
        )
    stacks = [_images(picture, view) for picture, view in zip(pictures, views, strict=True)]
    kinds = {(outer, images.shape[-1], images.dtype.str) for images, outer in stacks}
    if len(kinds) > 1:
        raise InputError(
            f"the pictures differ in batch, channels or dtype: {sorted(kinds, key=str)}; "
            "expected the same for all: convert them."
        )
    first, outer = stacks[0]
    dtype = first.dtype if method == "nearest" else _float_of(first.dtype)
    if dtype.kind in "iub" and (not math.isfinite(fill) or np.asarray(fill).astype(dtype) != fill):
        raise InputError(f"fill is {fill} for pictures of {dtype}; expected a value of that dtype: give fill=0, say.")
    xyz = target.xyz
    total = np.zeros((len(first), len(xyz), first.shape[-1]), dtype)
    weight = np.zeros(len(xyz))
    for (images, _), view in zip(stacks, views, strict=True):
        seen = np.flatnonzero(view.inside(xyz))
        own = np.maximum(view.centrality(xyz[seen]), 1e-6)
        if method == "nearest":
            better = own > weight[seen]
            seen, own = seen[better], own[better]
            total[:, seen], weight[seen] = _read(images, view, xyz[seen], method), own
            continue
        before = weight[seen]
        weight[seen] += own
        # a running mean: where one view sees alone, its values stay as they are
        share = (own / weight[seen])[:, None].astype(dtype)
        read = _read(images, view, xyz[seen], method)
        total[:, seen] = np.where(before[:, None] == 0, read, total[:, seen] + share * (read - total[:, seen]))
    total[:, weight == 0] = fill
    return total.reshape(*outer, *target.shape, first.shape[-1])


def check_readable(source: object) -> None:
    """Refuse what cannot be read at any direction: views, and grids without ``nearest`` and ``taps`` of their own."""
    if isinstance(source, Grid) and type(source).nearest is not Grid.nearest and type(source).taps is not Grid.taps:
        return
    hint = "use grids.resample.stitch" if isinstance(source, Perspective) else "resample from one of these"
    raise InputError(
        f"the source grid is {source!r}; expected an Equirect, a Cubemap or another grid that can be read between its "
        f"sites: {hint}."
    )


def _images(values: np.ndarray, source: Grid | Perspective) -> tuple[np.ndarray, tuple[int, ...]]:
    """Values as (N, sites, C), and the shape of what stands before the axes of the source."""
    values = np.asarray(values)
    axes = len(source.shape)
    if values.ndim < axes + 1 or values.shape[-1 - axes : -1] != source.shape:
        raise InputError(
            f"values have shape {values.shape}; expected (..., {', '.join(map(str, source.shape))}, C) "
            f"for {source!r}: give the grid of the values, with channels as the last axis."
        )
    outer = values.shape[: -1 - axes]
    return np.ascontiguousarray(values).reshape(math.prod(outer), source.sites, values.shape[-1]), outer


def _read(images: np.ndarray, source: Grid | Perspective, xyz: np.ndarray, method: str) -> np.ndarray:
    """Read (N, sites, C) at directions: (N, P, C)."""
    if method == "nearest":
        return images[:, source.nearest(xyz)]
    result = np.empty((len(images), len(xyz), images.shape[-1]), _float_of(images.dtype))
    for start in range(0, len(xyz), _POINTS):
        part = slice(start, start + _POINTS)
        matrix = sampling_matrix(source, xyz[part], method).astype(result.dtype)
        for image, out in zip(images, result, strict=True):
            out[part] = matrix @ image
    return result


def _supersample(images: np.ndarray, source: Grid, target: Target) -> np.ndarray:
    """Average (N, sites, C) over about k x k points inside each target site."""
    if isinstance(target, Grid) and type(target).divide is Grid.divide:
        raise InputError(
            f"the target grid is {target!r}; expected one whose sites can be cut into parts, for method 'supersample': "
            "use 'bilinear'."
        )
    parts = max(1, round(target.pixel_side / source.pixel_side))
    if parts == 1:
        return _read(images, source, target.xyz, "bilinear")
    total: np.ndarray | float = 0.0
    weight = np.zeros(target.sites)
    for xyz, area in target.divide(parts):
        total = total + area[:, None].astype(_float_of(images.dtype)) * _read(images, source, xyz, "bilinear")
        weight += area
    return total / weight[:, None].astype(_float_of(images.dtype))


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
