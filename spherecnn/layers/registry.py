"""The methods by name: how each one convolves and pools, so that a model is written once for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids import Grid
from spherecnn.layers.base import Layer

METHODS: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """One way to convolve on the sphere.

    Attributes
    ----------
    name : str
        The word used in Python and on the command line.
    summary : str
        One line for `--help` and tables.
    conv : callable
        ``conv(in_channels, out_channels, grid, *, stride, bias, rng) -> Layer``: 3x3, or the method's own kernel.
    pool : callable
        ``pool(grid) -> (Layer, coarser grid)``, halving the resolution.
    """

    name: str
    summary: str
    conv: Callable[..., Layer]
    pool: Callable[[Any], tuple[Layer, Grid]]


def register(method: Method) -> Method:
    """Enter a method under its name."""
    METHODS[method.name] = method
    return method


def method(name: str) -> Method:
    """Return the method of this name.

    Examples
    --------
    >>> import spherecnn as sc
    >>> method("circular").name
    'circular'
    """
    if name not in METHODS:
        raise InputError(f"method is {name!r}; expected one of {', '.join(sorted(METHODS))}: choose one of them.")
    return METHODS[name]


def generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """Return a random generator for a seed, a generator, or None for a fresh one."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)
