"""Layers that only move or repeat axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from spherecnn.errors import check_array, check_at_least
from spherecnn.kernels.spmm import spmm
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


class Broadcast(Layer):
    r"""One vector of each sample to all sites: :math:`y_{n,p,c} = x_{n,c}`, (N, C) to (N, H, W, C).

    Parameters
    ----------
    shape : sequence of int
        Spatial shape, that of a grid for example.

    Examples
    --------
    >>> Broadcast((2, 3))(np.array([[1.0, 5.0]])).shape
    (1, 2, 3, 2)
    """

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = tuple(check_at_least("an axis of shape", size, 1) for size in shape)
        self._column = scipy.sparse.csr_array(np.ones((math.prod(self.shape), 1)))
        self._row = scipy.sparse.csr_array(self._column.T)

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        check_array("the input", x, "N, C")
        y = spmm(self._column, np.ascontiguousarray(x)[:, None])

        def backward(dy: Array) -> Array:
            return spmm(self._row, np.ascontiguousarray(dy).reshape(y.shape)).reshape(x.shape)

        return y.reshape(self.out_shape(x.shape)), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        return (shape[0], *self.shape, shape[-1])

    def extra_repr(self) -> str:
        return str(self.shape)
