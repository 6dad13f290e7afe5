"""Which class has the greatest score: all that most metrics ask of the outputs of a network."""

from __future__ import annotations

import numpy as np
from numba import prange

from spherecnn.kernels.jit import kernel
from spherecnn.kernels.op import op

Array = np.ndarray
CHUNK = 1024
MOST_SMALL = 256  # classes that one byte numbers


@op
def argmax(scores: Array) -> Array:
    """Return the class of each site with the greatest score, the first of several, as ``numpy.argmax``.

    Parameters
    ----------
    scores : ndarray (..., K)
        A NaN counts as the greatest.

    Returns
    -------
    ndarray (...)
        uint8 for up to 256 classes, else int32.

    Examples
    --------
    >>> argmax(np.array([[0.1, 0.7, 0.2], [2.0, 1.0, 2.0]]))
    array([1, 0], dtype=uint8)
    """
    return np.argmax(scores, axis=-1).astype(kind_of(scores.shape[-1]))


def kind_of(classes: int) -> type:
    """The dtype of class numbers."""
    return np.uint8 if classes <= MOST_SMALL else np.int32


@argmax.on("cpu")
def _argmax(scores: Array) -> Array:
    classes = scores.shape[-1]
    found: Array = np.empty(scores.shape[:-1], kind_of(classes))
    if found.size:
        _argmax_rows(np.ascontiguousarray(scores).reshape(-1, classes), found.reshape(-1))
    return found


@kernel()
def _argmax_rows(scores, found):
    for k in prange((len(found) + CHUNK - 1) // CHUNK):
        for r in range(k * CHUNK, min((k + 1) * CHUNK, len(found))):
            row = scores[r]
            best = 0
            for j in range(1, row.size):
                # Once the best is NaN nothing is above it.
                if row[j] > row[best] or (row[j] != row[j] and row[best] == row[best]):
                    best = j
            found[r] = best
