"""CUDA bodies of the functions of each element, of dropout and of softmax, in the simulator."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.kernels import arrays, pointwise
from spherecnn.kernels.gate import gate, gate_grad
from spherecnn.kernels.gpu import elements
from spherecnn.kernels.gpu.array import to_device, to_host
from spherecnn.kernels.op import OPS

FUNCTIONS = {
    "relu": (),
    "leaky_relu": (0.1,),
    "elu": (0.7,),
    "gelu": (),
    "gelu_tanh": (),
    "sigmoid": (),
    "tanh": (),
}
EDGES = np.array([-800, -50, -1e-6, -0.0, 0.0, 1e-6, 50, 800, np.nan, 3, -3], np.float32)


def exact(operation, *args):
    """The definition in float64."""
    wide = (a.astype(np.float64) if getattr(a, "dtype", None) == np.float32 else a for a in args)
    with np.errstate(all="ignore"):
        return operation.definition(*wide)


def on_device(operation, *args):
    moved = (to_device(a) if isinstance(a, np.ndarray) else a for a in args)
    return to_host(operation(*moved))


def check(operation, *args, rtol=1e-6):
    y, expected = on_device(operation, *args), exact(operation, *args)
    assert y.dtype == np.float32
    assert y.shape == expected.shape
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1e-3)
    np.testing.assert_allclose(y, expected, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_its_definition(simulated, name):
    rng = np.random.default_rng(0)
    for shape in [(1,), (3, 5), (2, 1037)]:  # the last has moves of 16 bytes, a half filled block and a tail
        x, dy = (4 * rng.standard_normal((2, *shape))).astype(np.float32)
        check(OPS[name], x, *FUNCTIONS[name])
        check(OPS[f"{name}_grad"], dy, x, *FUNCTIONS[name])
    check(OPS[name], EDGES, *FUNCTIONS[name])
    check(OPS[f"{name}_grad"], np.ones_like(EDGES), EDGES, *FUNCTIONS[name])


@pytest.mark.parametrize("name", ["tanh", "elu", "sigmoid", "gelu"])
def test_small_and_negative_values_keep_their_digits(simulated, name):
    least = {"sigmoid": 1e-3, "gelu": 1e-3}.get(name, 1e-30)
    x = -np.geomspace(least, 12.5 if name == "gelu" else 30, 200).astype(np.float32)
    args = (x, 1.0) if name == "elu" else (x,)
    np.testing.assert_allclose(on_device(OPS[name], *args), exact(OPS[name], *args), rtol=1e-6)


def test_sums_are_their_definition_on_views_that_begin_anywhere(simulated):
    a, b = np.random.default_rng(0).standard_normal((2, 5, 431)).astype(np.float32)
    np.testing.assert_array_equal(on_device(pointwise.add, a, b), a + b)
    there = to_device(a)
    np.testing.assert_array_equal(to_host(pointwise.add(there[1], there[2])), a[1] + a[2])


def test_arrays_that_do_not_fit_are_refused(simulated):
    a = to_device(np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match=r"add was given shapes \(2, 3\) and \(3, 2\)"):
        pointwise.add(a, a.reshape(3, 2))
    with pytest.raises(InputError, match="relu was given int32"):
        pointwise.relu(to_device(np.zeros(3, np.int32)))
    with pytest.raises(InputError, match="a mask of shape"):
        pointwise.dropout(a, to_device(np.zeros(6, bool)), 2.0)


@pytest.mark.parametrize("shape", [(7,), (3, 700)])
def test_dropout(simulated, shape):
    rng = np.random.default_rng(0)
    x, keep = rng.standard_normal(shape).astype(np.float32), rng.random(shape) < 0.5
    x[..., 1] = np.nan
    check(pointwise.dropout, x, keep, 2.0)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2, 3, 4, 10), (40, 13), (9, 32), (3, 140), (2, 333), (70, 4)])
def test_softmax_is_its_definition(simulated, shape):
    rng = np.random.default_rng(0)
    x, dy = (5 * rng.standard_normal((2, *shape))).astype(np.float32)
    check(pointwise.softmax, x)
    check(pointwise.softmax, x + np.float32(1e4))
    check(pointwise.softmax_grad, dy, on_device(pointwise.softmax, x))


@pytest.mark.parametrize("classes", [3, 8, 200])
def test_softmax_of_masked_and_broken_rows(simulated, classes):
    x = np.zeros((4, classes), np.float32)
    x[0, 0], x[1, 1], x[2], x[3, 2] = -np.inf, np.nan, -np.inf, np.inf
    y = on_device(pointwise.softmax, x)
    np.testing.assert_allclose(y[0], [0, *[1 / (classes - 1)] * (classes - 1)], rtol=1e-6)
    assert np.isnan(y[1:]).all()


def test_softmax_of_a_row_alone_and_among_others_is_the_same(simulated):
    x = np.random.default_rng(0).standard_normal((9, 10)).astype(np.float32)
    np.testing.assert_array_equal(on_device(pointwise.softmax, x[4:5]), on_device(pointwise.softmax, x)[4:5])


def test_arrays_too_large_for_a_launch_go_in_parts(simulated, monkeypatch):
    monkeypatch.setattr(elements, "MOST", 48)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 21, 10)).astype(np.float32)
    check(pointwise.gelu, x)
    check(pointwise.gelu_grad, dy, x)
    check(pointwise.dropout, x, rng.random(x.shape) < 0.5, 2.0)
    check(pointwise.softmax, x)
    check(pointwise.softmax_grad, dy, x)
    check(gate, x, "elu")
    check(gate_grad, dy[:, :5].copy(), x, "elu")
    assert simulated.launches["pointwise_gelu"] == 5
    assert simulated.launches["gate_elu"] > 1
    with pytest.raises(InputError, match="at most 48"):
        arrays.transpose(to_device(x), (1, 0))
