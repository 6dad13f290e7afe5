"""Measures of meshes against solids whose angles are known, and errors against operators that are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from spherecnn.grids import Icosphere, MeshGrid
from spherecnn.grids.mesh_quality import (
    edge_lengths,
    edges,
    euler_number,
    face_angles,
    harmonic_errors,
    radius_ratios,
    valences,
)
from spherecnn.grids.operators import derivatives, laplacian


def cube():
    """The cube with sides of 2, its squares halved."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    squares = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [face for a, b, c, d in squares for face in ((a, b, c), (a, c, d))]
    return MeshGrid(corners, faces)


def test_a_cube_of_right_triangles():
    grid = cube()
    assert (len(edges(grid)), euler_number(grid)) == (18, 2)
    lengths, times = np.unique(edge_lengths(grid).round(12), return_counts=True)
    assert np.allclose(lengths, [2, 8**0.5])
    assert times.tolist() == [12, 6]
    assert np.allclose(np.sort(np.degrees(face_angles(grid)), axis=1), [45, 45, 90])
    # legs a: r = a (2 - sqrt 2) / 2, R = a sqrt 2 / 2
    assert np.allclose(radius_ratios(grid), 2 * (2 - 2**0.5) / 2**0.5)
    assert valences(grid).sum() == 36


def test_radii_of_any_triangle():
    """r = area / (half of the sum of the sides) and R = product of the sides / (4 area)."""
    grid = Icosphere(1)
    grid = MeshGrid(grid.vertices * (1 + 0.3 * np.random.default_rng(0).random((42, 1))), grid.faces)
    corners = grid.vertices[grid.faces]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1)
    half = sides.sum(axis=1) / 2
    area = np.sqrt(half * (half[:, None] - sides).prod(axis=1))
    assert np.allclose(radius_ratios(grid), 2 * (area / half) / (sides.prod(axis=1) / (4 * area)))
    assert np.allclose(face_angles(grid).sum(axis=1), np.pi)


@pytest.mark.parametrize("degree", [1, 2, 5, 8])
def test_errors_of_operators_that_are_off_by_known_shares(degree):
    """All harmonics of a degree have one eigenvalue, which a multiple of the identity takes them by."""
    grid = Icosphere(3)
    identity, nothing = sparse.eye_array(grid.sites, format="csr"), sparse.csr_array((grid.sites, grid.sites))
    exact = -degree * (degree + 1) * identity
    assert harmonic_errors(grid, exact, nothing, nothing, degree) == pytest.approx((0, 1), abs=1e-12)
    assert harmonic_errors(grid, 0.9 * exact, nothing, nothing, degree)[0] == pytest.approx(0.1)


def test_the_gradient_of_degree_one_by_hand():
    """The harmonics are a . x, whose slopes to the east and north are a . east and a . north, here for given a."""
    grid = Icosphere(4)
    _, (east, north) = laplacian(grid, "mass"), derivatives(grid, "compass")
    x, y, z = grid.xyz.T
    flat = np.hypot(x, y)
    with np.errstate(invalid="ignore"):
        unit = np.stack([[-y / flat, x / flat, 0 * x], [-z * x / flat, -z * y / flat, flat]])
    keep = np.abs(np.degrees(grid.lat)) < 89
    off = np.stack([east @ grid.xyz, north @ grid.xyz]) - unit.transpose(0, 2, 1)
    weight = grid.area[keep]
    # the mean over all axes: of three that are at right angles
    expected = np.sqrt((weight * (off[:, keep] ** 2).sum(axis=(0, 2))).sum() / (2 * weight.sum()))
    nothing = sparse.csr_array((grid.sites, grid.sites))
    assert harmonic_errors(grid, nothing, east, north, 1)[1] == pytest.approx(expected, rel=1e-3)


def test_errors_fall_with_the_level():
    errors = []
    for level in (3, 4):
        grid = Icosphere(level)
        errors.append(harmonic_errors(grid, laplacian(grid, "mass"), *derivatives(grid, "compass"), 4))
    assert errors[1][0] < 0.5 * errors[0][0]
    assert errors[1][1] < 0.35 * errors[0][1]
