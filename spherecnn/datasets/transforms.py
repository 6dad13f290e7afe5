"""Augmentation: rotations of the sphere, brightness, contrast and noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

from spherecnn.errors import InputError, check_array, check_choice
from spherecnn.grids import Equirect, Grid
from spherecnn.grids.resample import check_readable, nearest_sites, sampling_matrix
from spherecnn.kernels.sample import sample_equirect

Transform = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
Turn = Callable[[np.ndarray, str], np.ndarray]
KINDS = ("none", "yaw", "so3")
PLACES = (*KINDS, "tilt")


def random_rotation(rng: np.random.Generator, kind: str = "so3", size: int | None = None) -> Rotation:
    r"""Draw rotations.

    "tilt" carries what lies at lat 0, lon 0 to

    .. math:: lat \sim U(-\pi/2, \pi/2),\qquad lon \sim U(-\pi, \pi)

    with north kept up: as many places within 10 degrees of a pole as of the equator, far more than of the sphere.

    Parameters
    ----------
    rng : numpy.random.Generator
    kind : {"so3", "yaw", "tilt", "none"}
        Every rotation (Haar measure), rotations about the vertical axis, up or down and then about the vertical
        axis, or the identity.
    size : int, optional
        How many; None for a single rotation.

    Returns
    -------
    scipy.spatial.transform.Rotation

    Examples
    --------
    >>> turn = random_rotation(np.random.default_rng(0), "yaw")
    >>> turn.apply([0.0, 0.0, 1.0])
    array([0., 0., 1.])

    Notes
    -----
    "tilt": Coors, Condurache and Geiger, "SphereNet", ECCV 2018, section 4.1.
    """
    check_choice("kind", kind, PLACES)
    axes = () if size is None else (size,)
    if kind == "so3":
        return Rotation.from_quat(rng.standard_normal((*axes, 4)))
    if kind == "tilt":
        lat, lon = rng.uniform(-np.pi / 2, np.pi / 2, axes), rng.uniform(-np.pi, np.pi, axes)
        return Rotation.from_euler("ZY", np.stack([lon, -lat], axis=-1))
    angle = np.asarray(rng.uniform(0, 2 * np.pi, axes) if kind == "yaw" else np.zeros(axes))
    return Rotation.from_rotvec(angle[..., None] * np.array([0.0, 0.0, 1.0]))


def looking_at(lat: float, lon: float, roll: float = 0.0) -> Rotation:
    """Rotation that carries the view towards lat 0, lon 0 to another direction, with north kept up.

    Parameters
    ----------
    lat, lon : float
        The direction, radians.
    roll : float
        Radians by which the view is then turned clockwise, as seen on the panorama.

    Examples
    --------
    >>> looking_at(0.0, np.pi / 2).apply([1.0, 0.0, 0.0]).round(6) + 0.0
    array([0., 1., 0.])
    >>> looking_at(0.3, 0.2).apply([0.0, 0.0, 1.0]).round(3)  # up stays on the meridian
    array([-0.29 , -0.059,  0.955])
    """
    return Rotation.from_euler("ZYX", [lon, -lat, -roll])


def rotate(images: np.ndarray, rotations: Rotation, grid: Grid, method: str = "bilinear") -> np.ndarray:
    r"""Rotate images on the sphere: :math:`y(p) = x(R^{-1} p)`.

    A rotation that maps the centres of pixels to centres of pixels, as whole columns of yaw do, only moves pixels:
    nothing is blurred, and a yaw of k columns equals ``numpy.roll(images, k, axis=2)`` to the bit. On the faces of a
    polyhedron a yaw by 72 degrees, or another rotation of the icosahedron, moves faces in the same way.

    Parameters
    ----------
    images : ndarray (N, H, W, C) or (N, P, C)
        Images on `grid`: float32 or float64; any dtype with ``"nearest"``.
    rotations : scipy.spatial.transform.Rotation
        One rotation for all images or one for each.
    grid : Grid
        Grid of the images, one that has ``nearest`` and ``taps``: Equirect, Polyhedron.
    method : {"bilinear", "nearest"}
        ``"bilinear"`` reads between the pixels or faces around; ``"nearest"`` is for class labels.

    Returns
    -------
    ndarray (N, H, W, C) or (N, P, C)

    Raises
    ------
    InputError
        If the images are not on the grid or the number of rotations differs.

    Examples
    --------
    >>> from spherecnn.grids import Equirect
    >>> x = np.arange(8.0).reshape(1, 2, 4, 1)
    >>> rotate(x, Rotation.from_euler("z", 90, degrees=True), Equirect(2))[0, :, :, 0]
    array([[3., 0., 1., 2.],
           [7., 4., 5., 6.]])
    """
    check_choice("method", method, ("bilinear", "nearest"))
    check_readable(grid)
    if images.ndim != len(grid.shape) + 2 or images.shape[1:-1] != grid.shape:
        raise InputError(
            f"images have shape {images.shape}; expected (N, {', '.join(map(str, grid.shape))}, C) for {grid!r}: "
            "give the grid of the images, with channels as the last axis."
        )
    turns = np.reshape(rotations.as_matrix(), (-1, 3, 3))
    if method == "bilinear" and isinstance(grid, Equirect):
        return sample_equirect(images, grid.xyz[None], turns, grid.pole_rows).reshape(images.shape)
    if len(turns) not in (1, len(images)):
        raise InputError(
            f"there are {len(turns)} rotations for {len(images)} images; expected one, or one for each image."
        )
    flat = images.reshape(len(images), grid.sites, images.shape[-1])
    if method == "bilinear":
        check_array("images", flat, "N, P, C")
        return _read_between(flat, grid, turns).reshape(images.shape)
    moved = [x[nearest_sites(grid, grid.xyz @ turns[n % len(turns)])] for n, x in enumerate(flat)]
    return np.stack(moved).reshape(images.shape)


def _read_between(images: np.ndarray, grid: Grid, turns: np.ndarray) -> np.ndarray:
    """Read (N, sites, C) at R^-1 p, with one matrix R or one for each image."""
    y = np.empty_like(images)
    for n, turn in enumerate(turns):
        matrix = sampling_matrix(grid, grid.xyz @ turn).astype(images.dtype)
        for k in range(len(images)) if len(turns) == 1 else (n,):
            y[k] = matrix @ images[k]
    return y


class RotateAugment:
    """Rotate each image of a training batch at random, and what is known of its pixels with it.

    ``"yaw"`` turns an equirectangular image by a random number of whole columns, which loses nothing, and an image on
    another grid by any angle; ``"so3"`` draws from all rotations. Targets on the grid, ``(N, *grid.shape)`` or
    ``(N, *grid.shape, K)``, turn with their image, integers by the nearest pixel; one target for each image stays.
    NaN marks a missing value: a turned value is the mean of those that are there, and is NaN where these make up less
    than half.

    Parameters
    ----------
    grid : Grid
        Grid of the images, one that has ``nearest`` and ``taps``: Equirect, Polyhedron.
    kind : {"so3", "yaw", "none"}
        Which rotations to draw.
    values : {"bilinear", "nearest"}
        How targets that are floats are read.

    Examples
    --------
    >>> from spherecnn.grids import Equirect
    >>> augment = RotateAugment(Equirect(4), "yaw")
    >>> x, y = augment(np.ones((2, 4, 8, 1), np.float32), np.array([0, 1]), np.random.default_rng(0))
    >>> x.shape, y
    ((2, 4, 8, 1), array([0, 1]))
    """

    def __init__(self, grid: Grid, kind: str = "so3", values: str = "bilinear"):
        check_choice("kind", kind, KINDS)
        check_choice("values", values, ("bilinear", "nearest"))
        check_readable(grid)
        self.grid, self.kind, self.values = grid, kind, values

    def __call__(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self.kind == "none":
            return x, y
        axes = self.grid.shape
        if self.kind == "yaw" and isinstance(self.grid, Equirect):
            turn = self._draw_columns(rng, len(x), self.grid.width)
        else:
            turn = self._draw_turns(rng, len(x))
        return turn(x, "bilinear"), turn(y, self.values) if y.shape[1 : 1 + len(axes)] == axes else y

    def _draw_columns(self, rng: np.random.Generator, count: int, width: int) -> Turn:
        columns = rng.integers(width, size=count)
        return lambda maps, how: np.stack([np.roll(m, k, axis=1) for m, k in zip(maps, columns, strict=True)])

    def _draw_turns(self, rng: np.random.Generator, count: int) -> Turn:
        turns = random_rotation(rng, self.kind, count)

        def turn(maps: np.ndarray, how: str) -> np.ndarray:
            channels = maps if maps.ndim == len(self.grid.shape) + 2 else maps[..., None]
            if maps.dtype.kind in "iub" or how == "nearest":
                return rotate(channels, turns, self.grid, "nearest").reshape(maps.shape)
            there = np.isfinite(channels)
            if there.all():
                return rotate(channels, turns, self.grid).reshape(maps.shape)
            share = rotate(there.astype(maps.dtype), turns, self.grid)
            total = rotate(np.where(there, channels, 0), turns, self.grid)
            kept = share >= 0.5
            return np.where(kept, total / np.where(kept, share, 1), np.nan).astype(maps.dtype).reshape(maps.shape)

        return turn


class Photometric:
    """Change brightness and contrast and add noise, drawn anew for each image; values stay in [0, 1].

    Brightness and contrast are those of torchvision's ``ColorJitter``: a factor drawn from
    [max(0, 1 - b), 1 + b] multiplies the image, and one drawn likewise its distance from its mean grey.

    Parameters
    ----------
    brightness, contrast : float
        Half-widths b of the factors' ranges.
    noise : float
        Standard deviation of Gaussian noise.

    Examples
    --------
    >>> jitter = Photometric(brightness=0.2)
    >>> x, y = jitter(np.full((1, 2, 4, 1), 0.5), np.array([3]), np.random.default_rng(0))
    >>> bool(0.4 <= x.min() == x.max() <= 0.6)
    True
    """

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2, noise: float = 0.0):
        for name, value in (("brightness", brightness), ("contrast", contrast), ("noise", noise)):
            if not value >= 0:
                raise InputError(f"{name} is {value!r}; expected a number of at least 0: change it.")
        self.brightness, self.contrast, self.noise = brightness, contrast, noise

    def __call__(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        check_array("x", x, "N, P, C" if np.ndim(x) < 4 else "..., C")
        one = (len(x), *[1] * (x.ndim - 1))
        bright, contrast = (
            rng.uniform(max(0.0, 1 - b), 1 + b, one).astype(x.dtype) for b in (self.brightness, self.contrast)
        )
        x = np.clip(x * bright, 0, 1)
        mean = x.mean(axis=tuple(range(1, x.ndim)), keepdims=True)
        x = mean + (x - mean) * contrast
        if self.noise > 0:
            x = x + rng.standard_normal(x.shape, x.dtype) * x.dtype.type(self.noise)
        return np.clip(x, 0, 1), y


class Compose:
    """Apply several augmentations, first to last.

    Examples
    --------
    >>> from spherecnn.grids import Equirect
    >>> augment = Compose(RotateAugment(Equirect(4), "yaw"), Photometric(noise=0.01))
    """

    def __init__(self, *transforms: Transform):
        self.transforms = transforms

    def __call__(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        for transform in self.transforms:
            x, y = transform(x, y, rng)
        return x, y
