"""`spherecnn warmup --device cuda` compiles the kernels of a GPU into the cache, without one."""

import re

import pytest
from click.testing import CliRunner

from spherecnn.cli import main
from spherecnn.kernels import jit
from spherecnn.kernels.gpu import (
    bodies,  # noqa: F401  makes all kernels
    launch,
)

COMMAND = ["warmup", "--device", "cuda", "--cc", "8.6"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache of kernels that is empty."""

    def forget():
        for function in (jit.cache_folder, launch.cache_folder, getattr(jit, "_parent", None)):
            if hasattr(function, "cache_clear"):
                function.cache_clear()

    monkeypatch.setenv("SPHERECNN_CACHE_DIR", str(tmp_path))
    forget()
    yield tmp_path
    monkeypatch.undo()
    forget()


def test_warmup(folder, monkeypatch):
    monkeypatch.setattr(launch, "KERNELS", {"argmax_u1_1": launch.KERNELS["argmax_u1_1"]})
    for count in (1, 0):
        said = CliRunner().invoke(main, COMMAND).stdout
        found = re.match(r"All 1 kernels for compute capability 8.6 are ready in (\S+): (\d) were compiled, in", said)
        assert found[1] == str(launch.cache_folder())
        assert found[2] == str(count)
    assert launch.cache_folder().parent == folder
    assert [file.name for file in launch.cache_folder().iterdir()] == ["argmax_u1_1_sm86.cubin"]
    CliRunner().invoke(main, ["warmup", "--clear"])
    assert not list(folder.glob("gpu-*"))
