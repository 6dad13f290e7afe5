"""Importing this registers a body "cuda" with every op."""

import spherecnn.kernels.gpu.arrays
import spherecnn.kernels.gpu.axis_sums
import spherecnn.kernels.gpu.classes
import spherecnn.kernels.gpu.cross_entropy
import spherecnn.kernels.gpu.depthwise
import spherecnn.kernels.gpu.depthwise_dw
import spherecnn.kernels.gpu.gate
import spherecnn.kernels.gpu.gather_gemm
import spherecnn.kernels.gpu.layer_norm
import spherecnn.kernels.gpu.loss
import spherecnn.kernels.gpu.masks
import spherecnn.kernels.gpu.norm
import spherecnn.kernels.gpu.norm_grad
import spherecnn.kernels.gpu.optim
import spherecnn.kernels.gpu.pointwise
import spherecnn.kernels.gpu.pool
import spherecnn.kernels.gpu.sample
import spherecnn.kernels.gpu.softmax
import spherecnn.kernels.gpu.spmm
import spherecnn.kernels.gpu.unpool
import spherecnn.kernels.gpu.weight_gradient
import spherecnn.kernels.gpu.winograd  # noqa: F401
from spherecnn.kernels.gpu import (
    arrays,
    axis_sums,
    classes,
    cross_entropy,
    depthwise,
    depthwise_dw,
    gate,
    gather_gemm,
    loss,
    masks,
    norm,
    norm_grad,
    optim,
    pointwise,
    pool,
    sample,
    softmax,
    spmm,
    unpool,
    weight_gradient,
    winograd,
)

__all__ = [
    "arrays",
    "axis_sums",
    "classes",
    "cross_entropy",
    "depthwise",
    "depthwise_dw",
    "gate",
    "gather_gemm",
    "loss",
    "masks",
    "norm",
    "norm_grad",
    "optim",
    "pointwise",
    "pool",
    "sample",
    "softmax",
    "spmm",
    "unpool",
    "weight_gradient",
    "winograd",
]
