"""Transposed convolution: the adjoint of a convolution, which makes an image larger."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_at_least, check_channels
from spherecnn.layers.base import Array, Backward, Param, Shape, contiguous
from spherecnn.layers.conv import Pair, Window, pair, window_padding
from spherecnn.layers.registry import generator
from spherecnn.layers.sites import check_groups, mix_sites
from spherecnn.stencils import Stencil, window


class ConvTranspose2d(Window):
    r"""Transposed convolution: every input pixel adds a scaled copy of the kernel to the output.

    .. math:: y_{n,\ p s - P + i d,\ q s - P + j d,\ k} \mathrel{+}= x_{n,p,q,c}\; w_{i,j,c,k}, \qquad y = b + \dots

    It is the adjoint of the convolution with the same kernel, stride, padding and padding mode that maps an image
    of the output's size to one of the input's. What falls beyond an edge is dropped with
    ``padding_mode="zeros"``; comes in at the other side with "circular" (the columns; what lies beyond the poles
    is dropped); comes down half a turn away, over the pole, with "sphere" and "sphere_poles".

    Arguments and their order as in PyTorch, but arrays are channels-last.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size, stride, dilation : int or pair (rows, columns)
    padding : int, pair, ((top, bottom), (left, right)) or "same"
        Rows and columns that are cut off the full output. "same" gives size * stride outputs, of which
        max(d (k - 1) + 1 - s, 0) // 2 are cut before: the alignment of TensorFlow and of the source below.
    output_padding : int or pair
        Rows and columns added at the bottom and at the right:
        (size - 1) s - 2 padding + d (k - 1) + output_padding + 1 outputs.
    groups : int
        Groups of channels that are convolved apart; output channel k reads the input channels of group
        k // (out_channels / groups).
    bias : bool
    padding_mode : str
        As for `Conv2d`. The size follows from `padding`; a circular layer commutes with turns of the panorama
        when it makes W * stride columns, as with "same".
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights, uniform in ±1/sqrt(kh kw out_channels / groups) as in PyTorch.

    Attributes
    ----------
    weight : Param (kh, kw, in_channels / groups, out_channels)
        PyTorch's (in_channels, out_channels / groups, kh, kw) is, without groups, its ``permute(2, 3, 0, 1)``;
        with groups that of each group, side by side along the last axis. Nothing is flipped.
    bias : Param (out_channels,), or None

    Raises
    ------
    InputError
        If channels, sizes or options do not fit.

    Notes
    -----
    Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, chapter 4.

    Examples
    --------
    Each pixel of [1, 2] adds itself times [1, 10, 100], two columns further each time.

    >>> import numpy as np
    >>> up = ConvTranspose2d(1, 1, (1, 3), stride=(1, 2), bias=False)
    >>> up.weight.value[0, :, 0, 0] = [1, 10, 100]
    >>> up(np.array([1, 2], np.float32).reshape(1, 1, 2, 1)).ravel()
    array([  1.,  10., 102.,  20., 200.], dtype=float32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        *,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(kernel_size, stride, 0, dilation, padding_mode)
        self.output_padding = pair("output_padding", output_padding, 0)
        if padding == "same":
            self._pad_to_multiple()
        else:
            self.padding = window_padding(padding, self.kernel_size, self.dilation)
            self._check_output_padding()
        self.in_channels = check_at_least("in_channels", in_channels, 1)
        self.out_channels = check_at_least("out_channels", out_channels, 1)
        self.groups = check_at_least("groups", groups, 1)
        check_groups(in_channels, out_channels, groups)
        rng, shape = generator(rng), (*self.kernel_size, self.in_channels // self.groups, self.out_channels)
        bound = 1 / np.sqrt(self.kernel_size[0] * self.kernel_size[1] * self.out_channels // self.groups)
        self.weight = Param(rng.uniform(-bound, bound, shape).astype(np.float32))
        self.bias = Param(rng.uniform(-bound, bound, self.out_channels).astype(np.float32)) if bias else None

    def _pad_to_multiple(self) -> None:
        """Choose the padding for stride times as many outputs as inputs."""
        if any(self.output_padding):
            raise InputError(
                f"output_padding is {self.output_padding} with padding='same'; expected 0, as 'same' says the size: "
                "leave it out, or give padding as a number."
            )
        more = [d * (k - 1) + 1 - s for k, s, d in zip(self.kernel_size, self.stride, self.dilation, strict=True)]
        rows, columns = ((max(m, 0) // 2, max(m, 0) - max(m, 0) // 2) for m in more)
        self.padding = rows, columns
        self.output_padding = max(-more[0], 0), max(-more[1], 0)

    def _check_output_padding(self) -> None:
        most = [max(s, d) for s, d in zip(self.stride, self.dilation, strict=True)]
        if any(o >= m for o, m in zip(self.output_padding, most, strict=True)):
            raise InputError(
                f"output_padding is {self.output_padding} for stride {self.stride} and dilation {self.dilation}; "
                "expected less than the larger of them: reduce it."
            )

    def output_size(self, size: Pair) -> Pair:
        """Return (rows, columns) of the output for those of the input."""
        options = zip(
            size, self.kernel_size, self.stride, self.padding, self.dilation, self.output_padding, strict=True
        )
        height, width = ((n - 1) * s - sum(p) + d * (k - 1) + o + 1 for n, k, s, p, d, o in options)
        if height < 1 or width < 1:
            raise InputError(
                f"an input of {size[0]} x {size[1]} gives {height} x {width} outputs; expected at least 1 x 1: "
                "use less padding, or a larger input or kernel."
            )
        return height, width

    def stencil(self, height: int, width: int) -> Stencil:
        """Return the stencil that maps an image of H x W to the larger one."""
        size = self.output_size((height, width))
        (top, bottom), (left, right) = self.padding
        below, beside = self.output_padding
        padding = (top, bottom - below), (left, right - beside)  # so that the convolution has H x W outputs
        return window(size, self.kernel_size, self.stride, padding, self.dilation, self.padding_mode).transposed

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        stencil, sites = self.check_input(x)
        y, sites_backward = mix_sites(sites, self.weight, self.bias, stencil, self.groups)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dx = sites_backward(contiguous(dy).reshape(y.shape), inputs)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(self.out_shape(x.shape)), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        ((n, h, w, c),) = shapes
        check_channels("the input", c, self.in_channels)
        return (n, *self.stencil(h, w).shape_out, self.out_channels)

    def extra_repr(self) -> str:
        output_padding = f", output_padding={self.output_padding}" if any(self.output_padding) else ""
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        bias = ", bias=False" if self.bias is None else ""
        return f"{self.in_channels}, {self.out_channels}, {self.window_repr()}{output_padding}{groups}{bias}"


class CircularConvTranspose2d(ConvTranspose2d):
    """Transposed convolution whose columns wrap around the panorama: size * stride outputs, and no seam.

    `ConvTranspose2d` with ``padding_mode="circular"`` and ``padding="same"``.

    Source: Schubert et al., Circular Convolutional Neural Networks for Panoramic Images and Laser Data, IV 2019
    (CConv2DTranspose).

    Examples
    --------
    The published example: x = [1, 2, 3] with kernel [-1, 2, 1] and stride 2.

    >>> import numpy as np
    >>> up = CircularConvTranspose2d(1, 1, (1, 3), (1, 2), bias=False)
    >>> up.weight.value[0, :, 0, 0] = [-1, 2, 1]
    >>> up(np.array([1, 2, 3], np.float32).reshape(1, 1, 3, 1)).ravel()
    array([ 2.,  2., -1.,  4., -1.,  6.], dtype=float32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = "same",
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "circular",
        *,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            groups,
            bias,
            dilation,
            padding_mode,
            rng=rng,
        )
