"""Convolution, pooling and linear layers: parity with torch, published examples, bad input."""

import json
from pathlib import Path

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.layers import AvgPool2d, CircularConv2d, Conv2d, CoordConv2d, GlobalAvgPool, Linear, MaxPool2d

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    return torch


def relative(got, expected):
    return np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30)


def torch_pad(torch, x, padding, mode):
    """Pad (N, C, H, W) as `padding_mode` says, by torch indexing and concatenation."""
    (top, bottom), (left, right) = padding
    height, width = x.shape[2:]
    if mode in ("reflect", "replicate"):
        name = {"replicate": "edge"}.get(mode, mode)
        rows, columns = (
            np.pad(np.arange(height), (top, bottom), name),
            np.pad(np.arange(width), (left, right), name),
        )
        return x[:, :, torch.from_numpy(rows)][:, :, :, torch.from_numpy(columns)]
    if mode == "zeros":
        return torch.nn.functional.pad(x, (left, right, top, bottom))
    if mode == "circular":
        x = torch.nn.functional.pad(x, (0, 0, top, bottom))
    else:
        skip = 1 if mode == "sphere_poles" else 0
        turned = torch.roll(x, width // 2, dims=3)
        above = torch.flip(turned[:, :, skip : skip + top], [2])
        below = torch.flip(turned[:, :, height - skip - bottom : height - skip], [2])
        x = torch.cat([above, x, below], dim=2)
    return x[:, :, :, torch.from_numpy(np.arange(-left, width + right) % width)]


def random_conv(rng, mode):
    """A random layer and input of any kind that Conv2d takes."""
    while True:
        kernel = tuple(map(int, rng.integers(1, 8, 2)))
        stride, dilation = (tuple(map(int, rng.integers(1, n, 2))) for n in (4, 3))
        groups = int(rng.choice([1, 1, 2, 3]))
        reads, makes = (int(v) for v in rng.choice([1, 2, 3, 4, 6, 11, 17, 35], 2))
        if rng.random() < 0.15:
            groups, reads, makes = int(rng.integers(2, 40)), 1, 1
        padding = [int(rng.integers(4)), tuple(map(int, rng.integers(0, 4, 2))), "same", "valid"][rng.integers(4)]
        height, width = int(rng.integers(4, 15)), 2 * int(rng.integers(2, 8))
        channels, bias = (reads * groups, makes * groups), bool(rng.integers(2))
        conv = Conv2d(*channels, kernel, stride, padding, dilation, groups, bias, mode, rng=rng)
        x = rng.standard_normal((int(rng.integers(1, 4)), height, width, reads * groups))
        rows = conv.padding[0]
        if mode.startswith("sphere") and max(rows) >= height:
            continue
        try:
            conv.out_shape(x.shape)
        except InputError:
            continue
        return conv, x


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mode", sc.stencils.PADDING_MODES)
@pytest.mark.parametrize("seed", range(30))
def test_conv_parity_with_torch(torch, seed, mode, dtype):
    rng = np.random.default_rng([seed, len(mode), dtype == "float32"])
    conv, x = random_conv(rng, mode)
    conv.astype(dtype)
    x = x.astype(dtype)
    y, backward = conv.forward(x, train=True)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = backward(dy)

    tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    tw = torch.from_numpy(conv.weight.value).permute(3, 2, 0, 1).contiguous().requires_grad_()
    tb = None if conv.bias is None else torch.from_numpy(conv.bias.value).requires_grad_()
    padded = torch_pad(torch, tx, conv.padding, mode)
    ty = torch.nn.functional.conv2d(padded, tw, tb, conv.stride, 0, conv.dilation, conv.groups)
    ty.backward(torch.from_numpy(dy).permute(0, 3, 1, 2))
    tolerance = TOLERANCE[dtype]
    assert relative(y, ty.detach().permute(0, 2, 3, 1).numpy()) < tolerance
    assert relative(dx, tx.grad.permute(0, 2, 3, 1).numpy()) < tolerance
    assert relative(conv.weight.grad, tw.grad.permute(2, 3, 1, 0).numpy()) < tolerance
    if tb is not None:
        assert relative(conv.bias.grad, tb.grad.numpy()) < tolerance


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(40))
def test_pool_parity_with_torch(torch, seed, dtype):
    rng = np.random.default_rng([seed, dtype == "float32"])
    kernel = tuple(map(int, rng.integers(1, 5, 2)))
    stride = None if rng.integers(2) else tuple(map(int, rng.integers(1, 4, 2)))
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    x = rng.standard_normal(
        (2, int(rng.integers(5, 12)), int(rng.integers(5, 12)), int(rng.choice([1, 3, 16, 37])))
    ).astype(dtype)
    count = bool(rng.integers(2))
    functional = torch.nn.functional
    pairs = [
        (MaxPool2d(kernel, stride, padding), lambda t: functional.max_pool2d(t, kernel, stride, padding)),
        (
            AvgPool2d(kernel, stride, padding, count_include_pad=count),
            lambda t: functional.avg_pool2d(t, kernel, stride, padding, count_include_pad=count),
        ),
    ]
    for layer, peer in pairs:
        y, backward = layer.forward(x, train=True)
        dy = rng.standard_normal(y.shape).astype(dtype)
        tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
        ty = peer(tx)
        ty.backward(torch.from_numpy(dy).permute(0, 3, 1, 2))
        assert relative(y, ty.detach().permute(0, 2, 3, 1).numpy()) < TOLERANCE[dtype]
        assert relative(backward(dy), tx.grad.permute(0, 2, 3, 1).numpy()) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(3, 7), (5, 64), (2, 4, 6, 20)])
