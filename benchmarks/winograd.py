"""Rounding and speed of Winograd's convolution beside the direct one and torch's: python benchmarks/winograd.py

Errors are those of a circular 3x3 convolution against float64, in units of the largest value of the result; weights
are random with variance 1 / fan-in, inputs normal. Speed is the direct convolution's time over that of F(m x m), in
the forward pass and in the weight gradient, where ours chooses between them.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from spherecnn.bench import alternate, find_torch, images, machine
from spherecnn.kernels.gather_gemm import gather_gemm, gather_gemm_dw, gather_gemm_dx
from spherecnn.kernels.winograd import transform_weights, winograd, winograd_dw, winograd_transformed
from spherecnn.stencils import window
from spherecnn.stencils.tiles import adjoint_tiles, tiles

COLUMNS = (
    "channels",
    "rows",
    "columns",
    "result",
    "F(4x4)",
    "F(2x2)",
    "direct",
    "torch",
    "speed F(4x4)",
    "speed F(2x2)",
)
SHAPES = ((16, 2, 64, 128), (32, 2, 64, 128), (64, 2, 32, 64), (128, 2, 32, 64), (256, 2, 16, 32), (512, 2, 16, 32))
SHAPES += ((128, 8, 8, 16), (256, 8, 8, 16), (256, 8, 4, 8))


def rows(torch, c, n, h, w):
    """Three rows of the table: the output, the gradient of the input, that of the weights."""
    stencil = window((h, w), (3, 3), padding=((1, 1), (1, 1)), padding_mode="circular")
    x, dy = images(n, h * w, c), images(n, h * w, c, seed=1)
    weight = images(9, c, c, seed=2) / np.sqrt(9 * c).astype(np.float32)
    wide = [a.astype(np.float64) for a in (x, weight, dy)]
    exact = {
        "output": gather_gemm(*wide[:2], None, stencil),
        "input gradient": gather_gemm_dx(wide[2], wide[1], stencil),
        "weight gradient": gather_gemm_dw(wide[0], wide[2], stencil)[0],
    }
    found = {}
    for m in (4, 2):
        cut, back = tiles(stencil, m), adjoint_tiles(stencil, m)
        found[f"F({m}x{m})"] = (
            lambda cut=cut: winograd(x, weight, None, cut),
            lambda m=m, back=back: winograd_transformed(dy, transform_weights(weight, m, True), None, c, back),
            lambda cut=cut: winograd_dw(x, dy, cut)[0],
        )
    found["direct"] = (
        lambda: gather_gemm(x, weight, None, stencil),
        lambda: gather_gemm_dx(dy, weight, stencil),
        lambda: gather_gemm_dw(x, dy, stencil)[0],
    )
    peer = theirs(torch, x.reshape(n, h, w, c), dy.reshape(n, h, w, c), weight) if torch else None
    for i, (name, truth) in enumerate(exact.items()):
        works = [found[kind][i] for kind in ("F(4x4)", "F(2x2)", "direct")]
        results = [work() for work in works] + ([peer[i]] if peer else [])
        errors = [f"{np.abs(r.reshape(truth.shape) - truth).max() / np.abs(truth).max():.1e}" for r in results]
        times = alternate(works, turns=7)
        yield [c, h, w, name, *errors, *([] if peer else [""]), *(f"{times[2] / t:.2f}" for t in times[:2])]


def theirs(torch, x, dy, weight):
    """The same three results by torch in float32."""
    c = x.shape[3]
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    kernel = torch.from_numpy(np.ascontiguousarray(weight.reshape(3, 3, c, c).transpose(3, 2, 0, 1))).requires_grad_()
    padded = torch.nn.functional.pad(tx, (1, 1, 0, 0), mode="circular")
    y = torch.nn.functional.conv2d(padded, kernel, padding=(1, 0))
    dx, dw = torch.autograd.grad(y, (tx, kernel), torch.from_numpy(dy).permute(0, 3, 1, 2))
    pictures = [np.ascontiguousarray(a.detach().numpy().transpose(0, 2, 3, 1)) for a in (y, dx)]
    return [*pictures, np.ascontiguousarray(dw.numpy().transpose(2, 3, 1, 0))]


def main() -> None:
    torch = find_torch()
    out = Path(__file__).with_suffix(".csv")
    with out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for c, n, h, w in SHAPES:
            for row in rows(torch, c, n, h, w):
                writer.writerow(row)
                print("  ".join(str(v).rjust(9) for v in row), flush=True)
        file.write(f"# {machine(torch)}\n".replace(",", ";"))
    print(f"Wrote {out}.")


if __name__ == "__main__":
    main()
