"""Resizing: matrix, seam, poles and half pixels, and torch where edges are repeated."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.grids import Equirect
from spherecnn.kernels.spmm import spmm
from spherecnn.layers.resize import Downsample, Upsample
from spherecnn.stencils.resize import RESIZE_PADDING_MODES, resize
from spherecnn.testing import check_op

SIZES = [((4, 6), (8, 12)), ((4, 6), (9, 13)), ((8, 12), (4, 6)), ((7, 10), (3, 4)), ((5, 8), (5, 8)), ((3, 4), (1, 9))]


def every_configuration():
    for shape_in, shape_out in SIZES:
        for padding_mode in RESIZE_PADDING_MODES:
            poles = padding_mode == "sphere_poles"
            if poles and shape_out[0] < 2:
                continue
            for mode in ("nearest", "bilinear", "area")[: 2 if poles else 3]:
                yield shape_in, shape_out, mode, padding_mode


CONFIGURATIONS = list(every_configuration())


@pytest.mark.parametrize("how", CONFIGURATIONS, ids=str)
def test_rows_sum_to_one_and_the_transpose_is_one(how):
    matrix, adjoint = resize(*how), resize(*how, transposed=True)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-15)
    assert (matrix.data > 0).all()
    np.testing.assert_array_equal(matrix.toarray().T, adjoint.toarray())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 5, 16, 40, 68, 200])
def test_spmm_follows_its_definition_for_few_and_many_channels(channels, dtype):
    x = np.random.default_rng(0).standard_normal((2, 24, channels)).astype(dtype)
    empty_rows = resize((9, 13), (4, 6), "nearest", transposed=True)
    assert (np.diff(empty_rows.indptr) == 0).any()
    for matrix in (resize((4, 6), (9, 13)), resize((3, 2), (6, 4), transposed=True), empty_rows):
        check_op(spmm, matrix, x)


def test_spmm_of_a_large_output_that_streams():
    x = np.random.default_rng(0).standard_normal((1, 64 * 128, 144)).astype(np.float32)
    check_op(spmm, resize((64, 128), (128, 256), dtype=np.float32), x)


@pytest.mark.parametrize("how", CONFIGURATIONS, ids=str)
def test_adjoint(how):
    shape_in, shape_out, mode, padding_mode = how
    rng = np.random.default_rng(0)
    layer = Upsample(shape_out, None, mode, padding_mode)
    x, dy = rng.standard_normal((2, *shape_in, 5)), rng.standard_normal((2, *shape_out, 5))
    y, backward = layer.forward(x, train=True)
    assert (y * dy).sum() == pytest.approx((x * backward(dy)).sum(), rel=1e-12)


@pytest.mark.parametrize("padding_mode", ["sphere", "sphere_poles", "circular"])
@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rolled_input_gives_rolled_output_and_gradient_to_the_bit(mode, padding_mode, dtype):
    rng = np.random.default_rng(0)
    layer = Upsample((9, 24), None, mode, padding_mode)
    x, dy = rng.standard_normal((2, 4, 8, 20)).astype(dtype), rng.standard_normal((2, 9, 24, 20)).astype(dtype)
    y, backward = layer.forward(x, train=True)
    dx = backward(dy)
    for steps in range(1, 8):
        rolled, rolled_backward = layer.forward(np.roll(x, steps, 2), train=True)
        np.testing.assert_array_equal(rolled, np.roll(y, 3 * steps, 2))
        np.testing.assert_array_equal(rolled_backward(np.roll(dy, 3 * steps, 2)), np.roll(dx, steps, 2))


def test_upside_down():
    x = np.random.default_rng(0).standard_normal((1, 5, 8, 3))
    for padding_mode in ("sphere", "sphere_poles"):
        layer = Upsample((13, 20), None, "bilinear", padding_mode)
        np.testing.assert_allclose(layer(x[:, ::-1]), layer(x)[:, ::-1], atol=1e-14)
        np.testing.assert_allclose(layer(x[:, :, ::-1]), layer(x)[:, :, ::-1], atol=1e-14)


@pytest.mark.parametrize("factor", [2, 3, 1.5])
@pytest.mark.parametrize("pole_rows", [False, True])
def test_directions_are_interpolated_everywhere_with_an_error_of_second_order(factor, pole_rows):
    """x, y, z of the pixels are smooth over seam and poles; a shift by part of a pixel errs in first order."""

    def error(height):
        source = Equirect(height, pole_rows=pole_rows)
        target = Equirect(int(height * factor), int(2 * height * factor), pole_rows=pole_rows)
        layer = Upsample(scale_factor=factor, mode="bilinear", padding_mode="sphere_poles" if pole_rows else "sphere")
        y = layer(source.xyz.reshape(1, *source.shape, 3))
        return np.abs(y - target.xyz.reshape(1, *target.shape, 3)).max(axis=(0, 3))

    coarse, fine = error(32), error(64)
    pixel = np.pi / (31 if pole_rows else 32)
    # linear interpolation errs by at most step^2 / 8 per axis
    assert coarse.max() <= 2 * pixel**2 / 8
    assert fine.max() <= 0.27 * coarse.max()
    # the seam and the pole rows are no worse than the rest
    assert max(coarse[:, 0].max(), coarse[:, -1].max()) <= 1.01 * coarse[:, 1:-1].max()
    assert max(coarse[0].max(), coarse[-1].max()) <= 1.01 * coarse[1:-1].max()


def test_other_borders_err_at_seam_and_poles():
    source, target = Equirect(32), Equirect(64)
    x, expected = source.xyz.reshape(1, 32, 64, 3), target.xyz.reshape(1, 64, 128, 3)
    errors = {m: np.abs(Upsample((64, 128), None, "bilinear", m)(x) - expected) for m in ("circular", "replicate")}
    assert errors["circular"][:, 0].max() > 0.01 > errors["circular"][:, 1:-1].max()
    assert errors["replicate"][:, :, 0].max() > 0.01


def test_centres_do_not_move():
    """A ramp of the row number keeps its centre of mass, whatever the ratio."""
    for shape_in, shape_out in SIZES:
        ramp = np.arange(shape_in[0]) - (shape_in[0] - 1) / 2
        x = np.broadcast_to(ramp[None, :, None, None], (1, *shape_in, 1)).copy()
        for mode in ("bilinear", "area"):
            y = Upsample(shape_out, None, mode, "replicate")(x)
            assert abs(y.sum()) < 1e-12
    y = Upsample(scale_factor=(2, 1), mode="bilinear")(np.arange(6.0).reshape(1, 6, 1, 1).repeat(2, axis=2))
    np.testing.assert_allclose(y[0, 1:-1, 0, 0], np.arange(10) / 2 + 0.25)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", CONFIGURATIONS, ids=str)
def test_constant_stays_constant(how, dtype):
    shape_in, shape_out, mode, padding_mode = how
    y = Upsample(shape_out, None, mode, padding_mode)(np.full((1, *shape_in, 3), 0.3, dtype))
    np.testing.assert_allclose(y, dtype(0.3), rtol=2 * np.finfo(dtype).eps)


def test_nearest_then_area_is_the_identity_to_the_bit():
    x = np.random.default_rng(0).standard_normal((2, 5, 7, 18)).astype(np.float32)
    for padding_mode in ("sphere", "circular", "replicate"):
        up = Upsample(scale_factor=2, padding_mode=padding_mode)(x)
        np.testing.assert_array_equal(Downsample(scale_factor=2, padding_mode=padding_mode)(up), x)
        np.testing.assert_array_equal(Downsample(scale_factor=2, mode="nearest", padding_mode=padding_mode)(up), x)


def test_nan_reaches_only_what_reads_it():
    x = np.zeros((1, 4, 8, 16), np.float32)
    x[0, 0, 0] = np.nan
    y = Upsample(scale_factor=2, mode="bilinear")(x)[0, :, :, 0]
    # of the row at the pole, its own pixels and, half a turn away, those that read it across the pole
    assert set(zip(*np.nonzero(np.isnan(y)), strict=True)) == {
        *((i, j) for i in (0, 1, 2) for j in (15, 0, 1, 2)),
        *((0, j) for j in (7, 8, 9, 10)),
    }


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-10)])
@pytest.mark.parametrize(("mode", "peer"), [("nearest", "nearest-exact"), ("bilinear", "bilinear"), ("area", "area")])
def test_parity_with_torch(mode, peer, dtype, rtol):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    for _ in range(12):
        h, w, c = rng.integers(1, 12, 3)
        factor = rng.integers(1, 5, 2)
        size = tuple(rng.integers(1, 14, 2).tolist())
        if mode == "area":  # torch's windows overlap where sizes do not divide
            size, (h, w) = (int(h), int(w)), (h * factor[0], w * factor[1])
        x = rng.standard_normal((2, h, w, c)).astype(dtype)
        dy = rng.standard_normal((2, *size, c)).astype(dtype)
        tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
        align = {"align_corners": False} if mode == "bilinear" else {}
        ty = torch.nn.functional.interpolate(tx, size, mode=peer, **align)
        ty.backward(torch.from_numpy(dy).permute(0, 3, 1, 2))
        y, backward = Upsample(size, None, mode, "replicate").forward(x, train=True)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, ty.detach().permute(0, 2, 3, 1).numpy(), rtol=rtol, atol=rtol)
        np.testing.assert_allclose(backward(dy), tx.grad.permute(0, 2, 3, 1).numpy(), rtol=rtol, atol=10 * rtol)


def test_whole_factors_are_torchs_too():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((1, 5, 6, 3))
    tx = torch.from_numpy(x).permute(0, 3, 1, 2)
    for mode, options in (("nearest", {}), ("bilinear", {"align_corners": False})):
        ty = torch.nn.functional.interpolate(tx, scale_factor=3, mode=mode, **options)
        y = Upsample(scale_factor=3, mode=mode, padding_mode="replicate")(x)
        np.testing.assert_allclose(y, ty.permute(0, 2, 3, 1).numpy(), rtol=1e-12, atol=1e-14)


def test_shapes():
    assert Upsample(scale_factor=1.5).out_shape((2, 5, 6, 3)) == (2, 7, 9, 3)
    assert Upsample(7).out_shape((2, 5, 6, 3)) == (2, 7, 7, 3)
    assert Downsample(scale_factor=(1, 2)).out_shape((2, 5, 7, 3)) == (2, 5, 3, 3)


@pytest.mark.parametrize(
    ("build", "shape", "sentence"),
    [
        (lambda: Upsample(), None, "expected one of the two"),
        (lambda: Upsample(4, 2), None, "expected one of the two"),
        (lambda: Upsample(scale_factor=-1), None, "expected a positive number"),
        (lambda: Upsample(scale_factor="2"), None, "expected a positive number"),
        (lambda: Upsample(0), None, "at least 1"),
        (lambda: Upsample(scale_factor=2, mode="bicubic"), None, "expected one of 'nearest'"),
        (lambda: Upsample(scale_factor=2, padding_mode="zeros"), None, "expected one of 'sphere'"),
        (lambda: Upsample(scale_factor=2, mode="bilinear"), (1, 4, 5, 2), "expected an even number"),
        (lambda: Upsample(scale_factor=2, padding_mode="sphere_poles"), (1, 1, 4, 2), "at least 2 rows"),
        (lambda: Downsample(scale_factor=2, padding_mode="sphere_poles"), (1, 4, 4, 2), "'nearest' or 'bilinear'"),
        (lambda: Downsample(scale_factor=8), (1, 4, 16, 2), "at least one row and column"),
        (lambda: Upsample(scale_factor=2), (4, 16, 2), "N, H, W, C"),
    ],
)
def test_errors(build, shape, sentence):
    with pytest.raises(InputError, match=sentence):
        build()(np.zeros(shape, np.float32))
