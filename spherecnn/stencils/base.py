"""The stencil: which input sites feed each output site, as a few small integer tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from spherecnn.errors import InputError

# A task is what one thread runs at a time: enough sites to fill register tiles, few enough for tables in L1.
TASK_SITES = 384


@dataclass(frozen=True)
class Segment:
    """Output sites that read their inputs in the same way.

    Site ``s`` of the segment is ``out_base + column[out_kind][s]``. Its slot ``u`` multiplies weight slice
    ``tap[u]`` with input site ``base[u] + column[kind[u]][shift[u] + s]``; a negative base or column reads zero.
    With a `share`, slot ``u`` counts ``share[u]`` times, and slots in ascending order of their taps blend several
    sites to one tap. Row `bias` of the bias table is added. With a `start`, s counts from there in the columns.
    """

    size: int
    out_base: int
    out_kind: int
    tap: Sequence[int] | np.ndarray
    base: Sequence[int] | np.ndarray
    kind: Sequence[int] | np.ndarray
    shift: Sequence[int] | np.ndarray | None = None
    share: Sequence[float] | np.ndarray | None = None
    bias: int = 0
    start: int = 0


class Tables(NamedTuple):
    """A stencil as the kernels take it: read-only arrays, described at `Stencil` and `Segment`."""

    task: np.ndarray  # segments task[a] .. task[a + 1] make task a
    start: np.ndarray
    size: np.ndarray
    out_base: np.ndarray
    out_kind: np.ndarray
    first: np.ndarray  # slots first[g] .. first[g + 1] belong to segment g
    tap: np.ndarray
    base: np.ndarray
    kind: np.ndarray
    shift: np.ndarray
    share: np.ndarray  # empty where every slot counts once
    bias: np.ndarray
    column: np.ndarray
    only_tap: np.ndarray  # [0]: the tap table of taps that were joined into one
    most_sites: int
    most_slots: int
    indptr: np.ndarray  # of the matrix of a `SparseStencil`, which has no slots; empty for others
    indices: np.ndarray
    data: np.ndarray
    together: bool  # the matrix has a row for each site, and a number for each tap in an entry


class Stencil:
    r"""The geometry of a convolution.

    .. math:: y_{n,p} = b_{bias(p)} + \sum_{u\,\in\,slots(p)} share(u)\, x_{n,\,source(p, u)}\, w_{tap(u)}

    On an image the sources of a row differ from column to column by a shift only, so a segment (one row, say)
    stores a base per slot and shares a few columns of offsets with all others: no (sites, taps) table. Shares
    (1 without) let a tap read between sites.
    A stencil of arbitrary sources has base 0 and columns of its own.

    Parameters
    ----------
    shape_in, shape_out : tuple of int
        Spatial shapes; sites are numbered in C order.
    taps : int
        Number of weight slices.
    columns : list of int arrays
        Shared columns of offsets; -1 reads zero.
    segments : list of Segment
        Every output site in exactly one segment; neighbours with equal taps run together.
    transpose : callable
        Builds the stencil of the adjoint when it is first needed.
    axes : tuple, optional
        The axes of a kernel window, for kernels that know more of it than its slots.
    biases : int
        Rows of the bias table.
    """

    sparse = False

    def __init__(
        self,
        shape_in: tuple[int, ...],
        shape_out: tuple[int, ...],
        taps: int,
        columns: Sequence[np.ndarray],
        segments: Sequence[Segment],
        transpose: Callable[[], Stencil],
        axes: tuple[Any, ...] | None = None,
        biases: int = 1,
    ):
        self.biases = biases
        self.shape_in, self.shape_out, self.taps, self.axes = shape_in, shape_out, taps, axes
        self._transpose = transpose
        self._tables: dict[np.dtype, Tables] = {}
        longest = max(len(c) for c in columns)
        table = np.full((len(columns), longest), -1, np.int32)
        for row, values in zip(table, columns, strict=True):
            row[: len(values)] = values
        self.column = int32_table(table)
        pieces = [(s, past) for s in segments for past in range(0, s.size, TASK_SITES)]
        self.start = int32_table([s.start + past for s, past in pieces])
        self.size = int32_table([min(TASK_SITES, s.size - past) for s, past in pieces])
        self.out_base = int32_table([s.out_base for s, _ in pieces])
        self.out_kind = int32_table([s.out_kind for s, _ in pieces])
        self.first = int32_table(np.cumsum([0] + [len(s.tap) for s, _ in pieces]))
        self.tap = int32_table(np.concatenate([s.tap for s, _ in pieces]))
        self.base = int32_table(np.concatenate([s.base for s, _ in pieces]))
        self.kind = int32_table(np.concatenate([s.kind for s, _ in pieces]))
        self.shift = int32_table(
            np.concatenate([np.zeros(len(s.tap)) if s.shift is None else s.shift for s, _ in pieces])
        )
        shares = [s.share for s, _ in pieces if s.share is not None]
        if len(shares) not in (0, len(pieces)):
            raise ValueError("some segments have shares and others none")
        self.share = read_only_table(np.concatenate(shares) if shares else [], np.float64)
        self.bias = int32_table([s.bias for s, _ in pieces])
        alike = [(tuple(s.tap), s.bias, None if s.share is None else tuple(s.share)) for s, _ in pieces]
        self.task = int32_table(_tasks(alike, self.size))

    @cached_property
    def sites_in(self) -> int:
        return math.prod(int(n) for n in self.shape_in)

    @cached_property
    def sites_out(self) -> int:
        return math.prod(int(n) for n in self.shape_out)

    @cached_property
    def transposed(self) -> Stencil:
        """The stencil of the adjoint: it has one slot for each use of an input site, with the same taps."""
        adjoint = self._transpose()
        adjoint.__dict__["transposed"] = self
        return adjoint

    def tables(self, dtype: Any) -> Tables:
        """The tables as the kernels take them: integers, and shares in the type of the arrays that they work on."""
        dtype = np.dtype(dtype)
        if dtype not in self._tables:
            self._tables[dtype] = self._make_tables(dtype)
        return self._tables[dtype]

    def _make_tables(self, dtype: np.dtype) -> Tables:
        ends = np.concatenate([[0], np.cumsum(self.size)])[self.task]
        return Tables(
            self.task,
            self.start,
            self.size,
            self.out_base,
            self.out_kind,
            self.first,
            self.tap,
            self.base,
            self.kind,
            self.shift,
            read_only_table(self.share, dtype),
            self.bias,
            self.column,
            int32_table([0]),
            int(np.diff(ends).max()),
            self.most_slots,
            int32_table([]),
            int32_table([]),
            read_only_table([], dtype),
            False,
        )

    @property
    def most_slots(self) -> int:
        """The largest number of slots of a segment."""
        return int(np.diff(self.first).max())

    @property
    def blends(self) -> bool:
        """True when slots have shares, so that a tap may read between sites."""
        return len(self.share) > 0

    def slots(self) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
        """Yield (output sites, tap, source sites) slot by slot: the stencil spelled out; source -1 reads zero."""
        if self.blends:
            raise InputError(f"{self!r} blends several sites to a tap; expected taps of one site for this operation.")
        for out, tap, source, _ in self.shared_slots():
            yield out, tap, source

    def shared_slots(self) -> Iterator[tuple[np.ndarray, int, np.ndarray, Any]]:
        """Yield (output sites, tap, source sites, share) slot by slot; the share is 1 where there are none.

        A `SparseStencil` has a share for each output site.
        """
        for g in range(len(self.size)):
            window = slice(self.start[g], self.start[g] + self.size[g])
            out = self.out_base[g] + self.column[self.out_kind[g], window]
            for u in range(self.first[g], self.first[g + 1]):
                place = self.column[self.kind[u], self.shift[u] :][window]
                dead = (place < 0) | (self.base[u] < 0)
                share = float(self.share[u]) if self.blends else 1.0
                yield out, int(self.tap[u]), np.where(dead, -1, self.base[u] + place), share

    def bias_rows(self) -> np.ndarray:
        """Row of the bias table that each output site adds."""
        rows = np.zeros(self.sites_out, np.int32)
        for g in range(len(self.size)):
            window = slice(self.start[g], self.start[g] + self.size[g])
            rows[self.out_base[g] + self.column[self.out_kind[g], window]] = self.bias[g]
        return rows

    def check_size(self, channels: int) -> None:
        """Refuse samples whose element offsets do not fit in 32 bits."""
        if max(self.sites_in, self.sites_out) * channels >= 2**31:
            raise InputError(
                f"one sample has {max(self.sites_in, self.sites_out)} sites x {channels} channels; "
                "expected fewer than 2^31 numbers: process the picture in parts."
            )

    def __repr__(self) -> str:
        return f"Stencil({self.shape_in} -> {self.shape_out}, taps={self.taps})"


def int32_table(values: Any) -> np.ndarray:
    """Return a read-only int32 array."""
    return read_only_table(values, np.int32)


def read_only_table(values: Any, dtype: Any) -> np.ndarray:
    """Return a read-only array."""
    table = np.array(values, dtype)
    table.setflags(write=False)
    return table


def _tasks(alike: list[tuple[Any, ...]], size: np.ndarray) -> list[int]:
    """Cut the segments into runs with equal taps, biases and shares, and at most TASK_SITES sites."""
    cuts, sites = [0], 0
    for g, n in enumerate(size):
        if g and (alike[g] != alike[g - 1] or sites + n > TASK_SITES):
            cuts.append(g)
            sites = 0
        sites += n
    return [*cuts, len(size)]
