"""Orthographic views of the sphere from outside."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids import Equirect, Grid, directions
from spherecnn.grids.resample import resample
from spherecnn.kernels.sample import sample_equirect
from spherecnn.viz.figure import colours, save

VIEWS = ((0, 0), (0, 120), (0, -120), (90, 0))
_GRATICULE = {"color": "white", "linewidth": 0.5, "alpha": 0.45}


def globe(
    values: np.ndarray,
    grid: Grid,
    path: str | os.PathLike[str],
    views: Sequence[tuple[float, float]] = VIEWS,
    *,
    size: int = 360,
    graticule: bool = True,
    title: str | None = None,
    cmap: str = "viridis",
) -> Path:
    """Draw the sphere as seen from outside, far away: north is up and east is to the right.

    Parameters
    ----------
    values : ndarray (H, W, 3), (H, W, 1) or (H, W)
        RGB or grey in [0, 1], or a field that is coloured by `cmap`.
    grid : Equirect
        Grid of the values.
    path : path
        The picture to write.
    views : sequence of (lat, lon)
        Centre of each view in degrees.
    size : int
        Pixels across one view.
    graticule : bool
        Draw meridians and parallels every 30 degrees.
    title : str, optional
        Above the picture.
    cmap : str
        Matplotlib colour map of a field.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the values are not on the grid, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    rgb, source = _prepare(values, grid, size, cmap)
    figure = Figure(figsize=(2.6 * len(views), 3.1), layout="constrained")
    for axes, (lat, lon) in zip(figure.subplots(1, len(views), squeeze=False)[0], views, strict=True):
        axes.imshow(_view(rgb, source, lat, lon, size), extent=(-1, 1, -1, 1), interpolation="bilinear")
        if graticule:
            _draw_graticule(axes, lat, lon)
        axes.set_title(f"{_degrees(lat, 'N', 'S')}, {_degrees(lon, 'E', 'W')}", fontsize=9)
        axes.set_axis_off()
    if title:
        figure.suptitle(title)
    return save(figure, path)


def render_globe(
    values: np.ndarray, grid: Grid, lat: float, lon: float, *, size: int = 360, cmap: str = "viridis"
) -> np.ndarray:
    """Return the view from above (lat, lon) degrees as RGBA float32 (size, size, 4), clear outside the disc.

    Examples
    --------
    >>> view = render_globe(np.ones((4, 8, 1)), Equirect(4), 0, 0, size=9)
    >>> view[4, 4], float(view[0, 0, 3])
    (array([1., 1., 1., 1.], dtype=float32), 0.0)
    """
    return _view(*_prepare(values, grid, size, cmap), lat, lon, size)


def _prepare(values: np.ndarray, grid: Grid, size: int, cmap: str) -> tuple[np.ndarray, Equirect]:
    """Return RGB and its grid, averaged down to where its pixels are no finer than the view's."""
    check_at_least("size", size, 1)
    if not isinstance(grid, Equirect) or values.shape[:2] != grid.shape:
        raise InputError(
            f"values have shape {values.shape} on {grid!r}; expected an image on an Equirect: give its own grid."
        )
    rgb = colours(values, cmap)
    fewer = Equirect(min(grid.height, math.ceil(math.pi * size / 2)), min(grid.width, math.ceil(math.pi * size)))
    if grid.pole_rows or fewer == grid:
        return rgb, grid
    return resample(rgb, grid, fewer, "area"), fewer


def _view(rgb: np.ndarray, grid: Equirect, lat: float, lon: float, size: int) -> np.ndarray:
    line = (np.arange(size) + 0.5) * 2 / size - 1
    right, up = np.meshgrid(line, -line)
    radius = np.hypot(right, up)
    inside = np.minimum(1, 1 / np.maximum(radius, 1e-12))
    right, up, towards = right * inside, up * inside, np.sqrt(np.maximum(0, 1 - radius**2))
    xyz = np.stack([towards, right, up], axis=-1).reshape(1, -1, 3) @ _frame(lat, lon)
    view = np.empty((size, size, 4), np.float32)
    read = sample_equirect(rgb[None], xyz, None, grid.pole_rows).reshape(size, size, 3)
    view[..., :3] = np.clip(read, 0, 1)
    view[..., 3] = np.clip((1 - radius) * size / 2 + 0.5, 0, 1)
    return view


def _frame(lat: float, lon: float) -> np.ndarray:
    """Rows: the direction towards the viewer, the viewer's right (east), the viewer's up (north)."""
    a, b = math.radians(lat), math.radians(lon)
    centre = directions(np.array(a), np.array(b))
    east = np.array([-math.sin(b), math.cos(b), 0.0])
    return np.stack([centre, east, np.cross(centre, east)])


def _draw_graticule(axes: Any, lat: float, lon: float) -> None:
    frame, half, full = _frame(lat, lon), np.linspace(-90, 90, 91), np.linspace(-180, 180, 181)
    meridians = [(half, np.full(91, m)) for m in range(-180, 180, 30)]
    parallels = [(np.full(181, p), full) for p in range(-60, 90, 30)]
    for line_lat, line_lon in meridians + parallels:
        towards, right, up = frame @ directions(np.radians(line_lat), np.radians(line_lon)).T
        axes.plot(np.where(towards > 0, right, np.nan), up, **_GRATICULE)


def _degrees(value: float, positive: str, negative: str) -> str:
    side = positive if value > 0 else negative if value < 0 else ""
    return f"{abs(value):g}°{side and ' ' + side}"
