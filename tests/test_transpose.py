"""Transposed convolution: parity with torch, the definition by adding, the published example, adjoints."""

import json
from pathlib import Path

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.layers import CircularConvTranspose2d, Conv2d, ConvTranspose2d
from spherecnn.stencils import PADDING_MODES

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    return torch


def relative(got, expected):
    return np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30)


def random_layer(rng, mode="zeros"):
    """A random transposed convolution of any kind, without padding beyond what torch knows, and an input."""
    while True:
        kernel = tuple(map(int, rng.integers(1, 6, 2)))
        stride, dilation = (tuple(map(int, rng.integers(1, n, 2))) for n in (4, 3))
        padding = tuple(map(int, rng.integers(0, 4, 2)))
        output_padding = tuple(int(rng.integers(max(s, d))) for s, d in zip(stride, dilation, strict=True))
        groups = int(rng.choice([1, 1, 2, 3]))
        reads, makes = (int(v) for v in rng.choice([1, 2, 3, 8, 17, 33], 2))
        if rng.random() < 0.15:
            groups, reads, makes = int(rng.integers(2, 40)), 1, 1
        channels, bias = (reads * groups, makes * groups), bool(rng.integers(2))
        layer = ConvTranspose2d(
            *channels, kernel, stride, padding, output_padding, groups, bias, dilation, mode, rng=rng
        )
        x = rng.standard_normal((2, int(rng.integers(2, 9)), int(rng.integers(2, 9)), channels[0]))
        try:
            layer.out_shape(x.shape)
        except InputError:
            continue
        return layer, x


def torch_weight(w, groups):
    """(kh, kw, in / groups, out) as torch's (in, out / groups, kh, kw)."""
    return np.concatenate([g.transpose(2, 3, 0, 1) for g in np.split(w, groups, axis=3)])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(60))
def test_parity_with_torch(torch, seed, dtype):
    rng = np.random.default_rng([seed, dtype == "float32"])
    layer, x = random_layer(rng)
    layer.astype(dtype)
    x = x.astype(dtype)
    y, backward = layer.forward(x, train=True)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = backward(dy)

    tx = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().requires_grad_()
    tw = torch.from_numpy(torch_weight(layer.weight.value, layer.groups)).requires_grad_()
    tb = None if layer.bias is None else torch.from_numpy(layer.bias.value).requires_grad_()
    padding = tuple(p[0] for p in layer.padding)
    options = (layer.stride, padding, layer.output_padding, layer.groups, layer.dilation)
    ty = torch.nn.functional.conv_transpose2d(tx, tw, tb, *options)
    ty.backward(torch.from_numpy(dy).permute(0, 3, 1, 2).contiguous())
    assert relative(y, ty.detach().permute(0, 2, 3, 1).numpy()) < TOLERANCE[dtype]
    assert relative(dx, tx.grad.permute(0, 2, 3, 1).numpy()) < TOLERANCE[dtype]
    assert relative(torch_weight(layer.weight.grad, layer.groups), tw.grad.numpy()) < TOLERANCE[dtype]
    if tb is not None:
        assert relative(layer.bias.grad, tb.grad.numpy()) < TOLERANCE[dtype]


def test_arguments_and_initial_weights_are_those_of_torch(torch):
    ours = ConvTranspose2d(6, 4000, 3, 2, 1, 1, 2, False, 2, rng=0)
    theirs = torch.nn.ConvTranspose2d(6, 4000, 3, 2, 1, 1, 2, False, 2)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "output_padding", "groups", "dilation"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.bias is None
    weight = torch_weight(ours.weight.value, 2)
    assert weight.shape == tuple(theirs.weight.shape)
    assert np.abs(weight).max() <= 1 / np.sqrt(2000 * 9)
    assert abs(weight.std() / float(theirs.weight.detach().std()) - 1) < 0.05


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", range(1, 8))
@pytest.mark.parametrize("circular", [True, False])
def test_same_padding_is_the_definition_by_adding(circular, kernel, stride):
    """y[(i s + j - max(k - s, 0) // 2) mod W s] += x[i] w[j] of the published layer, or without the wrap."""
    rng = np.random.default_rng(0)
    up = CircularConvTranspose2d(1, 1, (1, kernel), (1, stride), bias=False).astype("float64")
    if not circular:
        up = ConvTranspose2d(1, 1, (1, kernel), (1, stride), "same", bias=False).astype("float64")
    up.weight.value[...] = rng.standard_normal(up.weight.value.shape)
    x = rng.standard_normal(5)
    expected = np.zeros(5 * stride)
    for i in range(5):
        for j in range(kernel):
            at = i * stride + j - max(kernel - stride, 0) // 2
            if circular or 0 <= at < len(expected):
                expected[at % len(expected)] += x[i] * up.weight.value[0, j, 0, 0]
    np.testing.assert_allclose(up(x.reshape(1, 1, 5, 1)).ravel(), expected, atol=1e-14)


