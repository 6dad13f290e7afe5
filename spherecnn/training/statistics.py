"""What a task takes from the training data: weights of the classes, mean and spread of the values."""

from __future__ import annotations

import math

import numpy as np

from spherecnn.errors import InputError
from spherecnn.layers.base import Array
from spherecnn.training.data import Dataset, batches
from spherecnn.training.metrics import site_weights


def class_weights(
    data: Dataset, classes: int, *, area: Array | None = None, ignore_index: int = -100, batch_size: int = 32
) -> Array:
    r"""Weights that let every class count the same in the loss.

    .. math:: w_k = \frac{\sum_j n_j}{K\,n_k}

    with :math:`n_k` the samples of class k, or the area of its sites, and K the classes that occur. A class that
    does not occur has weight 0. scikit-learn calls this ``"balanced"``.

    Parameters
    ----------
    data : Dataset
        Its targets are class numbers.
    classes : int
        Number of classes.
    area : ndarray (P,), optional
        Weight of each site.
    ignore_index : int
        Targets of this value do not count.

    Returns
    -------
    ndarray (classes,)

    Raises
    ------
    InputError
        If a target is no class, or none counts.

    Examples
    --------
    >>> from spherecnn.training import ArrayDataset
    >>> class_weights(ArrayDataset(np.zeros((4, 1)), np.array([0, 0, 0, 1])), 3).round(2)
    array([0.67, 2.  , 0.  ])
    """
    amount = np.zeros(classes)
    for indices in batches(len(data), batch_size):
        _, target = data.batch(indices)
        counted = target != ignore_index
        found = target[counted]
        if found.size and (found.min() < 0 or found.max() >= classes):
            raise InputError(
                f"a target is class {found.min() if found.min() < 0 else found.max()}; "
                f"expected 0 to {classes - 1}: correct the labels or the number of classes."
            )
        amount += np.bincount(found, weights=site_weights(area, target.shape)[counted], minlength=classes)
    if not amount.any():
        raise InputError("no target counts; expected classes to weigh: check the labels and the ignored value.")
    present = amount > 0
    balanced = amount.sum() / (present.sum() * np.where(present, amount, 1))
    return np.where(present, balanced, 0.0)


def target_moments(data: Dataset, *, area: Array | None = None, batch_size: int = 32) -> tuple[float, float]:
    """Mean and standard deviation of the finite target values, weighted by area.

    The deviation is 1 where all values are equal.

    Raises
    ------
    InputError
        If no target is finite.

    Examples
    --------
    >>> from spherecnn.training import ArrayDataset
    >>> target_moments(ArrayDataset(np.zeros((3, 1)), np.array([[1.0], [3.0], [np.nan]])))
    (2.0, 1.0)
    """
    weight = mean = spread = 0.0
    for indices in batches(len(data), batch_size):
        _, target = data.batch(indices)
        finite = np.isfinite(target)
        if not finite.any():
            continue
        w = np.broadcast_to(site_weights(area, target.shape[:-1])[..., None], target.shape)[finite]
        values = target[finite].astype(np.float64)
        own = float(w.sum())
        own_mean = float(w @ values) / own
        # Chan, Golub and LeVeque: moments of the parts together, without cancellation.
        step, whole = own_mean - mean, weight + own
        spread += float(w @ (values - own_mean) ** 2) + step**2 * weight * own / whole
        mean, weight = mean + step * own / whole, whole
    if weight == 0:
        raise InputError("no target is finite; expected values to learn: check the labels and the missing value.")
    return mean, math.sqrt(spread / weight) or 1.0
