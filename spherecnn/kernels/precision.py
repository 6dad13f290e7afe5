"""How exactly products are computed on a GPU: float32 unless it is said otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from spherecnn.errors import check_choice

PRECISIONS = ("float32", "tf32", "bf16")

_chosen: ContextVar[str] = ContextVar("precision", default="float32")


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    r"""Compute the products of convolutions and linear layers on a GPU in another precision, inside a with block.

    Arrays stay float32, and sums are float32 always. "tf32" rounds the factors to 10 digits (relative error of a
    factor :math:`2^{-11}`), "bf16" to 7 (:math:`2^{-8}`); both run on tensor cores. Forward and backward passes
    follow the block that they are called in. Arrays on the CPU are computed in their own type in any block.

    Parameters
    ----------
    name : {"float32", "tf32", "bf16"}

    Raises
    ------
    InputError
        If the name is another.

    Examples
    --------
    >>> import spherecnn as sc
    >>> with sc.precision("tf32"):
    ...     sc.get_precision()
    'tf32'
    >>> sc.get_precision()
    'float32'
    """
    check_choice("precision", name, PRECISIONS)
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def get_precision() -> str:
    """Return the precision of products on a GPU in this place."""
    return _chosen.get()
