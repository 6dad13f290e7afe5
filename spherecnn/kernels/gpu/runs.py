"""The tables of a stencil, of slots or of a matrix, as the kernels of convolutions take them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels.gpu.array import DeviceArray, to_device
from spherecnn.kernels.gpu.launch import blocks_for
from spherecnn.kernels.gpu.tables import kept, row_tables, slot_tables


class Runs(NamedTuple):
    """The tables of a stencil as `mix_kernel` and the weight gradient take them."""

    run: DeviceArray
    taps: DeviceArray
    places: tuple[int, ...]
    segment: DeviceArray
    slot: DeviceArray
    column: DeviceArray
    order: DeviceArray
    data: DeviceArray
    segments: int
    taps_of: tuple[tuple[int, ...], ...]  # of each run

    @property
    def depth(self) -> int:
        """Taps of the longest run."""
        return max(len(taps) for taps in self.taps_of)

    @property
    def in_order(self) -> bool:
        """True for one run with all taps in their order."""
        return len(self.taps_of) == 1 and list(self.taps_of[0]) == list(range(len(self.taps_of[0])))


def runs_of(stencil: Any) -> Runs:
    """The runs of a stencil of slots; a matrix is one run of all its sites."""
    if not stencil.sparse:
        t = slot_tables(stencil)
        return Runs(t.run, t.taps, t.places, t.segment, t.slot, t.column, t.column, nothing(), t.segments, t.taps_of)
    return kept(stencil, "runs", lambda: _runs_of_rows(stencil))


def _runs_of_rows(stencil: Any) -> Runs:
    t, taps = row_tables(stencil), stencil.taps
    run = to_device(np.array([[0, stencil.sites_out, taps, 0]], np.int32))
    listed = to_device(np.array([(v, v) for v in range(taps + 1)], np.int32))
    return Runs(run, listed, (stencil.sites_out,), t.first, t.first, t.site, t.order, t.data, 0, (tuple(range(taps)),))


def nothing() -> DeviceArray:
    """An array that stands for one that a kernel does not read."""
    return kept(nothing, "zero", lambda: to_device(np.zeros(4, np.float32)))


def begins_of(stencil: Any, samples: int, rows: int) -> tuple[DeviceArray, int]:
    """The first block of each run, where a block has so many members of a run; and the number of blocks."""

    def make() -> tuple[DeviceArray, int]:
        ends = np.cumsum([0, *(blocks_for(samples * length, rows) for length in runs_of(stencil).places)])
        return to_device(ends.astype(np.int32)), int(ends[-1])

    return kept(stencil, ("begins", samples, rows), make)


def zero_bias(size: int) -> DeviceArray:
    """Zeros for a layer without a bias."""
    return kept(zero_bias, size, lambda: to_device(np.zeros(size, np.float32)))


def mode_of(stencil: Any) -> str:
    """How the sites of a stencil come to the products."""
    if stencil.sparse:
        return "together" if row_tables(stencil).together else "rows"
    return "blend" if stencil.blends else "gather"


def check_rows(samples: int, sites: int) -> None:
    """Refuse batches whose sites cannot be numbered in 32 bits."""
    if samples * sites >= 2**31:
        raise InputError(
            f"a batch has {samples} samples of {sites} sites; expected fewer than 2^31 sites in all: "
            "use a smaller batch."
        )
