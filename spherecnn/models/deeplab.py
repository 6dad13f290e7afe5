"""DeepLab: dilated convolutions of several rates see each pixel's surroundings at several scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from spherecnn.errors import check_at_least
from spherecnn.grids import Grid
from spherecnn.layers import ASPP, Composite, method
from spherecnn.layers.registry import generator
from spherecnn.models.blocks import ConvNormAct
from spherecnn.models.resnet import ResNetEncoder, choose_stem


class DeepLab(Composite):
    """A dilated ResNet, atrous spatial pyramid pooling, and interpolation to the input. Build it with `deeplab`."""

    def __init__(
        self,
        method_name: str,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        width: int,
        depth: int,
        output_stride: int | None,
        atrous_rates: Sequence[int] | None,
        channels: int | None,
        stem: str | None,
        rng: Any,
    ):
        super().__init__()
        kind, rng = method(method_name), generator(rng)
        stem = choose_stem(stem, grid)
        output_stride = output_stride or (16 if stem == "imagenet" else 8)
        check_at_least("width", width, 1)
        self.encoder = ResNetEncoder(kind, in_channels, grid, depth, width, stem, rng, output_stride)
        coarse = self.encoder.grid_out
        channels = channels or 4 * width
        rates = default_rates(coarse) if atrous_rates is None else [int(rate) for rate in atrous_rates]
        self.grid = grid
        self.config = {
            "model": "deeplab",
            "method": method_name,
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "out_channels": check_at_least("out_channels", out_channels, 1),
            "grid": grid.config(),
            "width": width,
            "depth": depth,
            "output_stride": output_stride,
            "atrous_rates": rates,
            "channels": check_at_least("channels", channels, 1),
            "stem": stem,
        }
        self.aspp = ASPP(self.encoder.out_channels, rates, channels, grid=coarse, method=kind, rng=rng)
        self.conv = ConvNormAct(kind, channels, channels, coarse, rng=rng)
        self.head = kind.conv(channels, out_channels, coarse, kernel_size=1, rng=rng)
        self.up = kind.upsample(coarse, grid)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        x = r(self.conv, r(self.aspp, r(self.encoder, x)))
        return r(self.up, r(self.head, x))


def default_rates(grid: Grid) -> list[int]:
    """Return rates that are to this grid as the published 6, 12, 18 are to the published 32 rows.

    Examples
    --------
    >>> import spherecnn as sc
    >>> default_rates(sc.grids.Equirect(16))
    [3, 6, 9]
    """
    rows = math.sqrt(grid.sites / 2)
    return [max(1, round(rate * rows / 32)) for rate in (6, 12, 18)]


def deeplab(
    method: str,
    in_channels: int,
    out_channels: int,
    grid: Grid,
    width: int = 16,
    depth: int = 18,
    output_stride: int | None = None,
    atrous_rates: Sequence[int] | None = None,
    channels: int | None = None,
    stem: str | None = None,
    rng: np.random.Generator | int | None = None,
) -> DeepLab:
    """Build a DeepLab for a method: the scores of the classes for every pixel, from a wide surrounding.

    A ResNet whose last stages dilate instead of halving the resolution; pyramid pooling with several rates and an
    area-weighted mean over the sphere; a 3x3 and a 1x1 convolution; bilinear interpolation to the grid of the input.

    Source: Chen et al., Rethinking atrous convolution for semantic image segmentation (DeepLabv3), 2017.

    Parameters
    ----------
    method : str
        Any word of `layers.METHODS`.
    in_channels, out_channels : int
    grid : Grid
        Of input and output.
    width, depth, stem
        Of the encoder, as in `resnet`; depth 50 and width 64 as published.
    output_stride : int, optional
        How far the encoder goes down: 4, 8, 16 or 32 with the stem "imagenet", 1, 2, 4 or 8 with "small". By default
        16 and 8.
    atrous_rates : sequence of int, optional
        Dilations of the pyramid. By default in the proportion to the grid that the published 6, 12, 18 have.
    channels : int, optional
        Of the pyramid's branches and its output; 4 times the width by default, the published 256 for 64.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    DeepLab
        From ``(N, *grid.shape, in_channels)`` to ``(N, *grid.shape, out_channels)``.

    Raises
    ------
    InputError
        If an option is unknown, or the stem does not reach the output stride.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = deeplab("circular", 3, 2, sc.grids.Equirect(16), width=4, output_stride=4, rng=0)
    >>> net.out_shape((1, 16, 32, 3)), net.config["atrous_rates"]
    ((1, 16, 32, 2), [1, 2, 2])
    """
    return DeepLab(
        method, in_channels, out_channels, grid, width, depth, output_stride, atrous_rates, channels, stem, rng
    )
