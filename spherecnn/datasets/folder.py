"""A folder of equirectangular pictures, one sub-folder for each class."""

from __future__ import annotations

import logging
import math
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy.ndimage import convolve1d
from tqdm import tqdm

from spherecnn.datasets.split import stratified_split
from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Equirect, Grid
from spherecnn.grids.resample import resample

SUFFIXES = (".jpg", ".jpeg", ".png")
_log = logging.getLogger(__name__)


def read_panorama(path: str | os.PathLike[str]) -> np.ndarray:
    """Decode a JPEG or PNG file to RGB pixels.

    Grey, palette, CMYK and transparent pictures become RGB; transparency is dropped. The EXIF orientation is
    applied. 16-bit grey PNGs keep their 16 bits; Pillow reads 16-bit colour PNGs by their upper 8 bits.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    ndarray (H, W, 3)
        uint8, or uint16 for 16-bit grey.

    Raises
    ------
    InputError
        If the file is missing, truncated, damaged or no picture.
    """
    picture = decode(path)
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.uint16)
        return np.repeat(grey[..., None], 3, axis=-1)
    return np.asarray(picture.convert("RGB"))


def decode(path: str | os.PathLike[str], kinds: str = "JPEG or PNG") -> Image.Image:
    """Read a whole picture file, turned as its EXIF orientation says, in the mode that it has."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                return ImageOps.exif_transpose(opened)
    except (
        OSError,
        SyntaxError,
        ValueError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        reason = (getattr(error, "strerror", None) or str(error).replace(str(path), "it")).rstrip(".")
        raise InputError(
            f"{path} cannot be read as a picture ({reason}); expected a whole {kinds}: replace or remove it."
        ) from error


def panoramas(
    folder: str | os.PathLike[str],
    grid: Grid,
    *,
    split: str = "all",
    validation: float = 0.2,
    seed: int = 0,
) -> PanoramaFolder:
    """Find the equirectangular pictures under `folder`; each sub-folder is a class.

    Parameters
    ----------
    folder : path
        Its sub-folders, in the order of their names, are the classes; each holds JPEG or PNG files.
    grid : Grid
        Where the pictures are resampled to.
    split : {"all", "train", "validation"}
        Which part of every class.
    validation : float
        Share of every class that is kept for validation.
    seed : int
        Seeds the split.

    Returns
    -------
    PanoramaFolder

    Raises
    ------
    InputError
        If the folder is missing or has no sub-folders, or a sub-folder has no pictures.
    """
    check_choice("split", split, ("all", "train", "validation"))
    root = Path(folder)
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder; expected one with a sub-folder of pictures for each class: check the path."
        )
    classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise InputError(
            f"{root} has no sub-folders; expected one for each class: sort the pictures into folders by class."
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = pictures_in(root / name)
        if not found:
            raise InputError(
                f"{root / name} has no pictures ({', '.join(SUFFIXES)}); "
                "expected at least one in each class folder: add some or remove the folder."
            )
        files += found
        labels += [label] * len(found)
    kept, held = stratified_split(np.array(labels), validation, seed)
    pick = {"all": np.arange(len(files)), "train": kept, "validation": held}[split]
    if len(pick) == 0:
        raise InputError(
            f"the {split} part of {root} is empty with a share of {validation}; expected pictures: change the share."
        )
    return PanoramaFolder([files[i] for i in pick], np.array(labels)[pick], classes, grid)


def pictures_in(folder: Path) -> list[Path]:
    """JPEG and PNG files in a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


