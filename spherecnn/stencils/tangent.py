"""Stencils of tangent-plane convolutions: kernel taps lie on the plane that touches the sphere at each pixel."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import sparse

from spherecnn.errors import InputError, check_choice
from spherecnn.grids.base import compass, directions
from spherecnn.grids.equirect import Equirect
from spherecnn.grids.resample import sampling_matrix
from spherecnn.stencils.base import Segment, Stencil

SPACINGS = ("spherenet", "equiconv")


def tangent_taps(
    grid: Equirect, kernel: tuple[int, int], dilation: tuple[int, int] = (1, 1), spacing: str = "spherenet"
) -> tuple[np.ndarray, np.ndarray]:
    r"""Where the taps of a kernel lie on the tangent plane: x to the east, y to the north, tap (i, j) at i * kw + j.

    "spherenet" puts the taps where, at the equator, the neighbouring pixels are:

    .. math:: x = \tan(j\,\Delta lon),\qquad y = \tan(i\,\Delta lat) / \cos(j\,\Delta lon)

    "equiconv" spaces them evenly on the plane, over the angle that a kernel of k columns (dilated: d (k - 1) + 1)
    takes at the equator:

    .. math:: x = j\,\frac{\tan(k\,\Delta lon / 2)}{k / 2},\qquad y = i\,\frac{\tan(k\,\Delta lon / 2)}{k / 2}

    with i and j counted from the middle of the kernel, i to the north, and with the dilation in steps.

    Source: Coors, Condurache and Geiger, SphereNet, ECCV 2018, section 3.1; Fernandez-Labrador et al., Corners for
    Layout, RA-L 2020, section III-A (EquiConvs).

    Raises
    ------
    InputError
        If a kernel has an even size or reaches a quarter turn.

    Examples
    --------
    >>> x, y = tangent_taps(Equirect(4), (1, 3))
    >>> x.round(3), y.round(3)
    (array([-1.,  0.,  1.]), array([0., 0., 0.]))
    """
    check_choice("spacing", spacing, SPACINGS)
    if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
        raise InputError(
            f"kernel_size is {kernel}; expected odd numbers for a kernel around the point where the plane touches: "
            "use 3 or 5."
        )
    i, j = ((np.arange(k) - k // 2) * d for k, d in zip(kernel, dilation, strict=True))
    step = math.pi / (grid.height - grid.pole_rows), 2 * math.pi / grid.width
    if spacing == "equiconv":
        wide = dilation[1] * (kernel[1] - 1) + 1
        reach, across = max(i.max() * step[1], wide * step[1] / 2), wide / 2
    else:
        reach, across = max(i.max() * step[0], j.max() * step[1]), 0.0
    if reach >= math.pi / 2:
        raise InputError(
            f"a kernel of {kernel} with dilation {dilation} reaches {math.degrees(reach):.0f} degrees from its "
            f"centre on {grid!r}; expected less than 90, where the tangent plane ends: use a smaller kernel or "
            "dilation, or a finer grid."
        )
    north, east = np.meshgrid(-i, j, indexing="ij")
    if spacing == "equiconv":
        pitch = math.tan(wide * step[1] / 2) / across
        return (pitch * east).ravel(), (pitch * north).ravel()
    x, y = np.tan(east * step[1]), np.tan(north * step[0]) / np.cos(east * step[1])
    return x.ravel(), y.ravel()


def tangent_directions(lat: np.ndarray, lon: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""Unit vectors of points (x, y) on the planes that touch the sphere at lat, lon: inverse gnomonic projection.

    .. math:: \frac{c + x\,e + y\,n}{\sqrt{1 + x^2 + y^2}}

    with c the point of contact, e the unit vector to its east and n to its north.

    Parameters
    ----------
    lat, lon : ndarray (P,)
        Points of contact, radians.
    x, y : ndarray (T,)
        Points of the plane, x to the east and y to the north, in radii.

    Returns
    -------
    ndarray (P, T, 3)

    Examples
    --------
    >>> tangent_directions(np.zeros(1), np.zeros(1), np.array([0.0, 1.0]), np.zeros(2)).round(4)
    array([[[1.    , 0.    , 0.    ],
            [0.7071, 0.7071, 0.    ]]])
    """
    lat, lon = np.asarray(lat, float), np.asarray(lon, float)
    contact, (east, north) = directions(lat, lon), compass(lat, lon)
    points = contact[:, None] + x[:, None] * east[:, None] + y[:, None] * north[:, None]
    return points / np.sqrt(1 + x**2 + y**2)[:, None]


