"""What every grid on the sphere has: directions, angles, areas."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from spherecnn.grids.divide import Parts

# A position this close to a pixel centre, in pixels, is that centre: rounding of angles must not blur.
SNAP = 1e-9


class Grid:
    """Sites on the unit sphere, in one fixed order.

    A subclass sets `shape` (the spatial axes of an array on this grid) and provides `lat`, `lon` and `area`.
    All arrays are float64, read-only and computed once. A grid that can be read between its sites provides `nearest`
    and `taps`; one that can be read smoothly, `cubic_taps`; one whose sites can be cut into parts, `divide`.

    Attributes
    ----------
    shape : tuple of int
        Spatial shape of an array on this grid: (H, W), (6, n, n) or (P,).
    lat, lon : ndarray (P,)
        Latitude in [-pi/2, pi/2] and longitude in [-pi, pi), radians.
    xyz : ndarray (P, 3)
        Unit vectors (cos lat cos lon, cos lat sin lon, sin lat).
    area : ndarray (P,)
        Solid angles in steradians; they sum to 4 pi.
    """

    shape: tuple[int, ...]

    @property
    def lat(self) -> np.ndarray:
        raise NotImplementedError

    @property
    def lon(self) -> np.ndarray:
        raise NotImplementedError

    @property
    def area(self) -> np.ndarray:
        raise NotImplementedError

    @property
    def sites(self) -> int:
        """Number of sites P."""
        return int(np.prod(self.shape))

    @property
    def poolings(self) -> int:
        """How often the resolution can be halved before too few sites are left to tell places apart."""
        raise NotImplementedError

    @property
    def pixel_side(self) -> float:
        """What the side of a pixel is taken for, radians: that of a square of the mean area."""
        return math.sqrt(4 * math.pi / self.sites)

    @cached_property
    def xyz(self) -> np.ndarray:
        return read_only(directions(self.lat, self.lon))

    def nearest(self, xyz: np.ndarray) -> np.ndarray:
        """Index of the site that holds each direction: (P, 3) -> (P,)."""
        raise NotImplementedError

    def taps(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sites (P, T) about each direction (P, 3) and their weights (P, T), which sum to one."""
        raise NotImplementedError

    def cubic_taps(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sites (P, T) about each direction (P, 3) and their weights (P, T) of cubic interpolation."""
        raise NotImplementedError

    def divide(self, parts: int) -> Parts:
        """Cut each site into about `parts` x `parts`: of each part in turn directions (P, 3), solid angles (P,)."""
        raise NotImplementedError

    def config(self) -> dict[str, object]:
        """Return what rebuilds this grid through `grids.from_config`: plain numbers and words."""
        raise NotImplementedError


def read_only(x: np.ndarray) -> np.ndarray:
    """Return `x`, contiguous and locked against writing."""
    x = np.ascontiguousarray(x)
    x.setflags(write=False)
    return x


def unit(xyz: np.ndarray) -> np.ndarray:
    """Vectors (..., 3) divided by their lengths.

    Examples
    --------
    >>> unit(np.array([3.0, 0.0, 4.0]))
    array([0.6, 0. , 0.8])
    """
    return xyz / np.linalg.norm(xyz, axis=-1, keepdims=True)


def directions(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    r"""Unit vectors of latitudes and longitudes.

    .. math:: (\cos\lambda\cos\varphi,\ \cos\lambda\sin\varphi,\ \sin\lambda),\quad \lambda = lat,\ \varphi = lon

    Examples
    --------
    >>> directions(np.array([0.0]), np.array([0.0]))
    array([[1., 0., 0.]])
    """
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def compass(lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (..., 3) to the east and to the north at latitudes and longitudes.

    Examples
    --------
    >>> east, north = compass(np.array(0.0), np.array(0.0))
    >>> east + 0.0, north + 0.0
    (array([0., 1., 0.]), array([0., 0., 1.]))
    """
    east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=-1)
    return east, np.stack([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=-1)


def angles(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latitude and longitude in radians of directions (..., 3) of any length.

    Examples
    --------
    >>> lat, lon = angles(np.array([0.0, 2.0, 0.0]))
    >>> float(lat), round(float(lon), 4)
    (0.0, 1.5708)
    """
    x, y, z = np.moveaxis(np.asarray(xyz, float), -1, 0)
    return np.arctan2(z, np.hypot(x, y)), np.arctan2(y, x)


def solid_angles(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    r"""Solid angles of spherical triangles with corners a, b, c (..., 3), unit vectors, counterclockwise from outside.

    .. math:: \tan\frac\Omega2 = \frac{\det(a, b, c)}{1 + a \cdot b + b \cdot c + c \cdot a}

    Source: van Oosterom and Strackee, The solid angle of a plane triangle, IEEE Trans. Biomed. Eng. 1983.

    Examples
    --------
    >>> float(solid_angles(*np.eye(3)) / np.pi)  # an eighth of the sphere
    0.5
    """
    # differences keep the digits of small triangles
    volume = np.einsum("...i,...i->...", a, np.cross(b - a, c - a))
    cosines = sum(np.einsum("...i,...i->...", x, y) for x, y in ((a, b), (b, c), (c, a)))
    return 2 * np.arctan2(volume, 1 + cosines)


def snap(position: np.ndarray) -> np.ndarray:
    """Round positions that are within `SNAP` of a whole number to it.

    Examples
    --------
    >>> snap(np.array([1.0 + 1e-12, 1.5]))
    array([1. , 1.5])
    """
    whole = np.rint(position)
    return np.where(np.abs(position - whole) < SNAP, whole, position)


def snap_weights(weights: np.ndarray) -> np.ndarray:
    """Weights (P, T) whose rows sum to one, without those that are rounding: a direction at a site reads it alone.

    Examples
    --------
    >>> snap_weights(np.array([[2.0, 1e-12, 0.0], [1.0, 1.0, 2.0]]))
    array([[1.  , 0.  , 0.  ],
           [0.25, 0.25, 0.5 ]])
    """
    weights = snap(weights / weights.sum(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def barycentric(xyz: np.ndarray, *corners: np.ndarray) -> np.ndarray:
    r"""Spherical barycentric weights (P, 3) of unit vectors (P, 3) in triangles that hold them, in either sense.

    .. math:: d = a\,v_1 + b\,v_2 + c\,v_3,\qquad w = (a, b, c) / (a + b + c)

    Examples
    --------
    >>> barycentric(np.ones((1, 3)) / 3**0.5, *np.eye(3)[:, None]).round(3)
    array([[0.333, 0.333, 0.333]])
    """
    a, b, c = (corner - xyz for corner in corners)  # differences keep the digits of small triangles
    volume = np.stack([np.einsum("pi,pi->p", xyz, np.cross(*pair)) for pair in ((b, c), (c, a), (a, b))], axis=-1)
    return snap_weights((volume * np.sign(volume.sum(axis=-1, keepdims=True))).clip(0))


def wrap(lon: np.ndarray) -> np.ndarray:
    """Longitudes from [-pi, 2 pi] in [-pi, pi).

    Examples
    --------
    >>> wrap(np.array([-1.0, np.pi, 5.0])).round(4)
    array([-1.    , -3.1416, -1.2832])
    """
    return np.where(lon >= np.pi, lon - 2 * np.pi, lon)


def nearest_pixel(row: np.ndarray, column: np.ndarray, height: int, width: int) -> np.ndarray:
    """Index of the pixel of a picture (H, W) nearest to fractional positions, also from beyond its border."""
    row = np.clip(np.floor(snap(row) + 0.5), 0, height - 1)
    column = np.clip(np.floor(snap(column) + 0.5), 0, width - 1)
    return (row * width + column).astype(np.int64)


def bilinear(row: np.ndarray, column: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Sites (P, 4) of a picture (H, W) about fractional positions (P,), clipped to its centres, and weights (P, 4).

    Examples
    --------
    >>> bilinear(np.array([0.5]), np.array([0.25]), 2, 2)
    (array([[0, 1, 2, 3]]), array([[0.375, 0.125, 0.375, 0.125]]))
    """
    row, column = snap(row).clip(0, height - 1), snap(column).clip(0, width - 1)
    north, west = np.floor(row), np.floor(column)
    south, east = np.minimum(north + 1, height - 1), np.minimum(west + 1, width - 1)
    dy, dx = row - north, column - west
    sites = [north * width + west, north * width + east, south * width + west, south * width + east]
    weights = [(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx]
    return np.stack(sites, axis=-1).astype(np.int64), np.stack(weights, axis=-1)
