"""Convolutions on the faces of a subdivided icosahedron (SpherePHD)."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.grids import Polyhedron
from spherecnn.grids.polyhedron import check_polyhedron
from spherecnn.layers.registry import generator
from spherecnn.layers.site_layers import SiteConv
from spherecnn.stencils import FACE_KERNELS, Stencil, spherephd
from spherecnn.stencils.spherephd import check_orientation


def coarser_by(grid: Polyhedron, stride: int) -> Polyhedron:
    """Return the grid that a convolution of this stride leads to; refuse all but powers of two within the levels."""
    stride = check_at_least("stride", stride, 1)
    levels = stride.bit_length() - 1
    if stride != 1 << levels or levels > grid.level:
        raise InputError(
            f"stride is {stride} on {grid!r}; expected a power of two, at most {1 << grid.level} here, since every "
            "level halves the edges: change the stride, or use a finer grid."
        )
    return Polyhedron(grid.level - levels)


class _OnFaces(SiteConv):
    """What convolution and its adjoint share."""

    grid: Polyhedron
    grid_out: Polyhedron

    def __init__(self, in_channels: int, out_channels: int, grid: Polyhedron, kernel: str, groups: int):
        super().__init__(in_channels, out_channels, groups)
        check_choice("kernel", kernel, tuple(FACE_KERNELS))
        self.grid, self.kernel = check_polyhedron(grid), kernel


class SpherePHDConv(_OnFaces):
    r"""Convolution on the faces of a polyhedron: a kernel of 10 faces about each, turned with the face.

    .. math:: y_{n,p,k} = b_k + \sum_{t,c} x_{n,\ face(p, t),\ c}\; w_{t,c,k}

    :math:`face(p, t)` is the face that tap t reads, see `stencils.face_taps`. With a stride there is an output for
    each face of the coarser grid, and p is the middle one of the faces in it.

    Parameters
    ----------
    in_channels, out_channels : int
    grid : Polyhedron
        Of the input.
    kernel : {"rotated", "unrotated", "hexagonal", "edge", "point"}
        10 taps, turned by half a turn on an inverted face, as in the paper; 10 taps that are not turned; 7 taps, the
        face and the six around that point the same way; 4 taps, the face and its neighbours; the face alone.
    stride : int
        A power of two; each doubling leads one level down.
    groups : int
        Groups of channels that are convolved apart; ``groups=in_channels`` is depthwise.
    bias : bool
    orientation : {"section", "north"}, keyword only
        Which way a kernel points: up in its section of the icosahedron, as in the paper, or north on the sphere. The
        first turns by up to 60 degrees over the sides of the sections about the poles; the second has no such seams,
        reads between the centres of faces, takes about 1.7 times as long, and is for the kernel "rotated".
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights, uniform in ±1/sqrt(fan_in).

    Attributes
    ----------
    weight : Param (taps, in_channels / groups, out_channels)
    bias : Param (out_channels,), or None
    grid_out : Polyhedron
        Of the output.

    Raises
    ------
    InputError
        If channels or options do not fit, or the grid has too few levels for the stride.

    Notes
    -----
    Lee et al., SpherePHD: Applying CNNs on a spherical polyhedron representation of 360 degree images, CVPR 2019,
    section 3.3. Strides, groups and the small kernels are not in the paper.

    Examples
    --------
    On the icosahedron face 0 has face 1 to its right, 4 to its left and 5 below. With the number of each face as its
    value, and weights 1, 10, 100 and 1000, it becomes 0 + 10 * 1 + 100 * 4 + 1000 * 5 = 5410.

    >>> import numpy as np, spherecnn as sc
    >>> conv = SpherePHDConv(1, 1, sc.grids.Polyhedron(0), kernel="edge", bias=False)
    >>> conv.weight.value[:, 0, 0] = [1, 10, 100, 1000]
    >>> conv(np.arange(20, dtype=np.float32).reshape(1, 20, 1))[0, :2, 0]
    array([5410., 6021.], dtype=float32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Polyhedron,
        kernel: str = "rotated",
        stride: int = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        orientation: str = "section",
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(in_channels, out_channels, grid, kernel, groups)
        check_orientation(kernel, orientation)
        self.orientation = orientation
        self.stride, self.grid_out = stride, coarser_by(self.grid, stride)
        self.init_weights(FACE_KERNELS[kernel], self.in_channels // self.groups, bias, generator(rng))

    def stencil(self) -> Stencil:
        return spherephd(self.grid, self.kernel, self.stride, self.orientation)

    def extra_repr(self) -> str:
        stride = f", stride={self.stride}" if self.stride > 1 else ""
        groups = f", groups={self.groups}" if self.groups > 1 else ""
        bias = ", bias=False" if self.bias is None else ""
        way = "" if self.orientation == "section" else f", orientation={self.orientation!r}"
        kernel = f"kernel={self.kernel!r}{stride}{groups}{bias}{way}"
        return f"{self.in_channels}, {self.out_channels}, {self.grid!r}, {kernel}"


class SpherePHDConvTranspose(_OnFaces):
    r"""Transposed convolution on faces: to the next finer grid, every face adds a scaled copy of the kernel.

    .. math:: y_{n,\ face(p, t),\ k} \mathrel{+}= x_{n,p,c}\; w_{t,c,k}, \qquad y = b + \dots

    p runs over the middle faces of the coarse ones. It is the adjoint of `SpherePHDConv` with the same kernel and a
    stride of 2 on the finer grid.

    Parameters
    ----------
    in_channels, out_channels : int
    grid : Polyhedron
        Of the input, the coarse one; the output is on ``grid.refine()``.
    kernel : {"rotated", "unrotated", "hexagonal", "edge", "point"}
        As for `SpherePHDConv`. "edge" writes each of the four children once, as a 2x2 kernel of stride 2 does on a
        picture; the larger ones overlap.
    bias : bool
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights, uniform in ±1/sqrt(taps out_channels).

    Attributes
    ----------
    weight : Param (taps, in_channels, out_channels)
    bias : Param (out_channels,), or None
    grid_out : Polyhedron
        Of the output.

    Raises
    ------
    InputError
        If channels or options do not fit.

    Examples
    --------
    Each face gives its four children, the middle one and those to its right, left and low, 1, 2, 3 and 4 times itself.

    >>> import numpy as np, spherecnn as sc
    >>> grid = sc.grids.Polyhedron(0)
    >>> up = SpherePHDConvTranspose(1, 1, grid, bias=False)
    >>> up.weight.value[:, 0, 0] = [1, 2, 3, 4]
    >>> y = up(np.arange(20, dtype=np.float32).reshape(1, 20, 1))
    >>> y[0, grid.children[5], 0]
    array([ 5., 10., 15., 20.], dtype=float32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Polyhedron,
        kernel: str = "edge",
        bias: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(in_channels, out_channels, grid, kernel, 1)
        self.grid_out = self.grid.refine()
        self.init_weights(FACE_KERNELS[kernel], self.out_channels, bias, generator(rng))

    def stencil(self) -> Stencil:
        return spherephd(self.grid_out, self.kernel, 2).transposed

    def extra_repr(self) -> str:
        bias = ", bias=False" if self.bias is None else ""
        return f"{self.in_channels}, {self.out_channels}, {self.grid!r}, kernel={self.kernel!r}{bias}"
