"""What the blocks of a normalisation found, joined in one fixed order: moments of groups, sums of channels."""

from __future__ import annotations

from typing import Any

from spherecnn.kernels.cuda import cuda, device_function, float32, int32, uint32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import divider, quotient
from spherecnn.kernels.gpu.intrinsics import divide, ld1, reciprocal, square_root, st1
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel

Array = DeviceArray
THREADS = 256
MOST_BITS = 3  # a block has at most 2^3 groups: neighbours share what memory delivers at once


@device_function
def root(var, eps):
    """1 / sqrt(var + eps)."""
    return reciprocal(square_root(var + eps))


@device_function
def join(n, mean, square, other_n, other_mean, other_square):
    """Join two means and sums of squares about them."""
    total = n + other_n
    share = divide(other_n, total) if total > float32(0) else float32(0)
    off = other_mean - mean
    return total, mean + off * share, square + other_square + off * off * (n * share)


@device_function
def entry(found, pivot, e, end, first, height, per, width, channels, of_group, each, me, se, mg, sg):
    """The e-th entry of a group, by chunks, lanes and channels: rows, mean less a pivot, square; no rows at the end."""
    k = min(e, int32(end - 1))
    chunk = quotient(k, me, se)
    rows = float32(min(per, int32(height - chunk * per)))
    k = int32(k - chunk * each)
    lane = quotient(k, mg, sg)
    at = int32(first + chunk * 3 * width + lane * channels + k - lane * of_group)
    mean = (ld1(found, at) - pivot) + ld1(found, int32(at + width))
    square = ld1(found, int32(at + 2 * width))
    return rows if e < end else float32(0), mean, square if e < end else float32(0)


@gpu_kernel("f4* f4* f4* f4 i4 i4 i4 i4 i4 i4 i4 i4 i4 u4 i4 u4 i4", threads=THREADS)
def join_groups(
    found, mean, var, inverse, chunks, height, per, width, channels, groups, of_group, bits, each, me, se, mg, sg
):
    """Mean and variance of groups, 2^bits a block; (me, se) divide by `each`, the entries of a group in a chunk."""
    counts, means = cuda.shared.array(THREADS, float32), cuda.shared.array(THREADS, float32)
    squares = cuda.shared.array(THREADS, float32)
    t, sample = int32(cuda.threadIdx.x), int32(cuda.blockIdx.x)
    group = int32((cuda.blockIdx.y << bits) + (t & ((1 << bits) - 1)))
    first = int32(sample * chunks * 3 * width + group * of_group)
    end = int32(chunks * each) if group < groups else int32(0)
    pivot = ld1(found, first) if group < groups else float32(0)  # means are joined as distances from one of them
    n, m, s = float32(0), float32(0), float32(0)
    step, e = int32(THREADS >> bits), int32(t >> bits)
    while e < end:  # four entries under way
        f, g, h = int32(e + step), int32(e + 2 * step), int32(e + 3 * step)
        na, ma, sa = entry(found, pivot, e, end, first, height, per, width, channels, of_group, each, me, se, mg, sg)
        nb, mb, sb = entry(found, pivot, f, end, first, height, per, width, channels, of_group, each, me, se, mg, sg)
        nc, mc, sc = entry(found, pivot, g, end, first, height, per, width, channels, of_group, each, me, se, mg, sg)
        nd, md, sd = entry(found, pivot, h, end, first, height, per, width, channels, of_group, each, me, se, mg, sg)
        na, ma, sa = join(na, ma, sa, nb, mb, sb)
        nc, mc, sc = join(nc, mc, sc, nd, md, sd)
        na, ma, sa = join(na, ma, sa, nc, mc, sc)
        n, m, s = join(n, m, s, na, ma, sa)
        e = int32(e + 4 * step)
    counts[t], means[t], squares[t] = n, m, s
    half = int32(step >> 1)
    while half > 0:
        cuda.syncthreads()
        if t < half << bits:
            o = int32(t + (half << bits))
            counts[t], means[t], squares[t] = join(counts[t], means[t], squares[t], counts[o], means[o], squares[o])
        half >>= 1
    if t < 1 << bits and group < groups:
        st1(mean, int32(sample * groups + group), pivot + means[t])
        st1(var, int32(sample * groups + group), squares[t] * inverse)


