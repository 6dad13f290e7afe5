"""Winograd's convolutions on the GPU: computed directly, on the same tiles.

Direct products on tensor cores should be faster than the transforms are; `convolve` never picks Winograd there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dw
from spherecnn.kernels.gpu.tables import kept
from spherecnn.kernels.winograd import winograd, winograd_dw
from spherecnn.stencils.base import Stencil
from spherecnn.stencils.table import table
from spherecnn.stencils.tiles import KERNEL, Tiles


@winograd.on("cuda")
def _winograd(x: Any, w: Any, b: Any, tiles: Any) -> Any:
    return gather_gemm(x, w, b, direct(tiles))


@winograd_dw.on("cuda")
def _winograd_dw(x: Any, dy: Any, tiles: Any) -> Any:
    return gather_gemm_dw(x, dy, direct(tiles))


def direct(tiles: Tiles) -> Stencil:
    """The stencil of the 3x3 window that the tiles compute."""
    return kept(tiles, "direct", lambda: _direct(tiles))


def _direct(tiles: Tiles) -> Stencil:
    t, places = tiles.tables, tiles.places()  # (tile rows, tile columns, size + 2, size + 2)
    rows, columns = (np.arange(n) for n in (t.rows_out, t.columns_out))
    r, i = (part[:, None, None, None] for part in np.divmod(rows, t.size))
    q, j = (part[None, :, None, None] for part in np.divmod(columns, t.size))
    taps = np.arange(KERNEL)
    sources = places[r, q, i + taps[:, None], j + taps]
    return table(sources.reshape(-1, KERNEL * KERNEL), (tiles.sites_in,))
