"""Layers: forward and backward on one screen, one interface for every method."""

from spherecnn.layers import face_methods as _face_methods  # noqa: F401  (enters the methods in the registry)
from spherecnn.layers import mesh_methods as _mesh_methods  # noqa: F401
from spherecnn.layers import methods as _methods  # noqa: F401
from spherecnn.layers import row_methods as _row_methods  # noqa: F401
from spherecnn.layers.activation import ELU, GELU, Dropout, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from spherecnn.layers.aspp import ASPP
from spherecnn.layers.base import Layer, Param
from spherecnn.layers.combine import Add, Composite, Concat, Parallel, Residual, Sequential
from spherecnn.layers.conv import CircularConv2d, Conv2d, CoordConv2d
from spherecnn.layers.conv3d import Conv3d
from spherecnn.layers.face_pool import SpherePHDPool, SpherePHDUnpool, SpherePHDUpsample
from spherecnn.layers.gate import Gate
from spherecnn.layers.gated import GatedConv2d
from spherecnn.layers.ktn import KTNConv2d
from spherecnn.layers.latitude import SphConv2d
from spherecnn.layers.linear import Linear
from spherecnn.layers.mesh import MeshConv
from spherecnn.layers.mesh_pool import MeshPool, MeshUnpool, MeshUpsample
from spherecnn.layers.mesh_transpose import MeshConvTranspose
from spherecnn.layers.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from spherecnn.layers.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from spherecnn.layers.registry import METHODS, Method, method, register
from spherecnn.layers.resize import Downsample, Upsample
from spherecnn.layers.shape import Broadcast, Flatten, Unflatten
from spherecnn.layers.spherephd import SpherePHDConv, SpherePHDConvTranspose
from spherecnn.layers.tangent import TangentAvgPool2d, TangentConv2d, TangentMaxPool2d
from spherecnn.layers.transpose import CircularConvTranspose2d, ConvTranspose2d
from spherecnn.layers.unpool import MaxUnpool2d

__all__ = [
    "ASPP",
    "ELU",
    "GELU",
    "METHODS",
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "Broadcast",
    "CircularConv2d",
    "CircularConvTranspose2d",
    "Composite",
    "Concat",
    "Conv2d",
    "Conv3d",
    "ConvTranspose2d",
    "CoordConv2d",
    "Downsample",
    "Dropout",
    "Flatten",
    "Gate",
    "GatedConv2d",
    "GlobalAvgPool",
    "GroupNorm",
    "InstanceNorm",
    "KTNConv2d",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "MaxUnpool2d",
    "MeshConv",
    "MeshConvTranspose",
    "MeshPool",
    "MeshUnpool",
    "MeshUpsample",
    "Method",
    "Parallel",
    "Param",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "SphConv2d",
    "SpherePHDConv",
    "SpherePHDConvTranspose",
    "SpherePHDPool",
    "SpherePHDUnpool",
    "SpherePHDUpsample",
    "TangentAvgPool2d",
    "TangentConv2d",
    "TangentMaxPool2d",
    "Tanh",
    "Unflatten",
    "Upsample",
    "method",
    "register",
]
