"""The methods of differential operators on a mesh, entered in the registry."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Grid, Icosphere
from spherecnn.layers.base import Layer
from spherecnn.layers.combine import Sequential
from spherecnn.layers.mesh import MeshConv, check_mesh
from spherecnn.layers.mesh_pool import MeshPool, MeshUnpool, MeshUpsample
from spherecnn.layers.mesh_transpose import MeshConvTranspose
from spherecnn.layers.registry import Method, register
from spherecnn.stencils import MESH_OPERATORS
from spherecnn.stencils.mesh import coarser_mesh
from spherecnn.stencils.mesh_levels import finer_mesh

# The operators that stand for the sizes of a planar network.
KERNELS = {1: ("identity",), 3: MESH_OPERATORS}


class MeshMethod(Method):
    """Differential operators on the vertices of a mesh; size 1 is the identity, size 3 all four operators.

    Poolings of both sizes read a vertex and its neighbours.

    Parameters
    ----------
    name, summary : str
    laplacian, derivatives : str
        As for `MeshConv`.
    fill : str
        As for `MeshConvTranspose`.
    """

    def __init__(self, name: str, summary: str, laplacian: str, derivatives: str, fill: str):
        super().__init__(name, summary)
        self.kinds = {"laplacian": laplacian, "derivatives": derivatives}
        self.fill = fill

    def grid(self, *, height: int | None = None, level: int | None = None) -> Icosphere:
        if height is not None:
            raise InputError(
                f"height is {height} for method {self.name!r}; expected a level, since a mesh has no rows: give level, "
                "for example 4."
            )
        return Icosphere(4 if level is None else level)

    def widest(self, kernel_size: int) -> int:
        return max(size for size in KERNELS if size <= kernel_size)

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        rng: np.random.Generator | int | None = None,
    ) -> Layer:
        if kernel_size not in KERNELS:
            raise InputError(
                f"kernel_size is {kernel_size} for method {self.name!r}; expected 1 (the identity) or 3 (with the "
                "Laplacian and the derivatives): choose one of them."
            )
        if dilation != 1:
            raise InputError(
                f"dilation is {dilation} for method {self.name!r}; expected 1, since its operators are those of "
                "neighbours: use a stride or a pooling, or another method."
            )
        shape = in_channels, out_channels, check_mesh(grid), stride, groups, bias
        return MeshConv(*shape, operators=KERNELS[kernel_size], **self.kinds, rng=rng)

    def strided(self, grid: Grid, stride: int = 2) -> Grid:
        return coarser_mesh(check_mesh(grid), stride)

    def pool(self, grid: Grid, *, kernel_size: int = 2, return_indices: bool = False) -> tuple[Layer, Grid]:
        check_choice("kernel_size", kernel_size, (2, 3))
        layer = MeshPool(check_mesh(grid), return_indices=return_indices)
        return layer, layer.grid_out

    def unpool(self, coarse: Grid, fine: Grid) -> Layer:
        return MeshUnpool(finer_mesh(check_mesh(coarse), check_mesh(fine)))

    def upsample(self, coarse: Grid, fine: Grid, mode: str = "bilinear") -> Layer:
        meshes = [check_mesh(fine)]
        while meshes[-1] != check_mesh(coarse):
            if meshes[-1].sites <= coarse.sites:
                raise InputError(
                    f"{fine!r} does not refine {coarse!r}; expected two meshes of which coarsen() of one leads to the "
                    "other: give the grids before and after poolings."
                )
            meshes.append(meshes[-1].coarsen())
        steps = [MeshUpsample(low, mode, grid_out=high) for high, low in pairwise(meshes)]
        return steps[0] if len(steps) == 1 else Sequential(*reversed(steps))

    def conv_transpose(
        self,
        in_channels: int,
        out_channels: int,
        coarse: Grid,
        fine: Grid,
        *,
        bias: bool = True,
        rng: np.random.Generator | int | None = None,
    ) -> Layer:
        options: dict[str, Any] = {**self.kinds, "grid_out": check_mesh(fine), "rng": rng}
        return MeshConvTranspose(in_channels, out_channels, check_mesh(coarse), self.fill, bias=bias, **options)


register(
    MeshMethod(
        "mesh",
        "Laplacian and derivatives on the vertices of an icosphere (UGSCNN, Jiang et al. 2019)",
        *("published", "published", "ones"),
    )
)
register(
    MeshMethod(
        "mesh_compass",
        "the same with equal areas, unit vectors, and none at a pole; upwards, new vertices are interpolated",
        *("scaled", "compass", "interpolated"),
    )
)
