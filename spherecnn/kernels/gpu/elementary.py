"""exp, expm1, sigmoid, tanh and the normal distribution of one float32 on the GPU.

Correct to a few units in the last place, with NaN let through. Nothing here is worth a subroutine: the functions are
cheap enough for kernels that are bound by memory.
"""

from __future__ import annotations

import math

from spherecnn.kernels.cuda import cuda, device_function, float32
from spherecnn.kernels.gpu.intrinsics import reciprocal


@device_function
def exp(x):
    """Exponential."""
    return math.exp(x)


@device_function
def expm1(x):
    """exp(x) - 1 without cancellation near 0."""
    return math.expm1(x)


@device_function
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return reciprocal(float32(1) + math.exp(-x))


@device_function
def tanh(x):
    """Hyperbolic tangent."""
    return math.tanh(x)


@device_function
def logistic_pair(x):
    """Return sigmoid(x), and its slope sigmoid(x) sigmoid(-x) without cancellation."""
    grown = math.exp(-abs(x))
    upper = reciprocal(float32(1) + grown)
    lower = grown * upper
    return upper if x >= float32(0) else lower, upper * lower


@device_function
def half_square_exp(x):
    """exp(-x^2 / 2), as exact for a large square as for a small one."""
    far = float32(15)  # beyond it the result is 0
    z = far if abs(x) > far else x
    square = z * z
    rest = cuda.fma(z, z, -square)
    power = math.exp(float32(-0.5) * square)
    return cuda.fma(power, float32(-0.5) * rest, power)


@device_function
def normal_pair(x):
    """Share of the standard normal distribution below x, and its density at x.

    With z = |x| / sqrt(2) and t = 2 / (2 + z), half of erfc(z) = t series(t - 1/2) exp(-z^2).
    """
    power = half_square_exp(x)
    t = reciprocal(cuda.fma(abs(x), float32(0.3535533905932738), float32(1)))
    u = t - float32(0.5)
    series = float32(0.016841690987348557)  # Chebyshev's fit of erfcx(z) / t for |x| to 15, to 5e-8
    series = cuda.fma(series, u, float32(-0.07051604241132736))
    series = cuda.fma(series, u, float32(0.04518018290400505))
    series = cuda.fma(series, u, float32(0.09815662354230881))
    series = cuda.fma(series, u, float32(-0.10284406691789627))
    series = cuda.fma(series, u, float32(-0.1720912903547287))
    series = cuda.fma(series, u, float32(0.1457391083240509))
    series = cuda.fma(series, u, float32(0.5589449405670166))
    series = cuda.fma(series, u, float32(0.6871609687805176))
    series = cuda.fma(series, u, float32(0.5107913613319397))
    tail = float32(0.5) * t * series * power
    return tail if x < float32(0) else float32(1) - tail, float32(0.3989422804014327) * power
