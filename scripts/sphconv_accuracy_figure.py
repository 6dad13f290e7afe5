"""The picture of `sphconv_accuracy.py`: error and accuracy of every method over latitude."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, PercentFormatter

# Colour, dash and marker by the first word of a method's name, and the rest of it where that tells two apart.
STYLES = {
    "exact": ("0.15", "-", ""),
    "DIRECT": ("#d55e00", "-", "o"),
    "circular": ("#e69f00", "--", ""),
    "INTERP": ("#cc79a7", "-", "^"),
    "PERSPECTIVE": ("#7f7f7f", "-", "s"),
    "tangent": ("#56b4e9", "-", "D"),
    "KTN, projected kernels": ("#009e73", ":", ""),
    "KTN, trained": ("#009e73", "-", "v"),
    "OPT-SPHCONV": ("#0072b2", ":", ""),
    "SphConv, layer by layer": ("#0072b2", "--", ""),
    "SphConv, as a whole": ("#0072b2", "-", "o"),
}


def figure(rows: list[dict[str, Any]], example: np.ndarray) -> Figure:
    """Draw the curves of results.csv under a panorama.

    Parameters
    ----------
    rows : list of dict
        The rows of results.csv.
    example : ndarray (H, W)
        A panorama with pictures at several latitudes.
    """
    drawing = Figure(figsize=(12.5, 8.2), layout="constrained")
    top, bottom = drawing.subfigures(2, 1, height_ratios=[1, 2.1])
    panorama(top.subplots(), example)
    left, right = bottom.subplots(1, 2)
    names = list(dict.fromkeys(row["method"] for row in rows))
    for name in names:
        own = [row for row in rows if row["method"] == name]
        colour, dash, marker = style(name)
        how = {"color": colour, "ls": dash, "marker": marker, "ms": 4, "lw": 1.8, "label": name}
        latitudes = [float(row["latitude"]) for row in own]
        if name != "exact":
            left.plot(latitudes, [float(row["error"]) for row in own], **how)
        right.plot(latitudes, [float(row["accuracy"]) for row in own], **how)
    left.set_yscale("log")
    left.set(ylabel="error of the features, share of their spread", title="error against the exact features")
    ticks = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
    left.yaxis.set_major_locator(FixedLocator(ticks))
    left.yaxis.set_minor_formatter(NullFormatter())
    left.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    right.set(ylabel="pictures found", title="accuracy of the classifier on these features")
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (left, right):
        axes.set_xlabel("latitude, degrees")
        axes.set_xticks(range(0, 91, 15))
        axes.grid(alpha=0.25, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = right.get_legend_handles_labels()
    bottom.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return drawing


def style(name: str) -> tuple[str, str, str]:
    """The style of a method: of the longest key that its name begins with."""
    return STYLES[max((key for key in STYLES if name.startswith(key)), key=len)]


def panorama(axes: Any, picture: np.ndarray) -> None:
    """Show a panorama with its latitudes."""
    axes.imshow(picture, cmap="gray", extent=(-180, 180, -90, 90), vmin=0, vmax=1)
    axes.set(xticks=range(-180, 181, 60), yticks=range(-90, 91, 30), ylabel="latitude")
    axes.set_title("the same picture at latitudes 0, 30, 60 and 80 degrees", fontsize=10)
