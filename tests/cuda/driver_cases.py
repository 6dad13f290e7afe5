"""What the driver of the GPU must do, on a libcuda that is a stub: run by test_driver.py, each case in a process."""

import gc
import json
import multiprocessing
import os
import re
import struct
import sys
import threading
import traceback

import numpy as np
import pytest
from stub import Stub

from spherecnn.errors import InputError
from spherecnn.kernels.gpu import array, device


class Foreign:
    """Memory of another library on the GPU."""

    def __init__(self, memory, shape, typestr="<f4", **told):
        self.memory = memory
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": typestr,
            "data": (memory.address, False),
            "version": 3,
            **told,
        }


def sentence(function, kind=InputError):
    """The message of an error, which is one sentence."""
    with pytest.raises(kind) as caught:
        function()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def case_arguments_reach_the_kernel_as_declared(stub):
    kernel = stub.kernel("f4* i4* i4 f4 u4")
    x, n = array.to_device(np.zeros((4, 3), np.float32)), array.to_device(np.arange(5))
    kernel((7, 2), x[1], n, -3, 0.1, 2**32 - 1)
    kernel(5, x, n, np.int32(3), np.float32(1), 0, shared=100)
    device.current().synchronize()
    pattern = r"kernel grid (\d+ \d+ \d+) block (\d+ \d+ \d+) shared (\d+) args (\w+) (\w+) (\w+) (\w+) (\w+)"
    first, second = (re.fullmatch(pattern, line).groups() for line in stub.log if line.startswith("kernel"))
    assert first[:3] == ("7 2 1", "128 1 1", "0")
    assert second[:3] == ("5 1 1", "128 1 1", "100")
    found = [struct.unpack("<QQifI", bytes.fromhex("".join(call[3:]))) for call in (first, second)]
    assert found[0] == (x.address + 12, n.address, -3, np.float32(0.1), 2**32 - 1)
    assert found[1] == (x.address, n.address, 3, 1.0, 0)


def case_an_empty_grid_is_not_launched_and_big_numbers_are_refused(stub):
    from spherecnn.kernels.gpu.calls import CudaError

    kernel = stub.kernel("f4* i4")
    x = array.empty((1,), np.float32)
    kernel((0, 3), x, 1)
    assert "32 bits" in sentence(lambda: kernel(1, x, 2**31), CudaError)
    device.current().synchronize()
    assert not any(line.startswith("kernel") for line in stub.log)


def case_shared_memory_beyond_48_kib_is_allowed_once(stub):
    kernel = stub.kernel("f4*")
    x = array.empty((1,), np.float32)
    for shared in (48 << 10, 100 << 10, 100 << 10, 60 << 10, 120 << 10):
        kernel(1, x, shared=shared)
    assert [line for line in stub.log if line.startswith(("allow", "load"))] == [
        "load",
        f"allow kernel {100 << 10}",
        f"allow kernel {120 << 10}",
    ]


def case_errors_of_launches_name_the_kernel(stub):
    from spherecnn.kernels.gpu.calls import CudaError

    kernel = stub.kernel("f4*")
    x = array.empty((1,), np.float32)
    kernel(1, x)
    stub.fail("cuLaunchKernel", 1)
    assert sentence(lambda: kernel(3, x), CudaError).startswith("kernel, grid (3, 1, 1), 0 bytes shared: ")
    stub.fail("cuStreamSynchronize", 700)
    assert "an illegal memory access (CUDA_ERROR_ILLEGAL_ADDRESS)" in sentence(device.current().synchronize, CudaError)
    os.environ["SPHERECNN_CUDA_SYNC"] = "1"
    from spherecnn.kernels.gpu.driver import Gpu

    device.push(Gpu())
    stub.fail("cuStreamSynchronize", 700)
    assert sentence(lambda: kernel(1, x), CudaError).startswith("kernel, grid (1, 1, 1): an illegal")


