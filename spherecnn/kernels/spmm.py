"""A sparse matrix times the sites of a signal: resampling, averaging, and taps that read several sites."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from spherecnn.kernels import register_tiles, vector
from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op

tile_four, tile_two, tile_one = (register_tiles.weighted_tile(vectors) for vectors in (4, 2, 1))
stream_four, stream_two, stream_one = (register_tiles.weighted_tile(vectors, stream=True) for vectors in (4, 2, 1))
VECTOR_BYTES = vector.HOST.bytes
# Outputs larger than this leave the caches anyway; written past them, they are not read first.
STREAM_BYTES = 1 << 24
BLOCK = 64  # rows of the matrix in one task


class Entries(NamedTuple):
    """The entries of a sparse matrix, row by row."""

    data: Any
    index: Any
    first: Any  # entries first[p] .. first[p + 1] are row p


@op
def spmm(matrix: Any, x: Any) -> Any:
    r"""Apply a sparse matrix to the sites of every sample; its adjoint is `spmm` with the transposed matrix.

    .. math:: y_{n,p,c} = \sum_q A_{p,q}\, x_{n,q,c}

    Parameters
    ----------
    matrix : scipy.sparse.csr_array (P, Q)
    x : ndarray (N, Q, C)

    Returns
    -------
    ndarray (N, P, C)

    Examples
    --------
    >>> import numpy as np, scipy.sparse
    >>> mean = scipy.sparse.csr_array(np.full((1, 2), 0.5))
    >>> spmm(mean, np.array([[[1.0], [3.0]]]))
    array([[[2.]]])
    """
    return np.stack([matrix.astype(x.dtype) @ sample for sample in x])


@spmm.on("cpu")
def _spmm_cpu(matrix: Any, x: Any) -> Any:
    y = empty((len(x), matrix.shape[0], x.shape[2]), x.dtype)
    spmm_rows(entries_of(matrix, x.dtype), x, y)
    return y


def entries_of(matrix: Any, dtype: Any) -> Entries:
    """The entries of a CSR matrix as the kernels take them, read-only."""
    tables = [
        matrix.data.astype(dtype, copy=False).view(),
        matrix.indices.astype(np.int32, copy=False).view(),
        matrix.indptr.astype(np.int32, copy=False).view(),
    ]
    for table in tables:
        table.setflags(write=False)
    return Entries(*tables)


@kernel()
def spmm_rows(entries, x, y):
    samples, height, channels = y.shape
    blocks = (height + BLOCK - 1) // BLOCK
    xs, ys = x.reshape(-1), y.reshape(-1)
    streams = y.nbytes >= STREAM_BYTES and channels * y.itemsize % VECTOR_BYTES == 0
    for i in prange(samples * blocks):
        n, p = i // blocks, i % blocks * BLOCK
        x0, y0 = n * x.shape[1] * channels, (n * height + p) * channels
        weighted(entries, p, min(BLOCK, height - p), xs, x0, channels, ys, y0, streams)


@kernel(inline=True)
def weighted(entries, p0, n, x, x0, width, y, y0, streams):
    """Rows p0 .. p0 + n of a matrix times rows of `width` elements; see `register_tiles.weighted_tile`."""
    lanes = VECTOR_BYTES // y.itemsize
    if width < lanes:
        few_channels(entries, p0, n, x, x0, width, y, y0)
        return
    k, blocks = 0, width // (4 * lanes)
    if blocks:
        if streams:
            stream_four(entries, p0, n, x, x0, width, y, y0, blocks)
        else:
            tile_four(entries, p0, n, x, x0, width, y, y0, blocks)
        k += blocks * 4 * lanes
    if width - k >= 2 * lanes:
        if streams:
            stream_two(entries, p0, n, x, x0 + k, width, y, y0 + k, 1)
        else:
            tile_two(entries, p0, n, x, x0 + k, width, y, y0 + k, 1)
        k += 2 * lanes
    while k < width:
        # The last vector may overlap the one before: the same sums twice.
        k = min(k, width - lanes)
        if streams:
            stream_one(entries, p0, n, x, x0 + k, width, y, y0 + k, 1)
        else:
            tile_one(entries, p0, n, x, x0 + k, width, y, y0 + k, 1)
        k += lanes


@kernel(inline=True)
def few_channels(entries, p0, n, x, x0, width, y, y0):
    """Fewer channels than a vector."""
    for p in range(n):
        sink = y[y0 + p * width : y0 + (p + 1) * width]
        sink[:] = 0
        for j in range(entries.first[p0 + p], entries.first[p0 + p + 1]):
            start = x0 + entries.index[j] * width
            source = x[start : start + width]
            weight = entries.data[j]
            for k in range(width):
                sink[k] += weight * source[k]
