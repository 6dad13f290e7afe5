"""What layers on faces and on vertices share: convolution, pooling and its ways back between grids without rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_array, check_at_least, check_channels
from spherecnn.grids import Grid
from spherecnn.kernels.arrays import FirstLook
from spherecnn.kernels.pool import max_pool, max_pool_dx
from spherecnn.kernels.spmm import spmm
from spherecnn.kernels.unpool import switch_sites, unpool, unpool_dx
from spherecnn.layers.base import Array, Backward, Layer, Param, Shape, contiguous
from spherecnn.layers.sites import check_groups, mix_sites
from spherecnn.stencils import Stencil


def check_sites(grid: Grid, shape: Shape) -> tuple[int, int]:
    """Return samples and channels of an array (N, P, C) on the sites of this grid, refusing another shape."""
    if len(shape) != 3 or tuple(shape[1:2]) != grid.shape:
        raise InputError(
            f"the input has shape {tuple(shape)}; expected (N, {grid.sites}, C) for {grid!r}: build the layer for the "
            "grid of the input."
        )
    return shape[0], shape[2]


class BetweenGrids(Layer):
    """From the sites of `grid`, (N, P, C), to those of `grid_out`, with as many channels."""

    grid: Any
    grid_out: Any

    def checked(self, *xs: Array) -> Array:
        """The input, contiguous; refused if it does not fit."""
        (x,) = xs
        check_array("the input", x, "N, P, C", self.dtype)
        self.out_shape(x.shape)
        return contiguous(x)

    def out_shape(self, *shapes: Shape) -> Any:
        (shape,) = shapes
        n, c = check_sites(self.grid, shape)
        return (n, self.grid_out.sites, c)


class SiteConv(BetweenGrids):
    """A convolution: weights for the taps of a stencil from `grid` to `grid_out`, which a subclass makes."""

    rectifies = True

    def __init__(self, in_channels: int, out_channels: int, groups: int):
        super().__init__()
        self.in_channels = check_at_least("in_channels", in_channels, 1)
        self.out_channels = check_at_least("out_channels", out_channels, 1)
        self.groups = check_at_least("groups", groups, 1)
        check_groups(in_channels, out_channels, groups)

    def init_weights(self, taps: int, fan: int, bias: bool, rng: np.random.Generator) -> None:
        """Draw weights and bias, uniform in ±1/sqrt(taps * fan)."""
        bound, shape = 1 / np.sqrt(taps * fan), (taps, self.in_channels // self.groups, self.out_channels)
        self.weight = Param(rng.uniform(-bound, bound, shape).astype(np.float32))
        self.bias = Param(rng.uniform(-bound, bound, self.out_channels).astype(np.float32)) if bias else None

    def stencil(self) -> Stencil:
        """Return the stencil from `grid` to `grid_out`."""
        raise NotImplementedError

    def forward(self, *xs: Array, train: bool, rectified: bool = False) -> tuple[Array, Backward]:
        x = self.checked(*xs)
        y, sites_backward = mix_sites(x, self.weight, self.bias, self.stencil(), self.groups, rectified=rectified)
        return y, lambda dy, inputs=True: sites_backward(contiguous(dy), inputs)

    def out_shape(self, *shapes: Shape) -> Shape:
        n, sites, c = super().out_shape(*shapes)
        check_channels("the input", c, self.in_channels)
        return (n, sites, self.out_channels)


def blend_sites(x: Array, matrix: Any, back: Any) -> tuple[Array, Backward]:
    """Multiply sites by a sparse matrix (P', P); `back` is its transpose."""
    return spmm(matrix, x), lambda dy: spmm(back, contiguous(dy))


def largest_sites(x: Array, stencil: Stencil, return_indices: bool) -> tuple[Any, Backward]:
    """Take the maximum of the taps of a stencil, and with `return_indices` also the site that it comes from."""
    y, switch = max_pool(x, stencil)

    def backward(dy: Array) -> Array:
        return max_pool_dx(contiguous(dy), switch, stencil)

    return ((y, switch_sites(switch, stencil)) if return_indices else y), backward


class SitePool(BetweenGrids):
    """A pooling, whose second output, with `return_indices`, are the sites of the maxima."""

    return_indices: bool

    def out_shape(self, *shapes: Shape) -> Any:
        out = super().out_shape(*shapes)
        return (out, out) if self.return_indices else out


class SiteUnpool(Layer):
    """Values (N, P', C) of the coarser grid `coarse` to the sites of `grid` that indices name; zeros elsewhere.

    A subclass says in `astray` which index is not where its pooling can have found it. On a GPU, where a look at
    indices waits, they are checked until the first right ones of a shape; wrong ones are ignored after that.
    """

    grid: Any
    coarse: Any
    pooling: str  # the layer that gives the indices
    places: str  # what the sites are

    def __init__(self) -> None:
        super().__init__()
        self._look = FirstLook()

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        x, indices = xs
        check_array("the input", x, "N, P, C")
        self.out_shape(x.shape, indices.shape)
        self._look(indices, self._check_indices)
        index = contiguous(indices, np.int32)
        y = unpool(contiguous(x), index, self.grid.sites)
        return y, lambda dy: (unpool_dx(contiguous(dy), index), None)

    def _check_indices(self, indices: Array) -> None:
        """Refuse indices of another grid: all must be its sites, and those of one channel where they can come from."""
        if indices.dtype.kind not in "iu":
            raise InputError(
                f"the indices have dtype {indices.dtype}; expected integers: pass what {self.pooling} returned second."
            )
        least, most = (indices.min(), indices.max()) if indices.size else (0, 0)
        if least < 0 or most >= self.grid.sites:
            raise InputError(
                f"the indices run from {least} to {most}; expected {self.places} of {self.grid!r}, 0 to "
                f"{self.grid.sites - 1}: give the grid that was pooled."
            )
        said = self.astray(indices[:1, :, :1].reshape(-1).astype(np.int64))
        if said:
            raise InputError(said)

    def astray(self, indices: Array) -> str:
        """Say what is wrong with the first index that the pooling cannot give, one for each coarse site; or nothing."""
        raise NotImplementedError

    def out_shape(self, *shapes: Shape) -> Shape:
        shape, indices = shapes
        n, c = check_sites(self.coarse, shape)
        if tuple(shape) != tuple(indices):
            raise InputError(
                f"the input has shape {tuple(shape)} and the indices {tuple(indices)}; expected equal shapes: "
                "the layers between pooling and unpooling must keep the number of channels."
            )
        return (n, self.grid.sites, c)

    def extra_repr(self) -> str:
        return repr(self.grid)
