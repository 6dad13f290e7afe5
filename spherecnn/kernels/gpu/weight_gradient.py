"""The weight gradient of the engine on the GPU: what the sites read, times the gradient, summed over the sites.

A block of threads makes a tile, (tap, channel) x outputs, of the sums over part of the sites; a second kernel adds the
parts in their order. So equal inputs give equal bits.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from spherecnn.kernels.arrays import sum_over
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gather_gemm import gather_gemm_dw
from spherecnn.kernels.gpu import device
from spherecnn.kernels.gpu.array import DeviceArray, empty, to_device
from spherecnn.kernels.gpu.gather import KINDS, MODES, OUT_OF, Tile, describe_sites, filler, together_filler
from spherecnn.kernels.gpu.intrinsics import (
    cp_async4,
    cp_async16,
    cp_async_commit,
    cp_async_wait,
    ld1,
    load4,
    quotient,
    st1,
    store4,
)
from spherecnn.kernels.gpu.launch import GpuKernel, blocks_for, gpu_kernel
from spherecnn.kernels.gpu.runs import check_rows, mode_of, runs_of
from spherecnn.kernels.gpu.tables import kept
from spherecnn.kernels.gpu.tiles import DEPTH, GAP, PAD, PRODUCTS, Shape, column_sums_to_shared, multiply_columns
from spherecnn.kernels.precision import PRECISIONS, get_precision
from spherecnn.kernels.spmm import spmm

MIDDLE, NARROW = Shape(128, 64, 4, 2, 3, 2), Shape(128, 32, 4, 1, 3, 2)
LEAST_STEPS = 8  # of DEPTH sites, in a part: fewer are not worth a sum of their own
WAVES = 2  # blocks for each place on the multiprocessors


def dw_kernel(shape: Shape, mode: str, vector: int, precision: str) -> GpuKernel:
    """Make the kernel of one shape of tile, way of gathering, width of moves and precision."""
    rows, columns, threads, stages = shape.rows, shape.columns, shape.threads, shape.stages
    line_a, line_b, line = rows + GAP, columns + GAP, columns + PAD
    tile = Tile(DEPTH, rows, line_a, threads, vector)
    chunks, passes_twice = tile.chunks, 2 * tile.passes
    chunks_b = columns // vector
    step_b = threads // chunks_b
    passes_b = DEPTH // step_b
    stage, ahead, still_under_way = DEPTH * (line_a + line_b), stages - 1, stages - 2
    known_at, known_size, count = stages * stage, KINDS * DEPTH, shape.sums
    together = mode == "together"
    describe, multiply = describe_sites(tile, mode), multiply_columns(shape, precision)
    fill = together_filler(tile) if together else filler(tile, mode)
    lay_down = column_sums_to_shared(shape, precision)
    fours, stored = columns // 4, rows * (columns // 4)

    @device_function
    def fetch_gradient(shared, to, known, at, dy, n0, makes, outputs, lead, thread):
        r0, q = thread // chunks_b, (thread % chunks_b) * vector
        for i in range(passes_b):
            r = r0 + i * step_b
            out = ld1(known, at + r + OUT_OF * DEPTH)
            ok = out >= 0 and n0 + q < makes
            read = out * outputs + lead + n0 + q if ok else 0
            if vector == 4:
                cp_async16(shared, to + r * line_b + q, dy, read, int32(16 if ok else 0))
            else:
                cp_async4(shared, to + r * line_b + q, dy, read, int32(4 if ok else 0))

    claims = ("LDGSTS", *PRODUCTS[precision])

    @gpu_kernel(
        "f4* f4* f4* i4* i4* i4* i4* i4* i4* i4* f4* i4 i4 i4 i4 i4 i4 i4 i4",
        threads=threads,
        blocks=shape.blocks,
        constants=(columns, mode, vector, precision),
        claims=claims,
        budget=2700 if mode == "gather" else 2100,
    )
    def outer(
        x, dy, partial, part, run, taps, segment, slot, column, order, data,
        segments, samples, sites_in, sites_out, channels, reads, makes, outputs,
    ):  # fmt: skip
        shared, known = cuda.shared.array(0, float32), cuda.shared.array(0, int32)
        thread = cuda.threadIdx.x
        own = load4(part, cuda.blockIdx.z * 4)  # run, first member, end of the members, taps of all parts before
        record = load4(run, own[0] * 4)
        first, length, own_taps, taps_at = record[0], record[1], record[2], record[3]
        tiles = (makes + columns - 1) // columns
        group = quotient(cuda.blockIdx.y, tiles)
        n0, lead = (cuda.blockIdx.y - group * tiles) * columns, group * reads
        j0 = cuda.blockIdx.x * rows
        height = own_taps * reads
        if together:
            height = ((reads + 7) >> 3) * 32
        if j0 >= height:
            return
        sums, sources = cuda.local.array(count, float32), cuda.local.array(passes_twice, int32)
        for i in range(count):
            sums[i] = float32(0)
        # The column of this thread's chunk: tap number v of the run, channel c.
        j = int32(j0 + (thread % chunks) * vector)
        v = quotient(j, reads)
        c, begin, end = j - v * reads, int32(0), int32(0)
        if v < own_taps and not together:
            begin, end = ld1(taps, (taps_at + v) * 2 + 1), ld1(taps, (taps_at + v) * 2 + 3)
        if v >= own_taps:
            v = int32(-1)
        steps = (own[2] - own[1] + DEPTH - 1) // DEPTH
        describe(
            known, known_at, thread, own[1], own[2], first, length,
            segment, order, segments, sites_in, sites_out, own_taps,
        )  # fmt: skip
        filled, used, parity = int32(0), int32(0), int32(0)
        for s in range(-ahead, steps):
            # Stage s + ahead is filled while stage s is multiplied; the sites of the next are described meanwhile.
            if s >= 0:
                cp_async_wait(still_under_way)
            cuda.syncthreads()
            if s + ahead < steps:
                to, at = filled * stage, known_at + parity * known_size
                if together:
                    fill(shared, to, known, at, x, slot, column, data, j0 >> 2, channels, reads, lead, thread)
                else:
                    fill(
                        shared, to, known, at, x, slot, column, data, sources, True,
                        v, begin, end, c, channels, lead, thread,
                    )  # fmt: skip
                fetch_gradient(shared, to + DEPTH * line_a, known, at, dy, n0, makes, outputs, group * makes, thread)
                filled, parity = filled + 1 if filled < ahead else int32(0), parity ^ 1
                describe(
                    known, known_at + parity * known_size, thread, own[1] + (s + ahead + 1) * DEPTH, own[2],
                    first, length, segment, order, segments, sites_in, sites_out, own_taps,
                )  # fmt: skip
            cp_async_commit()
            if s >= 0:
                multiply(shared, used * stage, used * stage + DEPTH * line_a, sums, thread)
                used = used + 1 if used < ahead else int32(0)
        cuda.syncthreads()
        lay_down(sums, shared, thread)
        cuda.syncthreads()
        task = thread
        while task < stored:
            r, n = task // fours, n0 + (task % fours) * 4
            row = j0 + r
            if together:
                # columns were (block of 8 channels, tap, channel of the block)
                channel = (row >> 5) * 8 + (row & 7)
                row = ((row >> 3) & 3) * reads + channel if channel < reads else own_taps * reads
            if row < own_taps * reads and n < makes:
                s0, s1, s2, s3 = load4(shared, r * line + n - n0)
                to = (own[3] * reads + row) * outputs + group * makes + n
                if makes & 3 == 0:
                    store4(partial, to, s0, s1, s2, s3)
                else:
                    st1(partial, to, s0)
                    if n + 1 < makes:
                        st1(partial, to + 1, s1)
                    if n + 2 < makes:
                        st1(partial, to + 2, s2)
                    if n + 3 < makes:
                        st1(partial, to + 3, s3)
            task += threads

    outer.shared = (known_at + 2 * known_size) * 4
    outer.rows, outer.columns = rows, columns
    return outer


def _kernels() -> dict[tuple[int, str, int, str], GpuKernel]:
    """All kernels: two widths, and one for single moves (odd channels, pictures)."""
    made = {}
    for precision in PRECISIONS:
        for mode in MODES:
            for shape in (MIDDLE, NARROW):
                made[shape.columns, mode, 4, precision] = dw_kernel(shape, mode, 4, precision)
            made[64, mode, 1, precision] = dw_kernel(MIDDLE, mode, 1, precision)
    return made


OUTER = _kernels()


@gpu_kernel("f4* f4* i4* i4* i4 i4 i4", threads=256, claims=("LDG.E.128",), budget=550)
def add_parts(partial, dw, first, listed, taps, each, fours):
    """Add what the parts hold of each tap, in their order; `each` numbers of a tap, by 4 where they are `fours`."""
    tap, i = cuda.blockIdx.y, (cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x) * (4 if fours else 1)
    if i >= each:
        return
    u, last, a0, a1, a2, a3 = ld1(first, tap), ld1(first, tap + 1), float32(0), float32(0), float32(0), float32(0)
    while u < last:
        at = ld1(listed, u) * each + i
        if fours:
            f = load4(partial, at)
            a0 += f[0]
            a1 += f[1]
            a2 += f[2]
            a3 += f[3]
        else:
            a0 += ld1(partial, at)
        u += 1
    if fours:
        store4(dw, tap * each + i, a0, a1, a2, a3)
    else:
        st1(dw, tap * each + i, a0)


class Parts(NamedTuple):
    """How the members of the runs are divided."""

    part: DeviceArray  # int32 (parts, 4): run, first member, end, taps of all parts before
    many: int
    first: DeviceArray  # entries first[t] .. first[t + 1] of `listed` are of tap t
    listed: DeviceArray  # numbers of taps in the partial sums
    taps: int  # of all parts


def parts_of(stencil: Any, samples: int, blocks: int) -> Parts:
    """Divide so that a part of the longest run, of so many blocks, and its like fill the GPU."""
    wanted = WAVES * 2 * device.current().multiprocessors
    return kept(stencil, ("parts", samples, blocks), lambda: _parts_of(stencil, samples, blocks, wanted))


def _parts_of(stencil: Any, samples: int, blocks: int, wanted: int) -> Parts:
    tables = runs_of(stencil)
    uses: list[list[int]] = [[] for _ in range(stencil.taps)]
    parts, before = [], 0
    whole = samples * sum(tables.places)
    for run, length in enumerate(tables.places):
        members = samples * length
        taps = tables.taps_of[run]
        share = blocks_for(wanted * members, whole * blocks)
        count = max(1, min(share, members // (LEAST_STEPS * DEPTH)))
        ends = [i * members // count for i in range(count + 1)]
        for start, end in itertools.pairwise(ends):
            parts.append((run, start, end, before))
            for v, tap in enumerate(taps):
                uses[tap].append(before + v)
            before += len(taps)
    first = np.cumsum([0, *(len(own) for own in uses)])
    listed = np.array([v for own in uses for v in own] or [0])
    return Parts(
        to_device(np.array(parts, np.int32)), len(parts), to_device(first.astype(np.int32)),
        to_device(listed.astype(np.int32)), before,
    )  # fmt: skip


@gather_gemm_dw.on("cuda")
def _gather_gemm_dw(x: Any, dy: Any, stencil: Any, groups: int = 1) -> tuple[Any, Any]:
    samples, sites_in, channels = x.shape
    outputs = dy.shape[2]
    reads, makes = channels // groups, outputs // groups
    stencil.check_size(max(channels, outputs))
    check_rows(samples, max(sites_in, stencil.sites_out))
    dw = empty((stencil.taps, reads, outputs), np.float32)
    mode, tables = mode_of(stencil), runs_of(stencil)
    vector = 4 if reads % 4 == 0 and makes % 4 == 0 else 1
    kernel = OUTER[32 if makes <= 32 and vector == 4 else 64, mode, vector, get_precision()]
    height = blocks_for(reads, 8) * 32 if mode == "together" else tables.depth * reads
    down, across = blocks_for(height, kernel.rows), blocks_for(makes, kernel.columns) * groups
    parts = parts_of(stencil, samples, down * across)
    at_once = parts.many == 1 and parts.taps == stencil.taps and tables.in_order
    partial = dw if at_once else empty((parts.taps, reads, outputs), np.float32)
    kernel(
        (down, across, parts.many),
        *(x, dy, partial, parts.part, tables.run, tables.taps),
        *(tables.segment, tables.slot, tables.column, tables.order, tables.data),
        *(tables.segments, samples, sites_in, stencil.sites_out, channels, reads, makes, outputs),
        shared=kernel.shared,
    )
    if not at_once:
        each = reads * outputs
        fours = int(each % 4 == 0)
        grid = (blocks_for(each, 1024 if fours else 256), stencil.taps)
        add_parts(grid, partial, dw, parts.first, parts.listed, stencil.taps, each, fours)
    return dw, bias_gradient(dy, stencil)


def bias_gradient(dy: Any, stencil: Any) -> Any:
    """The sum of dy over the sites that add each row of biases."""
    if stencil.biases == 1:
        return sum_over(dy, (0, 1))
    summed = sum_over(dy, (0,)).reshape(1, *dy.shape[1:])
    return spmm(kept(stencil, "sites of biases", lambda: _sites_of_biases(stencil)), summed)[0]


def _sites_of_biases(stencil: Any) -> Any:
    import scipy.sparse

    row, sites = stencil.bias_rows(), np.arange(stencil.sites_out)
    ones = np.ones(len(row), np.float32)
    return scipy.sparse.csr_array((ones, (row, sites)), shape=(stencil.biases, len(row)))
