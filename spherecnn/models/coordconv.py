"""The networks of the CoordConv paper for Not-so-Clevr: they draw where a point is, or say where a drawing is.

Source: Liu et al., "An intriguing failing of convolutional neural networks and the CoordConv solution",
NeurIPS 2018, section 4, and its code.
"""

from __future__ import annotations

import numpy as np

from spherecnn.errors import check_at_least, check_choice
from spherecnn.layers import (
    AvgPool2d,
    BatchNorm,
    Broadcast,
    Conv2d,
    ConvTranspose2d,
    CoordConv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Softmax,
    Unflatten,
)
from spherecnn.layers.registry import generator

Rng = np.random.Generator | int | None
SIZE = 64


def coordconv_painter(mul: int = 1, *, rng: Rng = None) -> Sequential:
    """From a point to its pixel: CoordConv on the point at every site, then 1 x 1 convolutions 32-32-64-64-1.

    Parameters
    ----------
    mul : int
        Times as many channels.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Sequential
        From (N, 2), x and y from -1 to 1, to (N, 4096) scores of the pixels.

    Examples
    --------
    >>> net = coordconv_painter(rng=0)
    >>> net(np.zeros((1, 2), np.float32)).shape, net.parameter_count
    ((1, 4096), 7553)
    """
    return Sequential(*_coordconv_center(check_at_least("mul", mul, 1), generator(rng)), Flatten())


def coordconv_image_painter(mul: int = 1, kernel_size: int = 1, *, rng: Rng = None) -> Sequential:
    """From a point to the square around it: `coordconv_painter`, softmax over the pixels, convolutions 8-8-16-16-1.

    Parameters
    ----------
    mul : int
        Times as many channels of the convolutions behind the softmax.
    kernel_size : int
        Of these.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Sequential
        From (N, 2), x and y from -1 to 1, to (N, 64, 64, 1) scores of the pixels.

    Examples
    --------
    >>> [coordconv_image_painter(mul, k, rng=0).parameter_count for mul, k in ((1, 1), (2, 1), (1, 3))]
    [8074, 9490, 11850]
    """
    rng, mul = generator(rng), check_at_least("mul", mul, 1)
    paint: list[Layer] = []
    channels = 1
    for width in (8 * mul, 8 * mul, 16 * mul, 16 * mul, 1):
        paint += [Conv2d(channels, width, kernel_size, rng=rng), ReLU()]
        channels = width
    center = [*_coordconv_center(1, rng), Flatten(), Softmax(), Unflatten(1, (SIZE, SIZE, 1))]
    return Sequential(*center, *paint[:-1])


def deconv_painter(kernel_size: int = 3, mul: int = 1, *, rng: Rng = None) -> Sequential:
    """From a point to an image by ordinary transposed convolutions, the network that CoordConv is compared with.

    Six of them, 64-64-64-32-32-1 channels and stride 2, from 1 x 1 to 64 x 64, with batch normalisation and ReLU
    between them.

    Parameters
    ----------
    kernel_size : int
    mul : int
        Times as many channels.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Sequential
        From (N, 2), x and y from -1 to 1, to (N, 4096) scores of the pixels.

    Examples
    --------
    >>> [deconv_painter(k, mul, rng=0).parameter_count for k, mul in ((2, 1), (3, 1), (4, 1), (4, 3))]
    [46465, 103585, 183553, 1632001]
    """
    rng, mul = generator(rng), check_at_least("mul", mul, 1)
    steps: list[Layer] = [Broadcast((1, 1))]
    channels = 2
    for width in (64 * mul, 64 * mul, 64 * mul, 32 * mul, 32 * mul, 1):
        steps += [ConvTranspose2d(channels, width, kernel_size, 2, "same", rng=rng), BatchNorm(width), ReLU()]
        channels = width
    return _he_normal(Sequential(*steps[:-2], Flatten()), rng)


