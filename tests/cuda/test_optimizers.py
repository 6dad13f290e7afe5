"""CUDA bodies of the optimisers' steps and of clipping, in the simulator, against their definitions in float64."""

import math

import numpy as np
import pytest

from spherecnn.kernels import optim
from spherecnn.kernels.gpu.array import DeviceArray, to_device, to_host
from spherecnn.layers.base import Param
from spherecnn.training import SGD, Adam, AdamW, clip_grad_norm

SHAPES = [(3,), (5, 7), (0, 4), (2, 1300), (1,), (8,)]  # the fourth takes two blocks
SETTINGS = {
    "sgd": (SGD, {}),
    "decayed": (SGD, {"weight_decay": 0.1}),
    "momentum": (SGD, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "nesterov": (SGD, {"momentum": 0.9, "nesterov": True}),
    "adam": (Adam, {"weight_decay": 0.1, "betas": (0.8, 0.9)}),
    "adamw": (AdamW, {"eps": 1e-3}),
}


def values_and_grads(seed=0):
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(shape).astype(np.float32) for shape in SHAPES] for _ in range(2)]


def parameters(values, place):
    return {f"p{i}": Param(place(value)) for i, value in enumerate(values)}


def close(ours, theirs, rtol=1e-6):
    scale = np.abs(theirs).max(initial=1e-3)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * scale)


@pytest.mark.parametrize("name", SETTINGS)
def test_steps_of_all_parameters_are_those_of_float64(simulated, name):
    kind, settings = SETTINGS[name]
    values, _ = values_and_grads()
    ours = parameters(values, to_device)
    exact = parameters([v.astype(np.float64) for v in values], np.copy)
    optimizers = [kind(params, lr=0.05, **settings) for params in (ours, exact)]
    for step in range(3):
        grads = values_and_grads(step + 1)[1]
        for i, grad in enumerate(grads):
            if step or i != 1:  # one starts later
                ours[f"p{i}"].add_grad(to_device(grad))
                exact[f"p{i}"].add_grad(grad.astype(np.float64))
        simulated.launches.clear()
        for optimizer in optimizers:
            optimizer.lr *= 0.5
            optimizer.step()
            optimizer.zero_grad()
        assert sum(simulated.launches.values()) == 1
        assert simulated.downloaded == 0
    for label, param in ours.items():
        close(to_host(param.value), exact[label].value)
    for label, array in optimizers[0].state().items():
        assert isinstance(array, np.ndarray)
        close(array, optimizers[1].state()[label])


def test_steps_of_one_parameter_are_their_definitions(simulated):
    values, grads = values_and_grads()
    for index in (1, 3):
        value, grad = values[index].copy(), grads[index]
        for velocity in (None, np.full_like(value, np.nan)):  # whose first value does not count
            for first in (True, False):
                arguments = (0.1, 0.9 if velocity is not None else 0.0, 0.0, velocity is not None, 0.01, first)
                held = None if velocity is None else to_device(np.ones_like(value) if not first else velocity)
                moved = to_device(value)
                optim.sgd_step(moved, to_device(grad), held, *arguments)
                expected = value.astype(np.float64)
                buffer = None if velocity is None else np.ones(value.shape)
                optim.sgd_step.definition(expected, grad.astype(np.float64), buffer, *arguments)
                close(to_host(moved), expected)
                if buffer is not None:
                    close(to_host(held), buffer)
        state = [value, np.zeros_like(value), np.zeros_like(value)]
        moved = [to_device(a) for a in state]
        arguments = (3, 0.01, 0.9, 0.999, 1e-8, 0.1, False)
        optim.adam_step(moved[0], to_device(grad), *moved[1:], *arguments)
        expected = [a.astype(np.float64) for a in state]
        optim.adam_step.definition(expected[0], grad.astype(np.float64), *expected[1:], *arguments)
        for ours, theirs in zip(moved, expected, strict=True):
            close(to_host(ours), theirs)


def test_a_parameter_that_does_not_start_at_16_bytes(simulated):
    value, grad = np.arange(10, dtype=np.float32).reshape(2, 5), np.ones((1, 5), np.float32)
    whole = to_device(value)
    optim.sgd_step(whole[1:], to_device(grad), None, 0.5, 0.0, 0.0, False, 0.0, True)
    np.testing.assert_array_equal(to_host(whole), np.concatenate([value[:1], value[1:] - 0.5]))


