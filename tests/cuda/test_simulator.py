"""The simulator finds the bugs that are planted here, and lets correct kernels pass."""

import inspect
import math

import numpy as np
import pytest
from emulators import EMULATORS
from simulated_values import SimulationError
from simulator import simulate

from spherecnn.kernels.cuda import cuda, float32, int32, uint32
from spherecnn.kernels.gpu import intrinsics
from spherecnn.kernels.gpu.intrinsics import (
    atomic_add_int,
    bits_f32,
    cp_async16,
    cp_async_commit,
    cp_async_wait,
    cvt_tf32,
    f32_bits,
    ld1,
    ldmatrix_x4,
    load4_nc,
    mma_bf16,
    mma_tf32,
    pack_bf16x2,
    st1,
    st2,
)

SEEDS = [0, 1, 2, 3]
ROWS, COLUMNS, STEP, LD = 32, 8, 16, 20  # a tile of C, and what a stage holds of a row of A or B, padded
TILE = (ROWS + COLUMNS) * LD


def fetch(stage, at, a, b, first, depth, k, tid):
    row, quad = tid >> 2, (tid & 3) * 4
    for r in (row, row + 16):
        cp_async16(stage, at + r * LD + quad, a, (first + r) * depth + k + quad, 16)
    if row < COLUMNS:
        cp_async16(stage, at + (ROWS + row) * LD + quad, b, row * depth + k + quad, 16)


def product(a, b, c, depth):
    """C (blocks of 32 x 8) = A B^T, two warps, copies one stage ahead."""
    stage = cuda.shared.array(0, float32)
    tid = cuda.threadIdx.x
    lane = tid & 31
    down = (tid >> 5) * 16
    first = cuda.blockIdx.x * ROWS
    g, t = lane >> 2, lane & 3
    acc = cuda.local.array(4, float32)
    for i in range(4):
        acc[i] = float32(0)
    fetch(stage, 0, a, b, first, depth, 0, tid)
    cp_async_commit()
    steps = depth // STEP
    for step in range(steps):
        cp_async_wait(0)
        cuda.syncthreads()
        if step + 1 < steps:
            fetch(stage, ((step + 1) & 1) * TILE, a, b, first, depth, (step + 1) * STEP, tid)
        cp_async_commit()
        at = (step & 1) * TILE
        for k in range(0, STEP, 8):
            f = ldmatrix_x4(stage, at + (down + (lane & 15)) * LD + k + ((lane >> 4) << 2))
            p = at + (ROWS + g) * LD + k + t
            d = mma_tf32(
                *(f[0], f[1], f[2], f[3]),
                *(cvt_tf32(ld1(stage, p)), cvt_tf32(ld1(stage, p + 4))),
                *(acc[0], acc[1], acc[2], acc[3]),
            )
            for i in range(4):
                acc[i] = d[i]
    out = (first + down + g) * COLUMNS + 2 * t
    st2(c, out, acc[0], acc[1])
    st2(c, out + 8 * COLUMNS, acc[2], acc[3])


def mutated(function, old, new):
    """The function with part of its text replaced."""
    text = inspect.getsource(function)
    assert text.count(old) >= 1
    names = dict(function.__globals__)
    exec(compile(text.replace(old, new, 1), "planted", "exec"), names)
    return names[function.__name__]


def run_product(function, seed):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 9, (n, 48)).astype(np.float32) for n in (64, 8))  # exact in TF32
    c = np.full((64, 8), np.nan, np.float32)
    simulate(function, 2, 64, [a.ravel(), b.ravel(), c.ravel(), 48], shared=2 * TILE * 4, seed=seed)
    return c, a @ b.T


@pytest.mark.parametrize("seed", SEEDS)
def test_a_correct_product_passes(seed):
    np.testing.assert_array_equal(*run_product(product, seed))


