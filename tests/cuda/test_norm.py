"""CUDA bodies of the normalisations, in the simulator, against their definitions in float64."""

import numpy as np
import pytest

from spherecnn.kernels import norm
from spherecnn.kernels.gpu import layer_norm, wide_rows
from spherecnn.kernels.gpu.array import DeviceArray, to_device, to_host
from spherecnn.layers import BatchNorm, GroupNorm, InstanceNorm, LayerNorm

RTOL = 2e-6
BATCHES = [(3, 1), (2, 2, 4, 3), (5, 7, 12), (3, 5), (300, 4), (40, 64), (3, 258)]
GROUPS = [((2, 6, 4), 2), ((3, 5, 6), 3), ((2, 8, 3), 3), ((1, 70, 8), 1), ((2, 3, 68), 4), ((2, 12, 2), 1)]
ROWS = [(1, 1), (5, 3), (9, 8), (4, 33), (3, 64), (2, 130), (2, 132), (67, 4), (8, 6), (0, 4)]


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


def test_wide_rows_of_more_moves_than_a_block_has_threads(simulated):
    x, _, weight, bias = random((1, 2, 1032))
    check(norm.group_moments, x, 2)
    mean, var = (m.astype(np.float32) for m in norm.group_moments.definition(wide(x), 2))
    check(norm.group_norm, x, mean, var, weight, bias, 1e-3)


@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_layer_norm_is_its_definition(simulated, shape):
    x, dy, weight, bias = random(shape)
    for w, b in ((weight, bias), (None, None)):
        check(norm.layer_norm, x, w, b, 1e-3)
        mean, rstd = (m.astype(np.float32) for m in norm.layer_norm.definition(wide(x), w, b, 1e-3)[1:])
        check(norm.layer_norm_grad, dy, x, mean, rstd, w)


@pytest.mark.parametrize("depth", [150, 1100])
def test_a_long_row_is_the_work_of_a_block(simulated, monkeypatch, depth):
    monkeypatch.setattr(layer_norm, "LONG", 100)
    x, dy, weight, bias = random((2, depth))
    check(norm.layer_norm, x, weight, bias, 1e-3)
    _, mean, rstd = norm.layer_norm.definition(wide(x), weight, bias, 1e-3)
    check(norm.layer_norm_grad, dy, x, mean.astype(np.float32), rstd.astype(np.float32), weight)


def test_rows_far_from_0(simulated):
    x = random((6, 48))[0] + np.float32(1000)
    y, mean, rstd = on_device(norm.layer_norm, x, None, None, 0.0)
    for ours, theirs in zip((y, mean, rstd), norm.layer_norm.definition(wide(x), None, None, 0.0), strict=True):
        close(ours, theirs)


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


def test_bits_do_not_depend_on_the_order_of_threads():
    from simulated import SimulatedDevice

    from spherecnn.kernels.gpu import device

    x, dy, weight, bias = random((2, 300, 6))
    seen = set()
    for seed in range(3):
        device.push(SimulatedDevice(seed))
        mean, var = on_device(norm.batch_moments, x)
        results = [mean, var, *on_device(norm.batch_norm_grad, dy, x, mean, var, weight, 1e-3, True, True)]
        mean, var = on_device(norm.group_moments, x, 2)
        results += [mean, var, *on_device(norm.group_norm_grad, dy, x, mean, var, weight, 1e-3, True)]
        flat, dflat = x.reshape(-1, 6), dy.reshape(-1, 6)
        y, mean, rstd = on_device(norm.layer_norm, flat, weight, bias, 1e-3)
        results += [y, *on_device(norm.layer_norm_grad, dflat, flat, mean, rstd, weight)]
        seen.add(b"".join(r.tobytes() for r in results))
        device.pop()
    assert len(seen) == 1


