"""The cubemap: six square pictures, each a quarter turn wide."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from spherecnn.errors import check_at_least
from spherecnn.grids.base import Grid, angles, bilinear, nearest_pixel, read_only, snap
from spherecnn.grids.divide import Parts, divide_pixels

FACES = ("front", "right", "back", "left", "up", "down")
# Of each face: the direction of its centre, of its right and of its lower edge.
FRAMES = read_only(
    np.array(
        [
            [[1, 0, 0], [0, 1, 0], [0, 0, -1]],
            [[0, 1, 0], [-1, 0, 0], [0, 0, -1]],
            [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
            [[0, -1, 0], [1, 0, 0], [0, 0, -1]],
            [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
            [[0, 0, -1], [0, 1, 0], [-1, 0, 0]],
        ],
        float,
    )
)


class Cubemap(Grid):
    r"""Six faces of n x n square pixels on the cube about the sphere: shape (6, n, n).

    The faces are *front, right, back, left, up, down*, as a camera sees them that turns to the right and then,
    from the front, looks up and down. With *front* in the middle of the equirectangular picture:

    ===== ===== ============ ================= ==========================
    face  name  its centre   columns grow to   rows grow to
    ===== ===== ============ ================= ==========================
    0     front +x, lon 0    +y                -z
    1     right +y, lon 90   -x                -z
    2     back  -x, lon 180  -y                -z
    3     left  -y, lon -90  +x                -z
    4     up    +z, lat 90   +y                +x: its foot is *front*
    5     down  -z, lat -90  +y                -x: its top is *front*
    ===== ===== ============ ================= ==========================

    Pixel (f, i, j) has its centre in direction

    .. math:: c_f + u\,r_f + v\,d_f,\qquad u = \frac{2j + 1}{n} - 1,\quad v = \frac{2i + 1}{n} - 1

    with c, r, d the three directions of the table. A pixel spans a rectangle of the face, whose solid angle is exact:

    .. math:: \Omega = \sum_{\pm\pm} \pm \arctan\frac{u v}{\sqrt{1 + u^2 + v^2}}

    over its four corners, with + at the corners where u and v are both larger or both smaller.

    Parameters
    ----------
    size : int
        Pixels along an edge of a face, n.

    Raises
    ------
    InputError
        If the size is not a positive integer.

    Examples
    --------
    >>> grid = Cubemap(1)
    >>> grid.shape, grid.xyz[1]
    ((6, 1, 1), array([0., 1., 0.]))
    >>> grid.area / np.pi
    array([0.66666667, 0.66666667, 0.66666667, 0.66666667, 0.66666667, 0.66666667])
    """

    def __init__(self, size: int):
        self.size = check_at_least("size", size, 1)
        self.shape = (6, self.size, self.size)

    @cached_property
    def xyz(self) -> np.ndarray:
        row, column = np.mgrid[: self.size, : self.size].reshape(2, -1)
        face = np.repeat(np.arange(6), len(row))
        return read_only(self.at((face, np.tile(row, 6), np.tile(column, 6)))[0])

    @cached_property
    def lat(self) -> np.ndarray:
        return read_only(angles(self.xyz)[0])

    @cached_property
    def lon(self) -> np.ndarray:
        lon = angles(self.xyz)[1]
        return read_only(np.where(lon >= np.pi, -np.pi, lon))

    @cached_property
    def area(self) -> np.ndarray:
        edge = (2 * np.arange(self.size + 1) - self.size) / self.size
        return read_only(np.tile(rectangle_areas(edge, edge).ravel(), 6))

    @property
    def pixel_side(self) -> float:
        """Side of a pixel at the middle of a face, radians; at a corner it is 1 / sqrt(3) to 1 / 3 of that."""
        return 2 / self.size

    def at(self, place: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (P, 3) of fractional (face, row, column), and solid angles (P,) of pixels there, as small ones.

        The solid angles are the density at the position times the size of a pixel.
        """
        face, row, column = place
        u, v = (2 * column + 1) / self.size - 1, (2 * row + 1) / self.size - 1
        frame = FRAMES[face]
        xyz = frame[:, 0] + u[:, None] * frame[:, 1] + v[:, None] * frame[:, 2]
        length = np.sqrt(1 + u * u + v * v)
        return xyz / length[:, None] + 0.0, (2 / self.size) ** 2 / length**3

    def divide(self, parts: int) -> Parts:
        """Cut each pixel into `parts` x `parts`: of each part in turn the directions (P, 3) and solid angles (P,)."""
        return divide_pixels(self, parts)

    def pixel(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Face, and fractional row and column in [-0.5, n - 0.5], of directions (..., 3) of any length.

        Whole numbers are pixel centres. On an edge between faces, the face with the lower number.

        Examples
        --------
        >>> face, row, column = Cubemap(4).pixel(np.array([0.5, 2.0, 0.0]))
        >>> FACES[face], float(row), float(column)
        ('right', 1.5, 1.0)
        """
        face, u, v = self._on_face(np.asarray(xyz, float))
        return face, (v + 1) * (self.size / 2) - 0.5, (u + 1) * (self.size / 2) - 0.5

    def nearest(self, xyz: np.ndarray) -> np.ndarray:
        """Index of the pixel that holds each direction: (P, 3) -> (P,)."""
        face, row, column = self.pixel(xyz)
        return face * self.size**2 + nearest_pixel(row, column, self.size, self.size)

    def taps(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Four sites (P, 4) about each direction and their weights (P, 4), seamless over edges and corners.

        The centres of the pixels, joined to their neighbours, make a polyhedron: squares on the faces of the cube,
        a strip of rectangles along each of its edges, between the outermost pixels of the two faces, and a triangle
        at each of its corners, between three pixels. A direction meets it in one point. There a square or
        rectangle is read bilinearly and a triangle by barycentric weights, 1/3 each in the middle. Neighbouring
        pieces agree on their common side, so nothing jumps, and the error is of second order in 1/n everywhere.

        With :math:`p = (1, |u|, |v|)` in the frame of the face and outermost centres at :math:`a = 1 - 1/n`:
        a strip beyond u is read at :math:`t = v (1 + a) / (1 + |u|)` along the edge, and over it with the weight
        :math:`\frac12 + \frac{n}{2} (1 + a) \frac{|u| - 1}{|u| + 1}` of the neighbour; pixel i of a triangle weighs
        :math:`n\,(p_i (1 + 2a) / \sum p - a)`.
        """
        face, u, v = self._on_face(np.asarray(xyz, float))
        sites = np.empty((len(face), 4), np.int64)
        weights = np.zeros((len(face), 4))
        outer = 1 - 1 / self.size
        column, row = (snap((x + 1) * (self.size / 2) - 0.5) for x in (u, v))
        over_u, over_v = ((x < 0) | (x > self.size - 1) for x in (column, row))
        far_u, far_v = np.abs(u), np.abs(v)
        along_u = over_u & ~(over_v & (far_v * (1 + outer) > outer * (1 + far_u)))
        along_v = over_v & ~(over_u & (far_u * (1 + outer) > outer * (1 + far_v)))
        corner = over_u & over_v & ~along_u & ~along_v
        inside = ~(over_u | over_v)
        sites[inside], weights[inside] = bilinear(row[inside], column[inside], self.size, self.size)
        sites[inside] += face[inside, None] * self.size**2
        for part, beyond, along, axis in ((along_u, u, v, 1), (along_v, v, u, 2)):
            sites[part], weights[part] = self._strip(face[part], beyond[part], along[part], axis)
        sites[corner], weights[corner] = self._corner(face[corner], u[corner], v[corner])
        return sites, weights

    def config(self) -> dict[str, object]:
        return {"kind": "cubemap", "size": self.size}

    def __repr__(self) -> str:
        return f"Cubemap({self.size})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cubemap) and self.size == other.size

    def __hash__(self) -> int:
        return hash(("cubemap", self.size))

    def _on_face(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Face, and position on it in [-1, 1] to the right and down."""
        towards = xyz @ FRAMES[:, 0].T
        # in order of the faces, and rounding of directions must not decide between two that meet
        face = np.argmax(towards >= towards.max(axis=-1, keepdims=True) * (1 - 1e-15), axis=-1)
        local = np.einsum("...ik,...k->...i", FRAMES[face], xyz)
        depth = np.where(local[..., 0] > 0, local[..., 0], 1.0)
        return face, local[..., 1] / depth, local[..., 2] / depth

    def _strip(
        self, face: np.ndarray, beyond: np.ndarray, along: np.ndarray, axis: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sites and weights between two pixels of a face and the two over the edge at the end of its axis 1 or 2."""
        size, outer, far = self.size, 1 - 1 / self.size, np.abs(beyond)
        step = snap((along * (1 + outer) / (1 + far) + 1) * (size / 2) - 0.5).clip(0, size - 1)
        over = 0.5 + 0.5 * size * (1 + outer) * (far - 1) / (far + 1)
        first = np.floor(step)
        sites, weights = [], []
        for k, share in ((first, first + 1 - step), (np.minimum(first + 1, size - 1), step - first)):
            own = np.empty((len(face), 3))
            own[:, 0], own[:, axis], own[:, 3 - axis] = 1, np.sign(beyond) * outer, (2 * k + 1) / size - 1
            other = own.copy()
            other[:, 0], other[:, axis] = outer, np.sign(beyond)
            sites += [self._site(face, own), self._site(face, other)]
            weights += [share * (1 - over), share * over]
        return np.stack(sites, axis=-1), np.stack(weights, axis=-1)

    def _corner(self, face: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sites and weights between the three pixels about a corner of the cube, and a fourth without weight."""
        outer = 1 - 1 / self.size
        place = np.abs(np.stack([np.ones_like(u), u, v], axis=-1))
        weights = np.zeros((len(face), 4))
        weights[:, :3] = self.size * (place * (1 + 2 * outer) / place.sum(axis=-1, keepdims=True) - outer)
        weights = weights.clip(0) / weights.clip(0).sum(axis=-1, keepdims=True)
        sign = np.sign(np.stack([np.ones_like(u), u, v], axis=-1))
        corners = [sign * np.where(np.arange(3) == i, 1.0, outer) for i in range(3)]
        sites = [self._site(face, local) for local in corners]
        return np.stack([*sites, sites[0]], axis=-1), weights

    def _site(self, face: np.ndarray, local: np.ndarray) -> np.ndarray:
        """Pixels at directions (P, 3) given in the frames of faces."""
        return self.nearest(np.einsum("pi,pik->pk", local, FRAMES[face]))


def rectangle_areas(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Solid angles (rows, columns) of the rectangles between edges `u` and `v` on a plane at distance 1.

    Examples
    --------
    >>> float(rectangle_areas(np.array([-1.0, 1.0]), np.array([-1.0, 1.0]))[0, 0] / np.pi).__round__(12)
    0.666666666667
    """
    corner = np.arctan(np.outer(v, u) / np.sqrt(1 + np.add.outer(v * v, u * u)))
    return np.diff(np.diff(corner, axis=0), axis=1)
