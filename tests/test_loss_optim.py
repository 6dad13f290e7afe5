"""Losses and optimiser steps: kernels against definitions and against torch."""

import math

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.kernels import loss, optim
from spherecnn.kernels.jit import get_num_threads, set_num_threads
from spherecnn.testing import check_op

DTYPES = [np.float32, np.float64]
RTOL = {np.float32: 1e-5, np.float64: 1e-10}
ELEMENTWISE = {
    "mse_loss": (loss.mse_loss, (), {}),
    "l1_loss": (loss.l1_loss, (), {}),
    "huber_loss": (loss.huber_loss, (0.7,), {"delta": 0.7}),
    "binary_cross_entropy_with_logits": (loss.binary_cross_entropy_with_logits, (), {}),
}


def assert_close(ours, theirs, dtype):
    theirs = np.asarray(theirs)
    scale = max(np.abs(theirs).max(initial=0), 1e-3)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=RTOL[dtype] * scale)


def configuration(seed, dtype):
    """Random x, target in [0, 1] and weights (None, or broadcasting, or full)."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 9, rng.integers(1, 5)))
    x, target = (3 * rng.standard_normal(shape)).astype(dtype), rng.random(shape).astype(dtype)
    weight = [None, rng.random((*shape[:-1], 1)).astype(dtype), rng.random(shape).astype(dtype)][seed % 3]
    return x, target, weight


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_loss_is_its_definition(name, dtype):
    op, parameter, _ = ELEMENTWISE[name]
    for seed in range(6):
        x, target, weight = configuration(seed, dtype)
        check_op(op, x, target, weight, *parameter)
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 40001)).astype(dtype)
    check_op(op, x, target, None, *parameter)
    check_op(op, x, target, np.array(0.5), *parameter)
    check_op(loss.binary_cross_entropy_with_logits, x, target, None, 3.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_berhu_is_its_definition_and_smooth_where_it_bends(dtype):
    for seed in range(6):
        check_op(loss.berhu_loss, *configuration(seed, dtype), 0.7)
    rng = np.random.default_rng(0)
    check_op(loss.berhu_loss, *rng.standard_normal((2, 40001)).astype(dtype), None, 0.3)
    x = np.array([-2, -0.5, 0, 0.25, 0.5, 4], dtype)
    each = [loss.berhu_loss(x[i : i + 1], np.zeros(1, dtype), None, 0.5) for i in range(6)]
    np.testing.assert_allclose([value for value, _ in each], [4.25, 0.5, 0, 0.25, 0.5, 16.25])
    np.testing.assert_allclose([slope[0] for _, slope in each], [-4, -1, 0, 1, 1, 8])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("seed", range(9))
def test_elementwise_loss_is_torchs(seed, name, dtype):
    torch = pytest.importorskip("torch")
    op, parameter, options = ELEMENTWISE[name]
    x, target, weight = configuration(seed, dtype)
    total, dx = op(x, target, weight, *parameter)
    x_torch = torch.from_numpy(x).requires_grad_()
    each = getattr(torch.nn.functional, name)(x_torch, torch.from_numpy(target), reduction="none", **options)
    theirs = (each if weight is None else each * torch.from_numpy(weight)).sum()
    theirs.backward()
    assert dx.dtype == dtype
    assert_close(total, theirs.detach(), dtype)
    assert_close(dx, x_torch.grad, dtype)


def test_binary_cross_entropy_of_large_logits_is_finite():
    x, target = np.array([-1e4, 1e4, -1e4, 1e4]), np.array([0.0, 1.0, 1.0, 0.0])
    total, dx = loss.binary_cross_entropy_with_logits(x, target)
    assert total == 2e4
    np.testing.assert_array_equal(dx, [0, 0, -1, 1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(30))
def test_cross_entropy_is_torchs_and_its_definition(seed, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    classes, sites = int(rng.integers(2, 40)), tuple(int(n) for n in rng.integers(1, 8, rng.integers(1, 4)))
    logits = (4 * rng.standard_normal((*sites, classes))).astype(dtype)
    labels = rng.integers(0, classes, sites)
    ignore = int(rng.choice([-100, 255, 0]))
    labels[rng.random(sites) < 0.2] = ignore
    labels.flat[0] = 1
    class_weight = rng.uniform(0.5, 2, classes).astype(dtype) if seed % 2 else None
    smoothing = float(rng.choice([0.0, 0.1]))
    total, normaliser, dlogits = loss.cross_entropy(logits, labels, None, class_weight, ignore, smoothing)
    x_torch = torch.from_numpy(logits.reshape(-1, classes)).requires_grad_()
    theirs = torch.nn.functional.cross_entropy(
        x_torch,
        torch.from_numpy(labels.reshape(-1)),
        None if class_weight is None else torch.from_numpy(class_weight),
        ignore_index=ignore,
        label_smoothing=smoothing,
    )
    theirs.backward()
    assert dlogits.dtype == dtype
    assert_close(total / normaliser, theirs.detach(), dtype)
    assert_close(dlogits.reshape(-1, classes) / normaliser, x_torch.grad, dtype)
    for weight in (None, rng.random(sites).astype(dtype), rng.random(sites[-1:])):
        check_op(loss.cross_entropy, logits, labels, weight, class_weight, ignore, smoothing)


def test_cross_entropy_of_masked_and_large_logits():
    logits = np.array([[-np.inf, 0.0, 0.0], [1e4, 0.0, -1e4]])
    total, normaliser, dlogits = loss.cross_entropy(logits, np.array([1, 0]))
    assert total == pytest.approx(math.log(2), abs=1e-15)
    assert normaliser == 2
    np.testing.assert_allclose(dlogits, [[0, -0.5, 0.5], [0, 0, 0]], atol=1e-15)
    total, normaliser, dlogits = loss.cross_entropy(np.full((3, 2), np.nan), np.array([-100] * 3))
    assert (total, normaliser) == (0, 0)
    assert (dlogits == 0).all()
    assert math.isnan(loss.cross_entropy(np.full((1, 2), np.nan), np.array([0]))[0])


@pytest.mark.parametrize("label", [-1, 3, 10**6])
def test_cross_entropy_refuses_an_unknown_label(label):
    for call in (loss.cross_entropy, loss.cross_entropy.definition):
        with pytest.raises(InputError, match="outside 0 to 2"):
            call(np.zeros((2, 3)), np.array([0, label]))


def test_sums_have_equal_bits_on_any_number_of_threads():
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((2, 200_003)).astype(np.float32)
    before, results = get_num_threads(), []
    for threads in range(1, before + 1):
        set_num_threads(threads)
        results.append((loss.huber_loss(x, target)[0], optim.squared_norm(x)))
        results[-1] += (loss.cross_entropy(x[:200_000].reshape(-1, 10), np.arange(20_000) % 10)[0],)
    set_num_threads(before)
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("dtype", DTYPES)
def test_squared_norm_is_its_definition(dtype):
    rng = np.random.default_rng(0)
    for shape in ((0,), (1,), (3, 4, 5), (50_001,)):
        check_op(optim.squared_norm, rng.standard_normal(shape).astype(dtype))


def walk(torch, seed, dtype, make, step):
    """Take five steps with torch and with ours from the same values on the same gradients; compare each."""
    rng = np.random.default_rng(seed)
    value = rng.standard_normal((7, 11)).astype(dtype)
    parameter = torch.nn.Parameter(torch.from_numpy(value.copy()))
    optimiser = make(parameter)
    buffers = np.zeros_like(value), np.zeros_like(value)
    for t in range(1, 6):
        grad = rng.standard_normal(value.shape).astype(dtype)
        parameter.grad = torch.from_numpy(grad.copy())
        optimiser.step()
        step(value, grad, *buffers, t)
        assert value.dtype == dtype
        assert_close(value, parameter.detach(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(12))
def test_sgd_is_torchs(seed, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    lr, decay = float(rng.uniform(0.01, 0.5)), float(rng.choice([0.0, 0.1]))
    momentum = float(rng.choice([0.0, 0.9]))
    nesterov = bool(momentum and rng.integers(2))
    dampening = 0.0 if nesterov or not momentum else float(rng.choice([0.0, 0.3]))
    options = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov, "weight_decay": decay}

    def step(value, grad, velocity, _, t):
        arguments = (lr, momentum, dampening, nesterov, decay, t == 1)
        check_op(optim.sgd_step, value, grad, velocity, *arguments)
        optim.sgd_step(value, grad, velocity if momentum else None, *arguments)

    walk(torch, seed, dtype, lambda p: torch.optim.SGD([p], lr, **options), step)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_adam_is_torchs(seed, decoupled, dtype):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    lr, betas = (
        float(rng.uniform(1e-3, 0.1)),
        (float(rng.choice([0.9, 0.5])), float(rng.choice([0.999, 0.9]))),
    )
    eps, decay = float(rng.choice([1e-8, 1e-3])), float(rng.choice([0.0, 0.1]))
    make = torch.optim.AdamW if decoupled else torch.optim.Adam

    def step(value, grad, mean, square, t):
        arguments = (t, lr, *betas, eps, decay, decoupled)
        check_op(optim.adam_step, value, grad, mean, square, *arguments)
        optim.adam_step(value, grad, mean, square, *arguments)

    walk(torch, seed, dtype, lambda p: make([p], lr, betas, eps, decay), step)


def test_a_step_refuses_an_array_that_it_could_only_copy():
    value = np.zeros((4, 4))[:, :2]
    with pytest.raises(InputError, match="not C-contiguous"):
        optim.adam_step(value, value, value, value, 1, 0.1, 0.9, 0.99, 1e-8, 0.0, False)
