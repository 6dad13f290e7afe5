"""exp, expm1, tanh and erfc as straight-line scalar code, which LLVM vectorises in the loops that call it.

The C library's functions stop vectorisation: a loop over tanh or erf runs eight times slower with them. All
compute in float64, to a few units in the last place, and let NaN through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.extending import intrinsic, register_jitable
from scipy import special

# Helpers left to LLVM's own judgement stay calls, and a loop with a call is not vectorised. Fast-math flags
# would be taken from the caller, and would fold ROUND away.
inlined = register_jitable(forceinline=True, fastmath=False)

LOG2_E = math.log2(math.e)
LN2_HIGH = 6.93145751953125e-1  # few bits, so that its product with an integer below 1024 is exact
LN2_LOW = 1.42860682030941723212e-6
ROUND = 1.5 * 2.0**52  # adding it rounds to an integer, which then stands in the lowest bits
LARGEST = 708.0  # 2^k stays a normal number


def polynomial(coefficients: Sequence[float]) -> Callable[..., Any]:
    """Make a function that evaluates a polynomial, highest power first, by Horner's rule without a loop."""

    @intrinsic
    def evaluate(typing: Any, x: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            value = ir.DoubleType()(coefficients[0])
            for coefficient in coefficients[1:]:
                product = builder.fmul(value, args[0], flags=("contract",))
                value = builder.fadd(product, ir.DoubleType()(coefficient), flags=("contract",))
            return value

        return types.float64(types.float64), emit

    return evaluate


def _erfc_coefficients() -> list[float]:
    """Fit log(erfcx(z) / t) by a polynomial in u = 2 t - 1, where t = 2 / (2 + z)."""

    def log_ratio(u: Any) -> Any:
        t = (u + 1) / 2
        return np.log(special.erfcx(2 / t - 2) / t)  # erfcx(z) = exp(z^2) erfc(z)

    fit = np.polynomial.chebyshev.chebinterpolate(log_ratio, 23)
    return np.polynomial.chebyshev.cheb2poly(fit)[::-1].tolist()


_exp_series = polynomial([1 / math.factorial(n) for n in range(13, 1, -1)])
_erfc_series = polynomial(_erfc_coefficients())


@intrinsic
def _two_to_the(typing, rounded):
    """2^k for k in the lowest bits of a float64 made by adding ROUND."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(64))
        exponent = builder.shl(builder.add(bits, bits.type(1023)), bits.type(52))
        return builder.bitcast(exponent, ir.DoubleType())

    return types.float64(types.float64), emit


@inlined
def _split(x):
    """Return (2^k, exp(r) - 1) where x = k ln 2 + r and |r| <= ln 2 / 2."""
    v = -LARGEST if x < -LARGEST else x
    v = LARGEST if v > LARGEST else v
    rounded = v * LOG2_E + ROUND
    k = rounded - ROUND
    r = v - k * LN2_HIGH - k * LN2_LOW
    return _two_to_the(rounded), _exp_series(r) * r * r + r  # type: ignore[call-arg]


@inlined
def exp(x):
    """Exponential; 0 below -708, and arguments above 708 count as 708."""
    power, fraction = _split(x)
    return 0.0 if x < -LARGEST else power * fraction + power


@inlined
def expm1(x):
    """exp(x) - 1 without cancellation near 0; arguments beyond +-708 count as +-708."""
    power, fraction = _split(x)
    return power * fraction + (power - 1.0)


@inlined
def tanh(x):
    """Hyperbolic tangent."""
    grown = expm1(2.0 * min(abs(x), 20.0) if x == x else x)
    return math.copysign(grown / (grown + 2.0), x)


@inlined
def erfc(x):
    """Complementary error function: t exp(-z^2 + series(t)), t = 2 / (2 + z), z = |x|."""
    z = abs(np.float64(x))
    t = 2.0 / (2.0 + z)
    tail = t * exp(_erfc_series(2.0 * t - 1.0) - z * z)
    return tail if x >= 0 else 2.0 - tail
