"""Spherical convolution: a kernel of its own size and weights for every row of the panorama, or group of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from spherecnn.errors import InputError, check_array, check_at_least, check_channels
from spherecnn.grids import Equirect
from spherecnn.grids.equirect import check_equirect
from spherecnn.kernels.arrays import accumulate, repeat, sum_over
from spherecnn.kernels.spmm import spmm
from spherecnn.layers.base import Array, Backward, Layer, Param, Shape, contiguous
from spherecnn.layers.conv import pair
from spherecnn.layers.registry import generator
from spherecnn.layers.sites import check_groups, mix_sites
from spherecnn.stencils import Stencil, latitude
from spherecnn.stencils.tangent_rows import layer_sizes

Size = tuple[int, int]


class RowConv(Layer):
    """What convolutions with kernels for groups of rows share: grid, row groups, stencil and the channel mix.

    A subclass gives the kernels as one array (all taps of all row groups, in / groups, out).
    """

    stencil: Stencil

    def __init__(self, in_channels: int, out_channels: int, stride: Any, groups: int, grid: Equirect, tied: int):
        super().__init__()
        self.grid = check_equirect(grid)
        self.in_channels = check_at_least("in_channels", in_channels, 1)
        self.out_channels = check_at_least("out_channels", out_channels, 1)
        self.groups = check_at_least("groups", groups, 1)
        check_groups(in_channels, out_channels, groups)
        self.stride = pair("stride", stride, 1)
        self.tied = check_at_least("tied", tied, 1)
        self.rows = tuple(p // self.tied for p in range(-(-grid.height // self.stride[0])))

    @property
    def row_groups(self) -> int:
        """Number of row groups."""
        return self.rows[-1] + 1

    def centres(self, group: int) -> list[int]:
        """Input rows on which the kernels of a row group are centred."""
        return [p * self.stride[0] for p, g in enumerate(self.rows) if g == group]

    def set_sizes(self, sizes: Sequence[Size], biases: bool) -> None:
        """Fix the kernel sizes of all row groups and build the stencil, with `biases` one for each group.

        Where every channel is convolved apart the stencil has one row of biases: its kernel knows no more.
        """
        alone = self.groups == self.in_channels == self.out_channels > 1
        self.sizes = [(int(kh), int(kw)) for kh, kw in sizes]
        options = self.stride, self.grid.pole_rows, biases and not alone
        self.stencil = latitude(self.grid.shape, tuple(self.sizes), self.rows, *options)
        self.first_tap = np.cumsum([0] + [kh * kw for kh, kw in self.sizes])
        self._sums = sparse.csr_array(np.equal.outer(np.arange(self.row_groups), self.rows).astype(np.float64))

    def taps_of(self, group: int) -> slice:
        """Where the taps of a row group stand among all taps."""
        if not 0 <= group < self.row_groups:
            raise InputError(
                f"row group is {group!r}; expected 0 to {self.row_groups - 1} for this layer: choose one of them."
            )
        return slice(int(self.first_tap[group]), int(self.first_tap[group + 1]))

    def check_input(self, x: Array) -> Array:
        """Refuse a wrong input; return it as (N, H W, C)."""
        check_array("the input", x, "N, H, W, C", self.dtype)
        self.out_shape(x.shape)
        return contiguous(x).reshape(len(x), -1, x.shape[3])

    def mix(self, x: Array, weight: Param, bias: Param | None) -> tuple[Array, Backward]:
        """Convolve an input (N, H, W, C) with kernels (taps, in / groups, out)."""
        added = bias if bias is not None and bias.value.ndim == 2 and self.stencil.biases == 1 else None
        inside = bias if added is None else None
        y, sites_backward = mix_sites(self.check_input(x), weight, inside, self.stencil, self.groups)
        out_shape = self.out_shape(x.shape)
        if added is not None:
            every = repeat(added.value, self.tied * out_shape[2], 0)  # the last group may have fewer rows
            accumulate(y, every[: y.shape[1]])

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            if added is not None:
                lines = sum_over(dy, (0, 2))
                added.add_grad(spmm(self._sums, lines.reshape(1, *lines.shape)))
            dx = sites_backward(contiguous(dy).reshape(y.shape), inputs)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(out_shape), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        ((n, h, w, c),) = shapes
        check_channels("the input", c, self.in_channels)
        if (h, w) != self.grid.shape:
            raise InputError(
                f"the input has {h} rows and {w} columns; expected {self.grid.height} and {self.grid.width}, as rows "
                "have kernels of their own: resize the input, or build the layer for its grid."
            )
        return (n, *self.stencil.shape_out, self.out_channels)

    def options_repr(self) -> str:
        stride = f", stride={self.stride}" if self.stride != (1, 1) else ""
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        bias = ", bias=False" if self.params.get("bias") is None else ""
        heights, widths = zip(*self.sizes, strict=True)
        return (
            f"{self.in_channels}, {self.out_channels}{stride}{groups}{bias}, grid={self.grid!r}, tied={self.tied}: "
            f"{self.row_groups} row groups, kernels of {_span(heights)} x {_span(widths)}"
        )


class SphConv2d(RowConv):
    r"""Convolution with a kernel for every row of a panorama: its size and weights follow the distortion.

    .. math::
        y_{n,p,q,k} = b_{g,k} + \sum_{i,j,c} x_{n,\ p s + i - kh_g // 2,\ q s + j - kw_g // 2,\ c}\; w^{(g)}_{i,j,c,k},
        \qquad g = p // tied

    Columns wrap; a row beyond a pole is the row it came from, half a turn away. Weights are shared along a row only, so
    a panorama of H rows has about H times the parameters of a planar layer; `KTNConv2d` is the compact form.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int
        Of the planar kernel, odd, whose footprint the kernels cover; not used when sizes are given.
    stride : int or pair (rows, columns)
    groups : int
        Groups of channels that are convolved apart.
    bias : bool
        A bias for each row group.
    grid : Equirect, keyword only
        Of the input.
    sizes : list of (kh, kw), or one pair, keyword only
        Kernel sizes, odd, of each row group; by default `stencils.layer_sizes` of `kernel_size`, the largest of the
        rows of a group. For the published sizes see `stencils.row_sizes`.
    tied : int, keyword only
        Consecutive output rows that share a kernel; 1 as published.
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights, uniform in ±1/sqrt(fan_in) of each row group.

    Attributes
    ----------
    weight : Param (taps of all row groups, in_channels / groups, out_channels)
    bias : Param (row groups, out_channels), or None
    sizes : list of (kh, kw), of each row group
    rows : tuple of int, the row group of each output row

    Raises
    ------
    InputError
        If channels, sizes or options do not fit, or a kernel reaches over a pole and the number of columns is odd.

    Notes
    -----
    Source: Su and Grauman, Learning Spherical Convolution for Fast Features from 360° Imagery, NIPS 2017, section 3.
    Sizes are not mirrored in weights: both hemispheres have their own, as published.

    Examples
    --------
    Kernels of one tap that multiply row 0 by 10 and row 1 by 20:

    >>> import numpy as np, spherecnn as sc
    >>> conv = SphConv2d(1, 1, grid=sc.grids.Equirect(2), sizes=(1, 1), bias=False)
    >>> conv.kernel(0)[...], conv.kernel(1)[...] = 10, 20
    >>> conv(np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)[None, :, :, None])[0, :, :, 0]
    array([[ 10.,  20.,  30.,  40.],
           [100., 120., 140., 160.]], dtype=float32)
    >>> SphConv2d(3, 8, grid=sc.grids.Equirect(16), tied=4).sizes
    [(5, 11), (5, 5), (5, 5), (5, 11)]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        grid: Equirect,
        sizes: Sequence[Size] | Size | None = None,
        tied: int = 1,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(in_channels, out_channels, stride, groups, grid, tied)
        self.kernel_size = kernel_size
        self.set_sizes(self._default_sizes() if sizes is None else self._given_sizes(sizes), biases=True)
        rng, bounds = generator(rng), 1 / np.sqrt(self.fan_in)
        weight = bounds * rng.uniform(-1, 1, (self.stencil.taps, in_channels // groups, out_channels))
        self.weight, self.bias = Param(weight.astype(np.float32)), None
        if bias:
            offsets = bounds[self.first_tap[:-1], 0] * rng.uniform(-1, 1, (self.row_groups, out_channels))
            self.bias = Param(offsets.astype(np.float32))

    @property
    def fan_in(self) -> Array:
        """Numbers that each output reads, for the row group of each tap: (taps, 1, 1)."""
        taps = np.diff(self.first_tap)
        return np.repeat(taps, taps)[:, None, None] * (self.in_channels // self.groups)

    def _default_sizes(self) -> list[Size]:
        every = np.array(layer_sizes(self.grid, self.kernel_size))
        return [tuple(every[self.centres(g)].max(0).tolist()) for g in range(self.row_groups)]

    def _given_sizes(self, sizes: Sequence[Any]) -> list[Size]:
        if len(sizes) == 2 and all(isinstance(k, (int, np.integer)) for k in sizes):
            sizes = [sizes] * self.row_groups
        if len(sizes) != self.row_groups or any(len(size) != 2 for size in sizes):
            raise InputError(
                f"sizes has {len(sizes)} entries; expected {self.row_groups} pairs (rows, columns), one for each row "
                f"group ({self.tied} of {len(self.rows)} output rows): give as many, or one pair for all."
            )
        return [pair("sizes", tuple(size), 1) for size in sizes]

    def kernel(self, group: int) -> Array:
        """Return the kernel of a row group as a view (kh, kw, in / groups, out) of the weights."""
        return self.weight.value[self.taps_of(group)].reshape(*self.sizes[group], -1, self.out_channels)

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        return self.mix(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return self.options_repr()


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"
