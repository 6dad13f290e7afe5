"""CUDA bodies of what layers do with arrays, in the simulator; what was drawn, cut and turned to the bit."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.kernels import arrays
from spherecnn.kernels.gpu.array import to_device, to_host
from spherecnn.kernels.gpu.axis_sums import LEAST_ROWS, THREADS
from spherecnn.kernels.gpu.elements import divider


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "value"), [((3, 5), 0.0), ((3, 5), -0.25), ((2, 1100), 1.5), ((), 3.0), ((0, 3), 1.0)]
)
def test_full(simulated, shape, value):
    y = to_host(arrays.full(shape, value, to_device(numbers(3))))
    np.testing.assert_array_equal(y, np.full(shape, value, np.float32))


def test_full_of_another_dtype(simulated):
    like = to_device(numbers(3))
    for value, dtype in [(7, np.int32), (True, np.bool_), (255, np.uint8)]:
        y = to_host(arrays.full((5,), value, like, np.dtype(dtype)))
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, np.full(5, value, dtype))


SHAPES = [((2, 3, 8), (2, 5, 8), 1), ((2, 3, 8), (2, 3, 12), -1), ((2, 3), (2, 4), 1), ((5, 4), (2, 4), 0)]
SHAPES += [((2, 0, 3), (2, 2, 3), 1), ((3, 2, 1, 5), (3, 4, 1, 5), 1)]


@pytest.mark.parametrize(("one", "other", "axis"), SHAPES)
def test_what_is_joined_is_cut_again(simulated, one, other, axis):
    for dtype in (np.float32, np.int32, np.uint8, np.bool_):
        a, b = (100 * numbers(one)).astype(dtype), (100 * numbers(other, 1)).astype(dtype)
        joined = arrays.concatenate([to_device(a), to_device(b)], axis)
        assert joined.dtype == dtype
        np.testing.assert_array_equal(to_host(joined), np.concatenate([a, b], axis))
        again = arrays.split(joined, (one[axis], other[axis]), axis)
        for part, expected in zip(again, (a, b), strict=True):
            np.testing.assert_array_equal(to_host(part), expected)


TURNS = [
    ((3, 5), (1, 0)),
    ((33, 70), (1, 0)),  # by tiles
    ((2, 20, 17), (0, 2, 1)),
    ((2, 5, 7, 8), (0, 3, 1, 2)),
    ((9, 3, 4, 8), (3, 0, 1, 2)),
    ((9, 3, 4, 8), (1, 2, 3, 0)),
    ((2, 3, 4, 8), (0, 2, 1, 3)),  # by pieces of 16 bytes
    ((2, 3, 2, 3, 4), (4, 2, 0, 3, 1)),
    ((1, 4, 1, 5), (2, 1, 0, 3)),
    ((3, 4), (0, -1)),
    ((0, 4), (1, 0)),
]


@pytest.mark.parametrize(("shape", "axes"), TURNS)
def test_transpose(simulated, shape, axes):
    for dtype in (np.float32, np.uint8):
        x = (100 * numbers(shape)).astype(dtype)
        y = to_host(arrays.transpose(to_device(x), axes))
        np.testing.assert_array_equal(y, x.transpose(axes))
        assert y.dtype == dtype


@pytest.mark.parametrize(
    ("shape", "times", "axis"), [((3, 4), 5, 1), ((9, 1, 1), 6, 2), ((5, 3, 8), 2, 0), ((4,), 3, 0)]
)
def test_repeat(simulated, shape, times, axis):
    x = numbers(shape)
    np.testing.assert_array_equal(to_host(arrays.repeat(to_device(x), times, axis)), np.repeat(x, times, axis))


ROWS = THREADS * LEAST_ROWS // 8
SUMS = [
    ((5,), (0,)),
    ((700,), (0,)),
    ((3, 1111), (1,)),
    ((3 * ROWS, 8), (0,)),  # three slices
    ((2, 300, 5), (1,)),
    ((2, 19, 40), (1,)),
    ((3, 4, 20, 5), (0, 2)),
    ((9, 6, 1), (1, 2)),
    ((3, 4, 5), (0, 1, 2)),
    ((3, 1, 5), (1,)),
    ((0, 4), (0,)),
]


@pytest.mark.parametrize(("shape", "axes"), SUMS)
def test_sum_over(simulated, shape, axes):
    x = numbers(shape) + np.float32(100)
    y = to_host(arrays.sum_over(to_device(x), axes))
    expected = x.astype(np.float64).sum(axis=axes)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-7)


def test_sums_lose_nothing_to_large_numbers(simulated):
    x = np.tile(np.array([1e8, 1, -1e8, 1], np.float32), 300)
    np.random.default_rng(0).shuffle(x)  # each thread, and each step of the tree, loses some
    assert float(arrays.sum_over(to_device(x), (0,))) == 600


def test_sums_of_what_is_not_finite(simulated):
    x = np.zeros((40, 4), np.float32)
    x[3, 0], x[30, 1], x[7, 2], x[5, 3], x[6, 3] = np.inf, -np.inf, np.nan, np.inf, -np.inf
    y = to_host(arrays.sum_over(to_device(x), (0,)))
    np.testing.assert_array_equal(y, [np.inf, -np.inf, np.nan, np.nan])


def test_sums_are_the_same_in_every_order_of_threads():
    from simulated import SimulatedDevice

    from spherecnn.kernels.gpu import device

    x, found = numbers((1500, 3)), []
    for seed in (0, 1, 5):
        device.push(SimulatedDevice(seed))
        found.append(to_host(arrays.sum_over(to_device(x), (0,))))
        device.pop()
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


@pytest.mark.parametrize("own", [(2, 3, 8), (3, 8), (1, 3, 8), (8,), (1, 1, 8), ()])
@pytest.mark.parametrize("channels", [8, 7])
def test_accumulate(simulated, own, channels):
    own = tuple(channels if n == 8 else n for n in own)
    total, x = numbers((2, 3, channels)), numbers(own, 1)
    there = to_device(total)
    arrays.accumulate(there, to_device(x))
    np.testing.assert_array_equal(to_host(there), total + x)


def test_accumulate_of_a_part_and_of_itself(simulated):
    total, x = numbers((4, 1031)), numbers((1031,), 1)
    there = to_device(total)
    arrays.accumulate(there[2], to_device(x))  # begins between two moves of 16 bytes
    total[2] += x
    arrays.accumulate(there, there)
    np.testing.assert_array_equal(to_host(there), 2 * total)


@pytest.mark.parametrize("channels", [8, 5])
def test_scale_sites(simulated, channels):
    x, factors = numbers((2, 13, channels)), numbers(13, 1)
    y = to_host(arrays.scale_sites(to_device(x), to_device(factors)))
    np.testing.assert_array_equal(y, x * factors[:, None])


def test_move_towards(simulated):
    running, now = numbers(300), numbers(300, 1)
    there = to_device(running)
    arrays.move_towards(there, to_device(now), 0.1, 1.25)
    expected = running.astype(np.float64) + 0.1 * (1.25 * now.astype(np.float64) - running)
    np.testing.assert_allclose(to_host(there), expected, rtol=1e-6, atol=1e-7)


def test_precise_is_a_copy(simulated):
    x = numbers(5)
    there = to_device(x)
    copied = arrays.precise(there)
    arrays.accumulate(there, there)
    np.testing.assert_array_equal(to_host(copied), x)


def test_arrays_that_do_not_fit_are_refused(simulated):
    a, b = to_device(numbers((2, 3))), to_device(numbers((3, 2)))
    with pytest.raises(InputError, match="differ in that axis only"):
        arrays.concatenate([a, b], 0)
    with pytest.raises(InputError, match=r"cut into \(1, 1\)"):
        arrays.split(a, (1, 1), 1)
    with pytest.raises(InputError, match="each axis once"):
        arrays.transpose(a, (0, 0))
    with pytest.raises(InputError, match="each axis once"):
        arrays.sum_over(a, (0, -2))
    with pytest.raises(InputError, match="without some of its first axes"):
        arrays.accumulate(a, b)
    with pytest.raises(InputError, match="one for each site"):
        arrays.scale_sites(a.reshape(1, 2, 3), to_device(numbers(3)))
    with pytest.raises(InputError, match="sum_over was given int32"):
        arrays.sum_over(to_device(np.arange(3)), (0,))


def test_multiplication_divides():
    for d in [1, 2, 3, 5, 7, 13, 64, 1000, 65535, 2**30 - 1, 2**30]:
        multiplier, shift = divider(d)
        assert 0 <= multiplier < 2**32
        for n in {0, 1, d - 1, d, 7 * d - 1, 7 * d, 2**30, 2**31 - 1} | set(range(0, 2**31, 2**31 // 97)):
            if n < 2**31:
                upper = (n * multiplier >> 32) + n
                assert upper < 2**32
                assert upper >> shift == n // d
