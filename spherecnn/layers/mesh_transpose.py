"""Mesh convolution to a finer mesh, whose new vertices are filled first (UGSCNN)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spherecnn.errors import check_choice
from spherecnn.grids.mesh import MeshGrid
from spherecnn.kernels.arrays import concatenate, full
from spherecnn.kernels.convolve import convolve, convolve_dw, convolve_dx
from spherecnn.layers.base import Array, Backward, contiguous
from spherecnn.layers.mesh import MeshConv
from spherecnn.stencils import MESH_OPERATORS, Stencil
from spherecnn.stencils.mesh_levels import FILLS, finer_mesh, mesh_transpose


class MeshConvTranspose(MeshConv):
    r"""Convolution to the next finer mesh: its new vertices are filled, then its operators are applied.

    .. math:: y_{n,p,k} = b_k + \sum_{t,c} (D_t\, \hat x_{n,\cdot,c})_p\; w_{t,c,k},\qquad
        \hat x_p = x_p \text{ on the vertices of the coarse mesh}

    D are the operators of the finer mesh, as in `MeshConv`. It is not the adjoint of a `MeshConv` of stride 2.

    Parameters
    ----------
    in_channels, out_channels : int
    grid : MeshGrid
        Of the input, the coarse one.
    fill : {"ones", "zeros", "interpolated"}
        The values of the new vertices, which lie on the middles of edges: 1 as in the published code, 0 as in the
        paper, or the mean of the two ends. With constants most neighbours of a vertex are one, so derivatives see
        steps that the signal has not; "interpolated" has none.
    groups : int
    bias : bool
    operators, laplacian, derivatives, rng
        As for `MeshConv`.
    grid_out : MeshGrid, keyword only, optional
        Of the output; ``grid.refine()`` by default. Give the finer mesh where its vertices were moved.

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
    Jiang et al., Spherical CNNs on unstructured grids, ICLR 2019, section 3.2, and the published code, which differ in
    the filling.

    Examples
    --------
    The identity alone shows what the new vertices hold.

    >>> import numpy as np, spherecnn as sc
    >>> up = MeshConvTranspose(1, 1, sc.grids.Icosphere(0), "interpolated", operators="identity", bias=False)
    >>> up.weight.value[:] = 2
    >>> up(np.arange(12, dtype=np.float32).reshape(1, 12, 1))[0, 10:14, 0]
    array([20., 22.,  9., 13.], dtype=float32)
    """

    rectifies = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: MeshGrid,
        fill: str = "ones",
        groups: int = 1,
        bias: bool = True,
        *,
        operators: Sequence[str] = MESH_OPERATORS,
        laplacian: str = "published",
        derivatives: str = "published",
        grid_out: MeshGrid | None = None,
        rng: np.random.Generator | int | None = None,
    ):
        kinds = {"laplacian": laplacian, "derivatives": derivatives}
        super().__init__(in_channels, out_channels, grid, 1, groups, bias, operators=operators, **kinds, rng=rng)
        check_choice("fill", fill, FILLS)
        self.fill, self.grid_out = fill, finer_mesh(self.grid, grid_out)

    def stencil(self) -> Stencil:
        """Return the stencil from `grid` to `grid_out`; for "ones" it reads a site more, which holds a 1."""
        return self._stencil(self.fill)

    def _stencil(self, fill: str) -> Stencil:
        return mesh_transpose(self.grid_out, fill, self.operators, self.laplacian, self.derivatives)

    def forward(self, *xs: Array, train: bool, rectified: bool = False) -> tuple[Array, Backward]:
        x = self.checked(*xs)
        if self.fill == "ones":
            x = concatenate([x, full((len(x), 1, x.shape[2]), 1.0, x)], 1)
        x, w, stencil = contiguous(x), self.weight.value, self.stencil()
        y = convolve(x, w, None if self.bias is None else self.bias.value, stencil, self.groups)

        def backward(dy: Array, inputs: bool = True) -> Array | None:
            dy = contiguous(dy)
            dw, db = convolve_dw(x, dy, stencil, w, self.groups)
            self.weight.add_grad(dw)
            if self.bias is not None:
                self.bias.add_grad(db)
            if not inputs:
                return None
            own = self._stencil("zeros") if self.fill == "ones" else stencil  # a constant has no gradient
            return convolve_dx(dy, w, own, self.groups)

        return y, backward

    def extra_repr(self) -> str:
        given = super().extra_repr()
        return given if self.fill == "ones" else f"{given}, fill={self.fill!r}"
