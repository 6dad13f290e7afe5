"""Cubemaps: orientation, areas, edges and corners, both ways."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, Equirect, Perspective, fold, from_config, unfold
from spherecnn.grids.cubemap import FACES
from spherecnn.grids.resample import resample, sampling_matrix, stitch

SIZES = [1, 2, 3, 4, 7, 16]
AXES = np.concatenate([np.eye(3), -np.eye(3)])
EDGES = [a + b for a, b in combinations(AXES, 2) if a @ b == 0]
CORNERS = [np.array([x, y, z]) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]


def smooth(xyz):
    """A band-limited field: degree 1, 2 and 3 harmonics."""
    x, y, z = np.moveaxis(xyz / np.linalg.norm(xyz, axis=-1, keepdims=True), -1, 0)
    return np.stack([x + 0.5 * z - 0.7 * y, x * y - 0.3 * y * z + 0.4 * x * z, z * z, 2 * x * y * z], axis=-1)


def on(grid):
    return smooth(grid.xyz).reshape(*grid.shape, -1)


def over_an_edge(edge, along, across):
    """Directions at `along` an edge of the cube (-1 to 1) and `across` it, radians."""
    axis = np.where(edge == 0, 1.0, 0.0)
    normal = np.cross(edge, axis)
    return edge + along[:, None] * axis + across[:, None] * normal


# --- where the pixels are ----------------------------------------------------------------------------------


def test_faces_look_where_the_page_says():
    """By hand: size 2 has its pixels at +-1/2; the first pixel of a face is up and to the left."""
    first = {
        "front": [1, -0.5, 0.5],
        "right": [0.5, 1, 0.5],
        "back": [-1, 0.5, 0.5],
        "left": [-0.5, -1, 0.5],
        "up": [-0.5, -0.5, 1],
        "down": [0.5, -0.5, -1],
    }
    to_the_right = {
        "front": [1, 0.5, 0.5],
        "right": [-0.5, 1, 0.5],
        "back": [-1, -0.5, 0.5],
        "left": [0.5, -1, 0.5],
        "up": [-0.5, 0.5, 1],
        "down": [0.5, 0.5, -1],
    }
    below = {
        "front": [1, -0.5, -0.5],
        "right": [0.5, 1, -0.5],
        "back": [-1, 0.5, -0.5],
        "left": [-0.5, -1, -0.5],
        "up": [0.5, -0.5, 1],
        "down": [-0.5, -0.5, -1],
    }
    xyz = Cubemap(2).xyz.reshape(6, 2, 2, 3) * 1.5**0.5
    for f, name in enumerate(FACES):
        assert np.allclose(xyz[f, 0, 0], first[name], atol=1e-15)
        assert np.allclose(xyz[f, 0, 1], to_the_right[name], atol=1e-15)
        assert np.allclose(xyz[f, 1, 0], below[name], atol=1e-15)


def test_the_equator_of_a_panorama_runs_through_left_front_right_back():
    """lon 0 is the middle of front; columns of the picture grow as columns of the faces."""
    grid = Cubemap(3)
    lon = np.degrees(grid.lon).reshape(grid.shape)[:4, 1]
    assert np.allclose(
        lon, [[-33.690, 0, 33.690], [56.310, 90, 123.690], [146.310, -180, -146.310], [-123.69, -90, -56.31]], atol=1e-3
    )
    assert np.all((grid.lon >= -np.pi) & (grid.lon < np.pi))


@pytest.mark.parametrize("size", SIZES)
def test_edges_that_touch_in_the_cross_are_edges_of_the_cube(size):
    """Pixels on both sides of a fold are mirror images: their parts along the centres of the faces change places."""
    number = unfold(np.arange(6 * size * size).reshape(6, size, size, 1), fill=-1)[..., 0]
    xyz = Cubemap(size).xyz
    centres = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    face = np.repeat(np.arange(6), size * size)
    folds = 0
    for a, b in ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:])):
        crossing = (a >= 0) & (b >= 0) & (face[a] != face[b])
        for i, j in zip(a[crossing], b[crossing], strict=True):
            one, other = centres[face[i]], centres[face[j]]
            assert one @ other == 0
            mirrored = xyz[i] + (xyz[i] @ one - xyz[i] @ other) * (other - one)
            assert np.allclose(mirrored, xyz[j], atol=1e-15)
            folds += 1
    assert folds == 5 * size


@pytest.mark.parametrize("size", SIZES)
def test_pixel_goes_back_to_whole_numbers(size):
    grid = Cubemap(size)
    where = np.stack(grid.pixel(3.7 * grid.xyz), axis=0)
    assert np.allclose(where, np.indices(grid.shape).reshape(3, -1), rtol=0, atol=1e-12)
    assert np.array_equal(grid.nearest(grid.xyz), np.arange(grid.sites))


def test_pixel_counts_from_half_a_pixel_before_the_first_centre():
    face, row, column = Cubemap(4).pixel(np.array([[1, -1, 1], [0.25, -1, -0.5], [0, 0, -2.0]]))
    assert [FACES[f] for f in face] == ["front", "left", "down"]
    assert np.allclose([row, column], [[-0.5, 2.5, 1.5], [-0.5, 2.0, 1.5]], atol=1e-12)


@pytest.mark.parametrize("size", [*SIZES, 101])
def test_areas_are_exact_and_sum_to_the_sphere(size):
    area = Cubemap(size).area
    assert abs(area.sum() - 4 * np.pi) < 1e-13 * max(1, size / 10)
    assert area.min() > 0


def test_area_of_a_pixel_by_quadrature():
    """Gauss-Legendre over a pixel of (1 + u^2 + v^2)^(-3/2); the three pixels of a corner are equal."""
    grid = Cubemap(5)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    u, v = 0.8 + nodes / 5, -0.4 + nodes / 5
    density = (1 + u[:, None] ** 2 + v[None] ** 2) ** -1.5
    assert np.isclose(grid.area.reshape(grid.shape)[2, 1, 4], weights @ density @ weights / 25, rtol=1e-13)
    assert np.allclose(grid.area.reshape(grid.shape)[:, [0, 0, 4, 4], [0, 4, 0, 4]], grid.area[0], rtol=1e-12)


def test_config_rebuilds():
    assert from_config(Cubemap(5).config()) == Cubemap(5) != Cubemap(4)
    view = Perspective(3, 4, 70, 0.1, -2, 0.3)
    assert Perspective(**view.config()) == view != Perspective(3, 4, 70)
    assert len({Cubemap(5), Cubemap(5), Cubemap(4), view, Perspective(**view.config())}) == 3


# --- reading a cubemap -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_reading_at_pixel_centres_is_the_identity(size, method):
    grid = Cubemap(size)
    matrix = sampling_matrix(grid, 0.3 * grid.xyz, method)
    assert matrix.nnz == grid.sites
    assert np.array_equal(matrix.toarray(), np.eye(grid.sites))


@pytest.mark.parametrize("size", SIZES)
def test_weights_are_averages(size):
    xyz = np.concatenate([np.random.default_rng(0).standard_normal((5000, 3)), EDGES, CORNERS, AXES])
    matrix = sampling_matrix(Cubemap(size), xyz)
    assert matrix.data.min() > 0
    assert np.allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-13)
    assert np.diff(matrix.indptr).max() <= 4


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("corner", CORNERS, ids=str)
def test_a_corner_is_the_mean_of_its_three_pixels(size, corner):
    grid = Cubemap(size)
    row = sampling_matrix(grid, corner[None]).toarray()[0]
    closest = np.argsort(-(grid.xyz @ corner), kind="stable")[:3]
    assert set(np.flatnonzero(row)) == set(closest)
    assert np.allclose(row[closest], 1 / 3, atol=1e-14)


@pytest.mark.parametrize("edge", EDGES, ids=str)
def test_the_middle_of_an_edge_is_the_mean_of_both_sides(edge):
    grid = Cubemap(3)
    row = sampling_matrix(grid, edge[None]).toarray()[0]
    closest = np.argsort(-(grid.xyz @ edge), kind="stable")[:2]
    assert set(np.flatnonzero(row)) == set(closest)
    assert np.allclose(row[closest], 0.5, atol=1e-14)


def test_nothing_jumps_anywhere():
    """Noise read on both sides of every boundary there is: edges, corners, and where strips meet faces."""
    size = 4
    grid, rng = Cubemap(size), np.random.default_rng(0)
    values = rng.standard_normal(grid.sites)
    step = 1e-7
    along = np.concatenate([rng.uniform(-1, 1, 200), [-1, 1, 0.75, -0.75, 0.25, 0]])
    for edge in EDGES:
        for across in (0.0, 1 / 7, -1 / 7, 0.05):  # the outermost pixel centres lie 1/7 from the edge
            place = np.full(len(along), across)
            sides = [over_an_edge(edge, along, place + s) for s in (-step, step)]
            jump = np.abs(np.diff([sampling_matrix(grid, xyz) @ values for xyz in sides], axis=0))
            assert jump.max() < 40 * size * step
    for corner in CORNERS:
        around = corner + step * rng.standard_normal((100, 3))
        read = sampling_matrix(grid, around) @ values
        assert np.ptp(read) < 40 * size * step


@pytest.mark.parametrize("size", [2, 3, 8])
def test_between_two_pixels_of_a_corner_the_strip_and_the_triangle_agree(size):
    """On the line between their centres on the cube both are read linearly, from either side."""
    grid, outer, share = Cubemap(size), 1 - 1 / size, np.linspace(0, 1, 11)[:, None]
    values = np.random.default_rng(0).standard_normal(grid.sites)
    for corner in CORNERS:
        three = corner * (outer + (1 - outer) * np.eye(3))
        for a, b, third in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            line = (1 - share) * three[a] + share * three[b]
            expected = (1 - share[:, 0]) * values[grid.nearest(three[a : a + 1])]
            expected += share[:, 0] * values[grid.nearest(three[b : b + 1])]
            for step in (-1e-7, 0, 1e-7):
                read = sampling_matrix(grid, line + step * corner[third] * np.eye(3)[third]) @ values
                assert np.allclose(read, expected, atol=1e-5)


def worst(size):
    """Greatest errors of a smooth field on a cubemap: over all 12 edges, at all 8 corners, and anywhere."""
    grid, rng = Cubemap(size), np.random.default_rng(1)
    along, across = rng.uniform(-1, 1, 600), rng.uniform(-2, 2, 600) / size
    places = [
        np.concatenate([over_an_edge(edge, along, across) for edge in EDGES]),
        np.concatenate([corner + rng.uniform(-2, 2, (300, 3)) / size for corner in CORNERS]),
        rng.standard_normal((4000, 3)),
    ]
    return np.array([np.abs(sampling_matrix(grid, xyz) @ smooth(grid.xyz) - smooth(xyz)).max() for xyz in places])


def test_error_is_of_second_order_at_edges_and_corners_too():
    """Edges and corners read as if the faces lay side by side would leave an error of first order, 0.01 here."""
    coarse, fine = worst(32), worst(64)
    assert np.all(fine < 0.0012)
    assert np.all(np.log2(coarse / fine) > 1.8)
    assert np.all(fine[:2] < 1.5 * fine[2])


@pytest.mark.parametrize("method", ["nearest", "bilinear", "supersample"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Equirect(12, 25), Cubemap(5)),
        (Equirect(40), Cubemap(3)),
        (Equirect(40), Perspective(3, 5, 100, 0.3, 2, 1)),
        (Cubemap(5), Equirect(9, 17)),
        (Cubemap(5), Equirect(7, pole_rows=True)),
        (Cubemap(20), Equirect(5, pole_rows=True)),
        (Cubemap(9), Cubemap(4)),
        (Cubemap(9), Perspective(4, 2, 150, -1, 3)),
    ],
    ids=repr,
)
def test_a_constant_stays_constant(source, target, method, dtype):
    y = resample(np.full((2, *source.shape, 3), 0.7, dtype), source, target, method)
    assert y.dtype == dtype
    assert y.shape == (2, *target.shape, 3)
    assert np.allclose(y, 0.7, rtol=8 * np.finfo(dtype).eps, atol=0)


def test_round_trip_from_a_panorama_is_of_second_order():
    errors = []
    for height in (33, 66):
        panorama, cube = Equirect(height, 2 * height + 1), Cubemap(height // 2)
        back = resample(resample(on(panorama), panorama, cube), cube, panorama)
        errors.append(np.abs(back - on(panorama)).max())
    assert errors[1] < 0.006
    assert 3 < errors[0] / errors[1] < 5.5


def test_a_cubemap_of_three_times_the_size_holds_the_pixels():
    x = np.random.default_rng(0).random((6, 4, 4, 2))
    fine = resample(x, Cubemap(4), Cubemap(12))
    assert np.allclose(fine[:, 1::3, 1::3], x, rtol=0, atol=1e-15)
    assert np.array_equal(resample(fine, Cubemap(12), Cubemap(4), "nearest"), fine[:, 1::3, 1::3])


@pytest.mark.parametrize("target", [Cubemap(4), Perspective(4, 6, 80, 0.5, 1)], ids=repr)
@pytest.mark.parametrize("source", [Equirect(96), Equirect(95, 193), Cubemap(45)], ids=repr)
def test_supersampling_averages_what_bilinear_skips(source, target):
    """A checkerboard of single pixels becomes grey, and a smooth field stays itself."""
    checks = (np.indices(source.shape)[-2:].sum(axis=0) % 2).astype(float)[..., None]
    assert np.abs(resample(checks, source, target, "bilinear") - 0.5).max() > 0.2
    assert np.abs(resample(checks, source, target, "supersample") - 0.5).max() < 0.05
    fine = resample(on(source), source, target, "supersample")
    assert np.abs(fine - on(target)).max() < 0.06
    assert not np.allclose(fine, on(target), atol=1e-3)  # a mean over a pixel is not its middle


def test_supersampling_is_the_mean_over_the_pixel():
    """Blocks of single colours, one for each target pixel, on a cubemap 10 times and a panorama 16 times as fine."""
    blocks = np.random.default_rng(0).random((6, 4, 4, 1))
    fine = blocks.repeat(10, axis=1).repeat(10, axis=2)
    assert np.abs(resample(fine, Cubemap(40), Cubemap(4), "supersample") - blocks).max() < 1e-14
    panorama = blocks.reshape(-1, 1)[Cubemap(4).nearest(Equirect(256).xyz)].reshape(256, 512, 1)
    assert np.abs(resample(panorama, Equirect(256), Cubemap(4), "supersample") - blocks).max() < 0.05


# --- layouts and refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["cross", "strip"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_layouts_there_and_back(layout, size):
    faces = np.random.default_rng(0).integers(0, 255, (6, size, size, 3)).astype(np.uint8)
    picture = unfold(faces, layout)
    assert picture.dtype == np.uint8
    assert np.array_equal(fold(picture, layout), faces)
    assert np.array_equal(fold(picture), faces)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Cubemap(0), "expected an integer of at least 1"),
        (lambda: Cubemap(2.5), "expected an integer of at least 1"),
        (lambda: Perspective(2, 2, 180), "below 180"),
        (lambda: Perspective(2, 2, 90, lat=np.nan), "lat is nan"),
        (lambda: Perspective(2, 0), "width is 0"),
        (lambda: resample(np.ones((6, 4, 5, 1)), Cubemap(4), Equirect(2)), "expected (..., 6, 4, 4, C)"),
        (lambda: resample(np.ones((6, 4, 4, 1)), Cubemap(4), Equirect(2), "area"), "'supersample'"),
        (lambda: resample(np.ones((2, 2, 1)), Perspective(2, 2), Equirect(2)), "stitch"),
        (lambda: sampling_matrix(Perspective(2, 2), np.eye(3)), "does not see every direction"),
        (lambda: sampling_matrix(Cubemap(2), np.full((1, 3), np.nan)), "NaN"),
        (lambda: stitch([], [], Equirect(2)), "0 pictures and 0 views"),
        (lambda: stitch([np.ones((2, 3, 1))], [Perspective(2, 2)], Equirect(2)), "expected (..., 2, 2, C)"),
        (
            lambda: stitch([np.ones((2, 2, 1)), np.ones((2, 2, 3))], [Perspective(2, 2)] * 2, Equirect(2)),
            "differ in batch, channels or dtype",
        ),
        (
            lambda: stitch([np.ones((2, 2, 1), np.uint8)], [Perspective(2, 2)], Equirect(2), "nearest"),
            "give fill=0",
        ),
        (lambda: unfold(np.ones((5, 2, 2, 1))), "expected (6, n, n, C)"),
        (lambda: unfold(np.ones((6, 2, 2, 1)), "dice"), "'dice'"),
        (lambda: fold(np.ones((3, 5, 1))), "six equal squares"),
        (lambda: fold(np.ones((2, 12, 1)), "cross"), "3n x 4n"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(InputError) as error:
        call()
    assert sentence in str(error.value)
