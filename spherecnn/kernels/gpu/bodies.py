"""Importing this registers a body "cuda" with every op."""

from spherecnn.kernels.gpu import arrays  # noqa: F401
from spherecnn.kernels.gpu import axis_sums as _axis_sums  # noqa: F401
from spherecnn.kernels.gpu import gate as _gate  # noqa: F401
from spherecnn.kernels.gpu import masks as _masks  # noqa: F401
from spherecnn.kernels.gpu import pointwise  # noqa: F401
from spherecnn.kernels.gpu import softmax as _softmax  # noqa: F401
import spherecnn.kernels.gpu.depthwise  # noqa: F401
import spherecnn.kernels.gpu.gate  # noqa: F401
import spherecnn.kernels.gpu.gather_gemm  # noqa: F401
import spherecnn.kernels.gpu.pointwise  # noqa: F401
import spherecnn.kernels.gpu.softmax  # noqa: F401
import spherecnn.kernels.gpu.spmm  # noqa: F401
import spherecnn.kernels.gpu.weight_gradient  # noqa: F401
import spherecnn.kernels.gpu.winograd  # noqa: F401
