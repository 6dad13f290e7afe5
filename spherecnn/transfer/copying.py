"""The network of a planar one for another method, and the weights that fit it unchanged."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn import models
from spherecnn.errors import InputError
from spherecnn.grids import Equirect
from spherecnn.layers import Layer
from spherecnn.layers.base import Array


def rebuilt(model: Layer, method: str, grid: Equirect | None = None) -> Any:
    """Return the network of a planar one for another method, and another grid if one is given, with new weights.

    Raises
    ------
    InputError
        If the model is not one of `models` built with the method "planar".
    """
    config = planar_config(model)
    if grid is not None:
        config["grid"] = grid.config()
    built = models.build(config | {"method": method}, rng=0)
    return built if model.dtype is None else built.astype(model.dtype)


def planar_config(model: Layer) -> dict[str, Any]:
    """Return a copy of the config of a planar network; refuse other methods, and networks without a config."""
    config = getattr(model, "config", None)
    if not isinstance(config, dict) or "method" not in config:
        raise InputError(
            f"the model is a {type(model).__name__} without a config; expected a network of spherecnn.models, "
            "which can be built for another method: build it with models.build."
        )
    if config["method"] != "planar":
        raise InputError(
            f"the model was built with method {config['method']!r}; expected 'planar', whose kernels are those of "
            "pictures: train or load a planar network."
        )
    return dict(config)


def copy_state(source: dict[str, Array], target: Layer, leave: tuple[str, ...] = ()) -> list[str]:
    """Copy parameters and buffers of equal names and shapes into `target`; return their names.

    `leave` are prefixes of names that are not copied.

    Raises
    ------
    InputError
        If any other name is missing on either side, or its shape differs.
    """
    own = target.state()
    kept = [name for name in own if not name.startswith(leave)] if leave else list(own)
    wanted = {name for name in source if not leave or not name.startswith(leave)}
    for name in sorted(wanted.symmetric_difference(kept)):
        raise InputError(
            f"{name} stands in only one of the two networks; expected equal names: rebuild the network from its config."
        )
    for name in kept:
        if own[name].shape != source[name].shape:
            raise InputError(
                f"{name} has shape {source[name].shape} in the planar network and {own[name].shape} in the other; "
                "expected equal shapes: choose a method that takes the weights unchanged."
            )
    for name in kept:
        own[name][...] = np.asarray(source[name], own[name].dtype)
    return kept