@device_function
def sum_of(found, e, end, first, width, channels, lanes, ml, sl):
    """The e-th entry of a channel, in the order of chunks and lanes: both sums; zeros at the end."""
    k = min(e, int32(end - 1))
    chunk = quotient(k, ml, sl)
    at = int32(first + chunk * 2 * width + (k - chunk * lanes) * channels)
    a, b = ld1(found, at), ld1(found, int32(at + width))
    return a if e < end else float32(0), b if e < end else float32(0)


@gpu_kernel("f4* f4* f4* f4 i4 i4 i4 i4 i4 i4 i4 i4 u4 i4", threads=THREADS)
def join_channels(found, var, sums, eps, scaled, chunks, width, channels, of_group, groups, bits, lanes, ml, sl):
    """Both sums of a channel of a sample; the second over sqrt(var + eps) if `scaled`. (ml, sl) divide by `lanes`."""
    ones, others = cuda.shared.array(THREADS, float32), cuda.shared.array(THREADS, float32)
    t, sample = int32(cuda.threadIdx.x), int32(cuda.blockIdx.x)
    channel = int32((cuda.blockIdx.y << bits) + (t & ((1 << bits) - 1)))
    first = int32(sample * chunks * 2 * width + channel)
    end = int32(chunks * lanes) if channel < channels else int32(0)
    one, other = float32(0), float32(0)
    step, e = int32(THREADS >> bits), int32(t >> bits)
    while e < end:  # four entries under way
        a, p = sum_of(found, e, end, first, width, channels, lanes, ml, sl)
        b, q = sum_of(found, int32(e + step), end, first, width, channels, lanes, ml, sl)
        c, r = sum_of(found, int32(e + 2 * step), end, first, width, channels, lanes, ml, sl)
        d, s = sum_of(found, int32(e + 3 * step), end, first, width, channels, lanes, ml, sl)
        one += (a + b) + (c + d)
        other += (p + q) + (r + s)
        e = int32(e + 4 * step)
    ones[t], others[t] = one, other
    half = int32(step >> 1)
    while half > 0:
        cuda.syncthreads()
        if t < half << bits:
            ones[t] += ones[t + (half << bits)]
            others[t] += others[t + (half << bits)]
        half >>= 1
    if t < 1 << bits and channel < channels:
        other = others[t]
        if scaled != 0:
            g = int32(sample * groups + int32(uint32(channel) // uint32(of_group)))
            other *= root(ld1(var, g), eps)
        st1(sums, int32(sample * 2 * channels + channel), ones[t])
        st1(sums, int32((sample * 2 + 1) * channels + channel), other)


def slots_for(outputs: int) -> int:
    """How many outputs a block has, as a power of two."""
    return min(MOST_BITS, (outputs - 1).bit_length())


def join_moments(found: Array, shape: Any, groups: int) -> tuple[Array, Array]:
    """Mean and variance (samples, groups) of the moments that blocks found."""
    mean, var = empty((shape.samples, groups), found.dtype), empty((shape.samples, groups), found.dtype)
    of_group, bits = shape.channels // groups, slots_for(groups)
    each = of_group * shape.lanes
    join_groups(
        (shape.samples, blocks_for(groups, 1 << bits)),
        found,
        mean,
        var,
        1 / (shape.height * each),
        shape.chunks,
        shape.height,
        shape.per,
        shape.width,
        shape.channels,
        groups,
        of_group,
        bits,
        each,
        *divider(each),
        *divider(of_group),
    )
    return mean, var


def join_sums(found: Array, shape: Any, var: Array | None = None, groups: int = 1, eps: float = 0.0) -> Array:
    """Both sums of each channel (samples, 2, channels) that blocks found; the second over sqrt(var + eps)."""
    sums, bits = empty((shape.samples, 2, shape.channels), found.dtype), slots_for(shape.channels)
    join_channels(
        (shape.samples, blocks_for(shape.channels, 1 << bits)),
        found,
        0 if var is None else var,
        sums,
        float(eps),
        int(var is not None),
        shape.chunks,
        shape.width,
        shape.channels,
        shape.channels // groups,
        groups,
        bits,
        shape.lanes,
        *divider(shape.lanes),
    )
    return sums
