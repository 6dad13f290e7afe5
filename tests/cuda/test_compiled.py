"""Every kernel, compiled for each generation of GPUs, keeps what it promises: see `report.faults`."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest
import report

from spherecnn.kernels.cuda import compile_kernel, cuda, float32, int32
from spherecnn.kernels.gpu import (
    bodies,  # noqa: F401  makes all kernels
    ceilings,  # noqa: F401
    launch,
)
from spherecnn.kernels.gpu.intrinsics import ld1, load4, st1, store4

CAPABILITIES = [(8, 0), (9, 0)]
KERNELS = {
    name: kernel for name, kernel in launch.KERNELS.items() if kernel.function.__module__.startswith("spherecnn.")
}


def compiled(name):
    """The code of a kernel for each capability, or why there is none; it may come from the user's cache."""
    try:
        return {(name, cc): launch.KERNELS[name].cubin(cc) for cc in CAPABILITIES}
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.fixture(scope="module")
def reports(request):
    """Reports of the kernels whose tests were asked for, or why there are none; two processes compile them."""
    items = [item for item in request.session.items if item.name.startswith("test_kernel[")]
    names = list(dict.fromkeys(item.callspec.params["name"] for item in items))
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        codes = dict(zip(names, pool.map(compiled, names), strict=True))
    failed = {name: code for name, code in codes.items() if isinstance(code, str)}
    found = report.reports({key: code for name in codes if name not in failed for key, code in codes[name].items()})
    print("\n" + "\n".join([report.HEADER, *(found[key].line() for key in sorted(found))]))
    return found | {(name, cc): why for name, why in failed.items() for cc in CAPABILITIES}


@pytest.mark.parametrize("cc", CAPABILITIES, ids=lambda cc: f"cc{cc[0]}{cc[1]}")
@pytest.mark.parametrize("name", sorted(KERNELS))
def test_kernel(name, cc, reports):
    found = reports[name, cc]
    if isinstance(found, str):
        pytest.fail(f"{name} does not compile: {found}")
    assert report.faults(KERNELS[name], found) == []


# --- the checks themselves ---------------------------------------------------------------------------------------


def sound(x, y, n):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < n:
        v = load4(x, i * 4)
        store4(y, i * 4, v[0], v[1], v[2], v[3] + float32(1))


def careless(x, y, n):
    i = cuda.threadIdx.x
    parts = cuda.shared.array(64, float32)
    kept = cuda.local.array(64, float32)
    for k in range(64):
        kept[(i + k) & 63] = ld1(x, i + k)
        parts[k] = kept[k]
    cuda.syncthreads()
    cuda.atomic.add(parts, int32(0), kept[n])
    cuda.syncthreads()
    st1(y, i, float32(parts[0] * 0.1))


def faults_of(function, **promises):
    kernel = launch.GpuKernel(function, "f4* f4* i4", **{"threads": 256, **promises})
    del launch.KERNELS[kernel.name]
    code = compile_kernel(function, kernel.arguments, (kernel.threads, kernel.blocks), (8, 0))
    return report.faults(kernel, report.reports({("", (8, 0)): code})["", (8, 0)])


def test_a_sound_kernel_has_no_faults():
    assert faults_of(sound, claims=("LDG.E.128", "STG.E.128"), blocks=8, budget=64) == []


def test_a_careless_kernel_has_many():
    told = "; ".join(faults_of(careless, claims=("HMMA",), budget=1))
    for fault in ("spills", "float64", "atomics on floats", "no HMMA", "instructions, more than 1"):
        assert fault in told


def test_registers_limit_the_blocks():
    made = report.Report("k", (9, 0), 128, 0, 0, 0, {"RED.E.ADD.F32.FTZ.RN.STRONG.GPU": 1, "REDUX.SUM": 1})
    assert [made.blocks(threads) for threads in (128, 256, 512)] == [4, 2, 1]  # 65536 / (128 threads)
    assert made.float_atomics == ["RED.E.ADD.F32.FTZ.RN.STRONG.GPU"]
