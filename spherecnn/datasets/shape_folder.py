"""Folders of shapes that were projected on a sphere, and the data set that they are."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spherecnn.datasets.shape_files import find_shapes, holds_shapes, in_test
from spherecnn.datasets.shapes import CHANNELS
from spherecnn.datasets.split import stratified_split
from spherecnn.errors import InputError, check_choice
from spherecnn.files import DAMAGED, write_atomic
from spherecnn.grids import Grid

# What projections are; another number, and they are made again.
RECIPE = 1
SPLITS = ("all", "train", "validation", "test")


def write_projection(path: Path, values: np.ndarray, grid: Grid, up: str) -> None:
    """Write the channels of a shape, wholly or not at all: `values`, the grid, and the means that training needs.

    Keys: `values` ``(*grid.shape, 6)`` float32; `kind` and the other settings of the grid; `moments` (2, 6), the means
    over the sphere of the values and of their squares; `names` of the channels; `recipe` and `up`.
    """
    weight = grid.area / grid.area.sum()
    flat = values.reshape(grid.sites, -1).astype(np.float64)
    moments = np.stack([weight @ flat, weight @ flat**2])
    buffer = io.BytesIO()
    settings: dict[str, Any] = {name: np.array(value) for name, value in grid.config().items()}
    settings |= {"recipe": np.array(RECIPE), "up": np.array(up), "names": np.array(CHANNELS)}
    np.savez(buffer, values=values, moments=moments, **settings)
    write_atomic(path, buffer.getvalue())


def read_projection(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Arrays of a file of `write_projection`; nothing in it is run.

    Raises
    ------
    InputError
        If the file is missing, truncated, damaged, or no such file.
    """
    try:
        with open(path, "rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if isinstance(arrays, np.ndarray):
                raise ValueError("it is one array")
            return [arrays[name] for name in names]
    except DAMAGED as error:
        why = getattr(error, "strerror", None) or str(error).split("\n")[0][:80].rstrip(".") or "it ends early"
        raise InputError(
            f"{path} cannot be read as a projected shape ({why}); expected a file of `spherecnn mesh project`: "
            "remove it and project the shapes again."
        ) from error


def same_settings(path: Path, grid: Grid, up: str) -> bool:
    """Whether a whole file is there that was projected on this grid, in this way."""
    config = {"recipe": RECIPE, "up": up, **grid.config()}
    try:
        return dict(zip(config, (a.tolist() for a in read_projection(path, list(config))), strict=True)) == config
    except InputError:
        return False


class ProjectedShapes:
    """Projected shapes with one class each, read from their files when a batch is asked for.

    Parameters
    ----------
    files : sequence of path
        Of `project_shapes`.
    labels : ndarray (n,)
        Class numbers from 0.
    classes : sequence of str
        Names of the classes.
    grid : Grid
        What the shapes were projected on.
    mean, std : sequence of float, optional
        Of each channel: batches are (x - mean) / std.

    Raises
    ------
    InputError
        If the number of means or deviations is not that of the channels.
    """

    noun = "shapes"

    def __init__(
        self,
        files: Sequence[Path],
        labels: np.ndarray,
        classes: Sequence[str],
        grid: Grid,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ):
        self.files, self.labels = list(files), np.asarray(labels, np.int64)
        self.classes, self.grid = list(classes), grid
        self.mean = np.zeros(len(CHANNELS)) if mean is None else np.asarray(mean, np.float64)
        self.std = np.ones(len(CHANNELS)) if std is None else np.asarray(std, np.float64)
        for name, given in (("mean", self.mean), ("std", self.std)):
            if given.shape != (len(CHANNELS),) or not np.isfinite(given).all():
                raise InputError(f"{name} is {given.tolist()}; expected {len(CHANNELS)} numbers, one a channel.")

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return shapes ``(n, *grid.shape, 6)``, float32, and classes (n,)."""
        x = np.stack([self._shape(self.files[i]) for i in indices])
        return (x - self.mean.astype(np.float32)) / self.std.astype(np.float32), self.labels[indices]

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (6,) of each channel as it is in the files, over the sphere and all shapes."""
        bar = tqdm(self.files, desc="reading shapes", unit="file", leave=False, disable=None)
        mean, square = np.mean([read_projection(file, ["moments"])[0] for file in bar], axis=0)
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        return mean, np.where(spread > 1e-6, spread, 1.0)

    def _shape(self, file: Path) -> np.ndarray:
        (values,) = read_projection(file, ["values"])
        if values.shape != (*self.grid.shape, len(CHANNELS)):
            raise InputError(
                f"{file} holds values of shape {values.shape}; expected {(*self.grid.shape, len(CHANNELS))}, those of "
                f"{self.grid!r}: project the shapes on this grid, or name the grid that they are on."
            )
        return values


def shapes(
    folder: str | os.PathLike[str],
    grid: Grid,
    *,
    split: str = "all",
    test_numbers: str | None = None,
    validation: float = 0.2,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ProjectedShapes:
    """Open a part of a folder of projected shapes, each channel with mean 0 and spread 1 in the training part.

    Parameters
    ----------
    folder : path
        What `project_shapes` wrote, or ``spherecnn mesh project``: files in the layouts of `find_shapes`.
    grid : Grid
        What the shapes were projected on.
    split : {"all", "train", "validation", "test"}
        Which part. Which shapes are to test on says `in_test`; the others are to train on and to validate.
    test_numbers : str, optional
        Such as "7-9"; see `in_test`.
    validation : float
        Share of every class, without its test shapes, that is kept for validation; may be 0.
    seed : int
        Seeds the split.
    mean, std : sequence of float, optional
        Of each channel, in place of those of the training part.

    Returns
    -------
    ProjectedShapes

    Raises
    ------
    InputError
        If the folder holds no projected shapes, those of another grid, or none in this part.
    """
    check_choice("split", split, SPLITS)
    if not holds_projections(folder):
        raise InputError(
            f"{folder} holds no projected shapes (.npz); expected a folder that `spherecnn mesh project` wrote: "
            "project the shapes first, or check the path."
        )
    files = find_shapes(folder, (".npz",))
    if not same_settings(files[0].path, grid, str(read_projection(files[0].path, ["up"])[0])):
        config = json.dumps(grid.config())
        raise InputError(
            f"{files[0].path} is of another grid or an older version; expected shapes on {grid!r} ({config}): project "
            "them on this grid, or name the grid that they are on."
        )
    classes = sorted({f.label for f in files})
    labels = np.array([classes.index(f.label) for f in files])
    test = in_test(files, test_numbers)
    kept, held = (np.flatnonzero(~test)[part] for part in stratified_split(labels[~test], validation, seed))
    picks = {"all": np.arange(len(files)), "train": kept, "validation": held, "test": np.flatnonzero(test)}
    for name in {"train", split}:
        if len(picks[name]) == 0:
            raise InputError(f"the {name} part of {folder} is empty; expected shapes: change the split.")

    def part(pick: np.ndarray) -> ProjectedShapes:
        return ProjectedShapes([files[i].path for i in pick], labels[pick], classes, grid, mean, std)

    if mean is None or std is None:
        own = [m.tolist() for m in part(kept).moments()]
        mean, std = own[0] if mean is None else mean, own[1] if std is None else std
    return part(picks[split])


def holds_projections(folder: str | os.PathLike[str]) -> bool:
    """Whether there are projected shapes in a folder or below."""
    return holds_shapes(folder, (".npz",))
