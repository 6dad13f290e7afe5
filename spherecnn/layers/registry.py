"""The methods by name: the layers each one builds, so that a network is written once for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np

from spherecnn.errors import InputError
from spherecnn.grids import Grid
from spherecnn.layers.base import Layer

METHODS: dict[str, Method] = {}


class Method:
    """One way to convolve on the sphere: it builds the layers of a network for a grid.

    A new method is a subclass, entered by `register`; every network of `models` then takes it by name. What a
    method lacks it leaves out, and a network that needs it refuses the method in one sentence.

    Parameters
    ----------
    name : str
        The word used in Python and on the command line.
    summary : str
        One line for `--help` and tables.

    Examples
    --------
    >>> import spherecnn as sc
    >>> kind, grid = method("circular"), sc.grids.Equirect(16)
    >>> kind.conv(3, 8, grid, kernel_size=5, stride=2, rng=0).out_shape((1, 16, 32, 3)), kind.strided(grid)
    ((1, 8, 16, 8), Equirect(8, 16))
    """

    # Settings of its layers, which networks that take no method are built with.
    kinds: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, name: str, summary: str):
        self.name, self.summary = name, summary

    def grid(self, *, height: int | None = None, level: int | None = None) -> Grid:
        """Build a grid of the kind that the method works on, from the rows of a picture or a level.

        One of the two, whichever the grids of the method have; without any, the size of the examples.
        """
        self._lacks("grid of its own")

    def widest(self, kernel_size: int) -> int:
        """The largest kernel that the method has up to this size, for networks that begin with a wide one."""
        return kernel_size

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        rng: np.random.Generator | int | None = None,
    ) -> Layer:
        """Build a convolution from `grid` to ``strided(grid, stride)``.

        A kernel of 1 mixes the channels of each site; 3 is the smallest neighbourhood, or the method's own kernel.
        """
        self._lacks("convolution")

    def strided(self, grid: Grid, stride: int = 2) -> Grid:
        """Return the grid that a convolution of this stride leads to."""
        self._lacks("strided convolution")

    def pool(self, grid: Grid, *, kernel_size: int = 2, return_indices: bool = False) -> tuple[Layer, Grid]:
        """Build a max pooling that halves the resolution; return it and the coarser grid.

        A kernel of 2 reads the sites that a coarse site covers; 3 reads their neighbours too, as in the first
        stage of ResNet. With `return_indices` the layer also gives what `unpool` needs.
        """
        self._lacks("pooling")

    def unpool(self, coarse: Grid, fine: Grid) -> Layer:
        """Build the layer ``(x, indices) -> y`` that undoes ``pool(fine, return_indices=True)``, zeros elsewhere."""
        self._lacks("unpooling")

    def upsample(self, coarse: Grid, fine: Grid, mode: str = "bilinear") -> Layer:
        """Build an interpolation from a coarser to a finer grid; `mode` is "bilinear" or "nearest"."""
        self._lacks("upsampling")

    def conv_transpose(
        self,
        in_channels: int,
        out_channels: int,
        coarse: Grid,
        fine: Grid,
        *,
        bias: bool = True,
        rng: np.random.Generator | int | None = None,
    ) -> Layer:
        """Build a transposed convolution of stride 2 from a coarser grid to the finer one that was pooled."""
        self._lacks("transposed convolution")

    def _lacks(self, what: str) -> NoReturn:
        raise InputError(
            f"method {self.name!r} has no {what}; expected a method or a network without it: choose another option."
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def register(method: Method) -> Method:
    """Enter a method under its name."""
    METHODS[method.name] = method
    return method


def method(name: str) -> Method:
    """Return the method of this name.

    Examples
    --------
    >>> import spherecnn as sc
    >>> method("circular").name
    'circular'
    """
    if name not in METHODS:
        raise InputError(f"method is {name!r}; expected one of {', '.join(sorted(METHODS))}: choose one of them.")
    return METHODS[name]


def methods_on(kind: type[Grid]) -> list[str]:
    """Names of the methods that work on grids of this kind.

    Examples
    --------
    >>> import spherecnn as sc
    >>> methods_on(sc.grids.Polyhedron)
    ['spherephd', 'spherephd_north']
    """
    return [name for name, method in METHODS.items() if isinstance(method.grid(), kind)]


def generator(rng: np.random.Generator | int | None) -> np.random.Generator:
    """Return a random generator for a seed, a generator, or None for a fresh one."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)
