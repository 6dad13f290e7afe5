"""exp, expm1, sigmoid, tanh and the normal distribution as straight-line scalar code.

LLVM vectorises it in the loops that call it. The C library's functions stop vectorisation: a loop over tanh or erf
runs eight times slower with them. All compute in the type of their argument, to a few units in the last place, and
let NaN through.
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


def constant(single: float, double: float | None = None) -> Callable[..., Any]:
    """Make a function of x that is a constant in the type of x: a plain 1.0 would turn float32 into float64."""

    @intrinsic
    def value(typing: Any, like: Any) -> Any:
        chosen = single if like == types.float32 or double is None else double

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return args[0].type(chosen)

        return like(like), emit

    return value


ZERO, ONE, TWO = constant(0.0), constant(1.0), constant(2.0)
LOG2_E = constant(math.log2(math.e))
# few bits, so that their product with an integer exponent is exact
LN2_HIGH = constant(0.693359375, 6.93145751953125e-1)
LN2_LOW = constant(-2.12194440054690583e-4, 1.42860682030941723212e-6)
ROUND = constant(1.5 * 2.0**23, 1.5 * 2.0**52)  # adding it rounds to an integer, which then stands in the lowest bits
LEAST, LARGEST = constant(-87.0, -708.0), constant(88.0, 708.0)  # 2^k stays a normal number
FLAT = constant(10.0, 20.0)  # beyond it tanh is 1
FAR = constant(14.0, 40.0)  # beyond it the normal density is 0
HALF, ROOT_HALF, DENSITY_0 = constant(0.5), constant(math.sqrt(1 / 2)), constant(1 / math.sqrt(2 * math.pi))


def polynomial(double: Sequence[float], single: Sequence[float] | None = None) -> Callable[..., Any]:
    """Make a function that evaluates a polynomial, highest power first, by Horner's rule without a loop."""

    @intrinsic
    def evaluate(typing: Any, x: Any) -> Any:
        chosen = double if single is None or x != types.float32 else single

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            number = args[0].type
            value = number(chosen[0])
            for coefficient in chosen[1:]:
                product = builder.fmul(value, args[0], flags=("contract",))
                value = builder.fadd(product, number(coefficient), flags=("contract",))
            return value

        return x(x), emit

    return evaluate


def _tail_coefficients(degree: int) -> list[float]:
    """Fit log(erfcx(z) / t) by a polynomial in u = 2 t - 1, where t = 2 / (2 + z)."""

    def log_ratio(u: Any) -> Any:
        t = (u + 1) / 2
        return np.log(special.erfcx(2 / t - 2) / t)  # erfcx(z) = exp(z^2) erfc(z)

    fit = np.polynomial.chebyshev.chebinterpolate(log_ratio, degree)
    return np.polynomial.chebyshev.cheb2poly(fit)[::-1].tolist()


_exp_series = polynomial(*([1 / math.factorial(n) for n in range(most, 1, -1)] for most in (13, 7)))
_tail_series = polynomial(_tail_coefficients(23), _tail_coefficients(11))


@intrinsic
def _two_to_the(typing, rounded):
    """2^k for k in the lowest bits of a number made by adding ROUND."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size, mantissa, bias = (32, 23, 127) if rounded == types.float32 else (64, 52, 1023)
        bits = builder.bitcast(args[0], ir.IntType(size))
        exponent = builder.shl(builder.add(bits, bits.type(bias)), bits.type(mantissa))
        return builder.bitcast(exponent, args[0].type)

    return rounded(rounded), emit


@inlined
def _split(x):
    """Return (2^k, exp(r) - 1) where x = k ln 2 + r and |r| <= ln 2 / 2."""
    v = LEAST(x) if x < LEAST(x) else x
    v = LARGEST(x) if v > LARGEST(x) else v
    rounded = v * LOG2_E(x) + ROUND(x)
    k = rounded - ROUND(x)
    r = v - k * LN2_HIGH(x) - k * LN2_LOW(x)
    return _two_to_the(rounded), _exp_series(r) * r * r + r  # type: ignore[call-arg]


@inlined
def exp(x):
    """Exponential; 0 below -708, and arguments above 708 count as 708 (in float32 -87 and 88)."""
    power, fraction = _split(x)
    return ZERO(x) if x < LEAST(x) else power * fraction + power


@inlined
def expm1(x):
    """exp(x) - 1 without cancellation near 0; arguments beyond the range of `exp` count as its ends."""
    power, fraction = _split(x)
    return power * fraction + (power - ONE(x))


@inlined
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return ONE(x) / (ONE(x) + exp(-x))


@inlined
def tanh(x):
    """Hyperbolic tangent."""
    grown = expm1(TWO(x) * min(abs(x), FLAT(x)) if x == x else x)
    return math.copysign(grown / (grown + TWO(x)), x)


@intrinsic
def _upper_half(typing, x):
    """The number with the lower half of its digits cut off: its square is exact."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        size, cut = (32, 12) if x == types.float32 else (64, 27)
        bits = builder.bitcast(args[0], ir.IntType(size))
        return builder.bitcast(builder.and_(bits, bits.type(-1 << cut)), args[0].type)

    return x(x), emit


@inlined
def _exp_half_square(x, more):
    """exp(more - x^2 / 2), as exact for a large square as for a small one."""
    upper = _upper_half(x)  # type: ignore[call-arg, var-annotated]
    square, rest = HALF(x) * upper * upper, more - HALF(x) * (x - upper) * (x + upper)
    v = rest - square
    v = LEAST(x) if v < LEAST(x) else v
    rounded = v * LOG2_E(x) + ROUND(x)
    k = rounded - ROUND(x)
    r = -square - k * LN2_HIGH(x) - k * LN2_LOW(x) + rest
    power = _two_to_the(rounded)
    return ZERO(x) if v <= LEAST(x) else power * (_exp_series(r) * r * r + r) + power


@inlined
def normal_density(x):
    """exp(-x^2 / 2) / sqrt(2 pi)."""
    z = FAR(x) if abs(x) > FAR(x) else x
    return _exp_half_square(z, ZERO(x)) * DENSITY_0(x)


@inlined
def normal_cdf(x):
    """Share of the standard normal distribution below x: with z = |x| / sqrt(2) and t = 2 / (2 + z), half of
    erfc(z) = t exp(-z^2 + series(t)).
    """
    size = FAR(x) if abs(x) > FAR(x) else abs(x)
    t = TWO(x) / (TWO(x) + size * ROOT_HALF(x))
    tail = HALF(x) * t * _exp_half_square(size, _tail_series(TWO(x) * t - ONE(x)))
    return tail if x < ZERO(x) else ONE(x) - tail
