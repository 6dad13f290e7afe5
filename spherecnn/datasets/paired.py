"""Pictures and labels for each of their pixels: `images/` and `labels/` with the same stems."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spherecnn.datasets.folder import SUFFIXES, PanoramaFolder, decode, fit_to_grid, pictures_in
from spherecnn.datasets.split import stratified_split
from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Equirect, Grid
from spherecnn.grids.resample import resample

LABEL_SUFFIXES = (".png", ".npy")
KINDS = ("classes", "values")
# Pillow's modes that hold one number a pixel; a palette's number is a class and never a value.
_MODES = {"classes": ("1", "L", "P", "I", "I;16", "I;16B"), "values": ("L", "I", "I;16", "I;16B")}


def read_labels(path: str | os.PathLike[str], kind: str = "classes") -> np.ndarray:
    """Read the labels of a picture: a class or values for each pixel.

    Parameters
    ----------
    path : path
        PNG: 8 or 16 bit grey, or for classes a palette, whose numbers count and not its colours. NPY: integers
        for classes; integers or floats for values.
    kind : {"classes", "values"}

    Returns
    -------
    ndarray (H, W) or (H, W, C)
        Classes (H, W) int64; values (H, W, C) float32.

    Raises
    ------
    InputError
        If the file is missing, truncated or damaged, or holds something else.
    """
    check_choice("kind", kind, KINDS)
    path = Path(path)
    found = _read_npy(path) if path.suffix.lower() == ".npy" else _read_png(path, kind)
    if kind == "values":
        found = found[..., None] if found.ndim == 2 else found
        if found.ndim != 3 or found.dtype.kind not in "iuf" or 0 in found.shape:
            raise InputError(
                f"{path} has shape {found.shape} and dtype {found.dtype}; expected numbers (H, W) or (H, W, C): "
                "save the values so."
            )
        return found.astype(np.float32)
    if found.ndim == 3 and found.shape[-1] == 1:
        found = found[..., 0]
    if found.ndim != 2 or found.dtype.kind not in "iub" or 0 in found.shape:
        raise InputError(
            f"{path} has shape {found.shape} and dtype {found.dtype}; expected class numbers (H, W), integers: "
            "save the classes so."
        )
    return found.astype(np.int64)


def _read_npy(path: Path) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, SyntaxError) as error:
        reason = (getattr(error, "strerror", None) or str(error).split("\n")[0]).rstrip(".")
        raise InputError(
            f"{path} cannot be read as an array ({reason}); expected a whole NPY file of numbers: replace or remove it."
        ) from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path} is an NPZ archive; expected an NPY file of one array: save it with numpy.save.")
    return found


def _read_png(path: Path, kind: str) -> np.ndarray:
    picture = decode(path, kinds="PNG")
    if picture.mode not in _MODES[kind]:
        wanted = {"classes": "8-bit class numbers, grey or by palette", "values": "grey of 8 or 16 bits"}[kind]
        raise InputError(
            f"{path} is a picture of mode {picture.mode}; expected {wanted}: "
            "save one number for each pixel, or an NPY file."
        )
    return np.asarray(picture)


def paired(
    folder: str | os.PathLike[str],
    grid: Grid,
    *,
    kind: str = "classes",
    split: str = "all",
    validation: float = 0.2,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    ignore_index: int = 255,
    scale: float = 1.0,
    missing: float | None = None,
) -> PairedFolder:
    """Find the pictures in `images/` and their labels in `labels/`, files with the same stem.

    The names of the classes are the lines of ``classes.txt`` in the folder where there is one. Otherwise they
    are numbers, up to the largest in the labels, all of which are read for that.

    Parameters
    ----------
    folder : path
        Holds ``images/`` (JPEG, PNG) and ``labels/`` (PNG, NPY).
    grid : Grid
        Where pictures and labels are resampled to.
    kind : {"classes", "values"}
        Class numbers, or values such as depth or elevation.
    split : {"all", "train", "validation"}
        Which part.
    validation : float
        Share of the pictures that is kept for validation.
    seed : int
        Seeds the split.
    classes : sequence of str, optional
        Names of the classes, instead of those that the folder has.
    ignore_index : int
        The class number that means no class.
    scale : float
        Values are what the file holds times this, for example 0.001 from millimetres to metres.
    missing : float, optional
        What the file holds where the value is missing, often 0; NaN is always missing.

    Returns
    -------
    PairedFolder

    Raises
    ------
    InputError
        If a folder or a partner is missing, two files share a stem, or there are fewer than two classes.
    """
    check_choice("split", split, ("all", "train", "validation"))
    check_choice("kind", kind, KINDS)
    images, labels = _pairs(Path(folder))
    if kind == "values":
        classes = []
    elif classes is None:
        classes = _classes(Path(folder), labels, ignore_index)
    kept, held = stratified_split(np.zeros(len(images), int), validation, seed)
    pick = {"all": np.arange(len(images)), "train": kept, "validation": held}[split]
    if len(pick) == 0:
        raise InputError(
            f"the {split} part of {folder} is empty with a share of {validation} of {len(images)} pictures; "
            "expected pictures: change the share or add some."
        )
    return PairedFolder(
        [images[i] for i in pick],
        [labels[i] for i in pick],
        grid,
        kind=kind,
        classes=classes,
        ignore_index=ignore_index,
        scale=scale,
        missing=missing,
    )


def _pairs(root: Path) -> tuple[list[Path], list[Path]]:
    """Pictures and labels with equal stems, by name."""
    for part in ("images", "labels"):
        if not (root / part).is_dir():
            raise InputError(
                f"{root} has no folder {part}; expected images/ and labels/ with files of the same stems: "
                "check the path."
            )
    images = _by_stem(pictures_in(root / "images"))
    files = (p for p in (root / "labels").iterdir() if not p.name.startswith("."))
    labels = _by_stem(sorted(p for p in files if p.suffix.lower() in LABEL_SUFFIXES))
    if not images:
        raise InputError(f"{root / 'images'} has no pictures ({', '.join(SUFFIXES)}); expected at least one: add some.")
    for stem, image in images.items():
        if stem not in labels:
            raise InputError(
                f"{image} has no partner in labels/; expected {stem}.png or {stem}.npy: add it or remove the picture."
            )
    for stem, label in labels.items():
        if stem not in images:
            raise InputError(
                f"{label} has no partner in images/; expected {stem}.jpg or {stem}.png: add it or remove the labels."
            )
    return list(images.values()), [labels[stem] for stem in images]


def _by_stem(files: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            raise InputError(f"{found[file.stem]} and {file} have the same stem; expected one of them: remove one.")
        found[file.stem] = file
    return found


def _classes(root: Path, labels: Sequence[Path], ignore_index: int) -> list[str]:
    """Names from classes.txt, or the numbers up to the largest label."""
    path = root / "classes.txt"
    if path.is_file():
        try:
            names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); expected UTF-8 text, a class a line.") from error
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(
                f"{path} names {len(names)} classes, {len(set(names))} of them different; "
                "expected two or more, one a line, each once: correct it."
            )
        return names
    largest = -1
    for file in tqdm(labels, "reading labels", unit="file", leave=False, disable=None):
        found = read_labels(file)
        found = found[found != ignore_index]
        largest = max(largest, int(found.max(initial=-1)))
    if largest < 1:
        raise InputError(
            f"the labels of {root} hold {'no class' if largest < 0 else 'class 0 alone'} beside the ignored "
            f"{ignore_index}; expected two or more classes, numbered from 0: renumber them or ignore another number."
        )
    return [str(k) for k in range(largest + 1)]


class PairedFolder:
    """Equirectangular pictures with labels for their pixels, resampled to a grid when first needed and then kept.

    Pictures are averaged over areas as in `PanoramaFolder`; classes are read at the nearest pixel; values are
    averaged over areas, over those that are there.

    Parameters
    ----------
    images, labels : sequence of path
        Files, a label file for each picture and of its size.
    grid : Grid
        Where they are resampled to.
    kind, ignore_index, scale, missing
        As in `paired`.
    classes : sequence of str
        Names of the classes; empty for values.
    """

    def __init__(
        self,
        images: Sequence[Path],
        labels: Sequence[Path],
        grid: Grid,
        *,
        kind: str = "classes",
        classes: Sequence[str] = (),
        ignore_index: int = 255,
        scale: float = 1.0,
        missing: float | None = None,
    ):
        if len(images) != len(labels):
            raise InputError(f"there are {len(images)} pictures and {len(labels)} label files; expected equal numbers.")
        if not (np.isfinite(scale) and scale != 0):
            raise InputError(f"scale is {scale}; expected a finite number other than 0: change it.")
        check_choice("kind", kind, KINDS)
        self.files, self.label_files, self.grid, self.kind = list(images), list(labels), grid, kind
        self.classes, self.ignore_index = list(classes), ignore_index
        self.scale, self.missing = scale, missing
        self._pictures = PanoramaFolder(self.files, np.zeros(len(images), int), [], grid)
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return panoramas ``(n, *grid.shape, 3)``, float32 in [0, 1], and their labels.

        Classes are ``(n, *grid.shape)`` int64, values ``(n, *grid.shape, C)`` float32, NaN where missing.
        """
        found = [self._labels(int(i)) for i in indices]
        if any(labels.shape != found[0].shape for labels in found):
            shapes = sorted({labels.shape[-1] for labels in found})
            raise InputError(f"the label files hold {shapes} values a pixel; expected the same number in all of them.")
        return self._pictures.batch(indices)[0], np.stack(found)

    def load(self, progress: bool = True) -> PairedFolder:
        """Read all files now, with a progress bar on a terminal; return the data set."""
        for i in tqdm(
            range(len(self)), "reading pictures", unit="file", leave=False, disable=None if progress else True
        ):
            self.batch(np.array([i]))
        return self

    def _labels(self, i: int) -> np.ndarray:
        if i not in self._kept:
            labels = read_labels(self.label_files[i], self.kind)
            self._check_size(i, labels)
            self._kept[i] = self._fit_classes(i, labels) if self.kind == "classes" else self._fit_values(i, labels)
        return self._kept[i]

    def _check_size(self, i: int, labels: np.ndarray) -> None:
        height, width = labels.shape[:2]
        given = self._pictures.size(i)
        if given != (height, width):
            raise InputError(
                f"{self.label_files[i]} is {width} x {height} pixels and {self.files[i]} is {given[1]} x {given[0]}; "
                "expected labels of the size of their picture: resize one of them."
            )

    def _fit_classes(self, i: int, labels: np.ndarray) -> np.ndarray:
        found = labels[labels != self.ignore_index]
        if found.size and (found.min() < 0 or found.max() >= len(self.classes)):
            raise InputError(
                f"{self.label_files[i]} holds class {found.min() if found.min() < 0 else found.max()}; "
                f"expected 0 to {len(self.classes) - 1}, or {self.ignore_index} for no class: "
                "correct the labels or classes.txt."
            )
        return resample(labels[..., None], Equirect(*labels.shape), self.grid, "nearest")[..., 0]

    def _fit_values(self, i: int, values: np.ndarray) -> np.ndarray:
        there = np.isfinite(values)
        if self.missing is not None:
            there &= values != self.missing
        values = np.where(there, values * np.float32(self.scale), 0)
        if there.all():
            return fit_to_grid(values, self.grid)
        share = fit_to_grid(there.astype(np.float32), self.grid)
        kept = share > 1e-6
        total = fit_to_grid(values, self.grid)
        return np.where(kept, total / np.where(kept, share, 1), np.float32(np.nan))