def test_published_example():
    example = json.loads((Path(__file__).parent / "reference" / "ccnn.json").read_text())["cconv_transpose"]
    x = np.array(example["x"], float).reshape(1, 1, -1, 1)
    for name, mode in (("circular", "circular"), ("linear_same", "zeros")):
        up = ConvTranspose2d(1, 1, (1, 3), (1, example["stride"]), "same", bias=False, padding_mode=mode)
        up.astype("float64").weight.value[0, :, 0, 0] = example["w"]
        assert up(x).ravel().tolist() == example[name]


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding"),
    [(3, 2, "same", 1), (3, 1, "same", 0), (4, 2, 1, 0), (2, 2, 0, 0), (5, 2, 2, 1), (5, 1, ((1, 3), (4, 0)), 0)],
)
def test_it_is_the_adjoint_of_the_convolution(mode, kernel, stride, padding, output_padding):
    """<conv y, x> = <y, up x>, with y of the size of the output; "same" is the padding of the convolution."""
    rng = np.random.default_rng(0)
    conv = Conv2d(4, 6, kernel, stride, padding, bias=False, padding_mode=mode, rng=rng).astype("float64")
    up = ConvTranspose2d(6, 4, kernel, stride, conv.padding, output_padding, bias=False, padding_mode=mode)
    up.astype("float64").weight.value[...] = conv.weight.value.transpose(0, 1, 3, 2)
    y = rng.standard_normal((2, 8, 12, 4))
    x = rng.standard_normal(conv.out_shape(y.shape))
    assert up.out_shape(x.shape) == y.shape
    assert abs((conv(y) * x).sum() - (y * up(x)).sum()) < 1e-11 * np.linalg.norm(x) * np.linalg.norm(y)


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("seed", range(10))
def test_data_gradient_is_the_adjoint(mode, seed):
    rng = np.random.default_rng(seed)
    while True:
        layer, x = random_layer(rng, mode)
        if layer.bias is None:
            break
    layer.astype("float64")
    y, backward = layer.forward(x, train=True)
    dy = rng.standard_normal(y.shape)
    assert abs((y * dy).sum() - (x * backward(dy)).sum()) < 1e-11 * np.linalg.norm(y) * np.linalg.norm(dy)


@pytest.mark.parametrize("mode", ["circular", "sphere", "sphere_poles"])
def test_turned_input_gives_turned_output_to_the_bit(mode):
    rng = np.random.default_rng(0)
    up = ConvTranspose2d(5, 20, 4, 2, "same", padding_mode=mode, rng=rng)
    x = rng.standard_normal((2, 6, 12, 5), dtype=np.float32)
    for shift in (1, 5, 6):
        assert np.array_equal(up(np.roll(x, shift, axis=2)), np.roll(up(x), 2 * shift, axis=2))


def test_over_the_pole_means_half_a_turn_away():
    """With all weight in the upper tap every row goes one up, and row 0 over the pole: to row 0, two columns on."""
    up = ConvTranspose2d(1, 1, 3, padding=1, bias=False, padding_mode="sphere").astype("float64")
    up.weight.value[...] = 0
    up.weight.value[0, 1] = 1
    x = np.arange(1.0, 13).reshape(1, 3, 4, 1)
    rows = up(x)[0, :, :, 0]
    assert rows.tolist() == [[5 + 3, 6 + 4, 7 + 1, 8 + 2], [9, 10, 11, 12], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda: ConvTranspose2d(3, 4, 3)(np.zeros((1, 4, 8, 2), np.float32)), "2 channels in its last axis; exp"),
        (lambda: ConvTranspose2d(3, 4, 3, 2, 1, 2), r"output_padding is \(2, 2\) for stride \(2, 2\)"),
        (lambda: ConvTranspose2d(3, 4, 3, 2, "same", 1), "with padding='same'; expected 0"),
        (lambda: ConvTranspose2d(3, 4, 3, padding=3).out_shape((1, 2, 4, 3)), "2 x 4 gives -2 x 0 outputs"),
        (lambda: ConvTranspose2d(3, 4, 3, groups=2), "groups is 2 for 3 input and 4 output channels"),
        (lambda: ConvTranspose2d(3, 4, 3, padding="full"), "padding is 'full'"),
        (lambda: ConvTranspose2d(3, 4, 3, padding=((1, 1), (1, 2, 3))), r"padding is \(1, 2, 3\)"),
        (lambda: ConvTranspose2d(3, 4, 3, padding_mode="wrap"), "padding_mode is 'wrap'"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(use, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        use()
    assert "\n" not in str(caught.value)
