"""Orthographic views of the sphere from outside."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids import Equirect, Grid, directions
from spherecnn.grids.resample import check_readable, resample, sampling_matrix
from spherecnn.kernels.sample import sample_equirect
from spherecnn.viz.figure import colours, save

VIEWS = ((0, 0), (0, 120), (0, -120), (90, 0))
# Brightness of the lines between sites.
_EDGE = 0.4
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
    smooth: bool | None = None,
    edges: bool = False,
) -> Path:
    r"""Draw the sphere as seen from outside, far away: north is up and east is to the right.

    Parameters
    ----------
    values : ndarray (\*grid.shape, 3), (\*grid.shape, 1) or grid.shape
        RGB or grey in [0, 1], or a field that is coloured by `cmap`.
    grid : Grid
        Grid of the values, one that has ``nearest`` and ``taps``.
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
    smooth : bool, optional
        Interpolate between sites, or show each in one colour: a face of a polyhedron as a triangle. By default only an
        Equirect is smooth.
    edges : bool
        Draw thin lines where sites meet that are shown in one colour.

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

    rgb, source = _prepare(values, grid, size, cmap, smooth)
    figure = Figure(figsize=(2.6 * len(views), 3.1), layout="constrained")
    for axes, (lat, lon) in zip(figure.subplots(1, len(views), squeeze=False)[0], views, strict=True):
        axes.imshow(_view(rgb, source, lat, lon, size, smooth, edges), extent=(-1, 1, -1, 1), interpolation="bilinear")
        if graticule:
            draw_graticule(axes, lat, lon)
        axes.set_title(f"{degrees(lat, 'N', 'S')}, {degrees(lon, 'E', 'W')}", fontsize=9)
        axes.set_axis_off()
    if title:
        figure.suptitle(title)
    return save(figure, path)


def render_globe(
    values: np.ndarray,
    grid: Grid,
    lat: float,
    lon: float,
    *,
    size: int = 360,
    cmap: str = "viridis",
    smooth: bool | None = None,
    edges: bool = False,
) -> np.ndarray:
    """Return the view from above (lat, lon) degrees as RGBA float32 (size, size, 4), clear outside the disc.

    Examples
    --------
    >>> view = render_globe(np.ones((4, 8, 1)), Equirect(4), 0, 0, size=9)
    >>> view[4, 4], float(view[0, 0, 3])
    (array([1., 1., 1., 1.], dtype=float32), 0.0)
    """
    return _view(*_prepare(values, grid, size, cmap, smooth), lat, lon, size, smooth, edges)


def _prepare(values: np.ndarray, grid: Grid, size: int, cmap: str, smooth: bool | None) -> tuple[np.ndarray, Grid]:
    """Return RGB and its grid, smooth panoramas averaged down to where their pixels are no finer than the view's."""
    check_at_least("size", size, 1)
    check_readable(grid)
    axes = len(grid.shape)
    if values.shape[:axes] != grid.shape or values.ndim > axes + 1:
        shape = ", ".join(map(str, grid.shape))
        raise InputError(
            f"values have shape {values.shape} on {grid!r}; expected ({shape}) or ({shape}, C): give its own grid."
        )
    rows = grid.shape if axes == 2 else (1, grid.sites)
    rgb = colours(values.reshape(*rows, *values.shape[axes:]), cmap)
    if not isinstance(grid, Equirect) or grid.pole_rows or smooth is False:
        return rgb, grid
    fewer = Equirect(min(grid.height, math.ceil(math.pi * size / 2)), min(grid.width, math.ceil(math.pi * size)))
    return (rgb, grid) if fewer == grid else (resample(rgb, grid, fewer, "area"), fewer)


def _view(
    rgb: np.ndarray, grid: Grid, lat: float, lon: float, size: int, smooth: bool | None, edges: bool
) -> np.ndarray:
    view = np.empty((size, size, 4), np.float32)
    xyz, radius = _seen(lat, lon, size)
    if smooth is False or (smooth is None and not isinstance(grid, Equirect)):
        read = _flat(rgb.reshape(-1, 3), grid, lat, lon, size, edges)
    elif isinstance(grid, Equirect):
        read = sample_equirect(rgb[None], xyz[None], None, grid.pole_rows)
    else:
        read = sampling_matrix(grid, xyz).astype(np.float32) @ rgb.reshape(-1, 3)
    view[..., :3] = np.clip(read.reshape(size, size, 3), 0, 1)
    view[..., 3] = np.clip((1 - radius) * size / 2 + 0.5, 0, 1)
    return view


def _seen(lat: float, lon: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions (size * size, 3) seen in the pixels of a view, outside the disc at its rim, and radii (size, size)."""
    line = (np.arange(size) + 0.5) * 2 / size - 1
    right, up = np.meshgrid(line, -line)
    radius = np.hypot(right, up)
    inside = np.minimum(1, 1 / np.maximum(radius, 1e-12))
    right, up, towards = right * inside, up * inside, np.sqrt(np.maximum(0, 1 - radius**2))
    return np.stack([towards, right, up], axis=-1).reshape(-1, 3) @ view_frame(lat, lon), radius


def _flat(rgb: np.ndarray, grid: Grid, lat: float, lon: float, size: int, edges: bool) -> np.ndarray:
    """Colours of the sites in view, averaged over parts of each pixel that are no larger than a site."""
    parts = int(np.clip(math.ceil(2 / (size * grid.pixel_side)), 3, 8))
    fine = parts * size
    site = _sites_seen(grid, lat, lon, fine)
    colour = rgb[site].reshape(fine, fine, 3)
    if edges:
        site = site.reshape(fine, fine)
        line = np.zeros((fine, fine), bool)
        for axis in (0, 1):
            step = np.diff(site, axis=axis) != 0
            line |= np.insert(step, 0, False, axis) | np.insert(step, fine - 1, False, axis)
        colour[line] *= _EDGE
    return colour.reshape(size, parts, size, parts, 3).mean(axis=(1, 3))


@lru_cache(maxsize=len(VIEWS))
def _sites_seen(grid: Grid, lat: float, lon: float, size: int) -> np.ndarray:
    """Site in each pixel of a view; kept, since pictures of one grid are drawn one after the other."""
    xyz = _seen(lat, lon, size)[0]
    # in bands, so that the tables of a large view are never held whole
    return np.concatenate([grid.nearest(band) for band in np.array_split(xyz, max(1, len(xyz) >> 19))])


def view_frame(lat: float, lon: float) -> np.ndarray:
    """Rows: the direction towards the viewer, the viewer's right (east), the viewer's up (north)."""
    a, b = math.radians(lat), math.radians(lon)
    centre = directions(np.array(a), np.array(b))
    east = np.array([-math.sin(b), math.cos(b), 0.0])
    return np.stack([centre, east, np.cross(centre, east)])


def draw_graticule(axes: Any, lat: float, lon: float) -> None:
    frame, half, full = view_frame(lat, lon), np.linspace(-90, 90, 91), np.linspace(-180, 180, 181)
    meridians = [(half, np.full(91, m)) for m in range(-180, 180, 30)]
    parallels = [(np.full(181, p), full) for p in range(-60, 90, 30)]
    for line_lat, line_lon in meridians + parallels:
        towards, right, up = frame @ directions(np.radians(line_lat), np.radians(line_lon)).T
        axes.plot(np.where(towards > 0, right, np.nan), up, **_GRATICULE)


def degrees(value: float, positive: str, negative: str) -> str:
    side = positive if value > 0 else negative if value < 0 else ""
    return f"{abs(value):g}°{side and ' ' + side}"
