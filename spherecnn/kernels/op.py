"""One name per array operation: a NumPy definition, and one body per device."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from spherecnn.errors import InputError

OPS: dict[str, Op] = {}
PLAIN = frozenset({int, float, bool, str, type(None)})


class MixedDevices(InputError):
    """Arrays on the CPU and on the GPU, given together."""


class Op:
    """An array operation whose NumPy definition is its documentation and its test oracle.

    Calling the op runs the body of the device that holds the arrays. `definition` runs the NumPy body,
    always on the host.
    """

    def __init__(self, definition: Callable[..., Any]):
        self.definition = definition
        self.name = definition.__name__
        self.bodies: dict[str, Callable[..., Any]] = {}
        functools.update_wrapper(self, definition)

    def on(self, device: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Register the decorated function as this op's body on `device` ("cpu" or "cuda")."""

        def register(body: Callable[..., Any]) -> Callable[..., Any]:
            self.bodies[device] = body
            return body

        return register

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            device = device_of(*args, *kwargs.values())
        except MixedDevices:
            raise InputError(self._mixed(*args, **kwargs)) from None
        body = self.bodies.get(device) or self._loaded(device)
        return body(*args, **kwargs)

    def _loaded(self, device: str) -> Callable[..., Any]:
        """The body on a device whose kernels are imported when its first array arrives."""
        if device == "cuda":
            from spherecnn.kernels.gpu import bodies  # noqa: F401  registers them
        if device not in self.bodies:
            raise NotImplementedError(
                f"{self.name} has no {device} kernel in this version: "
                "copy its arrays to the host with sc.to_host first."
            )
        return self.bodies[device]

    def _mixed(self, *args: Any, **kwargs: Any) -> str:
        """Say which arguments are on which device."""
        given = inspect.signature(self.definition).bind(*args, **kwargs).arguments
        on: dict[str, list[str]] = {"cpu": [], "cuda": []}
        for name, value in given.items():
            for a in value if type(value) in (tuple, list) else (value,):
                if (device := _found((a,))) and name not in on[device]:
                    on[device].append(name)
        there, here = (", ".join(names) for names in (on["cuda"], on["cpu"]))
        return (
            f"{self.name} got {there} on the GPU and {here} on the CPU; expected arrays on one device: "
            "move the model with model.to('cuda') and its input with sc.to_device(x), or both back to the host."
        )


def op(definition: Callable[..., Any]) -> Op:
    """Make an `Op` of a NumPy definition and enter it in the table of ops."""
    OPS[definition.__name__] = Op(definition)
    return OPS[definition.__name__]


def device_of(*args: Any) -> str:
    """Return the device, "cpu" or "cuda", that holds the arrays among `args`, and in lists and tuples among them.

    Raises
    ------
    MixedDevices
        If they are on both.
    """
    return _found(args) or "cpu"


def _found(args: Sequence[Any]) -> str:
    """The device of all arrays among `args`; nothing if there are none."""
    device = ""
    for a in args:
        kind = type(a)
        if kind is np.ndarray:
            found = "cpu"
        elif kind in PLAIN:
            continue
        elif kind is tuple or kind is list:
            found = _found(a)
        elif isinstance(a, np.ndarray):
            found = "cpu"
        else:
            # ours has memory; others say by the interface whether they are on the GPU
            found = "cuda" if hasattr(kind, "memory") or hasattr(a, "__cuda_array_interface__") else ""
        if found and found != device:
            if device:
                raise MixedDevices("arrays on the CPU and on the GPU; expected one of them: use sc.to_device")
            device = found
    return device
