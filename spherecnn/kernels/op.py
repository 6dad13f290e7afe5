"""One name per array operation: a NumPy definition, and one body per device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

OPS: dict[str, Op] = {}


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
        device = device_of(*args)
        body = self.bodies.get(device)
        if body is None and device == "cuda":
            from spherecnn.kernels.gpu import bodies  # noqa: F401  registers them

            body = self.bodies.get(device)
        if body is None:
            raise NotImplementedError(
                f"{self.name} has no {device} kernel in this version: "
                "copy its arrays to the host with numpy.asarray first."
            )
        return body(*args, **kwargs)


def op(definition: Callable[..., Any]) -> Op:
    """Make an `Op` of a NumPy definition and enter it in the table of ops."""
    OPS[definition.__name__] = Op(definition)
    return OPS[definition.__name__]


def device_of(*args: Any) -> str:
    """Return the device, "cpu" or "cuda", that holds the arrays among `args`."""
    for a in args:
        if isinstance(a, np.ndarray):
            return "cpu"
        if hasattr(a, "__cuda_array_interface__"):
            return "cuda"
    return "cpu"
