"""Batch, group, instance and layer normalisation, channels last, any rank."""

from __future__ import annotations

import math

import numpy as np

from spherecnn.errors import InputError, check_array, check_at_least, check_channels
from spherecnn.kernels import norm
from spherecnn.kernels.arrays import move_towards, precise
from spherecnn.layers.base import Array, Backward, Layer, Param, Shape


class BatchNorm(Layer):
    r"""Normalise each channel over all other axes:

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}}\,w + b

    Training takes mean and (biased) variance of the batch, and moves the running mean and (unbiased) variance
    towards them; inference takes the running ones, or those of its batch without ``track_running_stats``.

    Source: Ioffe and Szegedy, "Batch normalization", ICML 2015, algorithms 1 and 2.

    Parameters
    ----------
    num_features : int
        Channels, the size of the last axis.
    eps : float
        Added to the variance.
    momentum : float
        Share of the batch in the new running statistics.
    affine : bool
        True for a weight and a bias (C,) that are trained; they start at 1 and 0.
    track_running_stats : bool
        True to keep ``buffers["running_mean"]`` and ``buffers["running_var"]``.

    Raises
    ------
    InputError
        If rank, channels or dtype of an input do not fit, or a training batch has one value per channel.

    Examples
    --------
    >>> layer = BatchNorm(1).astype("float64")
    >>> y, backward = layer.forward(np.array([[1.0], [3.0]]), train=True)
    >>> y.round(4).tolist(), layer.buffers["running_mean"], layer.buffers["running_var"]
    ([[-1.0], [1.0]], array([0.2]), array([1.1]))
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        super().__init__()
        self.num_features = check_at_least("num_features", num_features, 1)
        self.eps, self.momentum = float(eps), float(momentum)
        self.affine, self.track_running_stats = bool(affine), bool(track_running_stats)
        if affine:
            self.weight = Param(np.ones(num_features, np.float32))
            self.bias = Param(np.zeros(num_features, np.float32))
        if track_running_stats:
            self.buffers["running_mean"] = np.zeros(num_features, np.float32)
            self.buffers["running_var"] = np.ones(num_features, np.float32)

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        own = self.weight.value if self.affine else self.buffers.get("running_mean")
        check_array("the input", x, "..., N, C", None if own is None else own.dtype)
        check_channels("the input", x.shape[-1], self.num_features)
        weight, bias = (self.weight.value, self.bias.value) if self.affine else (None, None)
        of_batch = train or not self.track_running_stats
        if train and x.size < 2 * self.num_features:
            raise InputError(
                f"the input has shape {x.shape}, fewer than 2 values per channel; expected 2 or more "
                "to train BatchNorm: use a larger batch."
            )
        mean, var = norm.batch_moments(x) if of_batch else self._running()
        if train and self.track_running_stats:
            self._track(mean, var, x.size // self.num_features)
        y = norm.batch_norm(x, mean, var, weight, bias, self.eps)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dx, dweight, dbias = norm.batch_norm_grad(dy, x, mean, var, weight, self.eps, of_batch, inputs)
            if self.affine:
                self.weight.add_grad(dweight)
                self.bias.add_grad(dbias)
            return dx

        return y, backward

    def _running(self) -> tuple[Array, Array]:
        return precise(self.buffers["running_mean"]), precise(self.buffers["running_var"])

    def _track(self, mean: Array, var: Array, count: int) -> None:
        move_towards(self.buffers["running_mean"], mean, self.momentum, 1.0)
        move_towards(self.buffers["running_var"], var, self.momentum, count / (count - 1))

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        check_channels("the input", shape[-1], self.num_features)
        return tuple(shape)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"


class GroupNorm(Layer):
    r"""Normalise groups of channels of each sample over its sites:

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}}\,w + b

    Mean and (biased) variance are those of one group of channels of one sample, over all its sites, in training and
    inference alike: nothing depends on the batch.

    Source: Wu and He, "Group normalization", ECCV 2018, eq. 1 to 7.

    Parameters
    ----------
    num_groups : int
        Groups of neighbouring channels.
    num_channels : int
        Channels, the size of the last axis; a multiple of `num_groups`.
    eps : float
        Added to the variance.
    affine : bool
        True for a weight and a bias (C,) that are trained; they start at 1 and 0.

    Raises
    ------
    InputError
        If channels do not divide into groups, or rank, channels or dtype of an input do not fit.

    Examples
    --------
    >>> x = np.array([1.0, 3.0, 10.0, 30.0]).reshape(1, 1, 4)
    >>> GroupNorm(2, 4).astype("float64")(x).round(4).ravel()
    array([-1.,  1., -1.,  1.])
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        self.num_groups = check_at_least("num_groups", num_groups, 1)
        self.num_channels = check_at_least("num_channels", num_channels, 1)
        if num_channels % num_groups:
            raise InputError(
                f"num_groups is {num_groups} for {num_channels} channels; expected a divisor: change one of them."
            )
        self.eps, self.affine = float(eps), bool(affine)
        if affine:
            self.weight = Param(np.ones(num_channels, np.float32))
            self.bias = Param(np.zeros(num_channels, np.float32))

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "..., N, P, C", self.dtype)
        self.out_shape(x.shape)
        sites = x.reshape(len(x), -1, self.num_channels)
        weight, bias = (self.weight.value, self.bias.value) if self.affine else (None, None)
        mean, var = norm.group_moments(sites, self.num_groups)
        y = norm.group_norm(sites, mean, var, weight, bias, self.eps)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dx, dweight, dbias = norm.group_norm_grad(
                dy.reshape(sites.shape), sites, mean, var, weight, self.eps, inputs
            )
            if self.affine:
                self.weight.add_grad(dweight)
                self.bias.add_grad(dbias)
            return None if dx is None else dx.reshape(x.shape)

        return y.reshape(x.shape), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        check_channels("the input", shape[-1], self.num_channels)
        return tuple(shape)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class InstanceNorm(GroupNorm):
    """Normalise each channel of each sample over its sites: `GroupNorm` with one channel a group.

    Source: Ulyanov, Vedaldi and Lempitsky, "Instance normalization", 2016.

    Parameters
    ----------
    num_features : int
        Channels, the size of the last axis.
    eps : float
        Added to the variance.
    affine : bool
        True for a weight and a bias (C,) that are trained; they start at 1 and 0.

    Raises
    ------
    InputError
        If rank, channels or dtype of an input do not fit, or a sample has one site only.

    Examples
    --------
    >>> InstanceNorm(1)(np.array([1.0, 3.0]).reshape(1, 2, 1)).round(4).ravel()
    array([-1.,  1.])
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = False):
        super().__init__(check_at_least("num_features", num_features, 1), num_features, eps, affine)

    def out_shape(self, *shapes: Shape) -> Shape:
        shape = super().out_shape(*shapes)
        if math.prod(shape[1:-1]) < 2:
            raise InputError(
                f"the input has shape {shape}, one site per sample; expected 2 or more for InstanceNorm, which would "
                "make it zero: use a larger image or another normalisation."
            )
        return shape

    def extra_repr(self) -> str:
        return f"{self.num_channels}, eps={self.eps}, affine={self.affine}"


class LayerNorm(Layer):
    r"""Normalise each sample, or each site, over its last axes:

    .. math:: y = \frac{x - \mathrm{E}[x]}{\sqrt{\mathrm{Var}[x] + \epsilon}}\,w + b

    Source: Ba, Kiros and Hinton, "Layer normalization", 2016, eq. 4.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        Sizes of the last axes that are normalised together; ``C`` alone normalises the channels of each site.
    eps : float
        Added to the variance.
    elementwise_affine : bool
        True for a weight and a bias of this shape that are trained; they start at 1 and 0.

    Raises
    ------
    InputError
        If the last axes or the dtype of an input do not fit.

    Examples
    --------
    >>> LayerNorm(2).astype("float64")(np.array([[1.0, 3.0]])).round(4)
    array([[-1.,  1.]])
    """

    def __init__(self, normalized_shape: int | tuple[int, ...], eps: float = 1e-5, elementwise_affine: bool = True):
        super().__init__()
        sizes = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
        if not sizes:
            raise InputError("normalized_shape is empty; expected one size or more: name the last axes.")
        self.normalized_shape = tuple(check_at_least("normalized_shape", size, 1) for size in sizes)
        self.eps, self.elementwise_affine = float(eps), bool(elementwise_affine)
        if elementwise_affine:
            self.weight = Param(np.ones(self.normalized_shape, np.float32))
            self.bias = Param(np.zeros(self.normalized_shape, np.float32))

    def forward(self, x: Array, *, train: bool) -> tuple[Array, Backward]:
        check_array("the input", x, "..., C", self.dtype)
        self.out_shape(x.shape)
        rows = x.reshape(-1, math.prod(self.normalized_shape))
        affine = self.elementwise_affine
        weight, bias = (self.weight.value.ravel(), self.bias.value.ravel()) if affine else (None, None)
        y, mean, rstd = norm.layer_norm(rows, weight, bias, self.eps)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dx, dweight, dbias = norm.layer_norm_grad(dy.reshape(rows.shape), rows, mean, rstd, weight)
            if affine:
                self.weight.add_grad(dweight)
                self.bias.add_grad(dbias)
            return dx.reshape(x.shape) if inputs else None

        return y.reshape(x.shape), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if tuple(shape[-len(self.normalized_shape) :]) != self.normalized_shape:
            raise InputError(
                f"the input has shape {tuple(shape)}; expected last axes {self.normalized_shape}: "
                "build the layer for this input."
            )
        return tuple(shape)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
