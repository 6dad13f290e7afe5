"""A network of gated convolutions that fills holes."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import check_at_least
from spherecnn.grids import Grid
from spherecnn.layers import Composite, Sequential, method
from spherecnn.layers.registry import generator
from spherecnn.models.blocks import GatedConv

# Of the convolutions in the middle: each hole is seen from far away.
DILATIONS = (2, 4, 8, 16)


class Inpainter(Composite):
    """Gated convolutions down by 4, a dilated middle, and back up. Build it with `inpainter`."""

    def __init__(self, method_name: str, in_channels: int, out_channels: int, grid: Grid, width: int, rng: Any):
        super().__init__()
        kind, rng = method(method_name), generator(rng)
        self.grid = grid
        self.config = {
            "model": "inpainter",
            "method": method_name,
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "out_channels": check_at_least("out_channels", out_channels, 1),
            "grid": grid.config(),
            "width": check_at_least("width", width, 2),
        }
        half = kind.strided(grid)
        quarter = kind.strided(half)

        def gated(reads: int, gives: int, where: Grid, **options: Any) -> GatedConv:
            return GatedConv(kind, reads, gives, where, **options, rng=rng)

        self.down = Sequential(
            gated(in_channels, width, grid, kernel_size=5),
            gated(width, 2 * width, grid, stride=2),
            gated(2 * width, 2 * width, half),
            gated(2 * width, 4 * width, half, stride=2),
        )
        self.middle = Sequential(*(gated(4 * width, 4 * width, quarter, dilation=d) for d in (1, 1, *DILATIONS, 1, 1)))
        self.up = Sequential(
            kind.upsample(quarter, half, "nearest"),
            gated(4 * width, 2 * width, half),
            gated(2 * width, 2 * width, half),
            kind.upsample(half, grid, "nearest"),
            gated(2 * width, width, grid),
            gated(width, width // 2, grid),
        )
        self.head = kind.conv(width // 2, out_channels, grid, rng=rng)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        return r(self.head, r(self.up, r(self.middle, r(self.down, x))))


def inpainter(
    method: str,
    in_channels: int,
    out_channels: int,
    grid: Grid,
    width: int = 24,
    rng: np.random.Generator | int | None = None,
) -> Inpainter:
    """Build a network that fills holes: picture and mask in, whole picture out.

    Gated convolutions learn at each pixel what to take from their surroundings, so that a hole is not seen as black.
    It is the first (coarse) of the two networks of the source, without the last activation and the channel of ones,
    which marks borders that a sphere does not have. There is no normalisation, as published.

    Source: Yu et al., Free-form image inpainting with gated convolution, ICCV 2019, section 3.

    Parameters
    ----------
    method : str
        Any word of `layers.METHODS`.
    in_channels, out_channels : int
        The channels of the picture and one for the mask, and those of the picture: 4 and 3 for RGB.
    grid : Grid
        Of input and output.
    width : int
        Channels of the first convolution after gating; 24 as published (there "48" counts features and gates).
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Inpainter
        From ``(N, *grid.shape, in_channels)`` to ``(N, *grid.shape, out_channels)``.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = inpainter("circular", 4, 3, sc.grids.Equirect(16), width=4, rng=0)
    >>> net.out_shape((1, 16, 32, 4)), net.parameter_count
    ((1, 16, 32, 3), 46301)
    """
    return Inpainter(method, in_channels, out_channels, grid, width, rng)
