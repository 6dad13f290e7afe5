"""The U-Net of mesh convolution (UGSCNN): a value, or scores of classes, for every vertex."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import check_at_least
from spherecnn.grids import MeshGrid
from spherecnn.layers import Composite, Concat, MeshConv, MeshConvTranspose
from spherecnn.layers.mesh import check_mesh
from spherecnn.layers.registry import generator
from spherecnn.models.mesh_block import MeshResBlock, coarser_meshes


class MeshUp(Composite):
    """To the finer mesh, side by side with a skip, then a residual block; inputs are (x, skip), as many channels each.

    Parameters
    ----------
    channels : int
        Of x and of the skip.
    out_channels : int
    coarse, fine : MeshGrid
        Of x and of the skip.
    fill, laplacian, derivatives : str
        As for `layers.MeshConvTranspose`.
    rng : numpy.random.Generator or int, optional

    Examples
    --------
    >>> import spherecnn as sc
    >>> MeshUp(8, 4, sc.grids.Icosphere(0), sc.grids.Icosphere(1), rng=0).out_shape((1, 12, 8), (1, 42, 8))
    (1, 42, 4)
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        coarse: MeshGrid,
        fine: MeshGrid,
        *,
        fill: str = "ones",
        laplacian: str = "published",
        derivatives: str = "published",
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__()
        kinds: dict[str, Any] = {"laplacian": laplacian, "derivatives": derivatives, "rng": generator(rng)}
        self.up = MeshConvTranspose(channels, channels, coarse, fill, grid_out=fine, **kinds)
        self.concat = Concat()
        self.block = MeshResBlock(2 * channels, out_channels, out_channels, fine, **kinds)

    def trace(self, r: Any, *xs: Any) -> Any:
        x, skip = xs
        return r(self.block, r(self.concat, skip, r(self.up, x)))


class MeshUNet(Composite):
    """A mesh convolution, residual blocks down to the coarsest mesh and back up beside the skips, a mesh convolution.

    Build it with `mesh_unet`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: MeshGrid,
        width: int,
        depth: int,
        fill: str,
        laplacian: str,
        derivatives: str,
        rng: Any,
    ):
        super().__init__()
        self.grid, rng = check_mesh(grid), generator(rng)
        self.config = {
            "model": "mesh_unet",
            "in_channels": check_at_least("in_channels", in_channels, 1),
            "out_channels": check_at_least("out_channels", out_channels, 1),
            "grid": grid.config(),
            "width": check_at_least("width", width, 1),
            "depth": check_at_least("depth", depth, 1),
            "fill": fill,
            "laplacian": laplacian,
            "derivatives": derivatives,
        }
        meshes = coarser_meshes(grid, depth)
        kinds: dict[str, Any] = {"laplacian": laplacian, "derivatives": derivatives, "rng": rng}
        # The last step down does not double the channels.
        channels = [width << min(step, depth - 1) for step in range(depth + 1)]
        self.conv = MeshConv(in_channels, width, grid, **kinds)
        self.downs, self.ups = [], []
        for step in range(depth):
            block = MeshResBlock(channels[step], channels[step], channels[step + 1], meshes[step], True, **kinds)
            setattr(self, f"down{step + 1}", block)
            self.downs.append(block)
        for step in reversed(range(depth)):
            pair = meshes[step + 1], meshes[step]
            up = MeshUp(channels[step], channels[max(step - 1, 0)], *pair, fill=fill, **kinds)
            setattr(self, f"up{step + 1}", up)
            self.ups.append(up)
        self.head = MeshConv(width, out_channels, grid, **kinds)

    def trace(self, r: Any, *xs: Any) -> Any:
        (x,) = xs
        x, skips = r(self.conv, x), []
        for block in self.downs:
            skips.append(x)
            x = r(block, x)
        for up in self.ups:
            x = r(up, x, skips.pop())
        return r(self.head, x)


def mesh_unet(
    in_channels: int,
    out_channels: int,
    grid: MeshGrid,
    width: int = 32,
    depth: int = 5,
    fill: str = "ones",
    laplacian: str = "published",
    derivatives: str = "published",
    rng: np.random.Generator | int | None = None,
) -> MeshUNet:
    """Build the published U-Net on a mesh: one value, or the scores of the classes, for every vertex.

    On ``Icosphere(5)`` it is the network of the paper: for 2D3DS, 4 channels to 15 classes, 5,180,239 parameters
    at width 32 and 1,301,167 at 16; for climate patterns, 16 channels to 3 classes, 328,339 at width 8.

    Parameters
    ----------
    in_channels, out_channels : int
    grid : MeshGrid
        Of input and output: any mesh that can be coarsened `depth` times.
    width : int
        Channels of the first convolution; each level has twice as many as the finer one, the coarsest as many.
    depth : int
        Number of coarser levels.
    fill : {"ones", "zeros", "interpolated"}
        Of new vertices on the way up, see `layers.MeshConvTranspose`; "ones" is published.
    laplacian, derivatives : str
        "published", or "mass" and "compass", see `layers.MeshConv`.
    rng : numpy.random.Generator or int, optional

    Returns
    -------
    MeshUNet
        From (N, P, in_channels) to (N, P, out_channels).

    Raises
    ------
    InputError
        If the grid is no mesh or cannot be coarsened `depth` times, or an option is unknown.

    Notes
    -----
    Jiang et al., Spherical CNNs on unstructured grids, ICLR 2019, sections 4.3 and 4.4, and its public code. The first
    convolution has no normalisation, as published.

    Examples
    --------
    >>> import spherecnn as sc
    >>> net = mesh_unet(3, 2, sc.grids.Icosphere(2), width=4, depth=2, rng=0)
    >>> net(np.zeros((1, 162, 3), np.float32)).shape, net.parameter_count
    ((1, 162, 2), 1626)
    """
    return MeshUNet(in_channels, out_channels, grid, width, depth, fill, laplacian, derivatives, rng)
