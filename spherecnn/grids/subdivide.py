"""Triangles divided in four, and the edges that takes."""

from __future__ import annotations

import numpy as np


def edges(faces: np.ndarray, sites: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends (E, 2) of each edge, in ascending order, and the edges ab, bc and ca (F, 3) of each face (a, b, c).

    Examples
    --------
    >>> ends, of_face = edges(np.array([[0, 1, 2], [2, 1, 3]]), 4)
    >>> ends.tolist(), of_face.tolist()
    ([[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]], [[0, 2, 1], [2, 3, 4]])
    """
    ends = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=-1).reshape(-1, 2), axis=-1)
    edge, of_face = np.unique(ends[:, 0] * sites + ends[:, 1], return_inverse=True)
    return np.stack([edge // sites, edge % sites], axis=-1), of_face.reshape(-1, 3)


def quarters(faces: np.ndarray, middles: np.ndarray) -> np.ndarray:
    """Divide each face (a, b, c) with middles (ab, bc, ca) in four; face f becomes faces 4 f to 4 f + 3.

    These are (a, ab, ca), (ab, b, bc), (ca, bc, c) and (ab, bc, ca).

    Examples
    --------
    >>> quarters(np.array([[0, 1, 2]]), np.array([[3, 4, 5]])).tolist()
    [[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]]
    """
    (a, b, c), (ab, bc, ca) = faces.T, middles.T
    children = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.stack([np.stack(child, axis=-1) for child in children], axis=1).reshape(-1, 3)


def whole(faces: np.ndarray, sites: int) -> np.ndarray | None:
    """Undo `quarters` on a closed mesh: the faces, or None if these are not quarters with the old vertices first.

    Examples
    --------
    >>> solid = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]])
    >>> np.array_equal(whole(quarters(solid, 4 + edges(solid, 4)[1]), 10), solid)
    True
    >>> whole(solid, 4) is None
    True
    """
    old = sites - 3 * len(faces) // 8  # four faces have an edge and a half between them, with a vertex on each
    if len(faces) % 8 or old < 4:
        return None
    children = faces.reshape(-1, 4, 3)
    coarse, middles = children[:, [0, 1, 2], [0, 1, 2]], children[:, 3]
    if coarse.max() >= old or middles.min() < old or not np.array_equal(quarters(coarse, middles), faces):
        return None
    return coarse
