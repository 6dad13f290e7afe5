"""The icosphere: vertices of an icosahedron whose faces are divided in four, again and again."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids.base import read_only, unit
from spherecnn.grids.descend import MOST_LEVELS, descend
from spherecnn.grids.mesh import MeshGrid
from spherecnn.grids.mesh_tables import MeshTables
from spherecnn.grids.subdivide import edges, quarters

_GOLDEN = (1 + 5**0.5) / 2
# Rectangles with sides in the golden ratio, in the planes xy, yz and zx, and the faces between their corners.
_CORNERS = [
    [(-1, _GOLDEN, 0), (1, _GOLDEN, 0), (-1, -_GOLDEN, 0), (1, -_GOLDEN, 0)],
    [(0, -1, _GOLDEN), (0, 1, _GOLDEN), (0, -1, -_GOLDEN), (0, 1, -_GOLDEN)],
    [(_GOLDEN, 0, -1), (_GOLDEN, 0, 1), (-_GOLDEN, 0, -1), (-_GOLDEN, 0, 1)],
]
_FACES = [
    [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11)],
    [(1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6), (7, 1, 8)],
    [(3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9)],
    [(4, 9, 5), (2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)],
]


class Icosphere(MeshGrid):
    r"""Vertices of the icosahedron subdivided `level` times: shape (10 4^level + 2,).

    Each step puts a vertex on the middle of every edge, moves it out to the sphere, and divides a face (a, b, c) into
    (a, ab, ca), (ab, b, bc), (ca, bc, c) and (ab, bc, ca). The order of vertices and faces is that of the published
    meshes, so that their data files fit: vertices of the level below come first, and new ones follow in the order of
    the bytes of their coordinates. Face f of the level below becomes faces 4 f to 4 f + 3. The coordinates are those
    of the published meshes to the bit; these normalise all vertices at each level, so that a vertex may differ from
    itself a level below by 1e-15. From level 1 on vertices 12 and 13 are the poles.

    A vertex stands for a third of each face around it on the sphere, its barycentric share:

    .. math:: area_v = \frac13 \sum_{f \ni v} |f|,\qquad
        \tan\frac{|f|}2 = \frac{\det(a, b, c)}{1 + a \cdot b + b \cdot c + c \cdot a}

    The Voronoi cell, where the vertex is the nearest, is up to 15 % larger at the twelve vertices with five neighbours,
    and within 0.3 % of the share elsewhere on fine levels. As weights of an integral the shares are better: from level
    2 on the harmonics of degree 1 to 7 sum to a tenth of what they do over the cells.

    Source: Jiang et al., Spherical CNNs on unstructured grids, ICLR 2019, section 3; areas of faces by van Oosterom and
    Strackee, The solid angle of a plane triangle, 1983.

    Parameters
    ----------
    level : int
        Number of subdivisions, 0 to 8.

    Attributes
    ----------
    vertices : ndarray (P, 3)
        Unit vectors, the same array as ``xyz``.
    faces : ndarray (F, 3)
        Vertices of each of the 20 4^level faces, counterclockwise seen from outside.

    Raises
    ------
    InputError
        If the level is not an integer from 0 to 8.

    Examples
    --------
    >>> grid = Icosphere(1)
    >>> grid.shape, grid.faces.shape
    ((42,), (80, 3))
    >>> grid.vertices[12:14]
    array([[ 0.,  0.,  1.],
           [ 0.,  0., -1.]])
    >>> bool(np.isclose(grid.area.sum(), 4 * np.pi))
    True
    """

    def __init__(self, level: int):
        self.level = check_at_least("level", level, 0)
        if self.level > MOST_LEVELS:
            raise InputError(f"level is {level}; expected at most {MOST_LEVELS}, which is 655,362 vertices: lower it.")
        self.shape = (10 * 4**self.level + 2,)

    @property
    def _tables(self) -> MeshTables:
        return _tables(self.level)

    def coarsen(self) -> Icosphere:
        """Return the grid one level below, whose vertices are the first of this one."""
        if self.level == 0:
            raise InputError(f"{self!r} cannot be coarsened; expected at least level 1: start from a finer grid.")
        return Icosphere(self.level - 1)

    def refine(self) -> Icosphere:
        """Return the grid one level above, which adds the middles of the edges."""
        return Icosphere(self.level + 1)

    @property
    def poolings(self) -> int:
        """How often the mesh can be coarsened with the 42 vertices of level 1 left, or more."""
        return max(0, self.level - 1)

    def face_of(self, xyz: np.ndarray) -> np.ndarray:
        """Index of the face that holds each direction: (P, 3) -> (P,). Of two that meet there, always the same."""
        return descend(unit(xyz), _centres0(), (_step(level) for level in range(self.level)))

    def config(self) -> dict[str, object]:
        return {"kind": "icosphere", "level": self.level}

    def __repr__(self) -> str:
        return f"Icosphere({self.level})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Icosphere) and self.level == other.level

    def __hash__(self) -> int:
        return hash(("icosphere", self.level))


@lru_cache(maxsize=MOST_LEVELS + 1)
def _tables(level: int) -> MeshTables:
    return MeshTables(*_mesh(level), on_sphere=True)


@lru_cache(maxsize=MOST_LEVELS + 1)
def _mesh(level: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces in the published order."""
    if level == 0:
        vertices = np.array(_CORNERS).reshape(12, 3) / (1 + _GOLDEN**2) ** 0.5
        return read_only(vertices + 0.0), read_only(np.array(_FACES, np.int64).reshape(20, 3))
    vertices, faces = _mesh(level - 1)
    ends, of_face = edges(faces, len(vertices))
    middle = (vertices[ends[:, 0]] + vertices[ends[:, 1]]) / 2
    order = _published_order(middle)
    number = np.empty(len(order), np.int64)
    number[order] = len(vertices) + np.arange(len(order))
    fine = quarters(faces, number[of_face])
    return read_only(_out_to_sphere(np.concatenate([vertices, middle[order]]))), read_only(fine)


def _published_order(middle: np.ndarray) -> np.ndarray:
    """Order of new vertices (E, 3) in the published meshes: as strings of bytes of the coordinates times 1e8."""
    whole = np.round(middle * 1e8 - 1e-6).astype(np.int32).view(np.uint32)
    x, y, z = whole.byteswap().T
    return np.lexsort((z, y, x))


def _out_to_sphere(xyz: np.ndarray) -> np.ndarray:
    """Points moved out to the unit sphere in the steps of the published meshes, which decide the last bits."""
    x, y, z = xyz.T
    length = np.sqrt(x * x + y * y + z * z)[:, None]
    return xyz + xyz / length * (1 - length)


@lru_cache(maxsize=1)
def _centres0() -> np.ndarray:
    vertices, faces = _mesh(0)
    return read_only(unit(vertices[faces].sum(axis=1)))


@lru_cache(maxsize=MOST_LEVELS)
def _step(level: int) -> tuple[np.ndarray, np.ndarray]:
    """Planes and children of `descend` from this level to the next."""
    vertices, faces = _mesh(level + 1)
    corners = vertices[faces[3::4]]
    children = 4 * np.arange(len(corners))[:, None] + np.array([3, 1, 2, 0])
    return read_only(np.cross(corners, np.roll(corners, -1, axis=1))), read_only(children)
