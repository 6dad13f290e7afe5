"""The equirectangular methods, entered in the registry."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Equirect, Grid
from spherecnn.grids.equirect import check_equirect
from spherecnn.layers.base import Layer
from spherecnn.layers.combine import Sequential
from spherecnn.layers.conv import CircularConv2d, Conv2d, CoordConv2d
from spherecnn.layers.pool import MaxPool2d
from spherecnn.layers.registry import Method, register
from spherecnn.layers.resize import Upsample
from spherecnn.layers.tangent import TangentConv2d, TangentMaxPool2d
from spherecnn.layers.transpose import ConvTranspose2d
from spherecnn.layers.unpool import MaxUnpool2d


class EquirectMethod(Method):
    """A method on equirectangular pictures: a kind of convolution, and what lies beyond the edges.

    Parameters
    ----------
    name, summary : str
    kind : type
        `Conv2d` or a subclass of it.
    padding_mode : str
        Of convolutions and pooling; "sphere" means "sphere_poles" on grids with rows on the poles.
    """

    def __init__(self, name: str, summary: str, kind: type[Conv2d], padding_mode: str):
        super().__init__(name, summary)
        self.kind, self.padding_mode = kind, padding_mode

    def grid(self, *, height: int | None = None, level: int | None = None) -> Equirect:
        if level is not None:
            raise InputError(
                f"level is {level} for method {self.name!r}; expected a height, since its pictures have rows: give "
                "height, for example 60."
            )
        return Equirect(60 if height is None else height)

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
        mode = self._mode(grid, kernel_size)
        return self.kind(in_channels, out_channels, kernel_size, stride, "same", dilation, groups, bias, mode, rng=rng)

    def strided(self, grid: Grid, stride: int = 2) -> Equirect:
        erp = check_equirect(grid)
        if stride > 1 and erp.pole_rows and (erp.height - 1) % stride:
            raise InputError(
                f"{grid!r} has rows on the poles; expected rows H with H - 1 divisible by the stride {stride}, so that "
                "both poles stay: change the height."
            )
        return Equirect(-(-erp.height // stride), -(-erp.width // stride), pole_rows=erp.pole_rows)

    def pool(self, grid: Grid, *, kernel_size: int = 2, return_indices: bool = False) -> tuple[Layer, Grid]:
        check_choice("kernel_size", kernel_size, (2, 3))
        if kernel_size == 2:
            options: dict[str, Any] = {"return_indices": return_indices, "padding_mode": self.padding_mode}
            return MaxPool2d(2, **options), check_equirect(grid).coarsen()
        options = {"return_indices": return_indices, "padding_mode": self._mode(grid, 3)}
        return MaxPool2d(3, 2, 1, **options), self.strided(grid)

    def unpool(self, coarse: Grid, fine: Grid) -> Layer:
        erp = check_equirect(fine)
        if erp.coarsen() != coarse:
            raise InputError(
                f"{fine!r} and {coarse!r} are not a grid and its pooling; expected {erp.coarsen()!r} for "
                "unpooling: give the grid that was pooled."
            )
        return MaxUnpool2d(2, padding_mode=self.padding_mode, output_size=erp.shape)

    def upsample(self, coarse: Grid, fine: Grid, mode: str = "bilinear") -> Layer:
        check_choice("mode", mode, ("bilinear", "nearest"))
        return Upsample(check_equirect(fine).shape, mode=mode, padding_mode=self._beyond(check_equirect(coarse)))

    def _beyond(self, grid: Equirect) -> str:
        """Return what an interpolation reads beyond the edges of this grid."""
        if self.padding_mode == "zeros":
            if grid.pole_rows:
                raise InputError(
                    f"{grid!r} has rows on the poles, where method {self.name!r} cannot interpolate; expected "
                    "half-pixel rows, or a method whose columns wrap: use pole_rows=False or another method."
                )
            return "replicate"
        if grid.pole_rows:
            return "sphere_poles"
        return "circular" if grid.width % 2 else "sphere"

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
        """Build a 2x2 transposed convolution; the coordinates of `coord` come in with the next convolution.

        Where the fine grid has an odd row or column more, the doubled picture is interpolated to it: the
        transposed convolution would leave them blank.
        """
        erp = check_equirect(coarse)
        if erp.pole_rows:
            raise InputError(
                f"{coarse!r} has rows on the poles; expected half-pixel rows for transposed convolutions, which double "
                "the rows: use interpolation, or pole_rows=False."
            )
        layer = ConvTranspose2d(in_channels, out_channels, 2, 2, bias=bias, padding_mode=self.padding_mode, rng=rng)
        doubled = Equirect(2 * erp.height, 2 * erp.width)
        return layer if doubled.shape == fine.shape else Sequential(layer, self.upsample(doubled, fine))

    def _mode(self, grid: Grid, kernel_size: Any) -> str:
        """Return the padding mode on this grid; refuse a fold over the poles of an odd number of columns."""
        erp = check_equirect(grid)
        if self.padding_mode != "sphere":
            return self.padding_mode
        if erp.width % 2 and kernel_size != 1:
            raise InputError(
                f"{grid!r} has an odd number of columns; expected an even one for method {self.name!r}, where a row "
                "beyond a pole is seen half a turn away: change the width or the number of stages."
            )
        return "sphere_poles" if erp.pole_rows else "sphere"


class TangentMethod(EquirectMethod):
    """Kernels on tangent planes; what only moves pixels about is that of the folded sphere."""

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
        if kernel_size == 1:
            options: dict[str, Any] = {"stride": stride, "groups": groups, "bias": bias, "rng": rng}
            return super().conv(in_channels, out_channels, grid, kernel_size=1, **options)
        return TangentConv2d(
            in_channels, out_channels, kernel_size, stride, dilation, groups, bias, grid=check_equirect(grid), rng=rng
        )

    def pool(self, grid: Grid, *, kernel_size: int = 2, return_indices: bool = False) -> tuple[Layer, Grid]:
        """Build a pooling of 2x2 pixels, or on tangent planes for a kernel of 3 without indices."""
        if kernel_size == 3 and not return_indices:
            return TangentMaxPool2d(3, 2, grid=check_equirect(grid)), self.strided(grid)
        return super().pool(grid, kernel_size=kernel_size, return_indices=return_indices)


register(EquirectMethod("planar", "ordinary convolution, zeros beyond every border", Conv2d, "zeros"))
register(
    EquirectMethod("circular", "columns wrap around the panorama (Schubert et al. 2019)", CircularConv2d, "circular")
)
register(EquirectMethod("sphere", "columns wrap, rows fold over the poles (Su and Grauman 2017)", Conv2d, "sphere"))
register(EquirectMethod("coord", "reads column and row as two more channels (Liu et al. 2018)", CoordConv2d, "zeros"))
register(TangentMethod("tangent", "kernels on tangent planes (SphereNet, Coors et al. 2018)", Conv2d, "sphere"))
