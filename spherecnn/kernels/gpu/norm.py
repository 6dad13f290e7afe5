"""CUDA bodies of batch and group normalisation over channels-last arrays: moments, and forward.

A fixed number of chunks of `wide_rows` is summed by blocks, and a second kernel joins what they found in one fixed
order. Moments are means and sums of squares about them, never sums of squares of large numbers: four values at a time
about their own mean, which is then joined to the others'. So float32 holds six digits of a variance far from 0 too.
Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983, for the joining.
"""

from __future__ import annotations

from typing import Any

from spherecnn.kernels import norm
from spherecnn.kernels.cuda import cuda, device_function, float32, int32, uint32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import check_float32, check_size
from spherecnn.kernels.gpu.intrinsics import divide, ld1, reciprocal, st1
from spherecnn.kernels.gpu.joins import join, join_moments, root
from spherecnn.kernels.gpu.launch import gpu_kernel
from spherecnn.kernels.gpu.wide_rows import (
    GEOMETRY,
    MOVES,
    READ,
    THREADS,
    WRITE,
    channel_of,
    geometry,
    group_of,
    place,
)

Array = DeviceArray
WEIGHT, BIAS = 1, 2  # flags


# --- moments -----------------------------------------------------------------------------------------------------


@device_function
def fold_four(mean, square, n, share, a, b, c, d):
    """Join four numbers to the mean of n and the sum of squares about it; share is 4 / (n + 4)."""
    own = float32(0.25) * ((a + b) + (c + d))
    a, b, c, d = a - own, b - own, c - own, d - own
    off = own - mean
    return mean + off * share, square + ((a * a + b * b) + (c * c + d * d)) + off * off * (n * share)


@device_function
def fold_one(mean, square, n, share, a):
    """Join one number; share is 1 / (n + 1)."""
    off = a - mean
    return mean + off * share, square + off * off * (n * share)