@pytest.mark.parametrize("most", [1e9, 0.5])
def test_clipping_is_that_of_float64(simulated, most):
    values, grads = values_and_grads()
    ours, exact = parameters(values, to_device), parameters(values, np.copy)
    for i, grad in enumerate(grads):
        ours[f"p{i}"].add_grad(to_device(grad))
        exact[f"p{i}"].add_grad(grad.astype(np.float64))
    norm, expected = clip_grad_norm(ours, most), clip_grad_norm(exact, most)
    assert isinstance(norm, DeviceArray)
    assert simulated.downloaded == 0
    assert float(norm) == pytest.approx(expected, rel=1e-6)
    for i in range(len(grads)):
        close(to_host(ours[f"p{i}"].grad), exact[f"p{i}"].grad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_a_norm_that_is_not_finite_leaves_the_gradients(simulated, bad):
    param = Param(to_device(np.zeros(5, np.float32)))
    param.add_grad(to_device(np.array([1, 2, bad, 4, 5], np.float32)))
    assert not math.isfinite(float(clip_grad_norm({"p": param}, 1.0)))
    np.testing.assert_array_equal(to_host(param.grad), np.array([1, 2, bad, 4, 5], np.float32))


def test_squared_norm_is_its_definition(simulated):
    rng = np.random.default_rng(0)
    for shape in [(0,), (1,), (3, 4, 5), (4099,)]:
        x = rng.standard_normal(shape).astype(np.float32)
        total = optim.squared_norm(to_device(x))
        assert total.shape == ()
        assert float(total) == pytest.approx(optim.squared_norm.definition(x), rel=1e-6)
    assert float(optim.squared_norm(to_device(x)[1:])) == pytest.approx(float(np.square(x[1:].astype(float)).sum()))


def test_a_recorded_step_reads_what_prepare_writes(simulated):
    """`clip` and `apply` are launches alone: what changes from step to step is in one table, always the same memory."""
    values, grads = values_and_grads()
    ours, exact = parameters(values, to_device), parameters([v.astype(np.float64) for v in values], np.copy)
    optimizer, reference = Adam(ours, lr=0.1), Adam(exact, lr=0.1)
    for i, grad in enumerate(grads):
        ours[f"p{i}"].add_grad(to_device(grad))
        exact[f"p{i}"].add_grad(grad.astype(np.float64))
    optimizer.prepare()
    address = optimizer.table.address
    for step in range(3):
        if step:
            optimizer.lr /= 3
            optimizer.prepare()
        assert optimizer.table.address == address
        copied = simulated.uploaded, simulated.downloaded
        norm = optimizer.clip(1.0)
        optimizer.apply()
        assert (simulated.uploaded, simulated.downloaded) == copied
        reference.lr = optimizer.lr
        assert float(norm) == pytest.approx(clip_grad_norm(exact, 1.0), rel=1e-5)
        reference.step()
    for name, param in ours.items():
        close(to_host(param.value), exact[name].value, rtol=3e-6)


def test_state_goes_from_device_to_host_and_back(simulated):
    values, grads = values_and_grads()
    runs = {}
    for label, place in {"host": np.copy, "device": to_device}.items():
        params = parameters(values, place)
        runs[label] = SGD(params, lr=0.1, momentum=0.9), params
    for optimizer, params in runs.values():
        for i, grad in enumerate(grads):
            params[f"p{i}"].add_grad(to_device(grad) if optimizer is runs["device"][0] else grad.copy())
    runs["host"][0].step()
    state = runs["host"][0].state()
    runs["device"][0].load_state(state)
    for name, array in runs["device"][0].arrays["momentum"].items():
        assert isinstance(array, DeviceArray)
        np.testing.assert_array_equal(to_host(array), state[f"momentum.{name}"])
    runs["device"][0].step()
    runs["host"][0].load_state(runs["device"][0].state())
    assert isinstance(runs["host"][0].arrays["momentum"]["p0"], np.ndarray)
    assert runs["host"][0].steps["p0"] == 2


def test_bits_do_not_depend_on_the_order_of_threads():
    from simulated import SimulatedDevice

    from spherecnn.kernels.gpu import device

    values, grads = values_and_grads()
    seen = set()
    for seed in range(3):
        device.push(SimulatedDevice(seed))
        params = parameters(values, to_device)
        for i, grad in enumerate(grads):
            params[f"p{i}"].add_grad(to_device(grad))
        optimizer = Adam(params, lr=0.1)
        norm = clip_grad_norm(params, 0.1)
        optimizer.step()
        seen.add(to_host(norm).tobytes() + b"".join(to_host(p.value).tobytes() for p in params.values()))
        device.pop()
    assert len(seen) == 1
