"""Stencils: which input sites feed each output site. Integers only, built once from a grid."""

from spherecnn.stencils.base import Segment, Stencil
from spherecnn.stencils.planar import PADDING_MODES, Axis, axis, output_size, pointwise, product, volume, window

__all__ = [
    "PADDING_MODES",
    "Axis",
    "Segment",
    "Stencil",
    "axis",
    "output_size",
    "pointwise",
    "product",
    "volume",
    "window",
]
