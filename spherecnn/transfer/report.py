"""How far a network is from the exact outputs, layer by layer and row by row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spherecnn.errors import InputError


@dataclass(frozen=True)
class LayerErrors:
    """Errors of one layer against the exact outputs, at each row of its output.

    Attributes
    ----------
    layer : str
    lat : ndarray (H,)
        Latitude of the rows, radians.
    size : ndarray (H,)
        Root mean square of the exact outputs about their mean over all rows, per channel: the unit of the errors.
    before, after : ndarray (H,)
        RMSE of the planar network on the panorama as it is, and of the transferred one.
    """

    layer: str
    lat: np.ndarray
    size: np.ndarray
    before: np.ndarray
    after: np.ndarray


@dataclass
class Report:
    """What a transfer did: which weights it copied and learned, and the errors of its layers.

    Attributes
    ----------
    method : str
    copied, learned : list of str
        Names of the arrays.
    errors : list of LayerErrors
        Of each convolution; empty without panoramas to measure on.
    pictures : (int, int)
        Panoramas that were learned from and measured on.

    Examples
    --------
    >>> Report("circular", ["weight"], []).rows()
    []
    """

    method: str
    copied: list[str]
    learned: list[str]
    errors: list[LayerErrors] = field(default_factory=list)
    pictures: tuple[int, int] = (0, 0)

    def rows(self) -> list[dict[str, Any]]:
        """The errors as a table with a row for each layer and row: layer, row, lat (degrees), size, before, after."""
        return [
            {
                "layer": e.layer,
                "row": i,
                "lat": float(np.degrees(e.lat[i])),
                "size": float(e.size[i]),
                "before": float(e.before[i]),
                "after": float(e.after[i]),
            }
            for e in self.errors
            for i in range(len(e.lat))
        ]

    def summary(self) -> list[dict[str, Any]]:
        """Errors of each layer as shares of the outputs' size, weighed by cos(lat): all rows, and above 60 degrees."""
        found = []
        for e in self.errors:
            line: dict[str, Any] = {"layer": e.layer}
            for name, mask in (("", np.ones(len(e.lat), bool)), ("_poles", np.abs(e.lat) > np.pi / 3)):
                unit = _mean(e.size, e.lat, np.ones(len(e.lat), bool))
                for when in ("before", "after"):
                    line[when + name] = _mean(getattr(e, when), e.lat, mask) / unit if mask.any() else float("nan")
            found.append(line)
        return found


def rmse_rows(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    r"""Root mean square difference of each row: (N, H, W, K) twice -> (H,).

    .. math:: e_i = \sqrt{\frac{1}{N W K} \sum_{n,j,k} (y_{n,i,j,k} - t_{n,i,j,k})^2}

    Examples
    --------
    >>> rmse_rows(np.ones((1, 2, 3, 1)), np.zeros((1, 2, 3, 1)))
    array([1., 1.])
    """
    if found.shape != exact.shape or found.ndim != 4:
        raise InputError(
            f"found has shape {found.shape} and exact {exact.shape}; expected two equal ones, (N, H, W, K)."
        )
    return np.sqrt(np.square(found.astype(np.float64) - exact).mean(axis=(0, 2, 3)))


def size_rows(exact: np.ndarray) -> np.ndarray:
    """Root mean square of exact outputs (N, H, W, K) about the mean of each channel, of each row: (H,)."""
    means = np.broadcast_to(exact.mean(axis=(0, 1, 2), dtype=np.float64), exact.shape)
    return rmse_rows(exact, means)


def _mean(values: np.ndarray, lat: np.ndarray, mask: np.ndarray) -> float:
    """Root of the mean square, weighed by cos(lat)."""
    weight = np.cos(lat[mask])
    return float(np.sqrt((weight * values[mask] ** 2).sum() / weight.sum()))
