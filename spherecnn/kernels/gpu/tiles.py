"""Products of two tiles in shared memory, summed in registers: by the ordinary units, or by tensor cores.

A block of threads makes rows x columns of outputs, see `Shape`; it holds DEPTH places of the reduction of both factors
at a time, in a few stages. The makers below close over a shape and return device functions: ``multiply(shared, a, b,
sums, thread)`` adds the products of one stage to the sums of a thread, ``lay_down(sums, shared, thread)`` puts them
into a tile.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from spherecnn.kernels.cuda import cuda, device_function, float32, uint32
from spherecnn.kernels.gpu.intrinsics import (
    bits_f32,
    cvt_tf32,
    ld1,
    ldmatrix_x4,
    load4,
    mma_bf16,
    mma_tf32,
    pack_bf16x2,
    st2,
    store4,
)

DEPTH = 32
PAD = 4
LINE = DEPTH + PAD  # floats of a row of a tile: rows start 4 banks apart, so that 8 of them are read at once


# The machine instructions of the products.
PRODUCTS = {"float32": ("FFMA", "LDS.128"), "tf32": ("HMMA.1688.F32.TF32",), "bf16": ("HMMA.16816.F32.BF16",)}


class Shape(NamedTuple):
    """How a block divides its outputs."""

    rows: int
    columns: int
    warps_down: int
    warps_across: int
    stages: int
    blocks: int  # that shall fit on a multiprocessor

    @property
    def threads(self) -> int:
        return 32 * self.warps_down * self.warps_across

    @property
    def across(self) -> int:
        """Threads beside each other, where each makes a few rows and columns by itself."""
        return self.threads // 16

    @property
    def own_rows(self) -> int:
        return self.rows // 16

    @property
    def own_columns(self) -> int:
        return self.columns // self.across

    @property
    def sums(self) -> int:
        """Outputs of a thread."""
        return self.rows * self.columns // self.threads


def column_of_line(shape: Shape, precision: str) -> Any:
    """Make the function that says which column a line of the second tile holds.

    Without tensor cores a thread makes four neighbouring columns, for stores of 16 bytes, and reads lines that other
    threads' lines lie between, for loads without conflicts.
    """
    across = shape.across
    if precision != "float32":

        @device_function
        def column(line):
            return line

        return column

    @device_function
    def column_of_four(line):
        within = line % (4 * across)
        return line - within + (within % across) * 4 + within // across

    return column_of_four


def _adder(mma: Any, down: int, across: int) -> Any:
    """Make ``add(p, q, sums)``: the products of a warp's fragments, by the instruction `mma`."""

    @device_function
    def add(p, q, sums):
        for i in range(down):
            for j in range(across):
                at, u, v = (i * across + j) * 4, 4 * i, 2 * j
                d = mma(
                    p[u], p[u + 1], p[u + 2], p[u + 3], q[v], q[v + 1],
                    sums[at], sums[at + 1], sums[at + 2], sums[at + 3],
                )  # fmt: skip
                sums[at] = d[0]
                sums[at + 1] = d[1]
                sums[at + 2] = d[2]
                sums[at + 3] = d[3]

    return add


# --- both factors with the reduction along a line: forward, and data gradients -----------------------------------


def multiply_lines(shape: Shape, precision: str) -> Any:
    """Make ``multiply(shared, a, b, sums, thread)``: sums += A B^T of the tiles at a and b."""
    if precision == "float32":
        return _multiply_lines_plainly(shape)
    return _multiply_lines_tf32(shape) if precision == "tf32" else _multiply_lines_bf16(shape)


