"""The equirectangular methods, entered in the registry."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids import Equirect, Grid
from spherecnn.layers.base import Layer
from spherecnn.layers.conv import CircularConv2d, Conv2d, CoordConv2d
from spherecnn.layers.pool import MaxPool2d
from spherecnn.layers.registry import Method, register


def _needs_equirect(grid: Any) -> Equirect:
    if not isinstance(grid, Equirect):
        raise InputError(f"the grid is {grid!r}; expected an equirectangular one for this method: use grids.Equirect.")
    return grid


def _conv(kind: type[Conv2d]) -> Any:
    def build(
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        stride: int = 1,
        bias: bool = True,
        rng: np.random.Generator | int | None = None,
    ) -> Layer:
        _needs_equirect(grid)
        return kind(in_channels, out_channels, 3, stride, bias=bias, rng=rng)

    return build


def _pool(grid: Grid) -> tuple[Layer, Grid]:
    return MaxPool2d(2), _needs_equirect(grid).coarsen()


register(Method("planar", "ordinary convolution, zeros beyond every border", _conv(Conv2d), _pool))
register(Method("circular", "columns wrap around the panorama (Schubert et al. 2019)", _conv(CircularConv2d), _pool))
register(Method("coord", "reads column and row as two more channels (Liu et al. 2018)", _conv(CoordConv2d), _pool))
