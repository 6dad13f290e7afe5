"""Convolutions on equirectangular images: planar, circular, and with coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_array, check_at_least, check_channels, check_choice
from spherecnn.kernels.arrays import Constants, accumulate, concatenate, split, sum_over
from spherecnn.kernels.convolve import KeptWeights, convolve, convolve_dw, convolve_dx
from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dw
from spherecnn.layers.base import Array, Backward, Layer, Param, Shape, contiguous
from spherecnn.layers.registry import generator
from spherecnn.layers.sites import check_groups, mix_sites
from spherecnn.stencils import PADDING_MODES, Stencil, window

Pair = tuple[int, int]


def pair(name: str, value: Any, least: int) -> Pair:
    """Return (rows, columns) for an integer or a pair, refusing numbers below `least`."""
    rows, columns = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    return check_at_least(name, rows, least), check_at_least(name, columns, least)


def window_padding(padding: Any, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """Return ((top, bottom), (left, right)) for these, a number, a pair, "same" or "valid".

    "same" pads d (k - 1) in all, the odd one after, so that the output has ceil(size / stride) sites.
    """
    if padding == "valid":
        padding = 0
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[0] - total[0] // 2), (total[1] // 2, total[1] - total[1] // 2)
    if isinstance(padding, str):
        raise InputError(f"padding is {padding!r}; expected a number, a pair, 'same' or 'valid': choose one of them.")
    if isinstance(padding, (tuple, list)) and len(padding) == 2 and all(isinstance(p, (tuple, list)) for p in padding):
        return pair("padding", padding[0], 0), pair("padding", padding[1], 0)
    rows, columns = pair("padding", padding, 0)
    return (rows, rows), (columns, columns)


class Window(Layer):
    """What convolution and pooling share: a kernel window on (N, H, W, C) images and its stencil."""

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, padding_mode: str):
        super().__init__()
        check_choice("padding_mode", padding_mode, PADDING_MODES)
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride = pair("stride", stride, 1)
        self.dilation = pair("dilation", dilation, 1)
        self.padding = window_padding(padding, self.kernel_size, self.dilation)
        self.padding_mode = padding_mode

    def stencil(self, height: int, width: int) -> Stencil:
        """Return the stencil of this window on an image of H x W."""
        size = (height, width)
        return window(size, self.kernel_size, self.stride, self.padding, self.dilation, self.padding_mode)

    def check_input(self, x: Array) -> tuple[Stencil, Array]:
        """Refuse a wrong input; return the stencil and the input as (N, H W, C)."""
        check_array("the input", x, "N, H, W, C", self.dtype)
        self.out_shape(x.shape)
        n, h, w, c = x.shape
        return self.stencil(h, w), contiguous(x).reshape(n, h * w, c)

    def window_repr(self) -> str:
        (top, bottom), (left, right) = self.padding
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding=(({top}, {bottom}), ({left}, {right})), "
            f"dilation={self.dilation}, padding_mode={self.padding_mode!r}"
        )


class Conv2d(Window):
    r"""Convolution (cross-correlation) of images.

    .. math:: y_{n,p,q,k} = b_k + \sum_{i,j,c} x_{n,\ p s - P + i d,\ q s - P + j d,\ c}\; w_{i,j,c,k}

    Arguments as in PyTorch, but arrays are channels-last and `padding` is "same" unless told otherwise.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or pair (rows, columns)
    padding : int, pair, ((top, bottom), (left, right)), "same" or "valid"
        "same" pads d (k - 1) in all: ceil(size / stride) outputs. A number gives
        floor((size - d (k - 1) - 1 + 2 p) / s) + 1 outputs.
    groups : int
        Groups of channels that are convolved apart; ``groups=in_channels`` is depthwise.
    bias : bool
    padding_mode : str
        "zeros", "circular" (columns wrap, zeros beyond the poles), "sphere" (columns wrap, rows fold over the
        poles), "sphere_poles" (the same for grids with rows on the poles), "reflect" or "replicate".
    exact : bool, keyword only
        False lets 3x3 kernels of stride 1 in float32, from 16 channels on, run by Winograd's F(4x4) or F(2x2): up to
        three times as fast, with an error below 1e-5 of the largest output. True never does, so that equal
        pixels give equal bits wherever they are; `Layer.set_exact` sets it for a whole network.
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights, uniform in ±1/sqrt(fan_in) as in PyTorch.

    Attributes
    ----------
    weight : Param (kh, kw, in_channels / groups, out_channels)
    bias : Param (out_channels,), or None

    Raises
    ------
    InputError
        If channels, sizes or options do not fit.

    Examples
    --------
    The first output of the textbook example is 1 + 2 + 3 + 2*6 + 7 + 2*8 + 3*2 + 2*5 + 9 = 66.

    >>> import numpy as np
    >>> conv = Conv2d(1, 1, 3, padding="valid", bias=False)
    >>> conv.weight.value[..., 0, 0] = [[1, 1, 1], [2, 1, 2], [3, 2, 1]]
    >>> x = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 2, 3], [2, 5, 9, 9, 5], [4, 8, 8, 2, 1]], np.float32)
    >>> conv(x[None, :, :, None])[0, :, :, 0]
    array([[66., 77., 86.],
           [84., 96., 79.]], dtype=float32)
    """

    rectifies = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = "same",
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        exact: bool = False,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(kernel_size, stride, padding, dilation, padding_mode)
        self.exact, self._kept = bool(exact), KeptWeights()
        self.in_channels = check_at_least("in_channels", in_channels, 1)
        self.out_channels = check_at_least("out_channels", out_channels, 1)
        self.groups = check_at_least("groups", groups, 1)
        check_groups(in_channels, out_channels, groups)
        self._init_weights(self.in_channels // self.groups, bias, generator(rng))

    def _init_weights(self, reads: int, bias: bool, rng: np.random.Generator) -> None:
        kh, kw = self.kernel_size
        bound = 1 / np.sqrt(kh * kw * reads)
        self.weight = Param(rng.uniform(-bound, bound, (kh, kw, reads, self.out_channels)).astype(np.float32))
        self.bias = Param(rng.uniform(-bound, bound, self.out_channels).astype(np.float32)) if bias else None

    def forward(self, *xs: Array, train: bool, rectified: bool = False) -> tuple[Array, Backward]:
        (x,) = xs
        stencil, sites = self.check_input(x)
        kept = None if train else self._kept
        y, sites_backward = mix_sites(sites, self.weight, self.bias, stencil, self.groups, self.exact, kept, rectified)
        out_shape = self.out_shape(x.shape)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dy = contiguous(dy).reshape(y.shape)
            dx = sites_backward(dy, inputs)
            return dx.reshape(x.shape) if inputs else None

        return y.reshape(out_shape), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        ((n, h, w, c),) = shapes
        check_channels("the input", c, self.in_channels)
        return (n, *self.stencil(h, w).shape_out, self.out_channels)

    def extra_repr(self) -> str:
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        bias = ", bias=False" if self.bias is None else ""
        return f"{self.in_channels}, {self.out_channels}, {self.window_repr()}{groups}{bias}"


class CircularConv2d(Conv2d):
    """Convolution whose columns wrap around the panorama; rows beyond the poles are zero.

    `Conv2d` with ``padding_mode="circular"``. Trained planar weights fit unchanged.

    Source: Schubert et al., Circular Convolutional Neural Networks for Panoramic Images and Laser Data, IV 2019.

    Examples
    --------
    The published example: x = [1, 2, 1, 0, 2, 1] with kernel [1, 0, -1].

    >>> import numpy as np
    >>> conv = CircularConv2d(1, 1, (1, 3), bias=False)
    >>> conv.weight.value[0, :, 0, 0] = [1, 0, -1]
    >>> conv(np.array([1, 2, 1, 0, 2, 1], np.float32).reshape(1, 1, 6, 1)).ravel()
    array([-1.,  0.,  2., -1., -1.,  1.], dtype=float32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = "same",
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "circular",
        *,
        exact: bool = False,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            exact=exact,
            rng=rng,
        )


