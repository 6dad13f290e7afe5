"""How good a triangle mesh of the sphere is: edges, angles, shapes, neighbours, and the error of its operators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.polynomial import legendre
from scipy import sparse

from spherecnn.errors import check_at_least
from spherecnn.grids import subdivide
from spherecnn.grids.base import compass, directions

# Axes of the harmonics: the pole, two on the equator, and some that lie askew to every symmetry.
_LAT = np.radians([90.0, 0.0, 0.0, 17.0, -38.0, 61.0])
_LON = np.radians([0.0, 0.0, 90.0, 23.0, 141.0, -77.0])


def edges(grid: Any) -> np.ndarray:
    """Pairs of vertices (E, 2) that an edge joins, the smaller index first, in ascending order.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> edges(Icosphere(0)).shape
    (30, 2)
    """
    return subdivide.edges(grid.faces, len(grid.vertices))[0]


def edge_lengths(grid: Any) -> np.ndarray:
    """Length (E,) of each edge, straight through the sphere, in the order of ``edges``.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> edge_lengths(Icosphere(0)).max().round(4)  # 4 / sqrt(10 + 2 sqrt(5))
    np.float64(1.0515)
    """
    first, second = edges(grid).T
    return np.linalg.norm(grid.vertices[second] - grid.vertices[first], axis=-1)


def face_angles(grid: Any) -> np.ndarray:
    """Angles (F, 3) of the flat triangles at their corners, radians.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> np.degrees(face_angles(Icosphere(0))[0]).round(6)
    array([60., 60., 60.])
    """
    angles = []
    for k in range(3):
        at, after, before = (grid.vertices[grid.faces[:, (k + i) % 3]] for i in range(3))
        one, other = after - at, before - at
        area = np.linalg.norm(np.cross(one, other), axis=-1)
        angles.append(np.arctan2(area, np.einsum("fi,fi->f", one, other)))
    return np.stack(angles, axis=-1)


def radius_ratios(grid: Any) -> np.ndarray:
    r"""Quality (F,) of the flat triangles: 1 if the sides are equal, 0 if the corners lie on a line.

    .. math:: q = \frac{2\,r}{R} = 8 \sin\frac\alpha2 \sin\frac\beta2 \sin\frac\gamma2

    with r the radius of the circle inside, R that of the circle through the corners, and the three angles.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> float(radius_ratios(Icosphere(0)).min().round(6))
    1.0
    """
    return 8 * np.sin(face_angles(grid) / 2).prod(axis=-1)


def valences(grid: Any) -> np.ndarray:
    """Number of neighbours (P,) of each vertex.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> np.bincount(valences(Icosphere(2)))
    array([  0,   0,   0,   0,   0,  12, 150])
    """
    return np.bincount(edges(grid).ravel(), minlength=len(grid.vertices))


def euler_number(grid: Any) -> int:
    """Vertices less edges plus faces: 2 for what is closed like a sphere.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> euler_number(Icosphere(3))
    2
    """
    return len(grid.vertices) - len(edges(grid)) + len(grid.faces)


def harmonic_errors(
    grid: Any, laplacian: sparse.csr_array, east: sparse.csr_array, north: sparse.csr_array, degree: int
) -> tuple[float, float]:
    r"""Relative errors of operators on spherical harmonics of one degree: of the Laplacian, and of the gradient.

    .. math:: \frac{\|L Y + l (l + 1) Y\|}{l (l + 1) \|Y\|},\qquad \frac{\|G Y - \nabla Y\|}{\|\nabla Y\|},\qquad
        Y(x) = P_l(a \cdot x)

    in the mean square over the sphere, by the areas of the vertices, and over six axes a. The gradient is what points
    to the east and to the north; vertices nearer than a degree to a pole, which has no such directions, are left out.

    Parameters
    ----------
    grid : MeshGrid or Icosphere
    laplacian, east, north : csr_array (P, P)
        As of `spherecnn.grids.operators`, divided by areas.
    degree : int
        l, at least 1.

    Returns
    -------
    float, float

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> nothing = sparse.csr_array((162, 162))
    >>> harmonic_errors(Icosphere(2), nothing, nothing, nothing, 3)  # what is missing wholly
    (1.0, 1.0)
    """
    degree = check_at_least("degree", degree, 1)
    axes = directions(_LAT, _LON)
    cosine = (grid.xyz @ axes.T).clip(-1, 1)
    polynomial = legendre.Legendre.basis(degree)
    harmonic, slope = polynomial(cosine), polynomial.deriv()(cosine)
    area, inside = grid.area[:, None], np.abs(np.degrees(grid.lat)) < 89
    true = -degree * (degree + 1) * harmonic
    off, whole = laplacian @ harmonic - true, true
    curved = float(np.sqrt((area * off**2).sum() / (area * whole**2).sum()))
    squares, total = 0.0, 0.0
    for operator, unit in zip((east, north), compass(grid.lat, grid.lon), strict=True):
        along = slope * (unit @ axes.T)
        squares += (area * (operator @ harmonic - along) ** 2)[inside].sum()
        total += (area * along**2)[inside].sum()
    return curved, float(np.sqrt(squares / total))
