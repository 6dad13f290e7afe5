"""The transforms of Winograd's convolution: as matrices, and emitted as LLVM vector code.

F(m x m, 3x3) makes m x m outputs of a tile of n x n inputs, n = m + 2, by n x n products for each pair of channels:

    Y = A' [(G g G') * (B' d B)] A

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, equation 12. The points of
F(4x4) are 0, ±3/4, ±3/2 and infinity: exact in binary, and with a quarter of the error of the usual 0, ±1, ±2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba.extending import intrinsic

from spherecnn.kernels.vector import I64, INT, VOID, Emitter

SIZES = (4, 2)
NEAR, FAR = 0.75, 1.5
POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, NEAR, -NEAR, FAR, -FAR)}


@lru_cache
def matrices(m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A' (m, n), B' (n, n) and G (n, 3) of F(m, 3), by interpolation at `POINTS` and infinity.

    Examples
    --------
    >>> a, b, g = matrices(2)
    >>> d, kernel = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, -1.0])
    >>> a @ ((g @ kernel) * (b @ d))
    array([-2., -2.])
    """
    points = np.array(POINTS[m])
    n = m + 2
    a, b, g = np.zeros((m, n)), np.zeros((n, n)), np.zeros((n, 3))
    a[:, :-1] = points ** np.arange(m)[:, None]
    a[-1, -1] = 1
    for j, point in enumerate(points):
        others = np.delete(points, j)
        b[j, : n - 1] = np.poly(others)[::-1]
        g[j] = point ** np.arange(3) / np.prod(point - others)
    b[-1] = np.poly(points)[::-1]
    g[-1, -1] = 1
    return a, b, g


class _Line:
    """One-dimensional transforms of lists of vectors."""

    def __init__(self, e: Emitter, m: int):
        self.e, self.m = e, m

    def c(self, value: float) -> Any:
        return ir.Constant(self.e.vector, [value] * self.e.lanes)

    def input(self, d: list[Any]) -> list[Any]:
        """B' d."""
        b, fma, c = self.e.b, self.e.fma, self.c
        if self.m == 2:
            return [b.fsub(d[2], d[0]), b.fadd(d[1], d[2]), b.fsub(d[2], d[1]), b.fsub(d[3], d[1])]
        near, far = NEAR * NEAR, FAR * FAR
        p, q = fma(c(-far), d[2], d[4]), fma(c(-far), d[1], d[3])
        r, t = fma(c(-near), d[2], d[4]), fma(c(-near), d[1], d[3])
        return [
            fma(c(near * far), d[0], fma(c(-near - far), d[2], d[4])),
            fma(c(NEAR), q, p),
            fma(c(-NEAR), q, p),
            fma(c(FAR), t, r),
            fma(c(-FAR), t, r),
            fma(c(near * far), d[1], fma(c(-near - far), d[3], d[5])),
        ]

    def output(self, v: list[Any]) -> list[Any]:
        """A' v."""
        b, fma, c = self.e.b, self.e.fma, self.c
        if self.m == 2:
            return [b.fadd(v[0], b.fadd(v[1], v[2])), b.fadd(b.fsub(v[1], v[2]), v[3])]
        near, far = NEAR * NEAR, FAR * FAR
        s, d, t, f = b.fadd(v[1], v[2]), b.fsub(v[1], v[2]), b.fadd(v[3], v[4]), b.fsub(v[3], v[4])
        return [
            b.fadd(v[0], b.fadd(s, t)),
            fma(c(FAR), f, b.fmul(c(NEAR), d)),
            fma(c(far), t, b.fmul(c(near), s)),
            fma(c(far * FAR), f, fma(c(near * NEAR), d, v[5])),
        ]

    def gradient(self, y: list[Any]) -> list[Any]:
        """A y."""
        b, fma, c = self.e.b, self.e.fma, self.c
        if self.m == 2:
            return [y[0], b.fadd(y[0], y[1]), b.fsub(y[0], y[1]), y[1]]
        near, far = NEAR * NEAR, FAR * FAR
        even, odd = fma(c(near), y[2], y[0]), fma(c(near * NEAR), y[3], b.fmul(c(NEAR), y[1]))
        even2, odd2 = fma(c(far), y[2], y[0]), fma(c(far * FAR), y[3], b.fmul(c(FAR), y[1]))
        return [y[0], b.fadd(even, odd), b.fsub(even, odd), b.fadd(even2, odd2), b.fsub(even2, odd2), y[3]]


def _each_vector(e: Emitter, count: Any, body: Any) -> None:
    """Emit `body(c)` for the first element c of each of `count` vectors."""

    def step(i: Any, carried: list[Any]) -> list[Any]:
        body(e.b.mul(i, ir.Constant(I64, e.lanes)))
        return []

    e.repeat(count, [], step)


