"""Planar pictures placed on the sphere, projected batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spherecnn.datasets.project import project_planar
from spherecnn.datasets.transforms import random_rotation
from spherecnn.errors import InputError
from spherecnn.grids import Grid


class PlanarDataset:
    """Planar pictures with one class each, seen on the sphere.

    The pictures are kept as they are, 47 MB for the 60 000 of MNIST, and projected when a batch is read:
    60x120 panoramas of all of them would take 1.7 GB. Every picture keeps the orientation drawn for it at the
    start.

    Parameters
    ----------
    images : ndarray (n, h, w) or (n, h, w, C)
        Pictures of any number type.
    labels : ndarray (n,)
        Class numbers from 0.
    classes : sequence of str
        Names of the classes.
    grid : Grid
        Where the pictures are put.
    white : float
        The value that becomes 1.
    rotate : {"none", "yaw", "so3"}
        Orientation of each picture: centred at lat 0, lon 0, or drawn by `random_rotation`.
    fov_deg : float
        Horizontal field of view of a picture in degrees.
    seed : int or sequence of int
        Seeds the orientations.

    Examples
    --------
    >>> from spherecnn.grids import Equirect
    >>> pictures = np.zeros((3, 8, 8), np.uint8)
    >>> data = PlanarDataset(pictures, np.array([0, 1, 0]), ["a", "b"], Equirect(8), white=255)
    >>> x, y = data.batch(np.array([0, 1]))
    >>> x.shape, x.dtype, y
    ((2, 8, 16, 1), dtype('float32'), array([0, 1]))
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        grid: Grid,
        *,
        white: float = 1.0,
        rotate: str = "none",
        fov_deg: float = 120.0,
        seed: int | Sequence[int] = 0,
    ):
        if len(images) != len(labels):
            raise InputError(
                f"there are {len(images)} pictures and {len(labels)} labels; expected one label for each: pair them up."
            )
        self.images, self.labels = images, np.asarray(labels, np.int64)
        self.classes, self.grid = list(classes), grid
        self.white, self.fov_deg = white, fov_deg
        turns = random_rotation(np.random.default_rng(seed), rotate, len(images))
        self.rotations = None if rotate == "none" else turns

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return panoramas ``(n, *grid.shape, C)``, float32 in [0, 1], and classes (n,)."""
        pictures = self.images[indices].astype(np.float32) / np.float32(self.white)
        turns = None if self.rotations is None else self.rotations[indices]
        return project_planar(pictures, self.grid, self.fov_deg, turns), self.labels[indices]
