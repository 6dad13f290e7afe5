"""The one exception for bad input, and the checks that raise it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class InputError(ValueError):
    """Bad input, told in one sentence: what was given, what was expected, what to do."""


def check_array(name: str, x: object, axes: str, dtype: np.dtype | None = None) -> None:
    """Refuse `x` unless it is a float32 or float64 array with the axes that `axes` names.

    Parameters
    ----------
    name : str
        What the caller calls the array, for the message.
    x : array
        The array to check.
    axes : str
        Comma-separated axis names, for example ``"N, H, W, C"``; ``"..., C"`` is any rank of at least one.
    dtype : numpy.dtype, optional
        The dtype that is needed; None accepts float32 and float64.

    Raises
    ------
    InputError
        If the rank or dtype is wrong.
    """
    shape = getattr(x, "shape", None)
    kind = getattr(x, "dtype", None)
    if shape is None or kind is None:
        raise InputError(
            f"{name} is a {type(x).__name__}; expected an array with axes ({axes}): convert it with numpy.asarray."
        )
    any_rank = axes.startswith("...")
    rank = axes.count(",") + (0 if any_rank else 1)
    if len(shape) < rank or (len(shape) > rank and not any_rank):
        raise InputError(
            f"{name} has shape {tuple(shape)}; expected {'at least ' if any_rank else ''}{rank} axes ({axes}): "
            "add or drop an axis, for example x[None] for a batch of one."
        )
    if dtype is None and np.dtype(kind) not in FLOATS:
        raise InputError(f"{name} has dtype {kind}; expected float32 or float64: convert it with x.astype('float32').")
    if dtype is not None and np.dtype(kind) != dtype:
        raise InputError(
            f"{name} has dtype {kind}; expected {dtype}: convert it with x.astype('{dtype}') "
            f"or the layer with layer.astype('{kind}')."
        )


def check_channels(name: str, given: int, expected: int) -> None:
    """Refuse an array whose last axis has not the expected number of channels."""
    if given != expected:
        raise InputError(
            f"{name} has {given} channels in its last axis; expected {expected}: "
            "arrays are channels-last (N, H, W, C), so move the channel axis or build the layer for this input."
        )


def check_choice(name: str, given: object, choices: Sequence[object]) -> None:
    """Refuse an option that is not one of `choices`."""
    if given not in choices:
        known = ", ".join(repr(c) for c in choices)
        raise InputError(f"{name} is {given!r}; expected one of {known}: choose one of them.")


def check_at_least(name: str, given: int, least: int) -> int:
    """Refuse a number that is not an integer or is below `least`; return it as a Python int."""
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
        raise InputError(f"{name} is {given!r}; expected an integer of at least {least}: change it.")
    return int(given)
