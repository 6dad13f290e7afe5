"""Importing this registers a body "cuda" with every op."""

import spherecnn.kernels.gpu.depthwise
import spherecnn.kernels.gpu.gate
import spherecnn.kernels.gpu.gather_gemm
import spherecnn.kernels.gpu.arrays  # noqa: F401
import spherecnn.kernels.gpu.axis_sums  # noqa: F401
import spherecnn.kernels.gpu.classes  # noqa: F401
import spherecnn.kernels.gpu.depthwise
import spherecnn.kernels.gpu.gate
import spherecnn.kernels.gpu.gather_gemm
import spherecnn.kernels.gpu.masks  # noqa: F401
import spherecnn.kernels.gpu.pointwise
import spherecnn.kernels.gpu.softmax
import spherecnn.kernels.gpu.spmm
import spherecnn.kernels.gpu.weight_gradient
import spherecnn.kernels.gpu.winograd  # noqa: F401
from spherecnn.kernels.gpu import depthwise, depthwise_dw, spmm  # noqa: F401
