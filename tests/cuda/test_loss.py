"""CUDA bodies of the losses, in the simulator, against their definitions in float64."""

import math

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.kernels import loss
from spherecnn.kernels.gpu import reduce
from spherecnn.kernels.gpu.array import DeviceArray, to_device, to_host
from spherecnn.training import losses

RTOL = 1e-6
ELEMENTWISE = {
    "mse_loss": (),
    "l1_loss": (),
    "huber_loss": (0.7,),
    "berhu_loss": (0.3,),
    "binary_cross_entropy_with_logits": (3.0,),
}
WEIGHTS = {"sites": (2, 5, 7, 1), "area": (1, 5, 7, 1), "one": (1, 1, 1, 1), "columns": (7, 1), "full": (2, 5, 7, 4)}


def wide(a):
    return a.astype(np.float64) if getattr(a, "dtype", None) == np.float32 else a


def on_device(operation, *args):
    """The results of an op on device arrays, on the host."""
    moved = (to_device(a) if isinstance(a, np.ndarray) else a for a in args)
    results = operation(*moved)
    assert all(isinstance(r, DeviceArray) for r in results)
    return [to_host(r) for r in results]


def check(operation, *args, rtol=RTOL):
    with np.errstate(all="ignore"):
        expected = operation.definition(*(wide(a) for a in args))
    for ours, theirs in zip(on_device(operation, *args), expected, strict=True):
        assert ours.dtype == np.float32
        assert ours.shape == np.shape(theirs)
        scale = np.abs(theirs, where=np.isfinite(theirs), out=np.zeros(np.shape(theirs))).max(initial=0.3)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_loss_is_its_definition(simulated, name):
    operation, parameter = getattr(loss, name), ELEMENTWISE[name]
    rng = np.random.default_rng(0)
    for shape in [(1,), (0, 3), (3, 5), (2, 5, 7, 4), (1, 4099)]:  # the last: several blocks and a tail
        x, target = (2 * rng.standard_normal(shape)).astype(np.float32), rng.random(shape).astype(np.float32)
        check(operation, x, target, None, *parameter)


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_repeat_as_numpy_broadcasts(simulated, kind):
    rng = np.random.default_rng(1)
    x, target = rng.standard_normal((2, 2, 5, 7, 4)).astype(np.float32)
    check(loss.huber_loss, x, target, rng.random(WEIGHTS[kind]).astype(np.float32), 0.5)
    site = WEIGHTS[kind][:-1]  # one channel, and three
    for channels in (1, 3):
        weight = rng.random((*site, 1)).astype(np.float32)
        check(loss.mse_loss, x[..., :channels].copy(), target[..., :channels].copy(), weight)


def test_arrays_that_do_not_start_at_16_bytes_are_read_one_by_one(simulated):
    rng = np.random.default_rng(2)
    x, target = rng.standard_normal((2, 3, 5)).astype(np.float32)
    value, dx = loss.mse_loss(to_device(x)[1:], to_device(target)[1:])
    expected, slope = loss.mse_loss.definition(wide(x[1:]), wide(target[1:]))
    np.testing.assert_allclose(float(value), expected, rtol=RTOL)
    np.testing.assert_allclose(to_host(dx), slope, rtol=RTOL)


def test_nan_and_large_values_pass_as_in_the_definitions(simulated):
    x, target = np.array([np.nan, 1, -2, 0], np.float32), np.zeros(4, np.float32)
    for name, parameter in ELEMENTWISE.items():
        value, dx = on_device(getattr(loss, name), x, target, None, *parameter)
        assert np.isnan(value), name
        assert np.isnan(dx).tolist() == [True, False, False, False]
    x, target = np.array([-1e4, 1e4, -1e4, 1e4], np.float32), np.array([0, 1, 1, 0], np.float32)
    value, dx = on_device(loss.binary_cross_entropy_with_logits, x, target)
    assert value == 2e4
    np.testing.assert_array_equal(dx, [0, 0, -1, 1])


