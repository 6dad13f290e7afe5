"""The stencil of differential operators on a mesh: identity, Laplacian, derivatives to the east and the north."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee

from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.grids.base import read_only
from spherecnn.grids.operators import DERIVATIVES, LAPLACIANS, derivatives, laplacian
from spherecnn.stencils.base import Stencil
from spherecnn.stencils.sparse import SparseStencil
from spherecnn.stencils.table import table

if TYPE_CHECKING:
    from spherecnn.grids.mesh import MeshGrid

OPERATORS = ("identity", "laplacian", "east", "north")


def check_operators(operators: Any, laplacian: str, derivatives: str) -> tuple[str, ...]:
    """Return the operators as a tuple; refuse unknown ones, repeated ones and unknown forms of them."""
    check_choice("laplacian", laplacian, LAPLACIANS)
    check_choice("derivatives", derivatives, DERIVATIVES)
    chosen = (operators,) if isinstance(operators, str) else tuple(operators)
    for name in chosen:
        check_choice("operators", name, OPERATORS)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"operators is {chosen}; expected one or more of {', '.join(OPERATORS)}, each once.")
    return chosen


def coarser_mesh(grid: MeshGrid, stride: int) -> MeshGrid:
    """Return the mesh whose vertices a convolution of this stride keeps; refuse all but powers of two that exist."""
    stride = check_at_least("stride", stride, 1)
    if stride & (stride - 1):
        raise InputError(f"stride is {stride}; expected a power of two, since every level halves the edges.")
    for _ in range(stride.bit_length() - 1):
        grid = grid.coarsen()
    return grid


@lru_cache(maxsize=32)
def mesh(
    grid: MeshGrid,
    stride: int = 1,
    operators: tuple[str, ...] = OPERATORS,
    laplacian: str = "published",
    derivatives: str = "published",
) -> Stencil:
    """Stencil whose taps are differential operators at the vertices of a mesh; with a stride, at the coarser ones.

    Parameters
    ----------
    grid : MeshGrid
        Of the input.
    stride : int
        A power of two; the operators are those of `grid`, at the vertices that it has in common with the coarser mesh.
    operators : tuple of str
        Of "identity", "laplacian", "east" and "north", in the order of the taps.
    laplacian, derivatives : str
        The forms of `grids.operators.laplacian` and `grids.operators.derivatives`.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> mesh(Icosphere(2), stride=2)
    Stencil((162,) -> (42,), taps=4)
    """
    operators, coarse = check_operators(operators, laplacian, derivatives), coarser_mesh(grid, stride)
    if operators == ("identity",):
        return table(np.arange(coarse.sites)[:, None], grid.shape)
    chosen = _matrices(grid, operators, laplacian, derivatives)
    rows = sparse.vstack([matrix[: coarse.sites] for matrix in chosen], format="csr")
    by_site = np.arange(rows.shape[0]).reshape(len(operators), -1).T.ravel()
    nearby = _nearby(grid)
    return SparseStencil(rows[by_site], grid.shape, coarse.shape, nearby[nearby < coarse.sites], nearby)


def _matrices(grid: MeshGrid, operators: tuple[str, ...], lap: str, ways: str) -> list[Any]:
    found = {"identity": sparse.eye_array(grid.sites, format="csr")}
    if "laplacian" in operators:
        found["laplacian"] = laplacian(grid, lap)
    if "east" in operators or "north" in operators:
        found["east"], found["north"] = derivatives(grid, ways)
    return [found[name] for name in operators]


@lru_cache(maxsize=16)
def _nearby(grid: MeshGrid) -> np.ndarray:
    """An order of the vertices in which neighbours are near each other, so that what a block reads stays cached."""
    a, b = np.concatenate([grid.faces, np.roll(grid.faces, 1, axis=1)]).reshape(2, -1)
    edges = sparse.csr_array((np.ones(len(a), np.int8), (a, b)), shape=(grid.sites, grid.sites))
    return read_only(reverse_cuthill_mckee(edges, symmetric_mode=True))
