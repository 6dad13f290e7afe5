"""The layers between a network's input and one of its layers, and what an output of that layer sees."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from spherecnn.errors import InputError
from spherecnn.layers import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm,
    CircularConv2d,
    Composite,
    Conv2d,
    Dropout,
    Gate,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)
from spherecnn.layers.base import Shape
from spherecnn.layers.conv import Pair, Window

CONVOLUTIONS = (Conv2d, CircularConv2d)
_POOLS = (MaxPool2d, AvgPool2d)
_POINTWISE = (BatchNorm, Dropout, ELU, GELU, Gate, LayerNorm, LeakyReLU, Linear, ReLU, Sigmoid, Softmax, Tanh)
_NO_PADDING = ((0, 0), (0, 0))


@dataclass(frozen=True)
class Chain:
    r"""Layers one after another, each of which sees a window of its input.

    Output (p, q) of the last one sees the input pixels :math:`s p + a,\ \dots,\ s p + a + e - 1`, on both axes.

    Attributes
    ----------
    names : tuple of str
        Full names of the layers.
    layers : tuple of Layer
    extent, stride, start : (rows, columns)
        Of the receptive field, in input pixels: e, s and a.
    """

    names: tuple[str, ...]
    layers: tuple[Layer, ...]
    extent: Pair
    stride: Pair
    start: Pair

    def valid(self) -> Sequential:
        """The same layers, sharing their weights, without padding: from a receptive field to one output."""
        return Sequential(*(_unpadded(layer) for layer in self.layers))

    def out_shape(self, shape: Shape) -> Shape:
        """The shape of the last layer's output for an input of this shape."""
        for layer in self.layers:
            shape = _first(layer.out_shape(shape))
        return shape


@dataclass(frozen=True)
class _Value:
    """What a network computes on the way: the layers behind it, or why they are no chain."""

    layers: tuple[tuple[str, Layer], ...] = ()
    broken: str = ""


class _Found(Exception):
    def __init__(self, value: _Value):
        self.value = value


class _Walk:
    """A recorder for `Composite.trace` that computes nothing and keeps the layers behind each value."""

    def __init__(self, model: Layer, wanted: Layer | None = None):
        self.names = {id(layer): name for name, layer in model.walk()}
        self.wanted = wanted
        self.seen: list[tuple[str, Layer, _Value]] = []

    def __call__(self, layer: Layer, *xs: _Value) -> Any:
        y = layer.trace(self, *xs) if isinstance(layer, Composite) else self._leaf(layer, xs)
        if layer is self.wanted:
            raise _Found(_first(y))
        return y

    def _leaf(self, layer: Layer, xs: tuple[_Value, ...]) -> Any:
        name = self.names.get(id(layer), "")
        kind = type(layer).__name__
        told = f"{name} ({kind})" if name else f"a layer {kind}"
        broken = next((x.broken for x in xs if x.broken), "")
        if not broken and len(xs) > 1:
            broken = f"{told} joins {len(xs)} inputs"
        if not broken and not local(layer):
            broken = f"{told} sees more than a window, or where it is"
        y = _Value(broken=broken) if broken else _Value((*xs[0].layers, (name, layer)))
        self.seen.append((name, layer, y))
        return (y, _Value(broken=f"{told} gives indices")) if getattr(layer, "return_indices", False) else y


def local(layer: Layer) -> bool:
    """Whether each output of a layer depends on a window of the input only, the same way everywhere."""
    if isinstance(layer, BatchNorm):
        return layer.track_running_stats
    if isinstance(layer, LayerNorm):
        return len(layer.normalized_shape) == 1
    return type(layer) in (*CONVOLUTIONS, *_POOLS, *_POINTWISE)


def chain_to(model: Layer, name: str) -> Chain:
    """Return the chain of layers from the input of a network to the layer `name`, that one included.

    Raises
    ------
    InputError
        If there is no such layer, or anything but windows and single sites lies between, such as a sum of two
        branches or a mean over the whole picture.

    Examples
    --------
    Two 3x3 convolutions with a pooling between them: 1 + 2 + 1 + 2 * 2 = 8 pixels, one output for every two.

    >>> import spherecnn as sc
    >>> net = sc.models.classifier("planar", 1, 10, sc.grids.Equirect(16))
    >>> chain = chain_to(net, "features.4")
    >>> chain.names[-2:], chain.extent, chain.stride, chain.start
    (('features.3', 'features.4'), (8, 8), (2, 2), (-3, -3))
    """
    layers = {own: layer for own, layer in model.walk() if own}
    if name not in layers:
        raise InputError(f"the layer is {name!r}; expected one of {', '.join(layers)}: choose one of them.")
    value = _walk(model, layers[name])
    if value.broken:
        raise InputError(
            f"the layer {name!r} cannot be computed patch by patch: {value.broken}; expected convolutions, "
            "poolings, normalisations and activations one after another before it: choose an earlier layer."
        )
    return _chain(value.layers)


def convolutions(model: Layer) -> list[str]:
    """Names of the convolutions of a network in the order in which it calls them.

    Examples
    --------
    >>> import spherecnn as sc
    >>> convolutions(sc.models.classifier("planar", 1, 10, sc.grids.Equirect(16)))
    ['features.0', 'features.4', 'features.7', 'features.11', 'features.14']
    """
    walk = _Walk(model)
    walk(model, _Value())
    return [name for name, layer, _ in walk.seen if type(layer) in CONVOLUTIONS]


def _walk(model: Layer, wanted: Layer) -> _Value:
    try:
        _Walk(model, wanted)(model, _Value())
    except _Found as found:
        return found.value
    return _Value(broken="the network never calls it")


def _chain(found: tuple[tuple[str, Layer], ...]) -> Chain:
    extent, stride, start = [1, 1], [1, 1], [0, 0]
    for _, layer in found:
        if not isinstance(layer, Window):
            continue
        for i in range(2):
            start[i] -= layer.padding[i][0] * stride[i]
            extent[i] += (layer.kernel_size[i] - 1) * layer.dilation[i] * stride[i]
            stride[i] *= layer.stride[i]
    names, layers = zip(*found, strict=True) if found else ((), ())
    return Chain(names, layers, (extent[0], extent[1]), (stride[0], stride[1]), (start[0], start[1]))


def _unpadded(layer: Layer) -> Layer:
    if not isinstance(layer, Window):
        return layer
    own = copy.copy(layer)
    own.padding, own.padding_mode = _NO_PADDING, "zeros"
    if isinstance(own, MaxPool2d):
        own.ceil_mode = own.return_indices = False
    return own


def _first(values: Any) -> Any:
    """The first of several outputs; shapes are tuples of numbers, not several."""
    several = isinstance(values, tuple) and bool(values) and not isinstance(values[0], int)
    return values[0] if several else values
