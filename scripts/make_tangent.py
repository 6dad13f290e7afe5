"""Draw docs/images/tangent.png: the taps of one kernel at several latitudes, flat and on the sphere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import spherecnn as sc
from spherecnn.stencils import tangent_directions, tangent_taps

GRID = sc.grids.Equirect(32)
KERNEL = (5, 5)
# row, column and colour of the pixels whose kernels are shown
PLACES = ((15, 35, "#0072b2"), (9, 48, "#e69f00"), (5, 39, "#009e73"), (0, 46, "#cc79a7"))
EYE = (45, 55)  # lat, lon in degrees
OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "tangent.png"


def main() -> None:
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    flat, globe = figure.subplots(1, 2, width_ratios=[2, 1])
    draw_flat(flat)
    draw_globe(globe)
    print(f"wrote {sc.viz.save(figure, OUT, dpi=100)}")


def taps(row: int, column: int) -> np.ndarray:
    """Directions (25, 3) of the taps about a pixel."""
    site = row * GRID.width + column
    return tangent_directions(GRID.lat[[site]], GRID.lon[[site]], *tangent_taps(GRID, KERNEL))[0]


def draw_flat(axes: Axes) -> None:
    step = 180 / GRID.height
    for edge in np.arange(-180, 180 + step, step):
        axes.axvline(edge, color="0.88", linewidth=0.6, zorder=0)
        if abs(edge) <= 90:
            axes.axhline(edge, color="0.88", linewidth=0.6, zorder=0)
    for row, column, colour in PLACES:
        lat, lon = np.degrees(sc.grids.angles(taps(row, column)))
        axes.plot(lon, lat, "o", color=colour, markersize=4)
        axes.plot(lon[12], lat[12], "s", color=colour, markersize=9, fillstyle="none", markeredgewidth=2)
    axes.set(xlim=(-180, 180), ylim=(-90, 90), aspect="equal")
    axes.set_xticks(np.arange(-180, 181, 60))
    axes.set_yticks(np.arange(-90, 91, 30))
    axes.set_xlabel("lon, degrees")
    axes.set_ylabel("lat, degrees")
    axes.set_title("The 25 taps of a 5x5 kernel about four pixels (squares), on the panorama")


def draw_globe(axes: Axes) -> None:
    shade = np.full((180, 360, 1), 0.93)
    shade -= 0.1 * ((np.arange(180)[:, None] // 11.25 + np.arange(360)[None] // 11.25) % 2)[..., None]
    axes.imshow(
        sc.viz.render_globe(np.repeat(shade, 3, 2), sc.grids.Equirect(180), *EYE, size=700), extent=(-1, 1, -1, 1)
    )
    for row, column, colour in PLACES:
        x, y, z = (taps(row, column) @ sc.datasets.looking_at(*np.radians(EYE)).as_matrix()).T
        near = x > 0.1
        axes.plot(y[near], z[near], "o", color=colour, markersize=4)
        if near[12]:
            axes.plot(y[12], z[12], "s", color=colour, markersize=9, fillstyle="none", markeredgewidth=2)
    axes.set_title("on the sphere: squares")
    axes.set_axis_off()


if __name__ == "__main__":
    main()
