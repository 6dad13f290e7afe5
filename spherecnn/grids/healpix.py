"""HEALPix: pixels of equal area, on rings of equal latitude."""

from __future__ import annotations

import importlib.util
from functools import cached_property
from itertools import product

import numpy as np

from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.grids.base import Grid, angles, read_only, snap_weights, wrap
from spherecnn.grids.divide import Parts

ORDERS = ("ring", "nested")


class Healpix(Grid):
    r"""HEALPix grid of 12 nside^2 pixels, all of the same solid angle: shape (12 nside^2,).

    .. math:: |p| = \frac{4\pi}{12\,nside^2} = \frac{\pi}{3\,nside^2}

    Longitude 0 and north are those of all grids here; healpy counts longitude from 0 to 2 pi and colatitude from the
    north pole. ``order="ring"`` numbers pixels from north to south, each ring to the east from longitude 0.
    ``order="nested"`` gives pixel p of the coarser grid the pixels 4 p to 4 p + 3.

    Needs healpy, which has no build for Windows. It is imported when first used.

    Source: Gorski et al., HEALPix: a framework for high-resolution discretization and fast analysis of data distributed
    on the sphere, ApJ 622, 2005.

    Parameters
    ----------
    nside : int
        Divisions along a side of one of the 12 base pixels; a power of two for ``"nested"``.
    order : {"ring", "nested"}
        Numbering of the pixels.

    Raises
    ------
    InputError
        If `nside` does not fit the order, or healpy is missing.

    Examples
    --------
    >>> grid = Healpix(2)
    >>> grid.shape
    (48,)
    >>> np.degrees(grid.lat[:1]).round(2), np.degrees(grid.lon[:4])
    (array([66.44]), array([  45.,  135., -135.,  -45.]))
    >>> bool(np.isclose(grid.area.sum(), 4 * np.pi))
    True
    """

    def __init__(self, nside: int, order: str = "ring"):
        check_choice("order", order, ORDERS)
        self.nside = check_at_least("nside", nside, 1)
        self.order = order
        if order == "nested" and self.nside & (self.nside - 1):
            raise InputError(f"nside is {nside} in nested order; expected a power of two: use order='ring'.")
        if importlib.util.find_spec("healpy") is None:
            raise InputError(
                "healpy is not installed; expected it for HEALPix grids: pip install healpy (on Windows, inside WSL)."
            )
        self.shape = (12 * self.nside**2,)

    @cached_property
    def lat(self) -> np.ndarray:
        return read_only(self._angles[0])

    @cached_property
    def lon(self) -> np.ndarray:
        return read_only(self._angles[1])

    @cached_property
    def area(self) -> np.ndarray:
        return read_only(np.full(self.sites, 4 * np.pi / self.sites))

    def coarsen(self, factor: int = 2) -> Healpix:
        """Return the grid whose pixels are `factor` x `factor` of this one's."""
        if self.nside % check_at_least("factor", factor, 1):
            raise InputError(f"{self!r} cannot be coarsened by {factor}; expected a divisor of nside: choose one.")
        return Healpix(self.nside // factor, self.order)

    def refine(self, factor: int = 2) -> Healpix:
        """Return the grid whose pixels are this one's divided in `factor` x `factor`."""
        return Healpix(self.nside * check_at_least("factor", factor, 1), self.order)

    def nearest(self, xyz: np.ndarray) -> np.ndarray:
        """Index of the pixel that holds each direction: (P, 3) -> (P,)."""
        import healpy

        x, y, z = np.asarray(xyz, float).T
        return healpy.vec2pix(self.nside, x, y, z, nest=self._nested).astype(np.int64)

    def taps(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sites (P, 4) about each direction and their weights (P, 4): healpy's interpolation.

        Linear in longitude between two neighbours on the ring to the north and on that to the south, then linear in
        colatitude between the rings. Beyond the first and the last ring, which have four pixels each, their mean is
        taken for the pole. A ring close to a pole has few pixels, so that the error is of second order in 1/nside away
        from the poles and of first order beside them.
        """
        import healpy

        lat, lon = angles(xyz)
        sites, weights = healpy.get_interp_weights(self.nside, np.pi / 2 - lat, lon, nest=self._nested)
        return np.ascontiguousarray(sites.T, dtype=np.int64), snap_weights(weights.T)

    def divide(self, parts: int) -> Parts:
        """Cut each pixel into `parts` x `parts`: of each part in turn the directions (P, 3) and solid angles (P,)."""
        import healpy

        x, y, base = healpy.pix2xyf(self.nside, np.arange(self.sites), nest=self._nested)
        fine, nested = self.nside * parts, self._nested and parts & (parts - 1) == 0
        for i, j in product(range(parts), repeat=2):
            pixel = healpy.xyf2pix(fine, x * parts + i, y * parts + j, base, nest=nested)
            yield np.stack(healpy.pix2vec(fine, pixel, nest=nested), axis=-1), self.area / parts**2

    def config(self) -> dict[str, object]:
        return {"kind": "healpix", "nside": self.nside, "order": self.order}

    def __repr__(self) -> str:
        return f"Healpix({self.nside})" if self.order == "ring" else f"Healpix({self.nside}, {self.order!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Healpix) and self.config() == other.config()

    def __hash__(self) -> int:
        return hash(("healpix", self.nside, self.order))

    @property
    def _nested(self) -> bool:
        return self.order == "nested"

    @cached_property
    def _angles(self) -> tuple[np.ndarray, np.ndarray]:
        import healpy

        colatitude, lon = healpy.pix2ang(self.nside, np.arange(self.sites), nest=self._nested)
        return np.pi / 2 - colatitude, wrap(lon)
