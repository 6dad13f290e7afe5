"""The six faces of a cubemap unfolded as a cross."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, directions, unfold
from spherecnn.grids.cubemap import FACES
from spherecnn.grids.layouts import CROSS
from spherecnn.viz.figure import colours, save

_LINES: dict[str, Any] = {"color": "white", "linewidth": 0.5, "alpha": 0.7}


def cubemap(
    faces: np.ndarray,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    cmap: str = "viridis",
    graticule: bool = True,
) -> Path:
    """Draw a cubemap unfolded: left, front, right, back in a row, up above and down below front.

    Parameters
    ----------
    faces : ndarray (6, n, n, C) or (6, n, n)
        RGB (C = 3) or grey (C = 1) in [0, 1], or a field that is coloured by `cmap`.
    path : path
        The picture to write.
    title : str, optional
        Above the picture.
    cmap : str
        Matplotlib colour map of fields.
    graticule : bool
        Whether to draw parallels and meridians every 30 degrees.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the faces are not six squares, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    faces = np.asarray(faces)
    if faces.ndim not in (3, 4) or faces.shape[0] != 6 or faces.shape[1] != faces.shape[2]:
        raise InputError(
            f"faces have shape {faces.shape}; expected (6, n, n, C) or (6, n, n): stack {', '.join(FACES)}."
        )
    size = faces.shape[1]
    # one scale of colours for all faces: they are coloured side by side
    rgb = colours(faces.reshape(6 * size, size, *faces.shape[3:]), cmap).reshape(6, size, size, 3)
    picture = np.concatenate([unfold(rgb), unfold(np.ones((6, size, size, 1), np.float32))], axis=-1)
    figure = Figure(figsize=(8, 6.2 if title else 6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, extent=(0, 4, 3, 0), interpolation="nearest")
    for name, (row, column) in zip(FACES, CROSS, strict=True):
        box = {"facecolor": "black", "alpha": 0.4, "linewidth": 0, "pad": 2}
        axes.text(column + 0.03, row + 0.03, name, va="top", color="white", fontsize=9, bbox=box)
    if graticule:
        _draw_graticule(axes)
    axes.set(xlim=(0, 4), ylim=(3, 0))
    axes.set_axis_off()
    if title:
        figure.suptitle(title)
    return save(figure, path)


def _draw_graticule(axes: Any) -> None:
    """Lines on every face, each broken where it leaves the face."""
    half, full = np.linspace(-90, 90, 721), np.linspace(-180, 180, 1441)
    meridians = [(half, np.full(len(half), m)) for m in range(-180, 180, 30)]
    parallels = [(np.full(len(full), p), full) for p in range(-60, 90, 30)]
    for lat, lon in meridians + parallels:
        face, row, column = Cubemap(1).pixel(directions(np.radians(lat), np.radians(lon)))
        for f, (down, right) in enumerate(CROSS):
            on = np.where(face == f, 0.5, np.nan)
            axes.plot(right + column + on, down + row + on, **_LINES)
