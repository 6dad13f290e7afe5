"""Proof on a GPU: ``pytest -m gpu``. Without one, a few tiny cases run on the simulated device, to prove the tests."""

from __future__ import annotations

import gc
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "cuda")]  # cases.py, simulated.py

NEEDED = ("numba_cuda", "cuda")
INSTALLED = all(find_spec(name) for name in NEEDED)
# There is nothing to run in this file, and another of its name would be taken for it.
collect_ignore = ["conftest.py"] if INSTALLED else [file.name for file in HERE.glob("*.py")]

from spherecnn.errors import InputError  # noqa: E402

left_out: list[str] = []


def reason() -> str:
    """Why there is no GPU; nothing if there is one."""
    if not INSTALLED:
        return "arrays on a GPU need the CUDA extra: pip install 'spherecnn[cuda]'"
    from spherecnn.kernels.gpu import device

    try:
        device.current()
    except InputError as error:
        return str(error)
    return ""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Without a GPU, leave out what needs one, and say so once."""
    wanted = [item for item in items if item.get_closest_marker("gpu")]
    if (wanted or not INSTALLED) and (why := reason()):
        left_out[:] = [f"{len(wanted) or 'the'} tests of the GPU were left out: {why}"]
        config.hook.pytest_deselected(items=wanted)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


def pytest_terminal_summary(terminalreporter):
    for line in left_out:
        terminalreporter.write_line(line, yellow=True)


def pytest_sessionfinish(session):
    """Where tests of a GPU come up beside others, and none is there, the run is no failure."""
    if (
        left_out
        and "gpu" not in session.config.option.markexpr
        and session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
    ):
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture
def device(request):
    """The device that kernels run on: the GPU, or with the parameter "simulated" the simulator."""
    from spherecnn.kernels.gpu import device as devices

    kind = getattr(request, "param", "gpu")
    if kind == "gpu":
        gpu = devices.current()
        yield gpu
        gpu.synchronize()  # a kernel that failed is found in the test that ran it
        return
    pytest.importorskip("greenlet", reason="the simulator needs the extra cuda-test")
    from simulated_graph import RecordingDevice

    made = RecordingDevice(1)
    devices.push(made)
    try:
        yield made
    finally:
        devices.pop()
    made.check()


@pytest.fixture
def empty_gpu(device):
    """The device, with nothing of earlier tests in its memory."""
    gc.collect()
    if hasattr(device, "release"):
        device.release()
    return device
