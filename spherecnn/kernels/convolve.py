"""Convolution by the fastest of its kernels: depthwise, Winograd or direct, chosen by shape, accuracy and device."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.kernels import vector
from spherecnn.kernels.depthwise import depthwise, depthwise_dw
from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dw, gather_gemm_dx
from spherecnn.kernels.op import device_of
from spherecnn.kernels.pointwise import relu
from spherecnn.kernels.winograd import fits, same, transform_weights, winograd, winograd_dw, winograd_transformed
from spherecnn.stencils.tiles import adjoint_tiles, tiles

# Fewer channels or sites than these do not repay the transforms (benchmarks/winograd.py). The number of samples is
# not looked at, so that a sample's result does not depend on its batch.
LEAST_CHANNELS, LEAST_SITES = 16, 128
# In the weight gradient, the transforms of the sums are repaid by so many sites of the batch for each channel.
SITES_A_CHANNEL = 4
# The error of F(4x4) grows with the root of the channels: beyond these, F(2x2), whose error is a fifth.
MOST_CHANNELS = 1024
# The transforms of F(2x2) are cheaper than the number of its products says.
COARSE, FINE = 36.0, 0.82 * 16.0


class KeptWeights:
    """Transformed weights of a layer that does not learn, made anew when the weights have changed."""

    def __init__(self) -> None:
        self.source: Any = None
        self.size = 0
        self.transformed: Any = None

    def of(self, w: Any, size: int) -> Any:
        """Return `transform_weights` of w, from the last call if w and size are equal."""
        if self.source is None or self.size != size or not same(self.source, w):
            self.source, self.size, self.transformed = w.copy(), size, transform_weights(w, size)
        return self.transformed


def convolve(
    x: Any,
    w: Any,
    b: Any,
    stencil: Any,
    groups: int = 1,
    exact: bool = False,
    kept: KeptWeights | None = None,
    rectified: bool = False,
) -> Any:
    """Return `gather_gemm` of the same arguments, by the fastest kernel.

    Parameters
    ----------
    x, w, b, stencil, groups
        As in `gather_gemm`.
    exact : bool
        Never by Winograd's tiles, whose rounding depends on where an output stands in its tile.
    kept : KeptWeights, optional
        Of a layer that does not learn.
    rectified : bool
        Return the ReLU of that; one pass over memory, where the kernel can.
    """
    if device_of(x) != "cpu" and not _each_alone(w, groups, stencil):
        return gather_gemm(x, w, b, stencil, groups, rectified)
    y = _convolve(x, w, b, stencil, groups, exact, kept)
    return relu(y) if rectified else y


def _convolve(x: Any, w: Any, b: Any, stencil: Any, groups: int, exact: bool, kept: KeptWeights | None) -> Any:
    if _each_alone(w, groups, stencil):
        return depthwise(x, _flat(w), b, stencil)
    cut = None if exact else _cut(tiles, stencil, w, groups)
    if cut is not None and kept is not None:
        return winograd_transformed(x, kept.of(w, cut.tables.size), b, w.shape[2], cut)
    if cut is not None:
        return winograd(x, w, b, cut)
    joined = _joined(w, groups)
    return gather_gemm(x, _join(w, groups, joined), b, stencil, groups // joined)


def convolve_dx(dy: Any, w: Any, stencil: Any, groups: int = 1, exact: bool = False) -> Any:
    """Return `gather_gemm_dx` of the same arguments, by the fastest kernel."""
    if _each_alone(w, groups, stencil):
        return depthwise(dy, _flat(w), None, stencil.transposed)
    if device_of(dy) != "cpu":
        return gather_gemm_dx(dy, w, stencil, groups)
    cut = None if exact else _cut(adjoint_tiles, stencil, w, groups)
    if cut is None:
        joined = _joined(w, groups)
        return gather_gemm_dx(dy, _join(w, groups, joined), stencil, groups // joined)
    turned = transform_weights(w, cut.tables.size, adjoint=True)
    dx = winograd_transformed(dy, turned, None, w.shape[1], cut)
    if cut.fold is not None:
        rows, folded = cut.fold
        height, width = stencil.shape_in
        lines = gather_gemm(dy, np.ascontiguousarray(w.transpose(0, 2, 1)), None, folded)
        dx.reshape(len(dx), height, width, -1)[:, rows] += lines.reshape(len(dx), len(rows), width, -1)
    return dx


def convolve_dw(x: Any, dy: Any, stencil: Any, w: Any, groups: int = 1, exact: bool = False) -> tuple[Any, Any]:
    """Return `gather_gemm_dw` of the same arguments, by the fastest kernel; only the shape of `w` counts."""
    if _each_alone(w, groups, stencil):
        dw, db = depthwise_dw(x, dy, stencil)
        return dw.reshape(w.shape), db
    if device_of(x) != "cpu":
        return gather_gemm_dw(x, dy, stencil, groups)
    repaid = len(x) * stencil.sites_out >= SITES_A_CHANNEL * max(w.shape[1:])
    cut = _cut(tiles, stencil, w, groups) if repaid and not exact else None
    if cut is not None:
        return winograd_dw(x, dy, cut)
    joined = _joined(w, groups)
    dw, db = gather_gemm_dw(x, dy, stencil, groups // joined)
    return _part(dw, w.shape, groups, joined), db


def _each_alone(w: Any, groups: int, stencil: Any) -> bool:
    """True when every channel has a kernel of its own, of taps that read one site."""
    plain = not stencil.blends and stencil.biases == 1
    return plain and groups > 1 and w.shape[1] == 1 and groups == w.shape[2]


def _flat(w: Any) -> Any:
    """Weights (taps, 1, channels) without the axis of one."""
    return w.reshape(len(w), w.shape[2])


def _cut(cutter: Any, stencil: Any, w: Any, groups: int) -> Any:
    """Tiles for Winograd's convolution with weights of this shape, or None where it does not serve."""
    _, reads, makes = w.shape
    few = min(reads, makes) < LEAST_CHANNELS or stencil.sites_out < LEAST_SITES
    if groups > 1 or few or w.dtype != np.float32 or not fits(reads, makes, w.dtype):
        return None
    coarse, fine = cutter(stencil, 4), cutter(stencil, 2)
    if coarse is None:
        return None
    return fine if reads > MOST_CHANNELS or fine.count * FINE < coarse.count * COARSE else coarse


