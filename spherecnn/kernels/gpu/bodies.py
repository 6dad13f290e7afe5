"""Importing this registers a body "cuda" with every op."""

import spherecnn.kernels.gpu.arrays  # noqa: F401
import spherecnn.kernels.gpu.axis_sums  # noqa: F401
import spherecnn.kernels.gpu.classes  # noqa: F401
import spherecnn.kernels.gpu.cross_entropy  # noqa: F401
import spherecnn.kernels.gpu.depthwise  # noqa: F401
import spherecnn.kernels.gpu.gate  # noqa: F401
import spherecnn.kernels.gpu.gather_gemm  # noqa: F401
import spherecnn.kernels.gpu.loss  # noqa: F401
import spherecnn.kernels.gpu.masks  # noqa: F401
import spherecnn.kernels.gpu.optim  # noqa: F401
import spherecnn.kernels.gpu.pointwise  # noqa: F401
import spherecnn.kernels.gpu.softmax  # noqa: F401
import spherecnn.kernels.gpu.spmm  # noqa: F401
import spherecnn.kernels.gpu.weight_gradient  # noqa: F401
import spherecnn.kernels.gpu.winograd  # noqa: F401
