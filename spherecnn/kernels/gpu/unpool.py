"""Values that go back to the sites they came from, on the GPU, without atomics on floats.

Places that name the same site are linked by integer exchanges, in any order; each site then adds its own in ascending
order, so that sums are the same in every run. The heads of the lists stand where the sums will.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.kernels import unpool as definition
from spherecnn.kernels.cuda import cuda, device_function, float32, int32, uint32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.depthwise import source_at
from spherecnn.kernels.gpu.intrinsics import advance, atomic_exchange, ld1, ld1_if, load4, st1, store4
from spherecnn.kernels.gpu.launch import gpu_kernel
from spherecnn.kernels.gpu.layout import NUMBERS, THREADS, batches, lane, layout, row_of, sample_and_chunk, width_of
from spherecnn.kernels.gpu.pool import packed
from spherecnn.kernels.gpu.tables import SEGMENT, SLOT, locate_near, slot_tables

NOWHERE = -1


@device_function
def load_ints(values, array, index, width):
    """Read `width` neighbours."""
    if width == 4:
        values[0], values[1], values[2], values[3] = load4(array, index)
    else:
        values[0] = ld1(array, index)


@device_function
def store_values(array, index, values, width):
    """Write `width` neighbours."""
    if width == 4:
        store4(array, index, values[0], values[1], values[2], values[3])
    else:
        st1(array, index, values[0])


def _make_switch_sites(width: int) -> Any:
    kind = "u4*" if width == 4 else "u1*"

    @gpu_kernel(f"{kind} i4* i4* i4* i4* i4* {NUMBERS} i4 i4", threads=THREADS, constants=(width,))
    def sites_of_switches(
        switch,
        index,
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
        sites_out,
    ):
        vector, down, across = lane(1, log_vectors, log_wide, log_apart)
        sample, chunk = sample_and_chunk(chunks)
        c = int32(((chunk << log_vectors) + vector) * width)
        if c >= channels or down >= rows or across >= row:
            return
        p = int32(down * row + across)
        g = locate_near(segment, near, p)
        first, start, base, line = load4(segment, int32(g * SEGMENT))
        u = ld1(segment, int32(g * SEGMENT + 4))
        last = int32(u + ld1(segment, int32(g * SEGMENT + 5)))
        place = int32(start + p - first)
        out = int32(base + ld1(column, int32(line + place)))
        begin = sample * sites_out * channels + c
        by_site = advance(switch, begin >> 2 if width == 4 else begin)
        by = uint32(ld1(by_site, int32(out * (channels >> 2 if width == 4 else channels))))
        found = cuda.local.array(width, int32)
        for i in range(width):
            found[i] = int32(NOWHERE)
        while u < last:
            its = load4(slot, int32(u * SLOT))
            site, there = source_at(column, its[0], int32(its[1] + place))
            for i in range(width):
                if there >= 0 and (by >> (8 * i)) & 255 == its[2]:
                    found[i] = site
            u = int32(u + 1)
        store_values(advance(index, begin), int32(out * channels), found, width)

    return sites_of_switches


def _make_link(width: int) -> Any:
    @gpu_kernel(f"i4* i4* i4* {NUMBERS} i4 i4 i4", threads=THREADS, constants=(width,))
    def link_places(index, head, after, log_vectors, log_wide, log_apart, chunks, row, rows, channels, places, sites):
        """Put every place at the head of the list of its site, and note which place stood there."""
        vector, _, p = lane(1, log_vectors, log_wide, log_apart)
        sample, chunk = sample_and_chunk(chunks)
        c = int32(((chunk << log_vectors) + vector) * width)
        if c >= channels or p >= places:
            return
        begin, at = sample * places * channels + c, int32(p * channels)
        heads = advance(head, sample * sites * channels + c)
        site, before = cuda.local.array(width, int32), cuda.local.array(width, int32)
        load_ints(site, advance(index, begin), at, width)
        for i in range(width):
            before[i] = int32(NOWHERE)
            if site[i] >= 0 and site[i] < sites:
                before[i] = atomic_exchange(heads, int32(site[i] * channels + i), p)
        store_values(advance(after, begin), at, before, width)

    return link_places


@device_function
def next_place(after, place, least, step):
    """The first place of a list that is not below `least`, and how many are not; `step` leads from place to place."""
    found, count = int32(0x7FFFFFFF), int32(0)
    while place >= 0:
        if place >= least:
            found, count = int32(min(found, place)), int32(count + 1)
        place = ld1(after, int32(place * step))
    return found, count


def _make_add(width: int) -> Any:
    @gpu_kernel(f"f4* i4* i4* f4* {NUMBERS} i4 i4 i4", threads=THREADS, constants=(width,))
    def add_places(x, head, after, y, log_vectors, log_wide, log_apart, chunks, row, rows, channels, places, sites):
        """Sum the values of the list of every site."""
        vector, _, q = lane(1, log_vectors, log_wide, log_apart)
        sample, chunk = sample_and_chunk(chunks)
        c = int32(((chunk << log_vectors) + vector) * width)
        if c >= channels or q >= sites:
            return
        begin, at = sample * sites * channels + c, int32(q * channels)
        first, total = cuda.local.array(width, int32), cuda.local.array(width, float32)
        load_ints(first, advance(head, begin), at, width)
        for i in range(width):
            total[i] = float32(0)
            if first[i] >= 0:
                own = sample * places * channels + c + i
                values, links = advance(x, own), advance(after, own)
                place, left = next_place(links, first[i], int32(0), channels)
                while left > 0:
                    total[i] += ld1(values, int32(place * channels))
                    if left > 1:
                        place, _ = next_place(links, first[i], int32(place + 1), channels)
                    left = int32(left - 1)
        store_values(advance(y, begin), at, total, width)

    return add_places


def _make_take(width: int) -> Any:
    @gpu_kernel(f"f4* i4* f4* {NUMBERS} i4 i4 i4", threads=THREADS, constants=(width,))
    def take_sites(dy, index, dx, log_vectors, log_wide, log_apart, chunks, row, rows, channels, places, sites):
        vector, _, p = lane(1, log_vectors, log_wide, log_apart)
        sample, chunk = sample_and_chunk(chunks)
        c = int32(((chunk << log_vectors) + vector) * width)
        if c >= channels or p >= places:
            return
        begin, at = sample * places * channels + c, int32(p * channels)
        flow = advance(dy, sample * sites * channels + c)
        site, value = cuda.local.array(width, int32), cuda.local.array(width, float32)
        load_ints(site, advance(index, begin), at, width)
        for i in range(width):
            there = int32(site[i] if site[i] < sites else NOWHERE)
            value[i] = ld1_if(flow, int32(there * channels + i), there)
        store_values(advance(dx, begin), at, value, width)

    return take_sites


_switch_sites, _link, _add, _take = (
    {width: make(width) for width in (1, 4)} for make in (_make_switch_sites, _make_link, _make_add, _make_take)
)


def _over_places(kernel: Any, places: int, arrays: tuple[DeviceArray, ...], sizes: tuple[int, ...]) -> None:
    """Launch a kernel over all places of arrays (N, ?, C)."""
    samples, _, channels = arrays[0].shape
    plan = layout(places, channels, 1)
    for some in batches(samples, plan.chunks):
        grid = (*plan.grid, (some.stop - some.start) * plan.chunks)
        kernel[width_of(channels)](grid, *(a[some] for a in arrays), *plan.numbers, *sizes)


@definition.switch_sites.on("cuda")
def _switch_sites_cuda(switch: Any, stencil: Any) -> Any:
    stencil.check_size(switch.shape[2])
    if stencil.blends:
        next(stencil.slots())  # says so: it has no taps of one site
    samples, sites, channels = switch.shape
    index = empty(switch.shape, np.int32)
    tables, plan = slot_tables(stencil), layout(sites, channels, 1, row_of(stencil))
    rest = tables.segment, tables.near, tables.slot, tables.column, *plan.numbers, channels, sites
    for some in batches(samples, plan.chunks):
        grid = (*plan.grid, (some.stop - some.start) * plan.chunks)
        _switch_sites[width_of(channels)](grid, packed(switch[some]), index[some], *rest)
    return index


@definition.unpool.on("cuda")
def _unpool_cuda(x: Any, index: Any, sites: int) -> Any:
    samples, places, channels = x.shape
    y, after = empty((samples, sites, channels), x.dtype), empty(index.shape, np.int32)
    head = y.view(np.int32)
    # All bits are ones in -1, the end of a list.
    DeviceArray(head.memory, head.offset, (head.nbytes,), np.dtype(np.uint8)).fill(255)
    sizes = channels, places, sites
    _over_places(_link, places, (index, head, after), sizes)
    _over_places(_add, sites, (x, head, after, y), sizes)
    return y


@definition.unpool_dx.on("cuda")
def _unpool_dx_cuda(dy: Any, index: Any) -> Any:
    sites, channels = dy.shape[1:]
    dx = empty(index.shape, dy.dtype)
    _over_places(_take, index.shape[1], (dy, index, dx), (channels, index.shape[1], sites))
    return dx
