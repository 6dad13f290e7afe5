"""CUDA kernels are tested where the extra ``cuda-test`` is installed, with or without a GPU."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from report import tool

HERE = Path(__file__).resolve().parent
NEEDED = ("numba_cuda", "greenlet", "cuda.bindings")
MISSING = [name for name in NEEDED if find_spec(name.partition(".")[0]) is None or find_spec(name) is None]
MISSING += [name for name in ("cuobjdump", "nvdisasm") if tool(name) is None]

# Without the extra, one test says why the others are not there.
collect_ignore = ["conftest.py"]  # pytest would take two files of this name for one
collect_ignore += [file.name for file in HERE.glob("*.py") if MISSING and file.name != "test_installed.py"]
sys.path.append(str(HERE.parent))  # tests/cases.py


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """What looks back on all other tests comes last."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture
def missing_packages():
    """What these tests need and is not installed; where it must be, that is an error."""
    if MISSING and os.environ.get("SPHERECNN_TEST_CUDA"):
        pytest.fail(f"SPHERECNN_TEST_CUDA is set and {', '.join(MISSING)} cannot be found")
    return MISSING


@pytest.fixture(params=[1, 2], ids=["backwards", "shuffled"])
def simulated(request):
    """A simulated device, in two orders of threads and blocks; afterwards nothing may be written beside its arrays."""
    yield from a_device(request.param)


@pytest.fixture
def shuffled():
    """A simulated device with threads and blocks in one order, by chance, for what takes long."""
    yield from a_device(2)


def a_device(seed):
    from simulated import SimulatedDevice

    from spherecnn.kernels.gpu import device

    made = SimulatedDevice(seed)
    device.push(made)
    try:
        yield made
    finally:
        device.pop()
    made.check()