class PanoramaFolder:
    """Equirectangular pictures with one class each, resampled to a grid when first needed and then kept.

    A picture larger than the grid is averaged over exact areas, a smaller one interpolated, both across the
    seam. Its rows always span pole to pole and its columns the full circle; a shape other than 2:1 is
    stretched, and the log says so once.

    Parameters
    ----------
    files : sequence of path
        JPEG or PNG files.
    labels : ndarray (n,)
        Class numbers from 0.
    classes : sequence of str
        Names of the classes.
    grid : Grid
        Where the pictures are resampled to.
    """

    def __init__(self, files: Sequence[Path], labels: np.ndarray, classes: Sequence[str], grid: Grid):
        self.files, self.labels = list(files), np.asarray(labels, np.int64)
        self.classes, self.grid = list(classes), grid
        self._kept: dict[int, np.ndarray] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._stretched = False

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return panoramas ``(n, *grid.shape, 3)``, float32 in [0, 1], and classes (n,)."""
        return np.stack([self._panorama(int(i)) for i in indices]), self.labels[indices]

    def load(self, progress: bool = True) -> PanoramaFolder:
        """Read all pictures now, with a progress bar on a terminal; return the data set."""
        for i in tqdm(
            range(len(self)), desc="reading pictures", unit="file", leave=False, disable=None if progress else True
        ):
            self._panorama(i)
        return self

    def size(self, i: int) -> tuple[int, int]:
        """Rows and columns of the file of picture i."""
        self._panorama(i)
        return self._sizes[i]

    def _panorama(self, i: int) -> np.ndarray:
        if i not in self._kept:
            pixels = read_panorama(self.files[i])
            self._note_shape(self.files[i], pixels)
            self._sizes[i] = pixels.shape[0], pixels.shape[1]
            white = np.float32(np.iinfo(pixels.dtype).max)
            self._kept[i] = np.minimum(fit_to_grid(pixels, self.grid) / white, np.float32(1))
        return self._kept[i]

    def _note_shape(self, file: Path, pixels: np.ndarray) -> None:
        height, width = pixels.shape[:2]
        if abs(width - 2 * height) > 1 and not self._stretched:
            self._stretched = True
            _log.warning(
                "%s is %d x %d pixels, not 2:1; such pictures are taken as full spheres and stretched.",
                file,
                width,
                height,
            )


def fit_to_grid(pixels: np.ndarray, grid: Grid) -> np.ndarray:
    """Resample an equirectangular picture to a grid without aliasing: (H, W, C) -> ``(*grid.shape, C)`` float32.

    For an Equirect, rows or columns finer than the grid are averaged over areas and the rest is bilinear. For another
    grid the picture is averaged down to pixels of a quarter of the sites' sides, each row over stretches as wide as a
    pixel is high, and that is averaged over the sites.

    Examples
    --------
    >>> fit_to_grid(np.full((4, 8, 1), 7, np.uint8), Equirect(2))[..., 0]
    array([[7., 7., 7., 7.],
           [7., 7., 7., 7.]], dtype=float32)
    """
    source, flat = Equirect(*pixels.shape[:2]), isinstance(grid, Equirect)
    rows = grid.shape[0] if flat else 4 * max(1, round(math.pi / grid.pixel_side))
    columns = grid.shape[1] if flat else 2 * rows
    middle: Grid = Equirect(min(source.height, rows), min(source.width, columns))
    if flat and middle.shape == grid.shape:
        middle = grid
    if middle != source:
        pixels = resample(pixels, source, middle, "area")
    if not flat:
        pixels = resample(_as_wide_as_high(pixels.astype(np.float32, copy=False)), middle, grid, "supersample")
    elif middle != grid:
        pixels = resample(pixels, middle, grid)
    return pixels.astype(np.float32, copy=False)


def _as_wide_as_high(pixels: np.ndarray) -> np.ndarray:
    """Average each row of a panorama over stretches as wide as a pixel is high: of many columns near a pole."""
    height, width = pixels.shape[:2]
    smooth = np.empty_like(pixels)
    for row, out, lat in zip(pixels, smooth, Equirect(height, width).row_lat, strict=True):
        stretch = np.clip(width / (2 * height * np.cos(lat)), 1, width)
        whole = int((stretch - 1) / 2)
        weights = np.ones(2 * whole + 3)
        weights[[0, -1]] = (stretch - 1 - 2 * whole) / 2
        convolve1d(row, weights / stretch, axis=0, output=out, mode="wrap")
    return smooth
