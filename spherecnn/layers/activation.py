"""Activation functions, softmax and dropout. All keep the shape of their input."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError, check_array, check_choice
from spherecnn.kernels import pointwise
from spherecnn.kernels.arrays import keep_mask
from spherecnn.layers.base import Array, Backward, Layer, Shape
from spherecnn.layers.registry import generator


class _SameShape(Layer):
    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        return tuple(shape)


class ReLU(_SameShape):
    r"""Rectified linear unit: :math:`y = \max(x, 0)`; NaN stays NaN.

    Examples
    --------
    >>> ReLU()(np.array([-1.0, 2.0]))
    array([0., 2.])
    """

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "...")
        y = pointwise.relu(x)

        def backward(dy: Array) -> Array:
            return pointwise.relu_grad(dy, y)

        return y, backward


class LeakyReLU(_SameShape):
    r"""Rectifier with a slope below zero: :math:`y = x` for :math:`x > 0`, else :math:`a x`.

    Source: Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.

    Parameters
    ----------
    negative_slope : float
        The slope a.

    Examples
    --------
    >>> LeakyReLU(0.1)(np.array([-1.0, 2.0]))
    array([-0.1,  2. ])
    """

    def __init__(self, negative_slope: float = 0.01):
        super().__init__()
        self.negative_slope = float(negative_slope)

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "...")
        y = pointwise.leaky_relu(x, self.negative_slope)

        def backward(dy: Array) -> Array:
            return pointwise.leaky_relu_grad(dy, x, self.negative_slope)

        return y, backward

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(_SameShape):
    r"""Exponential linear unit: :math:`y = x` for :math:`x > 0`, else :math:`\alpha (e^x - 1)`.

    Source: Clevert, Unterthiner and Hochreiter, ICLR 2016, eq. 15.

    Parameters
    ----------
    alpha : float
        The distance of the lower bound from zero.

    Examples
    --------
    >>> ELU()(np.array([-1.0, 2.0])).round(4)
    array([-0.6321,  2.    ])
    """

    def __init__(self, alpha: float = 1.0):
        super().__init__()
        self.alpha = float(alpha)

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "...")
        y = pointwise.elu(x, self.alpha)

        def backward(dy: Array) -> Array:
            return pointwise.elu_grad(dy, x, self.alpha)

        return y, backward

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class GELU(_SameShape):
    r"""Gaussian error linear unit: :math:`y = x\,\Phi(x)`, :math:`\Phi` the normal distribution function.

    ``approximate="tanh"`` computes :math:`x/2\,(1 + \tanh(\sqrt{2/\pi}\,(x + 0.044715\,x^3)))`.

    Source: Hendrycks and Gimpel, "Gaussian error linear units", 2016, section 2.

    Parameters
    ----------
    approximate : {"none", "tanh"}

    Raises
    ------
    InputError
        If `approximate` is neither.

    Examples
    --------
    >>> GELU()(np.array([-1.0, 2.0])).round(4)
    array([-0.1587,  1.9545])
    """

    def __init__(self, approximate: str = "none"):
        super().__init__()
        check_choice("approximate", approximate, ("none", "tanh"))
        self.approximate = approximate

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "...")
        exact = self.approximate == "none"
        y = pointwise.gelu(x) if exact else pointwise.gelu_tanh(x)

        def backward(dy: Array) -> Array:
            return pointwise.gelu_grad(dy, x) if exact else pointwise.gelu_tanh_grad(dy, x)

        return y, backward

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Sigmoid(_SameShape):
    r"""Logistic function: :math:`y = 1 / (1 + e^{-x})`

    Examples
    --------
    >>> Sigmoid()(np.array([0.0, 2.0])).round(4)
    array([0.5   , 0.8808])
    """

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "...")
        y = pointwise.sigmoid(x)

        def backward(dy: Array) -> Array:
            return pointwise.sigmoid_grad(dy, y)

        return y, backward


class Tanh(_SameShape):
    r"""Hyperbolic tangent: :math:`y = \tanh x`

    Examples
    --------
    >>> Tanh()(np.array([0.0, 2.0])).round(4)
    array([0.   , 0.964])
    """

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "...")
        y = pointwise.tanh(x)

        def backward(dy: Array) -> Array:
            return pointwise.tanh_grad(dy, y)

        return y, backward


class Softmax(_SameShape):
    r"""Softmax over the channel (last) axis: :math:`y_k = e^{x_k} / \sum_j e^{x_j}`

    Examples
    --------
    >>> Softmax()(np.array([[0.0, np.log(3.0)]]))
    array([[0.25, 0.75]])
    """

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "..., C")
        y = pointwise.softmax(x)

        def backward(dy: Array) -> Array:
            return pointwise.softmax_grad(dy, y)

        return y, backward


class Dropout(_SameShape):
    r"""Zero each element with probability p when training, and scale the others by :math:`1 / (1 - p)`.

    Source: Srivastava et al., "Dropout", JMLR 2014.

    Parameters
    ----------
    p : float
        Probability of zero, from 0 to 1.
    rng : numpy.random.Generator, int or None
        Source of the masks; kept as ``layer.rng``, whose ``bit_generator.state`` a checkpoint saves.

    Raises
    ------
    InputError
        If p is not a probability.

    Examples
    --------
    >>> layer = Dropout(0.5, rng=0)
    >>> y, backward = layer.forward(np.ones((1, 6)), train=True)
    >>> y, layer(np.ones((1, 3)))
    (array([[2., 2., 2., 0., 0., 0.]]), array([[1., 1., 1.]]))
    """

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | int | None = None):
        super().__init__()
        if not 0 <= p <= 1:
            raise InputError(f"p is {p!r}; expected a probability from 0 to 1: change it.")
        self.p = float(p)
        self.rng = generator(rng)

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "...")
        if not train or self.p == 0:
            return x, lambda dy: dy
        keep = keep_mask(x.shape, self.p, self.rng, x)
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0

        def backward(dy: Array) -> Array:
            return pointwise.dropout(dy, keep, scale)

        return pointwise.dropout(x, keep, scale), backward

    def extra_repr(self) -> str:
        return f"p={self.p}"
