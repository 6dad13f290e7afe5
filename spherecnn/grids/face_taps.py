"""Reading the faces of a polyhedron at any direction: the face that holds it, and the faces about it with weights."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from spherecnn.grids.base import barycentric, read_only, unit
from spherecnn.grids.descend import descend

if TYPE_CHECKING:
    from spherecnn.grids.polyhedron import Polyhedron


def holding_face(grid: Polyhedron, xyz: np.ndarray) -> np.ndarray:
    """Face that holds each direction (P, 3): (P,)."""
    levels = [grid]
    while levels[-1].level:
        levels.append(levels[-1].coarsen())
    return descend(xyz, levels[-1].xyz, (_step(coarse) for coarse in levels[:0:-1]))


def linear_taps(grid: Polyhedron, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces (P, 6) and weights (P, 6) of `Polyhedron.taps`."""
    xyz = unit(xyz)
    face = holding_face(grid, xyz)
    corner, beside = _fan(grid, face, xyz)
    at_corner, own, other = barycentric(xyz, grid.vertices[corner], grid.xyz[face], grid.xyz[beside]).T
    faces, spread = _around(grid)
    sites, spread = faces[corner], spread[corner]
    weights = at_corner[:, None] * spread
    for one, share in ((face, own), (beside, other)):
        weights += np.where((sites == one[:, None]) & (spread > 0), share[:, None], 0.0)
    return sites.astype(np.int64), weights


def _fan(grid: Polyhedron, face: np.ndarray, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corner v and neighbour g of each face f whose triangle (v, f, g) between the centres holds the direction."""
    # counter-clockwise about the centre: a corner, the neighbour across the edge after it, the next corner
    corners, beside = grid.faces[face], grid.neighbours[face][:, [1, 2, 0]]
    normal = np.cross(xyz, grid.xyz[face])
    ray = np.empty((len(face), 7))
    for k in range(3):
        ray[:, 2 * k] = np.einsum("pi,pi->p", normal, grid.vertices[corners[:, k]])
        ray[:, 2 * k + 1] = np.einsum("pi,pi->p", normal, grid.xyz[beside[:, k]])
    ray[:, 6] = ray[:, 0]
    sector = np.argmax(np.minimum(ray[:, :-1], -ray[:, 1:]), axis=-1)
    row = np.arange(len(face))
    return corners[row, (sector + 1) // 2 % 3], beside[row, sector // 2]


@lru_cache(maxsize=9)
def _around(grid: Polyhedron) -> tuple[np.ndarray, np.ndarray]:
    r"""The faces around each corner (V, 6), the first again where there are five, and their weights (V, 6).

    Weights are the closest to equal ones whose mean of the centres is at the corner v, seen along the sphere. With
    :math:`t_i` the centres on the plane that touches at v and :math:`m` their mean, these are

    .. math:: w_i = \frac16 - (t_i - m)^T \Big(\sum_j (t_j - m) (t_j - m)^T\Big)^{-1} m
    """
    by_corner = np.argsort(grid.faces.ravel(), kind="stable") // 3
    faces, weights = np.empty((len(grid.vertices), 6), np.int32), np.empty((len(grid.vertices), 6))
    # the corners of the icosahedron come first
    faces[:12, :5], faces[12:] = by_corner[:60].reshape(12, 5), by_corner[60:].reshape(-1, 6)
    faces[:12, 5], weights[:12] = faces[:12, 0], [0.2, 0.2, 0.2, 0.2, 0.2, 0.0]
    corner, first = grid.vertices[12:], grid.xyz[faces[12:, 0]]
    right = np.cross(corner, first)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    plane = np.stack([right, np.cross(corner, right)], axis=-1)
    away = np.stack([np.einsum("vi,vik->vk", grid.xyz[faces[12:, i]], plane) for i in range(6)], axis=1)
    mean = away.mean(axis=1, keepdims=True)
    away -= mean
    spread = np.einsum("vik,vil->vkl", away, away)
    weights[12:] = 1 / 6 - np.einsum("vik,vkl,vl->vi", away, np.linalg.inv(spread), mean[:, 0])
    return read_only(faces), read_only(weights)


@lru_cache(maxsize=8)
def _step(coarse: Polyhedron) -> tuple[np.ndarray, np.ndarray]:
    """Planes and children of `descend` from a level to the next."""
    fine = coarse.refine()
    # the right edge runs from the right corner to the apex, then follow the left and the low one
    corners = fine.vertices[fine.faces[coarse.children[:, 0]][:, [2, 0, 1]]]
    return read_only(np.cross(corners, np.roll(corners, -1, axis=1))), coarse.children
