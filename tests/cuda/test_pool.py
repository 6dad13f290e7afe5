"""Max pooling on the GPU in the simulator, against the definitions."""

import numpy as np
import pytest
from site_stencils import MATRICES, MEAN, PLAIN, SHARED, numbers

from spherecnn.errors import InputError
from spherecnn.kernels.gpu.array import to_device, to_host
from spherecnn.kernels.pool import NO_SWITCH, max_pool, max_pool_dx
from spherecnn.stencils import window
from spherecnn.stencils.table import table

KINDS = pytest.mark.parametrize("make", (PLAIN | SHARED | MEAN).values(), ids=list(PLAIN | SHARED | MEAN))


@KINDS
@pytest.mark.parametrize("channels", [8, 3])
def test_max_pool_is_its_definition(simulated, make, channels):
    stencil = make()
    x = numbers(0, 2, stencil.sites_in, channels)
    y, switch = map(to_host, max_pool(to_device(x), stencil))
    wanted, taps = max_pool.definition(x.astype(float), stencil)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(switch, taps)


@pytest.mark.parametrize("channels", [4, 1])
def test_first_of_equals_nan_for_ever_and_nothing_read(simulated, channels):
    sources = np.array([[0, 1, 2], [1, 2, 0], [3, 4, 2], [-1, 3, 4], [-1, -1, -1], [5, 0, -1]])
    values = np.array([2.0, 2.0, 1.0, np.nan, 5.0, -np.inf])
    x = np.repeat(values[None, :, None], channels, axis=2).astype(np.float32)
    y, switch = map(to_host, max_pool(to_device(x), table(sources, (6,))))
    np.testing.assert_array_equal(y[0, :, 0], np.array([2, 2, np.nan, np.nan, -np.inf, 2], np.float32))
    assert switch[0, :, -1].tolist() == [0, 0, 0, 1, NO_SWITCH, 1]


def test_a_first_value_of_minus_infinity_has_a_switch(simulated):
    x = np.full((1, 2, 4), -np.inf, np.float32)
    _, switch = max_pool(to_device(x), table(np.array([[-1, 1, 0]]), (2,)))
    assert to_host(switch).ravel().tolist() == [1, 1, 1, 1]


def test_blended_taps_with_nan_and_equals(simulated):
    stencil = SHARED["tangent"]()
    x = np.ones((1, stencil.sites_in, 4), np.float32)
    x[0, 9, 1] = np.nan
    y, switch = map(to_host, max_pool(to_device(x), stencil))
    wanted, _ = max_pool.definition(x, stencil)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
    exact = PLAIN["sphere"]()
    _, switch = max_pool(to_device(np.ones((1, exact.sites_in, 4), np.float32)), exact)
    assert not to_host(switch).any()


def test_blended_taps_that_read_nothing_never_win(simulated):
    from spherecnn.stencils.base import Segment, Stencil

    columns = [np.array([-1, 0]), np.array([1, 1]), np.arange(2)]
    segment = Segment(2, 0, 2, [0, 0, 1], [0, 0, 0], [0, 0, 1], share=[0.5, 0.5, 1.0])
    stencil = Stencil((2,), (2,), 2, columns, [segment], lambda: None)
    x = np.array([-1.0, -3.0], np.float32).reshape(1, 2, 1)
    y, switch = map(to_host, max_pool(to_device(x), stencil))
    assert y.ravel().tolist() == [-3, -1]
    assert switch.ravel().tolist() == [1, 0]


@KINDS
@pytest.mark.parametrize("channels", [8, 3])
def test_max_pool_dx_is_its_definition(simulated, make, channels):
    stencil = make()
    rng = np.random.default_rng(0)
    dy = numbers(1, 2, stencil.sites_out, channels)
    switch = rng.integers(0, stencil.taps, dy.shape).astype(np.uint8)
    switch[0, 0] = NO_SWITCH
    dx = to_host(max_pool_dx(to_device(dy), to_device(switch), stencil))
    np.testing.assert_allclose(dx, max_pool_dx.definition(dy.astype(float), switch, stencil), rtol=1e-5, atol=1e-6)


def test_nan_goes_back_to_its_site_alone(simulated):
    stencil = window((4, 4), (2, 2), (2, 2))
    dy, switch = np.ones((1, 4, 4), np.float32), np.full((1, 4, 4), 3, np.uint8)
    dy[0, 1, 2] = np.nan
    dx = to_host(max_pool_dx(to_device(dy), to_device(switch), stencil))
    np.testing.assert_array_equal(np.argwhere(np.isnan(dx)), [[0, 7, 2]])


def test_a_matrix_is_refused(simulated):
    stencil = MATRICES["mesh"]()
    with pytest.raises(InputError, match="expected slots for max pooling"):
        max_pool(to_device(numbers(0, 1, stencil.sites_in, 4)), stencil)
