"""Planar kernels laid on the tangent plane of a row: where their taps fall on the panorama, and what they cover."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids.base import snap
from spherecnn.grids.equirect import Equirect
from spherecnn.stencils.tangent import tangent_directions, tangent_taps

# Of the published rule: grow until so much is covered, or so many taps of a 3x3 kernel are reached.
COVERAGE, MOST_TAPS = 0.95, 49
# A pixel that holds less than this of one tap is not counted as read.
LEAST_SHARE = 0.05


def check_kernel(kernel_size: int) -> int:
    """Refuse a planar kernel that has no centre; return its size."""
    check_at_least("kernel_size", kernel_size, 1)
    if kernel_size % 2 == 0:
        raise InputError(
            f"kernel_size is {kernel_size}; expected an odd number, so that the kernel has a centre: change it."
        )
    return int(kernel_size)


def reach_degrees(grid: Equirect, kernel_size: int) -> float:
    """Angle from the centre of a planar kernel to its outer rows or columns."""
    return kernel_size // 2 * max(360 / grid.width, 180 / (grid.height - grid.pole_rows))


def tangent_offsets(grid: Equirect, row: int, kernel_size: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Rows and columns from a pixel of `row` to the taps of a planar kernel on its tangent plane.

    The taps are those of `tangent_taps`, carried to the sphere about the latitude of the row. A tap beyond a pole has
    a row beyond the first or last one and the column of the meridian that leads there, so that offsets stay small:
    it is the row it came from, half a turn away.

    Parameters
    ----------
    grid : Equirect
    row : int
    kernel_size : int
        K, odd.

    Returns
    -------
    rows, columns : ndarray (K, K)
        Offsets in pixels, not whole; south and east are positive.

    Notes
    -----
    Source: Coors et al., SphereNet, ECCV 2018, section 3; Su and Grauman, NIPS 2017, section 3.

    Examples
    --------
    >>> rows, columns = tangent_offsets(Equirect(180), 30, 3)  # 59.5 degrees north: a degree of longitude is short
    >>> rows.round(2)
    array([[-0.98, -1.  , -0.98],
           [ 0.01,  0.  ,  0.01],
           [ 1.01,  1.  ,  1.01]])
    >>> columns.round(2)
    array([[-2.03,  0.  ,  2.03],
           [-1.97,  0.  ,  1.97],
           [-1.91,  0.  ,  1.91]])
    """
    check_kernel(kernel_size)
    lat, steps = grid.row_lat[row], grid.height - grid.pole_rows
    x, y = tangent_taps(grid, (kernel_size, kernel_size))
    ahead, east, up = tangent_directions(np.array([lat]), np.zeros(1), x, y)[0].reshape(kernel_size, kernel_size, 3).T
    side = np.where(ahead < 0, -1.0, 1.0)  # beyond a pole the meridian goes on half a turn away
    rows = (lat - np.arctan2(up, side * np.hypot(ahead, east))) * steps / np.pi
    columns = np.arctan2(side * east, np.abs(ahead)) * grid.width / (2 * np.pi)
    return snap(rows).T, snap(columns).T


def tangent_size(grid: Equirect, row: int, kernel_size: int) -> tuple[int, int]:
    """Size (kh, kw) of the window about a pixel of `row` that holds all that a bilinear read of the taps needs.

    Examples
    --------
    >>> [tangent_size(Equirect(180), row, 3) for row in (90, 30, 5)]
    [(5, 5), (5, 7), (5, 27)]
    """
    height, width = (2 * int(np.ceil(np.abs(offset)).max()) + 1 for offset in tangent_offsets(grid, row, kernel_size))
    return height, width


