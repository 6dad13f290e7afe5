"""Transfer: the exact outputs by hand, and weights copied."""

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.layers import AvgPool2d, BatchNorm, Conv2d, MaxPool2d, ReLU, Sequential
from spherecnn.transfer.chain import chain_to, convolutions


def panoramas(count, height, width, channels=2, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((count, height, width, channels)).astype(dtype)


def bilinear(image, lat, lon):
    """Read an equirectangular image at one direction, written out: half-pixel rows, half a turn beyond a pole."""
    height, width = image.shape[:2]
    row, column = (np.pi / 2 - lat) / np.pi * height - 0.5, (lon + np.pi) / (2 * np.pi) * width - 0.5
    total = 0
    for i in (int(np.floor(row)), int(np.floor(row)) + 1):
        for j in (int(np.floor(column)), int(np.floor(column)) + 1):
            share = (1 - abs(row - i)) * (1 - abs(column - j))
            r, c = i, j
            if r < 0:
                r, c = -1 - r, c + width // 2
            elif r >= height:
                r, c = 2 * height - 1 - r, c + width // 2
            total = total + share * image[r, c % width]
    return total


def on_plane(lat, lon, x, y):
    """Latitude and longitude of the point (x to the east, y to the north) of the tangent plane, as published."""
    rho = np.hypot(x, y)
    if rho == 0:
        return lat, lon
    nu = np.arctan(rho)
    out = np.arcsin(np.cos(nu) * np.sin(lat) + y * np.sin(nu) * np.cos(lat) / rho)
    turn = np.arctan2(x * np.sin(nu), rho * np.cos(lat) * np.cos(nu) - y * np.sin(lat) * np.sin(nu))
    return out, lon + turn


# --- the chain ---------------------------------------------------------------------------------------------


def perturbed(net, shape, site):
    """The input rows and columns whose change changes an output site."""
    x = panoramas(1, *shape)
    changed = np.repeat(x, shape[0] * shape[1], axis=0)
    sites = np.indices(shape).reshape(2, -1)
    changed[np.arange(len(changed)), *sites] += 1
    seen = sites[:, (net(changed)[:, *site] != net(x)[0][site]).any(axis=1)]
    return list(zip(seen.min(axis=1), seen.max(axis=1), strict=True))


CHAINS = {
    "conv": (Conv2d(2, 2, 3, rng=0),),
    "even": (Conv2d(2, 2, (2, 4), rng=0),),
    "strided": (Conv2d(2, 2, 3, 2, rng=0), Conv2d(2, 2, 3, dilation=2, rng=1)),
    "pooled": (Conv2d(2, 2, 3, rng=0), BatchNorm(2), AvgPool2d(2), Conv2d(2, 2, 3, rng=1)),
    "valid": (Conv2d(2, 2, 3, padding="valid", rng=0), AvgPool2d(3, 2, 1), Conv2d(2, 2, 1, rng=1)),
}


@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
def test_receptive_field_is_what_changes_the_output(layers):
    net = Sequential(*layers).astype("float64")
    chain = chain_to(net, str(len(layers) - 1))
    site = (3, 4) if chain.stride[0] > 1 else (6, 8)
    found = perturbed(net, (16, 20), site)
    for (first, last), p, s, a, e in zip(found, site, chain.stride, chain.start, chain.extent, strict=True):
        assert (first, last) == (s * p + a, s * p + a + e - 1)


def test_a_chain_without_padding_gives_one_output_for_its_field():
    net = Sequential(*(layer for layers in CHAINS.values() for layer in layers)).astype("float64")
    chain = chain_to(net, str(len(net) - 1))
    assert chain.valid().out_shape((5, *chain.extent, 2)) == (5, 1, 1, 2)


def test_convolutions_in_the_order_of_calls():
    net = sc.models.resnet("planar", 1, 3, sc.grids.Equirect(16), width=2)
    names = convolutions(net)
    assert names[0] == "encoder.stem.0.conv"
    assert len(names) == len({*names}) == 20


def test_layers_that_see_more_than_a_window_are_refused():
    grid = sc.grids.Equirect(16)
    with pytest.raises(InputError, match=r"'head'.*GlobalAvgPool.*earlier layer"):
        chain_to(sc.models.classifier("planar", 1, 10, grid), "head")
    with pytest.raises(InputError, match=r"joins 2 inputs"):
        chain_to(sc.models.resnet("planar", 1, 3, grid, width=2), "encoder.stage4")
    with pytest.raises(InputError, match="CoordConv2d"):
        chain_to(sc.models.classifier("coord", 1, 10, grid), "features.1")
    with pytest.raises(InputError, match=r"expected one of features, features.0"):
        chain_to(sc.models.classifier("planar", 1, 10, grid), "feature.1")
    with pytest.raises(InputError, match="BatchNorm"):
        chain_to(Sequential(BatchNorm(2, track_running_stats=False)), "0")


# --- exact -------------------------------------------------------------------------------------------------


def test_exact_of_single_pixels_is_the_network_on_the_panorama():
    net = Sequential(Conv2d(2, 3, 1, rng=0), BatchNorm(3), ReLU(), Conv2d(3, 4, 1, rng=1)).astype("float64")
    x = panoramas(2, 6, 12)
    assert np.allclose(sc.transfer.exact(net, "3", x), net(x), atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(8, 16), (6, 10)])
