"""Planar pictures on the sphere: inverse gnomonic projection."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from spherecnn.errors import InputError, check_array
from spherecnn.grids import Grid
from spherecnn.grids.resample import overlap
from spherecnn.kernels.sample import sample_tangent


def project_planar(
    images: np.ndarray, grid: Grid, fov_deg: float = 120.0, rotations: Rotation | None = None
) -> np.ndarray:
    r"""Put planar pictures on tangent planes of the sphere and read them at the sites of a grid.

    Without rotations the picture touches the sphere at lat 0, lon 0, upright: its row 0 is to the north
    and its column 0 to the west. A site at :math:`(x, y, z)` shows the point :math:`(u, v) = (y / x, z / x)`
    of the plane x = 1, read bilinearly; sites outside the picture are zero. Pixels are square, so the
    vertical field of view follows from the shape.

    Where the pixels of the picture are smaller than those of the grid at the tangent point, the picture is
    first averaged over areas down to the grid's pixel size, so that nothing is skipped.

    Parameters
    ----------
    images : ndarray (N, h, w) or (N, h, w, C)
        Pictures, float32 or float64.
    grid : Grid
        Where to put them.
    fov_deg : float
        Horizontal field of view in degrees, above 0 and below 180.
    rotations : scipy.spatial.transform.Rotation, optional
        One for all pictures or one for each: they carry the picture from lat 0, lon 0 to its place.

    Returns
    -------
    ndarray (N, H, W, C) or (N, P, C)
        Same dtype as `images`; C is 1 for pictures without a channel axis.

    Raises
    ------
    InputError
        If the shape, dtype or field of view is wrong, or the number of rotations differs.

    Notes
    -----
    Coors, Condurache and Geiger, "SphereNet", ECCV 2018, section 4.1, uses 120 degrees for Omni-MNIST.

    Examples
    --------
    >>> from spherecnn.grids import Equirect
    >>> project_planar(np.array([[[1.0, 2.0], [3.0, 4.0]]]), Equirect(4), fov_deg=90)[0, :, :, 0].round(2)
    array([[0.  , 0.  , 0.  , 0.  , 0.  , 0.  , 0.  , 0.  ],
           [0.  , 0.  , 0.  , 1.19, 2.02, 0.  , 0.  , 0.  ],
           [0.  , 0.  , 0.  , 2.98, 3.81, 0.  , 0.  , 0.  ],
           [0.  , 0.  , 0.  , 0.  , 0.  , 0.  , 0.  , 0.  ]])
    """
    if np.ndim(images) == 3:
        images = np.asarray(images)[..., None]
    check_array("images", images, "N, h, w, C")
    if not 0 < fov_deg < 180:
        raise InputError(
            f"fov_deg is {fov_deg}; expected degrees above 0 and below 180: a plane shows less than half a sphere."
        )
    half_width = math.tan(math.radians(fov_deg) / 2)
    pixel = math.sqrt(4 * math.pi / grid.sites)
    pictures = _shrink(images, 2 * half_width / images.shape[2] / pixel)
    turns = None if rotations is None else np.reshape(rotations.as_matrix(), (-1, 3, 3))
    extent = half_width, half_width * images.shape[1] / images.shape[2]
    y = sample_tangent(pictures, grid.xyz[None], extent, turns)
    return y.reshape(len(images), *grid.shape, images.shape[3])


def _shrink(images: np.ndarray, ratio: float) -> np.ndarray:
    """Average pictures over areas to `ratio` times their size; leave them when that is no smaller."""
    height, width = images.shape[1:3]
    if ratio >= 1:
        return images
    small = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    rows, columns = (
        overlap(np.linspace(0, 1, size + 1), np.linspace(0, 1, fewer + 1)).toarray().astype(images.dtype)
        for size, fewer in zip((height, width), small, strict=True)
    )
    return np.einsum("ih,nhwc,jw->nijc", rows, images, columns, optimize=True)