# --- groups: several small ones are convolved as one, with zeros between them, so that they fill a vector ------


def _joined(w: Any, groups: int) -> int:
    """How many groups to convolve as one: the fewest whose outputs are whole vectors, if there are so many."""
    lanes = vector.HOST.bytes // w.dtype.itemsize
    makes = w.shape[2] // groups
    for joined in range(1, groups + 1):
        if groups % joined == 0 and joined * makes % lanes == 0:
            return joined if joined * makes <= lanes else 1
    return 1


def _join(w: Any, groups: int, joined: int) -> Any:
    """Weights of groups / joined groups: blocks on a diagonal, zeros beside them."""
    if joined == 1:
        return w
    taps, reads, outputs = w.shape
    makes = outputs // groups
    whole = np.zeros((taps, joined, reads, groups // joined, joined, makes), w.dtype)
    blocks = w.reshape(taps, reads, groups // joined, joined, makes)
    for j in range(joined):
        whole[:, j, :, :, j] = blocks[:, :, :, j]
    return whole.reshape(taps, joined * reads, outputs)


def _part(dw: Any, shape: tuple[int, ...], groups: int, joined: int) -> Any:
    """The blocks on the diagonal of a gradient of joined weights."""
    if joined == 1:
        return dw
    taps, reads, outputs = shape
    whole = dw.reshape(taps, joined, reads, groups // joined, joined, outputs // groups)
    blocks = np.stack([whole[:, j, :, :, j] for j in range(joined)], axis=3)
    return np.ascontiguousarray(blocks).reshape(shape)
