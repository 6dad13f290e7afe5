"""Which face of any mesh holds a direction."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from spherecnn.grids.base import unit

# A direction this close to the plane of an edge, in radians, is on it: rounding must not choose the face.
_ON_EDGE = 1e-14
# Faces with the nearest middles, which are tried first.
_TRIED = 4
# Directions located at a time: the second number for those that need every face about them.
_MANY, _FEW = 1 << 17, 1 << 11


class FaceFinder:
    r"""Finds the face of a mesh that holds a direction, whatever the sizes and shapes of the faces.

    A direction :math:`d` is in the face with corners :math:`v_0, v_1, v_2` where

    .. math:: \min_k \frac{d \cdot (v_k \times v_{k+1})}{|v_k \times v_{k+1}|} \ge 0

    Faces with the nearest middles are tried first. A direction on an edge, or in none of these, is compared with every
    face whose cap, the smallest circle about its middle with its corners inside, holds the direction: the lowest
    number is taken of those that hold it. Faces are sorted by the size of their caps, so that a few large ones do not
    make all others candidates.

    Parameters
    ----------
    corners : ndarray (F, 3, 3)
        Unit vectors to the corners of faces that cover the sphere once, counterclockwise.

    Examples
    --------
    >>> v = np.array([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
    >>> finder = FaceFinder(v[[[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]]])
    >>> finder.find(-v).tolist(), finder.find(v).tolist()  # middles of faces, and corners
    ([2, 3, 1, 0], [0, 0, 0, 1])
    """

    def __init__(self, corners: np.ndarray):
        self.corners = corners
        a, b, c = corners.transpose(1, 0, 2)
        middle = unit(corners.sum(axis=1))
        # a cap of less than half the sphere holds the whole face; the one through the corners always is
        wide = np.einsum("fi,fki->fk", middle, corners).min(axis=1) < 0.1
        middle[wide] = unit(np.cross(b - a, c - a)[wide])
        self.middle = middle
        self.radius = np.linalg.norm(corners - middle[:, None], axis=-1).max(axis=1)
        self.sine = np.linalg.norm(np.cross(corners, np.roll(corners, -1, axis=1)), axis=-1)
        self.tree = cKDTree(middle)

    @cached_property
    def _sizes(self) -> list[tuple[float, np.ndarray, cKDTree]]:
        """Radius, numbers and tree of the faces of each size, within a factor of two."""
        octave = np.frexp(self.radius)[1]
        groups = [np.flatnonzero(octave == size) for size in np.unique(octave)]
        return [(float(self.radius[g].max()) * (1 + 1e-9) + 1e-13, g, cKDTree(self.middle[g])) for g in groups]

    def find(self, xyz: np.ndarray) -> np.ndarray:
        """Face that holds each unit vector: (P, 3) -> (P,)."""
        face = np.empty(len(xyz), np.int64)
        for start in range(0, len(xyz), _MANY):
            part = xyz[start : start + _MANY]
            tried = self.tree.query(part, k=_TRIED)[1]
            inside = self._inside(part.repeat(_TRIED, axis=0), tried.ravel()).reshape(tried.shape)
            best = inside.argmax(axis=1)[:, None]
            found = np.take_along_axis(tried, best, axis=1)[:, 0]
            unsure = np.flatnonzero(np.take_along_axis(inside, best, axis=1)[:, 0] <= _ON_EDGE)
            for k in range(0, len(unsure), _FEW):
                few = unsure[k : k + _FEW]
                found[few] = self._search(part[few])
            face[start : start + _MANY] = found
        return face

    def _search(self, xyz: np.ndarray) -> np.ndarray:
        """Compare directions with every face whose cap holds them."""
        rows, candidates = [], []
        for radius, faces, tree in self._sizes:
            near = tree.query_ball_point(xyz, radius)
            rows.append(np.repeat(np.arange(len(xyz)), [len(n) for n in near]))
            candidates.append(faces[np.concatenate(near).astype(np.int64)])
        row, face = np.concatenate(rows), np.concatenate(candidates)
        outside = np.maximum(-self._inside(xyz[row], face) - _ON_EDGE, 0)
        order = np.lexsort((face, outside, row))
        first = np.searchsorted(row[order], np.arange(len(xyz)))
        return face[order[first]]

    def _inside(self, xyz: np.ndarray, face: np.ndarray) -> np.ndarray:
        """How far each direction (P, 3) is inside of a face (P,): the least sine of the angles to its sides."""
        away = self.corners[face] - xyz[:, None]  # differences keep the digits of small triangles
        least = np.full(len(xyz), np.inf)
        for k in range(3):
            volume = np.einsum("pi,pi->p", xyz, np.cross(away[:, k], away[:, (k + 1) % 3]))
            np.minimum(least, volume / self.sine[face, k], out=least)
        return least
