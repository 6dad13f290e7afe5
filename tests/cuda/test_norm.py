"""CUDA bodies of the normalisations, in the simulator, against their definitions in float64."""

import numpy as np
import pytest

from spherecnn.kernels import norm
from spherecnn.kernels.gpu.array import DeviceArray, to_device, to_host

RTOL = 2e-6
BATCHES = [(3, 1), (2, 2, 4, 3), (5, 7, 12), (3, 5), (300, 4), (40, 64), (2, 520), (3, 1030)]
GROUPS = [((2, 6, 4), 2), ((3, 5, 6), 3), ((2, 8, 3), 3), ((1, 70, 8), 1), ((2, 3, 264), 4), ((2, 12, 2), 1)]
ROWS = [(1, 1), (5, 3), (9, 8), (4, 33), (3, 64), (2, 130), (3, 516), (2, 2052), (67, 4)]


def wide(a):
    return a.astype(np.float64) if getattr(a, "dtype", None) == np.float32 else a


def on_device(operation, *args):
    """The results of an op on device arrays, on the host."""
    results = operation(*(to_device(a) if isinstance(a, np.ndarray) else a for a in args))
    several = results if isinstance(results, tuple) else (results,)
    assert all(r is None or isinstance(r, DeviceArray) for r in several)
    return [None if r is None else to_host(r) for r in several]


def close(ours, theirs, rtol=RTOL):
    if theirs is None:
        assert ours is None
        return
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * np.abs(theirs).max(initial=0.1))


def check(operation, *args, rtol=RTOL):
    expected = operation.definition(*(wide(a) for a in args))
    ours = on_device(operation, *args)
    for one, other in zip(ours, expected if isinstance(expected, tuple) else (expected,), strict=True):
        close(one, other, rtol)


def random(shape, seed=0):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape)).astype(np.float32)
    weight, bias = rng.uniform(0.5, 2, (2, shape[-1])).astype(np.float32)
    return 3 * x + np.float32(0.7), dy, weight, bias


@pytest.mark.parametrize("shape", BATCHES, ids=str)
def test_batch_norm_is_its_definition(simulated, shape):
    x, dy, weight, bias = random(shape)
    check(norm.batch_moments, x)
    mean, var = (m.astype(np.float32) for m in norm.batch_moments.definition(wide(x)))
    for w, b in ((weight, bias), (None, None)):
        check(norm.batch_norm, x, mean, var, w, b, 1e-3)
        check(norm.batch_norm_grad, dy, x, mean, var, w, 1e-3, True, True)
        check(norm.batch_norm_grad, dy, x, mean, var, w, 1e-3, False, True)
    check(norm.batch_norm_grad, dy, x, mean, var, weight, 1e-3, True, False)


@pytest.mark.parametrize(("shape", "groups"), GROUPS, ids=str)
def test_group_norm_is_its_definition(simulated, shape, groups):
    x, dy, weight, bias = random(shape)
    check(norm.group_moments, x, groups)
    mean, var = (m.astype(np.float32) for m in norm.group_moments.definition(wide(x), groups))
    for w, b in ((weight, bias), (None, None)):
        check(norm.group_norm, x, mean, var, w, b, 1e-3)
        check(norm.group_norm_grad, dy, x, mean, var, w, 1e-3, True)
    check(norm.group_norm_grad, dy, x, mean, var, weight, 1e-3, False)


@pytest.mark.parametrize("shape", [(4096, 1), (700, 3), (700, 4), (130, 16)], ids=str)
def test_moments_far_from_0(simulated, shape):
    """Also with a first row, and a last one, that are far from the others."""
    x = random(shape)[0] + np.float32(1000)
    check_moments(x)
    x[0] = 0
    x[-1] = -5000
    check_moments(x)


def check_moments(x):
    for ours, theirs in zip(on_device(norm.batch_moments, x), norm.batch_moments.definition(wide(x)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    grouped = norm.group_moments.definition(wide(x[None]), 1)
    for ours, theirs in zip(on_device(norm.group_moments, x[None], 1), grouped, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_constant_channel_has_no_variance(simulated):
    mean, var = on_device(norm.batch_moments, np.full((500, 4), 0.1, np.float32))
    np.testing.assert_array_equal(mean, np.float32(0.1))
    np.testing.assert_array_equal(var, 0)


def test_arrays_that_do_not_start_at_16_bytes(simulated):
    x, dy, weight, bias = random((3, 5, 9))
    parts = [to_device(a)[1:] for a in (x, dy)]
    mean, var = norm.group_moments(parts[0], 3)
    y = norm.group_norm(parts[0], mean, var, to_device(weight), to_device(bias), 1e-3)
    dx, _, _ = norm.group_norm_grad(parts[1], parts[0], mean, var, to_device(weight), 1e-3, True)
    mean, var = norm.group_moments.definition(wide(x[1:]), 3)
    close(to_host(y), norm.group_norm.definition(wide(x[1:]), mean, var, weight, bias, 1e-3))
    close(to_host(dx), norm.group_norm_grad.definition(wide(dy[1:]), wide(x[1:]), mean, var, weight, 1e-3, True)[0])


def test_nan_stays_in_its_channel(simulated):
    x, _, weight, bias = random((40, 8))
    x[7, 2] = np.nan
    mean, var = on_device(norm.batch_moments, x)
    y = on_device(norm.batch_norm, x, mean, var, weight, bias, 1e-3)[0]
    for ours in (mean, var):
        assert np.isnan(ours).tolist() == [k == 2 for k in range(8)]
    assert (np.isnan(y).all(axis=0) == (np.arange(8) == 2)).all()
    assert not np.isnan(np.delete(y, 2, axis=1)).any()
