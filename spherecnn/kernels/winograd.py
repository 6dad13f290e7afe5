"""Winograd's convolution: 3x3 windows of stride 1 with a quarter of the multiplications, blocked for the L2 cache.

A block of tiles is transformed, multiplied channel by channel with the transformed weights by the tiles of
`gather_gemm`, and transformed back, before the next block is read. Every output depends on its own tile only, so
it has the same bits however the tiles are shared among threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from spherecnn.kernels.gather_gemm import (
    PAIR_SITES,
    PAIR_VECTORS,
    SINGLE_SITES,
    SITES,
    VECTOR_BYTES,
    WIDE_SITES,
    WIDE_VECTORS,
    add_outer,
    block_size,
    mix_pair,
    mix_single,
    mix_wide,
)
from spherecnn.kernels.jit import get_num_threads, kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op
from spherecnn.kernels.vector import Rows, Source, Weights
from spherecnn.kernels.winograd_transform import collect_tile, matrices, spread_gradient_tile, spread_tile

spread_4, spread_2 = spread_tile(4), spread_tile(2)
collect_4, collect_2 = collect_tile(4), collect_tile(2)
spread_gradient_4, spread_gradient_2 = spread_gradient_tile(4), spread_gradient_tile(2)

# Transformed inputs of a block, in bytes; planes are kept apart by a few elements, or all would share cache lines.
BLOCK_BYTES, LEAST_BLOCK, MOST_BLOCK = 1 << 18, 24, 48
APART = 16
# The weight gradient is summed in a number of parts that does not depend on the threads.
PARTS, PART_BLOCK = 4, 36


@op
def winograd(x: Any, w: Any, b: Any, tiles: Any) -> Any:
    r"""Convolve by the tiles of F(m x m, 3x3).

    .. math:: Y = b + A^T \left[\sum_c (G\, w_{c}\, G^T) \odot (B^T d_c\, B)\right] A

    for each tile d of inputs and Y of outputs. Source: Lavin and Gray, CVPR 2016, equation 12.

    Parameters
    ----------
    x : ndarray (N, P_in, C)
    w : ndarray (9, C, K)
    b : ndarray (K,) or None
    tiles : stencils.Tiles

    Returns
    -------
    ndarray (N, P_out, K)
    """
    m, rows, columns = tiles.tables.size, tiles.tables.rows_out, tiles.tables.columns_out
    a, bt, g = (matrix.astype(x.dtype) for matrix in matrices(m))
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1)  # place -1 is the last row: zeros
    v = np.einsum("ui,vj,nrqijc->nrquvc", bt, bt, padded[:, tiles.places()], optimize=True)
    u = np.einsum("ui,vj,ijck->uvck", g, g, w.reshape(3, 3, *w.shape[1:]), optimize=True)
    y = np.einsum("iu,jv,nrquvk->nriqjk", a, a, np.einsum("nrquvc,uvck->nrquvk", v, u, optimize=True), optimize=True)
    n, r, _, q, _, k = y.shape
    y = y.reshape(n, r * m, q * m, k)[:, :rows, :columns].reshape(n, rows * columns, k)
    return np.ascontiguousarray(y) if b is None else y + b


@op
def winograd_dw(x: Any, dy: Any, tiles: Any) -> Any:
    r"""Weight and bias gradient of `winograd`.

    .. math:: dw_{c,k} = G^T \Big[\sum_{tiles} (B^T d_c\, B) \odot (A\, dY_k\, A^T)\Big] G

    Parameters
    ----------
    x : ndarray (N, P_in, C)
    dy : ndarray (N, P_out, K)
    tiles : stencils.Tiles

    Returns
    -------
    dw : ndarray (9, C, K)
    db : ndarray (K,)
    """
    m, rows, columns = tiles.tables.size, tiles.tables.rows_out, tiles.tables.columns_out
    a, bt, g = (matrix.astype(x.dtype) for matrix in matrices(m))
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1)
    v = np.einsum("ui,vj,nrqijc->nrquvc", bt, bt, padded[:, tiles.places()], optimize=True)
    n, r, q = v.shape[:3]
    whole = np.zeros((n, r * m, q * m, dy.shape[2]), dy.dtype)
    whole[:, :rows, :columns] = dy.reshape(n, rows, columns, -1)
    z = np.einsum("iu,jv,nriqjk->nrquvk", a, a, whole.reshape(n, r, m, q, m, -1), optimize=True)
    du = np.einsum("nrquvc,nrquvk->uvck", v, z, optimize=True)
    dw = np.einsum("ui,vj,uvck->ijck", g, g, du, optimize=True)
    return dw.reshape(9, *dw.shape[2:]), dy.sum((0, 1))


# --- cpu -----------------------------------------------------------------------------------------------------


def fits(channels: int, outputs: int, dtype: Any) -> bool:
    """Whether the compiled bodies take these numbers of channels: whole vectors."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    return channels % lanes == 0 and outputs % lanes == 0


