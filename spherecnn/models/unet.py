"""U-Net: per-pixel prediction with skips from every resolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import check_at_least
from spherecnn.grids import Grid
from spherecnn.layers import Composite, method
from spherecnn.layers.registry import generator
from spherecnn.models.blocks import DoubleConv, UpBlock, coarser


class UNet(Composite):
    """Two convolutions and a pooling a stage, then back up beside the skips. Build it with `unet`."""

    def __init__(
        self,
        method_name: str,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        width: int,
        depth: int,
        up: str,
        norm: str | None,
        activation: str,
        rng: Any,
    ):
        super().__init__()
        kind, rng = method(method_name), generator(rng)
        self.grid = grid
        self.config = {
            "model": "unet",
            "method": method_name,
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "out_channels": check_at_least("out_channels", out_channels, 1),
            "grid": grid.config(),
            "width": check_at_least("width", width, 1),
            "depth": check_at_least("depth", depth, 1),
            "up": up,
            "norm": norm,
            "activation": activation,
        }
        options: dict[str, Any] = {"norm": norm, "activation": activation, "rng": rng}
        self.downs, self.ups, channels, fine = [], [], in_channels, grid
        fines = []
        for stage, (pool, coarse) in enumerate(coarser(kind, grid, depth)):
            convs = DoubleConv(kind, channels, width << stage, fine, **options)
            setattr(self, f"down{stage + 1}", convs)
            setattr(self, f"pool{stage + 1}", pool)
            self.downs.append((convs, pool))
            fines.append(fine)
            channels, fine = width << stage, coarse
        self.bottom = DoubleConv(kind, channels, width << depth, fine, **options)
        for stage in reversed(range(depth)):
            skip = width << stage
            block = UpBlock(kind, 2 * skip, skip, skip, fine, fines[stage], up=up, **options)
            setattr(self, f"up{stage + 1}", block)
            self.ups.append(block)
            fine = fines[stage]
        self.head = kind.conv(width, out_channels, grid, kernel_size=1, rng=rng)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        skips = []
        for convs, pool in self.downs:
            skips.append(r(convs, x))
            x = r(pool, skips[-1])
        x = r(self.bottom, x)
        for block in self.ups:
            x = r(block, x, skips.pop())
        return r(self.head, x)


def unet(
    method: str,
    in_channels: int,
    out_channels: int,
    grid: Grid,
    width: int = 16,
    depth: int = 4,
    up: str = "bilinear",
    norm: str | None = "batch",
    activation: str = "relu",
    rng: np.random.Generator | int | None = None,
) -> UNet:
    """Build a U-Net for a method: one value, or the scores of the classes, for every pixel.

    Convolutions are padded, so the output has the grid of the input and skips are not cropped. A grid that does not
    divide by ``2**depth`` is pooled downwards and interpolated back to the size of each skip. The planar form with
    ``width=64, up="transpose", norm=None`` has the layers and the parameters of the published one.

    Source: Ronneberger, Fischer and Brox, U-Net: convolutional networks for biomedical image segmentation,
    MICCAI 2015.

    Parameters
    ----------
    method : str
        Any word of `layers.METHODS`.
    in_channels, out_channels : int
    grid : Grid
        Of input and output.
    width : int
        Channels of the first stage; each further stage has twice as many.
    depth : int
        Number of poolings.
    up : str
        "bilinear", "nearest" or "transpose" (a transposed convolution, as published).
    norm : str, optional
        "batch", "group", "instance", or None as published.
    activation : str
        "relu", "leaky_relu", "elu", "gelu", "sigmoid" or "tanh".
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    UNet
        From ``(N, *grid.shape, in_channels)`` to ``(N, *grid.shape, out_channels)``.

    Raises
    ------
    InputError
        If the grid cannot be pooled `depth` times, or an option is unknown.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = unet("circular", 3, 2, sc.grids.Equirect(16), width=4, depth=2, rng=0)
    >>> net.out_shape((1, 16, 32, 3)), net.parameter_count
    ((1, 16, 32, 2), 7622)
    """
    return UNet(method, in_channels, out_channels, grid, width, depth, up, norm, activation, rng)
