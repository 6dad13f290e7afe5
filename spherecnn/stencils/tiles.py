"""Tiles of an image for Winograd's convolution: which sites the square of inputs of each tile reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from spherecnn.stencils.base import Stencil, int32_table
from spherecnn.stencils.planar import Axis, product

KERNEL = 3


class TileTables(NamedTuple):
    """Tiles as the kernels take them: read-only int32 arrays and sizes, described at `Tiles`."""

    base: np.ndarray
    kind: np.ndarray
    column: np.ndarray
    size: int
    rows_out: int
    columns_out: int


@dataclass(frozen=True, eq=False)
class Tiles:
    """An image cut into tiles of `size` x `size` outputs, each of which reads (size + 2) x (size + 2) inputs.

    Input (i, j) of tile (r, q) is site ``base[r, i] + column[kind[r, i], q * size + j]``; it is zero where
    either is negative. The last tiles may reach beyond the image; what they compute there is dropped.

    Attributes
    ----------
    tables : TileTables
    fold : tuple (rows, Stencil) or None
        In an adjoint, what rows that are read over a pole still receive: the direct convolution of these rows.
    """

    tables: TileTables
    sites_in: int
    fold: tuple[np.ndarray, Stencil] | None = None

    @property
    def count(self) -> int:
        """Number of tiles of an image."""
        return len(self.tables.base) * (-(-self.tables.columns_out // self.tables.size))

    @property
    def sites_out(self) -> int:
        return self.tables.rows_out * self.tables.columns_out

    def places(self) -> np.ndarray:
        """Spell the input sites out: (tile rows, tile columns, size + 2, size + 2); -1 is zero."""
        t = self.tables
        columns = np.arange(0, -(-t.columns_out // t.size) * t.size, t.size)[:, None] + np.arange(t.size + KERNEL - 1)
        base, shift = t.base[:, None, :, None], t.column[t.kind][:, :, columns].transpose(0, 2, 1, 3)
        return np.where((base < 0) | (shift < 0), -1, base + shift)


def tiles(stencil: Stencil, size: int) -> Tiles | None:
    """Cut the outputs of a 3x3 window of stride 1 into tiles; None for every other stencil.

    Examples
    --------
    >>> from spherecnn.stencils import window
    >>> cut = tiles(window((4, 8), (3, 3), padding=((1, 1), (1, 1)), padding_mode="circular"), 4)
    >>> cut.count, cut.places()[0, 0, 1].tolist()
    (2, [7, 0, 1, 2, 3, 4])
    """
    return _tiles(*stencil.axes, size) if stencil.axes else None


def adjoint_tiles(stencil: Stencil, size: int) -> Tiles | None:
    """Cut the inputs of a 3x3 window of stride 1 into tiles, for its data gradient with the kernel turned round.

    None where that is no such window again: stride, reflecting and repeating borders.
    """
    return _adjoint_tiles(*stencil.axes, size) if stencil.axes else None


@lru_cache(maxsize=256)
def _tiles(rows: Axis, columns: Axis, size: int) -> Tiles | None:
    row, column = _line(rows), _line(columns)
    if row is None or column is None:
        return None
    (source, turned), (straight, _) = row, column
    count = -(-rows.size_out // size)
    at = np.arange(0, count * size, size)[:, None] + np.arange(size + KERNEL - 1)
    beyond = at >= len(source)
    at = np.minimum(at, len(source) - 1)
    base = np.where(beyond | (source[at] < 0), -1, source[at] * columns.size_in)
    kinds = [straight, np.where(straight < 0, -1, (straight + columns.size_in // 2) % columns.size_in)]
    table = np.full((2, -(-columns.size_out // size) * size + KERNEL - 1), -1)
    for line, values in zip(table, kinds, strict=True):
        line[: len(values)] = values
    tables = TileTables(
        int32_table(base), int32_table(turned[at]), int32_table(table), size, rows.size_out, columns.size_out
    )
    return Tiles(tables, rows.size_in * columns.size_in)


def _line(axis: Axis) -> tuple[np.ndarray, np.ndarray] | None:
    """Sources (size_out + 2,) and their turns, where tap i of output p is number p + i; None if it is not."""
    if axis.taps != KERNEL or len(axis.shape_in) > 1:
        return None
    n = axis.size_out
    place = np.arange(n)[:, None] + np.arange(KERNEL)
    at = np.minimum(np.arange(n + KERNEL - 1), n - 1)
    source, turned = (table[at, np.arange(n + KERNEL - 1) - at] for table in (axis.source, axis.turned))
    regular = (source[place] == axis.source).all() and (turned[place] == axis.turned).all()
    return (source, turned) if regular else None


@lru_cache(maxsize=256)
def _adjoint_tiles(rows: Axis, columns: Axis, size: int) -> Tiles | None:
    row, column = _adjoint(rows), _adjoint(columns)
    if row is None or column is None:
        return None
    cut = _tiles(row, column, size)
    return None if cut is None else replace(cut, fold=_fold(rows, columns))


def _adjoint(axis: Axis) -> Axis | None:
    """The axis by which outputs feed inputs, tap i as tap 2 - i; None if a tap uses an input twice."""
    if axis.taps != KERNEL or len(axis.shape_in) > 1:
        return None
    source = np.full((axis.size_in, KERNEL), -1)
    for p, i in zip(*np.nonzero((axis.source >= 0) & ~axis.turned), strict=True):
        if source[axis.source[p, i], KERNEL - 1 - i] >= 0:
            return None
        source[axis.source[p, i], KERNEL - 1 - i] = p
    return Axis(source, np.zeros(source.shape, bool), axis.shape_out, axis.shape_in)


def _fold(rows: Axis, columns: Axis) -> tuple[np.ndarray, Stencil] | None:
    touched = np.unique(rows.source[rows.turned & (rows.source >= 0)])
    if not len(touched):
        return None
    number = np.full(rows.size_in + 1, -1)
    number[touched] = np.arange(len(touched))
    source = np.where(rows.turned, number[rows.source], -1)
    only = Axis(source, rows.turned, (len(touched),), rows.shape_out)
    return touched, product(only, columns).transposed
