"""Reading images at directions on the GPU, where positions are float32.

A position is kept as a whole number and a rest: an angle counts from the nearest multiple of a quarter turn, where it
is at most an eighth of a turn, and those multiples are whole numbers of quarter pixels. What is left is the rounding
of the directions themselves and of one arc tangent, see `SNAP`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids.equirect import Equirect
from spherecnn.kernels import sample as definition
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu.array import DeviceArray, empty, to_device
from spherecnn.kernels.gpu.intrinsics import advance, ld1, load4_nc, reciprocal, square_root, st1, store4
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel
from spherecnn.kernels.gpu.layout import THREADS, batches, vectors_of, width_of

# A position so near to a pixel centre, in turns of the sphere, is taken to be on it: of 4000 pixel centres drawn from
# each of two sizes, rounded to float32, all were. Largest errors of positions in parts of a pixel, of 4000 random
# directions in the simulator, columns (up to 80 degrees of latitude) and rows: 512 x 1024 pixels 2.0e-5 and 2.4e-5,
# 2048 x 4096 pixels 9.0e-5 and 1.3e-4; turned by a matrix 4.0e-5 and 2.8e-5, 1.6e-4 and 1.1e-4. Columns nearer to a
# pole of a turned image are worse, as a column is narrower there. A GPU's arc tangent may add a little.
SNAP = 2.0**-24
ONE_OVER_TURN = 1 / (2 * math.pi)


@device_function
def ratio(a, b):
    """a / b to half a unit in the last place, nearly always; 0 for 0 / 0."""
    r = reciprocal(b)
    q = float32(a * r)
    q = cuda.fma(cuda.fma(-q, b, a), r, q)
    return float32(0) if a == 0 else q


@device_function
def turned(xyz, turn, p):
    """The direction p in the frame of its image."""
    x, y, z = ld1(xyz, int32(3 * p)), ld1(xyz, int32(3 * p + 1)), ld1(xyz, int32(3 * p + 2))
    a = cuda.fma(z, ld1(turn, 6), cuda.fma(y, ld1(turn, 3), float32(x * ld1(turn, 0))))
    b = cuda.fma(z, ld1(turn, 7), cuda.fma(y, ld1(turn, 4), float32(x * ld1(turn, 1))))
    c = cuda.fma(z, ld1(turn, 8), cuda.fma(y, ld1(turn, 5), float32(x * ld1(turn, 2))))
    return a, b, c


@device_function
def quarters(y, x):
    """The angle of (x, y), y not negative, as a number of quarter turns and a rest of at most an eighth, in turns."""
    wide = abs(x)
    if y > wide:
        rest = float32(math.atan(ratio(wide, y)) * float32(ONE_OVER_TURN))
        return int32(1), (rest if x < 0 else -rest)
    rest = float32(math.atan(ratio(y, wide)) * float32(ONE_OVER_TURN))
    return (int32(2), -rest) if x < 0 else (int32(0), rest)


@device_function
def split(position, snap):
    """The whole number below a position, and the rest; 0 if it is nearly whole."""
    below = int32(math.floor(position))
    rest = float32(position - float32(below))
    if rest < snap:
        return below, float32(0)
    if float32(1) - rest < snap:
        return int32(below + 1), float32(0)
    return below, rest


@device_function
def wrapped(column, width):
    """A column, or one up to a turn and a half away, within the image."""
    column = int32(column + width if column < 0 else column)
    column = int32(column - width if column >= width else column)
    return int32(column - width if column >= width else column)


@device_function
def in_row(line, west, rest, height, width, pole):
    """The two sites of a line, which may lie beyond a pole, and the share of the second."""
    beyond = line < 0 or line >= height
    if line < 0:
        line = int32(pole - 1 - line)
    elif line >= height:
        line = int32(2 * height - 1 - pole - line)
    if beyond:
        west = int32(west + (width >> 1))
        if width & 1:
            west = int32(west + 1 if rest >= float32(0.5) else west)
            rest = float32(rest - float32(0.5) if rest >= float32(0.5) else rest + float32(0.5))
    east = west if rest == 0 else int32(west + 1)
    start = int32(line * width)
    return int32(start + wrapped(west, width)), int32(start + wrapped(east, width)), rest


@device_function
def place_equirect(x, y, z, height, width, pole, site, weight):
    """The four sites about a direction, and their weights."""
    k, rest = quarters(abs(y), x)
    if y < 0:
        k, rest = int32(-k), -rest
    # column = (turn + 1/2) W - 1/2, in quarters of a pixel
    fourths = int32(width * (2 + k) - 2)
    snap = float32(SNAP) * float32(width)
    west, across = split(float32(float32(int32(fourths & 3)) * float32(0.25) + rest * float32(width)), snap)
    west = int32(west + (fourths >> 2))
    k, rest = quarters(square_root(float32(x * x + y * y)), z)
    # row = 2 turn (H - pole) - (1 - pole) / 2, in halves of a pixel
    span = int32(height - pole)
    halves = int32(k * span - (1 - pole))
    north, down = split(
        float32(float32(int32(halves & 1)) * float32(0.5) + rest * float32(int32(2 * span))),
        float32(SNAP) * float32(int32(2 * span)),
    )
    north = int32(north + (halves >> 1))
    # A row that is hit exactly is read twice, so that a NaN in the next one, weighted by zero, stays out.
    south = north if down == 0 else int32(north + 1)
    site[0], site[1], right = in_row(north, west, across, height, width, pole)
    up = float32(float32(1) - down)
    weight[0], weight[1] = up * (float32(1) - right), up * right
    site[2], site[3], right = in_row(south, west, across, height, width, pole)
    weight[2], weight[3] = down * (float32(1) - right), down * right


@device_function
def along(offset, size):
    """A position counted from the middle of a side, kept within the outermost pixel centres: whole number and rest."""
    middle = int32(int32(size - 1) >> 1)
    position = float32(offset + float32(int32((size - 1) & 1)) * float32(0.5))
    position = min(max(position, float32(int32(-middle))), float32(int32(size - 1 - middle)))
    below = int32(math.floor(position))
    return int32(below + middle), float32(position - float32(below))


@device_function
def place_tangent(x, y, z, height, width, by_x, by_y, site, weight):
    """The four sites about a direction on a picture; the first is -1 outside it."""
    site[0] = int32(-1)
    if not x > 0:
        return
    across, up = float32(ratio(y, x) * by_x), float32(ratio(z, x) * by_y)
    half_width, half_height = float32(width) * float32(0.5), float32(height) * float32(0.5)
    if not (abs(across) <= half_width and abs(up) <= half_height):
        return
    west, dx = along(across, width)
    north, dy = along(-up, height)
    east, south = int32(min(west + 1, width - 1)), int32(min(north + 1, height - 1))
    site[0], site[1] = int32(north * width + west), int32(north * width + east)
    site[2], site[3] = int32(south * width + west), int32(south * width + east)
    one = float32(1)
    weight[0], weight[1] = (one - dy) * (one - dx), (one - dy) * dx
    weight[2], weight[3] = dy * (one - dx), dy * dx


def _make_kernel(lanes: int, flat: int) -> Any:
    """A thread for 4 channels of a direction or, of other numbers of channels, for all of them."""

    @gpu_kernel(
        "f4* f4* f4* f4* i4 i4 i4 i4 i4 i4 i4 i4 f4 f4",
        threads=THREADS,
        constants=(lanes, flat),
        claims=("LDG.E.128", "STG.E.128") if lanes == 4 else (),
    )
    def read_images(
        image,
        xyz,
        turn,
        y,
        log_vectors,
        channels,
        points,
        height,
        width,
        pole,
        own_points,
        own_turn,
        by_x,
        by_y,
    ):
        t, sample = int32(cuda.threadIdx.x), int32(cuda.blockIdx.z)
        vector = int32(t & ((int32(1) << log_vectors) - 1))
        c = int32(((int32(cuda.blockIdx.y) << log_vectors) + vector) * lanes)
        p = int32(int32(cuda.blockIdx.x) * (int32(THREADS) >> log_vectors) + (t >> log_vectors))
        if c >= channels or p >= points:
            return
        site, weight = cuda.local.array(4, int32), cuda.local.array(4, float32)
        matrix = advance(turn, sample * own_turn)
        a, b, d = turned(advance(xyz, sample * own_points), matrix, p)
        if flat:
            place_tangent(a, b, d, height, width, by_x, by_y, site, weight)
        else:
            place_equirect(a, b, d, height, width, pole, site, weight)
        images, to = advance(image, sample * height * width * channels + c), advance(y, sample * points * channels + c)
        out = int32(p * channels)
        if lanes == 4:
            f = cuda.local.array(4, float32)
            for i in range(4):
                f[i] = float32(0)
            if site[0] >= 0:
                for k in range(4):
                    v0, v1, v2, v3 = load4_nc(images, int32(site[k] * channels))
                    f[0] += weight[k] * v0
                    f[1] += weight[k] * v1
                    f[2] += weight[k] * v2
                    f[3] += weight[k] * v3
            store4(to, out, f[0], f[1], f[2], f[3])
            return
        i = int32(0)
        while i < channels:
            total = float32(0)
            if site[0] >= 0:
                for k in range(4):
                    total += weight[k] * ld1(images, int32(site[k] * channels + i))
            st1(to, int32(out + i), total)
            i = int32(i + 1)

    return read_images


_kernels = {(lanes, flat): _make_kernel(lanes, flat) for lanes in (1, 4) for flat in (0, 1)}


def _directions(images: Any, xyz: Any, rotations: Any) -> tuple[DeviceArray, DeviceArray]:
    """Directions and matrices; they are not looked at, and one that is not finite reads NaN."""
    turns = to_device(np.eye(3, dtype=np.float32)[None]) if rotations is None else rotations
    for name, array, axes in (("xyz", xyz, "P, 3"), ("rotations", turns, "3, 3")):
        fits = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.float32
        if not fits or len(array) not in (1, len(images)) or (array is turns and array.shape[1] != 3):
            raise InputError(
                f"{name} has shape {array.shape} and dtype {array.dtype} for {len(images)} images on the GPU; expected "
                f"float32 (1, {axes}) or ({len(images)}, {axes}): convert with astype('float32') before sc.to_device."
            )
    return xyz, turns


def _read(images: Any, xyz: Any, rotations: Any, pole: int, scale: tuple[float, float] | None) -> DeviceArray:
    xyz, turns = _directions(images, xyz, rotations)
    count, height, width, channels = images.shape
    points = xyz.shape[1]
    if height * width * channels >= 2**31 or points * max(3, channels) >= 2**31:
        raise InputError(
            f"one image has {height} x {width} pixels and {points} directions x {channels} channels; expected fewer "
            "than 2^31 numbers: read it in parts."
        )
    y = empty((count, points, channels), images.dtype)
    lanes = width_of(channels)
    vectors = vectors_of(channels) if lanes == 4 else 1
    chunks = blocks_for(channels, lanes * vectors) if lanes == 4 else 1
    sizes = vectors.bit_length() - 1, channels, points, height, width, pole
    own = 3 * points if len(xyz) > 1 else 0, 9 if len(turns) > 1 else 0
    for some in batches(count):
        grid = blocks_for(points, THREADS // vectors), chunks, some.stop - some.start
        arrays = [images[some], *(a[some] if len(a) > 1 else a for a in (xyz, turns)), y[some]]
        _kernels[lanes, int(scale is not None)](grid, *arrays, *sizes, *own, *(scale or (0.0, 0.0)))
    return y


@definition.sample_equirect.on("cuda")
def _sample_equirect(images: Any, xyz: Any, rotations: Any = None, pole_rows: bool = False) -> DeviceArray:
    """Directions and matrices are float32 on the GPU, and so are positions, see `SNAP`."""
    definition.check_array("images", images, "N, H, W, C")
    Equirect(*images.shape[1:3], pole_rows=pole_rows)
    return _read(images, xyz, rotations, int(pole_rows), None)


@definition.sample_tangent.on("cuda")
def _sample_tangent(images: Any, xyz: Any, extent: tuple[float, float], rotations: Any = None) -> DeviceArray:
    definition.check_array("images", images, "N, H, W, C")
    height, width = images.shape[1:3]
    return _read(images, xyz, rotations, 0, (0.5 * width / extent[0], 0.5 * height / extent[1]))
