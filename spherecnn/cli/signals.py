"""Files of signals: values at the vertices of a mesh, or on faces, and what rebuilds the mesh, as .npz or .npy."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.cli.faces import SUFFIXES, load_arrays
from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.grids import Icosphere, MeshGrid, Polyhedron, from_config
from spherecnn.grids.descend import MOST_LEVELS

_HINT = "make it again with `spherecnn mesh convert`"
_NAMES = ("values", "data", "kind", "level", "vertices", "faces", "refined", "names")
_REBUILT: dict[str, Any] = {"icosphere": Icosphere, "polyhedron": Polyhedron}


@dataclass(frozen=True)
class Signal:
    """Values on a grid.

    Attributes
    ----------
    values : ndarray (P, C)
        uint8 or uint16 are the pixels of a picture if C is 1 to 4; others are fields.
    grid : MeshGrid, Icosphere or Polyhedron
        P vertices, or for a Polyhedron P faces.
    names : tuple of str
        What the channels are called, if that is known.
    """

    values: np.ndarray
    grid: Any
    names: tuple[str, ...] = field(default=())

    @property
    def channels(self) -> int:
        return int(self.values.shape[1])

    def name(self, channel: int) -> str:
        """What a channel is called."""
        return self.names[channel] if self.names else f"channel {channel}"


def write_signal(path: Path, signal: Signal) -> None:
    """Write a signal, wholly or not at all: in an .npz file with what rebuilds its mesh, in an .npy file alone.

    Keys of the .npz file: `values` (P, C); `kind`, "icosphere" or "polyhedron" with `level`, or "mesh" with `vertices`
    (P, 3) and `faces` (F, 3); and where the channels have names, `names` (C,).
    """
    buffer = io.BytesIO()
    if path.suffix.lower() == ".npy":
        if type(signal.grid) is MeshGrid:
            raise InputError(f"{path} cannot hold the mesh {signal.grid!r}; expected a name in .npz: rename it.")
        np.save(buffer, signal.values, allow_pickle=False)
    else:
        np.savez_compressed(buffer, **signal_arrays(signal))
    write_atomic(path, buffer.getvalue())


def signal_arrays(signal: Signal) -> dict[str, Any]:
    """The arrays of an .npz file."""
    named = {"names": np.array(signal.names)} if signal.names else {}
    return {"values": signal.values, **grid_arrays(signal.grid), **named}


def grid_arrays(grid: Any) -> dict[str, np.ndarray]:
    """The arrays that rebuild a grid."""
    if type(grid) is MeshGrid:
        return {"kind": np.array("mesh"), "vertices": grid.vertices, "faces": grid.faces}
    return {name: np.array(entry) for name, entry in grid.config().items()}


def read_signal(path: Path, grid: Any = None) -> Signal:
    """Read a signal; nothing in the file is run.

    Arrays of channels first, as the published data sets have them under the key `data`, are turned. Where the file
    does not say its mesh, it is `grid`, or the level with as many vertices, or faces, as there are values.
    """
    with open(path, "rb") as file:  # what cannot be opened is not damaged
        arrays = load_arrays(file, path, (), "a signal", _HINT, optional=_NAMES)
    values = arrays.get("values", arrays.get("data"))
    if values is None or values.ndim not in (1, 2) or values.dtype.kind not in "biuf" or not values.size:
        found = ", ".join(f"{name} {a.shape} of {a.dtype}" for name, a in list(arrays.items())[:5]) or "nothing"
        raise InputError(f"{path} holds {found[:160]}; expected numbers named values, of shape (P, C): {_HINT}.")
    found = _grid_of(arrays, path)
    grid = grid if found is None else found
    values = values[:, None] if values.ndim == 1 else values
    values = values.astype(np.uint8) if values.dtype == bool else values
    values = values.astype(np.float32) if values.dtype == np.float16 else values
    if grid is None:
        grid, values = _by_size(values, path)
    if len(values) != grid.sites and values.shape[1] == grid.sites:
        values = values.T
    if len(values) != grid.sites:
        raise InputError(
            f"{path} holds values of shape {values.shape} for {grid!r}; expected ({grid.sites}, C): name their mesh "
            "by --mesh."
        )
    names = tuple(str(name) for name in arrays.get("names", np.array([])).ravel())
    return Signal(np.ascontiguousarray(values), grid, names if len(names) == values.shape[1] else ())


def _grid_of(arrays: dict[str, np.ndarray], path: Path) -> Any:
    """The grid that the file says, or None."""
    if "kind" not in arrays:
        return None
    kind = str(arrays["kind"])
    try:
        if kind == "mesh" and arrays["vertices"].dtype.kind == "U":  # as MeshGrid.config has it
            return from_config({name: arrays[name].tolist() for name in ("kind", "vertices", "faces", "refined")})
        if kind == "mesh":
            return MeshGrid(arrays["vertices"], arrays["faces"])
        return _REBUILT[kind](arrays["level"].item())
    except (KeyError, ValueError) as error:  # InputError is a ValueError
        why = str(error) if isinstance(error, InputError) else f"kind {kind[:40]!r} without what belongs to it"
        raise InputError(f"{path} says no grid of its values ({why.rstrip('.')}): {_HINT}.") from error


def _by_size(values: np.ndarray, path: Path) -> tuple[Any, np.ndarray]:
    """The icosphere with as many vertices as there are values, or the polyhedron with as many faces."""
    for turned in (values, values.T):
        for level in range(MOST_LEVELS + 1):
            if len(turned) == 10 * 4**level + 2:
                return Icosphere(level), turned
            if len(turned) == 20 * 4**level:
                return Polyhedron(level), turned
    raise InputError(
        f"{path} holds values of shape {values.shape} and no mesh; expected 10 * 4^level + 2 vertices of an "
        "icosphere or 20 * 4^level faces: name their mesh by --mesh."
    )


def is_signal(path: Path) -> bool:
    """Whether the name is that of a file of a signal."""
    return path.suffix.lower() in SUFFIXES


def on_vertices(path: Path) -> bool:
    """Whether a file says, or shows by its size, that its values are at the vertices of a mesh and not on faces."""
    if not is_signal(path):
        return False
    try:
        with open(path, "rb") as file:
            arrays = load_arrays(file, path, (), "a signal", _HINT, optional=_NAMES)
    except InputError:  # what is wrong is said by who reads it
        return False
    if "kind" in arrays:
        return str(arrays["kind"]) in ("icosphere", "mesh")
    sizes = arrays["values"].shape[:1] if "values" in arrays else ()
    return any(sizes == (10 * 4**level + 2,) for level in range(MOST_LEVELS + 1))


def holds_pixels(signal: Signal) -> bool:
    """Whether the values are those of a picture: 8 or 16 bits of grey or colour, with or without alpha."""
    return signal.values.dtype in (np.uint8, np.uint16) and signal.channels <= 4
