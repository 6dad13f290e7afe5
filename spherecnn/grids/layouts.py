"""Six faces of a cube in one picture: cross and strip."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError, check_choice
from spherecnn.grids.cubemap import FACES

LAYOUTS = ("cross", "strip")
# Row and column of each face in a cross of 3 x 4 squares: edges that touch are edges of the cube.
CROSS = ((1, 1), (1, 2), (1, 3), (1, 0), (0, 1), (2, 1))


def unfold(faces: np.ndarray, layout: str = "cross", fill: float = 0) -> np.ndarray:
    """Lay the six faces of a cubemap out in one picture.

    ========== ============================================
    layout     picture
    ========== ============================================
    ``cross``  3n x 4n: left, front, right, back in the middle row, up above and down below front
    ``strip``  n x 6n: front, right, back, left, up, down
    ========== ============================================

    Faces keep their orientation, see `Cubemap`; in the cross, faces that touch are neighbours on the cube.

    Parameters
    ----------
    faces : ndarray (6, n, n, C)
        Values on a `Cubemap`.
    layout : {"cross", "strip"}
        Where the faces go.
    fill : number
        What stands where the cross has no face.

    Returns
    -------
    ndarray (3n, 4n, C) or (n, 6n, C)
        Same dtype.

    Raises
    ------
    InputError
        If the faces are not six squares.

    Examples
    --------
    >>> faces = np.arange(1, 7).reshape(6, 1, 1, 1)
    >>> unfold(faces)[..., 0]
    array([[0, 5, 0, 0],
           [4, 1, 2, 3],
           [0, 6, 0, 0]])
    >>> unfold(faces, "strip")[..., 0]
    array([[1, 2, 3, 4, 5, 6]])
    """
    check_choice("layout", layout, LAYOUTS)
    faces = np.asarray(faces)
    if faces.ndim != 4 or faces.shape[0] != 6 or faces.shape[1] != faces.shape[2]:
        raise InputError(
            f"faces have shape {faces.shape}; expected (6, n, n, C): stack {', '.join(FACES)}, channels last."
        )
    size, channels = faces.shape[2:]
    if layout == "strip":
        return np.ascontiguousarray(faces.transpose(1, 0, 2, 3)).reshape(size, 6 * size, channels)
    picture = np.full((3 * size, 4 * size, channels), fill, faces.dtype)
    for face, (row, column) in zip(faces, CROSS, strict=True):
        picture[row * size : (row + 1) * size, column * size : (column + 1) * size] = face
    return picture


def fold(picture: np.ndarray, layout: str | None = None) -> np.ndarray:
    """Take the six faces out of one picture: the inverse of `unfold`.

    Parameters
    ----------
    picture : ndarray (3n, 4n, C) or (n, 6n, C)
        A cross or a strip.
    layout : {"cross", "strip"}, optional
        By default the one that the shape shows.

    Returns
    -------
    ndarray (6, n, n, C)

    Raises
    ------
    InputError
        If the shape does not fit the layout.

    Examples
    --------
    >>> faces = np.arange(24).reshape(6, 2, 2, 1)
    >>> bool(np.all(fold(unfold(faces, "cross")) == faces))
    True
    """
    picture = np.asarray(picture)
    found = layout_of(picture.shape[:2]) if picture.ndim == 3 else None
    if layout is not None:
        check_choice("layout", layout, LAYOUTS)
    if found is None or layout not in (None, found):
        wanted = {"cross": "3n x 4n pixels", "strip": "n x 6n pixels", None: "3n x 4n (cross) or n x 6n (strip) pixels"}
        raise InputError(
            f"the picture has shape {picture.shape}; expected {wanted[layout]} and a channel axis: "
            "crop it to six equal squares."
        )
    if found == "strip":
        size = picture.shape[0]
        return np.ascontiguousarray(picture.reshape(size, 6, size, -1).transpose(1, 0, 2, 3))
    size = picture.shape[0] // 3
    squares = picture.reshape(3, size, 4, size, -1)
    return np.stack([squares[row, :, column] for row, column in CROSS])


def layout_of(shape: tuple[int, ...]) -> str | None:
    """The layout that a picture of this many rows and columns has, or None."""
    height, width = shape
    if height > 0 and width == 6 * height:
        return "strip"
    return "cross" if height > 0 and height % 3 == 0 and 3 * width == 4 * height else None
