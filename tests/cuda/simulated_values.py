"""Numbers as kernels see them: float32 stays float32, integers are exact, anything else raises."""

from __future__ import annotations

import math
import types
from typing import Any

import numpy as np
from scipy import special

float32 = np.float32


class SimulationError(RuntimeError):
    """A kernel did what would be wrong, or undefined, on a GPU."""


class Unusable:
    """A value whose every use raises: what local memory holds before the first write."""

    __array_ufunc__ = None
    reason = "local memory is read before it is written"

    def use(self, *_: Any) -> Any:
        raise SimulationError(self.reason)


class Float64(float):
    """A Python number in a kernel: a float64 on the GPU, so nothing but ``float32(...)`` may take it."""

    __array_ufunc__ = None

    def use(self, *_: Any) -> Any:
        raise SimulationError(f"{float.__repr__(self)} is a float64: write float32({float.__repr__(self)})")


_ARITHMETIC = "add sub mul truediv floordiv mod pow and or xor lshift rshift"
for _name in [f"{side}{name}" for name in _ARITHMETIC.split() for side in ("", "r")]:
    setattr(Unusable, f"__{_name}__", Unusable.use)
    setattr(Float64, f"__{_name}__", Float64.use)
for _name in ["lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "bool", "int", "round"]:
    setattr(Unusable, f"__{_name}__", Unusable.use)
    setattr(Float64, f"__{_name}__", Float64.use)
for _name in ["float", "index"]:
    setattr(Unusable, f"__{_name}__", Unusable.use)
Unusable.__hash__ = Float64.__hash__ = object.__hash__  # type: ignore[method-assign]

POISON = Unusable()


def int32(value: Any) -> int:
    """A cast to int32, which raises where it would wrap round."""
    number = int(value)
    if not -0x80000000 <= number <= 0x7FFFFFFF:
        raise SimulationError(f"{number} does not fit an int32")
    return number


def uint32(value: Any) -> int:
    """A cast to uint32: the lowest 32 bits."""
    return int(value) & 0xFFFFFFFF


def uint8(value: Any) -> int:
    """A cast to uint8: the lowest 8 bits."""
    return int(value) & 0xFF


def float64(*_: Any) -> Any:
    """``float(x)`` and ``float64(x)``."""
    raise SimulationError("float(...) makes a float64: use float32(...)")


def _extreme(builtin: Any, ufunc: Any) -> Any:
    """``min`` and ``max`` as numba.cuda compiles them: of two float32 the one that is not NaN."""

    def call(*values: Any) -> Any:
        floats = sum(type(value) is float32 for value in values)
        if not floats:
            return builtin(*values)
        if floats != len(values):
            raise SimulationError(f"{builtin.__name__} of a float32 and an integer is a float64: {values}")
        return ufunc.reduce(values)

    return call


BUILTINS = {"min": _extreme(min, np.fmin), "max": _extreme(max, np.fmax), "float": float64}


def _checked(name: str, function: Any, result: Any = float32) -> Any:
    def call(*values: Any) -> Any:
        for value in values:
            if type(value) is not float32:
                raise SimulationError(f"math.{name} of {value!r}, which is a {type(value).__name__}, not a float32")
        return result(function(*values))

    return call


_SAME_NAME = "exp expm1 log log1p log2 sqrt tanh sinh cosh sin cos tan fabs trunc fmod hypot copysign isnan isinf"
_FLOATS = {name: getattr(np, name) for name in _SAME_NAME.split()}
_FLOATS |= {"pow": np.power, "atan2": np.arctan2, "atan": np.arctan, "asin": np.arcsin, "acos": np.arccos}
_FLOATS |= {"erf": special.erf, "erfc": special.erfc, "isfinite": np.isfinite}
_RESULTS: dict[str, Any] = dict.fromkeys(("isnan", "isinf", "isfinite"), bool)

MATH = types.SimpleNamespace(
    **{name: _checked(name, function, _RESULTS.get(name, float32)) for name, function in _FLOATS.items()},
    floor=_checked("floor", np.floor, int),
    ceil=_checked("ceil", np.ceil, int),
    **{name: Float64(getattr(math, name)) for name in ("pi", "e", "inf", "nan")},
)
"""The module math: of float32 alone, with float32 results (floor and ceil give integers, as in Numba)."""
