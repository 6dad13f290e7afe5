"""A small image classifier, the same for every method."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import check_at_least
from spherecnn.grids import Grid
from spherecnn.layers import BatchNorm, Composite, GlobalAvgPool, Linear, ReLU, Sequential, method
from spherecnn.layers.registry import generator

# Convolutions in each stage; the resolution halves and the width doubles between stages.
STAGES = (1, 2, 2)


class Classifier(Composite):
    """Five convolutions in three stages, each with batch normalisation and ReLU, then the mean over the sphere.

    conv(width) - pool - 2 x conv(2 width) - pool - 2 x conv(4 width) - area-weighted mean - linear(classes)

    Build it with `classifier`.
    """

    def __init__(self, method_name: str, in_channels: int, classes: int, grid: Grid, width: int, rng: Any):
        super().__init__()
        kind, rng = method(method_name), generator(rng)
        self.grid = grid
        self.config = {
            "model": "classifier",
            "method": method_name,
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "classes": check_at_least("classes", classes, 2),
            "grid": grid.config(),
            "width": check_at_least("width", width, 1),
        }
        channels = in_channels
        steps = []
        for stage, convolutions in enumerate(STAGES):
            if stage:
                pool, grid = kind.pool(grid)
                steps.append(pool)
            for _ in range(convolutions):
                steps += [
                    kind.conv(channels, width << stage, grid, bias=False, rng=rng),
                    BatchNorm(width << stage),
                    ReLU(),
                ]
                channels = width << stage
        self.features = Sequential(*steps)
        self.pool = GlobalAvgPool(grid)
        self.head = Linear(channels, classes, rng=rng)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        return r(self.head, r(self.pool, r(self.features, x)))


def classifier(
    method: str,
    in_channels: int,
    classes: int,
    grid: Grid,
    width: int = 16,
    rng: np.random.Generator | int | None = None,
) -> Classifier:
    """Build the small classifier for a method.

    Parameters
    ----------
    method : str
        "planar", "circular", "coord", or any word of `layers.METHODS`.
    in_channels, classes : int
    grid : Grid
        Of the input.
    width : int
        Channels of the first stage; later stages have 2 and 4 times as many.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Classifier
        From ``(N, *grid.shape, in_channels)`` to (N, classes) scores.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = classifier("circular", 1, 10, sc.grids.Equirect(16), rng=0)
    >>> net(np.zeros((2, 16, 32, 1), np.float32)).shape, net.parameter_count
    ((2, 10), 70330)
    """
    return Classifier(method, in_channels, classes, grid, width, rng)
