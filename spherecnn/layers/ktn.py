"""The compact form of spherical convolution: kernels for every latitude, made from one planar kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.grids import Equirect
from spherecnn.kernels.arrays import accumulate, concatenate, repeat, sum_over, transpose
from spherecnn.layers.activation import Tanh
from spherecnn.layers.base import Array, Backward, Layer, Param, Shape, contiguous
from spherecnn.layers.combine import Composite
from spherecnn.layers.latitude import RowConv, Size
from spherecnn.layers.linear import Linear
from spherecnn.layers.registry import generator
from spherecnn.layers.sites import mix_sites
from spherecnn.stencils import pointwise, window
from spherecnn.stencils.tangent_rows import check_kernel, projection, tangent_size

# The residual network reads so many pixels around the kernel, which its two 3x3 convolutions take off again.
MARGIN = 2
SPREAD = 0.01


class KTNConv2d(RowConv):
    r"""Convolution whose row kernels are a planar kernel projected to each latitude, plus a learned residual.

    .. math:: K^{(g)} = P_g\, w + f(Q_g\, w),\qquad
        f = c_2 \circ \tanh \circ m_2 \circ \tanh \circ c_1 \circ \tanh \circ m_1 \circ \tanh

    and the kernels :math:`K^{(g)}` convolve as those of `SphConv2d`. :math:`P_g`, of row group g, begins as the
    bilinear projection of the tangent plane at its middle row; :math:`Q_g` is the same, two pixels wider on each side.
    Mixes :math:`m` go over the input channels, convolutions :math:`c` are 3x3 over the pixels of a kernel and the
    same for all channels; their weights begin at a standard deviation of 0.01, so that the residual is next to nothing.
    All but the planar kernel and its bias belong to the grid, not to the network: they serve other weights as well.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int
        Of the planar kernel, odd; its pixels are 2 pi / W apart.
    stride : int or pair (rows, columns)
    groups : int
        Groups of channels that are convolved apart.
    bias : bool
        One for each output channel, that of the planar layer.
    grid : Equirect, keyword only
        Of the input.
    tied : int, keyword only
        Consecutive output rows that share a kernel; the last group may have fewer.
    residual : bool, keyword only
        False leaves the projection alone.
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights: the planar ones uniform in ±1/sqrt(fan_in).

    Attributes
    ----------
    weight : Param (kernel_size, kernel_size, in_channels / groups, out_channels)
    bias : Param (out_channels,), or None
    projection : Param (taps of all row groups, kernel_size ** 2)
        The matrices P, one below the other.
    expansion : Param (pixels of all widened row groups, kernel_size ** 2)
        The matrices Q, with `residual`.
    residual : Layer
        The network f, of 2 c (c + 1) + 20 parameters for c = in_channels / groups.
    sizes : list of (kh, kw), of each row group
        The smallest that hold the projected kernels of all rows of the group.
    rows : tuple of int, the row group of each output row

    Raises
    ------
    InputError
        If channels, sizes or options do not fit, or the grid is so coarse that no tangent plane shows the kernel.

    Notes
    -----
    Source: Su and Grauman, Kernel Transformer Networks for Compact Spherical Convolution, CVPR 2019, section 3.
    A tap beyond a pole is read over the pole here; the published code clamps it to the last row.

    Examples
    --------
    The projection keeps the sum of the planar kernel, so that a constant stays constant:

    >>> import numpy as np, spherecnn as sc
    >>> conv = KTNConv2d(1, 1, bias=False, grid=sc.grids.Equirect(8), residual=False)
    >>> conv.weight.value[...] = 1 / 9
    >>> conv(np.ones((1, 8, 16, 1), np.float32)).round(5).min()
    np.float32(1.0)
    >>> [kernel.shape[:2] for kernel in conv.kernels()]
    [(5, 7), (5, 7)]
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
        tied: int = 5,
        residual: bool = True,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(in_channels, out_channels, stride, groups, grid, tied)
        self.kernel_size = check_kernel(kernel_size)
        self.set_sizes([self._size(g) for g in range(self.row_groups)], biases=False)
        reads, rng = self.in_channels // self.groups, generator(rng)
        bound = 1 / np.sqrt(kernel_size**2 * reads)
        shape = (kernel_size, kernel_size, reads, self.out_channels)
        self.weight = Param(rng.uniform(-bound, bound, shape).astype(np.float32))
        self.bias = Param(rng.uniform(-bound, bound, self.out_channels).astype(np.float32)) if bias else None
        self.projection = Param(self._projections(self.sizes))
        if residual:
            self.expansion = Param(self._projections(self.widened))
            self.residual = _Residual(reads, rng)

    def _size(self, group: int) -> Size:
        heights, widths = zip(*(tangent_size(self.grid, r, self.kernel_size) for r in self.centres(group)), strict=True)
        return max(heights), max(widths)

    def _projections(self, sizes: list[Size]) -> Array:
        """Bilinear projections about the middle row of each group, one below the other."""
        middle = [rows[len(rows) // 2] for rows in map(self.centres, range(self.row_groups))]
        parts = [projection(self.grid, r, self.kernel_size, size) for r, size in zip(middle, sizes, strict=True)]
        return np.concatenate(parts).astype(np.float32)

    @property
    def widened(self) -> list[Size]:
        """Sizes of the row groups with the margin that the residual network reads."""
        return [(kh + 2 * MARGIN, kw + 2 * MARGIN) for kh, kw in self.sizes]

    def kernels(self) -> list[Array]:
        """Return the kernels (kh, kw, in / groups, out) that are made for the row groups."""
        made, _ = self._make(train=False)
        return [made[self.taps_of(g)].reshape(*size, *self.weight.value.shape[2:]) for g, size in enumerate(self.sizes)]

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        kernels, kernels_backward = self._make(train)
        made = Param(kernels)
        y, sites_backward = self.mix(x, made, self.bias)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dx = sites_backward(dy, inputs)
            kernels_backward(made.grad)
            made.zero_grad()
            return dx

        return y, backward

    def _make(self, train: bool) -> tuple[Array, Backward]:
        """Make the kernels (taps of all row groups, in / groups, out); backward takes their gradient."""
        shape = (self.stencil.taps, *self.weight.value.shape[2:])
        base, base_backward = self._project(self.projection)
        kernels = base.reshape(shape)
        if "residual" not in self.children:
            return kernels, lambda d: base_backward(d.reshape(base.shape))
        wide, wide_backward = self._project(self.expansion)
        ends = np.cumsum([0] + [kh * kw for kh, kw in self.widened]).tolist()
        backwards = []
        for g, size in enumerate(self.widened):
            around = wide[ends[g] : ends[g + 1]].reshape(*size, *shape[1:])
            found, found_backward = self.residual.forward(_samples_first(around), train=train)
            accumulate(kernels[self.taps_of(g)], _samples_last(found).reshape(-1, *shape[1:]))
            backwards.append(found_backward)

        def backward(d: Array) -> None:
            parts = []
            for g, size in enumerate(self.sizes):
                found = backwards[g](_samples_first(d[self.taps_of(g)].reshape(*size, *shape[1:])))
                parts.append(_samples_last(found).reshape(-1, wide.shape[1]))
            wide_backward(concatenate(parts, 0))
            base_backward(d.reshape(base.shape))

        return kernels, backward

    def _project(self, matrix: Param) -> tuple[Array, Backward]:
        """Multiply a matrix (pixels, taps) with the planar kernel (taps, channels); backward takes its gradient."""
        flat = Param(self.weight.value.reshape(self.kernel_size**2, -1))
        y, sites_backward = mix_sites(
            matrix.value.reshape(1, *matrix.value.shape), flat, None, pointwise((len(matrix.value),))
        )

        def backward(dy: Array) -> None:
            matrix.add_grad(sites_backward(dy.reshape(y.shape), True))
            self.weight.add_grad(flat.grad)
            flat.zero_grad()

        return y.reshape(y.shape[1:]), backward

    def extra_repr(self) -> str:
        return f"{self.options_repr()}, residual={'residual' in self.children}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _samples_first(kernels: Array) -> Array:
    """(kh, kw, in, out) as samples (out, kh, kw, in)."""
    return transpose(kernels, (3, 0, 1, 2))


def _samples_last(kernels: Array) -> Array:
    """(out, kh, kw, in) as (kh, kw, in, out)."""
    return transpose(kernels, (1, 2, 3, 0))


class _Residual(Composite):
    """The network over kernels (out, kh + 4, kw + 4, in) -> (out, kh, kw, in)."""

    def __init__(self, channels: int, rng: np.random.Generator):
        super().__init__()
        self.act = Tanh()
        self.mix1, self.conv1 = Linear(channels, channels, rng=rng), _Shared()
        self.mix2, self.conv2 = Linear(channels, channels, rng=rng), _Shared()
        for name, p in self.named_params().items():
            drawn = rng.normal(0, SPREAD, p.value.shape) if name.endswith("weight") else np.zeros(p.value.shape)
            p.value = drawn.astype(np.float32)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        for layer in (self.mix1, self.conv1, self.mix2, self.conv2):
            x = r(layer, r(self.act, x))
        return x


class _Shared(Layer):
    """One 3x3 filter and bias for all channels, without padding: (N, h, w, C) -> (N, h - 2, w - 2, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = Param(np.zeros((3, 3), np.float32)), Param(np.zeros(1, np.float32))

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        n, h, w, c = x.shape
        repeated = Param(repeat(self.weight.value.reshape(9, 1, 1), c, 2))
        offset = Param(repeat(self.bias.value, c, 0))
        y, sites_backward = mix_sites(x.reshape(n, h * w, c), repeated, offset, window((h, w), (3, 3)), groups=c)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dx = sites_backward(contiguous(dy).reshape(y.shape), inputs)
            self.weight.add_grad(sum_over(repeated.grad, (1, 2)))
            self.bias.add_grad(sum_over(offset.grad, (0,)))
            repeated.zero_grad()
            offset.zero_grad()
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(n, h - 2, w - 2, c), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        ((n, h, w, c),) = shapes
        return (n, h - 2, w - 2, c)
