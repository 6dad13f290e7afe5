"""An op with arguments, and what is done with these before a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

Random = np.random.Generator


@dataclass(frozen=True)
class OpCase:
    """An op and how to make its arguments: float32, integers, booleans, stencils, numbers."""

    op: str
    label: str
    make: Callable[[Random], tuple[Any, ...]]
    tiny: bool = True  # small enough for the simulator

    @property
    def name(self) -> str:
        return f"{self.op}-{self.label}"

    def args(self) -> tuple[Any, ...]:
        """The arguments, the same at each call."""
        return self.make(np.random.default_rng(0))


@dataclass(frozen=True)
class Later:
    """An argument that is made of the others, where they are."""

    make: Callable[[tuple[Any, ...]], Any]


def resolved(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with those that are made of the others."""
    return tuple(a.make(args) if isinstance(a, Later) else a for a in args)


def normal(rng: Random, *shape: int) -> np.ndarray:
    """Normal numbers, float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def widened(x: Any) -> Any:
    """The same values in float64, for a definition."""
    if isinstance(x, (tuple, list)):
        return type(x)(widened(part) for part in x)
    if isinstance(x, Later):
        return x
    if scipy.sparse.issparse(x) or (isinstance(x, np.ndarray) and x.dtype == np.float32):
        return x.astype(np.float64)
    return x.copy() if isinstance(x, np.ndarray) else x