class CoordConv2d(Conv2d):
    r"""Convolution that also reads where it is: two fixed channels hold column and row, each in [-1, 1].

    .. math:: xx_j = 2j / (W - 1) - 1,\qquad yy_i = 2i / (H - 1) - 1,\qquad rr = \sqrt{xx^2 + yy^2}

    The channels [input, xx, yy] (and rr with ``with_r=True``) are convolved. An axis of length 1 has coordinate 0.
    The published code divides columns by the number of rows; this one is right for H != W.

    Source: Liu et al., An intriguing failing of convolutional neural networks and the CoordConv solution, NeurIPS 2018.

    Attributes
    ----------
    weight : Param (kh, kw, in_channels + 2 or 3, out_channels)

    Examples
    --------
    >>> import numpy as np
    >>> conv = CoordConv2d(1, 1, 1, bias=False)
    >>> conv.weight.value[0, 0, :, 0] = [0, 1, 0]
    >>> conv(np.zeros((1, 2, 3, 1), np.float32))[0, :, :, 0]
    array([[-1.,  0.,  1.],
           [-1.,  0.,  1.]], dtype=float32)
    """

    rectifies = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = "same",
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        with_r: bool = False,
        *,
        exact: bool = False,
        rng: np.random.Generator | int | None = None,
    ):
        if groups != 1:
            raise InputError(
                f"groups is {groups}; expected 1 for CoordConv2d, whose kernels all read the coordinates: use Conv2d."
            )
        self.with_r, self._constants = with_r, Constants()
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            1,
            bias,
            padding_mode,
            exact=exact,
            rng=rng,
        )

    def _init_weights(self, reads: int, bias: bool, rng: np.random.Generator) -> None:
        super()._init_weights(reads + (3 if self.with_r else 2), bias, rng)

    def coordinates(self, height: int, width: int) -> Array:
        """Return the coordinate channels (H, W, 2 or 3)."""
        yy, xx = np.meshgrid(_ramp(height), _ramp(width), indexing="ij")
        channels = [xx, yy, np.hypot(xx, yy)] if self.with_r else [xx, yy]
        return np.stack(channels, axis=-1).astype(self.weight.value.dtype)

    def forward(self, *xs: Array, train: bool, rectified: bool = False) -> tuple[Array, Backward]:
        """Convolve the input; add the convolution of the coordinates, which is the same for every sample."""
        (x,) = xs
        stencil, sites = self.check_input(x)
        whole = self.weight.value.reshape(stencil.taps, -1, self.out_channels)
        c, b = x.shape[3], None if self.bias is None else self.bias.value
        w, w_map = split(whole, (c, whole.shape[1] - c), 1)
        size = x.shape[1:3]
        coordinates = self._constants.beside(x, (*size, x.dtype), lambda: self.coordinates(*size))
        coordinates = coordinates.reshape(1, stencil.sites_in, -1)
        y = convolve(sites, w, b, stencil, exact=self.exact, kept=None if train else self._kept)
        accumulate(y, gather_gemm(coordinates, w_map, None, stencil))

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dy = contiguous(dy).reshape(y.shape)
            dw, db = convolve_dw(sites, dy, stencil, w, exact=self.exact)
            dw_map, _ = gather_gemm_dw(coordinates, sum_over(dy, (0,)).reshape(1, *y.shape[1:]), stencil)
            self.weight.add_grad(concatenate([dw, dw_map], 1))
            if self.bias is not None:
                self.bias.add_grad(db)
            return convolve_dx(dy, w, stencil, exact=self.exact).reshape(x.shape) if inputs else None

        return y.reshape(self.out_shape(x.shape)), backward


def _ramp(n: int) -> Array:
    return np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
