"""The picture of `earth.py`: the planet, what two networks make of it, and a closer look at the seam."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator

import spherecnn as sc

Array = np.ndarray
CLASSES = ["sea", "land", "lake"]
ZOOM_LON, ZOOM_LAT = 18.0, (0.0, 60.0)
PROFILE_DEGREES = 30.0
CHANGE = 0.25
BAND_COLOUR, SEAM_COLOUR = "white", "black"
LINES = {
    "planar": ("#d55e00", "-"),
    "circular": ("#0072b2", "-"),
    "coord": ("#cc79a7", "--"),
    "sphere": ("#009e73", ":"),
}


def figure(
    picture: Array,
    labels: Array,
    shown: dict[str, tuple[Any, Array]],
    band: tuple[float, float],
    seam: int,
    grid: sc.grids.Equirect,
) -> Figure:
    """Maps with the seam in their middle; `shown` has the views and the profile of jumps of each method."""
    maps = Maps(grid, band, seam)
    pair = [*[m for m in ("planar", "circular") if m in shown], *shown][:2]
    drawn = Figure(figsize=(11, 9.8), layout="constrained")
    top, bottom = drawn.subfigures(2, 1, height_ratios=[1.5, 1])
    axes = top.subplots(2, 2, squeeze=False)
    maps.draw(axes[0, 0], picture, "Blue Marble; between the lines: the held-out band", cut=False)
    maps.draw(axes[0, 1], sc.viz.colour_labels(labels, len(CLASSES)), "truth", cut=False)
    for axis, name in zip(axes[1], pair, strict=False):
        classes = shown[name][0][seam].argmax(axis=-1)
        maps.draw(
            axis, sc.viz.colour_labels(classes, len(CLASSES)), f"{name}: classes, image border at the dashed line"
        )
    for axis in axes[1, len(pair) :]:
        axis.set_axis_off()
    colours = sc.viz.palette(len(CLASSES))
    handles = [Patch(facecolor=c, edgecolor="0.3", label=name) for c, name in zip(colours, CLASSES, strict=True)]
    top.legend(handles=handles, loc="outside lower center", ncols=len(CLASSES), frameon=False, fontsize=9)
    axes = bottom.subplots(1, 5, width_ratios=[1, 1, 1, 1, 2.1])
    for name, land, change in zip(pair, axes[:2], axes[2:4], strict=False):
        here, away = (shown[name][0][s] for s in (seam, seam + grid.width // 2))
        how = {"zoom": True, "cmap": "cividis", "vmin": 0, "vmax": 1}
        first = maps.draw(land, here[..., 1], f"{name}: P(land)", **how)
        how |= {"cmap": "inferno", "vmax": CHANGE}
        second = maps.draw(change, np.abs(here - away).max(axis=-1), f"{name}: change", **how)
    below = {"location": "bottom", "shrink": 0.8, "aspect": 22}
    lands = bottom.colorbar(first, ax=list(axes[:2]), **below)
    lands.set_label("probability of land", fontsize=8.5)
    changes = bottom.colorbar(second, ax=list(axes[2:4]), extend="max", **below)
    for bar in (lands, changes):
        bar.ax.tick_params(labelsize=7.5)
    changes.set_label("change of a probability by the border", fontsize=8.5)
    for axis in axes[len(pair) : 2].tolist() + axes[2 + len(pair) : 4].tolist():
        axis.set_axis_off()
    jumps(axes[4], shown, grid)
    return drawn


class Maps:
    """How maps are drawn: turned so that the seam is in the middle, north up, east to the right."""

    def __init__(self, grid: sc.grids.Equirect, band: tuple[float, float], seam: int):
        self.half = grid.width // 2
        self.roll = self.half - seam
        self.centre = seam * 360 / grid.width - 180
        west = self.centre - (self.centre - band[0]) % 360
        self.band = (west, west + ((band[1] - band[0]) % 360 or 360))

    def draw(self, axis: Any, values: Array, title: str, zoom: bool = False, cut: bool = True, **how: Any) -> Any:
        extent = (self.centre - 180, self.centre + 180, -90, 90)
        image = axis.imshow(np.roll(values, self.roll, axis=1), extent=extent, interpolation="nearest", **how)
        if zoom:
            axis.set(xlim=(self.centre - ZOOM_LON, self.centre + ZOOM_LON), ylim=ZOOM_LAT)
            if cut:
                # Above the picture, so that it does not cover the seam.
                axis.annotate("", (0.5, 1), (0.5, 1.06), "axes fraction", arrowprops={"arrowstyle": "->"})
        else:
            for edge in self.band:
                axis.axvline(edge, color=BAND_COLOUR, lw=2.4)
                axis.axvline(edge, color="black", lw=0.9)
            if cut:
                axis.axvline(self.centre, color="white", lw=1.8)
                axis.axvline(self.centre, color="black", lw=1.2, ls=(0, (3, 3)))
        axis.set_title(title, fontsize=9.5, pad=14 if zoom and cut else 6)
        axis.xaxis.set_major_locator(MultipleLocator(10 if zoom else 60))
        axis.yaxis.set_major_locator(MultipleLocator(10 if zoom else 30))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: degrees((v + 180) % 360 - 180, "EW")))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: degrees(v, "NS")))
        axis.tick_params(labelsize=7.5)
        return image


def degrees(value: float, signs: str) -> str:
    """Write an angle with its side, such as 30°W."""
    return f"{abs(value):.0f}°" + (signs[int(value < 0)] if value % 180 else "")


def jumps(axis: Any, shown: dict[str, tuple[Any, Array]], grid: sc.grids.Equirect) -> None:
    """Plot how much the probabilities change from a column to the next, against the distance from the seam."""
    half = grid.width // 2
    at = (np.arange(grid.width) - half) * 360 / grid.width
    for name, (_, profile) in shown.items():
        colour, style = LINES.get(name, ("0.3", "-."))
        axis.plot(at, np.roll(profile, half), color=colour, ls=style, label=name, lw=1.5)
    axis.set(xlim=(-PROFILE_DEGREES, PROFILE_DEGREES), ylim=(0, None))
    axis.set_title("change from column to column", fontsize=9.5)
    axis.set_xlabel("degrees from the image border", fontsize=8.5)
    axis.set_ylabel("1: as if there were no border", fontsize=8.5)
    axis.tick_params(labelsize=7.5)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8.5, frameon=False)
