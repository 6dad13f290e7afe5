"""The equirectangular grid: one row per latitude, one column per longitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids.base import Grid, angles, directions, read_only, snap


class Equirect(Grid):
    r"""Equirectangular grid of H rows and W columns.

    Row 0 is north and east is to the right. With half-pixel rows (images), pixel (i, j) has its centre at

    .. math:: lat = \pi/2 - (i + 1/2)\,\pi/H,\qquad lon = -\pi + (j + 1/2)\,2\pi/W

    With ``pole_rows=True`` (weather grids) rows 0 and H - 1 lie on the poles: :math:`lat = \pi/2 - i\,\pi/(H-1)`.

    Parameters
    ----------
    height : int
        Rows H.
    width : int, optional
        Columns W; 2 H by default.
    pole_rows : bool
        True when the first and last rows lie on the poles.

    Raises
    ------
    InputError
        If a size is not a positive integer.

    Examples
    --------
    >>> grid = Equirect(2)
    >>> grid.shape
    (2, 4)
    >>> np.degrees(grid.lat[:1]), np.degrees(grid.lon[:4])
    (array([45.]), array([-135.,  -45.,   45.,  135.]))
    >>> bool(np.isclose(grid.area.sum(), 4 * np.pi))
    True
    """

    def __init__(self, height: int, width: int | None = None, *, pole_rows: bool = False):
        self.height = check_at_least("height", height, 2 if pole_rows else 1)
        self.width = check_at_least("width", 2 * height if width is None else width, 1)
        self.pole_rows = bool(pole_rows)
        self.shape = (self.height, self.width)

    @cached_property
    def row_lat(self) -> np.ndarray:
        """Latitude of each row (H,), radians, north first."""
        i = np.arange(self.height)
        if self.pole_rows:
            return read_only(np.pi / 2 - i * np.pi / (self.height - 1))
        return read_only(np.pi / 2 - (i + 0.5) * np.pi / self.height)

    @cached_property
    def column_lon(self) -> np.ndarray:
        """Longitude of each column (W,), radians, from -pi to the east."""
        return read_only(-np.pi + (np.arange(self.width) + 0.5) * 2 * np.pi / self.width)

    @cached_property
    def row_area(self) -> np.ndarray:
        """Solid angle of one pixel of each row (H,), sr: the area of its latitude band over W."""
        i = np.arange(self.height + 1)
        if self.pole_rows:
            edge = np.clip(np.pi / 2 - (i - 0.5) * np.pi / (self.height - 1), -np.pi / 2, np.pi / 2)
        else:
            edge = np.pi / 2 - i * np.pi / self.height
        return read_only((np.sin(edge[:-1]) - np.sin(edge[1:])) * 2 * np.pi / self.width)

    @cached_property
    def lat(self) -> np.ndarray:
        return read_only(np.repeat(self.row_lat, self.width))

    @cached_property
    def lon(self) -> np.ndarray:
        return read_only(np.tile(self.column_lon, self.height))

    @cached_property
    def area(self) -> np.ndarray:
        return read_only(np.repeat(self.row_area, self.width))

    def coarsen(self, factor: int = 2) -> Equirect:
        """Return the grid whose pixels are `factor` x `factor` blocks of this one's."""
        if self.pole_rows:
            raise InputError(
                f"{self!r} has rows on the poles; expected half-pixel rows for pooling in blocks: use pole_rows=False."
            )
        if self.height < factor or self.width < factor:
            raise InputError(f"{self!r} cannot be coarsened by {factor}; expected at least {factor} rows and columns.")
        return Equirect(self.height // factor, self.width // factor)

    @property
    def poolings(self) -> int:
        """How often the resolution can be halved with two rows or more left."""
        return max(0, self.height.bit_length() - 2)

    def pixel(self, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fractional (row, column) of directions: whole numbers are pixel centres; columns lie in [-0.5, W - 0.5)."""
        if self.pole_rows:
            row = (np.pi / 2 - lat) * (self.height - 1) / np.pi
        else:
            row = (np.pi / 2 - lat) * self.height / np.pi - 0.5
        column = (np.asarray(lon) + np.pi) * self.width / (2 * np.pi) - 0.5
        return row, (column + 0.5) % self.width - 0.5

    @property
    def pixel_side(self) -> float:
        """The longer side of a pixel at the equator, radians."""
        return max(math.pi / max(1, self.height - self.pole_rows), 2 * math.pi / self.width)

    def at(self, place: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (P, 3) of fractional (row, column), and solid angles (P,) of pixels there, as small ones.

        The solid angles are the density at the position times the size of a pixel.
        """
        row, column = place
        step, first = np.pi / (self.height - self.pole_rows), 0.0 if self.pole_rows else 0.5
        lat, lon = np.pi / 2 - (row + first) * step, -np.pi + (column + 0.5) * 2 * np.pi / self.width
        return directions(lat, lon), np.maximum(np.cos(lat), 0) * step * 2 * np.pi / self.width

    def nearest(self, xyz: np.ndarray) -> np.ndarray:
        """Index of the pixel that holds each direction: (P, 3) -> (P,)."""
        row, column = self.pixel(*angles(xyz))
        row = np.clip(np.floor(snap(row) + 0.5), 0, self.height - 1)
        column = np.floor(snap(column) + 0.5) % self.width
        return (row * self.width + column).astype(np.int64)

    def taps(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sites (P, 4) about each direction and their weights (P, 4): bilinear in latitude and longitude.

        Longitude wraps at the seam. A row beyond a pole is the row it came from, half a turn away; when the
        width is odd, half a turn falls between two columns and both are read.
        """
        height, width, pole = self.height, self.width, int(self.pole_rows)
        row, column = self.pixel(*angles(xyz))
        row, column = snap(row), snap(column)
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

    def config(self) -> dict[str, object]:
        return {"kind": "equirect", "height": self.height, "width": self.width, "pole_rows": self.pole_rows}

    def __repr__(self) -> str:
        poles = ", pole_rows=True" if self.pole_rows else ""
        return f"Equirect({self.height}, {self.width}{poles})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Equirect) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash((self.height, self.width, self.pole_rows))


def check_equirect(grid: object) -> Equirect:
    """Return a grid, refusing all but equirectangular ones."""
    if not isinstance(grid, Equirect):
        raise InputError(f"the grid is {grid!r}; expected an equirectangular one: use grids.Equirect.")
    return grid
