"""Convolution and pooling on tangent planes of the sphere (SphereNet)."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.grids import Equirect, Grid
from spherecnn.grids.equirect import check_equirect
from spherecnn.kernels.expand import blend
from spherecnn.kernels.pool import max_pool, max_pool_dx
from spherecnn.layers.base import Array, Backward, Shape, contiguous
from spherecnn.layers.conv import Conv2d, Window
from spherecnn.layers.pool import check_switches
from spherecnn.stencils import SPACINGS, Stencil, tangent


class _TangentWindow:
    """What convolution and pooling share: the grid, and the stencil on its tangent planes."""

    grid: Equirect
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    spacing: str

    def place(self, grid: Grid, spacing: str) -> None:
        """Keep grid and spacing; refuse a kernel that they cannot hold."""
        check_choice("spacing", spacing, SPACINGS)
        self.grid, self.spacing = check_equirect(grid), spacing
        self.stencil(*grid.shape)

    def stencil(self, height: int, width: int) -> Stencil:
        """Return the stencil; refuse an image that is not on the grid of the layer."""
        if (height, width) != self.grid.shape:
            raise InputError(
                f"the input has {height} x {width} pixels; expected {self.grid.height} x {self.grid.width} for "
                f"{self.grid!r}: build the layer for the grid of the input."
            )
        return tangent(self.grid, self.kernel_size, self.stride, self.dilation, self.spacing)

    def window_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, dilation={self.dilation}, grid={self.grid!r}, "
            f"spacing={self.spacing!r}"
        )


class TangentConv2d(_TangentWindow, Conv2d):
    r"""Convolution with a kernel on the plane that touches the sphere at each pixel: the same everywhere.

    .. math:: y_{n,p,k} = b_k + \sum_{i,j,c} \tilde x_{n,c}(G_p(x_j, y_i))\; w_{i,j,c,k}

    :math:`G_p` is the inverse gnomonic projection about pixel p, :math:`(x_j, y_i)` are the taps on the plane
    (`stencils.tangent_taps`) and :math:`\tilde x` is the image between its pixels, bilinear in latitude and
    longitude, over the seam and the poles. A kernel is upright: row 0 to the north. Weights of a trained planar
    network fit unchanged; with "spherenet" spacing both layers agree on a row that lies on the equator.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or pair (rows, columns)
        Odd.
    stride, dilation : int or pair
        Output (i, j) is centred on pixel (i stride, j stride): ceil(H / stride) x ceil(W / stride) outputs.
    groups : int
    bias : bool
    grid : Equirect, keyword only
        Of the input.
    spacing : {"spherenet", "equiconv"}, keyword only
        Taps at the neighbours' angles (SphereNet), or evenly on the plane (EquiConvs).
    rng : numpy.random.Generator or int, keyword only
        Of the initial weights, as in `Conv2d`.

    Attributes
    ----------
    weight : Param (kh, kw, in_channels / groups, out_channels)
    bias : Param (out_channels,), or None

    Raises
    ------
    InputError
        If channels, sizes or options do not fit, or the kernel reaches 90 degrees.

    Notes
    -----
    Coors, Condurache and Geiger, SphereNet, ECCV 2018, section 3; Tateno, Navab and Tombari, Distortion-Aware
    Convolutional Filters, ECCV 2018; Fernandez-Labrador et al., Corners for Layout, RA-L 2020. The usual public code
    takes arctan of a quotient, which puts three taps beside each pole half a turn off, and samples half a pixel off;
    ``tests/test_tangent.py`` compares with its corrected positions.

    Examples
    --------
    A kernel that reads one step to the east. On row 0 of a 4-row grid, 67.5 degrees north, a step of 45 degrees at
    the equator leads 69 degrees to the east, down to 40.8 degrees north.

    >>> import numpy as np, spherecnn as sc
    >>> grid = sc.grids.Equirect(4)
    >>> conv = TangentConv2d(1, 1, (1, 3), bias=False, grid=grid)
    >>> conv.weight.value[0, :, 0, 0] = [0, 0, 1]
    >>> lat = np.degrees(grid.lat).reshape(1, 4, 8, 1).astype(np.float32)
    >>> conv(lat)[0, :, 0, 0].round(1)
    array([ 40.8,  15.7, -15.7, -40.8], dtype=float32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any = 3,
        stride: Any = 1,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        grid: Grid,
        spacing: str = "spherenet",
        rng: np.random.Generator | int | None = None,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride, "same", dilation, groups, bias, rng=rng)
        self.place(grid, spacing)


