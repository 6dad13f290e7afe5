"""Sample panoramas side by side, and values on any grid as a panorama."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids import Equirect, Grid
from spherecnn.grids.resample import resample
from spherecnn.viz.figure import colours, save


def panorama(values: np.ndarray, grid: Grid, method: str | None = None) -> np.ndarray:
    """Return values on any grid as an equirectangular picture, for what draws such pictures.

    Those on an Equirect stay as they are. Others are read at the pixels of an Equirect with twice as many rows as one
    of as many pixels as sites, so that no site is lost. A pixel with a missing value (NaN) among those that it is
    read from is missing.

    Parameters
    ----------
    values : ndarray ``grid.shape`` or ``(*grid.shape, C)``
    grid : Grid
        One that has ``nearest`` and ``taps``.
    method : {"nearest", "bilinear"}, optional
        By default "nearest" for integers and "bilinear", between the sites around, for floats.

    Returns
    -------
    ndarray (H, W) or (H, W, C)

    Raises
    ------
    InputError
        If the values are not on the grid.

    Examples
    --------
    >>> from spherecnn.grids import Polyhedron
    >>> grid = Polyhedron(1)
    >>> panorama(grid.lat > 0, grid).shape
    (16, 32)
    """
    values, axes = np.asarray(values), len(grid.shape)
    if values.shape[:axes] != grid.shape or values.ndim > axes + 1:
        raise InputError(
            f"values have shape {values.shape}; expected ({', '.join(map(str, grid.shape))}), or channels as one more "
            f"axis, for {grid!r}: give the grid of the values."
        )
    if isinstance(grid, Equirect):
        return values
    target = Equirect(2 * round(math.pi / grid.pixel_side))
    channels = values.reshape(*grid.shape, -1)
    drawn = resample(channels, grid, target, method or ("nearest" if values.dtype.kind in "iub" else "bilinear"))
    return drawn.reshape(*target.shape, *values.shape[axes:])


def panel(
    images: np.ndarray | Sequence[np.ndarray],
    path: str | os.PathLike[str],
    titles: Sequence[str] | None = None,
    *,
    columns: int = 4,
    title: str | None = None,
    cmap: str = "viridis",
) -> Path:
    """Draw equirectangular images in rows, with axes in degrees.

    Parameters
    ----------
    images : ndarray (N, H, W, C) or (N, H, W), or a sequence of such without N
        RGB (C = 3) or grey (C = 1) in [0, 1], or fields that are coloured by `cmap`.
    path : path
        The picture to write.
    titles : sequence of str, optional
        One for each image.
    columns : int
        Images in a row.
    title : str, optional
        Above the picture.
    cmap : str
        Matplotlib colour map of fields.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If there are no images, or another number of titles, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    columns = min(check_at_least("columns", columns, 1), max(1, len(images)))
    if len(images) == 0 or (titles is not None and len(titles) != len(images)):
        given = "no titles" if titles is None else f"{len(titles)} titles"
        raise InputError(f"there are {len(images)} images and {given}; expected images, and a title for each.")
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(3.2 * columns, 1.95 * rows + (0.3 if title else 0)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for i, axes in enumerate(grid.flat):
        if i >= len(images):
            axes.set_axis_off()
            continue
        axes.imshow(colours(images[i], cmap), extent=(-180, 180, -90, 90), interpolation="nearest")
        axes.set(xticks=range(-180, 181, 90), yticks=range(-90, 91, 45))
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_formatter("{x:.0f}°")
        axes.yaxis.set_major_formatter("{x:.0f}°")
        if titles is not None:
            axes.set_title(titles[i], fontsize=9)
    if title:
        figure.suptitle(title)
    return save(figure, path)
