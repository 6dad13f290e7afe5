"""Convolution on the GPU: forward, data gradient and weight gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dx
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.launch import blocks_for
from spherecnn.kernels.gpu.mix import choose
from spherecnn.kernels.gpu.runs import begins_of, check_rows, mode_of, runs_of, zero_bias
from spherecnn.kernels.gpu.weights import packed_weights
from spherecnn.kernels.precision import get_precision


@gather_gemm.on("cuda")
def _gather_gemm(x: Any, w: Any, b: Any, stencil: Any, groups: int = 1, rectified: bool = False) -> Any:
    return mix(x, w, b, stencil, groups, adjoint=False, rectified=rectified)


@gather_gemm_dx.on("cuda")
def _gather_gemm_dx(dy: Any, w: Any, stencil: Any, groups: int = 1) -> Any:
    return mix(dy, w, None, stencil.transposed, groups, adjoint=True)


def mix(x: Any, w: Any, b: Any, stencil: Any, groups: int, adjoint: bool, rectified: bool = False) -> DeviceArray:
    """Gather and mix; with `rectified`, outputs that are not above 0 become 0."""
    samples, sites_in, channels = x.shape
    reads = channels // groups
    makes = w.shape[1] if adjoint else w.shape[2] // groups
    outputs = makes * groups
    stencil.check_size(max(channels, outputs))
    y = empty((samples, stencil.sites_out, outputs), np.float32)
    if y.size == 0:
        return y
    check_rows(samples, max(sites_in, stencil.sites_out))
    mode, precision = mode_of(stencil), get_precision()
    kernel, tables = choose(mode, reads, makes, precision), runs_of(stencil)
    packed = packed_weights(w, groups, adjoint, mode == "together", precision)
    begins, blocks = begins_of(stencil, samples, kernel.rows)
    kernel(
        (blocks, blocks_for(makes, kernel.columns) * groups),
        *(x, packed, zero_bias(outputs) if b is None else b, y),
        *(tables.run, begins, tables.taps, tables.segment, tables.slot, tables.column, tables.order, tables.data),
        *(len(tables.places), tables.segments, samples, sites_in, stencil.sites_out, channels),
        *(reads, makes, outputs, packed.shape[1], int(b is not None and stencil.biases > 1), int(rectified)),
        shared=kernel.shared,
    )
    return y
