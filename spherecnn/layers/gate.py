"""The gate of gated convolutions as a layer of its own, for any method's convolution."""

from __future__ import annotations

from spherecnn.errors import InputError, check_array, check_choice
from spherecnn.kernels.gate import ACTIVATIONS, gate, gate_grad
from spherecnn.layers.base import Array, Backward, Layer, Shape, contiguous


class Gate(Layer):
    r"""Features, the first half of the channels, times the sigmoid of their gates, the second half.

    .. math:: y_k = \phi(x_k)\; \sigma(x_{K+k})

    After any convolution to twice the channels it makes a gated convolution; `GatedConv2d` is that on images.

    Source: Yu et al., "Free-form image inpainting with gated convolution", ICCV 2019, eq. 3.

    Parameters
    ----------
    activation : {"elu", "relu", "leaky_relu", "tanh", "none"}
        phi. Slope 0.01 below zero for "leaky_relu".

    Raises
    ------
    InputError
        If the number of channels is odd or the activation unknown.

    Examples
    --------
    >>> import numpy as np
    >>> Gate("relu")(np.array([[3.0, 0.0]]))
    array([[1.5]])
    """

    def __init__(self, activation: str = "elu"):
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        self.activation = activation

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        check_array("the input", x, "..., C")
        shape = self.out_shape(x.shape)
        z = contiguous(x).reshape(-1, x.shape[-1])
        y = gate(z, self.activation)

        def backward(dy: Array) -> Array:
            return gate_grad(contiguous(dy).reshape(y.shape), z, self.activation).reshape(x.shape)

        return y.reshape(shape), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if shape[-1] % 2:
            raise InputError(
                f"the input has {shape[-1]} channels; expected an even number, features and then their gates: "
                "convolve to twice the channels first."
            )
        return (*shape[:-1], shape[-1] // 2)

    def extra_repr(self) -> str:
        return repr(self.activation)
