"""Pooling with indices and unpooling: parity with torch, windows across the seam, overlaps, bad input."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.kernels.unpool import switch_sites, unpool, unpool_dx
from spherecnn.layers import MaxPool2d, MaxUnpool2d
from spherecnn.stencils import window
from spherecnn.testing import check_op


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    return torch


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("seed", range(30))
def test_pooling_and_unpooling_have_parity_with_torch(torch, seed, dtype):
    """Values, indices with ties, ceil mode; unpooling of windows that do not overlap, with both gradients."""
    rng = np.random.default_rng([seed, dtype == "float32"])
    kernel = tuple(map(int, rng.integers(1, 5, 2)))
    stride = tuple(int(k + rng.integers(3)) for k in kernel)
    padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    ceil = bool(rng.integers(2))
    size = tuple(map(int, rng.integers(5, 14, 2)))
    x = rng.integers(-5, 5, (int(rng.integers(1, 6)), *size, int(rng.choice([1, 3, 16, 37])))).astype(dtype)
    y, indices = MaxPool2d(kernel, stride, padding, return_indices=True, ceil_mode=ceil)(x)
    functional, tx = torch.nn.functional, torch.from_numpy(x).permute(0, 3, 1, 2)
    ty, tindices = functional.max_pool2d(tx, kernel, stride, padding, 1, ceil, return_indices=True)
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(y, ty.permute(0, 2, 3, 1).numpy())
    np.testing.assert_array_equal(indices, tindices.permute(0, 2, 3, 1).numpy())

    values = rng.standard_normal(y.shape).astype(dtype)
    z, backward = MaxUnpool2d(kernel, stride, padding, output_size=size).forward(values, indices, train=True)
    tvalues = torch.from_numpy(values).permute(0, 3, 1, 2).contiguous().requires_grad_()
    tz = functional.max_unpool2d(tvalues, tindices.contiguous(), kernel, stride, padding, size)
    dz = rng.standard_normal(z.shape).astype(dtype)
    tz.backward(torch.from_numpy(dz).permute(0, 3, 1, 2).contiguous())
    np.testing.assert_array_equal(z, tz.detach().permute(0, 2, 3, 1).numpy())
    dvalues, none = backward(dz)
    assert none is None
    np.testing.assert_array_equal(dvalues, tvalues.grad.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, None, 0), (3, 2, 1), (3, 3, 0), ((1, 4), (1, 2), 0)])
def test_default_size_is_that_of_torch(torch, kernel, stride, padding):
    x = torch.zeros(1, 1, 4, 6)
    expected = torch.nn.MaxUnpool2d(kernel, stride, padding)(x, torch.zeros(x.shape, dtype=int)).shape[2:]
    assert MaxUnpool2d(kernel, stride, padding).out_shape((1, 4, 6, 1), (1, 4, 6, 1)) == (1, *expected, 1)


@pytest.mark.parametrize(("mode", "height"), [("circular", 5), ("sphere", 8), ("sphere_poles", 7)])
def test_default_size_closes_the_sphere(mode, height):
    pool, up = MaxPool2d(3, 2, 1, return_indices=True, padding_mode=mode), MaxUnpool2d(3, 2, 1, mode)
    x = np.random.default_rng(0).standard_normal((1, height, 12, 2))
    assert up(*pool(x)).shape == x.shape


@pytest.mark.parametrize("mode", ["zeros", "circular", "sphere", "sphere_poles", "reflect", "replicate"])
def test_what_was_the_maximum_stands_where_it_was(mode):
    """Where windows overlap, a maximum of m windows comes back m times; everything else is 0."""
    x = np.random.default_rng(0).standard_normal((2, 7, 12, 3))
    y, indices = MaxPool2d(3, 2, 1, return_indices=True, padding_mode=mode)(x)
    z = MaxUnpool2d(3, 2, 1, mode, output_size=(7, 12))(y, indices).reshape(2, -1, 3)
    for n in range(2):
        for c in range(3):
            times = np.bincount(indices[n, :, :, c].ravel(), minlength=84)
            np.testing.assert_allclose(z[n, :, c], times * x[n, :, :, c].ravel(), rtol=1e-14)


def test_windows_cross_the_seam_and_the_pole():
    x = np.zeros((1, 2, 4, 1))
    x[0, 0, 3] = 5  # left of column 0 around the seam
    y, indices = MaxPool2d(3, 2, 1, return_indices=True, padding_mode="circular")(x)
    assert y.ravel().tolist() == [5, 5]
    assert indices.ravel().tolist() == [3, 3]
    x[0, 0, 3] = 0
    x[0, 0, 2] = 7  # seen from column 0 over the pole
    y, indices = MaxPool2d((3, 1), (2, 1), (1, 0), return_indices=True, padding_mode="sphere")(x)
    assert y.ravel().tolist() == [7, 0, 7, 0]
    assert indices.ravel()[[0, 2]].tolist() == [2, 2]


def test_unpooling_is_linear_and_its_gradient_the_adjoint():
    rng = np.random.default_rng(0)
    _, indices = MaxPool2d(3, 1, 1, return_indices=True, padding_mode="sphere")(rng.standard_normal((2, 6, 8, 5)))
    x, dy = rng.standard_normal((2, 2, 6, 8, 5))
    y, backward = MaxUnpool2d(3, 1, 1, "sphere").forward(x, indices, train=True)
    assert abs((y * dy).sum() - (x * backward(dy)[0]).sum()) < 1e-12 * np.linalg.norm(x) * np.linalg.norm(dy)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 300, 37), (5, 300, 3), (2, 7, 1)])
def test_kernels_follow_their_definitions(shape, dtype):
    """Any indices in any order, some of them nowhere."""
    rng = np.random.default_rng(0)
    x, index = rng.standard_normal(shape).astype(dtype), rng.integers(-1, 500, shape, dtype=np.int32)
    check_op(unpool, x, index, 500)
    check_op(unpool, x, np.sort(index, axis=1), 510)
    check_op(unpool_dx, rng.standard_normal((shape[0], 500, shape[2])).astype(dtype), index)


def test_switches_name_sites():
    stencil = window((4, 6), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), "sphere")
    rng = np.random.default_rng(0)
    switch = rng.choice(np.array([0, 4, 8, 255], np.uint8), (2, stencil.sites_out, 20))
    check_op(switch_sites, switch, stencil)
    assert (switch_sites(switch, stencil)[switch == 255] == -1).all()


X = np.ones((1, 2, 3, 2), np.float32)
INDICES = MaxPool2d(2, return_indices=True)(np.ones((1, 4, 6, 2), np.float32))[1]


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda: MaxUnpool2d(2)(X, INDICES[..., :1]), r"and the indices \(1, 2, 3, 1\); expected equal shapes"),
        (lambda: MaxUnpool2d(2)(X, INDICES.astype(float)), "the indices have dtype float64; expected integers"),
        (lambda: MaxUnpool2d(2)(X, INDICES + 30), "the indices run from 30 to 46; expected sites of an image of 4 x 6"),
        (lambda: MaxUnpool2d(2, output_size=(5, 7))(X, INDICES), r"index 12 does not lie in window \(1, 0\)"),
        (lambda: MaxUnpool2d(2, output_size=(4, 9))(X, INDICES), "4 x 9 has 2 x 4 windows, but the input is 2 x 3"),
        (lambda: MaxUnpool2d(2, output_size=0), "output_size is 0; expected an integer of at least 1"),
        (lambda: MaxPool2d(2, 2, 0, 1, "circular"), "return_indices is 'circular'; expected one of False, True"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(use, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        use()
    assert "\n" not in str(caught.value)
