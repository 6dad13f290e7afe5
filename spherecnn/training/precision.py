"""Average precision: how well scores put the sites of a class before all others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spherecnn.errors import InputError
from spherecnn.layers.base import Array
from spherecnn.training.meters import ClassMeter, Meter
from spherecnn.training.metrics import site_weights
from spherecnn.training.task import Segment

# Log-odds beyond this differ in nothing that a probability in float32 shows.
_FAR = 32.0
_BINS = 1 << 16


def average_precision(
    y: Array, target: Array, *, area: Array | None = None, ignore_index: int = -100
) -> tuple[Array, float]:
    r"""Average precision of each class against all others, over all sites at once, and the mean.

    .. math:: AP_k = \sum_i (R_i - R_{i-1})\,P_i

    with the precision :math:`P_i` and the recall :math:`R_i` of "log-odds of class k at least :math:`t_i`" for
    every threshold :math:`t_i` from the greatest down. Class scores y of different sites are compared as log-odds
    :math:`y_k - \log \sum_{j \ne k} e^{y_j}`, since the scores themselves are known up to a constant for each site.

    Parameters
    ----------
    y : ndarray (..., K)
        Class scores (logits).
    target : ndarray (...)
        True classes, integers.
    area : ndarray (P,), optional
        Weight of each site, in steradians; 1 each without it.
    ignore_index : int
        Targets of this value do not count.

    Returns
    -------
    each : ndarray (K,)
        NaN where a class is nowhere true.
    mean : float
        Over those that are.

    Raises
    ------
    InputError
        If shapes do not fit or a class is out of range.

    Notes
    -----
    Everingham et al., "The PASCAL visual object classes challenge", IJCV 2010, section 4.2, without interpolation,
    as ``sklearn.metrics.average_precision_score``.

    Examples
    --------
    >>> y = np.array([[0.0, 3.0], [0.0, 2.0], [0.0, 1.0]])
    >>> each, mean = average_precision(y, np.array([1, 0, 1]))
    >>> each.round(3), round(mean, 3)
    (array([0.5  , 0.833]), 0.667)
    """
    odds, true, weight = _counted(y, target, area, ignore_index)
    each = np.full(y.shape[-1], np.nan)
    for k in range(len(each)):
        order = np.argsort(-odds[:, k], kind="stable")
        found, values = (true == k)[order] * weight[order], odds[order, k]
        last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1) if len(values) else np.zeros(0, int)
        each[k] = _area_under(np.cumsum(found)[last], np.cumsum(weight[order])[last])
    return each, _mean(each)


class PrecisionMeter:
    """Scores of `ClassMeter`, and average precision over all batches together.

    Log-odds are counted in 65,536 bins from -32 to 32, so that a set of any size fits: thresholds closer than 0.001
    are one.
    """

    aside = True

    def __init__(self, area: Array | None, ignore_index: int, unscored: Sequence[int] = ()):
        self.area, self.ignore_index, self.unscored = area, ignore_index, list(unscored)
        self.classes = ClassMeter(area, ignore_index, unscored)
        self.amounts: Array | None = None

    def add(self, y: Array, target: Array) -> None:
        self.classes.add(y, target)
        target = np.where(np.isin(target, self.unscored), self.ignore_index, target)
        odds, true, weight = _counted(y, target, self.area, self.ignore_index)
        if self.amounts is None:
            self.amounts = np.zeros((2, y.shape[-1], _BINS))
        places = (np.clip((odds / _FAR + 1) / 2, 0, 1) * (_BINS - 1)).round().astype(np.int64)
        for k in range(y.shape[-1]):
            own = true == k
            self.amounts[0, k] += np.bincount(places[own, k], weight[own], _BINS)
            self.amounts[1, k] += np.bincount(places[:, k], weight, _BINS)

    def results(self) -> dict[str, Any]:
        if self.amounts is None:
            return {}
        found, whole = np.cumsum(self.amounts[..., ::-1], axis=-1)
        each = np.array([_area_under(*pair) for pair in zip(found, whole, strict=True)])
        each[self.unscored] = np.nan
        return self.classes.results() | {"average_precision": each, "mean_precision": _mean(each)}


class Detect(Segment):
    """A class for each site, where some are rare; the best epoch has the greatest mean average precision.

    Parameters as `Classify`.

    Examples
    --------
    >>> Detect().metrics
    ('mean_precision', 'mean_iou', 'mean_recall')
    """

    metrics = ("mean_precision", "mean_iou", "mean_recall")
    report = ("accuracy", "mean_precision", "mean_recall", "mean_iou", "average_precision", "recall", "iou")
    known = (*Segment.known, "average_precision", "mean_precision")
    criterion, goal = "mean_precision", "max"

    def meter(self) -> Meter:
        return PrecisionMeter(self.area, self.ignore_index, self.unscored)


def _counted(y: Array, target: Array, area: Array | None, ignore_index: int) -> tuple[Array, Array, Array]:
    """Log-odds (n, K), classes (n,) and weights (n,) of the sites that count."""
    target = np.asarray(target)
    if y.shape[:-1] != target.shape or y.shape[-1] < 2 or target.dtype.kind not in "iu":
        raise InputError(
            f"scores of shape {y.shape} meet targets of shape {target.shape} and dtype {target.dtype}; expected "
            "scores (..., K) of two or more classes and integers (...): match them."
        )
    counted = target != ignore_index
    true, scores = target[counted], y[counted].astype(np.float64)
    if true.size and (true.min() < 0 or true.max() >= y.shape[-1]):
        raise InputError(
            f"a target is class {true.min() if true.min() < 0 else true.max()}; expected 0 to {y.shape[-1] - 1}: "
            "correct the labels or the number of classes."
        )
    none = np.full((len(scores), 1), -np.inf)
    before = np.concatenate([none, np.logaddexp.accumulate(scores[:, :-1], axis=1)], axis=1)
    after = np.concatenate([np.logaddexp.accumulate(scores[:, :0:-1], axis=1)[:, ::-1], none], axis=1)
    return scores - np.logaddexp(before, after), true, site_weights(area, target.shape)[counted]


def _area_under(found: Array, whole: Array) -> float:
    """Average precision from what is found and what is taken, summed from the greatest score down."""
    if not len(found) or found[-1] <= 0:
        return float("nan")
    precision = np.divide(found, whole, out=np.zeros(len(found)), where=whole > 0)
    return float(np.diff(found, prepend=0) @ precision / found[-1])


def _mean(each: Array) -> float:
    seen = each[~np.isnan(each)]
    return float(seen.mean()) if seen.size else float("nan")