def case_blocks_are_used_again(stub):
    gpu = device.current()
    x = array.empty((1000,), np.float32)
    address = x.memory.address
    view = x[10:]
    del x
    assert array.empty((1000,), np.float32).memory.address != address  # the view keeps it
    del view
    before = stub.allocations()
    again = array.empty((1010,), np.float32)  # of the same class
    assert again.memory.address == address
    assert stub.allocations() == before
    assert gpu.pool.used == 4096
    assert gpu.pool.held == 4096
    gpu.release()
    assert gpu.pool.held == 0
    assert stub.used() == 4096
    assert "trim" in stub.log


def case_size_classes_waste_at_most_an_eighth(stub):
    from spherecnn.kernels.gpu.memory import size_class

    sizes = [1, 511, 512, 513, 4096, 4097, 8191, 10**6, 2**24 - 1, 2**24, 2**24 + 1]
    found = [size_class(n) for n in sizes]
    assert found[:6] == [512, 512, 512, 1024, 4096, 4608]
    assert all(n <= c <= max(n + 511, 1.13 * n) for n, c in zip(sizes, found, strict=True))
    assert all(size_class(c) == c and c % 512 == 0 for c in found)


def case_out_of_memory_releases_and_then_says_so(stub):
    stub.set(limit=1 << 20)
    kept = array.empty((128 << 10,), np.uint8)
    free = array.empty((512 << 10,), np.uint8)
    del free
    whole = array.empty((800 << 10,), np.uint8)  # only fits without the free block
    told = sentence(lambda: array.empty((300 << 10,), np.uint8))
    assert told == (
        "the GPU Stub GPU has 0.0 of 0.0 GiB free, and an array of 0 MiB does not fit: use a smaller batch or picture, "
        "or end other programs on it."
    )
    del whole
    assert array.empty((700 << 10,), np.uint8).size == 700 << 10
    assert kept.size == 128 << 10


def case_a_cycle_that_nobody_needs_is_collected_before_memory_is_said_to_be_out(stub):
    stub.set(limit=1 << 20)
    gc.disable()
    cycle = [array.empty((600 << 10,), np.uint8)]
    cycle.append(cycle)
    del cycle
    assert array.empty((700 << 10,), np.uint8).size == 700 << 10


def case_copies_go_there_and_back_while_the_host_array_changes(stub):
    rng = np.random.default_rng(0)
    host = rng.integers(0, 255, 40 << 20, np.uint8)  # in three parts
    whole, small = host.copy(), np.arange(6, dtype=np.float32).reshape(2, 3)
    there, part = array.to_device(host), array.to_device(small)
    host[:], small[:] = 0, 0  # the stub copies when it is waited for
    np.testing.assert_array_equal(array.to_host(there), whole)
    np.testing.assert_array_equal(array.to_host(part), [[0, 1, 2], [3, 4, 5]])
    twin = part.copy()
    part.fill(0)
    np.testing.assert_array_equal(array.to_host(twin[1]), [3, 4, 5])
    assert float(part[0][2]) == 0.0


def case_pinned_memory_is_not_used_while_it_is_copied(stub):
    arrays = [array.to_device(np.full(1000, n, np.int32)) for n in range(300)]
    large = [array.to_device(np.full(15 << 20, n, np.uint8)) for n in range(9)]
    assert device.current().pinned.size <= 70 << 20
    for n, x in enumerate(arrays):
        assert set(array.to_host(x)) == {n}
    for n, x in enumerate(large):
        assert array.to_host(x).min() == array.to_host(x).max() == n


def case_fetching_waits_for_nothing(stub):
    gpu = device.current()
    fetched = [gpu.fetch(array.to_device(np.array([n, 7], np.int32))) for n in range(3)]
    fetched.append(gpu.fetch(array.zeros((0, 2), np.float32)))
    assert not any(f.done for f in fetched[:3])
    assert [f.read().tolist() for f in fetched] == [[0, 7], [1, 7], [2, 7], []]
    assert all(f.done for f in fetched)
    del fetched, gpu
    before = device.current().pinned.size
    device.current().fetch(array.zeros((2,), np.float32))
    assert device.current().pinned.size == before


