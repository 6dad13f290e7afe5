"""The picture of scripts/mesh_operators.py: errors by level, and maps of them on the sphere."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from spherecnn.grids import Icosphere
from spherecnn.viz import render_globe

LOOKS = {"laplacian": "C0o", "east": "C1o", "north": "C2o", "divergence": "C3s", "vorticity": "C4o"}
SCALE = LogNorm(1e-4, 0.3, clip=True)
VIEW = (52.0, 60.0)


def figure(
    found: dict[tuple[str, str], dict[str, dict[int, float]]], maps: dict[tuple[str, str], np.ndarray], grid: Icosphere
) -> Figure:
    """Draw pooled errors against the level, and below them the maps of errors on a grid."""
    drawing = Figure(figsize=(11, 8), layout="constrained")
    above, below = drawing.subfigures(2, 1, height_ratios=(1.45, 1))
    for axes, norm in zip(above.subplots(1, 2, sharey=True), ("rms", "largest"), strict=True):
        for (name, form), norms in found.items():
            levels = list(norms[norm])
            look = LOOKS[name] + ("--" if form == "published" else "-")
            hollow = {"ms": 9, "mfc": "none"} if name == "divergence" else {"ms": 5}  # else hidden by the vorticity
            axes.semilogy(levels, list(norms[norm].values()), look, label=f"{name}, {form}", alpha=0.85, **hollow)
        _slopes(axes, levels)
        axes.set(xlabel="level", xticks=levels, title=f"{norm} error, harmonics of degree 1 to 8")
        axes.grid(which="major", alpha=0.3)
    above.axes[0].set_ylabel("share of the exact answer's rms")
    above.axes[0].legend(fontsize=8, loc="lower left")
    panels = below.subplots(1, len(maps))
    for axes, ((name, form), errors) in zip(panels, maps.items(), strict=True):
        _globe(axes, errors, grid)
        axes.set_title(f"{name}, {form}", fontsize=10)
    below.suptitle(
        "circles: vertices with five neighbours; square: the north pole, grey where nothing is asked", fontsize=9
    )
    below.colorbar(
        ScalarMappable(SCALE, "magma"),
        ax=panels,
        shrink=0.8,
        label=f"error for one harmonic\nof degree 4, level {grid.level}",
    )
    return drawing


def _slopes(axes: Axes, levels: list[int]) -> None:
    for power, start, place in ((1, 3.5, 1), (2, 1.5, -2)):
        line = [start * 2.0 ** (-power * (level - levels[0])) for level in levels]
        axes.semilogy(levels, line, ":", color="grey", lw=1)
        if len(levels) > 2:
            offset = {"xytext": (4, 3), "textcoords": "offset points"}
            axes.annotate(f"order {power}", (levels[place], line[place]), color="grey", fontsize=8, **offset)


def _globe(axes: Axes, errors: np.ndarray, grid: Icosphere) -> None:
    colour = colormaps["magma"](SCALE(np.nan_to_num(errors)))[:, :3]
    colour[np.isnan(errors)] = 0.6
    axes.imshow(render_globe(colour, grid, *VIEW, size=420, smooth=False), extent=(-1, 1, -1, 1))
    lat, lon = np.radians(VIEW)
    towards = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    right = np.array([-np.sin(lon), np.cos(lon), 0])
    up = np.cross(towards, right)
    for points, mark, size in ((grid.xyz[:12], "o", 9), (np.array([[0, 0, 1.0], [0, 0, -1.0]]), "s", 9)):
        seen = points[points @ towards > 0.05]
        axes.plot(seen @ right, seen @ up, mark, mfc="none", mec="cyan", ms=size, mew=1.2)
    axes.set_axis_off()
