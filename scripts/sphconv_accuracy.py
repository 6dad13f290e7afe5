"""Learning Spherical Convolution, compared: a planar network on panoramas, by ten methods, over latitude.

    python scripts/sphconv_accuracy.py --help

A small planar network learns ordinary pictures. Then it is to see the same pictures on panoramas. The truth is what
it says of the tangent picture about every pixel; each method reproduces that at its own cost.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

import spherecnn as sc
from spherecnn.datasets.split import stratified_split
from spherecnn.datasets.transforms import looking_at
from spherecnn.files import make_folder, write_atomic
from spherecnn.grids.resample import nearest_sites
from spherecnn.kernels.sample import sample_equirect
from spherecnn.layers.base import Layer

Array = np.ndarray
COLUMNS = ("method", "latitude", "error", "accuracy", "multiply_adds", "parameters")
BANDS = ((0, 30), (30, 60), (60, 90))


# --- pictures, and panoramas with pictures on them --------------------------------------------------------------


@dataclass(frozen=True)
class Pictures:
    """Planar pictures (n, side, side, 1) in [0, 1] and their classes, divided for training and for testing."""

    train: tuple[Array, Array]
    test: tuple[Array, Array]
    name: str

    @property
    def side(self) -> int:
        return self.train[0].shape[1]


def load(folder: Path | None, seed: int) -> Pictures:
    """Read a folder in the MNIST format, or scikit-learn's digits at twice their size, a third of them for testing."""
    grid = sc.grids.Equirect(1)
    if folder is not None:
        parts = [sc.datasets.mnist(folder, grid, split=split) for split in ("train", "test")]
        found = [((p.images / np.float32(p.white))[..., None], p.labels) for p in parts]
        return Pictures(found[0], found[1], folder.name)
    parts = [sc.datasets.digits(grid, split=split) for split in ("train", "test")]
    images = np.concatenate([p.images for p in parts])[..., None].astype(np.float32) / parts[0].white
    images = sc.layers.Upsample((16, 16), padding_mode="replicate")(images)
    labels = np.concatenate([p.labels for p in parts])
    kept, held = stratified_split(labels, 1 / 3, seed)
    return Pictures((images[kept], labels[kept]), (images[held], labels[held]), "digits")


class Sphere:
    """Panoramas of H x 2H pixels, and tangent pictures whose pixels are as large as the panorama's at the equator."""

    def __init__(self, height: int, side: int):
        self.grid = sc.grids.Equirect(height)
        self.pitch = math.tan(2 * math.pi / self.grid.width)
        self.side = side
        self.fov_deg = 2 * math.degrees(math.atan(side * self.pitch / 2))

    def panoramas(self, pictures: Array, places: Array) -> Array:
        """Put pictures (n, m, side, side, 1), upright, at places (n, m, 2), latitude and longitude, of n panoramas."""
        count, each = places.shape[:2]
        turns = Rotation.concatenate([looking_at(lat, lon) for lat, lon in places.reshape(-1, 2)])
        flat = pictures.reshape(count * each, *pictures.shape[2:])
        return (
            sc.datasets.project_planar(flat, self.grid, self.fov_deg, turns)
            .reshape(count, each, *self.grid.shape, 1)
            .max(axis=1)
        )

    def filled(self, images: Array, count: int, rng: np.random.Generator) -> Array:
        """`count` panoramas full of pictures, at random places of which none is within a picture of another."""
        return np.concatenate([self._filled(images, rng) for _ in range(count)])

    def _filled(self, images: Array, rng: np.random.Generator) -> Array:
        found = np.empty((0, 3))
        for point in rng.standard_normal((400, 3)):
            point /= np.linalg.norm(point)
            if (found @ point < math.cos(math.radians(self.fov_deg))).all():
                found = np.vstack([found, point])
        places = np.stack(sc.grids.angles(found), axis=-1)[None]
        return self.panoramas(images[rng.integers(0, len(images), len(found))][None], places)

    def tangent_sites(self, lat: float, lon: float) -> Array:
        """The pixels (side * side,) nearest to those of the tangent picture at a place, as the paper's detector reads."""
        at = (np.arange(self.side) - (self.side - 1) / 2) * self.pitch
        v, u = np.meshgrid(-at, at, indexing="ij")
        plane = np.stack([np.ones_like(u), u, v], axis=-1).reshape(-1, 3)
        return nearest_sites(self.grid, looking_at(lat, lon).apply(plane))