def test_exact_of_a_3x3_kernel_by_hand(height, width):
    net = Sequential(Conv2d(2, 3, 3, rng=0)).astype("float64")
    x = panoramas(2, height, width)
    rows, columns = [0, 1, height // 2, -1], [0, 3, width - 1]
    found = sc.transfer.exact(net, "0", x, rows=rows, columns=columns)
    weight, bias = net[0].weight.value, net[0].bias.value
    for n in range(2):
        for a, i in enumerate(rows):
            for b, j in enumerate(columns):
                lat, lon = np.pi / 2 - (i % height + 0.5) * np.pi / height, -np.pi + (j + 0.5) * 2 * np.pi / width
                total = bias.copy()
                for u in range(3):
                    for v in range(3):
                        place = on_plane(lat, lon, (v - 1) * 2 * np.pi / width, (1 - u) * np.pi / height)
                        total += bilinear(x[n], *place) @ weight[u, v]
                assert np.allclose(found[n, a, b], total, atol=1e-9)


def test_exact_behind_a_pooling_is_at_the_coarse_pixels_centre():
    net = Sequential(AvgPool2d(2), Conv2d(2, 2, 1, rng=0)).astype("float64")
    x = panoramas(1, 8, 16)
    coarse = sc.grids.Equirect(4)
    found = sc.transfer.exact(net, "1", x)
    assert found.shape == (1, 4, 8, 2)
    for i, j in ((0, 0), (1, 7), (3, 5)):
        lat, lon = coarse.row_lat[i], coarse.column_lon[j]
        corners = [on_plane(lat, lon, u * np.pi / 16, v * np.pi / 16) for u in (-1, 1) for v in (-1, 1)]
        mean = np.mean([bilinear(x[0], *corner) for corner in corners], axis=0)
        assert np.allclose(found[0, i, j], mean @ net[1].weight.value[0, 0] + net[1].bias.value, atol=1e-9)


def test_exact_tends_to_the_planar_output_at_the_equator():
    layers = (Conv2d(1, 4, 3, rng=0), ReLU(), MaxPool2d(2), Conv2d(4, 2, 3, rng=1), Conv2d(2, 2, 3, 2, rng=2))
    net = Sequential(*layers).astype("float64")
    errors = []
    for height in (32, 64, 128):
        lon, lat = (
            a.reshape(height, 2 * height) for a in (sc.grids.Equirect(height).lon, sc.grids.Equirect(height).lat)
        )
        x = (np.sin(3 * lon) * np.cos(2 * lat) + 0.3 * np.sin(5 * lat))[None, :, :, None]
        columns, row = np.arange(4, height // 2 - 4), height // 8
        found = sc.transfer.exact(net, "4", x, rows=[row], columns=columns)
        planar = net(x)[:, [row]][:, :, columns]
        errors.append(np.abs(found - planar).max() / np.ptp(planar))
    assert errors[2] < 2e-3
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_exact_turns_with_the_panorama():
    net = sc.models.classifier("planar", 2, 3, sc.grids.Equirect(16), width=2, rng=0).astype("float64")
    x = panoramas(1, 16, 32)
    found = sc.transfer.exact(net, "features.15", x)
    turned = sc.transfer.exact(net, "features.15", np.roll(x, 8, axis=2))
    assert np.allclose(turned, np.roll(found, 2, axis=2), atol=1e-12)


def test_exact_of_some_pixels_is_part_of_all():
    net = sc.models.classifier("planar", 2, 3, sc.grids.Equirect(16), width=2, rng=0)
    x = panoramas(3, 16, 32, dtype=np.float32)
    whole = sc.transfer.exact(net, "features.7", x)
    some = sc.transfer.exact(net, "features.7", x, rows=[0, -1], columns=[3])
    assert whole.shape == (3, 8, 16, 4)
    assert whole.dtype == np.float32
    assert np.allclose(some, whole[:, [0, 7]][:, :, [3]], atol=1e-6)


def test_exact_with_the_pitch_of_a_camera():
    net = Sequential(Conv2d(1, 1, (1, 3), bias=False, rng=0)).astype("float64")
    x = panoramas(1, 16, 32, 1)
    grid = sc.grids.Equirect(16)
    found = sc.transfer.exact(net, "0", x, rows=[8], columns=[5], pitch=0.5)
    taps = [bilinear(x[0], *on_plane(grid.row_lat[8], grid.column_lon[5], u, 0))[0] for u in (-0.5, 0, 0.5)]
    assert np.isclose(found.item(), np.dot(taps, net[0].weight.value.ravel()), atol=1e-9)


def test_exact_on_rows_at_the_poles():
    grid = sc.grids.Equirect(9, 16, pole_rows=True)
    net = Sequential(Conv2d(1, 1, 3, bias=False, rng=0)).astype("float64")
    z = grid.xyz[:, 2].reshape(1, 9, 16, 1).copy()
    found = sc.transfer.exact(net, "0", z, rows=[0], grid=grid)
    # At the pole the patch is symmetric: the middle reads 1, all of the ring a little less.
    ring = [np.cos(np.arctan(np.hypot(i * np.pi / 8, j * np.pi / 8))) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    assert np.ptp(found) < 1e-12
    assert np.allclose(found, np.dot(ring, net[0].weight.value.ravel()), atol=0.03)


def test_refusals_of_exact():
    net = sc.models.classifier("planar", 1, 3, sc.grids.Equirect(8), width=2)
    x = panoramas(1, 8, 16, 1, dtype=np.float32)
    for options, says in (
        ({"rows": [8]}, "rows is .8.; expected integers from -8 to 7"),
        ({"columns": [0.5]}, "columns is"),
        ({"pitch": -1}, "pitch is -1"),
        ({"grid": sc.grids.Equirect(16)}, "Equirect.16, 32. for images"),
    ):
        with pytest.raises(InputError, match=says):
            sc.transfer.exact(net, "features.0", x, **options)
    with pytest.raises(InputError, match="float64; expected float32"):
        sc.transfer.exact(net, "features.0", x.astype("float64"))
    with pytest.raises(InputError, match="add an axis"):
        sc.transfer.exact(net, "features.0", x[0])


# --- copies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["circular", "sphere", "tangent"])
def test_copied_weights_are_equal(method):
    planar = sc.models.unet("planar", 2, 3, sc.grids.Equirect(16), width=2, depth=2, rng=3)
    x = panoramas(2, 16, 32, dtype=np.float32)
    planar.forward(x, train=True)
    sphere, report = sc.transfer.to_sphere(planar, method)
    assert sorted(report.copied) == sorted(planar.state())
    assert sphere.config == planar.config | {"method": method}
    own, theirs = planar.state(), sphere.state()
    assert own.keys() == theirs.keys()
    assert all((own[name] == theirs[name]).all() and own[name] is not theirs[name] for name in own)
    assert any(name.endswith("running_mean") and theirs[name].any() for name in theirs)


def test_a_copy_differs_at_the_seam_only():
    planar = sc.models.classifier("planar", 1, 3, sc.grids.Equirect(16), width=2, rng=0)
    x = panoramas(1, 16, 32, 1, dtype=np.float32)
    first, second = planar.features[0](x), sc.transfer.to_sphere(planar, "circular")[0].features[0](x)
    assert np.allclose(first[:, :, 1:-1], second[:, :, 1:-1], atol=1e-6)
    assert not np.allclose(first[:, :, 0], second[:, :, 0], atol=1e-3)


def test_a_network_of_one_grid_goes_to_another():
    planar = sc.models.classifier("planar", 1, 3, sc.grids.Equirect(28, 28), width=2, rng=0)
    sphere, _ = sc.transfer.to_sphere(planar, "circular", grid=sc.grids.Equirect(16))
    assert sphere(np.zeros((1, 16, 32, 1), np.float32)).shape == (1, 3)
    assert (sphere.head.weight.value == planar.head.weight.value).all()


def test_refusals_of_to_sphere():
    grid = sc.grids.Equirect(8)
    with pytest.raises(InputError, match="built with method 'circular'; expected 'planar'"):
        sc.transfer.to_sphere(sc.models.classifier("circular", 1, 3, grid), "sphere")
    with pytest.raises(InputError, match="Sequential without a config"):
        sc.transfer.to_sphere(Sequential(Conv2d(1, 1, 3)), "circular")
    with pytest.raises(InputError, match="method is 'coord'"):
        sc.transfer.to_sphere(sc.models.classifier("planar", 1, 3, grid), "coord")
