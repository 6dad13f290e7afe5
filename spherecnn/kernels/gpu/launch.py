"""What a kernel for the GPU is, and how it is launched."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spherecnn.files import write_atomic
from spherecnn.kernels import cuda, jit
from spherecnn.kernels.gpu import device

Grid = int | tuple[int, ...]
KERNELS: dict[str, GpuKernel] = {}
ORDINARY = 700  # machine instructions that a kernel may have which does not say more


class GpuKernel:
    """A Python function that the threads of a grid run, compiled when it is first launched.

    Attributes
    ----------
    name : str
        Of the function, with the constants that it closes over.
    function : callable
        Its arguments are raw pointers and numbers, see `arguments`.
    arguments : tuple of str
        "f4*" for a pointer to float32, "i4*", "u4*", "u1*", and "i4", "u4", "f4" for numbers.
    threads : int
        Threads of a block, along x.
    blocks : int
        Blocks that shall fit on a multiprocessor; it limits the registers of a thread.
    claims : frozenset of str
        Machine instructions that must occur in it, for the tests: "HMMA" says that it uses tensor cores.
    budget : int
        Largest number of machine instructions, for the tests.
    shared, rows, columns : int
        Dynamic shared memory and the tile of a block, where the maker of the kernel says so.
    """

    shared = rows = columns = 0

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: str,
        threads: int,
        blocks: int = 1,
        constants: tuple[Any, ...] = (),
        claims: tuple[str, ...] = (),
        budget: int = ORDINARY,
    ):
        self.function, self.arguments = function, tuple(arguments.split())
        self.threads, self.blocks = threads, blocks
        self.claims, self.budget = frozenset(claims), budget
        self.name = "_".join([function.__name__.strip("_"), *(str(c) for c in constants)])
        if self.name in KERNELS:
            raise ValueError(f"two kernels are named {self.name}")
        KERNELS[self.name] = self

    def __call__(self, grid: Grid, *args: Any, shared: int = 0) -> None:
        """Launch on the current device: `grid` blocks, with `shared` bytes of dynamic shared memory."""
        sizes = (grid,) if isinstance(grid, int) else grid
        if 0 in sizes:
            return
        whole = (*sizes, 1, 1)[:3]
        device.current().launch(self, whole, args, shared)

    def cubin(self, cc: tuple[int, int]) -> bytes:
        """Return the machine code for a compute capability, from the disk if it was compiled before."""
        file = self.file(cc)
        if file.exists():
            return file.read_bytes()
        code = cuda.compile_kernel(self.function, self.arguments, (self.threads, self.blocks), cc)
        write_atomic(file, code)
        return code

    def file(self, cc: tuple[int, int]) -> Path:
        """Where the machine code is kept."""
        return cache_folder() / f"{self.name}_sm{cc[0]}{cc[1]}.cubin"

    def __repr__(self) -> str:
        return f"GpuKernel({self.name}, {self.threads} threads)"


def gpu_kernel(
    arguments: str,
    *,
    threads: int,
    blocks: int = 1,
    constants: tuple[Any, ...] = (),
    claims: tuple[str, ...] = (),
    budget: int = ORDINARY,
) -> Callable[[Callable[..., Any]], GpuKernel]:
    """Make a `GpuKernel` of the decorated function.

    Parameters
    ----------
    arguments : str
        Kinds of the arguments, as ``"f4* i4* i4 f4"``.
    threads, blocks, constants, claims, budget
        As in `GpuKernel`.
    """

    def make(function: Callable[..., Any]) -> GpuKernel:
        return GpuKernel(function, arguments, threads, blocks, constants, claims, budget)

    return make


@functools.cache
def cache_folder() -> Path:
    """Return the folder of machine code; its name is a digest of all kernels and of the compiler."""
    own = jit.cache_folder()  # a digest of the kernels for the CPU, some of whose constants stand in these too
    digest = hashlib.sha256(own.name.encode())
    for file in [Path(cuda.__file__), *sorted(Path(__file__).parent.glob("*.py"))]:
        digest.update(file.read_bytes())
    packages = ("numba", "numba-cuda", "llvmlite", "nvidia-nvvm", "nvidia-nvjitlink")
    digest.update(repr([_version(name) for name in packages]).encode())
    folder = own.parent / f"gpu-{digest.hexdigest()[:16]}"
    os.makedirs(folder, exist_ok=True)
    return folder


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the toolkit on the machine serves instead
        return ""


def blocks_for(count: int, each: int) -> int:
    """How many blocks of `each` cover `count`."""
    return -(-count // each)
