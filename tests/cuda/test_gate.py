"""CUDA bodies of the gated activation, in the simulator."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.kernels.gate import ACTIVATIONS, gate, gate_grad
from spherecnn.kernels.gpu.array import to_device, to_host


def check(operation, *args):
    moved = [to_device(a) if isinstance(a, np.ndarray) else a for a in args]
    y = to_host(operation(*moved))
    expected = operation.definition(*(a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in args))
    assert y.dtype == np.float32
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6 * np.nanmax(np.abs(expected)))


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 5, 14), (7, 24), (70, 8)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gate_is_its_definition(simulated, activation, shape):
    rng = np.random.default_rng(0)
    z = 4 * rng.standard_normal(shape).astype(np.float32)
    z.flat[0], z.flat[shape[-1] + shape[-1] // 2], z.flat[-1] = np.nan, np.nan, 0
    dy = rng.standard_normal((*shape[:-1], shape[-1] // 2)).astype(np.float32)
    check(gate, z, activation)
    check(gate_grad, dy, z, activation)


def test_arrays_that_do_not_fit_are_refused(simulated):
    z = to_device(np.zeros((3, 8), np.float32))
    with pytest.raises(InputError, match="expected half of it"):
        gate_grad(z, z, "elu")
    with pytest.raises(InputError, match="gate was given int32"):
        gate(to_device(np.zeros((3, 8), np.int32)), "elu")
