"""The engine on the GPU: every way of gathering, every shape of tile, in all precisions, against the definitions."""

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.grids import Equirect, Icosphere, Polyhedron
from spherecnn.kernels.convolve import convolve, convolve_dw, convolve_dx
from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dw, gather_gemm_dx
from spherecnn.kernels.gpu import weight_gradient
from spherecnn.kernels.gpu.array import to_device, to_host
from spherecnn.kernels.winograd import winograd, winograd_dw
from spherecnn.layers.latitude import SphConv2d
from spherecnn.layers.mesh import MeshConv
from spherecnn.layers.spherephd import SpherePHDConv
from spherecnn.layers.tangent import TangentConv2d
from spherecnn.stencils import window
from spherecnn.stencils.tiles import adjoint_tiles, tiles

ERROR = {"float32": 1e-5, "tf32": 1e-3, "bf16": 1e-2}


def image(mode="circular", shape=(4, 6), stride=(1, 1)):
    return window(shape, (3, 3), stride, ((1, 1), (1, 1)), padding_mode=mode)


def of(layer, *shape):
    return layer.stencil(*shape)


STENCILS = {
    "circular": image,
    "zeros": lambda: image("zeros"),
    "strided over the poles": lambda: image("sphere", (5, 8), (2, 2)),
    "reflected": lambda: image("reflect", (3, 5)),
    "faces": lambda: of(SpherePHDConv(4, 8, Polyhedron(0), rng=0)),
    "faces, strided": lambda: of(SpherePHDConv(4, 8, Polyhedron(1), stride=2, rng=0)),
    "north": lambda: of(SpherePHDConv(4, 8, Polyhedron(0), orientation="north", rng=0)),
    "mesh": lambda: of(MeshConv(4, 8, Icosphere(0), rng=0)),
    "mesh, two operators": lambda: of(MeshConv(4, 8, Icosphere(0), operators=("identity", "laplacian"), rng=0)),
    "tangent": lambda: of(TangentConv2d(4, 8, 3, grid=Equirect(4), rng=0), 4, 8),
    "latitudes": lambda: SphConv2d(4, 8, 3, grid=Equirect(4), rng=0).stencil,
}


