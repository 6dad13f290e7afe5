"""Projecting a folder of shapes on a sphere: again and again until all is done, in several processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from spherecnn.datasets.shape_files import ShapeFile, find_shapes
from spherecnn.datasets.shape_folder import same_settings, write_projection
from spherecnn.datasets.shapes import project_shape, read_shape
from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.files import make_folder, write_atomic
from spherecnn.grids import Grid, from_config

# A process takes a second or two to start: it must have some work to do.
WORTH = 16
DAMAGED = "damaged.txt"
# Which axis of a file points up; the grid's is z.
UP = {"z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)), "y": ((1, 0, 0), (0, 0, -1), (0, 1, 0))}


@dataclass
class Projected:
    """What became of the shapes of a folder.

    Attributes
    ----------
    made, kept : int
        How many were projected now, and how many were there already.
    damaged : list of (str, str)
        Name of each file that could not be read, and why.
    """

    made: int = 0
    kept: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)


def project_shapes(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    grid: Grid,
    *,
    up: str = "z",
    jobs: int | None = None,
    progress: bool = True,
) -> Projected:
    """Project all shapes of a folder on a sphere, see `project_shape`: one .npz file each in a tree of the same form.

    Files that were projected with the same settings from a shape that has not changed since are kept. Whatever stops
    it, each file in `out` is whole, and calling it again goes on. Damaged shapes are left out and named, with the
    reason, in ``damaged.txt``.

    Parameters
    ----------
    folder : path
        In a layout of `find_shapes`.
    out : path
        Where to write, for `shapes` to read.
    grid : Grid
        Usually `grids.Icosphere`.
    up : {"z", "y"}
        Which axis of the shapes points up, and north.
    jobs : int, optional
        Processes; by default as many as there are processors, if there is work for them. Other processes import the
        main module: a script of your own needs ``if __name__ == "__main__"`` or ``jobs=1``.
    progress : bool
        Show a bar.

    Returns
    -------
    Projected

    Raises
    ------
    InputError
        If the folder holds no shapes, all are damaged, or a file cannot be written.
    """
    check_choice("up", up, tuple(UP))
    files = find_shapes(folder)
    root = make_folder(out)
    pending = [f for f in files if not _is_done(f, _target(root, f), grid, up)]
    if jobs is None:
        jobs = max(1, min(os.cpu_count() or 1, len(pending) // WORTH))
    check_at_least("jobs", jobs, 1)
    done = Projected(kept=len(files) - len(pending))
    hidden = None if progress else True
    try:
        with (
            closing(_all(pending, root, grid, up, jobs)) as reasons,
            tqdm(reasons, "projecting", len(files), initial=done.kept, unit="shape", disable=hidden) as bar,
        ):
            for file, reason in bar:
                if reason is None:
                    done.made += 1
                else:
                    done.damaged.append((str(file.path), reason))
    finally:
        _write_log(root / DAMAGED, done.damaged)
    if len(done.damaged) == len(files):
        raise InputError(f"all {len(files)} shapes of {folder} are damaged; expected meshes: {done.damaged[0][1]}")
    return done


def _target(root: Path, file: ShapeFile) -> Path:
    return root / f"{file.name}.npz"


def _is_done(file: ShapeFile, target: Path, grid: Grid, up: str) -> bool:
    """Whether the projection of this file is there."""
    if not target.is_file() or target.stat().st_mtime < file.path.stat().st_mtime:
        return False
    return same_settings(target, grid, up)


def _all(
    files: Sequence[ShapeFile], root: Path, grid: Grid, up: str, jobs: int
) -> Generator[tuple[ShapeFile, str | None], None, None]:
    """Project each file; yield it and what is wrong with it, or None."""
    work = [(file.path, _target(root, file), grid.config(), up) for file in files]
    if jobs == 1:
        yield from zip(files, map(_project, work), strict=True)
        return
    pool = ProcessPoolExecutor(min(jobs, len(files)), get_context("spawn"), initializer=_leave_keyboard_to_parent)
    try:
        yield from zip(files, pool.map(_project, work, chunksize=4), strict=True)
    except BrokenProcessPool as error:
        raise InputError(
            "a process that projected shapes was killed, perhaps for want of memory; what was projected is kept: "
            "go on with fewer jobs."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_keyboard_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _project(work: tuple[Path, Path, dict[str, object], str]) -> str | None:
    """Project one file; return what is wrong with it, or None. A projection of what is damaged now does not stay."""
    source, target, config, up = work
    try:
        triangles = read_shape(source) @ np.array(UP[up], float).T
        values = project_shape(triangles, grid := from_config(config))
    except InputError as error:
        target.unlink(missing_ok=True)
        return str(error)
    make_folder(target.parent)
    write_projection(target, values, grid, up)
    return None


def _write_log(path: Path, damaged: Sequence[tuple[str, str]]) -> None:
    """Write the reasons, or remove an old file where nothing is damaged."""
    if damaged:
        write_atomic(path, "".join(f"{reason}\n" for _, reason in damaged).encode())
    else:
        path.unlink(missing_ok=True)
