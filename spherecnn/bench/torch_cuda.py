"""Torch on the GPU, as the rows of the table use it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from spherecnn.bench.case import Work


class Placed:
    """Torch, with arrays that come from NumPy on a device."""

    def __init__(self, torch: Any, device: str):
        self._torch, self._device = torch, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def from_numpy(self, array: Any) -> Any:
        return self._torch.from_numpy(array).to(self._device)


def find() -> tuple[Any, str]:
    """Torch with its autotuner on, and nothing; or None, and why."""
    try:
        import torch
    except ImportError:
        return None, "torch is not installed: measured without it"
    if not torch.cuda.is_available():
        return None, f"torch {torch.__version__} has no CUDA or sees no GPU: measured without it"
    torch.backends.cudnn.benchmark = True
    return torch, ""


@contextlib.contextmanager
def making(torch: Any, device: str = "cuda") -> Iterator[Any]:
    """Make networks and tensors of torch on a device, inside a with block."""
    if torch is None:
        yield None
        return
    with torch.device(device):
        yield Placed(torch, device)


def in_precision(torch: Any, work: Work, precision: str, device: str = "cuda") -> Work:
    """The work of torch in a precision: TF32 by its switches, bfloat16 by autocast."""

    def run() -> object:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        if precision != "bf16":
            return work()
        with torch.autocast(device, torch.bfloat16):
            return work()

    return run
