"""Comparisons of results on a device with float64 on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
from op_cases import OpCase, resolved, widened

from spherecnn.kernels.op import OPS

FLOOR = 1e-30


def values(results: Any) -> list[Any]:
    """All arrays and numbers of a result and of lists in it, in order, on the host; None stays."""
    if isinstance(results, (tuple, list)):
        return [value for part in results for value in values(part)]
    if results is None or isinstance(results, np.ndarray):
        return [results]
    if hasattr(results, "__cuda_array_interface__"):
        from spherecnn.kernels.gpu.array import to_host

        return [to_host(results)]
    return [np.asarray(results)]


def arrays_in(args: Any) -> list[Any]:
    """All arrays among arguments, on either device, and in lists of them."""
    if isinstance(args, (tuple, list)):
        return [a for part in args for a in arrays_in(part)]
    return [args] if isinstance(args, np.ndarray) or hasattr(args, "__cuda_array_interface__") else []


def definition_of(case: OpCase) -> tuple[Any, list[np.ndarray]]:
    """What the definition makes of a case in float64: the results, and the arrays after the call."""
    args = widened(case.args())
    with np.errstate(all="ignore"):
        return OPS[case.op].definition(*resolved(args)), arrays_in(args)


def error_of(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest element; infinite where one is finite and the other is not."""
    if got.shape != expected.shape:
        return np.inf
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(got)) or not np.array_equal(np.isnan(expected), np.isnan(got)):
        return np.inf
    if not finite.any():
        return 0.0
    off = np.abs(got[finite].astype(np.float64) - expected[finite].astype(np.float64)).max()
    return float(off / max(np.abs(expected[finite].astype(np.float64)).max(), FLOOR))


def compare(name: str, results: Any, expected: Any, rtol: float) -> float:
    """Assert that all values agree, integers and booleans exactly; return the largest relative error."""
    got, wanted = values(results), values(expected)
    assert len(got) == len(wanted), f"{name}: {len(got)} values; the definition has {len(wanted)}"
    worst = 0.0
    for i, (one, other) in enumerate(zip(got, wanted, strict=True)):
        assert (one is None) == (other is None), f"{name}: value {i} is {one}, by the definition {other}"
        if one is None:
            continue
        assert one.shape == other.shape, f"{name}: value {i} has shape {one.shape}, by the definition {other.shape}"
        if other.dtype.kind in "iub":
            assert np.array_equal(one, other), (
                f"{name}: value {i} differs in {np.sum(one != other)} of {one.size} places"
            )
            continue
        error = error_of(one, other)
        assert error <= rtol, f"{name}: value {i} is off by {error:.3g} of the largest; {rtol:g} is allowed"
        worst = max(worst, error)
    return worst
