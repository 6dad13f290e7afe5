"""Pictures with holes to fill: holes drawn on the sphere, so that their shapes do not depend on latitude."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.datasets.folder import SUFFIXES, PanoramaFolder, pictures_in
from spherecnn.datasets.split import stratified_split
from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Grid

KINDS = ("mixed", "caps", "boxes", "strokes")


class Holes:
    """Draws holes: spherical caps, boxes of latitude and longitude, free-form strokes, or any of these.

    Shapes are added until they cover a share of the sphere that is drawn uniformly from `share`. A cap has a
    radius of 5 to 25 degrees, a box 10 to 50 degrees of latitude and as much width on the sphere; a stroke is a
    walk of 20 steps with a brush of 2 to 6 degrees.

    Parameters
    ----------
    grid : Grid
        Where the holes are.
    kind : {"mixed", "caps", "boxes", "strokes"}
    share : (float, float)
        Least and greatest share of the sphere; the last shape may go beyond.

    Raises
    ------
    InputError
        If the kind is unknown or the shares are not 0 < least <= greatest < 1.

    Examples
    --------
    >>> from spherecnn.grids import Equirect
    >>> grid = Equirect(16)
    >>> mask = Holes(grid, "caps", (0.2, 0.2)).draw(np.random.default_rng(0))
    >>> mask.shape, mask.dtype, bool(0.2 <= grid.area @ mask.ravel() / (4 * np.pi) < 0.3)
    ((16, 32), dtype('bool'), True)
    """

    def __init__(self, grid: Grid, kind: str = "mixed", share: tuple[float, float] = (0.1, 0.3)):
        check_choice("kind", kind, KINDS)
        if not 0 < share[0] <= share[1] < 1:
            raise InputError(f"share is {share}; expected two numbers above 0 and below 1, the lesser first.")
        self.grid, self.kind, self.share = grid, kind, share
        # A shape no smaller than this has the centre of a pixel in it, wherever it lies.
        self._least = 1.5 * math.sqrt(4 * math.pi / grid.sites)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return a mask of the shape of the grid, True in a hole."""
        shapes: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
            "caps": self._cap,
            "boxes": self._box,
            "strokes": self._stroke,
        }
        kinds = list(shapes) if self.kind == "mixed" else [self.kind]
        wanted = rng.uniform(*self.share) * float(self.grid.area.sum())
        mask = np.zeros(self.grid.sites, bool)
        while self.grid.area @ mask < wanted:
            mask |= shapes[kinds[rng.integers(len(kinds))]](rng)
        return mask.reshape(self.grid.shape)

    def _near(self, centres: np.ndarray, radius: float) -> np.ndarray:
        return (self.grid.xyz @ centres.T).max(axis=-1) >= math.cos(max(radius, self._least))

    def _cap(self, rng: np.random.Generator) -> np.ndarray:
        return self._near(_directions(rng, 1), math.radians(rng.uniform(5, 25)))

    def _box(self, rng: np.random.Generator) -> np.ndarray:
        centre = _directions(rng, 1)[0]
        lat, lon = math.asin(np.clip(centre[2], -1, 1)), math.atan2(centre[1], centre[0])
        tall, wide = (max(math.radians(a) / 2, self._least) for a in rng.uniform(10, 50, 2))
        east = (self.grid.lon - lon + math.pi) % (2 * math.pi) - math.pi
        return (np.abs(self.grid.lat - lat) <= tall) & (np.abs(east) * max(math.cos(lat), 1e-9) <= wide)

    def _stroke(self, rng: np.random.Generator) -> np.ndarray:
        radius = math.radians(rng.uniform(2, 6))
        at, ahead = _directions(rng, 2)
        points = [at]
        for _ in range(20):
            ahead = ahead - (ahead @ at) * at
            ahead = ahead / np.linalg.norm(ahead)
            turn = rng.normal(0, 0.5)
            ahead = math.cos(turn) * ahead + math.sin(turn) * np.cross(at, ahead)
            step = max(radius, self._least)
            at, ahead = (
                math.cos(step) * at + math.sin(step) * ahead,
                math.cos(step) * ahead - math.sin(step) * at,
            )
            points.append(at)
        return self._near(np.array(points), radius)


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    drawn = rng.standard_normal((count, 3))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def hide(pictures: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make inputs and targets for inpainting.

    Parameters
    ----------
    pictures : ndarray (N, H, W, C)
    masks : ndarray (N, H, W), bool
        True in a hole.

    Returns
    -------
    x : ndarray (N, H, W, C + 1)
        The pictures, 0 in the holes, and the masks.
    y : ndarray (N, H, W, C + 1)
        The whole pictures and the masks.

    Examples
    --------
    >>> x, y = hide(np.full((1, 1, 2, 1), 0.5), np.array([[[True, False]]]))
    >>> x.tolist(), y.tolist()
    ([[[[0.0, 1.0], [0.5, 0.0]]]], [[[[0.5, 1.0], [0.5, 0.0]]]])
    """
    mask = masks[..., None].astype(pictures.dtype)
    return np.concatenate([pictures * (1 - mask), mask], axis=-1), np.concatenate([pictures, mask], axis=-1)


class Inpainting:
    """Pictures with a hole each, which depends on the seed and the number of the picture only.

    Parameters
    ----------
    data : data set
        Its pictures; its targets are not used.
    holes : Holes
    seed : int
    numbers : ndarray (n,), optional
        Number of each picture; 0, 1, ... by default.
    """

    def __init__(self, data: Any, holes: Holes, seed: int = 0, numbers: np.ndarray | None = None):
        self.data, self.holes, self.seed = data, holes, seed
        self.numbers = np.arange(len(data)) if numbers is None else numbers
        self.grid = data.grid
        self.classes: list[str] = []

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x and y as `hide` makes them."""
        pictures, _ = self.data.batch(indices)
        masks = [self.holes.draw(np.random.default_rng((self.seed, int(self.numbers[i])))) for i in indices]
        return hide(pictures, np.stack(masks))


class NewHoles:
    """Augmentation: draw a new hole for each picture of a training batch.

    Examples
    --------
    >>> from spherecnn.grids import Equirect
    >>> grid = Equirect(8)
    >>> y = np.concatenate([np.full((1, 8, 16, 3), 0.5), np.zeros((1, 8, 16, 1))], axis=-1)
    >>> x, y = NewHoles(Holes(grid))(y, y, np.random.default_rng(0))
    >>> bool(np.array_equal(x[..., 0], np.where(y[..., 3] > 0, 0, 0.5)))
    True
    """

    def __init__(self, holes: Holes):
        self.holes = holes

    def __call__(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return hide(y[..., :-1], np.stack([self.holes.draw(rng) for _ in y]))


def inpainting(
    folder: str | os.PathLike[str],
    grid: Grid,
    *,
    split: str = "all",
    validation: float = 0.2,
    seed: int = 0,
    holes: Holes | None = None,
) -> Inpainting:
    """Find the pictures in `images/`, or in the folder itself, to learn to fill holes.

    Parameters
    ----------
    folder : path
        Holds ``images/``, or the pictures, JPEG or PNG.
    grid : Grid
        Where the pictures are resampled to.
    split : {"all", "train", "validation"}
        Which part.
    validation : float
        Share of the pictures that is kept for validation.
    seed : int
        Seeds the split and the holes.
    holes : Holes, optional
        ``Holes(grid)`` by default.

    Returns
    -------
    Inpainting

    Raises
    ------
    InputError
        If there are no pictures, or the part is empty.
    """
    check_choice("split", split, ("all", "train", "validation"))
    root = Path(folder)
    root = root / "images" if (root / "images").is_dir() else root
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; expected one with a folder images of pictures: check the path.")
    files = pictures_in(root)
    if not files:
        raise InputError(f"{root} has no pictures ({', '.join(SUFFIXES)}); expected at least one: add some.")
    kept, held = stratified_split(np.zeros(len(files), int), validation, seed)
    pick = {"all": np.arange(len(files)), "train": kept, "validation": held}[split]
    if len(pick) == 0:
        raise InputError(
            f"the {split} part of {root} is empty with a share of {validation} of {len(files)} pictures; "
            "expected pictures: change the share or add some."
        )
    pictures = PanoramaFolder([files[i] for i in pick], np.zeros(len(pick), int), [], grid)
    return Inpainting(pictures, holes or Holes(grid), seed, pick)
