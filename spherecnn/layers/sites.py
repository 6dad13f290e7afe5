"""What all convolutions share once a stencil says which sites they read: the channel mix and its gradients."""

from __future__ import annotations

from spherecnn.errors import InputError
from spherecnn.kernels.convolve import KeptWeights, convolve, convolve_dw, convolve_dx
from spherecnn.kernels.pointwise import relu_grad
from spherecnn.layers.base import Array, Backward, Param
from spherecnn.stencils import Stencil


def check_groups(in_channels: int, out_channels: int, groups: int) -> None:
    """Refuse a number of groups that does not divide both numbers of channels."""
    if in_channels % groups or out_channels % groups:
        raise InputError(
            f"groups is {groups} for {in_channels} input and {out_channels} output channels; "
            "expected a divisor of both: change groups or the channels."
        )


def mix_sites(
    x: Array,
    weight: Param,
    bias: Param | None,
    stencil: Stencil,
    groups: int = 1,
    exact: bool = False,
    kept: KeptWeights | None = None,
    rectified: bool = False,
) -> tuple[Array, Backward]:
    """Convolve sites (N, P, C) on a stencil, see `kernels.convolve.convolve`; with `rectified`, ReLU of that.

    ``backward(dy, inputs)`` adds to the gradients of the parameters and returns dx, or None without `inputs`.
    """
    w = weight.value.reshape(stencil.taps, -1, weight.value.shape[-1])
    y = convolve(x, w, None if bias is None else bias.value, stencil, groups, exact, kept, rectified)

    def backward(dy: Array, inputs: bool) -> Array | None:
        if rectified:
            dy = relu_grad(dy, y)
        dw, db = convolve_dw(x, dy, stencil, w, groups, exact)
        weight.add_grad(dw)
        if bias is not None:
            bias.add_grad(db)
        return convolve_dx(dy, w, stencil, groups, exact) if inputs else None

    return y, backward
