"""Errors against the latitude as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from spherecnn.errors import InputError

# Panels side by side, and the latitudes that are named.
COLUMNS, TICKS = 3, range(-90, 91, 30)


def latitude_curves(rows: Sequence[dict[str, Any]], before: str = "planar", after: str = "transferred") -> Any:
    """Draw the errors of each layer against the latitude, as shares of its outputs' size.

    Parameters
    ----------
    rows : sequence of dict
        ``Report.rows()`` of `spherecnn.transfer`: layer, row, lat (degrees), size, before, after.
    before, after : str
        What the two curves are called.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If there are no rows.

    Examples
    --------
    >>> row = {"layer": "conv", "row": 0, "lat": 45.0, "size": 1.0, "before": 0.5, "after": 0.1}
    >>> len(latitude_curves([row, row | {"row": 1, "lat": -45.0}]).axes)
    1
    """
    from matplotlib.figure import Figure

    layers = list(dict.fromkeys(row["layer"] for row in rows))
    if not layers:
        raise InputError("there are no errors to draw; expected some rows: measure on panoramas first.")
    columns = min(COLUMNS, len(layers))
    lines = -(-len(layers) // columns)
    figure = Figure(figsize=(4 * columns, 3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    for panel, layer in zip(panels, layers, strict=False):
        own = [row for row in rows if row["layer"] == layer]
        lat, size = (np.array([row[key] for row in own], float) for key in ("lat", "size"))
        weight = np.cos(np.radians(lat))
        unit = np.sqrt((weight * size**2).sum() / weight.sum()) or 1.0
        for key, label, colour in (("before", before, "#4c72b0"), ("after", after, "#dd8452")):
            panel.plot(lat, [row[key] / unit for row in own], color=colour, label=label, marker="o", markersize=3)
        panel.set(title=layer, xlabel="latitude", ylabel="error / size of outputs", xlim=(-90, 90), ylim=(0, None))
        panel.set_xticks(TICKS, [f"{abs(t)}°{'S' if t < 0 else 'N' if t else ''}" for t in TICKS])
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.3)
    for panel in panels[len(layers) :]:
        panel.remove()
    panels[0].legend(frameon=False)
    return figure
