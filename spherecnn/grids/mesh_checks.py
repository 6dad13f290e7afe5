"""What a triangle mesh must be to serve as a grid of the sphere, and a sentence for each thing that it is not."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from spherecnn.errors import InputError
from spherecnn.grids.base import solid_angles
from spherecnn.grids.subdivide import edges

# Twice the area of a face over the square of its longest side, below which it counts as a line or a point.
FLAT = 1e-12
# The sine of the angle between a face and the line of sight from the origin, below which it is seen edge-on.
_EDGE_ON = 1e-9


def check_mesh(vertices: object, faces: object) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 vertices (P, 3) and int64 faces (F, 3), copied, refusing all but a mesh that covers the sphere once.

    Seen from the origin, each direction must meet exactly one face, from inside. That is so when every edge has two
    faces that run along it in opposite senses, the faces at a vertex make one ring, every face has the origin behind
    it, and the solid angles sum to 4 pi.

    Raises
    ------
    InputError
        A sentence about the first thing that is wrong.

    Examples
    --------
    >>> solid = [[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]]
    >>> corners = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    >>> check_mesh(corners, [[0, 1, 2], [0, 3, 2], [1, 3, 2], [2, 3, 0]])
    Traceback (most recent call last):
    spherecnn.errors.InputError: edge (0, 1) has one face; expected a closed mesh, two faces to an edge: fill the hole.
    >>> check_mesh(corners, np.array(solid)[:, ::-1])
    Traceback (most recent call last):
    spherecnn.errors.InputError: the faces are clockwise seen from outside; expected counterclockwise: flip the faces, faces[:, ::-1].
    """  # noqa: E501
    vertices, faces = _points(vertices), _triangles(faces)
    _indices(vertices, faces)
    _shapes(vertices, faces)
    ends, of_face = edges(faces, len(vertices))
    _edges(faces, ends, of_face)
    _rings(faces, of_face, len(vertices))
    _star(vertices, faces)
    return vertices, faces


def _points(given: object) -> np.ndarray:
    array = _array("vertices", given, "iuf", "(P, 3) of numbers", least=4)
    points = array.astype(np.float64)
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        v = int(np.argmax(bad))
        raise InputError(f"vertex {v} is {_place(points[v])}; expected finite coordinates: correct or remove it.")
    size = np.abs(points).max()
    if not 1e-99 < size < 1e99:  # squares and cubes of these are finite
        raise InputError(f"the vertices reach as far as {size:.3g}; expected 1e-99 to 1e99: scale the mesh.")
    return points


def _triangles(given: object) -> np.ndarray:
    return _array("faces", given, "iu", "(F, 3) of whole numbers, the vertices of each triangle", least=4).astype(
        np.int64
    )


def _array(name: str, given: object, kinds: str, expected: str, least: int) -> np.ndarray:
    try:
        array = np.asarray(given)
    except ValueError:  # rows of different lengths
        raise InputError(f"{name} is no array; expected {expected}: give rows of three.") from None
    if array.ndim != 2 or array.shape[1] != 3:
        hint = "divide faces of four corners in triangles" if name == "faces" else "give x, y and z"
        raise InputError(f"{name} has shape {array.shape}; expected {expected}: {hint}.")
    if array.dtype.kind not in kinds:
        raise InputError(f"{name} has dtype {array.dtype}; expected {expected}: convert it with astype.")
    if len(array) < least:
        raise InputError(f"there are {len(array)} {name}; expected at least {least}, a tetrahedron: give a solid.")
    return array


def _indices(vertices: np.ndarray, faces: np.ndarray) -> None:
    count = len(vertices)
    bad = ((faces < 0) | (faces >= count)).any(axis=1)
    if bad.any():
        f = int(np.argmax(bad))
        raise InputError(f"face {f} is {_row(faces[f])}; expected vertices from 0 to {count - 1}: correct its indices.")
    unused = np.bincount(faces.ravel(), minlength=count) == 0
    if unused.any():
        raise InputError(
            f"vertex {int(np.argmax(unused))} belongs to no face; expected every vertex in use: remove those that are "
            "not and number the faces anew."
        )


