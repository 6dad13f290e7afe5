"""Importing this registers a body "cuda" with every op."""

from spherecnn.kernels.gpu import (
    gather_gemm,  # noqa: F401
    weight_gradient,  # noqa: F401
)
