"""Splits that keep the share of every class."""

from __future__ import annotations

import numpy as np

from spherecnn.errors import InputError


def stratified_split(labels: np.ndarray, held: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Divide samples in two, class by class.

    Parameters
    ----------
    labels : ndarray (n,)
        Class of each sample.
    held : float
        Share of each class in the second part, at least 0 and below 1. A class of two or more samples
        gives at least one to each part when the share is not 0; a single sample stays in the first.
    seed : int
        Equal seeds give equal splits.

    Returns
    -------
    kept, held : ndarray
        Sorted indices of the two parts.

    Examples
    --------
    >>> kept, held = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.25)
    >>> len(kept), len(held)
    (6, 2)
    """
    if not 0 <= held < 1:
        raise InputError(f"the held share is {held}; expected at least 0 and below 1: change it.")
    rng = np.random.default_rng(seed)
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        count = min(max(round(len(order) * held), 1), len(order) - 1) if held > 0 else 0
        parts[0].append(order[count:])
        parts[1].append(order[:count])
    kept, other = (np.sort(np.concatenate(part)) for part in parts)
    return kept, other
