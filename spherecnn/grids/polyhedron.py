"""The faces of a subdivided icosahedron: the grid of SpherePHD."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids.base import Grid, angles, read_only, solid_angles, wrap
from spherecnn.grids.descend import MOST_LEVELS
from spherecnn.grids.divide import Parts, divide_triangles
from spherecnn.grids.face_taps import holding_face, linear_taps

# The faces of the icosahedron: apex, left and right corner as seen from outside with the apex up. Corner 0 is the
# north pole, 11 the south pole; sections 0-4 and 10-14 have the apex to the north.
SECTIONS = read_only(
    np.array(
        [
            [[0, 1 + k, 1 + (k + 1) % 5] for k in range(5)],
            [[6 + (k + 3) % 5, 1 + (k + 1) % 5, 1 + k] for k in range(5)],
            [[1 + (k + 1) % 5, 6 + (k + 3) % 5, 6 + (k + 4) % 5] for k in range(5)],
            [[11, 6 + (4 + k) % 5, 6 + (3 + k) % 5] for k in range(5)],
        ]
    ).reshape(20, 3)
)


class Polyhedron(Grid):
    r"""The 20 * 4^level faces of an icosahedron whose edges are halved `level` times: shape (P,).

    Corners of the icosahedron lie on the poles and at latitudes :math:`\pm\arctan(1/2)`. Every halving puts the middle
    of an edge back on the sphere. A site is a face; its centre is the mean of its corners, put on the sphere.

    Faces are numbered as in SpherePHD. The icosahedron has 20 sections; seen from outside with its apex up, a section
    has rows y = 0 to 2^level - 1 from the apex and, in each, faces x = -y to y from left to right:

    .. math:: p = 4^{level}\,section + y^2 + y + x

    A face stands upright in its section where x + y is even, and is inverted elsewhere. Its own frame is that of the
    section, turned by half a turn for an inverted face: apex, left, right; neighbours to the right, left and low.

    Parameters
    ----------
    level : int
        0 to 8.

    Attributes
    ----------
    vertices : ndarray (10 * 4^level + 2, 3)
        Corners of the faces, unit vectors; those of a level come first in the next.
    faces : ndarray (P, 3)
        Apex, left and right corner of each face in its own frame, counter-clockwise from outside.
    neighbours : ndarray (P, 3)
        Faces across the right, left and low edge.
    section, row, column : ndarray (P,)
        Section 0 to 19, y and x.
    upright : ndarray (P,) of bool
        The face stands upright in its section.
    north_up : ndarray (P,) of bool
        Its apex is to the north on the sphere.

    Raises
    ------
    InputError
        If the level is not an integer from 0 to 8.

    Notes
    -----
    Lee et al., SpherePHD: Applying CNNs on a spherical polyhedron representation of 360 degree images, CVPR 2019.
    Faces are not equal in area: the largest has 1.3 times the area of the smallest.

    Examples
    --------
    >>> grid = Polyhedron(1)
    >>> grid.shape, grid.vertices.shape, grid.neighbours[0]
    ((80,), (42, 3), array([ 4, 16,  2]))
    >>> bool(np.isclose(grid.area.sum(), 4 * np.pi))
    True
    """

    def __init__(self, level: int):
        self.level = check_at_least("level", level, 0)
        if level > MOST_LEVELS:
            raise InputError(
                f"level is {level}; expected 0 to {MOST_LEVELS}, where there are {20 * 4**MOST_LEVELS:,} faces: use a "
                "lower level."
            )
        self.shape = (20 * 4**self.level,)

    @property
    def _cells(self) -> _Cells:
        return _cells(self.level)

    @property
    def vertices(self) -> np.ndarray:
        return _mesh(self.level).vertices

    @property
    def faces(self) -> np.ndarray:
        return self._cells.faces

    @property
    def neighbours(self) -> np.ndarray:
        return self._cells.neighbours

    @property
    def section(self) -> np.ndarray:
        return self._cells.section

    @property
    def row(self) -> np.ndarray:
        return self._cells.row

    @property
    def column(self) -> np.ndarray:
        return self._cells.column

    @cached_property
    def upright(self) -> np.ndarray:
        return read_only((self.row + self.column) % 2 == 0)

    @cached_property
    def north_up(self) -> np.ndarray:
        return read_only(self.upright == (self.section // 5 % 2 == 0))

    @property
    def xyz(self) -> np.ndarray:
        return _centres(self.level).xyz

    @property
    def lat(self) -> np.ndarray:
        return _centres(self.level).lat

    @property
    def lon(self) -> np.ndarray:
        return _centres(self.level).lon

    @property
    def area(self) -> np.ndarray:
        return _centres(self.level).area

    @cached_property
    def parent(self) -> np.ndarray:
        """The face of ``coarsen()`` that each face lies in: (P,)."""
        coarse = self.coarsen()
        found = np.empty(self.sites, np.int64)
        found[coarse.children] = np.arange(coarse.sites)[:, None]
        return read_only(found)

    @cached_property
    def children(self) -> np.ndarray:
        """The faces of ``refine()`` in each face: the middle one, then those to its right, left and low: (P, 4)."""
        fine = self.refine()
        # The middle child is inverted in an upright face, in the odd row, and the other way round.
        y = 2 * self.row + self.upright
        x = 2 * self.column
        middle = 4**fine.level * self.section + y * y + y + x
        return read_only(np.concatenate([middle[:, None], fine.neighbours[middle]], axis=1))

    def coarsen(self) -> Polyhedron:
        """Return the grid of the level below, whose every face is four of this one's."""
        if self.level == 0:
            raise InputError(f"{self!r} is the icosahedron itself; expected level 1 or more for a coarser grid.")
        return Polyhedron(self.level - 1)

    def refine(self) -> Polyhedron:
        """Return the grid of the level above."""
        return Polyhedron(self.level + 1)

    @property
    def poolings(self) -> int:
        """How often the resolution can be halved with the 80 faces of level 1 or more left."""
        return max(0, self.level - 1)

    def nearest(self, xyz: np.ndarray) -> np.ndarray:
        """Index of the face that holds each direction: (P, 3) -> (P,)."""
        return holding_face(self, xyz)

    def taps(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Faces (P, 6) about each direction and their weights (P, 6): linear between the centres of the faces.

        The centres of two faces that share an edge make a triangle with each end of it. In the triangle of corner v
        and centres f and g that holds the direction d

        .. math:: d = a\,v + b\,c_f + c\,c_g,\qquad w = (a, b, c) / (a + b + c)

        and the value of the corner is a mean of the 6 faces around it, of 5 at the corners of the icosahedron, with
        weights of 0.126 to 0.211, those closest to equal ones for which the mean of the centres is at the corner.
        (Equal ones would read a place that is off by 7 % of an edge where faces differ in size.) At the centre of a
        face that face is read alone; nothing jumps, no weight is negative, and the error is of second order in the
        edge.
        """
        return linear_taps(self, xyz)

    def divide(self, parts: int) -> Parts:
        """Cut each face into `parts` squared triangles: of each in turn the directions (P, 3) and solid angles (P,)."""
        apex, left, right = (self.vertices[corner] for corner in self.faces.T)
        return divide_triangles(apex, left, right, parts)

    def config(self) -> dict[str, object]:
        return {"kind": "polyhedron", "level": self.level}

    def __repr__(self) -> str:
        return f"Polyhedron({self.level})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polyhedron) and self.level == other.level

    def __hash__(self) -> int:
        return hash(("polyhedron", self.level))


def check_polyhedron(grid: object) -> Polyhedron:
    """Return a grid, refusing all but the faces of a polyhedron."""
    if not isinstance(grid, Polyhedron):
        raise InputError(f"the grid is {grid!r}; expected the faces of a polyhedron: use grids.Polyhedron.")
    return grid


class _Mesh(NamedTuple):
    """Corners, and for each section the triangle of their numbers: row y has corners 0 to y, from left to right."""

    vertices: np.ndarray
    lattice: np.ndarray


class _Cells(NamedTuple):
    section: np.ndarray
    row: np.ndarray
    column: np.ndarray
    faces: np.ndarray
    neighbours: np.ndarray


class _Centres(NamedTuple):
    xyz: np.ndarray
    lat: np.ndarray
    lon: np.ndarray
    area: np.ndarray


@lru_cache(maxsize=MOST_LEVELS + 1)
def _mesh(level: int) -> _Mesh:
    """Halve the edges of the level below."""
    if level == 0:
        high, out = 1 / np.sqrt(5), 2 / np.sqrt(5)
        ring = np.arange(5) * 2 * np.pi / 5
        north = np.stack([out * np.cos(ring), out * np.sin(ring), np.full(5, high)], axis=1)
        vertices = np.concatenate([[[0, 0, 1]], north, north * [-1, -1, 1] - [0, 0, 2 * high], [[0, 0, -1]]])
        lattice = np.full((20, 2, 2), -1, np.int32)
        lattice[:, 0, 0], lattice[:, 1] = SECTIONS[:, 0], SECTIONS[:, 1:]
        return _Mesh(read_only(vertices), read_only(lattice))
    vertices, coarse = _mesh(level - 1)
    n = 2 ** (level - 1)
    lattice = np.full((20, 2 * n + 1, 2 * n + 1), -1, np.int32)
    lattice[:, ::2, ::2] = coarse
    y, k = np.tril_indices(n)
    # The edges of all upright triangles, which are all edges: left, right and low side, and where their middles lie.
    ends = [(y, k, y + 1, k), (y, k, y + 1, k + 1), (y + 1, k, y + 1, k + 1)]
    middles = [(2 * y + 1, 2 * k), (2 * y + 1, 2 * k + 1), (2 * y + 2, 2 * k + 1)]
    pairs = np.concatenate([np.stack([coarse[:, a, b], coarse[:, c, d]], axis=-1) for a, b, c, d in ends], axis=1)
    low, high = pairs.min(axis=-1).astype(np.int64), pairs.max(axis=-1)
    _, first, number = np.unique(low * len(vertices) + high, return_index=True, return_inverse=True)
    halves = vertices[low.ravel()[first]] + vertices[high.ravel()[first]]
    halves /= np.linalg.norm(halves, axis=1, keepdims=True)
    rows, columns = (np.concatenate([m[i] for m in middles]) for i in (0, 1))
    lattice[:, rows, columns] = len(vertices) + number.reshape(pairs.shape[:2])
    return _Mesh(read_only(np.concatenate([vertices, halves])), read_only(lattice))


@lru_cache(maxsize=MOST_LEVELS + 1)
def _cells(level: int) -> _Cells:
    lattice, n = _mesh(level).lattice, 2**level
    row = np.repeat(np.arange(n), 2 * np.arange(n) + 1)
    column = np.arange(n * n) - row * row - row
    upright = (row + column) % 2 == 0
    y, k = row, (row + column) // 2
    apex, left, right = (
        np.where(upright, lattice[:, a, b], lattice[:, c, d])
        for a, b, c, d in (
            (y, k, y + 1, k + 1),
            (y + 1, k, y, np.minimum(k + 1, n)),
            (y + 1, k + 1, y, k),
        )
    )
    return _Cells(
        read_only(np.repeat(np.arange(20), n * n)),
        read_only(np.tile(row, 20)),
        read_only(np.tile(column, 20)),
        read_only(np.stack([apex, left, right], axis=-1).reshape(-1, 3).astype(np.int64)),
        read_only(_neighbours(row, column, upright, n)),
    )


def _neighbours(row: np.ndarray, column: np.ndarray, upright: np.ndarray, n: int) -> np.ndarray:
    """Faces to the right, left and low: within a section by arithmetic, over its sides from the other end of a side."""
    sign = np.where(upright, 1, -1)
    near = []
    for dx, dy in ((1, 0), (-1, 0), (0, 1)):
        x, y = column + sign * dx, row + sign * dy
        near.append(y * y + y + x)
    found = np.arange(20)[:, None, None] * n * n + np.stack(near, axis=-1)
    # The sides counter-clockwise: from the apex down the left one, along the low one, up the right one.
    y = np.arange(n)
    sides = ((1, (0, 1), y * y), (2, (1, 2), n * n - n + np.arange(-n + 1, n, 2)), (0, (2, 0), (y * y + 2 * y)[::-1]))
    along = {(s[a], s[b]): i * n * n + cells for i, s in enumerate(SECTIONS.tolist()) for _, (a, b), cells in sides}
    for i, s in enumerate(SECTIONS.tolist()):
        for slot, (a, b), cells in sides:
            found[i, cells, slot] = along[s[b], s[a]][::-1]
    return found.reshape(-1, 3)


@lru_cache(maxsize=MOST_LEVELS + 1)
def _centres(level: int) -> _Centres:
    a, b, c = (_mesh(level).vertices[corner] for corner in _cells(level).faces.T)
    xyz = a + b + c
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    lat, lon = angles(xyz)
    return _Centres(read_only(xyz), read_only(lat), read_only(wrap(lon)), read_only(solid_angles(a, b, c)))
