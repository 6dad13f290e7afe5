"""Stencils: which input sites feed each output site, built once from a grid: integers, or a sparse matrix."""

from spherecnn.stencils.base import Segment, Stencil
from spherecnn.stencils.latitude import latitude
from spherecnn.stencils.planar import PADDING_MODES, Axis, axis, fold, output_size, pointwise, product, volume, window
from spherecnn.stencils.resize import RESIZE_MODES, RESIZE_PADDING_MODES, check_resize, resize
from spherecnn.stencils.row_sizes import row_sizes
from spherecnn.stencils.tangent import SPACINGS, tangent, tangent_directions, tangent_taps
from spherecnn.stencils.tangent_rows import layer_sizes

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
    "fold",
    "latitude",
    "layer_sizes",
    "output_size",
    "pointwise",
    "product",
    "resize",
    "row_sizes",
    "tangent",
    "tangent_directions",
    "tangent_taps",
    "volume",
    "window",
]
