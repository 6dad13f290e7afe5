"""Which face of a subdivided icosahedron holds a direction: down the levels, one child of four at each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from spherecnn.grids.base import unit

MOST_LEVELS = 8  # to which an icosahedron is subdivided here
# A direction this close to an edge, times the length of the edge, is on it: rounding must not choose the face.
_ON_EDGE = 1e-15


def descend(xyz: np.ndarray, centres0: np.ndarray, steps: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    r"""Face of the finest level that holds each direction.

    The face of the icosahedron is the one with the nearest centre. A face is then cut into a middle child and three
    in its corners. The direction :math:`d` is in the corner child beyond edge k of the middle one where

    .. math:: d \cdot (v_k \times v_{k+1}) < 0

    with :math:`v_k, v_{k+1}` the ends of the edge, and else in the middle child, to which its edges belong. Of two
    faces of the icosahedron that meet in a direction, the one with the lower number is taken.

    Parameters
    ----------
    xyz : ndarray (P, 3)
        Directions of any length but zero.
    centres0 : ndarray (F0, 3)
        Unit vectors to the centres of the faces of the coarsest level.
    steps : iterable of (planes, children)
        One pair for each level below, coarse to fine. ``planes`` (F, 3, 3): of each coarse face the cross products of
        the corners of its middle child, in turn, not normalised. ``children`` (F, 4): its faces one level below, the
        middle one, then those beyond edge 0, 1 and 2.

    Returns
    -------
    ndarray (P,) of int64

    Examples
    --------
    >>> corners = np.eye(3)  # one octant, cut once
    >>> v = (corners + np.roll(corners, -1, axis=0)) / 2**0.5  # the middles of its sides
    >>> planes = np.cross(v, np.roll(v, -1, axis=0))[None]
    >>> children = np.array([[3, 1, 2, 0]])  # beyond edge 0 lies the corner y, then z, then x
    >>> descend(np.array([[1.0, 1, 1], [5, 1, 1], [1, 5, 1], [1, 1, 5]]), np.ones((1, 3)), [(planes, children)])
    array([3, 0, 1, 2])
    """
    xyz = unit(xyz)
    towards = xyz @ centres0.T
    face = np.argmax(towards >= towards.max(axis=-1, keepdims=True) - _ON_EDGE, axis=-1)
    for planes, children in steps:
        side = np.einsum("pki,pi->pk", planes[face], xyz)
        beyond = np.argmin(side, axis=-1)
        out = np.take_along_axis(side, beyond[:, None], axis=-1)[:, 0] < -_ON_EDGE
        face = children[face, np.where(out, beyond + 1, 0)]
    return face.astype(np.int64)
