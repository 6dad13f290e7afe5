"""Sample panoramas side by side."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.viz.figure import colours, save


def panel(
    images: np.ndarray,
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
    images : ndarray (N, H, W, C) or (N, H, W)
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
