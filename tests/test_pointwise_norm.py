"""Activations, softmax, dropout and normalisation: kernels against definitions and layers against torch."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.kernels import norm, pointwise
from spherecnn.kernels.op import OPS
from spherecnn.layers.activation import ELU, GELU, Dropout, LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from spherecnn.layers.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from spherecnn.layers.shape import Flatten
from spherecnn.testing import check_op

DTYPES = [np.float32, np.float64]
RTOL = {np.float32: 1e-5, np.float64: 1e-10}
FUNCTIONS = {
    "relu": (),
    "leaky_relu": (0.1,),
    "elu": (0.7,),
    "gelu": (),
    "gelu_tanh": (),
    "sigmoid": (),
    "tanh": (),
}
SHAPES = [(1,), (3, 5), (2, 3, 4, 5), (70001,)]  # the last has more than one chunk, and a tail


def assert_close(ours, theirs, dtype):
    """Agree to RTOL relative to the largest element."""
    theirs = np.asarray(theirs)
    assert ours.dtype == dtype
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=RTOL[dtype] * max(np.abs(theirs).max(initial=0), 1e-3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_its_definition(name, dtype):
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        x, dy = (4 * rng.standard_normal((2, *shape))).astype(dtype)
        check_op(OPS[name], x, *FUNCTIONS[name])
        check_op(OPS[f"{name}_grad"], dy, x, *FUNCTIONS[name])
    x = np.array([-800, -50, -1e-6, -0.0, 0.0, 1e-6, 50, 800, np.nan], dtype)
    check_op(OPS[name], x, *FUNCTIONS[name])
    assert np.isnan(OPS[name](x, *FUNCTIONS[name])[-1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_their_definition(dtype):
    for shape in SHAPES:
        a, b = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
        assert np.array_equal(pointwise.add(a, b), a + b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "exact"), [("tanh", np.tanh), ("elu", np.expm1), ("sigmoid", None)])
def test_small_and_negative_values_keep_their_digits(name, exact, dtype):
    x = -np.geomspace(1e-30 if exact else 1e-3, 30, 200).astype(dtype)
    y = OPS[name](x, *([1.0] if name == "elu" else []))
    wide = x.astype(np.float64)
    expected = exact(wide) if exact else np.exp(wide) / (1 + np.exp(wide))
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps)


def test_gelu_keeps_the_digits_of_its_tail():
    special = pytest.importorskip("scipy.special")
    x = -np.linspace(0.01, 30, 500)
    np.testing.assert_allclose(pointwise.gelu(x), x * special.ndtr(x), rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2, 3, 4, 10), (300, 67)])
def test_softmax_is_its_definition(shape, dtype):
    rng = np.random.default_rng(0)
    x, dy = (5 * rng.standard_normal((2, *shape))).astype(dtype)
    check_op(pointwise.softmax, x)
    check_op(pointwise.softmax, x + dtype(1e4), rtol=1e-5)
    check_op(pointwise.softmax_grad, dy, pointwise.softmax(x))


def test_softmax_of_masked_and_broken_rows():
    y = pointwise.softmax(np.array([[-np.inf, 0.0, 0.0], [np.nan, 0.0, 0.0]]))
    np.testing.assert_array_equal(y, [[0, 0.5, 0.5], [np.nan] * 3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 50)).astype(dtype)
    check_op(pointwise.dropout, x, rng.random(x.shape) < 0.5, 2.0)
    layer = Dropout(0.25, rng=1)
    y, backward = layer.forward(x, train=True)
    kept = y != 0
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(y[kept], x[kept] / dtype(0.75), rtol=1e-6)
    np.testing.assert_allclose(backward(np.ones_like(x)), kept / 0.75, rtol=1e-6)
    assert layer(x) is x
    assert (layer.forward(x, train=True)[0] != y).any()
    assert (Dropout(0.25, rng=1).forward(x, train=True)[0] == y).all()
    assert (Dropout(1.0).forward(x, train=True)[0] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("of_batch", [True, False])
@pytest.mark.parametrize("shape", [(7, 1), (3, 5, 3), (2, 33, 65, 7), (40, 32), (9, 200), (5000, 16)])
def test_batch_norm_is_its_definition(shape, of_batch, dtype):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((2, *shape)) + 3).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[-1])).astype(dtype)
    check_op(norm.batch_moments, x, rtol=1e-6 if dtype == np.float32 else 1e-12)
    mean, var = norm.batch_moments.definition(x)
    for w, b in ((weight, bias), (None, None)):
        check_op(norm.batch_norm, x, mean, var, w, b, 1e-5)
        check_op(norm.batch_norm_grad, dy, x, mean, var, w, 1e-5, of_batch, True, rtol=1e4 * np.finfo(dtype).eps)
    check_op(norm.batch_norm_grad, dy, x, mean, var, weight, 1e-5, of_batch, False)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-10)])
def test_batch_moments_do_not_cancel(dtype, rtol):
    """A mean far above the spread, behind rows of zeros as on a black border."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((20000, 3)) + 1000).astype(dtype)
    np.testing.assert_allclose(norm.batch_moments(x)[1], norm.batch_moments.definition(x)[1], rtol=rtol)
    x[:64] = 0
    np.testing.assert_allclose(norm.batch_moments(x)[1], norm.batch_moments.definition(x)[1], rtol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "groups"),
    [((2, 7, 4), 2), ((1, 1, 9), 3), ((3, 2145, 6), 1), ((2, 4096, 5), 5), ((70, 6, 32), 8), ((2, 30, 200), 4)],
)
def test_group_norm_is_its_definition(shape, groups, dtype):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((2, *shape)) + 3).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[-1])).astype(dtype)
    check_op(norm.group_moments, x, groups, rtol=1e-6 if dtype == np.float32 else 1e-12)
    mean, var = norm.group_moments.definition(x, groups)
    for w, b in ((weight, bias), (None, None)):
        check_op(norm.group_norm, x, mean, var, w, b, 1e-5)
        check_op(norm.group_norm_grad, dy, x, mean, var, w, 1e-5, True, rtol=1e4 * np.finfo(dtype).eps)
    check_op(norm.group_norm_grad, dy, x, mean, var, weight, 1e-5, False)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-10)])
