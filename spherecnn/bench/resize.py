"""Rows of the speed table: resizing, gated convolution, normalisation, activations."""

from __future__ import annotations

from typing import Any

import spherecnn as sc
from spherecnn.bench.case import Case, Work, against, case

PASSES = ("forward", "forward+backward")
ACTIVATIONS = ("Sigmoid", "Tanh", "ELU", "GELU")


def cases(smallest: bool) -> list[Case]:
    """Layers that are bounded by memory, and gated convolution."""
    rows: list[tuple[str, Any, tuple[int, ...], tuple[Any, ...], str]] = []
    rows += [("bilinear x2", upsample, (4, 64, 128), (c,), str(c)) for c in (32, 64, 128)]
    rows += [
        (f"gated 3x3, {mode}", gated, (4, 64, 128), (c, mode), f"{c} to {c}")
        for mode in ("circular", "zeros")
        for c in (32, 64)
    ]
    rows += [("group norm 8", group_norm, (8, 64, 128), (64,), "64")]
    rows += [("instance norm", instance_norm, (8, 64, 128), (64,), "64")]
    rows += [(name, activation, (8, 64, 128), (64, name), "64") for name in ACTIVATIONS]
    return [case(*row[:3], (*row[3], which), row[4], which, smallest) for row in rows for which in PASSES]


def upsample(torch: Any, n: int, h: int, w: int, c: int, which: str) -> tuple[Work, Work | None]:
    """Bilinear interpolation to twice the rows and columns."""
    layer = sc.layers.Upsample(scale_factor=2, mode="bilinear")
    return against(
        torch, layer, lambda x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"), (n, h, w, c), which
    )


def gated(torch: Any, n: int, h: int, w: int, c: int, mode: str, which: str) -> tuple[Work, Work | None]:
    """A gated convolution with ELU."""
    layer = sc.layers.GatedConv2d(c, c, 3, padding_mode=mode, rng=0)
    if torch is None:
        return against(torch, layer, None, (n, h, w, c), which)
    weight, bias = (torch.from_numpy(p.value.copy()) for p in layer.conv.params.values())
    weight = weight.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last).requires_grad_()
    function = torch.nn.functional

    def peer(x: Any) -> Any:
        if mode == "circular":
            padded = function.pad(x, (1, 1, 0, 0), mode="circular")
            z = function.conv2d(padded, weight, bias, padding=(1, 0))
        else:
            z = function.conv2d(x, weight, bias, padding=1)
        features, gates = z.chunk(2, dim=1)
        return function.elu(features) * torch.sigmoid(gates)

    return against(torch, layer, peer, (n, h, w, c), which, (weight, bias.requires_grad_()))


def group_norm(torch: Any, n: int, h: int, w: int, c: int, which: str) -> tuple[Work, Work | None]:
    """Group normalisation in 8 groups."""
    peer = None if torch is None else torch.nn.GroupNorm(8, c)
    parameters = () if peer is None else tuple(peer.parameters())
    return against(torch, sc.layers.GroupNorm(8, c), peer, (n, h, w, c), which, parameters)


def instance_norm(torch: Any, n: int, h: int, w: int, c: int, which: str) -> tuple[Work, Work | None]:
    """Instance normalisation without weights; torch 2.13 differentiates it wrongly in channels_last memory."""
    peer = torch and torch.nn.InstanceNorm2d(c)
    return against(torch, sc.layers.InstanceNorm(c), peer, (n, h, w, c), which, layout="channels first")


def activation(torch: Any, n: int, h: int, w: int, c: int, name: str, which: str) -> tuple[Work, Work | None]:
    """A function of each element."""
    layer = getattr(sc.layers, name)()
    return against(torch, layer, torch and getattr(torch.nn, name)(), (n, h, w, c), which)
