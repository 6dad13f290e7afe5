"""Batch, group and layer normalisation over channels-last arrays.

Batch statistics take one pass over memory. Rows of few channels are joined into wide rows of whole vectors
("lanes": several columns that hold the same channel). A fixed number of chunks of wide rows is summed about a
pivot near the mean of the chunk, in float64 from block to block; the chunks are merged in order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op
from spherecnn.kernels.pointwise import flat, rows

Array = np.ndarray
MOST_CHUNKS = 64
WIDTH = 128  # least number of elements in a wide row
BLOCK = 32  # wide rows summed in the array's own precision before they join a float64 sum


@op
def batch_moments(x: Array) -> tuple[Array, Array]:
    """Return mean and biased variance (C,), float64, of each channel over all axes but the last.

    Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance", 1983, for the merging.
    """
    columns = x.reshape(-1, x.shape[-1]).astype(np.float64)
    return columns.mean(axis=0), columns.var(axis=0)


@op
def batch_norm(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel (the last axis).

    Source: Ioffe and Szegedy, "Batch normalization", ICML 2015, algorithm 1.
    """
    y = (x - mean) / np.sqrt(var + eps)
    y = y if weight is None or bias is None else y * weight + bias
    return y.astype(x.dtype)


@op
def batch_norm_grad(
    dy: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    eps: float,
    of_batch: bool,
    inputs: bool,
) -> tuple[Array | None, Array, Array]:
    """Return dx, dweight and dbias of `batch_norm`; dx is None without `inputs`.

    With `of_batch`, mean and var are those of x, and the gradient passes through them:
    dx = weight / sqrt(var + eps) (dy - mean(dy) - xhat mean(dy xhat)).
    """
    axes = tuple(range(x.ndim - 1))
    scale = 1 / np.sqrt(var + eps)
    xhat = (x - mean) * scale
    dbias, dweight = dy.sum(axis=axes, dtype=np.float64), (dy * xhat).sum(axis=axes, dtype=np.float64)
    count = x.size // x.shape[-1] if of_batch else math.inf
    dx = (dy - dbias / count - xhat * dweight / count) * scale * (1 if weight is None else weight)
    return dx.astype(x.dtype) if inputs else None, dweight.astype(x.dtype), dbias.astype(x.dtype)


