"""The confusion matrix."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spherecnn.errors import InputError
from spherecnn.viz.figure import save


def confusion(
    counts: np.ndarray,
    classes: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
) -> Path:
    """Draw a confusion matrix: a row for each true class, a column for each predicted one.

    The cells show counts; their shade is the share of the row.

    Parameters
    ----------
    counts : ndarray (K, K)
        Samples of true class i that were predicted as class j.
    classes : sequence of str
        The K names.
    path : path
        The picture to write.
    title : str, optional
        Above the picture.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the shape does not fit the classes, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    counts, size = np.asarray(counts), len(classes)
    if counts.shape != (size, size):
        raise InputError(
            f"counts have shape {counts.shape} for {size} classes; expected ({size}, {size}): name every class once."
        )
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(3.0, 1.2 + 0.45 * size)
    figure = Figure(figsize=(side + 1.2, side), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(size, size):
        if counts[i, j]:
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, f"{counts[i, j]:g}", ha="center", va="center", fontsize=8, color=colour)
    longest = max((len(name) for name in classes), default=0)
    axes.set_xticks(range(size), classes, rotation=45 if longest > 3 else 0, ha="right" if longest > 3 else "center")
    axes.set_yticks(range(size), classes)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(shown, label="share of the true class", shrink=0.8)
    return save(figure, path)
