"""Icosphere: the published mesh, areas, and reading at any direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, Equirect, Icosphere, Perspective, directions, from_config
from spherecnn.grids.base import solid_angles
from spherecnn.grids.resample import resample, sampling_matrix

PUBLISHED = np.load(Path(__file__).parent / "reference" / "icosphere.npz")
AXES = np.concatenate([np.eye(3), -np.eye(3)])
LEVELS = [0, 1, 2, 4]


def unit(xyz):
    return xyz / np.linalg.norm(xyz, axis=-1, keepdims=True)


def smooth(xyz):
    """A band-limited field: degree 1, 2 and 3 harmonics."""
    x, y, z = np.moveaxis(unit(xyz), -1, 0)
    return np.stack([x + 0.5 * z - 0.7 * y, x * y - 0.3 * y * z + 0.4 * x * z, z * z, 2 * x * y * z], axis=-1)


def on(grid):
    return smooth(grid.xyz).reshape(*grid.shape, -1)


def anywhere(count=3000):
    """Random directions, the axes, and both sides of the date line."""
    rng = np.random.default_rng(0)
    line = directions(rng.uniform(-1.5, 1.5, 100), np.pi + rng.uniform(-1e-6, 1e-6, 100))
    return np.concatenate([unit(rng.standard_normal((count, 3))), AXES, line])


# --- the mesh ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(4))
def test_the_published_mesh_to_the_bit(level):
    grid = Icosphere(level)
    assert grid.vertices.tobytes() == PUBLISHED[f"V{level}"].tobytes()
    assert np.array_equal(grid.faces, PUBLISHED[f"F{level}"])


@pytest.mark.parametrize("level", range(7))
def test_counts_edges_and_sides(level):
    """Euler's formula, two faces to an edge, twelve vertices with five neighbours, faces seen from outside."""
    grid = Icosphere(level)
    assert grid.sites == len(grid.xyz) == 10 * 4**level + 2
    assert len(grid.faces) == 20 * 4**level
    edges = np.sort(np.concatenate([grid.faces[:, [0, 1]], grid.faces[:, [1, 2]], grid.faces[:, [2, 0]]]), axis=1)
    count = np.unique(edges[:, 0] * grid.sites + edges[:, 1], return_counts=True)[1]
    assert len(count) == 30 * 4**level
    assert np.all(count == 2)
    assert np.array_equal(np.bincount(grid.faces.ravel()), np.where(np.arange(grid.sites) < 12, 5, 6))
    assert np.linalg.det(grid.vertices[grid.faces]).min() > 0
    assert np.allclose(np.linalg.norm(grid.xyz, axis=1), 1, rtol=0, atol=1e-15)


@pytest.mark.parametrize("level", range(1, 7))
def test_the_level_below_is_the_prefix(level):
    """Vertices come first, new ones are middles of its edges, and face f became faces 4 f to 4 f + 3."""
    grid, below = Icosphere(level), Icosphere(level - 1)
    assert grid.coarsen() == below
    assert below.refine() == grid
    assert np.allclose(grid.vertices[: below.sites], below.vertices, rtol=0, atol=2e-15)
    children = grid.faces.reshape(-1, 4, 3)
    assert np.array_equal(children[:, [0, 1, 2], [0, 1, 2]], below.faces)
    a, b = below.vertices[below.faces], below.vertices[np.roll(below.faces, -1, axis=1)]
    assert np.allclose(grid.vertices[children[:, 3]], unit(a + b), rtol=0, atol=2e-15)


def test_angles():
    grid = Icosphere(3)
    assert np.allclose(directions(grid.lat, grid.lon), grid.xyz, rtol=0, atol=1e-15)
    assert grid.lon.min() == -np.pi
    assert grid.lon.max() < np.pi
    assert np.array_equal(grid.lat[12:14], [np.pi / 2, -np.pi / 2])


@pytest.mark.parametrize("level", range(8))
def test_areas_sum_to_the_sphere(level):
    area = Icosphere(level).area
    assert abs(area.sum() - 4 * np.pi) < 1e-14
    assert area.min() > 0
    assert np.allclose(area[:12], area[0], rtol=1e-12)


def test_areas_are_those_of_the_flat_mesh_in_the_limit():
    """Independent of the spherical formula: a third of the flat triangles around, relative difference of order h^2."""
    differences = []
    for level in (4, 5):
        grid = Icosphere(level)
        a, b, c = grid.vertices[grid.faces].transpose(1, 0, 2)
        flat = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
        around = np.bincount(grid.faces.ravel(), flat.repeat(3))
        differences.append(np.abs(around / grid.area - 1).max())
    assert differences[1] < 1e-3
    assert 3.8 < differences[0] / differences[1] < 4.2


