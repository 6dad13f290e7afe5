"""`spherecnn mesh convert`: meshes between formats, signals between meshes, and pictures to meshes and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from spherecnn.cli import faces, pictures
from spherecnn.cli import options as o
from spherecnn.cli.convert import SOURCES, convert, rows_for, vertex_grid
from spherecnn.cli.mesh import sources as s
from spherecnn.cli.signals import Signal, holds_pixels, is_signal, write_signal
from spherecnn.errors import InputError
from spherecnn.grids import Equirect, read_mesh, write_mesh
from spherecnn.grids.mesh_files import COLOURED
from spherecnn.grids.resample import resample


@click.command(
    "convert",
    epilog="""\b
Examples:
  spherecnn mesh convert sphere.ply --out sphere.off
  spherecnn mesh convert room.jpg --level 6 --out room.ply
  spherecnn mesh convert room.jpg --level 6 --out room.npz
  spherecnn mesh convert room.npz --level 4 --out coarse.npz
  spherecnn mesh convert room.npz --onto other.off --out there.npz
  spherecnn mesh convert weather.npz --channel 3 --cmap magma --out weather.ply
  spherecnn mesh convert room.ply --height 512 --out back.png""",
)
@click.argument("source", metavar="IN", type=s.FILE)
@click.option("--out", type=s.PATH, required=True, help="File to write; its suffix says what: mesh, values or picture.")
@click.option("--level", type=s.LEVELS, help="Put the values on the icosphere of this level.")
@click.option("--onto", type=s.FILE, help="Put the values on the mesh in this file.")
@click.option("--mesh", type=s.FILE, help="Mesh of the values of IN, where IN does not say it.")
@click.option("--from", "kind", type=click.Choice(SOURCES), help="What IN is; by default what its shape shows.")
@s.channel_option
@s.cmap_option
@s.limits_option
@click.option("--height", type=o.AT_LEAST_1, help="Rows of a picture.  [default: about as many pixels as vertices]")
@click.option(
    "--sampling",
    type=click.Choice(["supersample", "bilinear", "nearest"]),
    default="supersample",
    show_default=True,
    help="Average where the target is coarser, read between vertices, or take the nearest, as labels need.",
)
def command(source: Path, out: Path, **given: Any) -> None:
    """Convert a mesh, a signal on one, or a spherical picture IN.

    \b
    .ply .glb           a mesh, with values as the colours of its vertices
    .off .obj .stl      a mesh alone
    .npz .npy           values at vertices; .npz with the mesh
    .png .jpg           a panorama; one channel by a colour map

    IN may be any of these, or what `spherecnn convert` reads. Values stay on their mesh, and a picture goes to the
    level with about as many vertices as pixels, unless --level or --onto says where to.
    """
    kind = _kind_of(out)
    s.check_cmap(given["cmap"])
    s.check_limits(given["limits"])
    if given["level"] is not None and given["onto"] is not None:
        raise InputError("--level and --onto were given; expected one of them: leave one out.")
    grid, signal = s.open_source(source, given["mesh"], given["kind"])
    if signal is None:
        _write_bare(source, out, grid, kind, given)
        return
    made = {"mesh": _write_mesh, "signal": _write_signal, "picture": _write_picture}[kind](out, signal, given)
    click.echo(f"Converted {source}, {grid!r}, {s.describe(signal)}, to {made}")


def _kind_of(out: Path) -> str:
    """What a suffix stands for."""
    if s.is_mesh(out):
        return "mesh"
    if is_signal(out):
        return "signal"
    if out.suffix.lower() in pictures.SUFFIXES:
        return "picture"
    known = ", ".join((*s.MESHES, *faces.SUFFIXES, *pictures.SUFFIXES))
    raise InputError(f"the file to write is {out}; expected a name in {known}: rename it.")


def _write_bare(source: Path, out: Path, grid: Any, kind: str, given: dict[str, Any]) -> None:
    """Write a mesh without values in another format."""
    used = next(
        (name for name in ("level", "onto", "channel", "cmap", "limits", "height") if given[name] is not None), None
    )
    if kind != "mesh" or used:
        what = f"--{used}" if used else f"the name {out}"
        raise InputError(
            f"{source} is a mesh without values and {what} asks for some; expected only another format of meshes "
            f"({', '.join(s.MESHES)}): see `spherecnn mesh view` for a picture of it."
        )
    write_mesh(out, grid)
    click.echo(f"Converted {source}, {grid!r}, to {out}.\nNext: spherecnn mesh info {out}")


def carry(signal: Signal, target: Any, sampling: str) -> Signal:
    """A signal on another grid; pixels are rounded, whole numbers that are none become float32 unless "nearest"."""
    if signal.grid == target:
        return signal
    at_sites = signal.values.reshape(*signal.grid.shape, signal.channels)
    if holds_pixels(signal):
        values = convert(at_sites, signal.grid, target, sampling)
    else:
        values = resample(at_sites, signal.grid, target, sampling)
    return Signal(values.reshape(target.sites, -1), target, signal.names)


def _on_mesh(signal: Signal, given: dict[str, Any]) -> Signal:
    target = read_mesh(given["onto"]) if given["onto"] else vertex_grid(signal.grid, given["level"])
    return carry(signal, target, given["sampling"])


def _write_signal(out: Path, signal: Signal, given: dict[str, Any]) -> str:
    _refuse(given, "values", "channel", "cmap", "limits", "height")
    there = _on_mesh(signal, given)
    write_signal(out, there)
    return f"{there.grid!r} in {out}.\nNext: spherecnn mesh view {out} --out {out.stem}.png"


def _write_mesh(out: Path, signal: Signal, given: dict[str, Any]) -> str:
    _refuse(given, "a mesh", "height")
    there = _on_mesh(signal, given)
    write_mesh(out, there.grid, colours(there, given) if out.suffix.lower() in COLOURED else None)
    how = "" if out.suffix.lower() in COLOURED else ", without its values, which only .ply and .glb hold as colours,"
    onward = f"open {out} in a viewer of meshes, or spherecnn mesh view {out} --out {out.stem}.png"
    return f"{there.grid!r}{how} in {out}.\nNext: {onward}"


def _write_picture(out: Path, signal: Signal, given: dict[str, Any]) -> str:
    if given["level"] is not None or given["onto"] is not None:
        signal = _on_mesh(signal, given)
    panorama = Equirect(
        given["height"] or (signal.grid.height if isinstance(signal.grid, Equirect) else rows_for(signal.grid))
    )
    drawn = carry(signal, panorama, given["sampling"])
    as_it_is = holds_pixels(signal) and given["channel"] is given["cmap"] is None
    pixels = drawn.values if as_it_is else colours(drawn, given, of=signal)
    pictures.write_picture(out, pixels.reshape(*panorama.shape, -1))
    return f"{panorama!r} in {out}.\nNext: look at {out}; spherecnn mesh view draws it with axes and a bar."


def colours(signal: Signal, given: dict[str, Any], of: Signal | None = None) -> np.ndarray:
    """Colours uint8 (P, 3) of a signal; a colour map spans the values of the signal that it is made of."""
    from spherecnn.viz.mesh import Colours

    values, _ = s.shown(signal, given["channel"], given["cmap"])
    if values.ndim > 1:
        return np.rint(255 * np.broadcast_to(values, (len(values), 3)).clip(0, 1)).astype(np.uint8)
    whole, _ = s.shown(of or signal, given["channel"], given["cmap"])
    scale = Colours.of(whole, given["cmap"], given["limits"])
    return np.rint(255 * scale.rgb(values)).astype(np.uint8)


def _refuse(given: dict[str, Any], what: str, *names: str) -> None:
    for name in names:
        if given[name] is not None:
            raise InputError(
                f"--{name} was given for {what}, which it does not change; expected it for colours only: leave it out."
            )
