"""CUDA bodies of softmax and its gradient: a team of 1 to 32 lanes for each row, whose sums have one fixed order."""

from __future__ import annotations

from typing import Any

from spherecnn.kernels import pointwise
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu import elementary
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import check_float32, spans, vectors
from spherecnn.kernels.gpu.intrinsics import ld1, load4_nc, reciprocal, st1, store4
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel

Array = DeviceArray
THREADS = 256
HELD = 4  # elements of a row that a lane keeps in registers
FULL = 0xFFFFFFFF
LOW = float("-inf")


@device_function
def higher(top, x):
    """The larger one; a NaN does not count."""
    return x if x > top else top


@device_function
def team_max(value, lanes):
    """The largest value of a team, for all its lanes."""
    step = lanes >> 1
    while step > 0:
        value = higher(value, cuda.shfl_xor_sync(FULL, value, step))
        step >>= 1
    return value


@device_function
def team_sum(value, lanes):
    """The sum over a team, for all its lanes."""
    step = lanes >> 1
    while step > 0:
        value += cuda.shfl_xor_sync(FULL, value, step)
        step >>= 1
    return value


@device_function
def read_neighbours(x, row, k, lanes, classes, rest):
    """Four elements of a row from k on, or `rest` beyond its end."""
    if k < classes:
        return load4_nc(x, int32(row + k))
    return rest, rest, rest, rest


@device_function
def write_neighbours(y, row, k, lanes, classes, a, b, c, d):
    if k < classes:
        store4(y, int32(row + k), a, b, c, d)


@device_function
def read_spread(x, row, k, lanes, classes, rest):
    """Four elements of a row, k and every `lanes`-th after it, or `rest` beyond its end."""
    a = ld1(x, int32(row + k)) if k < classes else rest
    b = ld1(x, int32(row + k + lanes)) if k + lanes < classes else rest
    c = ld1(x, int32(row + k + 2 * lanes)) if k + 2 * lanes < classes else rest
    d = ld1(x, int32(row + k + 3 * lanes)) if k + 3 * lanes < classes else rest
    return a, b, c, d


@device_function
def write_spread(y, row, k, lanes, classes, a, b, c, d):
    if k < classes:
        st1(y, int32(row + k), a)
    if k + lanes < classes:
        st1(y, int32(row + k + lanes), b)
    if k + 2 * lanes < classes:
        st1(y, int32(row + k + 2 * lanes), c)
    if k + 3 * lanes < classes:
        st1(y, int32(row + k + 3 * lanes), d)


@device_function
def place(team):
    """The row, the lane and the lanes of this thread's team of 2^team lanes."""
    lanes = int32(1 << team)
    row = int32((cuda.blockIdx.x * THREADS + cuda.threadIdx.x) >> team)
    return row, int32(cuda.threadIdx.x & (lanes - 1)), lanes


def _short(neighbours: int) -> tuple[Any, Any]:
    """Kernels for rows of at most HELD elements a lane, which are read and written once."""
    read, write = (read_neighbours, write_neighbours) if neighbours else (read_spread, write_spread)
    each = HELD if neighbours else 1
    moves = ("LDG.E.128", "STG.E.128") if neighbours else ()

    @gpu_kernel("f4* f4* i4 i4 i4", threads=THREADS, constants=(neighbours,), claims=moves, budget=200)
    def softmax_short(x, y, rows, classes, team):
        r, lane, lanes = place(team)
        row, k = int32(r * classes), int32(lane * each)
        within = classes if r < rows else int32(0)
        a, b, c, d = read(x, row, k, lanes, within, float32(LOW))
        top = team_max(higher(higher(a, b), higher(c, d)), lanes)
        a, b = elementary.exp(a - top), elementary.exp(b - top)
        c, d = elementary.exp(c - top), elementary.exp(d - top)
        inverse = reciprocal(team_sum((a + b) + (c + d), lanes))
        write(y, row, k, lanes, within, a * inverse, b * inverse, c * inverse, d * inverse)

    @gpu_kernel("f4* f4* f4* i4 i4 i4", threads=THREADS, constants=(neighbours,), claims=moves, budget=200)
    def softmax_grad_short(dy, y, dx, rows, classes, team):
        r, lane, lanes = place(team)
        row, k = int32(r * classes), int32(lane * each)
        within = classes if r < rows else int32(0)
        a, b, c, d = read(dy, row, k, lanes, within, float32(0))
        p, q, s, t = read(y, row, k, lanes, within, float32(0))
        mean = team_sum((a * p + b * q) + (c * s + d * t), lanes)
        write(dx, row, k, lanes, within, p * (a - mean), q * (b - mean), s * (c - mean), t * (d - mean))

    return softmax_short, softmax_grad_short


@gpu_kernel("f4* f4* i4 i4 i4", threads=THREADS, budget=150)
def softmax_long(x, y, rows, classes, team):
    r, lane, lanes = place(team)
    row, end = int32(r * classes), classes if r < rows else int32(0)
    top, total, k = float32(LOW), float32(0), lane
    while k < end:
        top = higher(top, ld1(x, int32(row + k)))
        k = int32(k + lanes)
    top, k = team_max(top, lanes), lane
    while k < end:
        total += elementary.exp(ld1(x, int32(row + k)) - top)
        k = int32(k + lanes)
    inverse, k = reciprocal(team_sum(total, lanes)), lane
    while k < end:
        st1(y, int32(row + k), elementary.exp(ld1(x, int32(row + k)) - top) * inverse)
        k = int32(k + lanes)


@gpu_kernel("f4* f4* f4* i4 i4 i4", threads=THREADS, budget=150)
def softmax_grad_long(dy, y, dx, rows, classes, team):
    r, lane, lanes = place(team)
    row, end = int32(r * classes), classes if r < rows else int32(0)
    mean, k = float32(0), lane
    while k < end:
        mean += ld1(dy, int32(row + k)) * ld1(y, int32(row + k))
        k = int32(k + lanes)
    mean, k = team_sum(mean, lanes), lane
    while k < end:
        st1(dx, int32(row + k), ld1(y, int32(row + k)) * (ld1(dy, int32(row + k)) - mean))
        k = int32(k + lanes)


SHORT = {neighbours: _short(neighbours) for neighbours in (0, 1)}
LONG = softmax_long, softmax_grad_long


def _run(gradient: int, inputs: tuple[Array, ...]) -> Array:
    check_float32(("softmax", "softmax_grad")[gradient], *inputs)
    made = empty(inputs[0].shape, inputs[0].dtype)
    classes = made.shape[-1]
    team = min((-(-classes // HELD) - 1).bit_length(), 5)
    tables = [a.reshape(-1, classes) for a in (*inputs, made)] if made.size else []
    for span in spans(made.size // max(1, classes), classes):
        parts = [table[span] for table in tables]
        whole = classes % HELD == 0 and vectors(made.size, *parts) > 0
        kernel = (SHORT[int(whole)] if classes <= HELD << team else LONG)[gradient]
        rows = len(parts[0])
        kernel(blocks_for(rows << team, THREADS), *parts, rows, classes, team)
    return made


@pointwise.softmax.on("cuda")
def _softmax(x: Array) -> Array:
    return _run(0, (x,))


@pointwise.softmax_grad.on("cuda")
def _softmax_grad(dy: Array, y: Array) -> Array:
    return _run(1, (dy, y))
