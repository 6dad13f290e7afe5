"""What all convolutions share once a stencil says which sites they read: the channel mix and its gradients."""

from __future__ import annotations

from spherecnn.errors import InputError
from spherecnn.kernels.depthwise import depthwise, depthwise_dw
from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dw, gather_gemm_dx
from spherecnn.layers.base import Array, Backward, Param
from spherecnn.stencils import Stencil


def check_groups(in_channels: int, out_channels: int, groups: int) -> None:
    """Refuse a number of groups that does not divide both numbers of channels."""
    if in_channels % groups or out_channels % groups:
        raise InputError(
            f"groups is {groups} for {in_channels} input and {out_channels} output channels; "
            "expected a divisor of both: change groups or the channels."
        )


def mix_sites(x: Array, weight: Param, bias: Param | None, stencil: Stencil, groups: int) -> tuple[Array, Backward]:
    """Convolve sites (N, P, C) on a stencil.

    ``backward(dy, inputs)`` adds to the gradients of the parameters and returns dx, or None without `inputs`.
    Kernels of single channels (depthwise) have tiles of their own.
    """
    out_channels = weight.value.shape[-1]
    w = weight.value.reshape(stencil.taps, -1, out_channels)
    b = None if bias is None else bias.value
    each = groups > 1 and groups == out_channels and x.shape[-1] == groups
    y = depthwise(x, w[:, 0], b, stencil) if each else gather_gemm(x, w, b, stencil, groups)

    def backward(dy: Array, inputs: bool) -> Array | None:
        dw, db = depthwise_dw(x, dy, stencil) if each else gather_gemm_dw(x, dy, stencil, groups)
        weight.add_grad(dw)
        if bias is not None:
            bias.add_grad(db)
        if not inputs:
            return None
        return depthwise(dy, w[:, 0], None, stencil.transposed) if each else gather_gemm_dx(dy, w, stencil, groups)

    return y, backward
