"""The classifiers of mesh convolution (UGSCNN), on the vertices of a mesh."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import check_at_least, check_choice
from spherecnn.grids import Icosphere, MeshGrid
from spherecnn.layers import BatchNorm, Composite, Dropout, GlobalAvgPool, Linear, MeshConv, ReLU
from spherecnn.layers.mesh import check_mesh
from spherecnn.layers.registry import generator
from spherecnn.models.mesh_block import MeshResBlock, coarser_meshes


class MeshClassifier(Composite):
    """A mesh convolution, residual blocks each on the next coarser mesh, the mean over the vertices, a linear layer.

    MeshConv - norm - ReLU - `MeshResBlock` for each stage - mean - dropout - linear

    Build it with `mesh_classifier` or `mesh_modelnet`.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        grid: MeshGrid,
        width: int,
        stages: int,
        stride: int,
        expansion: int,
        weighted: bool,
        dropout: float,
        laplacian: str,
        derivatives: str,
        rng: Any,
    ):
        super().__init__()
        self.grid, rng = check_mesh(grid), generator(rng)
        check_choice("weighted", weighted, (False, True))
        self.config = {
            "model": "mesh_classifier",
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "classes": check_at_least("classes", classes, 2),
            "grid": grid.config(),
            "width": check_at_least("width", width, 1),
            "stages": check_at_least("stages", stages, 1),
            "stride": check_at_least("stride", stride, 1),
            "expansion": check_at_least("expansion", expansion, 1),
            "weighted": weighted,
            "dropout": dropout,
            "laplacian": laplacian,
            "derivatives": derivatives,
        }
        coarser_meshes(grid, stages + stride.bit_length() - 1)
        kinds: dict[str, Any] = {"laplacian": laplacian, "derivatives": derivatives}
        self.conv = MeshConv(in_channels, width, grid, stride, **kinds, rng=rng)
        self.norm, self.act = BatchNorm(width), ReLU()
        self.blocks, channels, fine = [], width, self.conv.grid_out
        for stage in range(stages):
            out = width * expansion * 4**stage
            block = MeshResBlock(channels, channels, out, fine, coarsen=True, **kinds, rng=rng)
            setattr(self, f"block{stage + 1}", block)
            self.blocks.append(block)
            channels, fine = out, block.grid_out
        self.pool = GlobalAvgPool(fine, weighted)
        self.dropout = Dropout(dropout, rng=rng)
        self.head = Linear(channels, classes, rng=rng)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        x = r(self.act, r(self.norm, r(self.conv, x)))
        for block in self.blocks:
            x = r(block, x)
        return r(self.head, r(self.dropout, r(self.pool, x)))


def mesh_classifier(
    in_channels: int,
    classes: int,
    grid: MeshGrid,
    width: int = 16,
    stages: int = 2,
    stride: int = 1,
    expansion: int = 4,
    weighted: bool = False,
    dropout: float = 0.5,
    laplacian: str = "published",
    derivatives: str = "published",
    rng: np.random.Generator | int | None = None,
) -> MeshClassifier:
    """Build the published classifier on a mesh; as given, the network of spherical MNIST.

    With one channel and ten classes it has 61,658 parameters.

    Parameters
    ----------
    in_channels, classes : int
    grid : MeshGrid
        Of the input, for MNIST ``Icosphere(4)``: any mesh that can be coarsened `stages` times.
    width : int
        Channels of the first convolution.
    stages : int
        Residual blocks, each on the next coarser mesh; every one has four times the channels of the one before.
    stride : int
        Of the first convolution; 2 in the network of ModelNet40, see `mesh_modelnet`.
    expansion : int
        How many times `width` the channels of the first block are: 4, or 2 in the smallest published network.
    weighted : bool
        Weigh the mean over the vertices by solid angle. The published one is not weighted.
    dropout : float
        Probability, before the linear layer.
    laplacian, derivatives : str
        "published", or "mass" and "compass", see `layers.MeshConv`.
    rng : numpy.random.Generator or int, optional
        Of the initial weights and of dropout.

    Returns
    -------
    MeshClassifier
        From (N, P, in_channels) to (N, classes) scores.

    Raises
    ------
    InputError
        If the grid is no mesh or too small, or an option is unknown.

    Notes
    -----
    Jiang et al., Spherical CNNs on unstructured grids, ICLR 2019, section 4.1, and its public code.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = mesh_classifier(1, 10, sc.grids.Icosphere(4), rng=0)
    >>> net(np.zeros((2, 2562, 1), np.float32)).shape, net.parameter_count
    ((2, 10), 61658)
    """
    return MeshClassifier(
        in_channels, classes, grid, width, stages, stride, expansion, weighted, dropout, laplacian, derivatives, rng
    )


def mesh_modelnet(
    in_channels: int = 6,
    classes: int = 40,
    grid: MeshGrid | None = None,
    width: int = 16,
    expansion: int = 4,
    weighted: bool = False,
    dropout: float = 0.5,
    laplacian: str = "published",
    derivatives: str = "published",
    rng: np.random.Generator | int | None = None,
) -> MeshClassifier:
    """Build the published network of ModelNet40: `mesh_classifier` of a first stride of 2 and three stages.

    It has 960,056 parameters at width 16, 3,737,160 at width 32, the one of the paper, and 70,192 at width 8 with an
    expansion of 2, the published small variant.

    Parameters
    ----------
    in_channels : int
        Six: distance and the two products of ray and normal, of the shape and of its convex hull.
    grid : MeshGrid, optional
        ``Icosphere(5)`` by default.
    classes, width, expansion, weighted, dropout, laplacian, derivatives, rng
        As for `mesh_classifier`.

    Notes
    -----
    Jiang et al. 2019, section 4.2, and its public code.

    Examples
    --------
    >>> mesh_modelnet(rng=0).parameter_count
    960056
    """
    mesh = Icosphere(5) if grid is None else grid
    return MeshClassifier(
        in_channels, classes, mesh, width, 3, 2, expansion, weighted, dropout, laplacian, derivatives, rng
    )
