"""`spherecnn convert`: a panorama as a cubemap, on a polyhedron or a mesh, a view, a globe, another size, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from spherecnn.cli import faces as face_files
from spherecnn.cli import options as o
from spherecnn.cli import pictures
from spherecnn.cli import signals as signal_files
from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, Equirect, Grid, Icosphere, MeshGrid, Perspective, Polyhedron, fold, unfold
from spherecnn.grids.layouts import LAYOUTS, layout_of
from spherecnn.grids.polyhedron import MOST_LEVELS
from spherecnn.grids.resample import resample

SOURCES = ("equirect", *LAYOUTS, "folder", "spherephd", "icosphere")


@dataclass(frozen=True)
class Target:
    """What `--to` can name.

    Attributes
    ----------
    options : tuple of str
        Options that belong to it.
    grid : callable
        (source grid, options) -> target grid.
    check : callable
        (path, options): refuses a name that cannot be written, before anything is read.
    write : callable
        (path, pixels, their grid, options) -> how to go on, a command.
    """

    options: tuple[str, ...]
    grid: Callable[[Any, dict[str, Any]], Any]
    check: Callable[[Path, dict[str, Any]], None]
    write: Callable[[Path, np.ndarray, Any, dict[str, Any]], str]


def _cubemap_grid(source: Any, given: dict[str, Any]) -> Cubemap:
    if isinstance(source, Cubemap):
        same = source.size
    else:
        same = max(1, round(source.width / 4)) if isinstance(source, Equirect) else math.ceil(rows_for(source) / 2)
    return Cubemap(given["size"] or same)


def _check_cubemap(out: Path, given: dict[str, Any]) -> None:
    if given["layout"] != "folder":
        pictures.check_suffix(out)
    elif out.suffix.lower() in pictures.SUFFIXES:
        raise InputError(f"the folder to write is {out}; expected the name of a folder for --layout folder: rename it.")


def _write_cubemap(out: Path, pixels: np.ndarray, grid: Any, given: dict[str, Any]) -> str:
    if given["layout"] == "folder":
        pictures.write_faces(out, pixels)
    else:
        pictures.write_picture(out, unfold(pixels, given["layout"] or "cross"))
    return f"spherecnn convert {out} --to equirect --out panorama.png"


def _equirect_grid(source: Any, given: dict[str, Any]) -> Equirect:
    height, width = given["height"], given["width"]
    if height is None and width is None and isinstance(source, Equirect):
        return source
    if height is None and width is None:
        height = 2 * source.size if isinstance(source, Cubemap) else rows_for(source)
    elif height is None:
        height = math.ceil(width / 2)
    return Equirect(height, width)


def rows_for(source: Grid) -> int:
    """Rows of a panorama with about as many pixels, where it is not stretched, as faces or vertices.

    Examples
    --------
    >>> rows_for(Polyhedron(4)), rows_for(Icosphere(4))
    (64, 45)
    """
    return 4 * 2**source.level if isinstance(source, Polyhedron) else max(1, round(math.pi / source.pixel_side))


def _check_picture(out: Path, given: dict[str, Any]) -> None:
    pictures.check_suffix(out)


def _write_equirect(out: Path, pixels: np.ndarray, grid: Any, given: dict[str, Any]) -> str:
    pictures.write_picture(out, pixels)
    return f"spherecnn convert {out} --to perspective --lon 90 --out east.png"


def _perspective_grid(source: Any, given: dict[str, Any]) -> Perspective:
    width = given["width"] or given["height"] or 512
    angles = {name: math.radians(given[name] or 0.0) for name in ("lat", "lon", "roll")}
    fov = 90.0 if given["fov"] is None else given["fov"]
    return Perspective(given["height"] or width, width, fov, **angles)


def _write_perspective(out: Path, pixels: np.ndarray, grid: Any, given: dict[str, Any]) -> str:
    pictures.write_picture(out, pixels)
    return f"look at {out}; sc.grids.resample.stitch puts views back on a sphere."


def _face_grid(source: Any, given: dict[str, Any]) -> Polyhedron:
    if given["level"] is not None:
        return Polyhedron(given["level"])
    same = math.log(source.sites / 20, 4)  # about as many faces as pixels
    return Polyhedron(min(max(0, round(same)), MOST_LEVELS))


def _check_faces(out: Path, given: dict[str, Any]) -> None:
    face_files.check_suffix(out)


def _write_faces(out: Path, pixels: np.ndarray, grid: Any, given: dict[str, Any]) -> str:
    face_files.write_faces(out, pixels, grid)
    return f"spherecnn convert {out} --to globe --out globe.png"


def vertex_grid(source: Any, level: int | None) -> MeshGrid:
    """The icosphere of a level; by default the mesh itself, or the level with about as many vertices as sites."""
    if level is None and isinstance(source, MeshGrid):
        return source
    same = math.log(max(10, source.sites - 2) / 10, 4)
    return Icosphere(min(max(0, round(same)), MOST_LEVELS) if level is None else level)


def _vertex_grid(source: Any, given: dict[str, Any]) -> MeshGrid:
    return vertex_grid(source, given["level"])


def _check_vertices(out: Path, given: dict[str, Any]) -> None:
    if not signal_files.is_signal(out):
        raise InputError(
            f"the file of values is {out}; expected a name in {', '.join(face_files.SUFFIXES)}: rename it, or use "
            "`spherecnn mesh convert`, which writes coloured meshes too."
        )


def _write_vertices(out: Path, pixels: np.ndarray, grid: Any, given: dict[str, Any]) -> str:
    signal_files.write_signal(out, signal_files.Signal(pixels, grid))
    return f"spherecnn mesh view {out} --out {out.stem}.png"


def _globe_grid(source: Any, given: dict[str, Any]) -> Any:
    return source


def _write_globe(out: Path, pixels: np.ndarray, grid: Any, given: dict[str, Any]) -> str:
    from spherecnn.viz import render_globe

    colour = pixels / np.float32(np.iinfo(pixels.dtype).max)
    if colour.shape[-1] in (2, 4):  # on white
        colour = 1 - (1 - colour[..., :-1]) * colour[..., -1:]
    lat, lon, size = given["lat"] or 0.0, given["lon"] or 0.0, given["size"] or 512
    edges = bool(given["edges"])
    view = render_globe(colour, grid, lat, lon, size=size, smooth=False if edges else None, edges=edges)
    if out.suffix.lower() != ".png":
        view = 1 - (1 - view[..., :3]) * view[..., 3:]
    pictures.write_picture(out, np.rint(view * 255).astype(np.uint8))
    return f"look at {out}; --lat and --lon turn the globe."


TARGETS = {
    "cubemap": Target(("size", "layout"), _cubemap_grid, _check_cubemap, _write_cubemap),
    "equirect": Target(("height", "width"), _equirect_grid, _check_picture, _write_equirect),
    "perspective": Target(
        ("lat", "lon", "roll", "fov", "height", "width"), _perspective_grid, _check_picture, _write_perspective
    ),
    "spherephd": Target(("level",), _face_grid, _check_faces, _write_faces),
    "icosphere": Target(("level",), _vertex_grid, _check_vertices, _write_vertices),
    "globe": Target(("lat", "lon", "size", "edges"), _globe_grid, _check_picture, _write_globe),
}


@click.command(
    "convert",
    epilog="""\b
