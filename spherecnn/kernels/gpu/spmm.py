"""A sparse matrix times the sites of a signal, on the GPU: short rows by a thread each, long ones by many blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels import spmm as definition
from spherecnn.kernels.cuda import cuda, float32, int32, uint32
from spherecnn.kernels.gpu.array import DeviceArray, empty, to_device
from spherecnn.kernels.gpu.intrinsics import advance, ld1, ld1_if, load4, load4_if, st1, store4
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel
from spherecnn.kernels.gpu.layout import (
    MOST_GRID,
    NUMBERS,
    THREADS,
    batches,
    lane,
    layout,
    sample_and_chunk,
    vectors_of,
    width_of,
)
from spherecnn.kernels.gpu.parts import SPACE, sum_lanes, sum_parts
from spherecnn.kernels.gpu.tables import kept, matrix_tables, row_tables

TOGETHER = 4  # taps of an entry that has a number for each
LONG = 128  # entries of a row, on average, from which on a row is shared by blocks
PARTS, PART_ENTRIES = 128, 256  # of a long row: at most so many parts, of at least so many entries


def _make_rows(width: int, weighted: int, together: int) -> Any:
    """Row p of a matrix, or the rows of the taps of site p times their weights; entries four at a time."""
    many = 4 * width

    @gpu_kernel(
        f"f4* f4* f4* f4* i4* i4* f4* i4* {NUMBERS} i4 i4 i4 i4 i4 i4",
        threads=THREADS,
        blocks=4,
        constants=(width, weighted, together),
        claims=("LDG.E.128", "STG.E.128") if width == 4 else (),
        budget=600,
    )
    def matrix_rows(
        x,
        w,
        bias,
        y,
        first,
        site,
        data,
        order,
        log_vectors,
        log_wide,
        log_apart,
        chunks,
        row,
        rows,
        channels,
        sites_in,
        sites_out,
        taps,
        ordered,
        biased,
    ):
        vector, _, p = lane(1, log_vectors, log_wide, log_apart)
        sample, chunk = sample_and_chunk(chunks)
        c = int32(((chunk << log_vectors) + vector) * width)
        if c >= channels or p >= row:
            return
        xs, ys = advance(x, sample * sites_in * channels + c), advance(y, sample * sites_out * channels + c)
        ws = advance(w, c) if weighted else w
        f = cuda.local.array(many, float32)
        total = cuda.local.array(width, float32)
        inner = cuda.local.array(width, float32)
        weight = cuda.local.array(many, float32)
        for i in range(width):
            total[i] = ld1(bias, int32(c + i)) if biased else float32(0)
        each = 1 if together else taps
        if together and weighted:
            for t in range(TOGETHER):
                for i in range(width):
                    weight[width * t + i] = ld1(ws, int32(t * channels + i))
        t = int32(0)
        while t < each:
            e = ld1(first, int32(p * each + t))
            end = ld1(first, int32(p * each + t + 1))
            for i in range(width):
                inner[i] = float32(0)
            while e < end:
                for k in range(4):
                    # Beyond the end the last entry is named, and not read.
                    past = int32(end - 1 - e - k)
                    at = int32(e + k if past >= 0 else end - 1)
                    source = int32(ld1(site, at) * channels)
                    if width == 4:
                        f[4 * k], f[4 * k + 1], f[4 * k + 2], f[4 * k + 3] = load4_if(xs, source, past)
                    else:
                        f[k] = ld1_if(xs, source, past)
                for k in range(4):
                    at = int32(e + k if e + k < end else end - 1)
                    if together:
                        d0, d1, d2, d3 = load4(data, int32(TOGETHER * at))
                        for i in range(width):
                            sum01 = d0 * weight[i] + d1 * weight[width + i]
                            sum23 = d2 * weight[2 * width + i] + d3 * weight[3 * width + i]
                            inner[i] += (sum01 + sum23) * f[width * k + i]
                    else:
                        share = ld1(data, at)
                        for i in range(width):
                            inner[i] += share * f[width * k + i]
                e = int32(e + 4)
            if weighted and not together:
                for i in range(width):
                    total[i] += inner[i] * ld1(ws, int32(t * channels + i))
            else:
                for i in range(width):
                    total[i] += inner[i]
            t = int32(t + 1)
        to = int32((ld1(order, p) if ordered else p) * channels)
        if width == 4:
            store4(ys, to, total[0], total[1], total[2], total[3])
        else:
            st1(ys, to, total[0])

    return matrix_rows


_rows = {(width, *kind): _make_rows(width, *kind) for width in (1, 4) for kind in ((0, 0), (1, 0), (1, 1))}


def over_rows(x: Any, w: Any, bias: Any, stencil: Any) -> Any:
    """`depthwise` (with w) or `blend` (without) on a `SparseStencil`."""
    stencil.check_size(x.shape[2])
    tables = row_tables(stencil)
    arrays = tables.first, tables.site, tables.data, tables.order
    return _launch_rows(x, w, bias, arrays, stencil.sites_out, stencil.taps, tables.together)


def _launch_rows(x: Any, w: Any, bias: Any, arrays: Any, sites_out: int, taps: int, together: bool) -> Any:
    samples, sites_in, channels = x.shape
    y = empty((samples, sites_out, channels), x.dtype)
    plan = layout(sites_out, channels, 1)
    kernel = _rows[width_of(channels), int(w is not None), int(together)]
    ordered, biased = int(arrays[3] is not None), int(bias is not None)
    pointers = [0 if array is None else array for array in (w, bias, *arrays)]
    for part in batches(samples, plan.chunks):
        grid = (*plan.grid, (part.stop - part.start) * plan.chunks)
        numbers = *plan.numbers, channels, sites_in, sites_out, taps, ordered, biased
        kernel(grid, x[part], *pointers[:2], y[part], *pointers[2:], *numbers)
    return y


# --- long rows: each is cut into parts, which are summed in their order ----------------------------------------


def _make_parts(width: int) -> Any:
    many = 4 * width

    @gpu_kernel("f4* f4* i4* i4* f4* i4 i4 i4 i4 i4 i4", threads=THREADS, constants=(width,))
    def matrix_parts(x, part, first, site, data, log_vectors, channels, sites_in, rows, parts, chunks):
        """Block (part, row, sample and chunk): the sum of a part of a row."""
        t = int32(cuda.threadIdx.x)
        sample, chunk = sample_and_chunk(chunks)
        piece, row = int32(cuda.blockIdx.x), int32(cuda.blockIdx.y)
        apart = int32(int32(THREADS) >> log_vectors)
        vector = int32(t & ((int32(1) << log_vectors) - 1))
        c = int32(((chunk << log_vectors) + vector) * width)
        space = cuda.shared.array(SPACE, float32)
        total = cuda.local.array(width, float32)
        f = cuda.local.array(many, float32)
        for i in range(width):
            total[i] = float32(0)
        if c < channels:
            xs = advance(x, sample * sites_in * channels + c)
            begin, stop = ld1(first, row), ld1(first, int32(row + 1))
            size = int32(uint32(stop - begin + parts - 1) // uint32(parts))
            e = int32(begin + piece * size + (t >> log_vectors))
            end = int32(min(stop, int32(begin + piece * size + size)))
            while e < end:
                for k in range(4):
                    past = int32(end - 1 - e - k * apart)
                    at = int32(e + k * apart if past >= 0 else end - 1)
                    source = int32(ld1(site, at) * channels)
                    if width == 4:
                        f[4 * k], f[4 * k + 1], f[4 * k + 2], f[4 * k + 3] = load4_if(xs, source, past)
                    else:
                        f[k] = ld1_if(xs, source, past)
                for k in range(4):
                    at = int32(min(int32(e + k * apart), int32(end - 1)))
                    share = ld1(data, at)
                    for i in range(width):
                        total[i] += share * f[width * k + i]
                e = int32(e + 4 * apart)
        sum_lanes(space, total, width, t, log_vectors)
        if t >> log_vectors == 0 and c < channels:
            to = advance(part, ((sample * rows + row) * parts + piece) * channels + c)
            if width == 4:
                store4(to, int32(0), total[0], total[1], total[2], total[3])
            else:
                st1(to, int32(0), total[0])

    return matrix_parts


_parts = {width: _make_parts(width) for width in (1, 4)}


def _long_rows(matrix: Any, x: Any, longest: int) -> DeviceArray:
    samples, sites_in, channels = x.shape
    rows, parts = matrix.shape[0], min(PARTS, blocks_for(longest, PART_ENTRIES))
    width, vectors = width_of(channels), vectors_of(channels)
    chunks = -(-channels // (width * vectors))
    part = empty((samples, rows * parts, channels), x.dtype)
    tables = matrix_tables(matrix)
    for some in batches(samples, chunks):
        grid = parts, rows, (some.stop - some.start) * chunks
        sizes = vectors.bit_length() - 1, channels, sites_in, rows, parts, chunks
        _parts[width](grid, x[some], part[some], *tables, *sizes)
    every = kept(matrix, "parts", lambda: to_device(np.arange(rows * parts + 1, dtype=np.int32)))
    ends = kept(matrix, "ends", lambda: to_device(np.arange(0, rows * parts + 1, parts, dtype=np.int32)))
    return sum_parts(part, ends, every, together=False)


@definition.spmm.on("cuda")
def _spmm(matrix: Any, x: Any) -> Any:
    rows = matrix.shape[0]
    if max(matrix.shape) * x.shape[2] >= 2**31:
        raise InputError(
            f"one sample has {max(matrix.shape)} sites x {x.shape[2]} channels; expected fewer than 2^31 numbers: "
            "process the picture in parts."
        )
    if matrix.nnz >= LONG * rows and rows <= MOST_GRID:
        return _long_rows(matrix, x, int(np.diff(matrix.indptr).max()))
    tables = matrix_tables(matrix)
    return _launch_rows(x, None, None, (*tables, None), rows, 1, False)
