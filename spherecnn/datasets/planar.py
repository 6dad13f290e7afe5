"""Planar pictures placed on the sphere, projected batch by batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from spherecnn.datasets.project import project_planar
from spherecnn.datasets.transforms import PLACES, random_rotation
from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Grid


class Place:
    """Augmentation: put flat pictures on the sphere, each in an orientation that is drawn anew.

    Parameters
    ----------
    grid : Grid
        Where the pictures are put.
    rotate : {"none", "yaw", "so3", "tilt"}
        Orientation of each picture: centred at lat 0, lon 0, or drawn by `random_rotation`.
    flip : bool
        Mirror every second picture, left to right, at random.
    fov_deg : float
        Horizontal field of view of a picture in degrees.

    Examples
    --------
    >>> from spherecnn.grids import Equirect
    >>> place = Place(Equirect(8), "tilt", flip=True)
    >>> x, y = place(np.ones((3, 5, 5, 1), np.float32), np.array([0, 1, 0]), np.random.default_rng(0))
    >>> x.shape, y
    ((3, 8, 16, 1), array([0, 1, 0]))
    """

    def __init__(self, grid: Grid, rotate: str = "so3", flip: bool = False, fov_deg: float = 120.0):
        check_choice("rotate", rotate, PLACES)
        check_choice("flip", flip, (False, True))
        self.grid, self.rotate, self.flip, self.fov_deg = grid, rotate, flip, fov_deg

    def draw(self, rng: np.random.Generator, count: int) -> tuple[Rotation, np.ndarray]:
        """Return rotations and which pictures are mirrored, for so many pictures."""
        turns = random_rotation(rng, self.rotate, count)
        return turns, rng.random(count) < 0.5 if self.flip else np.zeros(count, bool)

    def put(self, pictures: np.ndarray, turns: Rotation, mirrored: np.ndarray) -> np.ndarray:
        """Return panoramas of pictures (n, h, w) or (n, h, w, C), mirrored and turned as said."""
        if mirrored.any():
            pictures = pictures.copy()
            pictures[mirrored] = pictures[mirrored, :, ::-1]
        return project_planar(pictures, self.grid, self.fov_deg, None if self.rotate == "none" else turns)

    def __call__(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return self.put(x, *self.draw(rng, len(x))), y


class FlatPictures:
    """The pictures of a `PlanarDataset` as they are, (n, h, w, C) float32 in [0, 1]: what `Place` puts on the sphere.

    Parameters
    ----------
    images, labels, classes, white
        As for `PlanarDataset`.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: Sequence[str], white: float = 1.0):
        if len(images) != len(labels):
            raise InputError(
                f"there are {len(images)} pictures and {len(labels)} labels; expected one label for each: pair them up."
            )
        self.images, self.labels = images, np.asarray(labels, np.int64)
        self.classes, self.white = list(classes), white

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pictures (n, h, w, C) and classes (n,)."""
        pictures = self.images[indices].astype(np.float32) / np.float32(self.white)
        return pictures if pictures.ndim == 4 else pictures[..., None], self.labels[indices]


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
    rotate : {"none", "yaw", "so3", "tilt"}
        Orientation of each picture: centred at lat 0, lon 0, or drawn by `random_rotation`.
    fov_deg : float
        Horizontal field of view of a picture in degrees.
    seed : int or sequence of int
        Seeds the orientations.
    flip : bool
        Mirror every second picture, left to right, at random.

    Attributes
    ----------
    flat : FlatPictures
        The pictures as they are.
    place : Place
        Puts them on the sphere. To draw every orientation anew in each epoch, train on ``data.flat`` with
        ``augment=data.place``.

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
        flip: bool = False,
    ):
        self.flat = FlatPictures(images, labels, classes, white)
        self.place = Place(grid, rotate, flip, fov_deg)
        self.images, self.labels, self.classes, self.grid = images, self.flat.labels, self.flat.classes, grid
        self.rotations, self.mirrored = self.place.draw(np.random.default_rng(seed), len(images))

    def __len__(self) -> int:
        return len(self.flat)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return panoramas ``(n, *grid.shape, C)``, float32 in [0, 1], and classes (n,)."""
        pictures, labels = self.flat.batch(indices)
        return self.place.put(pictures, self.rotations[indices], self.mirrored[indices]), labels