def test_linear_parity_with_torch(torch, shape, dtype):
    rng = np.random.default_rng(0)
    layer = Linear(shape[-1], 10, rng=rng).astype(dtype)
    x = rng.standard_normal(shape).astype(dtype)
    y, backward = layer.forward(x, train=True)
    dy = rng.standard_normal(y.shape).astype(dtype)
    tx = torch.from_numpy(x).requires_grad_()
    tw, tb = (torch.from_numpy(p.value).requires_grad_() for p in (layer.weight, layer.bias))
    ty = tx @ tw + tb
    ty.backward(torch.from_numpy(dy))
    for got, expected in (
        (y, ty),
        (backward(dy), tx.grad),
        (layer.weight.grad, tw.grad),
        (layer.bias.grad, tb.grad),
    ):
        assert relative(got, expected.detach().numpy()) < TOLERANCE[dtype]


def test_initial_weights_have_the_spread_of_torch(torch):
    conv = Conv2d(8, 4000, 3, rng=0)
    peer = torch.nn.Conv2d(8, 4000, 3)
    for ours, theirs in ((conv.weight.value, peer.weight), (conv.bias.value, peer.bias)):
        bound = 1 / np.sqrt(72)
        assert np.abs(ours).max() <= bound
        assert abs(ours.std() / float(theirs.detach().std()) - 1) < 0.05


def test_published_circular_examples():
    example = json.loads((Path(__file__).parent / "reference" / "ccnn.json").read_text())["cconv"]
    x = np.array(example["x"], float).reshape(1, 1, -1, 1)
    for name, kind in (("circular", CircularConv2d), ("linear_zero_pad", Conv2d)):
        conv = kind(1, 1, (1, 3), bias=False).astype("float64")
        conv.weight.value[0, :, 0, 0] = example["w"]
        assert conv(x).ravel().tolist() == example[name]


@pytest.mark.parametrize("mode", ["circular", "sphere", "sphere_poles"])
def test_rolled_input_gives_rolled_output_to_the_bit(mode):
    rng = np.random.default_rng(0)
    conv = Conv2d(5, 20, 3, padding_mode=mode, rng=rng)
    x = rng.standard_normal((2, 6, 12, 5), dtype=np.float32)
    for shift in (1, 5, 6):
        assert np.array_equal(conv(np.roll(x, shift, axis=2)), np.roll(conv(x), shift, axis=2))


def test_sphere_padding_has_no_border_at_the_pole():
    """Half a turn about the axis through (lat 0, lon 90 degrees) is an index flip; the layer must commute with it."""
    rng = np.random.default_rng(0)
    conv = Conv2d(3, 4, 3, padding_mode="sphere", rng=rng)
    x = rng.standard_normal((1, 6, 12, 3), dtype=np.float32)
    upside_down = np.ascontiguousarray(conv.weight.value[::-1, ::-1])
    turned = Conv2d(3, 4, 3, padding_mode="sphere", rng=rng)
    turned.weight.value[...], turned.bias.value[...] = upside_down, conv.bias.value
    np.testing.assert_allclose(turned(np.ascontiguousarray(x[:, ::-1, ::-1])), conv(x)[:, ::-1, ::-1], atol=1e-6)


