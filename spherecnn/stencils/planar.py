"""Stencils of image convolutions: kernel windows on rows and columns, with every kind of border."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from spherecnn.errors import InputError
from spherecnn.stencils.base import TASK_SITES, Segment, Stencil

PADDING_MODES = ("zeros", "circular", "sphere", "sphere_poles", "reflect", "replicate")


def output_size(size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> int:
    r"""Output length of a window along one axis.

    .. math:: \lfloor (x - d (k - 1) - 1 + p_{before} + p_{after}) / s \rfloor + 1

    Examples
    --------
    >>> output_size(5, 3, 2, (1, 1), 1)
    3
    """
    return (size - dilation * (kernel - 1) - 1 + sum(padding)) // stride + 1


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of a window: `source[p, i]` is the input index that tap i of output p reads, -1 for zero.

    `turned[p, i]` marks a source that is seen across a pole, half a turn of longitude away. `shape_in` and
    `shape_out` are the sizes that an axis was joined from, as frames and rows of a video.
    """

    source: np.ndarray
    turned: np.ndarray
    shape_in: tuple[int, ...]
    shape_out: tuple[int, ...]

    @property
    def size_in(self) -> int:
        return math.prod(self.shape_in)

    @property
    def size_out(self) -> int:
        return len(self.source)

    @property
    def taps(self) -> int:
        return self.source.shape[1]


def axis(size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int, mode: str) -> Axis:
    """Build one axis of a window.

    `mode` is "zeros", "circular", "reflect" or "replicate" as in PyTorch, or "fold" and "fold_poles": past either
    end the row it came from (without or with repeating the row at the pole), turned.
    """
    n = output_size(size, kernel, stride, padding, dilation)
    if n < 1:
        raise InputError(
            f"the input has {size} rows or columns, padded to {size + sum(padding)}; expected at least "
            f"{dilation * (kernel - 1) + 1} for kernel {kernel} with dilation {dilation}: "
            "use a larger input or padding."
        )
    at = np.arange(n)[:, None] * stride - padding[0] + np.arange(kernel) * dilation
    turned = np.zeros(at.shape, bool)
    inside = (at >= 0) & (at < size)
    if mode == "zeros":
        source = np.where(inside, at, -1)
    elif mode == "circular":
        source = at % size
    elif mode == "replicate":
        source = at.clip(0, size - 1)
    elif mode == "reflect":
        if max(padding) >= size:
            raise InputError(
                f"reflect padding is {max(padding)} for {size} rows or columns; expected less than {size}: "
                "use a smaller kernel or padding, or padding_mode='replicate'."
            )
        source = size - 1 - np.abs(size - 1 - np.abs(at))
    else:
        source, turned = fold(at, size, pole_rows=mode == "fold_poles")
    return Axis(source, turned, (size,), (n,))


