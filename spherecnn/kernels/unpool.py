"""Values that go back to the sites they came from, and the reverse. Sites are numbers, so any grid will do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from spherecnn.kernels.jit import kernel
from spherecnn.kernels.memory import empty
from spherecnn.kernels.op import op
from spherecnn.kernels.tasks import spell_task, task_room

# One thread fills an image or, of few images, some of its channels. Zeros are laid just ahead of the values, so that
# both meet in the caches: as fast as gathering on the transposed stencil, and it takes any indices.
PART_CHANNELS, MANY_SAMPLES, BLOCK_SITES = 32, 4, 128


@op
def switch_sites(switch: Any, stencil: Any) -> Any:
    r"""The site that each switch of `max_pool` names: index = source(p, u) with tap(u) = switch; -1 for none.

    Parameters
    ----------
    switch : uint8 ndarray (N, P_out, C)
    stencil : Stencil
        The one that was pooled on.

    Returns
    -------
    int32 ndarray (N, P_out, C)
    """
    index = np.full(switch.shape, -1, np.int32)
    for out, tap, source in stencil.slots():
        found = (switch[:, out] == tap) & (source >= 0)[:, None]
        index[:, out] = np.where(found, source[:, None], index[:, out])
    return index


@op
def unpool(x: Any, index: Any, sites: int) -> Any:
    r"""Put each value to its site; zeros elsewhere. Values of one site are summed, in their order.

    .. math:: y_{n,q,c} = \sum_{p:\ index_{n,p,c} = q} x_{n,p,c}

    Parameters
    ----------
    x : ndarray (N, P, C)
    index : int32 ndarray (N, P, C)
        Less than `sites`; negative for nowhere.
    sites : int

    Returns
    -------
    ndarray (N, sites, C)
    """
    y = np.zeros((len(x), sites, x.shape[2]), x.dtype)
    n, p, c = np.nonzero(index >= 0)
    np.add.at(y, (n, index[n, p, c], c), x[n, p, c])
    return y


@op
def unpool_dx(dy: Any, index: Any) -> Any:
    r"""Data gradient of `unpool`: dx_{n,p,c} = dy_{n, index_{n,p,c}, c}, and 0 for a negative index."""
    found = np.take_along_axis(dy, np.maximum(index, 0), axis=1)
    return np.where(index < 0, 0, found).astype(dy.dtype)


@switch_sites.on("cpu")
def _switch_sites_cpu(switch: Any, stencil: Any) -> Any:
    index = empty(switch.shape, np.int32)
    switch_tasks(switch, index, stencil.tables(np.float32))
    return index


@unpool.on("cpu")
def _unpool_cpu(x: Any, index: Any, sites: int) -> Any:
    y = empty((len(x), sites, x.shape[2]), x.dtype)
    width = x.shape[2] if len(x) >= MANY_SAMPLES else PART_CHANNELS
    put_values(x, index, y, width)
    return y


@unpool_dx.on("cpu")
def _unpool_dx_cpu(dy: Any, index: Any) -> Any:
    dx = empty(index.shape, dy.dtype)
    take_values(dy, index, dx)
    return dx


@kernel()
def switch_tasks(switch, index, tables):
    samples, _, channels = switch.shape
    tasks = len(tables.task) - 1
    for q in prange(samples * tasks):
        sample, a = q // tasks, q % tasks
        offset, target = task_room(tables)
        n, slots, first = spell_task(a, tables, 1, 1, offset, target)
        for p in range(n):
            by = switch[sample, target[p]]
            out = index[sample, target[p]]
            for c in range(channels):
                out[c] = -1
            for u in range(slots):
                site, t = offset[u, p], np.uint8(tables.tap[first + u])
                for c in range(channels):
                    out[c] = site if by[c] == t else out[c]


@kernel()
def put_values(x, index, y, width):
    samples, places, channels = x.shape
    sites, chunks = y.shape[1], (channels + width - 1) // width
    values, where, out = x.reshape(-1), index.reshape(-1), y.reshape(-1)
    for q in prange(samples * chunks):
        sample, c0 = q // chunks, q % chunks * width
        wide = min(width, channels - c0)
        filled = 0
        for p0 in range(0, places, BLOCK_SITES):
            p1 = min(places, p0 + BLOCK_SITES)
            last = np.int32(-1)
            for p in range(p0, p1):
                at = (sample * places + p) * channels + c0
                for site in where[at : at + wide]:
                    last = max(last, site)
            for site in range(filled, last + 1):
                to = (sample * sites + site) * channels + c0
                out[to : to + wide] = 0
            filled = max(filled, int(last) + 1)
            for p in range(p0, p1):
                at = (sample * places + p) * channels + c0
                for c in range(wide):
                    site = where[at + c]
                    if site >= 0:
                        out[np.uint64((sample * sites + site) * channels + c0 + c)] += values[at + c]
        for site in range(filled, sites):
            to = (sample * sites + site) * channels + c0
            out[to : to + wide] = 0


@kernel()
def take_values(dy, index, dx):
    samples, places, channels = dx.shape
    for q in prange(samples * places):
        sample, p = q // places, q % places
        where = index[sample, p]
        out = dx[sample, p]
        for c in range(channels):
            out[c] = dy[sample, where[c], c] if where[c] >= 0 else 0
