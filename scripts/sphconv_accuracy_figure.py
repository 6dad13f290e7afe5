"""The picture of `sphconv_accuracy.py`: error and accuracy of every method over latitude, and where errors lie."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, PercentFormatter

# Colour, line and marker of the methods; the palette of Okabe and Ito, which the colour-blind can tell apart.
STYLES = {
    "exact": ("0.1", "-", ""),
    "DIRECT": ("#d55e00", "-", "o"),
    "circular": ("#e69f00", "--", ""),
    "INTERP": ("#cc79a7", "-", "^"),
    "PERSPECTIVE": ("0.5", "-", "s"),
    "tangent": ("#56b4e9", "-", "D"),
    "KTN, projected kernels": ("#009e73", ":", ""),
    "KTN, trained": ("#009e73", "-", "v"),
    "OPT-SPHCONV": ("#0072b2", ":", ""),
    "SphConv, layer by layer": ("#0072b2", "--", ""),
    "SphConv, as a whole": ("#0072b2", "-", "o"),
}
LEAST, MOST = 0.003, 1.5
TICKS = [0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]


def figure(rows: list[dict[str, str]], panorama: np.ndarray, maps: dict[str, np.ndarray]) -> Figure:
    """Draw a panorama, maps of errors on it, and the curves of results.csv.

    Parameters
    ----------
    rows : list of dict
        The rows of results.csv.
    panorama : ndarray (H, W)
        In [0, 1].
    maps : dict of str to ndarray (H, W)
        Errors of some methods on this panorama.
    """
    drawn = Figure(figsize=(13, 7.6), layout="constrained")
    top, bottom = drawn.subfigures(2, 1, height_ratios=[1, 2.4])
    axes = top.subplots(1, 1 + len(maps))
    show(axes[0], panorama, "a test panorama", cmap="gray", vmin=0, vmax=1)
    for place, (name, values) in zip(axes[1:], maps.items(), strict=True):
        norm = LogNorm(LEAST, MOST)
        image = show(place, np.maximum(values, LEAST), f"error: {name}", cmap="inferno", norm=norm)
    top.colorbar(image, ax=axes, shrink=0.75, ticks=TICKS[2::3], format=FuncFormatter(percent))
    curves(bottom, rows)
    return drawn


def show(axes: Any, values: np.ndarray, title: str, **how: Any) -> Any:
    """Show a map of the sphere."""
    axes.set(xticks=range(-180, 181, 90), yticks=range(-90, 91, 30))
    axes.tick_params(labelsize=7)
    axes.set_title(title, fontsize=9)
    return axes.imshow(values, extent=(-180, 180, -90, 90), interpolation="nearest", **how)


def curves(drawn: Any, rows: list[dict[str, str]]) -> None:
    """Error and accuracy over latitude."""
    left, right = drawn.subplots(1, 2)
    for name in dict.fromkeys(row["method"] for row in rows):
        colour, line, marker = STYLES[next(key for key in STYLES if name.startswith(key))]
        how: dict[str, Any] = {"color": colour, "ls": line, "marker": marker, "ms": 4, "lw": 1.8, "label": name}
        own = [row for row in rows if row["method"] == name]
        latitudes = [float(row["latitude"]) for row in own]
        if name != "exact":
            left.plot(latitudes, [float(row["error"]) for row in own], **how)
        right.plot(latitudes, [float(row["accuracy"]) for row in own], **how)
    left.set_yscale("log")
    left.yaxis.set_major_locator(FixedLocator(TICKS))
    left.yaxis.set_major_formatter(FuncFormatter(percent))
    left.yaxis.set_minor_formatter(NullFormatter())
    left.set(ylabel="error, share of the spread of the exact features", title="error of the features")
    right.set(ylabel="share of pictures found", title="accuracy of the classifier on these features")
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in (left, right):
        axes.set_xlabel("latitude, degrees")
        axes.set_xticks(range(0, 91, 15))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(*right.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)


def percent(value: float, _: Any = None) -> str:
    """A share as a label."""
    return f"{100 * value:g} %"
