"""Differential operators on the vertices of a triangle mesh: sparse matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from spherecnn.errors import check_choice
from spherecnn.grids.base import compass, read_only

if TYPE_CHECKING:
    from spherecnn.grids.mesh import MeshGrid

LAPLACIANS = ("published", "mass", "scaled")
DERIVATIVES = ("published", "compass")
VERTEX_AREAS = ("voronoi", "barycentric")
# A vertex this close to the axis is a pole, which has no east.
POLE = 1e-9


def face_normals(grid: MeshGrid) -> np.ndarray:
    """Unit vectors (F, 3) that point out of each face.

    Examples
    --------
    >>> import spherecnn as sc
    >>> grid = sc.grids.Icosphere(1)
    >>> bool(((face_normals(grid) * grid.vertices[grid.faces[:, 0]]).sum(axis=1) > 0).all())
    True
    """
    cross = _cross(grid)
    return read_only(cross / np.linalg.norm(cross, axis=1, keepdims=True))


def face_areas(grid: MeshGrid) -> np.ndarray:
    """Areas (F,) of the flat faces, in the squared unit of the vertices.

    Examples
    --------
    The icosahedron in the unit sphere has 9.57 of the sphere's 12.57.

    >>> import spherecnn as sc
    >>> float(face_areas(sc.grids.Icosphere(0)).sum().round(2))
    9.57
    """
    return read_only(np.linalg.norm(_cross(grid), axis=1) / 2)


def vertex_areas(grid: MeshGrid, kind: str = "voronoi") -> np.ndarray:
    r"""The part (P,) of the flat faces that each vertex stands for; they sum to the area of the mesh.

    Parameters
    ----------
    grid : MeshGrid
    kind : {"voronoi", "barycentric"}
        "voronoi": of an acute face, what is nearer to the vertex than to the other two; of an obtuse face half at
        the obtuse corner and a quarter at the others. "barycentric": a third of each face.

    Notes
    -----
    With e_i the edge opposite to corner i and :math:`\alpha_i` the angle there, an acute face gives its corner 0

    .. math:: (|e_1|^2 \cot\alpha_1 + |e_2|^2 \cot\alpha_2) / 8

    Meyer, Desbrun, Schröder and Barr, Discrete differential-geometry operators for triangulated 2-manifolds, 2003,
    section 3.3.

    Examples
    --------
    >>> import spherecnn as sc
    >>> vertex_areas(sc.grids.Icosphere(0)).round(3)[:2]
    array([0.798, 0.798])
    """
    check_choice("kind", kind, VERTEX_AREAS)
    area = face_areas(grid)
    shares = np.repeat(area[:, None] / 3, 3, axis=1)
    if kind == "voronoi":
        cot, edges = _cotangents(grid), _edges(grid)
        part = (edges**2).sum(axis=2) * cot / 8
        shares = part.sum(axis=1, keepdims=True) - part
        obtuse = cot < 0
        some = obtuse.any(axis=1)
        shares[some] = area[some, None] / np.where(obtuse[some], 2, 4)
    return read_only(np.bincount(grid.faces.ravel(), shares.ravel(), grid.sites))


def gradient(grid: MeshGrid) -> Any:
    r"""Gradient on each face of the function that is linear between its corners: (3 F, P).

    .. math:: \nabla u = \sum_{i=0}^2 u_i\, \frac{n \times e_i}{2 A}

    with n the normal, A the area and e_i the edge opposite to corner i, counterclockwise. Rows 0 to F - 1 are the x
    components, then come y and z.

    Source: Jiang et al. 2019, section 3.1.

    Examples
    --------
    The gradient of z lies in the face: z less its part along the normal.

    >>> import spherecnn as sc
    >>> grid = sc.grids.Icosphere(1)
    >>> found = (gradient(grid) @ grid.vertices[:, 2]).reshape(3, -1).T
    >>> n = face_normals(grid)
    >>> bool(np.allclose(found, [0, 0, 1] - n[:, 2:] * n))
    True
    """
    normals, area = face_normals(grid), face_areas(grid)
    values = np.cross(normals[:, None], _edges(grid)) / (2 * area[:, None, None])
    faces, count = grid.faces, len(grid.faces)
    rows = np.arange(3 * count).reshape(3, count, 1)
    columns = np.broadcast_to(faces, (3, count, 3))
    places = np.broadcast_to(rows, columns.shape).ravel(), columns.ravel()
    return _csr(values.transpose(2, 0, 1).ravel(), places, (3 * count, grid.sites))


def face_to_vertex(grid: MeshGrid) -> Any:
    """Means over the faces around each vertex, weighted by their areas: (P, F).

    Examples
    --------
    >>> import spherecnn as sc
    >>> matrix = face_to_vertex(sc.grids.Icosphere(1))
    >>> bool(np.allclose(matrix.sum(axis=1), 1))
    True
    """
    area = np.repeat(face_areas(grid), 3)
    total = np.bincount(grid.faces.ravel(), area, grid.sites)
    places = grid.faces.ravel(), np.repeat(np.arange(len(grid.faces)), 3)
    return _csr(area / total[grid.faces.ravel()], places, (grid.sites, len(grid.faces)))


def laplacian(grid: MeshGrid, kind: str = "published") -> Any:
    r"""Laplacian (P, P) with cotangent weights; it is negative semidefinite.

    .. math:: (L u)_i = \tfrac12 \sum_j (\cot\alpha_{ij} + \cot\beta_{ij})\,(u_j - u_i)

    with the two angles opposite to the edge (i, j).

    Parameters
    ----------
    grid : MeshGrid
    kind : {"published", "mass", "scaled"}
        "published": as above, the integral of the Laplacian over the area around a vertex, in the unit of u. It
        shrinks fourfold with every level. "mass": divided by the Voronoi areas, the Laplacian itself, in the unit of u
        over an area. "scaled": this times the mean area, of the size of the published one, which suits networks, and
        as near to the Laplacian as "mass".

    Notes
    -----
    Pinkall and Polthier, Computing discrete minimal surfaces and their conjugates, 1993; Jiang et al. 2019, section
    3.1 and the published code ("published").

    Examples
    --------
    A harmonic of degree 1 has the eigenvalue -2.

    >>> import spherecnn as sc
    >>> grid = sc.grids.Icosphere(3)
    >>> z = grid.vertices[:, 2]
    >>> bool(np.allclose(laplacian(grid, "mass") @ z, -2 * z, atol=0.02))
    True
    """
    check_choice("laplacian", kind, LAPLACIANS)
    half = _cotangents(grid) / 2
    a, b = np.roll(grid.faces, -1, axis=1).ravel(), np.roll(grid.faces, 1, axis=1).ravel()
    rows, columns = np.concatenate([a, b, a, b]), np.concatenate([b, a, a, b])
    weights = half.ravel()
    matrix = _csr(np.concatenate([weights, weights, -weights, -weights]), (rows, columns), (grid.sites, grid.sites))
    if kind == "published":
        return matrix
    areas = vertex_areas(grid)
    return sparse.csr_array(sparse.diags_array((1.0 if kind == "mass" else areas.mean()) / areas) @ matrix)


def derivatives(grid: MeshGrid, kind: str = "published") -> tuple[Any, Any]:
    r"""Derivatives to the east and to the north at the vertices: two matrices (P, P).

    Both average the gradients of the faces around a vertex by their areas.

    Parameters
    ----------
    grid : MeshGrid
    kind : {"published", "compass"}
        "published": the gradient of a face is first multiplied by the gradient of the latitude on it (north), or
        by this turned by a quarter about the normal (east). These are not unit vectors: their length is 0.83 to
        1.18 on an icosphere of any level, worst beside the poles, and at a pole both mean nothing.
        "compass": the average gradient is multiplied by the unit vectors to the east and the north at the vertex.
        Zero at a pole, where there are none.

    Returns
    -------
    east, north : sparse array (P, P)
        In the unit of u over a length.

    Notes
    -----
    Jiang et al. 2019, section 3.1, and the published code ("published").

    Examples
    --------
    On the equator at longitude 0, y grows to the east as fast as the way there.

    >>> import spherecnn as sc
    >>> grid = sc.grids.Icosphere(5)
    >>> east, north = derivatives(grid, "compass")
    >>> place = grid.nearest(np.array([[1.0, 0.0, 0.0]]))
    >>> (east @ grid.vertices[:, 1])[place].round(2), (north @ grid.vertices[:, 2])[place].round(2)
    (array([1.]), array([1.]))
    """
    check_choice("derivatives", kind, DERIVATIVES)
    parts, mean = _gradient_parts(grid), face_to_vertex(grid)
    if kind == "published":
        to_north = np.stack([part @ grid.lat for part in parts], axis=-1)
        to_east = np.cross(to_north, face_normals(grid))
        found = [mean @ _along(ways, parts) for ways in (to_east, to_north)]
    else:
        pole = np.hypot(grid.xyz[:, 0], grid.xyz[:, 1]) < POLE
        means = [mean @ part for part in parts]
        found = [_along(np.where(pole[:, None], 0, ways), means) for ways in compass(grid.lat, grid.lon)]
    return sparse.csr_array(found[0]), sparse.csr_array(found[1])


def divergence(grid: MeshGrid) -> tuple[Any, Any]:
    r"""Divergence of a tangent vector field at the vertices: two matrices (P, P), for its two components.

    With u to the east and v to the north, and the field :math:`w = u\,e + v\,n` as three Cartesian components,

    .. math:: \operatorname{div} w = \sum_{k=1}^3 \partial_k w_k
        = \frac{1}{\cos lat}\left(\frac{\partial u}{\partial lon} + \frac{\partial (v \cos lat)}{\partial lat}\right)

    on the unit sphere. The left form, taken on each face and averaged by area, needs no metric term and holds at the
    poles as elsewhere. There east and north are those of the longitude that the grid gives the pole.

    Returns
    -------
    from_east, from_north : sparse array (P, P)
        The divergence is ``from_east @ u + from_north @ v``, in the unit of u over that of the vertices.

    Examples
    --------
    Air that flows to the north at cos lat has the divergence -2 sin lat; air that turns with the sphere has none.

    >>> import spherecnn as sc
    >>> grid = sc.grids.Icosphere(5)
    >>> from_east, from_north = divergence(grid)
    >>> wind = np.cos(grid.lat)
    >>> bool(np.allclose(from_north @ wind, -2 * np.sin(grid.lat), atol=0.01))
    True
    >>> bool(np.allclose(from_east @ wind, 0))
    True
    """
    return _of_vectors(grid, _gradient_parts(grid))


def vorticity(grid: MeshGrid) -> tuple[Any, Any]:
    r"""Vorticity of a tangent vector field at the vertices, positive counterclockwise: two matrices (P, P).

    With u to the east and v to the north, the field w as in `divergence` and N the normal of a face,

    .. math:: \operatorname{rot} w = N \cdot (\nabla \times w)
        = \frac{1}{\cos lat}\left(\frac{\partial v}{\partial lon} - \frac{\partial (u \cos lat)}{\partial lat}\right)

    On a face this is the circulation around it over its area; at a vertex, the mean over the faces by area.

    Returns
    -------
    from_east, from_north : sparse array (P, P)
        The vorticity is ``from_east @ u + from_north @ v``, in the unit of u over that of the vertices.

    Examples
    --------
    What turns with the sphere, u = cos lat, has the vorticity 2 sin lat.

    >>> import spherecnn as sc
    >>> grid = sc.grids.Icosphere(5)
    >>> from_east, from_north = vorticity(grid)
    >>> bool(np.allclose(from_east @ np.cos(grid.lat), 2 * np.sin(grid.lat), atol=0.01))
    True
    """
    parts, normals = _gradient_parts(grid), face_normals(grid)
    return _of_vectors(grid, [_along(np.cross(axis, normals), parts) for axis in np.eye(3)])


def _gradient_parts(grid: MeshGrid) -> list[Any]:
    """The x, y and z rows of `gradient`, a matrix (F, P) each."""
    whole, count = gradient(grid), len(grid.faces)
    return [whole[k * count : (k + 1) * count] for k in range(3)]


def _along(ways: np.ndarray, parts: list[Any]) -> Any:
    """The component of a gradient, given by its three matrices, along a vector for each row."""
    return sum(sparse.diags_array(ways[:, k]) @ part for k, part in enumerate(parts))


def _edges(grid: MeshGrid) -> np.ndarray:
    """The edge (F, 3, 3) opposite to each corner, counterclockwise."""
    corners = grid.vertices[grid.faces]
    return np.roll(corners, 1, axis=1) - np.roll(corners, -1, axis=1)


def _cross(grid: MeshGrid) -> np.ndarray:
    edges = _edges(grid)
    return np.cross(edges[:, 2], -edges[:, 1])


def _cotangents(grid: MeshGrid) -> np.ndarray:
    """Cotangent (F, 3) of the angle at each corner."""
    edges = _edges(grid)
    after, before = np.roll(edges, -1, axis=1), np.roll(edges, 1, axis=1)
    return -(after * before).sum(axis=2) / (2 * face_areas(grid)[:, None])


def _csr(values: np.ndarray, places: tuple[np.ndarray, np.ndarray], shape: tuple[int, int]) -> Any:
    matrix = sparse.csr_array((values, places), shape=shape)
    matrix.sum_duplicates()
    return matrix


def _of_vectors(grid: MeshGrid, parts: list[Any]) -> tuple[Any, Any]:
    """Means at the vertices of what three matrices (F, P) make of x, y and z components, for unit vectors."""
    mean = face_to_vertex(grid)
    found = [
        sparse.csr_array(mean @ sum(part @ sparse.diags_array(way[:, k]) for k, part in enumerate(parts)))
        for way in compass(grid.lat, grid.lon)
    ]
    return found[0], found[1]