def fold(at: np.ndarray, size: int, pole_rows: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows stand at rows `at`, beyond the poles too, and which of them are seen half a turn away.

    One walks along the meridian circle through the poles; each pole that is passed means half a turn.
    """
    if pole_rows:
        if size < 2:
            raise InputError("a grid with rows on the poles has 1 row; expected at least 2: use padding_mode='sphere'.")
        around = at % (2 * size - 2)
        beyond = np.maximum(-at, at - (size - 1))
        poles_passed = -(-beyond // (size - 1))
        return np.where(around < size, around, 2 * size - 2 - around), poles_passed.clip(0) % 2 == 1
    around = at % (2 * size)
    return np.where(around < size, around, 2 * size - 1 - around), around >= size


@lru_cache(maxsize=256)
def window(
    shape: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    dilation: tuple[int, int] = (1, 1),
    padding_mode: str = "zeros",
) -> Stencil:
    """Stencil of a kernel window that slides over an (H, W) image; tap (i, j) has number i * kw + j.

    Parameters
    ----------
    shape : (H, W)
    kernel, stride, dilation : pairs (rows, columns)
    padding : ((top, bottom), (left, right))
    padding_mode : str
        "zeros", "reflect", "replicate": both axes, as in PyTorch. "circular": columns wrap, rows beyond the
        poles are zero (Schubert et al., IV 2019). "sphere": columns wrap, and a row beyond a pole is the row
        it came from, half a turn away (half-pixel rows; Su and Grauman, NIPS 2017). "sphere_poles": the same
        on a grid with rows on the poles.

    Examples
    --------
    >>> stencil = window((4, 8), (3, 3), padding=((1, 1), (1, 1)), padding_mode="circular")
    >>> stencil
    Stencil((4, 8) -> (4, 8), taps=9)
    """
    return product(*axes(shape, kernel, stride, padding, dilation, padding_mode))


def axes(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    padding_mode: str,
) -> tuple[Axis, Axis]:
    """Return rows and columns of a window; of three axes the first, time, is joined to the rows.

    Time has no seam and no pole: before the first and after the last frame stand zeros, or what "reflect" and
    "replicate" say.
    """
    row_mode = {"circular": "zeros", "sphere": "fold", "sphere_poles": "fold_poles"}.get(padding_mode, padding_mode)
    column_mode = "circular" if padding_mode.startswith("sphere") else padding_mode
    time_mode = padding_mode if padding_mode in ("reflect", "replicate") else "zeros"
    modes = [time_mode, row_mode, column_mode][-len(shape) :]
    *outer, rows, columns = (
        axis(*options) for options in zip(shape, kernel, stride, padding, dilation, modes, strict=True)
    )
    if columns.size_in % 2 and rows.turned.any():
        raise InputError(
            f"the image has {columns.size_in} columns; expected an even number for padding over the poles, where a "
            "row is seen half a turn away: resize it, or use padding_mode='circular'."
        )
    return (join(outer[0], rows) if outer else rows), columns


def join(outer: Axis, inner: Axis) -> Axis:
    """Join two axes to one, the inner running fastest: frames and rows to the rows of all frames."""
    grid = outer.source[:, None, :, None], inner.source[None, :, None, :]
    source = np.where((grid[0] < 0) | (grid[1] < 0), -1, grid[0] * inner.size_in + grid[1])
    turned = np.broadcast_to(outer.turned[:, None, :, None] ^ inner.turned[None, :, None, :], source.shape)
    shape = outer.size_out * inner.size_out, outer.taps * inner.taps
    shape_in, shape_out = (*outer.shape_in, *inner.shape_in), (*outer.shape_out, *inner.shape_out)
    return Axis(source.reshape(shape), turned.reshape(shape), shape_in, shape_out)


@lru_cache(maxsize=64)
def volume(
    shape: tuple[int, int, int],
    kernel: tuple[int, int, int],
    stride: tuple[int, int, int] = (1, 1, 1),
    padding: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0), (0, 0)),
    dilation: tuple[int, int, int] = (1, 1, 1),
    padding_mode: str = "zeros",
) -> Stencil:
    """Stencil of a kernel window that slides over a video (T, H, W), as `window` over each frame, and over time.

    Tap (l, i, j) has number (l kh + i) kw + j. Before the first frame and after the last stand zeros, or what
    "reflect" and "replicate" say.

    Examples
    --------
    >>> volume((5, 4, 8), (3, 3, 3), padding=((1, 1), (1, 1), (1, 1)), padding_mode="sphere")
    Stencil((5, 4, 8) -> (5, 4, 8), taps=27)
    """
    return product(*axes(shape, kernel, stride, padding, dilation, padding_mode))


def product(rows: Axis, columns: Axis) -> Stencil:
    """Combine the windows of both axes."""
    kh, kw = rows.taps, columns.taps
    straight = list(columns.source.T)
    turned = [_turn(c, columns.size_in) for c in straight]
    kinds = [*straight, *turned, np.arange(columns.size_out)]
    tap = range(kh * kw)
    segments = [
        Segment(
            columns.size_out,
            r * columns.size_out,
            2 * kw,
            tap,
            np.repeat(np.where(source < 0, -1, source * columns.size_in), kw),
            (np.arange(kw) + kw * flags[:, None]).ravel(),
        )
        for r, (source, flags) in enumerate(zip(rows.source, rows.turned, strict=True))
    ]
    shape_in, shape_out = (*rows.shape_in, *columns.shape_in), (*rows.shape_out, *columns.shape_out)
    return Stencil(shape_in, shape_out, kh * kw, kinds, segments, lambda: _transposed(rows, columns), (rows, columns))


def _turn(column: np.ndarray, width: int) -> np.ndarray:
    return np.where(column < 0, -1, (column + width // 2) % width)


# --- the adjoint -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Class:
    """Positions with the same list of uses: `keys[m]` says by which tap, `users[m]` by whom (-1: by nobody)."""

    positions: np.ndarray
    keys: tuple[tuple[bool, int], ...]
    users: np.ndarray


def _uses(source: np.ndarray, turned: np.ndarray, size: int) -> list[list[tuple[tuple[bool, int], int]]]:
    """For each input position, its uses ((turned, tap), output position), in a fixed order."""
    uses: list[list[tuple[tuple[bool, int], int]]] = [[] for _ in range(size)]
    for p, i in zip(*np.nonzero(source >= 0), strict=True):
        uses[source[p, i]].append(((bool(turned[p, i]), int(i)), int(p)))
    return [sorted(u) for u in uses]


def _classes(uses: Sequence[list[tuple[tuple[bool, int], int]]], few: int) -> list[_Class]:
    """Group positions by the keys of their uses; a few odd positions join a larger class, -1 for what they lack."""
    groups: dict[tuple, list[int]] = {}
    for position, use in enumerate(uses):
        groups.setdefault(tuple(key for key, _ in use), []).append(position)
    for keys in sorted(groups, key=len):
        hosts = [k for k in groups if len(groups[k]) > few and len(k) > len(keys) and not Counter(keys) - Counter(k)]
        if hosts and len(groups[keys]) <= few:
            groups[min(hosts, key=len)] += groups.pop(keys)
    classes = []
    for keys, members in groups.items():
        positions = np.array(sorted(members))
        users = np.full((len(keys), len(positions)), -1)
        for column, position in enumerate(positions):
            free = dict.fromkeys(range(len(keys)))
            for key, user in uses[position]:
                m = next(m for m in free if keys[m] == key)
                del free[m]
                users[m, column] = user
        classes.append(_Class(positions, keys, users))
    return classes


def _transposed(rows: Axis, columns: Axis) -> Stencil:
    """Stencil of the adjoint of `product(rows, columns)`: rows and columns are transposed apart, then combined."""
    kw = columns.taps
    row_classes = _classes(_uses(rows.source, rows.turned, rows.size_in), few=2 * rows.taps)
    straight = _uses(columns.source, np.zeros_like(columns.turned), columns.size_in)
    across = _uses(_turn(columns.source, columns.size_in), np.ones_like(columns.turned), columns.size_in)
    both = [s + (t if rows.turned.any() else []) for s, t in zip(straight, across, strict=True)]
    kinds: list[np.ndarray] = []
    runs: list[tuple[int, list[Segment]]] = []
    for column_class in _classes(both, few=2 * kw):
        first = len(kinds)
        kinds += [*column_class.users, column_class.positions]
        for row_class in row_classes:
            slots = [
                (m, i * kw + j, first + c)
                for m, (turned, i) in enumerate(row_class.keys)
                for c, (flag, j) in enumerate(column_class.keys)
                if flag == turned
            ] or [(-1, 0, first)]
            tap, kind = [s[1] for s in slots], [s[2] for s in slots]
            out_kind, size = first + len(column_class.keys), len(column_class.positions)
            for i, (h, row_users) in enumerate(zip(row_class.positions, row_class.users.T, strict=True)):
                base = [-1 if m < 0 or row_users[m] < 0 else row_users[m] * columns.size_out for m, _, _ in slots]
                if i % max(1, TASK_SITES // size) == 0:
                    runs.append((h, []))
                runs[-1][1].append(Segment(size, h * columns.size_in, out_kind, tap, base, kind))
    # Tasks of all classes go down the image together, so that what they read is still in the caches.
    segments = [s for _, run in sorted(runs, key=lambda run: run[0]) for s in run]
    shape_in, shape_out = (*rows.shape_out, *columns.shape_out), (*rows.shape_in, *columns.shape_in)
    return Stencil(shape_in, shape_out, rows.taps * kw, kinds, segments, lambda: product(rows, columns))


def pointwise(sites: tuple[int, ...]) -> Stencil:
    """Stencil with one tap that reads the site itself: a 1x1 convolution, or a linear layer."""
    n = int(np.prod(sites))
    return _pointwise(n)


@lru_cache(maxsize=256)
def _pointwise(n: int) -> Stencil:
    return Stencil((n,), (n,), 1, [np.arange(n)], [Segment(n, 0, 0, [0], [0], [0])], lambda: _pointwise(n))
