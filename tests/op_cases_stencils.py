"""Stencils that `op_cases.py` names: each kind that an op may meet, small, and of a size that fills a GPU's tiles."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from spherecnn import stencils as st
from spherecnn.grids import Equirect, Icosphere, Polyhedron
from spherecnn.stencils.mesh_levels import mesh_pooling

SAME = ((1, 1), (1, 1))


def _window(shape: tuple[int, int], mode: str, *options: Any, **more: Any) -> Callable[[], Any]:
    return functools.cache(lambda: st.window(shape, *(options or ((3, 3),)), padding_mode=mode, **more))


def _latitude(shape: tuple[int, int], sizes: tuple[tuple[int, int], ...]) -> Callable[[], Any]:
    rows = tuple(min(i, len(sizes) - 1) for i in range(shape[0]))
    return functools.cache(lambda: st.latitude(shape, sizes, rows))


PICTURES: dict[str, Callable[[], Any]] = {
    "circular": _window((4, 6), "circular", padding=SAME),
    "sphere": _window((5, 8), "sphere", padding=SAME),
    "wide": _window((32, 64), "circular", padding=SAME),
    "wide_sphere": _window((33, 62), "sphere", padding=SAME),
}
"""3x3 windows of stride 1."""

STENCILS: dict[str, Callable[[], Any]] = {
    **PICTURES,
    "strided": _window((6, 7), "zeros", (2, 3), (2, 2), ((1, 1), (0, 0))),
    "pairs": _window((4, 6), "zeros", (2, 2), (1, 2)),
    "dilated": _window((5, 8), "zeros", (3, 3), (1, 1), ((2, 2), (2, 2)), (2, 2)),
    "point": functools.cache(lambda: st.pointwise((3, 5))),
    "tangent": functools.cache(lambda: st.tangent(Equirect(4))),
    "faces": functools.cache(lambda: st.spherephd(Polyhedron(0), "edge")),
    "north": functools.cache(lambda: st.spherephd(Polyhedron(1), orientation="north")),
    "mesh": functools.cache(lambda: st.mesh(Icosphere(0))),
    "latitude": _latitude((4, 8), ((1, 5), (3, 3))),
    "video": functools.cache(lambda: st.volume((2, 3, 4), (3, 3, 3), padding=(*SAME, (1, 1)), padding_mode="circular")),
    "average": functools.cache(lambda: st.tangent(Equirect(4), average=True)),
    "wide_strided": _window((33, 65), "zeros", (3, 3), (2, 2), SAME),
    "wide_point": functools.cache(lambda: st.pointwise((700,))),
    "wide_tangent": functools.cache(lambda: st.tangent(Equirect(32))),
    "wide_faces": functools.cache(lambda: st.spherephd(Polyhedron(4))),
    "wide_north": functools.cache(lambda: st.spherephd(Polyhedron(3), orientation="north")),
    "wide_mesh": functools.cache(lambda: st.mesh(Icosphere(4))),
    "wide_latitude": _latitude((16, 32), ((1, 9), (3, 5), (3, 3))),
    "wide_video": functools.cache(lambda: st.volume((4, 16, 32), (3, 3, 3), padding=(*SAME, (1, 1)))),
    "wide_average": functools.cache(lambda: st.tangent(Equirect(32), average=True)),
}

POOLS: dict[str, Callable[[], Any]] = {
    "halves": _window((4, 6), "zeros", (2, 2), (2, 2)),
    "seam": _window((4, 6), "circular", (3, 3), (2, 2), SAME),
    "tangent": functools.cache(lambda: st.tangent(Equirect(6), stride=(2, 2))),
    "faces": functools.cache(lambda: st.face_pooling(Polyhedron(1))),
    "vertices": functools.cache(lambda: mesh_pooling(Icosphere(1))),
    "wide": _window((64, 128), "zeros", (2, 2), (2, 2)),
    "wide_tangent": functools.cache(lambda: st.tangent(Equirect(32), stride=(2, 2))),
}
