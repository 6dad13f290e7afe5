"""The fully connected layer."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError, check_array, check_at_least, check_channels
from spherecnn.layers.base import Array, Backward, Layer, Param, Shape, contiguous
from spherecnn.layers.registry import generator
from spherecnn.layers.sites import mix_sites
from spherecnn.stencils import pointwise


class Linear(Layer):
    r"""Mix the channels of the last axis: :math:`y = x w + b`.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights, uniform in ±1/sqrt(in_features) as in PyTorch.

    Attributes
    ----------
    weight : Param (in_features, out_features)
    bias : Param (out_features,), or None

    Examples
    --------
    >>> import numpy as np
    >>> layer = Linear(2, 1)
    >>> layer.weight.value[:, 0], layer.bias.value[0] = [1, 10], 0.5
    >>> layer(np.array([[2, 3]], np.float32))
    array([[32.5]], dtype=float32)
    """

    rectifies = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__()
        self.in_features = check_at_least("in_features", in_features, 1)
        self.out_features = check_at_least("out_features", out_features, 1)
        rng, bound = generator(rng), 1 / np.sqrt(in_features)
        self.weight = Param(rng.uniform(-bound, bound, (in_features, out_features)).astype(np.float32))
        self.bias = Param(rng.uniform(-bound, bound, out_features).astype(np.float32)) if bias else None

    def forward(self, *xs: Array, train: bool, rectified: bool = False) -> tuple[Array, Backward]:
        (x,) = xs
        out_shape = self.out_shape(x.shape)
        check_array("the input", x, ", ".join(["N", *["..."] * (x.ndim - 2), "C"]), self.dtype)
        sites = contiguous(x).reshape(1, -1, self.in_features)
        y, sites_backward = mix_sites(sites, self.weight, self.bias, pointwise(sites.shape[1:2]), rectified=rectified)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dx = sites_backward(contiguous(dy).reshape(y.shape), inputs)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(out_shape), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if len(shape) < 2:
            raise InputError(
                f"the input has shape {shape}; expected (N, ..., {self.in_features}): add an axis for the batch."
            )
        check_channels("the input", shape[-1], self.in_features)
        return (*shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + (", bias=False" if self.bias is None else "")