PLANTED = {
    "missing barrier": ("        cuda.syncthreads()\n", "", "race|asynchronous copy is still"),
    "missing wait": ("cp_async_wait(0)", "cp_async_wait(1)", "asynchronous copy is still writing"),
    "copy over what is read": ("((step + 1) & 1)", "(step & 1)", "asynchronous copy is still writing"),
    "divergent barrier": (
        "        cuda.syncthreads()\n",
        "        if tid < 32: cuda.syncthreads()\n",
        "divergent|race",
    ),
    "misaligned store": ("out + 8 * COLUMNS", "out + 8 * COLUMNS - 1", "misaligned access of 8 bytes"),
    "misaligned matrix": ("k + ((lane >> 4) << 2)", "k + (lane >> 4)", "misaligned access of 16 bytes"),
    "out of bounds": ("cuda.blockIdx.x * ROWS", "(cuda.blockIdx.x + 1) * ROWS", r"which has 3072.*block \(1, 0, 0\)"),
    "sums that start nowhere": ("        acc[i] = float32(0)\n", "        pass\n", "read before it is written"),
    "float64": ("acc[i] = d[i]", "acc[i] = d[i] * 0.5", "is a float64"),
    "float64 stored": ("float32(0)", "0 / 1", "which is a Float64"),
    "half a warp": (
        "        cp_async_commit()\n        at",
        "        if lane < 16: cuda.syncwarp()\n        at",
        "wait for",
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", PLANTED)
def test_planted_bugs_are_found(name, seed):
    old, new, message = PLANTED[name]
    with pytest.raises(SimulationError, match=message):
        run_product(mutated(product, old, new), seed)


@pytest.mark.parametrize(("old", "new"), [("k + t", "k + g"), ("p + 4", "p + 3"), ("2 * t", "2 * (t ^ 1)")])
def test_a_wrong_fragment_gives_a_wrong_product(old, new):
    found, expected = run_product(mutated(product, old, new), 0)
    assert not np.array_equal(found, expected)


def bf16_product(a, b, c):
    lane = cuda.threadIdx.x
    g, t = lane >> 2, lane & 3
    f = cuda.local.array(6, uint32)
    for i in range(4):
        p = (g + (i & 1) * 8) * 16 + 2 * t + (i >> 1) * 8
        f[i] = pack_bf16x2(ld1(a, p + 1), ld1(a, p))
    for i in range(2):
        p = g * 16 + 2 * t + i * 8
        f[4 + i] = pack_bf16x2(ld1(b, p + 1), ld1(b, p))
    zero = float32(0)
    d = mma_bf16(f[0], f[1], f[2], f[3], f[4], f[5], zero, zero, zero, float32(1))
    for i in range(4):
        st1(c, (g + (i >> 1) * 8) * 8 + 2 * t + (i & 1), d[i])


def test_bf16_product():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-100, 101, (n, 16)).astype(np.float32) for n in (16, 8))  # 7 bits: exact
    c = np.full((16, 8), np.nan, np.float32)
    simulate(bf16_product, 1, 32, [a.ravel(), b.ravel(), c.ravel()])
    expected = a @ b.T
    expected[8:, 1::2] += 1
    np.testing.assert_array_equal(c, expected)


def block_sum(x, y, n):
    """Sums by shuffles, then over the warps by shared memory."""
    parts = cuda.shared.array(4, float32)
    tid = cuda.threadIdx.x
    i = cuda.blockIdx.x * cuda.blockDim.x + tid
    s = ld1(x, i) if i < n else float32(0)
    distance = 16
    while distance > 0:
        s += cuda.shfl_xor_sync(0xFFFFFFFF, s, distance)
        distance >>= 1
    if tid & 31 == 0:
        parts[tid >> 5] = s
    cuda.syncthreads()
    if tid == 0:
        st1(y, cuda.blockIdx.x, parts[0] + parts[1] + parts[2] + parts[3])


def test_sums_of_warps_and_blocks():
    x, y = np.arange(300, dtype=np.float32), np.full(3, np.nan, np.float32)
    for seed in SEEDS:
        simulate(block_sum, 3, 128, [x, y, 300], seed=seed)
        np.testing.assert_array_equal(y, [8128, 24512, 12210])  # sums of 0-127, 128-255, 256-299
    with pytest.raises(SimulationError, match="race: "):
        simulate(mutated(block_sum, "    cuda.syncthreads()\n", ""), 3, 128, [x, y, 300], seed=0)
    with pytest.raises(SimulationError, match="divergent barrier: 64 wait at syncthreads in line 13"):
        simulate(mutated(block_sum, "cuda.syncthreads()", "if tid < 64: cuda.syncthreads()"), 3, 128, [x, y, 300])
    with pytest.raises(SimulationError, match="mask"):
        simulate(mutated(block_sum, "0xFFFFFFFF", "0x0000FFFF"), 3, 128, [x, y, 300])


def votes(x, out):
    i = cuda.threadIdx.x
    positive = ld1(x, i) > float32(0)
    st1(out, i, int32(cuda.ballot_sync(0xFFFFFFFF, positive)))
    st1(out, 32 + i, cuda.syncthreads_count(positive))
    below = cuda.shfl_up_sync(0xFFFFFFFF, i, 1)
    st1(out, 64 + i, cuda.shfl_sync(0xFFFFFFFF, below, 5))
    st1(out, 96 + i, int32(cuda.any_sync(0xFFFFFFFF, positive)) + 2 * int32(cuda.all_sync(0xFFFFFFFF, positive)))


