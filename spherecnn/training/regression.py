"""Errors of values over the sphere: of a regression such as depth, and inside the holes of an inpainting."""

from __future__ import annotations

import math

import numpy as np

from spherecnn.errors import InputError
from spherecnn.training.losses import split_holes
from spherecnn.training.metrics import site_weights

Array = np.ndarray
Sums = dict[str, float]

ABSOLUTE = ("rmse", "mae")
RELATIVE = ("abs_rel", "sq_rel", "rmse_log", "delta1", "delta2", "delta3")
HOLE = ("hole_l1", "hole_l2", "hole_psnr")


def regression_errors(
    y: Array, target: Array, *, area: Array | None = None, mask: Array | None = None, least: float = 1e-3
) -> dict[str, float]:
    r"""Errors of predicted values, absolute and relative, each a mean weighted by area.

    With y the prediction, t the target and the mean over what counts:

    .. math::

        rmse = \sqrt{\overline{(y - t)^2}},\quad mae = \overline{|y - t|},\quad
        abs\_rel = \overline{|y - t| / t},\quad sq\_rel = \overline{(y - t)^2 / t},

        rmse\_log = \sqrt{\overline{(\ln y - \ln t)^2}},\quad
        delta_k = \overline{[\max(y / t,\ t / y) < 1.25^k]}

    Targets that are NaN or infinite do not count. The relative errors are for depths: they are NaN unless all
    targets that count are above 0. For the logarithm and the ratio, predictions below `least` are taken as that.

    Parameters
    ----------
    y, target : ndarray (...)
        Of equal shape.
    area : ndarray (P,), optional
        Weight of each site, in steradians, for (N, H, W, C) or (N, P, C); 1 each without it.
    mask : ndarray, optional
        Broadcasts to y; elements where it is 0 do not count.
    least : float
        Above 0, in the unit of the target.

    Returns
    -------
    dict
        "rmse", "mae", "abs_rel", "sq_rel", "rmse_log" and the shares "delta1", "delta2", "delta3"; NaN where
        nothing counts.

    Raises
    ------
    InputError
        If shapes do not fit.

    Notes
    -----
    Eigen, Puhrsch and Fergus, NIPS 2014: abs_rel, sq_rel, rmse, rmse_log and delta are the errors of their tables.

    Examples
    --------
    >>> found = regression_errors(np.array([[2.0], [3.0]]), np.array([[1.0], [np.nan]]))
    >>> found["rmse"], found["abs_rel"], found["delta3"]
    (1.0, 1.0, 0.0)
    """
    return errors_of(error_sums(y, target, area=area, mask=mask, least=least))


def error_sums(
    y: Array, target: Array, *, area: Array | None = None, mask: Array | None = None, least: float = 1e-3
) -> Sums:
    """Weighted sums that add up over batches; `errors_of` makes errors of them. Arguments as in `regression_errors`."""
    if y.shape != target.shape:
        raise InputError(f"predictions have shape {y.shape} and targets {target.shape}; expected equal: match them.")
    if not least > 0:
        raise InputError(f"least is {least}; expected a number above 0: change it.")
    weight = np.broadcast_to(site_weights(area, y.shape[:-1])[..., None], y.shape)
    counted = np.isfinite(target)
    if mask is not None:
        counted = counted & np.broadcast_to(np.asarray(mask) > 0, y.shape)
    w, p, t = weight[counted], y[counted].astype(np.float64), target[counted].astype(np.float64)
    off = p - t
    sums = {"weight": w.sum(), "rmse": (w * off**2).sum(), "mae": (w * np.abs(off)).sum()}
    positive = t > 0
    sums["not_positive"] = w[~positive].sum()
    w, p, t, off = w[positive], p[positive], t[positive], off[positive]
    sums |= {"abs_rel": (w * np.abs(off) / t).sum(), "sq_rel": (w * off**2 / t).sum()}
    log = np.log(np.maximum(p, least)) - np.log(t)
    sums["rmse_log"] = (w * log**2).sum()
    sums |= {f"delta{k}": (w * (np.abs(log) < k * math.log(1.25))).sum() for k in (1, 2, 3)}
    return {name: float(value) for name, value in sums.items()}


def errors_of(sums: Sums) -> dict[str, float]:
    """Errors from the sums of `error_sums`, such as those of all batches together."""
    whole = sums["weight"]
    relative = whole if sums["not_positive"] == 0 else 0.0
    found = {}
    for name in (*ABSOLUTE, *RELATIVE):
        weight = whole if name in ABSOLUTE else relative
        mean = sums[name] / weight if weight > 0 else math.nan
        found[name] = math.sqrt(mean) if name.startswith("rmse") else mean
    return found


def hole_errors(y: Array, target: Array, *, area: Array | None = None) -> dict[str, float]:
    r"""Errors inside the holes of an inpainting, means over pixels and channels weighted by area.

    .. math::

        hole\_l1 = \overline{|y - t|},\quad hole\_l2 = \overline{(y - t)^2},\quad
        hole\_psnr = -10 \log_{10} hole\_l2

    Parameters
    ----------
    y : ndarray (N, H, W, C)
        Pictures in [0, 1].
    target : ndarray (N, H, W, C + 1)
        The whole pictures and, as last channel, the holes: above 0 in a hole.
    area : ndarray (P,), optional
        As in `regression_errors`.

    Returns
    -------
    dict
        "hole_l1", "hole_l2" and "hole_psnr" in dB; NaN where there is no hole.

    Examples
    --------
    >>> target = np.array([[[1.0, 1.0], [0.0, 0.0]]])
    >>> hole_errors(np.full((1, 2, 1), 0.9), target)["hole_psnr"].__round__(6)
    20.0
    """
    return hole_errors_of(hole_sums(y, target, area=area))


def hole_sums(y: Array, target: Array, *, area: Array | None = None) -> Sums:
    """Weighted sums that add up over batches; `hole_errors_of` makes errors of them."""
    picture, holes = split_holes(y.shape, target)
    return error_sums(y, picture, area=area, mask=holes)


def hole_errors_of(sums: Sums) -> dict[str, float]:
    """Errors inside the holes from the sums of `hole_sums`."""
    if sums["weight"] <= 0:
        return dict.fromkeys(HOLE, math.nan)
    l1, l2 = sums["mae"] / sums["weight"], sums["rmse"] / sums["weight"]
    return {"hole_l1": l1, "hole_l2": l2, "hole_psnr": -10 * math.log10(l2) if l2 > 0 else math.inf}
