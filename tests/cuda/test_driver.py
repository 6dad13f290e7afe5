"""The driver of the GPU, by the real cuda.bindings on a stub of libcuda; the cases are in driver_cases.py."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cuda.bindings", reason="the CUDA extra is not installed")

import driver_cases

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What went wrong in each case: nothing, if all is well."""
    gcc = shutil.which("gcc")
    if gcc is None and os.environ.get("SPHERECNN_TEST_CUDA"):
        pytest.fail("SPHERECNN_TEST_CUDA is set and gcc, which compiles the stub of libcuda, is not installed")
    if gcc is None:
        pytest.skip("gcc, which compiles the stub of libcuda, is not installed")
    folder = tmp_path_factory.mktemp("stub")
    command = [gcc, "-O1", "-Wall", "-Wno-unused-parameter", "-shared", "-fPIC", "-o", folder / "libcuda.so.1"]
    subprocess.run([*command, HERE / "stub_libcuda.c"], check=True)
    root = HERE.parents[1]
    environment = os.environ | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, HERE / "driver_cases.py"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", driver_cases.CASES)
def test_driver(outcomes, case):
    assert outcomes[case] == ""
