"""Residual blocks, for any method."""

from __future__ import annotations

from typing import Any

from spherecnn.grids import Grid
from spherecnn.layers import Add, Composite, Method
from spherecnn.layers.registry import generator
from spherecnn.models.blocks import ConvNormAct, Rng
from spherecnn.models.blocks import activation as make_activation


class ResidualBlock(Composite):
    """Two 3x3 convolutions and a way around them: the block of ResNet-18 and 34.

    Where the stride or the channels change, a 1x1 convolution leads around.

    Source: He et al., Deep residual learning for image recognition, CVPR 2016, figure 5 left.

    Parameters
    ----------
    kind : str or Method
    in_channels, width : int
        The block gives ``width * expansion`` channels; `out_channels` says so.
    grid : Grid
        Of the input; `grid_out` is that of the output.
    stride, dilation : int
        The first 3x3 convolution has the stride, all of them the dilation.
    norm, activation, rng
        As for `ConvNormAct`.

    Examples
    --------
    >>> import spherecnn as sc
    >>> ResidualBlock("circular", 8, 16, sc.grids.Equirect(8), stride=2, rng=0).out_shape((1, 8, 16, 8))
    (1, 4, 8, 16)
    """

    expansion = 1

    def __init__(
        self,
        kind: str | Method,
        in_channels: int,
        width: int,
        grid: Grid,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: str | None = "batch",
        activation: str | None = "relu",
        rng: Rng = None,
    ):
        super().__init__()
        self.out_channels = width * self.expansion
        options: dict[str, Any] = {"norm": norm, "rng": generator(rng)}
        self._body(kind, in_channels, width, grid, stride, dilation, activation, options)
        if stride != 1 or in_channels != self.out_channels:
            self.shortcut = ConvNormAct(
                kind, in_channels, self.out_channels, grid, kernel_size=1, stride=stride, activation=None, **options
            )
        self.add = Add()
        self.act = make_activation(activation or "relu")

    def _body(
        self,
        kind: str | Method,
        in_channels: int,
        width: int,
        grid: Grid,
        stride: int,
        dilation: int,
        activation: str | None,
        options: dict[str, Any],
    ) -> None:
        strided: dict[str, Any] = {"stride": stride, "dilation": dilation, "activation": activation}
        self.first = ConvNormAct(kind, in_channels, width, grid, **strided, **options)
        self.grid_out = self.first.grid_out
        self.second = ConvNormAct(kind, width, width, self.grid_out, dilation=dilation, activation=None, **options)
        self.body = [self.first, self.second]

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        y = x
        for step in self.body:
            y = r(step, y)
        return r(self.act, r(self.add, y, r(self.shortcut, x) if "shortcut" in self.children else x))


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolutions and a way around them: the block of ResNet-50 and deeper.

    The 3x3 convolution has the stride, as in torchvision.

    Source: He et al., Deep residual learning for image recognition, CVPR 2016, figure 5 right.

    Parameters as for `ResidualBlock`; it gives ``4 * width`` channels.

    Examples
    --------
    >>> import spherecnn as sc
    >>> Bottleneck("circular", 8, 4, sc.grids.Equirect(8), rng=0).out_shape((1, 8, 16, 8))
    (1, 8, 16, 16)
    """

    expansion = 4

    def _body(
        self,
        kind: str | Method,
        in_channels: int,
        width: int,
        grid: Grid,
        stride: int,
        dilation: int,
        activation: str | None,
        options: dict[str, Any],
    ) -> None:
        strided: dict[str, Any] = {"stride": stride, "dilation": dilation, "activation": activation}
        self.reduce = ConvNormAct(kind, in_channels, width, grid, kernel_size=1, activation=activation, **options)
        self.conv = ConvNormAct(kind, width, width, grid, **strided, **options)
        self.grid_out = self.conv.grid_out
        self.expand = ConvNormAct(
            kind, width, self.out_channels, self.grid_out, kernel_size=1, activation=None, **options
        )
        self.body = [self.reduce, self.conv, self.expand]