def _multiply_lines_plainly(shape: Shape) -> Any:
    across, own_rows, own_columns = shape.across, shape.own_rows, shape.own_columns
    quads = 4 * own_columns

    @device_function
    def multiply(shared, a, b, sums, thread):
        from_a, from_b = a + (thread // across) * LINE, b + (thread % across) * LINE
        for k in range(0, DEPTH, 4):
            q = cuda.local.array(quads, float32)
            for j in range(own_columns):
                four = load4(shared, from_b + j * across * LINE + k)
                q[4 * j] = four[0]
                q[4 * j + 1] = four[1]
                q[4 * j + 2] = four[2]
                q[4 * j + 3] = four[3]
            for i in range(own_rows):
                p = load4(shared, from_a + i * 16 * LINE + k)
                for j in range(own_columns):
                    at = i * own_columns + j
                    total = sums[at] + p[0] * q[4 * j]
                    total += p[1] * q[4 * j + 1]
                    total += p[2] * q[4 * j + 2]
                    sums[at] = total + p[3] * q[4 * j + 3]

    return multiply


def _multiply_lines_tf32(shape: Shape) -> Any:
    down, across = shape.rows // shape.warps_down // 16, shape.columns // shape.warps_across // 8
    add = _adder(mma_tf32, down, across)
    warps_across, high, wide = shape.warps_across, 16 * down, 8 * across
    words_a, words_b, pairs = 4 * down, 2 * across, across // 2

    @device_function
    def multiply(shared, a, b, sums, thread):
        lane, warp = thread & 31, thread >> 5
        from_a = a + ((warp // warps_across) * high + (lane & 15)) * LINE + ((lane >> 4) << 2)
        from_b = b + ((warp % warps_across) * wide + (lane & 7) + ((lane >> 4) << 3)) * LINE + (((lane >> 3) & 1) << 2)
        for k in range(0, DEPTH, 8):
            p, q = cuda.local.array(words_a, uint32), cuda.local.array(words_b, uint32)
            for i in range(down):
                f = ldmatrix_x4(shared, from_a + i * 16 * LINE + k)
                p[4 * i] = tf32(f[0])
                p[4 * i + 1] = tf32(f[1])
                p[4 * i + 2] = tf32(f[2])
                p[4 * i + 3] = tf32(f[3])
            for j in range(pairs):
                f = ldmatrix_x4(shared, from_b + j * 16 * LINE + k)
                q[4 * j] = f[0]
                q[4 * j + 1] = f[1]
                q[4 * j + 2] = f[2]
                q[4 * j + 3] = f[3]
            add(p, q, sums)

    return multiply


@device_function
def tf32(word):
    """A word of float32, rounded to TF32: the tensor core would cut it off. NaN stays NaN."""
    return cvt_tf32(bits_f32(word))


@device_function
def pack(low, high):
    """Two words of float32 as two bfloat16. Any order of the reduction will do that is the same in both factors."""
    return pack_bf16x2(bits_f32(high), bits_f32(low))


def _multiply_lines_bf16(shape: Shape) -> Any:
    down, across = shape.rows // shape.warps_down // 16, shape.columns // shape.warps_across // 8
    add = _adder(mma_bf16, down, across)
    warps_across, high, wide = shape.warps_across, 16 * down, 8 * across
    words_a, words_b, pairs = 4 * down, 2 * across, across // 2

    @device_function
    def multiply(shared, a, b, sums, thread):
        lane, warp = thread & 31, thread >> 5
        from_a = a + ((warp // warps_across) * high + (lane & 15)) * LINE + ((lane >> 4) << 2)
        from_b = b + ((warp % warps_across) * wide + (lane & 7) + ((lane >> 4) << 3)) * LINE + (((lane >> 3) & 1) << 2)
        for k in range(0, DEPTH, 16):
            p, q = cuda.local.array(words_a, uint32), cuda.local.array(words_b, uint32)
            for i in range(down):
                f = ldmatrix_x4(shared, from_a + i * 16 * LINE + k)
                h = ldmatrix_x4(shared, from_a + i * 16 * LINE + k + 8)
                p[4 * i] = pack(f[0], f[2])
                p[4 * i + 1] = pack(f[1], f[3])
                p[4 * i + 2] = pack(h[0], h[2])
                p[4 * i + 3] = pack(h[1], h[3])
            for j in range(pairs):
                f = ldmatrix_x4(shared, from_b + j * 16 * LINE + k)
                h = ldmatrix_x4(shared, from_b + j * 16 * LINE + k + 8)
                q[4 * j] = pack(f[0], f[1])
                q[4 * j + 1] = pack(h[0], h[1])
                q[4 * j + 2] = pack(f[2], f[3])
                q[4 * j + 3] = pack(h[2], h[3])
            add(p, q, sums)

    return multiply


# --- the sums, from registers to a tile in shared memory ---------------------------------------------------------


def sums_to_shared(shape: Shape, precision: str) -> Any:
    """Make ``lay_down(sums, shared, thread)``: rows of ``columns + PAD`` outputs, where the factors were."""
    return _lay_down_fours(shape) if precision == "float32" else _lay_down_pairs(shape)


def _lay_down_fours(shape: Shape) -> Any:
    across, own_rows, own_columns, line = shape.across, shape.own_rows, shape.own_columns, shape.columns + PAD
    fours = own_columns // 4

    @device_function
    def lay_down(sums, shared, thread):
        start = (thread // across) * line + (thread % across) * 4
        for i in range(own_rows):
            for j in range(fours):
                s = i * own_columns + 4 * j
                to = start + i * 16 * line + j * 4 * across
                store4(shared, to, sums[s], sums[s + 1], sums[s + 2], sums[s + 3])

    return lay_down


def _lay_down_pairs(shape: Shape) -> Any:
    down, across = shape.rows // shape.warps_down // 16, shape.columns // shape.warps_across // 8
    warps_across, high, wide, line = shape.warps_across, 16 * down, 8 * across, shape.columns + PAD

    @device_function
    def lay_down(sums, shared, thread):
        lane, warp = thread & 31, thread >> 5
        row, column = (warp // warps_across) * high + (lane >> 2), (warp % warps_across) * wide + 2 * (lane & 3)
        start = row * line + column
        for i in range(down):
            for j in range(across):
                s, to = (i * across + j) * 4, start + i * 16 * line + j * 8
                st2(shared, to, sums[s], sums[s + 1])
                st2(shared, to + 8 * line, sums[s + 2], sums[s + 3])

    return lay_down


# --- both factors with the reduction across the lines: weight gradients ------------------------------------------

GAP = 8  # floats after a line: 4 lines x 8 columns are read at once without conflicts


def multiply_columns(shape: Shape, precision: str) -> Any:
    """Make ``multiply(shared, a, b, sums, thread)``: sums += A^T B of tiles with DEPTH lines of rows and columns."""
    if precision == "float32":
        return _multiply_columns_plainly(shape)
    return _multiply_columns_tf32(shape) if precision == "tf32" else _multiply_columns_bf16(shape)


def _multiply_columns_plainly(shape: Shape) -> Any:
    across, line_a, line_b = shape.across, shape.rows + GAP, shape.columns + GAP
    halves = shape.own_rows // 4

    @device_function
    def multiply(shared, a, b, sums, thread):
        from_a, from_b = a + (thread // across) * 4, b + (thread % across) * 4
        for k in range(DEPTH):
            q = load4(shared, from_b + k * line_b)
            for h in range(halves):
                p = load4(shared, from_a + k * line_a + 64 * h)
                s = 16 * h
                for i in range(4):
                    factor = p[0]
                    if i == 1:
                        factor = p[1]
                    if i == 2:
                        factor = p[2]
                    if i == 3:
                        factor = p[3]
                    sums[s + 4 * i] += factor * q[0]
                    sums[s + 4 * i + 1] += factor * q[1]
                    sums[s + 4 * i + 2] += factor * q[2]
                    sums[s + 4 * i + 3] += factor * q[3]

    return multiply


def _multiply_columns_tf32(shape: Shape) -> Any:
    down, across = shape.rows // shape.warps_down // 16, shape.columns // shape.warps_across // 8
    add = _adder(mma_tf32, down, across)
    warps_across, high, wide = shape.warps_across, 16 * down, 8 * across
    line_a, line_b, words_a, words_b = shape.rows + GAP, shape.columns + GAP, 4 * down, 2 * across

    @device_function
    def multiply(shared, a, b, sums, thread):
        lane, warp = thread & 31, thread >> 5
        from_a = a + (lane & 3) * line_a + (warp // warps_across) * high + (lane >> 2)
        from_b = b + (lane & 3) * line_b + (warp % warps_across) * wide + (lane >> 2)
        for k in range(0, DEPTH, 8):
            p, q = cuda.local.array(words_a, uint32), cuda.local.array(words_b, uint32)
            for i in range(down):
                at = from_a + k * line_a + 16 * i
                p[4 * i] = cvt_tf32(ld1(shared, at))
                p[4 * i + 1] = cvt_tf32(ld1(shared, at + 8))
                p[4 * i + 2] = cvt_tf32(ld1(shared, at + 4 * line_a))
                p[4 * i + 3] = cvt_tf32(ld1(shared, at + 4 * line_a + 8))
            for j in range(across):
                at = from_b + k * line_b + 8 * j
                q[2 * j] = cvt_tf32(ld1(shared, at))
                q[2 * j + 1] = cvt_tf32(ld1(shared, at + 4 * line_b))
            add(p, q, sums)

    return multiply


def _multiply_columns_bf16(shape: Shape) -> Any:
    down, across = shape.rows // shape.warps_down // 16, shape.columns // shape.warps_across // 8
    add = _adder(mma_bf16, down, across)
    warps_across, high, wide = shape.warps_across, 16 * down, 8 * across
    line_a, line_b, words_a, words_b = shape.rows + GAP, shape.columns + GAP, 4 * down, 2 * across

    @device_function
    def multiply(shared, a, b, sums, thread):
        lane, warp = thread & 31, thread >> 5
        from_a = a + (lane & 3) * line_a + (warp // warps_across) * high + (lane >> 2)
        from_b = b + (lane & 3) * line_b + (warp % warps_across) * wide + (lane >> 2)
        for k in range(0, DEPTH, 16):
            p, q = cuda.local.array(words_a, uint32), cuda.local.array(words_b, uint32)
            for i in range(down):
                at = from_a + k * line_a + 16 * i
                p[4 * i] = pack_bf16x2(ld1(shared, at + 4 * line_a), ld1(shared, at))
                p[4 * i + 1] = pack_bf16x2(ld1(shared, at + 4 * line_a + 8), ld1(shared, at + 8))
                p[4 * i + 2] = pack_bf16x2(ld1(shared, at + 12 * line_a), ld1(shared, at + 8 * line_a))
                p[4 * i + 3] = pack_bf16x2(ld1(shared, at + 12 * line_a + 8), ld1(shared, at + 8 * line_a + 8))
            for j in range(across):
                at = from_b + k * line_b + 8 * j
                q[2 * j] = pack_bf16x2(ld1(shared, at + 4 * line_b), ld1(shared, at))
                q[2 * j + 1] = pack_bf16x2(ld1(shared, at + 12 * line_b), ld1(shared, at + 8 * line_b))
            add(p, q, sums)

    return multiply


def column_sums_to_shared(shape: Shape, precision: str) -> Any:
    """Make ``lay_down(sums, shared, thread)`` of `multiply_columns`, see `sums_to_shared`."""
    if precision != "float32":
        return _lay_down_pairs(shape)
    across, halves, line = shape.across, shape.own_rows // 4, shape.columns + PAD

    @device_function
    def lay_down(sums, shared, thread):
        start = (thread // across) * 4 * line + (thread % across) * 4
        for h in range(halves):
            for i in range(4):
                s = 16 * h + 4 * i
                store4(shared, start + (64 * h + i) * line, sums[s], sums[s + 1], sums[s + 2], sums[s + 3])

    return lay_down
