"""Rows of the speed table: convolution and pooling on the faces of an icosahedron."""

from __future__ import annotations

from typing import Any

import numpy as np

import spherecnn as sc
from spherecnn.bench.case import Case, Work, against, sparse_product
from spherecnn.stencils import face_taps

SAMPLES, CHANNELS = 8, 32
LEVELS = (5, 6, 7)


def cases(smallest: bool) -> list[Case]:
    """SpherePHD as published, in torch's best form, its north-up kernels, and pooling."""
    return [
        case(name, make, level, which, smallest)
        for name, make, levels in (
            ("SpherePHD, torch as published", published, LEVELS[:2]),
            ("SpherePHD, torch by indexing", gathered, LEVELS[:2]),
            ("SpherePHD", spherephd, LEVELS),
            ("SpherePHD to the north", north, LEVELS[:2]),
            ("SpherePHD max pool", max_pool, LEVELS[:2]),
        )
        for level in levels
        for which in ("forward", "forward+backward")
    ]


def case(name: str, make: Any, level: int, which: str, smallest: bool) -> Case:
    """A row at this level, or at a tiny one."""
    samples, small = (1, 1) if smallest else (SAMPLES, level)
    text = f"{SAMPLES}x{sc.grids.Polyhedron(level).sites}, {CHANNELS} to {CHANNELS}"
    return Case(name, text, which, lambda torch: make(torch, samples, sc.grids.Polyhedron(small), which))


def published(torch: Any, n: int, grid: sc.grids.Polyhedron, which: str) -> tuple[Work, Work | None]:
    """Torch as its public port has it: channels first, all taps gathered along the last axis, then a convolution."""
    layer = sc.layers.SpherePHDConv(CHANNELS, CHANNELS, grid, rng=0)
    shape = (n, grid.sites, CHANNELS)
    if torch is None:
        return against(None, layer, None, shape, which)
    weight, bias = torch_weights(torch, layer)
    taps, kernel = torch.from_numpy(face_taps(grid).copy()), weight.reshape(-1, CHANNELS, CHANNELS).permute(2, 1, 0)

    def peer(x: Any) -> Any:
        return torch.nn.functional.conv2d(x[:, :, taps], kernel[:, :, None], bias)[..., 0]

    return against(torch, layer, peer, shape, which, (weight, bias), layout="channels first")


def gathered(torch: Any, n: int, grid: sc.grids.Polyhedron, which: str) -> tuple[Work, Work | None]:
    """Torch by indexing: all taps of all faces are gathered, channels last, then multiplied."""
    layer = sc.layers.SpherePHDConv(CHANNELS, CHANNELS, grid, rng=0)
    if torch is None:
        return on_faces(None, layer, None, n, which)
    weight, bias = torch_weights(torch, layer)
    taps = torch.from_numpy(face_taps(grid).copy())

    def peer(x: Any) -> Any:
        return x[:, taps].reshape(n, grid.sites, -1) @ weight + bias

    return on_faces(torch, layer, peer, n, which, (weight, bias))


def spherephd(torch: Any, n: int, grid: sc.grids.Polyhedron, which: str) -> tuple[Work, Work | None]:
    """Torch by `index_select` and `addmm`, the fastest form found: its gradient adds rows without sorting."""
    layer = sc.layers.SpherePHDConv(CHANNELS, CHANNELS, grid, rng=0)
    if torch is None:
        return on_faces(None, layer, None, n, which)
    weight, bias = torch_weights(torch, layer)
    taps = torch.from_numpy(face_taps(grid).reshape(-1).copy())

    def peer(x: Any) -> Any:
        gathered = x.index_select(1, taps).reshape(n * grid.sites, -1)
        return torch.addmm(bias, gathered, weight).reshape(n, grid.sites, -1)

    return on_faces(torch, layer, peer, n, which, (weight, bias))


def north(torch: Any, n: int, grid: sc.grids.Polyhedron, which: str) -> tuple[Work, Work | None]:
    """Torch by a sparse matrix that blends all taps of a picture, then a product."""
    layer = sc.layers.SpherePHDConv(CHANNELS, CHANNELS, grid, orientation="north", rng=0)
    if torch is None:
        return on_faces(None, layer, None, n, which)
    weight, bias = torch_weights(torch, layer)
    matrix: Any = layer.stencil().matrix.astype(np.float32)  # type: ignore[attr-defined]
    blend = sparse_product(torch, matrix)

    def peer(x: Any) -> Any:
        rows = blend(x.permute(1, 0, 2).reshape(grid.sites, -1))
        taps = rows.reshape(grid.sites, -1, n, CHANNELS).permute(2, 0, 1, 3).reshape(n * grid.sites, -1)
        return torch.addmm(bias, taps, weight).reshape(n, grid.sites, -1)

    return on_faces(torch, layer, peer, n, which, (weight, bias))


def max_pool(torch: Any, n: int, grid: sc.grids.Polyhedron, which: str) -> tuple[Work, Work | None]:
    """Torch by `index_select` of the children, then the maximum."""
    layer = sc.layers.SpherePHDPool(grid)
    if torch is None:
        return on_faces(None, layer, None, n, which)
    children = torch.from_numpy(grid.coarsen().children.reshape(-1).copy())

    def peer(x: Any) -> Any:
        return x.index_select(1, children).reshape(n, grid.sites // 4, 4, -1).max(2).values

    return on_faces(torch, layer, peer, n, which)


def on_faces(
    torch: Any, layer: Any, peer: Any, n: int, which: str, parameters: tuple[Any, ...] = ()
) -> tuple[Work, Work | None]:
    """Our layer, and a peer that takes and gives arrays (N, P, C) as they lie in memory."""
    return against(
        torch,
        layer,
        lambda x: peer(x.permute(0, 2, 1)).permute(0, 2, 1),
        (n, layer.grid.sites, CHANNELS),
        which,
        parameters,
    )


def torch_weights(torch: Any, layer: Any) -> list[Any]:
    """The layer's weights as a matrix (taps * in, out), and its bias."""
    weight, bias = layer.weight.value, layer.bias.value
    return [torch.from_numpy(a.copy()).requires_grad_() for a in (weight.reshape(-1, weight.shape[-1]), bias)]
