"""What the ops of a piece of work must move and multiply, counted while it runs."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from spherecnn.kernels.op import OPS
from spherecnn.stencils.tiles import Tiles


@dataclass
class Traffic:
    """Bytes and operations.

    Attributes
    ----------
    bytes : int
        Of the arrays that ops were given and gave, each once an op: what must cross the memory at least.
    flop : float
        Two for each product of a convolution or linear layer, counted as a direct one's.
    """

    bytes: int = 0
    flop: float = 0.0


@contextlib.contextmanager
def counted(device: str) -> Iterator[Traffic]:
    """Count what ops do on a device inside a with block; an op that calls others counts by itself."""
    if device == "cuda":
        from spherecnn.kernels.gpu import bodies  # noqa: F401  registers what is counted
    traffic, before, deep = Traffic(), {}, [0]

    def counting(name: str, body: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(body)
        def run(*args: Any, **kwargs: Any) -> Any:
            deep[0] += 1
            try:
                results = body(*args, **kwargs)
            finally:
                deep[0] -= 1
            if not deep[0]:
                traffic.bytes += sum(_sizes([*args, *kwargs.values(), results]))
                traffic.flop += _products(name, inspect.signature(OPS[name].definition).bind(*args, **kwargs).arguments)
            return results

        return run

    for name, op in OPS.items():
        if device in op.bodies:
            before[name] = op.bodies[device]
            op.bodies[device] = counting(name, before[name])
    try:
        yield traffic
    finally:
        for name, body in before.items():
            OPS[name].bodies[device] = body


def _sizes(values: Any) -> Iterator[int]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _sizes(value)
        elif isinstance(value, np.ndarray) or hasattr(value, "__cuda_array_interface__"):
            yield value.nbytes


def _products(name: str, given: dict[str, Any]) -> float:
    """Operations of the ops that mix channels."""
    if name not in ("gather_gemm", "gather_gemm_dx", "gather_gemm_dw", "winograd", "winograd_dw"):
        return 0.0
    taps = _taps_read(given["stencil"] if "stencil" in given else given["tiles"])
    if "w" in given:  # (taps, channels of a group, outputs)
        samples, pairs = len(given["x"] if "x" in given else given["dy"]), given["w"].shape[1] * given["w"].shape[2]
    else:
        samples, pairs = len(given["x"]), given["x"].shape[2] // given.get("groups", 1) * given["dy"].shape[2]
    return 2.0 * samples * taps * pairs


def _taps_read(stencil: Any) -> float:
    """Pairs of an output site and a tap of it."""
    if isinstance(stencil, Tiles):
        return 9.0 * stencil.sites_out
    if stencil.sparse:
        return float(stencil.sites_out * stencil.taps)
    each = [len(np.unique(stencil.tap[a:b])) for a, b in itertools.pairwise(stencil.first)]
    return float(np.dot(stencil.size, each))
