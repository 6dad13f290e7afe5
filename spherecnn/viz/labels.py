"""Pictures of what is known of every pixel: classes, values, and where they are wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_at_least
from spherecnn.viz.figure import colours, save

# Okabe and Ito, "Color universal design", 2008, without the black; then Paul Tol's "light" and "muted" schemes.
_OKABE_ITO = ("0072b2", "e69f00", "009e73", "d55e00", "56b4e9", "cc79a7", "f0e442")
_LIGHT_AND_MUTED = (
    ("332288", "ffaabb", "999933", "882255", "99ddff", "117733", "ee8866"),
    ("aa4499", "bbcc33", "661100", "44bb99", "ddcc77", "6699cc"),
)
_SAFE = (*_OKABE_ITO, *_LIGHT_AND_MUTED[0], *_LIGHT_AND_MUTED[1])
IGNORED = np.array([0.75, 0.75, 0.75], np.float32)
WRONG = np.array([0.835, 0.369, 0.0], np.float32)
_EXTENT = (-180, 180, -90, 90)


def palette(classes: int) -> np.ndarray:
    """Colours of classes: RGB float32 (classes, 3) in [0, 1].

    The first seven are those of Okabe and Ito, which colour-blind people can tell apart. The next thirteen are
    of Paul Tol's schemes, and further ones differ in hue and lightness: beyond seven, go by the legend too.

    Examples
    --------
    >>> (palette(2) * 255).round().astype(int).tolist()
    [[0, 114, 178], [230, 159, 0]]
    """
    check_at_least("classes", classes, 1)
    safe = np.array([[int(c[i : i + 2], 16) for i in (0, 2, 4)] for c in _SAFE[:classes]], np.float32) / 255
    if classes <= len(_SAFE):
        return safe
    from matplotlib.colors import hsv_to_rgb

    k = np.arange(classes - len(_SAFE))
    hsv = np.stack([k * 0.618034 % 1, 0.45 + 0.25 * (k % 3), 0.95 - 0.2 * (k % 4)], axis=-1)
    return np.concatenate([safe, hsv_to_rgb(hsv).astype(np.float32)])


def colour_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """RGB float32 (..., 3) of class numbers (...); numbers that are no class are light grey.

    Examples
    --------
    >>> colour_labels(np.array([1, 255]), 2).round(2).tolist()
    [[0.8999999761581421, 0.6200000047683716, 0.0], [0.75, 0.75, 0.75]]
    """
    labels = _classes(labels)
    table = np.concatenate([palette(classes), IGNORED[None]])
    return table[np.where((labels >= 0) & (labels < classes), labels, classes)]


def overlay(image: np.ndarray, labels: np.ndarray, classes: int, alpha: float = 0.5) -> np.ndarray:
    """RGB float32 (H, W, 3) or (P, 3) of a picture in [0, 1] with the colours of its classes over it.

    Numbers that are no class leave the picture as it is.

    Examples
    --------
    >>> overlay(np.zeros((1, 1, 3)), np.array([[1]]), 2)[0, 0].round(2)
    array([0.45, 0.31, 0.  ], dtype=float32)
    """
    labels = _classes(labels)
    if image.shape[: labels.ndim] != labels.shape:
        raise InputError(
            f"the picture has shape {image.shape} and the labels {labels.shape}; expected equal rows and columns."
        )
    rgb = colours(image.reshape(1, -1, *image.shape[labels.ndim :])).reshape(*labels.shape, 3)
    share = np.where((labels >= 0) & (labels < classes), np.float32(alpha), np.float32(0))[..., None]
    return rgb * (1 - share) + colour_labels(labels, classes) * share


def label_map(
    labels: np.ndarray,
    classes: Sequence[str],
    path: str | os.PathLike[str],
    *,
    image: np.ndarray | None = None,
    alpha: float = 0.5,
    title: str | None = None,
) -> Path:
    """Draw classes (H, W), alone or over their picture, with a legend of those that occur and their areas.

    Parameters
    ----------
    labels : ndarray (H, W)
        Class numbers on an equirectangular grid; numbers that are no class are grey.
    classes : sequence of str
        Names of the classes.
    path : path
        The picture to write.
    image : ndarray (H, W, 3) or (H, W, 1), optional
        In [0, 1]; the classes are laid over it.
    alpha : float
        Share of the colours over the picture.
    title : str, optional
        Above the picture.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the labels are no integers (H, W), the picture is of another size, or the file cannot be written.
    """
    from matplotlib.patches import Patch

    labels = _classes(labels)
    count = len(classes)
    rgb = colour_labels(labels, count) if image is None else overlay(image, labels, count, alpha)
    area = np.broadcast_to(_row_share(labels.shape)[:, None], labels.shape)
    table = palette(count)
    parts = [(name, table[k], float(area[labels == k].sum())) for k, name in enumerate(classes) if (labels == k).any()]
    outside = (labels < 0) | (labels >= count)
    parts += [("no class", IGNORED, float(area[outside].sum()))] if outside.any() else []
    figure, _ = _map_axes(labels.shape, rgb, title)
    handles = [Patch(facecolor=colour, edgecolor="0.3", label=f"{name}, {share:.1%}") for name, colour, share in parts]
    columns = -(-len(handles) // 14)
    figure.set_figwidth(figure.get_figwidth() + 1.3 * (columns - 1))
    figure.legend(
        handles=handles,
        loc="outside right upper",
        ncols=columns,
        frameon=False,
        fontsize=8,
        title="share of the sphere",
        title_fontsize=9,
    )
    return save(figure, path)


def value_map(
    values: np.ndarray,
    path: str | os.PathLike[str],
    *,
    unit: str = "",
    limits: tuple[float, float] | None = None,
    cmap: str = "viridis",
    title: str | None = None,
) -> Path:
    """Draw values (H, W), such as depth or elevation, with a colour bar; missing ones (NaN) are grey.

    Parameters
    ----------
    values : ndarray (H, W)
        On an equirectangular grid.
    path : path
        The picture to write.
    unit : str
        Beside the colour bar.
    limits : (float, float), optional
        Values of the first and the last colour; the least and the greatest value by default.
    cmap : str
        Matplotlib colour map.
    title : str, optional
        Above the picture.

    Returns
    -------
    Path
        The file.
    """
    figure, shown = _draw_values(_values(values), limits, cmap, title)
    figure.colorbar(shown, label=unit or None, shrink=0.85)
    return save(figure, path)


def error_map(
    predicted: np.ndarray,
    true: np.ndarray,
    path: str | os.PathLike[str],
    *,
    classes: int | None = None,
    unit: str = "",
    title: str | None = None,
) -> Path:
    """Draw where predictions are wrong.

    With `classes`, class numbers (H, W): wrong pixels orange, right ones white, those without a true class grey.
    Otherwise values (H, W): predicted less true, blue where too low and red where too high, missing ones grey.

    Parameters
    ----------
    predicted, true : ndarray (H, W)
    path : path
        The picture to write.
    classes : int, optional
        Number of classes.
    unit : str
        Of the values, beside the colour bar.
    title : str, optional
        Above the picture; by default the wrong share of the sphere, or the root of the mean squared error.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the shapes differ, or the file cannot be written.
    """
    predicted, true = np.asarray(predicted), np.asarray(true)
    if predicted.shape != true.shape:
        raise InputError(f"predicted has shape {predicted.shape} and true {true.shape}; expected equal: match them.")
    if classes is None:
        off = _values(predicted) - _values(true)
        area = np.broadcast_to(_row_share(off.shape)[:, None], off.shape)[np.isfinite(off)]
        finite = off[np.isfinite(off)].astype(np.float64)
        rmse = np.sqrt((area * finite**2).sum() / area.sum()) if finite.size else np.nan
        widest = float(np.abs(finite).max(initial=0)) or 1.0
        heading = title or f"predicted - true, RMSE {rmse:.4g} {unit}".rstrip()
        figure, shown = _draw_values(off, (-widest, widest), "RdBu_r", heading)
        figure.colorbar(shown, label=unit or None, shrink=0.85)
        return save(figure, path)
    predicted, true = _classes(predicted), _classes(true)
    counted = (true >= 0) & (true < classes)
    wrong = counted & (predicted != true)
    rgb = np.where(counted[..., None], np.float32(1), IGNORED)
    rgb = np.where(wrong[..., None], WRONG, rgb)
    area = np.broadcast_to(_row_share(true.shape)[:, None], true.shape)
    share = area[wrong].sum() / area[counted].sum() if counted.any() else np.nan
    figure, _ = _map_axes(true.shape, rgb, title or f"wrong on {share:.1%} of the labelled sphere")
    return save(figure, path)


def _classes(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub":
        raise InputError(f"labels have dtype {labels.dtype}; expected class numbers, integers: convert them.")
    return labels.astype(np.int64)


def _values(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        raise InputError(
            f"values have shape {values.shape} and dtype {values.dtype}; expected numbers (H, W): choose a channel."
        )
    return values.astype(np.float64)


def _row_share(shape: tuple[int, ...]) -> np.ndarray:
    """Share of the sphere of a pixel of each row."""
    edges = np.sin(np.linspace(np.pi / 2, -np.pi / 2, shape[0] + 1))
    return (edges[:-1] - edges[1:]) / 2 / shape[1]


def _draw_values(
    values: np.ndarray, limits: tuple[float, float] | None, cmap: str, title: str | None
) -> tuple[Any, Any]:
    from matplotlib import colormaps

    finite = values[np.isfinite(values)]
    low, high = limits or ((float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0))
    colour_map = colormaps[cmap].with_extremes(bad=tuple(IGNORED))
    hidden = np.ma.masked_invalid(values)
    return _map_axes(values.shape, hidden, title, cmap=colour_map, vmin=low, vmax=high)


def _map_axes(shape: tuple[int, ...], shown: Any, title: str | None, **how: Any) -> tuple[Any, Any]:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if len(shape) != 2:
        raise InputError(f"the map has shape {tuple(shape)}; expected (H, W), one picture: choose one.")
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(8.2, 3.5 + (0.25 if title else 0)), layout=layout)
    axes = figure.subplots()
    drawn = axes.imshow(shown, extent=_EXTENT, interpolation="nearest", **how)
    axes.set(xticks=range(-180, 181, 60), yticks=range(-90, 91, 30))
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_formatter("{x:.0f}°")
    axes.yaxis.set_major_formatter("{x:.0f}°")
    if title:
        axes.set_title(title, fontsize=10)
    return figure, drawn
