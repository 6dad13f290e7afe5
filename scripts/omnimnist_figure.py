"""The picture of scripts/omnimnist.py: digits, test error over epochs, and over the latitude of a digit."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLOURS = {"planar": "#d1495b", "circular": "#edae49", "sphere": "#66a182", "coord": "#8d6a9f", "tangent": "#00798c"}
STYLES = {"3": "-", "5": ":"}


def figure(
    results: list[dict[str, str]],
    latitudes: list[dict[str, str]],
    published: dict[str, float],
    examples: list[tuple[np.ndarray, str]],
) -> Figure:
    """Draw some digits, and the mean over the seeds of each network as a line, with the range over them as a band.

    Parameters
    ----------
    results : list of dict
        Rows of results.csv.
    latitudes : list of dict
        Rows of latitudes.csv.
    published : dict
        Method to the published error in percent.
    examples : list of (ndarray (H, W), str)
        Pictures and titles.
    """
    drawing = Figure(figsize=(12, 6.4), layout="constrained")
    above, below = drawing.subfigures(2, 1, height_ratios=[1, 2.6])
    for axes, (picture, title) in zip(
        above.subplots(1, max(len(examples), 1), squeeze=False)[0], examples, strict=False
    ):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=9)
        axes.set(xticks=[], yticks=[])
    left, right = below.subplots(1, 2)
    lines(left, results, lambda row: int(row["epoch"]))
    lines(right, latitudes, lambda row: (float(row["from"]) + float(row["to"])) / 2)
    for method, error in published.items():
        left.axhline(error, color=COLOURS[method], lw=1.2, ls="--")
        left.annotate(
            f"{method}, published, 5x5, 100 epochs: {error} %",
            (0.99, error),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
            color=COLOURS[method],
        )
    left.set(xlabel="epoch", ylabel="test error, %", title="Omni-MNIST, error after each epoch", yscale="log")
    epochs = sorted({int(row["epoch"]) for row in results})
    left.set_xticks(epochs if len(epochs) <= 10 else epochs[9::10])
    ticks = [t for t in (2, 3, 5, 10, 20, 30, 50, 100) if left.get_ylim()[0] <= t <= left.get_ylim()[1]]
    left.set_yticks(ticks, [str(t) for t in ticks])
    left.yaxis.set_minor_locator(_none())
    right.set(xlabel="latitude of the digit's centre, degrees north or south", ylabel="test error, %")
    right.set(title="The last epoch, by latitude", ylim=(0, None), xticks=range(0, 91, 15))
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(fontsize=8)
    return drawing


def lines(axes: Any, rows: list[dict[str, str]], where: Any) -> None:
    """Draw a line for each network: the mean, and the range as a band, over its seeds."""
    keys = dict.fromkeys((r["method"], r["kernel"], r["digits"], r["lr"], r["schedule"], r["epochs"]) for r in rows)
    several = len({key[2:] for key in keys}) > 1
    for key in keys:
        found: dict[float, list[float]] = {}
        for row in rows:
            if (row["method"], row["kernel"], row["digits"], row["lr"], row["schedule"], row["epochs"]) == key:
                found.setdefault(where(row), []).append(float(row["test error %"]))
        x = sorted(found)
        colour, style = COLOURS.get(key[0], "#444444"), STYLES.get(key[1], "-.")
        more = f", {key[2]} digits, rate {key[3]}" if several else ""
        name, mean = f"{key[0]}, {key[1]}x{key[1]}{more}", [np.mean(found[v]) for v in x]
        axes.plot(x, mean, color=colour, ls=style, marker="o", ms=3, label=name)
        axes.fill_between(x, [min(found[v]) for v in x], [max(found[v]) for v in x], color=colour, alpha=0.2, lw=0)


def _none() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()
