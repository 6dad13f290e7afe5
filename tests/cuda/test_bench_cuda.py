"""The speed table of a GPU, on the simulated device and with a clock that counts: what is measured and written."""

import csv

import numpy as np
import pytest
from simulated_graph import RecordingDevice

import spherecnn as sc
from spherecnn import InputError, bench
from spherecnn.bench import cuda, torch_cuda
from spherecnn.bench.case import Case, on, passes
from spherecnn.bench.traffic import counted
from spherecnn.kernels.gather_gemm import gather_gemm
from spherecnn.kernels.gpu import device

MILLISECOND = 1e-3


class FakeClock:
    """Every piece of work takes a millisecond; it is run once."""

    def __call__(self, work, repeats):
        work()
        return MILLISECOND

    issue = __call__

    def peak(self, work):
        work()
        return 1.0


def rows_of(file):
    lines = file.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.fixture
def simulated():
    """One order of threads will do: kernels have tests of their own."""
    made = RecordingDevice(1)
    device.push(made)
    yield made
    device.pop()
    made.check()


@pytest.fixture
def made(tmp_path, simulated):
    table = cuda.Bench(FakeClock(), None, None, 2, ["a card, with a comma", "versions"], tmp_path / "cuda.csv")
    table.ceilings = {"copy": 1e9, "float32": 1e9, "tf32": 2e9, "bf16": 4e9}
    return table


def layer_case(layer, channels, which):
    shape = (1, 2, 4, channels)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    dy = np.ones(layer.out_shape(shape), np.float32)
    return Case("tiny", "1x2x4", which, lambda torch: (passes(layer, x, dy, which), None))


def test_ceilings_are_amounts_over_seconds(made):
    made.measure_ceilings(copied=1, waves=1, turns=1)
    assert list(made.ceilings) == ["copy", "float32", "tf32", "bf16"]
    blocks, threads = device.current().multiprocessors, 256
    assert made.ceilings["copy"] == 2 * 4 * 4 * 256 * 4 / MILLISECOND
    assert made.ceilings["float32"] == blocks * threads * 16 * 2 / MILLISECOND
    assert [row["case"] for row in rows_of(made.out)] == [f"ceiling: {name}" for name in made.ceilings]


def test_a_row_that_multiplies_is_measured_in_each_precision(made):
    made.measure(layer_case(sc.layers.Linear(3, 5, rng=0), 3, "forward"))
    rows = rows_of(made.out)
    assert [row["precision"] for row in rows] == ["float32", "tf32", "bf16"]
    flop, moved = 2 * 8 * 3 * 5, 4 * (8 * 3 + 3 * 5 + 5 + 8 * 5)
    for row, peak in zip(rows, (1e9, 2e9, 4e9), strict=True):
        assert (row["ours ms"], row["torch ms"], row["ratio"], row["ours peak MiB"]) == ("1.0000", "", "", "1")
        assert row["GB/s"] == f"{moved / MILLISECOND / 1e9:.1f}"
        assert row["of copy"] == f"{moved / MILLISECOND / 1e9:.3f}"
        assert row["TFLOP/s"] == f"{flop / MILLISECOND / 1e12:.3f}"
        assert row["of peak"] == f"{flop / MILLISECOND / peak:.3f}"


def test_a_row_that_only_moves_is_measured_once(made):
    made.measure(layer_case(sc.layers.ReLU(), 4, "forward+backward"))
    (row,) = rows_of(made.out)
    assert (row["precision"], row["TFLOP/s"], row["of peak"]) == ("float32", "", "")


def test_ops_are_counted_by_their_arrays_and_restored(monkeypatch):
    layer, x = sc.layers.CircularConv2d(2, 3, 3, exact=True, rng=0), np.ones((2, 4, 6, 2), np.float32)
    monkeypatch.setitem(gather_gemm.bodies, "cpu", gather_gemm.definition)
    with counted("cpu") as traffic:
        layer(x)
    assert gather_gemm.bodies["cpu"] is gather_gemm.definition
    assert traffic.flop == 2 * 2 * 24 * 9 * 2 * 3
    assert traffic.bytes == 4 * (2 * 24 * 2 + 9 * 2 * 3 + 3 + 2 * 24 * 3)


