"""Shapes seen from a sphere around them: the six channels of a triangle mesh and its convex hull."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from spherecnn.datasets.raycast import first_hits
from spherecnn.errors import InputError
from spherecnn.grids import Grid
from spherecnn.grids.mesh_files import SUFFIXES, read_triangles

CHANNELS = ("distance", "normal_dot_ray", "normal_cross_ray", "hull_distance", "hull_dot_ray", "hull_cross_ray")
# The farthest vertex lies within the sphere, so that every ray starts outside.
RADIUS = 0.99


def read_shape(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the triangles of a mesh file: OFF, OBJ, PLY, STL or GLB.

    The mesh need not be closed, oriented or connected. Triangles without an area or with a corner that is not finite
    are left out.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    ndarray (F, 3, 3)
        The corners of each triangle, float64.

    Raises
    ------
    InputError
        If the file is missing, damaged or of another kind, or no triangle is left.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is no mesh file by its name; expected one of {', '.join(SUFFIXES)}: convert it.")
    if not path.exists():
        raise InputError(f"{path} is not there; expected a mesh file: check the path.")
    vertices, faces = read_triangles(path)
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise InputError(
            f"{path} has a triangle of vertex {faces.max() if faces.min() >= 0 else faces.min()} and "
            f"{len(vertices)} vertices; expected vertices that are there: repair or remove it."
        )
    triangles = vertices[faces]
    whole = triangles[np.isfinite(triangles).all(axis=(1, 2))]
    size = np.ptp(whole, axis=(0, 1)).max() if len(whole) else 0.0
    whole = whole[_areas(whole) > 1e-15 * size**2]
    if len(whole) == 0:
        raise InputError(
            f"{path} has no triangle with an area ({len(faces)} faces in all); expected a surface: repair or remove it."
        )
    return whole


def _areas(triangles: np.ndarray) -> np.ndarray:
    return np.linalg.norm(_normals(triangles), axis=-1) / 2


def _normals(triangles: np.ndarray) -> np.ndarray:
    """Normals whose lengths are twice the areas."""
    return np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])


def centred(triangles: np.ndarray) -> np.ndarray:
    """Move and scale triangles into the unit sphere, as published.

    The mean of the triangles' centres, weighted by their areas, goes to the centre, and the vertex farthest from it to
    the radius 0.99.

    Parameters
    ----------
    triangles : ndarray (F, 3, 3)

    Returns
    -------
    ndarray (F, 3, 3)

    Examples
    --------
    >>> flat = np.array([[[3.0, 0, 0], [5, 0, 0], [4, 3, 0]]])
    >>> centred(flat)[0].round(3)
    array([[-0.495, -0.495,  0.   ],
           [ 0.495, -0.495,  0.   ],
           [ 0.   ,  0.99 ,  0.   ]])
    """
    moved = triangles - np.average(triangles.mean(axis=1), axis=0, weights=_areas(triangles))
    return moved * (RADIUS / np.linalg.norm(moved, axis=-1).max())


def project_shape(triangles: np.ndarray, grid: Grid) -> np.ndarray:
    r"""What a sphere around a shape sees of it: the six published channels.

    The shape is moved and scaled as by `centred`. From each site :math:`d` of the grid, a point of the unit sphere, a
    ray goes to the centre. It first meets the shape at :math:`s\,d`, in a triangle of unit normal :math:`n`:

    .. math:: 1 - s,\qquad |n \cdot d|,\qquad |n \times d|

    and the same of the convex hull. As published, a ray that meets nothing before the centre goes on beyond it, where
    the distance is above 1; one that meets nothing at all has the distance 1, that of the centre, and zeros. A flat
    shape has no hull and stands for it.

    Parameters
    ----------
    triangles : ndarray (F, 3, 3)
        The shape, for example of `read_shape`: at any place, of any size.
    grid : Grid
        Usually `grids.Icosphere`.

    Returns
    -------
    ndarray ``(*grid.shape, 6)``
        float32, in the order of `CHANNELS`.

    Raises
    ------
    InputError
        If there are no triangles, or they have no area or are not finite.

    Examples
    --------
    >>> from spherecnn.grids import Icosphere
    >>> corners = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    >>> octahedron = corners[[(0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4), (1, 0, 5), (2, 1, 5), (3, 2, 5), (0, 3, 5)]]
    >>> seen = project_shape(octahedron, Icosphere(1))
    >>> seen.shape, seen[12].round(3)  # below the pole the top
    ((42, 6), array([0.01 , 0.577, 0.816, 0.01 , 0.577, 0.816], dtype=float32))

    Notes
    -----
    Jiang et al., "Spherical CNNs on unstructured grids", ICLR 2019, section 4.2, after Cohen et al., "Spherical CNNs",
    ICLR 2018, section 5.3. Their code first closes holes of three and four edges, which is left out.
    """
    triangles = np.asarray(triangles, float)
    if triangles.ndim != 3 or triangles.shape[1:] != (3, 3) or not np.isfinite(triangles).all():
        raise InputError(
            f"triangles have shape {triangles.shape}, or are not finite; expected finite corners (F, 3, 3): "
            "read them with read_shape."
        )
    if len(triangles) == 0 or not _areas(triangles).sum() > 0:
        raise InputError("the triangles have no area; expected a surface: read them with read_shape.")
    shape = centred(triangles)
    seen = np.concatenate([_channels(part, grid.xyz) for part in (shape, _hull(shape))], axis=-1)
    return seen.reshape(*grid.shape, len(CHANNELS)).astype(np.float32)


def _channels(triangles: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """Distance, \\|n . ray\\| and \\|n x ray\\| (P, 3) of the first hits."""
    height, face = first_hits(triangles, xyz)
    met = face >= 0
    seen = np.tile([1.0, 0.0, 0.0], (len(xyz), 1))
    normal = _normals(triangles[face[met]])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    seen[met, 0] = 1 - height[met]
    seen[met, 1] = np.abs(np.einsum("pi,pi->p", normal, xyz[met]))
    seen[met, 2] = np.linalg.norm(np.cross(normal, xyz[met]), axis=-1)
    return seen


def _hull(triangles: np.ndarray) -> np.ndarray:
    """Triangles of the convex hull; of a flat shape its own."""
    from scipy.spatial import ConvexHull, QhullError

    points = np.unique(triangles.reshape(-1, 3), axis=0)
    try:
        return points[ConvexHull(points).simplices]
    except QhullError:
        return triangles
