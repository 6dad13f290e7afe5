"""The first factor of a convolution, a tile at a time: rows are sites, columns are (tap, channel).

What the taps of a site read is copied to shared memory, or blended on the way: by the shares of slots, or by the rows
of a matrix. There is one `Filler` for each way, with vectors of 4 channels, or single ones where they are not a
multiple of 4.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from spherecnn.kernels.cuda import cuda, device_function, float32, int32, uint32
from spherecnn.kernels.gpu.intrinsics import (
    bits_f32,
    cp_async4,
    cp_async16,
    ld1,
    load4,
    load4_nc,
    quotient,
    st1,
    store4,
)
from spherecnn.kernels.gpu.tables import SEGMENT, SLOT, locate, source_of

MODES = ("gather", "blend", "rows", "together")
# What is known of the sites of a tile, in shared memory: an int32 of each kind for each row.
SLOT_OF, PLACE_OF, BASE_OF, OUT_OF, BIAS_OF, KINDS = range(6)


class Tile(NamedTuple):
    """The tile that a block of threads fills."""

    rows: int
    columns: int
    line: int  # floats from row to row
    threads: int
    vector: int  # channels that a thread moves at once, 4 or 1

    @property
    def chunks(self) -> int:
        return self.columns // self.vector

    @property
    def step(self) -> int:
        """Rows that are filled at once."""
        return self.threads // self.chunks

    @property
    def passes(self) -> int:
        return self.rows // self.step


def describe_sites(tile: Tile, mode: str) -> Any:
    """Make the function that writes what is known of the sites of a tile.

    ``describe(known, at, thread, m0, many, first, length, segment, order, segments, sites_in, sites_out, taps)``
    for members m0 .. m0 + rows of a run; member m is place m % length of sample m // length. `order` holds the output
    sites: the columns of a stencil of slots, or the order of the rows of a matrix.
    """
    rows, threads = tile.rows, tile.threads
    of_matrix = mode in ("rows", "together")
    taps_apart = mode == "rows"

    @device_function
    def describe(known, at, thread, m0, many, first, length, segment, order, segments, sites_in, sites_out, taps):
        r = thread
        while r < rows:
            m = m0 + r
            to = at + r
            if m < many:
                sample = quotient(m, length)
                p = first + m - sample * length
                if of_matrix:
                    st1(known, to + SLOT_OF * rows, int32(p * taps) if taps_apart else int32(p))
                    st1(known, to + OUT_OF * rows, int32(sample * sites_out + ld1(order, p)))
                    st1(known, to + BIAS_OF * rows, int32(0))
                else:
                    g = locate(segment, segments, p)
                    record, more = load4(segment, g * SEGMENT), load4(segment, g * SEGMENT + 4)
                    place = record[1] + p - record[0]
                    st1(known, to + SLOT_OF * rows, more[0])
                    st1(known, to + PLACE_OF * rows, int32(place))
                    st1(
                        known, to + OUT_OF * rows, int32(sample * sites_out + record[2] + ld1(order, record[3] + place))
                    )
                    st1(known, to + BIAS_OF * rows, more[2])
                st1(known, to + BASE_OF * rows, int32(sample * sites_in))
            else:
                st1(known, to + SLOT_OF * rows, int32(0))
                st1(known, to + BASE_OF * rows, int32(-1))
                st1(known, to + OUT_OF * rows, int32(-1))
            r += threads

    return describe


def filler(tile: Tile, mode: str) -> Any:
    """Make the function that fills the tile at `to`, see `describe_sites` for `known`.

    It writes, or begins to copy, the columns of this thread's chunk: channels c .. c + vector of the v-th tap of every
    row; zeros if v is negative. `sources` keeps the sites of the tap, and how many bytes to copy of each, from call to
    call; with `fresh` they are looked up. `channels` is the number of channels of x, `lead` the first of the group;
    slots begin .. end are blended.
    """
    if mode == "gather":
        return _copier(tile)
    return _blender(tile, mode)


def _copier(tile: Tile) -> Any:
    rows, line, chunks, step, passes, vector = *tile[:1], tile.line, tile.chunks, tile.step, tile.passes, tile.vector

    @device_function
    def fill(shared, to, known, at, x, slot, column, data, sources, fresh, v, begin, end, c, channels, lead, thread):
        r0, q = thread // chunks, (thread % chunks) * vector
        if fresh:
            for i in range(passes):
                r = at + r0 + i * step
                base, site = ld1(known, r + BASE_OF * rows), int32(-1)
                if base >= 0 and v >= 0:
                    record = load4(slot, (ld1(known, r + SLOT_OF * rows) + v) * SLOT)
                    site = source_of(column, record[0], record[1] + ld1(known, r + PLACE_OF * rows))
                sources[i] = site + base if site >= 0 else int32(0)
                sources[passes + i] = int32(4 * vector) if site >= 0 else int32(0)
        first, start = to + r0 * line + q, lead + c
        for i in range(passes):
            if vector == 4:
                cp_async16(shared, first + i * step * line, x, sources[i] * channels + start, sources[passes + i])
            else:
                cp_async4(shared, first + i * step * line, x, sources[i] * channels + start, sources[passes + i])

    return fill


def _blender(tile: Tile, mode: str) -> Any:
    rows, line, chunks, step, passes, vector = *tile[:1], tile.line, tile.chunks, tile.step, tile.passes, tile.vector
    of_slots = mode == "blend"

    @device_function
    def fill(shared, to, known, at, x, slot, column, data, sources, fresh, v, begin, end, c, channels, lead, thread):
        r0, q = thread // chunks, (thread % chunks) * vector
        for i in range(passes):
            r = r0 + i * step
            base, first = ld1(known, at + r + BASE_OF * rows), ld1(known, at + r + SLOT_OF * rows)
            a0, a1, a2, a3 = float32(0), float32(0), float32(0), float32(0)
            u, last = int32(0), int32(0)
            if base >= 0 and v >= 0:
                # the rows of a matrix begin where `slot`, here the first entries, says
                u = first + begin if of_slots else ld1(slot, first + v)
                last = first + end if of_slots else ld1(slot, first + v + 1)
            while u < last:
                if of_slots:
                    record = load4(slot, u * SLOT)
                    site = source_of(column, record[0], record[1] + ld1(known, at + r + PLACE_OF * rows))
                    share = bits_f32(uint32(record[3]))
                else:
                    site, share = ld1(column, u), ld1(data, u)
                if site >= 0:
                    if vector == 4:
                        f = load4_nc(x, (base + site) * channels + lead + c)
                        a0 += share * f[0]
                        a1 += share * f[1]
                        a2 += share * f[2]
                        a3 += share * f[3]
                    else:
                        a0 += share * ld1(x, (base + site) * channels + lead + c)
                u += 1
            if vector == 4:
                store4(shared, to + r * line + q, a0, a1, a2, a3)
            else:
                st1(shared, to + r * line + q, a0)

    return fill


def together_filler(tile: Tile) -> Any:
    """Make ``fill(shared, to, known, at, x, first, site, data, c, channels, reads, lead, thread)``.

    All 4 taps of a row of a matrix at once. Columns are (8 channels from c on, tap, channel of the 8), so that a thread
    reads 4 channels of a site once, for all taps; beyond `reads` channels stand zeros.
    """
    rows, line, threads, vector = tile.rows, tile.line, tile.threads, tile.vector
    fours = tile.columns // 16
    tasks = rows * fours

    @device_function
    def fill(shared, to, known, at, x, first, site, data, c, channels, reads, lead, thread):
        task = thread
        while task < tasks:
            r, o = task // fours, task % fours
            own = c + (o >> 1) * 8 + (o & 1) * 4
            base, row = ld1(known, at + r + BASE_OF * rows), ld1(known, at + r + SLOT_OF * rows)
            sums = cuda.local.array(16, float32)
            for i in range(16):
                sums[i] = float32(0)
            u, last = int32(0), int32(0)
            if base >= 0 and own < reads:
                u, last = ld1(first, row), ld1(first, row + 1)
            while u < last:
                share, start = load4(data, u * 4), (base + ld1(site, u)) * channels + lead + own
                if vector == 4:
                    f0, f1, f2, f3 = load4_nc(x, start)
                else:
                    f0 = ld1(x, start)
                    f1 = ld1(x, start + 1) if own + 1 < reads else float32(0)
                    f2 = ld1(x, start + 2) if own + 2 < reads else float32(0)
                    f3 = ld1(x, start + 3) if own + 3 < reads else float32(0)
                for t in range(4):
                    s = share[0]
                    if t == 1:
                        s = share[1]
                    if t == 2:
                        s = share[2]
                    if t == 3:
                        s = share[3]
                    sums[4 * t] += s * f0
                    sums[4 * t + 1] += s * f1
                    sums[4 * t + 2] += s * f2
                    sums[4 * t + 3] += s * f3
                u += 1
            put = to + r * line + (o >> 1) * 32 + (o & 1) * 4
            for t in range(4):
                store4(shared, put + 8 * t, sums[4 * t], sums[4 * t + 1], sums[4 * t + 2], sums[4 * t + 3])
            task += threads

    return fill
