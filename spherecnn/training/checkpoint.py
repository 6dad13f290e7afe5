"""Checkpoints: safetensors with a JSON header, written whole or not at all, read without pickle."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import reprlib
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.kernels.arrays import to_host
from spherecnn.layers.base import Array, Layer

FORMAT = 1
_KEY = "spherecnn"


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Layer,
    header: dict[str, Any] | None = None,
    extra_arrays: dict[str, Array] | None = None,
) -> None:
    """Write a model to `path`; a file that is already there is replaced only by a complete one.

    The file is safetensors. Its metadata holds one JSON text under "spherecnn": the format version, package
    versions, ``model.config`` where the model has one, the random states of the layers, a digest of the
    arrays, and `header`. Arrays on the GPU are copied to the host first: a checkpoint is of no device.

    Parameters
    ----------
    path : path
    model : Layer
    header : dict, optional
        What else to keep, as plain JSON values.
    extra_arrays : dict of str to ndarray, optional
        Arrays beside the model, for example the optimizer's state.

    Raises
    ------
    InputError
        If a weight is NaN or infinite, or the file cannot be written; the old file stays.

    Examples
    --------
    >>> import tempfile, spherecnn as sc
    >>> path = tempfile.mkdtemp() + "/linear.safetensors"
    >>> save_checkpoint(path, sc.layers.Linear(3, 2, rng=0), {"epoch": 1})
    >>> header, arrays, extra = load_checkpoint(path)
    >>> header["epoch"], sorted(arrays)
    (1, ['bias', 'weight'])
    """
    state = {name: to_host(value) for name, value in model.state().items()}
    for name, value in state.items():
        if not np.isfinite(value).all():
            raise InputError(
                f"{name} holds NaN or infinite values, so {path} was not written; "
                "expected finite weights: train with a lower learning rate or clip the gradients."
            )
    arrays = {f"model.{name}": value for name, value in state.items()}
    arrays |= {f"extra.{name}": to_host(value) for name, value in (extra_arrays or {}).items()}
    # safetensors writes the memory of a strided array as if it were contiguous.
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    full = {
        **(header or {}),
        "format": FORMAT,
        "versions": _versions(),
        "model": getattr(model, "config", None),
        "layer_rng": {name: random_state(rng) for name, rng in _generators(model).items()},
        "digest": _digest(arrays),
    }
    write_atomic(path, save(arrays, metadata={_KEY: json.dumps(full)}))


def load_checkpoint(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, Array], dict[str, Array]]:
    """Read (header, model arrays, extra arrays) from `path`.

    Raises
    ------
    InputError
        If the file is missing, truncated, damaged, of another kind or of another format version.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} is not a file; expected a checkpoint: name one, such as best.safetensors of a run.")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(_KEY)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = None if text is None else json.loads(text)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged or not a checkpoint ({error}); expected a complete safetensors file: "
            "use another checkpoint of the run."
        ) from error
    if not isinstance(header, dict):
        raise InputError(
            f"{path} has no spherecnn header; expected a checkpoint that spherecnn saved: "
            "name last.safetensors or best.safetensors of a run."
        )
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path} has format version {header.get('format')}; expected {FORMAT}: read it with spherecnn "
            f"{header.get('versions', {}).get('spherecnn', 'of its time')}."
        )
    if header.get("digest") != _digest(arrays):
        raise InputError(
            f"{path} is damaged (its arrays do not match their digest); expected an unchanged file: "
            "use another checkpoint of the run."
        )
    parts: dict[str, dict[str, Array]] = {"model": {}, "extra": {}}
    for name, value in arrays.items():
        part, _, own_name = name.partition(".")
        parts[part][own_name] = value
    return header, parts["model"], parts["extra"]


def restore_model(model: Layer, header: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Put weights, buffers and the layers' random states back as `save_checkpoint` found them.

    Raises
    ------
    InputError
        If the checkpoint is of another model: other settings, names or shapes, or NaN weights.
    """
    config = json.loads(json.dumps(getattr(model, "config", None)))
    if config != header["model"]:
        raise InputError(
            f"the checkpoint is of another model: {_differences(header['model'] or {}, config or {})}; expected equal "
            "settings: build the model that it describes."
        )
    model.load_state(arrays)
    generators = _generators(model)
    for name, state in header["layer_rng"].items():
        if name in generators:
            set_random_state(generators[name], state)


def random_state(rng: np.random.Generator) -> dict[str, Any]:
    """Return the state of a random generator as JSON values."""
    return json.loads(json.dumps(rng.bit_generator.state, default=lambda array: array.tolist()))


def set_random_state(rng: np.random.Generator, state: dict[str, Any]) -> None:
    """Set a generator to what `random_state` returned."""
    kind = type(rng.bit_generator).__name__
    if state["bit_generator"] != kind:
        raise InputError(
            f"the random state is of a {state['bit_generator']}; expected {kind}: build the generator that was saved."
        )
    rng.bit_generator.state = state


def _differences(saved: dict[str, Any], own: dict[str, Any]) -> str:
    """Say which settings differ, shortened: that of a mesh may be megabytes."""
    names = sorted(name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name))
    return ", ".join(f"{n} is {reprlib.repr(saved.get(n))} there and {reprlib.repr(own.get(n))} here" for n in names)


def _generators(model: Layer) -> dict[str, np.random.Generator]:
    found = {name: getattr(layer, "rng", None) for name, layer in model.walk()}
    return {name: rng for name, rng in found.items() if isinstance(rng, np.random.Generator)}


def _digest(arrays: dict[str, Array]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        value = arrays[name]
        digest.update(f"{name} {value.dtype.str} {value.shape} ".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    packages = ("spherecnn", "numpy", "numba", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
