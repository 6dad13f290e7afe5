"""The methods that `sphconv_accuracy.py` compares: from panoramas to features of a planar network, and their cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import spherecnn as sc
from spherecnn.grids.resample import resample
from spherecnn.layers.base import Layer

Array = np.ndarray
Features = Callable[[Array], Array]
# Where the middles of the six faces of a cube lie, in the order of `grids.Cubemap`.
FACES = [(0.0, lon) for lon in (0, math.pi / 2, math.pi, -math.pi / 2)] + [(math.pi / 2, 0.0), (-math.pi / 2, 0.0)]
# Multiply-adds of a value that is read between pixels.
BILINEAR = 4
SPHCONV, PROJECTED = "SphConv, as a whole", "KTN, projected kernels"


@dataclass(frozen=True)
class Method:
    """A way to the features: panoramas (N, H, W, 1) -> (N, H, W, K), multiply-adds for a panorama, and numbers kept."""

    name: str
    features: Features
    multiply_adds: float
    parameters: int


def all_methods(net: Layer, panoramas: Array, steps: int, seed: int, device: str) -> list[Method]:
    """The truth first, then every method; SphConv and KTN learn from the truth on `panoramas`, on a device."""
    settings: dict[str, Any] = {"images": panoramas, "samples": net.grid.width, "seed": seed, "progress": True}
    settings |= {"validation": 1 / len(panoramas), "device": device}
    layers = sc.transfer.to_sphere(net, "sphconv", inputs="exact", **settings)[0]
    whole = sc.transfer.to_sphere(net, "sphconv", inputs="own", finetune_steps=steps, **settings)[0]
    trained = sc.transfer.to_sphere(net, "ktn", steps=steps, finetune_steps=steps, **settings)[0]
    for learned in (layers, whole, trained):
        learned.to("cpu")
    return [
        exact_method(net),
        network("DIRECT, planar", net),
        network("circular", sc.transfer.to_sphere(net, "circular")[0]),
        interp(net, network_cost(layers)),
        perspective(net),
        network("tangent", sc.transfer.to_sphere(net, "tangent")[0]),
        network(PROJECTED, projected(net)),
        network("KTN, trained", trained),
        optimal(net, layers),
        network("SphConv, layer by layer", layers),
        network(SPHCONV, whole),
    ]


def last_of(net: Layer) -> str:
    """Name of the last layer of a stack, its features."""
    return f"features.{len(net.features.children) - 1}"


def exact_method(net: Layer) -> Method:
    """The truth: the network on the tangent picture about every pixel."""
    return Method(
        "exact",
        lambda x: sc.transfer.exact(net, last_of(net), x),
        net.grid.sites * exact_cost(net),
        net.parameter_count,
    )


def network(name: str, net: Layer) -> Method:
    """A network that runs on the panorama as it is."""
    return Method(name, net, network_cost(net), net.parameter_count)


def projected(net: Layer) -> Layer:
    """KTN as it starts: the planar kernels laid on tangent planes, nothing learned."""
    other: Any = sc.models.build(net.config | {"method": "ktn"})
    for name, layer in net.features.children.items():
        if hasattr(layer, "weight"):
            own = other.features[int(name)]
            own.weight.value[...], own.bias.value[...] = layer.weight.value, layer.bias.value
    return other


def interp(net: Layer, budget: float) -> Method:
    """The truth at every few pixels, interpolated between: as few as cost no less than a budget of multiply-adds.

    Every a-th row and b-th column, b = a or a + 1, and the last row.
    """
    height, width = net.grid.shape
    steps = [(s // 2, s - s // 2) for s in range(2, height)]
    rows_of = [np.unique([*range(0, height, a), height - 1]) for a, _ in steps]
    costs = [len(rows) * -(-width // b) * exact_cost(net) for rows, (_, b) in zip(rows_of, steps, strict=True)]
    best = max(i for i, cost in enumerate(costs) if cost >= budget or i == 0)
    rows, columns, (a, b) = rows_of[best], np.arange(0, width, steps[best][1]), steps[best]
    down = linear(rows, np.arange(height))
    across = linear(np.append(columns, width), np.arange(width))
    across[:, 0] += across[:, -1]
    across = across[:, :-1]

    def features(x: Array) -> Array:
        known = sc.transfer.exact(net, last_of(net), x, rows=rows, columns=columns)
        return np.einsum("hr,nrck,wc->nhwk", down, known, across, optimize=True).astype(x.dtype)

    return Method(f"INTERP, every {a} x {b} pixels", features, costs[best], net.parameter_count)


def linear(known: Array, at: Array) -> Array:
    """Matrix (at, known) that interpolates linearly between known positions."""
    return np.stack([np.interp(at, known, unit) for unit in np.eye(len(known))], axis=1)


def perspective(net: Layer) -> Method:
    """The network on the six faces of a cube, each with the margin that its outputs see; read back bilinearly."""
    chain = sc.transfer.chain_to(net, last_of(net))
    size, valid = round(net.grid.width / math.pi), chain.valid()
    cube, wide = sc.grids.Cubemap(size), size + chain.extent[0] - 1
    fov = 2 * math.degrees(math.atan(wide / size))
    views = [sc.grids.Perspective(wide, wide, fov, *middle) for middle in FACES]

    def features(x: Array) -> Array:
        faces = [valid(resample(x, net.grid, view)) for view in views]
        return resample(np.stack(faces, axis=1), cube, net.grid)

    channels = valid.out_shape((1, wide, wide, 1))[3]
    reading = BILINEAR * (6 * wide**2 + channels * net.grid.sites)
    cost = 6 * chain_cost(list(chain.layers), (wide, wide)) + reading
    return Method("PERSPECTIVE, cube faces", features, cost, net.parameter_count)


def optimal(net: Layer, sphere: Layer) -> Method:
    """The last layer of a spherical network, on the exact outputs of the layers before it."""
    number = len(net.features.children) - 1
    before, last = f"features.{number - 1}", sphere.features[number]
    numbers = net.parameter_count - net.features[number].parameter_count + last.parameter_count
    cost = net.grid.sites * exact_cost(net, before) + layer_cost(last, net.grid)
    return Method("OPT-SPHCONV, last layer", lambda x: last(sc.transfer.exact(net, before, x)), cost, numbers)


# --- multiply-adds ------------------------------------------------------------------------------------------


def exact_cost(net: Layer, name: str | None = None) -> int:
    """Multiply-adds of one pixel of the truth: reading its patch, and the network on it."""
    chain = sc.transfer.chain_to(net, name or last_of(net))
    return BILINEAR * math.prod(chain.extent) * net.config["in_channels"] + chain_cost(list(chain.layers), chain.extent)


def chain_cost(layers: list[Any], size: tuple[int, int]) -> int:
    """Multiply-adds of convolutions without padding on a picture of this size."""
    total, (height, width) = 0, size
    for layer in layers:
        if hasattr(layer, "kernel_size"):
            height, width = height - layer.kernel_size[0] + 1, width - layer.kernel_size[1] + 1
            total += height * width * layer.weight.value.size
    return total


def network_cost(net: Any) -> int:
    """Multiply-adds of a spherical network on a panorama."""
    return sum(layer_cost(layer, net.grid) for layer in net.features.children.values())


def layer_cost(layer: Any, grid: sc.grids.Equirect) -> int:
    """Multiply-adds of a convolution on a panorama, with those of reading between pixels."""
    if isinstance(layer, sc.layers.SphConv2d):
        return grid.width * sum(layer.kernel(group).size for group in layer.rows)
    if isinstance(layer, sc.layers.KTNConv2d):
        kernels = layer.kernels()
        return grid.width * sum(kernels[group].size for group in layer.rows)
    if not hasattr(layer, "weight"):
        return 0
    taps = math.prod(layer.weight.value.shape[:2])
    reading = BILINEAR * taps * layer.in_channels if isinstance(layer, sc.layers.TangentConv2d) else 0
    return grid.sites * (layer.weight.value.size + reading)
