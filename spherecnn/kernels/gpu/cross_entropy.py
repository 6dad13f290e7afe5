"""CUDA body of cross-entropy: a team of 1 to 32 lanes for each site, as in `softmax`.

A label that is no class cannot be refused without waiting for the GPU: it makes both sums NaN, and the gradient of its
site too, so that nothing is trained by it unseen. `training.losses` looks at labels while they are on the host.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.kernels import loss
from spherecnn.kernels.cuda import cuda, device_function, float32, int32
from spherecnn.kernels.gpu import elementary
from spherecnn.kernels.gpu.array import DeviceArray, empty
from spherecnn.kernels.gpu.elements import THREADS, check_float32, check_size, vectors
from spherecnn.kernels.gpu.intrinsics import divide, ld1, st1
from spherecnn.kernels.gpu.launch import blocks_for, gpu_kernel
from spherecnn.kernels.gpu.loss import WEIGHTS, weight_at, weights_for
from spherecnn.kernels.gpu.reduce import MOST_BLOCKS, Parts, block_sum
from spherecnn.kernels.gpu.softmax import (
    HELD,
    higher,
    read_neighbours,
    read_spread,
    team_max,
    team_sum,
    write_neighbours,
    write_spread,
)

Array = DeviceArray
KINDS = f"f4* i4* f4* i4 f4 f4* f4* i4 i4 i4 i4 {WEIGHTS}"
LOW, NAN = float("-inf"), float("nan")


@device_function
def class_weight_at(class_weight, weighted, k, classes):
    """The weight of a class; 0 of what is none."""
    if k >= classes:
        return float32(0)
    return ld1(class_weight, k) if weighted != 0 else float32(1)


@device_function
def gap(weight, top, x):
    """weight (top - x), of classes that count."""
    return weight * (top - x) if weight > float32(0) else float32(0)


@device_function
def label_of(labels, site, sites, ignore):
    """The label of a site; that of an ignored one beyond the last."""
    return ld1(labels, site) if site < sites else ignore


@device_function
def leave_sums(sums, total, normaliser):
    """Sum the totals and the normalisers that the threads of a block have found."""
    total, normaliser = block_sum(total), block_sum(normaliser)
    if cuda.threadIdx.x == 0:
        st1(sums, int32(cuda.blockIdx.x), total)
        st1(sums, int32(cuda.gridDim.x + cuda.blockIdx.x), normaliser)


def _short(neighbours: int) -> Any:
    """The kernel of at most HELD classes a lane, which are read and written once."""
    read, write = (read_neighbours, write_neighbours) if neighbours else (read_spread, write_spread)
    each = HELD if neighbours else 1
    moves = ("LDG.E.128", "STG.E.128") if neighbours else ()

    @gpu_kernel(KINDS, threads=THREADS, constants=(neighbours,), claims=moves)
    def cross_entropy_short(
        logits, labels, class_weight, weighted, smoothing, dlogits, sums, sites, classes, ignore, team,
        weight, mode, mi, si, period, mp, sp,
    ):  # fmt: skip
        lanes = int32(1 << team)
        lane = int32(cuda.threadIdx.x & (lanes - 1))
        one = int32(1) if neighbours else lanes
        k0 = int32(lane * each)
        k1, k2, k3 = int32(k0 + one), int32(k0 + 2 * one), int32(k0 + 3 * one)
        v0, v1 = (
            class_weight_at(class_weight, weighted, k0, classes),
            class_weight_at(class_weight, weighted, k1, classes),
        )
        v2, v3 = (
            class_weight_at(class_weight, weighted, k2, classes),
            class_weight_at(class_weight, weighted, k3, classes),
        )
        every = divide(smoothing, float32(classes))
        whole = every * team_sum((v0 + v1) + (v2 + v3), lanes)
        total, normaliser = float32(0), float32(0)
        first = int32((cuda.blockIdx.x * THREADS) >> team)
        while first < sites:  # all threads of a block alike
            site = int32(first + (int32(cuda.threadIdx.x) >> team))
            label = label_of(labels, site, sites, ignore)
            counts = label != ignore
            known = label >= 0 and label < classes
            row = int32(site * classes)
            a, b, c, d = read(logits, row, k0, lanes, classes if counts else int32(0), float32(LOW))
            top = team_max(higher(higher(a, b), higher(c, d)), lanes)
            e0, e1 = elementary.exp(a - top), elementary.exp(b - top)
            e2, e3 = elementary.exp(c - top), elementary.exp(d - top)
            grown = team_sum((e0 + e1) + (e2 + e3), lanes)
            smooth = float32(0)
            if smoothing > float32(0):
                smooth = team_sum((gap(v0, top, a) + gap(v1, top, b)) + (gap(v2, top, c) + gap(v3, top, d)), lanes)
            w = own = chosen = float32(0)
            if counts:
                w = weight_at(weight, mode, mi, si, period, mp, sp, site) if known else float32(NAN)
                own = class_weight_at(class_weight, weighted, label if known else int32(0), classes)
                chosen = ld1(logits, int32(row + (label if known else int32(0))))
            main = w * (float32(1) - smoothing) * own
            if counts and lane == 0:
                log_total = math.log(grown)
                total += main * (log_total + (top - chosen)) + w * (every * smooth + whole * log_total)
                normaliser += w * own
            scale = divide(main + w * whole, grown)
            rest = w * every
            e0, e1 = e0 * scale - rest * v0, e1 * scale - rest * v1
            e2, e3 = e2 * scale - rest * v2, e3 * scale - rest * v3
            e0, e1 = e0 - main if k0 == label else e0, e1 - main if k1 == label else e1
            e2, e3 = e2 - main if k2 == label else e2, e3 - main if k3 == label else e3
            if not counts:
                e0 = e1 = e2 = e3 = float32(0)
            write(dlogits, row, k0, lanes, classes if site < sites else int32(0), e0, e1, e2, e3)
            first = int32(first + ((cuda.gridDim.x * THREADS) >> team))
        leave_sums(sums, total, normaliser)

    return cross_entropy_short


@gpu_kernel(KINDS, threads=THREADS)
def cross_entropy_long(
    logits, labels, class_weight, weighted, smoothing, dlogits, sums, sites, classes, ignore, team,
    weight, mode, mi, si, period, mp, sp,
):  # fmt: skip
    lanes = int32(1 << team)
    lane = int32(cuda.threadIdx.x & (lanes - 1))
    every = divide(smoothing, float32(classes))
    whole, k = float32(0), lane
    while k < classes:
        whole += class_weight_at(class_weight, weighted, k, classes)
        k = int32(k + lanes)
    whole = every * team_sum(whole, lanes)
    total, normaliser = float32(0), float32(0)
    first = int32((cuda.blockIdx.x * THREADS) >> team)
    while first < sites:  # all threads of a block alike
        site = int32(first + (int32(cuda.threadIdx.x) >> team))
        label = label_of(labels, site, sites, ignore)
        counts = label != ignore
        known = label >= 0 and label < classes
        row, end = int32(site * classes), classes if counts else int32(0)
        top, grown, smooth, k = float32(LOW), float32(0), float32(0), lane
        while k < end:
            top = higher(top, ld1(logits, int32(row + k)))
            k = int32(k + lanes)
        top, k = team_max(top, lanes), lane
        while k < end:
            x = ld1(logits, int32(row + k))
            grown += elementary.exp(x - top)
            if smoothing > float32(0):
                smooth += gap(class_weight_at(class_weight, weighted, k, classes), top, x)
            k = int32(k + lanes)
        grown, smooth = team_sum(grown, lanes), team_sum(smooth, lanes)
        w = own = chosen = float32(0)
        if counts:
            w = weight_at(weight, mode, mi, si, period, mp, sp, site) if known else float32(NAN)
            own = class_weight_at(class_weight, weighted, label if known else int32(0), classes)
            chosen = ld1(logits, int32(row + (label if known else int32(0))))
        main = w * (float32(1) - smoothing) * own
        if counts and lane == 0:
            log_total = math.log(grown)
            total += main * (log_total + (top - chosen)) + w * (every * smooth + whole * log_total)
            normaliser += w * own
        scale, rest = divide(main + w * whole, grown), w * every
        k = lane if site < sites else classes
        while k < classes:
            slope = float32(0)
            if counts:
                slope = elementary.exp(ld1(logits, int32(row + k)) - top) * scale
                slope -= rest * class_weight_at(class_weight, weighted, k, classes)
                slope = slope - main if k == label else slope
            st1(dlogits, int32(row + k), slope)
            k = int32(k + lanes)
        first = int32(first + ((cuda.gridDim.x * THREADS) >> team))
    leave_sums(sums, total, normaliser)


SHORT = {neighbours: _short(neighbours) for neighbours in (0, 1)}


@loss.cross_entropy.on("cuda")
def _cross_entropy(
    logits: Array,
    labels: Array,
    weight: Array | None = None,
    class_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array, Array]:
    check_float32("cross_entropy", logits)
    check_size("cross_entropy", logits)
    if labels.dtype != np.int32:
        raise InputError(
            f"cross_entropy was given labels of {labels.dtype} on the GPU; expected int32: "
            "convert them before they go there."
        )
    classes, sites = logits.shape[-1], labels.size
    given = weights_for("cross_entropy", weight, labels.shape)
    if class_weight is not None:
        check_float32("cross_entropy", class_weight)
    dlogits = empty(logits.shape, logits.dtype)
    team = min((-(-classes // HELD) - 1).bit_length(), 5)
    sums = Parts(max(1, min(MOST_BLOCKS, blocks_for(sites << team, THREADS))), 2)
    whole = classes % HELD == 0 and vectors(logits.size, logits, dlogits) > 0
    kernel = SHORT[int(whole)] if classes <= HELD << team else cross_entropy_long
    kernel(
        sums.blocks,
        logits,
        labels,
        0 if class_weight is None else class_weight,
        int(class_weight is not None),
        float(label_smoothing),
        dlogits,
        sums.array,
        sites,
        classes,
        ignore_index,
        team,
        *given,
    )
    total, normaliser = sums.totals()
    return total, normaliser, dlogits