def _shapes(vertices: np.ndarray, faces: np.ndarray) -> None:
    order = np.lexsort(vertices.T)
    same = np.flatnonzero((vertices[order[1:]] == vertices[order[:-1]]).all(axis=1))
    if len(same):
        pairs = np.sort(np.stack([order[same], order[same + 1]], axis=-1), axis=-1)
        first, second = pairs[np.argmin(pairs[:, 0])]
        raise InputError(
            f"vertices {first} and {second} are the same point; expected each point once: merge them, for example with "
            "trimesh's merge_vertices."
        )
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    longest = np.max([np.einsum("fi,fi->f", s, s) for s in (b - a, c - b, a - c)], axis=0)
    flat = np.linalg.norm(np.cross(b - a, c - a), axis=1) <= FLAT * longest
    if flat.any():
        f = int(np.argmax(flat))
        raise InputError(
            f"face {f}, {_row(faces[f])}, has no area; expected triangles of three corners not in a line: remove it, "
            "or move a vertex."
        )


def _edges(faces: np.ndarray, ends: np.ndarray, of_face: np.ndarray) -> None:
    number = np.bincount(of_face.ravel())
    for bad, words, expected, hint in (
        (number == 1, "one face", "a closed mesh", "fill the hole"),
        (number > 2, "{} faces", "a manifold mesh", "remove the faces inside"),
    ):
        if bad.any():
            e = int(np.argmax(bad))
            words = words.format(number[e])
            raise InputError(f"edge {_row(ends[e])} has {words}; expected {expected}, two faces to an edge: {hint}.")
    # each face runs along its edges from a to b, b to c and c to a; the other face must run back
    upward = (faces < np.roll(faces, -1, axis=1)).ravel()
    bad = np.bincount(of_face.ravel(), upward) != 1
    if bad.any():
        e = int(np.argmax(bad))
        f, g = np.flatnonzero((of_face == e).any(axis=1))
        raise InputError(
            f"faces {f} and {g} run along their edge {_row(ends[e])} in the same sense; expected all faces "
            "counterclockwise seen from outside: flip one of the two, for example with trimesh.repair.fix_winding."
        )


def _rings(faces: np.ndarray, of_face: np.ndarray, count: int) -> None:
    """Corners of faces, joined where two faces share an edge at their vertex: one piece to a vertex."""
    corner = np.arange(faces.size).reshape(-1, 3)
    following = np.roll(corner, -1, axis=1)
    # the two half-edges of each edge, side by side: one starts where the other ends
    half = np.argsort(of_face.ravel(), kind="stable").reshape(-1, 2)
    one, other = half.T
    start, end = corner.ravel(), following.ravel()
    row, column = np.concatenate([start[one], end[one]]), np.concatenate([end[other], start[other]])
    joined = sparse.csr_array((np.ones(len(row), bool), (row, column)), shape=(faces.size, faces.size))
    pieces, label = connected_components(joined, directed=False)
    if pieces == count:
        return
    _, example = np.unique(label, return_index=True)
    rings = np.bincount(faces.ravel()[example], minlength=count)
    v = int(np.argmax(rings > 1))
    raise InputError(
        f"the faces at vertex {v} make {rings[v]} rings; expected a manifold mesh, one ring about each vertex: "
        "separate the parts that only touch there."
    )


def _star(vertices: np.ndarray, faces: np.ndarray) -> None:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    height = np.einsum("fi,fi->f", normal, a)
    reach = np.linalg.norm(vertices, axis=1)
    if not reach.all():
        raise InputError(
            f"vertex {int(np.argmin(reach))} is the origin; expected a mesh about the origin: move the mesh so "
            "that the origin is inside."
        )
    if np.einsum("fi,fi->", a, np.cross(b, c)) < 0:
        raise InputError(
            "the faces are clockwise seen from outside; expected counterclockwise: flip the faces, faces[:, ::-1]."
        )
    edge_on = np.abs(height) <= _EDGE_ON * reach[faces].max(axis=1)
    bad = edge_on | (height < 0)
    if bad.any():
        f = int(np.argmax(bad))
        seen = "lies in a plane through the origin" if edge_on[f] else "is seen from its outer side by the origin"
        raise InputError(
            f"face {f}, {_row(faces[f])}, {seen}; expected a star-shaped mesh, of which the origin sees every face "
            "from inside: move the mesh so that the origin does, or use a convex one."
        )
    corners = (vertices / reach[:, None])[faces]
    turns = solid_angles(*corners.transpose(1, 0, 2)).sum() / (4 * math.pi)
    if round(turns) != 1:
        raise InputError(
            f"the mesh goes round the origin {turns:.2f} times; expected once: give one surface, without others inside."
        )


def _row(indices: np.ndarray) -> str:
    return f"({', '.join(str(int(i)) for i in indices)})"


def _place(xyz: np.ndarray) -> str:
    return f"({', '.join(f'{x:.6g}' for x in xyz)})"
