"""Pooling on equirectangular images, and over the whole sphere."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

from spherecnn.errors import InputError, check_array, check_choice
from spherecnn.grids import Grid
from spherecnn.kernels.arrays import Constants, full, scale_sites
from spherecnn.kernels.depthwise import depthwise
from spherecnn.kernels.pool import NO_SWITCH, max_pool, max_pool_dx
from spherecnn.kernels.spmm import spmm
from spherecnn.kernels.unpool import switch_sites
from spherecnn.layers.base import Array, Backward, Layer, Shape, contiguous
from spherecnn.layers.conv import Pair, Window
from spherecnn.stencils import Stencil, output_size, window


def check_switches(kernel_size: Pair) -> None:
    """Refuse a window with more taps than a switch, one byte, can name."""
    if kernel_size[0] * kernel_size[1] > NO_SWITCH:
        raise InputError(
            f"kernel_size is {kernel_size}; expected at most {NO_SWITCH} taps in a pooling window: pool in two steps."
        )


class _Pool2d(Window):
    def __init__(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any, padding_mode: str):
        super().__init__(kernel_size, kernel_size if stride is None else stride, padding, dilation, padding_mode)
        reach = [d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        if any(max(p) > r // 2 for p, r in zip(self.padding, reach, strict=True)):
            raise InputError(
                f"padding is {padding} for a pooling window of {tuple(reach)}; expected at most half the window: "
                "reduce it."
            )

    def out_shape(self, *shapes: Shape) -> Any:
        ((n, h, w, c),) = shapes
        return (n, *self.stencil(h, w).shape_out, c)

    def windows(self, size: Pair, ceil_mode: bool) -> Pair:
        """Return how many windows (rows, columns) lie on an image; the last may reach beyond it in `ceil_mode`."""
        found = []
        for n, k, s, p, d in zip(size, self.kernel_size, self.stride, self.padding, self.dilation, strict=True):
            count = output_size(n, k, s, p, d)
            beyond = output_size(n, k, s, (p[0], p[1] + s - 1), d)
            found.append(beyond if ceil_mode and (beyond - 1) * s < n + p[0] else count)
        return found[0], found[1]

    def stencil_of(self, size: Pair, windows: Pair) -> Stencil:
        """Return the stencil with so many windows, the padding after the image changed to have them."""
        after = [
            (m - 1) * s + d * (k - 1) + 1 - n - p[0]
            for n, m, k, s, p, d in zip(
                size, windows, self.kernel_size, self.stride, self.padding, self.dilation, strict=True
            )
        ]
        padding = (self.padding[0][0], after[0]), (self.padding[1][0], after[1])
        return window(size, self.kernel_size, self.stride, padding, self.dilation, self.padding_mode)

    def extra_repr(self) -> str:
        return self.window_repr()


class MaxPool2d(_Pool2d):
    r"""Largest value of each window, per channel.

    .. math:: y_{n,p,q,c} = \max_{i,j} x_{n,\ p s - P + i d,\ q s - P + j d,\ c}

    Arguments as in PyTorch. With ``padding_mode="zeros"`` the border never wins; "circular" windows cross the seam.
    The gradient goes to the first of equal values; NaN wins, so that divergence shows.

    Parameters
    ----------
    kernel_size, stride, dilation : int or pair (rows, columns)
        The stride is the kernel size unless given.
    padding : int or pair
        At most half the window.
    return_indices : bool
        Also return, as int32 (N, H', W', C), which site h W + w of the image each value comes from, for
        `MaxUnpool2d`: ``y, indices = pool(x)``, and ``y, indices = r(self.pool, x)`` in a `Composite`.
    ceil_mode : bool
        Also use windows at the bottom and on the right that reach beyond the padded image.
    padding_mode : str
        As for `Conv2d`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1, 2], [4, 3]], np.float32).reshape(1, 2, 2, 1)
    >>> MaxPool2d(2)(x).ravel()
    array([4.], dtype=float32)
    >>> y, indices = MaxPool2d(2, return_indices=True)(x)
    >>> indices.ravel()
    array([2], dtype=int32)
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        padding_mode: str = "zeros",
    ):
        super().__init__(kernel_size, stride, padding, dilation, padding_mode)
        check_choice("return_indices", return_indices, (False, True))
        check_choice("ceil_mode", ceil_mode, (False, True))
        self.return_indices, self.ceil_mode = return_indices, ceil_mode
        check_switches(self.kernel_size)

    def stencil(self, height: int, width: int) -> Stencil:
        size = height, width
        if not self.ceil_mode:
            return super().stencil(height, width)
        return self.stencil_of(size, self.windows(size, ceil_mode=True))

    def forward(self, *xs: Array, train: bool) -> tuple[Any, Backward]:
        (x,) = xs
        stencil, sites = self.check_input(x)
        y, switch = max_pool(sites, stencil)

        def backward(dy: Array) -> Array:
            return max_pool_dx(contiguous(dy).reshape(y.shape), switch, stencil).reshape(x.shape)

        shape = (len(x), *stencil.shape_out, x.shape[3])
        if not self.return_indices:
            return y.reshape(shape), backward
        return (y.reshape(shape), switch_sites(switch, stencil).reshape(shape)), backward

    def out_shape(self, *shapes: Shape) -> Any:
        shape = super().out_shape(*shapes)
        return (shape, shape) if self.return_indices else shape

    def extra_repr(self) -> str:
        indices = ", return_indices=True" if self.return_indices else ""
        ceil = ", ceil_mode=True" if self.ceil_mode else ""
        return f"{self.window_repr()}{indices}{ceil}"


