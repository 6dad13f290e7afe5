"""The layers of decoders beside torch: transposed convolution, unpooling, and convolution of video.

python benchmarks/decoder.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

import spherecnn as sc
from spherecnn.bench import Case, Work, alternate, find_torch, images

# channels in and out, kernel, stride, padding, output padding; all double the image
TRANSPOSED = ((2, 2, 0, 0), (4, 2, 1, 0), (3, 2, 1, 1))
SIZES = (((4, 64, 128), (64, 32)), ((4, 32, 64), (128, 64)))


def cases() -> list[Case]:
    """All rows of the table."""
    found = []
    for which in ("forward", "forward+backward"):
        for mode in ("circular", "zeros"):
            for size, channels in SIZES:
                for options in TRANSPOSED:
                    kernel, stride, _, _ = options
                    name = f"transposed {kernel}x{kernel}, {mode}"
                    shape = f"{'x'.join(map(str, size))}, {channels[0]} to {channels[1]}, stride {stride}"
                    work = (size, channels, mode, options, which)
                    found.append(Case(name, shape, which, lambda torch, work=work: transposed(torch, *work)))
        for size in ((4, 128, 256), (8, 64, 128)):
            shape = f"{'x'.join(map(str, size))}, 64"
            found.append(Case("max unpool 2", shape, which, lambda torch, s=size, w=which: unpooling(torch, s, w)))
        for mode in ("circular", "zeros"):
            work = ((2, 8, 32, 64), (32, 32), mode, which)
            found.append(
                Case(f"video 3x3x3, {mode}", "2x8x32x64, 32", which, lambda torch, work=work: video(torch, *work))
            )
    return found


def against(torch: Any, layer: Any, shape: tuple[int, ...], which: str, weight_axes: Any, function: Any) -> Any:
    """Our layer on random images, and `function(input, weight, bias)` of torch, in channels_last memory."""
    x, dy = images(*shape), images(*layer.out_shape(shape), seed=1)

    def ours() -> object:
        if which == "forward":
            return layer(x)
        layer.zero_grad()
        return layer.forward(x, train=True)[1](dy)

    if torch is None:
        return ours, None
    first = (0, len(shape) - 1, *range(1, len(shape) - 1))
    tx = torch.from_numpy(x).permute(first).requires_grad_()
    tdy = torch.from_numpy(dy).permute(first)
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    weight = torch.from_numpy(layer.weight.value).permute(weight_axes).contiguous(memory_format=last).requires_grad_()
    bias = torch.from_numpy(layer.bias.value.copy()).requires_grad_()

    def theirs() -> object:
        if which == "forward":
            with torch.no_grad():
                return function(tx, weight, bias)
        return torch.autograd.grad(function(tx, weight, bias), (tx, weight, bias), tdy)

    return ours, theirs


def transposed(
    torch: Any, size: Any, channels: tuple[int, int], mode: str, options: tuple[int, int, int, int], which: str
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

    return against(torch, layer, (*size, channels[0]), which, (2, 3, 0, 1), theirs)


def unpooling(torch: Any, size: tuple[int, int, int], which: str) -> tuple[Work, Work | None]:
    """Max unpooling in 2 x 2 windows; the pooling is not part of it."""
    x = images(*size, 64)
    y, indices = sc.layers.MaxPool2d(2, return_indices=True)(x)
    layer, dz = sc.layers.MaxUnpool2d(2), images(*x.shape, seed=1)

    def ours() -> object:
        z, backward = layer.forward(y, indices, train=which != "forward")
        return z if which == "forward" else backward(dz)

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
    torch: Any, size: tuple[int, ...], channels: tuple[int, int], mode: str, which: str
) -> tuple[Work, Work | None]:
    """A 3x3x3 convolution of video; torch wraps the columns by padding and does the rest itself."""
    layer = sc.layers.Conv3d(*channels, 3, padding_mode=mode, rng=0)

    def theirs(x: Any, weight: Any, bias: Any) -> Any:
        if mode == "zeros":
            return torch.nn.functional.conv3d(x, weight, bias, padding=1)
        wrapped = torch.nn.functional.pad(x, (1, 1, 0, 0, 0, 0), mode="circular")
        return torch.nn.functional.conv3d(wrapped, weight, bias, padding=(1, 1, 0))

    return against(torch, layer, (*size, channels[0]), which, (4, 3, 0, 1, 2), theirs)


def main() -> None:
    torch = find_torch()
    for case in cases():
        ours, theirs = case.make(torch)
        times = alternate([ours] if theirs is None else [ours, theirs], turns=9, most_seconds=3.0)
        difference = ""
        if torch is not None and case.which == "forward":
            a, b = ours(), np.moveaxis(theirs().numpy(), 1, -1)  # type: ignore[misc, union-attr]
            difference = f"  largest difference {np.abs(a - b).max():.0e}"
        ratio = f"  torch {times[1] * 1e3:8.2f} ms  ratio {times[1] / times[0]:.2f}" if len(times) > 1 else ""
        print(f"{case.name:26} {case.shape:32} {case.which:17} {times[0] * 1e3:8.2f} ms{ratio}{difference}", flush=True)


if __name__ == "__main__":
    main()
