"""Layers that only move axes."""

from __future__ import annotations

import math

from spherecnn.errors import check_array
from spherecnn.layers.base import Array, Backward, Layer, Shape


class Flatten(Layer):
    """Join all axes but the first: (N, H, W, C) to (N, H W C).

    PyTorch's order is C H W: permute the weights of a linear layer behind it when they come from there.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "..., N")
        y = x.reshape(self.out_shape(x.shape))

        def backward(dy: Array) -> Array:
            return dy.reshape(x.shape)

        return y, backward

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        return (shape[0], math.prod(shape[1:]))
