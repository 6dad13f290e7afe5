"""CUDA bodies of layer normalisation: a team of 1 to 32 lanes for each row, or a block for a long one.

A row is read once from memory; its further passes find it in the cache. Its mean and its variance are taken about its
first element, so that float32 holds them far from 0 too.
"""

from __future__ import annotations

from typing import Any

from spherecnn.kernels import norm
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import THREADS, check_float32, check_size, vectors
from spherecnn.kernels.gpu.intrinsics import divide, ld1, st1
from spherecnn.kernels.gpu.joins import join_sums, root
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel
from spherecnn.kernels.gpu.norm_grad import SUMS
from spherecnn.kernels.gpu.reduce import block_sum
from spherecnn.kernels.gpu.softmax import HELD, read_neighbours, read_spread, team_sum, write_neighbours, write_spread
from spherecnn.kernels.gpu.wide_rows import geometry

Array = DeviceArray
WEIGHT, BIAS = 1, 2  # flags
WARP, BLOCK = 5, 8  # teams of 2^5 and of 2^8 threads
LONG = 2048  # elements of a row that a block takes


def _team(neighbours: int, block: int) -> Any:
    """Functions of a team: to read four elements, to write them, to sum; moves of a lane, distance of its elements."""
    read, write = (read_neighbours, write_neighbours) if neighbours else (read_spread, write_spread)

    @device_function
    def across_block(value, lanes):
        return block_sum(value)

    @device_function
    def far(x, row, k, one, lanes, depth, pivot, mean):
        """Distances of four elements of a row from pivot + mean; 0 beyond the end."""
        a, b, c, d = read(x, row, k, lanes, depth, pivot)
        zero = float32(0)
        return (
            (a - pivot) - mean if k < depth else zero,
            (b - pivot) - mean if k + one < depth else zero,
            (c - pivot) - mean if k + 2 * one < depth else zero,
            (d - pivot) - mean if k + 3 * one < depth else zero,
        )

    return read, write, across_block if block else team_sum, far


def _kernels(neighbours: int, block: int) -> Any:
    read, write, total, far = _team(neighbours, block)
    each = HELD if neighbours else 1
    moves = ("LDG.E.128", "STG.E.128") if neighbours else ()
    constants = (neighbours, block)

    @gpu_kernel("f4* f4* f4* f4* f4* f4* f4 i4 i4 i4 i4", threads=THREADS, constants=constants, claims=moves)
    def layer_norm(x, weight, bias, y, means, rstds, eps, flags, rows, depth, team):
        lanes = int32(1 << team)
        r = int32((cuda.blockIdx.x * THREADS + cuda.threadIdx.x) >> team)
        lane = int32(cuda.threadIdx.x & (lanes - 1))
        one = int32(1) if neighbours else lanes
        row, start = int32(r * depth), int32(lane * each)
        end = depth if r < rows else int32(0)
        zero, size = float32(0), float32(depth)
        pivot = ld1(x, row) if r < rows else zero
        mean, square, k = zero, zero, start
        while k < end:
            a, b, c, d = far(x, row, k, one, lanes, end, pivot, zero)
            mean += (a + b) + (c + d)
            k = int32(k + HELD * lanes)
        mean, k = divide(total(mean, lanes), size), start
        while k < end:
            a, b, c, d = far(x, row, k, one, lanes, end, pivot, mean)
            square += (a * a + b * b) + (c * c + d * d)
            k = int32(k + HELD * lanes)
        rstd, k = root(divide(total(square, lanes), size), eps), start
        while k < end:
            a, b, c, d = far(x, row, k, one, lanes, end, pivot, mean)
            a, b, c, d = a * rstd, b * rstd, c * rstd, d * rstd
            if flags & WEIGHT:
                p, q, s, t = read(weight, int32(0), k, lanes, end, zero)
                a, b, c, d = a * p, b * q, c * s, d * t
            if flags & BIAS:
                p, q, s, t = read(bias, int32(0), k, lanes, end, zero)
                a, b, c, d = a + p, b + q, c + s, d + t
            write(y, row, k, lanes, end, a, b, c, d)
            k = int32(k + HELD * lanes)
        if r < rows and lane == 0:
            st1(means, r, pivot + mean)
            st1(rstds, r, rstd)

    @gpu_kernel("f4* f4* f4* f4* f4* f4* i4 i4 i4 i4", threads=THREADS, constants=constants, claims=moves)
    def layer_norm_grad(dy, x, means, rstds, weight, dx, flags, rows, depth, team):
        lanes = int32(1 << team)
        r = int32((cuda.blockIdx.x * THREADS + cuda.threadIdx.x) >> team)
        lane = int32(cuda.threadIdx.x & (lanes - 1))
        one = int32(1) if neighbours else lanes
        row, start = int32(r * depth), int32(lane * each)
        end = depth if r < rows else int32(0)
        zero, size = float32(0), float32(depth)
        mean = ld1(means, r) if r < rows else zero
        rstd = ld1(rstds, r) if r < rows else zero
        shared, along, k = zero, zero, start
        while k < end:
            p, q, s, t = far(x, row, k, one, lanes, end, mean, zero)
            a, b, c, d = read(dy, row, k, lanes, end, zero)
            if flags & WEIGHT:
                e, f, g, h = read(weight, int32(0), k, lanes, end, zero)
                a, b, c, d = a * e, b * f, c * g, d * h
            shared += (a + b) + (c + d)
            along += (a * p + b * q) + (c * s + d * t)
            k = int32(k + HELD * lanes)
        shared, along = divide(total(shared, lanes), size), divide(total(along, lanes), size)
        along, k = along * rstd * rstd, start
        while k < end:
            p, q, s, t = far(x, row, k, one, lanes, end, mean, zero)
            a, b, c, d = read(dy, row, k, lanes, end, zero)
            if flags & WEIGHT:
                e, f, g, h = read(weight, int32(0), k, lanes, end, zero)
                a, b, c, d = a * e, b * f, c * g, d * h
            a, b = rstd * (a - shared - p * along), rstd * (b - shared - q * along)
            c, d = rstd * (c - shared - s * along), rstd * (d - shared - t * along)
            write(dx, row, k, lanes, end, a, b, c, d)
            k = int32(k + HELD * lanes)

    return layer_norm, layer_norm_grad


