"""Convolution that keeps channels apart, and blending, on the GPU. Both are bound by memory.

A thread makes 4 channels of 4 neighbouring sites, so that a weight and a slot are read once for the four; the four
loads of a slot are under way at once, and one of a site that is not there costs no branch.
"""

from __future__ import annotations

from typing import Any

from spherecnn.kernels import depthwise as definition
from spherecnn.kernels import expand
from spherecnn.kernels.cuda import cuda, device_function, float32, int32, uint32
from spherecnn.kernels.gpu.array import empty
from spherecnn.kernels.gpu.intrinsics import bits_f32, ld1, ld1_if, load4, load4_if, load4_nc, st1, store4
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
from spherecnn.kernels.gpu.tables import SEGMENT, SLOT, locate_near, out_site, slot_tables

SITES = 4  # of a thread


@device_function
def source_at(column, base, place):
    """The input site of a slot, or a negative number."""
    at = ld1(column, place)
    return int32(base + at) if base >= 0 and at >= 0 else int32(-1)


def _make_kernel(width: int, weighted: int) -> Any:
    """`weighted` is 0 for blending, where the shares alone count."""
    many = SITES * width

    @gpu_kernel(
        f"f4* f4* f4* f4* i4* i4* i4* i4* {NUMBERS} i4 i4 i4 i4",
        threads=THREADS,
        blocks=4,
        constants=(width, weighted),
        claims=("LDG.E.128", "STG.E.128") if width == 4 else (),
        budget=900,
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
        x0, y0 = sample * sites_in * channels + c, sample * sites_out * channels + c
        apart = int32(1) << log_apart
        p = int32(down * row + across)
        end = int32(min(down * row + row, p + SITES * apart))
        total = cuda.local.array(many, float32)
        place = cuda.local.array(SITES, int32)
        while p < end:
            g = locate_near(segment, near, p)
            record = load4(segment, g * SEGMENT)
            slots = load4(segment, g * SEGMENT + 4)
            # Sites beyond the segment are those of the first again, and not stored; they follow in the next round.
            limit = min(end, ld1(segment, (g + 1) * SEGMENT))
            moved = int32(record[1] - record[0])
            for j in range(SITES):
                at = int32(p + j * apart)
                place[j] = int32(moved + (at if at < limit else p))
            for i in range(many):
                total[i] = float32(0)
            if biased and width == 4:
                b = load4(bias, slots[2] * channels + c)
                for j in range(SITES):
                    total[4 * j], total[4 * j + 1], total[4 * j + 2], total[4 * j + 3] = b
            if biased and width == 1:
                for j in range(SITES):
                    total[j] = ld1(bias, slots[2] * channels + c)
            u = slots[0]
            last = int32(u + slots[1])
            while u < last:
                its = load4(slot, u * SLOT)
                share = bits_f32(uint32(its[3]))
                if width == 4:
                    w0, w1, w2, w3 = share, share, share, share
                    if weighted:
                        tap = load4_nc(w, int32(its[2] * channels + c))
                        w0, w1, w2, w3 = share * tap[0], share * tap[1], share * tap[2], share * tap[3]
                    f = cuda.local.array(many, float32)
                    for j in range(SITES):
                        site = source_at(column, its[0], int32(its[1] + place[j]))
                        f[4 * j], f[4 * j + 1], f[4 * j + 2], f[4 * j + 3] = load4_if(
                            x, x0 + int32(site * channels), site >= 0
                        )
                    for j in range(SITES):
                        total[4 * j] += w0 * f[4 * j]
                        total[4 * j + 1] += w1 * f[4 * j + 1]
                        total[4 * j + 2] += w2 * f[4 * j + 2]
                        total[4 * j + 3] += w3 * f[4 * j + 3]
                else:
                    weight = share
                    if weighted:
                        weight = share * ld1(w, int32(its[2] * channels + c))
                    for j in range(SITES):
                        site = source_at(column, its[0], int32(its[1] + place[j]))
                        total[j] += weight * ld1_if(x, x0 + int32(site * channels), site >= 0)
                u += 1
            start = p
            for j in range(SITES):
                at = int32(start + j * apart)
                if at < limit:
                    to = y0 + int32((record[2] + ld1(column, int32(record[3] + moved + at))) * channels)
                    if width == 4:
                        store4(y, to, total[4 * j], total[4 * j + 1], total[4 * j + 2], total[4 * j + 3])
                    else:
                        st1(y, to, total[j])
                    p = int32(at + apart)

    return depthwise_sites


_kernels = {(width, weighted): _make_kernel(width, weighted) for width in (1, 4) for weighted in (0, 1)}
