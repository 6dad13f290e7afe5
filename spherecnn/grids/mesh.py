"""Any closed triangle mesh about the origin as a grid: its sites are the vertices."""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import cached_property

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids.base import Grid, barycentric, unit
from spherecnn.grids.divide import Parts
from spherecnn.grids.mesh_checks import check_mesh
from spherecnn.grids.mesh_tables import MeshTables
from spherecnn.grids.subdivide import edges, quarters, whole

# Vertices this close to the unit sphere are on it, and a finer mesh stays on it.
_ON_SPHERE = 1e-9
# Fewer vertices than those of the icosahedron divided once do not tell places apart.
_FEWEST = 42
# The text of so many vertices and their faces, 66 MB, fits into the header of a checkpoint.
_MOST_SAVED = 1_000_000


class MeshGrid(Grid):
    r"""Vertices of a closed triangle mesh about the origin: shape (P,).

    Seen from the origin every direction meets exactly one face, from inside. Vertices may be at any distance; a site is
    in the direction of its vertex, ``xyz``. A vertex stands for a third of each face around it on the sphere, its
    barycentric share:

    .. math:: area_v = \frac13 \sum_{f \ni v} |f|,\qquad
        \tan\frac{|f|}2 = \frac{\det(a, b, c)}{1 + a \cdot b + b \cdot c + c \cdot a}

    Source of the areas of faces: van Oosterom and Strackee, The solid angle of a plane triangle, 1983.

    Parameters
    ----------
    vertices : array (P, 3)
        Points, kept as float64.
    faces : array (F, 3)
        Vertices of each triangle, counterclockwise seen from outside.

    Attributes
    ----------
    vertices : ndarray (P, 3)
        The points as given.
    faces : ndarray (F, 3)
        int64.

    Raises
    ------
    InputError
        If the arrays are not of these shapes and kinds, a coordinate is not finite, an index is out of range, a vertex
        is there twice or not in use, a face has no area, an edge has not two faces or a vertex not one ring of them
        (a mesh that is not closed or no manifold), faces are clockwise, or the origin does not see each face from
        inside.

    Notes
    -----
    Two are equal where their vertices and faces are, to the bit. An `Icosphere` is equal to an Icosphere only.

    Examples
    --------
    >>> corners = np.concatenate([np.eye(3), -np.eye(3)])  # an octahedron: +x, +y, +z, -x, -y, -z
    >>> north = [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2]]
    >>> south = [[1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
    >>> grid = MeshGrid(corners, north + south)
    >>> grid
    MeshGrid(6 vertices, 8 faces)
    >>> (grid.area / np.pi).round(4)
    array([0.6667, 0.6667, 0.6667, 0.6667, 0.6667, 0.6667])
    >>> grid.refine().coarsen() == grid
    True
    """

    def __init__(self, vertices: object, faces: object):
        self._hold(MeshTables(*check_mesh(vertices, faces)))

    def _hold(self, tables: MeshTables) -> None:
        self._own = tables
        self.shape = (len(tables.vertices),)

    @property
    def _tables(self) -> MeshTables:
        return self._own

    @property
    def vertices(self) -> np.ndarray:
        return self._tables.vertices

    @property
    def faces(self) -> np.ndarray:
        return self._tables.faces

    @property
    def xyz(self) -> np.ndarray:
        return self._tables.xyz

    @property
    def lat(self) -> np.ndarray:
        return self._tables.lat

    @property
    def lon(self) -> np.ndarray:
        return self._tables.lon

    @property
    def area(self) -> np.ndarray:
        return self._tables.area

    def nearest(self, xyz: np.ndarray) -> np.ndarray:
        """Index of the vertex at the smallest angle from each direction: (P, 3) -> (P,)."""
        return self._tables.tree.query(unit(xyz))[1].astype(np.int64)

    def face_of(self, xyz: np.ndarray) -> np.ndarray:
        """Index of the face that holds each direction: (P, 3) -> (P,). Of two that meet there, always the same."""
        return self._tables.finder.find(unit(xyz))

    def taps(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Corners (P, 3) of the face that holds each direction and their barycentric weights (P, 3).

        .. math:: d = a\,v_1 + b\,v_2 + c\,v_3,\qquad w = (a, b, c) / (a + b + c)

        where the direction meets the flat triangle between the vertices as given. Neighbouring faces agree on their
        edge, a linear function on the triangle is read exactly, and a smooth one with an error of second order in the
        length of an edge.
        """
        xyz = unit(xyz)
        sites = self.faces[self.face_of(xyz)]
        return sites, barycentric(xyz, *(self.vertices[sites[:, k]] for k in range(3)))

    def divide(self, parts: int) -> Parts:
        """Cut what is around each vertex into parts: of each in turn the directions (P, 3) and solid angles (P,).

        Each face around, between the directions of its corners, is cut by the lines from its middle to the middles of
        its sides; the two triangles at the vertex are its own. They are cut further, into `parts` squared in all or
        some more where six faces meet.
        """
        return self._tables.divide(parts)

    def refine(self) -> MeshGrid:
        """Return the mesh with every face divided in four: these vertices first, then the middles of the edges.

        Face (a, b, c) with the middles ab, bc and ca becomes (a, ab, ca), (ab, b, bc), (ca, bc, c) and (ab, bc, ca),
        faces 4 f to 4 f + 3. The middles follow in the order of the lower, then the higher end of their edge. If all
        vertices lie on the unit sphere to 1e-9 the middles are put there too, else they stay on the edges.
        """
        ends, of_face = edges(self.faces, self.sites)
        middles = self.vertices[ends].mean(axis=1)
        if np.abs(np.linalg.norm(self.vertices, axis=1) - 1).max() < _ON_SPHERE:
            middles = unit(middles)
        fine = object.__new__(MeshGrid)  # divided faces of a good mesh are a good mesh
        vertices = np.concatenate([self.vertices, middles])
        fine._hold(MeshTables(vertices, quarters(self.faces, self.sites + of_face)))
        fine.__dict__["_below"] = self
        return fine

    def coarsen(self) -> MeshGrid:
        """Return the mesh whose faces were each divided in four, with the first of these vertices; it must be so made.

        Raises
        ------
        InputError
            If the faces do not come in fours as `refine` makes them, or the larger ones are no mesh about the origin.
        """
        if self._below is None:
            raise InputError(
                f"{self!r} cannot be coarsened; expected a mesh made by refine(), whose faces come in fours: refine a "
                "coarse mesh, or resample to an Icosphere."
            )
        return self._below

    @cached_property
    def _below(self) -> MeshGrid | None:
        faces = whole(self.faces, self.sites)
        if faces is None:
            return None
        try:
            return MeshGrid(self.vertices[: faces.max() + 1], faces)
        except InputError:
            return None

    @property
    def poolings(self) -> int:
        """How often the mesh can be coarsened with the 42 vertices of an icosahedron divided once left, or more."""
        count, below = 0, self._below
        while below is not None and below.sites >= _FEWEST:
            count, below = count + 1, below._below
        return count

    def config(self) -> dict[str, object]:
        """Return what rebuilds this grid: the mesh it was refined from, as base64 text, and how often it was refined.

        Vertices are float64 and faces int32, little-endian.

        Raises
        ------
        InputError
            If there are more than a million vertices to keep.
        """
        base, times = self, 0
        while (below := base._below) is not None and below.refine() == base:
            base, times = below, times + 1
        if base.sites > _MOST_SAVED:
            raise InputError(
                f"{base!r} is too large to be kept with a model; expected at most {_MOST_SAVED:,} vertices: use a "
                "coarser mesh, or refine() a coarse one, of which only the coarse one is kept."
            )
        return {
            "kind": "mesh",
            "vertices": base64.b64encode(base.vertices.astype("<f8").tobytes()).decode(),
            "faces": base64.b64encode(base.faces.astype("<i4").tobytes()).decode(),
            "refined": times,
        }

    def __repr__(self) -> str:
        return f"MeshGrid({self.sites} vertices, {len(self.faces)} faces)"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            type(other) is MeshGrid
            and np.array_equal(self.vertices, other.vertices)
            and np.array_equal(self.faces, other.faces)
        )

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        digest = hashlib.blake2b((self.vertices + 0.0).tobytes(), digest_size=8)  # minus zero is equal to zero
        digest.update(self.faces.tobytes())
        return hash(("mesh", digest.digest()))


def mesh_from_config(vertices: str, faces: str, refined: int = 0) -> MeshGrid:
    """Rebuild a mesh from the fields of `MeshGrid.config`.

    Examples
    --------
    >>> corners = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    >>> grid = MeshGrid(corners, [[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]]).refine()
    >>> fields = grid.config()
    >>> fields.pop("kind"), fields["refined"]
    ('mesh', 1)
    >>> mesh_from_config(**fields) == grid
    True
    """
    grid = MeshGrid(_decoded("vertices", vertices, "<f8"), _decoded("faces", faces, "<i4"))
    for _ in range(check_at_least("refined", refined, 0)):
        grid = grid.refine()
    return grid


def _decoded(name: str, text: object, dtype: str) -> np.ndarray:
    try:
        return np.frombuffer(base64.b64decode(str(text), validate=True), dtype).reshape(-1, 3)
    except (ValueError, binascii.Error):
        raise InputError(
            f"the {name} of the mesh in the config are damaged; expected base64 text of {dtype} numbers in rows of "
            "three: use the config that MeshGrid.config gave."
        ) from None
