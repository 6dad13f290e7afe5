"""The engine's kernels against their NumPy definitions, over shapes that reach every tile and tail."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from spherecnn.kernels.depthwise import depthwise, depthwise_dw
from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dw, gather_gemm_dx
from spherecnn.kernels.pool import max_pool, max_pool_dx
from spherecnn.kernels.spmm import spmm
from spherecnn.stencils import PADDING_MODES, window
from spherecnn.testing import check_op

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def random_stencil(rng):
    while True:
        shape = int(rng.integers(2, 12)), 2 * int(rng.integers(1, 9))
        kernel, stride, dilation = (tuple(map(int, rng.integers(1, n, 2))) for n in (6, 4, 3))
        p = [int(v) for v in rng.integers(0, 4, 4)]
        try:
            mode = PADDING_MODES[rng.integers(len(PADDING_MODES))]
            return window(shape, kernel, stride, ((p[0], p[1]), (p[2], p[3])), dilation, mode)
        except ValueError:
            continue


def close(got, expected, dtype):
    for a, b in zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]:
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * max(1, np.abs(b).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(60))
def test_gather_gemm_follows_its_definition(seed, dtype):
    rng = np.random.default_rng(seed)
    stencil = random_stencil(rng)
    groups = int(rng.choice([1, 1, 1, 2, 3]))
    reads, makes = (
        int(rng.choice([1, 2, 3, 5, 7, 8, 9, 16, 20])),
        int(rng.choice([1, 3, 10, 16, 17, 32, 40, 64, 96])),
    )
    x = rng.standard_normal((2, stencil.sites_in, reads * groups)).astype(dtype)
    w = rng.standard_normal((stencil.taps, reads, makes * groups)).astype(dtype)
    b = rng.standard_normal(makes * groups).astype(dtype)
    dy = rng.standard_normal((2, stencil.sites_out, makes * groups)).astype(dtype)
    close(gather_gemm(x, w, b, stencil, groups), gather_gemm.definition(x, w, b, stencil, groups), dtype)
    close(gather_gemm(x, w, None, stencil, groups), gather_gemm.definition(x, w, None, stencil, groups), dtype)
    close(gather_gemm_dx(dy, w, stencil, groups), gather_gemm_dx.definition(dy, w, stencil, groups), dtype)
    close(gather_gemm_dw(x, dy, stencil, groups), gather_gemm_dw.definition(x, dy, stencil, groups), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(40))
def test_depthwise_and_pooling_follow_their_definitions(seed, dtype):
    rng = np.random.default_rng(seed)
    stencil = random_stencil(rng)
    channels = int(rng.choice([1, 2, 3, 7, 16, 20, 33, 64]))
    x = rng.standard_normal((2, stencil.sites_in, channels)).astype(dtype)
    w = rng.standard_normal((stencil.taps, channels)).astype(dtype)
    b = rng.standard_normal(channels).astype(dtype)
    dy = rng.standard_normal((2, stencil.sites_out, channels)).astype(dtype)
    close(depthwise(x, w, b, stencil), depthwise.definition(x, w, b, stencil), dtype)
    close(depthwise_dw(x, dy, stencil), depthwise_dw.definition(x, dy, stencil), dtype)
    ties = np.round(x)
    ties[rng.random(x.shape) < 0.01] = np.nan
    (y, switch), (y0, switch0) = max_pool(ties, stencil), max_pool.definition(ties, stencil)
    np.testing.assert_array_equal(y, y0)
    np.testing.assert_array_equal(switch, switch0)
    close(max_pool_dx(dy, switch, stencil), max_pool_dx.definition(dy, switch, stencil), dtype)


@pytest.mark.parametrize("width", [1, 2, 3, 7])
@pytest.mark.parametrize("reads", [1, 2, 5])
def test_images_smaller_than_a_vector(width, reads):
    rng = np.random.default_rng(0)
    stencil = window((1, width), (1, 3), padding=((0, 0), (1, 1)), padding_mode="circular")
    x = rng.standard_normal((1, width, reads))
    w = rng.standard_normal((3, reads, 4))
    close(gather_gemm(x, w, None, stencil), gather_gemm.definition(x, w, None, stencil), "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_spmm_follows_its_definition(dtype):
    import scipy.sparse

    rng = np.random.default_rng(0)
    matrix = scipy.sparse.random_array((150, 70), density=0.1, rng=rng, format="csr")
    check_op(spmm, matrix, rng.standard_normal((3, 70, 5)).astype(dtype))


def test_nan_reaches_the_outputs_that_read_it():
    stencil = window((4, 8), (3, 3), padding=((1, 1), (1, 1)), padding_mode="circular")
    x = np.zeros((1, 32, 16), np.float32)
    x[0, 0, 0] = np.nan
    y = gather_gemm(x, np.ones((9, 16, 32), np.float32), None, stencil)
    assert np.isnan(y).any(axis=2).reshape(4, 8)[:2, [0, 1, 7]].all()
    assert np.isnan(y).any(axis=2).sum() == 6


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
def test_equal_bits_on_one_and_two_threads():
    rng = np.random.default_rng(0)
    stencil = window((30, 60), (3, 3), padding=((1, 1), (1, 1)), padding_mode="sphere")
    x, dy = (rng.standard_normal((3, 1800, 24), dtype=np.float32) for _ in range(2))
    w = rng.standard_normal((9, 24, 24), dtype=np.float32)
    before, results = numba.get_num_threads(), []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        results.append(
            [
                gather_gemm(x, w, None, stencil),
                gather_gemm_dx(dy, w, stencil),
                *gather_gemm_dw(x, dy, stencil),
                depthwise(x, w[:, 0], None, stencil),
                *depthwise_dw(x, dy, stencil),
            ]
        )
    numba.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert one.tobytes() == two.tobytes()


SMALL_HOST = """
import numpy as np
from spherecnn.kernels import vector
from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dw
from spherecnn.kernels.spmm import spmm
from spherecnn.grids import Equirect
from spherecnn.stencils import resize, tangent, window
rng = np.random.default_rng(0)
stencil = window((5, 8), (3, 3), padding=((1, 1), (1, 1)), padding_mode="circular")
for reads, makes in ((3, 16), (20, 43)):
    x, w, dy = (rng.standard_normal(s, dtype=np.float32) for s in ((2, 40, reads), (9, reads, makes), (2, 40, makes)))
    for got, expected in zip(
        (gather_gemm(x, w, None, stencil), *gather_gemm_dw(x, dy, stencil)),
        (gather_gemm.definition(x, w, None, stencil), *gather_gemm_dw.definition(x, dy, stencil)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-4)
blended = tangent(Equirect(5, 8), (1, 3))
for reads, makes in ((1, 16), (3, 5), (7, 16), (20, 43)):
    x, w, dy = (rng.standard_normal(s, dtype=np.float32) for s in ((2, 40, reads), (3, reads, makes), (2, 40, makes)))
    for got, expected in zip(
        (gather_gemm(x, w, None, blended), *gather_gemm_dw(x, dy, blended)),
        (gather_gemm.definition(x, w, None, blended), *gather_gemm_dw.definition(x, dy, blended)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-4)
for channels in (3, 20, 67):
    matrix, x = resize((5, 8), (9, 13)), rng.standard_normal((2, 40, channels), dtype=np.float32)
    np.testing.assert_allclose(spmm(matrix, x), spmm.definition(matrix, x), rtol=0, atol=1e-5)
print(vector.HOST.name)
"""


@pytest.mark.parametrize(
    ("name", "cpu", "features"), [("AVX2", "haswell", "+avx,+avx2,+fma"), ("SSE2", "nocona", "+sse,+sse2")]
)
def test_tiles_of_smaller_hosts(name, cpu, features, tmp_path):
    if numba.core.config.MACHINE_BITS != 64 or os.uname().machine != "x86_64":
        pytest.skip("needs an x86-64 host")
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": cpu,
        "NUMBA_CPU_FEATURES": features,
        "SPHERECNN_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", SMALL_HOST], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == name


KERNELS = sorted((Path(__file__).parent.parent / "spherecnn" / "kernels").glob("*.py"))


@pytest.mark.parametrize("file", KERNELS, ids=lambda f: f.name)
def test_no_kernel_unpacks_views_from_a_tuple(file):
    """Numba 0.68 drops the writes to such views inside parallel loops (see `kernels.jit.kernel`)."""
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef) and any("kernel" in ast.unparse(d) for d in function.decorator_list):
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
                    views = [v for v in node.value.elts if isinstance(v, ast.Subscript)]
                    assert len(views) < 2, f"{file.name} line {node.lineno}: {ast.unparse(node)}"
