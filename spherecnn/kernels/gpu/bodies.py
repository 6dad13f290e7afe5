"""Importing this registers a body "cuda" with every op."""

from spherecnn.kernels.gpu import depthwise, depthwise_dw, pool, sample, spmm, unpool  # noqa: F401