def test_solid_angles_by_girard():
    """The sum of the angles of a spherical triangle less pi; the angles from the planes of its sides."""
    corners = unit(np.random.default_rng(0).standard_normal((200, 3, 3)))
    corners = corners[np.linalg.det(corners) > 0.05]
    a, b, c = corners.transpose(1, 0, 2)
    total = -np.pi
    for p, q, r in ((a, b, c), (b, c, a), (c, a, b)):
        one, other = unit(np.cross(p, q)), unit(np.cross(p, r))
        total = total + np.arccos(np.einsum("pi,pi->p", one, other).clip(-1, 1))
    assert np.allclose(solid_angles(a, b, c), total, rtol=0, atol=1e-12)


def test_areas_integrate_harmonics():
    """Degree 1 to 3 harmonics have mean zero; z^2 has 4 pi / 3."""
    integral = Icosphere(4).area @ smooth(Icosphere(4).xyz)
    assert np.allclose(integral, [0, 0, 4 * np.pi / 3, 0], atol=1e-3)


# --- reading at any direction ------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_nearest_is_the_smallest_angle(level):
    grid, xyz = Icosphere(level), anywhere()
    cosine = xyz @ grid.xyz.T
    found = grid.nearest(2.5 * xyz)
    assert np.allclose(cosine[np.arange(len(xyz)), found], cosine.max(axis=1), rtol=0, atol=1e-14)
    assert np.array_equal(grid.nearest(grid.xyz), np.arange(grid.sites))


@pytest.mark.parametrize("level", LEVELS)
def test_the_face_of_a_direction_holds_it(level):
    """Brute force: the only face with the direction on the inner side of all three edges."""
    grid, xyz = Icosphere(level), unit(np.random.default_rng(1).standard_normal((500, 3)))
    a, b, c = grid.vertices[grid.faces].transpose(1, 0, 2)
    inside = np.all([np.cross(p, q) @ xyz.T > 0 for p, q in ((a, b), (b, c), (c, a))], axis=0)
    assert np.all(inside.sum(axis=0) == 1)
    assert np.array_equal(grid.face_of(0.2 * xyz), np.argmax(inside, axis=0))


@pytest.mark.parametrize("level", range(1, 6))
def test_edges_belong_to_the_middle_child(level):
    """Points on the three edges of the middle child, in all of its roundings."""
    grid = Icosphere(level)
    middle = np.arange(3, len(grid.faces), 4)
    corners = grid.vertices[grid.faces[middle]]
    for share in (0.5, 0.3, 0.01):
        on_edges = share * corners + (1 - share) * np.roll(corners, 1, axis=1)
        assert np.array_equal(grid.face_of(on_edges.reshape(-1, 3)), middle.repeat(3))


@pytest.mark.parametrize("level", LEVELS)
def test_taps_are_averages_that_give_the_direction_back(level):
    """The weighted corners lie on the ray of the direction: what barycentric weights mean."""
    grid, xyz = Icosphere(level), anywhere()
    sites, weights = grid.taps(3 * xyz)
    assert sites.shape == weights.shape == (len(xyz), 3)
    assert weights.min() >= 0
    assert np.allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-15)
    point = np.einsum("pt,pti->pi", weights, grid.xyz[sites])
    assert np.allclose(unit(point), xyz, rtol=0, atol=2e-9)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("level", LEVELS)
def test_reading_at_the_vertices_is_the_identity(level, method):
    grid = Icosphere(level)
    matrix = sampling_matrix(grid, 0.3 * grid.xyz, method)
    assert matrix.nnz == grid.sites
    assert np.array_equal(matrix.diagonal(), np.ones(grid.sites))


def test_the_middle_of_an_edge_is_the_mean_of_its_ends():
    fine, grid = Icosphere(4), Icosphere(3)
    matrix = sampling_matrix(grid, fine.xyz[grid.sites :])
    assert np.all(np.diff(matrix.indptr) == 2)
    assert np.allclose(matrix.data, 0.5, rtol=0, atol=1e-12)


