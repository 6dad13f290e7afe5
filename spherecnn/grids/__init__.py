"""Grids on the sphere: geometry only, no kernels."""

from __future__ import annotations

from typing import Any

from spherecnn.errors import InputError
from spherecnn.grids.base import Grid, angles, directions
from spherecnn.grids.cubemap import Cubemap
from spherecnn.grids.equirect import Equirect
from spherecnn.grids.healpix import Healpix
from spherecnn.grids.icosphere import Icosphere
from spherecnn.grids.layouts import fold, unfold
from spherecnn.grids.mesh import MeshGrid, mesh_from_config
from spherecnn.grids.mesh_files import read_mesh, read_triangles, trimesh_order, write_mesh
from spherecnn.grids.perspective import Perspective
from spherecnn.grids.polyhedron import Polyhedron

__all__ = [
    "Cubemap",
    "Equirect",
    "Grid",
    "Healpix",
    "Icosphere",
    "MeshGrid",
    "Perspective",
    "Polyhedron",
    "angles",
    "directions",
    "fold",
    "from_config",
    "read_mesh",
    "read_triangles",
    "trimesh_order",
    "unfold",
    "write_mesh",
]

_KINDS: dict[str, Any] = {
    "cubemap": Cubemap,
    "equirect": Equirect,
    "healpix": Healpix,
    "icosphere": Icosphere,
    "mesh": mesh_from_config,
    "polyhedron": Polyhedron,
}


def from_config(config: dict[str, Any]) -> Grid:
    """Rebuild a grid from its `Grid.config`.

    Examples
    --------
    >>> from_config(Equirect(4).config())
    Equirect(4, 8)
    """
    fields = dict(config)
    kind = fields.pop("kind", None)
    if kind not in _KINDS:
        raise InputError(f"the grid kind is {kind!r}; expected one of {sorted(_KINDS)}: check the config.")
    return _KINDS[kind](**fields)
