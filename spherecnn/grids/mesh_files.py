"""Meshes in files, by trimesh: OFF, OBJ, PLY, STL and GLB."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.grids.base import read_only
from spherecnn.grids.icosphere import Icosphere
from spherecnn.grids.mesh import MeshGrid

# The largest difference of a vertex of trimesh's icosphere from ours; the closest vertices of level 8 are 3e-3 apart.
_SAME = 1e-9
# What a file of a mesh may be, and which hold colours of the vertices.
SUFFIXES = (".ply", ".off", ".obj", ".stl", ".glb")
COLOURED = (".ply", ".glb")
_KINDS = sorted(suffix[1:] for suffix in SUFFIXES)


class _Unreadable(InputError):
    """The file, not the mesh in it, is at fault."""


def read_mesh(path: str | os.PathLike[str]) -> MeshGrid:
    """Read a closed triangle mesh about the origin from an OFF, OBJ, PLY, STL or GLB file.

    Vertices and faces keep their order. STL files name the corners of each face anew: equal ones are merged, in the
    order in which they first appear. Faces of four corners are divided in triangles; colours and textures are not read.

    Parameters
    ----------
    path : path
        Its suffix tells the format.

    Returns
    -------
    MeshGrid

    Raises
    ------
    InputError
        If the file is missing, empty, truncated or of another format, or its mesh is none that `MeshGrid` accepts.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/level2.off"
    >>> write_mesh(path, Icosphere(2))
    >>> read_mesh(path)
    MeshGrid(162 vertices, 320 faces)
    """
    try:
        return MeshGrid(*read_triangles(path))
    except _Unreadable:
        raise
    except InputError as error:
        raise InputError(f"{path}, if it is complete, is no grid of the sphere: {error}") from None


def read_triangles(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (P, 3) and faces (F, 3) of any mesh in a file, as `read_mesh` reads them but not checked.

    Raises
    ------
    InputError
        If the file is missing, empty, truncated, of another format or without faces.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "triangle.off")
    >>> _ = path.write_text("\\n".join(["OFF", "3 1 0", "0 0 0", "1 0 0", "0 1 0", "3 0 1 2"]))
    >>> read_triangles(path)[1]
    array([[0, 1, 2]])
    """
    kind = _kind(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise _Unreadable(f"{path} cannot be read ({error.strerror}); expected a mesh file: check the path.") from error
    if not content.strip():
        raise _Unreadable(f"{path} is empty; expected a mesh: export it again.")
    vertices, faces = _parsed(path, content, kind)
    return _merged(vertices, faces) if kind == "stl" else (vertices, faces)


def read_colours(path: str | os.PathLike[str], count: int) -> np.ndarray | None:
    """Colours of the vertices in a PLY or GLB file, uint8 (P, 3), or (P, 4) where not all are opaque.

    None if the file has none, or not `count` of them. `read_mesh` says what is wrong with a file that is damaged.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/red.ply"
    >>> write_mesh(path, Icosphere(0), np.tile(np.uint8([255, 0, 0]), (12, 1)))
    >>> read_colours(path, 12)[0]
    array([255,   0,   0], dtype=uint8)
    """
    import trimesh

    if Path(path).suffix.lower() not in COLOURED:
        return None
    kind, content = _kind(path), Path(path).read_bytes()
    mesh: Any = trimesh.load(io.BytesIO(content), file_type=kind, force="mesh", process=False)
    visual = mesh.visual
    if getattr(visual, "kind", None) != "vertex" or len(visual.vertex_colors) != count:
        return None
    colours = np.asarray(visual.vertex_colors, np.uint8)
    return np.ascontiguousarray(colours if (colours[:, 3] < 255).any() else colours[:, :3])


def write_mesh(path: str | os.PathLike[str], grid: MeshGrid, colours: np.ndarray | None = None) -> None:
    """Write a mesh to an OFF, OBJ, PLY, STL or GLB file; one that is there is replaced only by a complete one.

    OFF and OBJ keep the coordinates to the bit. PLY, STL and GLB hold float32, so that a mesh of unit vectors comes
    back off the sphere by up to 1e-7: put it there again by ``MeshGrid(grid.xyz, grid.faces)``.

    Parameters
    ----------
    path : path
        Its suffix tells the format.
    grid : MeshGrid
        An `Icosphere` is one.
    colours : ndarray (P, 3) or (P, 4) of uint8, optional
        Red, green, blue and, of four, opacity of each vertex; for PLY and GLB.

    Raises
    ------
    InputError
        If the format is unknown or holds no colours, these do not fit, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> grid = Icosphere(2)
    >>> grey = np.repeat(np.uint8(127 * (1 + grid.xyz[:, 2:])), 3, axis=1)  # white in the north, black in the south
    >>> write_mesh(tempfile.mkdtemp() + "/north.ply", grid, grey)
    """
    import trimesh

    kind = _kind(path)
    if not isinstance(grid, MeshGrid):
        raise InputError(f"the grid is {grid!r}; expected a mesh: use grids.MeshGrid or grids.Icosphere.")
    if colours is not None:
        colours = _checked_colours(colours, kind, grid)
    mesh = trimesh.Trimesh(grid.vertices.copy(), grid.faces.copy(), vertex_colors=colours, process=False)
    options: dict[str, Any] = {}
    if kind in ("off", "obj"):
        options["digits"] = _decimals(grid.vertices)
    if kind == "obj":
        options |= {"include_color": False, "include_normals": False, "include_texture": False}
    content: Any = mesh.export(file_type=kind, **options)
    write_atomic(path, content.encode() if isinstance(content, str) else content)


def trimesh_order(level: int) -> np.ndarray:
    """Vertex of `Icosphere` that each vertex of ``trimesh.creation.icosphere(level)`` is: (P,).

    The orders differ from level 1 on. Both begin with the same icosahedron, in the same place with the same numbers,
    and add the middles of its edges level by level; no rotation lies between them, but the middles are numbered
    otherwise, and so are the faces.

    Values on trimesh's vertices are ``values[trimesh_order(level)]``, and values of theirs go to ours by
    ``ours[trimesh_order(level)] = theirs``.

    Raises
    ------
    InputError
        If the level is not an integer from 0 to 8, or the installed trimesh makes another mesh.

    Examples
    --------
    >>> trimesh_order(1)[:14]
    array([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 14, 15])
    """
    import trimesh

    grid = Icosphere(level)
    theirs = np.asarray(trimesh.creation.icosphere(subdivisions=grid.level).vertices)
    order = grid.nearest(theirs)
    if (
        len(np.unique(order)) != grid.sites
        or len(theirs) != grid.sites
        or np.abs(grid.vertices[order] - theirs).max() > _SAME
    ):
        raise InputError(
            f"trimesh {trimesh.__version__} makes another icosphere of level {level}; expected the vertices of "
            f"{grid!r} in another order: use trimesh 4 or 5."
        )
    return read_only(order)


def _kind(path: str | os.PathLike[str]) -> str:
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in _KINDS:
        raise _Unreadable(
            f"{path} has the suffix {Path(path).suffix!r}; expected one of {', '.join(_KINDS)}: rename it."
        )
    return kind


def _parsed(path: str | os.PathLike[str], content: bytes, kind: str) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    options: dict[str, Any] = {"maintain_order": True, "skip_materials": True} if kind == "obj" else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, of damaged numbers
            mesh: Any = trimesh.load(io.BytesIO(content), file_type=kind, force="mesh", process=False, **options)
            vertices = np.asarray(mesh.vertices, np.float64).reshape(-1, 3)
            faces = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    except Exception as error:  # parsers of trimesh raise whatever they stumble on
        raise _Unreadable(
            f"{path} is damaged or not a mesh in {kind.upper()} format ({_told(error)}); expected a complete file of "
            "triangles: export it again."
        ) from error
    if not len(faces):
        raise _Unreadable(f"{path} has no faces; expected a mesh of triangles: export it again with its faces.")
    return vertices, faces


def _decimals(vertices: np.ndarray) -> int:
    """Digits behind the point that keep 17 of the smallest coordinate; those below 1e-40 lose some."""
    least = np.abs(vertices[vertices != 0]).min()
    return int(np.clip(17 - np.floor(np.log10(least)), 1, 57))


def _told(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words.split(". ")[0][:120].rstrip(".") or type(error).__name__


def _merged(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Equal vertices made one, numbered as they first appear."""
    _, first, number = np.unique(vertices + 0.0, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return vertices[first[order]], rank[number.reshape(-1)][faces]


def _checked_colours(colours: object, kind: str, grid: MeshGrid) -> np.ndarray:
    if f".{kind}" not in COLOURED:
        raise InputError(
            f"{kind.upper()} files hold no colours of vertices here; expected PLY or GLB: rename the file."
        )
    array = np.asarray(colours)
    if array.dtype != np.uint8 or array.ndim != 2 or array.shape[0] != grid.sites or array.shape[1] not in (3, 4):
        raise InputError(
            f"colours are {array.dtype} of shape {array.shape}; expected uint8 of shape ({grid.sites}, 3) or "
            f"({grid.sites}, 4) for {grid!r}: give a colour from 0 to 255 for each vertex."
        )
    return array
