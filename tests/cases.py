"""One table of layers: every contract test runs over it. A new layer is one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherecnn import models
from spherecnn.grids import Equirect, Icosphere, Polyhedron
from spherecnn.layers.activation import ELU, GELU, Dropout, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from spherecnn.layers.aspp import ASPP
from spherecnn.layers.base import Layer
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
from spherecnn.layers.resize import Downsample, Upsample
from spherecnn.layers.shape import Broadcast, Flatten, Unflatten
from spherecnn.layers.spherephd import SpherePHDConv, SpherePHDConvTranspose
from spherecnn.layers.tangent import TangentAvgPool2d, TangentConv2d, TangentMaxPool2d
from spherecnn.layers.transpose import CircularConvTranspose2d, ConvTranspose2d
from spherecnn.layers.unpool import MaxUnpool2d


@dataclass(frozen=True)
class Case:
    """A layer, built from a generator, and its inputs: shapes of floats, and integers as they are."""

    name: str
    build: Callable[[np.random.Generator], Layer]
    shapes: tuple[tuple[int, ...], ...]
    integers: tuple[np.ndarray, ...] = ()


class Reopened(Composite):
    """An encoder and a decoder around pooling with switches."""

    def __init__(self, mode: str, size: tuple[int, int], rng: np.random.Generator):
        super().__init__()
        self.down, self.up = (Conv2d(3, 3, 3, padding_mode=mode, rng=rng) for _ in range(2))
        self.pool = MaxPool2d(3, 2, 1, return_indices=True, padding_mode=mode)
        self.unpool = MaxUnpool2d(3, 2, 1, mode, output_size=size)

    def trace(self, r: Any, x: Any) -> Any:
        z, indices = r(self.pool, r(self.down, x))
        return r(self.unpool, r(self.up, z), indices)


class Halves(Composite):
    """Several outputs, one of which only adds to a gradient, and one that is an integer."""

    def __init__(self, rng: np.random.Generator):
        super().__init__()
        self.conv = Conv2d(2, 3, 3, rng=rng)
        self.pool = MaxPool2d(2, return_indices=True)

    def trace(self, r: Any, x: Any) -> Any:
        fine = r(self.conv, x)
        coarse, indices = r(self.pool, fine)
        return coarse, indices, fine


class Unused(Composite):
    """Takes one of three outputs."""

    def __init__(self, rng: np.random.Generator):
        super().__init__()
        self.halves = Halves(rng)
        self.act = Tanh()

    def trace(self, r: Any, x: Any) -> Any:
        coarse, _, _ = r(self.halves, x)
        return r(self.act, coarse)


def pooled(shape: tuple[int, ...], *options: Any, **more: Any) -> np.ndarray:
    """Return indices of a pooling of random numbers."""
    x = np.random.default_rng(1).standard_normal(shape)
    return MaxPool2d(*options, return_indices=True, **more)(x)[1]


def pooled_faces(shape: tuple[int, ...]) -> np.ndarray:
    """Return indices of a pooling of random numbers on the faces of level 1."""
    x = np.random.default_rng(1).standard_normal(shape)
    return SpherePHDPool(Polyhedron(1), return_indices=True)(x)[1]


def pooled_vertices(shape: tuple[int, ...]) -> np.ndarray:
    """Return indices of a pooling of random numbers on the vertices of level 1."""
    x = np.random.default_rng(1).standard_normal(shape)
    return MeshPool(Icosphere(1), return_indices=True)(x)[1]


CASES = [
    Case("relu", lambda rng: ReLU(), ((2, 3, 4, 5),)),
    Case("leaky_relu", lambda rng: LeakyReLU(0.2), ((2, 7),)),
    Case("elu", lambda rng: ELU(0.7), ((2, 3, 5),)),
    Case("gelu", lambda rng: GELU(), ((2, 3, 5),)),
    Case("gelu_tanh", lambda rng: GELU("tanh"), ((2, 3, 5),)),
    Case("sigmoid", lambda rng: Sigmoid(), ((2, 3, 5),)),
    Case("tanh", lambda rng: Tanh(), ((2, 3, 5),)),
    Case("softmax", lambda rng: Softmax(), ((2, 4, 10),)),
    Case("dropout", lambda rng: Dropout(0.3, rng=rng), ((2, 3, 4, 5),)),
    Case("batch_norm", lambda rng: BatchNorm(5), ((3, 4, 7, 5),)),
    Case("batch_norm_one_channel", lambda rng: BatchNorm(1), ((4, 1),)),
    Case("batch_norm_chunks", lambda rng: BatchNorm(3), ((2, 37, 75, 3),)),
    Case("batch_norm_wide", lambda rng: BatchNorm(130), ((4, 5, 130),)),
    Case("batch_norm_plain", lambda rng: BatchNorm(4, affine=False), ((3, 4, 4),)),
    Case("group_norm", lambda rng: GroupNorm(2, 6), ((3, 4, 7, 6),)),
    Case("group_norm_one_group", lambda rng: GroupNorm(1, 3), ((2, 5, 3),)),
    Case("group_norm_plain", lambda rng: GroupNorm(4, 8, affine=False), ((2, 2, 3, 4, 8),)),
    Case("instance_norm", lambda rng: InstanceNorm(5), ((2, 3, 4, 5),)),
    Case("instance_norm_affine", lambda rng: InstanceNorm(3, affine=True), ((2, 37, 75, 3),)),
    Case("layer_norm", lambda rng: LayerNorm(6), ((2, 3, 4, 6),)),
    Case("layer_norm_of_two_axes", lambda rng: LayerNorm((4, 3), eps=1e-3), ((5, 4, 3),)),
    Case("layer_norm_plain", lambda rng: LayerNorm(9, elementwise_affine=False), ((4, 9),)),
    Case("flatten", lambda rng: Flatten(), ((2, 3, 4, 5),)),
    Case("unflatten", lambda rng: Unflatten(1, (3, 4, 5)), ((2, 60),)),
    Case("unflatten_last", lambda rng: Unflatten(-1, (2, 3)), ((2, 4, 6),)),
    Case("broadcast", lambda rng: Broadcast((3, 4)), ((2, 5),)),
    Case("parallel", lambda rng: Parallel(BatchNorm(4), Tanh(), ReLU()), ((3, 3, 4),)),
    Case("aspp", lambda rng: ASPP(3, (2, 7), 5, grid=Equirect(4), method="circular", rng=rng), ((3, 4, 8, 3),)),
    Case("add", lambda rng: Add(), ((2, 3, 4), (2, 3, 4), (2, 3, 4))),
    Case("concat", lambda rng: Concat(), ((2, 3, 4), (2, 3, 1))),
    Case("sequential", lambda rng: Sequential(BatchNorm(4), ReLU(), Flatten(), LayerNorm(12)), ((3, 3, 4),)),
    Case("residual", lambda rng: Residual(Sequential(LayerNorm(4), GELU())), ((3, 3, 4),)),
    Case("residual_shortcut", lambda rng: Residual(Tanh(), BatchNorm(4)), ((3, 3, 4),)),
    Case("conv", lambda rng: Conv2d(3, 5, 3, rng=rng), ((2, 5, 6, 3),)),
    Case("conv_strided", lambda rng: Conv2d(9, 17, (2, 3), 2, (1, 0), rng=rng), ((2, 6, 7, 9),)),
    Case("conv_dilated", lambda rng: Conv2d(8, 16, 3, 1, 2, 2, bias=False, rng=rng), ((2, 5, 8, 8),)),
    Case("conv_grouped", lambda rng: Conv2d(6, 9, 3, groups=3, rng=rng), ((2, 4, 6, 6),)),
    Case("conv_depthwise", lambda rng: Conv2d(18, 18, 3, groups=18, rng=rng), ((2, 4, 6, 18),)),
    Case("conv_sphere", lambda rng: Conv2d(4, 3, 5, padding_mode="sphere", rng=rng), ((2, 4, 6, 4),)),
    Case(
        "conv_sphere_poles",
        lambda rng: Conv2d(4, 3, 3, padding_mode="sphere_poles", rng=rng),
        ((2, 4, 6, 4),),
    ),
    Case("conv_reflect", lambda rng: Conv2d(2, 3, 4, padding_mode="reflect", rng=rng), ((2, 4, 6, 2),)),
    Case("conv_replicate", lambda rng: Conv2d(2, 3, (7, 1), padding_mode="replicate", rng=rng), ((2, 4, 6, 2),)),
    Case("circular", lambda rng: CircularConv2d(5, 4, 3, rng=rng), ((2, 4, 6, 5),)),
    Case("circular_strided", lambda rng: CircularConv2d(5, 64, 3, 2, rng=rng), ((2, 4, 6, 5),)),
    Case("circular_wide_kernel", lambda rng: CircularConv2d(2, 3, (3, 7), dilation=2, rng=rng), ((2, 4, 6, 2),)),
    Case("circular_depthwise", lambda rng: CircularConv2d(3, 3, 3, 2, groups=3, rng=rng), ((2, 4, 6, 3),)),
    Case("coord", lambda rng: CoordConv2d(3, 4, 3, rng=rng), ((2, 4, 6, 3),)),
    Case("coord_with_r", lambda rng: CoordConv2d(3, 4, 3, 2, with_r=True, rng=rng), ((2, 4, 6, 3),)),
    Case("tangent", lambda rng: TangentConv2d(3, 5, grid=Equirect(6), rng=rng), ((2, 6, 12, 3),)),
    Case(
        "tangent_strided",
        lambda rng: TangentConv2d(20, 17, (5, 3), (2, 3), bias=False, grid=Equirect(9, 11), rng=rng),
        ((2, 9, 11, 20),),
    ),
    Case(
        "tangent_dilated",
        lambda rng: TangentConv2d(6, 4, 3, dilation=2, groups=2, grid=Equirect(10), spacing="equiconv", rng=rng),
        ((2, 10, 20, 6),),
    ),
    Case(
        "tangent_poles",
        lambda rng: TangentConv2d(37, 18, grid=Equirect(5, 8, pole_rows=True), rng=rng),
        ((2, 5, 8, 37),),
    ),
    Case(
        "tangent_depthwise", lambda rng: TangentConv2d(18, 18, groups=18, grid=Equirect(6), rng=rng), ((2, 6, 12, 18),)
    ),
    Case("tangent_max_pool", lambda rng: TangentMaxPool2d(3, 2, grid=Equirect(6)), ((2, 6, 12, 5),)),
    Case("tangent_avg_pool", lambda rng: TangentAvgPool2d((3, 5), 1, grid=Equirect(6)), ((2, 6, 12, 70),)),
    Case("spherephd", lambda rng: SpherePHDConv(3, 5, Polyhedron(1), rng=rng), ((2, 80, 3),)),
    Case("spherephd_unrotated", lambda rng: SpherePHDConv(4, 17, Polyhedron(1), "unrotated", rng=rng), ((2, 80, 4),)),
    Case(
        "spherephd_hexagonal",
        lambda rng: SpherePHDConv(9, 16, Polyhedron(1), "hexagonal", bias=False, rng=rng),
        ((2, 80, 9),),
    ),
    Case("spherephd_edge", lambda rng: SpherePHDConv(3, 4, Polyhedron(0), "edge", rng=rng), ((2, 20, 3),)),
    Case("spherephd_point", lambda rng: SpherePHDConv(3, 4, Polyhedron(0), "point", rng=rng), ((2, 20, 3),)),
    Case("spherephd_strided", lambda rng: SpherePHDConv(20, 17, Polyhedron(1), stride=2, rng=rng), ((2, 80, 20),)),
    Case("spherephd_stride_4", lambda rng: SpherePHDConv(3, 4, Polyhedron(2), "edge", 4, rng=rng), ((2, 320, 3),)),
    Case(
        "spherephd_north", lambda rng: SpherePHDConv(3, 5, Polyhedron(1), orientation="north", rng=rng), ((2, 80, 3),)
    ),
    Case(
        "spherephd_north_strided",
        lambda rng: SpherePHDConv(20, 17, Polyhedron(1), stride=2, orientation="north", rng=rng),
        ((2, 80, 20),),
    ),
    Case("spherephd_grouped", lambda rng: SpherePHDConv(4, 6, Polyhedron(1), groups=2, rng=rng), ((2, 80, 4),)),
    Case("spherephd_depthwise", lambda rng: SpherePHDConv(18, 18, Polyhedron(1), groups=18, rng=rng), ((2, 80, 18),)),
    Case("spherephd_transpose", lambda rng: SpherePHDConvTranspose(3, 5, Polyhedron(0), rng=rng), ((2, 20, 3),)),
    Case(
        "spherephd_transpose_overlapping",
        lambda rng: SpherePHDConvTranspose(9, 17, Polyhedron(1), "rotated", bias=False, rng=rng),
        ((2, 80, 9),),
    ),
    Case("spherephd_max_pool", lambda rng: SpherePHDPool(Polyhedron(1)), ((2, 80, 5),)),
    Case("spherephd_max_pool_indices", lambda rng: SpherePHDPool(Polyhedron(1), return_indices=True), ((2, 80, 17),)),
    Case("spherephd_max_pool_overlapping", lambda rng: SpherePHDPool(Polyhedron(1), kernel="rotated"), ((2, 80, 3),)),
    Case("spherephd_mean_pool", lambda rng: SpherePHDPool(Polyhedron(1), "mean"), ((2, 80, 17),)),
    Case("spherephd_area_pool", lambda rng: SpherePHDPool(Polyhedron(2), "area"), ((2, 320, 5),)),
    Case("spherephd_unpool", lambda rng: SpherePHDUnpool(Polyhedron(1)), ((2, 20, 5),), (pooled_faces((2, 80, 5)),)),
    Case("spherephd_upsample", lambda rng: SpherePHDUpsample(Polyhedron(1)), ((2, 80, 5),)),
    Case("spherephd_upsample_smooth", lambda rng: SpherePHDUpsample(Polyhedron(1), "smooth"), ((2, 80, 17),)),
    Case("mesh", lambda rng: MeshConv(3, 5, Icosphere(1), rng=rng), ((2, 42, 3),)),
    Case(
        "mesh_exact",
        lambda rng: MeshConv(17, 20, Icosphere(1), laplacian="mass", derivatives="compass", bias=False, rng=rng),
        ((2, 42, 17),),
    ),
    Case("mesh_strided", lambda rng: MeshConv(20, 17, Icosphere(1), stride=2, rng=rng), ((2, 42, 20),)),
    Case("mesh_stride_4", lambda rng: MeshConv(1, 4, Icosphere(2), stride=4, rng=rng), ((2, 162, 1),)),
    Case("mesh_identity", lambda rng: MeshConv(9, 4, Icosphere(0), operators=("identity",), rng=rng), ((2, 12, 9),)),
    Case("mesh_two", lambda rng: MeshConv(3, 4, Icosphere(0), operators=("north", "east"), rng=rng), ((2, 12, 3),)),
    Case("mesh_grouped", lambda rng: MeshConv(8, 6, Icosphere(1), groups=2, rng=rng), ((2, 42, 8),)),
    Case("mesh_depthwise", lambda rng: MeshConv(18, 18, Icosphere(1), groups=18, rng=rng), ((2, 42, 18),)),
    Case("mesh_transpose", lambda rng: MeshConvTranspose(3, 5, Icosphere(0), rng=rng), ((2, 12, 3),)),
    Case(
        "mesh_transpose_zeros",
        lambda rng: MeshConvTranspose(17, 20, Icosphere(0), "zeros", 1, False, laplacian="mass", rng=rng),
        ((2, 12, 17),),
    ),
    Case(
        "mesh_transpose_interpolated",
        lambda rng: MeshConvTranspose(4, 6, Icosphere(1), "interpolated", 2, derivatives="compass", rng=rng),
        ((2, 42, 4),),
    ),
    Case(
        "mesh_transpose_depthwise",
        lambda rng: MeshConvTranspose(18, 18, Icosphere(0), groups=18, rng=rng),
        ((2, 12, 18),),
    ),
    Case(
        "mesh_transpose_identity",
        lambda rng: MeshConvTranspose(3, 4, Icosphere(0), operators="identity", rng=rng),
        ((2, 12, 3),),
    ),
    Case("mesh_max_pool", lambda rng: MeshPool(Icosphere(2)), ((2, 162, 5),)),
    Case("mesh_max_pool_indices", lambda rng: MeshPool(Icosphere(1), return_indices=True), ((2, 42, 17),)),
    Case("mesh_mean_pool", lambda rng: MeshPool(Icosphere(2), "mean"), ((2, 162, 17),)),
    Case("mesh_area_pool", lambda rng: MeshPool(Icosphere(1), "area"), ((2, 42, 5),)),
    Case("mesh_subsample", lambda rng: MeshPool(Icosphere(1), "subsample"), ((2, 42, 5),)),
    Case("mesh_unpool", lambda rng: MeshUnpool(Icosphere(1)), ((2, 12, 5),), (pooled_vertices((2, 42, 5)),)),
    Case("mesh_upsample", lambda rng: MeshUpsample(Icosphere(1)), ((2, 42, 5),)),
    Case("mesh_upsample_nearest", lambda rng: MeshUpsample(Icosphere(0), "nearest"), ((2, 12, 17),)),
    Case("mesh_res_block", lambda rng: models.MeshResBlock(5, 4, 5, Icosphere(1), rng=rng), ((2, 42, 5),)),
    Case(
        "mesh_res_block_coarser", lambda rng: models.MeshResBlock(3, 4, 8, Icosphere(1), True, rng=rng), ((3, 42, 3),)
    ),
    Case(
        "mesh_classifier",
        lambda rng: models.mesh_classifier(2, 3, Icosphere(1), 2, 1, dropout=0.0, rng=rng),
        ((3, 42, 2),),
    ),
    Case("mesh_unet", lambda rng: models.mesh_unet(2, 3, Icosphere(1), 3, 1, rng=rng), ((2, 42, 2),)),
    Case("conv3d", lambda rng: Conv3d(3, 5, 3, padding_mode="circular", rng=rng), ((2, 3, 4, 6, 3),)),
    Case("conv3d_sphere", lambda rng: Conv3d(9, 16, 3, (1, 2, 2), padding_mode="sphere", rng=rng), ((2, 3, 4, 6, 9),)),
    Case("conv3d_depthwise", lambda rng: Conv3d(18, 18, (2, 3, 1), groups=18, rng=rng), ((2, 3, 4, 6, 18),)),
    Case("transpose", lambda rng: ConvTranspose2d(3, 5, 4, 2, 1, rng=rng), ((2, 3, 4, 3),)),
    Case("transpose_grouped", lambda rng: ConvTranspose2d(6, 9, 3, 2, 1, 1, 3, rng=rng), ((2, 3, 4, 6),)),
    Case("transpose_depthwise", lambda rng: ConvTranspose2d(18, 18, 2, 2, groups=18, rng=rng), ((2, 3, 4, 18),)),
    Case(
        "transpose_dilated",
        lambda rng: ConvTranspose2d(9, 17, (2, 3), (1, 3), 1, bias=False, dilation=2, rng=rng),
        ((2, 3, 4, 9),),
    ),
    Case("transpose_circular", lambda rng: CircularConvTranspose2d(5, 4, 5, 2, rng=rng), ((2, 3, 4, 5),)),
    Case(
        "transpose_sphere",
        lambda rng: ConvTranspose2d(4, 3, 5, 2, "same", padding_mode="sphere", rng=rng),
        ((2, 3, 4, 4),),
    ),
    Case("gate", lambda rng: Gate("tanh"), ((2, 3, 5, 6),)),
    Case("gated", lambda rng: GatedConv2d(3, 5, 3, rng=rng), ((2, 4, 6, 3),)),
    Case("gated_relu", lambda rng: GatedConv2d(2, 16, 3, 2, activation="relu", rng=rng), ((2, 4, 6, 2),)),
    Case("gated_leaky", lambda rng: GatedConv2d(2, 3, 1, activation="leaky_relu", rng=rng), ((2, 4, 6, 2),)),
    Case("gated_pair", lambda rng: GatedConv2d(3, 4, 3, activation="tanh", form="pair", rng=rng), ((2, 4, 6, 3),)),
    Case(
        "gated_groups",
        lambda rng: GatedConv2d(4, 6, 3, groups=2, bias=False, activation="none", form="pair", rng=rng),
        ((2, 4, 6, 4),),
    ),
    Case("sphconv", lambda rng: SphConv2d(3, 5, grid=Equirect(4), rng=rng), ((2, 4, 8, 3),)),
    Case(
        "sphconv_strided",
        lambda rng: SphConv2d(
            8, 16, stride=(2, 3), bias=False, grid=Equirect(5, 8), sizes=[(3, 9), (1, 3), (5, 1)], rng=rng
        ),
        ((2, 5, 8, 8),),
    ),
    Case(
        "sphconv_grouped",
        lambda rng: SphConv2d(4, 6, groups=2, grid=Equirect(5, 8, pole_rows=True), tied=2, rng=rng),
        ((2, 5, 8, 4),),
    ),
    Case("sphconv_depthwise", lambda rng: SphConv2d(18, 18, groups=18, grid=Equirect(4), rng=rng), ((2, 4, 8, 18),)),
    Case("ktn", lambda rng: KTNConv2d(3, 4, grid=Equirect(6, 8), rng=rng), ((2, 6, 8, 3),)),
    Case(
        "ktn_strided",
        lambda rng: KTNConv2d(4, 8, stride=2, groups=2, bias=False, grid=Equirect(8), tied=2, rng=rng),
        ((2, 8, 16, 4),),
    ),
    Case("ktn_plain", lambda rng: KTNConv2d(2, 3, grid=Equirect(6), residual=False, rng=rng), ((2, 6, 12, 2),)),
    Case("linear", lambda rng: Linear(7, 10, rng=rng), ((3, 7),)),
    Case("linear_sites", lambda rng: Linear(16, 33, bias=False, rng=rng), ((2, 3, 4, 16),)),
    Case("max_pool", lambda rng: MaxPool2d(2), ((2, 4, 6, 3),)),
    Case("max_pool_seam", lambda rng: MaxPool2d(3, 2, 1, padding_mode="circular"), ((2, 4, 6, 3),)),
    Case("max_pool_sphere", lambda rng: MaxPool2d((3, 2), 1, 1, padding_mode="sphere"), ((2, 4, 6, 17),)),
    Case("max_pool_ceil", lambda rng: MaxPool2d(3, 2, 1, ceil_mode=True), ((2, 4, 6, 3),)),
    Case("max_pool_indices", lambda rng: MaxPool2d(2, return_indices=True, padding_mode="circular"), ((2, 4, 6, 3),)),
    Case("max_unpool", lambda rng: MaxUnpool2d(2), ((2, 2, 3, 5),), (pooled((2, 4, 6, 5), 2),)),
    Case(
        "max_unpool_overlapping",
        lambda rng: MaxUnpool2d(3, 2, 1, "circular", output_size=(4, 6)),
        ((2, 2, 3, 17),),
        (pooled((2, 4, 6, 17), 3, 2, 1, padding_mode="circular"),),
    ),
    Case("reopened", lambda rng: Reopened("circular", (5, 6), rng), ((2, 5, 6, 3),)),
    Case("reopened_sphere", lambda rng: Reopened("sphere", (4, 8), rng), ((2, 4, 8, 3),)),
    Case("several_outputs", lambda rng: Halves(rng), ((2, 4, 6, 2),)),
    Case("unused_outputs", lambda rng: Unused(rng), ((2, 4, 6, 2),)),
    Case("avg_pool", lambda rng: AvgPool2d(2), ((2, 4, 6, 3),)),
    Case("avg_pool_uncounted", lambda rng: AvgPool2d(3, 2, 1, count_include_pad=False), ((2, 4, 6, 16),)),
    Case("avg_pool_sphere", lambda rng: AvgPool2d(3, 1, 1, padding_mode="sphere"), ((2, 4, 6, 5),)),
    Case("global_avg_pool", lambda rng: GlobalAvgPool(Equirect(3)), ((2, 3, 6, 5),)),
    Case("global_avg_pool_unweighted", lambda rng: GlobalAvgPool(Equirect(3), weighted=False), ((2, 3, 6, 5),)),
    Case("upsample", lambda rng: Upsample(scale_factor=2), ((2, 4, 6, 3),)),
    Case("upsample_bilinear", lambda rng: Upsample(scale_factor=2, mode="bilinear"), ((2, 4, 6, 37),)),
    Case("upsample_poles", lambda rng: Upsample((7, 11), None, "bilinear", "sphere_poles"), ((2, 4, 6, 16),)),
    Case("upsample_circular", lambda rng: Upsample((5, 9), None, "bilinear", "circular"), ((2, 3, 5, 8),)),
    Case("downsample", lambda rng: Downsample(scale_factor=2), ((2, 4, 6, 3),)),
    Case("downsample_bilinear", lambda rng: Downsample((2, 4), None, "bilinear", "replicate"), ((2, 5, 6, 70),)),
    Case(
        "classifier",
        lambda rng: models.classifier("circular", 2, 3, Equirect(8), width=3, rng=rng),
        ((3, 8, 16, 2),),
    ),
    Case(
        "conv_norm_act",
        lambda rng: models.ConvNormAct("sphere", 3, 4, Equirect(4), stride=2, activation="gelu", rng=rng),
        ((2, 4, 8, 3),),
    ),
    Case(
        "double_conv",
        lambda rng: models.DoubleConv("circular", 3, 8, Equirect(4), norm="group", rng=rng),
        ((2, 4, 8, 3),),
    ),
    Case(
        "conv_conv_pool",
        lambda rng: models.ConvConvPool("circular", 3, 4, Equirect(4), norm="instance", rng=rng),
        ((2, 4, 8, 3),),
    ),
    Case(
        "residual_block",
        lambda rng: models.ResidualBlock("coord", 3, 4, Equirect(4), stride=2, norm=None, rng=rng),
        ((2, 4, 8, 3),),
    ),
    Case(
        "bottleneck",
        lambda rng: models.Bottleneck("circular", 8, 2, Equirect(4), dilation=3, activation="elu", rng=rng),
        ((2, 4, 8, 8),),
    ),
    Case(
        "resnet",
        lambda rng: models.resnet("circular", 2, 3, Equirect(16), width=2, stem="imagenet", rng=rng),
        ((2, 16, 32, 2),),
    ),
    Case(
        "spherenet",
        lambda rng: models.spherenet("sphere", 2, 3, Equirect(4, 8), width=3, kernel_size=5, rng=rng),
        ((2, 4, 8, 2),),
    ),
    Case(
        "spherephd_net",
        lambda rng: models.spherephd("spherephd", 2, 3, Polyhedron(2), width=3, rng=rng),
        ((2, 320, 2),),
    ),
    Case(
        "spherephd_net_weighted",
        lambda rng: models.spherephd_mnist(Polyhedron(2), 2, 3, weighted=True, relu_logits=False, rng=rng),
        ((2, 320, 2),),
    ),
    Case(
        "spherephd_unet",
        lambda rng: models.unet("spherephd", 2, 1, Polyhedron(2), width=2, depth=1, up="transpose", rng=rng),
        ((2, 320, 2),),
    ),
    Case(
        "up_block",
        lambda rng: models.UpBlock("circular", 4, 3, 2, Equirect(2, 5), Equirect(5, 11), up="transpose", rng=rng),
        ((2, 2, 5, 4), (2, 5, 11, 3)),
    ),
    Case(
        "unet",
        lambda rng: models.unet("sphere", 2, 3, Equirect(6, 8), width=2, depth=1, rng=rng),
        ((2, 6, 8, 2),),
    ),
    Case(
        "unet_odd",
        lambda rng: models.unet("circular", 2, 1, Equirect(5, 10), width=2, depth=2, norm=None, rng=rng),
        ((2, 5, 10, 2),),
    ),
    Case(
        "encoder_decoder",
        lambda rng: models.encoder_decoder("circular", 2, 1, Equirect(5, 9), width=2, depth=2, norm=None, rng=rng),
        ((2, 5, 9, 2),),
    ),
    Case(
        "inpainter",
        lambda rng: models.inpainter("circular", 2, 1, Equirect(6, 9), width=2, rng=rng),
        ((2, 6, 9, 2),),
    ),
    Case(
        "deeplab",
        lambda rng: models.deeplab("sphere", 2, 1, Equirect(8), width=2, output_stride=4, atrous_rates=(1, 5), rng=rng),
        ((3, 8, 16, 2),),
    ),
]
