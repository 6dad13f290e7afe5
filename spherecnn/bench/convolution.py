"""Rows of the speed table: convolutions, normalisation, pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

import spherecnn as sc
from spherecnn.bench.case import Case, Work, against, case, images, passes

PASSES = ("forward", "forward+backward")
# name, (samples, rows, columns), (channels in, out), padding mode, groups
CONVOLUTIONS = (
    *(("circular 3x3", (n, 64, 128), (c, c), "circular", 1) for c, n in ((32, 8), (64, 4), (128, 4), (256, 2))),
    *(("circular 3x3", (2, 128, 256), (c, c), "circular", 1) for c in (32, 64, 128)),
    ("circular 3x3", (8, 32, 64), (128, 128), "circular", 1),
    ("circular 3x3", (8, 16, 32), (256, 256), "circular", 1),
    *(("zero-padded 3x3", (n, 64, 128), (c, c), "zeros", 1) for c, n in ((32, 8), (64, 4), (128, 4), (256, 2))),
    ("sphere-padded 3x3", (4, 64, 128), (64, 64), "sphere", 1),
    ("RGB stem 3x3", (4, 256, 512), (3, 32), "circular", 1),
    ("depthwise 3x3, zeros", (8, 64, 128), (64, 64), "zeros", 64),
    ("depthwise 3x3, circular", (8, 64, 128), (64, 64), "circular", 64),
    ("16 groups 3x3, zeros", (4, 64, 128), (64, 64), "zeros", 16),
    ("4 groups 3x3, circular", (4, 64, 128), (128, 128), "circular", 4),
)


def cases(smallest: bool) -> list[Case]:
    """Convolutions, batch normalisation, pooling."""
    found = [
        case(name, conv, size, (*channels, mode, groups, which), f"{channels[0]} to {channels[1]}", which, smallest)
        for name, size, channels, mode, groups in CONVOLUTIONS
        for which in PASSES
    ]
    for name, make in (("batch norm", batch_norm), ("max pool 2", max_pool)):
        found.append(case(name, make, (8, 64, 128), (64,), "64", "forward+backward", smallest))
    return found


def conv(
    torch: Any, n: int, h: int, w: int, c: int, k: int, mode: str, groups: int, which: str
) -> tuple[Work, Work | None]:
    """A 3x3 convolution; a stem, on RGB, needs no gradient of its input."""
    stem = c == 3
    x, dy = images(n, h, w, c), images(n, h, w, k, seed=1)
    layer = sc.layers.Conv2d(c, k, 3, groups=groups, padding_mode=mode, rng=0)
    ours = passes(layer, x, dy, which, inputs=not stem)
    if torch is None:
        return ours, None
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_(not stem)
    tdy = torch.from_numpy(dy).permute(0, 3, 1, 2)
    weight = torch.from_numpy(np.ascontiguousarray(layer.weight.value.transpose(3, 2, 0, 1)))
    weight = weight.contiguous(memory_format=torch.channels_last).requires_grad_()
    bias = torch.from_numpy(layer.params["bias"].value.copy()).requires_grad_()
    function = torch.nn.functional

    def convolve() -> Any:
        if mode == "zeros":
            return function.conv2d(tx, weight, bias, padding=1, groups=groups)
        if mode == "sphere":
            rows = torch.cat([tx[:, :, :1].roll(w // 2, 3), tx, tx[:, :, -1:].roll(w // 2, 3)], 2)
            return function.conv2d(function.pad(rows, (1, 1, 0, 0), mode="circular"), weight, bias, groups=groups)
        padded = function.pad(tx, (1, 1, 0, 0), mode="circular")
        return function.conv2d(padded, weight, bias, padding=(1, 0), groups=groups)

    def theirs() -> object:
        if which == "forward":
            with torch.no_grad():
                return convolve()
        return torch.autograd.grad(convolve(), (weight, bias) if stem else (tx, weight, bias), tdy)

    return ours, theirs


def batch_norm(torch: Any, n: int, h: int, w: int, c: int) -> tuple[Work, Work | None]:
    """Batch normalisation in training."""
    peer = None if torch is None else torch.nn.BatchNorm2d(c)
    parameters = () if peer is None else tuple(peer.parameters())
    return against(torch, sc.layers.BatchNorm(c), peer, (n, h, w, c), "forward+backward", parameters)


def max_pool(torch: Any, n: int, h: int, w: int, c: int) -> tuple[Work, Work | None]:
    """Max pooling in 2 x 2 windows."""
    peer = torch and torch.nn.MaxPool2d(2)
    return against(torch, sc.layers.MaxPool2d(2), peer, (n, h, w, c), "forward+backward")
