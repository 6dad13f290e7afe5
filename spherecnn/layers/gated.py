"""Gated convolution: a second convolution learns where the features of the first count."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.kernels.arrays import concatenate, split
from spherecnn.kernels.gate import ACTIVATIONS, gate, gate_grad
from spherecnn.layers.base import Array, Backward, Layer, Shape
from spherecnn.layers.conv import Conv2d
from spherecnn.layers.registry import generator

FORMS = ("split", "pair")


class GatedConv2d(Layer):
    r"""Convolution with a gate at every site and channel, for pictures with holes.

    .. math:: y = \phi(W_f * x + b_f) \odot \sigma(W_g * x + b_g)

    It is computed as one convolution to twice the channels. The two published forms compute the same and differ in
    how they count and name:

    - ``form="split"``, as in the released code: one convolution, `conv`, whose outputs are split. Its `cnum` counts
      both halves, so cnum=48 there is ``out_channels=24`` here.
    - ``form="pair"``, as in the paper: two convolutions, `feature` and `gate`, with weights of their own names.

    `feature_and_gate` and `load_feature_and_gate` carry weights from one form to the other.

    Source: Yu et al., "Free-form image inpainting with gated convolution", ICCV 2019, eq. 3.

    Parameters
    ----------
    in_channels : int
    out_channels : int
        Channels after gating, in both forms.
    kernel_size, stride, padding, dilation, groups, bias, padding_mode
        As in `Conv2d`. With groups, both convolutions are grouped.
    activation : {"elu", "relu", "leaky_relu", "tanh", "none"}
        phi. Slope 0.01 below zero for "leaky_relu".
    form : {"split", "pair"}
    rng : numpy.random.Generator or int, keyword only

    Attributes
    ----------
    conv : Conv2d to 2 out_channels
        With "split". In each group the features stand first, then their gates.
    feature, gate : Conv2d to out_channels
        With "pair".

    Raises
    ------
    InputError
        If channels, sizes or options do not fit.

    Examples
    --------
    An open gate (sigmoid(30) = 1) and a closed one.

    >>> layer = GatedConv2d(1, 2, 1, activation="none")
    >>> layer.conv.weight.value[:] = [1, 1, 0, 0]
    >>> layer.conv.bias.value[:] = [0, 0, 30, -30]
    >>> layer(np.full((1, 1, 1, 1), 5, np.float32)).round(3).ravel()
    array([5., 0.], dtype=float32)
    """

    _joint: Conv2d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = "same",
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        activation: str = "elu",
        form: str = "split",
        *,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("form", form, FORMS)
        self.in_channels, self.out_channels = in_channels, check_at_least("out_channels", out_channels, 1)
        self.groups, self.activation, self.form = check_at_least("groups", groups, 1), activation, form
        options, rng = (kernel_size, stride, padding, dilation, groups, bias, padding_mode), generator(rng)
        if out_channels % groups:
            raise InputError(
                f"groups is {groups} for {out_channels} output channels; expected a divisor: change one of them."
            )
        joint = Conv2d(in_channels, 2 * out_channels, *options, rng=rng)
        if form == "split":
            self.conv = joint
            return
        self.feature, self.gate = (Conv2d(in_channels, out_channels, *options, rng=rng) for _ in range(2))
        object.__setattr__(self, "_joint", joint)  # no child: it has no parameters of its own

    def feature_and_gate(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return copies of the arrays ("weight" and, if any, "bias") of both convolutions."""
        if self.form == "pair":
            first, second = ({k: p.value.copy() for k, p in part.params.items()} for part in (self.feature, self.gate))
            return first, second
        parts = {name: self._parted(p.value) for name, p in self.conv.params.items()}
        return {k: v[0] for k, v in parts.items()}, {k: v[1] for k, v in parts.items()}

    def load_feature_and_gate(self, feature: dict[str, Array], gate: dict[str, Array]) -> None:
        """Take over the arrays of both convolutions, as `feature_and_gate` gives them.

        Raises
        ------
        InputError
            If a name or a shape differs.
        """
        own = self.feature_and_gate()
        for what, arrays, expected in zip(("feature", "gate"), (feature, gate), own, strict=True):
            shapes = [{name: array.shape for name, array in found.items()} for found in (arrays, expected)]
            if shapes[0] != shapes[1]:
                raise InputError(
                    f"the {what} convolution has arrays {shapes[0]}; expected {shapes[1]}: "
                    "build the layer with the channels and kernel of these weights."
                )
        if self.form == "pair":
            self.feature.load_state(feature)
            self.gate.load_state(gate)
        else:
            self.conv.load_state({name: self._joined(feature[name], gate[name]) for name in feature})

    def _joined(self, feature: Array, gate: Array) -> Array:
        """Put features and gates (..., K) side by side within each group."""
        shape = (*feature.shape[:-1], self.groups, -1)
        both = concatenate([feature.reshape(shape), gate.reshape(shape)], -1)
        return both.reshape(*feature.shape[:-1], 2 * self.out_channels)

    def _parted(self, joint: Array) -> tuple[Array, Array]:
        each = self.out_channels // self.groups
        halves = split(joint.reshape(*joint.shape[:-1], self.groups, 2 * each), (each, each), -1)
        first, second = (half.reshape(*joint.shape[:-1], self.out_channels) for half in halves)
        return first, second

    def _convolution(self) -> Conv2d:
        """The convolution to both halves; for "pair" made of the two now."""
        if self.form == "split":
            return self.conv
        joint = self._joint
        joint.exact = self.feature.exact
        for name, param in joint.params.items():
            param.value = self._joined(self.feature.params[name].value, self.gate.params[name].value)
            param.zero_grad()
        return joint

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        conv = self._convolution()
        z, conv_backward = conv.forward(x, train=train)
        by_group = (-1, 2 * self.out_channels // self.groups)
        y = gate(z.reshape(by_group), self.activation)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dz = gate_grad(dy.reshape(y.shape), z.reshape(by_group), self.activation)
            dx = conv_backward(dz.reshape(z.shape), inputs)
            if self.form == "pair":
                self._hand_down(conv)
            return dx

        return y.reshape(*z.shape[:-1], self.out_channels), backward

    def _hand_down(self, joint: Conv2d) -> None:
        """Move the gradients of the joint convolution to the two."""
        for name, param in joint.params.items():
            for part, grad in zip((self.feature, self.gate), self._parted(param.grad), strict=True):
                part.params[name].add_grad(grad)
            param.zero_grad()

    def extra_repr(self) -> str:
        return f"activation={self.activation!r}, form={self.form!r}"

    def out_shape(self, *shapes: Shape) -> Shape:
        first = self.conv if self.form == "split" else self.feature
        return (*first.out_shape(*shapes)[:-1], self.out_channels)
