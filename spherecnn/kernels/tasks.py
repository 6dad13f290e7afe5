"""From the compact tables of a stencil to the element offsets that the tiles read, one task at a time."""

from __future__ import annotations

import numpy as np

from spherecnn.kernels.jit import kernel
from spherecnn.kernels.vector import SITES


@kernel(inline=True)
def spell(shift, base, channels, offset):
    """Write the element offsets of sites base + shift; negative where the base or the shift is."""
    if base < 0:
        offset[:] = -1
        return
    least, step = np.int32(base * channels), np.int32(channels)
    for s in range(len(offset)):
        offset[s] = least + shift[s] * step if shift[s] >= 0 else np.int32(-1)


@kernel(inline=True)
def task_room(tables):
    """Arrays for the offsets (slots x sites) and targets of any task."""
    room = (tables.most_sites + SITES - 1) // SITES * SITES
    return np.empty((tables.most_slots, room), np.int32), np.empty(room, np.int32)


@kernel(inline=True)
def spell_task(a, tables, channels_in, channels_out, offset, target):
    """Spell out task `a`: element offsets of sources (slot, site) and targets; return sites, slots and first slot.

    The last site is repeated up to a full tile: it is computed twice, to the same place.
    """
    n, first = 0, np.int64(tables.first[tables.task[a]])
    slots = tables.first[tables.task[a] + 1] - first
    for g in range(tables.task[a], tables.task[a + 1]):
        m, window = tables.size[g], slice(tables.start[g], tables.start[g] + tables.size[g])
        # Slices, since an index that is a sum keeps Numba from vectorising: it might be negative.
        spell(tables.column[tables.out_kind[g], window], tables.out_base[g], channels_out, target[n : n + m])
        for u in range(slots):
            at = tables.first[g] + u
            moved = slice(window.start + tables.shift[at], window.stop + tables.shift[at])
            spell(tables.column[tables.kind[at], moved], tables.base[at], channels_in, offset[u, n : n + m])
        n += m
    for p in range(n, (n + SITES - 1) // SITES * SITES):
        target[p] = target[n - 1]
        for u in range(slots):
            offset[u, p] = offset[u, n - 1]
    return n, slots, first
