"""The picture of scripts/notsoclevr.py: where each network puts the points that it saw, and those that it did not."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

NIGHT, SEEN, HELD = "#0d1526", np.array([0.25, 0.55, 1.0]), np.array([1.0, 0.62, 0.18])
NETWORKS = {"coordconv": ("CoordConv", "#ff9e2e"), "deconvolution": ("deconvolution", "#b07aff")}
SPLITS = {"uniform": "a random quarter held out", "quadrant": "a quadrant held out"}


def figure(runs: dict[tuple[str, str], Any], truth: dict[str, list[np.ndarray]]) -> Figure:
    """Draw a row for each split: the truth, the sums of the predicted maps of both networks, the accuracy.

    Parameters
    ----------
    runs : dict
        (split, network) to the rows of its log and {"train": map, "test": map}.
    truth : dict
        Split to the sums of the true maps of the training and the test places.
    """
    drawing = Figure(figsize=(13, 6.6), layout="constrained", facecolor=NIGHT)
    axes = drawing.subplots(len(SPLITS), 4, width_ratios=[1, 1, 1, 1.35])
    for row, (split, held) in zip(axes, SPLITS.items(), strict=True):
        panel(row[0], *truth[split], f"the places: {held}")
        for place, (key, (name, _)) in zip(row[1:3], NETWORKS.items(), strict=True):
            log, maps = runs[split, key]
            panel(place, maps["train"], maps["test"], f"{name}: {log[-1]['test']:.1%} of the held out right")
        curves(row[3], {key: runs[split, key][0] for key in NETWORKS}, split)
    drawing.suptitle(
        "The sum of what a network draws for every point: blue where it was trained, orange where it was tested",
        color="white",
        fontsize=13,
    )
    return drawing


def panel(axes: Any, seen: np.ndarray, held: np.ndarray, title: str) -> None:
    """Show two maps, each in a colour; 1 is full brightness, and faint values are lifted."""
    light = [np.sqrt(np.clip(m, 0, 1))[..., None] for m in (seen, held)]
    axes.imshow(
        np.clip(light[0] * SEEN + light[1] * HELD + np.array([0.03, 0.05, 0.10]), 0, 1), interpolation="nearest"
    )
    axes.set_title(title, color="white", fontsize=9.5)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color("#33415e")


def curves(axes: Any, logs: dict[str, list[dict[str, float]]], split: str) -> None:
    """Accuracy on the held-out places against the seconds of training, on a logarithmic axis."""
    axes.set_facecolor(NIGHT)
    for key, log in logs.items():
        name, colour = NETWORKS[key]
        seconds = [row["seconds"] for row in log]
        axes.plot(seconds, [row["test"] for row in log], color=colour, lw=2, label=f"{name}, held out")
        axes.plot(seconds, [row["train"] for row in log], color=colour, lw=1, ls=":", label=f"{name}, trained on")
    axes.set_xscale("log")
    axes.set(ylim=(-0.03, 1.03))
    axes.set_xlabel("seconds of training", color="white")
    axes.set_title(f"accuracy, {split} split", color="white", fontsize=9.5)
    axes.tick_params(colors="white", which="both", labelsize=8)
    axes.spines[:].set_color("#33415e")
    axes.grid(alpha=0.15)
    axes.legend(fontsize=7.5, facecolor=NIGHT, edgecolor="#33415e", labelcolor="white", loc="center left")
