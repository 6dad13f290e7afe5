"""The method of faces of a polyhedron, entered in the registry."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Grid, Polyhedron
from spherecnn.grids.polyhedron import check_polyhedron
from spherecnn.layers.base import Layer
from spherecnn.layers.face_pool import SpherePHDPool, SpherePHDUnpool, SpherePHDUpsample
from spherecnn.layers.registry import Method, register
from spherecnn.layers.spherephd import SpherePHDConv, SpherePHDConvTranspose, coarser_by

# The kernels that stand for the sizes of a planar network.
KERNELS = {1: "point", 3: "rotated"}


class SpherePHDMethod(Method):
    """Kernels of faces on a `grids.Polyhedron`; sizes 1 and 3 are the kernels "point" and "rotated".

    Parameters
    ----------
    name, summary : str
    orientation : {"section", "north"}
        As for `SpherePHDConv`.
    """

    def __init__(self, name: str, summary: str, orientation: str = "section"):
        super().__init__(name, summary)
        self.orientation = orientation

    def grid(self, *, height: int | None = None, level: int | None = None) -> Polyhedron:
        if height is not None:
            raise InputError(
                f"height is {height} for method {self.name!r}; expected a level, since faces have no rows: give level, "
                "for example 4."
            )
        return Polyhedron(4 if level is None else level)

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
                f"kernel_size is {kernel_size} for method {self.name!r}; expected 1 (the face) or 3 (the 10 faces "
                "about it): choose one of them."
            )
        if dilation != 1:
            raise InputError(
                f"dilation is {dilation} for method {self.name!r}; expected 1, since its kernels are sets of "
                "neighbours: use a stride or a pooling, or another method."
            )
        kernel = KERNELS[kernel_size]
        faces, way = check_polyhedron(grid), self.orientation if kernel == "rotated" else "section"
        return SpherePHDConv(in_channels, out_channels, faces, kernel, stride, groups, bias, orientation=way, rng=rng)

    def strided(self, grid: Grid, stride: int = 2) -> Polyhedron:
        return coarser_by(check_polyhedron(grid), stride)

    def pool(self, grid: Grid, *, kernel_size: int = 2, return_indices: bool = False) -> tuple[Layer, Grid]:
        check_choice("kernel_size", kernel_size, (2, 3))
        kernel = "children" if kernel_size == 2 else "rotated"
        layer = SpherePHDPool(check_polyhedron(grid), return_indices=return_indices, kernel=kernel)
        return layer, layer.grid_out

    def unpool(self, coarse: Grid, fine: Grid) -> Layer:
        self._check_pair(coarse, fine)
        return SpherePHDUnpool(check_polyhedron(fine))

    def upsample(self, coarse: Grid, fine: Grid, mode: str = "bilinear") -> Layer:
        check_choice("mode", mode, ("bilinear", "nearest"))
        self._check_pair(coarse, fine)
        return SpherePHDUpsample(check_polyhedron(coarse), "smooth" if mode == "bilinear" else mode)

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
        self._check_pair(coarse, fine)
        return SpherePHDConvTranspose(in_channels, out_channels, check_polyhedron(coarse), bias=bias, rng=rng)

    def _check_pair(self, coarse: Grid, fine: Grid) -> None:
        """Refuse two grids that are not one level apart."""
        if check_polyhedron(coarse).level + 1 != check_polyhedron(fine).level:
            raise InputError(
                f"{coarse!r} and {fine!r} are not one level apart; expected a grid and the one that refines it: "
                "give the grids before and after a pooling."
            )


register(SpherePHDMethod("spherephd", "kernels on the faces of an icosahedron (SpherePHD, Lee et al. 2019)"))
register(SpherePHDMethod("spherephd_north", "the same, every kernel turned to the north: no seams", "north"))
