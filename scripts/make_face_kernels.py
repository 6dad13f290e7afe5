"""Draw docs/images/spherephd_kernel.png: the taps of SpherePHD's kernels, and which way they point about a pole.

python scripts/make_face_kernels.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

import spherecnn as sc
from spherecnn.grids import Polyhedron
from spherecnn.grids.base import compass
from spherecnn.stencils.spherephd import POINTS

OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "spherephd_kernel.png"
HEIGHT = np.sqrt(3) / 2
UPRIGHT = np.array([(0, 2 * HEIGHT / 3), (-0.5, -HEIGHT / 3), (0.5, -HEIGHT / 3)])
SECTION, NORTH = "tab:blue", "tab:orange"


def main() -> None:
    figure = Figure(figsize=(12, 3.9), layout="constrained")
    upright, inverted, section, north = figure.subplots(1, 4)
    draw_kernel(upright, 1, "an upright face and its taps")
    draw_kernel(inverted, -1, "an inverted face: half a turn")
    grid = Polyhedron(3)
    draw_pole(section, grid, frames(grid), SECTION, 'orientation="section": seams at the poles')
    draw_pole(north, grid, compass(grid.lat, grid.lon)[1], NORTH, 'orientation="north"')
    print(f"wrote {sc.viz.save(figure, OUT, dpi=100)}")


def draw_kernel(axes: Any, sign: int, title: str) -> None:
    """Triangles with the numbers of their taps; sign -1 turns all by half a turn."""
    for tap, centre in enumerate(POINTS):
        same_way = tap in (0, 4, 5, 6, 7, 8, 9)
        corners = sign * (centre + (UPRIGHT if same_way else -UPRIGHT))
        colour = "tab:blue" if tap == 0 else "lightsteelblue" if tap < 4 else "aliceblue"
        axes.fill(*corners.T, facecolor=colour, edgecolor="white", linewidth=2)
        axes.text(*(sign * centre), str(tap), ha="center", va="center", color="white" if tap == 0 else "black")
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)


def frames(grid: Polyhedron) -> np.ndarray:
    """Towards the apex of each upright face, away from that of each inverted one: the up of its section."""
    apex = grid.vertices[grid.faces[:, 0]] - grid.xyz
    return apex * np.where(grid.upright, 1, -1)[:, None] * np.where(grid.section // 5 % 2 == 0, 1, -1)[:, None]


def draw_pole(axes: Any, grid: Polyhedron, up: np.ndarray, colour: str, title: str) -> None:
    """The faces about the north pole seen from above, and an arrow up the kernel of each."""
    seen = np.flatnonzero(grid.lat > 0.75)
    corners = grid.vertices[grid.faces[seen]][..., [1, 0]] * [1, -1]
    cap = PolyCollection(corners, facecolors="whitesmoke", edgecolors="silver", linewidths=0.7)
    axes.add_collection(cap)
    at, towards = grid.xyz[seen][:, [1, 0]] * [1, -1], up[seen][:, [1, 0]] * [1, -1]
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    axes.quiver(*at.T, *towards.T, color=colour, pivot="middle", scale=17, width=0.007)
    axes.set(xlim=(-0.75, 0.75), ylim=(-0.75, 0.75), aspect="equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=10)


if __name__ == "__main__":
    main()
