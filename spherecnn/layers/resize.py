"""Larger and smaller images: no seam, no hole at the poles, no shift by half a pixel."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_array, check_choice
from spherecnn.kernels.spmm import spmm
from spherecnn.layers.base import Array, Backward, Layer, Shape, contiguous
from spherecnn.layers.conv import pair
from spherecnn.stencils.resize import RESIZE_MODES, RESIZE_PADDING_MODES, check_resize, resize


class _Resize(Layer):
    def __init__(self, size: Any, scale_factor: Any, mode: str, padding_mode: str):
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise InputError(
                f"size is {size!r} and scale_factor {scale_factor!r}; expected one of the two: give the size of the "
                "output, or the factor."
            )
        check_choice("mode", mode, RESIZE_MODES)
        check_choice("padding_mode", padding_mode, RESIZE_PADDING_MODES)
        self.size = None if size is None else pair("size", size, 1)
        self.scale_factor = (1.0, 1.0) if scale_factor is None else _factors(scale_factor)
        self.mode, self.padding_mode = mode, padding_mode

    def scaled(self, length: int, factor: float) -> int:
        """Length of an axis after scaling."""
        raise NotImplementedError

    def size_out(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the output for an image of H x W."""
        if self.size is not None:
            return self.size
        rows, columns = self.scaled(height, self.scale_factor[0]), self.scaled(width, self.scale_factor[1])
        if min(rows, columns) < 1:
            raise InputError(
                f"the input has {height} x {width} pixels, which makes {rows} x {columns} with scale_factor "
                f"{self.scale_factor}; expected at least one row and column: use a larger image or another factor."
            )
        return rows, columns

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        check_array("the input", x, "N, H, W, C")
        n, h, w, c = x.shape
        sizes, how = ((h, w), self.size_out(h, w)), (self.mode, self.padding_mode, x.dtype)
        y = spmm(resize(*sizes, *how), contiguous(x).reshape(n, h * w, c))

        def backward(dy: Array) -> Array:
            adjoint = resize(*sizes, *how, transposed=True)
            return spmm(adjoint, contiguous(dy).reshape(y.shape)).reshape(x.shape)

        return y.reshape(n, *sizes[1], c), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        ((n, h, w, c),) = shapes
        size = self.size_out(h, w)
        check_resize((h, w), size, self.mode, self.padding_mode)
        return (n, *size, c)

    def extra_repr(self) -> str:
        given = f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"
        return f"{given}, mode={self.mode!r}, padding_mode={self.padding_mode!r}"


def _factors(value: Any) -> tuple[float, float]:
    both = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(both) != 2 or not all(isinstance(f, (int, float, np.number)) and 0 < f < math.inf for f in both):
        raise InputError(
            f"scale_factor is {value!r}; expected a positive number, or a pair (rows, columns): change it."
        )
    return both


class Upsample(_Resize):
    r"""Larger image: nearest pixel, or bilinear between the four around.

    .. math::
        y_{n,p,q,c} = \sum_{i,j} (1 - |u_p - i|)_+\,(1 - |v_q - j|)_+\; x_{n,i,j,c},\qquad
        u_p = (p + \tfrac12)\tfrac{H}{H'} - \tfrac12,\quad v_q = (q + \tfrac12)\tfrac{W}{W'} - \tfrac12

    Old and new image cover the same area edge to edge, so nothing moves: PyTorch's ``align_corners=False``, with
    the ratio of the sizes as the scale. "nearest" takes pixel (floor(u + 1/2), floor(v + 1/2)), which PyTorch calls
    "nearest-exact"; for whole factors it is PyTorch's "nearest" too.

    Parameters
    ----------
    size : int or pair (rows, columns)
        Size of the output. Either this or `scale_factor`.
    scale_factor : float or pair
        The output has floor(H f) rows and floor(W f) columns.
    mode : {"nearest", "bilinear", "area"}
    padding_mode : {"sphere", "sphere_poles", "circular", "replicate"}
        What "bilinear" reads beyond the edge. "sphere": columns wrap at the seam, a row beyond a pole is the row it
        came from, half a turn away. "sphere_poles": rows lie on the poles, first on first and last on last, and
        columns wrap. "circular": columns wrap, the first and last rows are repeated. "replicate": the edge pixels
        are repeated, as in PyTorch.

    Raises
    ------
    InputError
        If sizes or options do not fit; an odd width with "sphere" and "bilinear".

    Examples
    --------
    A row of two pixels around the sphere: the outer halves lie between the last and the first pixel.

    >>> import numpy as np
    >>> x = np.array([0.0, 8.0]).reshape(1, 1, 2, 1)
    >>> Upsample(scale_factor=(1, 2), mode="bilinear")(x).ravel()
    array([2., 2., 6., 6.])
    >>> Upsample(scale_factor=(1, 2), mode="bilinear", padding_mode="replicate")(x).ravel()
    array([0., 2., 6., 8.])
    >>> Upsample(scale_factor=(1, 2))(x).ravel()
    array([0., 0., 8., 8.])
    """

    def __init__(self, size: Any = None, scale_factor: Any = None, mode: str = "nearest", padding_mode: str = "sphere"):
        super().__init__(size, scale_factor, mode, padding_mode)

    def scaled(self, length: int, factor: float) -> int:
        return math.floor(length * factor)


class Downsample(_Resize):
    r"""Smaller image: the mean of what each new pixel covers, bilinear, or the nearest pixel.

    .. math:: y_{n,p,q,c} = \sum_{i,j} a_{p,i}\, b_{q,j}\; x_{n,i,j,c}

    With "area", :math:`a_{p,i}` is the share of row p that row i covers, and b the same of columns. For sizes that
    divide evenly this is PyTorch's "area", an average pool. "bilinear" and "nearest" are those of `Upsample`;
    "bilinear" reads two rows and columns whatever the factor, so use "area" for factors above 2.

    Pixels of a row and its neighbour count the same; `grids.resample` with "area" weighs by solid angle.

    Parameters
    ----------
    size : int or pair (rows, columns)
        Size of the output. Either this or `scale_factor`.
    scale_factor : float or pair
        The image becomes smaller by this: floor(H / f) rows and floor(W / f) columns.
    mode : {"area", "bilinear", "nearest"}
    padding_mode : {"sphere", "sphere_poles", "circular", "replicate"}
        As in `Upsample`; "area" never reads beyond the edge, and has no meaning with rows on the poles.

    Raises
    ------
    InputError
        If sizes or options do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([0.0, 8.0, 1.0, 3.0]).reshape(1, 1, 4, 1)
    >>> Downsample(scale_factor=(1, 2))(x).ravel()
    array([4., 2.])
    """

    def __init__(self, size: Any = None, scale_factor: Any = None, mode: str = "area", padding_mode: str = "sphere"):
        super().__init__(size, scale_factor, mode, padding_mode)

    def scaled(self, length: int, factor: float) -> int:
        return math.floor(length / factor)
