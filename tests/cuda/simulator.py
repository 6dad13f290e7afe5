"""Kernels of numba.cuda run by Python, thread by thread: a warp-level simulator that needs no GPU.

The very functions that are compiled for the GPU run here, with another ``cuda`` under that name. What would be
undefined on a GPU raises, with the thread, the block and the line: indices out of bounds, misaligned accesses, races
between threads, divergent barriers, collectives that not all lanes reach, reads before writes, float64.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import simulated_values as values
from emulators import EMULATORS
from simulated_memory import NOW, Memory, Races, local_array, poisoned
from simulated_threads import WAITING, WARP, Block, Order, barrier, collective, run_block, thread_index
from simulated_values import Float64, SimulationError

_TYPES = {name: getattr(values, name) for name in ("float32", "int32", "uint32", "uint8", "float64")}
_TYPES |= {"int64": int, "boolean": bool}
_DTYPES = {values.float32: np.float32, values.int32: np.int32, values.uint32: np.uint32, values.uint8: np.uint8}


class SharedMemory:
    """``cuda.shared``."""

    def array(self, shape: Any, dtype: Any, alignment: int | None = None) -> Memory:
        """Dynamic shared memory (shape 0) as such an array, or the static one of this line."""
        block, dtype = NOW.block, np.dtype(_DTYPES[dtype])
        shape = shape if isinstance(shape, tuple) else (shape,)
        if shape == (0,):
            whole = block.dynamic[: block.dynamic.size // dtype.itemsize * dtype.itemsize]
            return Memory(whole.view(dtype), "dynamic shared memory", block.races, block.written, True)
        frame = sys._getframe(1)
        place = frame.f_code, frame.f_lasti
        if place not in block.static:
            data = poisoned(int(np.prod(shape)) * dtype.itemsize, 128).view(dtype)
            written = memoryview(bytearray(data.nbytes))
            block.static[place] = Memory(data, f"shared array {shape}", block.races, written, True, shape)
        return block.static[place]


class Atomic:
    """``cuda.atomic`` on integers."""

    add = staticmethod(EMULATORS["atomic_add_int"])
    min = staticmethod(EMULATORS["atomic_min_int"])
    exch = staticmethod(EMULATORS["atomic_exchange"])


class Cuda:
    """What kernels call ``cuda``."""

    warpsize = WARP

    def __init__(self) -> None:
        self.threadIdx = thread_index
        self.blockIdx, self.blockDim, self.gridDim = (types.SimpleNamespace(x=0, y=0, z=0) for _ in range(3))
        self.shared, self.atomic = SharedMemory(), Atomic()
        self.local = types.SimpleNamespace(array=lambda shape, dtype: local_array(shape, _DTYPES[dtype]))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise SimulationError(f"the simulator has no cuda.{name}")

    @property
    def laneid(self) -> int:
        return NOW.thread.lane

    def grid(self, axes: int) -> int:
        if axes != 1:
            raise SimulationError("cuda.grid of several axes: blocks are one-dimensional")
        return self.blockIdx.x * self.blockDim.x + thread_index.x

    def gridsize(self, axes: int) -> int:
        if axes != 1:
            raise SimulationError("cuda.gridsize of several axes: blocks are one-dimensional")
        return self.gridDim.x * self.blockDim.x

    def syncthreads(self) -> None:
        barrier("syncthreads")

    def syncthreads_count(self, value: Any) -> int:
        return barrier("syncthreads_count", value)

    def syncthreads_and(self, value: Any) -> bool:
        return barrier("syncthreads_and", value)

    def syncthreads_or(self, value: Any) -> bool:
        return barrier("syncthreads_or", value)

    def syncwarp(self, mask: int = 0xFFFFFFFF) -> None:
        collective("syncwarp", mask)

    def shfl_sync(self, mask: int, value: Any, source: int) -> Any:
        return collective("shfl_sync", mask, (value, source % WARP))

    def shfl_xor_sync(self, mask: int, value: Any, bits: int) -> Any:
        return collective("shfl_sync", mask, (value, NOW.thread.lane ^ bits))

    def shfl_down_sync(self, mask: int, value: Any, distance: int) -> Any:
        lane = NOW.thread.lane
        return collective("shfl_sync", mask, (value, lane + distance if lane + distance < WARP else lane))

    def shfl_up_sync(self, mask: int, value: Any, distance: int) -> Any:
        lane = NOW.thread.lane
        return collective("shfl_sync", mask, (value, lane - distance if lane >= distance else lane))

    def ballot_sync(self, mask: int, value: Any) -> int:
        return collective("ballot_sync", mask, bool(value))

    def any_sync(self, mask: int, value: Any) -> bool:
        return collective("ballot_sync", mask, bool(value)) != 0

    def all_sync(self, mask: int, value: Any) -> bool:
        return collective("ballot_sync", mask, not value) == 0

    def threadfence(self) -> None:
        NOW.block.fenced = True

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return values.float32(np.float64(a) * np.float64(b) + np.float64(c))

    def popc(self, value: int) -> int:
        return int(value).bit_count()

    def ffs(self, value: int) -> int:
        return (value & -value).bit_length()

    def clz(self, value: int) -> int:
        return 32 - values.uint32(value).bit_length()

    def selp(self, condition: Any, one: Any, other: Any) -> Any:
        return one if condition else other


CUDA = Cuda()


@dataclass
class Simulated:
    """A kernel's function for the simulator: whether it may wait, and the code of all that it calls."""

    name: str
    call: Any
    waits: bool
    codes: set[types.CodeType]


