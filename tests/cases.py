"""One table of layers: every contract test runs over it. A new layer is one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spherecnn.grids import Equirect
from spherecnn.layers.activation import ELU, GELU, Dropout, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from spherecnn.layers.base import Layer
from spherecnn.layers.combine import Add, Concat, Residual, Sequential
from spherecnn.layers.conv import CircularConv2d, Conv2d, CoordConv2d
from spherecnn.layers.linear import Linear
from spherecnn.layers.norm import BatchNorm, LayerNorm
from spherecnn.layers.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from spherecnn.layers.shape import Flatten, Tile, Unflatten
from spherecnn.layers.transpose import CircularConvTranspose2d, ConvTranspose2d
from spherecnn.models import classifier


@dataclass(frozen=True)
class Case:
    """A layer, built from a generator, and the shapes of its inputs."""

    name: str
    build: Callable[[np.random.Generator], Layer]
    shapes: tuple[tuple[int, ...], ...]


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
    Case("layer_norm", lambda rng: LayerNorm(6), ((2, 3, 4, 6),)),
    Case("layer_norm_of_two_axes", lambda rng: LayerNorm((4, 3), eps=1e-3), ((5, 4, 3),)),
    Case("layer_norm_plain", lambda rng: LayerNorm(9, elementwise_affine=False), ((4, 9),)),
    Case("flatten", lambda rng: Flatten(), ((2, 3, 4, 5),)),
    Case("unflatten", lambda rng: Unflatten(1, (3, 4, 5)), ((2, 60),)),
    Case("unflatten_last", lambda rng: Unflatten(-1, (2, 3)), ((2, 4, 6),)),
    Case("tile", lambda rng: Tile((3, 4)), ((2, 5),)),
    Case("tile_one_site", lambda rng: Tile(1), ((2, 5),)),
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
    Case("linear", lambda rng: Linear(7, 10, rng=rng), ((3, 7),)),
    Case("linear_sites", lambda rng: Linear(16, 33, bias=False, rng=rng), ((2, 3, 4, 16),)),
    Case("max_pool", lambda rng: MaxPool2d(2), ((2, 4, 6, 3),)),
    Case("max_pool_seam", lambda rng: MaxPool2d(3, 2, 1, padding_mode="circular"), ((2, 4, 6, 3),)),
    Case("max_pool_sphere", lambda rng: MaxPool2d((3, 2), 1, 1, padding_mode="sphere"), ((2, 4, 6, 17),)),
    Case("avg_pool", lambda rng: AvgPool2d(2), ((2, 4, 6, 3),)),
    Case("avg_pool_uncounted", lambda rng: AvgPool2d(3, 2, 1, count_include_pad=False), ((2, 4, 6, 16),)),
    Case("avg_pool_sphere", lambda rng: AvgPool2d(3, 1, 1, padding_mode="sphere"), ((2, 4, 6, 5),)),
    Case("global_avg_pool", lambda rng: GlobalAvgPool(Equirect(3)), ((2, 3, 6, 5),)),
    Case("global_avg_pool_unweighted", lambda rng: GlobalAvgPool(Equirect(3), weighted=False), ((2, 3, 6, 5),)),
    Case(
        "classifier",
        lambda rng: classifier("circular", 2, 3, Equirect(8), width=3, rng=rng),
        ((3, 8, 16, 2),),
    ),
]