def test_slope_of_l1_is_0_where_it_bends(simulated):
    _, dx = on_device(loss.l1_loss, np.array([1, 2, 3], np.float32), np.array([2, 2, 2], np.float32))
    np.testing.assert_array_equal(dx, [-1, 0, 1])


def test_berhu_takes_its_threshold_from_memory_and_copies_nothing(simulated):
    rng = np.random.default_rng(3)
    x, target = rng.standard_normal((2, 3, 700)).astype(np.float32)
    weight = (rng.random((3, 1)) > 0.3).astype(np.float32)
    places = [to_device(a) for a in (x, target, weight)]
    uploaded = simulated.uploaded
    threshold = loss.berhu_threshold(*places, 0.2)
    value, dx = loss.berhu_loss(*places, threshold)
    assert (simulated.uploaded, simulated.downloaded) == (uploaded, 0)
    share = 0.2 * np.abs((x - target)[weight[:, 0] > 0]).max()
    np.testing.assert_allclose(float(threshold), share, rtol=1e-6)
    expected, slope = loss.berhu_loss.definition(wide(x), wide(target), weight, share)
    np.testing.assert_allclose(float(value), expected, rtol=RTOL)
    np.testing.assert_allclose(to_host(dx), slope, rtol=RTOL)
    assert float(loss.berhu_threshold(places[0], places[0])) == 1
    x[1, 5] = np.nan
    assert math.isnan(float(loss.berhu_threshold(to_device(x), places[1])))


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 10, 16, 37, 64, 131])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_definition(simulated, classes, smoothing):
    rng = np.random.default_rng(classes)
    shape = (3, 11) if classes < 30 else (2, 3)
    logits = (4 * rng.standard_normal((*shape, classes))).astype(np.float32)
    labels = rng.integers(0, classes, shape).astype(np.int32)
    labels[0, 1] = 255
    class_weight = rng.uniform(0.5, 2, classes).astype(np.float32)
    for weight in (None, rng.random(shape).astype(np.float32), rng.random(shape[-1:]).astype(np.float32)):
        check(loss.cross_entropy, logits, labels, weight, class_weight, 255, smoothing)
    check(loss.cross_entropy, logits, labels, None, None, 255, smoothing)


def test_cross_entropy_of_masked_large_and_nan_logits(simulated):
    logits = np.array([[-np.inf, 0, 0], [1e4, 0, -1e4], [np.nan, np.nan, np.nan]], np.float32)
    total, normaliser, dlogits = on_device(loss.cross_entropy, logits, np.array([1, 0, -100], np.int32))
    np.testing.assert_allclose(total, math.log(2), rtol=1e-6)
    assert normaliser == 2
    np.testing.assert_allclose(dlogits, [[0, -0.5, 0.5], [0, 0, 0], [0, 0, 0]], atol=1e-7)
    total, _, dlogits = on_device(loss.cross_entropy, logits, np.array([1, 0, 0], np.int32))
    assert np.isnan(total)
    assert np.isnan(dlogits).all(axis=1).tolist() == [False, False, True]


@pytest.mark.parametrize("classes", [3, 130])
@pytest.mark.parametrize("label", [-1, 130, 10**6])
def test_an_unknown_label_makes_nan_of_the_sums_and_of_its_site(simulated, classes, label):
    logits = np.zeros((2, classes), np.float32)
    total, normaliser, dlogits = on_device(loss.cross_entropy, logits, np.array([0, label], np.int32))
    assert np.isnan([total, normaliser]).all()
    assert np.isnan(dlogits).all(axis=1).tolist() == [False, True]