def test_nothing_jumps_over_edges_poles_and_the_date_line():
    grid, rng, step = Icosphere(2), np.random.default_rng(0), 1e-7
    values = rng.standard_normal(grid.sites)
    along = directions(np.linspace(-np.pi / 2, np.pi / 2, 301), np.full(301, np.pi))
    a, b = grid.vertices[grid.faces], grid.vertices[np.roll(grid.faces, -1, axis=1)]
    for place in (along, ((a + b) / 2).reshape(-1, 3), (0.9 * a + 0.1 * b).reshape(-1, 3), grid.xyz, AXES):
        read = [sampling_matrix(grid, place + step * rng.standard_normal(place.shape)) @ values for _ in range(4)]
        assert np.ptp(read, axis=0).max() < 400 * step


def test_error_is_of_second_order():
    """Measured: 2.6e-3 at level 4 and 6.6e-4 at level 5, for fields of degree 1 to 3 of amplitude about 1."""
    xyz = anywhere(8000)
    errors = [
        np.abs(sampling_matrix(Icosphere(level), xyz) @ smooth(Icosphere(level).xyz) - smooth(xyz)).max()
        for level in (4, 5)
    ]
    assert errors[1] < 7e-4
    assert 3.6 < errors[0] / errors[1] < 4.4


def test_round_trips_are_of_second_order():
    """Measured at levels 4 and 5, with panoramas of as many pixels: 5.2e-3 and 1.4e-3, both ways."""
    errors = []
    for level, height in ((4, 36), (5, 72)):
        grid, panorama = Icosphere(level), Equirect(height)
        there = resample(resample(on(panorama), panorama, grid), grid, panorama) - on(panorama)
        back = resample(resample(on(grid), grid, panorama), panorama, grid) - on(grid)
        errors.append([np.abs(there).max(), np.abs(back).max()])
    errors = np.array(errors)
    assert errors[1].max() < 1.6e-3
    assert np.all(errors[0] / errors[1] > 3.3)


def test_classes_survive_a_finer_grid():
    x = np.random.default_rng(0).integers(0, 9, (2, 162, 1)).astype(np.uint8)
    fine = resample(x, Icosphere(2), Icosphere(5), "nearest")
    assert fine.dtype == np.uint8
    assert np.array_equal(resample(fine, Icosphere(5), Icosphere(2), "nearest"), x)
    assert np.array_equal(fine[:, :162], x)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "supersample"])
@pytest.mark.parametrize("target", [Equirect(5), Cubemap(2), Perspective(3, 4, 80)], ids=repr)
def test_a_constant_stays_constant(target, method):
    y = resample(np.full((2, 2562, 3), 0.7), Icosphere(4), target, method)
    assert y.shape == (2, *target.shape, 3)
    assert np.allclose(y, 0.7, rtol=1e-14)


def test_supersampling_averages_what_reading_skips():
    """Noise of many vertices to a target pixel: its mean is small, a few of its values are not."""
    noise = np.random.default_rng(0).choice([-1.0, 1.0], (10242, 1))
    assert np.abs(resample(noise, Icosphere(5), Cubemap(2))).max() > 0.3
    assert np.abs(resample(noise, Icosphere(5), Cubemap(2), "supersample")).max() < 0.15


def test_config_rebuilds():
    assert from_config(Icosphere(3).config()) == Icosphere(3) != Icosphere(2)
    assert Icosphere(1) != Equirect(1)
    assert len({Icosphere(3), Icosphere(3), Icosphere(2)}) == 2


def test_the_finest_level_builds():
    grid = Icosphere(8)
    assert grid.vertices.shape == (655362, 3)
    assert grid.faces.shape == (1310720, 3)
    assert np.array_equal(np.bincount(grid.faces.ravel())[:14], [5] * 12 + [6] * 2)
    assert abs(grid.area.sum() - 4 * np.pi) < 1e-13
    sites, weights = grid.taps(grid.xyz[::97])
    assert np.array_equal(sites[weights == 1], np.arange(0, grid.sites, 97))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Icosphere(-1), "expected an integer of at least 0"),
        (lambda: Icosphere(2.0), "expected an integer of at least 0"),
        (lambda: Icosphere(9), "expected at most 8"),
        (lambda: Icosphere(8).refine(), "expected at most 8"),
        (lambda: Icosphere(0).coarsen(), "at least level 1"),
        (lambda: resample(np.ones((42, 1)), Icosphere(2), Equirect(2)), "expected (..., 162, C)"),
        (lambda: resample(np.ones((42, 1)), Icosphere(1), Equirect(2), "area"), "'supersample'"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(InputError) as error:
        call()
    assert sentence in str(error.value)
