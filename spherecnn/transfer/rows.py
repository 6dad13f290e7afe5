"""Kernels of single rows: started from a planar kernel by geometry, then solved for by least squares."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.linalg

from spherecnn.errors import InputError, check_array
from spherecnn.layers.base import Array
from spherecnn.stencils import Stencil
from spherecnn.stencils.tangent_rows import projection
from spherecnn.transfer.exact import indices

# Inputs of so many samples are held at a time.
SAMPLES = 2048


def project_rows(layer: Any, weight: Array, bias: Array | None = None) -> None:
    r"""Set the kernel of every row group to a planar kernel laid on the tangent plane of the group's middle row.

    .. math:: w^{(g)} = P_g\, w

    with P from `stencils.tangent_rows.projection`. What falls outside the row's kernel is left out.

    Source: Su and Grauman, Kernel Transformer Networks, CVPR 2019, section 3.2.

    Parameters
    ----------
    layer : SphConv2d
    weight : ndarray (k, k, in / groups, out)
        Planar kernel.
    bias : ndarray (out,), optional

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> layer = sc.layers.SphConv2d(1, 1, grid=sc.grids.Equirect(16), bias=False)
    >>> project_rows(layer, np.ones((3, 3, 1, 1)))
    >>> layer.kernel(8).sum().round(2), layer.sizes[0], layer.kernel(0).sum().round(2)
    (np.float32(8.92), (5, 11), np.float32(6.56))
    """
    k = weight.shape[0]
    if weight.ndim != 4 or weight.shape[1] != k or weight.shape[2:] != layer.weight.value.shape[1:]:
        reads, makes = layer.weight.value.shape[1:]
        raise InputError(
            f"the planar kernel has shape {weight.shape}; expected (k, k, {reads}, {makes}) for this layer: give the "
            "weight of a square planar kernel."
        )
    for group, size in enumerate(layer.sizes):
        centres = layer.centres(group)
        matrix = projection(layer.grid, centres[len(centres) // 2], k, size)
        own = layer.kernel(group)
        own[...] = (matrix @ weight.reshape(k * k, -1)).reshape(own.shape)
    if bias is not None:
        layer.bias.value[...] = bias


def fit_rows(
    layer: Any,
    features: Array,
    targets: Array,
    rows: Sequence[int] | Array | None = None,
    columns: Sequence[int] | Array | None = None,
    *,
    ridge: float = 0.03,
) -> None:
    r"""Set the kernels and biases of a layer to those that reproduce given outputs best, row group by row group.

    The error of a row group g is quadratic in its kernel, so its minimum is solved for instead of descended to:

    .. math:: \min_{w, b} \sum_s \lVert x_s w + b - t_s \rVert^2
        + \rho\, \tfrac{\mathrm{tr}\, G}{D} \lVert w - w_0 \rVert^2,
        \qquad G = \sum_s (x_s - \bar x)^\top (x_s - \bar x)

    with x the D inputs that the kernel reads at a sample, w_0 the kernel as it stands, and sums in float64. Row groups
    without samples stay as they are.

    Source: the loss of Su and Grauman, NIPS 2017, section 3.3, there minimised by gradient descent.

    Parameters
    ----------
    layer : SphConv2d
        Any layer with kernels (taps, in / groups, out) on a `stencil`, `rows`, `taps_of` and a bias per row group.
    features : ndarray (N, H, W, C)
        Inputs of the layer.
    targets : ndarray (N, rows, columns, K)
        Outputs that it should give, as from `exact`.
    rows, columns : sequence of int, optional
        Where the targets stand in the output; everywhere by default.
    ridge : float
        rho.

    Raises
    ------
    InputError
        If shapes do not fit or ridge is negative.

    Examples
    --------
    A layer finds the kernels that made its targets.

    >>> import numpy as np, spherecnn as sc
    >>> one, other = (sc.layers.SphConv2d(2, 3, grid=sc.grids.Equirect(8), rng=i).astype("float64") for i in (0, 1))
    >>> x = np.random.default_rng(0).standard_normal((30, 8, 16, 2))
    >>> fit_rows(one, x, other(x), ridge=0)
    >>> bool(np.allclose(one.weight.value, other.weight.value))
    True
    """
    stencil = layer.stencil
    height, width = stencil.shape_out
    rows, columns = indices("rows", rows, height), indices("columns", columns, width)
    check_array("features", features, "N, H, W, C", layer.dtype)
    check_array("targets", targets, "N, rows, columns, K", layer.dtype)
    wanted = (len(features), len(rows), len(columns), layer.weight.value.shape[-1])
    if targets.shape != wanted or layer.out_shape(features.shape)[0] != len(features):
        raise InputError(f"targets have shape {targets.shape}; expected {wanted}, outputs at these rows and columns.")
    if not ridge >= 0:
        raise InputError(f"ridge is {ridge}; expected a number of at least 0: change it.")
    sources = _row_sources(stencil)
    group_of = np.asarray(layer.rows)
    flat = features.reshape(len(features), -1, features.shape[3])
    for group in np.unique(group_of[rows]):
        taps = layer.taps_of(int(group))
        picked = np.flatnonzero(group_of[rows] == group)
        reads = [(sources[int(rows[i])][:, columns], targets[:, i]) for i in picked]
        for part in range(layer.groups):
            _solve(layer, int(group), part, taps, _Sums(flat, reads, layer.groups, part), ridge)


class _Sums:
    """Sums over the samples of a row group, for one group of channels: G and x t, both about their means."""

    def __init__(self, flat: Array, reads: list[tuple[Array, Array]], groups: int, part: int):
        self.count = 0
        for x, t in _samples(flat, reads, groups, part):
            x, t = x.astype(np.float64), t.astype(np.float64)
            if not self.count:
                self.x, self.t = np.zeros(x.shape[1]), np.zeros(t.shape[1])
                self.xx, self.xt = np.zeros((x.shape[1], x.shape[1])), np.zeros((x.shape[1], t.shape[1]))
            self.count += len(x)
            self.x += x.sum(axis=0)
            self.t += t.sum(axis=0)
            self.xx += x.T @ x
            self.xt += x.T @ t

    def centre(self) -> None:
        """Subtract the means."""
        self.xx -= np.outer(self.x, self.x) / self.count
        self.xt -= np.outer(self.x, self.t) / self.count


def _samples(flat: Array, reads: list[tuple[Array, Array]], groups: int, part: int) -> Iterator[tuple[Array, Array]]:
    """Yield inputs (samples, taps * C) and targets (samples, K) of one group of channels."""
    c, k = flat.shape[2] // groups, reads[0][1].shape[-1] // groups
    own_x, own_t = slice(part * c, part * c + c), slice(part * k, part * k + k)
    for source, target in reads:
        at = np.where(source < 0, 0, source).T
        step = max(1, SAMPLES // len(at))
        for first in range(0, len(flat), step):
            x = flat[first : first + step, :, own_x][:, at]
            x[:, source.T < 0] = 0
            yield x.reshape(-1, at.shape[1] * c), target[first : first + step, :, own_t].reshape(-1, k)


def _solve(layer: Any, group: int, part: int, taps: slice, sums: _Sums, ridge: float) -> None:
    k = layer.weight.value.shape[-1] // layer.groups
    own = slice(part * k, part * k + k)
    before = layer.weight.value[taps, :, own].astype(np.float64)
    start = before.reshape(-1, k)
    if layer.bias is not None:
        sums.centre()
    size = len(start)
    damping = ridge * np.trace(sums.xx) / size
    right = sums.xt - sums.xx @ start
    matrix = sums.xx + damping * np.eye(size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", scipy.linalg.LinAlgWarning)
            found = start + scipy.linalg.solve(matrix, right, assume_a="pos")
    except (scipy.linalg.LinAlgError, scipy.linalg.LinAlgWarning):
        # Inputs that are zero or repeat each other: of all solutions the one nearest to the start.
        found = start + scipy.linalg.lstsq(matrix, right, lapack_driver="gelsy")[0]
    layer.weight.value[taps, :, own] = found.reshape(before.shape)
    if layer.bias is not None:
        layer.bias.value[group, own] = (sums.t - sums.x @ found) / sums.count


def _row_sources(stencil: Stencil) -> list[Array]:
    """For each output row the input sites (taps, W) that its taps read, in the order of the taps; -1 reads zero."""
    width = stencil.shape_out[1]
    found: list[dict[int, Array]] = [{} for _ in range(stencil.shape_out[0])]
    for out, tap, source in stencil.slots():
        row, column = np.divmod(out, width)
        found[row[0]].setdefault(tap, np.full(width, -1))[column] = source
    return [np.stack([row[tap] for tap in sorted(row)]) for row in found]
