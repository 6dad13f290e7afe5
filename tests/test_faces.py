"""Reading the faces of a polyhedron, and every grid from every other."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, Equirect, Grid, Healpix, Icosphere, Perspective, Polyhedron, angles
from spherecnn.grids.equirect import cubic, linear
from spherecnn.grids.resample import resample, sampling_matrix

REFERENCE = Path(__file__).parent / "reference" / "spherephd_erp.npz"
METHODS = ("nearest", "bilinear", "supersample")


def everywhere(count, seed=0):
    xyz = np.random.default_rng(seed).standard_normal((count, 3))
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True)


def inward(grid):
    """Normals (P, 3, 3) of the planes through the sides of each face."""
    corners = grid.vertices[grid.faces]
    return np.cross(corners, np.roll(corners, -1, axis=1))


def read(values, grid, xyz):
    sites, weights = grid.taps(xyz)
    return np.einsum("pt,pt...->p...", weights, values[sites])


# --- the face that holds a direction ------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(4))
def test_nearest_is_the_face_inside_whose_sides_a_direction_lies(level):
    grid, xyz = Polyhedron(level), everywhere(3000)
    inside = (np.einsum("fki,pi->pfk", inward(grid), xyz) > 0).all(axis=-1)
    assert np.all(inside.sum(axis=1) == 1)
    assert np.array_equal(grid.nearest(3.5 * xyz), inside.argmax(axis=1))


def test_nearest_at_a_fine_level():
    grid, xyz = Polyhedron(7), everywhere(50_000)
    found = grid.nearest(xyz)
    assert np.einsum("pki,pi->pk", inward(grid)[found], xyz).min() > -1e-15
    assert np.array_equal(grid.nearest(grid.xyz), np.arange(grid.sites))


def test_faces_are_found_as_often_as_they_are_large():
    grid, count = Polyhedron(2), 200_000
    expected = grid.area * count / (4 * np.pi)
    found = np.bincount(grid.nearest(everywhere(count)), minlength=grid.sites)
    assert np.abs((found - expected) / np.sqrt(expected)).max() < 4.5


def test_a_direction_on_a_side_or_corner_is_in_a_face_that_touches_it():
    grid = Polyhedron(2)
    corners = grid.vertices[grid.faces]
    for xyz in (corners[:, 0], corners[:, 0] + corners[:, 1], corners[:, 1] + 0.3 * corners[:, 2]):
        found = grid.nearest(xyz)
        assert np.einsum("pki,pi->pk", inward(grid)[found], xyz).min() > -1e-14


# --- linear between the centres -----------------------------------------------------------------------------


def test_taps_by_hand():
    """On the icosahedron: at a pole five faces alike, in the middle of a side its two, and in between."""
    grid = Polyhedron(0)
    beside = grid.neighbours[0, 1]  # across the left side, from the north pole to the left corner
    middle = grid.xyz[0] + grid.xyz[beside]
    between = middle + grid.vertices[0]
    matrix = sampling_matrix(grid, np.stack([grid.vertices[0], middle, between])).toarray()
    expected = np.zeros((3, 20))
    expected[0, :5] = 1 / 5
    expected[1, [0, beside]] = 1 / 2
    expected[2, :5] = 1 / 15  # a third, for the corner, spread over five
    expected[2, [0, beside]] += 1 / 3
    assert np.allclose(matrix, expected, atol=1e-14)


@pytest.mark.parametrize("level", [0, 1, 3, 5])
def test_taps_are_weights_and_exact_at_the_centres(level):
    grid, rng = Polyhedron(level), np.random.default_rng(0)
    sites, weights = grid.taps(everywhere(5000))
    assert sites.shape == weights.shape == (5000, 6)
    assert weights.min() >= 0
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-14)
    values = rng.standard_normal(grid.sites)
    assert np.array_equal(read(values, grid, grid.xyz), values)


def test_taps_do_not_jump():
    """Across sides, through corners, and across the lines between the centres of neighbours."""
    grid, rng = Polyhedron(2), np.random.default_rng(0)
    values, corners = rng.standard_normal(grid.sites), grid.vertices[grid.faces]
    t = rng.random((grid.sites, 1))
    lines = [t * corners[:, 0] + (1 - t) * corners[:, 1], corners[:, 2], t * grid.xyz + (1 - t) * corners[:, 1]]
    lines += [t * grid.xyz + (1 - t) * grid.xyz[grid.neighbours[:, k]] for k in range(3)]
    for xyz in lines:
        step = 1e-9 * rng.standard_normal(xyz.shape)
        assert np.abs(read(values, grid, xyz + step) - read(values, grid, xyz - step)).max() < 1e-6


def test_what_is_read_lies_in_the_direction_asked_for():
    """The centres themselves are read back: along the sphere the place is right to third order."""
    off = []
    for level in (3, 4, 5):
        grid, xyz = Polyhedron(level), everywhere(20_000)
        place = read(grid.xyz, grid, xyz)
        assert np.linalg.norm(place, axis=1).min() > 1 - 0.5 * grid.pixel_side**2
        off.append(np.abs(place / np.linalg.norm(place, axis=1, keepdims=True) - xyz).max())
    assert off[0] < 2e-4
    assert off[0] > 6 * off[1] > 36 * off[2]


# --- every grid from every other ----------------------------------------------------------------------------

GRIDS = [Equirect(32), Equirect(31, 45), Equirect(17, 34, pole_rows=True), Cubemap(16), Healpix(16)]
GRIDS += [Healpix(8, "nested"), Icosphere(3), Polyhedron(2), Polyhedron(3)]


@pytest.mark.parametrize(("source", "target"), list(product(GRIDS, GRIDS)), ids=repr)
def test_all_pairs(source, target):
    x = np.concatenate([np.ones((source.sites, 1)), source.xyz], axis=1).reshape(*source.shape, 4)
    # HEALPix reads a ring of four pixels for all about a pole
    rough = (0.25 if isinstance(source, Healpix) else 0.45 * source.pixel_side) * source.pixel_side
    bounds = {"nearest": source.pixel_side, "bilinear": rough, "supersample": rough + 0.2 * target.pixel_side**2}
    for method, bound in bounds.items():
        y = resample(x, source, target, method).reshape(-1, 4)
        assert np.allclose(y[:, 0], 1, atol=1e-12)  # no black faces
        if method != "supersample" or not isinstance(target, Equirect):  # the middle of a wedge is not its centre
            assert np.abs(y[:, 1:] - target.xyz).max() < bound


@pytest.mark.parametrize("target", [Polyhedron(5), Healpix(16), Icosphere(4)], ids=repr)
@pytest.mark.parametrize("grid", [Equirect, Cubemap, Polyhedron], ids=lambda g: g.__name__)
def test_centres_are_read_at_the_right_half_pixel(grid, target):
    """A picture of the coordinates: the error falls by four where pixels halve."""
    sizes = (2, 3, 4) if grid is Polyhedron else (16, 32, 64)
    errors = [np.abs(resample(g.xyz.reshape(*g.shape, 3), g, target) - target.xyz).max() for g in map(grid, sizes)]
    assert errors[0] > 3.4 * errors[1] > 11.5 * errors[2] > 0


@pytest.mark.parametrize(("down", "right"), [(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
def test_half_a_pixel_off_would_be_seen(down, right):
    source, target = Equirect(64), Polyhedron(4)
    row, column = np.indices(source.shape).reshape(2, -1)
    shifted = source.at((row + down, column + right))[0].reshape(64, 128, 3)
    right_one = np.abs(resample(source.xyz.reshape(64, 128, 3), source, target) - target.xyz).max()
    assert right_one < 0.3 * source.pixel_side**2
    assert np.abs(resample(shifted, source, target) - target.xyz).max() > 10 * right_one


@pytest.mark.parametrize("method", METHODS)
def test_north_is_up_and_east_is_right(method):
    picture = np.zeros((32, 64, 2))
    picture[:16, :, 0], picture[:, 32:, 1] = 1, 1
    grid = Polyhedron(4)
    y, away = resample(picture, Equirect(32), grid, method), 2.5 * Equirect(32).pixel_side
    clear = np.abs(grid.lat) > away
    assert np.allclose(y[clear, 0], grid.lat[clear] > 0, atol=1e-12)
    clear = (np.abs(grid.xyz[:, 1]) > away) & (np.abs(grid.lat) < 1)
    assert np.allclose(y[clear, 1], grid.lon[clear] > 0, atol=1e-12)


# --- averages over sites ------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "grid", [Equirect(8), Cubemap(6), Healpix(3), Healpix(4, "nested"), Icosphere(2), Polyhedron(2)], ids=repr
)
def test_parts_lie_in_their_sites_and_add_up(grid, parts):
    total = np.zeros(grid.sites)
    for xyz, area in grid.divide(parts):
        seen = area > 0
        if isinstance(grid, Icosphere):  # a third of a face: where its vertex counts most
            sites, weights = grid.taps(xyz[seen])
            assert np.array_equal(sites[np.arange(len(sites)), weights.argmax(axis=1)], np.flatnonzero(seen))
        else:
            assert np.array_equal(grid.nearest(xyz), np.arange(grid.sites))
        total += area
    assert np.allclose(total, grid.area, rtol=0.25 if parts == 1 else 0.12)


@pytest.mark.parametrize("target", [Polyhedron(2), Healpix(4), Healpix(5), Icosphere(2)], ids=repr)
def test_supersample_is_the_average_over_a_site(target):
    """Against a finer panorama, every pixel put into its site; reading centres alone misses what is fine."""
    source, fine = Equirect(48), Equirect(384)
    stripes = np.sin(11 * source.lon) * np.cos(source.lat) + np.cos(9 * source.lat)
    x = stripes.reshape(48, 96, 1)
    values = resample(x, source, fine).ravel()
    if isinstance(target, Icosphere):
        sites, weights = target.taps(fine.xyz)
        place = sites[np.arange(len(sites)), weights.argmax(axis=1)]
    else:
        place = target.nearest(fine.xyz)
    expected = np.bincount(place, values * fine.area) / np.bincount(place, fine.area)
    error, centres = (
        np.abs(resample(x, source, target, m)[:, 0] - expected).max() for m in ("supersample", "bilinear")
    )
    assert error < 0.06
    assert centres > 5 * error


def test_a_grid_without_parts_is_refused():
    class Dots(Grid):
        shape, lat, lon = (1,), np.zeros(1), np.zeros(1)

    with pytest.raises(InputError, match="can be cut into parts"):
        resample(np.ones((4, 8, 1)), Equirect(4), Dots(), "supersample")


# --- cubic --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "lines"), [("linear", linear), ("cubic", cubic)])
def test_reading_a_picture_equals_the_published_positions_and_values(name, lines):
    golden = np.load(REFERENCE)
    sites, weights = Equirect(64, 128).taps_at(golden["phi"] - 1, golden["theta"] - 1, lines)
    values = np.einsum("pt,pt->p", weights, golden["image"].ravel()[sites].astype(float))
    assert np.abs(values - golden[name]).max() < 1e-11


def test_published_positions_are_the_centres_of_faces():
    """Their rows run from south to north and are half a pixel off: row 1 lies where its north side should."""
    golden, grid = np.load(REFERENCE), Polyhedron(2)
    lat, _ = angles(grid.xyz[::4])
    assert np.allclose(golden["phi"], (lat + np.pi / 2) * 64 / np.pi, atol=1e-9)


CUBIC = [Equirect(24), Equirect(24, 47), Equirect(25, 48, pole_rows=True), Equirect(25, 45, pole_rows=True)]


@pytest.mark.parametrize("grid", CUBIC, ids=repr)
def test_cubic_over_seam_and_poles(grid):
    xyz = np.concatenate([everywhere(4000), [[0, 0, 1], [0, 0, -1], [-1, 0, 0], [-1, -1e-9, 0.5]]])
    x, y, z = grid.xyz.T
    values = np.stack([np.ones_like(x), x, z, x * y, y * z], axis=-1)
    x, y, z = (xyz / np.linalg.norm(xyz, axis=1, keepdims=True)).T
    expected = np.stack([np.ones_like(x), x, z, x * y, y * z], axis=-1)
    error = {m: np.abs(sampling_matrix(grid, xyz, m) @ values - expected).max(axis=0) for m in ("bilinear", "cubic")}
    assert error["cubic"][0] < 1e-13
    assert np.all(error["cubic"][1:] < 0.25 * error["bilinear"][1:])
    assert np.allclose(sampling_matrix(grid, grid.xyz, "cubic").toarray(), np.eye(grid.sites), atol=1e-12)


@pytest.mark.parametrize(
    "grid", [Equirect(1), Equirect(1, 1), Equirect(2, 3), Equirect(2, 2, pole_rows=True)], ids=repr
)
def test_cubic_on_tiny_pictures(grid):
    assert np.allclose(sampling_matrix(grid, everywhere(50), "cubic").sum(axis=1), 1)


@pytest.mark.parametrize("source", [Cubemap(4), Polyhedron(1), Icosphere(1), Healpix(2), Perspective(4, 4)], ids=repr)
def test_cubic_is_for_panoramas(source):
    with pytest.raises(InputError, match="expected an Equirect for method 'cubic'"):
        sampling_matrix(source, np.array([[1.0, 0, 0]]), "cubic")
