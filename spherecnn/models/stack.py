"""Convolutions one after another, and nothing else: the network that reprojection can be compared with."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from spherecnn.errors import check_at_least
from spherecnn.grids import Grid
from spherecnn.layers import Composite, ReLU, Sequential, method
from spherecnn.layers.registry import generator


class Stack(Composite):
    """Convolutions of stride 1 with ReLU between them: conv(width) - ReLU - ... - conv(out_channels).

    Build it with `stack`.
    """

    def __init__(
        self, method_name: str, in_channels: int, out_channels: int, grid: Grid, width: int, depth: int, rng: Any
    ):
        super().__init__()
        kind, rng = method(method_name), generator(rng)
        self.grid = grid
        self.config = {
            "model": "stack",
            "method": method_name,
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "out_channels": check_at_least("out_channels", out_channels, 1),
            "grid": grid.config(),
            "width": check_at_least("width", width, 1),
            "depth": check_at_least("depth", depth, 1),
        }
        channels = [in_channels] + [width] * (depth - 1) + [out_channels]
        steps: list[Any] = []
        for inner, outer in pairwise(channels):
            steps += [kind.conv(inner, outer, grid, rng=rng), ReLU()]
        self.features = Sequential(*steps[:-1])

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        return r(self.features, x)


def stack(
    method: str,
    in_channels: int,
    out_channels: int,
    grid: Grid,
    width: int = 32,
    depth: int = 4,
    rng: np.random.Generator | int | None = None,
) -> Stack:
    """Build convolutions of stride 1 with ReLU between them, and neither pooling nor normalisation.

    Every output sees a window of 2 depth + 1 pixels, so it can be computed apart, from the tangent picture there: see
    `transfer.exact`. It ends with a convolution, as the features of `scripts/sphconv_accuracy.py`.

    Parameters
    ----------
    method : str
        "planar", "circular", or any word of `layers.METHODS`.
    in_channels, out_channels : int
    grid : Grid
        Of the input and the output.
    width : int
        Channels between.
    depth : int
        Convolutions.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Stack
        From ``(N, *grid.shape, in_channels)`` to ``(N, *grid.shape, out_channels)``.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = stack("planar", 1, 8, sc.grids.Equirect(8), width=16, depth=2, rng=0)
    >>> net(np.zeros((1, 8, 16, 1), np.float32)).shape, net.parameter_count
    ((1, 8, 16, 8), 1320)
    """
    return Stack(method, in_channels, out_channels, grid, width, depth, rng)