@batch_moments.on("cpu")
def _batch_moments(x: Array) -> tuple[Array, Array]:
    wide, rest, per_chunk = _widen(x)
    count, pivot, first, second = _chunk_sums(wide[None], per_chunk)
    channels = x.shape[-1]
    # One entry for each chunk, lane and channel, then one for each of the last rows.
    counts = np.concatenate([np.repeat(count, wide.shape[1] // channels), np.ones(len(rest))])[:, None]
    means = np.concatenate([(pivot + first / count[:, None]).reshape(-1, channels), rest])
    within = (second - first**2 / count[:, None]).sum(axis=0).reshape(-1, channels).sum(axis=0)
    total = x.size // channels
    mean = (counts * means).sum(axis=0) / total
    return mean, np.maximum(within + (counts * (means - mean) ** 2).sum(axis=0), 0) / total


@batch_norm.on("cpu")
def _batch_norm(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    lanes = _lanes(x.shape[-1])
    scale = (1 if weight is None else weight) / np.sqrt(var + eps)
    centre = mean.astype(x.dtype)
    shift = (0 if bias is None else bias) + (centre - mean) * scale
    y = empty(x.shape, x.dtype)
    _scale_rows(flat(x)[None], *_tiled(lanes, x.dtype, centre, scale, shift), flat(y)[None])
    return y


@batch_norm_grad.on("cpu")
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
    channels, lanes = x.shape[-1], _lanes(x.shape[-1])
    wide, rest, per_chunk = _widen(x)
    wide_dy, rest_dy, _ = _widen(dy)
    centre = mean.astype(x.dtype)
    sums = _chunk_products(wide_dy[None], wide[None], *_tiled(lanes, x.dtype, centre), per_chunk)
    dbias, product = sums.sum(axis=0).reshape(2, -1, channels).sum(axis=1)
    dbias = dbias + rest_dy.sum(axis=0, dtype=np.float64)
    product = product + (rest_dy * (rest - centre)).sum(axis=0, dtype=np.float64) + (centre - mean) * dbias
    rstd = 1 / np.sqrt(var + eps)
    dx = None
    if inputs:
        count = x.size // channels if of_batch else math.inf
        scale = rstd if weight is None else rstd * weight
        slope = scale * product * rstd**2 / count
        dx = empty(x.shape, x.dtype)
        columns = _tiled(lanes, x.dtype, centre, scale, scale * dbias / count + (centre - mean) * slope, slope)
        _scale_rows_grad(flat(dy)[None], flat(x)[None], *columns, flat(dx)[None])
    return dx, (product * rstd).astype(x.dtype), dbias.astype(x.dtype)


def _lanes(channels: int) -> int:
    """How many rows to join so that they span at least WIDTH, and fill whole vectors of 16."""
    if channels >= WIDTH:
        return 1
    least = 16 // math.gcd(channels, 16)
    return least * -(-WIDTH // (least * channels))


def _widen(x: Array) -> tuple[Array, Array, int]:
    """Return the wide rows, the rows left over, and the number of wide rows in a chunk."""
    channels = x.shape[-1]
    width = _lanes(channels) * channels
    whole = x.size // width * width
    wide, rest = flat(x)[:whole].reshape(-1, width), flat(x)[whole:].reshape(-1, channels)
    return wide, rest, BLOCK * max(1, -(-len(wide) // (BLOCK * MOST_CHUNKS)))


def _tiled(lanes: int, dtype: Any, *columns: Array) -> list[Array]:
    """Repeat per-channel values, (C,) or (samples, C), for every lane: (samples, width)."""
    return [np.tile(np.atleast_2d(column).astype(dtype), lanes) for column in columns]


@kernel()
def _chunk_sums(x, per_chunk):
    """Per chunk of a sample: rows, pivot (near the mean), sums of (x - pivot) and of its square; float64."""
    samples, height, width = x.shape
    each = (height + per_chunk - 1) // per_chunk
    chunks = samples * each
    count, pivots = np.zeros(chunks), np.zeros((chunks, width))
    firsts, seconds = np.zeros((chunks, width)), np.zeros((chunks, width))
    for k in prange(chunks):
        chunk = x[k // each, k % each * per_chunk : (k % each + 1) * per_chunk]
        count[k] = len(chunk)
        pivot, first, second = np.zeros(width, x.dtype), np.zeros(width, x.dtype), np.zeros(width, x.dtype)
        head = chunk[:BLOCK]
        for r in range(len(head)):
            for j in range(width):
                pivot[j] += head[r, j]
        for j in range(width):
            pivot[j] /= len(head)
        for top in range(0, len(chunk), BLOCK):
            block = chunk[top : top + BLOCK]
            fours = len(block) // 4
            for r in range(fours):  # four rows at a time, for fewer reads and writes of the sums
                row_a = block[4 * r]
                row_b = block[4 * r + 1]
                row_c = block[4 * r + 2]
                row_d = block[4 * r + 3]
                for j in range(width):
                    a, b = row_a[j] - pivot[j], row_b[j] - pivot[j]
                    c, d = row_c[j] - pivot[j], row_d[j] - pivot[j]
                    first[j] += (a + b) + (c + d)
                    second[j] += (a * a + b * b) + (c * c + d * d)
            for r in range(4 * fours, len(block)):
                row = block[r]
                for j in range(width):
                    off = row[j] - pivot[j]
                    first[j] += off
                    second[j] += off * off
            for j in range(width):
                firsts[k, j] += first[j]
                seconds[k, j] += second[j]
                first[j] = 0
                second[j] = 0
        for j in range(width):
            pivots[k, j] = pivot[j]
    return count, pivots, firsts, seconds


@kernel()
def _chunk_products(dy, x, means, per_chunk):
    """Per chunk of a sample: sums of dy and of dy (x - mean); float64."""
    samples, height, width = x.shape
    each = (height + per_chunk - 1) // per_chunk
    sums = np.zeros((samples * each, 2, width))
    for k in prange(samples * each):
        mean = means[k // each]
        chunk = x[k // each, k % each * per_chunk : (k % each + 1) * per_chunk]
        chunk_dy = dy[k // each, k % each * per_chunk : (k % each + 1) * per_chunk]
        first, second = np.zeros(width, x.dtype), np.zeros(width, x.dtype)
        for top in range(0, len(chunk), BLOCK):
            block = chunk[top : top + BLOCK]
            block_dy = chunk_dy[top : top + BLOCK]
            for r in range(len(block)):
                row = block[r]
                row_dy = block_dy[r]
                for j in range(width):
                    first[j] += row_dy[j]
                    second[j] += row_dy[j] * (row[j] - mean[j])
            for j in range(width):
                sums[k, 0, j] += first[j]
                sums[k, 1, j] += second[j]
                first[j] = 0
                second[j] = 0
    return sums


@kernel()
def _scale_rows(x, means, scales, shifts, y):
    """y = (x - mean) scale + shift, with columns of each sample."""
    width = means.shape[1]
    each = (x.shape[1] + width - 1) // width
    for r in prange(len(x) * each):
        n, first = r // each, r % each * width
        mean = means[n]
        scale = scales[n]
        shift = shifts[n]
        xs = x[n, first : first + width]
        ys = y[n, first : first + width]
        for j in range(xs.size):
            ys[j] = (xs[j] - mean[j]) * scale[j] + shift[j]


@kernel()
def _scale_rows_grad(dy, x, means, scales, shifts, slopes, dx):
    """dx = dy scale - shift - (x - mean) slope, with columns of each sample."""
    width = means.shape[1]
    each = (x.shape[1] + width - 1) // width
    for r in prange(len(x) * each):
        n, first = r // each, r % each * width
        mean = means[n]
        scale = scales[n]
        shift = shifts[n]
        slope = slopes[n]
        dys = dy[n, first : first + width]
        xs = x[n, first : first + width]
        dxs = dx[n, first : first + width]
        for j in range(xs.size):
            dxs[j] = dys[j] * scale[j] - shift[j] - (xs[j] - mean[j]) * slope[j]


@op
def group_moments(x: Array, groups: int) -> tuple[Array, Array]:
    """Return mean and biased variance (N, groups), float64, of each sample's groups of channels.

    x is (N, P, C). Group g holds channels g C / groups to (g + 1) C / groups.
    """
    grouped = x.reshape(*x.shape[:2], groups, -1).astype(np.float64)
    return grouped.mean(axis=(1, 3)), grouped.var(axis=(1, 3))


@op
def group_norm(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    """(x - mean) / sqrt(var + eps) * weight + bias for each sample's groups; x is (N, P, C), mean (N, groups).

    Source: Wu and He, "Group normalization", ECCV 2018, eq. 1 to 7.
    """
    mean, var = _of_channels(x, mean, var)
    y = (x - mean[:, None]) / np.sqrt(var[:, None] + eps)
    y = y if weight is None or bias is None else y * weight + bias
    return y.astype(x.dtype)


@op
def group_norm_grad(
    dy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float, inputs: bool
) -> tuple[Array | None, Array, Array]:
    """Return dx, dweight and dbias of `group_norm`, mean and var being those of x; dx is None without `inputs`.

    With g = dy weight, and means over the group: dx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps).
    """
    groups, (mean, var) = mean.shape[1], _of_channels(x, mean, var)
    scale = 1 / np.sqrt(var[:, None] + eps)
    xhat = (x - mean[:, None]) * scale
    g = dy if weight is None else dy * weight

    def group_mean(a: Array) -> Array:
        means = a.reshape(*a.shape[:2], groups, -1).mean(axis=(1, 3), dtype=np.float64)
        return np.repeat(means, a.shape[2] // groups, axis=1)[:, None]

    dx = (g - group_mean(g) - xhat * group_mean(g * xhat)) * scale
    dweight, dbias = (a.sum(axis=(0, 1), dtype=np.float64).astype(x.dtype) for a in (dy * xhat, dy))
    return dx.astype(x.dtype) if inputs else None, dweight, dbias


def _of_channels(x: Array, *columns: Array) -> list[Array]:
    """Repeat values of groups (N, groups) for their channels: (N, C)."""
    return [np.repeat(column, x.shape[-1] // column.shape[1], axis=1) for column in columns]


def _sample_lanes(x: Array) -> int:
    """How many rows of a sample (N, P, C) to join into a wide one, with none left over."""
    return math.gcd(x.shape[1], _lanes(x.shape[2]))


def _widen_samples(x: Array) -> tuple[Array, int]:
    """Return the wide rows of each sample, and the number of them in a chunk."""
    samples, sites, channels = x.shape
    lanes = _sample_lanes(x)
    height = sites // lanes
    most = max(1, MOST_CHUNKS // samples)
    return np.ascontiguousarray(x).reshape(samples, height, lanes * channels), BLOCK * -(-height // (BLOCK * most))


@group_moments.on("cpu")
def _group_moments(x: Array, groups: int) -> tuple[Array, Array]:
    samples, _, channels = x.shape
    wide, per_chunk = _widen_samples(x)
    count, pivot, first, second = _chunk_sums(wide, per_chunk)
    shape = (samples, -1, groups, channels // groups)
    # Per sample: one entry for each chunk and lane, of each channel of a group.
    means = (pivot + first / count[:, None]).reshape(shape)
    within = (second - first**2 / count[:, None]).reshape(shape).sum(axis=(1, 3))
    counts = np.repeat(count.reshape(samples, -1), wide.shape[2] // channels, axis=1)[:, :, None, None]
    total = x.shape[1] * channels // groups
    mean = (counts * means).sum(axis=(1, 3)) / total
    between = (counts * (means - mean[:, None, :, None]) ** 2).sum(axis=(1, 3))
    return mean, np.maximum(within + between, 0) / total


@group_norm.on("cpu")
def _group_norm(x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
    mean, var = _of_channels(x, mean, var)
    scale = (1 if weight is None else weight) / np.sqrt(var + eps)
    centre = mean.astype(x.dtype)
    shift = (0 if bias is None else bias) + (centre - mean) * scale
    y = empty(x.shape, x.dtype)
    columns = _tiled(_sample_lanes(x), x.dtype, centre, scale, shift)
    _scale_rows(np.ascontiguousarray(x).reshape(len(x), -1), *columns, y.reshape(len(x), -1))
    return y


@group_norm_grad.on("cpu")
def _group_norm_grad(
    dy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float, inputs: bool
) -> tuple[Array | None, Array, Array]:
    samples, sites, channels = x.shape
    groups, lanes, (mean, var) = mean.shape[1], _sample_lanes(x), _of_channels(x, mean, var)
    (wide, per_chunk), (wide_dy, _) = _widen_samples(x), _widen_samples(dy)
    centre, rstd = mean.astype(x.dtype), 1 / np.sqrt(var + eps)
    sums = _chunk_products(wide_dy, wide, *_tiled(lanes, x.dtype, centre), per_chunk)
    chunks = sums.reshape(samples, -1, 2, lanes, channels).sum(axis=(1, 3))
    dbias = chunks[:, 0]
    product = (chunks[:, 1] + (centre - mean) * dbias) * rstd  # sum of dy xhat, (N, C)
    dx = None
    if inputs:
        factor = rstd if weight is None else rstd * weight

        def group_mean(column: Array) -> Array:
            sums = column.reshape(samples, groups, -1).sum(axis=2)
            return np.repeat(sums, channels // groups, axis=1) * rstd / (sites * channels // groups)

        own = 1 if weight is None else weight
        slope = group_mean(product * own) * rstd
        shift = group_mean(dbias * own) + (centre - mean) * slope
        dx = empty(x.shape, x.dtype)
        columns = _tiled(lanes, x.dtype, centre, factor, shift, slope)
        flat_dy, flat_x, flat_dx = (a.reshape(samples, -1) for a in (wide_dy, wide, dx))
        _scale_rows_grad(flat_dy, flat_x, *columns, flat_dx)
    return dx, product.sum(axis=0).astype(x.dtype), dbias.sum(axis=0).astype(x.dtype)


@op
def layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """Return y, and the mean and 1 / sqrt(var + eps) (R,) of the rows of x (R, D).

    y = (x - mean) / sqrt(var + eps) * weight + bias.
    Source: Ba, Kiros and Hinton, "Layer normalization", 2016, eq. 4.
    """
    mean = x.mean(axis=1, dtype=np.float64)
    rstd = 1 / np.sqrt(x.var(axis=1, dtype=np.float64) + eps)
    y = (x - mean[:, None]) * rstd[:, None]
    y = y if weight is None or bias is None else y * weight + bias
    return y.astype(x.dtype), mean, rstd


@op
def layer_norm_grad(dy: Array, x: Array, mean: Array, rstd: Array, weight: Array | None) -> tuple[Array, Array, Array]:
    """Return dx, dweight and dbias of `layer_norm`.

    With g = dy weight: dx = rstd (g - mean(g) - xhat mean(g xhat)).
    """
    xhat = (x - mean[:, None]) * rstd[:, None]
    g = dy if weight is None else dy * weight
    dx = rstd[:, None] * (g - g.mean(axis=1, keepdims=True) - xhat * (g * xhat).mean(axis=1, keepdims=True))
    return dx.astype(x.dtype), (dy * xhat).sum(axis=0).astype(x.dtype), dy.sum(axis=0).astype(x.dtype)


@layer_norm.on("cpu")
def _layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    y, mean, rstd = empty(x.shape, x.dtype), np.empty(len(x)), np.empty(len(x))
    weight, bias = _given(weight, x, 1), _given(bias, x, 0)
    _layer_norm_rows(rows(x), weight, bias, float(eps), y, mean, rstd)
    return y, mean, rstd


@layer_norm_grad.on("cpu")
def _layer_norm_grad(dy: Array, x: Array, mean: Array, rstd: Array, weight: Array | None) -> tuple[Array, Array, Array]:
    dx = empty(x.shape, x.dtype)
    per_chunk = max(8, -(-len(x) // MOST_CHUNKS))
    sums = _layer_norm_rows_grad(rows(dy), rows(x), mean, rstd, _given(weight, x, 1), per_chunk, dx)
    dweight, dbias = sums.sum(axis=0)
    return dx, dweight.astype(x.dtype), dbias.astype(x.dtype)


def _given(column: Array | None, x: Array, default: float) -> Array:
    return np.full(x.shape[1], default, x.dtype) if column is None else column


@kernel(reassociate=True)
def _layer_norm_rows(x, weight, bias, eps, y, means, rstds):
    depth = x.shape[1]
    for r in prange(x.shape[0]):
        xs = x[r]
        ys = y[r]
        mean = square = 0.0
        for j in range(depth):
            mean += xs[j]
        mean /= depth
        for j in range(depth):
            square += (xs[j] - mean) * (xs[j] - mean)
        rstd = 1 / np.sqrt(square / depth + eps)
        for j in range(depth):
            ys[j] = (xs[j] - mean) * rstd * weight[j] + bias[j]
        means[r] = mean
        rstds[r] = rstd


@kernel(reassociate=True)
def _layer_norm_rows_grad(dy, x, means, rstds, weight, per_chunk, dx):
    """Write dx; return per chunk the sums of dy xhat and of dy, float64."""
    height, depth = x.shape
    chunks = (height + per_chunk - 1) // per_chunk
    sums = np.zeros((chunks, 2, depth))
    for k in prange(chunks):
        dweight = sums[k, 0]
        dbias = sums[k, 1]
        for r in range(k * per_chunk, min((k + 1) * per_chunk, height)):
            dys = dy[r]
            xs = x[r]
            dxs = dx[r]
            mean = means[r]
            rstd = rstds[r]
            shared = along = 0.0
            for j in range(depth):
                xhat, g = (xs[j] - mean) * rstd, dys[j] * weight[j]
                shared += g
                along += g * xhat
                dweight[j] += dys[j] * xhat
                dbias[j] += dys[j]
            shared /= depth
            along /= depth
            for j in range(depth):
                xhat = (xs[j] - mean) * rstd
                dxs[j] = rstd * (dys[j] * weight[j] - shared - xhat * along)
    return sums
