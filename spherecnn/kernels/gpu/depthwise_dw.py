"""The weight gradient of `depthwise` on the GPU, in two passes of fixed order.

Places whose slots have the same taps stand together (a run). A block takes a part of a run for one sample and a chunk
of channels, and sums up to `TAPS` slots side by side; then the parts of every tap are summed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from spherecnn.kernels import depthwise as definition
from spherecnn.kernels.cuda import cuda, float32, int32
from spherecnn.kernels.gpu.array import DeviceArray, empty, to_device
from spherecnn.kernels.gpu.depthwise import source_at
from spherecnn.kernels.gpu.intrinsics import advance, ld1, ld1_if, load4, load4_if, load4_nc, st1, store4
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel
from spherecnn.kernels.gpu.layout import THREADS, batches, sample_and_chunk, vectors_of, width_of
from spherecnn.kernels.gpu.parts import SPACE, sum_lanes, sum_parts
from spherecnn.kernels.gpu.tables import SEGMENT, SLOT, SlotTables, kept, locate_near, slot_tables

ITEM = 4  # numbers of a record
TAPS = (4, 9)  # slots that a block sums side by side
BLOCKS = 1024  # wanted, as long as parts have enough places
LEAST, MOST = 128, 4096  # places of a part


class Items(NamedTuple):
    """What blocks sum, and where the sums belong."""

    item: DeviceArray  # int32 (items, 4): first place, end, first slot, slots
    first: DeviceArray  # int32 (taps + 2): row t of `entry` lists the parts of tap t, the last row those of the bias
    entry: DeviceArray
    items: int


def items_of(stencil: Any, part: int, most: int) -> Items:
    """Cut the runs into parts of `part` places and `most` slots."""
    return kept(stencil, ("items", part, most), lambda: _items(stencil, slot_tables(stencil), part, most))


def _items(stencil: Any, tables: SlotTables, part: int, most: int) -> Items:
    items: list[tuple[int, ...]] = []
    tap: list[int] = []
    row: list[int] = []
    kinds: dict[bytes, np.ndarray] = {}
    for g in range(len(stencil.size)):
        own = stencil.tap[stencil.first[g] : stencil.first[g + 1]]
        kinds.setdefault(own.tobytes(), own)
    for own, places, end in zip(kinds.values(), tables.places, np.cumsum(tables.places), strict=True):
        for start in range(end - places, end, part):
            for u in range(0, max(1, len(own)), most):
                some = own[u : u + most]
                at = len(items) * (most + 1)
                items.append((start, min(start + part, end), u, len(some)))
                tap += some.tolist()
                row += range(at, at + len(some))
                if u == 0:
                    tap.append(stencil.taps)
                    row.append(at + most)
    order = np.argsort(tap, kind="stable")
    counts = np.bincount(tap, minlength=stencil.taps + 1)
    first, entry = np.append(0, np.cumsum(counts)), np.array(row)[order]
    return Items(to_device(np.array(items)), to_device(first), to_device(entry), len(items))


def _make_kernel(width: int, taps: int) -> Any:
    many = taps * width
    rows = taps + 1

    @gpu_kernel(
        "f4* f4* f4* i4* i4* i4* i4* i4* i4 i4 i4 i4 i4 i4",
        threads=THREADS,
        blocks=2,
        constants=(width, taps),
        claims=("LDG.E.128",) if width == 4 else (),
        budget=1000,
    )
    def depthwise_parts(
        x, dy, part, item, segment, near, slot, column, log_vectors, chunks, channels, sites_in, sites_out, items
    ):
        """Block (item, 0, sample and chunk)."""
        t = int32(cuda.threadIdx.x)
        sample, chunk = sample_and_chunk(chunks)
        apart = int32(int32(THREADS) >> log_vectors)
        vector = int32(t & ((int32(1) << log_vectors) - 1))
        c = int32(((chunk << log_vectors) + vector) * width)
        space = cuda.shared.array(SPACE, float32)
        total = cuda.local.array(many, float32)
        f = cuda.local.array(many, float32)
        bias = cuda.local.array(width, float32)
        flow = cuda.local.array(width, float32)
        for i in range(many):
            total[i] = float32(0)
        for i in range(width):
            bias[i] = float32(0)
        begin, end, u, slots = load4(item, int32(cuda.blockIdx.x) * ITEM)
        p = int32(begin + (t >> log_vectors))
        if c < channels and p < end:
            xs, gs = advance(x, sample * sites_in * channels + c), advance(dy, sample * sites_out * channels + c)
            g = locate_near(segment, near, p)
            past = int32(-1)
            moved = target = lines = first = int32(0)
            while p < end:
                if p >= past:
                    past = ld1(segment, int32((g + 1) * SEGMENT))
                    while p >= past:
                        g = int32(g + 1)
                        past = ld1(segment, int32((g + 1) * SEGMENT))
                    place, start, target, lines = load4(segment, int32(g * SEGMENT))
                    moved = int32(start - place)
                    first = int32(ld1(segment, int32(g * SEGMENT + 4)) + u)
                at = int32(moved + p)
                out = int32((target + ld1(column, int32(lines + at))) * channels)
                if width == 4:
                    flow[0], flow[1], flow[2], flow[3] = load4_nc(gs, out)
                else:
                    flow[0] = ld1(gs, out)
                for k in range(taps):
                    its = load4(slot, int32((first + (k if k < slots else 0)) * SLOT))
                    site, there = source_at(column, its[0], int32(its[1] + at))
                    there = int32(there if k < slots else -1)
                    if width == 4:
                        f[4 * k], f[4 * k + 1], f[4 * k + 2], f[4 * k + 3] = load4_if(xs, int32(site * channels), there)
                    else:
                        f[k] = ld1_if(xs, int32(site * channels), there)
                for k in range(taps):
                    for i in range(width):
                        total[width * k + i] += f[width * k + i] * flow[i]
                for i in range(width):
                    bias[i] += flow[i]
                p = int32(p + apart)
        mine = t >> log_vectors == 0 and c < channels
        to = advance(part, (sample * items + int32(cuda.blockIdx.x)) * rows * channels + c)
        for k in range(rows):
            for i in range(width):
                flow[i] = bias[i] if k == taps else total[width * k + i]
            sum_lanes(space, flow, width, t, log_vectors)
            if mine:
                if width == 4:
                    store4(to, int32(k * channels), flow[0], flow[1], flow[2], flow[3])
                else:
                    st1(to, int32(k * channels), flow[0])

    return depthwise_parts


_kernels = {(width, taps): _make_kernel(width, taps) for width in (1, 4) for taps in TAPS}


@definition.depthwise_dw.on("cuda")
def _depthwise_dw(x: Any, dy: Any, stencil: Any) -> Any:
    stencil.check_size(x.shape[2])
    if stencil.blends:
        next(stencil.slots())  # says so: it has no taps of one site
    samples, sites_in, channels = x.shape
    width, vectors = width_of(channels), vectors_of(channels)
    chunks, tables = blocks_for(channels, width * vectors), slot_tables(stencil)
    most = next((n for n in TAPS if stencil.most_slots <= n), TAPS[-1])
    wanted = stencil.sites_out * samples * chunks // BLOCKS
    part = min(MOST, max(LEAST, wanted // LEAST * LEAST))
    items = items_of(stencil, part, most)
    sums = empty((samples, items.items * (most + 1), channels), x.dtype)
    arrays = items.item, tables.segment, tables.near, tables.slot, tables.column
    sizes = vectors.bit_length() - 1, chunks, channels, sites_in, stencil.sites_out, items.items
    for some in batches(samples, chunks):
        grid = items.items, 1, (some.stop - some.start) * chunks
        _kernels[width, most](grid, x[some], dy[some], sums[some], *arrays, *sizes)
    total = sum_parts(sums, items.first, items.entry, together=True)
    return total[:-1], total[-1]