def test_votes():
    x, out = -np.ones(32, np.float32), np.zeros(128, np.int32)
    x[[0, 3]] = 1
    simulate(votes, 1, 32, [x, out], seed=2)
    assert [set(out[i : i + 32]) for i in (0, 32, 64, 96)] == [{9}, {2}, {4}, {1}]


def neighbours(x, y):
    tid = cuda.threadIdx.x
    st1(y, tid, ld1(x, tid))
    cuda.syncthreads()
    st1(x, tid, ld1(y, (tid + 1) & 63))


def test_races_in_global_memory():
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    simulate(neighbours, 1, 64, [x, y], seed=2)
    np.testing.assert_array_equal(x, np.roll(np.arange(64), -1))
    with pytest.raises(SimulationError, match="race: write over what thread 0 read"):
        simulate(mutated(neighbours, "    cuda.syncthreads()\n", ""), 1, 64, [x, y])
    with pytest.raises(SimulationError, match="of another block"):
        simulate(neighbours, 2, 64, [x, y])
    with pytest.raises(SimulationError, match="race: write over what thread 0 read"):
        simulate(mutated(neighbours, "ld1(y,", "ld1(x,"), 1, 64, [x, y])


def through_two_paths(x, y):
    v = load4_nc(x, 0)
    st1(y, 0, v[3])
    st1(y, 1, load4_nc(y, 0)[1])


def test_the_read_only_path_is_only_for_what_is_not_written():
    x, y = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
    with pytest.raises(SimulationError, match="load4_nc of element 0 of argument 1, which this kernel writes"):
        simulate(through_two_paths, 1, 1, [x, y])
    assert y[0] == 3


def counted(n, out):
    st1(out, atomic_add_int(n, 0, 1), cuda.threadIdx.x)


def test_integer_atomics():
    n, out = np.zeros(1, np.int32), np.full(64, -1, np.int32)
    simulate(counted, 1, 64, [n, out], seed=2)
    assert n[0] == 64
    assert sorted(out) == list(range(64))
    with pytest.raises(SimulationError, match="which is float"):
        simulate(counted, 1, 64, [np.zeros(1, np.float32), out])


def numbers(x, y, k):
    a = ld1(x, 0)
    st1(y, 0, math.exp(a))
    st1(y, 1, max(a, bits_f32(uint32(0x7FC00000))))
    st1(y, 2, float32(k // 2))


def test_numbers():
    x, y = np.array([0.5], np.float32), np.zeros(3, np.float32)
    simulate(numbers, 1, 1, [x, y, 7])
    np.testing.assert_allclose(y, [1.6487213, 0.5, 3], rtol=1e-6)  # max drops NaN, as the GPU's
    for old, new, message in (
        ("math.exp(a)", "math.exp(k)", "not a float32"),
        ("float32(k // 2)", "k / 2", "not a float32|which is a float"),
        ("float32(k // 2)", "k", "which is a int"),
        ("float32(k // 2)", "float32(int32(k << 30))", "does not fit an int32"),
        ("float32(k // 2)", "float(k)", "float64"),
        ("ld1(x, 0)", "cuda.nothing", "no cuda.nothing"),
    ):
        with pytest.raises(SimulationError, match=message):
            simulate(mutated(numbers, old, new), 1, 1, [x, y, 7])
    with pytest.raises(SimulationError, match="float64; kernels take"):
        simulate(numbers, 1, 1, [np.zeros(1), y, 7])


def test_rounding_of_operands():
    def tf32(x):
        return float(np.uint32(EMULATORS["cvt_tf32"](np.float32(x))).view(np.float32))

    assert tf32(1 + 2**-11) == 1 + 2**-10  # ties away from zero
    assert tf32(-1 - 2**-11) == -1 - 2**-10
    assert tf32(1 + 2**-12) == 1
    assert math.isnan(tf32(math.nan))
    bf16 = EMULATORS["pack_bf16x2"](np.float32(1 + 2**-8), np.float32(1 + 3 * 2**-8))  # ties to even
    assert bf16 == 0x3F80 << 16 | 0x3F82
    assert EMULATORS["pack_bf16x2"](np.float32(np.nan), np.float32(-2)) == 0x7FFF << 16 | 0xC000
    assert EMULATORS["f32_bits"](np.float32(-1)) == 0xBF800000


def test_every_intrinsic_has_an_emulator():
    names = {name for name, value in vars(intrinsics).items() if type(value).__name__ == "_Intrinsic"}
    assert names == set(EMULATORS)


def test_bits():
    x, y = np.array([1.5], np.float32), np.zeros(1, np.uint32)

    def bits(x, y):
        st1(y, 0, f32_bits(ld1(x, 0)))

    simulate(bits, 1, 1, [x, y])
    assert y[0] == 0x3FC00000
