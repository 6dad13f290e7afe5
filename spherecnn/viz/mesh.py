"""Triangle meshes, and signals on them, seen from several sides and unrolled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.grids import Equirect
from spherecnn.grids.base import barycentric, read_only
from spherecnn.grids.operators import face_normals
from spherecnn.viz.figure import save
from spherecnn.viz.globe import VIEWS, degrees, draw_graticule, view_frame
from spherecnn.viz.labels import IGNORED
from spherecnn.viz.raster import rasterise

# Parts of a pixel along a side, over which colours are averaged.
_PARTS = 3
# Brightness of the lines between triangles, and how many pixels a triangle must be wide for lines by default: where
# there is nothing else to see, and over values.
_LINE, _WIDE, _WIDER = 0.45, 7, 14
_PLAIN = np.array([0.62, 0.72, 0.84])
_LIGHT = np.array([0.75, -0.35, 0.56])  # from the viewer, the left and above
_SIZE, _UNROLLED = 320, 360


@dataclass(frozen=True)
class Colours:
    """How a field becomes colours.

    Attributes
    ----------
    cmap : str
        Matplotlib colour map.
    low, high : float
        Values of its first and last colour.
    """

    cmap: str
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray, cmap: str | None = None, limits: tuple[float, float] | None = None) -> Colours:
        """Colours from the least to the greatest value; with values of both signs, about zero from blue to red.

        Examples
        --------
        >>> Colours.of(np.array([1.0, 3.0, np.nan]))
        Colours(cmap='viridis', low=1.0, high=3.0)
        >>> Colours.of(np.array([-1.0, 3.0]))
        Colours(cmap='RdBu_r', low=-3.0, high=3.0)
        """
        finite = values[np.isfinite(values)].astype(float)
        low, high = limits or ((float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0))
        if cmap is None and limits is None and low < 0 < high:
            low, high = -max(-low, high), max(-low, high)
        return cls(cmap or ("RdBu_r" if low < 0 < high else "viridis"), low, high)

    def rgb(self, values: np.ndarray) -> np.ndarray:
        """RGB of values (...), grey where they are missing: (..., 3)."""
        from matplotlib import colormaps

        span = self.high - self.low
        scaled = (values - self.low) / (span if span > 0 else 1.0)
        colour = colormaps[self.cmap](np.nan_to_num(scaled))[..., :3]
        return np.where(np.isfinite(values)[..., None], colour, IGNORED)


def draw_mesh(
    grid: Any,
    values: np.ndarray | None,
    path: str | os.PathLike[str],
    views: Sequence[tuple[float, float]] = VIEWS,
    *,
    size: int = _SIZE,
    unrolled: bool = True,
    edges: bool | None = None,
    graticule: bool | None = None,
    cmap: str | None = None,
    limits: tuple[float, float] | None = None,
    unit: str = "",
    title: str | None = None,
) -> Path:
    """Draw a mesh, or values on it, from outside and far away, and unrolled as a panorama: north is up.

    Values at vertices are linear on each triangle; class numbers (integers) fill what is nearest to the vertex.

    Parameters
    ----------
    grid : MeshGrid, Icosphere or Polyhedron
        What has ``vertices`` (P, 3) and ``faces`` (F, 3). Seen from the side, vertices lie where they are, not on
        the unit sphere.
    values : ndarray (P,) or (F,), or (P, C) or (F, C) with C = 1 or 3, or None
        A field, or grey or RGB in [0, 1], at the vertices or on the faces. None draws the triangles, lit from the
        left. Missing values (NaN) are grey.
    path : path
        The picture to write.
    views : sequence of (lat, lon)
        Middle of each view in degrees.
    size : int
        Pixels across one view; the picture grows with it.
    unrolled : bool
        Draw the panorama below the views, unless there is nothing in it: no values, and no edges.
    edges : bool, optional
        Draw the edges of the triangles; by default where triangles are large enough to be told apart.
    graticule : bool, optional
        Draw meridians and parallels every 30 degrees; by default where there are no edges.
    cmap : str, optional
        Matplotlib colour map of a field; by default viridis, or blue to red about zero.
    limits : (float, float), optional
        Values of the first and the last colour.
    unit : str
        Beside the colour bar.
    title : str, optional
        Above the picture.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the values are not on the mesh, or the file cannot be written.
    """
    scale = None if values is None or values.ndim > 1 else Colours.of(values, cmap, limits)
    seen = edges if edges is not None else _wide(grid, values, size)
    lines = not seen if graticule is None else graticule
    unrolled = unrolled and (seen or values is not None)
    figure, view_axes, map_axes, bar_axes = _sheet(len(views), unrolled, scale is not None, title)
    for axes, (lat, lon) in zip(view_axes, views, strict=True):
        view = render_mesh(grid, values, lat, lon, size=size, edges=seen, scale=scale)
        axes.imshow(view, extent=(-1, 1, -1, 1), interpolation="antialiased")
        if lines:
            draw_graticule(axes, lat, lon)
        axes.set(xlim=(-1.01, 1.01), ylim=(-1.01, 1.01))
        axes.set_title(f"{degrees(lat, 'N', 'S')}, {degrees(lon, 'E', 'W')}", fontsize=9, pad=3)
        axes.set_axis_off()
    if map_axes is not None:
        height = max(1, round(_UNROLLED * size / _SIZE))
        draw_unrolled(map_axes, unroll_mesh(grid, values, height=height, edges=seen, scale=scale))
    if scale is not None:
        colour_bar(figure, scale, unit, cax=bar_axes)
    return save(figure, path, dpi=round(120 * size / _SIZE))


def render_mesh(
    grid: Any,
    values: np.ndarray | None,
    lat: float,
    lon: float,
    *,
    size: int = _SIZE,
    edges: bool | None = None,
    scale: Colours | None = None,
) -> np.ndarray:
    """Return the view from above (lat, lon) degrees as RGBA float32 (size, size, 4), clear outside the mesh.

    Values and edges are as for `draw_mesh`; `scale` colours a field.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> view = render_mesh(Icosphere(2), np.ones((162, 3)), 0, 0, size=9, edges=False)
    >>> view[4, 4], float(view[0, 0, 3])
    (array([1., 1., 1., 1.], dtype=float32), 0.0)
    """
    size = check_at_least("size", size, 1)
    edges = _wide(grid, values, size) if edges is None else edges
    seen_from = view_frame(lat, lon)
    vertices = grid.vertices @ seen_from.T
    vertices = vertices / np.linalg.norm(vertices, axis=1).max()
    face, weights = rasterise(vertices[grid.faces], _PARTS * size)
    rgb = _colour(grid, values, face, weights, scale)
    if values is None:
        normal = face_normals(grid) @ seen_from.T
        light = 0.45 + 0.6 * (normal @ (_LIGHT / np.linalg.norm(_LIGHT))).clip(0)
        rgb = rgb * light[face][..., None]
    if edges:
        rgb[_borders(face)] *= _LINE
    view = np.concatenate([rgb.clip(0, 1), np.ones((*face.shape, 1))], axis=-1) * (face >= 0)[..., None]
    view = view.reshape(size, _PARTS, size, _PARTS, 4).mean(axis=(1, 3))
    view[..., :3] /= np.maximum(view[..., 3:], 1e-12)
    return view.astype(np.float32)


def unroll_mesh(
    grid: Any,
    values: np.ndarray | None,
    *,
    height: int = _UNROLLED,
    edges: bool | None = None,
    scale: Colours | None = None,
) -> np.ndarray:
    """Return the mesh as a panorama, RGB float32 (height, 2 height, 3): each pixel the triangle in its direction.

    Values and edges are as for `draw_mesh`; `scale` colours a field.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> grid = Icosphere(2)
    >>> unroll_mesh(grid, grid.lat, height=4).shape
    (4, 8, 3)
    """
    height = check_at_least("height", height, 1)
    edges = _wide(grid, values, height) if edges is None else edges
    face, weights = _unrolled(grid, 2 * height)
    rgb = _colour(grid, values, face, weights, scale)
    if edges:
        rgb[_borders(face)] *= _LINE
    return rgb.clip(0, 1).reshape(height, 2, 2 * height, 2, 3).mean(axis=(1, 3)).astype(np.float32)


def _colour(
    grid: Any, values: np.ndarray | None, face: np.ndarray, weights: np.ndarray, scale: Colours | None
) -> np.ndarray:
    """RGB of each pixel (..., 3) from the triangle in it and the weights of its corners."""
    if values is None:
        return np.broadcast_to(_PLAIN, (*face.shape, 3)).copy()
    values = np.asarray(values)
    count = len(values) if values.ndim else 0
    if count not in (len(grid.vertices), len(grid.faces)) or values.shape[1:] not in ((), (1,), (3,)):
        raise InputError(
            f"values have shape {values.shape}; expected ({len(grid.vertices)},) at the vertices or "
            f"({len(grid.faces)},) on the faces of {grid!r}, or 1 or 3 colours as one more axis: choose channels."
        )
    if count == len(grid.faces) and count != len(grid.vertices):
        read = values[face]
    elif values.dtype.kind in "iub":
        corner = np.take_along_axis(grid.faces[face], weights.argmax(axis=-1)[..., None], axis=-1)[..., 0]
        read = values[corner]
    else:
        read = sum(
            weights[..., k].reshape(*face.shape, *[1] * (values.ndim - 1)) * values[grid.faces[face, k]]
            for k in range(3)
        )
    if values.ndim == 1:
        return (scale or Colours.of(values)).rgb(read)
    return np.where(np.isfinite(read), read, IGNORED if read.shape[-1] == 3 else IGNORED[:1]) * np.ones(3)


@lru_cache(maxsize=1)
def _unrolled(grid: Any, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Face (H, W) in the direction of each pixel, and the weights (H, W, 3) of its corners where the ray meets it.

    Kept, since pictures of one mesh are drawn one after the other.
    """
    xyz = Equirect(height).xyz
    face = grid.face_of(xyz) if hasattr(grid, "face_of") else grid.nearest(xyz)
    weights = barycentric(xyz, *(grid.vertices[grid.faces[face, k]] for k in range(3)))
    return read_only(face.reshape(height, -1)), read_only(weights.reshape(height, -1, 3))


