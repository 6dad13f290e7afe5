"""A sparse matrix times the sites of a signal: resampling, averaging, and taps that read several sites."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op


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
    spmm_rows(matrix.indptr, matrix.indices, matrix.data.astype(x.dtype, copy=False), x, y)
    return y


@kernel()
def spmm_rows(indptr, indices, data, x, y):
    samples, rows, channels = y.shape
    blocks = (rows + 63) // 64
    for i in prange(samples * blocks):
        n, first = i // blocks, i % blocks * 64
        for p in range(first, min(rows, first + 64)):
            out = y[n, p]
            for c in range(channels):
                out[c] = 0
            for j in range(indptr[p], indptr[p + 1]):
                row = x[n, indices[j]]
                weight = data[j]
                for c in range(channels):
                    out[c] += weight * row[c]
