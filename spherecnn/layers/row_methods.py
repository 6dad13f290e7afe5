"""The methods whose kernels change with the latitude, entered in the registry."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids import Grid
from spherecnn.grids.equirect import check_equirect
from spherecnn.layers.base import Layer
from spherecnn.layers.conv import Conv2d
from spherecnn.layers.ktn import KTNConv2d
from spherecnn.layers.latitude import SphConv2d
from spherecnn.layers.methods import EquirectMethod
from spherecnn.layers.registry import register


class RowMethod(EquirectMethod):
    """Kernels for groups of rows; all that only moves pixels about is as in the method "sphere"."""

    def __init__(self, name: str, summary: str, layer: type[SphConv2d] | type[KTNConv2d]):
        super().__init__(name, summary, Conv2d, "sphere")
        self.layer = layer

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
        """Build a convolution; a kernel of 1, which has no footprint, is the same in all rows."""
        if kernel_size == 1:
            return super().conv(
                in_channels, out_channels, grid, kernel_size=1, stride=stride, groups=groups, bias=bias, rng=rng
            )
        if dilation != 1:
            raise InputError(
                f"dilation is {dilation} for method {self.name!r}; expected 1, since kernels follow their footprint on "
                "the sphere: use a larger kernel_size, or another method."
            )
        return self.layer(
            in_channels, out_channels, kernel_size, stride, groups, bias, grid=check_equirect(grid), rng=rng
        )


register(RowMethod("sphconv", "a kernel of its own for every row (Su and Grauman 2017)", SphConv2d))
register(RowMethod("ktn", "row kernels made from a planar one (KTN, Su and Grauman 2019)", KTNConv2d))