def test_group_moments_do_not_cancel(dtype, rtol):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((2, 20000, 4)) + 1000).astype(dtype)
    np.testing.assert_allclose(norm.group_moments(x, 2)[1], norm.group_moments.definition(x, 2)[1], rtol=rtol)


def test_group_norm_refuses_what_does_not_fit():
    with pytest.raises(InputError, match="expected a divisor"):
        GroupNorm(4, 6)
    with pytest.raises(InputError, match="5"):
        GroupNorm(2, 6)(np.zeros((2, 3, 5), np.float32))
    with pytest.raises(InputError, match="one site per sample"):
        InstanceNorm(3)(np.zeros((2, 1, 1, 3), np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 4), (5, 3), (300, 32), (7, 1000)])
def test_layer_norm_is_its_definition(shape, dtype):
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((2, *shape)) + 3).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[-1])).astype(dtype)
    for w, b in ((weight, bias), (None, None)):
        check_op(norm.layer_norm, x, w, b, 1e-5, rtol=1e4 * np.finfo(dtype).eps)
        mean, rstd = norm.layer_norm.definition(x, w, b, 1e-5)[1:]
        check_op(norm.layer_norm_grad, dy, x, mean, rstd, w, rtol=1e4 * np.finfo(dtype).eps)


def torch_of(torch, x, grad=True):
    """The same numbers as a torch tensor, channels second."""
    return torch.from_numpy(np.moveaxis(x, -1, 1).copy()).requires_grad_(grad)


