"""What every grid on the sphere has: directions, angles, areas."""

from __future__ import annotations

from functools import cached_property

import numpy as np


class Grid:
    """Sites on the unit sphere, in one fixed order.

    A subclass sets `shape` (the spatial axes of an array on this grid) and provides `lat`, `lon` and `area`.
    All arrays are float64, read-only and computed once.

    Attributes
    ----------
    shape : tuple of int
        Spatial shape of an array on this grid: (H, W) or (P,).
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

    @cached_property
    def xyz(self) -> np.ndarray:
        return read_only(directions(self.lat, self.lon))

    def config(self) -> dict[str, object]:
        """Return what rebuilds this grid through `grids.from_config`: plain numbers and words."""
        raise NotImplementedError


def read_only(x: np.ndarray) -> np.ndarray:
    """Return `x`, contiguous and locked against writing."""
    x = np.ascontiguousarray(x)
    x.setflags(write=False)
    return x


def directions(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
    r"""Unit vectors of latitudes and longitudes.

    .. math:: (\cos\lambda\cos\varphi,\ \cos\lambda\sin\varphi,\ \sin\lambda),\quad \lambda = lat,\ \varphi = lon

    Examples
    --------
    >>> directions(np.array([0.0]), np.array([0.0]))
    array([[1., 0., 0.]])
    """
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


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
