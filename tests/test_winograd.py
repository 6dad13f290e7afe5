"""Winograd's convolution against its definition and the direct one, and the choice among the kernels."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest

import spherecnn as sc
from spherecnn.kernels import convolve as chosen
from spherecnn.kernels.convolve import KeptWeights, convolve, convolve_dw, convolve_dx
from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dw, gather_gemm_dx
from spherecnn.kernels.winograd import same, winograd, winograd_dw
from spherecnn.kernels.winograd_transform import matrices
from spherecnn.stencils import PADDING_MODES, window
from spherecnn.stencils.tiles import adjoint_tiles, tiles

ROUNDED = ("zeros", "circular", "sphere", "sphere_poles")
SAME = ((1, 1), (1, 1))


def random_window(rng, modes=PADDING_MODES):
    """A 3x3 window of stride 1 on an image of any size."""
    shape = int(rng.integers(2, 14)), 2 * int(rng.integers(1, 10))
    mode = modes[rng.integers(len(modes))]
    padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 2, (2, 2)))
    try:
        return window(shape, (3, 3), padding=SAME if rng.random() < 0.7 else padding, padding_mode=mode)
    except ValueError:
        return window(shape, (3, 3), padding=SAME, padding_mode="circular")


def arrays(rng, stencil, reads, makes, dtype):
    scale = 1 / np.sqrt(9 * reads)
    shapes = (2, stencil.sites_in, reads), (9, reads, makes), (makes,), (2, stencil.sites_out, makes)
    x, w, b, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return x, (w * scale).astype(dtype), b, dy


@pytest.mark.parametrize("m", [2, 4])
def test_matrices_make_a_correlation(m):
    rng = np.random.default_rng(0)
    a, b, g = matrices(m)
    d, kernel = rng.standard_normal(m + 2), rng.standard_normal(3)
    np.testing.assert_allclose(a @ ((g @ kernel) * (b @ d)), np.correlate(d, kernel, "valid"), atol=1e-13)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("seed", range(12))
def test_definitions_agree_with_the_direct_convolution(seed, m):
    rng = np.random.default_rng(seed)
    stencil = random_window(rng)
    x, w, b, dy = arrays(rng, stencil, 3, 4, np.float64)
    cut = tiles(stencil, m)
    np.testing.assert_allclose(winograd.definition(x, w, b, cut), gather_gemm.definition(x, w, b, stencil), atol=1e-12)
    for got, expected in zip(
        winograd_dw.definition(x, dy, cut), gather_gemm_dw.definition(x, dy, stencil), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=1e-11)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("seed", range(12))
def test_kernels_follow_their_definitions(seed, m, dtype, tolerance):
    rng = np.random.default_rng(seed)
    stencil = random_window(rng)
    reads, makes = (16 * int(n) for n in rng.integers(1, 8, 2))
    x, w, b, dy = arrays(rng, stencil, reads, makes, dtype)
    cut = tiles(stencil, m)
    exact = [a.astype(np.float64) for a in (x, w, b, dy)]
    got = (winograd(x, w, b, cut), winograd(x, w, None, cut), *winograd_dw(x, dy, cut))
    expected = (
        winograd.definition(*exact[:3], cut),
        winograd.definition(*exact[:2], None, cut),
        *winograd_dw.definition(exact[0], exact[3], cut),
    )
    for a, e in zip(got, expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(1, np.abs(e).max()))


@pytest.mark.parametrize("mode", ROUNDED)
@pytest.mark.parametrize("shape", [(12, 24), (9, 18), (17, 10)])
def test_data_gradient_is_the_adjoint(monkeypatch, mode, shape):
    monkeypatch.setattr(chosen, "_cut", lambda cutter, stencil, w, groups: cutter(stencil, 4))
    rng = np.random.default_rng(0)
    stencil = window(shape, (3, 3), padding=SAME, padding_mode=mode)
    x, w, _, dy = arrays(rng, stencil, 32, 16, np.float64)
    dx = convolve_dx(dy, w, stencil)
    np.testing.assert_allclose(dx, gather_gemm_dx.definition(dy, w, stencil), atol=1e-12)
    np.testing.assert_allclose((convolve(x, w, None, stencil) * dy).sum(), (x * dx).sum(), rtol=1e-11)


def test_windows_that_are_no_tiles():
    assert tiles(window((8, 16), (3, 3), (2, 2), SAME), 4) is None
    assert tiles(window((8, 16), (5, 5), padding=((2, 2), (2, 2))), 4) is None
    assert tiles(window((8, 16), (3, 3), padding=((2, 2), (2, 2)), dilation=(2, 2)), 4) is None
    assert adjoint_tiles(window((8, 16), (3, 3), padding=SAME, padding_mode="replicate"), 4) is None
    assert adjoint_tiles(window((8, 16), (3, 3), padding=SAME, padding_mode="reflect"), 4) is None
    assert tiles(window((8, 16), (3, 3)).transposed, 4) is None


@pytest.mark.parametrize("channels", [32, 64, 256, 512])
def test_error_is_below_the_stated_bound(channels):
    """The bound of `Conv2d`: 1e-5 of the largest output, here and in the gradients."""
    rng = np.random.default_rng(channels)
    stencil = window((16, 32), (3, 3), padding=SAME, padding_mode="circular")
    x, w, b, dy = arrays(rng, stencil, channels, channels, np.float32)
    exact = [a.astype(np.float64) for a in (x, w, b, dy)]
    assert chosen._cut(tiles, stencil, w, 1).tables.size == 4
    for got, expected in (
        (convolve(x, w, b, stencil), gather_gemm(*exact[:3], stencil)),
        (convolve_dx(dy, w, stencil), gather_gemm_dx(exact[3], exact[1], stencil)),
        (convolve_dw(x, dy, stencil, w)[0], gather_gemm_dw(exact[0], exact[3], stencil)[0]),
    ):
        assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
@pytest.mark.parametrize("m", [2, 4])
def test_equal_bits_on_any_number_of_threads(m):
    rng = np.random.default_rng(0)
    stencil = window((26, 52), (3, 3), padding=SAME, padding_mode="sphere")
    x, w, b, dy = arrays(rng, stencil, 48, 80, np.float32)
    cut, before, results = tiles(stencil, m), sc.get_num_threads(), []
    for threads in (1, 2):
        sc.set_num_threads(threads)
        results.append([winograd(x, w, b, cut), *winograd_dw(x, dy, cut)])
    sc.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert one.tobytes() == two.tobytes()


def test_nan_reaches_the_outputs_that_read_it():
    stencil = window((16, 32), (3, 3), padding=SAME, padding_mode="circular")
    x, w, _, _ = arrays(np.random.default_rng(0), stencil, 32, 32, np.float32)
    x[0, 16 * 8, 3] = np.nan
    direct = np.isnan(convolve(x, w, None, stencil, exact=True))
    assert direct.any()
    assert np.isnan(convolve(x, w, None, stencil))[direct].all()


def test_kept_weights_follow_a_change_in_place():
    conv = sc.layers.CircularConv2d(32, 32, 3, rng=0)
    x = np.random.default_rng(0).standard_normal((1, 16, 32, 32)).astype(np.float32)
    before = conv(x)
    np.testing.assert_array_equal(conv(x), before)
    conv.weight.value *= 2
    conv.bias.value *= 2
    np.testing.assert_allclose(conv(x), 2 * before, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(conv(x), conv.forward(x, train=True)[0])


def test_kept_weights_are_made_once(monkeypatch):
    made = []
    monkeypatch.setattr(chosen, "transform_weights", lambda w, m: made.append(m) or w.sum())
    kept, w = KeptWeights(), np.ones((9, 2, 3))
    assert kept.of(w, 4) == kept.of(w.copy(), 4) == 54
    assert made == [4]
    w[0, 0, 0] = 2
    assert (kept.of(w, 4), kept.of(w, 2)) == (55, 55)
    assert made == [4, 4, 2]


@pytest.mark.parametrize("size", [1, 7, 65536, 200001])
def test_same_sees_every_number(size):
    a = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    assert same(a, a.copy())
    for at in {0, size // 2, size - 1}:
        b = a.copy()
        b[at] += 1
        assert not same(a, b)
    assert not same(a, a[:-1])
    a[-1] = np.nan
    assert not same(a, a)


@pytest.mark.parametrize(
    ("shape", "reads", "makes", "dtype", "size"),
    [
        ((64, 128), 64, 64, "float32", 4),
        ((64, 128), 64, 64, "float64", None),
        ((64, 128), 8, 64, "float32", None),
        ((64, 128), 16, 64, "float32", 4),
        ((64, 128), 40, 64, "float32", None),
        ((8, 8), 64, 64, "float32", None),
        ((64, 2), 64, 64, "float32", 2),
        ((64, 128), 2048, 64, "float32", 2),
    ],
)
def test_choice_by_shape_and_accuracy(shape, reads, makes, dtype, size):
    stencil = window(shape, (3, 3), padding=SAME, padding_mode="circular")
    cut = chosen._cut(tiles, stencil, np.zeros((9, reads, makes), dtype), 1)
    assert (None if cut is None else cut.tables.size) == size


def test_exact_gives_equal_pixels_equal_bits():
    x = np.random.default_rng(0).standard_normal((1, 16, 32, 32)).astype(np.float32)
    conv = sc.layers.CircularConv2d(32, 32, 3, exact=True, rng=0)
    np.testing.assert_array_equal(conv(np.roll(x, 5, axis=2)), np.roll(conv(x), 5, axis=2))
    conv.set_exact(False)
    assert (conv(np.roll(x, 5, axis=2)) != np.roll(conv(x), 5, axis=2)).any()


@pytest.mark.parametrize(
    ("groups", "reads", "makes"), [(8, 4, 4), (32, 2, 2), (6, 3, 8), (5, 7, 3), (4, 1, 2), (2, 20, 24)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_groups_convolved_together(groups, reads, makes, dtype):
    rng = np.random.default_rng(0)
    stencil = window((6, 10), (3, 3), padding=SAME, padding_mode="circular")
    x = rng.standard_normal((2, 60, groups * reads)).astype(dtype)
    w = rng.standard_normal((9, reads, groups * makes)).astype(dtype)
    b, dy = (
        rng.standard_normal(groups * makes).astype(dtype),
        rng.standard_normal((2, 60, groups * makes)).astype(dtype),
    )
    for got, expected in (
        (convolve(x, w, b, stencil, groups), gather_gemm.definition(x, w, b, stencil, groups)),
        (convolve_dx(dy, w, stencil, groups), gather_gemm_dx.definition(dy, w, stencil, groups)),
        (convolve_dw(x, dy, stencil, w, groups)[0], gather_gemm_dw.definition(x, dy, stencil, groups)[0]),
    ):
        assert got.shape == expected.shape
        np.testing.assert_allclose(
            got, expected, rtol=0, atol=(1e-5 if dtype == "float32" else 1e-12) * np.abs(expected).max()
        )


SMALL_HOST = """
import numpy as np
from spherecnn.kernels import vector
from spherecnn.kernels.winograd import same, winograd, winograd_dw
from spherecnn.stencils import window
from spherecnn.stencils.tiles import tiles
rng = np.random.default_rng(0)
cut = tiles(window((7, 10), (3, 3), padding=((1, 1), (1, 1)), padding_mode="circular"), 4)
x, w, dy = (rng.standard_normal(s, dtype=np.float32) for s in ((2, 70, 24), (9, 24, 40), (2, 70, 40)))
for got, expected in zip(
    (winograd(x, w, None, cut), *winograd_dw(x, dy, cut)),
    (winograd.definition(x, w, None, cut), *winograd_dw.definition(x, dy, cut)), strict=True):
    np.testing.assert_allclose(got, expected, rtol=0, atol=3e-5 * np.abs(expected).max())
print(vector.HOST.name)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs an x86-64 host")
def test_tiles_of_a_smaller_host(tmp_path):
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma",
        "SPHERECNN_CACHE_DIR": str(tmp_path),
    }
    done = subprocess.run([sys.executable, "-c", SMALL_HOST], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "AVX2"
