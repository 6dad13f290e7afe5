"""What the operators of a mesh make of the values on it, and a picture of both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.cli.mesh import sources as s
from spherecnn.cli.signals import Signal, read_signal
from spherecnn.errors import InputError
from spherecnn.grids import MeshGrid
from spherecnn.grids import operators as op

# Channels, or winds, in a picture.
_DRAWN = 4


@dataclass(frozen=True)
class Made:
    """A field that operators made.

    Attributes
    ----------
    name, unit : str
    values : ndarray (P,)
    """

    name: str
    values: np.ndarray
    unit: str


@dataclass(frozen=True)
class Applied:
    """Fields, and what was made of them; the last two of these are drawn in the same colours.

    Attributes
    ----------
    given : dict of str to ndarray (P,)
    made : tuple of Made
    """

    given: dict[str, np.ndarray]
    made: tuple[Made, ...]


def read_fields(path: Path, stated: MeshGrid | None) -> tuple[MeshGrid, Signal]:
    """The values in a file and their mesh, which is the stated one if there is one."""
    signal = read_signal(path, stated)
    if not isinstance(signal.grid, MeshGrid):
        raise InputError(
            f"{path} holds values on {signal.grid!r}; expected a mesh with values at its vertices: convert it with "
            "`spherecnn mesh convert`."
        )
    if stated is not None and signal.grid != stated:
        raise InputError(f"{path} holds values on {signal.grid!r} and not {stated!r}; expected one mesh: leave it out.")
    if not np.isfinite(signal.values).all():
        raise InputError(f"{path} holds missing or infinite values; expected numbers at every vertex: fill them first.")
    return signal.grid, signal


def scalars(
    signal: Signal, channels: tuple[str, ...], laplacian: str, derivatives: str, radius: float
) -> list[Applied]:
    """Laplacian and derivatives of each channel; those to the east and north of one can be compared."""
    chosen = [s.channel_number(signal, name) for name in channels] or list(range(signal.channels))
    east, north = op.derivatives(signal.grid, derivatives)
    # the published Laplacian is an integral over an area, which does not change with the radius
    curved = op.laplacian(signal.grid, laplacian) / (radius**2 if laplacian == "mass" else 1.0)
    unit = _per(signal.grid, radius)
    measured = {"mass": f"{unit} squared", "scaled": "times the mean area", "published": "integrated"}[laplacian]
    found = []
    for channel in chosen:
        x, name = signal.values[:, channel].astype(np.float64), signal.name(channel)
        of = f"{name} " if signal.channels > 1 or signal.names else ""
        made = (
            Made(f"{of}laplacian", curved @ x, measured),
            Made(f"{of}east", east @ x / radius, unit),
            Made(f"{of}north", north @ x / radius, unit),
        )
        found.append(Applied({name: x}, made))
    return found


def winds(signal: Signal, channels: tuple[str, ...], radius: float) -> list[Applied]:
    """Divergence and vorticity of two channels, the flow to the east and to the north."""
    chosen = [s.channel_number(signal, name) for name in channels or map(str, range(signal.channels))]
    if len(chosen) != 2:
        raise InputError(
            f"--wind is for two channels and {len(chosen)} came; expected the flow to the east and to the north: name "
            "both by --channel."
        )
    u, v = (signal.values[:, channel].astype(np.float64) for channel in chosen)
    made = []
    for name, (from_east, from_north) in (
        ("divergence", op.divergence(signal.grid)),
        ("vorticity", op.vorticity(signal.grid)),
    ):
        made.append(Made(name, (from_east @ u + from_north @ v) / radius, _per(signal.grid, radius)))
    return [Applied(dict(zip(map(signal.name, chosen), (u, v), strict=True)), tuple(made))]


def draw(path: Path, grid: Any, applied: list[Applied], title: str) -> int:
    """Draw fields and what was made of them, of the first few; return how many."""
    from spherecnn.viz.mesh_panels import draw_fields

    fields: dict[str, np.ndarray] = {}
    limits: dict[str, tuple[float, float]] = {}
    units: dict[str, str] = {}
    for one in applied[:_DRAWN]:
        fields |= one.given | {m.name: m.values for m in one.made}
        units |= {m.name: m.unit for m in one.made}
        most = max(float(np.abs(m.values).max()) for m in one.made[-2:]) or 1.0
        limits |= {m.name: (-most, most) for m in one.made[-2:]}
    draw_fields(grid, fields, path, units=units, limits=limits, title=title)
    return min(len(applied), _DRAWN)


def _per(grid: MeshGrid, radius: float) -> str:
    """The unit of a derivative: an angle where the mesh is the unit sphere and stands for nothing else."""
    round_ = np.abs(np.linalg.norm(grid.vertices, axis=1) - 1).max() < 1e-3
    return "per radian" if radius == 1 and round_ else "per unit of length"