def _borders(face: np.ndarray) -> np.ndarray:
    """Pixels on both sides of a border between triangles."""
    line = np.zeros(face.shape, bool)
    for axis in (0, 1):
        step = np.diff(face, axis=axis) != 0
        line |= np.insert(step, 0, False, axis) | np.insert(step, face.shape[axis] - 1, False, axis)
    return line


def _wide(grid: Any, values: np.ndarray | None, size: int) -> bool:
    """Whether triangles are wide enough for lines between them in a view of this size."""
    return bool(size * (np.pi / len(grid.faces)) ** 0.5 > (_WIDE if values is None else _WIDER))


def _sheet(views: int, unrolled: bool, bar: bool, title: str | None) -> tuple[Any, list[Any], Any, Any]:
    """A figure with axes of the views in a row, of the panorama below and of the colour bar; in inches."""
    from matplotlib.figure import Figure

    side, gap, left, bottom = (2.45 if views > 2 else 3.4), 0.1, 0.5, (0.35 if unrolled else 0.1)
    row = views * side + (views - 1) * gap
    across = max(row, 7.0) if unrolled else row
    high, above = (across / 2 + 0.2 if unrolled else 0.0), (0.65 if title else 0.3)
    width, height = left + across + (0.95 if bar else 0.3), bottom + high + side + above
    figure = Figure(figsize=(width, height))

    def add(x: float, y: float, wide: float, tall: float) -> Any:
        return figure.add_axes((x / width, y / height, wide / width, tall / height))

    first = left + (across - row) / 2
    seen = [add(first + k * (side + gap), bottom + high, side, side) for k in range(views)]
    below = add(left, bottom, across, across / 2) if unrolled else None
    beside = add(left + across + 0.15, bottom, 0.16, across / 2 if unrolled else side) if bar else None
    if title:
        figure.suptitle(title, x=(left + across / 2) / width, y=1 - 0.12 / height, va="top")
    return figure, seen, below, beside


def draw_unrolled(axes: Any, rgb: np.ndarray) -> None:
    """Show a panorama with axes in degrees."""
    axes.imshow(rgb, extent=(-180, 180, -90, 90), interpolation="antialiased")
    axes.set(xticks=range(-180, 181, 60), yticks=range(-90, 91, 30))
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_formatter("{x:.0f}°")
    axes.yaxis.set_major_formatter("{x:.0f}°")


def colour_bar(figure: Any, scale: Colours, label: str, **where: Any) -> None:
    """Draw the colours of a field and their values; `where` as ``Figure.colorbar`` takes it."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(ScalarMappable(Normalize(scale.low, scale.high), scale.cmap), **where)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.ax.yaxis.get_offset_text().set_fontsize(8)
    bar.formatter.set_powerlimits((-3, 4))
