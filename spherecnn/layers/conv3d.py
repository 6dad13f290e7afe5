"""Convolution of 360 degree video: time, height and width."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_array, check_at_least, check_channels, check_choice
from spherecnn.layers.base import Array, Backward, Layer, Param, Shape, contiguous
from spherecnn.layers.registry import generator
from spherecnn.layers.sites import check_groups, mix_sites
from spherecnn.stencils import PADDING_MODES, Stencil, volume

Triple = tuple[int, int, int]
Pads = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def triple(name: str, value: Any, least: int) -> Triple:
    """Return (frames, rows, columns) for an integer or a triple, refusing numbers below `least`."""
    a, b, c = value if isinstance(value, (tuple, list)) and len(value) == 3 else (value, value, value)
    return check_at_least(name, a, least), check_at_least(name, b, least), check_at_least(name, c, least)


def volume_padding(padding: Any, kernel: Triple, dilation: Triple) -> Pads:
    """Return ((before, after), (top, bottom), (left, right)) for these, a number, a triple, "same" or "valid"."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        a, b, c = ((t // 2, t - t // 2) for t in total)
        return a, b, c
    if isinstance(padding, str):
        raise InputError(f"padding is {padding!r}; expected a number, a triple, 'same' or 'valid': choose one of them.")
    sides = padding if isinstance(padding, (tuple, list)) and len(padding) == 3 else (padding,) * 3
    a, b, c = (
        (check_at_least("padding", side[0], 0), check_at_least("padding", side[1], 0))
        if isinstance(side, (tuple, list)) and len(side) == 2
        else (check_at_least("padding", side, 0),) * 2
        for side in sides
    )
    return a, b, c


class Conv3d(Layer):
    r"""Convolution (cross-correlation) of videos (N, T, H, W, C): over time too, and around the sphere.

    .. math::
        y_{n,t,p,q,k} = b_k + \sum_{l,i,j,c} x_{n,\ t s - P + l d,\ p s - P + i d,\ q s - P + j d,\ c}\; w_{l,i,j,c,k}

    Arguments as in PyTorch, but arrays are channels-last and `padding` is "same" unless told otherwise.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or triple (frames, rows, columns)
    padding : int, triple, ((before, after), (top, bottom), (left, right)), "same" or "valid"
        "same" pads d (k - 1) in all: ceil(size / stride) outputs along each axis.
    groups : int
        Groups of channels that are convolved apart; ``groups=in_channels`` is depthwise.
    bias : bool
    padding_mode : str
        Of rows and columns as for `Conv2d`. Time does not wrap: before the first frame and after the last stand
        zeros, or with "reflect" and "replicate" the frames that these say. (PyTorch's "circular" wraps time too.)
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights, uniform in ±1/sqrt(fan_in) as in PyTorch.

    Attributes
    ----------
    weight : Param (kt, kh, kw, in_channels / groups, out_channels)
    bias : Param (out_channels,), or None

    Raises
    ------
    InputError
        If channels, sizes or options do not fit.

    Notes
    -----
    Source: Tran et al., Learning spatiotemporal features with 3D convolutional networks, ICCV 2015.

    Examples
    --------
    The change from frame to frame, of a video of one pixel:

    >>> import numpy as np
    >>> conv = Conv3d(1, 1, (2, 1, 1), padding="valid", bias=False)
    >>> conv.weight.value[:, 0, 0, 0, 0] = [-1, 1]
    >>> conv(np.array([1, 4, 9, 16], np.float32).reshape(1, 4, 1, 1, 1)).ravel()
    array([3., 5., 7.], dtype=float32)
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
        padding_mode: str = "zeros",
        *,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__()
        check_choice("padding_mode", padding_mode, PADDING_MODES)
        self.kernel_size = triple("kernel_size", kernel_size, 1)
        self.stride = triple("stride", stride, 1)
        self.dilation = triple("dilation", dilation, 1)
        self.padding = volume_padding(padding, self.kernel_size, self.dilation)
        self.padding_mode = padding_mode
        self.in_channels = check_at_least("in_channels", in_channels, 1)
        self.out_channels = check_at_least("out_channels", out_channels, 1)
        self.groups = check_at_least("groups", groups, 1)
        check_groups(in_channels, out_channels, groups)
        rng, shape = generator(rng), (*self.kernel_size, self.in_channels // self.groups, self.out_channels)
        bound = 1 / np.sqrt(np.prod(shape[:-1]))
        self.weight = Param(rng.uniform(-bound, bound, shape).astype(np.float32))
        self.bias = Param(rng.uniform(-bound, bound, self.out_channels).astype(np.float32)) if bias else None

    def stencil(self, frames: int, height: int, width: int) -> Stencil:
        """Return the stencil of this window on a video of T x H x W."""
        size = frames, height, width
        return volume(size, self.kernel_size, self.stride, self.padding, self.dilation, self.padding_mode)

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        check_array("the input", x, "N, T, H, W, C", self.dtype)
        out_shape = self.out_shape(x.shape)
        sites = contiguous(x).reshape(len(x), -1, self.in_channels)
        y, sites_backward = mix_sites(sites, self.weight, self.bias, self.stencil(*x.shape[1:4]), self.groups)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dx = sites_backward(contiguous(dy).reshape(y.shape), inputs)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(out_shape), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        ((n, t, h, w, c),) = shapes
        check_channels("the input", c, self.in_channels)
        return (n, *self.stencil(t, h, w).shape_out, self.out_channels)

    def extra_repr(self) -> str:
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        bias = ", bias=False" if self.bias is None else ""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, padding_mode={self.padding_mode!r}{groups}{bias}"
        )
