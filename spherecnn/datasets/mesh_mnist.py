"""Digits on the vertices of a mesh, by the stereographic projection of the published spherical MNIST."""

from __future__ import annotations

import os

import numpy as np
from scipy.sparse import coo_array, csr_array, diags_array
from tqdm import tqdm

from spherecnn.datasets.idx import mnist
from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Grid

PROJECTIONS = ("published", "direct")
MEAN, STD = 0.1307, 0.3081
BANDWIDTH = 60
# The light stands a little above the north pole of the sphere of radius 1 about (0, 0, 1).
SOURCE = 2.001
HALF_WIDTH = 1.5
_AT_ONCE = 512


class DigitProjection:
    r"""Put pictures on the sphere as the spherical MNIST of Cohen et al. and Jiang et al. does.

    The sphere of radius 1 stands with its south pole on the plane of the picture, which is the square of
    half-width 1.5 about that pole. Light from (0, 0, 2.001), just above the north pole, carries a point
    :math:`(x, y, z)` of the unit sphere to the plane:

    .. math:: (q_x, q_y) = \frac{s}{s - 1 - z}\,(x, y),\qquad s = 2.001

    The equator falls on a circle of radius 2, outside the square: the picture covers 41 % of the sphere and
    its corners just pass the equator. Rows of the picture run along x, columns along y. Then the sphere is turned
    so that the picture lies at lat 0, lon -90 degrees, seen from outside a quarter turn clockwise of upright: a
    site at (x, y, z) shows the point (-x, -z, y) of the sphere above. Values v become
    :math:`(v / 255 - 0.1307) / 0.3081`.

    "direct" reads the picture bilinearly at the projection of each site, with pixels at half-integer places and
    zeros around. "published" goes the published way, through an image of 120 x 120 pixels on the grid of Driscoll
    and Healy, whose values are stretched to 0..255 and cut to whole numbers; sites are read bilinearly from that
    image. So it has what the published way has: pixels at integer places, half a pixel from the middle; the rows of
    the image taken as 180 degrees when they are 178.5; and the middle of the picture once more opposite of it, where
    light grazes the north pole. Only the fault of the published code in reading the picture is mended: its four taps
    lay one pixel too far apart, so that their weights summed to 4 and the middle pixel was left out.

    Parameters
    ----------
    grid : Grid
        Where the pictures are put; published: ``Icosphere(4)``.
    projection : {"published", "direct"}
    shape : tuple of int
        Height and width of a picture.

    Attributes
    ----------
    weights : csr_array (P, height width)
        "direct": from pixels to sites.

    Raises
    ------
    InputError
        If the projection is unknown, or pictures have another shape.

    Notes
    -----
    Cohen, Geiger, Köhler and Welling, "Spherical CNNs", ICLR 2018, section 5.2; Jiang et al., "Spherical CNNs on
    unstructured grids", ICLR 2019, section 4.1.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> place = DigitProjection(Icosphere(3), "direct")
    >>> x = place(np.full((2, 28, 28), 255, np.uint8))
    >>> x.shape, x.dtype, [round(float(v), 4) for v in np.unique(x.round(4))[[0, -1]]]
    ((2, 642, 1), dtype('float32'), [-0.4242, 2.8215])
    """

    def __init__(self, grid: Grid, projection: str = "published", shape: tuple[int, int] = (28, 28)):
        check_choice("projection", projection, PROJECTIONS)
        self.grid, self.projection, self.shape = grid, projection, (shape[0], shape[1])
        x, y, z = np.reshape(grid.xyz, (-1, 3)).T
        if projection == "direct":
            # Light grazes the north pole too, on its way to the middle of the picture.
            lit = diags_array((y < 0.5).astype(float))
            self.weights = csr_array(lit @ _picture_weights(-x, -z, y, self.shape, 0.5))
            return
        image = _picture_weights(*_driscoll_healy(), self.shape, 0.0)
        sites = _image_weights(x, z, -y)
        used = np.flatnonzero(np.diff(image.indptr))
        self._image, self._sites = image[used], csr_array(sites[:, used])

    def __call__(self, images: np.ndarray, progress: bool = False) -> np.ndarray:
        """Return (n, P, 1) float32 for pictures (n, height, width) of values 0 to 255."""
        images = np.asarray(images)
        if images.ndim != 3 or images.shape[1:] != self.shape:
            raise InputError(
                f"pictures have shape {images.shape}; expected (n, {self.shape[0]}, {self.shape[1]}): "
                "give grey pictures of this size, or make a DigitProjection of theirs."
            )
        out = np.empty((len(images), self.grid.sites), np.float32)
        starts = range(0, len(images), _AT_ONCE)
        for start in tqdm(starts, "projecting digits", leave=False, disable=None if progress else True):
            part = slice(start, start + _AT_ONCE)
            pixels = np.ascontiguousarray(images[part].reshape(-1, self.shape[0] * self.shape[1]).T, np.float64)
            values = self._read(pixels)
            out[part] = standard(values).T
        return out.reshape(len(images), *self.grid.shape, 1)

    def _read(self, pixels: np.ndarray) -> np.ndarray:
        """Values of the sites (P, n) from pixels (height width, n)."""
        if self.projection == "direct":
            return self.weights @ pixels
        seen = self._image @ pixels
        # Points of the image outside the picture are 0, and belong to the range.
        least, most = np.minimum(seen.min(axis=0), 0), np.maximum(seen.max(axis=0), 0)
        spread = np.where(most > least, most - least, 1)
        return self._sites @ np.floor((seen - least) / spread * 255)


