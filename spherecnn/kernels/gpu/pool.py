"""Max pooling on the GPU: a thread makes 4 channels of 2 sites; 4 switches are one word. No atomics go back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels import pool as definition
from spherecnn.kernels.cuda import cuda, device_function, float32, int32, uint8, uint32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.depthwise import source_at
from spherecnn.kernels.gpu.intrinsics import advance, bits_f32, ld1, ld1_if, load4, load4_if, st1, store4
from spherecnn.kernels.gpu.launch import gpu_kernel
from spherecnn.kernels.gpu.layout import NUMBERS, THREADS, batches, lane, layout, row_of, sample_and_chunk, width_of
from spherecnn.kernels.gpu.tables import SEGMENT, SLOT, locate_near, slot_tables

SITES = 2  # of a thread
NOTHING = -math.inf
NO_SWITCH = definition.NO_SWITCH


def words(switch: DeviceArray) -> DeviceArray:
    """Bytes as words of four, where the channels are a multiple of 4."""
    return DeviceArray(switch.memory, switch.offset, (switch.size // 4,), np.dtype(np.uint32))


def packed(switch: DeviceArray) -> DeviceArray:
    """Switches as kernels for their number of channels take them."""
    return words(switch) if width_of(switch.shape[-1]) == 4 else switch


@device_function
def compare(best, by, value, j, width, tap, read, fresh):
    """Keep the larger values of site j and their tap, if it was read: the first of equals, and NaN for ever."""
    for i in range(width):
        v, b = value[width * j + i], best[width * j + i]
        # Without "and" and "or", which would branch.
        wins = (read > 0) & ((fresh > 0) | ((not v <= b) & (b == b)))
        best[width * j + i] = v if wins else b
        by[width * j + i] = tap if wins else by[width * j + i]


def _make_pool(width: int, shared: int) -> Any:
    many = SITES * width
    kind = "u4*" if width == 4 else "u1*"

    @gpu_kernel(
        f"f4* f4* {kind} i4* i4* i4* i4* {NUMBERS} i4 i4 i4",
        threads=THREADS,
        blocks=4,
        constants=(width, shared),
        claims=("LDG.E.128", "STG.E.128") if width == 4 else (),
    )
    def max_pool_sites(
        x,
        y,
        switch,
        segment,
        near,
        slot,
        column,
        log_vectors,
        log_wide,
        log_apart,
        chunks,
        row,
        rows,
        channels,
        sites_in,
        sites_out,
    ):
        vector, down, across = lane(SITES, log_vectors, log_wide, log_apart)
        sample, chunk = sample_and_chunk(chunks)
        c = int32(((chunk << log_vectors) + vector) * width)
        if c >= channels or down >= rows or across >= row:
            return
        start = sample * sites_out * channels + c
        xs, ys = advance(x, sample * sites_in * channels + c), advance(y, start)
        by_site = advance(switch, start >> 2 if width == 4 else start)
        apart = int32(int32(1) << log_apart)
        p = int32(down * row + across)
        end = int32(min(int32(down * row + row), int32(p + SITES * apart)))
        best, value = cuda.local.array(many, float32), cuda.local.array(many, float32)
        f = cuda.local.array(many, float32)
        by = cuda.local.array(many, int32)
        place, reads = cuda.local.array(SITES, int32), cuda.local.array(SITES, int32)
        fresh = cuda.local.array(SITES, int32)
        while p < end:
            g = locate_near(segment, near, p)
            record = load4(segment, int32(g * SEGMENT))
            u = ld1(segment, int32(g * SEGMENT + 4))
            last = int32(u + ld1(segment, int32(g * SEGMENT + 5)))
            limit = int32(min(end, ld1(segment, int32((g + 1) * SEGMENT))))
            moved = int32(record[1] - record[0])
            for j in range(SITES):
                at = int32(p + j * apart)
                place[j] = int32(moved + (at if at < limit else p))
                fresh[j], reads[j] = int32(1), int32(0)
            for i in range(many):
                best[i], by[i], value[i] = float32(NOTHING), int32(NO_SWITCH), float32(0)
            tap = int32(-1)
            while u < last:
                its = load4(slot, int32(u * SLOT))
                if shared and its[2] != tap:
                    for j in range(SITES):
                        compare(best, by, value, j, width, tap, reads[j], fresh[j])
                        fresh[j], reads[j] = int32(fresh[j] & (1 - reads[j])), int32(0)
                        for i in range(width):
                            value[width * j + i] = float32(0)
                tap = its[2]
                share = bits_f32(uint32(its[3])) if shared else float32(1)
                for j in range(SITES):
                    site, there = source_at(column, its[0], int32(its[1] + place[j]))
                    if width == 4:
                        f[4 * j], f[4 * j + 1], f[4 * j + 2], f[4 * j + 3] = load4_if(xs, int32(site * channels), there)
                    else:
                        f[j] = ld1_if(xs, int32(site * channels), there)
                    read = int32((there >> 31) + 1)
                    reads[j] = int32(reads[j] | read) if shared else read
                for j in range(SITES):
                    if shared:
                        for i in range(width):
                            value[width * j + i] += share * f[width * j + i]
                    else:
                        compare(best, by, f, j, width, tap, reads[j], fresh[j])
                        fresh[j] = int32(fresh[j] & (1 - reads[j]))
                u = int32(u + 1)
            if shared:
                for j in range(SITES):
                    compare(best, by, value, j, width, tap, reads[j], fresh[j])
            here = p
            for j in range(SITES):
                at = int32(here + j * apart)
                if at < limit:
                    to = int32(record[2] + ld1(column, int32(record[3] + moved + at)))
                    if width == 4:
                        k = 4 * j
                        store4(ys, int32(to * channels), best[k], best[k + 1], best[k + 2], best[k + 3])
                        word = by[k] | by[k + 1] << 8 | by[k + 2] << 16 | by[k + 3] << 24
                        st1(by_site, int32(to * (channels >> 2)), uint32(word))
                    else:
                        st1(ys, int32(to * channels), best[j])
                        st1(by_site, int32(to * channels), uint8(by[j]))
                    p = int32(at + apart)

    return max_pool_sites


def _make_back(width: int, shared: int) -> Any:
    many = SITES * width
    kind = "u4*" if width == 4 else "u1*"

    @gpu_kernel(
        f"f4* {kind} f4* i4* i4* i4* i4* {NUMBERS} i4 i4 i4",
        threads=THREADS,
        blocks=4,
        constants=(width, shared),
        claims=("LDG.E.128", "STG.E.128") if width == 4 else (),
    )
    def max_pool_back(
        dy,
        switch,
        dx,
        segment,
        near,
        slot,
        column,
        log_vectors,
        log_wide,
        log_apart,
        chunks,
        row,
        rows,
        channels,
        sites_in,
        sites_out,
    ):
        """On the adjoint: its outputs are the sites that were pooled."""
        vector, down, across = lane(SITES, log_vectors, log_wide, log_apart)
        sample, chunk = sample_and_chunk(chunks)
        c = int32(((chunk << log_vectors) + vector) * width)
        if c >= channels or down >= rows or across >= row:
            return
        start = sample * sites_in * channels + c
        flow, sums = advance(dy, start), advance(dx, sample * sites_out * channels + c)
        by_site = advance(switch, start >> 2 if width == 4 else start)
        apart = int32(int32(1) << log_apart)
        p = int32(down * row + across)
        end = int32(min(int32(down * row + row), int32(p + SITES * apart)))
        total, f = cuda.local.array(many, float32), cuda.local.array(many, float32)
        by, place = cuda.local.array(SITES, uint32), cuda.local.array(SITES, int32)
        while p < end:
            g = locate_near(segment, near, p)
            record = load4(segment, int32(g * SEGMENT))
            u = ld1(segment, int32(g * SEGMENT + 4))
            last = int32(u + ld1(segment, int32(g * SEGMENT + 5)))
            limit = int32(min(end, ld1(segment, int32((g + 1) * SEGMENT))))
            moved = int32(record[1] - record[0])
            for j in range(SITES):
                at = int32(p + j * apart)
                place[j] = int32(moved + (at if at < limit else p))
            for i in range(many):
                total[i] = float32(0)
            while u < last:
                its = load4(slot, int32(u * SLOT))
                for j in range(SITES):
                    site, there = source_at(column, its[0], int32(its[1] + place[j]))
                    site = int32(site if there >= 0 else 0)
                    if width == 4:
                        f[4 * j], f[4 * j + 1], f[4 * j + 2], f[4 * j + 3] = load4_if(
                            flow, int32(site * channels), there
                        )
                        by[j] = ld1(by_site, int32(site * (channels >> 2)))
                    else:
                        f[j] = ld1_if(flow, int32(site * channels), there)
                        by[j] = uint32(ld1(by_site, int32(site * channels)))
                share = bits_f32(uint32(its[3])) if shared else float32(1)
                for j in range(SITES):
                    for i in range(width):
                        if (by[j] >> (8 * i)) & 255 == its[2]:
                            total[width * j + i] += share * f[width * j + i]
                u = int32(u + 1)
            here = p
            for j in range(SITES):
                at = int32(here + j * apart)
                if at < limit:
                    to = int32((record[2] + ld1(column, int32(record[3] + moved + at))) * channels)
                    if width == 4:
                        k = 4 * j
                        store4(sums, to, total[k], total[k + 1], total[k + 2], total[k + 3])
                    else:
                        st1(sums, to, total[j])
                    p = int32(at + apart)

    return max_pool_back


_kinds = [(width, shared) for width in (1, 4) for shared in (0, 1)]
_pool, _back = {kind: _make_pool(*kind) for kind in _kinds}, {kind: _make_back(*kind) for kind in _kinds}


@definition.max_pool.on("cuda")
def _max_pool(x: Any, stencil: Any) -> Any:
    if stencil.sparse:
        raise InputError(f"{stencil!r} is a matrix; expected slots for max pooling: use a stencil of shares.")
    stencil.check_size(x.shape[2])
    shape = (len(x), stencil.sites_out, x.shape[2])
    y, switch = empty(shape, x.dtype), empty(shape, np.uint8)
    over_sites(_pool, stencil, (x, y, switch))
    return y, switch


@definition.max_pool_dx.on("cuda")
def _max_pool_dx(dy: Any, switch: Any, stencil: Any) -> Any:
    stencil.check_size(dy.shape[2])
    dx = empty((len(dy), stencil.sites_in, dy.shape[2]), dy.dtype)
    over_sites(_back, stencil.transposed, (dy, switch, dx))
    return dx


def over_sites(kernels: Any, stencil: Any, arrays: tuple[DeviceArray, ...]) -> None:
    """Launch a kernel of this module on arrays (N, sites, C), the switches among them as it takes them."""
    samples, _, channels = arrays[0].shape
    tables, plan = slot_tables(stencil), layout(stencil.sites_out, channels, SITES, row_of(stencil))
    kernel = kernels[width_of(channels), int(stencil.blends)]
    rest = tables.segment, tables.near, tables.slot, tables.column, *plan.numbers
    sizes = channels, stencil.sites_in, stencil.sites_out
    for some in batches(samples, plan.chunks):
        parts = (packed(a[some]) if a.dtype == np.uint8 else a[some] for a in arrays)
        kernel((*plan.grid, (some.stop - some.start) * plan.chunks), *parts, *rest, *sizes)
