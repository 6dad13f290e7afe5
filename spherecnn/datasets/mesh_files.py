"""One NPZ file a sample, with channels and a class for each vertex: the layouts of 2D-3D-S and of climate data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.files import DAMAGED
from spherecnn.grids import Grid

# 2D-3D-S: moments of red, green, blue in [0, 1] and depth in metres, and the share of each class.
ROOMS = (
    *("unknown", "beam", "board", "bookcase", "ceiling", "chair", "clutter", "column", "door", "floor", "sofa"),
    *("table", "wall", "window", "invalid"),
)
ROOMS_UNSCORED = (0, 14)
ROOMS_MEAN = (0.4974898, 0.47918808, 0.42809588, 1.0961773)
ROOMS_STD = (0.23762763, 0.23354423, 0.23272438, 0.75536704)
ROOMS_SHARE = (
    *(0.04233976974675504, 0.014504436907968913, 0.017173225930738712, 0.048004778186652164, 0.17384037404789865),
    *(0.028626771620973622, 0.087541966989014, 0.019508096683310605, 0.08321331842901526, 0.17002664771895903),
    *(0.002515611224467519, 0.020731298851232174, 0.2625963729249342, 0.016994731594287146, 0.012382599143792165),
)
AREAS = ("1", "2", "3", "4", "5a", "5b", "6")
TEST_AREAS = {1: ("5a", "5b"), 2: ("2", "4"), 3: ("1", "3", "6")}

# Climate: names, moments of the sixteen fields (CAM5), and weights of the classes.
FIELDS = (
    *("TMQ", "U850", "V850", "UBOT", "VBOT", "QREFHT", "PS", "PSL"),
    *("T200", "T500", "PRECT", "TS", "TREFHT", "Z1000", "Z200", "ZBOT"),
)
WEATHER = ("background", "tropical cyclone", "atmospheric river")
WEATHER_MEAN = (
    *(26.160023, 0.98314494, 0.116573125, -0.45998842, 0.1930554, 0.010749293, 98356.03, 100982.02),
    *(216.13145, 258.9456, 3.765611e-08, 288.82578, 288.03925, 342.4827, 12031.449, 63.435772),
)
WEATHER_STD = (
    *(17.04294, 8.164175, 5.6868863, 6.4967732, 5.4465833, 0.006383436, 7778.5957, 3846.1863),
    *(9.791707, 14.35133, 1.8771327e-07, 19.866386, 19.094095, 624.22406, 679.5602, 4.2283397),
)
WEATHER_WEIGHT = (0.00102182, 0.95426438, 0.04471379)


class VertexFiles:
    """Samples in NPZ files, read when a batch is asked for and not kept: ``data`` and ``labels`` of the vertices.

    Vertices of an icosphere come first in those of every finer one, so that files of a fine level serve a coarse grid:
    what is beyond the grid's sites is left out.

    Parameters
    ----------
    files : sequence of path
    grid : Grid
        With as many sites as the files have vertices, or fewer.
    classes : sequence of str
        Names of the classes.
    mean, std : sequence of float
        Of each channel; x is (data - mean) / std.
    parse : callable
        ``parse(path, data, labels) -> (values (P, C), classes (P,))`` of the layout.

    Examples
    --------
    >>> import tempfile
    >>> from spherecnn.grids import Icosphere
    >>> folder = tempfile.mkdtemp()
    >>> from spherecnn.datasets.mesh_made import make_climate
    >>> make_climate(folder, Icosphere(2), samples=(2, 1, 1))
    >>> data = mesh_climate(folder, Icosphere(2))
    >>> x, y = data.batch(np.array([0, 1]))
    >>> len(data), x.shape, x.dtype, y.shape
    (2, (2, 162, 16), dtype('float32'), (2, 162))
    """

    def __init__(
        self,
        files: Sequence[Path],
        grid: Grid,
        *,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        parse: Callable[[Path, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    ):
        self.files, self.grid, self.classes, self.parse = list(files), grid, list(classes), parse
        self.mean, self.std = np.asarray(mean, np.float32), np.asarray(std, np.float32)

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, P, C) float32, standardised, and classes (n, P) int64."""
        found = [self.read(self.files[int(i)]) for i in indices]
        return np.stack([x for x, _ in found]), np.stack([y for _, y in found])

    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return (P, C) and (P,) of a file."""
        values, labels = self.parse(path, *_arrays(path))
        sites = self.grid.sites
        if values.shape[0] < sites or len(labels) != values.shape[0] or values.shape[1] < len(self.mean):
            raise InputError(
                f"{path} has values {values.shape} and {len(labels)} labels; expected at least {sites} vertices "
                f"for {self.grid!r} with {len(self.mean)} channels and a label each: take a coarser grid."
            )
        values, labels = values[:sites, : len(self.mean)], labels[:sites]
        if labels.dtype.kind == "f" and np.array_equal(labels, np.round(labels)):
            labels = labels.astype(np.int64)
        if labels.dtype.kind not in "iub" or (labels < 0).any() or (labels >= len(self.classes)).any():
            raise InputError(
                f"{path} has labels {labels.min()} to {labels.max()} of {labels.dtype}; "
                f"expected whole numbers from 0 to {len(self.classes) - 1}: correct the labels."
            )
        x = (values.astype(np.float32) - self.mean) / self.std
        if not np.isfinite(x).all():
            raise InputError(f"{path} holds values that are NaN or infinite; expected finite numbers: make it again.")
        return x, labels.astype(np.int64)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``data`` and ``labels`` of an NPZ file."""
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise InputError(
                    f"{path} is one array; expected an NPZ file of data and labels: make it with numpy.savez."
                )
            missing = [name for name in ("data", "labels") if name not in found]
            if missing:
                raise InputError(
                    f"{path} has no {missing[0]} but {', '.join(found.files) or 'nothing'}; "
                    "expected data and labels: make it again."
                )
            data, labels = found["data"], found["labels"]
    except InputError:
        raise
    except DAMAGED as error:
        reason = (getattr(error, "strerror", None) or str(error).split("\n")[0]).rstrip(".") or type(error).__name__
        raise InputError(
            f"{path} cannot be read ({reason}); expected a whole NPZ file of data and labels: fetch it again."
        ) from error
    if data.dtype.kind not in "iuf" or data.ndim != 2:
        raise InputError(
            f"data in {path} has shape {data.shape} and dtype {data.dtype}; expected numbers with two axes: "
            "make it again."
        )
    return data, labels


