"""Stencils and matrices between a mesh and the coarser one whose edges it halves."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from spherecnn.errors import InputError, check_choice
from spherecnn.grids.base import read_only
from spherecnn.stencils.base import Stencil
from spherecnn.stencils.mesh import OPERATORS, mesh
from spherecnn.stencils.sparse import SparseStencil
from spherecnn.stencils.table import table

if TYPE_CHECKING:
    from spherecnn.grids.mesh import MeshGrid

FILLS = ("ones", "zeros", "interpolated")
UPSAMPLE_MODES = ("bilinear", "nearest")
AVERAGES = ("mean", "area", "subsample")


@lru_cache(maxsize=32)
def edge_ends(grid: MeshGrid) -> np.ndarray:
    """The two vertices of the coarser mesh, the lower number first, between which each further vertex lies.

    Parameters
    ----------
    grid : MeshGrid
        The fine one, P vertices; P' of the coarser one come first.

    Returns
    -------
    int ndarray (P - P', 2)

    Examples
    --------
    >>> import spherecnn as sc
    >>> grid = sc.grids.Icosphere(1)
    >>> a, b = edge_ends(grid).T
    >>> bool(np.allclose((grid.vertices[a] + grid.vertices[b])[0] / 2 * 1.1755705, grid.vertices[12]))
    True
    """
    kept = grid.coarsen().sites
    a, b = np.concatenate([grid.faces, np.roll(grid.faces, 1, axis=1)]).reshape(2, -1)
    a, b = np.concatenate([a, b]), np.concatenate([b, a])
    across = (a >= kept) & (b < kept)
    pairs = np.unique(a[across] * kept + b[across])
    middle, end = np.divmod(pairs, kept)
    if not np.array_equal(middle, np.repeat(np.arange(kept, grid.sites), 2)):
        raise InputError(f"{grid!r} does not halve the edges of {grid.coarsen()!r}; expected a mesh made by refine().")
    return read_only(end.reshape(-1, 2))


@lru_cache(maxsize=32)
def mesh_pooling(grid: MeshGrid) -> Stencil:
    """Stencil of the windows of pooling: a vertex of the coarser mesh, then its neighbours on this one.

    Neighbours, the middles of its edges, come in the order of their numbers; where there are fewer than elsewhere,
    as at the twelve corners of the icosahedron, the last taps read nothing.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> mesh_pooling(Icosphere(2))
    Stencil((162,) -> (42,), taps=7)
    """
    ends, kept = edge_ends(grid), grid.coarsen().sites
    order = np.argsort(ends.ravel(), kind="stable")
    end, middle = ends.ravel()[order], kept + order // 2
    count = np.bincount(end, minlength=kept)
    windows = np.full((kept, 1 + count.max()), -1)
    windows[:, 0] = np.arange(kept)
    windows[end, 1 + np.arange(len(end)) - np.repeat(np.cumsum(count) - count, count)] = middle
    return table(windows, grid.shape)


@lru_cache(maxsize=64)
def coarsening_matrix(grid: MeshGrid, mode: str, dtype: Any = np.float64, transposed: bool = False) -> Any:
    """Matrix (P', P) to the coarser mesh: means over the windows of `mesh_pooling`, or its vertices alone.

    Parameters
    ----------
    grid : MeshGrid
        The fine one.
    mode : {"mean", "area", "subsample"}
        Equal weights; the areas of the vertices, of which a middle gives half to each end of its edge; or the
        vertices that both meshes have.
    dtype : dtype
    transposed : bool

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> coarsening_matrix(Icosphere(1), "mean").sum(axis=1)[:2]
    array([1., 1.])
    """
    check_choice("mode", mode, AVERAGES)
    kept, middles = grid.coarsen().sites, np.arange(grid.coarsen().sites, grid.sites)
    own = sparse.eye_array(kept, grid.sites, format="csr")
    if mode == "subsample":
        return _typed(own, dtype, transposed)
    places = edge_ends(grid).T.ravel(), np.tile(middles, 2)
    around = sparse.csr_array((np.ones(2 * len(middles)), places), shape=own.shape)
    if mode == "area":
        own, around = (part @ sparse.diags_array(grid.area * by) for part, by in ((own, 1), (around, 0.5)))
    matrix = own + around
    return _typed(sparse.diags_array(1 / matrix.sum(axis=1)) @ matrix, dtype, transposed)


@lru_cache(maxsize=64)
def refining_matrix(grid: MeshGrid, mode: str, dtype: Any = np.float64, transposed: bool = False) -> Any:
    """Matrix (P, P') from the coarser mesh: vertices keep their values; middles of edges have those of the ends.

    Parameters
    ----------
    grid : MeshGrid
        The fine one.
    mode : {"bilinear", "nearest"}
        The mean of both ends, or the value of the nearer one; on the sphere of an icosphere both are as near, and the
        lower number counts.
    dtype : dtype
    transposed : bool

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> (refining_matrix(Icosphere(1), "bilinear") @ np.arange(12.0))[10:16]
    array([10. , 11. ,  4.5,  6.5,  0.5,  2.5])
    """
    check_choice("mode", mode, UPSAMPLE_MODES)
    ends, kept = edge_ends(grid), grid.coarsen().sites
    places = np.repeat(np.arange(len(ends)), 2), ends.ravel()
    shares = np.full(len(ends) * 2, 0.5)
    if mode == "nearest":
        near = np.linalg.norm(grid.vertices[ends] - grid.vertices[kept:, None], axis=2)
        second = near[:, 1] < near[:, 0] * (1 - 1e-9)
        shares = np.stack([~second, second], axis=1).astype(float).ravel()
    middles = sparse.csr_array((shares, places), shape=(len(ends), kept))
    middles.eliminate_zeros()
    return _typed(sparse.vstack([sparse.eye_array(kept), middles], format="csr"), dtype, transposed)


@lru_cache(maxsize=32)
def mesh_transpose(
    grid: MeshGrid,
    fill: str = "ones",
    operators: tuple[str, ...] = OPERATORS,
    laplacian: str = "published",
    derivatives: str = "published",
) -> SparseStencil:
    """Stencil from the coarser mesh: the operators of the fine one, its new vertices filled.

    Parameters
    ----------
    grid : MeshGrid
        The fine one.
    fill : {"ones", "zeros", "interpolated"}
        What the new vertices hold: 0, the mean of the two vertices beside them, or 1. For "ones" the stencil reads
        one site more, the last, where the caller puts a 1.
    operators, laplacian, derivatives
        As for `mesh`.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> mesh_transpose(Icosphere(2), "zeros")
    Stencil((42,) -> (162,), taps=4)
    """
    check_choice("fill", fill, FILLS)
    coarse = grid.coarsen()
    kept = coarse.sites
    whole = mesh(grid, 1, operators, laplacian, derivatives)
    if isinstance(whole, SparseStencil):
        matrix, order = whole.matrix, whole.order
    else:
        matrix, order = sparse.eye_array(grid.sites, format="csr"), np.arange(grid.sites)
    order_in = order[order < kept]
    if fill == "interpolated":
        return SparseStencil(matrix @ refining_matrix(grid, "bilinear"), coarse.shape, grid.shape, order, order_in)
    own, new = matrix[:, :kept], matrix[:, kept:]
    if fill == "zeros":
        return SparseStencil(own, coarse.shape, grid.shape, order, order_in)
    joined = sparse.hstack([own, sparse.csr_array(new.sum(axis=1)[:, None])], format="csr")
    joined.eliminate_zeros()
    return SparseStencil(joined, (kept + 1,), grid.shape, order, np.append(order_in, kept))


def _typed(matrix: Any, dtype: Any, transposed: bool) -> Any:
    matrix = sparse.csr_array(matrix.T if transposed else matrix).astype(dtype)
    matrix.sort_indices()
    return matrix


def finer_mesh(coarse: MeshGrid, fine: MeshGrid | None = None) -> MeshGrid:
    """Return a mesh that halves the edges of this one: the one that is given, or the one that ``refine()`` makes.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> finer_mesh(Icosphere(1))
    Icosphere(2)
    """
    if fine is None:
        return coarse.refine()
    if fine.coarsen() != coarse:
        raise InputError(
            f"{coarse!r} and {fine!r} are not one level apart; expected a mesh and the one that refines it: give the "
            "grids before and after a pooling."
        )
    return fine
