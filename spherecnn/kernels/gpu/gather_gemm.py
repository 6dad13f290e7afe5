"""Convolution on the GPU: forward, data gradient and weight gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dx
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.launch import GpuKernel, blocks_for
from spherecnn.kernels.gpu.mix import choose
from spherecnn.kernels.gpu.runs import begins_of, check_rows, mode_of, runs_of, zero_bias
from spherecnn.kernels.gpu.tables import kept
from spherecnn.kernels.gpu.weights import packed_weights, row_size
from spherecnn.kernels.precision import get_precision

FLOAT32 = np.dtype(np.float32)


@gather_gemm.on("cuda")
def _gather_gemm(x: Any, w: Any, b: Any, stencil: Any, groups: int = 1, rectified: bool = False) -> Any:
    return mix(x, w, b, stencil, groups, adjoint=False, rectified=rectified)


@gather_gemm_dx.on("cuda")
def _gather_gemm_dx(dy: Any, w: Any, stencil: Any, groups: int = 1) -> Any:
    return mix(dy, w, None, stencil.transposed, groups, adjoint=True)


class Plan(NamedTuple):
    """Everything about a launch but its arrays."""

    kernel: GpuKernel
    grid: tuple[int, ...]
    tables: tuple[DeviceArray, ...]
    sizes: tuple[int, ...]
    blocked: bool
    outputs: int


def mix(x: Any, w: Any, b: Any, stencil: Any, groups: int, adjoint: bool, rectified: bool = False) -> DeviceArray:
    """Gather and mix; with `rectified`, outputs that are not above 0 become 0."""
    shape, precision = (x.shape, w.shape, groups, adjoint), get_precision()
    plan = kept(stencil, (shape, precision), lambda: _plan(stencil, *shape, precision))
    packed = packed_weights(w, groups, adjoint, plan.blocked, precision)
    y = empty((len(x), stencil.sites_out, plan.outputs), FLOAT32)
    plan.kernel(
        plan.grid,
        *(x, packed, zero_bias(plan.outputs) if b is None else b, y),
        *plan.tables,
        *plan.sizes,
        int(b is not None and stencil.biases > 1),
        int(rectified),
        shared=plan.kernel.shared,
    )
    return y


def _plan(stencil: Any, x: Any, w: Any, groups: int, adjoint: bool, precision: str) -> Plan:
    samples, sites_in, channels = x
    reads, makes = channels // groups, w[1] if adjoint else w[2] // groups
    outputs = makes * groups
    stencil.check_size(max(channels, outputs))
    check_rows(samples, max(sites_in, stencil.sites_out))
    mode, tables = mode_of(stencil), runs_of(stencil)
    kernel, blocked = choose(mode, reads, makes, precision), mode == "together"
    begins, blocks = begins_of(stencil, samples, kernel.rows)
    return Plan(
        kernel,
        (blocks, blocks_for(makes, kernel.columns) * groups),
        (tables.run, begins, tables.taps, tables.segment, tables.slot, tables.column, tables.order, tables.data),
        (
            *(len(tables.places), tables.segments, samples, sites_in, stencil.sites_out, channels),
            *(reads, makes, outputs, row_size(w[0], reads, blocked)),
        ),
        blocked,
        outputs,
    )
