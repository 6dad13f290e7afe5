"""ResNet: the classifier, and the same layers as an encoder for dense prediction."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import check_at_least, check_choice
from spherecnn.grids import Grid
from spherecnn.layers import Composite, GlobalAvgPool, Linear, Sequential, method
from spherecnn.layers.registry import Method, generator
from spherecnn.models.blocks import ConvNormAct
from spherecnn.models.residual import Bottleneck, ResidualBlock

# The block, and how many of it each stage has.
DEPTHS: dict[int, tuple[type[ResidualBlock], tuple[int, ...]]] = {
    18: (ResidualBlock, (2, 2, 2, 2)),
    34: (ResidualBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
STEMS = ("imagenet", "small")
# From so many sites on, the stem that starts with a quarter of the resolution is the default.
LARGE = 128 * 256


def choose_stem(stem: str | None, grid: Grid) -> str:
    """Return the stem, by default the one that suits the grid."""
    if stem is None:
        return "imagenet" if grid.sites >= LARGE else "small"
    check_choice("stem", stem, STEMS)
    return stem


class ResNetEncoder(Composite):
    """The convolutions of a ResNet: a stem and four stages of residual blocks.

    The stem "imagenet" is a 7x7 convolution of stride 2, or the widest that the method has, and a 3x3 pooling of stride
    2; "small" is one 3x3 convolution. Stages 2 to 4 halve the resolution and double the channels. Once the resolution
    is down by `output_stride`, further stages dilate instead (DeepLab), which keeps the resolution and the field of
    view.

    Attributes
    ----------
    grid_out : Grid
    out_channels : int
    """

    def __init__(
        self,
        kind: Method,
        in_channels: int,
        grid: Grid,
        depth: int,
        width: int,
        stem: str,
        rng: np.random.Generator,
        output_stride: int | None = None,
    ):
        super().__init__()
        check_choice("depth", depth, tuple(DEPTHS))
        block, repeats = DEPTHS[depth]
        stride, dilation, channels = 1, 1, width
        if stem == "imagenet":
            first = ConvNormAct(kind, in_channels, width, grid, kernel_size=kind.widest(7), stride=2, rng=rng)
            pool, grid = kind.pool(first.grid_out, kernel_size=3)
            self.stem = Sequential(first, pool)
            stride = 4
        else:
            self.stem = Sequential(ConvNormAct(kind, in_channels, width, grid, rng=rng))
        if output_stride is not None:
            check_choice("output_stride", output_stride, tuple(stride << stage for stage in range(len(repeats))))
        self.stages = []
        for stage, count in enumerate(repeats):
            step = 2 if stage else 1
            if output_stride is not None and stride * step > output_stride:
                step, dilation = 1, dilation * step
            stride *= step
            blocks = []
            for i in range(count):
                own: dict[str, Any] = {"stride": 1 if i else step, "dilation": dilation}
                blocks.append(block(kind, channels, width << stage, grid, **own, rng=rng))
                channels, grid = blocks[-1].out_channels, blocks[-1].grid_out
            self.stages.append(Sequential(*blocks))
            setattr(self, f"stage{stage + 1}", self.stages[-1])
        self.grid_out, self.out_channels = grid, channels

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        x = r(self.stem, x)
        for stage in self.stages:
            x = r(stage, x)
        return x


class ResNet(Composite):
    """A ResNet encoder, the area-weighted mean over the sphere, and a linear layer. Build it with `resnet`."""

    def __init__(
        self,
        method_name: str,
        in_channels: int,
        classes: int,
        grid: Grid,
        depth: int,
        width: int,
        stem: str | None,
        rng: Any,
    ):
        super().__init__()
        kind, rng = method(method_name), generator(rng)
        self.grid = grid
        stem = choose_stem(stem, grid)
        self.config = {
            "model": "resnet",
            "method": method_name,
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "classes": check_at_least("classes", classes, 2),
            "grid": grid.config(),
            "depth": depth,
            "width": check_at_least("width", width, 1),
            "stem": stem,
        }
        self.encoder = ResNetEncoder(kind, in_channels, grid, depth, width, stem, rng)
        self.pool = GlobalAvgPool(self.encoder.grid_out)
        self.head = Linear(self.encoder.out_channels, classes, rng=rng)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        return r(self.head, r(self.pool, r(self.encoder, x)))


def resnet(
    method: str,
    in_channels: int,
    classes: int,
    grid: Grid,
    depth: int = 18,
    width: int = 64,
    stem: str | None = None,
    rng: np.random.Generator | int | None = None,
) -> ResNet:
    """Build a ResNet classifier for a method.

    With ``width=64`` and the stem "imagenet" the planar form has the layers and the number of parameters of
    torchvision's. The mean before the linear layer is weighted by solid angle.

    Source: He et al., Deep residual learning for image recognition, CVPR 2016.

    Parameters
    ----------
    method : str
        Any word of `layers.METHODS`.
    in_channels, classes : int
    grid : Grid
        Of the input.
    depth : int
        18, 34 or 50.
    width : int
        Channels of the first stage; later stages have 2, 4 and 8 times as many (4 times that with depth 50).
    stem : str, optional
        "imagenet": a 7x7 convolution of stride 2 and a pooling; the encoder goes down by 32. "small": one 3x3
        convolution; down by 8. By default "imagenet" from 128 x 256 sites on.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    ResNet
        From ``(N, *grid.shape, in_channels)`` to (N, classes) scores.

    Raises
    ------
    InputError
        If an option is unknown or the method cannot take the grid.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = resnet("circular", 3, 10, sc.grids.Equirect(16), width=4, rng=0)
    >>> net.out_shape((2, 16, 32, 3)), net.parameter_count, net.config["stem"]
    ((2, 10), 44622, 'small')
    """
    return ResNet(method, in_channels, classes, grid, depth, width, stem, rng)
