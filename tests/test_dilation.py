"""Dilation that reaches further than the image: taps go around the sphere as often as it takes."""

import numpy as np
import pytest

from spherecnn.layers import CircularConv2d, Conv2d


def read(x, i, j, mode):
    """Channels of pixel (i, j) of (H, W, C), wherever that is, one step at a time."""
    height, width = x.shape[:2]
    if mode == "zeros":
        return x[i, j] if 0 <= i < height and 0 <= j < width else 0 * x[0, 0]
    if mode == "circular":
        return x[i, j % width] if 0 <= i < height else 0 * x[0, 0]
    poles = 1 if mode == "sphere_poles" else 0
    while not 0 <= i < height:
        i = poles - 1 - i if i < 0 else 2 * height - 1 - poles - i
        j += width // 2
    return x[i, j % width]


@pytest.mark.parametrize("mode", ["zeros", "circular", "sphere", "sphere_poles"])
@pytest.mark.parametrize("dilation", [(1, 8), (5, 1), (4, 9), (11, 23), (7, 6)])
def test_dilation_larger_than_the_image(mode, dilation):
    rng = np.random.default_rng(0)
    height, width = 4, 6
    conv = Conv2d(3, 5, 3, dilation=dilation, padding_mode=mode, bias=False, rng=rng).astype("float64")
    x = rng.standard_normal((1, height, width, 3))
    expected = np.zeros((height, width, 5))
    for p in range(height):
        for q in range(width):
            for i in range(3):
                for j in range(3):
                    at = p + (i - 1) * dilation[0], q + (j - 1) * dilation[1]
                    expected[p, q] += read(x[0], *at, mode) @ conv.weight.value[i, j]
    y, backward = conv.forward(x, train=True)
    np.testing.assert_allclose(y[0], expected, rtol=0, atol=1e-12)
    dy = rng.standard_normal(y.shape)
    assert abs((y * dy).sum() - (x * backward(dy)).sum()) < 1e-12 * np.linalg.norm(y) * np.linalg.norm(dy)


def test_once_around_is_where_it_was():
    """Dilated by the whole width, all columns of the kernel read the same pixel."""
    rng = np.random.default_rng(0)
    conv = CircularConv2d(2, 3, (1, 3), dilation=(1, 8), rng=rng).astype("float64")
    point = Conv2d(2, 3, 1).astype("float64")
    point.weight.value[...], point.bias.value[...] = conv.weight.value.sum(axis=1, keepdims=True), conv.bias.value
    x = rng.standard_normal((2, 4, 8, 2))
    np.testing.assert_allclose(conv(x), point(x), rtol=0, atol=1e-13)