class _TangentPool(_TangentWindow, Window):
    def __init__(self, kernel_size: Any, stride: Any, dilation: Any, grid: Grid, spacing: str):
        super().__init__(kernel_size, kernel_size if stride is None else stride, "same", dilation, "sphere")
        check_switches(self.kernel_size)
        self.place(grid, spacing)

    def out_shape(self, *shapes: Shape) -> Shape:
        ((n, h, w, c),) = shapes
        return (n, *self.stencil(h, w).shape_out, c)

    def extra_repr(self) -> str:
        return self.window_repr()


class TangentMaxPool2d(_TangentPool):
    r"""Largest of the taps on the tangent plane of each pixel, per channel.

    .. math:: y_{n,p,c} = \max_{i,j} \tilde x_{n,c}(G_p(x_j, y_i))

    Taps and interpolation are those of `TangentConv2d`; the gradient goes to the pixels around the tap that won, by
    their shares, to the first of equal taps; NaN wins, so that divergence shows.

    Parameters
    ----------
    kernel_size : int or pair (rows, columns)
        Odd.
    stride : int or pair, optional
        The kernel size unless given; the published networks pool with a kernel of 3 and a stride of 2.
    dilation : int or pair
    grid : Equirect, keyword only
        Of the input.
    spacing : {"spherenet", "equiconv"}, keyword only

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> pool = TangentMaxPool2d(3, 2, grid=sc.grids.Equirect(4))
    >>> pool(np.ones((1, 4, 8, 1), np.float32))[0, :, :, 0]
    array([[1., 1., 1., 1.],
           [1., 1., 1., 1.]], dtype=float32)
    """

    def __init__(
        self, kernel_size: Any, stride: Any = None, dilation: Any = 1, *, grid: Grid, spacing: str = "spherenet"
    ):
        super().__init__(kernel_size, stride, dilation, grid, spacing)

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        stencil, sites = self.check_input(x)
        y, switch = max_pool(sites, stencil)

        def backward(dy: Array) -> Array:
            return max_pool_dx(contiguous(dy).reshape(y.shape), switch, stencil).reshape(x.shape)

        return y.reshape(self.out_shape(x.shape)), backward


class TangentAvgPool2d(_TangentPool):
    r"""Mean of the taps on the tangent plane of each pixel, per channel.

    .. math:: y_{n,p,c} = \frac{1}{k_h k_w} \sum_{i,j} \tilde x_{n,c}(G_p(x_j, y_i))

    Parameters as for `TangentMaxPool2d`.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> pool = TangentAvgPool2d(3, 2, grid=sc.grids.Equirect(4))
    >>> pool(np.ones((1, 4, 8, 1)))[0, :, :, 0].round(12)
    array([[1., 1., 1., 1.],
           [1., 1., 1., 1.]])
    """

    def __init__(
        self, kernel_size: Any, stride: Any = None, dilation: Any = 1, *, grid: Grid, spacing: str = "spherenet"
    ):
        super().__init__(kernel_size, stride, dilation, grid, spacing)

    def stencil(self, height: int, width: int) -> Stencil:
        super().stencil(height, width)
        return tangent(self.grid, self.kernel_size, self.stride, self.dilation, self.spacing, average=True)

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        stencil, sites = self.check_input(x)
        y = blend(sites, stencil)

        def backward(dy: Array) -> Array:
            return blend(contiguous(dy).reshape(y.shape), stencil.transposed).reshape(x.shape)

        return y.reshape(self.out_shape(x.shape)), backward
