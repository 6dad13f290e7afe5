"""Resampling, sampling kernels and rotations: half-pixels, seam, poles, exactness."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spherecnn.datasets import RotateAugment, looking_at, project_planar, random_rotation, rotate
from spherecnn.errors import InputError
from spherecnn.grids import Equirect, Grid, directions
from spherecnn.grids.resample import resample, sampling_matrix
from spherecnn.kernels.jit import get_num_threads, set_num_threads
from spherecnn.kernels.sample import sample_equirect, sample_tangent

GRIDS = [
    Equirect(8),
    Equirect(5, 7),
    Equirect(6, 9),
    Equirect(1, 1),
    Equirect(7, 12, pole_rows=True),
    Equirect(5, 7, pole_rows=True),
    Equirect(2, 3, pole_rows=True),
]


class Points(Grid):
    """Any sites at all: what a resampling target needs is `shape`, `lat` and `lon`."""

    def __init__(self, lat, lon):
        self._lat, self._lon, self.shape = np.asarray(lat, float), np.asarray(lon, float), (len(lat),)

    @property
    def lat(self):
        return self._lat

    @property
    def lon(self):
        return self._lon


def random_directions(rng, *shape):
    xyz = rng.standard_normal((*shape, 3))
    xyz[..., :4, :] = [[0, 0, 1], [0, 0, -1], [-1, 0, 0], [-1, -1e-12, 0]]
    return xyz


def smooth(xyz):
    """A band-limited field: degree 1 and 2 harmonics."""
    x, y, z = np.moveaxis(xyz / np.linalg.norm(xyz, axis=-1, keepdims=True), -1, 0)
    return np.stack([x + 0.5 * z, x * y - 0.3 * y * z, z * z], axis=-1)


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_sampling_at_pixel_centres_is_the_identity(grid, method):
    matrix = sampling_matrix(grid, grid.xyz, method)
    assert matrix.nnz == grid.sites
    assert np.array_equal(matrix.toarray(), np.eye(grid.sites))


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_sampling_rows_are_averages(grid):
    matrix = sampling_matrix(grid, random_directions(np.random.default_rng(0), 200))
    assert matrix.data.min() >= 0
    assert np.allclose(matrix.sum(axis=1), 1, rtol=0, atol=1e-14)


def test_seam_lies_between_the_last_and_the_first_column():
    grid = Equirect(3, 8)
    row = sampling_matrix(grid, directions(np.zeros(1), np.array([np.pi]))).toarray().reshape(3, 8)
    assert row[1, 0] == row[1, 7] == 0.5


@pytest.mark.parametrize(("width", "columns"), [(8, {1: 0.5, 5: 0.5}), (7, {1: 0.5, 4: 0.25, 5: 0.25})])
@pytest.mark.parametrize("sign", [1, -1])
def test_pole_is_read_from_both_sides(width, columns, sign):
    """Above the centre of column 1, the pole lies midway between that pixel and what is half a turn away."""
    grid = Equirect(4, width)
    lon = grid.column_lon[1]
    row = sampling_matrix(grid, directions(np.array([sign * np.pi / 2]), np.array([lon]))).toarray().reshape(4, -1)
    expected = np.zeros((4, width))
    for column, weight in columns.items():
        expected[0 if sign > 0 else 3, column] = weight
    assert np.allclose(row, expected, atol=1e-9)


def test_pole_rows_hold_the_pole_itself():
    grid = Equirect(5, 8, pole_rows=True)
    x = np.zeros((5, 8, 1))
    x[0], x[4] = 3.0, 7.0
    poles = Points([np.pi / 2, -np.pi / 2], [0.3, -2.0])
    assert resample(x, grid, poles).ravel().tolist() == [3.0, 7.0]


@pytest.mark.parametrize("pole_rows", [False, True])
@pytest.mark.parametrize("width", [64, 65])
def test_bilinear_error_on_a_smooth_field_is_second_order_everywhere(width, pole_rows):
    """Errors of wrap, fold or half-pixels would be of first order, 0.05 and more."""
    grid = Equirect(32, width, pole_rows=pole_rows)
    xyz = random_directions(np.random.default_rng(1), 4000)
    near_pole = directions(np.full(100, np.pi / 2 - 0.01), np.linspace(-np.pi, np.pi, 100))
    xyz = np.concatenate([xyz, near_pole, near_pole * [1, 1, -1]])
    read = sampling_matrix(grid, xyz) @ smooth(grid.xyz)
    assert np.abs(read - smooth(xyz)).max() < 0.005


@pytest.mark.parametrize("source", GRIDS, ids=repr)
@pytest.mark.parametrize("target", [Equirect(3, 5), Equirect(11, 20, pole_rows=True), Equirect(4)], ids=repr)
@pytest.mark.parametrize("method", ["nearest", "bilinear", "area"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_stays_constant(source, target, method, dtype):
    y = resample(np.full((2, *source.shape, 3), 0.7, dtype), source, target, method)
    assert y.dtype == dtype
    assert y.shape == (2, *target.shape, 3)
    assert np.allclose(y, 0.7, rtol=4 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("source", [Equirect(12), Equirect(7, 13), Equirect(9, 10, pole_rows=True)], ids=repr)
@pytest.mark.parametrize("target", [Equirect(4), Equirect(5, 3), Equirect(4, 6, pole_rows=True)], ids=repr)
def test_area_keeps_the_integral_over_the_sphere(source, target):
    x = np.random.default_rng(0).random((*source.shape, 2))
    y = resample(x, source, target, "area")
    before, after = source.area @ x.reshape(-1, 2), target.area @ y.reshape(-1, 2)
    assert np.allclose(after, before, rtol=1e-13)


def test_area_of_whole_blocks_is_their_mean_by_solid_angle():
    source, target = Equirect(6, 12), Equirect(2, 3)
    x = np.random.default_rng(0).random((6, 12, 1))
    weight = source.area.reshape(2, 3, 3, 4)
    blocks = x[..., 0].reshape(2, 3, 3, 4)
    expected = (weight * blocks).sum(axis=(1, 3)) / weight.sum(axis=(1, 3))
    assert np.allclose(resample(x, source, target, "area")[..., 0], expected, rtol=1e-13)


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_area_in_bands_of_rows_is_area(rows, monkeypatch):
    x = np.random.default_rng(0).random((2, 12, 24, 3))
    whole = resample(x, Equirect(12), Equirect(5), "area")
    monkeypatch.setattr("spherecnn.grids.resample._BAND", rows * 24 * 3)
    assert np.allclose(resample(x, Equirect(12), Equirect(5), "area"), whole, rtol=1e-14)


def test_reading_in_parts_gives_equal_bits(monkeypatch):
    x = np.random.default_rng(0).random((2, 12, 24, 3))
    whole = resample(x, Equirect(12), Equirect(5))
    monkeypatch.setattr("spherecnn.grids.resample._POINTS", 7)
    assert np.array_equal(resample(x, Equirect(12), Equirect(5)), whole)


def test_area_reads_integers_as_floats_and_nearest_keeps_them():
    x = np.random.default_rng(0).integers(0, 255, (8, 16, 3)).astype(np.uint8)
    area = resample(x, Equirect(8), Equirect(3), "area")
    assert area.dtype == np.float32
    assert np.allclose(area, resample(x.astype(float), Equirect(8), Equirect(3), "area"), rtol=1e-5)
    nearest = resample(x, Equirect(8), Equirect(24), "nearest")
    assert nearest.dtype == np.uint8
    assert np.array_equal(nearest, x.repeat(3, axis=0).repeat(3, axis=1))


def test_round_trip_through_a_finer_grid():
    coarse, fine = Equirect(8), Equirect(24)
    x = np.random.default_rng(0).random((*coarse.shape, 2))
    there = resample(x, coarse, fine)
    assert np.allclose(resample(there, fine, coarse, "nearest"), x, atol=1e-14)


@pytest.mark.parametrize(
    ("values", "source", "target", "method", "sentence"),
    [
        (np.ones((4, 8)), Equirect(4), Equirect(2), "bilinear", "expected (..., 4, 8, C)"),
        (np.ones((8, 4, 1)), Equirect(4), Equirect(2), "bilinear", "expected (..., 4, 8, C)"),
        (np.ones((4, 8, 1)), Equirect(4), Points([0.0], [0.0]), "area", "use 'bilinear'"),
        (np.ones((1, 1, 1)), Points([0.0], [0.0]), Equirect(2), "nearest", "expected an Equirect"),
        (np.ones((4, 8, 1)), Equirect(4), Equirect(2), "spline", "'spline'"),
        (np.ones((4, 8, 1), complex), Equirect(4), Equirect(2), "area", "complex128"),
    ],
)
def test_resample_refuses(values, source, target, method, sentence):
    with pytest.raises(InputError) as error:
        resample(values, source, target, method)
    assert sentence in str(error.value)


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("sets", "turned"), [(1, False), (3, False), (1, True), (3, True)])
def test_sample_equirect_is_its_definition(grid, dtype, sets, turned):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, *grid.shape, 2)).astype(dtype)
    xyz = random_directions(rng, sets, 300)
    turns = random_rotation(rng, size=3).as_matrix() if turned else None
    y = sample_equirect(x, xyz, turns, grid.pole_rows)
    assert y.dtype == dtype
    expected = sample_equirect.definition(x, xyz, turns, grid.pole_rows)
    assert np.allclose(y, expected, atol=1e-6 if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 4), (1, 1), (8, 8)])
@pytest.mark.parametrize(("sets", "turned"), [(1, False), (3, True)])
def test_sample_tangent_is_its_definition(dtype, shape, sets, turned):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, *shape, 2)).astype(dtype)
    xyz = random_directions(rng, sets, 300)
    turns = random_rotation(rng, size=3).as_matrix() if turned else None
    y = sample_tangent(x, xyz, (1.5, 0.8), turns)
    assert y.dtype == dtype
    assert 0.02 < np.mean(y != 0) < 0.5
    assert np.allclose(y, sample_tangent.definition(x, xyz, (1.5, 0.8), turns), atol=1e-6)


def test_sampling_gives_equal_bits_on_one_and_two_threads():
    if get_num_threads() < 2:
        pytest.skip("this machine has one thread")
    rng = np.random.default_rng(0)
    x, xyz = rng.random((3, 8, 16, 2)), random_directions(rng, 3, 700)
    two = sample_equirect(x, xyz)
    before = get_num_threads()
    set_num_threads(1)
    one = sample_equirect(x, xyz)
    set_num_threads(before)
    assert np.array_equal(one, two)


def test_a_nan_stays_in_its_pixel_when_pixels_are_read_at_their_centres():
    grid = Equirect(4)
    x = np.zeros((1, 4, 8, 1))
    x[0, 2, 3] = np.nan
    assert np.array_equal(sample_equirect(x, grid.xyz[None]).reshape(x.shape), x, equal_nan=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((np.ones((4, 8, 1)), np.ones((1, 5, 3))), "expected 4 axes (N, H, W, C)"),
        ((np.ones((2, 4, 8, 1)), np.ones((5, 3))), "expected 3 axes"),
        ((np.ones((2, 4, 8, 1)), np.ones((3, 5, 3))), "3 sets for 2 images"),
        ((np.ones((2, 4, 8, 1)), np.full((1, 5, 3), np.nan)), "NaN"),
        ((np.ones((2, 4, 8, 1)), np.ones((1, 5, 3)), np.ones((1, 2, 3))), "rotations have shape"),
    ],
)
def test_sample_equirect_refuses(arguments, sentence):
    with pytest.raises(InputError) as error:
        sample_equirect(*arguments)
    assert sentence in str(error.value)


@pytest.mark.parametrize("grid", [Equirect(6), Equirect(5, 7), Equirect(5, 8, pole_rows=True)], ids=repr)
@pytest.mark.parametrize("columns", [1, 3, -2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_yaw_by_whole_columns_is_numpy_roll(grid, columns, dtype):
    x = np.random.default_rng(0).standard_normal((2, *grid.shape, 3)).astype(dtype)
    turn = Rotation.from_euler("z", columns * 2 * np.pi / grid.width)
    assert np.array_equal(rotate(x, turn, grid), np.roll(x, columns, axis=2))


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("x", lambda x: x[:, ::-1, ::-1]),
        ("y", lambda x: np.roll(x[:, ::-1, ::-1], x.shape[2] // 2, axis=2)),
        ("z", lambda x: np.roll(x, x.shape[2] // 2, axis=2)),
    ],
)
@pytest.mark.parametrize("pole_rows", [False, True])
def test_half_turns_only_move_pixels(axis, expected, pole_rows):
    """About x: (lat, lon) -> (-lat, -lon); about y: (-lat, pi - lon)."""
    grid = Equirect(6, 12, pole_rows=pole_rows)
    x = np.random.default_rng(0).standard_normal((2, 6, 12, 1)).astype(np.float32)
    if pole_rows:  # one pole, one value: its longitude means nothing
        x[:, 0], x[:, -1] = 1, 2
    y = rotate(x, Rotation.from_euler(axis, np.pi), grid)
    assert np.array_equal(y, expected(x)) if not pole_rows else np.allclose(y, expected(x), atol=1e-6)


def test_rotation_carries_a_smooth_field():
    grid, turns = Equirect(48), random_rotation(np.random.default_rng(2), size=3)
    x = np.repeat(smooth(grid.xyz).reshape(1, *grid.shape, 3), 3, axis=0)
    y = rotate(x, turns, grid)
    expected = np.stack([smooth(grid.xyz @ turn.as_matrix()).reshape(*grid.shape, 3) for turn in turns])
    assert np.abs(y - expected).max() < 0.003


def test_rotate_refuses_images_of_another_grid():
    with pytest.raises(InputError, match="expected"):
        rotate(np.ones((1, 8, 4, 1)), Rotation.identity(), Equirect(4))


@pytest.mark.parametrize("kind", ["so3", "yaw", "none"])
def test_random_rotations_are_uniform_and_seeded(kind):
    draw = random_rotation(np.random.default_rng(0), kind, 4000)
    again = random_rotation(np.random.default_rng(0), kind, 4000)
    assert np.array_equal(draw.as_matrix(), again.as_matrix())
    up, ahead = draw.apply([0.0, 0.0, 1.0]), draw.apply([1.0, 0.0, 0.0])
    if kind == "so3":
        assert np.abs(up.mean(axis=0)).max() < 0.05
        assert np.allclose(np.cov(up.T), np.eye(3) / 3, atol=0.02)
    else:
        assert np.allclose(up, [0, 0, 1])
        assert np.linalg.norm(ahead.mean(axis=0)) < 0.05 if kind == "yaw" else np.array_equal(ahead[9], [1, 0, 0])


@pytest.mark.parametrize("kind", ["so3", "yaw"])
def test_rotate_augment_turns_maps_with_their_images(kind):
    grid, rng = Equirect(12), np.random.default_rng(0)
    x = np.repeat(smooth(grid.xyz)[:, :1].reshape(1, *grid.shape, 1) > 0.2, 3, axis=0).astype(np.float32)
    labels = x[..., 0].astype(np.int64)
    turned, turned_labels = RotateAugment(grid, kind)(x, labels, rng)
    assert turned_labels.dtype == np.int64
    assert not np.array_equal(turned_labels[0], labels[0])
    # The nearest of four bilinear taps weighs at least a quarter.
    assert np.abs(turned[..., 0] - turned_labels).max() <= (0.75 + 1e-6 if kind == "so3" else 0)
    assert RotateAugment(grid, kind)(x, np.arange(3), rng)[1].tolist() == [0, 1, 2]


def test_planar_picture_is_upright_and_not_mirrored():
    """North-west, north-east, south-west and south-east quarters keep their places."""
    picture = np.repeat(np.repeat([[1.0, 2.0], [3.0, 4.0]], 8, axis=0), 8, axis=1)
    grid = Equirect(36)
    y = project_planar(picture[None], grid, fov_deg=90)[0, ..., 0]

    def at(lat, lon):
        return y[int((90 - lat) / 5), int((lon + 180) / 5)]

    assert [at(25, -25), at(25, 25), at(-25, -25), at(-25, 25)] == [1, 2, 3, 4]
    assert at(0, 60) == at(0, -60) == at(70, 0) == at(0, 175) == 0


def test_planar_picture_goes_where_its_rotation_points():
    grid = Equirect(36)
    lat, lon = np.radians(40), np.radians(110)
    y = project_planar(np.ones((1, 9, 9)), grid, 40, looking_at(lat, lon))[0].ravel()
    centre = (grid.area * y) @ grid.xyz
    assert np.allclose(centre / np.linalg.norm(centre), directions(np.array(lat), np.array(lon)), atol=0.01)


def test_roll_turns_the_picture_clockwise():
    picture = np.zeros((1, 9, 9))
    picture[:, :3] = 1  # the top
    grid = Equirect(36)
    y = project_planar(picture, grid, 60, looking_at(0, 0, np.pi / 2))[0].ravel()
    centre = (grid.area * y) @ grid.xyz
    assert centre[1] > 0.1
    assert abs(centre[2]) < 0.01


def test_a_fine_picture_is_averaged_not_skipped():
    """Stripes finer than the grid become their mean."""
    picture = np.tile([0.0, 1.0], (1, 400, 200))
    y = project_planar(picture, Equirect(20), fov_deg=80)[0, 6:14, 17:23, 0]
    assert np.abs(y - 0.5).max() < 0.05


@pytest.mark.parametrize(
    ("images", "fov", "sentence"),
    [
        (np.ones((2, 2)), 90, "expected 4 axes"),
        (np.ones((1, 2, 2), np.uint8), 90, "uint8"),
        (np.ones((1, 2, 2)), 180, "below 180"),
        (np.ones((1, 2, 2)), 0, "above 0"),
    ],
)
def test_project_planar_refuses(images, fov, sentence):
    with pytest.raises(InputError) as error:
        project_planar(images, Equirect(4), fov)
    assert sentence in str(error.value)
