"""Weights of PyTorch, saved as safetensors, in a network of ours: by a map of names, or where only one way fits."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from spherecnn.errors import InputError
from spherecnn.layers import Layer
from spherecnn.layers.base import Array, Shape
from spherecnn.transfer.torch_layout import flattened_inputs, ours_of, takes

# Arrays of torch that have no counterpart: they count training steps.
IGNORED = "num_batches_tracked"
_FLOATS = (np.float16, np.float32, np.float64)


def from_torch(
    path: str | os.PathLike[str],
    model: Layer,
    names: Mapping[str, str] | str | os.PathLike[str] | None = None,
    *,
    input_shape: Shape | None = None,
) -> dict[str, str]:
    """Load the weights of a torch network, a state dict saved as safetensors, into a network of ours.

    Names are matched by the map where one is given. Without, they are matched if both networks have the same names, or
    if each layer fits exactly one: convolutions, linear layers and normalisations apart, by their shapes. Layers of
    equal shape are taken in the order of their names if these differ in numbers only, as conv1 and conv2; a safetensors
    file does not keep the order of the layers. Nothing is left over on either side, except torch's
    ``num_batches_tracked``.

    Parameters
    ----------
    path : path
        Written by ``safetensors.torch.save_file(net.state_dict(), path)``.
    model : Layer
        Its arrays are replaced, each in the layout of ours; see the page on transfer.
    names : dict, or path of a JSON or TOML file, optional
        "ours" = "theirs", for arrays ("head.weight" = "fc.weight") or for all arrays of a layer ("head" = "fc").
    input_shape : tuple of int, optional
        (1, H, W, C), needed where the network has a Flatten and no grid.

    Returns
    -------
    dict of str to str
        Our name of each array, and torch's.

    Raises
    ------
    InputError
        If the file cannot be read, a name is unknown, missing or left over, a shape does not fit, or several layers fit
        without a map. Nothing is loaded then.

    Examples
    --------
    >>> import tempfile, spherecnn as sc
    >>> from safetensors.numpy import save_file
    >>> path = tempfile.mkdtemp() + "/net.safetensors"
    >>> save_file({"conv.weight": np.ones((8, 3, 5, 5), np.float32), "conv.bias": np.zeros(8, np.float32)}, path)
    >>> net = sc.layers.Sequential(sc.layers.Conv2d(3, 8, 5), sc.layers.ReLU())
    >>> from_torch(path, net)
    {'0.weight': 'conv.weight', '0.bias': 'conv.bias'}
    """
    theirs = read_torch(path)
    flattened = flattened_inputs(model, input_shape)
    layers = {name: layer for name, layer in model.walk() if takes(layer)}
    if names is not None:
        given = dict(names) if isinstance(names, Mapping) else read_names(names)
        pairs = _expanded(given, model, layers, theirs)
    elif {*model.state()} == {*theirs}:
        pairs = {name: name for name in theirs}
    else:
        pairs = _fitted(layers, theirs)
    _check_complete(pairs, model, theirs, path)
    found = {}
    for ours, name in pairs.items():
        layer_name, _, own = ours.rpartition(".")
        layer = layers[layer_name]
        found[ours] = np.ascontiguousarray(ours_of(layer, own, theirs[name], flattened.get(id(layer))))
        wanted = model.state()[ours].shape
        if found[ours].shape != wanted:
            raise InputError(
                f"{name} of {path} has shape {theirs[name].shape}, {found[ours].shape} in our order of axes; expected "
                f"{wanted} for {ours}: correct the map, or build the network with these channels and kernels."
            )
    model.load_state(found)
    return {name: pairs[name] for name in model.state()}


def read_torch(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays of a safetensors file, without torch's counters of steps.

    Raises
    ------
    InputError
        If the file is missing, of another kind, or holds numbers that NumPy does not have.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} is not a file; expected weights saved as safetensors: check the path.")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); expected safetensors with float32 arrays: in torch, "
            "safetensors.torch.save_file(net.float().state_dict(), path)."
        ) from error
    arrays = {name: value for name, value in arrays.items() if name.rpartition(".")[2] != IGNORED}
    for name, value in arrays.items():
        if value.dtype not in _FLOATS:
            raise InputError(
                f"{name} of {path} has dtype {value.dtype}; expected floating weights: leave it out when you save."
            )
    return arrays


def read_names(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a map of names, "ours" = "theirs", from a JSON or TOML file.

    Raises
    ------
    InputError
        If the file is missing or of another kind.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        table = json.loads(text) if Path(path).suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}); expected a map of names: check the path."
        ) from error
    except ValueError as error:
        raise InputError(
            f'{path} is neither JSON nor TOML ({error}); expected lines such as "head" = "fc": correct the file.'
        ) from error
    names = dict(_leaves(table, ()))
    for ours, theirs in names.items():
        if not isinstance(theirs, str):
            raise InputError(f'{path} maps {ours} to {theirs!r}; expected a name, as in "head" = "fc": correct it.')
    return names


def _leaves(table: Any, path: tuple[str, ...]) -> list[tuple[str, Any]]:
    """The entries of nested tables under names joined by dots: TOML reads head.weight so, without quotes."""
    if not isinstance(table, dict):
        return [(".".join(path), table)]
    return [leaf for key, value in table.items() for leaf in _leaves(value, (*path, key))]


def _expanded(
    given: dict[str, str], model: Layer, layers: dict[str, Layer], theirs: dict[str, Array]
) -> dict[str, str]:
    """A map of arrays, from one of arrays and layers."""
    own, pairs = model.state(), {}
    for ours, name in given.items():
        if ours in own:
            pairs[ours] = name
        elif ours in layers:
            inside = [*layers[ours].params, *layers[ours].buffers]
            pairs |= {_joined(ours, array): _joined(name, array) for array in inside}
        else:
            raise InputError(
                f"the map names {ours!r}, which is no array or layer with weights of our network; expected one of "
                f"{', '.join(layers)}: correct the map."
            )
    for ours, name in pairs.items():
        if name not in theirs:
            raise InputError(
                f"the map takes {ours} from {name!r}, which the file does not hold; expected one of "
                f"{_some(sorted(theirs, key=_natural))}: correct the map."
            )
    return pairs


def _check_complete(pairs: dict[str, str], model: Layer, theirs: dict[str, Array], path: Any) -> None:
    missing = [name for name in model.state() if name not in pairs]
    left = [name for name in theirs if name not in pairs.values()]
    twice = [name for name in theirs if list(pairs.values()).count(name) > 1]
    if missing or left or twice:
        parts = [(missing, "nothing for our {}"), (left, "left over {}"), (twice, "used twice {}")]
        told = "; ".join(text.format(_some(names)) for names, text in parts if names)
        raise InputError(
            f"{path} does not fill the network: {told}; expected every array on both sides once: complete the map, or "
            "build the network that these weights are of."
        )


def _fitted(layers: dict[str, Layer], theirs: dict[str, Array]) -> dict[str, str]:
    """Match layers that can be matched in one way only."""
    groups: dict[str, dict[str, Array]] = defaultdict(dict)
    for name, value in theirs.items():
        layer_name, _, own = name.rpartition(".")
        groups[layer_name][own] = value
    alike: dict[Any, list[str]] = defaultdict(list)
    for name, layer in layers.items():
        shapes = {own: value.shape for own, value in layer.state().items()}
        alike[(type(layer), tuple(sorted(shapes.items())))].append(name)
    pairs: dict[str, str] = {}
    for (kind, signature), ours in alike.items():
        layer = layers[ours[0]]
        fits = [
            name
            for name, arrays in groups.items()
            if tuple(sorted((own, ours_of(layer, own, value).shape) for own, value in arrays.items())) == signature
        ]
        fits.sort(key=_natural)
        if len(fits) != len(ours) or len({re.sub(r"\d+", "#", name) for name in fits}) > 1:
            example = json.dumps({ours[0]: fits[0] if fits else next(iter(groups))})
            raise InputError(
                f"{_some(ours)} ({kind.__name__}) could be {_some(fits) or 'none of the file'}, and nothing says "
                f"which; expected one fit for each: give a map of names, such as {example}."
            )
        for name, other in zip(ours, fits, strict=True):
            pairs |= {_joined(name, own): _joined(other, own) for own, _ in signature}
    return pairs


def _joined(layer: str, array: str) -> str:
    return f"{layer}.{array}" if layer else array


def _natural(name: str) -> list[Any]:
    """Sort key that puts conv10 behind conv9."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", name)]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
