"""Classification scores over the sphere: accuracy, confusion matrix, intersection over union."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spherecnn.errors import InputError

Array = np.ndarray


def confusion(
    y: Array,
    target: Array,
    *,
    classes: int | None = None,
    area: Array | None = None,
    ignore_index: int = -100,
) -> Array:
    r"""Confusion matrix: rows are the truth, columns the prediction.

    .. math:: M_{ij} = \sum_s a_s\,[t_s = i]\,[\hat y_s = j]

    Parameters
    ----------
    y : ndarray
        Scores (..., K), whose largest is the prediction, or predicted classes (...), integers.
    target : ndarray (...)
        True classes, integers.
    classes : int, optional
        Number of classes K; needed with predicted classes.
    area : ndarray (P,), optional
        Weight a of each site, in steradians, for y (N, H, W, K) or (N, P, K); 1 each without it.
    ignore_index : int
        Targets of this value do not count.

    Returns
    -------
    ndarray (K, K), float64

    Raises
    ------
    InputError
        If shapes do not fit or a class is out of range.

    Examples
    --------
    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2)
    array([[1., 1.],
           [0., 1.]])
    """
    target = np.asarray(target)
    if y.ndim == target.ndim + 1:
        classes, y = y.shape[-1], np.argmax(y, axis=-1)
    if y.shape != target.shape or classes is None:
        raise InputError(
            f"predictions of shape {y.shape} meet targets of shape {target.shape} and {classes} classes; "
            "expected scores with one more axis, or classes of the same shape and their number: match them."
        )
    counted = target != ignore_index
    rows, columns = target[counted].astype(np.int64), y[counted].astype(np.int64)
    for name, index in (("target", rows), ("prediction", columns)):
        if index.size and (index.min() < 0 or index.max() >= classes):
            raise InputError(
                f"a {name} is class {index.min() if index.min() < 0 else index.max()}; "
                f"expected 0 to {classes - 1}: correct the labels or the number of classes."
            )
    weight = site_weights(area, target.shape)[counted]
    matrix = np.bincount(rows * classes + columns, weights=weight, minlength=classes * classes)
    return matrix.reshape(classes, classes)


def accuracy(
    y: Array,
    target: Array,
    *,
    classes: int | None = None,
    area: Array | None = None,
    ignore_index: int = -100,
) -> float:
    r"""Weighted share of right predictions; NaN when nothing counts. Arguments as in `confusion`.

    Examples
    --------
    >>> accuracy(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    0.5
    """
    return accuracy_of(confusion(y, target, classes=classes, area=area, ignore_index=ignore_index))


def iou(
    y: Array,
    target: Array,
    *,
    classes: int | None = None,
    area: Array | None = None,
    ignore_index: int = -100,
) -> tuple[Array, float]:
    r"""Intersection over union of each class and their mean. Arguments as in `confusion`.

    .. math:: IoU_k = M_{kk} / (\sum_j M_{kj} + \sum_i M_{ik} - M_{kk})

    A class that is neither true nor predicted anywhere is NaN and left out of the mean.

    Examples
    --------
    >>> iou(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2)
    (array([0.5, 0.5]), 0.5)
    """
    return iou_of(confusion(y, target, classes=classes, area=area, ignore_index=ignore_index))


def recall(
    y: Array,
    target: Array,
    *,
    classes: int | None = None,
    area: Array | None = None,
    ignore_index: int = -100,
) -> tuple[Array, float]:
    r"""Share of each class that is predicted as such, and the mean. Arguments as in `confusion`.

    .. math:: R_k = M_{kk} / \sum_j M_{kj}

    A class that is nowhere true is NaN and left out of the mean, which others call mean accuracy.

    Examples
    --------
    >>> recall(np.array([0, 1, 1]), np.array([0, 0, 1]), classes=2)
    (array([0.5, 1. ]), 0.75)
    """
    return recall_of(confusion(y, target, classes=classes, area=area, ignore_index=ignore_index))


def accuracy_of(matrix: Array) -> float:
    """Accuracy from a confusion matrix, such as a sum over batches."""
    total = matrix.sum()
    return float(np.trace(matrix) / total) if total > 0 else float("nan")


def iou_of(matrix: Array, unscored: Sequence[int] = ()) -> tuple[Array, float]:
    """Intersection over union of each class and their mean from a confusion matrix; unscored classes are NaN."""
    hit = np.diag(matrix)
    return _shares(hit, matrix.sum(0) + matrix.sum(1) - hit, unscored)


def recall_of(matrix: Array, unscored: Sequence[int] = ()) -> tuple[Array, float]:
    """Recall of each class and their mean from a confusion matrix; unscored classes are NaN."""
    return _shares(np.diag(matrix), matrix.sum(1), unscored)


def _shares(hit: Array, whole: Array, unscored: Sequence[int]) -> tuple[Array, float]:
    """hit / whole, NaN where a class does not occur or does not count, and the mean of the others."""
    seen = whole > 0
    seen[list(unscored)] = False
    each = np.divide(hit, whole, out=np.full(len(hit), np.nan), where=seen)
    return each, float(each[seen].mean()) if seen.any() else float("nan")


def site_weights(area: Array | None, shape: tuple[int, ...]) -> Array:
    """Spread the weights of the sites (P,) over targets (N, H, W) or (N, P); ones without an area."""
    if area is None:
        return np.broadcast_to(1.0, shape)
    sites = int(np.prod(shape[1:]))
    if len(shape) < 2 or area.size != sites:
        raise InputError(
            f"area has {area.size} sites and the targets have shape {shape}; "
            "expected targets (N, H, W) or (N, P) on the grid of the area: pass that grid's area, or none."
        )
    return np.broadcast_to(np.reshape(area, shape[1:]), shape)