def case_another_thread_reads_what_was_fetched(stub):
    fetched, found = device.current().fetch(array.to_device(np.array([5], np.int32))), []
    thread = threading.Thread(target=lambda: found.append(fetched.read().tolist()))
    thread.start()
    thread.join()
    assert found == [[5]]


def case_arrays_of_others_are_read_in_place(stub):
    memory = array.to_device(np.arange(12, dtype=np.float32))
    stub.clear()
    x = array.to_device(Foreign(memory, (3, 4)))
    assert x.address == memory.address
    assert x.__cuda_array_interface__["data"] == (memory.address, False)
    assert x.__cuda_array_interface__["typestr"] == "<f4"
    strides = array.to_device(Foreign(memory, (3, 1, 4), strides=(16, 999, 4)))
    assert strides.shape == (3, 1, 4)
    assert "strides" in sentence(lambda: array.to_device(Foreign(memory, (4, 3), strides=(4, 16))))
    assert "float64" in sentence(lambda: array.to_device(Foreign(memory, (6,), "<f8")))
    assert stub.log == []
    np.testing.assert_array_equal(array.to_host(Foreign(memory, (12,))), np.arange(12))
    array.to_device(Foreign(memory, (12,), stream=1))
    assert not any("event" in line for line in stub.log)
    array.to_device(Foreign(memory, (12,), stream=2))
    assert stub.log[-2:] == ["record event on 2", "wait event"]
    stub.set(ordinal=1)
    assert "an array is on GPU 1; expected it on GPU 0" in sentence(lambda: array.to_device(Foreign(memory, (12,))))


def case_the_owner_of_adopted_memory_stays_alive(stub):
    owner = Foreign(array.to_device(np.arange(4, dtype=np.int32)), (4,), "<i4")
    address, x = owner.memory.address, array.to_device(owner)
    del owner
    assert array.empty((4,), np.int32).address != address
    np.testing.assert_array_equal(array.to_host(x), np.arange(4))


def case_other_threads_use_the_gpu(stub):
    kernel, found = stub.kernel("f4* i4"), []
    x = array.to_device(np.ones(5, np.float32))

    def work():
        try:
            kernel(1, x, 1)
            found.append(array.to_host(array.to_device(np.arange(3))).tolist())
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[0, 1, 2]] * 4
    assert stub.log.count("load") == 1


def case_a_forked_process_says_that_it_cannot(stub):
    x = array.to_device(np.ones(3, np.float32))
    context = multiprocessing.get_context("fork")
    ends = context.Pipe()

    def child():
        doomed = [sentence(lambda: array.to_host(x)), sentence(lambda: array.to_device(np.ones(2)[:1].astype("f4")))]
        ends[1].send(doomed)

    process = context.Process(target=child)
    process.start()
    told = ends[0].recv()
    process.join()
    assert process.exitcode == 0
    assert all(text.startswith("this process was forked from one that uses the GPU") for text in told)
    np.testing.assert_array_equal(array.to_host(x), [1, 1, 1])