def spread_tile(m: int) -> Any:
    """Return the intrinsic of the input transform B' d B of one tile.

    ``spread(source, o0, v, v0, plane, vectors)`` reads the n x n sites at source.offset[o0:] and stores channel c
    of transform (i, j) at v[v0 + (i * n + j) * plane + c], for vectors * lanes channels.
    """
    n = m + 2

    @intrinsic
    def spread(typing, source, o0, v, v0, plane, vectors):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            x, x0, offset, _, _, _, _, _, zero = e.fields(0)
            x, offset, v = e.at(x, x0), e.at(offset, args[1]), e.at(e.data(2), args[3])
            line, plane = _Line(e, m), args[4]
            sites = [e.row(x, e.index(e.at(offset, i)), zero) for i in range(n * n)]

            def transform(c: Any) -> None:
                columns = [line.input([e.load(e.at(sites[i * n + j], c)) for i in range(n)]) for j in range(n)]
                out = e.at(v, c)
                for i in range(n):
                    for value in line.input([columns[j][i] for j in range(n)]):
                        e.store(value, out)
                        out = e.at(out, plane)

            _each_vector(e, args[5], transform)
            return context.get_dummy_value()

        return VOID(source, INT, v, INT, INT, INT), codegen

    return spread


def collect_tile(m: int) -> Any:
    """Return the intrinsic of the output transform A' v A of one tile, plus the bias.

    ``collect(products, v0, plane, bias, k0, sink, spare, vectors)`` reads transform (i, j) at
    products.array[v0 + (i * n + j) * plane:] and adds bias[k0:]; output (i, j) goes to the row of the sink's
    offset i * m + j, from its element k0 on, or to `spare` where that is negative. It stores past the caches, so
    sink rows and `spare` must be aligned to a vector: measured up to a fifth faster, also where the next layer reads
    the output at once.
    """
    n = m + 2

    @intrinsic
    def collect(typing, products, v0, plane, bias, k0, sink, spare, vectors):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            v, start, _ = e.fields(0)
            y, y0, target = e.fields(5)
            v, bias, y = e.at(v, start, args[1]), e.at(e.data(3), args[4]), e.at(y, y0, args[4])
            line, plane, spare = _Line(e, m), args[2], e.data(6)
            sites = [e.row(y, e.index(e.at(target, i)), spare) for i in range(m * m)]

            def transform(c: Any) -> None:
                at = e.at(v, c)
                rows = []
                for _ in range(n):
                    values = []
                    for _ in range(n):
                        values.append(e.load(at))
                        at = e.at(at, plane)
                    rows.append(line.output(values))
                added = e.load(e.at(bias, c))
                for j in range(m):
                    for i, value in enumerate(line.output([rows[i][j] for i in range(n)])):
                        e.stream(e.b.fadd(value, added), e.at(sites[i * m + j], c))

            _each_vector(e, args[7], transform)
            return context.get_dummy_value()

        return VOID(products, INT, INT, bias, INT, sink, spare, INT), codegen

    return collect


def spread_gradient_tile(m: int) -> Any:
    """Return the intrinsic of the transform A y A' of the output gradients of one tile, with their sum.

    ``spread(source, o0, v, v0, plane, total, vectors)`` reads the m x m sites at source.offset[o0:], stores as
    `spread_tile` does, and adds the sum over the sites to total[:vectors * lanes].
    """
    n = m + 2

    @intrinsic
    def spread(typing, source, o0, v, v0, plane, total, vectors):
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            e = Emitter(context, builder, signature, args)
            x, x0, offset, _, _, _, _, _, zero = e.fields(0)
            x, offset, v, total = e.at(x, x0), e.at(offset, args[1]), e.at(e.data(2), args[3]), e.data(5)
            line, plane = _Line(e, m), args[4]
            sites = [e.row(x, e.index(e.at(offset, i)), zero) for i in range(m * m)]

            def transform(c: Any) -> None:
                values = [e.load(e.at(site, c)) for site in sites]
                sums = values
                while len(sums) > 1:
                    sums = [e.b.fadd(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
                e.store(e.b.fadd(e.load(e.at(total, c)), sums[0]), e.at(total, c))
                columns = [line.gradient(values[j::m]) for j in range(m)]
                out = e.at(v, c)
                for i in range(n):
                    for value in line.gradient([columns[j][i] for j in range(m)]):
                        e.store(value, out)
                        out = e.at(out, plane)

            _each_vector(e, args[6], transform)
            return context.get_dummy_value()

        return VOID(source, INT, v, INT, INT, total, INT), codegen

    return spread
