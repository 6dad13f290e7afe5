"""Where models and their inputs are: on the host or on the GPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from spherecnn.errors import InputError, check_choice
from spherecnn.kernels.arrays import to_device
from spherecnn.kernels.op import device_of
from spherecnn.kernels.precision import PRECISIONS
from spherecnn.layers.base import DEVICES, Array, Layer


def place(model: Layer, where: str | None, precision: str | None = None) -> str:
    """Move a model to the device that is asked for, if one is; return where it is.

    Raises
    ------
    InputError
        If the device or the precision is another, there is no GPU, or the precision is one of the GPU only and the
        model is not there.
    """
    if precision is not None:
        check_choice("precision", precision, PRECISIONS)
    if where is not None:
        check_choice("device", where, DEVICES)
    found = where or model.device or "cpu"
    if precision not in (None, "float32") and found == "cpu":
        raise InputError(
            f"precision is {precision!r} and the model is on the CPU, which computes in its own type; expected "
            "device='cuda' with it: move the model to the GPU, or leave precision out."
        )
    if where is not None and any(device_of(part) != where for part in model.state().values()):
        model.to(where)
    return found


@contextlib.contextmanager
def moved(layers: Sequence[Layer], device: str) -> Iterator[None]:
    """Layers on a device meanwhile; those without parameters work where their input is."""
    before = [(layer, layer.device) for layer in layers if layer.device not in (None, device)]
    try:
        for layer, _ in before:
            layer.to(device)
        yield
    finally:
        for layer, where in before:
            layer.to(where or "cpu")


def on(where: str, x: Array) -> Any:
    """An input on the device where the model is."""
    return x if where == "cpu" else to_device(x)
