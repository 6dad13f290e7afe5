"""Sites cut into parts of about equal size, in whose middles a source is read for an average."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np

# Of each site, the direction (P, 3) of one part and its solid angle (P,).
Parts: TypeAlias = Iterator[tuple[np.ndarray, np.ndarray]]


def divide_pixels(grid: Any, parts: int) -> Parts:
    """Cut the pixels of a grid that has ``at`` into `parts` x `parts`.

    Examples
    --------
    >>> from spherecnn.grids.equirect import Equirect
    >>> [float(xyz[0, 2].round(3)) for xyz, _ in divide_pixels(Equirect(1, 1), 2)]  # z at latitudes 45, 45, -45, -45
    [0.707, 0.707, -0.707, -0.707]
    """
    *face, row, column = (x.ravel() for x in np.indices(grid.shape))
    for down, right in product((np.arange(parts) + 0.5) / parts - 0.5, repeat=2):
        yield grid.at((*face, row + down, column + right))


def divide_triangles(a: np.ndarray, b: np.ndarray, c: np.ndarray, parts: int) -> Parts:
    r"""Cut flat triangles with corners a, b, c (P, 3) into `parts` squared alike ones, as seen from the centre.

    A part in direction r (not of unit length) has the solid angle, as a small one,

    .. math:: \frac{\det(a, b, c)}{2\,parts^2\,|r|^3}

    Examples
    --------
    >>> x, y, z = np.eye(3)[:, None]
    >>> area = sum(area[0] for _, area in divide_triangles(x, y, z, 20))
    >>> bool(np.isclose(area, 4 * np.pi / 8, rtol=1e-3))  # an eighth of the sphere
    True
    """
    flat = np.einsum("pi,pi->p", a, np.cross(b - a, c - a)) / (2 * parts**2)
    for i, j in product(range(parts), repeat=2):
        if i + j < parts:
            # upright triangles, and where there is room the inverted one to its right
            for third in (1, 2) if i + j < parts - 1 else (1,):
                s, t = (i + third / 3) / parts, (j + third / 3) / parts
                xyz = a + s * (b - a) + t * (c - a)
                length = np.linalg.norm(xyz, axis=-1)
                yield xyz / length[:, None], flat / length**3
