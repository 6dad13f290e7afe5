"""Max unpooling: the decoder's side of max pooling."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_array
from spherecnn.kernels.arrays import FirstLook
from spherecnn.kernels.unpool import unpool, unpool_dx
from spherecnn.layers.base import Array, Backward, Shape, contiguous
from spherecnn.layers.conv import Pair, pair
from spherecnn.layers.pool import _Pool2d
from spherecnn.stencils import Stencil


class MaxUnpool2d(_Pool2d):
    r"""Put each value back to where its maximum was; zeros elsewhere.

    .. math:: y_{n,q,c} = \sum_{p:\ indices_{n,p,c} = q} x_{n,p,c}

    It takes two inputs, the values and the indices that ``MaxPool2d(..., return_indices=True)`` gave, with the
    arguments of that pooling. Where windows overlap, values that go to the same site are summed, in the order of
    their windows (PyTorch keeps one of them, at random; gradients agree).

    Parameters
    ----------
    kernel_size, stride : int or pair (rows, columns)
    padding : int or pair
    padding_mode : str
        As for `MaxPool2d`.
    output_size : pair (rows, columns), optional
        Of the image that was pooled. By default (size - 1) stride - 2 padding + kernel_size as in PyTorch, but
        size * stride for columns that wrap and rows that fold over the poles (padding_mode "circular", "sphere").

    Raises
    ------
    InputError
        If values and indices differ in shape, or the indices do not lie in the windows of such an image.

    Notes
    -----
    On a GPU, where a look at indices waits, they are checked until the first right ones of a shape; wrong ones are
    ignored after that.

    Source: Zeiler and Fergus, Visualizing and understanding convolutional networks, ECCV 2014, section 2.1.

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> x = np.array([[1, 2, 5, 0], [4, 3, 0, 6]], np.float32).reshape(1, 2, 4, 1)
    >>> y, indices = sc.layers.MaxPool2d(2, return_indices=True)(x)
    >>> MaxUnpool2d(2)(y, indices)[0, :, :, 0]
    array([[0., 0., 0., 0.],
           [4., 0., 0., 6.]], dtype=float32)
    """

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        padding_mode: str = "zeros",
        output_size: Any = None,
    ):
        super().__init__(kernel_size, stride, padding, 1, padding_mode)
        self.output_size = None if output_size is None else pair("output_size", output_size, 1)
        self._look = FirstLook()

    def image_size(self, size: Pair) -> Pair:
        """Return (rows, columns) of the image that was pooled to `size`, refusing one that has other windows."""
        closed = self.padding_mode == "sphere", self.padding_mode in ("circular", "sphere", "sphere_poles")
        axes = zip(size, self.kernel_size, self.stride, self.padding, closed, strict=True)
        height, width = (m * s if around else (m - 1) * s - sum(p) + k for m, k, s, p, around in axes)
        image = self.output_size or (height, width)
        fewest, most = self.windows(image, ceil_mode=False), self.windows(image, ceil_mode=True)
        if not all(a <= m <= b for a, m, b in zip(fewest, size, most, strict=True)):
            raise InputError(
                f"an image of {image[0]} x {image[1]} has {fewest[0]} x {fewest[1]} windows, but the input is "
                f"{size[0]} x {size[1]}: expected the size of the image that was pooled; give it as output_size."
            )
        return image

    def forward(self, *xs: Array, train: bool) -> tuple[Array, Backward]:
        x, indices = xs
        check_array("the input", x, "N, H, W, C")
        out_shape = self.out_shape(x.shape, indices.shape)
        n, h, w, c = x.shape
        sites = out_shape[1] * out_shape[2]
        self._look(indices, lambda values: self._check_indices(values, sites, (h, w), out_shape[1:3]))
        index = contiguous(indices, np.int32).reshape(n, h * w, c)
        y = unpool(contiguous(x).reshape(index.shape), index, sites)

        def backward(dy: Array) -> tuple[Array, None]:
            return unpool_dx(contiguous(dy).reshape(y.shape), index).reshape(x.shape), None

        return y.reshape(out_shape), backward

    def _check_indices(self, indices: Array, sites: int, windows: Pair, image: Shape) -> None:
        """Refuse indices of another image: all must be sites, and those of one channel lie in their windows."""
        if indices.dtype.kind not in "iu":
            raise InputError(
                f"the indices have dtype {indices.dtype}; expected integers: pass what MaxPool2d returned second."
            )
        least, most = (indices.min(), indices.max()) if indices.size else (0, 0)
        if least < -1 or most >= sites:
            raise InputError(
                f"the indices run from {least} to {most}; expected sites of an image of "
                f"{image[0]} x {image[1]}: give the size of the image that was pooled as output_size."
            )
        first = indices[:1, :, :, :1].reshape(-1)
        seen = (first < 0) | (_sources(self.stencil_of((image[0], image[1]), windows)) == first).any(axis=0)
        if not seen.all():
            p = int(np.flatnonzero(~seen)[0])
            raise InputError(
                f"index {first[p]} does not lie in window {divmod(p, windows[1])} of an image of "
                f"{image[0]} x {image[1]}: expected the indices, and the arguments, of the pooling."
            )

    def out_shape(self, *shapes: Shape) -> Shape:
        shape, indices = shapes
        if tuple(shape) != tuple(indices):
            raise InputError(
                f"the input has shape {tuple(shape)} and the indices {tuple(indices)}; expected equal shapes: "
                "the layers between pooling and unpooling must keep the number of channels."
            )
        n, h, w, c = shape
        return (n, *self.image_size((h, w)), c)

    def extra_repr(self) -> str:
        return self.window_repr() + (f", output_size={self.output_size}" if self.output_size else "")


@lru_cache(maxsize=32)
def _sources(stencil: Stencil) -> Array:
    """Which sites each window reads, (taps, windows)."""
    table = np.full((stencil.taps, stencil.sites_out), -1, np.int32)
    for out, tap, source in stencil.slots():
        table[tap, out] = source
    return table
