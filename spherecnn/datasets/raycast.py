"""Rays from the sphere through its centre and the triangles that they meet first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

# Pieces of triangles are halved until a cap of this chord holds each: long triangles are covered by many small caps.
CHORD = 0.1
# A piece at the centre never fits a cap; after so many halvings its triangle is tried on every ray, which costs less.
HALVINGS = 16
# Caps are wider by these: a share, and a length.
WIDER = 1 + 1e-9, 1e-12
# An edge belongs to its triangle to this share of the lengths of its ends, so that no ray slips through between two.
EDGE = 1e-12
# Pairs of a ray and a triangle that are looked at together.
PAIRS = 1 << 20


def first_hits(triangles: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Where rays from the unit sphere through its centre first meet triangles.

    The ray of direction :math:`d` starts at :math:`d`, passes the centre and goes on to :math:`-d`. It meets the
    triangle :math:`(a, b, c)` at :math:`s\,d` with

    .. math:: u = d \cdot (b \times c),\quad v = d \cdot (c \times a),\quad w = d \cdot (a \times b),\qquad
        s = \frac{\det(a, b, c)}{u + v + w}

    if u, v and w have one sign, in float64. Edges belong to the triangle, so that no ray slips through a closed mesh;
    where several triangles are met at one point, one of them is taken. A triangle that a ray runs along is not met.

    Parameters
    ----------
    triangles : ndarray (F, 3, 3)
        Corners within the unit sphere, in either sense.
    xyz : ndarray (P, 3)
        Unit directions.

    Returns
    -------
    height : ndarray (P,)
        s in [-1, 1], negative beyond the centre; NaN where a ray meets nothing.
    face : ndarray (P,)
        Index of the triangle; -1 where there is none.

    Examples
    --------
    >>> square = 0.5 * np.array([[[1, -1, -1], [1, 1, -1], [1, 1, 1]], [[1, -1, -1], [1, 1, 1], [1, -1, 1]]])
    >>> first_hits(square, np.array([[0.8, 0.6, 0.0], [0.0, 0.0, 1.0]]))
    (array([0.625,   nan]), array([ 0, -1]))
    """
    from scipy.spatial import cKDTree

    height, face = np.full(len(xyz), -np.inf), np.full(len(xyz), -1)
    lines, caps = _Lines(triangles), _Caps(triangles)
    for side in (1, -1):  # what lies beyond the centre shows only where nothing lies before it
        rays = np.flatnonzero(face < 0)
        if len(rays) == 0:
            break
        for ray, near in caps.pairs(cKDTree(side * xyz[rays])):
            hit, near, s = lines.meet(rays[ray], near, xyz)
            there = side * s >= 0
            _keep_highest(height, face, hit[there], near[there], s[there])
    return np.where(face < 0, np.nan, height), face


def _keep_highest(height: np.ndarray, face: np.ndarray, ray: np.ndarray, near: np.ndarray, s: np.ndarray) -> None:
    """Enter the greatest height of each ray, of equal ones that of the first triangle."""
    order = np.lexsort((near, -s, ray))
    first = order[np.flatnonzero(np.diff(ray[order], prepend=-1))]
    first = first[s[first] > height[ray[first]]]
    height[ray[first]], face[ray[first]] = s[first], near[first]


class _Lines:
    """Triangles as lines through the centre see them."""

    def __init__(self, triangles: np.ndarray):
        after = np.roll(triangles, -1, axis=1)
        self.edges = np.cross(triangles, after)
        self.slack = EDGE * np.linalg.norm(triangles, axis=-1) * np.linalg.norm(after, axis=-1)
        self.volume = np.einsum("fi,fi->f", self.edges[:, 0], triangles[:, 2])

    def meet(self, ray: np.ndarray, near: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of pairs of a ray and a triangle those that meet, and the height at which they do."""
        parts = np.einsum("nki,ni->nk", self.edges[near], xyz[ray])
        total = parts.sum(axis=1)
        inside = (parts * np.sign(total)[:, None] >= -self.slack[near]).all(axis=1) & (total != 0)
        ray, near = ray[inside], near[inside]
        return ray, near, self.volume[near] / total[inside]


class _Caps:
    """Caps on the sphere that cover what triangles hide of it from the centre.

    Attributes
    ----------
    centre, chord, face : ndarray (M, 3), (M,), (M,)
        Of each cap, and the triangle that it belongs to.
    everywhere : ndarray
        The triangles that touch the centre, which every ray may meet.
    """

    def __init__(self, triangles: np.ndarray):
        pieces, face = triangles, np.arange(len(triangles))
        done: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for _ in range(HALVINGS):
            corners, centre = _unit(pieces), _unit(_unit(pieces).sum(axis=1))
            chord = np.linalg.norm(corners - centre[:, None], axis=-1).max(axis=1)
            small = chord < CHORD
            done.append((centre[small], chord[small], face[small]))
            pieces, corners, face = pieces[~small], corners[~small], face[~small]
            if len(pieces) == 0:
                break
            pieces, face = _halve(pieces, corners), np.concatenate([face, face])
        self.centre, chord, self.face = (np.concatenate(part) for part in zip(*done, strict=True))
        self.chord = chord * WIDER[0] + WIDER[1]
        self.everywhere = np.unique(face)

    def pairs(self, tree: cKDTree) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rays of a tree and triangles that may meet, about a million pairs at a time."""
        counts = tree.query_ball_point(self.centre, self.chord, return_length=True)
        some = np.flatnonzero(counts)
        group = np.cumsum(counts[some]) // PAIRS
        for part in np.split(some, np.flatnonzero(np.diff(group)) + 1):
            found = tree.query_ball_point(self.centre[part], self.chord[part], return_sorted=False)
            rays = np.fromiter(chain.from_iterable(found), np.int64, counts[part].sum())
            yield rays, np.repeat(self.face[part], counts[part])
        for face in self.everywhere:
            yield np.arange(tree.n), np.full(tree.n, face)


def _unit(xyz: np.ndarray) -> np.ndarray:
    """Vectors of length 1; zero stays zero, which fits no cap."""
    length = np.linalg.norm(xyz, axis=-1, keepdims=True)
    return xyz / np.where(length > 0, length, 1)


def _halve(pieces: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Cut triangles in two at the middle of the edge that is the longest seen from the centre."""
    longest = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=-1).argmax(axis=1)
    n = np.arange(len(pieces))
    a, b, c = (pieces[n, (longest + k) % 3] for k in range(3))
    middle = (a + b) / 2
    return np.concatenate([np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)])
