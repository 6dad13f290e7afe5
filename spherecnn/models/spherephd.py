"""The MNIST network of SpherePHD, the same for every method."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import check_at_least, check_choice
from spherecnn.grids import Grid, Polyhedron
from spherecnn.layers import Composite, GlobalAvgPool, ReLU, Sequential, method
from spherecnn.layers.registry import generator


class SpherePHD(Composite):
    """Three convolutions, two of them with max pooling, and the mean of the last over the sphere.

    conv(width) - ReLU - pool - conv(2 width) - ReLU - pool - conv(classes) - ReLU - mean

    Build it with `spherephd` or `spherephd_mnist`.
    """

    def __init__(
        self,
        method_name: str,
        in_channels: int,
        classes: int,
        grid: Grid,
        width: int,
        weighted: bool,
        relu_logits: bool,
        rng: Any,
    ):
        super().__init__()
        kind, rng = method(method_name), generator(rng)
        check_choice("weighted", weighted, (False, True))
        check_choice("relu_logits", relu_logits, (False, True))
        self.grid = grid
        self.config = {
            "model": "spherephd",
            "method": method_name,
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "classes": check_at_least("classes", classes, 2),
            "grid": grid.config(),
            "width": check_at_least("width", width, 1),
            "weighted": weighted,
            "relu_logits": relu_logits,
        }
        channels, steps = in_channels, []
        for out_channels in (width, 2 * width):
            pool, coarse = kind.pool(grid)
            steps += [kind.conv(channels, out_channels, grid, rng=rng), ReLU(), pool]
            channels, grid = out_channels, coarse
        steps.append(kind.conv(channels, classes, grid, rng=rng))
        self.features = Sequential(*steps, *([ReLU()] if relu_logits else []))
        self.pool = GlobalAvgPool(grid, weighted)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        return r(self.pool, r(self.features, x))


def spherephd(
    method: str,
    in_channels: int,
    classes: int,
    grid: Grid,
    width: int = 16,
    weighted: bool = False,
    relu_logits: bool = True,
    rng: np.random.Generator | int | None = None,
) -> SpherePHD:
    """Build SpherePHD's small classifier for a method. It takes any grid that can be pooled twice.

    Parameters
    ----------
    method : str
        "spherephd", or any word of `layers.METHODS`.
    in_channels, classes : int
    grid : Grid
        Of the input.
    width : int
        Channels of the first convolution; the second has twice as many, the third one for each class.
    weighted : bool
        Weigh the mean by solid angle. The published one is not weighted.
    relu_logits : bool
        A ReLU after the last convolution too, as published. Scores are then never negative, and a ReLU on logits loses
        gradients: faces where a class has a negative feature pass none, a class with no others learns nothing. False
        leaves it out.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    SpherePHD
        From ``(N, *grid.shape, in_channels)`` to (N, classes) scores.

    Notes
    -----
    Lee et al., SpherePHD, CVPR 2019, and its public code.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = spherephd("circular", 1, 10, sc.grids.Equirect(16), rng=0)
    >>> net(np.zeros((2, 16, 32, 1), np.float32)).shape, net.parameter_count
    ((2, 10), 7690)
    """
    return SpherePHD(method, in_channels, classes, grid, width, weighted, relu_logits, rng)


def spherephd_mnist(
    grid: Polyhedron,
    in_channels: int = 1,
    classes: int = 10,
    weighted: bool = False,
    relu_logits: bool = True,
    rng: np.random.Generator | int | None = None,
) -> SpherePHD:
    """Build the published MNIST network on faces: `spherephd` of the method "spherephd" and width 16.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = spherephd_mnist(sc.grids.Polyhedron(3), rng=0)
    >>> net(np.zeros((2, 1280, 1), np.float32)).shape, net.parameter_count
    ((2, 10), 8538)
    """
    return spherephd("spherephd", in_channels, classes, grid, 16, weighted, relu_logits, rng)