def transform_weights(w: Any, m: int, adjoint: bool = False) -> Any:
    """Return G w G' in the order that the tiles read: [block of outputs][transform][input][output in block].

    With `adjoint`, of the kernel that the data gradient uses: turned round, inputs and outputs exchanged.
    """
    reads, makes = (w.shape[2], w.shape[1]) if adjoint else (w.shape[1], w.shape[2])
    u = empty(((m + 2) ** 2 * reads * makes,), w.dtype)
    pack_transformed(w, matrices(m)[2], u, reads, makes, adjoint)
    return u


def same(a: Any, b: Any) -> bool:
    """Whether two arrays of one dtype hold the same numbers; NaN is never the same."""
    return a.shape == b.shape and bool(equal_parts(a.reshape(-1), b.reshape(-1)).all())


@winograd.on("cpu")
def _winograd_cpu(x: Any, w: Any, b: Any, tiles: Any) -> Any:
    return winograd_transformed(x, transform_weights(w, tiles.tables.size), b, w.shape[2], tiles)


def winograd_transformed(x: Any, u: Any, b: Any, outputs: int, tiles: Any) -> Any:
    """Compute `winograd` with weights from `transform_weights`, which a network keeps while it does not learn."""
    samples, _, channels = x.shape
    planes, threads = (tiles.tables.size + 2) ** 2, get_num_threads()
    block = _block(planes, channels, x.itemsize)
    wide = WIDE_VECTORS * VECTOR_BYTES // x.itemsize
    y = empty((samples, tiles.sites_out, outputs), x.dtype)
    bias = np.zeros(outputs, x.dtype) if b is None else b
    room = empty((threads, planes * (block * (channels + wide) + 2 * APART) + outputs), x.dtype)
    tile_tasks(x, u, bias, y, room, block, tiles.count, tiles.tables)
    return y