class AvgPool2d(_Pool2d):
    r"""Mean of each window, per channel.

    .. math:: y_{n,p,q,c} = \frac{1}{k_h k_w} \sum_{i,j} x_{n,\ p s - P + i,\ q s - P + j,\ c}

    Arguments as in PyTorch. ``count_include_pad=False`` divides by the number of sites that the window reads.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2d(2)(np.array([[1, 2], [4, 3]], np.float32).reshape(1, 2, 2, 1)).ravel()
    array([2.5], dtype=float32)
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        count_include_pad: bool = True,
        padding_mode: str = "zeros",
    ):
        super().__init__(kernel_size, stride, padding, 1, padding_mode)
        self.count_include_pad, self._constants = count_include_pad, Constants()

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        stencil, sites = self.check_input(x)
        weights = full((stencil.taps, x.shape[3]), 1 / stencil.taps, x)
        y = depthwise(sites, weights, None, stencil)
        scale = None
        if not self.count_include_pad:
            scale = self._constants.beside(x, (*x.shape[1:3], x.dtype), lambda: self._scale(stencil, x.dtype))
            y = scale_sites(y, scale)

        def backward(dy: Array) -> Array:
            dy = contiguous(dy).reshape(y.shape)
            dy = dy if scale is None else scale_sites(dy, scale)
            return depthwise(dy, weights, None, stencil.transposed).reshape(x.shape)

        return y.reshape(self.out_shape(x.shape)), backward

    @staticmethod
    def _scale(stencil: Any, dtype: Any) -> Array:
        counts = np.zeros(stencil.sites_out)
        for out, _, source in stencil.slots():
            counts[out] += source >= 0
        return (stencil.taps / np.maximum(counts, 1)).astype(dtype)


class GlobalAvgPool(Layer):
    r"""Mean over the sphere, weighted by solid angle, per channel.

    .. math:: y_{n,c} = \sum_p a_p\, x_{n,p,c} \Big/ \sum_p a_p

    Parameters
    ----------
    grid : Grid
        Whose `area` weighs the sites.
    weighted : bool
        False gives every site the same weight, as in a planar network.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> pool = sc.layers.GlobalAvgPool(sc.grids.Equirect(2))
    >>> pool(np.ones((1, 2, 4, 3), np.float32))
    array([[1., 1., 1.]], dtype=float32)
    """

    def __init__(self, grid: Grid, weighted: bool = True):
        super().__init__()
        self.grid, self.weighted = grid, weighted
        weights = np.asarray(grid.area if weighted else np.ones(grid.sites))
        self._row = scipy.sparse.csr_array((weights / weights.sum())[None])
        self._column = scipy.sparse.csr_array(self._row.T)

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        (x,) = xs
        out_shape = self.out_shape(x.shape)
        check_array("the input", x, ", ".join(["N", *["..."] * len(self.grid.shape), "C"]))
        y = spmm(self._row, contiguous(x).reshape(len(x), self.grid.sites, -1))

        def backward(dy: Array) -> Array:
            return spmm(self._column, contiguous(dy).reshape(y.shape)).reshape(x.shape)

        return y.reshape(out_shape), backward

    def out_shape(self, *shapes: Shape) -> Shape:
        (shape,) = shapes
        if tuple(shape[1:-1]) != self.grid.shape:
            raise InputError(
                f"the input has shape {shape}; expected (N, {', '.join(map(str, self.grid.shape))}, C) "
                f"for {self.grid!r}: use the grid of the input."
            )
        return (shape[0], shape[-1])

    def extra_repr(self) -> str:
        return repr(self.grid) + ("" if self.weighted else ", weighted=False")
