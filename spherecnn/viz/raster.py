"""Triangles seen from far away, pixel by pixel: which one is in front, and where in it the pixel is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Pixels tried at a time, so that the tables of a large view are never held whole.
_TRIED = 1 << 21


def rasterise(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the foremost of triangles in each pixel of a square view, and its weights there.

    .. math:: p = w_0 a + w_1 b + w_2 c,\qquad w_0 + w_1 + w_2 = 1

    with p the middle of the pixel. Triangles whose corners run clockwise are seen from behind and left out.

    Parameters
    ----------
    corners : ndarray (F, 3, 3)
        Of each corner the depth towards the viewer, then right and up in [-1, 1].
    size : int
        Pixels along a side of the view.

    Returns
    -------
    ndarray (size, size)
        Index of the triangle, -1 where there is none. The first row is at the top.
    ndarray (size, size, 3)
        Weights of the corners.

    Examples
    --------
    >>> face, weights = rasterise(np.array([[[0.0, -1, -1], [0, 3, -1], [0, -1, 3]]]), 2)
    >>> face.tolist(), weights[1, 0].tolist()
    ([[0, 0], [0, 0]], [0.75, 0.125, 0.125])
    """
    face = np.full(size * size, -1, np.int64)
    weights = np.zeros((size * size, 3))
    nearest = np.full(size * size, -np.inf)
    for pixel, depth, index, weight in _candidates(corners, size):
        seen = np.flatnonzero(depth > nearest[pixel])
        seen = seen[np.argsort(depth[seen], kind="stable")]  # of several in one pixel the last is kept, the foremost
        at = pixel[seen]
        face[at], weights[at], nearest[at] = index[seen], weight[seen], depth[seen]
    return face.reshape(size, size), weights.reshape(size, size, 3)


def _candidates(corners: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Pixels in the triangles seen from the front: index of the pixel, depth, triangle, weights."""
    x, y = (corners[..., 1] + 1) * size / 2 - 0.5, (1 - corners[..., 2]) * size / 2 - 0.5
    # rows run down, so that from the front the area is negative
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    low = np.stack([np.ceil(v.min(axis=1)).clip(0, size) for v in (x, y)], axis=-1).astype(np.int64)
    high = np.stack([np.floor(v.max(axis=1)).clip(-1, size - 1) for v in (x, y)], axis=-1).astype(np.int64)
    extent = (high - low).max(axis=1) + 1
    for width in 2 ** np.arange(int(np.ceil(np.log2(size))) + 1):
        of_width = np.flatnonzero((area < 0) & (high >= low).all(axis=1) & (extent <= width) & (2 * extent > width))
        for some in np.array_split(of_width, len(of_width) * width**2 // _TRIED + 1):
            yield _inside(x[some], y[some], corners[some, :, 0], area[some], low[some], int(width), size, some)


def _inside(
    x: np.ndarray,
    y: np.ndarray,
    depth: np.ndarray,
    area: np.ndarray,
    low: np.ndarray,
    width: int,
    size: int,
    index: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the squares of pixels from `low` on, those in the triangles."""
    step = np.arange(width)
    column, row = (low[:, 0, None, None] + step), (low[:, 1, None, None] + step[:, None])
    weight = []
    for k in range(3):
        (ax, bx), (ay, by) = (v[:, [k - 2, k - 1], None, None].swapaxes(0, 1) for v in (x, y))
        across = (bx - ax) * (row - ay) - (column - ax) * (by - ay)
        weight.append(across / area[:, None, None])
    hit = (np.minimum(np.minimum(*weight[:2]), weight[2]) >= -1e-9) & (column < size) & (row < size)
    which, down, right = np.nonzero(hit)
    w = np.stack([share[hit] for share in weight], axis=-1)
    pixel = (low[which, 1] + down) * size + low[which, 0] + right
    return pixel, np.einsum("pk,pk->p", w, depth[which]), index[which], w
