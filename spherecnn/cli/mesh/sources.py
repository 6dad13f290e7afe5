"""What the mesh commands read: meshes in files or by level, signals on them, pictures; and how signals are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from spherecnn.cli.convert import read_sphere
from spherecnn.cli.signals import Signal, holds_pixels, is_signal, read_signal
from spherecnn.errors import InputError
from spherecnn.grids import Icosphere, MeshGrid, read_mesh
from spherecnn.grids.descend import MOST_LEVELS
from spherecnn.grids.mesh_files import SUFFIXES as MESHES
from spherecnn.grids.mesh_files import read_colours
from spherecnn.viz.figure import SUFFIXES as PICTURES

PATH = click.Path(path_type=Path)
FILE = click.Path(exists=True, path_type=Path)
LEVELS = click.IntRange(0, MOST_LEVELS)
level_option = click.option(
    "--level", type=LEVELS, help="Level of the icosphere, in place of MESH: 10 * 4^level + 2 vertices."
)
channel_option = click.option(
    "--channel", help="Which channel to show: its number from 0, its name, or rgb for three of them.  [default: 0]"
)
cmap_option = click.option("--cmap", help="Colour map of matplotlib.  [default: viridis, or RdBu_r about zero]")
limits_option = click.option(
    "--limits", type=float, nargs=2, metavar="LOW HIGH", help="Values of the first and the last colour."
)


def is_mesh(path: Path) -> bool:
    """Whether the name is that of a mesh file."""
    return path.suffix.lower() in MESHES


def check_picture(path: Path | None) -> None:
    """Refuse a name that is none of a picture that matplotlib writes, before anything is read."""
    if path is not None and path.suffix.lower() not in PICTURES:
        raise InputError(f"the picture to write is {path}; expected a name in .png, .svg, .pdf or .jpg: rename it.")


def check_cmap(name: str | None) -> None:
    """Refuse a colour map that matplotlib has not."""
    from matplotlib import colormaps

    if name is not None and name not in colormaps:
        raise InputError(
            f"--cmap is {name!r}; expected a colour map of matplotlib, such as viridis, magma or RdBu_r: name one."
        )


def check_limits(limits: tuple[float, float] | None) -> None:
    """Refuse limits that do not ascend."""
    if limits is not None and not limits[0] < limits[1]:
        raise InputError(f"--limits are {limits[0]:g} {limits[1]:g}; expected the lower one first: exchange them.")


def open_mesh(path: Path | None, level: int | None) -> MeshGrid:
    """The mesh of a file, of a signal's file, or of a level."""
    if path is not None and level is not None:
        raise InputError(f"{path} and --level {level} were given; expected one of them: leave one out.")
    if path is None:
        if level is None:
            raise InputError("no mesh was given; expected a mesh file, or --level for an icosphere: name one.")
        return Icosphere(level)
    grid = read_signal(path).grid if is_signal(path) else read_mesh(path)
    if not isinstance(grid, MeshGrid):
        raise InputError(f"{path} holds values on {grid!r}; expected a mesh with values at its vertices: convert it.")
    return grid


def open_source(path: Path, mesh: Path | None = None, kind: str | None = None) -> tuple[Any, Signal | None]:
    """The grid in a file, and the signal on it; a mesh without colours has none. Pictures are signals of pixels."""
    if mesh is not None and not is_signal(path):
        raise InputError(f"--mesh was given for {path}; expected it for values in .npz or .npy only: leave it out.")
    if is_mesh(path):
        grid = read_mesh(path)
        colours = read_colours(path, grid.sites)
        return grid, None if colours is None else Signal(colours, grid)
    if is_signal(path) and kind is None:
        signal = read_signal(path, None if mesh is None else read_mesh(mesh))
        return signal.grid, signal
    pixels, grid, _ = read_sphere(path, kind)
    return grid, Signal(pixels.reshape(grid.sites, -1), grid)


def shown(signal: Signal, channel: str | None, cmap: str | None = None) -> tuple[np.ndarray, str]:
    """What `viz.draw_mesh` draws of a signal, a field (P,) or colours (P, 1) or (P, 3), and what to call it."""
    pixels = holds_pixels(signal)
    if channel is None and pixels and signal.channels >= 3:
        channel = "rgb"
    if channel is None and pixels and cmap is None:
        return _grey(signal), "grey"
    if channel == "rgb":
        return _rgb(signal), "RGB"
    at = channel_number(signal, channel or "0")
    return signal.values[:, at].astype(np.float64), signal.name(at) if signal.channels > 1 or signal.names else ""


def _grey(signal: Signal) -> np.ndarray:
    share = signal.values / float(np.iinfo(signal.values.dtype).max)
    return share if signal.channels == 1 else 1 - (1 - share[:, :1]) * share[:, 1:]


def _rgb(signal: Signal) -> np.ndarray:
    """Colours from 0 to 1, on white."""
    values = signal.values
    if signal.channels < 3:
        raise InputError(f"--channel is rgb for {signal.channels} channels; expected three or more: name one channel.")
    if values.dtype in (np.uint8, np.uint16):
        values = values / float(np.iinfo(values.dtype).max)
        return 1 - (1 - values[:, :3]) * values[:, 3:] if signal.channels == 4 else values[:, :3]
    low, high = np.nanmin(values[:, :3]), np.nanmax(values[:, :3])
    if low < 0 or high > 1:
        raise InputError(
            f"--channel is rgb for values from {low:.4g} to {high:.4g}; expected colours from 0 to 1: name one channel."
        )
    return values[:, :3].astype(np.float64)


def channel_number(signal: Signal, channel: str) -> int:
    """Which channel a number or a name is."""
    if channel in signal.names:
        return signal.names.index(channel)
    if channel.isdecimal() and int(channel) < signal.channels:
        return int(channel)
    named = f" ({', '.join(signal.names)})" if signal.names else ""
    raise InputError(f"--channel is {channel}; expected 0 to {signal.channels - 1}{named}, or rgb: choose one.")


def describe(signal: Signal | None) -> str:
    """A signal in words."""
    if signal is None:
        return "without values"
    if holds_pixels(signal):
        from spherecnn.cli.pictures import describe as pixels

        return pixels(signal.values)
    named = f" ({', '.join(signal.names)})" if signal.names and signal.channels <= 6 else ""
    return f"{signal.channels} channel{'s' * (signal.channels > 1)} of {signal.values.dtype}{named}"
