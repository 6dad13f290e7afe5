"""A pinhole view: pixels on a plane that touches the sphere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids.base import angles, bilinear, nearest_pixel, read_only
from spherecnn.grids.cubemap import rectangle_areas
from spherecnn.grids.divide import Parts, divide_pixels


class Perspective:
    r"""What a pinhole camera sees from the centre of the sphere: h x w square pixels on a tangent plane.

    With c the direction in the middle of the view, r its right and d its lower edge, pixel (i, j) has its centre in
    direction

    .. math:: c + u\,r + v\,d,\qquad u = \left(\frac{2j + 1}{w} - 1\right)\tan\frac{fov}{2},\quad
        v = \left(\frac{2i + 1}{h} - 1\right)\frac{h}{w}\tan\frac{fov}{2}

    so the vertical field of view is :math:`2\arctan(\frac{h}{w}\tan\frac{fov}{2})`. Without roll, up is north.

    It has `shape`, `lat`, `lon`, `xyz` and `area` as a `Grid` has, so `grids.resample` takes it as a target, but is
    none: it covers a part of the sphere, and what holds for grids (areas sum to 4 pi, there is a site near every
    direction) does not hold. `grids.stitch` goes back from views to a grid.

    Parameters
    ----------
    height, width : int
        Rows h and columns w.
    fov_deg : float
        Horizontal field of view in degrees, above 0 and below 180.
    lat, lon : float
        Direction of the middle of the view, radians.
    roll : float
        Radians by which the view is turned clockwise, as seen on the panorama.

    Attributes
    ----------
    shape : (int, int)
        (h, w).
    lat, lon : ndarray (P,)
        Latitude and longitude of the pixels, radians.
    xyz : ndarray (P, 3)
        Unit vectors.
    area : ndarray (P,)
        Solid angles in steradians; they sum to that of the view.

    Raises
    ------
    InputError
        If a size is not a positive integer, the field of view out of range, or an angle not finite.

    Examples
    --------
    >>> view = Perspective(1, 3, 90, lon=np.pi / 2)
    >>> np.degrees(view.lon).round(2)
    array([ 56.31,  90.  , 123.69])
    >>> view.inside(np.array([[0.0, 1.0, 0.3], [0.0, 1.0, 0.4], [0.0, -1.0, 0.0]]))
    array([ True, False, False])
    """

    def __init__(
        self, height: int, width: int, fov_deg: float = 90.0, lat: float = 0.0, lon: float = 0.0, roll: float = 0.0
    ):
        self.height, self.width = check_at_least("height", height, 1), check_at_least("width", width, 1)
        self.shape = (self.height, self.width)
        if not 0 < fov_deg < 180:
            raise InputError(
                f"fov_deg is {fov_deg}; expected degrees above 0 and below 180: a plane shows less than half a sphere."
            )
        for name, angle in (("lat", lat), ("lon", lon), ("roll", roll)):
            if not math.isfinite(angle):
                raise InputError(f"{name} is {angle}; expected a finite angle in radians: correct it.")
        self.fov_deg, self.looking = float(fov_deg), (float(lat), float(lon), float(roll))
        sin, cos = _sin_cos(math.radians(fov_deg))
        half_width = sin / (1 + cos)  # tan(fov / 2), 1 without rounding for 90 degrees
        self.extent = (half_width, half_width * self.height / self.width)

    @property
    def sites(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @cached_property
    def frame(self) -> np.ndarray:
        """Rows: the unit vectors of the middle, the right and the lower edge of the view."""
        (sin_a, cos_a), (sin_b, cos_b), (sin_r, cos_r) = map(_sin_cos, self.looking)
        centre = np.array([cos_a * cos_b, cos_a * sin_b, sin_a])
        right, down = np.array([-sin_b, cos_b, 0.0]), np.array([sin_a * cos_b, sin_a * sin_b, -cos_a])
        return read_only(np.stack([centre, cos_r * right + sin_r * down, cos_r * down - sin_r * right]) + 0.0)

    @cached_property
    def xyz(self) -> np.ndarray:
        row, column = np.mgrid[: self.height, : self.width].reshape(2, -1)
        return read_only(self.at((row, column))[0])

    @cached_property
    def lat(self) -> np.ndarray:
        return read_only(angles(self.xyz)[0])

    @cached_property
    def lon(self) -> np.ndarray:
        return read_only(angles(self.xyz)[1])

    @cached_property
    def area(self) -> np.ndarray:
        u, v = (
            (2 * np.arange(n + 1) - n) / n * extent
            for n, extent in zip((self.width, self.height), self.extent, strict=True)
        )
        return read_only(rectangle_areas(u, v).ravel())

    @property
    def pixel_side(self) -> float:
        """Side of a pixel in the middle, radians."""
        return 2 * self.extent[0] / self.width

    def at(self, place: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (P, 3) of fractional (row, column), and solid angles (P,) of pixels there, as small ones.

        The solid angles are the density at the position times the size of a pixel.
        """
        row, column = place
        u = ((2 * column + 1) / self.width - 1) * self.extent[0]
        v = ((2 * row + 1) / self.height - 1) * self.extent[1]
        xyz = self.frame[0] + u[:, None] * self.frame[1] + v[:, None] * self.frame[2]
        length = np.sqrt(1 + u * u + v * v)
        return xyz / length[:, None] + 0.0, self.pixel_side**2 / length**3

    def divide(self, parts: int) -> Parts:
        """Cut each pixel into `parts` x `parts`: of each part in turn the directions (P, 3) and solid angles (P,)."""
        return divide_pixels(self, parts)

    def pixel(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fractional (row, column) of directions (..., 3); NaN behind the camera, whole numbers at pixel centres.

        Examples
        --------
        >>> row, column = Perspective(2, 2).pixel(np.array([1.0, 0.5, 0.5]))
        >>> float(row), float(column)
        (0.0, 1.0)
        """
        u, v = self._on_plane(xyz)
        return (v + 1) * (self.height / 2) - 0.5, (u + 1) * (self.width / 2) - 0.5

    def inside(self, xyz: np.ndarray) -> np.ndarray:
        """Whether the view shows directions (..., 3); its border belongs to it, up to rounding."""
        u, v = self._on_plane(xyz)
        return (np.abs(u) <= 1 + 1e-12) & (np.abs(v) <= 1 + 1e-12)

    def centrality(self, xyz: np.ndarray) -> np.ndarray:
        r"""Weight of the view at directions (..., 3): 1 in its middle, falling to 0 at its border and outside.

        .. math:: (1 - |u| / u_{max})\,(1 - |v| / v_{max})
        """
        u, v = self._on_plane(xyz)
        return np.nan_to_num((1 - np.abs(u)).clip(0) * (1 - np.abs(v)).clip(0))

    def nearest(self, xyz: np.ndarray) -> np.ndarray:
        """Index of the pixel nearest to each direction inside the view: (P, 3) -> (P,)."""
        return nearest_pixel(*self.pixel(xyz), self.height, self.width)

    def taps(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sites (P, 4) about each direction inside the view and their bilinear weights (P, 4).

        Between the outermost pixel centres and the border, the outermost pixels are repeated.
        """
        return bilinear(*self.pixel(xyz), self.height, self.width)

    def config(self) -> dict[str, object]:
        """Return the arguments that rebuild this view: ``Perspective(**view.config())``."""
        lat, lon, roll = self.looking
        shape = {"height": self.height, "width": self.width, "fov_deg": self.fov_deg}
        return {**shape, "lat": lat, "lon": lon, "roll": roll}

    def __repr__(self) -> str:
        lat, lon, roll = (f"{x:.6g}" for x in self.looking)
        return f"Perspective({self.height}, {self.width}, {self.fov_deg:g}, lat={lat}, lon={lon}, roll={roll})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Perspective) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash(tuple(self.config().values()))

    def _on_plane(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Position from -1 to 1 in the view, to the right and down; NaN behind the camera."""
        ahead, right, down = np.moveaxis(np.asarray(xyz, float) @ self.frame.T, -1, 0)
        depth = np.where(ahead > 0, ahead, np.nan)
        return right / depth / self.extent[0], down / depth / self.extent[1]


def _sin_cos(angle: float) -> tuple[float, float]:
    """Sine and cosine, without rounding at quarter turns, where views then meet to the bit."""
    values = math.sin(angle), math.cos(angle)
    whole = [round(x) for x in values]
    close = all(abs(x - n) < 1e-15 for x, n in zip(values, whole, strict=True))
    return (float(whole[0]), float(whole[1])) if close else values
