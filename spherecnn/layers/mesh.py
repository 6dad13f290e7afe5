"""Convolution by differential operators on the vertices of a mesh (UGSCNN)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids.mesh import MeshGrid
from spherecnn.layers.registry import generator
from spherecnn.layers.site_layers import SiteConv
from spherecnn.stencils import Stencil
from spherecnn.stencils.mesh import OPERATORS, check_operators, coarser_mesh, mesh


def check_mesh(grid: object) -> MeshGrid:
    """Return the grid, refusing one that is no mesh."""
    if not isinstance(grid, MeshGrid):
        raise InputError(f"the grid is {grid!r}; expected a mesh: give an Icosphere(level) or a MeshGrid.")
    return grid


class MeshConv(SiteConv):
    r"""Convolution on a mesh: a linear combination of identity, Laplacian and derivatives to the east and the north.

    .. math:: y_{n,p,k} = b_k + \sum_{t,c} (D_t\, x_{n,\cdot,c})_p\; w_{t,c,k},\qquad
        D = (1,\ \Delta,\ \partial_{east},\ \partial_{north})

    Parameters
    ----------
    in_channels, out_channels : int
    grid : MeshGrid
        Of the input; an `grids.Icosphere`, or any other closed mesh.
    stride : int
        A power of two: the operators of this grid at the vertices of the coarser one, which come first.
    groups : int
        Groups of channels that are convolved apart; ``groups=in_channels`` is depthwise.
    bias : bool
    operators : tuple of str, keyword only
        Which operators, of "identity", "laplacian", "east" and "north"; ``("identity",)`` mixes channels only.
    laplacian : {"published", "mass", "scaled"}, keyword only
        The cotangent matrix as published, which shrinks fourfold with each level; divided by the areas of the
        vertices; or this times their mean, for networks. See `grids.operators.laplacian`.
    derivatives : {"published", "compass"}, keyword only
        Along the gradient of the latitude as published, or along unit vectors, and zero at the poles, see
        `grids.operators.derivatives`.
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights, uniform in ±1/sqrt(fan_in), as published.

    Attributes
    ----------
    weight : Param (len(operators), in_channels / groups, out_channels)
    bias : Param (out_channels,), or None
    grid_out : MeshGrid
        Of the output.

    Raises
    ------
    InputError
        If the grid, the channels or options do not fit.

    Notes
    -----
    Jiang, Huang, Kashinath, Prabhat, Marcus and Niessner, Spherical CNNs on unstructured grids, ICLR 2019, equation 5.

    Examples
    --------
    The weights (0, 1, 0, 0) give the Laplacian; divided by areas it is -2 z for the height z.

    >>> import numpy as np, spherecnn as sc
    >>> grid = sc.grids.Icosphere(3)
    >>> conv = MeshConv(1, 1, grid, bias=False, laplacian="mass")
    >>> conv.weight.value[:, 0, 0] = [0, 1, 0, 0]
    >>> z = grid.vertices[None, :, 2:].astype(np.float32)
    >>> bool(np.allclose(conv(z), -2 * z, atol=0.02))
    True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: MeshGrid,
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        operators: Sequence[str] = OPERATORS,
        laplacian: str = "published",
        derivatives: str = "published",
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(in_channels, out_channels, groups)
        self.grid, self.stride = check_mesh(grid), stride
        self.grid_out = coarser_mesh(self.grid, stride)
        self.operators = check_operators(operators, laplacian, derivatives)
        self.laplacian, self.derivatives = laplacian, derivatives
        self.init_weights(len(self.operators), in_channels // groups, bias, generator(rng))

    def stencil(self) -> Stencil:
        return mesh(self.grid, self.stride, self.operators, self.laplacian, self.derivatives)

    def extra_repr(self) -> str:
        given = [f"{self.in_channels}, {self.out_channels}, {self.grid!r}"]
        options = {"stride": 1, "groups": 1, "operators": OPERATORS, "laplacian": "published"}
        for name, usual in {**options, "derivatives": "published"}.items():
            if getattr(self, name) != usual:
                given.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(given + ([] if self.bias is not None else ["bias=False"]))
