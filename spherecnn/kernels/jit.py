"""The one way to compile a CPU kernel: Numba with an on-disk cache that notices every edit of the kernels."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba.core import config as numba_config

from spherecnn.errors import InputError

config: Any = numba_config

# nnan and ninf are left out: a kernel must let NaN and inf through.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def kernel(
    *, parallel: bool = True, reassociate: bool = False, inline: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile the decorated function with Numba on its first call, and keep the code on disk.

    A view that is written to is assigned on a line of its own: Numba 0.68 drops writes to views that a
    parallel loop unpacks from a tuple.

    Parameters
    ----------
    parallel : bool
        True for a function with `prange`; each iteration must own the outputs that it writes.
    reassociate : bool
        Allow sums to be reordered and contracted into vector code. NaN and inf are always kept.
    inline : bool
        True for a helper that other kernels call; LLVM inlines it where that pays.
    """

    def compile_lazily(function: Callable[..., Any]) -> Callable[..., Any]:
        options: dict[str, Any] = {
            "cache": True,
            "parallel": parallel and not inline,
            "error_model": "numpy",
            "fastmath": FASTMATH if reassociate else False,
        }
        with _numba_cache(cache_folder()):
            return numba.njit(**options)(function)

    return compile_lazily


@functools.cache
def cache_folder() -> Path:
    """Return the folder of compiled kernels; its name is a digest of the kernels and of the compiler.

    Numba does not see an edit in a function that a kernel calls from another file, so the folder changes
    when any file of `spherecnn/kernels` does. ``SPHERECNN_CACHE_DIR`` chooses the parent folder.
    """
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    compiler = (numba.__version__, platform.python_version(), config.CPU_NAME, config.CPU_FEATURES, config.BOUNDSCHECK)
    digest.update(repr(compiler).encode())
    return _parent() / digest.hexdigest()[:16]


def _parent() -> Path:
    chosen = os.environ.get("SPHERECNN_CACHE_DIR")
    usual = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "spherecnn"
    try:
        usual.mkdir(parents=True, exist_ok=True)
        if os.access(usual, os.W_OK):
            return usual
        reason = "it is not writable"
    except OSError as error:
        reason = str(error)
    if chosen:
        raise InputError(
            f"SPHERECNN_CACHE_DIR is {chosen}, which cannot hold compiled kernels ({reason}): "
            "name a folder that can be written."
        )
    # Compiled kernels are unpickled, so a place that others can write to must be new and this process's own.
    own = tempfile.mkdtemp(prefix="spherecnn-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    warnings.warn(
        f"{usual} cannot hold compiled kernels ({reason}); they are compiled for this process only: "
        "set SPHERECNN_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )
    return Path(own)


@contextlib.contextmanager
def _numba_cache(folder: Path) -> Iterator[None]:
    previous = config.CACHE_DIR
    config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        config.CACHE_DIR = previous


def set_num_threads(n: int) -> None:
    """Set how many threads every kernel of spherecnn uses.

    Examples
    --------
    >>> import spherecnn as sc
    >>> before = sc.get_num_threads()
    >>> sc.set_num_threads(1)
    >>> sc.get_num_threads()
    1
    >>> sc.set_num_threads(before)
    """
    most = config.NUMBA_NUM_THREADS
    if not 1 <= n <= most:
        raise InputError(f"the number of threads is {n}; expected 1 to {most}: raise NUMBA_NUM_THREADS for more.")
    numba.set_num_threads(n)


def get_num_threads() -> int:
    """Return how many threads the kernels use."""
    return int(numba.get_num_threads())
