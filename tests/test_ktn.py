"""Kernels made from a planar one: the projection against tangent-plane sampling, the residual by hand, its limits."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.grids import Equirect
from spherecnn.layers import Conv2d, KTNConv2d, SphConv2d, TangentConv2d, method
from spherecnn.stencils.planar import fold
from spherecnn.stencils.tangent import tangent_matrix
from spherecnn.stencils.tangent_rows import projection, tangent_offsets, tangent_size

GRIDS = {"wide": Equirect(16), "square": Equirect(12, 12), "poles": Equirect(13, 24, pole_rows=True)}


def window_values(image, grid, row, size):
    """The pixels (kh * kw,) of the window about column 0 of a row, over the poles and around the seam."""
    rows, turned = fold(row + np.arange(size[0]) - size[0] // 2, grid.height, grid.pole_rows)
    columns = np.arange(size[1]) - size[1] // 2 + np.where(turned, grid.width // 2, 0)[:, None]
    return image[rows[:, None], columns % grid.width].ravel()


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("name", GRIDS)
def test_projected_kernel_is_the_planar_kernel_on_the_tangent_plane(name, kernel):
    grid, rng = GRIDS[name], np.random.default_rng(kernel)
    image, weight = rng.standard_normal(grid.shape), rng.standard_normal(kernel**2)
    if grid.pole_rows:  # a pole is one point
        image[0], image[-1] = 2, -1
    for row in range(grid.height):
        size = tangent_size(grid, row, kernel)
        read = tangent_matrix(grid, np.array([row]), (kernel, kernel), (1, 1), "spherenet") @ image.ravel()
        made = projection(grid, row, kernel, size) @ weight
        assert abs(made @ window_values(image, grid, row, size) - weight @ read) < 1e-10


def test_offsets_are_the_planar_ones_at_the_equator_and_small_beyond_the_pole():
    rows, columns = tangent_offsets(Equirect(9), 4, 3)
    np.testing.assert_allclose(rows, [[-1] * 3, [0] * 3, [1] * 3], atol=1e-12)
    np.testing.assert_allclose(columns, [[-1, 0, 1]] * 3, atol=1e-12)
    rows, columns = tangent_offsets(Equirect(90), 0, 3)
    # A pixel north of row 0 is row -1 on the same meridian; the pole lies between them, half a row from each.
    np.testing.assert_allclose((rows[0, 1], columns[0, 1]), (-1, 0), atol=1e-12)
    # East of it by a pixel, whose plane is near enough flat: at distance sqrt(1 + 1 / 4) from the pole.
    np.testing.assert_allclose(rows[1, 2], np.hypot(1, 0.5) - 0.5, atol=1e-3)
    np.testing.assert_allclose(columns[1, 2] * 2 / 180, np.arctan(2) / np.pi, atol=1e-3)
    assert np.abs(columns).max() <= 180 / 4


@pytest.mark.parametrize("height", [31, 125, 499])
def test_kernels_at_the_equator_of_a_fine_grid_tend_to_the_planar_one(height):
    """An odd number of rows has one on the equator; a row beside it is off by a bent row of O(1 / H)."""
    weight = np.random.default_rng(0).standard_normal((3, 3))
    planar = np.zeros((5, 5))
    planar[1:4, 1:4] = weight
    middle = projection(Equirect(height), height // 2, 3, (5, 5)) @ weight.ravel()
    np.testing.assert_allclose(middle.reshape(5, 5), planar, atol=1e-7)
    beside = projection(Equirect(height), height // 2 - 1, 3, (5, 5)) @ weight.ravel()
    error = np.abs(beside.reshape(5, 5) - planar).max()
    assert 0 < error < 60 / height**2


@pytest.mark.parametrize("tied", [1, 2, 5])
def test_the_kernels_are_the_projection_and_the_residual_by_hand(tied):
    grid = Equirect(7, 12)
    layer = KTNConv2d(2, 3, grid=grid, tied=tied, rng=0).astype(np.float64)
    rng = np.random.default_rng(1)
    for p in layer.named_params().values():
        p.value += rng.uniform(-0.5, 0.5, p.value.shape)
    net, w = layer.residual, layer.weight.value.reshape(9, 6)

    def shared(x, conv):  # (kh, kw, in, out): one filter for all
        f, (h, v) = conv.weight.value, (x.shape[0] - 2, x.shape[1] - 2)
        return sum(f[i, j] * x[i : i + h, j : j + v] for i in range(3) for j in range(3)) + conv.bias.value[0]

    def mixed(x, linear):
        return np.einsum("ijco,cd->ijdo", x, linear.weight.value) + linear.bias.value[:, None]

    first = wide_first = 0
    for kernel, (kh, kw) in zip(layer.kernels(), layer.sizes, strict=True):
        last, wide_last = first + kh * kw, wide_first + (kh + 4) * (kw + 4)
        base = (layer.projection.value[first:last] @ w).reshape(kh, kw, 2, 3)
        x = (layer.expansion.value[wide_first:wide_last] @ w).reshape(kh + 4, kw + 4, 2, 3)
        x = shared(np.tanh(mixed(np.tanh(x), net.mix1)), net.conv1)
        x = shared(np.tanh(mixed(np.tanh(x), net.mix2)), net.conv2)
        np.testing.assert_allclose(kernel, base + x, atol=1e-12)
        first, wide_first = last, wide_last
    assert (first, wide_first) == (len(layer.projection.value), len(layer.expansion.value))


@pytest.mark.parametrize("residual", [True, False])
def test_convolves_as_the_row_convolution_with_its_kernels(residual):
    grid = Equirect(9, 16)
    layer = KTNConv2d(4, 6, 3, 2, 2, grid=grid, tied=2, residual=residual, rng=0).astype(np.float64)
    rows = SphConv2d(4, 6, stride=2, groups=2, grid=grid, tied=2, sizes=layer.sizes).astype(np.float64)
    for g, kernel in enumerate(layer.kernels()):
        rows.kernel(g)[...] = kernel
    rows.bias.value[...] = layer.bias.value
    x = np.random.default_rng(1).standard_normal((2, 9, 16, 4))
    (y, backward), (expected, rows_backward) = layer.forward(x, train=True), rows.forward(x, train=True)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    np.testing.assert_allclose(backward(dy), rows_backward(dy), rtol=0, atol=1e-12)
    assert all(p.has_grad and np.abs(p.grad).max() > 0 for p in layer.named_params().values())
    np.testing.assert_allclose(layer.bias.grad, rows.bias.grad.sum(0), rtol=1e-10)


def test_rows_of_a_group_share_the_bounding_box_and_the_middle_projection():
    grid = Equirect(12)
    layer = KTNConv2d(1, 1, grid=grid, residual=False, rng=0)
    assert layer.rows == (0,) * 5 + (1,) * 5 + (2,) * 2
    each = [tangent_size(grid, row, 3) for row in range(12)]
    assert layer.sizes == [tuple(map(max, zip(*each[a:b], strict=True))) for a, b in ((0, 5), (5, 10), (10, 12))]
    for g, middle in enumerate((2, 7, 11)):
        made = projection(grid, middle, 3, layer.sizes[g]) @ layer.weight.value.reshape(9, 1)
        np.testing.assert_allclose(layer.kernels()[g].reshape(-1, 1), made, atol=1e-6)
        assert layer.kernels()[g].sum() == pytest.approx(layer.weight.value.sum(), abs=1e-5)


def test_untrained_it_is_the_tangent_convolution_where_rows_are_not_tied():
    grid = Equirect(16)
    layer, tangent = KTNConv2d(3, 8, grid=grid, tied=1, rng=0), TangentConv2d(3, 8, grid=grid)
    tangent.weight.value[...], tangent.bias.value[...] = layer.weight.value, layer.bias.value
    x = np.random.default_rng(1).standard_normal((2, 16, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(layer(x), tangent(x), atol=2e-6)


def test_untrained_and_tied_it_beats_the_planar_convolution_near_the_poles():
    grid = Equirect(32)
    lat, lon = grid.lat.reshape(grid.shape), grid.lon.reshape(grid.shape)
    x, y, z = np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)
    image = np.stack([np.sin(4 * x + 2 * z), np.cos(5 * y) * z, np.sin(3 * x * y)], -1)[None].astype(np.float32)
    layer, exact = KTNConv2d(3, 8, grid=grid, rng=0), TangentConv2d(3, 8, grid=grid)
    direct = Conv2d(3, 8, 3, padding_mode="sphere")
    for other in (exact, direct):
        other.weight.value[...], other.bias.value[...] = layer.weight.value, layer.bias.value
    wanted = exact(image)
    error = [np.sqrt(((net(image) - wanted) ** 2).mean((0, 2, 3))) for net in (layer, direct)]
    beyond = np.degrees(np.abs(grid.row_lat)) > 30
    assert error[0][beyond].mean() < 0.5 * error[1][beyond].mean()


@pytest.mark.parametrize(("groups", "bias"), [(1, True), (2, False)])
def test_parameters(groups, bias):
    layer = KTNConv2d(6, 8, groups=groups, bias=bias, grid=Equirect(10), rng=0)
    taps, reads = sum(kh * kw for kh, kw in layer.sizes), 6 // groups
    around = sum((kh + 4) * (kw + 4) for kh, kw in layer.sizes)
    planar = 9 * reads * 8 + 8 * bias
    assert layer.parameter_count == planar + 9 * (taps + around) + 2 * reads * (reads + 1) + 20
    assert KTNConv2d(6, 8, grid=Equirect(10), residual=False).parameter_count == 9 * 6 * 8 + 8 + 9 * taps
    # All but the planar kernel serves other planar weights: nothing else has the size of the channels out.
    sized = {name for name, p in layer.named_params().items() if 8 in p.value.shape}
    assert sized <= {"weight", "bias"}


def test_the_method_and_what_is_shown():
    kind, grid = method("ktn"), Equirect(8)
    layer = kind.conv(2, 3, grid, stride=2, rng=0)
    assert isinstance(layer, KTNConv2d)
    assert layer.out_shape((1, 8, 16, 2)) == (1, 4, 8, 3)
    assert isinstance(kind.conv(2, 3, grid, kernel_size=1), Conv2d)
    assert "1 row groups, kernels of 5 x 7, residual=True" in repr(layer)
    layer.set_exact()
    with pytest.raises(InputError, match="dilation is 2 for method 'ktn'"):
        kind.conv(2, 3, grid, dilation=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 2}, "kernel_size is 2; expected an odd number"),
        ({"grid": Equirect(2)}, "reaches 90 degrees"),
        ({"grid": Equirect(8, 15)}, "the image has 15 columns; expected an even number"),
        ({"tied": 0}, "tied is 0"),
        ({"grid": "erp"}, "the grid is 'erp'; expected an equirectangular one"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        KTNConv2d(2, 3, **({"grid": Equirect(8)} | options))
