"""Importing this registers a body "cuda" with every op."""

from spherecnn.kernels.gpu import gate, pointwise, softmax  # noqa: F401