def case_a_graph_is_recorded_and_replayed(stub):
    kernel = stub.kernel("f4* f4*")
    gpu = device.current()
    x = array.to_device(np.arange(4, dtype=np.float32))
    y = array.zeros((4,), np.float32)
    graph = gpu.graph()

    def step():
        between = x.copy()
        kernel(1, between, y)
        device.current().copy(y, between)

    with graph.warm():
        step()
    gpu.synchronize()
    before, common = stub.allocations(), gpu.pool.used
    y.fill(0)
    gpu.synchronize()
    stub.clear()
    with graph.record():
        step()
    assert stub.allocations() == before
    assert gpu.pool.used == common
    assert stub.log == ["capture mode 2 stream flags 1", "graph destroyed"]
    np.testing.assert_array_equal(array.to_host(y), 0)
    for k in range(2):
        gpu.upload(x, np.full(4, k + 1, np.float32))
        graph.replay()
        np.testing.assert_array_equal(array.to_host(y), k + 1)
    assert sum(line.startswith("kernel") for line in stub.log) == 2
    with graph.warm():
        late = x.copy()
    del graph
    gpu.synchronize()
    assert "executable destroyed" in stub.log
    assert stub.used() == gpu.pool.used + gpu.pool.held + 512  # the array that is left
    del late
    assert stub.used() == gpu.pool.used + gpu.pool.held


def case_what_needs_the_host_is_not_recorded_and_the_gpu_stays_usable(stub):
    from spherecnn.kernels.gpu.calls import CudaError, NotRecordable

    gpu = device.current()
    x = array.to_device(np.arange(4, dtype=np.float32))
    for work in (
        lambda: array.to_host(x),
        lambda: float(x[1]),
        lambda: array.to_device(np.ones(2, np.float32)),
        lambda: gpu.fetch(x),
        gpu.synchronize,
    ):
        graph = gpu.graph()

        def record(graph=graph, work=work):
            with graph.record():
                x.copy()
                work()

        assert "cannot be recorded" in sentence(record, NotRecordable)
        assert graph.ready is None
        np.testing.assert_array_equal(array.to_host(x.copy()), [0, 1, 2, 3])
    stub.fail("cuStreamEndCapture", 901)
    graph = gpu.graph()

    def spoilt():
        with graph.record():
            x.copy()

    assert "cuStreamEndCapture" in sentence(spoilt, CudaError)
    assert float(x[3]) == 3.0


def case_a_graph_keeps_what_its_kernels_take(stub):
    kernel, gpu = stub.kernel("f4* f4* i4*"), device.current()
    x, y = array.to_device(np.ones(300, np.float32)), array.zeros((300,), np.float32)
    graph = gpu.graph()
    with graph.record():
        between = array.empty((300,), np.float32)
        kernel(1, x[10:], between, None)
        gpu.copy(y, between)
        del between
    addresses = {x.memory.address, y.memory.address}
    del x, y
    others = [array.empty((300,), np.float32) for _ in range(3)]
    assert not addresses & {other.address for other in others}
    del graph, others
    others = [array.empty((300,), np.float32) for _ in range(5)]
    assert addresses < {other.address for other in others}


def case_a_graph_is_fed_by_the_host_before_each_replay(stub):
    gpu, numbers = device.current(), iter(range(1, 9))
    key, y = array.empty((2,), np.int32), array.zeros((2,), np.int32)

    def step():
        gpu.feed(key, lambda: np.full(2, next(numbers), np.int32))
        gpu.copy(y, key)

    step()
    assert array.to_host(y).tolist() == [1, 1]
    graph = gpu.graph()
    with graph.record():
        step()
        with graph.pause():
            assert array.to_host(y).tolist() == [1, 1]
    for k in (2, 3):
        graph.replay()
        assert array.to_host(y).tolist() == [k, k]


def case_another_thread_works_on_while_a_graph_is_recorded(stub):
    gpu, found = device.current(), []
    x = array.to_device(np.ones(3, np.float32))
    graph = gpu.graph()
    with graph.record():
        x.copy()
        thread = threading.Thread(target=lambda: found.append(array.to_host(x).tolist()))
        thread.start()
        thread.join()
    assert found == [[1, 1, 1]]


