"""Pooling and its ways back on the faces of a polyhedron: four faces to one, and one to four."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from scipy import sparse

from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Polyhedron
from spherecnn.grids.polyhedron import check_polyhedron
from spherecnn.grids.resample import sampling_matrix
from spherecnn.kernels.arrays import full
from spherecnn.kernels.depthwise import depthwise
from spherecnn.layers.base import Array, Backward, contiguous
from spherecnn.layers.site_layers import BetweenGrids, SitePool, SiteUnpool, blend_sites, largest_sites
from spherecnn.stencils import Stencil, face_pooling, spherephd

POOL_MODES = ("max", "mean", "area")
POOL_KERNELS = ("children", "rotated")
UPSAMPLE_MODES = ("nearest", "smooth")


class SpherePHDPool(SitePool):
    r"""The largest, or the mean, of the four faces in each face of the coarser grid, per channel.

    .. math::
        y_{n,p,c} = \max_{q \in children(p)} x_{n,q,c} \quad\text{or}\quad
        \frac{\sum_q a_q\, x_{n,q,c}}{\sum_q a_q}

    The gradient of a maximum goes to the first of equal faces: the middle one, then those to its right, left and low.
    NaN wins, so that divergence shows.

    Parameters
    ----------
    grid : Polyhedron
        Of the input, at level 1 or more.
    mode : {"max", "mean", "area"}
        The largest, as in the paper; the mean; the mean weighed by solid angles, which keeps the integral.
    return_indices : bool
        Also return, as int32 (N, P / 4, C), which face each maximum comes from, for `SpherePHDUnpool`.
    kernel : {"children", "rotated"}
        "rotated", only for the maximum, reads the 10 faces about the middle child, as a 3x3 window of stride 2 does
        on a picture: windows overlap.

    Attributes
    ----------
    grid_out : Polyhedron
        Of the output.

    Raises
    ------
    InputError
        If an option is unknown or the grid is the icosahedron itself.

    Notes
    -----
    Lee et al., SpherePHD, CVPR 2019, section 3.4. TensorFlow divides the gradient among equal maxima, this does not.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> pool = SpherePHDPool(sc.grids.Polyhedron(1), return_indices=True)
    >>> y, indices = pool(np.arange(80, dtype=np.float32).reshape(1, 80, 1))
    >>> y[0, :4, 0], indices[0, :4, 0]
    (array([ 3.,  7., 11., 15.], dtype=float32), array([ 3,  7, 11, 15], dtype=int32))
    """

    def __init__(self, grid: Polyhedron, mode: str = "max", return_indices: bool = False, kernel: str = "children"):
        super().__init__()
        check_choice("mode", mode, POOL_MODES)
        check_choice("return_indices", return_indices, (False, True))
        check_choice("kernel", kernel, POOL_KERNELS)
        if mode != "max" and (return_indices or kernel != "children"):
            raise InputError(
                f"mode is {mode!r} with return_indices={return_indices} and kernel={kernel!r}; expected 'max' for "
                "either of these: leave them out, or use mode='max'."
            )
        self.grid, self.grid_out = check_polyhedron(grid), grid.coarsen()
        self.mode, self.return_indices, self.kernel = mode, return_indices, kernel

    def stencil(self) -> Stencil:
        """Return the stencil of the windows."""
        return face_pooling(self.grid) if self.kernel == "children" else spherephd(self.grid, self.kernel, 2)

    def forward(self, *xs: Array, train: bool) -> tuple[Any, Backward]:
        x = self.checked(*xs)
        if self.mode == "max":
            return largest_sites(x, self.stencil(), self.return_indices)
        if self.mode == "area":
            return blend_sites(x, *(_area_matrix(self.grid, x.dtype, way) for way in (False, True)))
        stencil, weights = self.stencil(), full((4, x.shape[2]), 0.25, x)
        y = depthwise(x, weights, None, stencil)
        return y, lambda dy: depthwise(contiguous(dy), weights, None, stencil.transposed)

    def extra_repr(self) -> str:
        indices = ", return_indices=True" if self.return_indices else ""
        return f"{self.grid!r}, mode={self.mode!r}{indices}, kernel={self.kernel!r}"


class SpherePHDUnpool(SiteUnpool):
    r"""Put each value back to the face its maximum came from; zeros elsewhere.

    .. math:: y_{n,q,c} = \sum_{p:\ indices_{n,p,c} = q} x_{n,p,c}

    It takes two inputs, the values and the indices that ``SpherePHDPool(grid, return_indices=True)`` gave.

    Parameters
    ----------
    grid : Polyhedron
        Of the output: the one that was pooled.

    Raises
    ------
    InputError
        If values and indices differ in shape, or an index is no face, or not in the face that was pooled to.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> grid = sc.grids.Polyhedron(1)
    >>> y, indices = SpherePHDPool(grid, return_indices=True)(np.arange(80, dtype=np.float32).reshape(1, 80, 1))
    >>> SpherePHDUnpool(grid)(y, indices)[0, :8, 0]
    array([0., 0., 0., 3., 0., 0., 0., 7.], dtype=float32)
    """

    pooling, places = "SpherePHDPool", "faces"

    def __init__(self, grid: Polyhedron):
        super().__init__()
        self.grid, self.coarse = check_polyhedron(grid), grid.coarsen()

    def astray(self, indices: Array) -> str:
        wrong = np.flatnonzero(self.grid.parent[indices] != np.arange(len(indices)))
        if len(wrong) == 0:
            return ""
        p = wrong[0]
        return (
            f"index {indices[p]} does not lie in face {p} of {self.coarse!r}; expected one of its children "
            f"{self.coarse.children[p].tolist()}: give the indices of a pooling with kernel='children'."
        )


class SpherePHDUpsample(BetweenGrids):
    r"""Finer grid: each face copied to the four in it, or linear between the centres of the faces around.

    .. math:: y_{n,q,c} = x_{n,\ parent(q),\ c} \quad\text{or}\quad \sum_p a_{q,p}\, x_{n,p,c}

    :math:`a_{q,p}` are the weights of ``Polyhedron.taps`` at the centre of face q.

    Parameters
    ----------
    grid : Polyhedron
        Of the input, the coarse one; the output is on ``grid.refine()``.
    mode : {"nearest", "smooth"}

    Attributes
    ----------
    grid_out : Polyhedron
        Of the output.

    Raises
    ------
    InputError
        If the mode is unknown.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> SpherePHDUpsample(sc.grids.Polyhedron(0))(np.arange(20, dtype=np.float32).reshape(1, 20, 1))[0, :10, 0]
    array([0., 0., 0., 0., 1., 1., 1., 1., 2., 2.], dtype=float32)
    """

    def __init__(self, grid: Polyhedron, mode: str = "nearest"):
        super().__init__()
        check_choice("mode", mode, UPSAMPLE_MODES)
        self.grid, self.mode = check_polyhedron(grid), mode
        self.grid_out = grid.refine()

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        x = self.checked(*xs)
        return blend_sites(x, *(_upsample_matrix(self.grid, self.mode, x.dtype, way) for way in (False, True)))

    def extra_repr(self) -> str:
        return f"{self.grid!r}, mode={self.mode!r}"


@lru_cache(maxsize=32)
def _area_matrix(grid: Polyhedron, dtype: Any, transposed: bool) -> Any:
    """Matrix (P / 4, P) of the shares of the children in the solid angle of all four."""
    children = grid.coarsen().children
    area = grid.area[children]
    entries = (area / area.sum(axis=1, keepdims=True)).ravel()
    return _csr(entries, children.ravel(), np.arange(0, grid.sites + 1, 4), grid.sites, dtype, transposed)


@lru_cache(maxsize=32)
def _upsample_matrix(grid: Polyhedron, mode: str, dtype: Any, transposed: bool) -> Any:
    """Matrix (4 P, P) of an interpolation to the next finer grid."""
    fine = grid.refine()
    if mode == "nearest":
        return _csr(np.ones(fine.sites), fine.parent, np.arange(fine.sites + 1), grid.sites, dtype, transposed)
    matrix = sampling_matrix(grid, fine.xyz, "bilinear")
    return _csr(matrix.data, matrix.indices, matrix.indptr, grid.sites, dtype, transposed)


def _csr(data: Array, index: Array, first: Array, columns: int, dtype: Any, transposed: bool) -> Any:
    shape = (len(first) - 1, columns)
    matrix = sparse.csr_array((data, index.astype(np.int32), first.astype(np.int32)), shape=shape)
    return sparse.csr_array(matrix.T if transposed else matrix).astype(dtype)
