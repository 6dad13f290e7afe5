"""Stencils: which input sites feed each output site, built once from a grid: integers, or a sparse matrix."""

from spherecnn.stencils.base import Segment, Stencil
from spherecnn.stencils.latitude import latitude
from spherecnn.stencils.mesh import OPERATORS as MESH_OPERATORS
from spherecnn.stencils.mesh import mesh
from spherecnn.stencils.planar import PADDING_MODES, Axis, axis, fold, output_size, pointwise, product, volume, window
from spherecnn.stencils.resize import RESIZE_MODES, RESIZE_PADDING_MODES, check_resize, resize
from spherecnn.stencils.row_sizes import row_sizes
from spherecnn.stencils.sparse import SparseStencil
from spherecnn.stencils.spherephd import KERNELS as FACE_KERNELS
from spherecnn.stencils.spherephd import ORIENTATIONS as FACE_ORIENTATIONS
from spherecnn.stencils.spherephd import face_pooling, face_taps, middle_faces, spherephd
from spherecnn.stencils.table import table
from spherecnn.stencils.tangent import SPACINGS, tangent, tangent_directions, tangent_taps
from spherecnn.stencils.tangent_rows import layer_sizes

__all__ = [
    "FACE_KERNELS",
    "FACE_ORIENTATIONS",
    "MESH_OPERATORS",
    "PADDING_MODES",
    "RESIZE_MODES",
    "RESIZE_PADDING_MODES",
    "SPACINGS",
    "Axis",
    "Segment",
    "SparseStencil",
    "Stencil",
    "axis",
    "check_resize",
    "face_pooling",
    "face_taps",
    "fold",
    "latitude",
    "layer_sizes",
    "mesh",
    "middle_faces",
    "output_size",
    "pointwise",
    "product",
    "resize",
    "row_sizes",
    "spherephd",
    "table",
    "tangent",
    "tangent_directions",
    "tangent_taps",
    "volume",
    "window",
]
