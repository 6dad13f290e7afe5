"""Read images at directions: equirectangular images, and pictures on a tangent plane."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from spherecnn.errors import InputError, check_array
from spherecnn.grids.equirect import Equirect
from spherecnn.grids.resample import SNAP, check_directions, sampling_matrix
from spherecnn.kernels import memory
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.op import op

# Directions located at a time, before every image that shares them is read there.
BLOCK = 128


@op
def sample_equirect(
    images: np.ndarray, xyz: np.ndarray, rotations: np.ndarray | None = None, pole_rows: bool = False
) -> np.ndarray:
    """Read equirectangular images at directions, bilinearly, over the seam and the poles.

    Parameters
    ----------
    images : ndarray (N, H, W, C)
        Images on ``Equirect(H, W, pole_rows=pole_rows)``.
    xyz : ndarray (N, P, 3) or (1, P, 3)
        Directions of each image, or one set for all.
    rotations : ndarray (N, 3, 3) or (1, 3, 3), optional
        Matrices R; image n is read at R^-1 p for every direction p.
    pole_rows : bool
        True when the first and last rows lie on the poles.

    Returns
    -------
    ndarray (N, P, C)
        Same dtype as `images`. A direction at a pixel centre returns the bits of that pixel.

    Raises
    ------
    InputError
        If a rank, dtype or size is wrong, or a direction is not finite.

    Examples
    --------
    >>> image = np.arange(8, dtype=np.float32).reshape(1, 2, 4, 1)
    >>> sample_equirect(image, Equirect(2).xyz[None]).ravel()
    array([0., 1., 2., 3., 4., 5., 6., 7.], dtype=float32)
    """
    xyz = np.matmul(*_check(images, xyz, rotations))
    count, height, width, channels = images.shape
    grid = Equirect(height, width, pole_rows=pole_rows)
    y = np.empty((count, xyz.shape[1], channels), images.dtype)
    for n in range(count):
        matrix = sampling_matrix(grid, xyz[n % len(xyz)])
        y[n] = matrix @ images[n].reshape(grid.sites, channels)
    return y


@sample_equirect.on("cpu")
def _sample_equirect(
    images: np.ndarray, xyz: np.ndarray, rotations: np.ndarray | None = None, pole_rows: bool = False
) -> np.ndarray:
    xyz, turns = _check(images, xyz, rotations)
    count, height, width, channels = images.shape
    Equirect(height, width, pole_rows=pole_rows)
    y = memory.empty((count, xyz.shape[1], channels), images.dtype)
    flat = np.ascontiguousarray(images).reshape(count, height * width, channels)
    _equirect_kernel(flat, xyz, turns, height, width, int(pole_rows), y)
    return y


@op
def sample_tangent(
    images: np.ndarray, xyz: np.ndarray, extent: tuple[float, float], rotations: np.ndarray | None = None
) -> np.ndarray:
    r"""Read pictures on the tangent plane x = 1 at directions, bilinearly; zero outside the picture.

    A direction with x > 0 meets the plane at (inverse gnomonic projection)

    .. math:: u = y / x \ \text{(to the right)},\qquad v = z / x \ \text{(up)}

    The picture covers \|u\| <= extent[0] and \|v\| <= extent[1].
    Between the outermost pixel centres and the border, the outermost pixels are repeated.

    Parameters
    ----------
    images : ndarray (N, h, w, C)
        Pictures, row 0 up.
    xyz : ndarray (N, P, 3) or (1, P, 3)
        Directions of each picture, or one set for all.
    extent : (float, float)
        Half the picture's width and height on the plane: tangents of half its fields of view.
    rotations : ndarray (N, 3, 3) or (1, 3, 3), optional
        Matrices R that carry the picture to its place; it is read at R^-1 p for every direction p.

    Returns
    -------
    ndarray (N, P, C)
        Same dtype as `images`.

    Raises
    ------
    InputError
        If a rank, dtype or size is wrong, or a direction is not finite.

    Examples
    --------
    >>> picture = np.array([[[[1.0], [2.0]], [[3.0], [4.0]]]])
    >>> xyz = np.array([[[1.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1.0, 2.0, 0.0]]])
    >>> sample_tangent(picture, xyz, (1, 1)).ravel()
    array([2. , 2.5, 0. ])
    """
    xyz = np.matmul(*_check(images, xyz, rotations))
    count, height, width, _ = images.shape
    ahead = xyz[..., 0] > 0
    x = np.where(ahead, xyz[..., 0], 1.0)
    column = xyz[..., 1] / x * (0.5 * width / extent[0]) + (0.5 * width - 0.5)
    row = (0.5 * height - 0.5) - xyz[..., 2] / x * (0.5 * height / extent[1])
    inside = ahead & (np.abs(column - (0.5 * width - 0.5)) <= 0.5 * width)
    inside &= np.abs(row - (0.5 * height - 0.5)) <= 0.5 * height
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    north, west = np.floor(row).astype(int), np.floor(column).astype(int)
    south, east = np.minimum(north + 1, height - 1), np.minimum(west + 1, width - 1)
    dy, dx = (row - north)[..., None], (column - west)[..., None]
    n = np.arange(count)[:, None]
    top = (1 - dx) * images[n, north, west] + dx * images[n, north, east]
    bottom = (1 - dx) * images[n, south, west] + dx * images[n, south, east]
    return np.where(inside[..., None], (1 - dy) * top + dy * bottom, 0).astype(images.dtype)


@sample_tangent.on("cpu")
def _sample_tangent(
    images: np.ndarray, xyz: np.ndarray, extent: tuple[float, float], rotations: np.ndarray | None = None
) -> np.ndarray:
    xyz, turns = _check(images, xyz, rotations)
    count, height, width, channels = images.shape
    y = memory.empty((count, xyz.shape[1], channels), images.dtype)
    flat = np.ascontiguousarray(images).reshape(count, height * width, channels)
    _tangent_kernel(flat, xyz, turns, height, width, float(extent[0]), float(extent[1]), y)
    return y


def _check(images: np.ndarray, xyz: np.ndarray, rotations: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    check_array("images", images, "N, H, W, C")
    xyz = check_directions(xyz, rank=3)
    turns = np.eye(3)[None] if rotations is None else check_directions(rotations, rank=3)
    if turns.shape[1] != 3:
        raise InputError(f"rotations have shape {turns.shape}; expected (N, 3, 3): use Rotation.as_matrix().")
    for name, sets in (("xyz", len(xyz)), ("rotations", len(turns))):
        if sets not in (1, len(images)):
            raise InputError(
                f"{name} has {sets} sets for {len(images)} images; expected one set, or one for each image."
            )
    return xyz, turns


@kernel()
def _equirect_kernel(images, xyz, turns, height, width, pole, out):
    sets, points = max(xyz.shape[0], turns.shape[0]), xyz.shape[1]
    blocks = (points + BLOCK - 1) // BLOCK
    for b in prange(sets * blocks):
        own, first = b // blocks, (b % blocks) * BLOCK
        last = min(first + BLOCK, points)
        site = np.empty((BLOCK, 4), np.int64)
        weight = np.empty((BLOCK, 4), np.float64)
        for p in range(first, last):
            x, y, z = _turned(xyz, turns, own, p)
            _locate_equirect(x, y, z, height, width, pole, site[p - first], weight[p - first])
        _read(images, site, weight, own, sets, first, last, out)


@kernel()
def _tangent_kernel(images, xyz, turns, height, width, half_width, half_height, out):
    sets, points = max(xyz.shape[0], turns.shape[0]), xyz.shape[1]
    blocks = (points + BLOCK - 1) // BLOCK
    for b in prange(sets * blocks):
        own, first = b // blocks, (b % blocks) * BLOCK
        last = min(first + BLOCK, points)
        site = np.empty((BLOCK, 4), np.int64)
        weight = np.empty((BLOCK, 4), np.float64)
        for p in range(first, last):
            x, y, z = _turned(xyz, turns, own, p)
            _locate_tangent(x, y, z, height, width, half_width, half_height, site[p - first], weight[p - first])
        _read(images, site, weight, own, sets, first, last, out)


@kernel(inline=True)
def _turned(xyz, turns, own, p):
    d = xyz[own % xyz.shape[0], p]
    r = turns[own % turns.shape[0]]
    x = d[0] * r[0, 0] + d[1] * r[1, 0] + d[2] * r[2, 0]
    y = d[0] * r[0, 1] + d[1] * r[1, 1] + d[2] * r[2, 1]
    z = d[0] * r[0, 2] + d[1] * r[1, 2] + d[2] * r[2, 2]
    return x, y, z


@kernel(inline=True)
def _read(images, site, weight, own, sets, first, last, out):
    """Blend four sites for each image that shares the directions; site -1 is outside the picture."""
    start, stop = (0, images.shape[0]) if sets == 1 else (own, own + 1)
    for n in range(start, stop):
        for p in range(first, last):
            s = site[p - first]
            w = weight[p - first]
            for c in range(images.shape[2]):
                if s[0] < 0:
                    out[n, p, c] = 0.0
                else:
                    out[n, p, c] = (
                        w[0] * images[n, s[0], c]
                        + w[1] * images[n, s[1], c]
                        + w[2] * images[n, s[2], c]
                        + w[3] * images[n, s[3], c]
                    )


@kernel(inline=True)
def _locate_equirect(x, y, z, height, width, pole, site, weight):
    lat, lon = math.atan2(z, math.sqrt(x * x + y * y)), math.atan2(y, x)
    row = _snap((0.5 * math.pi - lat) * (height - pole) / math.pi - 0.5 * (1 - pole))
    column = _snap((lon + math.pi) * width / (2 * math.pi) - 0.5)
    north = math.floor(row)
    # A row that is hit exactly is read twice, so that a NaN in the next one, weighted by zero, stays out.
    south = north if row == north else north + 1
    _locate_in_row(north, column, north + 1 - row, height, width, pole, site[:2], weight[:2])
    _locate_in_row(south, column, row - north, height, width, pole, site[2:], weight[2:])


@kernel(inline=True)
def _locate_in_row(line, column, share, height, width, pole, site, weight):
    if line < 0:
        line, column = pole - 1 - line, column + 0.5 * width
    elif line >= height:
        line, column = 2 * height - 1 - pole - line, column + 0.5 * width
    west = math.floor(column)
    east = west if column == west else west + 1
    site[0], site[1] = line * width + west % width, line * width + east % width
    weight[0], weight[1] = share * (west + 1 - column), share * (column - west)


@kernel(inline=True)
def _locate_tangent(x, y, z, height, width, half_width, half_height, site, weight):
    site[0] = -1
    if x <= 0.0:
        return
    middle_row, middle_column = 0.5 * height - 0.5, 0.5 * width - 0.5
    column = y / x * (0.5 * width / half_width) + middle_column
    row = middle_row - z / x * (0.5 * height / half_height)
    if not (abs(column - middle_column) <= 0.5 * width and abs(row - middle_row) <= 0.5 * height):
        return
    row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    north, west = math.floor(row), math.floor(column)
    south, east = min(north + 1, height - 1), min(west + 1, width - 1)
    dy, dx = row - north, column - west
    site[0], site[1] = north * width + west, north * width + east
    site[2], site[3] = south * width + west, south * width + east
    weight[0], weight[1] = (1 - dy) * (1 - dx), (1 - dy) * dx
    weight[2], weight[3] = dy * (1 - dx), dy * dx


@kernel(inline=True)
def _snap(position):
    whole = np.rint(position)
    return whole if abs(position - whole) < SNAP else position
