"""Files of values on the faces of a polyhedron: .npz with the level, or .npy of the values alone."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spherecnn.cli.pictures import KINDS
from spherecnn.errors import InputError
from spherecnn.files import DAMAGED, write_atomic
from spherecnn.grids import Polyhedron
from spherecnn.grids.polyhedron import MOST_LEVELS

SUFFIXES = (".npz", ".npy")
_HINT = "make it again with `spherecnn convert --to spherephd`"


def check_suffix(path: Path) -> None:
    """Refuse a name that is none of a file of faces."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"the file of faces is {path}; expected a name in {', '.join(SUFFIXES)}: rename it.")


def write_faces(path: Path, values: np.ndarray, grid: Polyhedron) -> None:
    """Write values (P, C), wholly or not at all; beside them an .npz file holds `kind` and `level` of the grid."""
    buffer = io.BytesIO()
    if path.suffix.lower() == ".npy":
        np.save(buffer, values, allow_pickle=False)
    else:
        np.savez_compressed(buffer, values=values, kind=np.array("polyhedron"), level=np.array(grid.level))
    write_atomic(path, buffer.getvalue())


def read_faces(path: Path) -> tuple[np.ndarray, Polyhedron]:
    """Values (P, C) of uint8 or uint16 in a file of faces, and their grid; nothing in it is run."""
    check_suffix(path)
    with open(path, "rb") as file:  # what cannot be opened is not damaged
        arrays = load_arrays(file, path, ("values", "kind", "level"), "faces", _HINT)
    values = arrays["values"]
    level = next((n for n in range(MOST_LEVELS + 1) if values.shape[:1] == (20 * 4**n,)), None)
    if values.ndim != 2 or level is None or values.shape[1] not in KINDS or values.dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"{path} holds values of shape {values.shape} and {values.dtype}; expected uint8 or uint16 of shape "
            f"(20 * 4^level, C) with C from 1 to 4 and level from 0 to {MOST_LEVELS}: make it with "
            "`spherecnn convert --to spherephd`."
        )
    grid = Polyhedron(level)
    said = {name: entry.tolist() for name, entry in arrays.items() if name != "values"}
    if said not in ({}, grid.config()):
        raise InputError(
            f"{path} says of its grid {str(said)[:99]}; expected {grid.config()} for {len(values)} faces: make it "
            "again with `spherecnn convert --to spherephd`."
        )
    return values, grid


def load_arrays(
    file: io.BufferedReader, path: Path, names: Sequence[str], what: str, hint: str, optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The arrays of a file with these names, and those of the optional ones that it holds; a single one is "values".

    `what` the file is read as, and the `hint` what to do, are for the message where that fails.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd headers
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"values": loaded}
            return {name: loaded[name] for name in (*names, *(name for name in optional if name in loaded))}
    except DAMAGED as error:
        why = str(error).split("\n")[0].split(". ")[0].rstrip(".") or "it ends early"
        if "pickle" in why:
            why = "it is no such file, or holds Python objects"
        known = [*names, *optional]
        listed = f"{', '.join(known[:-1])} and {known[-1]}"
        raise InputError(
            f"{path} cannot be read as {what} ({why}); expected plain arrays named {listed}: {hint}."
        ) from error
