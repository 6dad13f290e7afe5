"""Omni-MNIST: digits on tangent planes of the sphere, at every latitude."""

from __future__ import annotations

import os

from spherecnn.datasets.idx import mnist
from spherecnn.datasets.planar import PlanarDataset
from spherecnn.grids import Equirect, Grid


def omni_mnist(
    folder: str | os.PathLike[str],
    grid: Grid | None = None,
    *,
    split: str = "train",
    flip: bool = True,
    fov_deg: float = 120.0,
    seed: int = 1,
) -> PlanarDataset:
    r"""MNIST as in SphereNet: each digit on a tangent plane 120 degrees wide, anywhere from pole to pole.

    A digit is mirrored with probability 1/2, tilted up or down, and turned about the vertical axis:

    .. math:: lat \sim U(-\pi/2, \pi/2),\qquad lon \sim U(-\pi, \pi)

    Every digit keeps the orientation drawn for it from the seed, so the test set is fixed. The paper draws
    those of training digits anew at every reading: train on ``data.flat`` with ``augment=data.place``.

    Parameters
    ----------
    folder : path
        The four files of MNIST, or of a set in the same format; see `mnist`.
    grid : Grid, optional
        Where the digits are put; ``Equirect(60, 60)`` by default, whose pixels are twice as wide as high.
    split : {"train", "test"}
        Which two of the files.
    flip : bool
        Mirror every second digit, left to right, at random, as the published data are. False leaves all readable.
    fov_deg : float
        Field of view of a digit in degrees.
    seed : int
        Seeds the orientations.

    Returns
    -------
    PlanarDataset
        Panoramas (n, 60, 60, 1), float32 in [0, 1], and classes.

    Raises
    ------
    InputError
        If a file is missing or damaged, or an option is unknown.

    Notes
    -----
    Coors, Condurache and Geiger, "SphereNet: Learning Spherical Representations for Detection and Classification
    in Omnidirectional Images", ECCV 2018, section 4.1. The mirror is that of the code which is usually taken for
    theirs (ChiWeiHsiao/SphereNet-pytorch, dataset.py). That code reads pictures half a pixel off their centre, turns
    by whole columns and keeps values from 0 to 255; here pixels have their centres at whole numbers, turns are
    continuous and values go from 0 to 1.
    """
    grid = Equirect(60, 60) if grid is None else grid
    return mnist(folder, grid, split=split, rotate="tilt", fov_deg=fov_deg, seed=seed, flip=flip)
