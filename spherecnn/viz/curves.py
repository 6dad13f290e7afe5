"""Learning curves as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any


def curves(rows: Sequence[dict[str, Any]]) -> Any:
    """Draw the losses, and each score that there is, against the epoch.

    Parameters
    ----------
    rows : sequence of dict
        ``History.rows`` of `spherecnn.training.fit`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    scores = [name.removeprefix("train_") for name in rows[0] if name.startswith("train_")] if rows else ["loss"]
    panels = [(name, (f"train_{name}", f"val_{name}")) for name in scores]
    panels = [(name, pair) for name, pair in panels if name == "loss" or _any(rows, pair)]
    figure = Figure(figsize=(5 * len(panels), 3.6), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, label, colour in zip(names, ("training", "validation"), ("#4c72b0", "#dd8452"), strict=True):
            points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), color=colour, label=label, marker="o", markersize=3)
        axes.set(xlabel="epoch", ylabel=title.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def _any(rows: Sequence[dict[str, Any]], names: tuple[str, str]) -> bool:
    return any(row.get(name) is not None for row in rows for name in names)


def curves_png(rows: Sequence[dict[str, Any]], dpi: int = 120) -> bytes:
    """Return the picture of `curves` as PNG bytes.

    Examples
    --------
    >>> row = {"train_loss": 1.0, "val_loss": None, "train_accuracy": None, "val_accuracy": None}
    >>> curves_png([{"epoch": 1, **row}])[1:4]
    b'PNG'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    figure = curves(rows)
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
