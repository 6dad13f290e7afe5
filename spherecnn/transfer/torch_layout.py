"""PyTorch's arrays in the layout of ours: channels last, and linear layers behind a Flatten in its order."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.layers import (
    ELU,
    GELU,
    BatchNorm,
    Composite,
    Conv2d,
    Conv3d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    Linear,
    ReLU,
    Sigmoid,
    Tanh,
)
from spherecnn.layers.base import Array, Shape

_ELEMENTWISE = (BatchNorm, Dropout, ELU, GELU, LeakyReLU, ReLU, Sigmoid, Tanh)
# What a Flatten joined and other layers then mixed up.
_MIXED: Shape = ()


def ours_of(layer: Layer, name: str, value: Array, flattened: Shape | None = None) -> Array:
    """Return an array of a torch layer as our layer keeps it.

    - Convolutions: (out, in / groups, kh, kw) to (kh, kw, in / groups, out), and as much in three dimensions.
    - Transposed convolutions: (in, out / groups, kh, kw) to (kh, kw, in / groups, out).
    - Linear layers: (out, in) to (in, out). Behind a Flatten torch counts the inputs as C, H, W and we as H, W, C.
    - Everything else, biases and statistics, stays.

    Parameters
    ----------
    layer : Layer
        Ours.
    name : str
        Of the array in the layer, "weight" for example.
    value : ndarray
        Torch's.
    flattened : tuple of int, optional
        Shape (H, W, C) that a Flatten before the layer joined.

    Examples
    --------
    >>> import spherecnn as sc
    >>> ours_of(sc.layers.Conv2d(3, 8, 5), "weight", np.zeros((8, 3, 5, 5))).shape
    (5, 5, 3, 8)
    """
    if name == "weight" and isinstance(layer, ConvTranspose2d) and value.ndim == 4:
        parts = np.split(value, layer.groups) if len(value) % layer.groups == 0 else [value]
        return np.concatenate([part.transpose(2, 3, 0, 1) for part in parts], axis=3)
    if name == "weight" and isinstance(layer, (Conv2d, Conv3d)) and value.ndim >= 4:
        return np.moveaxis(value, (0, 1), (-1, -2))
    if name == "weight" and isinstance(layer, Linear) and value.ndim == 2:
        value = value.T
        return value if flattened is None else _reordered(value, flattened)
    if flattened is not None and value.ndim == 1 and not isinstance(layer, Linear):
        return _reordered(value, flattened)
    return value


def flattened_inputs(model: Layer, input_shape: Shape | None) -> dict[int, Shape]:
    """Return, by id, the layers whose inputs a Flatten joined, with the shape (H, W, C) before it.

    Raises
    ------
    InputError
        If the network has a Flatten and its input shape is not known, or other layers mix what it joined.
    """
    if not any(isinstance(layer, Flatten) for _, layer in model.walk()):
        return {}
    grid, config = getattr(model, "grid", None), getattr(model, "config", {})
    if input_shape is None and grid is not None and "in_channels" in config:
        input_shape = (1, *grid.shape, config["in_channels"])
    if input_shape is None:
        raise InputError(
            "the network has a Flatten, whose order differs from torch's by the size of what it joins; expected its "
            "input shape: pass input_shape=(1, H, W, C)."
        )
    walk = _Shapes()
    walk(model, (tuple(input_shape), None))
    return walk.found


class _Shapes:
    """A recorder for `Composite.trace` that carries (shape, what a Flatten joined) from layer to layer."""

    def __init__(self) -> None:
        self.found: dict[int, Shape] = {}

    def __call__(self, layer: Any, *xs: tuple[Shape, Shape | None]) -> Any:
        if isinstance(layer, Composite):
            return layer.trace(self, *xs)
        shapes = layer.out_shape(*(shape for shape, _ in xs))
        if isinstance(shapes[0], tuple):
            return tuple((shape, None) for shape in shapes)
        return shapes, self._joined(layer, *xs)

    def _joined(self, layer: Layer, *xs: tuple[Shape, Shape | None]) -> Shape | None:
        shape, joined = xs[0]
        if isinstance(layer, Flatten):
            return shape[1:] if len(shape) > 2 else joined
        if all(j is None for _, j in xs):
            return None
        if not joined or len(xs) > 1 or not isinstance(layer, (*_ELEMENTWISE, Linear)):
            if isinstance(layer, Linear):
                raise InputError(
                    "a linear layer reads what a Flatten joined and other layers changed since, so torch's order of "
                    "its inputs is not known; expected the linear layer right behind it: permute its weights yourself."
                )
            return _MIXED
        self.found[id(layer)] = joined
        return None if isinstance(layer, Linear) else joined


def takes(layer: Layer) -> bool:
    """Whether weights of torch go into this layer."""
    return bool(layer.params or layer.buffers)


def _reordered(value: Array, shape: Shape) -> Array:
    """The first axis from the order C, H, W to H, W, C."""
    if len(value) != np.prod(shape):
        return value
    return np.moveaxis(value.reshape(shape[-1], *shape[:-1], *value.shape[1:]), 0, len(shape) - 1).reshape(value.shape)