def ours_of(tensor):
    return np.moveaxis(tensor.detach().numpy(), 1, -1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("layer", "name", "options"),
    [
        (ReLU(), "ReLU", {}),
        (LeakyReLU(0.3), "LeakyReLU", {"negative_slope": 0.3}),
        (LeakyReLU(-0.3), "LeakyReLU", {"negative_slope": -0.3}),
        (ELU(1.5), "ELU", {"alpha": 1.5}),
        (GELU(), "GELU", {}),
        (GELU("tanh"), "GELU", {"approximate": "tanh"}),
        (Sigmoid(), "Sigmoid", {}),
        (Tanh(), "Tanh", {}),
        (Softmax(), "Softmax", {"dim": 1}),
        (Flatten(), "Flatten", {}),
    ],
    ids=repr,
)
def test_activation_is_torchs(layer, name, options, dtype):
    torch = pytest.importorskip("torch")
    for seed in range(4):
        rng = np.random.default_rng(seed)
        shape = (*rng.integers(1, 6, 1 if name == "Flatten" else 3), rng.integers(1, 40))
        x = (3 * rng.standard_normal(shape)).astype(dtype)
        y, backward = layer.forward(x, train=True)
        dy = rng.standard_normal(y.shape).astype(dtype)
        x_torch = torch_of(torch, x)
        y_torch = getattr(torch.nn, name)(**options)(x_torch)
        y_torch.backward(torch_of(torch, dy, grad=False))
        assert_close(y, ours_of(y_torch), dtype)
        assert_close(backward(dy), ours_of(x_torch.grad), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(20))
