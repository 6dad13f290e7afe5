"""The neighbourhoods of SpherePHD: which faces each tap of a kernel reads."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from spherecnn.errors import check_choice
from spherecnn.grids.polyhedron import Polyhedron, check_polyhedron
from spherecnn.stencils.base import Stencil
from spherecnn.stencils.table import table

KERNELS = {"rotated": 10, "unrotated": 10, "hexagonal": 7, "edge": 4, "point": 1}


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
        return _locked(itself[:, None])
    edge = np.concatenate([itself[:, None], near], axis=1)
    if kernel == "edge":
        return _locked(edge)
    beyond = [_turn(near, itself, near[:, slot], turn) for slot in range(3) for turn in (1, 2)]
    rotated = np.concatenate([edge, np.stack(beyond, axis=1)], axis=1)
    if kernel == "rotated":
        return _locked(rotated)
    if kernel == "hexagonal":
        return _locked(
            np.where(grid.north_up[:, None], rotated[:, [0, 6, 5, 4, 9, 8, 7]], rotated[:, [0, 9, 8, 7, 6, 5, 4]])
        )
    across = _turn(near, near[:, 0], rotated[:, 5], 2)  # on around the apex
    turned = rotated[:, [0, 2, 1, 3, 7, 8, 9, 4, 5, 6]]
    turned[:, 3] = across
    return _locked(np.where(grid.north_up[:, None], rotated, turned))


def _turn(near: np.ndarray, here: np.ndarray, there: np.ndarray, turn: int) -> np.ndarray:
    """The neighbour of `there` that is `turn` edges counter-clockwise from the edge towards `here`."""
    back = np.argmax(near[there] == here[:, None], axis=1)
    return near[there, (back + turn) % 3]  # right, left and low are counter-clockwise


def _locked(faces: np.ndarray) -> np.ndarray:
    faces.setflags(write=False)
    return faces


def middle_faces(grid: Polyhedron, stride: int) -> tuple[np.ndarray, Polyhedron]:
    """The face in the middle of each face of the grid that is coarser by `stride`, a power of two; and that grid."""
    faces = np.arange(grid.sites)
    while stride > 1:
        coarse = grid.coarsen()
        faces, grid, stride = faces[coarse.children[:, 0]], coarse, stride // 2
    return faces, grid


@lru_cache(maxsize=32)
def spherephd(grid: Polyhedron, kernel: str = "rotated", stride: int = 1) -> Stencil:
    """Stencil of a SpherePHD convolution; with a stride, at the middle face of each coarser face.

    Parameters
    ----------
    grid : Polyhedron
        Of the input.
    kernel : {"rotated", "unrotated", "hexagonal", "edge", "point"}
        See `face_taps`.
    stride : int
        A power of two.

    Examples
    --------
    >>> spherephd(Polyhedron(2), stride=2)
    Stencil((320,) -> (80,), taps=10)
    """
    faces, _ = middle_faces(grid, stride)
    return table(face_taps(grid, kernel)[faces], grid.shape)


@lru_cache(maxsize=32)
def face_pooling(grid: Polyhedron) -> Stencil:
    """Stencil whose tap t reads child t of each face of the coarser grid: the middle one, right, left, low.

    Examples
    --------
    >>> face_pooling(Polyhedron(1))
    Stencil((80,) -> (20,), taps=4)
    """
    return table(check_polyhedron(grid).coarsen().children, grid.shape)