def test_coordinates_follow_their_own_axis():
    conv = CoordConv2d(1, 1, 1, with_r=True)
    xx, yy, rr = np.moveaxis(conv.coordinates(3, 5), -1, 0)
    np.testing.assert_allclose(xx, np.tile([-1, -0.5, 0, 0.5, 1], (3, 1)))
    np.testing.assert_allclose(yy, np.tile([[-1], [0], [1]], 5))
    np.testing.assert_allclose(rr, np.hypot(xx, yy), rtol=1e-6)
    assert np.isfinite(conv.coordinates(1, 1)).all()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv2d(3, 16, 3, rng=0), (1, 8, 16, 3)),
        (Conv2d(16, 16, 3, rng=0), (1, 8, 16, 16)),
        (CoordConv2d(3, 4, 3, rng=0), (1, 8, 16, 3)),
        (sc.layers.ConvTranspose2d(3, 4, 2, 2, rng=0), (1, 8, 16, 3)),
        (sc.layers.Conv3d(3, 4, 3, rng=0), (1, 2, 8, 16, 3)),
        (Linear(3, 4, rng=0), (5, 3)),
    ],
    ids=lambda v: type(v).__name__,
)
def test_read_only_arrays(layer, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y, backward = layer.forward(x, train=True)
    dy = y.copy()
    dx = backward(dy)
    x.flags.writeable = dy.flags.writeable = False
    z, read_only_backward = layer.forward(x, train=True)
    np.testing.assert_array_equal(z, y)
    np.testing.assert_array_equal(read_only_backward(dy), dx)


def test_coord_equals_conv_of_joined_channels():
    rng = np.random.default_rng(0)
    coord = CoordConv2d(3, 4, 3, rng=rng).astype(np.float64)
    conv = Conv2d(5, 4, 3).astype(np.float64)
    conv.weight.value[...], conv.bias.value[...] = coord.weight.value, coord.bias.value
    x, dy = rng.standard_normal((2, 4, 7, 3)), rng.standard_normal((2, 4, 7, 4))
    joined = np.concatenate([x, np.broadcast_to(coord.coordinates(4, 7), (2, 4, 7, 2))], axis=-1)
    (y, backward), (other, other_backward) = coord.forward(x, train=True), conv.forward(joined, train=True)
    np.testing.assert_allclose(y, other, rtol=0, atol=1e-14)
    np.testing.assert_allclose(backward(dy), other_backward(dy)[..., :3], rtol=0, atol=1e-14)
    np.testing.assert_allclose(coord.weight.grad, conv.weight.grad, rtol=0, atol=1e-13)


def test_global_average_weighs_by_area():
    grid = sc.grids.Equirect(8)
    x = np.sin(grid.lat).reshape(1, 8, 16, 1) ** 2
    assert abs(GlobalAvgPool(grid)(x).item() - 1 / 3) < 0.01
    assert abs(GlobalAvgPool(grid, weighted=False)(x).item() - 1 / 2) < 0.01


IMAGE = np.zeros((1, 4, 8, 3), np.float32)


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (
            lambda: Conv2d(3, 4, 3)(IMAGE[0]),
            r"the input has shape \(4, 8, 3\); expected 4 axes \(N, H, W, C\)",
        ),
        (lambda: Conv2d(2, 4, 3)(IMAGE), "the input has 3 channels in its last axis; expected 2"),
        (lambda: Conv2d(3, 4, 3)(IMAGE.astype(int)), "the input has dtype int64; expected float32"),
        (lambda: Conv2d(3, 4, 3)(IMAGE.astype(float)), "the input has dtype float64; expected float32"),
        (lambda: Conv2d(3, 4, 9, padding="valid")(IMAGE), "expected at least 9 for kernel 9"),
        (
            lambda: Conv2d(3, 4, 9, padding_mode="reflect")(IMAGE),
            "reflect padding is 4 for 4 rows or columns",
        ),
        (
            lambda: Conv2d(3, 4, 3, padding_mode="wrap"),
            "padding_mode is 'wrap'; expected one of 'zeros', 'circular'",
        ),
        (
            lambda: Conv2d(3, 4, 3, padding="full"),
            "padding is 'full'; expected a number, a pair, 'same' or 'valid'",
        ),
        (lambda: Conv2d(3, 4, 0), "kernel_size is 0; expected an integer of at least 1"),
        (lambda: Conv2d(3, 4, 3, groups=2), "groups is 2 for 3 input and 4 output channels"),
        (lambda: CoordConv2d(4, 4, 3, groups=2), "groups is 2; expected 1 for CoordConv2d"),
        (
            lambda: Linear(4, 2)(np.zeros((2, 3), np.float32)),
            "the input has 3 channels in its last axis; expected 4",
        ),
        (lambda: Linear(4, 2)(np.zeros(4, np.float32)), r"the input has shape \(4,\)"),
        (lambda: MaxPool2d(2, padding=2), "expected at most half the window"),
        (lambda: MaxPool2d(16), "expected at most 255 taps"),
        (
            lambda: GlobalAvgPool(sc.grids.Equirect(6))(IMAGE),
            r"expected \(N, 6, 12, C\) for Equirect\(6, 12\)",
        ),
        (lambda: Conv2d(3, 4, 3)([[1.0]]), "the input is a list; expected an array"),
        (
            lambda: sc.models.classifier("spiral", 1, 2, sc.grids.Equirect(8)),
            "method is 'spiral'; expected one of",
        ),
        (lambda: sc.models.classifier("planar", 1, 2, sc.grids.Equirect(1)), "cannot be coarsened"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(use, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        use()
    assert "\n" not in str(caught.value)


def test_weights_with_nan_are_refused():
    conv = Conv2d(1, 1, 1)
    state = {name: value.copy() for name, value in conv.state().items()}
    state["weight"][...] = np.nan
    with pytest.raises(InputError, match="weight holds NaN or infinite values"):
        conv.load_state(state)