@winograd_dw.on("cpu")
def _winograd_dw_cpu(x: Any, dy: Any, tiles: Any) -> Any:
    samples, _, channels = x.shape
    makes, planes = dy.shape[2], (tiles.tables.size + 2) ** 2
    size = planes * channels * makes
    block, parts = PART_BLOCK, max(1, min(PARTS, samples * tiles.count // PART_BLOCK))
    part, bias_part = empty((parts, size), x.dtype), empty((parts, makes), x.dtype)
    room = empty((parts, planes * (block * (channels + makes) + 2 * APART)), x.dtype)
    tile_outer_tasks(x, dy, part, bias_part, room, block, tiles.count, tiles.tables)
    dw = empty((9, channels, makes), x.dtype)
    sum_transformed(part, matrices(tiles.tables.size)[2], dw)
    db = bias_part[0].copy()
    for other in bias_part[1:]:
        db += other
    return dw, db


def _block(planes: int, channels: int, itemsize: int) -> int:
    """Tiles of a block, a multiple of the sites of every register tile."""
    most = BLOCK_BYTES // (planes * channels * itemsize)
    return int(np.clip(most, LEAST_BLOCK, MOST_BLOCK)) // SITES * SITES


@kernel()
def pack_transformed(w, g, u, reads, makes, adjoint):
    n, lanes = len(g), VECTOR_BYTES // w.itemsize
    wide = WIDE_VECTORS * lanes
    blocks = (makes + wide - 1) // wide
    for task in prange(blocks * reads):
        start, c = task // reads * wide, task % reads
        taps, half = np.empty((9, wide)), np.empty((n, 3, wide))
        left = min(wide, makes - start)
        for t in range(9):
            row = taps[t]
            if adjoint:
                for k in range(left):
                    row[k] = w[8 - t, start + k, c]
            else:
                row[:left] = w[t, c, start : start + left]
        for i in range(n):
            for j in range(3):
                out = half[i, j]
                for k in range(left):
                    out[k] = g[i, 0] * taps[j, k] + g[i, 1] * taps[3 + j, k] + g[i, 2] * taps[6 + j, k]
        done = 0
        while done < left:
            width = block_size(left - done, lanes)
            at = (start + done) * n * n * reads + c * width
            for i in range(n):
                for j in range(n):
                    out = u[at + (i * n + j) * reads * width : at + (i * n + j) * reads * width + width]
                    a = half[i, 0, done:]
                    b = half[i, 1, done:]
                    d = half[i, 2, done:]
                    for k in range(width):
                        out[k] = g[j, 0] * a[k] + g[j, 1] * b[k] + g[j, 2] * d[k]
            done += width


@kernel()
def equal_parts(a, b):
    parts = 1 + a.size // 65536
    equal = np.zeros(parts, np.bool_)
    for i in prange(parts):
        first, last = i * a.size // parts, (i + 1) * a.size // parts
        left = a[first:last]
        right = b[first:last]
        differences = 0
        for j in range(last - first):
            differences += left[j] != right[j]
        equal[i] = differences == 0
    return equal


@kernel(inline=True)
def spell_inputs(r, q, channels, tiles, place):
    """Element offsets of the inputs of tile (r, q); negative for zero."""
    n = tiles.size + 2
    for i in range(n):
        base = tiles.base[r, i]
        column = tiles.column[tiles.kind[r, i]]
        for j in range(n):
            shift = column[q * tiles.size + j]
            place[i * n + j] = -1 if base < 0 or shift < 0 else (base + shift) * channels


@kernel(inline=True)
def spell_outputs(r, q, channels, tiles, place):
    """Element offsets of the outputs of tile (r, q); negative beyond the image."""
    m = tiles.size
    for i in range(m):
        row = r * m + i
        for j in range(m):
            column = q * m + j
            inside = row < tiles.rows_out and column < tiles.columns_out
            place[i * m + j] = (row * tiles.columns_out + column) * channels if inside else -1


@kernel(inline=True)
def places_of(n, step):
    """Element offsets of rows 0 .. n - 1; the last is repeated up to a full register tile."""
    offset = np.empty(n + SITES, np.int32)
    for p in range(n + SITES):
        offset[p] = min(p, n - 1) * step
    return offset


@kernel()
def tile_tasks(x, u, bias, y, room, block, count, tiles):
    samples, sites_in, channels = x.shape
    outputs, m, threads = y.shape[2], tiles.size, len(room)
    n, across, lanes = m + 2, (tiles.columns_out + m - 1) // m, VECTOR_BYTES // x.itemsize
    planes, total, wide = n * n, samples * count, WIDE_VECTORS * lanes
    blocks = max(threads, (total + block - 1) // block)
    xs, ys = x.reshape(-1), y.reshape(-1)
    per_in, per_out = sites_in * channels, y.shape[1] * outputs
    zero, only_tap = np.zeros(max(channels, wide), x.dtype), np.zeros(1, np.int32)  # zero is the bias too
    for thread in prange(threads):
        work = room[thread]
        spare = room[thread, room.shape[1] - outputs :]
        place, target = np.empty(planes, np.int32), np.empty(m * m, np.int32)
        plane, plane_out = block * channels + APART, block * wide + APART
        m0 = planes * plane  # the products lie behind the transformed inputs
        for q in range(thread * blocks // threads, (thread + 1) * blocks // threads):
            first, last = q * total // blocks, (q + 1) * total // blocks
            if first == last:
                continue
            for t in range(first, last):
                sample, tile = t // count, t % count
                spell_inputs(tile // across, tile % across, channels, tiles, place)
                source = Source(xs, sample * per_in, place, 0, only_tap, 0, 1, channels, zero)
                at = (t - first) * channels
                if m == 4:
                    spread_4(source, 0, work, at, plane, channels // lanes)
                else:
                    spread_2(source, 0, work, at, plane, channels // lanes)
            rows = places_of(last - first, channels)
            k = 0
            while k < outputs:
                width = block_size(outputs - k, lanes)
                products = Rows(work, m0, places_of(last - first, width))
                for i in range(planes):
                    source = Source(work, i * plane, rows, 0, only_tap, 0, 1, channels, zero)
                    weights = u[(k * planes + i * width) * channels : (k * planes + (i + 1) * width) * channels]
                    multiply(source, weights, Rows(work, m0 + i * plane_out, products.offset), last - first, width)
                for t in range(first, last):
                    sample, tile = t // count, t % count
                    spell_outputs(tile // across, tile % across, outputs, tiles, target)
                    sink = Rows(ys, sample * per_out, target)
                    at = (t - first) * width
                    if m == 4:
                        collect_4(products, at, plane_out, bias, k, sink, spare, width // lanes)
                    else:
                        collect_2(products, at, plane_out, bias, k, sink, spare, width // lanes)
                k += width


@kernel(inline=True)
def multiply(source, u, sink, n, width):
    """Mix the channels of n rows to `width` outputs, a tile of registers at a time."""
    lanes = VECTOR_BYTES // u.itemsize
    weights = Weights(u, 0, source.zero, 0)
    if width == WIDE_VECTORS * lanes:
        for p in range(0, n, WIDE_SITES):
            mix_wide(source, p, weights, 0, 0, sink, p, 0)
    elif width == PAIR_VECTORS * lanes:
        for p in range(0, n, PAIR_SITES):
            mix_pair(source, p, weights, 0, 0, sink, p, 0)
    else:
        for p in range(0, n, SINGLE_SITES):
            mix_single(source, p, weights, 0, 0, sink, p, 0)


@kernel()
def tile_outer_tasks(x, dy, part, bias_part, room, block, count, tiles):
    samples, sites_in, channels = x.shape
    makes, m, parts = dy.shape[2], tiles.size, len(part)
    n, across, lanes = m + 2, (tiles.columns_out + m - 1) // m, VECTOR_BYTES // x.itemsize
    planes, total = n * n, samples * count
    xs, gs = x.reshape(-1), dy.reshape(-1)
    zero = np.zeros(max(channels, makes), x.dtype)
    only_tap = np.zeros(1, np.int32)
    for i in prange(parts):
        sums = part[i]
        work = room[i]
        bias_sums = bias_part[i]
        sums[:] = 0
        bias_sums[:] = 0
        block_sums = np.empty(makes, x.dtype)
        place, target = np.empty(planes, np.int32), np.empty(m * m, np.int32)
        plane, plane_out = block * channels + APART, block * makes + APART
        v0, z0 = 0, planes * plane
        begin, end = i * total // parts, (i + 1) * total // parts
        blocks = (end - begin + block - 1) // block
        for q in range(blocks):
            first, last = begin + q * (end - begin) // blocks, begin + (q + 1) * (end - begin) // blocks
            block_sums[:] = 0
            for t in range(first, last):
                sample, tile = t // count, t % count
                spell_inputs(tile // across, tile % across, channels, tiles, place)
                spell_outputs(tile // across, tile % across, makes, tiles, target)
                source = Source(xs, sample * sites_in * channels, place, 0, only_tap, 0, 1, channels, zero)
                flow = Source(gs, sample * dy.shape[1] * makes, target, 0, only_tap, 0, 1, makes, zero)
                at, to = v0 + (t - first) * channels, z0 + (t - first) * makes
                if m == 4:
                    spread_4(source, 0, work, at, plane, channels // lanes)
                    spread_gradient_4(flow, 0, work, to, plane_out, block_sums, makes // lanes)
                else:
                    spread_2(source, 0, work, at, plane, channels // lanes)
                    spread_gradient_2(flow, 0, work, to, plane_out, block_sums, makes // lanes)
            rows, rows_out = places_of(last - first, channels), places_of(last - first, makes)
            for j in range(planes):
                source = Source(work, v0 + j * plane, rows, 0, only_tap, 0, 1, channels, zero)
                flow_rows = Rows(work, z0 + j * plane_out, rows_out)
                add_outer(source, 0, channels, flow_rows, last - first, makes, sums, j * channels * makes, makes)
            for k in range(makes):
                bias_sums[k] += block_sums[k]


@kernel()
def sum_transformed(part, g, dw):
    """Add the parts in order and transform back: dw = G' dU G."""
    _, channels, makes = dw.shape
    n = len(g)
    for c in prange(channels):
        whole, half = np.zeros((n * n, makes)), np.zeros((3, n, makes))
        for i in range(n * n):
            out = whole[i]
            for p in range(len(part)):
                row = part[p, (i * channels + c) * makes : (i * channels + c + 1) * makes]
                for k in range(makes):
                    out[k] += row[k]
        for i in range(3):
            for j in range(n):
                out = half[i, j]
                for u in range(n):
                    row = whole[u * n + j]
                    factor = g[u, i]
                    for k in range(makes):
                        out[k] += factor * row[k]
        for i in range(3):
            for j in range(3):
                total = np.zeros(makes)
                for u in range(n):
                    row = half[i, u]
                    factor = g[u, j]
                    for k in range(makes):
                        total[k] += factor * row[k]
                dw[i * 3 + j, c] = total