def standard(values: np.ndarray) -> np.ndarray:
    """Values 0 to 255 as the published network gets them."""
    return (values / np.float32(255) - np.float32(MEAN)) / np.float32(STD)


def _driscoll_healy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of the grid of Driscoll and Healy as s2cnn has it: the first row is the north pole."""
    steps = np.arange(2 * BANDWIDTH)
    colat, lon = (a.ravel() for a in np.meshgrid(steps * np.pi / len(steps), steps * np.pi / BANDWIDTH, indexing="ij"))
    return np.sin(colat) * np.cos(lon), np.sin(colat) * np.sin(lon), np.cos(colat)


def _picture_weights(x: np.ndarray, y: np.ndarray, z: np.ndarray, shape: tuple[int, int], middle: float) -> csr_array:
    """Bilinear weights of the pixels for points of the sphere; `middle` is where in a pixel its value stands."""
    scale = SOURCE / (SOURCE - 1 - z)
    row, column = ((scale * q / HALF_WIDTH + 1) / 2 * size - middle for q, size in zip((x, y), shape, strict=True))
    taps = _four(row, column)
    inside = [(i >= 0) & (i < shape[0]) & (j >= 0) & (j < shape[1]) & (w != 0) for i, j, w in taps]
    return _matrix(
        [
            (np.flatnonzero(kept), (i * shape[1] + j)[kept], w[kept])
            for kept, (i, j, w) in zip(inside, taps, strict=True)
        ],
        (len(x), shape[0] * shape[1]),
    )


def _image_weights(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> csr_array:
    """Bilinear weights of the image for directions, its rows taken as latitudes -90 to 90, columns as -180 to 180."""
    size = 2 * BANDWIDTH
    row = (np.arctan2(z, np.hypot(x, y)) / np.pi + 0.5) * (size - 1)
    column = (np.arctan2(y, x) / np.pi + 1) / 2 * size
    sites = np.arange(len(x))
    taps = [(sites, np.clip(i, 0, size - 1) * size + j % size, w) for i, j, w in _four(row, column)]
    return _matrix(taps, (len(x), size * size))


def _four(row: np.ndarray, column: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The four places around a place, with their bilinear weights."""
    # Far from the picture only that they are outside matters.
    i, j = (np.clip(np.floor(a), -2, 1e6).astype(np.int64) for a in (row, column))
    u, v = row - i, column - j
    return [(i, j, (1 - u) * (1 - v)), (i, j + 1, (1 - u) * v), (i + 1, j, u * (1 - v)), (i + 1, j + 1, u * v)]


def _matrix(taps: list[tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int]) -> csr_array:
    rows, columns, weights = (np.concatenate(part) for part in zip(*taps, strict=True))
    return csr_array(coo_array((weights, (rows, columns)), shape=shape))


class FlatDigits:
    """Pictures as they are, (n, height, width) of values 0 to 255, and their classes."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, classes: list[str]):
        self.images, self.labels, self.classes = images, labels, classes

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.images[indices], self.labels[indices]


class MeshMnist:
    """Digits on the sphere by `DigitProjection`, projected when a batch is read, or all at once.

    Parameters
    ----------
    images : ndarray (n, height, width)
        Values 0 to 255.
    labels : ndarray (n,)
        Class numbers from 0.
    grid : Grid
        Where the pictures are put.
    projection : {"published", "direct"}
    classes : sequence of str, optional
        Names of the classes.

    Attributes
    ----------
    project : DigitProjection
    flat : FlatDigits
        The pictures as they are, to train on with an augmentation that ends in `project`.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> data = MeshMnist(np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 0]), Icosphere(2))
    >>> x, y = data.batch(np.array([0, 1]))
    >>> x.shape, x.dtype, y
    ((2, 162, 1), dtype('float32'), array([0, 1]))
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        grid: Grid,
        projection: str = "published",
        classes: list[str] | None = None,
    ):
        if len(images) != len(labels) or len(images) == 0:
            raise InputError(
                f"there are {len(images)} pictures and {len(labels)} labels; expected one label for each: pair them up."
            )
        self.images, self.labels, self.grid = np.asarray(images), np.asarray(labels, np.int64), grid
        self.classes = classes or [str(k) for k in range(int(self.labels.max()) + 1)]
        self.flat = FlatDigits(self.images, self.labels, self.classes)
        self.project = DigitProjection(grid, projection, self.images.shape[1:3])
        self._values: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, P, 1) float32 and classes (n,)."""
        x = self.project(self.images[indices]) if self._values is None else self._values[indices]
        return x, self.labels[indices]

    def load(self, progress: bool = True) -> MeshMnist:
        """Project all pictures now: 615 MB for 60,000 at level 4. Return the data set."""
        if self._values is None:
            self._values = self.project(self.images, progress=progress)
        return self


def mesh_mnist(
    folder: str | os.PathLike[str], grid: Grid, *, split: str = "train", projection: str = "published"
) -> MeshMnist:
    """Read the four files of MNIST and put the digits on the vertices of a mesh, as the published experiment does.

    Parameters
    ----------
    folder : path
        As for `mnist`.
    grid : Grid
        Published: ``Icosphere(4)``.
    split : {"train", "test"}
    projection : {"published", "direct"}
        See `DigitProjection`.

    Raises
    ------
    InputError
        If a file is missing or damaged, or an option is unknown.
    """
    check_choice("projection", projection, PROJECTIONS)
    flat = mnist(folder, grid, split=split)
    return MeshMnist(flat.images, flat.labels, grid, projection, flat.classes)
