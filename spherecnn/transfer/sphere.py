"""From a planar network to the same network on the sphere."""

from __future__ import annotations

from typing import Any

from spherecnn.errors import check_choice
from spherecnn.grids import Equirect
from spherecnn.layers import Layer
from spherecnn.transfer.copying import copy_state, rebuilt

COPIED = ("circular", "sphere", "tangent")
METHODS = COPIED


def to_sphere(model: Layer, method: str, *, grid: Equirect | None = None) -> Any:
    """Carry a planar network over to the sphere.

    Examples
    --------
    >>> import spherecnn as sc
    >>> planar = sc.models.classifier("planar", 1, 10, sc.grids.Equirect(16), rng=0)
    >>> sphere = to_sphere(planar, "circular")
    >>> sphere.config["method"], bool((sphere.head.weight.value == planar.head.weight.value).all())
    ('circular', True)
    """
    check_choice("method", method, METHODS)
    sphere = rebuilt(model, method, grid)
    copy_state(model.state(), sphere)
    return sphere
