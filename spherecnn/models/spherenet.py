"""The network of SphereNet's Omni-MNIST, the same for every method."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import check_at_least, check_choice
from spherecnn.grids import Grid
from spherecnn.layers import Composite, Flatten, Linear, ReLU, Sequential, method
from spherecnn.layers.registry import generator


class SphereNet(Composite):
    """Two convolutions, each with max pooling and ReLU, then a linear layer on all sites.

    conv(width) - pool - ReLU - conv(2 width) - pool - ReLU - linear(classes)

    Build it with `spherenet`.
    """

    def __init__(
        self,
        method_name: str,
        in_channels: int,
        classes: int,
        grid: Grid,
        width: int,
        kernel_size: int,
        pool_size: int | None,
        rng: Any,
    ):
        super().__init__()
        kind, rng = method(method_name), generator(rng)
        if pool_size is None:
            pool_size = 3 if method_name == "tangent" else 2
        check_choice("pool_size", pool_size, (2, 3))
        self.grid = grid
        self.config = {
            "model": "spherenet",
            "method": method_name,
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "classes": check_at_least("classes", classes, 2),
            "grid": grid.config(),
            "width": check_at_least("width", width, 1),
            "kernel_size": check_at_least("kernel_size", kernel_size, 1),
            "pool_size": pool_size,
        }
        channels, steps = in_channels, []
        for out_channels in (width, 2 * width):
            steps.append(kind.conv(channels, out_channels, grid, kernel_size=kernel_size, rng=rng))
            pool, grid = kind.pool(grid, kernel_size=pool_size)
            steps += [pool, ReLU()]
            channels = out_channels
        self.features = Sequential(*steps)
        self.flatten = Flatten()
        self.head = Linear(channels * grid.sites, classes, rng=rng)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        return r(self.head, r(self.flatten, r(self.features, x)))


def spherenet(
    method: str,
    in_channels: int,
    classes: int,
    grid: Grid,
    width: int = 32,
    kernel_size: int = 3,
    pool_size: int | None = None,
    rng: np.random.Generator | int | None = None,
) -> SphereNet:
    """Build SphereNet's classifier for a method.

    With one channel, ten classes and 60 x 60 pixels it has 162,826 parameters with kernels of 3, as in the public
    code, and 196,106 with kernels of 5, as in the paper: the same for "planar", "circular", "sphere" and "tangent".

    Parameters
    ----------
    method : str
        "planar", "circular", or any word of `layers.METHODS`; "tangent" is SphereNet, "planar" its EquirectCNN.
    in_channels, classes : int
    grid : Grid
        Of the input; the linear layer ties the network to it.
    width : int
        Channels of the first convolution; the second has twice as many.
    kernel_size : int
        Of the convolutions.
    pool_size : {2, 3}, optional
        Kernel of the max pooling of stride 2: 3 for "tangent" and 2 for all others by default, as published.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    SphereNet
        From ``(N, *grid.shape, in_channels)`` to (N, classes) scores.

    Notes
    -----
    Coors, Condurache and Geiger, "SphereNet", ECCV 2018, section 4.1. Pooling comes before ReLU, as in the public
    code; where a pooling reads whole pixels the order does not matter.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = spherenet("planar", 1, 10, sc.grids.Equirect(60, 60), rng=0)
    >>> net(np.zeros((2, 60, 60, 1), np.float32)).shape, net.parameter_count
    ((2, 10), 162826)
    >>> spherenet("circular", 1, 10, sc.grids.Equirect(60, 60), kernel_size=5).parameter_count
    196106
    """
    return SphereNet(method, in_channels, classes, grid, width, kernel_size, pool_size, rng)
