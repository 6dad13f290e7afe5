"""Gated convolution: kernels against definitions, the layer against torch, and both published forms."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.kernels.gate import ACTIVATIONS, gate, gate_grad
from spherecnn.layers.conv import Conv2d
from spherecnn.layers.gated import GatedConv2d
from spherecnn.testing import check_op

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gate_is_its_definition(activation, dtype):
    rng = np.random.default_rng(0)
    for shape in [(1, 2), (3, 5, 6), (2, 5, 7, 74), (300, 64)]:
        z = (3 * rng.standard_normal(shape)).astype(dtype)
        dy = rng.standard_normal((*shape[:-1], shape[-1] // 2)).astype(dtype)
        check_op(gate, z, activation)
        check_op(gate_grad, dy, z, activation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gate_of_extreme_values(activation, dtype):
    edge = np.array([-800, -90, -1e-6, -0.0, 0.0, 1e-6, 90, 800, np.nan], dtype)
    z = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    check_op(gate, z, activation)
    y, dz = gate(z, activation), gate_grad(np.ones((len(z), 1), dtype), z, activation)
    broken = np.isnan(z).any(axis=1)
    assert np.isnan(y[broken]).all()
    assert np.isnan(dz[broken]).any(axis=1).all()
    assert np.isfinite(y[~broken]).all()
    assert np.isfinite(dz[~broken]).all()


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-10)])
def test_parity_with_torch(dtype, rtol):
    torch = pytest.importorskip("torch")
    function = torch.nn.functional
    phi = {
        "elu": function.elu,
        "relu": function.relu,
        "leaky_relu": function.leaky_relu,
        "tanh": torch.tanh,
        "none": lambda x: x,
    }
    rng = np.random.default_rng(0)
    for trial in range(10):
        activation, groups = ACTIVATIONS[trial % 5], int(rng.integers(1, 4))
        c, k = groups * rng.integers(1, 5, 2)
        kernel, stride, dilation = (int(v) for v in rng.integers(1, 4, 3))
        padding, form = int(rng.integers(0, 4)), ("split", "pair")[trial % 2]
        layer = GatedConv2d(
            int(c), int(k), kernel, stride, padding, dilation, groups, activation=activation, form=form, rng=rng
        ).astype(dtype)
        x = rng.standard_normal((2, 9, 10, c)).astype(dtype)
        y, backward = layer.forward(x, train=True)
        dy = rng.standard_normal(y.shape).astype(dtype)
        dx = backward(dy)
        halves = layer.feature_and_gate()
        tensors = [
            [torch.from_numpy(h["weight"].transpose(3, 2, 0, 1).copy()).requires_grad_() for h in halves],
            [torch.from_numpy(h["bias"].copy()).requires_grad_() for h in halves],
        ]
        tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
        f, g = (function.conv2d(tx, w, b, stride, padding, dilation, groups) for w, b in zip(*tensors, strict=True))
        ty = phi[activation](f) * torch.sigmoid(g)
        ty.backward(torch.from_numpy(dy).permute(0, 3, 1, 2))

        def near(ours, theirs):
            scale = max(1.0, float(np.abs(theirs).max()))
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * scale)

        near(y, ty.detach().permute(0, 2, 3, 1).numpy())
        near(dx, tx.grad.permute(0, 2, 3, 1).numpy())
        expected = [w.grad.permute(2, 3, 1, 0).numpy() for w in tensors[0]], [b.grad.numpy() for b in tensors[1]]
        if form == "pair":
            ours = [[part.params[n].grad for part in (layer.feature, layer.gate)] for n in ("weight", "bias")]
        else:
            ours = [layer._parted(layer.conv.params[n].grad) for n in ("weight", "bias")]
        for own, their in zip(ours, expected, strict=True):
            for i in range(2):
                near(own[i], their[i])


@pytest.mark.parametrize("groups", [1, 2])
def test_both_forms_agree_and_exchange_weights(groups):
    options = {"groups": groups, "padding_mode": "circular"}
    split, pair = (GatedConv2d(4, 6, 3, form=form, rng=i, **options) for i, form in enumerate(("split", "pair")))
    x = np.random.default_rng(0).standard_normal((2, 5, 8, 4)).astype(np.float32)
    assert split.parameter_count == pair.parameter_count
    assert not np.allclose(split(x), pair(x))
    pair.load_feature_and_gate(*split.feature_and_gate())
    np.testing.assert_array_equal(split(x), pair(x))
    other = GatedConv2d(4, 6, 3, **options)
    other.load_feature_and_gate(*pair.feature_and_gate())
    np.testing.assert_array_equal(other.conv.weight.value, split.conv.weight.value)
    assert list(split.named_params()) == ["conv.weight", "conv.bias"]
    assert list(pair.named_params()) == ["feature.weight", "feature.bias", "gate.weight", "gate.bias"]


def test_it_is_two_convolutions_and_a_gate():
    layer = GatedConv2d(3, 5, 3, padding_mode="sphere", form="pair", rng=0)
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 3)).astype(np.float32)
    f, g = layer.feature(x), layer.gate(x)
    expected = np.where(f > 0, f, np.expm1(f)) / (1 + np.exp(-g))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_a_rolled_picture_gives_a_rolled_one():
    layer = GatedConv2d(3, 5, 3, padding_mode="circular", rng=0)
    x = np.random.default_rng(0).standard_normal((1, 5, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(layer(np.roll(x, 3, 2)), np.roll(layer(x), 3, 2), rtol=1e-5, atol=1e-6)


def test_errors():
    with pytest.raises(InputError, match="activation is 'gelu'"):
        GatedConv2d(2, 2, 3, activation="gelu")
    with pytest.raises(InputError, match="form is 'both'"):
        GatedConv2d(2, 2, 3, form="both")
    with pytest.raises(InputError, match="groups is 2 for 3 output channels"):
        GatedConv2d(2, 3, 3, groups=2)
    layer = GatedConv2d(2, 3, 3)
    with pytest.raises(InputError, match="2"):
        layer(np.zeros((1, 4, 4, 3), np.float32))
    conv = Conv2d(2, 4, 3)
    arrays = {name: p.value for name, p in conv.params.items()}
    with pytest.raises(InputError, match="the feature convolution has arrays"):
        layer.load_feature_and_gate(arrays, arrays)
