"""Stencils of any sources: a table that says which site each tap of each site reads."""

from __future__ import annotations

import itertools

import numpy as np

from spherecnn.stencils.base import TASK_SITES, Segment, Stencil


def table(sources: np.ndarray, shape_in: tuple[int, ...], shape_out: tuple[int, ...] | None = None) -> Stencil:
    """Stencil of a table of sources.

    In the adjoint a site has a slot for each tap that reads it. Sites with the same taps, in ascending order, make a
    class, so that nothing is scattered.

    Parameters
    ----------
    sources : int ndarray (P, T)
        Input site that tap t of output site p reads; -1 reads zero.
    shape_in, shape_out : tuple of int
        Spatial shapes; (P,) for the output unless given.

    Examples
    --------
    Site 0 reads itself twice; no tap reads site 2.

    >>> stencil = table(np.array([[0, 0], [1, 0], [1, 1]]), (3,))
    >>> [(out.tolist(), tap, source.tolist()) for out, tap, source in stencil.transposed.slots()]
    [([0], 0, [0]), ([0], 1, [0]), ([0], 1, [1]), ([1], 0, [1]), ([1], 0, [2]), ([1], 1, [2]), ([2], 0, [-1])]
    """
    sites, taps = sources.shape
    columns = [*sources.T, np.arange(sites)]
    segment = Segment(sites, 0, taps, np.arange(taps), np.zeros(taps), np.arange(taps))
    out = (sites,) if shape_out is None else shape_out
    return Stencil(shape_in, out, taps, columns, [segment], lambda: _adjoint(sources, shape_in, out))


def _adjoint(sources: np.ndarray, shape_in: tuple[int, ...], shape_out: tuple[int, ...]) -> Stencil:
    """Sites in the order of their classes; a class is a segment that starts at its first place."""
    taps, sites = sources.shape[1], int(np.prod(shape_in))
    read, tap, reader = _uses(sources)
    count = np.bincount(read, minlength=sites)
    place = np.arange(len(read)) - np.repeat(np.cumsum(count) - count, count)
    most = max(1, count.max())
    readers, which = np.full((sites, most), -1), np.full((sites, most), -1)
    readers[read, place], which[read, place] = reader, tap
    order = np.lexsort((np.arange(sites), *which.T[::-1]))
    kinds = which[order]
    begin = np.flatnonzero(np.concatenate([[True], (kinds[1:] != kinds[:-1]).any(axis=1)]))
    segments = []
    for first, end in itertools.pairwise([*begin.tolist(), sites]):
        slots = max(1, int((kinds[first] >= 0).sum()))  # a site that no tap reads has one slot that reads zero
        its = np.maximum(kinds[first, :slots], 0)
        for start in range(first, end, TASK_SITES):
            size = min(TASK_SITES, end - start)
            segments.append(Segment(size, 0, most, its, np.zeros(slots), np.arange(slots), start=start))
    segments.sort(key=lambda s: order[s.start])  # what different classes read then lies in the caches
    columns = [*readers[order].T, order]
    return Stencil(shape_out, shape_in, taps, columns, segments, lambda: table(sources, shape_in, shape_out))


def _uses(sources: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (source, tap, reader) with a source, sorted in this order."""
    sites, taps = sources.shape
    tap, reader = np.divmod(np.arange(sites * taps), sites)
    read = sources.T.ravel()
    chosen = np.flatnonzero(read >= 0)
    chosen = chosen[np.argsort(read[chosen], kind="stable")]
    return read[chosen], tap[chosen], reader[chosen]
