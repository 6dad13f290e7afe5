"""Rows of the speed table: the layers of decoders, and convolution of video."""

from __future__ import annotations

from typing import Any

import spherecnn as sc
from spherecnn.bench.case import Case, Work, against, case, images, placed

PASSES = ("forward", "forward+backward")
# kernel, stride, padding, output padding; all double the image
TRANSPOSED = ((2, 2, 0, 0), (4, 2, 1, 0), (3, 2, 1, 1))
SIZES = (((4, 64, 128), (64, 32)), ((4, 32, 64), (128, 64)))


def cases(smallest: bool) -> list[Case]:
    """Transposed convolution, unpooling, video."""
    found = []
    for mode in ("circular", "zeros"):
        for size, channels in SIZES:
            for options in TRANSPOSED:
                for which in PASSES:
                    name, text = f"transposed {options[0]}x{options[0]}, {mode}", f"{channels[0]} to {channels[1]}"
                    found.append(case(name, transposed, size, (channels, mode, options, which), text, which, smallest))
    for which in PASSES:
        found.append(case("max unpool 2", unpooling, (8, 64, 128), (which,), "64", which, smallest))
        for mode in ("circular", "zeros"):
            name = f"video 3x3x3, {mode}"
            found.append(case(name, video, (2, 8, 32, 64), ((32, 32), mode, which), "32", which, smallest))
    return found


def convolved(
    torch: Any, layer: Any, shape: tuple[int, ...], which: str, weight_axes: tuple[int, ...], function: Any
) -> tuple[Work, Work | None]:
    """Our layer, and `function(input, weight, bias)` of torch with the same weights."""
    if torch is None:
        return against(torch, layer, None, shape, which)
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    weight = torch.from_numpy(layer.weight.value).permute(weight_axes).contiguous(memory_format=last).requires_grad_()
    bias = torch.from_numpy(layer.bias.value.copy()).requires_grad_()
    return against(torch, layer, lambda x: function(x, weight, bias), shape, which, (weight, bias))


def transposed(
    torch: Any,
    n: int,
    h: int,
    w: int,
    channels: tuple[int, int],
    mode: str,
    options: tuple[int, int, int, int],
    which: str,
) -> tuple[Work, Work | None]:
    """A transposed convolution that doubles an image.

    Torch knows no circular one. Its best form: a wrapped column on either side, where the kernel overlaps, and
    more padding, which cuts them off again.
    """
    kernel, stride, padding, output_padding = options
    layer = sc.layers.ConvTranspose2d(*channels, kernel, stride, padding, output_padding, padding_mode=mode, rng=0)

    def theirs(x: Any, weight: Any, bias: Any) -> Any:
        function = torch.nn.functional
        if mode == "zeros" or kernel == stride:
            return function.conv_transpose2d(x, weight, bias, stride, padding, output_padding)
        wrapped = function.pad(x, (1, 1, 0, 0), mode="circular")
        cut = padding, padding + stride
        return function.conv_transpose2d(wrapped, weight, bias, stride, cut, output_padding)

    return convolved(torch, layer, (n, h, w, channels[0]), which, (2, 3, 0, 1), theirs)


def unpooling(torch: Any, n: int, h: int, w: int, which: str) -> tuple[Work, Work | None]:
    """Max unpooling in 2 x 2 windows; the pooling is not part of it."""
    x = images(n, h, w, 64)
    y, indices = sc.layers.MaxPool2d(2, return_indices=True)(x)
    layer, dz = sc.layers.MaxUnpool2d(2), images(*x.shape, seed=1)
    given, places, flow = placed(y, indices, dz)

    def ours() -> object:
        z, backward = layer.forward(given, places, train=which != "forward")
        return z if which == "forward" else backward(flow)

    if torch is None:
        return ours, None
    # its contiguous form is the faster one
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
    ty, tindices = torch.nn.functional.max_pool2d(tx, 2, return_indices=True)
    ty.requires_grad_()
    tdz = torch.from_numpy(dz).permute(0, 3, 1, 2).contiguous()

    def theirs() -> object:
        if which == "forward":
            with torch.no_grad():
                return torch.nn.functional.max_unpool2d(ty, tindices, 2)
        return torch.autograd.grad(torch.nn.functional.max_unpool2d(ty, tindices, 2), ty, tdz)

    return ours, theirs


def video(
    torch: Any, n: int, t: int, h: int, w: int, channels: tuple[int, int], mode: str, which: str
) -> tuple[Work, Work | None]:
    """A 3x3x3 convolution of video; torch wraps the columns by padding and does the rest itself."""
    layer = sc.layers.Conv3d(*channels, 3, padding_mode=mode, rng=0)

    def theirs(x: Any, weight: Any, bias: Any) -> Any:
        if mode == "zeros":
            return torch.nn.functional.conv3d(x, weight, bias, padding=1)
        wrapped = torch.nn.functional.pad(x, (1, 1, 0, 0, 0, 0), mode="circular")
        return torch.nn.functional.conv3d(wrapped, weight, bias, padding=(1, 1, 0))

    return convolved(torch, layer, (n, t, h, w, channels[0]), which, (4, 3, 0, 1, 2), theirs)
