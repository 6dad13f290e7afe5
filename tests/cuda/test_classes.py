"""The class of the greatest score, on the GPU as in NumPy."""

import numpy as np
import pytest

from spherecnn.kernels.classes import argmax
from spherecnn.kernels.gpu.array import to_device, to_host


@pytest.mark.parametrize(("shape", "kind"), [((2, 3, 5), np.uint8), ((3, 70), np.uint8), ((2, 300), np.int32)])
def test_argmax(simulated, shape, kind):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, shape).astype(np.float32)  # many equal ones
    scores.reshape(-1, shape[-1])[1, 2:4] = np.nan
    expected = np.argmax(scores, axis=-1)
    assert expected.ravel()[1] == 2
    for found in (argmax(scores), to_host(argmax(to_device(scores)))):
        assert found.dtype == kind
        np.testing.assert_array_equal(found, expected)


def test_no_sites_and_one_class(simulated):
    assert to_host(argmax(to_device(np.zeros((0, 3), np.float32)))).shape == (0,)
    assert to_host(argmax(to_device(np.full((2, 1), -np.inf, np.float32)))).tolist() == [0, 0]
