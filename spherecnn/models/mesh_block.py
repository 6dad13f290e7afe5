"""The residual block of mesh networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids import MeshGrid
from spherecnn.layers import Add, BatchNorm, Composite, MeshConv, ReLU, Sequential
from spherecnn.layers.registry import generator


class MeshResBlock(Composite):
    """Mix the channels, convolve on the mesh, mix them again, and a way around all of it; on the mesh or a coarser one.

    1x1 conv - norm - ReLU - `MeshConv` - norm - ReLU - 1x1 conv - norm, plus the shortcut - ReLU

    The shortcut is the input itself, or a 1x1 convolution and a normalisation where the channels or the mesh change.
    With `coarsen` the first 1x1 convolutions read only the vertices that the coarser mesh keeps, and all else is on
    that mesh: the published block mixes the channels of all vertices before it drops most, which is the same function.

    Parameters
    ----------
    in_channels, mid_channels, out_channels : int
        `mid_channels` of the mesh convolution.
    grid : MeshGrid
        Of the input; `grid_out` is that of the output.
    coarsen : bool
        The output is on ``grid.coarsen()``.
    laplacian, derivatives : str
        As for `layers.MeshConv`.
    rng : numpy.random.Generator or int, optional

    Notes
    -----
    Jiang et al., Spherical CNNs on unstructured grids, ICLR 2019, figure 2.

    Examples
    --------
    >>> import spherecnn as sc
    >>> block = MeshResBlock(16, 16, 64, sc.grids.Icosphere(2), coarsen=True, rng=0)
    >>> block.out_shape((1, 162, 16)), block.grid_out, block.parameter_count
    ((1, 42, 64), Icosphere(1), 3808)
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        grid: MeshGrid,
        coarsen: bool = False,
        *,
        laplacian: str = "published",
        derivatives: str = "published",
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__()
        rng, stride = generator(rng), 2 if coarsen else 1
        self.conv1 = MeshConv(in_channels, mid_channels, grid, stride, operators=("identity",), rng=rng)
        self.grid_out = coarse = self.conv1.grid_out
        self.conv2 = MeshConv(mid_channels, mid_channels, coarse, laplacian=laplacian, derivatives=derivatives, rng=rng)
        self.conv3 = MeshConv(mid_channels, out_channels, coarse, operators=("identity",), rng=rng)
        self.norm1, self.norm2 = BatchNorm(mid_channels), BatchNorm(mid_channels)
        self.norm3 = BatchNorm(out_channels)
        if coarsen or in_channels != out_channels:
            conv = MeshConv(in_channels, out_channels, grid, stride, operators=("identity",), rng=rng)
            self.shortcut = Sequential(conv, BatchNorm(out_channels))
        self.act, self.add = ReLU(), Add()

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        y = r(self.act, r(self.norm1, r(self.conv1, x)))
        y = r(self.act, r(self.norm2, r(self.conv2, y)))
        y = r(self.norm3, r(self.conv3, y))
        return r(self.act, r(self.add, y, r(self.shortcut, x) if "shortcut" in self.children else x))


def coarser_meshes(grid: MeshGrid, steps: int) -> list[Any]:
    """Return a mesh and so many coarser ones, each from the one before; refuse a mesh that has not so many.

    Examples
    --------
    >>> import spherecnn as sc
    >>> coarser_meshes(sc.grids.Icosphere(2), 2)
    [Icosphere(2), Icosphere(1), Icosphere(0)]
    """
    meshes = [grid]
    for step in range(steps):
        try:
            meshes.append(meshes[-1].coarsen())
        except InputError as error:
            raise InputError(
                f"{grid!r} is too small for this network; expected a mesh that can be coarsened {steps} times, not "
                f"{step} ({error}): use a finer mesh, or fewer stages or less depth."
            ) from None
    return meshes
