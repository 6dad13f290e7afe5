"""CUDA bodies of the gradients of batch and group normalisation: two sums of each channel, then dx."""

from __future__ import annotations

from typing import Any

from spherecnn.kernels import norm
from spherecnn.kernels.cuda import cuda, device_function, float32, int32, uint32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import check_float32, check_size
from spherecnn.kernels.gpu.intrinsics import ld1, st1
from spherecnn.kernels.gpu.joins import join_sums, root
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel
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
WEIGHT, OWN = 1, 2  # flags; OWN: sums are of channels, without their weights


def _sums(vector: int, of_rows: int) -> Any:
    """The kernel of sums of dy and of dy (x - mean); `of_rows`: of dy xhat, with mean and 1 / std of each row."""
    read, write, size = READ[vector], WRITE[vector], vector * THREADS

    @device_function
    def centred(x, mean, rstd, r, lanes, column, channels, own):
        """Four elements as distances from their means."""
        if not of_rows:
            return x[0] - own[0], x[1] - own[1], x[2] - own[2], x[3] - own[3]
        if lanes == 1:
            m, s = ld1(mean, r), ld1(rstd, r)
            return (x[0] - m) * s, (x[1] - m) * s, (x[2] - m) * s, (x[3] - m) * s
        e = int32(column * vector)
        a, b = row_of(r, lanes, e, channels), row_of(r, lanes, int32(e + 1), channels)
        c, d = row_of(r, lanes, int32(e + 2), channels), row_of(r, lanes, int32(e + 3), channels)
        return (
            (x[0] - ld1(mean, a)) * ld1(rstd, a),
            (x[1] - ld1(mean, b)) * ld1(rstd, b),
            (x[2] - ld1(mean, c)) * ld1(rstd, c),
            (x[3] - ld1(mean, d)) * ld1(rstd, d),
        )

    kinds = f"f4* f4* f4* f4* f4* i4 {GEOMETRY}"

    @gpu_kernel(kinds, threads=THREADS, blocks=4, constants=(vector, of_rows), claims=MOVES[vector][:1])
    def gradient_sums(dy, x, mean, rstd, found, lanes, columns, height, per, chunks, channels, of_group):
        ones, others = cuda.shared.array(size, float32), cuda.shared.array(size, float32)
        sample, chunk, column, r, step, end = place(columns, height, per, chunks)
        width, zero = int32(columns * vector), float32(0)
        base, e = int32(sample * height * width + column * vector), int32(column * vector)
        own = zero, zero, zero, zero
        if not of_rows and r < end:
            own = (
                ld1(mean, group_of(sample, e, channels, of_group)),
                ld1(mean, group_of(sample, int32(e + 1 % vector), channels, of_group)),
                ld1(mean, group_of(sample, int32(e + 2 % vector), channels, of_group)),
                ld1(mean, group_of(sample, int32(e + 3 % vector), channels, of_group)),
            )
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero
        while r < end:  # two rows of both under way
            q = int32(r + step)
            i, j = int32(base + r * width), int32(base + (q if q < end else r) * width)
            p, s = read(dy, i), read(x, i)
            u, v = read(dy, j), read(x, j)
            s = centred(s, mean, rstd, r, lanes, column, channels, own)
            v = centred(v, mean, rstd, q if q < end else r, lanes, column, channels, own)
            if q >= end:
                u = zero, zero, zero, zero
                v = zero, zero, zero, zero
            a0, b0 = a0 + (p[0] + u[0]), b0 + (p[0] * s[0] + u[0] * v[0])
            a1, b1 = a1 + (p[1] + u[1]), b1 + (p[1] * s[1] + u[1] * v[1])
            a2, b2 = a2 + (p[2] + u[2]), b2 + (p[2] * s[2] + u[2] * v[2])
            a3, b3 = a3 + (p[3] + u[3]), b3 + (p[3] * s[3] + u[3] * v[3])
            r = int32(q + step)
        t = int32(cuda.threadIdx.x)
        tile = min(columns, int32(THREADS))
        write(ones, int32(vector * t), a0, a1, a2, a3)
        write(others, int32(vector * t), b0, b1, b2, b3)
        lane, half = int32(uint32(t) // uint32(tile)), int32(THREADS // 2)
        while half > 0:
            cuda.syncthreads()
            if lane < half and lane + half < step:
                for k in range(vector):
                    i, j = int32(vector * t + k), int32(vector * (t + half * tile) + k)
                    ones[i] += ones[j]
                    others[i] += others[j]
            half >>= 1
        if lane == 0 and column < columns:
            at = int32((sample * chunks + chunk) * 2 * width + e)
            for k in range(vector):
                st1(found, int32(at + k), ones[vector * t + k])
                st1(found, int32(at + width + k), others[vector * t + k])

    return gradient_sums


@device_function
def row_of(r, lanes, element, channels):
    """The row of an element of a wide row; a thread of moves of 4 bytes asks for none but the first."""
    row = int32(r * lanes)
    while element >= channels and row < r * lanes + lanes - 1:
        row, element = int32(row + 1), int32(element - channels)
    return row


SUMS = {(vector, of_rows): _sums(vector, of_rows) for vector in (4, 1) for of_rows in (0, 1)}


@gpu_kernel("f4* f4* f4* f4* i4 i4 i4 i4 i4", threads=THREADS)
def gather_groups(sums, weight, of_groups, of_channels, weighted, samples, channels, groups, of_group):
    """Sums over the channels of groups, with their weights, and over the samples of channels."""
    i = int32(cuda.blockIdx.x * THREADS + cuda.threadIdx.x)
    a = b = float32(0)
    if cuda.blockIdx.y == 0 and i < samples * groups:
        sample = int32(uint32(i) // uint32(groups))
        k = int32((i - sample * groups) * of_group)
        end = int32(k + of_group)
        while k < end:
            w = ld1(weight, k) if weighted != 0 else float32(1)
            a += w * ld1(sums, int32(sample * 2 * channels + k))
            b += w * ld1(sums, int32((sample * 2 + 1) * channels + k))
            k = int32(k + 1)
        st1(of_groups, i, a)
        st1(of_groups, int32(samples * groups + i), b)
    if cuda.blockIdx.y == 1 and i < channels:
        k = i
        while k < 2 * samples * channels:
            a += ld1(sums, k)
            b += ld1(sums, int32(k + channels))
            k = int32(k + 2 * channels)
        st1(of_channels, i, a)
        st1(of_channels, int32(channels + i), b)


@device_function
def slopes(mean, var, weight, ones, others, eps, inverse, flags, sample, element, channels, of_group):
    """Centre, factor, shift and slope of an element: dx = dy factor - shift - (x - centre) slope."""
    g = group_of(sample, int32(element), channels, of_group)
    w = ld1(weight, channel_of(int32(element), channels)) if flags & WEIGHT else float32(1)
    rstd = root(ld1(var, g), eps)
    share = rstd * inverse
    share = share * w if flags & OWN else share
    return ld1(mean, g), rstd * w, share * ld1(ones, g), share * rstd * ld1(others, g)


def _input_gradient(vector: int) -> Any:
    read, write = READ[vector], WRITE[vector]
    kinds = f"f4* f4* f4* f4* f4* f4* f4* f4* f4 f4 i4 {GEOMETRY}"

    @gpu_kernel(kinds, threads=THREADS, blocks=4, constants=(vector,), claims=MOVES[vector])
    def input_gradient(
        dy,
        x,
        mean,
        var,
        weight,
        ones,
        others,
        dx,
        eps,
        inverse,
        flags,
        columns,
        height,
        per,
        chunks,
        channels,
        of_group,
    ):
        sample, _, column, r, step, end = place(columns, height, per, chunks)
        width = int32(columns * vector)
        base, e = int32(sample * height * width + column * vector), int32(column * vector)
        if r >= end:
            return
        own = mean, var, weight, ones, others, eps, inverse, flags, sample
        c0, f0, h0, k0 = slopes(*own, e, channels, of_group)
        c1, f1, h1, k1 = slopes(*own, e + 1 % vector, channels, of_group)
        c2, f2, h2, k2 = slopes(*own, e + 2 % vector, channels, of_group)
        c3, f3, h3, k3 = slopes(*own, e + 3 % vector, channels, of_group)
        while r < end:  # two rows of both under way
            q = int32(r + step)
            i, j = int32(base + r * width), int32(base + (q if q < end else r) * width)
            p, s = read(dy, i), read(x, i)
            u, v = read(dy, j), read(x, j)
            write(
                dx,
                i,
                p[0] * f0 - h0 - (s[0] - c0) * k0,
                p[1] * f1 - h1 - (s[1] - c1) * k1,
                p[2] * f2 - h2 - (s[2] - c2) * k2,
                p[3] * f3 - h3 - (s[3] - c3) * k3,
            )
            if q < end:
                write(
                    dx,
                    j,
                    u[0] * f0 - h0 - (v[0] - c0) * k0,
                    u[1] * f1 - h1 - (v[1] - c1) * k1,
                    u[2] * f2 - h2 - (v[2] - c2) * k2,
                    u[3] * f3 - h3 - (v[3] - c3) * k3,
                )
            r = int32(q + step)

    return input_gradient


INPUT_GRADIENT = {vector: _input_gradient(vector) for vector in (4, 1)}


def channel_sums(
    dy: Array, x: Array, mean: Array, var: Array, eps: float, samples: int, channels: int, groups: int
) -> Array:
    """Sums of dy and of dy xhat of each channel of each sample: (samples, 2, channels)."""
    check_float32("normalisation", x, dy)
    check_size("normalisation", x)
    shape = geometry(samples, x.size // (samples * channels), channels, x, dy)
    found = empty((samples * shape.chunks, 2, shape.width), x.dtype)
    SUMS[shape.vector, 0](shape.grid, dy, x, mean, 0, found, shape.lanes, *shape[1:6], channels // groups)
    return join_sums(found, shape, var, groups, eps)


def _dx(
    dy: Array, x: Array, mean: Array, var: Array, weight: Array | None, sums: tuple[Array, Array], eps: float,
    inverse: float, own: int, samples: int, groups: int,
) -> Array:  # fmt: skip
    dx, channels = empty(x.shape, x.dtype), x.shape[-1]
    shape = geometry(samples, x.size // (samples * channels), channels, x, dy, dx)
    INPUT_GRADIENT[shape.vector](
        shape.grid,
        dy,
        x,
        mean,
        var,
        0 if weight is None else weight,
        *sums,
        dx,
        float(eps),
        inverse,
        own | (0 if weight is None else WEIGHT),
        *shape[1:6],
        channels // groups,
    )
    return dx


@norm.batch_norm_grad.on("cuda")
def _batch_norm_grad(
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    eps: float,
    of_batch: bool,
    inputs: bool,
) -> tuple[Array | None, Array, Array]:
    channels = x.shape[-1]
    sums = channel_sums(dy, x, mean, var, eps, 1, channels, channels).reshape(2, channels)
    dbias, dweight = sums[0], sums[1]
    inverse = channels / x.size if of_batch else 0.0
    dx = _dx(dy, x, mean, var, weight, (dbias, dweight), eps, inverse, OWN, 1, channels) if inputs else None
    return dx, dweight, dbias


@norm.group_norm_grad.on("cuda")
def _group_norm_grad(
    dy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float, inputs: bool
) -> tuple[Array | None, Array, Array]:
    (samples, groups), channels = mean.shape, x.shape[-1]
    sums = channel_sums(dy, x, mean, var, eps, samples, channels, groups)
    of_groups, of_channels = empty((2, samples * groups), x.dtype), empty((2, channels), x.dtype)
    gather_groups(
        (blocks_for(max(samples * groups, channels), THREADS), 2),
        sums,
        0 if weight is None else weight,
        of_groups,
        of_channels,
        int(weight is not None),
        samples,
        channels,
        groups,
        channels // groups,
    )
    inverse = samples * groups / x.size
    parts = of_groups[0], of_groups[1]
    dx = _dx(dy, x, mean, var, weight, parts, eps, inverse, 0, samples, groups) if inputs else None
    return dx, of_channels[1], of_channels[0]