def _moments(vector: int) -> Any:
    read, write, size = READ[vector], WRITE[vector], vector * THREADS

    @gpu_kernel(f"f4* f4* {GEOMETRY}", threads=THREADS, blocks=4, constants=(vector,), claims=MOVES[vector][:1])
    def moments(x, found, columns, height, per, chunks, channels, of_group):
        means, squares = cuda.shared.array(size, float32), cuda.shared.array(size, float32)
        counts = cuda.shared.array(THREADS, float32)
        sample, chunk, column, r, step, end = place(columns, height, per, chunks)
        width, n = int32(columns * vector), float32(0)
        base = int32(sample * height * width + column * vector)
        zero = float32(0)
        p = read(x, int32(base + chunk * per * width)) if r < end else (zero, zero, zero, zero)
        m0 = m1 = m2 = m3 = s0 = s1 = s2 = s3 = zero  # of the distances from the first row of the chunk
        while r + 3 * step < end:
            a, b = read(x, int32(base + r * width)), read(x, int32(base + (r + step) * width))
            c, d = read(x, int32(base + (r + 2 * step) * width)), read(x, int32(base + (r + 3 * step) * width))
            share = divide(float32(4), n + float32(4))
            m0, s0 = fold_four(m0, s0, n, share, a[0] - p[0], b[0] - p[0], c[0] - p[0], d[0] - p[0])
            m1, s1 = fold_four(m1, s1, n, share, a[1] - p[1], b[1] - p[1], c[1] - p[1], d[1] - p[1])
            m2, s2 = fold_four(m2, s2, n, share, a[2] - p[2], b[2] - p[2], c[2] - p[2], d[2] - p[2])
            m3, s3 = fold_four(m3, s3, n, share, a[3] - p[3], b[3] - p[3], c[3] - p[3], d[3] - p[3])
            n += float32(4)
            r = int32(r + 4 * step)
        while r < end:
            a = read(x, int32(base + r * width))
            share = reciprocal(n + float32(1))
            m0, s0 = fold_one(m0, s0, n, share, a[0] - p[0])
            m1, s1 = fold_one(m1, s1, n, share, a[1] - p[1])
            m2, s2 = fold_one(m2, s2, n, share, a[2] - p[2])
            m3, s3 = fold_one(m3, s3, n, share, a[3] - p[3])
            n += float32(1)
            r = int32(r + step)
        t = int32(cuda.threadIdx.x)
        tile = min(columns, int32(THREADS))
        counts[t] = n
        write(means, int32(vector * t), m0, m1, m2, m3)
        write(squares, int32(vector * t), s0, s1, s2, s3)
        lane, half = int32(uint32(t) // uint32(tile)), int32(THREADS // 2)
        while half > 0:
            cuda.syncthreads()
            if lane < half and lane + half < step:
                other = int32(t + half * tile)
                for k in range(vector):
                    i, j = int32(vector * t + k), int32(vector * other + k)
                    _, means[i], squares[i] = join(counts[t], means[i], squares[i], counts[other], means[j], squares[j])
                counts[t] += counts[other]
            half >>= 1
        if lane == 0 and column < columns:
            at = int32((sample * chunks + chunk) * 3 * width + column * vector)
            write(found, at, p[0], p[1], p[2], p[3])
            for k in range(vector):
                st1(found, int32(at + width + k), means[vector * t + k])
                st1(found, int32(at + 2 * width + k), squares[vector * t + k])

    return moments


MOMENTS = {vector: _moments(vector) for vector in (4, 1)}


def moments_of(x: Array, samples: int, channels: int, groups: int) -> tuple[Array, Array]:
    """Mean and variance (samples, groups) of groups of channels over the sites of each sample."""
    check_float32("normalisation", x)
    check_size("normalisation", x)
    shape = geometry(samples, x.size // (samples * channels), channels, x)
    found = empty((samples * shape.chunks, 3, shape.width), x.dtype)
    MOMENTS[shape.vector](shape.grid, x, found, *shape[1:6], channels // groups)
    return join_moments(found, shape, groups)


@norm.batch_moments.on("cuda")
def _batch_moments(x: Array) -> tuple[Array, Array]:
    mean, var = moments_of(x, 1, x.shape[-1], x.shape[-1])
    return mean.ravel(), var.ravel()


@norm.group_moments.on("cuda")
def _group_moments(x: Array, groups: int) -> tuple[Array, Array]:
    return moments_of(x, len(x), x.shape[2], groups)


# --- forward -----------------------------------------------------------------------------------------------------


def _normalise(vector: int) -> Any:
    read, write = READ[vector], WRITE[vector]

    @gpu_kernel(
        f"f4* f4* f4* f4* f4* f4* f4 i4 {GEOMETRY}",
        threads=THREADS,
        blocks=4,
        constants=(vector,),
        claims=MOVES[vector],
    )
    def normalise(x, mean, var, weight, bias, y, eps, flags, columns, height, per, chunks, channels, of_group):
        sample, _, column, r, step, end = place(columns, height, per, chunks)
        width = int32(columns * vector)
        base = int32(sample * height * width + column * vector)
        if r >= end:
            return
        own = (
            coefficients(mean, var, weight, bias, eps, flags, sample, column * vector, channels, of_group),
            coefficients(mean, var, weight, bias, eps, flags, sample, column * vector + 1 % vector, channels, of_group),
            coefficients(mean, var, weight, bias, eps, flags, sample, column * vector + 2 % vector, channels, of_group),
            coefficients(mean, var, weight, bias, eps, flags, sample, column * vector + 3 % vector, channels, of_group),
        )
        (c0, f0, b0), (c1, f1, b1), (c2, f2, b2), (c3, f3, b3) = own
        while r < end:
            q = int32(r + step)
            i, j = int32(base + r * width), int32(base + q * width)
            a = read(x, i)
            d = read(x, j) if q < end else a
            write(y, i, (a[0] - c0) * f0 + b0, (a[1] - c1) * f1 + b1, (a[2] - c2) * f2 + b2, (a[3] - c3) * f3 + b3)
            if q < end:
                write(y, j, (d[0] - c0) * f0 + b0, (d[1] - c1) * f1 + b1, (d[2] - c2) * f2 + b2, (d[3] - c3) * f3 + b3)
            r = int32(q + step)

    return normalise


@device_function
def coefficients(mean, var, weight, bias, eps, flags, sample, element, channels, of_group):
    """Centre, factor and shift of an element of a wide row."""
    g, c = group_of(sample, int32(element), channels, of_group), channel_of(int32(element), channels)
    factor = root(ld1(var, g), eps)
    factor = factor * ld1(weight, c) if flags & WEIGHT else factor
    return ld1(mean, g), factor, ld1(bias, c) if flags & BIAS else float32(0)


NORMALISE = {vector: _normalise(vector) for vector in (4, 1)}


def _forward(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float, samples: int, groups: int
) -> Array:
    check_float32("normalisation", x)
    check_size("normalisation", x)
    y, channels = empty(x.shape, x.dtype), x.shape[-1]
    given = (0 if a is None else a for a in (weight, bias))
    flags = (WEIGHT if weight is not None else 0) | (BIAS if bias is not None else 0)
    shape = geometry(samples, x.size // (samples * channels), channels, x, y)
    NORMALISE[shape.vector](shape.grid, x, mean, var, *given, y, float(eps), flags, *shape[1:6], channels // groups)
    return y


@norm.batch_norm.on("cuda")
def _batch_norm(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    return _forward(x, mean, var, weight, bias, eps, 1, x.shape[-1])


@norm.group_norm.on("cuda")
def _group_norm(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    return _forward(x, mean, var, weight, bias, eps, len(x), mean.shape[1])