def case_training_steps_are_recorded_on_the_driver(stub):
    """No numbers here: kernels do nothing. But all calls are the driver's: what is launched, copied and waited for."""
    import spherecnn as sc
    from spherecnn.kernels.gpu.launch import GpuKernel
    from spherecnn.training.step import DeviceStep

    def cubin(kernel, cc):
        sizes = "".join("8" if kind.endswith("*") else "4" for kind in kernel.arguments)
        return f"stub{sizes}\0.text.{kernel.name}\0".encode()

    GpuKernel.cubin = cubin
    stub.set(late=0)
    net = sc.layers.Sequential(sc.layers.Dropout(0.5, rng=0), sc.layers.Linear(8, 4, rng=0)).to("cuda")
    adam = sc.training.Adam(net.named_params(), lr=0.1)
    step = DeviceStep(net, sc.training.Task(sc.training.MSELoss()), adam, 1.0)
    x, y = np.ones((4, 8), np.float32), np.ones((4, 4), np.float32)
    logs, used = [], []
    for k in range(6):
        stub.clear()
        outcome = step(k, x, y, lambda outcome: None)
        logs.append(stub.log)
        used.append(stub.used())
        assert outcome.loss.read().shape == ()
        outcome = None
    launches = [[line for line in log if " grid " in line] for log in logs]
    names = [[line.split()[0] for line in lines] for lines in launches]
    assert names[0] == names[1] == names[2] == names[5]
    assert "adam" in names[0]
    assert "keep_mask" in names[0]
    assert launches[3] == launches[4] == launches[5]  # the same addresses and numbers
    assert [sum(line.startswith("capture") for line in log) for log in logs] == [0, 0, 1, 0, 0, 0]
    assert [line for line in logs[5] if line.startswith("to host")] == ["to host 4", "to host 4"]
    assert used[5] == used[4] == used[3]
    assert adam.steps == {"1.weight": 6, "1.bias": 6}
    step.graph = step.recorded = None
    gc.collect()
    assert "executable destroyed" in stub.log


def case_memory_of_the_driver_is_kept(stub):
    device.current()
    assert stub.log[0] == "keep ffffffffffffffff"
    assert repr(device.current()) == "Gpu(Stub GPU, compute capability 9.0)"
    assert re.fullmatch(
        r"Stub GPU, compute capability 9.0, 132 multiprocessors, 1.0 GiB, driver [\w. ]+, CUDA 13.0",
        device.current().describe(),
    )
    assert device.current().multiprocessors == 132


def case_no_gpu(stub):
    stub.set(count=0)
    assert sentence(device.current) == (
        "no NVIDIA GPU can be used here (cuInit: no CUDA-capable device is detected (CUDA_ERROR_NO_DEVICE)); expected "
        "one with a driver from 580 on: install the driver, or use the CPU."
    )


def case_an_old_driver(stub):
    stub.set(version=12080)
    assert sentence(device.current) == (
        "the NVIDIA driver supports CUDA 12.8; expected at least 13.0: update it to 580 or newer, or use the CPU."
    )


def case_an_old_gpu(stub):
    stub.set(major=7, minor=5)
    assert sentence(device.current).startswith("the GPU Stub GPU has compute capability 7.5; expected at least 8.0")


def case_a_gpu_without_memory_pools(stub):
    stub.set(pools=0)
    assert "has no memory pools here" in sentence(device.current)


def case_the_process_ends_in_peace_with_arrays_and_graphs(stub):
    global kept
    graph = device.current().graph()
    x = array.to_device(np.ones(3, np.float32))
    with graph.record():
        y = x.copy()
    kept = [graph, x, y]


CASES = [name for name in globals() if name.startswith("case_")]


def main():
    """Run every case in a process of its own; write what went wrong as JSON."""

    found = {}
    for name in CASES:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            os.dup2(writer, 2)
            try:
                globals()[name](Stub())
            except BaseException:
                traceback.print_exc()
            sys.exit(0)  # as any program ends, so that what happens at exit is seen
        os.close(writer)
        with open(reader) as errors:
            text = errors.read()
        _, status = os.waitpid(child, 0)
        found[name] = text + (f"\nended with status {status}" if status else "")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
