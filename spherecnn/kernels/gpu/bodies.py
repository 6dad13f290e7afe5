"""Importing this registers a body "cuda" with every op."""

import spherecnn.kernels.gpu.depthwise
import spherecnn.kernels.gpu.gate
import spherecnn.kernels.gpu.gather_gemm
import spherecnn.kernels.gpu.pointwise
import spherecnn.kernels.gpu.softmax
import spherecnn.kernels.gpu.spmm
import spherecnn.kernels.gpu.weight_gradient  # noqa: F401
from spherecnn.kernels.gpu import classes  # noqa: F401
