"""Draw docs/images/overview.png: one real digit at three places of the sphere, flat and on a globe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import spherecnn as sc

OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "overview.png"
# Title, where the digit lies, and where the globe is seen from: (lat, lon) in degrees.
PLACES = [
    ("upright, in the middle", (0, 0), (10, 10)),
    ("across the seam", (10, 180), (15, 170)),
    ("over the north pole", (75, -60), (65, -60)),
]
DIGIT = 2


def main() -> None:
    grid = sc.grids.Equirect(256)
    pictures, labels = load_digits(return_X_y=True)
    digit = pictures[labels == DIGIT][4].reshape(1, 8, 8).astype(np.float32) / 16
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    axes = figure.subplots(2, len(PLACES), height_ratios=[1, 1.35])
    for column, (title, (lat, lon), eye) in zip(axes.T, PLACES, strict=True):
        turn = sc.datasets.looking_at(*np.radians([lat, lon]))
        (image,) = sc.datasets.project_planar(digit, grid, fov_deg=90, rotations=turn)
        field = shaded(image[..., 0], grid)
        column[0].imshow(field, extent=(-180, 180, -90, 90))
        column[0].set(xticks=range(-180, 181, 90), yticks=range(-90, 91, 45), title=title)
        column[0].tick_params(labelsize=7)
        column[1].imshow(sc.viz.render_globe(field, grid, *eye, size=500))
        column[1].set_axis_off()
    axes[0, 0].set_ylabel("lat, degrees", fontsize=8)
    axes[0, 0].set_xlabel("lon, degrees", fontsize=8)
    print(f"wrote {sc.viz.save(figure, OUT, dpi=100)}")


def shaded(digit: np.ndarray, grid: sc.grids.Equirect) -> np.ndarray:
    """RGB: the digit in orange on a blue sphere with a graticule of 30 degrees."""
    lat, lon = np.degrees(grid.lat).reshape(grid.shape), np.degrees(grid.lon).reshape(grid.shape)
    from_line = np.minimum(np.abs((lat + 15) % 30 - 15), np.abs((lon + 15) % 30 - 15))
    line = np.clip(1.2 - from_line, 0, 1)[..., None]
    sphere = (1 - 0.35 * line) * np.array([0.13, 0.22, 0.36]) + 0.35 * line * np.array([0.75, 0.85, 1.0])
    ink = digit[..., None]
    return ((1 - ink) * sphere + ink * np.array([1.0, 0.72, 0.25])).astype(np.float32)


if __name__ == "__main__":
    main()
