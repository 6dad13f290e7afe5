"""spherecnn: convolutional networks on spherical (360 degree) images, in Numba.

>>> import numpy as np
>>> import spherecnn as sc
>>> conv = sc.layers.CircularConv2d(3, 8, kernel_size=3, rng=0)
>>> conv(np.zeros((1, 16, 32, 3), np.float32)).shape
(1, 16, 32, 8)
"""

from __future__ import annotations

import importlib
from typing import Any

from spherecnn import grids, layers, models, stencils
from spherecnn.errors import InputError
from spherecnn.kernels.jit import get_num_threads, set_num_threads
from spherecnn.kernels.precision import get_precision, precision

__version__ = "0.1.0"

__all__ = [
    "DeviceArray",
    "InputError",
    "datasets",
    "get_num_threads",
    "get_precision",
    "grids",
    "layers",
    "models",
    "precision",
    "set_num_threads",
    "stencils",
    "testing",
    "to_device",
    "to_host",
    "training",
    "transfer",
    "viz",
]

_LAZY = ("datasets", "testing", "training", "transfer", "viz")
_OF_ARRAYS = ("DeviceArray", "to_device", "to_host")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"spherecnn.{name}")
    if name in _OF_ARRAYS:
        return getattr(importlib.import_module("spherecnn.kernels.gpu.array"), name)
    raise AttributeError(f"module 'spherecnn' has no attribute {name!r}")