def numbers(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def wide(*arrays):
    return [None if a is None else a.astype(np.float64) for a in arrays]


def close(found, true, precision):
    error = np.linalg.norm(to_host(found) - true) / np.linalg.norm(true)
    assert error < ERROR[precision], f"relative error {error:.1e} in {precision}"


def check(stencil, samples, channels, outputs, groups=1, precision="float32", bias=True):
    """Forward, data gradient and weight gradient, against the definitions in float64."""
    rng = np.random.default_rng(0)
    x, dy = numbers(rng, samples, stencil.sites_in, channels), numbers(rng, samples, stencil.sites_out, outputs)
    w = numbers(rng, stencil.taps, channels // groups, outputs)
    b = numbers(rng, *((stencil.biases,) if stencil.biases > 1 else ()), outputs) if bias else None
    on_gpu = [None if a is None else to_device(a) for a in (x, w, b, dy)]
    with sc.precision(precision):
        y = gather_gemm(*on_gpu[:3], stencil, groups)
        dx = gather_gemm_dx(on_gpu[3], on_gpu[1], stencil, groups)
        dw, db = gather_gemm_dw(on_gpu[0], on_gpu[3], stencil, groups)
    x, w, b, dy = wide(x, w, b, dy)
    close(y, gather_gemm.definition(x, w, b, stencil, groups), precision)
    close(dx, gather_gemm_dx.definition(dy, w, stencil, groups), precision)
    true_dw, true_db = gather_gemm_dw.definition(x, dy, stencil, groups)
    close(dw, true_dw, precision)
    close(db, true_db, "float32")


@pytest.mark.parametrize("name", STENCILS)
def test_every_stencil(simulated, name):
    check(STENCILS[name](), 2, 4, 8)


@pytest.mark.parametrize("precision", ERROR)
@pytest.mark.parametrize("name", ["circular", "tangent", "north", "mesh"])
def test_every_way_of_gathering_in_every_precision(simulated, name, precision):
    check(STENCILS[name](), 1, 8, 12, precision=precision)


@pytest.mark.parametrize("precision", ERROR)
@pytest.mark.parametrize("name", ["circular", "tangent", "north", "mesh"])
def test_channels_that_do_not_fit_moves_of_four(shuffled, name, precision):
    check(STENCILS[name](), 1, 3, 5, precision=precision, bias=False)


@pytest.mark.parametrize(("channels", "outputs"), [(4, 36), (36, 4), (4, 132), (132, 4), (40, 64), (1, 1)])
def test_every_shape_of_tile(shuffled, channels, outputs):
    check(image(shape=(2, 3)), 1, channels, outputs)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_tensor_cores_on_wide_tiles(shuffled, precision):
    check(image(shape=(1, 3)), 1, 12, 100, precision=precision)
    check(image(shape=(1, 3)), 1, 4, 64, precision=precision)
    assert shuffled.launches[f"mix_128_gather_4_{precision}"] == 1
    assert shuffled.launches[f"mix_64_gather_4_{precision}"] == 1


def test_groups(shuffled):
    check(image(), 1, 8, 16, groups=2)
    check(STENCILS["mesh"](), 1, 8, 16, groups=2)


def test_more_sites_than_a_block_has(shuffled):
    check(image(shape=(9, 8)), 2, 4, 4)


def test_a_weight_gradient_of_several_parts(shuffled, monkeypatch):
    monkeypatch.setattr(weight_gradient, "LEAST_STEPS", 1)
    check(image(shape=(9, 8)), 2, 4, 4)
    check(STENCILS["latitudes"](), 3, 4, 4)
    check(STENCILS["mesh"](), 9, 4, 4)


def test_equal_inputs_give_equal_bits(shuffled, monkeypatch):
    monkeypatch.setattr(weight_gradient, "LEAST_STEPS", 1)
    rng, stencil = np.random.default_rng(0), image(shape=(9, 8))
    x, dy = to_device(numbers(rng, 1, 72, 4)), to_device(numbers(rng, 1, 72, 4))
    one, two = (to_host(gather_gemm_dw(x, dy, stencil)[0]) for _ in range(2))
    assert np.array_equal(one, two)


def test_nan_reaches_what_reads_it_and_nothing_else(simulated):
    rng, stencil = np.random.default_rng(0), image()
    x, w = numbers(rng, 1, 24, 4), numbers(rng, 9, 4, 4)
    x[0, 7, 2] = np.nan
    y = to_host(gather_gemm(to_device(x), to_device(w), None, stencil))
    assert np.array_equal(np.isnan(y), np.isnan(gather_gemm.definition(x, w, None, stencil)))
    assert 0 < np.isnan(y).sum() < y.size


@pytest.mark.parametrize("precision", ERROR)
def test_the_nan_that_a_gpu_makes_stays_nan(shuffled, precision):
    """All bits but the sign are ones, so that half a digit more would be no NaN."""
    x, w, dy = (np.ones(shape, np.float32) for shape in ((1, 2, 4), (1, 4, 4), (1, 2, 4)))
    x[0, 0, 1] = np.uint32(0x7FFFFFFF).view(np.float32)
    w[0, 2, 3] = np.uint32(0xFFFFFFFF).view(np.float32)
    point, on_gpu = window((1, 2), (1, 1)), [to_device(a) for a in (x, w, dy)]
    with sc.precision(precision):
        y, dw = gather_gemm(*on_gpu[:2], None, point), gather_gemm_dw(on_gpu[0], on_gpu[2], point)[0]
    assert np.array_equal(np.isnan(to_host(y)[0]), [[1, 1, 1, 1], [0, 0, 0, 1]])
    assert np.array_equal(np.isnan(to_host(dw)[0]).all(axis=1), [0, 1, 0, 0])


def test_tf32_rounds_its_factors_to_ten_digits(shuffled):
    one = np.float32(1 + 2**-11)
    x, w = np.full((1, 1, 4), one, np.float32), np.zeros((1, 4, 4), np.float32)
    w[0, 0] = 1
    point = window((1, 1), (1, 1))
    exact = to_host(gather_gemm(to_device(x), to_device(w), None, point))
    with sc.precision("tf32"):
        rough = to_host(gather_gemm(to_device(x), to_device(w), None, point))
    assert exact[0, 0, 0] == one
    assert rough[0, 0, 0] == 1 + 2**-10  # half of the last digit is rounded up


def test_convolve_takes_the_direct_kernel(shuffled):
    rng, stencil = np.random.default_rng(0), image("zeros", (12, 12))
    x, w, dy = numbers(rng, 1, 144, 16), numbers(rng, 9, 16, 16), numbers(rng, 1, 144, 16)
    on_gpu = [to_device(a) for a in (x, w, dy)]
    close(convolve(on_gpu[0], on_gpu[1], None, stencil), gather_gemm.definition(*wide(x, w), None, stencil), "float32")
    close(convolve_dx(on_gpu[2], on_gpu[1], stencil), gather_gemm_dx.definition(*wide(dy, w), stencil), "float32")
    dw, _ = convolve_dw(on_gpu[0], on_gpu[2], stencil, w)
    close(dw, gather_gemm_dw.definition(*wide(x, dy), stencil)[0], "float32")
    assert all(name.startswith(("mix", "outer", "pack", "add", "sum")) for name in shuffled.launches)


@pytest.mark.parametrize(("cutter", "size"), [(tiles, 4), (adjoint_tiles, 2)])
def test_the_tiles_of_winograd(shuffled, cutter, size):
    rng, cut = np.random.default_rng(0), cutter(image("sphere", (5, 6)), size)
    x, w, dy = numbers(rng, 1, 30, 4), numbers(rng, 9, 4, 4), numbers(rng, 1, 30, 4)
    close(winograd(to_device(x), to_device(w), None, cut), winograd.definition(*wide(x, w), None, cut), "float32")
    dw, _ = winograd_dw(to_device(x), to_device(dy), cut)
    close(dw, winograd_dw.definition(*wide(x, dy), cut)[0], "float32")


def test_a_batch_of_too_many_sites_is_refused(shuffled):
    with pytest.raises(sc.InputError, match="use a smaller batch"):
        weight_gradient.check_rows(2**16, 2**15)
