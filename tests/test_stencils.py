"""Stencils: every border by a second construction, and the adjoint tables."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.stencils import PADDING_MODES, output_size, pointwise, window


def tap_matrices(stencil):
    """(taps, sites out, sites in): how often each tap of each output reads each input."""
    dense = np.zeros((stencil.taps, stencil.sites_out, stencil.sites_in), int)
    for out, tap, source in stencil.slots():
        np.add.at(dense, (tap, out[source >= 0], source[source >= 0]), 1)
    return dense


def padded_sites(height, width, padding, mode):
    """Site numbers of the padded image, by whole-image operations; -1 is zero."""
    (top, bottom), (left, right) = padding
    sites = np.arange(height * width).reshape(height, width)
    if mode == "zeros":
        return np.pad(sites, padding, constant_values=-1)
    if mode in ("reflect", "replicate"):
        return np.pad(sites, padding, mode={"replicate": "edge"}.get(mode, mode))
    if mode == "circular":
        rows = np.pad(sites, padding[:1] + ((0, 0),), constant_values=-1)
    else:
        turned = np.roll(sites, width // 2, axis=1)
        skip = 1 if mode == "sphere_poles" else 0
        above = turned[skip : skip + top][::-1]
        below = turned[height - skip - bottom : height - skip][::-1]
        rows = np.concatenate([above, sites, below])
    return np.pad(rows, ((0, 0), (left, right)), mode="wrap")


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("seed", range(25))
def test_window_is_a_sliding_view_of_the_padded_image(mode, seed):
    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(4, 9)), 2 * int(rng.integers(2, 5))
    kernel, stride, dilation = (tuple(map(int, rng.integers(1, n, 2))) for n in (4, 4, 3))
    p = [int(v) for v in rng.integers(0, 4, 4)]
    padding = ((p[0], p[1]), (p[2], p[3]))
    padded = padded_sites(height, width, padding, mode)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if reach[0] > padded.shape[0] or reach[1] > padded.shape[1]:
        with pytest.raises(InputError, match="use a larger input or padding"):
            window((height, width), kernel, stride, padding, dilation, mode)
        return
    views = np.lib.stride_tricks.sliding_window_view(padded, reach)
    views = views[:: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    stencil = window((height, width), kernel, stride, padding, dilation, mode)
    assert stencil.shape_out == views.shape[:2]
    expected = np.zeros((stencil.taps, stencil.sites_out, height * width), int)
    for p, sources in enumerate(views.reshape(-1, stencil.taps)):
        for tap, source in enumerate(sources):
            if source >= 0:
                expected[tap, p, source] += 1
    np.testing.assert_array_equal(tap_matrices(stencil), expected)
    np.testing.assert_array_equal(tap_matrices(stencil.transposed), expected.transpose(0, 2, 1))


def test_wrapping_more_than_once_around():
    stencil = window((1, 4), (1, 7), padding=((0, 0), (3, 3)), dilation=(1, 1), padding_mode="circular")
    assert tap_matrices(stencil).sum(axis=0).tolist()[0] == [1, 2, 2, 2]


def test_every_output_site_stands_in_one_segment():
    for stencil in (s := window((9, 14), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), "sphere"), s.transposed):
        sites = [
            stencil.out_base[g] + stencil.column[stencil.out_kind[g], stencil.start[g] : stencil.start[g] + n]
            for g, n in enumerate(stencil.size)
        ]
        np.testing.assert_array_equal(np.sort(np.concatenate(sites)), np.arange(stencil.sites_out))


def test_tables_do_not_grow_with_the_image():
    small, large = (window((h, 64), (3, 3), padding=((1, 1), (1, 1)), padding_mode="circular") for h in (8, 64))
    assert small.column.nbytes == large.column.nbytes
    assert large.base.size == 64 * 9


def test_transposing_twice_gives_the_same_object():
    stencil = window((4, 8), (3, 3))
    assert stencil.transposed.transposed is stencil
    assert pointwise((5,)).transposed.sites_out == 5


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation", "expected"),
    [(5, 3, 1, (0, 0), 1, 3), (7, 3, 2, (1, 1), 1, 4), (9, 3, 1, (2, 2), 2, 9)],
)
def test_output_size(size, kernel, stride, padding, dilation, expected):
    assert output_size(size, kernel, stride, padding, dilation) == expected


def test_bad_borders_are_refused_in_one_sentence():
    with pytest.raises(InputError, match="reflect padding is 4 for 4 rows or columns; expected less than 4"):
        window((4, 8), (3, 3), padding=((4, 4), (1, 1)), padding_mode="reflect")
    with pytest.raises(InputError, match="7 columns; expected an even number"):
        window((4, 7), (3, 3), padding=((1, 1), (1, 1)), padding_mode="sphere")
    with pytest.raises(InputError, match="1 row; expected at least 2"):
        window((1, 8), (3, 3), padding=((1, 1), (1, 1)), padding_mode="sphere_poles")
