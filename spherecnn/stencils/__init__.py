"""Stencils: which input sites feed each output site, built once from a grid: integers, or a sparse matrix."""

from spherecnn.stencils.base import Segment, Stencil
from spherecnn.stencils.planar import PADDING_MODES, Axis, axis, output_size, pointwise, product, volume, window
from spherecnn.stencils.resize import RESIZE_MODES, RESIZE_PADDING_MODES, check_resize, resize
from spherecnn.stencils.tangent import SPACINGS, tangent, tangent_directions, tangent_matrix, tangent_taps

__all__ = [
    "PADDING_MODES",
    "RESIZE_MODES",
    "RESIZE_PADDING_MODES",
    "SPACINGS",
    "Axis",
    "Segment",
    "Stencil",
    "axis",
    "check_resize",
    "output_size",
    "pointwise",
    "product",
    "resize",
    "tangent",
    "tangent_directions",
    "tangent_matrix",
    "tangent_taps",
    "volume",
    "window",
]
