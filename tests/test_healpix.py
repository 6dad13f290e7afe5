"""HEALPix: where pixels are, which one holds a direction, reading between them, and what happens without healpy."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, Equirect, Healpix, Icosphere, Perspective, directions, from_config
from spherecnn.grids.resample import resample, sampling_matrix

pytest.importorskip("healpy")
GRIDS = [Healpix(1), Healpix(3), Healpix(8), Healpix(2, "nested"), Healpix(8, "nested")]


def unit(xyz):
    return xyz / np.linalg.norm(xyz, axis=-1, keepdims=True)


def smooth(xyz):
    """A band-limited field: degree 1, 2 and 3 harmonics."""
    x, y, z = np.moveaxis(unit(xyz), -1, 0)
    return np.stack([x + 0.5 * z - 0.7 * y, x * y - 0.3 * y * z + 0.4 * x * z, z * z, 2 * x * y * z], axis=-1)


def on(grid):
    return smooth(grid.xyz).reshape(*grid.shape, -1)


def anywhere(count=5000):
    """Random directions, the axes, and both sides of the date line."""
    rng = np.random.default_rng(0)
    line = directions(rng.uniform(-1.5, 1.5, 100), np.pi + rng.uniform(-1e-6, 1e-6, 100))
    return np.concatenate([unit(rng.standard_normal((count, 3))), np.eye(3), -np.eye(3), line])


def published_centres(nside):
    """Gorski et al. 2005, eq. 4 to 9: (z, longitude) of ring i and pixel j, from the north."""
    z, lon = [], []
    for i in range(1, 4 * nside):
        k = min(i, 4 * nside - i)
        count, shift = (4 * k, 0.5) if k < nside else (4 * nside, 0.5 * ((i - nside + 1) % 2))
        height = 1 - k * k / (3 * nside**2) if k < nside else 4 / 3 - 2 * i / (3 * nside)
        z += [height if k >= nside or i < nside else -height] * count
        lon += [2 * np.pi * (j + shift) / count for j in range(count)]
    return np.array(z), np.array(lon)


# --- where the pixels are ----------------------------------------------------------------------------------


@pytest.mark.parametrize("nside", [1, 2, 3, 4, 7])
def test_rings_are_where_the_paper_says(nside):
    grid, (z, lon) = Healpix(nside), published_centres(nside)
    assert grid.shape == (12 * nside**2,)
    assert np.allclose(grid.xyz, directions(np.arcsin(z), lon), rtol=0, atol=1e-14)
    assert np.all((grid.lon >= -np.pi) & (grid.lon < np.pi))
    assert np.all(np.diff(grid.lat) < 1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_areas_are_equal(grid):
    assert np.all(grid.area == grid.area[0])
    assert abs(grid.area.sum() - 4 * np.pi) < 1e-13


def test_nested_pixels_lie_in_their_parent():
    """A direction is in pixel p of the coarse grid and in one of 4 p to 4 p + 3 of the finer one."""
    grid, xyz = Healpix(4, "nested"), anywhere()
    assert np.array_equal(grid.refine().nearest(xyz) // 4, grid.nearest(xyz))
    assert np.array_equal(grid.coarsen().nearest(grid.xyz), np.arange(192) // 4)


def test_orders_hold_the_same_pixels():
    ring, nested = Healpix(8), Healpix(8, "nested")
    number = nested.nearest(ring.xyz)
    assert np.array_equal(np.sort(number), np.arange(ring.sites))
    assert np.allclose(nested.xyz[number], ring.xyz, rtol=0, atol=1e-15)
    x = np.random.default_rng(0).random((2, ring.sites, 3))
    assert np.array_equal(resample(x, ring, nested, "nearest")[:, number], x)


@pytest.mark.parametrize("grid", [Healpix(2), Healpix(3), Healpix(2, "nested")], ids=repr)
def test_pixels_hold_equal_shares_of_the_sphere(grid):
    """Which pixel holds a direction, checked by the area of those that it holds: points even in z and longitude."""
    height, width = 720, 720
    z = 1 - (2 * np.arange(height) + 1) / height
    lon = (2 * np.arange(width) + 1) * np.pi / width
    xyz = directions(np.arcsin(z).repeat(width), np.tile(lon, height))
    share = np.bincount(grid.nearest(5 * xyz), minlength=grid.sites) / len(xyz)
    assert np.allclose(share * grid.sites, 1, rtol=0, atol=0.02)


# --- reading between them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_reading_at_pixel_centres_is_the_identity(grid, method):
    matrix = sampling_matrix(grid, 0.3 * grid.xyz, method)
    assert matrix.nnz == grid.sites
    assert np.array_equal(matrix.toarray(), np.eye(grid.sites))


@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_weights_are_averages(grid):
    xyz = anywhere()
    sites, weights = grid.taps(2 * xyz)
    assert sites.shape == weights.shape == (len(xyz), 4)
    assert weights.min() >= 0
    assert np.allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-15)
    assert sites.min() >= 0
    assert sites.max() < grid.sites


def test_a_pole_is_the_mean_of_the_pixels_around():
    matrix = sampling_matrix(Healpix(4), np.array([[0, 0, 1.0], [0, 0, -1]])).toarray()
    assert np.allclose(matrix[0], np.where(np.arange(192) < 4, 0.25, 0), atol=1e-15)
    assert np.allclose(matrix[1], np.where(np.arange(192) >= 188, 0.25, 0), atol=1e-15)


def test_between_two_rings_by_hand():
    """nside 1: rings at z = 2/3 (pixels at 45, 135, ... degrees) and z = 0 (0, 90, ... degrees)."""
    north = np.arcsin(2 / 3)
    row = sampling_matrix(Healpix(1), directions(np.array([0.75 * north]), np.radians([60.0]))).toarray()[0]
    expected = np.zeros(12)
    expected[[0, 1]] = 0.75 * 5 / 6, 0.75 / 6
    expected[[4, 5]] = 0.25 / 3, 0.25 * 2 / 3
    assert np.allclose(row, expected, rtol=0, atol=1e-12)


def test_nothing_jumps_at_the_date_line_and_the_poles():
    grid, rng, step = Healpix(4), np.random.default_rng(0), 1e-7
    values = rng.standard_normal(grid.sites)
    line = directions(np.linspace(-np.pi / 2, np.pi / 2, 301), np.full(301, np.pi))
    read = [sampling_matrix(grid, line + step * rng.standard_normal(line.shape)) @ values for _ in range(4)]
    assert np.ptp(read, axis=0).max() < 400 * step


def test_error_is_of_second_order_away_from_the_poles_and_of_first_beside_them():
    """Measured at nside 16 and 32: 2.7e-3 and 6.6e-4 below |z| = 0.9, 1.5e-2 and 7.4e-3 beside the poles."""
    xyz, errors = anywhere(20000), []
    xyz = xyz[np.abs(xyz[:, 2]) < 0.9]
    for nside in (16, 32):
        grid, offset = Healpix(nside), np.random.default_rng(1).uniform(-2, 2, (3000, 3)) / nside
        places = xyz, np.array([0, 0, 1.0]) + offset, np.array([0, 0, -1.0]) + offset
        errors.append([np.abs(sampling_matrix(grid, p) @ smooth(grid.xyz) - smooth(p)).max() for p in places])
    ratio = np.array(errors[0]) / errors[1]
    assert errors[1][0] < 8e-4
    assert max(errors[1]) < 8.5e-3
    assert 3.5 < ratio[0] < 4.6
    assert np.all((ratio[1:] > 1.7) & (ratio[1:] < 2.4))


def test_round_trips():
    """Measured at nside 32 and H = 78: root mean square 5.4e-4 from the panorama and 4.2e-4 from the pixels."""
    grid, panorama = Healpix(32), Equirect(78)
    there = resample(resample(on(panorama), panorama, grid), grid, panorama) - on(panorama)
    back = resample(resample(on(grid), grid, panorama), panorama, grid) - on(grid)
    assert np.sqrt((there**2).mean()) < 6e-4
    assert np.sqrt((back**2).mean()) < 5e-4
    assert np.abs(there).max() < 7e-3
    assert np.abs(back).max() < 4e-3


@pytest.mark.parametrize("method", ["nearest", "bilinear", "supersample"])
@pytest.mark.parametrize("target", [Equirect(5), Cubemap(2), Perspective(3, 4, 80)], ids=repr)
def test_a_constant_stays_constant(target, method):
    y = resample(np.full((2, 3072, 3), 0.7, np.float32), Healpix(16, "nested"), target, method)
    assert y.dtype == np.float32
    assert y.shape == (2, *target.shape, 3)
    assert np.allclose(y, 0.7, rtol=1e-6)


def test_to_and_from_an_icosphere():
    """Measured: 7.5e-3 at nside 32 and level 5, beside the poles of the pixels."""
    pixels, mesh = Healpix(32), Icosphere(5)
    assert np.abs(resample(on(pixels), pixels, mesh) - on(mesh)).max() < 8.5e-3
    assert np.abs(resample(on(mesh), mesh, pixels) - on(pixels)).max() < 7e-4


# --- configuration and refusals ----------------------------------------------------------------------------


def test_config_rebuilds():
    for grid in GRIDS:
        assert from_config(grid.config()) == grid
    assert Healpix(4) != Healpix(4, "nested") != Healpix(2, "nested")
    assert len({Healpix(4), Healpix(4), Healpix(4, "nested")}) == 2
    assert Healpix(6).coarsen(3) == Healpix(2) == Healpix(1).refine()


def test_without_healpy_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "healpy", None)
    with pytest.raises(InputError, match="healpy is not installed"):
        Healpix(4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Healpix(0), "expected an integer of at least 1"),
        (lambda: Healpix(4, "nest"), "expected one of 'ring', 'nested'"),
        (lambda: Healpix(6, "nested"), "expected a power of two"),
        (lambda: Healpix(2, "nested").refine(3), "expected a power of two"),
        (lambda: Healpix(3).coarsen(), "expected a divisor of nside"),
        (lambda: resample(np.ones((12, 1)), Healpix(2), Equirect(2)), "expected (..., 48, C)"),
        (lambda: resample(np.ones((12, 1)), Healpix(1), Equirect(2), "area"), "'supersample'"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(InputError) as error:
        call()
    assert sentence in str(error.value)