class Names:
    """A module as kernels see it: every attribute replaced when it is asked for."""

    def __init__(self, module: types.ModuleType, binder: Binder):
        self._module, self._binder = module, binder

    def __getattr__(self, name: str) -> Any:
        value = self._binder.replaced(getattr(self._module, name))
        setattr(self, name, value)
        return value


class Binder:
    """Copies of functions whose names mean the simulator's things."""

    def __init__(self) -> None:
        self.functions: dict[Any, Any] = {}
        self.codes: set[types.CodeType] = set()
        self.names: set[str] = set()

    def function(self, function: types.FunctionType) -> types.FunctionType:
        """The function with its globals, its closure and its numbers replaced."""
        if function in self.functions:
            return self.functions[function]
        code = function.__code__
        constants = tuple(Float64(value) if type(value) is float else value for value in code.co_consts)
        code = code.replace(co_consts=constants)
        names: dict[str, Any] = {"__builtins__": __builtins__, **values.BUILTINS}
        cells = function.__closure__
        closure = None if cells is None else tuple(types.CellType() for _ in cells)
        bound = types.FunctionType(code, names, function.__name__, function.__defaults__, closure)
        self.functions[function] = bound
        self.codes.add(code)
        self.names |= set(code.co_names)
        for name in code.co_names:
            if name in function.__globals__:
                names[name] = self.replaced(function.__globals__[name])
        for cell, old in zip(closure or (), cells or (), strict=True):
            cell.cell_contents = self.replaced(old.cell_contents)
        return bound

    def replaced(self, value: Any) -> Any:
        """What stands for a value in the simulator."""
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if type(value) is float:
            return Float64(value)
        name = getattr(value, "_name", None) or getattr(value, "__name__", None) or str(value)
        if hasattr(value, "py_func"):
            return self.function(value.py_func)
        if type(value).__name__ in ("_Intrinsic", "_OverloadWrapper") or (callable(value) and name in EMULATORS):
            self.names.add(name)
            return EMULATORS.get(name) or _missing(name)
        if type(value).__module__.startswith("numba."):
            return _TYPES.get(str(value)) or _missing(str(value))
        return self.function(value) if isinstance(value, types.FunctionType) else value

    def _module(self, module: types.ModuleType) -> Any:
        if module.__name__ == "math":
            return values.MATH
        if module.__name__ in ("numba.cuda", "numba_cuda.numba.cuda"):
            return CUDA
        return Names(module, self)


def _missing(name: str) -> Any:
    def call(*_: Any) -> Any:
        raise SimulationError(f"no emulator for {name}: add it to tests/cuda/emulators.py")

    return call


_BOUND: dict[Any, Simulated] = {}


def bound(kernel: Any) -> Simulated:
    """A kernel made ready for the simulator, once."""
    function = getattr(kernel, "py_func", kernel)
    if function not in _BOUND:
        binder = Binder()
        call = binder.function(function)
        _BOUND[function] = Simulated(function.__name__, call, bool(binder.names & WAITING), binder.codes)
    return _BOUND[function]


def simulate(
    function: Any,
    grid: int | tuple[int, ...],
    threads: int,
    args: Iterable[Any],
    shared: int = 0,
    seed: int = 0,
) -> None:
    """Run a kernel.

    Parameters
    ----------
    function : function
        The kernel's Python function (or a dispatcher of Numba).
    grid : int or tuple of int
        Blocks along x, or along x, y and z.
    threads : int
        Threads of a block.
    args : iterable
        Flat NumPy arrays, which stand for pointers, and numbers.
    shared : int, optional
        Bytes of dynamic shared memory.
    seed : int, optional
        Threads and blocks run in their order (0), backwards (1), or shuffled.

    Raises
    ------
    SimulationError
        What the kernel did that would be wrong on a GPU.
    """
    races = Races()
    arguments = []
    for place, value in enumerate(args):
        if isinstance(value, np.ndarray):
            arguments.append(Memory(value, f"argument {place}", races))
        else:
            arguments.append(values.float32(value) if isinstance(value, (float, np.floating)) else values.int32(value))
    sizes = (*((grid,) if isinstance(grid, int) else grid), 1, 1)[:3]
    run_grid(bound(function), sizes, threads, tuple(arguments), shared, Order(seed))


def run_grid(
    kernel: Simulated, sizes: tuple[int, ...], threads: int, arguments: tuple[Any, ...], shared: int, order: Order
) -> None:
    """Run the blocks of a kernel, one after another; arguments are of `Memory`, np.float32 and int."""
    CUDA.gridDim.x, CUDA.gridDim.y, CUDA.gridDim.z = sizes
    CUDA.blockDim.x, CUDA.blockDim.y, CUDA.blockDim.z = threads, 1, 1
    places = [(x, y, z) for z in range(sizes[2]) for y in range(sizes[1]) for x in range(sizes[0])]
    with np.errstate(all="ignore"):
        for serial, place in enumerate(order(places)):
            CUDA.blockIdx.x, CUDA.blockIdx.y, CUDA.blockIdx.z = place
            run_block(kernel, arguments, Block(serial, place, shared), threads, order)