Examples:
  spherecnn convert room.jpg --to cubemap --size 512 --out cross.png
  spherecnn convert cross.png --to equirect --height 1024 --out room.png
  spherecnn convert room.jpg --to perspective --lat 10 --lon 90 --fov 75 --out east.png
  spherecnn convert room.jpg --to cubemap --layout folder --out faces/
  spherecnn convert room.jpg --to spherephd --level 6 --out room.npz
  spherecnn convert room.jpg --to icosphere --level 6 --out vertices.npz
  spherecnn convert room.npz --to globe --lat 30 --lon 60 --out globe.png
  spherecnn convert room.npz --to equirect --height 512 --out back.png""",
)
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.option("--to", "to", type=click.Choice(list(TARGETS)), required=True, help="What to make.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="PNG, JPEG, .npz or .npy file, or folder, to write.",
)
@click.option("--from", "kind", type=click.Choice(SOURCES), help="What IN is; by default what its shape shows.")
@click.option("--size", type=o.AT_LEAST_1, help="Pixels along an edge of a face (cubemap), or across (globe).")
@click.option(
    "--level",
    type=click.IntRange(0, MOST_LEVELS),
    help="Times that the icosahedron's edges are halved (spherephd, icosphere).",
)
@click.option("--edges", is_flag=True, default=None, help="Draw lines between faces or pixels of one colour (globe).")
@click.option(
    "--layout", type=click.Choice([*LAYOUTS, "folder"]), help="How to keep faces (cubemap).  [default: cross]"
)
@click.option("--height", type=o.AT_LEAST_1, help="Rows (equirect, perspective).")
@click.option("--width", type=o.AT_LEAST_1, help="Columns (equirect, perspective).")
@click.option(
    "--lat", type=click.FloatRange(-90, 90), help="Degrees north of the middle (perspective, globe).  [default: 0]"
)
@click.option("--lon", type=float, help="Degrees to the right of the middle (perspective, globe).  [default: 0]")
@click.option("--roll", type=float, help="Degrees that the view is turned clockwise (perspective).  [default: 0]")
@click.option("--fov", type=float, help="Degrees from left to right (perspective).  [default: 90]")
@click.option(
    "--sampling",
    type=click.Choice(["supersample", "bilinear", "nearest", "cubic"]),
    default="supersample",
    show_default=True,
    help="Average over pixels, read between them, take one, as label pictures need, or read 4 x 4 of a panorama.",
)
def command(source: Path, to: str, out: Path, kind: str | None, sampling: str, **given: Any) -> None:
    """Convert a spherical picture IN: equirectangular, cross or strip file, folder of six faces, or file of faces.

    \b
    cubemap      six faces as a cross (3n x 4n), a strip (n x 6n) or a folder
    equirect     a panorama of another size, or from a cubemap
    perspective  what a camera sees that looks towards --lat, --lon
    spherephd    the 20 * 4^level faces of a subdivided icosahedron: an .npz file
    icosphere    its 10 * 4^level + 2 vertices: an .npz file, see also mesh convert
    globe        the sphere from outside, above --lat, --lon; faces as triangles

    Channels and bits stay: grey or colour, with or without alpha, 16-bit grey.
    """
    target = TARGETS[to]
    _check_options(to, given)
    target.check(out, given)
    pixels, grid, files = read_sphere(source, kind)
    goal = target.grid(grid, given)
    result = pixels if goal == grid else convert(pixels, grid, goal, sampling)
    onward = target.write(out, result, goal, given)
    if any(pictures.loses_bits(file) for file in files):
        click.echo(f"Note: {source} has colours of 16 bits, of which the upper 8 were read.")
    made = "a globe" if to == "globe" else repr(goal)
    click.echo(f"Converted {source}, {grid!r}, {pictures.describe(pixels)}, to {made} in {out}.\nNext: {onward}")


def read_sphere(path: Path, kind: str | None = None) -> tuple[np.ndarray, Any, list[Path]]:
    """Pixels of a spherical picture on its grid, the grid, and the picture files read; `kind` is one of SOURCES."""
    if kind is not None and path.is_dir() != (kind == "folder"):
        what = "a folder" if path.is_dir() else "a file"
        raise InputError(f"{path} is {what} and --from is {kind}; expected both to agree: leave --from out.")
    if path.is_dir():
        faces, files = pictures.read_faces(path)
        return faces, Cubemap(faces.shape[1]), files
    if kind == "icosphere" or (kind is None and signal_files.on_vertices(path)):
        return *_read_vertices(path), []
    if kind == "spherephd" or (kind is None and path.suffix.lower() in face_files.SUFFIXES):
        return *face_files.read_faces(path), []
    pixels = pictures.read_picture(path)
    height, width = pixels.shape[:2]
    kind = kind or _shown_by(pixels)
    if kind is None:
        raise InputError(
            f"{path} is {height} x {width} pixels; expected twice as wide as high (equirect), 3n x 4n with six empty "
            "squares (cross) or n x 6n (strip): crop it, or say --from what it is."
        )
    if kind == "equirect":
        return pixels, Equirect(height, width), [path]
    try:
        faces = fold(pixels, kind)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return faces, Cubemap(faces.shape[1]), [path]


def _read_vertices(path: Path) -> tuple[np.ndarray, MeshGrid]:
    """Pixels at the vertices of a mesh, and the mesh."""
    signal = signal_files.read_signal(path)
    if not signal_files.holds_pixels(signal):
        raise InputError(
            f"{path} holds {signal.channels} channels of {signal.values.dtype}; expected the pixels of a picture, "
            "uint8 or uint16 in 1 to 4 channels: show one channel by `spherecnn mesh convert` or `spherecnn mesh view`."
        )
    if not isinstance(signal.grid, MeshGrid):
        raise InputError(
            f"{path} holds values on {signal.grid!r} and --from is icosphere; expected both to agree: leave it out."
        )
    return signal.values, signal.grid


def _shown_by(pixels: np.ndarray) -> str | None:
    """What the shape shows a picture to be; a photograph of 3 x 4 is no cross, whose unused squares are plain."""
    height, width = pixels.shape[:2]
    if abs(width - 2 * height) <= 1:
        return "equirect"
    layout = layout_of((height, width))
    if layout == "cross":
        size = height // 3
        squares = pixels.reshape(3, size, 4, size, -1).astype(np.float32)
        spread = max(squares[r, :, c].std(axis=(0, 1)).max() for r in (0, 2) for c in (0, 2, 3))
        return layout if spread < 0.02 * np.iinfo(pixels.dtype).max else None
    return layout


def convert(pixels: np.ndarray, source: Grid, target: Any, sampling: str) -> np.ndarray:
    """Resample integer pixels and round; colours are weighed by alpha, so that what is clear does not bleed."""
    if sampling == "nearest":
        return resample(pixels, source, target, "nearest")
    most = np.iinfo(pixels.dtype).max
    values = pixels.astype(np.float32)
    alpha = pixels.shape[-1] in (2, 4)
    if alpha:
        values[..., :-1] *= values[..., -1:] / most
    values = resample(values, source, target, sampling)
    if alpha:
        values[..., :-1] *= most / np.maximum(values[..., -1:], 1e-6)
    return np.rint(values).clip(0, most).astype(pixels.dtype)


def _check_options(to: str, given: dict[str, Any]) -> None:
    """Refuse options of other targets."""
    for name, value in given.items():
        if value is not None and name not in TARGETS[to].options:
            homes = " or ".join(f"--to {other}" for other, target in TARGETS.items() if name in target.options)
            raise InputError(f"--{name} was given with --to {to}; expected it with {homes} only: leave it out.")
