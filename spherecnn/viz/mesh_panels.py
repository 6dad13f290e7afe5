"""Several fields on a mesh as unrolled maps, and what a mesh is worth: shapes, sizes, errors of its operators."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids.mesh_quality import edge_lengths, face_angles, radius_ratios
from spherecnn.viz.figure import save
from spherecnn.viz.globe import degrees
from spherecnn.viz.mesh import Colours, colour_bar, draw_unrolled, render_mesh, unroll_mesh

_VIEWS = ((20, 0), (-20, 180))
_COUNTED, _CURVED, _SLOPED = "#4c72b0", "#dd8452", "#55a868"


def draw_fields(
    grid: Any,
    fields: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    *,
    units: Mapping[str, str] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    columns: int = 2,
    title: str | None = None,
) -> Path:
    """Draw fields on one mesh as panoramas side by side, each with its own colour bar.

    Parameters
    ----------
    grid : MeshGrid, Icosphere or Polyhedron
    fields : mapping of str to ndarray (P,) or (F,)
        What stands above each panorama, and its values at the vertices or on the faces.
    path : path
        The picture to write.
    units : mapping of str to str, optional
        Beside the bars.
    limits : mapping of str to (float, float), optional
        Values of the first and the last colour, so that fields can be compared; by default each has its own.
    columns : int
        Panoramas in a row.
    title : str, optional
        Above the picture.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If there are no fields, a field is not on the mesh, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    if not fields:
        raise InputError("there are no fields; expected one or more: give each a name.")
    columns = min(columns, len(fields))
    rows = -(-len(fields) // columns)
    figure = Figure(figsize=(5.4 * columns, 2.55 * rows + (0.35 if title else 0)), layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in every[len(fields) :]:
        axes.set_axis_off()
    for axes, (name, values) in zip(every, fields.items(), strict=False):
        scale = Colours.of(values, limits=(limits or {}).get(name))
        draw_unrolled(axes, unroll_mesh(grid, values, height=240, edges=False, scale=scale))
        axes.set_title(name, fontsize=10)
        colour_bar(figure, scale, (units or {}).get(name, ""), ax=axes, shrink=0.85, aspect=25)
    if title:
        figure.suptitle(title)
    return save(figure, path)


def draw_quality(
    grid: Any, path: str | os.PathLike[str], errors: np.ndarray | None = None, *, title: str | None = None
) -> Path:
    """Draw how even a mesh is: areas and angles on it, how often they occur, and the errors of its operators.

    Parameters
    ----------
    grid : MeshGrid or Icosphere
    path : path
        The picture to write.
    errors : ndarray (degrees, 2), optional
        Relative errors of Laplacian and gradient on harmonics of degree 1, 2, and so on, as of
        `spherecnn.grids.mesh_quality.harmonic_errors`.
    title : str, optional
        Above the picture.

    Returns
    -------
    Path
        The file.
    """
    from matplotlib.figure import Figure

    area = grid.area / grid.area.mean()
    least = np.degrees(face_angles(grid)).min(axis=1)
    figure = Figure(figsize=(11.2, 6.2 if title else 5.9), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.0, 0.95))
    above, below = parts
    for part, values, name in (
        (above.subfigures(1, 2)[0], area, "area of a vertex / mean"),
        (above.subfigures(1, 2)[1], least, "smallest angle of a face, degrees"),
    ):
        scale = _span(values)
        pair = part.subplots(1, 2)
        for axes, (lat, lon) in zip(pair, _VIEWS, strict=True):
            axes.imshow(render_mesh(grid, values, lat, lon, size=300, scale=scale), extent=(-1, 1, -1, 1))
            axes.set_title(f"{degrees(lat, 'N', 'S')}, {degrees(lon, 'E', 'W')}", fontsize=9)
            axes.set_axis_off()
        colour_bar(part, scale, name, ax=pair, shrink=0.85, aspect=25)
    charts = below.subplots(1, 4 if errors is not None else 3)
    lengths = edge_lengths(grid)
    _histogram(charts[0], least, "smallest angle of a face, degrees", "faces")
    _histogram(charts[1], radius_ratios(grid), "quality of a face, 2 r / R", "faces")
    _histogram(charts[2], lengths / lengths.mean(), "length of an edge / mean", "edges")
    if errors is not None:
        _draw_errors(charts[3], errors)
    if title:
        figure.suptitle(title)
    return save(figure, path)


def _span(values: np.ndarray) -> Colours:
    """Colours that show nothing where values differ by rounding only."""
    low, high = float(values.min()), float(values.max())
    return Colours("viridis", low, high) if high - low > 1e-6 * high else Colours("viridis", 0.9 * low, 1.1 * high)


def _histogram(axes: Any, values: np.ndarray, what: str, counted: str) -> None:
    scale = _span(values)
    axes.hist(values, bins=40, range=(scale.low, scale.high), color=_COUNTED)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    _label(axes, what, counted)


def _draw_errors(axes: Any, errors: np.ndarray) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    degree = np.arange(1, len(errors) + 1)
    axes.plot(degree, errors[:, 0], "o-", markersize=3, color=_CURVED, label="Laplacian")
    axes.plot(degree, errors[:, 1], "s-", markersize=3, color=_SLOPED, label="gradient")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.set_xticks(degree)
    axes.legend(frameon=False, fontsize=8)
    _label(axes, "degree of the harmonic", "relative error")


def _label(axes: Any, across: str, up: str) -> None:
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