def coordconv_regressor(*, rng: Rng = None) -> Sequential:
    """From the picture of a point to the point: CoordConv, five convolutions without activations, the maximum.

    Parameters
    ----------
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Sequential
        From (N, 64, 64, 1) to (N, 2), x and y in units of the picture.

    Examples
    --------
    >>> net = coordconv_regressor(rng=0)
    >>> net(np.zeros((1, 64, 64, 1), np.float32)).shape, net.parameter_count
    ((1, 2), 906)
    """
    rng = generator(rng)
    steps: list[Layer] = [CoordConv2d(1, 8, 1, rng=rng)]
    steps += [Conv2d(8, 8, k, rng=rng) for k in (1, 1, 3)]
    steps += [Conv2d(8, 2, 3, rng=rng), MaxPool2d(8), MaxPool2d(8), Flatten()]
    return _he_normal(Sequential(*steps), rng)


def conv_regressor(holdout: str = "uniform", *, rng: Rng = None) -> Sequential:
    """From the picture of a point to the point with ordinary convolutions, as published for each way to hold out.

    Parameters
    ----------
    holdout : {"uniform", "quadrant"}
        "uniform": four convolutions of 16 channels, maxima of 2 x 2 between them, linear 64 and 2.
        "quadrant": nine convolutions, five of stride 2, two batch normalisations, the mean over the picture.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    Sequential
        From (N, 64, 64, 1) to (N, 2), x and y in units of the picture.

    Examples
    --------
    >>> [conv_regressor(holdout, rng=0).parameter_count for holdout in ("uniform", "quadrant")]
    [72850, 12914]
    """
    check_choice("holdout", holdout, ("uniform", "quadrant"))
    rng = generator(rng)
    steps = _pooled(rng) if holdout == "uniform" else _strided(rng)
    return _he_normal(Sequential(*steps), rng)


def _coordconv_center(mul: int, rng: np.random.Generator) -> list[Layer]:
    steps: list[Layer] = [Broadcast((SIZE, SIZE)), CoordConv2d(2, 32 * mul, 1, rng=rng), ReLU()]
    channels = 32 * mul
    for width in (32 * mul, 64 * mul, 64 * mul):
        steps += [Conv2d(channels, width, 1, rng=rng), ReLU()]
        channels = width
    return [*steps, Conv2d(channels, 1, 1, rng=rng)]


def _pooled(rng: np.random.Generator) -> list[Layer]:
    steps: list[Layer] = []
    for i in range(4):
        steps += [Conv2d(16 if i else 1, 16, 3, rng=rng), ReLU(), MaxPool2d(2)]
    side = SIZE // 8
    return [*steps[:-1], Flatten(), Linear(side * side * 16, 64, rng=rng), ReLU(), Linear(64, 2, rng=rng)]


def _strided(rng: np.random.Generator) -> list[Layer]:
    def conv(makes: int, k: int, stride: int, reads: int = 16) -> list[Layer]:
        return [Conv2d(reads, makes, k, stride, rng=rng), ReLU()]

    first = [*conv(16, 5, 2, 1), *conv(16, 1, 1), BatchNorm(16), *conv(16, 3, 1), *conv(16, 3, 2)]
    (reduce, relu), norm = conv(16, 3, 2), BatchNorm(16)
    last = [*conv(16, 3, 2), *conv(16, 1, 1), *conv(16, 3, 2), *conv(2, 3, 1)]
    return [*first, reduce, norm, relu, *last, AvgPool2d(2), Flatten()]


def _he_normal(net: Sequential, rng: np.random.Generator) -> Sequential:
    """Draw kernels from a normal distribution of variance 2 / fan_in, with biases of zero (He et al. 2015)."""
    for _, layer in net.walk():
        if isinstance(layer, Conv2d | ConvTranspose2d):
            value = layer.weight.value
            reads = value.shape[3] if isinstance(layer, ConvTranspose2d) else value.shape[2]
            value[...] = rng.normal(0, np.sqrt(2 / (value.shape[0] * value.shape[1] * reads)), value.shape)
            if layer.bias is not None:
                layer.bias.value[...] = 0
    return net