def test_batch_norm_is_torchs(seed, dtype):
    """Two training steps, then inference, and the gradients of each."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    channels, options = (
        int(rng.integers(1, 40)),
        {
            "eps": float(rng.choice([1e-5, 1e-3])),
            "momentum": float(rng.choice([0.1, 0.9])),
            "affine": bool(rng.integers(2)),
            "track_running_stats": bool(rng.integers(2)),
        },
    )
    layer = BatchNorm(channels, **options).astype(dtype)
    other = torch.nn.BatchNorm2d(channels, **options, dtype=getattr(torch, np.dtype(dtype).name))
    if layer.affine:
        for name in ("weight", "bias"):
            value = rng.standard_normal(channels).astype(dtype)
            layer.params[name].value[...] = value
            getattr(other, name).data.copy_(torch.from_numpy(value))
    for train in (True, True, False):
        shape = (*rng.integers(2, 9, 3), channels)
        x = (rng.uniform(0.5, 2) * rng.standard_normal(shape) + rng.uniform(-2, 2)).astype(dtype)
        dy = rng.standard_normal(shape).astype(dtype)
        x_torch = torch_of(torch, x)
        other.train(train).zero_grad()
        layer.zero_grad()
        y, backward = layer.forward(x, train=train)
        y_torch = other(x_torch)
        y_torch.backward(torch_of(torch, dy, grad=False))
        assert_close(y, ours_of(y_torch), dtype)
        assert_close(backward(dy), ours_of(x_torch.grad), dtype)
        for name, p in layer.params.items():
            assert_close(p.grad, getattr(other, name).grad, dtype)
        for name, value in layer.buffers.items():
            assert_close(value, getattr(other, name), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(6))
def test_group_and_instance_norm_are_torchs(seed, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    groups, each, affine = int(rng.integers(1, 5)), int(rng.integers(1, 20)), bool(seed % 2)
    channels = groups * each
    shape = (3, *rng.integers(2, 12, 1 + seed % 3), channels)
    kind = getattr(torch, np.dtype(dtype).name)
    of_axes = getattr(torch.nn, f"InstanceNorm{len(shape) - 2}d")
    for layer, other in (
        (GroupNorm(groups, channels, 1e-4, affine), torch.nn.GroupNorm(groups, channels, 1e-4, affine, dtype=kind)),
        (InstanceNorm(channels, 1e-4, affine), of_axes(channels, 1e-4, affine=affine, dtype=kind)),
    ):
        layer.astype(dtype)
        x, dy = rng.standard_normal((2, *shape)).astype(dtype)
        if affine:
            layer.weight.value[:], layer.bias.value[:] = rng.standard_normal((2, channels))
            with torch.no_grad():
                other.weight.copy_(torch.from_numpy(layer.weight.value))
                other.bias.copy_(torch.from_numpy(layer.bias.value))
        x_torch = torch_of(torch, x)
        y_torch = other(x_torch)
        y_torch.backward(torch_of(torch, dy, grad=False))
        y, backward = layer.forward(x, train=True)
        assert_close(y, ours_of(y_torch), dtype)
        assert_close(backward(dy), ours_of(x_torch.grad), dtype)
        if affine:
            assert_close(layer.weight.grad, other.weight.grad.numpy(), dtype)
            assert_close(layer.bias.grad, other.bias.grad.numpy(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(20))
def test_layer_norm_is_torchs(seed, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(2, 20, rng.integers(2, 5)))
    sizes = shape[-int(rng.integers(1, len(shape))) :]
    layer = LayerNorm(sizes, eps=1e-4, elementwise_affine=bool(seed % 3)).astype(dtype)
    other = torch.nn.LayerNorm(sizes, 1e-4, bool(seed % 3), dtype=getattr(torch, np.dtype(dtype).name))
    for name, p in layer.params.items():
        p.value[...] = rng.standard_normal(sizes)
        getattr(other, name).data.copy_(torch.from_numpy(p.value))
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    x_torch = torch.from_numpy(x).requires_grad_()
    y, backward = layer.forward(x, train=True)
    y_torch = other(x_torch)
    y_torch.backward(torch.from_numpy(dy))
    assert_close(y, y_torch.detach(), dtype)
    assert_close(backward(dy), x_torch.grad, dtype)
    for name, p in layer.params.items():
        assert_close(p.grad, getattr(other, name).grad, dtype)


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: ReLU()(np.arange(3)), "dtype int64; expected float32 or float64"),
        (lambda: ReLU()([1.0]), "is a list"),
        (lambda: Softmax()(np.float32(1)), "expected at least 1 axes"),
        (lambda: GELU("erf"), "approximate is 'erf'; expected one of 'none', 'tanh'"),
        (lambda: Dropout(1.5), "p is 1.5; expected a probability"),
        (lambda: BatchNorm(0), "num_features is 0; expected an integer of at least 1"),
        (lambda: BatchNorm(3)(np.zeros((2, 4), np.float32)), "has 4 channels in its last axis; expected 3"),
        (lambda: BatchNorm(3)(np.zeros(3, np.float32)), "expected at least 2 axes"),
        (lambda: BatchNorm(3)(np.zeros((2, 3))), "dtype float64; expected float32"),
        (lambda: BatchNorm(3, affine=False)(np.zeros((2, 3))), "dtype float64; expected float32"),
        (
            lambda: BatchNorm(3).forward(np.zeros((1, 3), np.float32), train=True),
            "fewer than 2 values per channel",
        ),
        (lambda: LayerNorm(())(np.zeros((2, 3))), "normalized_shape is empty"),
        (lambda: LayerNorm((4, 3))(np.zeros((2, 3), np.float32)), r"expected last axes \(4, 3\)"),
        (lambda: LayerNorm(3)(np.zeros((2, 3))), "dtype float64; expected float32"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(attempt, sentence):
    with pytest.raises(InputError, match=sentence):
        attempt()


def test_a_failed_training_step_leaves_the_running_statistics():
    layer = BatchNorm(3)
    before = {name: value.copy() for name, value in layer.buffers.items()}
    with pytest.raises(InputError):
        layer.forward(np.ones((1, 3), np.float32), train=True)
    for name, value in layer.buffers.items():
        np.testing.assert_array_equal(value, before[name])
