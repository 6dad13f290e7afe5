"""Depthwise kernels of the GPU in the simulator, against the definitions in float64."""

import numpy as np
import pytest
from site_stencils import MATRICES, MEAN, PLAIN, SHARED, both, numbers, one_tap

from spherecnn.errors import InputError
from spherecnn.kernels.depthwise import depthwise, depthwise_dw
from spherecnn.kernels.expand import blend
from spherecnn.kernels.gpu.array import to_device, to_host


def of(table):
    return pytest.mark.parametrize("make", [make for _, make in both(table)], ids=[name for name, _ in both(table)])


def summed(x, w, b, stencil):
    """The sums of a stencil of any kind in float64, with a bias for every row of its table."""
    padded = np.concatenate([x, np.zeros_like(x[:, :1])], axis=1).astype(float)
    y = b.reshape(stencil.biases, -1)[stencil.bias_rows()] + np.zeros((len(x), 1, 1))
    for out, tap, source, share in stencil.shared_slots():
        y[:, out] += padded[:, source] * np.reshape(share, (-1, 1)) * w[tap]
    return y


@of(PLAIN)
@pytest.mark.parametrize("channels", [8, 3])
def test_depthwise_is_its_definition(simulated, make, channels):
    stencil = make()
    x, w, b = numbers(0, 2, stencil.sites_in, channels), numbers(1, stencil.taps, channels), numbers(2, channels)
    y = to_host(depthwise(to_device(x), to_device(w), to_device(b), stencil))
    np.testing.assert_allclose(y, depthwise.definition(x.astype(float), w, b, stencil), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 4, 12, 20, 36, 72, 132])
def test_all_numbers_of_channels(simulated, channels):
    stencil = PLAIN["sphere"]()
    x, w = numbers(0, 1, stencil.sites_in, channels), numbers(1, stencil.taps, channels)
    y = to_host(depthwise(to_device(x), to_device(w), None, stencil))
    np.testing.assert_allclose(y, depthwise.definition(x.astype(float), w, None, stencil), rtol=1e-5, atol=1e-5)


@of(SHARED | MATRICES)
def test_taps_that_blend(simulated, make):
    stencil = make()
    for channels in (4, 5):
        x, w, b = numbers(0, 2, stencil.sites_in, channels), numbers(1, stencil.taps, channels), numbers(2, channels)
        y = to_host(depthwise(to_device(x), to_device(w), to_device(b), stencil))
        np.testing.assert_allclose(y, summed(x, w, b, stencil), rtol=1e-5, atol=1e-5)


def test_a_bias_for_each_group_of_rows(simulated):
    stencil = PLAIN["latitude"]()
    x, w, b = numbers(0, 1, stencil.sites_in, 4), numbers(1, stencil.taps, 4), numbers(2, stencil.biases, 4)
    y = to_host(depthwise(to_device(x), to_device(w), to_device(b), stencil))
    assert stencil.biases == 2
    np.testing.assert_allclose(y, summed(x, w, b, stencil), rtol=1e-5, atol=1e-5)


def test_nan_goes_where_it_is_read_and_nowhere_else(simulated):
    stencil = PLAIN["circular"]()
    x, w = numbers(0, 1, stencil.sites_in, 4), numbers(1, stencil.taps, 4)
    x[0, 20, 1], x[0, 0, 2] = np.nan, np.inf
    y = to_host(depthwise(to_device(x), to_device(w), None, stencil))
    with np.errstate(all="ignore"):
        wanted = depthwise.definition(x, w, None, stencil)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(y), np.isinf(wanted))
    assert np.isnan(y).sum() == 9


@of(MEAN)
@pytest.mark.parametrize("channels", [4, 3])
def test_blend_is_its_definition(simulated, make, channels):
    stencil = make()
    x = numbers(0, 2, stencil.sites_in, channels)
    y = to_host(blend(to_device(x), stencil))
    np.testing.assert_allclose(y, blend.definition(x.astype(float), stencil), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adjoint", [False, True])
def test_blend_by_a_matrix(simulated, adjoint):
    stencil = one_tap().transposed if adjoint else one_tap()
    x = numbers(0, 3, stencil.sites_in, 8)
    y = to_host(blend(to_device(x), stencil))
    np.testing.assert_allclose(y, blend.definition(x.astype(float), stencil), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "channels"), [*((kind, 4) for kind in PLAIN), ("sphere", 3), ("circular", 36)])
@pytest.mark.parametrize("adjoint", [False, True])
def test_depthwise_dw_is_its_definition(simulated, kind, channels, adjoint):
    if adjoint and kind not in ("strided", "children"):
        return
    stencil = PLAIN[kind]().transposed if adjoint else PLAIN[kind]()
    x, dy = numbers(0, 2, stencil.sites_in, channels), numbers(1, 2, stencil.sites_out, channels)
    dw, db = depthwise_dw(to_device(x), to_device(dy), stencil)
    wanted = depthwise_dw.definition(x.astype(float), dy.astype(float), stencil)
    np.testing.assert_allclose(to_host(dw), wanted[0], rtol=1e-5, atol=1e-5 * np.abs(wanted[0]).max())
    np.testing.assert_allclose(to_host(db), wanted[1], rtol=1e-5, atol=1e-5 * np.abs(wanted[1]).max())


def test_depthwise_dw_of_many_parts(simulated):
    stencil = PLAIN["circular"]()
    x, dy = numbers(0, 2, stencil.sites_in, 4), numbers(1, 2, stencil.sites_out, 4)
    from spherecnn.kernels.gpu import depthwise_dw as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LEAST", 37)
        dw, db = depthwise_dw(to_device(x), to_device(dy), stencil)
    wanted = depthwise_dw.definition(x.astype(float), dy.astype(float), stencil)
    np.testing.assert_allclose(to_host(dw), wanted[0], rtol=1e-5, atol=1e-5 * np.abs(wanted[0]).max())
    np.testing.assert_allclose(to_host(db), wanted[1], rtol=1e-5, atol=1e-5 * np.abs(wanted[1]).max())


def test_depthwise_dw_refuses_taps_that_blend(simulated):
    stencil = SHARED["tangent"]()
    x = to_device(numbers(0, 1, stencil.sites_in, 4))
    with pytest.raises(InputError, match="expected taps of one site"):
        depthwise_dw(x, x, stencil)
