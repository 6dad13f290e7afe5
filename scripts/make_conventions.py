"""Draw docs/images/conventions.png: the pixels of an equirectangular picture, flat and on the sphere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import spherecnn as sc

HEIGHT, WIDTH = 6, 12
EYE = (35, 150)  # lat, lon in degrees
OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "conventions.png"


def main() -> None:
    grid = sc.grids.Equirect(HEIGHT, WIDTH)
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    flat, globe = figure.subplots(1, 2, width_ratios=[2, 1])
    draw_flat(flat, grid)
    draw_globe(globe, grid)
    print(f"wrote {sc.viz.save(figure, OUT, dpi=100)}")


def shades(grid: sc.grids.Equirect) -> np.ndarray:
    """One colour per pixel: the row picks the hue, neighbouring columns alternate in lightness."""
    rows = colormaps["viridis"](np.linspace(0.95, 0.25, grid.height))[:, None, :3]
    light = 1 - 0.18 * (np.arange(grid.width) % 2)[None, :, None]
    return rows * light


def draw_flat(axes: Axes, grid: sc.grids.Equirect) -> None:
    axes.imshow(shades(grid), extent=(-180, 180, -90, 90))
    axes.plot(np.degrees(grid.lon), np.degrees(grid.lat), ".", color="black", markersize=4)
    for i, j in [(0, 0), (0, grid.width - 1), (grid.height - 1, 0)]:
        p = i * grid.width + j
        axes.annotate(
            f"x[{i}, {j}]",
            np.degrees([grid.lon[p], grid.lat[p]]),
            (0, 6),
            textcoords="offset points",
            ha="center",
            color="black" if i == 0 else "white",
        )
    axes.set_xticks(np.arange(-180, 181, 60))
    axes.set_yticks(np.arange(-90, 91, 30))
    axes.set_xlabel("lon, degrees: east to the right; the left and right edges are one meridian, the seam")
    axes.set_ylabel("lat, degrees: row 0 is north")
    axes.set_title(f"{grid!r}: pixels and their centres")
    for edge in (-180, 180):
        axes.axvline(edge, color="tab:red", linewidth=4, clip_on=False)


def draw_globe(axes: Axes, grid: sc.grids.Equirect) -> None:
    """The sphere seen from outside; pixels are repeated so that their edges stay sharp."""
    fine = np.repeat(np.repeat(shades(grid), 60, axis=0), 60, axis=1)
    view = sc.viz.render_globe(fine, sc.grids.Equirect(*fine.shape[:2]), *EYE, size=700)
    axes.imshow(view, extent=(-1, 1, -1, 1))
    seam = np.linspace(-np.pi / 2, np.pi / 2, 200)
    axes.plot(*seen(sc.grids.directions(seam, np.full_like(seam, np.pi))), color="tab:red", linewidth=3)
    axes.plot(*seen(grid.xyz), ".", color="black", markersize=4)
    pole = seen(np.array([[0.0, 0.0, 1.0]]))
    axes.plot(*pole, "o", color="white", markeredgecolor="black")
    axes.annotate("north pole", pole.ravel(), (-70, 4), textcoords="offset points", arrowprops={"arrowstyle": "-"})
    axes.set_title("the same on the sphere, seen from outside;\nthe seam in red")
    axes.set_axis_off()


def seen(xyz: np.ndarray) -> np.ndarray:
    """(right, up) of the directions on the near side, as the viewer above EYE sees them."""
    x, y, z = (xyz @ sc.datasets.looking_at(*np.radians(EYE)).as_matrix()).T
    return np.stack([y[x > 0], z[x > 0]])


if __name__ == "__main__":
    main()
