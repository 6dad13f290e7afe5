"""Rows of the speed table: convolutions that follow the distortion of the panorama."""

from __future__ import annotations

from typing import Any

import numpy as np

import spherecnn as sc
from spherecnn.bench.case import Case, Work, against, case, images, passes
from spherecnn.stencils import tangent_directions, tangent_taps

PASSES = ("forward", "forward+backward")
# (samples, rows, columns), channels
TANGENT = (((4, 64, 128), 32), ((4, 128, 256), 32), ((4, 64, 128), 64))
FACES = ((8, 101, 202), 32)  # about as many pixels as faces of level 5
ROWS = (((4, 64, 128), 32), ((4, 64, 128), 64))


def cases(smallest: bool) -> list[Case]:
    """Convolution and pooling on tangent planes, kernels for each row, and the direct convolution beside them."""
    found = []
    for name, make, sizes in (
        ("direct circular 3x3", direct, (*TANGENT, FACES)),
        ("tangent 3x3", tangent, TANGENT),
        ("SphConv, rows of 3x3 to 5x11", sphconv, ROWS),
    ):
        found += [
            case(name, make, size, (c, which), f"{c} to {c}", which, smallest) for size, c in sizes for which in PASSES
        ]
    found.append(case("tangent max pool 3/2", max_pool, (4, 64, 128), (64,), "64", "forward+backward", smallest))
    return found


def direct(torch: Any, n: int, h: int, w: int, c: int, which: str) -> tuple[Work, Work | None]:
    """A circular convolution without Winograd's tiles: what the multiply-adds of the others are held against."""
    layer = sc.layers.CircularConv2d(c, c, 3, exact=True, rng=0)
    if torch is None:
        return against(None, layer, None, (n, h, w, c), which)
    weight, bias = torch_weights(torch, layer)

    def peer(x: Any) -> Any:
        padded = torch.nn.functional.pad(x, (1, 1, 0, 0), mode="circular")
        return torch.nn.functional.conv2d(padded, weight, bias, padding=(1, 0))

    return against(torch, layer, peer, (n, h, w, c), which, (weight, bias))


def tangent(torch: Any, n: int, h: int, w: int, c: int, which: str) -> tuple[Work, Work | None]:
    """Torch as published: the taps sampled to an image of three times the size, then a convolution of stride 3."""
    grid = sc.grids.Equirect(h, w)
    layer = sc.layers.TangentConv2d(c, c, 3, grid=grid, rng=0)
    if torch is None:
        return against(None, layer, None, (n, h, w, c), which)
    weight, bias = torch_weights(torch, layer)
    sample = sampler(torch, grid, n, 1)

    def peer(x: Any) -> Any:
        return torch.nn.functional.conv2d(sample(x), weight, bias, stride=3)

    return against(torch, layer, peer, (n, h, w, c), which, (weight, bias))


def max_pool(torch: Any, n: int, h: int, w: int, c: int) -> tuple[Work, Work | None]:
    """Torch as published: the taps sampled, then a pooling of stride 3."""
    grid = sc.grids.Equirect(h, w)
    layer = sc.layers.TangentMaxPool2d(3, 2, grid=grid)
    if torch is None:
        return against(None, layer, None, (n, h, w, c), "forward+backward")
    sample = sampler(torch, grid, n, 2)
    return against(
        torch, layer, lambda x: torch.nn.functional.max_pool2d(sample(x), 3), (n, h, w, c), "forward+backward"
    )


def sampler(torch: Any, grid: sc.grids.Equirect, samples: int, stride: int) -> Any:
    """A function from images to their taps, (N, C, 3 H', 3 W'): `grid_sample` on an image padded over its edges."""
    h, w = grid.shape
    at = [a.reshape(h, w)[::stride, ::stride] for a in (grid.lat, grid.lon)]
    xyz = tangent_directions(at[0].ravel(), at[1].ravel(), *tangent_taps(grid, (3, 3)))
    places = grid.pixel(*sc.grids.angles(xyz))
    spread = [p.reshape(*at[0].shape, 3, 3).transpose(0, 2, 1, 3).reshape(3 * len(at[0]), -1) for p in places]
    scaled = [2 * (p + 1) / (size + 1) - 1 for p, size in zip(spread, (h, w), strict=True)]
    grid_of_taps = torch.from_numpy(np.stack(scaled[::-1], axis=-1).astype(np.float32))
    grid_of_taps = grid_of_taps.expand(samples, -1, -1, -1)

    def sample(x: Any) -> Any:
        rows = torch.cat([x[:, :, :1].roll(w // 2, 3), x, x[:, :, -1:].roll(w // 2, 3)], 2)
        padded = torch.nn.functional.pad(rows, (1, 1, 0, 0), mode="circular")
        return torch.nn.functional.grid_sample(padded, grid_of_taps, align_corners=True)

    return sample


def sphconv(torch: Any, n: int, h: int, w: int, c: int, which: str) -> tuple[Work, Work | None]:
    """Torch as published: a strip and a convolution for every row, joined again."""
    layer = sc.layers.SphConv2d(c, c, 3, grid=sc.grids.Equirect(h, w), rng=0)
    x, dy = images(n, h, w, c), images(n, h, w, c, seed=1)
    ours = passes(layer, x, dy, which)
    if torch is None:
        return ours, None
    kernels = [
        torch.from_numpy(np.ascontiguousarray(layer.kernel(g).transpose(3, 2, 0, 1))).requires_grad_()
        for g in range(layer.row_groups)
    ]
    biases = [torch.from_numpy(b.copy()).requires_grad_() for b in layer.params["bias"].value]
    tx, tdy = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (x, dy))
    tx.requires_grad_()
    most = max(kh for kh, _ in layer.sizes) // 2

    def peer() -> Any:
        beyond = [edge.flip(2).roll(w // 2, 3) for edge in (tx[:, :, :most], tx[:, :, h - most :])]
        folded, strips = torch.cat([beyond[0], tx, beyond[1]], 2), []
        for row, group in enumerate(layer.rows):
            kh, kw = layer.sizes[group]
            strip = folded[:, :, row + most - kh // 2 : row + most + kh // 2 + 1]
            wide = torch.nn.functional.pad(strip, (kw // 2, kw // 2, 0, 0), mode="circular")
            strips.append(torch.nn.functional.conv2d(wide, kernels[group], biases[group]))
        return torch.cat(strips, 2)

    def theirs() -> object:
        if which == "forward":
            with torch.no_grad():
                return peer()
        return torch.autograd.grad(peer(), (tx, *kernels, *biases), tdy)

    return ours, theirs


def torch_weights(torch: Any, layer: Any) -> tuple[Any, Any]:
    """Kernel and bias of a layer as torch has them."""
    weight = torch.from_numpy(np.ascontiguousarray(layer.weight.value.transpose(3, 2, 0, 1)))
    weight = weight.contiguous(memory_format=torch.channels_last).requires_grad_()
    return weight, torch.from_numpy(layer.params["bias"].value.copy()).requires_grad_()
