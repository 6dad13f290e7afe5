"""Memory of the GPU: it does not grow, its peak has a bound, running out is one sentence; arrays of others in place."""

import gc

import numpy as np
import pytest
from gpu_cases import on_both

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.kernels.gpu.array import empty, to_device, to_host
from spherecnn.kernels.pointwise import add, relu
from spherecnn.training import Adam, CrossEntropyLoss

STEPS = 50


def memory(device):
    """What counts the bytes in use and their peak: the pool of a GPU, or the simulated device."""
    return getattr(device, "pool", device)


def peak_of(device, work):
    """Bytes in use at most while work runs, over those before it."""
    gc.collect()
    counted = memory(device)
    before = counted.peak = counted.used
    result = work()
    del result
    return counted.peak - before


def trainer(width, shape):
    """A training step, as a function of the number of the step."""
    net = sc.models.classifier("circular", 3, 4, sc.grids.Equirect(*shape), width=width, rng=0).to("cuda")
    optimizer, loss = Adam(net.named_params(), lr=1e-3), CrossEntropyLoss()
    rng = np.random.default_rng(0)
    x = to_device(rng.standard_normal((4, *shape, 3)).astype(np.float32))
    labels = np.arange(4)

    def step():
        optimizer.zero_grad()
        y, backward = net.forward(x, train=True)
        value, dy = loss(y, labels)
        backward(dy, inputs=False)
        optimizer.step()
        return float(value)

    return step


@pytest.mark.gpu
def test_memory_does_not_grow_over_many_steps(empty_gpu):
    step = trainer(16, (32, 64))
    for _ in range(3):
        step()
    gc.collect()
    pool = empty_gpu.pool
    used, held = pool.used, pool.held
    for _ in range(STEPS):
        step()
    gc.collect()
    assert pool.used == used, "arrays of training steps stay alive"
    assert pool.held == held, "training steps take new memory although that of the last one is free"


@pytest.mark.gpu
@pytest.mark.parametrize(("channels", "most"), [(32, 9), (64, 9)])
def test_a_convolution_gathers_in_the_kernel(empty_gpu, channels, most):
    """Its output, both gradients and its work space take less than the nine pictures that gathering first would."""
    shape = (8, 64, 128, channels)
    layer = sc.layers.CircularConv2d(channels, channels, 3, rng=0).to("cuda")
    x, dy = (to_device(np.zeros(shape, np.float32)) for _ in range(2))

    def work():
        layer.zero_grad()
        return layer.forward(x, train=True)[1](dy)

    work()
    assert peak_of(empty_gpu, work) < most * x.nbytes


@on_both
def test_a_layer_holds_its_output_only(device):
    x = to_device(np.ones((2, 3, 5), np.float32))
    assert peak_of(device, lambda: sc.layers.ReLU()(x)) <= max(1024, 2 * x.nbytes)


@on_both
def test_inference_leaves_nothing_behind(device):
    net = sc.layers.Sequential(sc.layers.ReLU(), sc.layers.Tanh())
    x = to_device(np.ones((2, 3, 5), np.float32))
    net(x)
    gc.collect()
    used = memory(device).used
    for _ in range(5):
        net(x)
    gc.collect()
    assert memory(device).used == used


@pytest.mark.gpu
def test_out_of_memory_is_one_sentence_and_work_goes_on(empty_gpu):
    def fill_up():
        return [empty((1 << 28,), np.float32) for _ in range(4096)]  # 1 GiB each, more than any GPU has

    with pytest.raises(InputError, match=r"an array of \d+ MiB does not fit: use a smaller batch") as caught:
        fill_up()
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()
    empty_gpu.release()
    x = np.arange(-3, 3, dtype=np.float32)
    assert np.array_equal(to_host(relu(to_device(x))), np.maximum(x, 0))


@pytest.mark.gpu
def test_large_arrays_are_reached_to_their_end(empty_gpu):
    """More than 2^31 bytes: offsets of bytes that fit no int32."""
    ones = to_device(np.ones((1 << 29) + 3, np.float32))
    y = add(ones, ones)
    assert to_host(y[-5:]).tolist() == [2.0] * 5


# --- arrays of other libraries -----------------------------------------------------------------------------------


@pytest.fixture
def torch():
    module = pytest.importorskip("torch", reason="torch is not installed")
    if not module.cuda.is_available():
        pytest.skip("torch has no CUDA")
    return module


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy", reason="cupy is not installed", exc_type=ImportError)


@pytest.mark.gpu
def test_torch_tensors_are_read_and_made_in_place(device, torch):
    x = torch.randn(3, 5, device="cuda")
    ours = to_device(x)
    assert ours.address == x.data_ptr()
    y = relu(ours)
    theirs = torch.as_tensor(y, device="cuda")
    assert theirs.data_ptr() == y.address
    torch.testing.assert_close(theirs, x.relu(), rtol=0, atol=0)


@pytest.mark.gpu
def test_torch_and_ours_wait_for_each_other(device, torch):
    """Work on torch's stream and on ours is done in the order in which it is asked for."""
    x = torch.zeros(1 << 24, device="cuda")
    for turn in range(20):
        x += 1
        y = torch.as_tensor(add(to_device(x), to_device(x)), device="cuda")
        assert float(y[-1]) == float(y[0]) == 2 * (turn + 1)


@pytest.mark.gpu
def test_torch_layouts_that_are_not_contiguous_are_refused(device, torch):
    x = torch.zeros(4, 6, device="cuda").t()
    with pytest.raises(InputError, match=r"expected a C-contiguous one: call its contiguous\(\)"):
        to_device(x)
    with pytest.raises(InputError, match="dtype float64 was given for the GPU"):
        to_device(torch.zeros(3, device="cuda", dtype=torch.float64))


@pytest.mark.gpu
def test_a_layer_takes_torch_tensors(device, torch):
    layer = sc.layers.CircularConv2d(4, 4, 3, rng=0)
    x = np.random.default_rng(0).standard_normal((2, 8, 16, 4)).astype(np.float32)
    expected = layer(x)
    got = to_host(layer.to("cuda")(torch.from_numpy(x).cuda()))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.gpu
def test_cupy_arrays_are_read_and_made_in_place(device, cupy):
    x = cupy.arange(-6, 6, dtype=cupy.float32).reshape(3, 4)
    ours = to_device(x)
    assert ours.address == x.data.ptr
    y = relu(ours)
    theirs = cupy.asarray(y)
    assert theirs.data.ptr == y.address
    assert cupy.array_equal(theirs, cupy.maximum(x, 0))
