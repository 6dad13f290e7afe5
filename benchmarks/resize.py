"""Resizing, gated convolution, normalisation and activations beside torch: cases in the form of the speed table.

python benchmarks/resize.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

import spherecnn as sc
from spherecnn.bench import Case, Work, alternate, find_torch, images

SIZE = (4, 64, 128)


def cases() -> list[Case]:
    """Rows for the speed table."""
    found = []

    def add(name: str, make: Any, size: tuple[int, ...], options: tuple[Any, ...], text: str) -> None:
        shape = "x".join(map(str, size)) + f", {text}"
        for which in ("forward", "forward+backward"):
            found.append(Case(name, shape, which, lambda torch, w=which: make(torch, *size, *options, w)))

    for channels in (32, 64, 128):
        add("bilinear x2", upsample, SIZE, (channels,), str(channels))
    for c, k in ((32, 32), (64, 64)):
        add("gated 3x3", gated, SIZE, (c, k), f"{c} to {k}")
    for name, make in (("group norm 8", group_norm), ("instance norm", instance_norm)):
        add(name, make, (8, 64, 128), (64,), "64")
    for name in ("Sigmoid", "Tanh", "ELU", "GELU"):
        add(name, activation, (8, 64, 128), (64, name), "64")
    return found


def upsample(torch: Any, n: int, h: int, w: int, c: int, which: str) -> tuple[Work, Work | None]:
    """Bilinear interpolation to twice the rows and columns."""
    layer = sc.layers.Upsample(scale_factor=2, mode="bilinear")
    return against(
        torch, layer, lambda x: torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear"), (n, h, w, c), which
    )


def gated(torch: Any, n: int, h: int, w: int, c: int, k: int, which: str) -> tuple[Work, Work | None]:
    """A zero-padded gated convolution with ELU."""
    layer = sc.layers.GatedConv2d(c, k, 3, rng=0)
    if torch is None:
        return against(torch, layer, None, (n, h, w, c), which)
    weight, bias = (torch.from_numpy(p.value.copy()) for p in layer.conv.params.values())
    weight = weight.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last).requires_grad_()
    function = torch.nn.functional

    def peer(x: Any) -> Any:
        features, gates = function.conv2d(x, weight, bias, padding=1).chunk(2, dim=1)
        return function.elu(features) * torch.sigmoid(gates)

    return against(torch, layer, peer, (n, h, w, c), which, (weight, bias.requires_grad_()))


def group_norm(torch: Any, n: int, h: int, w: int, c: int, which: str) -> tuple[Work, Work | None]:
    """Group normalisation in 8 groups."""
    peer = None if torch is None else torch.nn.GroupNorm(8, c)
    parameters = () if peer is None else tuple(peer.parameters())
    return against(torch, sc.layers.GroupNorm(8, c), peer, (n, h, w, c), which, parameters)


def instance_norm(torch: Any, n: int, h: int, w: int, c: int, which: str) -> tuple[Work, Work | None]:
    """Instance normalisation without weights."""
    return against(torch, sc.layers.InstanceNorm(c), torch and torch.nn.InstanceNorm2d(c), (n, h, w, c), which)


def activation(torch: Any, n: int, h: int, w: int, c: int, name: str, which: str) -> tuple[Work, Work | None]:
    """A function of each element."""
    layer = getattr(sc.layers, name)()
    return against(torch, layer, torch and getattr(torch.nn, name)(), (n, h, w, c), which)


def against(
    torch: Any, layer: Any, peer: Any, shape: tuple[int, ...], which: str, parameters: tuple[Any, ...] = ()
) -> tuple[Work, Work | None]:
    """Our layer and its peer, forward without gradients or with all of them."""
    x, dy = images(*shape), images(*layer.out_shape(shape), seed=1)

    def ours() -> object:
        if which == "forward":
            return layer(x)
        layer.zero_grad()
        return layer.forward(x, train=True)[1](dy)

    if torch is None:
        return ours, None
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    tdy = torch.from_numpy(dy).permute(0, 3, 1, 2)

    def theirs() -> object:
        if which == "forward":
            with torch.no_grad():
                return peer(tx)
        return torch.autograd.grad(peer(tx), (tx, *parameters), tdy)

    close = np.abs(layer(x) - peer(tx).detach().permute(0, 2, 3, 1).numpy())
    assert np.quantile(close, 0.9) < 1e-4, f"{layer} and torch compute different things"
    return ours, theirs


def main() -> None:
    torch = find_torch()
    for case in cases():
        ours, theirs = case.make(torch)
        times = alternate([ours] if theirs is None else [ours, theirs], turns=11)
        ratio = f"{times[1] / times[0]:.2f}" if len(times) > 1 else "no torch"
        print(f"{case.name:16} {case.shape:18} {case.which:18} {times[0] * 1e3:8.2f} ms  {ratio}")


if __name__ == "__main__":
    main()
