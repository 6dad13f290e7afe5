"""Stencils of kernels that change with the latitude: a size and weights of its own for each group of rows."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from spherecnn.errors import InputError
from spherecnn.stencils.base import TASK_SITES, Segment, Stencil
from spherecnn.stencils.planar import fold

Size = tuple[int, int]


@dataclass(frozen=True)
class _Rows:
    """What both directions share; `first_tap[g]` is the number of the first tap of row group g."""

    shape: Size
    sizes: tuple[Size, ...]
    rows: tuple[int, ...]
    stride: Size
    pole_rows: bool
    biases: bool

    @property
    def shape_out(self) -> Size:
        return len(self.rows), -(-self.shape[1] // self.stride[1])

    @property
    def first_tap(self) -> np.ndarray:
        return np.cumsum([0] + [kh * kw for kh, kw in self.sizes])

    def sources(self, p: int) -> tuple[np.ndarray, np.ndarray]:
        """Input rows (kh,) that output row p reads, and which of them across a pole."""
        kh = self.sizes[self.rows[p]][0]
        return fold(p * self.stride[0] - kh // 2 + np.arange(kh), self.shape[0], self.pole_rows)

    def shifts(self, p: int, turned: np.ndarray) -> np.ndarray:
        """Columns (kh, kw) from an output to its sources, east positive and modulo the width."""
        kw, width = self.sizes[self.rows[p]][1], self.shape[1]
        return (np.arange(kw) - kw // 2 + np.where(turned, width // 2, 0)[:, None]) % width


class _Kinds:
    """Shared columns, each entered once: those of one class of columns follow each other."""

    def __init__(self) -> None:
        self.columns: list[np.ndarray] = []
        self.known: dict[tuple[int, int], int] = {}

    def __call__(self, key: tuple[int, int], column: np.ndarray) -> int:
        if key not in self.known:
            self.known[key] = len(self.columns)
            self.columns.append(column)
        return self.known[key]


@lru_cache(maxsize=64)
def latitude(
    shape: Size,
    sizes: tuple[Size, ...],
    rows: tuple[int, ...],
    stride: Size = (1, 1),
    pole_rows: bool = False,
    biases: bool = True,
) -> Stencil:
    """Stencil of an (H, W) panorama on which every group of rows has a kernel of its own size.

    Output (p, q) is centred on input (p s, q s) and reads the kh x kw window around it, columns wrapped; a row beyond a
    pole is the row it came from, half a turn away. The taps of group 0 come first, then those of group 1, and
    so on; within a group tap (i, j) has number i * kw + j.

    Parameters
    ----------
    shape : (H, W)
    sizes : tuple of (kh, kw)
        Of each row group, odd. A kernel wider than the panorama reads a pixel more than once.
    rows : tuple of int
        Row group of each output row; ceil(H / stride) of them.
    stride : (rows, columns)
    pole_rows : bool
        True when the first and last rows lie on the poles: they are then not repeated beyond them.
    biases : bool
        True for a row of biases for each row group, False for one.

    Raises
    ------
    InputError
        If a size is even, a group has no size, the rows are too many or few, or W is odd and a kernel reaches over
        a pole.

    Notes
    -----
    Source: Su and Grauman, Learning Spherical Convolution for Fast Features from 360° Imagery, NIPS 2017, section 3.

    Examples
    --------
    >>> latitude((4, 8), ((3, 5), (3, 3)), (0, 1, 1, 0))
    Stencil((4, 8) -> (4, 8), taps=24)
    """
    rules = _Rows(shape, sizes, rows, stride, pole_rows, biases)
    _check(rules)
    width = rules.shape_out[1]
    kinds, segments = _Kinds(), []
    centre = np.arange(width) * stride[1]
    out_kind = kinds((0, -1), np.arange(width))
    for p, group in enumerate(rows):
        source, turned = rules.sources(p)
        shifts = rules.shifts(p, turned).ravel()
        kind = [kinds((0, int(o)), (centre + o) % shape[1]) for o in shifts]
        base = np.repeat(source * shape[1], sizes[group][1])
        tap = range(rules.first_tap[group], rules.first_tap[group + 1])
        segments.append(Segment(width, p * width, out_kind, tap, base, kind, bias=group if biases else 0))
    taps, offsets = int(rules.first_tap[-1]), len(sizes) if biases else 1
    return Stencil(shape, rules.shape_out, taps, kinds.columns, segments, lambda: _transposed(rules), biases=offsets)


def _transposed(rules: _Rows) -> Stencil:
    """Stencil of the adjoint: each input row lists by which tap of which output rows it is read.

    Input column c is read at shift o by output column (c - o) / s, if s divides it: columns are classed by c
    modulo s, so that hardly a slot is in vain.
    """
    (height, width), stride, width_out = rules.shape, rules.stride, rules.shape_out[1]
    uses = _row_uses(rules)
    block = max(1, TASK_SITES // max(1, width // stride[1]))
    order = sorted(
        ((h, r) for h in range(height) for r in range(min(stride[1], width))),
        key=lambda at: (at[0] // block, at[1], at[0] % stride[0], at[0]),
    )
    kinds, segments = _Kinds(), []
    for h, r in order:
        columns = np.arange(r, width, stride[1])
        out_kind = kinds((r, -1), columns)
        tap, base, kind = [], [], []
        for p, row_taps, shifts in uses[h]:
            for t, o in zip(row_taps, shifts, strict=True):
                users, rest = np.divmod((columns - o) % width, stride[1])
                if not rest.all():
                    tap.append(int(t))
                    base.append(p * width_out)
                    kind.append(kinds((r, int(o)), np.where(rest, -1, users)))
        if not tap:
            tap, base, kind = [0], [-1], [out_kind]
        segments.append(Segment(len(columns), h * width, out_kind, tap, base, kind))
    taps = int(rules.first_tap[-1])
    given = rules.shape, rules.sizes, rules.rows, rules.stride, rules.pole_rows, rules.biases
    return Stencil(rules.shape_out, rules.shape, taps, kinds.columns, segments, lambda: latitude(*given))


def _row_uses(rules: _Rows) -> dict[int, list[tuple[int, np.ndarray, np.ndarray]]]:
    """For each input row its uses (output row, taps, shifts), those by equal taps in the same order in all rows."""
    uses: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = defaultdict(list)
    for p, group in enumerate(rules.rows):
        source, turned = rules.sources(p)
        shifts = rules.shifts(p, turned)
        taps = np.arange(rules.first_tap[group], rules.first_tap[group + 1]).reshape(shifts.shape)
        for i, h in enumerate(source):
            uses[int(h)].append((p, taps[i], shifts[i]))
    return {h: sorted(found, key=lambda use: (use[1][0], use[0])) for h, found in uses.items()} | {
        h: [] for h in range(rules.shape[0]) if h not in uses
    }


def _check(rules: _Rows) -> None:
    height, width = rules.shape
    wanted = -(-height // rules.stride[0])
    if len(rules.rows) != wanted:
        raise InputError(
            f"rows names the row groups of {len(rules.rows)} rows; expected {wanted}, one for each output row of "
            f"{height} rows at stride {rules.stride[0]}: give one number a row."
        )
    if set(rules.rows) != set(range(len(rules.sizes))):
        raise InputError(
            f"rows uses the row groups {sorted(set(rules.rows))} and there are {len(rules.sizes)} sizes; expected one "
            "for each group from 0 on: match rows and sizes."
        )
    for size in rules.sizes:
        if len(size) != 2 or any(k < 1 or k % 2 == 0 for k in size):
            raise InputError(
                f"a kernel has the size {size}; expected odd numbers (rows, columns), so that it has a centre: change "
                "the sizes."
            )
    if width % 2 and any(rules.sources(p)[1].any() for p in range(wanted)):
        raise InputError(
            f"the image has {width} columns; expected an even number for kernels that reach over the poles, where a "
            "row is seen half a turn away: resize it."
        )
