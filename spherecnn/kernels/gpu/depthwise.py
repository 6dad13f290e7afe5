"""Convolution that keeps channels apart, and blending, on the GPU. Both are bound by memory.

A thread makes 4 channels of 4 neighbouring sites, so that a weight and a slot are read once for the four; the four
loads of a slot are under way at once, and one of a site that is not there costs no branch.
"""

from __future__ import annotations

from typing import Any

from spherecnn.kernels import depthwise as definition
from spherecnn.kernels import expand
from spherecnn.kernels.cuda import cuda, device_function, float32, int32, uint32
from spherecnn.kernels.gpu import spmm
from spherecnn.kernels.gpu.array import empty
from spherecnn.kernels.gpu.intrinsics import advance, bits_f32, ld1, ld1_if, load4, load4_if, load4_nc, st1, store4
from spherecnn.kernels.gpu.launch import gpu_kernel
from spherecnn.kernels.gpu.layout import (
    NUMBERS,
    THREADS,
    batches,
    lane,
    layout,
    row_of,
    sample_and_chunk,
    width_of,
)
from spherecnn.kernels.gpu.tables import SEGMENT, SLOT, locate_near, slot_tables

SITES = 4  # of a thread


@device_function
def source_at(column, base, place):
    """The input site of a slot, and a number that is negative if there is none."""
    at = ld1(column, place)
    return int32(base + at), int32(base | at)


def _make_kernel(width: int, weighted: int, shared: int) -> Any:
    """`weighted` is 0 for blending, where the shares alone count; `shared` is 0 where every slot counts once."""
    many = SITES * width

    @gpu_kernel(
        f"f4* f4* f4* f4* i4* i4* i4* i4* {NUMBERS} i4 i4 i4 i4",
        threads=THREADS,
        blocks=4,
        constants=(width, weighted, shared),
        claims=("LDG.E.128", "STG.E.128") if width == 4 else (),
        budget=600,
    )
    def depthwise_sites(
        x,
        w,
        bias,
        y,
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
        biased,
    ):
        vector, down, across = lane(SITES, log_vectors, log_wide, log_apart)
        sample, chunk = sample_and_chunk(chunks)
        c = int32(((chunk << log_vectors) + vector) * width)
        if c >= channels or down >= rows or across >= row:
            return
        xs, ys = advance(x, sample * sites_in * channels + c), advance(y, sample * sites_out * channels + c)
        ws = advance(w, c) if weighted else w
        apart = int32(int32(1) << log_apart)
        p = int32(down * row + across)
        end = int32(min(int32(down * row + row), int32(p + SITES * apart)))
        total = cuda.local.array(many, float32)
        f = cuda.local.array(many, float32)
        place = cuda.local.array(SITES, int32)
        while p < end:
            g = locate_near(segment, near, p)
            record = load4(segment, int32(g * SEGMENT))
            slots = load4(segment, int32(g * SEGMENT + 4))
            # Sites beyond the segment are those of the first again, and not stored; they follow in the next round.
            limit = int32(min(end, ld1(segment, int32((g + 1) * SEGMENT))))
            moved = int32(record[1] - record[0])
            for j in range(SITES):
                at = int32(p + j * apart)
                place[j] = int32(moved + (at if at < limit else p))
            for i in range(many):
                total[i] = float32(0)
            if biased:
                b = int32((slots[2] if biased > 1 else 0) * channels + c)
                for j in range(SITES):
                    if width == 4:
                        total[4 * j], total[4 * j + 1], total[4 * j + 2], total[4 * j + 3] = load4(bias, b)
                    else:
                        total[j] = ld1(bias, b)
            u = slots[0]
            last = int32(u + slots[1])
            while u < last:
                its = load4(slot, int32(u * SLOT))
                for j in range(SITES):
                    site, there = source_at(column, its[0], int32(its[1] + place[j]))
                    if width == 4:
                        f[4 * j], f[4 * j + 1], f[4 * j + 2], f[4 * j + 3] = load4_if(xs, int32(site * channels), there)
                    else:
                        f[j] = ld1_if(xs, int32(site * channels), there)
                share = bits_f32(uint32(its[3])) if shared else float32(1)
                if width == 4:
                    w0, w1, w2, w3 = share, share, share, share
                    if weighted:
                        w0, w1, w2, w3 = load4_nc(ws, int32(its[2] * channels))
                    if weighted and shared:
                        w0, w1, w2, w3 = share * w0, share * w1, share * w2, share * w3
                    for j in range(SITES):
                        total[4 * j] += w0 * f[4 * j]
                        total[4 * j + 1] += w1 * f[4 * j + 1]
                        total[4 * j + 2] += w2 * f[4 * j + 2]
                        total[4 * j + 3] += w3 * f[4 * j + 3]
                else:
                    weight = share * ld1(ws, int32(its[2] * channels)) if weighted else share
                    for j in range(SITES):
                        total[j] += weight * f[j]
                u = int32(u + 1)
            start = p
            for j in range(SITES):
                at = int32(start + j * apart)
                if at < limit:
                    to = int32((record[2] + ld1(column, int32(record[3] + moved + at))) * channels)
                    if width == 4:
                        store4(ys, to, total[4 * j], total[4 * j + 1], total[4 * j + 2], total[4 * j + 3])
                    else:
                        st1(ys, to, total[j])
                    p = int32(at + apart)

    return depthwise_sites


_kernels = {(width, *kind): _make_kernel(width, *kind) for width in (1, 4) for kind in ((0, 1), (1, 0), (1, 1))}


def over_slots(x: Any, w: Any, bias: Any, stencil: Any) -> Any:
    """Sum the slots of every site, by weights (taps, C), shares or both; biases are (C,), (biases, C) or none."""
    stencil.check_size(x.shape[2])
    samples, sites_in, channels = x.shape
    y = empty((samples, stencil.sites_out, channels), x.dtype)
    tables, plan = slot_tables(stencil), layout(stencil.sites_out, channels, SITES, row_of(stencil))
    kernel = _kernels[width_of(channels), int(w is not None), int(stencil.blends or w is None)]
    arrays = tables.segment, tables.near, tables.slot, tables.column
    sizes = channels, sites_in, stencil.sites_out, 0 if bias is None else bias.ndim
    for part in batches(samples, plan.chunks):
        grid = (*plan.grid, (part.stop - part.start) * plan.chunks)
        kernel(
            grid, x[part], 0 if w is None else w, 0 if bias is None else bias, y[part], *arrays, *plan.numbers, *sizes
        )
    return y


@definition.depthwise.on("cuda")
def _depthwise(x: Any, w: Any, b: Any, stencil: Any) -> Any:
    if stencil.sparse:
        return spmm.over_rows(x, w, b, stencil)
    return over_slots(x, w, b, stencil)


@expand.blend.on("cuda")
def _blend(x: Any, stencil: Any) -> Any:
    if stencil.sparse:
        return spmm.over_rows(x, None, None, stencil)
    return over_slots(x, None, None, stencil)
