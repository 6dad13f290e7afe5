"""What a data set is to the training loop, one held in memory, and the order of its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from spherecnn.errors import InputError, check_at_least

Array = np.ndarray


class Dataset(Protocol):
    """Samples that can be read in any order."""

    def __len__(self) -> int:
        """Number of samples."""

    def batch(self, indices: Array) -> tuple[Array, Array]:
        """Return (x, y) of these samples: x (n, ..., C) float32, y (n, ...)."""


class ArrayDataset:
    """Samples in memory.

    Parameters
    ----------
    x : ndarray (N, ..., C)
        Inputs.
    y : ndarray (N, ...)
        Targets: integer classes, or numbers to regress.
    classes : sequence of str, optional
        Names of the classes.

    Raises
    ------
    InputError
        If there are no samples or x and y differ in their number.

    Examples
    --------
    >>> data = ArrayDataset(np.zeros((5, 4, 8, 1), np.float32), np.arange(5))
    >>> len(data), data.batch(np.array([3, 1]))[1]
    (5, array([3, 1]))
    """

    def __init__(self, x: Array, y: Array, classes: Sequence[str] | None = None):
        if len(x) != len(y) or len(x) == 0:
            raise InputError(
                f"x holds {len(x)} samples and y holds {len(y)}; expected equal numbers of at least 1: "
                "pair each input with its target."
            )
        self.x, self.y = x, y
        self.classes = None if classes is None else list(classes)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Array) -> tuple[Array, Array]:
        return self.x[indices], self.y[indices]


class Subset:
    """Some samples of a data set, under their own numbers; other attributes are those of the whole."""

    def __init__(self, data: Any, indices: Array):
        self.data = data
        self.indices = np.asarray(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Array) -> tuple[Array, Array]:
        return self.data.batch(self.indices[indices])

    def __getattr__(self, name: str) -> Any:
        if name == "data":
            raise AttributeError(name)
        return getattr(self.data, name)


def split(data: Dataset, fraction: float = 0.2, seed: int = 0) -> tuple[Subset, Subset]:
    """Split a data set at random into training and validation parts.

    Parameters
    ----------
    data : Dataset
    fraction : float
        Share of the validation part, rounded to whole samples.
    seed : int
        Equal seeds give equal splits.

    Raises
    ------
    InputError
        If one of the parts would be empty.

    Examples
    --------
    >>> train, validation = split(ArrayDataset(np.zeros((10, 1)), np.arange(10)), 0.2)
    >>> len(train), len(validation)
    (8, 2)
    """
    held = round(len(data) * fraction)
    if not 0 < held < len(data):
        raise InputError(
            f"a share of {fraction} of {len(data)} samples leaves one part empty; "
            "expected a share between 0 and 1 with a sample on each side: change it or add samples."
        )
    order = np.random.default_rng(seed).permutation(len(data))
    return Subset(data, np.sort(order[held:])), Subset(data, np.sort(order[:held]))


def batches(samples: int, batch_size: int, rng: np.random.Generator | None = None) -> Iterator[Array]:
    """Yield the indices of each batch of an epoch, shuffled by `rng` or in order; the last may be smaller."""
    check_at_least("batch_size", batch_size, 1)
    order = np.arange(samples) if rng is None else rng.permutation(samples)
    for start in range(0, samples, batch_size):
        yield order[start : start + batch_size]