def mesh_2d3ds(
    folder: str | os.PathLike[str],
    grid: Grid,
    *,
    fold: int = 1,
    split: str = "train",
    depth: bool = True,
) -> VertexFiles:
    """Read panoramas of rooms, 2D-3D-S, on the vertices of an icosphere as published with the mesh networks.

    Parameters
    ----------
    folder : path
        Holds ``area_1/``, ..., ``area_5a/``, ``area_5b/``, ``area_6/`` with NPZ files of ``data`` (P, 4), red, green
        and blue in [0, 1] and depth in metres, and ``labels`` (P,), classes 0 to 14.
    grid : Grid
        Published: ``Icosphere(5)``.
    fold : {1, 2, 3}
        Areas of the test part: 5a and 5b, 2 and 4, or 1, 3 and 6; all others train.
    split : {"train", "test"}
    depth : bool
        Four channels, or red, green and blue alone.

    Returns
    -------
    VertexFiles
        Classes 0 "unknown" and 14 "invalid" are not scored: give ``Segment(unscored=ROOMS_UNSCORED)``.

    Raises
    ------
    InputError
        If there are no files.

    Notes
    -----
    Armeni et al., "Joint 2D-3D-semantic data for indoor scene understanding", 2017; Jiang et al., "Spherical CNNs on
    unstructured grids", ICLR 2019, section 4.3.
    """
    check_choice("fold", fold, tuple(TEST_AREAS))
    check_choice("split", split, ("train", "test"))
    areas = [a for a in AREAS if (a in TEST_AREAS[fold]) == (split == "test")]
    files = [path for a in areas for path in sorted((Path(folder) / f"area_{a}").glob("*.npz"))]
    if not files:
        raise InputError(
            f"{folder} has no NPZ files in {', '.join(f'area_{a}' for a in areas)}; "
            "expected those of 2D-3D-S on an icosphere: check the path."
        )
    channels = 4 if depth else 3
    return VertexFiles(
        files, grid, classes=ROOMS, mean=ROOMS_MEAN[:channels], std=ROOMS_STD[:channels], parse=_parse_rooms
    )


def _parse_rooms(path: Path, data: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if labels.ndim != 1 or data.shape[1] != len(ROOMS_MEAN):
        raise InputError(
            f"{path} has data {data.shape} and labels {labels.shape}; expected (P, {len(ROOMS_MEAN)}) and (P,), "
            "colours, depth and a class for each vertex: make it again."
        )
    return data, labels


def rooms_weight() -> np.ndarray:
    r"""The published weights (15,) of the classes of 2D-3D-S: 1 / ln(1.02 + share), 0 where a class is not scored."""
    weight = 1 / np.log(1.02 + np.array(ROOMS_SHARE))
    weight[list(ROOMS_UNSCORED)] = 0
    return weight


def mesh_climate(folder: str | os.PathLike[str], grid: Grid, *, split: str = "train") -> VertexFiles:
    """Read fields of a climate model on the vertices of an icosphere as published with the mesh networks.

    Parameters
    ----------
    folder : path
        Holds NPZ files of ``data`` (16, P), the fields, and ``labels`` (3, P), one-hot, and ``train_split.txt``,
        ``val_split.txt`` and ``test_split.txt``, the names of the files of each part, one a line.
    grid : Grid
        Published: ``Icosphere(5)``.
    split : {"train", "val", "test"}

    Returns
    -------
    VertexFiles
        The published split puts snapshots a few hours apart in different parts, so that scores say little about other
        years.

    Raises
    ------
    InputError
        If the list of names or a file is missing.

    Notes
    -----
    Mudigonda et al., "Segmenting and tracking extreme climate events using neural networks", 2017; Jiang et al.,
    "Spherical CNNs on unstructured grids", ICLR 2019, section 4.4.
    """
    check_choice("split", split, ("train", "val", "test"))
    folder = Path(folder)
    listed = folder / f"{split}_split.txt"
    try:
        names = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{listed} cannot be read ({reason}); expected the names of the files of this part, one a line: "
            "copy the published list beside the files."
        ) from error
    if not names:
        raise InputError(f"{listed} names no files; expected one a line: copy the published list.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} of the {len(names)} files of {listed.name}, first {missing[0]}; "
            "expected all: fetch them, or shorten the list."
        )
    return VertexFiles(
        [folder / name for name in names],
        grid,
        classes=WEATHER,
        mean=WEATHER_MEAN,
        std=WEATHER_STD,
        parse=_parse_climate,
    )


def _parse_climate(path: Path, data: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fits = labels.ndim == 2 and labels.shape[0] == len(WEATHER) and data.shape[0] == len(WEATHER_MEAN)
    if not fits or not (((labels == 0) | (labels == 1)).all() and (labels.sum(axis=0) == 1).all()):
        raise InputError(
            f"{path} has data {data.shape} and labels {labels.shape}; expected ({len(WEATHER_MEAN)}, P) and "
            f"({len(WEATHER)}, P), a single 1 for each vertex: make it again."
        )
    return data.T, np.argmax(labels, axis=0)