KERNELS = {(neighbours, block): _kernels(neighbours, block) for neighbours in (0, 1) for block in (0, 1)}


def _launch(gradient: int, x: Array, moved: tuple[Any, ...], *args: Any) -> None:
    """Run a kernel on the rows of x; `moved` are what it moves by 16 bytes if it can, but for the gaps (0)."""
    rows, depth = x.shape
    team = BLOCK if depth > LONG else min((-(-depth // HELD) - 1).bit_length(), WARP)
    whole = depth % HELD == 0 and vectors(HELD, *(a for a in moved if isinstance(a, DeviceArray))) > 0
    kernel = KERNELS[int(whole), int(team == BLOCK)][gradient]
    kernel(blocks_for(rows << team, THREADS), *args, rows, depth, team)


@norm.layer_norm.on("cuda")
def _layer_norm(x: Array, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    check_float32("layer_norm", x)
    check_size("layer_norm", x)
    y, mean, rstd = empty(x.shape, x.dtype), empty((len(x),), x.dtype), empty((len(x),), x.dtype)
    given = [0 if a is None else a for a in (weight, bias)]
    flags = (WEIGHT if weight is not None else 0) | (BIAS if bias is not None else 0)
    _launch(0, x, (x, y, *given), x, *given, y, mean, rstd, float(eps), flags)
    return y, mean, rstd


@norm.layer_norm_grad.on("cuda")
def _layer_norm_grad(dy: Array, x: Array, mean: Array, rstd: Array, weight: Array | None) -> tuple[Array, Array, Array]:
    check_float32("layer_norm_grad", x, dy)
    check_size("layer_norm_grad", x)
    dx, own = empty(x.shape, x.dtype), 0 if weight is None else weight
    _launch(1, x, (dy, x, dx, own), dy, x, mean, rstd, own, dx, 0 if weight is None else WEIGHT)
    rows, depth = x.shape
    shape = geometry(1, rows, depth, dy, x)
    found = empty((shape.chunks, 2, shape.width), x.dtype)
    SUMS[shape.vector, 1](shape.grid, dy, x, mean, rstd, found, shape.lanes, *shape[1:6], 1)
    sums = join_sums(found, shape).reshape(2, depth)
    return dx, sums[1], sums[0]
