"""Importing this registers a body "cuda" with every op."""

from spherecnn.kernels.gpu import classes  # noqa: F401
