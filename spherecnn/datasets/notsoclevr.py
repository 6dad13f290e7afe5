"""Not-so-Clevr: a square at every place of a small picture, and the two ways to hold some of the places out."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import check_choice

SIZE, REACH = 64, 4
TASKS, HOLDOUTS, SPLITS = ("classify", "regress", "render"), ("uniform", "quadrant"), ("train", "test")
# The seeds and the share of the published generator.
UNIFORM_SEED, ORDER_SEED, UNIFORM_SHARE = 20202, 10101, 0.25


class NotSoClevr:
    """Points, and pictures of a 9 x 9 square around each, made when they are asked for.

    Build it with `not_so_clevr`.

    Attributes
    ----------
    points : ndarray (n, 2), int64
        x (column) and y (row) of the middle of each square.
    task : str
    """

    def __init__(self, points: np.ndarray, task: str):
        self.points, self.task = points, task

    def __len__(self) -> int:
        return len(self.points)

    @property
    def scaled(self) -> np.ndarray:
        """The points as the coordinates of `layers.CoordConv2d`, (n, 2) float32 from -1 to 1."""
        return (2 * self.points / (SIZE - 1) - 1).astype(np.float32)

    @property
    def normalized(self) -> np.ndarray:
        """The points in units of the picture, (n, 2) float32 from 0 to 1: x / 64 and y / 64."""
        return (self.points / SIZE).astype(np.float32)

    @property
    def labels(self) -> np.ndarray:
        """The number of the pixel of each point, 64 y + x, (n,) int64."""
        return self.points[:, 1] * SIZE + self.points[:, 0]

    def onehots(self, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return pictures (n, 64, 64, 1) float32 that are 1 at the point and 0 elsewhere."""
        return self._squares(indices, 0)

    def images(self, indices: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return pictures (n, 64, 64, 1) float32 that are 1 in the square around the point and 0 elsewhere."""
        return self._squares(indices, REACH)

    def _squares(self, indices: np.ndarray | slice, reach: int) -> np.ndarray:
        columns, rows = (np.abs(np.arange(SIZE) - self.points[indices, i, None]) <= reach for i in (0, 1))
        return (rows[:, :, None] & columns[:, None, :]).astype(np.float32)[..., None]

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return input and target of the task."""
        if self.task == "regress":
            return self.onehots(indices), self.normalized[indices]
        return self.scaled[indices], self.labels[indices] if self.task == "classify" else self.images(indices)


def not_so_clevr(task: str = "classify", *, holdout: str = "uniform", split: str = "train") -> NotSoClevr:
    """The 3,136 pictures of Not-so-Clevr: 64 x 64 pixels, black, with one white 9 x 9 square.

    Its middle is at every (x, y) from 4 to 59, with x the slower one. The places, and their order, are divided
    as the published generator does.

    Parameters
    ----------
    task : {"classify", "regress", "render"}
        What ``batch(indices)`` returns: the point, scaled to -1 to 1, and the number of its pixel; the picture
        of the point and x / 64, y / 64; the scaled point and the picture of the square.
    holdout : {"uniform", "quadrant"}
        Places for testing: each with probability 1/4 (768 of them), or those with x > 32 and y > 32 (729).
    split : {"train", "test"}

    Returns
    -------
    NotSoClevr
        With `points`, `onehots()`, `images()`, `labels`, `scaled` and `normalized`.

    Raises
    ------
    InputError
        If an option is unknown.

    Notes
    -----
    Liu et al., "An intriguing failing of convolutional neural networks and the CoordConv solution", NeurIPS 2018,
    section 3, and its code. The square is 1 as in the paper; the published file has 128/255, with which the
    intersection over union of the published code cannot exceed 0.502.

    Examples
    --------
    >>> [[len(not_so_clevr(holdout=h, split=s)) for s in ("train", "test")] for h in ("uniform", "quadrant")]
    [[2368, 768], [2407, 729]]
    >>> data = not_so_clevr("render")
    >>> x, y = data.batch(np.arange(2))
    >>> x.shape, y.shape, y.sum(axis=(1, 2, 3))
    ((2, 2), (2, 64, 64, 1), array([81., 81.], dtype=float32))
    """
    check_choice("task", task, TASKS)
    check_choice("holdout", holdout, HOLDOUTS)
    check_choice("split", split, SPLITS)
    places = np.arange(REACH, SIZE - REACH)
    points = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    if holdout == "uniform":
        held = np.random.RandomState(UNIFORM_SEED).random_sample(len(points)) < UNIFORM_SHARE
    else:
        held = np.all(points > SIZE // 2, axis=1)
    part = points[held == (split == "test")]
    return NotSoClevr(part[np.random.RandomState(ORDER_SEED).permutation(len(part))], task)
