"""Blocks that networks are made of: each is written once, and built for any method."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Grid
from spherecnn.layers import (
    ELU,
    GELU,
    BatchNorm,
    Composite,
    Concat,
    Gate,
    GroupNorm,
    InstanceNorm,
    Layer,
    LeakyReLU,
    Method,
    ReLU,
    Sigmoid,
    Tanh,
    method,
)
from spherecnn.layers.registry import generator

ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "elu": ELU,
    "gelu": GELU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
}
NORMS: dict[str, Callable[[int], Layer]] = {
    "batch": BatchNorm,
    "group": lambda channels: GroupNorm(groups_of(channels), channels),
    "instance": lambda channels: InstanceNorm(channels, affine=True),
}
UPS = ("bilinear", "nearest", "transpose")

Rng = np.random.Generator | int | None


def groups_of(channels: int) -> int:
    """Return how many groups a `GroupNorm` has: at most the published 32, and 4 channels or more in each.

    Examples
    --------
    >>> [groups_of(channels) for channels in (6, 8, 64, 256)]
    [1, 2, 16, 32]
    """
    return math.gcd(32, channels // 4) if channels % 4 == 0 else 1


def activation(name: str | None) -> Layer | None:
    """Return the activation of this name; None for None, no activation.

    Examples
    --------
    >>> activation("relu")
    ReLU()
    """
    if name is None:
        return None
    check_choice("activation", name, tuple(ACTIVATIONS))
    return ACTIVATIONS[name]()


def norm(name: str | None, channels: int) -> Layer | None:
    """Return the normalisation "batch", "group" or "instance" of so many channels; None for None.

    Examples
    --------
    >>> norm("batch", 8)
    BatchNorm(8, eps=1e-05, momentum=0.1, affine=True)
    """
    if name is None:
        return None
    check_choice("norm", name, tuple(NORMS))
    return NORMS[name](channels)


def he_normal(layer: Layer, rng: np.random.Generator) -> Layer:
    r"""Draw the weights of a layer anew from a normal distribution of variance 2 / fan_in; biases become 0.

    This keeps the size of activations through many layers with ReLU, where there is no normalisation too.

    Source: He et al., Delving deep into rectifiers, ICCV 2015, eq. 10.
    """
    weight = layer.params["weight"].value
    fan_in = getattr(layer, "fan_in", math.prod(weight.shape[:-1]))  # kernels of several sizes say theirs
    weight[...] = rng.normal(0, np.sqrt(2 / fan_in), weight.shape)
    if "bias" in layer.params:
        layer.params["bias"].value[...] = 0
    return layer


def coarser(kind: Method, grid: Grid, stages: int, **options: Any) -> list[tuple[Layer, Grid]]:
    """Return `stages` poolings, each with the grid that it leads to; refuse a grid that is too small for them."""
    steps = []
    current = grid
    for stage in range(stages):
        try:
            step = kind.pool(current, **options)
        except InputError as error:
            raise InputError(
                f"{grid!r} is too small for a depth of {stages}; expected a grid that can be pooled {stages} times, "
                f"not {stage} ({error}): use a larger grid or a smaller depth."
            ) from None
        steps.append(step)
        current = step[1]
    return steps


class ConvNormAct(Composite):
    """Convolution, normalisation, activation: conv - norm - act.

    The convolution has a bias only where no normalisation follows. Its weights are He-normal.

    Parameters
    ----------
    kind : str or Method
        Any method, "circular" for example.
    in_channels, out_channels : int
    grid : Grid
        Of the input; `grid_out` is that of the output.
    kernel_size, stride, dilation, groups : int
    norm : str, optional
        "batch", "group", "instance", or None.
    activation : str, optional
        "relu", "leaky_relu", "elu", "gelu", "sigmoid", "tanh", or None.
    rng : numpy.random.Generator or int, optional

    Examples
    --------
    >>> import spherecnn as sc
    >>> ConvNormAct("circular", 3, 8, sc.grids.Equirect(16), stride=2, rng=0).out_shape((1, 16, 32, 3))
    (1, 8, 16, 8)
    """

    def __init__(
        self,
        kind: str | Method,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        norm: str | None = "batch",
        activation: str | None = "relu",
        rng: Rng = None,
    ):
        super().__init__()
        kind, rng = as_method(kind), generator(rng)
        options: dict[str, Any] = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation, "groups": groups}
        self.conv = kind.conv(in_channels, out_channels, grid, **options, bias=norm is None, rng=rng)
        he_normal(self.conv, rng)
        self.grid_out = kind.strided(grid, stride) if stride > 1 else grid
        self.rest = []
        for name, layer in (("norm", _norm(norm, out_channels)), ("act", _activation(activation))):
            if layer is not None:
                setattr(self, name, layer)
                self.rest.append(layer)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        x = r(self.conv, x)
        for layer in self.rest:
            x = r(layer, x)
        return x


# The options of blocks have the names of these functions.
_norm, _activation = norm, activation


class DoubleConv(Composite):
    """Two 3x3 convolutions, each with normalisation and activation: the block of U-Net.

    Source: Ronneberger, Fischer and Brox, U-Net, MICCAI 2015.

    Parameters as for `ConvNormAct`, which see; `mid_channels` lie between the two, `out_channels` by default.

    Examples
    --------
    >>> import spherecnn as sc
    >>> DoubleConv("planar", 3, 8, sc.grids.Equirect(8), rng=0).out_shape((1, 8, 16, 3))
    (1, 8, 16, 8)
    """

    def __init__(
        self,
        kind: str | Method,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        mid_channels: int | None = None,
        norm: str | None = "batch",
        activation: str | None = "relu",
        rng: Rng = None,
    ):
        super().__init__()
        mid = out_channels if mid_channels is None else mid_channels
        options: dict[str, Any] = {"norm": norm, "activation": activation, "rng": generator(rng)}
        self.first = ConvNormAct(kind, in_channels, mid, grid, **options)
        self.second = ConvNormAct(kind, mid, out_channels, grid, **options)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        return r(self.second, r(self.first, x))


class ConvConvPool(Composite):
    """Two convolutions with their activations, then a pooling that halves the resolution.

    `grid_out` is the coarser grid. Parameters as for `ConvNormAct`, which see.

    Examples
    --------
    >>> import spherecnn as sc
    >>> block = ConvConvPool("circular", 3, 8, sc.grids.Equirect(8), rng=0)
    >>> block.out_shape((1, 8, 16, 3)), block.grid_out
    ((1, 4, 8, 8), Equirect(4, 8))
    """

    def __init__(
        self,
        kind: str | Method,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        norm: str | None = "batch",
        activation: str | None = "relu",
        rng: Rng = None,
    ):
        super().__init__()
        self.convs = DoubleConv(kind, in_channels, out_channels, grid, norm=norm, activation=activation, rng=rng)
        self.pool, self.grid_out = as_method(kind).pool(grid)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        return r(self.pool, r(self.convs, x))


class GatedConv(Composite):
    """A convolution to features and gates, then features times the sigmoid of the gates: gated convolution.

    `layers.GatedConv2d` for any method. There is no normalisation, as published; weights are He-normal.

    Source: Yu et al., Free-form image inpainting with gated convolution, ICCV 2019, eq. 3.

    Parameters
    ----------
    kind : str or Method
    in_channels, out_channels : int
        `out_channels` counts after gating.
    grid : Grid
        Of the input; `grid_out` is that of the output.
    kernel_size, stride, dilation : int
    activation : str
        Of the features: "elu", "relu", "leaky_relu", "tanh" or "none".
    rng : numpy.random.Generator or int, optional

    Examples
    --------
    >>> import spherecnn as sc
    >>> GatedConv("circular", 4, 8, sc.grids.Equirect(8), stride=2, rng=0).out_shape((1, 8, 16, 4))
    (1, 4, 8, 8)
    """

    def __init__(
        self,
        kind: str | Method,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        activation: str = "elu",
        rng: Rng = None,
    ):
        super().__init__()
        kind, rng = as_method(kind), generator(rng)
        options: dict[str, Any] = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
        self.conv = he_normal(kind.conv(in_channels, 2 * out_channels, grid, **options, rng=rng), rng)
        self.gate = Gate(activation)
        self.grid_out = kind.strided(grid, stride) if stride > 1 else grid

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        return r(self.gate, r(self.conv, x))


class UpBlock(Composite):
    """Up to the grid of a skip, side by side with it, then two convolutions; inputs are (x, skip).

    Source: Ronneberger, Fischer and Brox, U-Net, MICCAI 2015.

    Parameters
    ----------
    kind : str or Method
    in_channels, skip_channels, out_channels : int
    coarse, fine : Grid
        Of x and of the skip.
    up : str
        "transpose" is a transposed convolution that halves the channels, as published; "bilinear" and "nearest"
        interpolate, which has no parameters and leaves no checkerboard.
    norm, activation, rng
        As for `ConvNormAct`.

    Examples
    --------
    >>> import spherecnn as sc
    >>> coarse, fine = sc.grids.Equirect(4), sc.grids.Equirect(8)
    >>> UpBlock("circular", 16, 8, 8, coarse, fine, rng=0).out_shape((1, 4, 8, 16), (1, 8, 16, 8))
    (1, 8, 16, 8)
    """

    def __init__(
        self,
        kind: str | Method,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        coarse: Grid,
        fine: Grid,
        *,
        up: str = "bilinear",
        norm: str | None = "batch",
        activation: str | None = "relu",
        rng: Rng = None,
    ):
        super().__init__()
        check_choice("up", up, UPS)
        kind, rng = as_method(kind), generator(rng)
        if up == "transpose":
            channels = max(in_channels // 2, 1)
            self.up = kind.conv_transpose(in_channels, channels, coarse, fine, rng=rng)
        else:
            channels = in_channels
            self.up = kind.upsample(coarse, fine, up)
        self.concat = Concat()
        self.convs = DoubleConv(
            kind, channels + skip_channels, out_channels, fine, norm=norm, activation=activation, rng=rng
        )

    def trace(self, r: Any, *xs: Any) -> Any:
        x, skip = xs
        return r(self.convs, r(self.concat, skip, r(self.up, x)))


def as_method(kind: str | Method) -> Method:
    """Return a method given as itself or by name."""
    return kind if isinstance(kind, Method) else method(kind)
