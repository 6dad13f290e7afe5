"""Stencils whose every tap of every site blends sites of its own: a sparse matrix."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from spherecnn.stencils.base import Segment, Stencil, Tables, int32_table, read_only_table

TOGETHER = 4  # taps that a tile of the kernels forms at once, see `kernels.blend_tiles`


class SparseStencil(Stencil):
    r"""The stencil of a sparse matrix A, with a row for each tap of each output site.

    .. math:: y_{n,p} = b + \sum_t \Big(\sum_q A_{(p,t),\,q}\; x_{n,q}\Big)\, w_t

    The kernels form the sums in brackets for a block of sites at a time, in the cache. The adjoint has the transposed
    matrix of each tap.

    Parameters
    ----------
    matrix : sparse array (P_out * taps, P_in)
        Row ``p * taps + t`` is tap t of site p.
    shape_in, shape_out : tuple of int
        Spatial shapes.
    order, order_in : int arrays (P_out,) and (P_in,), optional
        The orders in which outputs are computed, and inputs in the adjoint: where neighbours follow each other, what
        they read stays in the caches.

    Examples
    --------
    Two sites whose one tap is the mean of both.

    >>> from spherecnn.kernels.gather_gemm import gather_gemm
    >>> stencil = SparseStencil(sparse.csr_array(np.full((2, 2), 0.5)), (2,), (2,))
    >>> gather_gemm(np.array([[[2.0], [4.0]]]), np.full((1, 1, 1), 10.0), None, stencil).ravel()
    array([30., 30.])
    """

    sparse = True

    def __init__(
        self,
        matrix: Any,
        shape_in: tuple[int, ...],
        shape_out: tuple[int, ...],
        order: np.ndarray | None = None,
        order_in: np.ndarray | None = None,
    ):
        sites = int(np.prod(shape_out))
        taps = matrix.shape[0] // sites
        self.order = np.arange(sites) if order is None else order
        self.order_in = np.arange(int(np.prod(shape_in))) if order_in is None else order_in
        everywhere = Segment(sites, 0, 0, [], [], [])
        super().__init__(shape_in, shape_out, taps, [self.order], [everywhere], self._adjoint)
        self.matrix = sparse.csr_array(matrix)
        self.matrix.sort_indices()

    def _adjoint(self) -> SparseStencil:
        entries = self.matrix.tocoo()
        (row, column), sites = entries.coords, self.sites_in
        place = (column.astype(np.int64) * self.taps + row % self.taps, row // self.taps)
        back = sparse.csr_array((entries.data, place), shape=(sites * self.taps, self.sites_out))
        return SparseStencil(back, self.shape_out, self.shape_in, self.order_in, self.order)

    def _make_tables(self, dtype: np.dtype) -> Tables:
        indptr, indices, data = self._rows
        return (
            super()
            ._make_tables(dtype)
            ._replace(
                indptr=int32_table(indptr),
                indices=int32_table(indices),
                data=read_only_table(data.ravel(), dtype),
                together=data.ndim == 2,
            )
        )

    @cached_property
    def _rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows in the order of computation, as (indptr, indices, data).

        There is a row for each tap of each site; or one for each site, with data (entries, taps), where taps read so
        much the same that most numbers of such a table are not zero, and the kernels have a tile for it.
        """
        rows = self.matrix[(self.order[:, None] * self.taps + np.arange(self.taps)).ravel()]
        if self.taps != TOGETHER:
            return rows.indptr, rows.indices, rows.data
        count = np.diff(rows.indptr)
        site, tap = np.divmod(np.repeat(np.arange(len(count)), count), self.taps)
        rank = np.empty(self.sites_in, np.int64)
        rank[self.order_in] = np.arange(self.sites_in)
        read, entry = np.unique(site * self.sites_in + rank[rows.indices], return_inverse=True)
        # the tile looks at the entry before the end of a row, so the first row must have one
        if len(read) == 0 or read[0] >= self.sites_in or len(read) * self.taps > 2 * rows.nnz:
            return rows.indptr, rows.indices, rows.data
        data = np.zeros((len(read), self.taps))
        np.add.at(data, (entry, tap), rows.data)
        ends = np.concatenate([[0], np.cumsum(np.bincount(read // self.sites_in, minlength=self.sites_out))])
        return ends, self.order_in[read % self.sites_in], data

    @property
    def blends(self) -> bool:
        return True

    def shared_slots(self) -> Iterator[tuple[np.ndarray, int, np.ndarray, Any]]:
        count = np.diff(self.matrix.indptr).reshape(-1, self.taps)
        begin = self.matrix.indptr[:-1].reshape(-1, self.taps)
        for tap in range(self.taps):
            for j in range(count[:, tap].max(initial=0)):
                out = np.flatnonzero(count[:, tap] > j)
                entry = begin[out, tap] + j
                yield out, tap, self.matrix.indices[entry], self.matrix.data[entry]