def projection(grid: Equirect, row: int, kernel_size: int, size: tuple[int, int]) -> np.ndarray:
    r"""Matrix from a planar kernel to the kernel on the panorama that does the same at `row`.

    Entry ((i, j), t) is the share of pixel (i, j) of the window in the bilinear read of tap t, so that

    .. math:: \sum_t w_t\, x(tap_t) = \sum_{i,j} \Big(\sum_t P_{(i,j),\,t}\, w_t\Big)\, x_{i,j}

    What falls outside the window is left out.

    Parameters
    ----------
    grid : Equirect
    row, kernel_size : int
    size : (kh, kw)
        Of the window, odd; `tangent_size` holds all.

    Returns
    -------
    ndarray (kh * kw, kernel_size ** 2)
        Each column sums to one if nothing is left out.

    Notes
    -----
    Source: Su and Grauman, Kernel Transformer Networks for Compact Spherical Convolution, CVPR 2019, section 3.

    Examples
    --------
    >>> projection(Equirect(180), 89, 1, (1, 3))
    array([[0.],
           [1.],
           [0.]])
    """
    rows, columns = (offset.ravel() for offset in tangent_offsets(grid, row, kernel_size))
    matrix = np.zeros((*size, kernel_size**2))
    north, west = np.floor(rows), np.floor(columns)
    for i, row_share in ((north, north + 1 - rows), (north + 1, rows - north)):
        for j, column_share in ((west, west + 1 - columns), (west + 1, columns - west)):
            inside = (np.abs(i) <= size[0] // 2) & (np.abs(j) <= size[1] // 2)
            at = (i + size[0] // 2)[inside].astype(int), (j + size[1] // 2)[inside].astype(int)
            np.add.at(matrix, (*at, np.nonzero(inside)[0]), (row_share * column_share)[inside])
    return matrix.reshape(-1, kernel_size**2)


def layer_sizes(grid: Equirect, kernel_size: int = 3, most_taps: int | None = None) -> list[tuple[int, int]]:
    """Kernel size (kh, kw) of each row for one layer whose planar kernel has the pixel pitch of the panorama.

    The pixels T that a bilinear read of the planar kernel needs are found at each row, leaving out those with
    less than a twentieth of a tap. A window of 3x3 then grows as in `row_sizes`: it is enough when it covers more
    than 0.95 of T or has more than `most_taps` taps; else it grows by two rows if T sticks out above or below, else
    by two columns. On a grid so coarse that a tangent plane does not show the kernel, the sizes are the planar ones.

    Parameters
    ----------
    grid : Equirect
    kernel_size : int
        Of the planar kernel, odd.
    most_taps : int, optional
        By default 49 for a kernel of 3, as published, and in proportion to the taps of larger ones.

    Notes
    -----
    Source: Su and Grauman, NIPS 2017, section 3, for a layer on its own. Here rows beyond a pole stay apart from
    those before it while the window grows; in `row_sizes` they do not, as published, and the last rows stay narrow.

    Examples
    --------
    >>> layer_sizes(Equirect(16))[:8]
    [(5, 11), (5, 11), (5, 7), (5, 5), (5, 5), (3, 5), (3, 5), (3, 3)]
    """
    check_kernel(kernel_size)
    if reach_degrees(grid, kernel_size) >= 90:
        return [(kernel_size, kernel_size)] * grid.height
    most = MOST_TAPS * kernel_size**2 // 9 if most_taps is None else most_taps
    return [_grow(*_read_pixels(grid, row, kernel_size), kernel_size, most) for row in range(grid.height)]


def _read_pixels(grid: Equirect, row: int, kernel_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances (rows, columns) from the centre of the pixels that count as read."""
    size = tangent_size(grid, row, kernel_size)
    share = projection(grid, row, kernel_size, size).sum(axis=1).reshape(size)
    i, j = np.nonzero(share >= LEAST_SHARE)
    return np.abs(i - size[0] // 2), np.abs(j - size[1] // 2)


def _grow(rows: np.ndarray, columns: np.ndarray, kernel_size: int, most_taps: int) -> tuple[int, int]:
    height = width = min(3, kernel_size)
    while True:
        above, beside = rows > height // 2, columns > width // 2
        if 1 - (above | beside).mean() > COVERAGE or height * width > most_taps:
            return height, width
        if above.any():
            height += 2
        else:
            width += 2
