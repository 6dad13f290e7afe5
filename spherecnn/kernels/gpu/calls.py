"""Calls of CUDA's driver, and what their errors become: the one importer of cuda.bindings' driver."""

from __future__ import annotations

from typing import Any

from spherecnn.errors import InputError
from spherecnn.kernels.gpu.device import CudaError, NotRecordable

try:
    from cuda.bindings import driver as cu
except ImportError as error:
    raise InputError(
        f"arrays on a GPU need the CUDA extra, which is not installed ({error}): pip install 'spherecnn[cuda]'."
    ) from None

__all__ = ["CudaError", "NotRecordable", "call", "cu"]

SUCCESS, OUT_OF_MEMORY, NOT_READY = (
    cu.CUresult.CUDA_SUCCESS,
    cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY,
    cu.CUresult.CUDA_ERROR_NOT_READY,
)


def call(function: Any, *args: Any) -> Any:
    """Call the driver; return its one result, or a tuple of several."""
    status, *results = function(*args)
    if status != SUCCESS:
        raise CudaError(f"{function.__name__}: {explain(status)}")
    return results[0] if len(results) == 1 else tuple(results)


def explain(status: Any) -> str:
    """What the driver says of an error."""
    _, told = cu.cuGetErrorString(status)
    return f"{(told or b'unknown error').decode()} ({status.name})"
