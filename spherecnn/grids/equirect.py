"""The equirectangular grid: one row per latitude, one column per longitude."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TypeAlias

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids.base import Grid, angles, directions, read_only, snap
from spherecnn.grids.divide import Parts, divide_pixels

# Whole positions about fractional ones, and their weights.
Lines: TypeAlias = list[tuple[np.ndarray, np.ndarray]]


def linear(position: np.ndarray) -> Lines:
    """The two whole positions about fractional ones, weighed linearly."""
    first = np.floor(position)
    return [(first, first + 1 - position), (first + 1, position - first)]


def cubic(position: np.ndarray) -> Lines:
    r"""The four whole positions about fractional ones, with the weights of Keys at a distance s.

    .. math:: w(s) = \begin{cases} \frac32 s^3 - \frac52 s^2 + 1 & s \le 1 \\
        -\frac12 s^3 + \frac52 s^2 - 4 s + 2 & 1 < s \le 2 \end{cases}

    Source: Keys, Cubic convolution interpolation for digital image processing, IEEE ASSP 1981, with a = -1/2.

    Examples
    --------
    >>> [(float(at[0]), float(weight[0])) for at, weight in cubic(np.array([0.5]))]
    [(-1.0, -0.0625), (0.0, 0.5625), (1.0, 0.5625), (2.0, -0.0625)]
    """
    first = np.floor(position)
    found = []
    for step in (-1, 0, 1, 2):
        s = np.abs(position - first - step)
        near, far = (1.5 * s - 2.5) * s * s + 1, ((-0.5 * s + 2.5) * s - 4) * s + 2
        found.append((first + step, np.where(s <= 1, near, far)))
    return found


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

    def divide(self, parts: int) -> Parts:
        """Cut each pixel into `parts` x `parts`: of each part in turn the directions (P, 3) and solid angles (P,)."""
        return divide_pixels(self, parts)

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
        return self.taps_at(*self.pixel(*angles(xyz)))

    def cubic_taps(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sites (P, 16) about each direction and their weights (P, 16): `cubic` in latitude and longitude.

        Over the seam and the poles as in `taps`. Weights may be negative: values may pass those of the picture.
        """
        return self.taps_at(*self.pixel(*angles(xyz)), cubic)

    def taps_at(
        self, row: np.ndarray, column: np.ndarray, lines: Callable[[np.ndarray], Lines] = linear
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sites (P, T) and weights (P, T) about fractional (row, column), from beyond the poles too."""
        sites, weights = [], []
        turn = 2 * (self.height - self.pole_rows)  # rows around the sphere
        for line, share in lines(snap(row)):
            line = line % turn
            beyond = line >= self.height
            line = np.where(beyond, turn - (not self.pole_rows) - line, line)
            for x, part in lines(np.where(beyond, snap(column) + self.width / 2, snap(column))):
                sites.append(line * self.width + x % self.width)
                weights.append(share * part)
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
