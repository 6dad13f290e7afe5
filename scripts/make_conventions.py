"""Draw docs/images/conventions.png: where the pixels of an equirectangular picture lie, flat and on the sphere."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

import spherecnn as sc

HEIGHT, WIDTH = 6, 12
OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "conventions.png"


def main() -> None:
    grid = sc.grids.Equirect(HEIGHT, WIDTH)
    figure = plt.figure(figsize=(12, 4.6), dpi=110, layout="constrained")
    flat, globe = figure.subplots(1, 2, width_ratios=[2, 1])
    draw_flat(flat, grid)
    draw_globe(globe, grid)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT, metadata={"Software": None})
    print(f"wrote {OUT}")


def shades(grid: sc.grids.Equirect) -> np.ndarray:
    """One colour per pixel: the row picks the hue, neighbouring columns alternate in lightness."""
    rows = plt.get_cmap("viridis")(np.linspace(0.95, 0.25, grid.height))[:, None, :3]
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
        )
    axes.set_xticks(np.arange(-180, 181, 60))
    axes.set_yticks(np.arange(-90, 91, 30))
    axes.set_xlabel("lon, degrees: east to the right; the left and right edges are one meridian, the seam")
    axes.set_ylabel("lat, degrees: row 0 is north")
    axes.set_title(f"{grid!r}: pixels and their centres")
    for edge in (-180, 180):
        axes.axvline(edge, color="tab:red", linewidth=4, clip_on=False)


def draw_globe(
    axes: Axes, grid: sc.grids.Equirect, lat0: float = 35.0, lon0: float = 150.0, size: int = 700
) -> None:
    """The sphere seen from outside, above (lat0, lon0) in degrees."""
    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(1, -1, size))
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, None))
    lat, lon = sc.grids.angles(np.stack([x, y, z], -1) @ camera(lat0, lon0))
    row, column = (np.rint(a).astype(int) for a in grid.pixel(lat, lon))
    image = shades(grid)[row.clip(0, grid.height - 1), column % grid.width]
    image[x**2 + y**2 > 1] = 1
    axes.imshow(image, extent=(-1, 1, -1, 1))
    seam = np.linspace(-np.pi / 2, np.pi / 2, 200)
    draw_line(axes, sc.grids.directions(seam, np.full_like(seam, np.pi)) @ camera(lat0, lon0).T, "tab:red")
    points = grid.xyz @ camera(lat0, lon0).T
    front = points[:, 2] > 0
    axes.plot(points[front, 0], points[front, 1], ".", color="black", markersize=4)
    pole = camera(lat0, lon0) @ np.array([0, 0, 1])
    axes.plot(pole[0], pole[1], "o", color="white", markeredgecolor="black")
    axes.annotate("north pole", (pole[0], pole[1]), (0, 10), textcoords="offset points", ha="center")
    axes.set_title("the same on the sphere, seen from outside;\nthe seam in red")
    axes.axis("off")


def draw_line(axes: Axes, points: np.ndarray, color: str) -> None:
    visible = points[:, 2] > 0
    axes.plot(points[visible, 0], points[visible, 1], color=color, linewidth=3)


def camera(lat0: float, lon0: float) -> np.ndarray:
    """Rows are the viewer's right, up and towards-the-eye directions."""
    lat, lon = np.radians([lat0, lon0])
    right = [-np.sin(lon), np.cos(lon), 0]
    up = [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)]
    eye = [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]
    return np.array([right, up, eye])


if __name__ == "__main__":
    main()
