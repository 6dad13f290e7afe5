"""The kernel of the engine: gather the sites of a stencil, mix their channels.

A block of threads makes a tile of outputs, sites of one run of a stencil x channels. It walks along the reduction,
(tap, channel), and holds a few stages of both factors in shared memory: while one is multiplied, the next are copied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu.gather import BIAS_OF, KINDS, MODES, OUT_OF, Tile, describe_sites, filler, together_filler
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
from spherecnn.kernels.gpu.launch import GpuKernel, gpu_kernel
from spherecnn.kernels.gpu.tiles import (
    DEPTH,
    LINE,
    PAD,
    PRODUCTS,
    Shape,
    column_of_line,
    multiply_lines,
    sums_to_shared,
)
from spherecnn.kernels.precision import PRECISIONS

# Two stages of the widest tile fit into the shared memory of any GPU; three of the others.
WIDE, MIDDLE, NARROW = Shape(128, 128, 2, 4, 2, 1), Shape(128, 64, 4, 2, 3, 2), Shape(128, 32, 4, 1, 3, 2)


@device_function
def rectify(value, rectified):
    """The value, or with `rectified` 0 where it is not above 0."""
    return float32(0) if rectified and value <= float32(0) else value


def finisher(shape: Shape) -> Any:
    """Make the function that adds biases to the tile of outputs in shared memory, rectifies, and stores it."""
    rows, threads, line, fours = shape.rows, shape.threads, shape.columns + PAD, shape.columns // 4
    tasks = rows * fours

    @device_function
    def finish(shared, known, at, bias, y, n0, makes, outputs, lead, biased, rectified, thread):
        whole, task = makes & 3 == 0, thread
        while task < tasks:
            r, n = task // fours, n0 + (task % fours) * 4
            out = ld1(known, at + r + OUT_OF * rows)
            if out >= 0 and n < makes:
                s0, s1, s2, s3 = load4(shared, r * line + n - n0)
                to, b = out * outputs + lead + n, lead + n
                b += ld1(known, at + r + BIAS_OF * rows) * biased * outputs
                if whole:
                    b0, b1, b2, b3 = load4(bias, b)
                    s0, s1 = rectify(s0 + b0, rectified), rectify(s1 + b1, rectified)
                    s2, s3 = rectify(s2 + b2, rectified), rectify(s3 + b3, rectified)
                    store4(y, to, s0, s1, s2, s3)
                else:
                    st1(y, to, rectify(s0 + ld1(bias, b), rectified))
                    if n + 1 < makes:
                        st1(y, to + 1, rectify(s1 + ld1(bias, b + 1), rectified))
                    if n + 2 < makes:
                        st1(y, to + 2, rectify(s2 + ld1(bias, b + 2), rectified))
                    if n + 3 < makes:
                        st1(y, to + 3, rectify(s3 + ld1(bias, b + 3), rectified))
            task += threads

    return finish


def mix_kernel(shape: Shape, mode: str, vector: int, precision: str) -> GpuKernel:
    """Make the kernel of one shape of tile, way of gathering, width of moves and precision."""
    rows, columns, threads, stages = shape.rows, shape.columns, shape.threads, shape.stages
    tile = Tile(rows, DEPTH, LINE, threads, vector)
    chunks, step = tile.chunks, tile.step
    stage, ahead = (rows + columns) * LINE, stages - 1
    known_at, passes, passes_b, count = stages * stage, tile.passes, columns // step, shape.sums
    passes_twice, passes_b_twice = 2 * passes, 2 * passes_b
    together = mode == "together"
    describe, multiply = describe_sites(tile, mode), multiply_lines(shape, precision)
    fill = together_filler(tile) if together else filler(tile, mode)
    column_of = column_of_line(shape, precision)
    lay_down, finish = sums_to_shared(shape, precision), finisher(shape)
    still_under_way = stages - 2

    @device_function
    def fetch_weights(shared, to, w, lines, along, thread):
        first = to + (thread // chunks) * LINE + (thread % chunks) * vector
        for i in range(passes_b):
            if vector == 4:
                cp_async16(shared, first + i * step * LINE, w, lines[i] + along, lines[passes_b + i])
            else:
                cp_async4(shared, first + i * step * LINE, w, lines[i] + along, lines[passes_b + i])

    claims = ("LDGSTS", *(*PRODUCTS[precision], *(("LDSM",) if precision != "float32" else ())))

    @gpu_kernel(
        "f4* f4* f4* f4* i4* i4* i4* i4* i4* i4* i4* f4* i4 i4 i4 i4 i4 i4 i4 i4 i4 i4 i4 i4",
        threads=threads,
        blocks=shape.blocks if vector == 4 else 1,
        constants=(columns, mode, vector, precision),
        claims=claims,
        budget=2600 if mode == "gather" else 2100,
    )
    def mix(
        x, w, bias, y, run, begins, taps, segment, slot, column, order, data,
        runs, segments, samples, sites_in, sites_out, channels, reads, makes, outputs, depth, biased, rectified,
    ):  # fmt: skip
        shared, known = cuda.shared.array(0, float32), cuda.shared.array(0, int32)
        thread = cuda.threadIdx.x
        # Which run, and which of its members.
        low, high, block = int32(0), runs, cuda.blockIdx.x
        while high - low > 1:
            middle = (low + high) >> 1
            if ld1(begins, middle) <= block:
                low = middle
            else:
                high = middle
        record = load4(run, low * 4)
        first, length, own_taps, taps_at = record[0], record[1], record[2], record[3]
        m0 = (block - ld1(begins, low)) * rows
        tiles = (makes + columns - 1) // columns
        group = quotient(cuda.blockIdx.y, tiles)
        n0, lead, first_row = (cuda.blockIdx.y - group * tiles) * columns, group * reads, group * makes
        describe(
            known, known_at, thread, m0, samples * length, first, length,
            segment, order, segments, sites_in, sites_out, own_taps,
        )  # fmt: skip
        sums, sources = cuda.local.array(count, float32), cuda.local.array(passes_twice, int32)
        for i in range(count):
            sums[i] = float32(0)
        for i in range(passes_twice):
            sources[i] = int32(0)
        # Where the rows of weights begin that this thread copies, and how many bytes it copies at once.
        lines = cuda.local.array(passes_b_twice, int32)
        for i in range(passes_b):
            n = n0 + column_of(thread // chunks + i * step)
            lines[i] = int32((first_row + n) * depth) if n < makes else int32(0)
            lines[passes_b + i] = int32(4 * vector) if n < makes else int32(0)
        # Where this thread's chunk stands: tap number v of the run, and channel.
        v, c, seen, tap, begin, end = int32(0), (thread % chunks) * vector, int32(-1), int32(0), int32(0), int32(0)
        if together:
            steps, c = (reads + 7) >> 3, int32(0)
        else:
            steps = (own_taps * reads + DEPTH - 1) // DEPTH
            while c >= reads:
                c -= reads
                v += 1
        cuda.syncthreads()
        filled, used = int32(0), int32(0)
        for s in range(-ahead, steps):
            # Stage s + ahead is filled while stage s is multiplied.
            if s >= 0:
                cp_async_wait(still_under_way)
                cuda.syncthreads()
            if s + ahead < steps:
                to = filled * stage
                if together:
                    fill(shared, to, known, known_at, x, slot, column, data, c, channels, reads, lead, thread)
                    along = (s + ahead) * DEPTH + (thread % chunks) * vector
                    fetch_weights(shared, to + rows * LINE, w, lines, along, thread)
                    c += 8
                else:
                    fresh = v != seen
                    if fresh and v < own_taps:
                        tap, begin = ld1(taps, (taps_at + v) * 2), ld1(taps, (taps_at + v) * 2 + 1)
                        end = ld1(taps, (taps_at + v) * 2 + 3)
                    at = v if v < own_taps else int32(-1)
                    fill(
                        shared, to, known, known_at, x, slot, column, data, sources, fresh,
                        at, begin, end, c, channels, lead, thread,
                    )  # fmt: skip
                    # beyond the last tap any weights will do: they meet zeros
                    fetch_weights(shared, to + rows * LINE, w, lines, tap * reads + c, thread)
                    seen = v
                    c += DEPTH
                    while c >= reads:
                        c -= reads
                        v += 1
                filled = filled + 1 if filled < ahead else int32(0)
            cp_async_commit()
            if s >= 0:
                multiply(shared, used * stage, used * stage + rows * LINE, sums, thread)
                used = used + 1 if used < ahead else int32(0)
        cuda.syncthreads()
        lay_down(sums, shared, thread)
        cuda.syncthreads()
        finish(shared, known, known_at, bias, y, n0, makes, outputs, first_row, biased, rectified, thread)

    mix.shared = (known_at + KINDS * rows) * 4
    mix.rows, mix.columns = rows, columns
    return mix


class Choice(NamedTuple):
    """What picks a kernel."""

    columns: int
    mode: str
    vector: int
    precision: str


def _kernels() -> dict[Choice, GpuKernel]:
    """All kernels: wide tiles where sites are only gathered, single moves (odd channels, pictures) in one shape."""
    made = {}
    for precision in PRECISIONS:
        for mode in MODES:
            shapes = (WIDE, MIDDLE, NARROW) if mode == "gather" else (MIDDLE, NARROW)
            for shape in shapes:
                made[Choice(shape.columns, mode, 4, precision)] = mix_kernel(shape, mode, 4, precision)
            made[Choice(64, mode, 1, precision)] = mix_kernel(MIDDLE, mode, 1, precision)
    return made


MIX = _kernels()


def choose(mode: str, reads: int, makes: int, precision: str) -> GpuKernel:
    """The kernel for so many input and output channels of a group."""
    if reads % 4:
        return MIX[Choice(64, mode, 1, precision)]
    columns = 32 if makes <= 32 else 64 if makes <= 64 or mode != "gather" or 0 < makes % 128 <= 64 else 128
    return MIX[Choice(columns, mode, 4, precision)]
