"""Cases of ops that read the sites of a stencil, a matrix or a picture; see `op_cases.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse
from cases import pooled
from op_case import OpCase, Random, normal
from op_cases_stencils import PICTURES, POOLS, STENCILS

from spherecnn.kernels import pool
from spherecnn.stencils.tiles import adjoint_tiles, tiles


def gemm(kind: str, stencil: str, reads: int, makes: int, groups: int = 1, samples: int = 2) -> Any:
    """Arguments of `gather_gemm` and its gradients: each group reads and makes so many channels."""

    def make(rng: Random) -> tuple[Any, ...]:
        s = STENCILS[stencil]()
        x, dy = normal(rng, samples, s.sites_in, reads * groups), normal(rng, samples, s.sites_out, makes * groups)
        w = normal(rng, s.taps, reads, makes * groups) / np.float32(np.sqrt(s.taps * reads))
        if kind == "dx":
            return dy, w, s, groups
        if kind == "dw":
            return x, dy, s, groups
        b = None if kind == "plain" else normal(rng, *((s.biases,) if s.biases > 1 else ()), makes * groups)
        return x, w, b, s, groups

    return make


def gemm_cases() -> Iterator[OpCase]:
    sizes = [("circular", 3, 5, 1), ("circular", 4, 16, 1), ("sphere", 8, 8, 1), ("strided", 9, 17, 1)]
    sizes += [("dilated", 4, 3, 2), ("point", 7, 10, 1), ("tangent", 4, 5, 1), ("faces", 3, 16, 1)]
    sizes += [("north", 4, 5, 1), ("mesh", 4, 6, 1), ("latitude", 3, 4, 1), ("video", 3, 4, 1)]
    for stencil, reads, makes, groups in sizes:
        label = f"{stencil}-{reads}-{makes}" + f"-{groups}" * (groups > 1)
        for op, kind in (("gather_gemm", "y"), ("gather_gemm_dx", "dx"), ("gather_gemm_dw", "dw")):
            yield OpCase(op, label, gemm(kind, stencil, reads, makes, groups))
    for stencil, reads, makes in (("circular", 4, 68), ("tangent", 4, 36), ("north", 4, 36), ("mesh", 4, 36)):
        for op, kind in (("gather_gemm", "y"), ("gather_gemm_dx", "dx"), ("gather_gemm_dw", "dw")):
            yield OpCase(op, f"{stencil}-{reads}-{makes}", gemm(kind, stencil, reads, makes, samples=1))
    rectified = gemm("y", "circular", 4, 8)
    yield OpCase("gather_gemm", "rectified", lambda rng: (*rectified(rng), True))
    yield OpCase("gather_gemm", "plain", gemm("plain", "circular", 4, 4))
    wide = [("wide", c, k, 1) for c, k in ((3, 32), (32, 32), (64, 64), (128, 128), (256, 256), (20, 43), (65, 130))]
    wide += [(name, 32, 32, 1) for name in ("wide_sphere", "wide_strided", "wide_tangent", "wide_faces", "wide_north")]
    wide += [(name, 32, 48, 1) for name in ("wide_mesh", "wide_latitude", "wide_video")]
    wide += [("wide", 4, 4, 16), ("wide", 32, 32, 4), ("wide_point", 130, 10, 1), ("wide_point", 512, 512, 1)]
    for stencil, reads, makes, groups in wide:
        label = f"{stencil}-{reads}-{makes}" + f"-{groups}" * (groups > 1)
        for op, kind in (("gather_gemm", "y"), ("gather_gemm_dx", "dx"), ("gather_gemm_dw", "dw")):
            yield OpCase(op, label, gemm(kind, stencil, reads, makes, groups), tiny=False)


def winograd_cases() -> Iterator[OpCase]:
    def made(op: str, cutter: Any, picture: str, size: int, reads: int, makes: int) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            s = PICTURES[picture]()
            cut = cutter(s, size)
            x, dy = normal(rng, 2, s.sites_in, reads), normal(rng, 2, s.sites_out, makes)
            w = normal(rng, 9, reads, makes) / np.float32(3 * np.sqrt(reads))
            return (x, w, normal(rng, makes), cut) if op == "winograd" else (x, dy, cut)

        return make

    for size in (2, 4):
        for picture, reads, makes, tiny in (
            ("circular", 16, 16, True),
            ("sphere", 16, 32, True),
            ("wide", 64, 64, False),
            ("wide_sphere", 32, 48, False),
        ):
            for op in ("winograd", "winograd_dw"):
                label = f"{size}-{picture}-{reads}-{makes}"
                yield OpCase(op, label, made(op, tiles, picture, size, reads, makes), tiny)
        adjoint = made("winograd", adjoint_tiles, "circular", size, 16, 16)
        yield OpCase("winograd", f"{size}-adjoint", adjoint)


def site_cases() -> Iterator[OpCase]:
    """Depthwise convolution, blending, pooling, unpooling, sparse products."""

    def depthwise_args(stencil: str, c: int, kind: str) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            s = STENCILS[stencil]()
            x, w, b = normal(rng, 2, s.sites_in, c), normal(rng, s.taps, c), normal(rng, c)
            if kind == "dw":
                return x, normal(rng, 2, s.sites_out, c), s
            return x, w, b if kind == "y" else None, s

        return make

    for stencil, c, tiny in (
        ("circular", 3, True),
        ("sphere", 8, True),
        ("strided", 5, True),
        ("pairs", 3, True),
        ("faces", 4, True),
        ("wide", 64, False),
        ("wide", 33, False),
        ("wide_strided", 18, False),
        ("wide_faces", 32, False),
    ):
        yield OpCase("depthwise", f"{stencil}-{c}", depthwise_args(stencil, c, "y"), tiny)
        yield OpCase("depthwise", f"{stencil}-{c}-plain", depthwise_args(stencil, c, "plain"), tiny)
        yield OpCase("depthwise_dw", f"{stencil}-{c}", depthwise_args(stencil, c, "dw"), tiny)

    def pool_args(stencil: str, c: int, kind: str) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            s = POOLS[stencil]()
            x = normal(rng, 2, s.sites_in, c)
            if kind == "nan":
                x[0, 1] = np.nan
            if kind in ("y", "nan"):
                return x, s
            switch = pool.max_pool.definition(x, s)[1]
            return (normal(rng, *switch.shape), switch, s) if kind == "dx" else (switch, s)

        return make

    for stencil, c, tiny in (
        ("halves", 3, True),
        ("halves", 4, True),
        ("seam", 5, True),
        ("tangent", 4, True),
        ("faces", 3, True),
        ("vertices", 5, True),
        ("wide", 64, False),
        ("wide_tangent", 17, False),
    ):
        yield OpCase("max_pool", f"{stencil}-{c}", pool_args(stencil, c, "y"), tiny)
        yield OpCase("max_pool_dx", f"{stencil}-{c}", pool_args(stencil, c, "dx"), tiny)
        if "tangent" not in stencil:
            yield OpCase("switch_sites", f"{stencil}-{c}", pool_args(stencil, c, "switch"), tiny)
    yield OpCase("max_pool", "nan", pool_args("seam", 3, "nan"))

    def unpool_args(shape: tuple[int, int, int], sites: int, back: bool) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            index = rng.integers(-1, sites, shape, dtype=np.int32)
            return (normal(rng, shape[0], sites, shape[2]), index) if back else (normal(rng, *shape), index, sites)

        return make

    for shape, sites, tiny in (((2, 7, 3), 20, True), ((1, 6, 4), 5, True), ((3, 300, 37), 500, False)):
        yield OpCase("unpool", f"{shape[1]}-{shape[2]}", unpool_args(shape, sites, False), tiny)
        yield OpCase("unpool_dx", f"{shape[1]}-{shape[2]}", unpool_args(shape, sites, True), tiny)
    yield OpCase("unpool", "pooled", lambda rng: _pooled(rng, (2, 4, 6, 4)))

    def blend_args(c: int, kind: str) -> Any:
        return lambda rng: (normal(rng, 2, STENCILS[kind]().sites_in, c), STENCILS[kind]())

    for c, kind, tiny in ((3, "average", True), (4, "average", True), (17, "wide_average", False)):
        yield OpCase("blend", f"{kind}-{c}", blend_args(c, kind), tiny)

    def spmm_args(rows: int, columns: int, c: int, density: float) -> Any:
        def make(rng: Random) -> tuple[Any, ...]:
            matrix = scipy.sparse.random_array((rows, columns), density=density, rng=rng, format="csr")
            return scipy.sparse.csr_array(matrix.astype(np.float32)), normal(rng, 2, columns, c)

        return make

    for rows, columns, c, tiny in ((13, 9, 3, True), (9, 13, 4, True), (1500, 700, 33, False), (1500, 700, 64, False)):
        yield OpCase("spmm", f"{rows}-{columns}-{c}", spmm_args(rows, columns, c, 0.3 if tiny else 0.02), tiny)


def _pooled(rng: Random, shape: tuple[int, ...]) -> tuple[Any, ...]:
    index = pooled(shape, 3, 2, 1, padding_mode="circular")
    n, h, w, c = index.shape
    return normal(rng, n, h * w, c), index.reshape(n, h * w, c).astype(np.int32), shape[1] * shape[2]


def sample_cases() -> Iterator[OpCase]:
    def directions(rng: Random, sets: int, count: int) -> np.ndarray:
        xyz = rng.standard_normal((sets, count, 3))
        return (xyz / np.linalg.norm(xyz, axis=-1, keepdims=True)).astype(np.float32)

    def turn(rng: Random, count: int) -> np.ndarray:
        return np.linalg.qr(rng.standard_normal((count, 3, 3)))[0].astype(np.float32)

    for sets, turned, pole_rows in ((1, False, False), (2, True, False), (1, True, True)):
        label = f"{sets}-{turned}-{pole_rows}"
        yield OpCase(
            "sample_equirect",
            label,
            lambda rng, s=sets, t=turned, p=pole_rows: (
                normal(rng, 2, 5, 8, 3),
                directions(rng, s, 20),
                turn(rng, 2) if t else None,
                p,
            ),
        )
        if not pole_rows:
            yield OpCase(
                "sample_tangent",
                label,
                lambda rng, s=sets, t=turned: (
                    normal(rng, 2, 5, 4, 3),
                    directions(rng, s, 20),
                    (1.5, 0.8),
                    turn(rng, 2) if t else None,
                ),
            )
