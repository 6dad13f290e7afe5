"""Unpooling on the GPU in the simulator, against the definitions."""

import numpy as np
import pytest
from site_stencils import PLAIN, SHARED, numbers

from spherecnn.errors import InputError
from spherecnn.kernels.gpu.array import to_device, to_host
from spherecnn.kernels.pool import NO_SWITCH
from spherecnn.kernels.unpool import switch_sites, unpool, unpool_dx


@pytest.mark.parametrize("make", PLAIN.values(), ids=list(PLAIN))
@pytest.mark.parametrize("channels", [8, 3])
def test_switch_sites_is_its_definition(simulated, make, channels):
    stencil = make()
    switch = np.random.default_rng(0).integers(0, stencil.taps, (2, stencil.sites_out, channels)).astype(np.uint8)
    switch[1, 2] = NO_SWITCH
    index = to_host(switch_sites(to_device(switch), stencil))
    np.testing.assert_array_equal(index, switch_sites.definition(switch, stencil))


def test_switch_sites_refuses_taps_that_blend(simulated):
    stencil = SHARED["tangent"]()
    with pytest.raises(InputError, match="expected taps of one site"):
        switch_sites(to_device(np.zeros((1, stencil.sites_out, 4), np.uint8)), stencil)


@pytest.mark.parametrize("channels", [8, 3])
@pytest.mark.parametrize("sites", [1, 7, 200])
def test_unpool_is_its_definition_to_the_bit(simulated, channels, sites):
    x = numbers(0, 2, 37, channels)
    index = np.random.default_rng(1).integers(-1, sites, x.shape).astype(np.int32)
    y = to_host(unpool(to_device(x), to_device(index), sites))
    np.testing.assert_array_equal(y, unpool.definition(x, index, sites))


def test_values_of_one_site_are_summed_in_their_order(simulated):
    x = np.array([1e8, 1.0, -1e8, 1.0, 5.0], np.float32).reshape(1, 5, 1)
    index = np.array([1, 1, 1, 1, -1], np.int32).reshape(1, 5, 1)
    assert to_host(unpool(to_device(x), to_device(index), 3)).ravel().tolist() == [0, 1, 0]


def test_nan_goes_to_its_site_alone(simulated):
    x, index = np.ones((1, 3, 4), np.float32), np.array([4, 2, -1], np.int32)[None, :, None].repeat(4, axis=2)
    x[0, 0, 1] = x[0, 2, 3] = np.nan
    y = to_host(unpool(to_device(x), to_device(index), 6))
    np.testing.assert_array_equal(np.argwhere(np.isnan(y)), [[0, 4, 1]])


@pytest.mark.parametrize("channels", [8, 3])
def test_unpool_dx_is_its_definition(simulated, channels):
    dy = numbers(0, 2, 11, channels)
    index = np.random.default_rng(1).integers(-1, 11, (2, 37, channels)).astype(np.int32)
    dx = to_host(unpool_dx(to_device(dy), to_device(index)))
    np.testing.assert_array_equal(dx, unpool_dx.definition(dy, index))