def test_gradients_are_the_slopes_of_the_definitions(simulated):
    """Along a random direction, by differences of the float64 definition: batch, group and layer normalisation."""
    x, dy, weight, bias = random((2, 8, 4))
    v = np.random.default_rng(9).standard_normal(x.shape)

    def batch(z):
        return norm.batch_norm.definition(z, *norm.batch_moments.definition(z), weight, bias, 1e-3)

    def group(z):
        return norm.group_norm.definition(z, *norm.group_moments.definition(z, 2), weight, bias, 1e-3)

    def layer(z):
        return norm.layer_norm.definition(z.reshape(-1, 4), weight, bias, 1e-3)[0].reshape(z.shape)

    mean, var = on_device(norm.batch_moments, x)
    of_batch = on_device(norm.batch_norm_grad, dy, x, mean, var, weight, 1e-3, True, True)[0]
    mean, var = on_device(norm.group_moments, x, 2)
    of_group = on_device(norm.group_norm_grad, dy, x, mean, var, weight, 1e-3, True)[0]
    flat, dflat = x.reshape(-1, 4), dy.reshape(-1, 4)
    _, mean, rstd = on_device(norm.layer_norm, flat, weight, bias, 1e-3)
    of_layer = on_device(norm.layer_norm_grad, dflat, flat, mean, rstd, weight)[0].reshape(x.shape)
    for f, dx in ((batch, of_batch), (group, of_group), (layer, of_layer)):
        slope = (dy * (f(wide(x) + 1e-5 * v) - f(wide(x) - 1e-5 * v))).sum() / 2e-5
        np.testing.assert_allclose((dx * v).sum(), slope, rtol=1e-4)


@pytest.mark.parametrize("offset", [0, 1000])
def test_moments_of_ten_million_values_keep_six_digits(offset):
    """The arithmetic of `moments` and `join` in float32, by NumPy: the partition of 10^7 rows of one channel."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal(10_000_000, np.float32) + np.float32(offset)
    x[0] = 0
    columns = wide_rows.geometry(1, x.size, 1).chunks * wide_rows.THREADS * 4
    rows = x[: x.size // (4 * columns) * 4 * columns].reshape(-1, 4, columns)
    pivot, quarter, four = rows[0, 0], np.float32(0.25), np.float32(4)
    mean, square = np.zeros((2, columns), np.float32)
    for n, block in enumerate(rows):
        off = block - pivot
        own = quarter * ((off[0] + off[1]) + (off[2] + off[3]))
        off = (off - own) ** 2
        far, share = own - mean, np.float32(1 / (n + 1))
        mean, square = (
            mean + far * share,
            square + ((off[0] + off[1]) + (off[2] + off[3])) + far * far * (4 * n * share),
        )
    count = np.full(columns, four * len(rows), np.float32)
    mean = (pivot - pivot[0]) + mean
    while count.size > 1:
        if count.size % 2:
            count, mean, square = (np.append(a, np.float32(0)) for a in (count, mean, square))
        (n, o), (m, p), (s, t) = (a.reshape(-1, 2).T for a in (count, mean, square))
        share = np.divide(o, n + o, where=n + o > 0, out=np.zeros_like(o))
        off = p - m
        count, mean, square = n + o, m + off * share, s + t + off * off * (n * share)
    assert square.dtype == np.float32
    exact = rows.astype(np.float64)
    assert pivot[0] + mean[0] == pytest.approx(exact.mean(), rel=1e-6, abs=1e-6)
    assert square[0] / count[0] == pytest.approx(exact.var(), rel=1e-6)


def test_layers_train_on_the_device_as_on_the_host(simulated):
    x, dy, _, _ = random((3, 8, 4))
    for make in (lambda: BatchNorm(4), lambda: GroupNorm(2, 4), lambda: InstanceNorm(4), lambda: LayerNorm(4)):
        host, device = make(), make().to("cuda")
        y, backward = host.forward(x, train=True)
        device_y, device_backward = device.forward(to_device(x), train=True)
        close(to_host(device_y), y)
        close(to_host(device_backward(to_device(dy))), backward(dy))
        for name, param in host.named_params().items():
            close(to_host(device.named_params()[name].grad), param.grad)
        for name, array in host.state().items():
            close(to_host(device.state()[name]), array)
        close(to_host(device(to_device(x))), host(x))
