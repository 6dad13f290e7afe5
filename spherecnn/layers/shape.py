"""Layers that only move or repeat axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from spherecnn.errors import InputError, check_array, check_at_least
from spherecnn.kernels.spmm import spmm
from spherecnn.layers.base import Array, Backward, Layer, Shape, contiguous


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


class Unflatten(Layer):
    """Split one axis into several: (N, H W C) to (N, H, W, C). Arguments as in PyTorch.

    Parameters
    ----------
    dim : int
        The axis, not that of the batch; negative ones count from the last.
    unflattened_size : tuple of int
        Sizes of the new axes, whose product is the size of the old one.

    Raises
    ------
    InputError
        If the sizes do not multiply to that of the axis.

    Examples
    --------
    >>> Unflatten(1, (4, 5, 3))(np.zeros((2, 60))).shape
    (2, 4, 5, 3)
    """

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]):
        super().__init__()
        if dim == 0:
            raise InputError("dim is 0, the batch; expected another axis: choose 1 or more, or a negative one.")
        self.dim = dim
        self.unflattened_size = tuple(check_at_least("a size", size, 1) for size in unflattened_size)

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "..., N, C")
        y = x.reshape(self.out_shape(x.shape))

        def backward(dy: Array) -> Array:
            return dy.reshape(x.shape)

        return y, backward

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        axis = self.dim + len(shape) if self.dim < 0 else self.dim
        if not 0 < axis < len(shape) or shape[axis] != math.prod(self.unflattened_size):
            raise InputError(
                f"the input has shape {tuple(shape)}; expected {math.prod(self.unflattened_size)} in axis {self.dim}, "
                f"the product of {self.unflattened_size}: change the sizes or the axis."
            )
        return (*shape[:axis], *self.unflattened_size, *shape[axis + 1 :])

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.unflattened_size}"


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
        y = spmm(self._column, contiguous(x).reshape(len(x), 1, -1))

        def backward(dy: Array) -> Array:
            return spmm(self._row, contiguous(dy).reshape(y.shape)).reshape(x.shape)

        return y.reshape(self.out_shape(x.shape)), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        return (shape[0], *self.shape, shape[-1])

    def extra_repr(self) -> str:
        return str(self.shape)
