"""Stencils on the GPU: compact tables that are made once, and the device functions that read them.

A kernel numbers outputs by their place p in the order of the segments of a stencil. `locate` finds the segment of a
place; a slot of it says where its input is (`source_of`). Nothing of the size sites x taps is kept: rows of an image
share their columns, as on the CPU.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np

from spherecnn.kernels.cuda import device_function, int32
from spherecnn.kernels.gpu import device
from spherecnn.kernels.gpu.array import DeviceArray, to_device
from spherecnn.kernels.gpu.intrinsics import ld1, load4
from spherecnn.stencils.base import Stencil

SEGMENT, SLOT = 8, 4  # numbers of a record
NEAR = 64  # places, of every so many the segment is listed


class SlotTables(NamedTuple):
    """A stencil of slots on the GPU."""

    segment: DeviceArray  # int32 (segments, 8): first place, start, out_base, out column, first slot, slots, bias, 0
    slot: DeviceArray  # int32 (slots, 4): base, column with its shift, tap, bits of the share
    column: DeviceArray  # int32
    segments: int
    run: DeviceArray  # int32 (runs, 4): first place, places, taps, where they begin in `taps`
    taps: DeviceArray  # int32 (entries, 2): tap, first slot of it; one entry more ends a run
    places: tuple[int, ...]  # of each run
    taps_of: tuple[tuple[int, ...], ...]  # of each run
    near: DeviceArray  # int32: the segment of every NEARth place, and the last one


class RowTables(NamedTuple):
    """A `SparseStencil` on the GPU: rows of a matrix in the order of computation."""

    first: DeviceArray  # int32 (rows + 1)
    site: DeviceArray  # int32 (entries)
    data: DeviceArray  # float32 (entries), or (entries, 4) if together
    order: DeviceArray  # int32 (sites): the output site of each place
    together: bool  # a row for each site with a number for each of its 4 taps, else a row for each tap of each site


class MatrixTables(NamedTuple):
    """A sparse matrix on the GPU, row by row."""

    first: DeviceArray
    site: DeviceArray
    data: DeviceArray


_kept: dict[int, weakref.WeakKeyDictionary[Any, dict[Any, Any]]] = {}


def kept(owner: Any, name: Any, make: Any) -> Any:
    """Return ``make()``, from the last call with this owner and name on the current device.

    Owners need not be hashable (matrices are not); what is kept goes with them, or with the device.
    """
    at = id(owner)
    if at not in _kept:
        _kept[at] = weakref.WeakKeyDictionary()
        weakref.finalize(owner, _kept.pop, at, None).atexit = False
    tables = _kept[at].setdefault(device.current(), {})
    if name not in tables:
        tables[name] = make()
    return tables[name]


def slot_tables(stencil: Stencil) -> SlotTables:
    """Return the tables of a stencil of slots (not of a `SparseStencil`).

    Segments whose slots have the same taps stand together, as runs: their sites may share a block of threads.
    """
    return kept(stencil, "slots", lambda: _slot_tables(stencil))


def _slot_tables(s: Stencil) -> SlotTables:
    longest, slots = s.column.shape[1], np.diff(s.first)
    kinds: dict[bytes, list[int]] = {}
    for g in range(len(s.size)):
        kinds.setdefault(s.tap[s.first[g] : s.first[g + 1]].tobytes(), []).append(g)
    order = np.concatenate(list(kinds.values()))
    size, zero = s.size[order], np.zeros_like(s.start)
    ends = np.concatenate([[0], np.cumsum(size)])
    records = [s.start, s.out_base, s.out_kind * longest, s.first[:-1], slots, s.bias, zero]
    # One record more, which ends the last segment.
    segment = np.zeros((len(order) + 1, SEGMENT), np.int32)
    segment[:, 0], segment[:-1, 1:] = ends, np.stack(records, axis=1)[order]
    share = s.share.astype(np.float32) if s.blends else np.ones(len(s.tap), np.float32)
    slot = [s.base, s.kind * longest + s.shift, s.tap, share.view(np.int32)]
    taps: list[tuple[int, int]] = []
    run, taps_of, first = [], [], 0
    for members in kinds.values():
        own = s.tap[s.first[members[0]] : s.first[members[0] + 1]]
        begin = np.flatnonzero(np.diff(own, prepend=-1)) if s.blends else np.arange(len(own))
        places = int(s.size[members].sum())
        run.append((first, places, len(begin), len(taps)))
        taps += [*zip(own[begin].tolist(), begin.tolist(), strict=True), (-1, len(own))]
        taps_of.append(tuple(own[begin].tolist()))
        first += places
    return SlotTables(
        to_device(segment),
        to_device(np.stack(slot, axis=1).astype(np.int32)),
        to_device(s.column.ravel()),
        len(order),
        to_device(np.array(run, np.int32)),
        to_device(np.array(taps, np.int32)),
        tuple(r[1] for r in run),
        tuple(taps_of),
        to_device(np.append(np.searchsorted(ends, np.arange(0, ends[-1], NEAR), "right") - 1, len(order) - 1)),
    )


def row_tables(stencil: Any) -> RowTables:
    """Return the tables of a `SparseStencil`."""
    return kept(stencil, "rows", lambda: _row_tables(stencil))


def _row_tables(stencil: Any) -> RowTables:
    tables = stencil.tables(np.float32)
    first, site, data = (to_device(part) for part in (tables.indptr, tables.indices, tables.data))
    if tables.together:
        data = data.reshape(-1, stencil.taps)
    return RowTables(first, site, data, to_device(stencil.order.astype(np.int32)), bool(tables.together))


def matrix_tables(matrix: Any) -> MatrixTables:
    """Return the tables of a CSR matrix."""
    return kept(matrix, "matrix", lambda: _matrix_tables(matrix))


def _matrix_tables(matrix: Any) -> MatrixTables:
    parts = (matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data.astype(np.float32))
    return MatrixTables(*(to_device(part) for part in parts))


# --- on the device ---------------------------------------------------------------------------------------------


@device_function
def locate(segment, segments, p):
    """The segment that place p is in."""
    low, high = int32(0), segments
    while high - low > 1:
        middle = (low + high) >> 1
        if ld1(segment, middle * SEGMENT) <= p:
            low = middle
        else:
            high = middle
    return low


@device_function
def locate_near(segment, near, p):
    """`locate` by fewer steps: most often none."""
    low, high = ld1(near, p >> 6), int32(ld1(near, (p >> 6) + 1) + 1)
    while high - low > 1:
        middle = int32((low + high) >> 1)
        if ld1(segment, middle * SEGMENT) <= p:
            low = middle
        else:
            high = middle
    return low


@device_function
def out_site(segment, column, g, p):
    """The output site at place p of segment g."""
    record = load4(segment, g * SEGMENT)  # first place, start, out_base, out column
    return record[2] + ld1(column, record[3] + record[1] + p - record[0])


@device_function
def source_of(column, base, place):
    """The input site of a slot: `base` of its record, `place` its column with its shift, plus start + p; or -1."""
    if base < 0:
        return int32(-1)
    at = ld1(column, place)
    return base + at if at >= 0 else int32(-1)
