"""Which cases run on a GPU, and which of them on the simulated device too."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pytest


def on_devices(cases: Sequence[Any], simulated: Collection[str] = ()) -> Any:
    """Parametrise a test by `device` and `case`: all on the GPU, and those of these names on the simulated device.

    Examples
    --------
    >>> on_devices([], ()).name
    'parametrize'
    """
    unknown = set(simulated) - {case.name for case in cases}
    assert not unknown, f"no cases of these names: {sorted(unknown)}"
    pairs = [pytest.param("gpu", case, marks=pytest.mark.gpu, id=f"gpu-{case.name}") for case in cases]
    pairs += [pytest.param("simulated", c, id=f"simulated-{c.name}") for c in cases if c.name in simulated]
    return pytest.mark.parametrize(("device", "case"), pairs, indirect=["device"])


on_both = pytest.mark.parametrize(
    "device", [pytest.param("gpu", marks=pytest.mark.gpu), "simulated"], indirect=["device"]
)
"""Parametrise a test that is small enough for the simulator."""
