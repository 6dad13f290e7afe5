"""The one place that imports numba.cuda: the names that kernels use, and the way from a function to machine code.

The package numba-cuda (extra ``cuda``) compiles on any machine, with or without a GPU: nothing here touches a driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from spherecnn.errors import InputError

try:
    from cuda.bindings import nvjitlink
    from numba import cuda
    from numba.cuda import cgutils, dispatcher, types
    from numba.cuda.core.errors import RequireLiteralValue
    from numba.cuda.extending import intrinsic
except ImportError as error:
    raise InputError(
        f"arrays on a GPU need the CUDA extra, which is not installed ({error}): pip install 'spherecnn[cuda]'."
    ) from None

__all__ = [
    "RequireLiteralValue",
    "boolean",
    "cgutils",
    "compile_kernel",
    "cuda",
    "device_function",
    "float32",
    "int32",
    "intrinsic",
    "types",
    "uint8",
    "uint32",
]

boolean, float32, int32, uint8, uint32 = types.boolean, types.float32, types.int32, types.uint8, types.uint32
TYPES = {"f4": float32, "i4": int32, "u4": uint32, "u1": uint8}


def device_function(function: Callable[..., Any]) -> Any:
    """Make a function that kernels call; it is put in the place of each call."""
    return cuda.jit(device=True, forceinline=True)(function)


def signature_of(arguments: tuple[str, ...]) -> Any:
    """The signature of a kernel whose arguments are "f4*" (a raw pointer to float32), "i4", and so on."""
    return types.void(*(types.CPointer(TYPES[a[:-1]]) if a.endswith("*") else TYPES[a] for a in arguments))


def to_ltoir(function: Callable[..., Any], arguments: tuple[str, ...], bounds: Any, cc: tuple[int, int]) -> bytes:
    """Compile a kernel to intermediate code for compute capability `cc`."""
    return _compiled(function, arguments, bounds, cc, "ltoir")


def to_ptx(function: Callable[..., Any], arguments: tuple[str, ...], bounds: Any, cc: tuple[int, int]) -> str:
    """Compile a kernel to PTX, to be read and checked."""
    return _compiled(function, arguments, bounds, cc, "ptx")


def _compiled(function: Any, arguments: tuple[str, ...], bounds: Any, cc: tuple[int, int], output: str) -> Any:
    # A device function asks the current GPU for its capability while it is compiled; there may be none.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
    code, _ = cuda.compile(
        function,
        signature_of(arguments),
        device=False,
        abi="numba",
        cc=cc,
        output=output,
        launch_bounds=bounds,
    )
    return code


def compile_kernel(
    function: Callable[..., Any], arguments: tuple[str, ...], bounds: tuple[int, int], cc: tuple[int, int]
) -> bytes:
    """Compile a kernel to a cubin, the machine code of compute capability `cc`.

    Parameters
    ----------
    function : callable
    arguments : tuple of str
        As in `signature_of`.
    bounds : (int, int)
        Threads of a block, and blocks that shall fit on a multiprocessor: they limit the registers.
    cc : (int, int)
    """
    code = to_ltoir(function, arguments, bounds, cc)
    link = nvjitlink.create(2, ["-lto", f"-arch=sm_{cc[0]}{cc[1]}"])
    try:
        nvjitlink.add_data(link, nvjitlink.InputType.LTOIR, code, len(code), function.__name__)
        nvjitlink.complete(link)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(link))
        nvjitlink.get_linked_cubin(link, cubin)
    except nvjitlink.nvJitLinkError as error:
        raise RuntimeError(f"{function.__name__} does not link for {cc}: {error}") from error
    finally:
        nvjitlink.destroy(link)
    return bytes(cubin)


def entry_name(cubin: bytes) -> str:
    """The name of the one kernel in a cubin, from the name of its section of code."""
    found = re.search(rb"\.text\.([A-Za-z0-9_$]+)\0", cubin)
    if found is None:
        raise RuntimeError("a cubin without a kernel")
    return found.group(1).decode()