def tangent_matrix(
    grid: Equirect, row: np.ndarray, kernel: tuple[int, int], dilation: tuple[int, int], spacing: str
) -> sparse.csr_array:
    """Matrix that reads the taps of the kernels about the pixels (row, 0) of an image: (rows * taps, H * W)."""
    x, y = tangent_taps(grid, kernel, dilation, spacing)
    lat = grid.row_lat[row]
    xyz = tangent_directions(lat, np.full(len(lat), grid.column_lon[0]), x, y)
    return sampling_matrix(grid, xyz.reshape(-1, 3))


@lru_cache(maxsize=64)
def tangent(
    grid: Equirect,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    spacing: str = "spherenet",
    average: bool = False,
) -> Stencil:
    """Stencil of a kernel on the tangent plane of every pixel; a tap blends the four pixels around its point.

    Output (i, j) lies at the centre of pixel (i * stride, j * stride). Longitude wraps, and rows beyond a pole are
    seen half a turn away. One row of pixels is computed; the others differ by a rotation about the axis, so that
    all slots share one column of offsets.

    Parameters
    ----------
    grid : Equirect
        Of the input.
    kernel, stride, dilation : pairs (rows, columns)
        Odd kernels.
    spacing : {"spherenet", "equiconv"}
        See `tangent_taps`.
    average : bool
        True for one tap, the mean of all.

    Examples
    --------
    >>> tangent(Equirect(4))
    Stencil((4, 8) -> (4, 8), taps=9)
    """
    taps = kernel[0] * kernel[1]
    rows, columns = -(-grid.height // stride[0]), -(-grid.width // stride[1])
    matrix = tangent_matrix(grid, np.arange(rows) * stride[0], kernel, dilation, spacing)
    reader = np.repeat(np.arange(rows * taps), np.diff(matrix.indptr))
    entries = _Entries(
        reader // taps,
        np.zeros_like(reader) if average else reader % taps,
        matrix.indices // grid.width,
        matrix.indices % grid.width,
        matrix.data / taps if average else matrix.data,
    )
    return _forward((grid.height, grid.width), (rows, columns), stride[1], 1 if average else taps, entries)


class _Entries:
    """Output row i reads, for a tap and a share, input row h at a shift of columns: five arrays."""

    def __init__(self, i: np.ndarray, tap: np.ndarray, h: np.ndarray, shift: np.ndarray, share: np.ndarray):
        self.i, self.tap, self.h, self.shift, self.share = i, tap, h, shift, share

    def of(self, chosen: np.ndarray) -> _Entries:
        return _Entries(*(a[chosen] for a in (self.i, self.tap, self.h, self.shift, self.share)))


def _forward(shape_in: tuple[int, int], shape_out: tuple[int, int], stride: int, taps: int, e: _Entries) -> Stencil:
    """Output column j reads column (stride * j + shift) mod W: a kind for each remainder of the shift."""
    width, columns = shape_in[1], shape_out[1]
    around = np.arange(columns + -(-width // stride))
    kinds = [(stride * around + remainder) % width for remainder in range(stride)]
    segments = []
    for i in range(shape_out[0]):
        of_row = np.flatnonzero(e.i == i)
        row = e.of(of_row[np.argsort(e.tap[of_row], kind="stable")])
        remainder = row.shift % stride
        segments.append(
            Segment(
                columns, i * columns, stride, row.tap, row.h * width, remainder, row.shift // stride, share=row.share
            )
        )
    return Stencil(
        shape_in,
        shape_out,
        taps,
        [*kinds, np.arange(columns)],
        segments,
        lambda: _adjoint(shape_in, shape_out, stride, taps, e),
    )


def _adjoint(shape_in: tuple[int, int], shape_out: tuple[int, int], stride: int, taps: int, e: _Entries) -> Stencil:
    """Input column q is read by column (q - shift) / stride mod W, where that is a whole number."""
    width, columns = shape_in[1], shape_out[1]
    around = np.arange(2 * width) % width
    readers = np.where(around % stride == 0, around // stride, -1)
    segments = []
    for h in range(shape_in[0]):
        of_row = np.flatnonzero(e.h == h)
        row = e.of(of_row[np.argsort(e.tap[of_row], kind="stable")])
        if not len(of_row):  # a row that no tap reads: one slot that reads zero
            segments.append(Segment(width, h * width, 1, [0], [-1], [0], share=[0.0]))
            continue
        back = (width - row.shift) % width
        kind = np.zeros(len(back), np.int64)
        segments.append(Segment(width, h * width, 1, row.tap, row.i * columns, kind, back, share=row.share))
    kinds = [readers, np.arange(width)]
    return Stencil(shape_out, shape_in, taps, kinds, segments, lambda: _forward(shape_in, shape_out, stride, taps, e))
