"""The simulated device: its memory, its copies and its launches."""

import gc

import numpy as np
import pytest
from simulated import SimulatedDevice
from simulated_values import SimulationError

import spherecnn as sc
from spherecnn.kernels.cuda import cuda, float32
from spherecnn.kernels.gpu import device
from spherecnn.kernels.gpu.array import DeviceArray, to_device, to_host
from spherecnn.kernels.gpu.intrinsics import ld1, load4, st1, store4
from spherecnn.kernels.gpu.launch import KERNELS, gpu_kernel


@pytest.fixture
def doubled():
    """A kernel of this test alone."""

    @gpu_kernel("f4* f4* i4", threads=64)
    def test_doubled(x, y, n):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if i < n // 4:
            v = load4(x, i * 4)
            store4(y, i * 4, v[0] + v[0], v[1] + v[1], v[2] + v[2], v[3] + v[3])

    del KERNELS["test_doubled"]
    return test_doubled


def test_device_runs_kernels(simulated, doubled):
    x = to_device(np.arange(512, dtype=np.float32).reshape(2, 256))
    y = x.copy()
    y.fill(0)
    before = simulated.uploaded, simulated.downloaded
    doubled(2, x[1], y[1], 256)
    assert (simulated.uploaded, simulated.downloaded) == before
    assert simulated.launches == {"test_doubled": 1}
    np.testing.assert_array_equal(to_host(y), [np.zeros(256), np.arange(256, 512) * 2])
    assert simulated.used == 4096
    del x, y
    gc.collect()
    assert (simulated.used, simulated.peak) == (0, 4096)


def test_device_refuses_what_a_gpu_would_not_notice(simulated, doubled):
    x, whole = to_device(np.zeros(256, np.float32)), to_device(np.zeros(256, np.int32))
    with pytest.raises(SimulationError, match=r"elements \d+ to \d+ of argument 0 .* which has 128"):
        doubled(2, x[:128], x[128:], 256)
    with pytest.raises(SimulationError, match="misaligned access of 16 bytes"):
        doubled(2, x[1:129], x, 128)
    with pytest.raises(SimulationError, match=r"argument 1 of test_doubled is int32; expected f4\*"):
        doubled(2, x, whole, 256)
    with pytest.raises(SimulationError, match="takes 3 arguments"):
        doubled(2, x, x)
    with pytest.raises(SimulationError, match=r"argument 2 of test_doubled is 2\.0"):
        doubled(2, x, x, 2.0)
    with pytest.raises(SimulationError, match="grid"):
        doubled((1, 65536), x, x, 256)


def test_memory_starts_as_nan(simulated, doubled):
    x, y = (DeviceArray(simulated.allocate(1024), 0, (256,), np.dtype(np.float32)) for _ in range(2))
    assert x.address % 256 == 0
    doubled(1, x, y, 256)
    assert np.isnan(to_host(y)).all()


def test_writes_beside_memory_are_found():
    made = SimulatedDevice()
    block = made.allocate(100)
    made.check()
    np.frombuffer(block.whole, np.uint8)[256 + 100] = 0
    with pytest.raises(SimulationError, match="beside a block of 100 bytes"):
        made.check()
    with pytest.raises(SimulationError, match="another device"):
        SimulatedDevice().fill(DeviceArray(block, 0, (25,), np.dtype(np.float32)), 0)
    made.faults.clear()
    del block
    gc.collect()
    with pytest.raises(SimulationError, match="beside a block"):
        made.check()


def read_table(table, y):
    st1(y, 0, float32(ld1(table, 0)))


def test_integers_that_were_never_written_are_found(simulated):
    kernel = gpu_kernel("i4* f4*", threads=1)(read_table)
    del KERNELS["read_table"]
    table = DeviceArray(simulated.allocate(4), 0, (1,), np.dtype(np.int32))
    y = to_device(np.zeros(1, np.float32))
    with pytest.raises(SimulationError, match="read before it is written"):
        kernel(1, table, y)
    kernel(1, to_device(np.array([-1], np.int32)), y)
    assert float(y) == -1
    assert device.current() is simulated


def test_a_layer_reads_an_array_of_another_library_in_place(simulated):
    class Tensor:
        """What PyTorch and CuPy have."""

        def __init__(self, x):
            self.own = to_device(x)
            self.__cuda_array_interface__ = self.own.__cuda_array_interface__

    layer, x = sc.layers.ReLU(), np.array([[-1.0, 2.0]], np.float32)
    tensor, copied = Tensor(x), simulated.uploaded
    assert np.array_equal(to_host(layer(tensor)), [[0, 2]])
    assert simulated.uploaded == copied


def test_a_view_at_an_odd_place_is_copied(simulated):
    class Tensor:
        """A view of PyTorch's that begins in the middle of 16 bytes."""

        def __init__(self, x):
            self.own = to_device(x)
            told = self.own.__cuda_array_interface__
            self.__cuda_array_interface__ = told | {"shape": (4,), "data": (told["data"][0] + 4, False)}

    found = to_device(Tensor(np.arange(8, dtype=np.float32)))
    assert found.address % 16 == 0
    assert np.array_equal(to_host(found), [1, 2, 3, 4])
