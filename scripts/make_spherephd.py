"""Draw docs/images/spherephd_faces.png: a panorama and its faces at three levels; print what a round trip loses.

    python scripts/make_spherephd.py panorama.jpg

docs/spherephd.md shows "vestibule" of Poly Haven (CC0) at 1024 x 512.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

import spherecnn as sc
from spherecnn.grids import Equirect, Polyhedron
from spherecnn.grids.resample import resample

LEVELS = (3, 5, 7)
METHODS = ("nearest", "bilinear", "supersample")
EYE = (15, -15)  # lat, lon in degrees
OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "spherephd_faces.png"


def main(path: str) -> None:
    pixels = np.asarray(Image.open(path).convert("RGB")) / 255.0
    draw(pixels)
    grid = Equirect(256)
    small = resample(pixels, Equirect(*pixels.shape[:2]), grid, "area")
    print("there and back as PSNR in dB (largest error): nearest, bilinear, supersample")
    for name, x in (("smooth field", smooth(grid)), ("photograph", small)):
        for level in range(4, 8):
            parts = [loss(x, grid, Polyhedron(level), method) for method in METHODS]
            print(f"{name}  {level}  {Polyhedron(level).sites:7,}  " + "  ".join(parts))
    print("the photograph on faces against the mean of all pixels in each: nearest, bilinear, supersample")
    for level in range(3, 6):
        print(level, *(alias(pixels, Polyhedron(level), method) for method in METHODS))


def draw(pixels: np.ndarray) -> None:
    source = Equirect(*pixels.shape[:2])
    figure = Figure(figsize=(13, 3.1), layout="constrained")
    flat, *globes = figure.subplots(1, 1 + len(LEVELS), width_ratios=[2, 1, 1, 1])
    flat.imshow(pixels, extent=(-180, 180, -90, 90), aspect="equal")
    flat.set_xticks(np.arange(-180, 181, 90))
    flat.set_yticks(np.arange(-90, 91, 45))
    flat.set_title("panorama", fontsize=10)
    for axes, level in zip(globes, LEVELS, strict=True):
        grid = Polyhedron(level)
        faces = resample(pixels, source, grid, "supersample")
        axes.imshow(sc.viz.render_globe(faces, grid, *EYE, size=500, edges=level < 4))
        axes.set_title(f"level {level}: {grid.sites:,} faces", fontsize=10)
        axes.set_axis_off()
    print(f"wrote {sc.viz.save(figure, OUT, dpi=100)}")


def smooth(grid: Equirect) -> np.ndarray:
    """Harmonics of degree 1 to 4, each from 0 to 1."""
    x, y, z = grid.xyz.T
    fields = np.stack([z, x * y, z * z, x * z * (5 * z * z - 1)], axis=-1)
    low, high = fields.min(axis=0), fields.max(axis=0)
    return ((fields - low) / (high - low)).reshape(*grid.shape, -1)


def loss(x: np.ndarray, grid: Equirect, faces: Polyhedron, method: str) -> str:
    """Peak signal to noise ratio by solid angle and largest error of x to faces and back."""
    error = resample(resample(x, grid, faces, method), faces, grid, method) - x
    squared = np.average((error**2).mean(axis=-1).ravel(), weights=grid.area)
    return f"{-10 * np.log10(squared):.1f} ({np.abs(error).max():.2g})"


def alias(pixels: np.ndarray, faces: Polyhedron, method: str) -> str:
    """Peak signal to noise ratio of faces, by solid angle, the truth being the mean of the pixels in each."""
    grid = Equirect(*pixels.shape[:2])
    face, channels = faces.nearest(grid.xyz), pixels.reshape(grid.sites, -1)
    sums = np.stack([np.bincount(face, c * grid.area, faces.sites) for c in channels.T], axis=-1)
    error = resample(pixels, grid, faces, method) - sums / np.bincount(face, grid.area, faces.sites)[:, None]
    return f"{-10 * np.log10(np.average((error**2).mean(axis=-1), weights=faces.area)):.1f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
