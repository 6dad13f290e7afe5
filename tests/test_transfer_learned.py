"""Transfer: kernels of rows by least squares, and learned layer by layer."""

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.layers import Conv2d
from spherecnn.transfer import convolutions


def panoramas(count, height, width, channels=2, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((count, height, width, channels)).astype(dtype)


# --- rows by least squares ---------------------------------------------------------------------------------


def sphconv(seed, **options):
    settings = {"grid": sc.grids.Equirect(8), "rng": seed} | options
    return sc.layers.SphConv2d(4, 6, **settings).astype("float64")


@pytest.mark.parametrize(
    "options", [{}, {"groups": 2, "stride": 2}, {"tied": 3, "bias": False}, {"sizes": (5, 3)}], ids=str
)
def test_fit_rows_finds_the_kernels_that_made_the_targets(options):
    own, other = sphconv(0, **options), sphconv(1, **options)
    x = panoramas(120, 8, 16, 4)
    columns = [0, 3] if options.get("stride") else [1, 8, 15]
    sc.transfer.fit_rows(own, x, other(x)[:, :, columns], columns=columns, ridge=0)
    assert np.allclose(own.weight.value, other.weight.value, atol=1e-9)
    if own.bias is not None:
        assert np.allclose(own.bias.value, other.bias.value, atol=1e-9)


def test_fit_rows_is_the_ridge_regression_of_one_row():
    layer = sphconv(0)
    start, x = layer.kernel(3).copy(), panoramas(9, 8, 16, 4)
    before, t = layer.weight.value.copy(), panoramas(9, 1, 1, 6, seed=1)
    sc.transfer.fit_rows(layer, x, t, rows=[3], columns=[5], ridge=0.1)
    kh, kw = layer.sizes[3]
    assert kh < 8
    columns = np.arange(5 - kw // 2, 5 + kw // 2 + 1) % 16
    reads = x[:, 3 - kh // 2 : 4 + kh // 2][:, :, columns].reshape(9, -1)
    centred, wanted = reads - reads.mean(axis=0), t[:, 0, 0] - t[:, 0, 0].mean(axis=0)
    rho = 0.1 * (centred**2).sum() / reads.shape[1]
    # The same minimum as ordinary least squares with further rows sqrt(rho) I that pull to the start.
    rows = np.concatenate([centred, np.sqrt(rho) * np.eye(reads.shape[1])])
    aims = np.concatenate([wanted, np.sqrt(rho) * start.reshape(-1, 6)])
    found = np.linalg.lstsq(rows, aims)[0]
    assert np.allclose(layer.kernel(3).reshape(-1, 6), found, atol=1e-9)
    assert np.allclose(layer.bias.value[3], t[:, 0, 0].mean(axis=0) - reads.mean(axis=0) @ found, atol=1e-9)
    others = np.ones(len(before), bool)
    others[layer.taps_of(3)] = False
    assert (layer.weight.value[others] == before[others]).all()


def test_fit_rows_with_inputs_that_are_always_zero():
    own, other = sphconv(0), sphconv(1)
    x = panoramas(60, 8, 16, 4)
    x[..., 2] = 0
    sc.transfer.fit_rows(own, x, other(x), ridge=0)
    assert np.allclose(own(x), other(x), atol=1e-8)


def test_projected_rows_do_what_a_kernel_on_the_tangent_plane_does():
    grid = sc.grids.Equirect(32)
    planar = Conv2d(2, 3, 3, rng=0).astype("float64")
    whole = [sc.stencils.tangent_rows.tangent_size(grid, row, 3) for row in range(32)]
    layer = sc.layers.SphConv2d(2, 3, grid=grid, sizes=whole).astype("float64")
    sc.transfer.project_rows(layer, planar.weight.value, planar.bias.value)
    x = panoramas(1, 32, 64)
    tangent = sc.layers.TangentConv2d(2, 3, 3, grid=grid).astype("float64")
    tangent.weight.value[...], tangent.bias.value[...] = planar.weight.value, planar.bias.value
    assert np.allclose(layer(x), tangent(x), atol=1e-9)


def test_refusals_of_fits():
    layer, x = sphconv(0), panoramas(2, 8, 16, 4)
    with pytest.raises(InputError, match=r"targets have shape \(2, 8, 16, 5\); expected \(2, 8, 16, 6\)"):
        sc.transfer.fit_rows(layer, x, panoramas(2, 8, 16, 5))
    with pytest.raises(InputError, match="ridge is -1"):
        sc.transfer.fit_rows(layer, x, layer(x), ridge=-1)
    with pytest.raises(InputError, match="expected float64"):
        sc.transfer.fit_rows(layer, x.astype("float32"), layer(x))
    with pytest.raises(InputError, match=r"expected \(k, k, 4, 6\)"):
        sc.transfer.project_rows(layer, np.zeros((3, 3, 6, 4)))
    with pytest.raises(InputError, match="no parameters"):
        sc.transfer.descend([layer], {}, x, layer(x), np.arange(8), np.arange(16), steps=1)


# --- learned transfer --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smooth():
    """Smooth random panoramas (24, 16, 32, 1): sums of random directions' bumps."""
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((24, 8, 3))
    centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
    heights = rng.standard_normal((24, 8, 1))
    dots = np.einsum("nkd,pd->nkp", centres, sc.grids.Equirect(16).xyz)
    return (heights * np.exp(8 * (dots - 1))).sum(axis=1).reshape(24, 16, 32, 1).astype(np.float32)


@pytest.fixture(scope="module")
def planar(smooth):
    """A planar network whose normalisation has seen the panoramas."""
    net = sc.models.classifier("planar", 1, 3, sc.grids.Equirect(16), width=2, rng=0)
    for _ in range(30):
        net.forward(smooth, train=True)
    return net


@pytest.mark.parametrize("inputs", ["own", "exact"])
def test_spherical_kernels_come_nearer_to_the_exact_outputs(planar, smooth, inputs):
    sphere, report = sc.transfer.to_sphere(planar, "sphconv", images=smooth, inputs=inputs, samples=16)
    assert report.pictures == (19, 5)
    assert [e.layer for e in report.errors] == convolutions(planar)
    for e, line in zip(report.errors, report.summary(), strict=True):
        assert len(e.before) == len(e.lat) == sphere.features[int(e.layer.split(".")[1])].stencil.shape_out[0]
        assert line["after"] < 0.8 * line["before"]
        assert line["after_poles"] < 0.85 * line["before_poles"]
    assert (sphere.head.weight.value == planar.head.weight.value).all()
    assert (sphere.features[1].buffers["running_mean"] == planar.features[1].buffers["running_mean"]).all()
    # What the report says is what the network does.
    truth = sc.transfer.exact(planar, "features.0", smooth)
    found = sphere.features[0](smooth)
    poles = np.abs(sc.grids.Equirect(16).row_lat) > np.pi / 3
    direct = sc.transfer.rmse_rows(planar.features[0](smooth), truth)[poles]
    assert (sc.transfer.rmse_rows(found, truth)[poles] < 0.5 * direct).all()


def test_what_makes_the_kernels_is_trained_and_the_planar_kernels_stay(planar, smooth):
    options = {"images": smooth[:10], "samples": 8, "seed": 1}
    first, _ = sc.transfer.to_sphere(planar, "ktn", steps=1, **options)
    sphere, report = sc.transfer.to_sphere(planar, "ktn", steps=80, **options)
    for i in (0, 4, 7, 11, 14):
        assert (sphere.features[i].weight.value == planar.features[i].weight.value).all()
    assert not any(name.endswith((".weight", ".bias")) and ".residual." not in name for name in report.learned)
    # Training begins from geometry, which alone beats the planar network on the panorama.
    truth = sc.transfer.exact(planar, "features.0", smooth[:10])
    poles = np.abs(sc.grids.Equirect(16).row_lat) > np.pi / 4
    direct, start, end = (
        sc.transfer.rmse_rows(net.features[0](smooth[:10]), truth)[poles].mean() for net in (planar, first, sphere)
    )
    assert end < 0.97 * start
    assert start < 0.9 * direct
    assert all(line["after"] < line["before"] for line in report.summary()[:4])
    assert (first.features[4].residual.mix1.weight.value != sphere.features[4].residual.mix1.weight.value).any()


def test_fine_tuning_lowers_the_error_of_the_last_layer(planar, smooth):
    options = {"images": smooth, "inputs": "exact", "samples": 8, "ridge": 1.0}
    first, second = (
        sc.transfer.to_sphere(planar, "sphconv", finetune_steps=steps, **options)[1].summary()[-1] for steps in (0, 30)
    )
    assert second["after"] < first["after"]


def test_learned_methods_need_panoramas(planar, smooth):
    with pytest.raises(InputError, match="no images are given; expected panoramas"):
        sc.transfer.to_sphere(planar, "sphconv")
    with pytest.raises(InputError, match=r"expected \(N, 16, 32, 1\)"):
        sc.transfer.to_sphere(planar, "sphconv", images=smooth[:, :8])
    with pytest.raises(InputError, match="there are 1 images"):
        sc.transfer.to_sphere(planar, "sphconv", images=smooth[:1])
    net = sc.models.encoder_decoder("planar", 1, 1, sc.grids.Equirect(16), width=2, depth=1)
    with pytest.raises(InputError, match="gives indices"):
        sc.transfer.to_sphere(net, "sphconv", images=smooth)


def test_copies_are_measured_too(planar, smooth):
    _, report = sc.transfer.to_sphere(planar, "tangent", images=smooth[:2])
    assert report.errors[0].after.max() < 0.05 * report.errors[0].before.max()
    rows = report.rows()
    assert [row["row"] for row in rows[:16]] == list(range(16))
    assert rows[0]["lat"] == pytest.approx(84.375)


def test_a_transferred_network_is_saved_and_loaded(planar, smooth, tmp_path):
    sphere, _ = sc.transfer.to_sphere(planar, "sphconv", images=smooth[:4], samples=4)
    sc.training.save_checkpoint(tmp_path / "a.safetensors", sphere)
    header, arrays, _ = sc.training.load_checkpoint(tmp_path / "a.safetensors")
    again = sc.models.build(header["model"])
    sc.training.restore_model(again, header, arrays)
    assert (again(smooth) == sphere(smooth)).all()