def test_a_failing_row_is_told_and_the_others_are_kept(made, monkeypatch, capsys):
    def fails(torch):
        raise ValueError("of no use\nat all")

    monkeypatch.setattr(made, "measure_launches", lambda: None)
    monkeypatch.setattr(made, "measure_graph", lambda: None)
    monkeypatch.setattr(made, "measure_ceilings", lambda: None)
    cases = [Case("bad", "1", "forward", fails), layer_case(sc.layers.ReLU(), 4, "forward")]
    with pytest.raises(InputError, match=r"1 rows of the table .*: bad, 1, forward: .*of no use; the"):
        cuda.conduct(made, cases)
    rows = rows_of(made.out)
    assert [row["case"] for row in rows] == ["bad, 1, forward", "tiny"]
    assert made.out.read_text().startswith("# a card; with a comma\n# versions\ncase,shape,pass,precision,ours ms")
    assert "install torch with CUDA" in capsys.readouterr().out


def test_after_an_error_of_the_gpu_nothing_more_is_run(made, simulated, monkeypatch):
    def broken(*_):
        raise device.CudaError("an illegal memory access")

    simulated.synchronize = broken
    monkeypatch.setattr(made, "measure_ceilings", lambda: None)
    cases = [Case("bad", "1", "forward", broken), Case("next", "1", "forward", lambda torch: pytest.fail("was run"))]
    with pytest.raises(InputError, match="the GPU cannot be used after that, and the rest was not measured"):
        cuda.conduct(made, cases)


def test_launches_are_times_of_the_host(made, monkeypatch):
    monkeypatch.setattr(cuda, "TINY", (1, 2, 2, 4))
    made.measure_launches(count=2)
    rows = rows_of(made.out)
    assert {row["case"] for row in rows} == {"launch: ReLU", "launch: 3x3 convolution", "launch: batch norm"}
    assert {row["ours ms"] for row in rows} == {"1.0000"}


def test_a_training_step_is_launched_and_replayed(made, monkeypatch):
    monkeypatch.setattr(cuda, "classifier_step", lambda shape, width, recorded: linear_step(recorded))
    made.turns = 1
    made.measure_graph()
    assert [row["case"] for row in rows_of(made.out)] == ["training step, launched", "training step, replayed"]


def linear_step(recorded):
    from spherecnn.training.step import DeviceStep
    from spherecnn.training.task import Classify

    net = sc.layers.Linear(4, 2, rng=0).to("cuda")
    adam = sc.training.Adam(net.named_params(), lr=1e-3)
    step = DeviceStep(net, Classify(sc.training.CrossEntropyLoss()), adam, None)
    step.refused = not recorded
    x, labels = np.ones((2, 4), np.float32), np.array([0, 1])
    return lambda: step(1, x, labels, lambda _: None)


def test_ours_and_torchs_rows_are_the_same_on_any_device(simulated):
    """The smallest pooling, ours on the simulated device, torch's placed by the same code as on a GPU."""
    torch = pytest.importorskip("torch")
    case = next(c for c in bench.cases(smallest=True) if c.name == "max pool 2")
    with on("cuda"), torch_cuda.making(torch, "cpu") as placed:
        ours, theirs = case.make(placed)
    got = sc.to_host(ours())
    for precision in ("float32", "tf32", "bf16"):
        (expected,) = torch_cuda.in_precision(torch, theirs, precision, "cpu")()
        np.testing.assert_allclose(got, np.moveaxis(expected.float().numpy(), 1, -1), rtol=0, atol=0)


def test_without_a_gpu_it_is_said_in_one_sentence(monkeypatch, tmp_path):
    def none():
        raise InputError("this machine shows no NVIDIA GPU; expected one: use the CPU.")

    monkeypatch.setattr(device, "current", none)
    with pytest.raises(InputError, match="shows no NVIDIA GPU"):
        bench.run(tmp_path / "cuda.csv", device="cuda", only="Sigmoid")
    assert not list(tmp_path.iterdir())
