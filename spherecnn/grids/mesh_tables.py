"""What is computed once for a mesh: angles, areas, the faces around each vertex, and trees to search it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from spherecnn.grids.base import angles, read_only, solid_angles, unit, wrap
from spherecnn.grids.divide import Parts, divide_triangles
from spherecnn.grids.locate import FaceFinder

if TYPE_CHECKING:
    from scipy.spatial import cKDTree


class MeshTables:
    """Arrays of a closed triangle mesh about the origin, each computed when it is first asked for.

    Parameters
    ----------
    vertices : ndarray (P, 3)
    faces : ndarray (F, 3)
    on_sphere : bool
        The vertices are unit vectors already, to the bit the directions.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray, on_sphere: bool = False):
        self.vertices = read_only(vertices)
        self.faces = read_only(faces)
        self.xyz = self.vertices if on_sphere else read_only(unit(vertices))

    @cached_property
    def lat(self) -> np.ndarray:
        return read_only(angles(self.xyz)[0])

    @cached_property
    def lon(self) -> np.ndarray:
        return read_only(wrap(angles(self.xyz)[1]))

    @cached_property
    def area(self) -> np.ndarray:
        """A third of the solid angle of each face around a vertex: (P,)."""
        face = solid_angles(*(self.xyz[self.faces[:, k]] for k in range(3)))
        return read_only(np.bincount(self.faces.ravel(), np.repeat(face / 3, 3), len(self.xyz)))

    @cached_property
    def fans(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners (3 F, 3) of the faces around each vertex, itself first, and where each vertex begins (P + 1,)."""
        flat = self.faces.ravel()
        place = np.argsort(flat, kind="stable")
        corners = np.stack([self.faces[place // 3, (place + k) % 3] for k in range(3)], axis=-1)
        begin = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=len(self.xyz)))])
        return read_only(corners), read_only(begin)

    @cached_property
    def tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        return cKDTree(self.xyz)

    @cached_property
    def finder(self) -> FaceFinder:
        return FaceFinder(self.xyz[self.faces])

    def divide(self, parts: int) -> Parts:
        """Cut what is around each vertex, see `MeshGrid.divide`."""
        corners, begin = self.fans
        first, around = begin[:-1], np.diff(begin)
        finer = math.ceil(parts / 12**0.5)
        for k in range(around.max()):
            missing = around <= k
            v, left, right = (self.xyz[corner] for corner in corners[first + np.where(missing, 0, k)].T)
            middle = (v + left + right) / 3
            for a, b, c in ((v, (v + left) / 2, middle), (v, middle, (v + right) / 2)):
                for xyz, area in divide_triangles(a, b, c, finer):
                    yield xyz, np.where(missing, 0.0, area)
