"""Pooling and its ways back on the vertices of a mesh: to the coarser one whose edges it halves, and to the finer."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.grids.mesh import MeshGrid
from spherecnn.layers.base import Array, Backward
from spherecnn.layers.mesh import check_mesh
from spherecnn.layers.site_layers import BetweenGrids, SitePool, SiteUnpool, blend_sites, largest_sites
from spherecnn.stencils import Stencil
from spherecnn.stencils.mesh_levels import (
    AVERAGES,
    UPSAMPLE_MODES,
    coarsening_matrix,
    edge_ends,
    finer_mesh,
    mesh_pooling,
    refining_matrix,
)

POOL_MODES = ("max", *AVERAGES)


class MeshPool(SitePool):
    r"""To the coarser mesh: the largest, or the mean, of each of its vertices and its neighbours on the fine mesh.

    .. math::
        y_{n,p,c} = \max_{q \in \{p\} \cup N(p)} x_{n,q,c} \quad\text{or}\quad
        \frac{\sum_q a_{p,q}\, x_{n,q,c}}{\sum_q a_{p,q}}

    N(p) are the middles of the edges at p: six, and five at the corners of the icosahedron. Windows overlap: each
    middle is in two of them.

    The gradient of a maximum goes to the first of equal vertices: p, then its neighbours in the order of their
    numbers. NaN wins, so that divergence shows.

    Parameters
    ----------
    grid : MeshGrid
        Of the input, one that can be coarsened.
    mode : {"max", "mean", "area", "subsample"}
        The largest; the mean, all weights 1; the mean weighed by solid angles, where a middle gives half of its own
        to each end of its edge, so that the integral is kept; or p alone, the published way to a coarser mesh.
    return_indices : bool
        Also return, as int32 (N, P', C), which vertex each maximum comes from, for `MeshUnpool`.

    Attributes
    ----------
    grid_out : MeshGrid
        Of the output.

    Raises
    ------
    InputError
        If an option is unknown, or the grid is no mesh or cannot be coarsened.

    Notes
    -----
    Subsampling is that of Jiang et al., Spherical CNNs on unstructured grids, ICLR 2019; their networks have no other
    pooling between levels.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> pool = MeshPool(sc.grids.Icosphere(1), return_indices=True)
    >>> y, indices = pool(np.arange(42, dtype=np.float32).reshape(1, 42, 1))
    >>> y[0, :4, 0], indices[0, :4, 0]
    (array([27., 41., 25., 39.], dtype=float32), array([27, 41, 25, 39], dtype=int32))
    """

    def __init__(self, grid: MeshGrid, mode: str = "max", return_indices: bool = False):
        super().__init__()
        check_choice("mode", mode, POOL_MODES)
        check_choice("return_indices", return_indices, (False, True))
        if mode != "max" and return_indices:
            raise InputError(
                f"mode is {mode!r} with return_indices=True; expected 'max', the only one that has indices: leave "
                "return_indices out."
            )
        self.grid, self.mode, self.return_indices = check_mesh(grid), mode, return_indices
        self.grid_out = self.grid.coarsen()

    def stencil(self) -> Stencil:
        """Return the stencil of the windows."""
        return mesh_pooling(self.grid)

    def forward(self, *xs: Array, train: bool) -> tuple[Any, Backward]:
        x = self.checked(*xs)
        if self.mode == "max":
            return largest_sites(x, self.stencil(), self.return_indices)
        return blend_sites(x, *(coarsening_matrix(self.grid, self.mode, x.dtype, way) for way in (False, True)))

    def extra_repr(self) -> str:
        indices = ", return_indices=True" if self.return_indices else ""
        return f"{self.grid!r}, mode={self.mode!r}{indices}"


class MeshUnpool(SiteUnpool):
    r"""Put each value back to the vertex its maximum came from; zeros elsewhere.

    .. math:: y_{n,q,c} = \sum_{p:\ indices_{n,p,c} = q} x_{n,p,c}

    It takes two inputs, the values and the indices that ``MeshPool(grid, return_indices=True)`` gave. A vertex in the
    middle of an edge may be the maximum of both ends; then it gets the sum.

    Parameters
    ----------
    grid : MeshGrid
        Of the output: the one that was pooled.

    Raises
    ------
    InputError
        If values and indices differ in shape, or an index is no vertex, or not in the window that was pooled.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> grid = sc.grids.Icosphere(1)
    >>> y, indices = MeshPool(grid, return_indices=True)(-np.arange(42, dtype=np.float32).reshape(1, 42, 1))
    >>> MeshUnpool(grid)(y, indices)[0, :14, 0] + 0
    array([  0.,  -1.,  -2.,  -3.,  -4.,  -5.,  -6.,  -7.,  -8.,  -9., -10.,
           -11.,   0.,   0.], dtype=float32)
    """

    pooling, places = "MeshPool", "vertices"

    def __init__(self, grid: MeshGrid):
        super().__init__()
        self.grid = check_mesh(grid)
        self.coarse = self.grid.coarsen()

    def astray(self, indices: Array) -> str:
        kept = self.coarse.sites
        ends = np.concatenate([np.repeat(np.arange(kept)[:, None], 2, axis=1), edge_ends(self.grid)])[indices]
        wrong = np.flatnonzero((ends != np.arange(len(indices))[:, None]).all(axis=1))
        if len(wrong) == 0:
            return ""
        p = wrong[0]
        return (
            f"index {indices[p]} is not beside vertex {p} of {self.coarse!r}; expected the vertex itself or the "
            "middle of one of its edges: give the indices that MeshPool returned."
        )


class MeshUpsample(BetweenGrids):
    r"""To the finer mesh: vertices keep their values, the middle of each edge gets the mean of its two ends.

    .. math:: y_{n,p,c} = x_{n,p,c},\qquad y_{n,m,c} = \tfrac12 (x_{n,a,c} + x_{n,b,c})

    Parameters
    ----------
    grid : MeshGrid
        Of the input, the coarse one.
    mode : {"bilinear", "nearest"}
        "nearest" takes the value of the nearer end; of ends as near, as all are on an icosphere, the one with the
        lower number.
    grid_out : MeshGrid, keyword only, optional
        Of the output; ``grid.refine()`` by default. Give the finer mesh where its vertices were moved.

    Attributes
    ----------
    grid_out : MeshGrid
        Of the output.

    Raises
    ------
    InputError
        If the mode is unknown or the grid is no mesh.

    Notes
    -----
    "bilinear" is the matrix `Intp` of the published meshes, which no published network uses.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> x = np.arange(12, dtype=np.float32).reshape(1, 12, 1)
    >>> MeshUpsample(sc.grids.Icosphere(0))(x)[0, 10:16, 0]
    array([10. , 11. ,  4.5,  6.5,  0.5,  2.5], dtype=float32)
    """

    def __init__(self, grid: MeshGrid, mode: str = "bilinear", *, grid_out: MeshGrid | None = None):
        super().__init__()
        check_choice("mode", mode, UPSAMPLE_MODES)
        self.grid, self.mode = check_mesh(grid), mode
        self.grid_out = finer_mesh(self.grid, grid_out)

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        x = self.checked(*xs)
        return blend_sites(x, *(refining_matrix(self.grid_out, self.mode, x.dtype, way) for way in (False, True)))

    def extra_repr(self) -> str:
        return f"{self.grid!r}, mode={self.mode!r}"
