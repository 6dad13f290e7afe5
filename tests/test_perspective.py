"""Perspective views: orientation, fields of view, six of them as a cube, views put together."""

from __future__ import annotations

import numpy as np
import pytest

from spherecnn.datasets import looking_at, project_planar
from spherecnn.grids import Cubemap, Equirect, Perspective, angles
from spherecnn.grids.resample import resample, stitch

SIZES = [1, 2, 3, 4, 7, 16]
QUARTER = np.pi / 2
# lat, lon of the views that are the six faces
LOOKING = [(0, 0), (0, QUARTER), (0, np.pi), (0, -QUARTER), (QUARTER, 0), (-QUARTER, 0)]


def views(size):
    return [Perspective(size, size, 90, lat, lon) for lat, lon in LOOKING]


@pytest.mark.parametrize("size", SIZES)
def test_six_views_of_90_degrees_are_the_faces_to_the_bit(size):
    grid = Cubemap(size)
    xyz = np.stack([view.xyz for view in views(size)])
    assert np.array_equal(xyz.reshape(-1, 3), grid.xyz)
    assert np.allclose(np.concatenate([v.area for v in views(size)]), grid.area, rtol=1e-13)
    x = np.random.default_rng(0).random((9, 18, 2)).astype(np.float32)
    faces = [resample(x, Equirect(9), view) for view in views(size)]
    assert np.array_equal(faces, resample(x, Equirect(9), grid))


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_six_views_stitched_are_the_cubemap(method):
    """To the bit: with nearest everywhere, else where the pixels around a site lie on one face."""
    size, target = 8, Equirect(21, 43)
    x = np.random.default_rng(0).random((6, size, size, 2))
    y, cube = stitch(x, views(size), target, method), resample(x, Cubemap(size), target, method)
    _, row, column = Cubemap(size).pixel(target.xyz)
    inner = (np.abs(row - 3.5) <= 3.5) & (np.abs(column - 3.5) <= 3.5)
    assert 0.6 < inner.mean() < 0.9
    same = np.all(np.isclose(y, cube, rtol=0, atol=1e-14), axis=-1).ravel()
    assert np.all(same if method == "nearest" else same[inner])
    assert np.isfinite(y).all()


@pytest.mark.parametrize(("lat", "lon", "roll"), [(0, 0, 0), (0.7, 2.5, 0), (-1.2, -0.4, 1.1), (QUARTER, 0.3, 3)])
def test_the_middle_of_a_view_is_its_direction(lat, lon, roll):
    view = Perspective(5, 7, 65, lat, lon, roll)
    expected = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    assert np.allclose(view.xyz.reshape(5, 7, 3)[2, 3], expected, atol=1e-15)
    assert np.allclose(np.stack(view.pixel(view.xyz)), np.indices((5, 7)).reshape(2, -1), atol=1e-12)
    assert np.allclose(view.frame @ view.frame.T, np.eye(3), atol=1e-15)
    assert np.linalg.det(view.frame) == pytest.approx(-1)  # right, down, away: seen from inside, as on a panorama
    turned = looking_at(lat, lon, roll).apply([[1, 0, 0], [0, 1, 0], [0, 0, -1]])
    assert np.allclose(view.frame, turned, atol=1e-14)


def test_a_view_is_upright_and_not_mirrored():
    """By hand: 90 degrees, 2 x 4 pixels at u = -3/4 .. 3/4, v = -+1/4; the view to the east sees -x on its right."""
    ahead = Perspective(2, 4, 90)
    lat, lon = angles(ahead.xyz)
    assert np.allclose(np.tan(lon).reshape(2, 4), [[-0.75, -0.25, 0.25, 0.75]] * 2)
    assert np.allclose((np.tan(lat) / np.cos(lon)).reshape(2, 4), [[0.25] * 4, [-0.25] * 4])
    east = Perspective(2, 4, 90, lon=QUARTER).xyz.reshape(2, 4, 3)
    assert np.allclose(east[0, 3] / east[0, 3, 1], [-0.75, 1, 0.25])


def test_fields_of_view():
    view = Perspective(3, 6, 120)
    inside = view.inside(np.array([[1, np.tan(np.radians(59.9)), 0], [1, np.tan(np.radians(60.1)), 0]]))
    assert inside.tolist() == [True, False]
    vertical = np.arctan(np.tan(np.radians(60)) / 2)
    edge = np.array([[1, 0, np.tan(vertical) * f] for f in (-0.999, -1.001, 0.999, 1.001)])
    assert view.inside(edge).tolist() == [True, False, True, False]
    assert not view.inside(np.array([-1.0, 0, 0]))
    a, b = np.tan(np.radians(60)), np.tan(vertical)
    assert view.area.sum() == pytest.approx(4 * np.arcsin(a * b / np.sqrt((1 + a * a) * (1 + b * b))), rel=1e-13)


@pytest.mark.parametrize("roll", [0.0, 0.6])
def test_one_view_back_on_the_sphere_is_project_planar(roll):
    """The kernel that puts pictures on tangent planes, written on its own, reads the same."""
    grid, view = Equirect(24), Perspective(7, 9, 70, 0.4, -2, roll)
    x = np.random.default_rng(0).random((7, 9, 2))
    kernel = project_planar(x[None], grid, 70, looking_at(0.4, -2, roll))[0]
    assert np.allclose(stitch([x], [view], grid, fill=0), kernel, atol=1e-12)


def test_views_that_overlap_fade_into_each_other():
    """By hand: midway between two views of 120 degrees both weigh the same; towards one it counts more."""
    pair = [Perspective(3, 3, 120, lon=-0.5), Perspective(3, 3, 120, lon=0.5)]
    target = Perspective(1, 4001, 160)
    y = stitch([np.full((3, 3, 1), 1.0), np.full((3, 3, 1), 3.0)], pair, target)[0, :, 0]
    assert y[2000] == pytest.approx(2)
    assert np.all(np.diff(y[np.isfinite(y)]) >= 0)
    assert np.abs(np.diff(y[np.isfinite(y)])).max() < 0.02
    share = [1 - np.tan(abs(0.2 - lon)) / np.tan(np.pi / 3) for lon in (-0.5, 0.5)]
    at = Perspective(1, 1, 1, lon=0.2)
    both = stitch([np.full((3, 3, 1), 1.0), np.full((3, 3, 1), 3.0)], pair, at)
    assert both.item() == pytest.approx((share[0] + 3 * share[1]) / sum(share))


def test_where_no_view_sees():
    x, view = np.ones((2, 2, 2, 1), np.float32), Perspective(2, 2, 90)
    y = stitch([x], [view], Equirect(8))
    assert y.shape == (2, 8, 16, 1)
    assert y.dtype == np.float32
    assert np.array_equal(np.isfinite(y[0]).ravel(), view.inside(Equirect(8).xyz))
    labels = stitch([np.full((2, 2, 1), 7, np.uint8)], [view], Equirect(8), "nearest", fill=255)
    assert labels.dtype == np.uint8
    assert set(labels.ravel().tolist()) == {7, 255}