def test_sums_of_many_elements_keep_six_digits():
    """The arithmetic of `per_element` and `add_up` in float32, at a size that the simulator is too slow for."""
    rng = np.random.default_rng(4)
    terms = (rng.standard_normal(30_000_000, np.float32) ** 2) / np.float32(3e7)
    threads = reduce.sum_blocks(terms.size) * reduce.THREADS
    fours = terms[: terms.size // (4 * threads) * 4 * threads].reshape(-1, threads, 4)
    sums = np.zeros(threads, np.float32)
    for four in fours:
        sums += (four[:, 0] + four[:, 1]) + (four[:, 2] + four[:, 3])
    while sums.size > 1:  # pairwise, as the trees of warps and blocks
        sums = np.append(sums, np.zeros(sums.size % 2, np.float32)).reshape(-1, 2)
        sums = sums[:, 0] + sums[:, 1]
    assert sums[0] == pytest.approx(fours.sum(dtype=np.float64), rel=1e-6)


def test_bits_do_not_depend_on_the_order_of_threads():
    from simulated import SimulatedDevice

    from spherecnn.kernels.gpu import device

    rng = np.random.default_rng(5)
    x, target = rng.standard_normal((2, 5000)).astype(np.float32)
    logits, labels = rng.standard_normal((300, 7)).astype(np.float32), (np.arange(300) % 7).astype(np.int32)
    seen = set()
    for seed in range(3):
        device.push(SimulatedDevice(seed))
        results = on_device(loss.mse_loss, x, target) + on_device(loss.cross_entropy, logits, labels)
        seen.add(b"".join(r.tobytes() for r in results))
        device.pop()
    assert len(seen) == 1


# --- training.losses -----------------------------------------------------------------------------------------------


def test_loss_objects_give_on_the_device_what_they_give_on_the_host(simulated):
    rng = np.random.default_rng(6)
    y, target = rng.standard_normal((2, 2, 3, 4, 2)).astype(np.float32)
    target[0, 1] = np.nan
    area = rng.random(12)
    for name, kind in losses.LOSSES.items():
        made = kind(area=area)
        goal = rng.integers(0, 2, (2, 3, 4)) if name == "cross_entropy" else target
        value, dy = made(y, goal)
        device_value, device_dy = made(to_device(y), goal)
        assert isinstance(device_value, DeviceArray)
        np.testing.assert_allclose(float(device_value), value, rtol=1e-5)
        np.testing.assert_allclose(to_host(device_dy), dy, rtol=1e-5, atol=1e-8)
    picture = np.concatenate([np.nan_to_num(target), rng.random((2, 3, 4, 1)) - 0.5], axis=-1).astype(np.float32)
    made = losses.InpaintLoss("huber", area=area)
    value, dy = made(y, picture)
    device_value, device_dy = made(to_device(y), picture)
    np.testing.assert_allclose(float(device_value), value, rtol=1e-5)
    np.testing.assert_allclose(to_host(device_dy), dy, rtol=1e-5, atol=1e-8)


def test_labels_are_checked_on_the_host(simulated):
    y = to_device(np.zeros((2, 3), np.float32))
    made = losses.CrossEntropyLoss(weight=np.ones(3))
    with pytest.raises(InputError, match="outside 0 to 2"):
        made(y, np.array([0, 3]))
    assert float(made(y, np.array([0, -100]))[0]) == pytest.approx(math.log(3))
    with pytest.raises(InputError, match="labels of uint8"):
        loss.cross_entropy(y, to_device(np.zeros(2, np.uint8)))


def test_a_recorded_loss_copies_nothing(simulated):
    rng = np.random.default_rng(7)
    y = to_device(rng.standard_normal((2, 4, 3)).astype(np.float32))
    for name, kind in losses.LOSSES.items():
        target = np.zeros((2, 4), int) if name == "cross_entropy" else np.ones((2, 4, 3), np.float32)
        made = kind(area=np.arange(1.0, 5.0))
        inputs = [to_device(losses.for_gpu(a)) for a in made.inputs(y.shape, y.dtype, target)]
        copied = simulated.uploaded, simulated.downloaded
        made.errors(y, *inputs)
        assert (simulated.uploaded, simulated.downloaded) == copied, name
