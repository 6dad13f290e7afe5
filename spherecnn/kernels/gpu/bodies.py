"""Importing this registers a body "cuda" with every op."""

from spherecnn.kernels.gpu import pointwise  # noqa: F401
from spherecnn.kernels.gpu import softmax as _softmax  # noqa: F401
from spherecnn.kernels.gpu import cross_entropy as _cross_entropy  # noqa: F401
from spherecnn.kernels.gpu import loss  # noqa: F401
from spherecnn.kernels.gpu import optim  # noqa: F401
