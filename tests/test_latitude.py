"""Kernels that change with the latitude: published sizes, the definition by loops, adjoints, rotations, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest

from spherecnn import models
from spherecnn.errors import InputError
from spherecnn.grids import Equirect
from spherecnn.layers import Conv2d, SphConv2d, method
from spherecnn.stencils import latitude, layer_sizes, row_sizes
from spherecnn.stencils.row_sizes import VGG16_FIELDS, taps

REFERENCE = json.loads((Path(__file__).parent / "reference" / "row_sizes.json").read_text())
# Height, pixels of the tangent image, stride of each stage of VGG-16 (util/rf.py of the authors).
CONFIGURATIONS = {
    "SphereH160Ks640": (160, 640, {}),
    "SphereH320Ks640": (320, 640, {"5": 2, "6": 2}),
    "SphereH320Ks224": (320, 224, {"3": 2, "4": 4, "5": 8, "6": 8}),
}
LAYERS = {
    "default": {"grid": Equirect(5, 8)},
    "tied": {"grid": Equirect(7, 10), "tied": 3, "groups": 2},
    "poles": {"grid": Equirect(5, 8, pole_rows=True), "sizes": [(1, 1), (3, 5), (5, 3), (3, 3), (7, 1)]},
    "wider than the panorama": {"grid": Equirect(4, 6), "sizes": [(3, 9), (3, 3), (1, 7), (9, 1)]},
    "strided": {"grid": Equirect(6, 12), "stride": 2, "sizes": [(3, 5), (5, 3), (3, 3)], "bias": False},
    "stride that does not divide": {"grid": Equirect(5, 8), "stride": (2, 3), "tied": 2},
    "many channels": {"grid": Equirect(4, 8), "channels": (16, 24)},
    "depthwise": {"grid": Equirect(4, 8), "channels": (6, 6), "groups": 6},
    "few of many groups": {"grid": Equirect(4, 8), "channels": (6, 9), "groups": 3, "tied": 4},
}


def build(options, seed=0):
    options = dict(options)
    channels = options.pop("channels", (4, 6))
    layer = SphConv2d(*channels, rng=seed, **options).astype(np.float64)
    x = np.random.default_rng(seed + 1).standard_normal((2, *layer.grid.shape, channels[0]))
    return layer, x


def by_loops(layer, x):
    """The definition, one output after the other."""
    n, height, width, _ = x.shape
    _, rows, columns, makes = layer.out_shape(x.shape)
    reads, part = x.shape[3] // layer.groups, makes // layer.groups
    y = np.zeros((n, rows, columns, makes))
    for p in range(rows):
        kernel = layer.kernel(p // layer.tied)
        kh, kw = kernel.shape[:2]
        for q in range(columns):
            for i in range(kh):
                row, turn = p * layer.stride[0] + i - kh // 2, 0
                while not 0 <= row < height:  # over a pole
                    pole = int(layer.grid.pole_rows)
                    row, turn = (pole - 1 - row if row < 0 else 2 * height - 1 - pole - row), turn + width // 2
                for j in range(kw):
                    pixel = x[:, row, (q * layer.stride[1] + j - kw // 2 + turn) % width]
                    for g in range(layer.groups):
                        made = slice(g * part, (g + 1) * part)
                        y[:, p, q, made] += pixel[:, g * reads : (g + 1) * reads] @ kernel[i, j, :, made]
        if layer.bias is not None:
            y[:, p] += layer.bias.value[p // layer.tied]
    return y


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_sizes_are_the_published_ones(name):
    height, pixels, stages = CONFIGURATIONS[name]
    strides = {layer: stages.get(layer[0], 1) for layer in VGG16_FIELDS}
    sizes = row_sizes(height, VGG16_FIELDS, strides, tangent_size=pixels)
    published = REFERENCE[name]
    assert sizes.keys() == published.keys()
    for layer, rows in published.items():
        assert sizes[layer] == [tuple(size) for size in rows], layer


def test_taps_count_strides_and_mirror_rows():
    counts = taps([tuple(size) for size in REFERENCE["SphereH320Ks640"]["5_3"]], stride=2)
    assert len(counts) == 320
    assert counts == counts[::-1]
    assert [counts[row] for row in (2, 5, 10, 20, 40, 80, 159)] == [
        (7, 3),
        (5, 3),
        (5, 3),
        (5, 3),
        (5, 7),
        (5, 5),
        (3, 3),
    ]  # methods/equirectangular.md lists them as width x height


@pytest.mark.parametrize("poles", [False, True])
def test_sizes_of_one_layer(poles):
    grid = Equirect(65 if poles else 64, 128, pole_rows=poles)
    sizes = layer_sizes(grid)
    assert sizes == sizes[::-1]
    assert sizes[len(sizes) // 2] == (3, 3)
    widths = [kw for _, kw in sizes[: len(sizes) // 2]]
    assert widths == sorted(widths, reverse=True)
    # A pixel of a tangent plane spans 1 / cos(lat) columns, rounded up where a bilinear read reaches.
    row = 20
    assert sizes[row] == (3, 2 * int(np.ceil(1 / np.cos(grid.row_lat[row]))) + 1)
    assert all(kh * (kw - 2) <= 49 for kh, kw in sizes)
    assert layer_sizes(grid, 1) == [(1, 1)] * len(sizes)
    assert max(kh * kw for kh, kw in layer_sizes(grid, most_taps=9)) <= 15
    assert layer_sizes(Equirect(2)) == [(3, 3)] * 2


@pytest.mark.parametrize("name", LAYERS)
def test_definition_and_gradients(name):
    layer, x = build(LAYERS[name])
    y, backward = layer.forward(x, train=True)
    np.testing.assert_allclose(y, by_loops(layer, x), rtol=0, atol=1e-12)
    rng = np.random.default_rng(3)
    dy = rng.standard_normal(y.shape)
    dx = backward(dy)
    # The layer is linear in the input, the weights and the biases apart: one exact directional derivative for each.
    without = 0 if layer.bias is None else np.repeat(layer.bias.value[list(layer.rows)], y.shape[2], axis=0)
    without = np.reshape(without, y.shape[1:]) if layer.bias is not None else 0
    v = rng.standard_normal(x.shape)
    np.testing.assert_allclose((dx * v).sum(), (dy * (by_loops(layer, v) - without)).sum(), rtol=1e-10)
    np.testing.assert_allclose((layer.weight.grad * layer.weight.value).sum(), (dy * (y - without)).sum(), rtol=1e-10)
    if layer.bias is not None:
        for g in range(layer.row_groups):
            own = dy[:, [p for p, row in enumerate(layer.rows) if row == g]].sum((0, 1, 2))
            np.testing.assert_allclose(layer.bias.grad[g], own, rtol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_adjoint(name):
    layer, x = build(LAYERS[name] | {"bias": False})
    y, backward = layer.forward(x, train=True)
    dy = np.random.default_rng(5).standard_normal(y.shape)
    np.testing.assert_allclose((y * dy).sum(), (x * backward(dy)).sum(), rtol=1e-11)


@pytest.mark.parametrize(
    ("shape", "stride", "poles"),
    [((4, 8), (1, 1), False), ((5, 6), (2, 2), True), ((7, 10), (2, 3), False), ((6, 4), (3, 1), True)],
)
def test_transposed_stencil_lists_every_use(shape, stride, poles):
    rows = tuple(p // 2 for p in range(-(-shape[0] // stride[0])))
    sizes = tuple((3 + 2 * (g % 2), 5 + 4 * (g % 3)) for g in range(rows[-1] + 1))
    stencil = latitude(shape, sizes, rows, stride, poles)

    def uses(one, turned):
        found = [
            (int(s), t, int(p)) if turned else (int(p), t, int(s))
            for out, t, source in one.slots()
            for p, s in zip(out, source, strict=True)
            if s >= 0
        ]
        return sorted(found)

    assert uses(stencil, False) == uses(stencil.transposed, True)
    written = np.concatenate([out for out, t, _ in stencil.transposed.slots()])
    assert set(written.tolist()) == set(range(shape[0] * shape[1]))
    assert stencil.transposed.transposed is stencil


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("poles", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_equal_kernels_are_the_convolution_of_the_sphere(stride, poles, groups):
    grid = Equirect(7, 12, pole_rows=poles)
    planar = Conv2d(4, 6, 3, stride, groups=groups, padding_mode="sphere_poles" if poles else "sphere", rng=0)
    layer = SphConv2d(4, 6, 3, stride, groups, grid=grid, sizes=(3, 3))
    for g in range(layer.row_groups):
        layer.kernel(g)[...] = planar.weight.value
    layer.bias.value[...] = planar.bias.value
    planar.astype(np.float64), layer.astype(np.float64)
    x = np.random.default_rng(1).standard_normal((2, *grid.shape, 4))
    (y, backward), (expected, planar_backward) = layer.forward(x, train=True), planar.forward(x, train=True)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    dy = np.random.default_rng(2).standard_normal(y.shape)
    np.testing.assert_allclose(backward(dy), planar_backward(dy), rtol=0, atol=1e-12)
    summed = sum(layer.weight.grad[layer.taps_of(g)] for g in range(layer.row_groups))
    np.testing.assert_allclose(summed.reshape(planar.weight.grad.shape), planar.weight.grad, rtol=0, atol=1e-10)
    np.testing.assert_allclose(layer.bias.grad.sum(0), planar.bias.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["default", "tied", "poles", "depthwise", "many channels"])
def test_rolled_input_rolls_the_output_to_the_same_bits(name):
    layer, x = build(LAYERS[name])
    layer.astype(np.float32)
    x = x.astype(np.float32)
    y, backward = layer.forward(x, train=True)
    dy = np.random.default_rng(2).standard_normal(y.shape).astype(np.float32)
    dx = backward(dy)
    for columns in (1, 3, x.shape[2] - 1):
        rolled, rolled_backward = layer.forward(np.roll(x, columns, axis=2), train=True)
        np.testing.assert_array_equal(rolled, np.roll(y, columns, axis=2))
        np.testing.assert_array_equal(rolled_backward(np.roll(dy, columns, axis=2)), np.roll(dx, columns, axis=2))


def test_initial_weights_follow_the_fan_in_of_each_row_group():
    layer = SphConv2d(8, 64, grid=Equirect(16), rng=0)
    assert layer.bias.value.shape == (16, 64)
    assert len(layer.weight.value) == sum(kh * kw for kh, kw in layer.sizes)
    for g, (kh, kw) in enumerate(layer.sizes):
        bound = 1 / np.sqrt(kh * kw * 8)
        assert layer.kernel(g).shape == (kh, kw, 8, 64)
        for values in (layer.kernel(g), layer.bias.value[g]):
            assert 0.9 * bound < np.abs(values).max() <= bound
    layer.kernel(3)[...] = 7
    assert (layer.weight.value == 7).any(axis=(1, 2)).sum() == layer.sizes[3][0] * layer.sizes[3][1]
    assert "16 row groups, kernels of 3 to 5 x 3 to 11" in repr(layer)


def test_networks_draw_he_normal_weights_for_each_row():
    block = models.ConvNormAct("sphconv", 16, 64, Equirect(16), rng=0)
    for g, (kh, kw) in enumerate(block.conv.sizes):
        assert block.conv.kernel(g).std() == pytest.approx(np.sqrt(2 / (kh * kw * 16)), rel=0.05)


def test_tied_rows_take_the_largest_of_their_sizes():
    every = layer_sizes(Equirect(16))
    layer = SphConv2d(1, 1, grid=Equirect(16), tied=5)
    assert layer.rows == (0,) * 5 + (1,) * 5 + (2,) * 5 + (3,)
    assert layer.sizes == [tuple(map(max, zip(*every[i : i + 5], strict=True))) for i in (0, 5, 10, 15)]
    strided = SphConv2d(1, 1, stride=2, grid=Equirect(16))
    assert strided.sizes == every[::2]


def test_the_method():
    grid, kind = Equirect(8), method("sphconv")
    assert isinstance(kind.conv(2, 3, grid), SphConv2d)
    assert isinstance(kind.conv(2, 3, grid, kernel_size=1), Conv2d)
    assert kind.conv(2, 3, grid, stride=2, bias=False).out_shape((1, 8, 16, 2)) == (1, 4, 8, 3)
    with pytest.raises(InputError, match="dilation is 2 for method 'sphconv'; expected 1"):
        kind.conv(2, 3, grid, dilation=2)
    kind.conv(2, 3, grid).set_exact()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"grid": None}, "the grid is None; expected an equirectangular one"),
        ({"kernel_size": 4}, "kernel_size is 4; expected an odd number"),
        ({"sizes": (3, 4)}, r"a kernel has the size \(3, 4\); expected odd numbers"),
        ({"sizes": [(3, 3)] * 5}, "sizes has 5 entries; expected 6 pairs"),
        ({"sizes": [(3, 3, 1)] * 6}, "sizes has 6 entries; expected 6 pairs"),
        ({"sizes": (3, 0)}, "sizes is 0; expected an integer of at least 1"),
        ({"tied": 0}, "tied is 0; expected an integer of at least 1"),
        ({"groups": 3}, "groups is 3 for 4 input"),
        ({"grid": Equirect(6, 9)}, "the image has 9 columns; expected an even number"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        SphConv2d(4, 6, **({"grid": Equirect(6)} | options))


def test_refusals_of_inputs_and_stencils():
    layer = SphConv2d(4, 6, grid=Equirect(6))
    with pytest.raises(InputError, match="the input has 8 rows and 16 columns; expected 6 and 12"):
        layer(np.zeros((1, 8, 16, 4), np.float32))
    with pytest.raises(InputError, match="the input has 3 channels"):
        layer(np.zeros((1, 6, 12, 3), np.float32))
    with pytest.raises(InputError, match="row group is 6; expected 0 to 5"):
        layer.kernel(6)
    with pytest.raises(InputError, match="the row groups of 3 rows; expected 4"):
        latitude((4, 8), ((3, 3),), (0, 0, 0))
    with pytest.raises(InputError, match="there are 1 sizes"):
        latitude((2, 8), ((3, 3),), (0, 1))
    with pytest.raises(InputError, match="height is 5; expected an even number"):
        row_sizes(5, {"a": 3}, {"a": 1})
    with pytest.raises(InputError, match="strides has none for layer 'a'"):
        row_sizes(4, {"a": 3}, {})
    assert SphConv2d(1, 1, grid=Equirect(6, 9), sizes=(1, 3))(np.ones((1, 6, 9, 1), np.float32)).shape == (1, 6, 9, 1)
