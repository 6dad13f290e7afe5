"""The picture of scripts/spherical_mnist.py: accuracy on upright and on rotated digits, method by method."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

COLOURS = {
    "planar": "#d1495b",
    "circular": "#edae49",
    "spherephd": "#00798c",
    "spherephd_north": "#66a182",
}
TITLES = {"none": "trained on upright digits", "so3": "trained on rotated digits"}


def figure(rows: list[dict[str, str]]) -> Figure:
    """Draw a bar for the mean over the seeds of each method, and a point for each seed.

    Parameters
    ----------
    rows : list of dict
        Rows of results.csv.
    """
    titles = {train: title for train, title in TITLES.items() if any(row["train"] == train for row in rows)}
    drawing = Figure(figsize=(5 * len(titles), 3.8), layout="constrained")
    methods = sorted(dict.fromkeys(row["method"] for row in rows), key=lambda m: ([*COLOURS, m].index(m), m))
    panels = drawing.subplots(1, len(titles), sharey=True, squeeze=False)[0]
    for axes, (train, title) in zip(panels, titles.items(), strict=True):
        for group, kind in enumerate(("upright", "rotated")):
            for i, method in enumerate(methods):
                own = [row for row in rows if (row["method"], row["train"]) == (method, train)]
                if not own:
                    continue
                scores = [float(row[f"{kind} accuracy %"]) for row in own]
                place = group + (i - (len(methods) - 1) / 2) * 0.8 / len(methods)
                colour = COLOURS.get(method, "#444444")
                label = method if group == 0 else None
                axes.bar(place, np.mean(scores), 0.74 / len(methods), color=colour, label=label)
                if len(scores) > 1:
                    axes.plot([place] * len(scores), scores, "k.", ms=3)
                axes.annotate(f"{np.mean(scores):.1f}", (place, max(scores) + 1), ha="center", va="bottom", fontsize=7)
        axes.axhline(10, color="0.5", lw=0.8, ls=":")
        axes.set(title=title, xticks=[0, 1], ylim=(0, 105))
        axes.set_xticklabels(["upright test digits", "rotated test digits"])
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy, %")
    panels[0].legend(fontsize=8, frameon=False, loc="upper right")
    return drawing
