"""The neighbourhoods of SpherePHD: which faces each tap of a kernel reads."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.grids.base import compass, read_only
from spherecnn.grids.polyhedron import Polyhedron, check_polyhedron
from spherecnn.grids.resample import sampling_matrix
from spherecnn.stencils.base import Stencil
from spherecnn.stencils.sparse import SparseStencil
from spherecnn.stencils.table import table

KERNELS = {"rotated": 10, "unrotated": 10, "hexagonal": 7, "edge": 4, "point": 1}
ORIENTATIONS = ("section", "north")
# Taps as points of the plane, x to the east and y to the north, for equilateral faces of edge 1 with the apex north.
_HEIGHT = math.sqrt(3) / 2
POINTS = np.array(
    [
        (0, 0),
        (0.5, _HEIGHT / 3),
        (-0.5, _HEIGHT / 3),
        (0, -2 * _HEIGHT / 3),
        (1, 0),
        (0.5, _HEIGHT),
        (-0.5, _HEIGHT),
        (-1, 0),
        (-0.5, -_HEIGHT),
        (0.5, -_HEIGHT),
    ]
)


def face_taps(grid: Polyhedron, kernel: str = "rotated") -> np.ndarray:
    r"""Face that each tap of a kernel reads: (P, taps).

    "rotated", the kernel of the paper, has 10 taps: the face, its neighbours to the right, left and low, and the two
    other neighbours of each of these. As (x, y) in the frame of an upright face, y down:

    .. math:: (0,0)\ (1,0)\ (-1,0)\ (0,1)\ (2,0)\ (1,-1)\ (-1,-1)\ (-2,0)\ (-1,1)\ (1,1)

    The frame of an inverted face is turned by half a turn, and the kernel with it. The other kernels:

    - "point", 1 tap: the face itself.
    - "edge", 4 taps: the first four of these.
    - "unrotated", 10 taps: as "rotated" for a face with its apex to the north; one with its apex to the south has the
      same offsets, not turned. Tap (0, 1), below, is then the face across its apex.
    - "hexagonal", 7 taps: the face and the six around it that point the same way, clockwise from the upper left one,
      with the north up.

    Every face is read once by each of 10 others or itself ("rotated"), also around the 12 corners of the icosahedron,
    where five faces meet instead of six.

    Parameters
    ----------
    grid : Polyhedron
    kernel : {"rotated", "unrotated", "hexagonal", "edge", "point"}

    Notes
    -----
    Lee et al., SpherePHD, CVPR 2019, section 3.3; the order of the taps and the three further kernels are those of
    the published code.

    Examples
    --------
    >>> face_taps(Polyhedron(0))[0]
    array([ 0,  1,  4,  5,  6,  2,  3,  9, 14, 10])
    """
    check_choice("kernel", kernel, tuple(KERNELS))
    return _faces(check_polyhedron(grid), kernel)


@lru_cache(maxsize=32)
def _faces(grid: Polyhedron, kernel: str) -> np.ndarray:
    near, itself = grid.neighbours, np.arange(grid.sites)
    if kernel == "point":
        return read_only(itself[:, None])
    edge = np.concatenate([itself[:, None], near], axis=1)
    if kernel == "edge":
        return read_only(edge)
    beyond = [_turn(near, itself, near[:, slot], turn) for slot in range(3) for turn in (1, 2)]
    rotated = np.concatenate([edge, np.stack(beyond, axis=1)], axis=1)
    if kernel == "rotated":
        return read_only(rotated)
    if kernel == "hexagonal":
        return read_only(
            np.where(grid.north_up[:, None], rotated[:, [0, 6, 5, 4, 9, 8, 7]], rotated[:, [0, 9, 8, 7, 6, 5, 4]])
        )
    across = _turn(near, near[:, 0], rotated[:, 5], 2)  # on around the apex
    turned = rotated[:, [0, 2, 1, 3, 7, 8, 9, 4, 5, 6]]
    turned[:, 3] = across
    return read_only(np.where(grid.north_up[:, None], rotated, turned))


def _turn(near: np.ndarray, here: np.ndarray, there: np.ndarray, turn: int) -> np.ndarray:
    """The neighbour of `there` that is `turn` edges counter-clockwise from the edge towards `here`."""
    back = np.argmax(near[there] == here[:, None], axis=1)
    return near[there, (back + turn) % 3]  # right, left and low are counter-clockwise


def middle_faces(grid: Polyhedron, stride: int) -> tuple[np.ndarray, Polyhedron]:
    """The face in the middle of each face of the grid that is coarser by `stride`, a power of two; and that grid."""
    faces = np.arange(grid.sites)
    while stride > 1:
        coarse = grid.coarsen()
        faces, grid, stride = faces[coarse.children[:, 0]], coarse, stride // 2
    return faces, grid


def check_orientation(kernel: str, orientation: str) -> None:
    """Refuse an unknown orientation, and kernels that have no other than that of the sections."""
    check_choice("orientation", orientation, ORIENTATIONS)
    if orientation == "north" and kernel != "rotated":
        raise InputError(
            f"kernel is {kernel!r} with orientation 'north'; expected 'rotated', the one that is laid on the sphere."
        )


@lru_cache(maxsize=32)
def spherephd(grid: Polyhedron, kernel: str = "rotated", stride: int = 1, orientation: str = "section") -> Stencil:
    """Stencil of a SpherePHD convolution; with a stride, at the middle face of each coarser face.

    Parameters
    ----------
    grid : Polyhedron
        Of the input.
    kernel : {"rotated", "unrotated", "hexagonal", "edge", "point"}
        See `face_taps`.
    stride : int
        A power of two.
    orientation : {"section", "north"}
        "section" is the published one: each tap is a face, in the frame of the section, which turns by up to 60
        degrees over the sides of the sections about the poles. "north" lays the "rotated" kernel upright on the
        sphere, see `north_points`, and reads linearly between the centres of the faces.

    Examples
    --------
    >>> spherephd(Polyhedron(2), stride=2)
    Stencil((320,) -> (80,), taps=10)
    """
    check_orientation(kernel, orientation)
    faces, coarse = middle_faces(grid, stride)
    if orientation == "section":
        return table(face_taps(grid, kernel)[faces], grid.shape)
    points = north_points(grid, faces)
    return SparseStencil(sampling_matrix(grid, points.reshape(-1, 3)), grid.shape, coarse.shape)


@lru_cache(maxsize=32)
def face_pooling(grid: Polyhedron) -> Stencil:
    """Stencil whose tap t reads child t of each face of the coarser grid: the middle one, right, left, low.

    Examples
    --------
    >>> face_pooling(Polyhedron(1))
    Stencil((80,) -> (20,), taps=4)
    """
    return table(check_polyhedron(grid).coarsen().children, grid.shape)


def north_points(grid: Polyhedron, faces: np.ndarray) -> np.ndarray:
    r"""Directions of the 10 taps of kernels that keep the north up: (len(faces), 10, 3).

    The kernel lies on the plane as on equilateral triangles, upright to the north, turned by half a turn for a face
    whose apex points south. A tap at distance r in direction (u, v), east and north, leads along a great circle to

    .. math:: \cos(s r)\, c + \sin(s r)\, (u\, e + v\, n),\qquad s = \sqrt{4 A / \sqrt 3}

    with c the centre of the face, e and n the unit vectors to its east and north, and s the edge of an equilateral
    triangle of its area A.

    Examples
    --------
    >>> north_points(Polyhedron(0), np.array([0]))[0, 0] - Polyhedron(0).xyz[0]
    array([0., 0., 0.])
    """
    east, north = compass(grid.lat[faces], grid.lon[faces])
    side = np.sqrt(4 * grid.area[faces] / math.sqrt(3)) * np.where(grid.north_up[faces], 1, -1)
    away = side[:, None, None] * (POINTS[:, :1] * east[:, None] + POINTS[:, 1:] * north[:, None])
    angle = np.linalg.norm(away, axis=-1, keepdims=True)
    return np.cos(angle) * grid.xyz[faces][:, None] + np.sinc(angle / np.pi) * away
