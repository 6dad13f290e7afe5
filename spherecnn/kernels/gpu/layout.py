"""How the threads of a kernel share the places and channels of a sample: everyone has work, and nobody divides.

A thread makes 4 channels (one, if the channels are not a multiple of 4) of a few sites. Neighbouring threads have
neighbouring channels, then neighbouring sites. On an image a block is a few rows high, so that windows of one row
find in the first-level cache what those of the next have read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from spherecnn.kernels.cuda import cuda, device_function, int32, uint32

THREADS = 256
MOST_VECTORS = 16  # of a site in one block: 256 bytes
LEAST_VECTORS = 8
ROWS = 4  # of an image in one block
MOST_GRID = 65535  # blocks along y and z
NUMBERS = "i4 i4 i4 i4 i4 i4"  # of a layout, as a kernel takes them


class Layout(NamedTuple):
    """A grid of blocks; z runs over samples and chunks of channels."""

    grid: tuple[int, int]
    chunks: int  # of channels
    numbers: tuple[int, ...]  # for `lane`


def width_of(channels: int) -> int:
    """Channels of a thread."""
    return 4 if channels % 4 == 0 else 1


def vectors_of(channels: int) -> int:
    """How many threads stand side by side along the channels: a power of two that leaves few of them idle."""
    width = width_of(channels)
    vectors, most = channels // width, MOST_VECTORS if width == 4 else 2 * MOST_VECTORS
    sizes = [n for n in (1, 2, 4, 8, 16, 32) if n <= most and (n >= LEAST_VECTORS or n >= vectors)]
    return min(sizes, key=lambda n: (-(-vectors // n) * n, -n if n <= vectors else n))


def layout(places: int, channels: int, sites: int, row: int | None = None) -> Layout:
    """Share `places` places, `sites` to a thread; `row` is the length of a row if they form an image."""
    width, vectors = width_of(channels), vectors_of(channels)
    chunks = -(-channels // (width * vectors))
    apart = max(1, (32 // width) // vectors) if sites > 1 else 1
    groups = THREADS // vectors
    high = min(ROWS, groups)
    wide = groups // high
    rows = places // row if row else 1
    if row and rows > 1:
        grid = -(-row // (wide * sites)), -(-rows // high)
        whole = wide % apart == 0 and grid[1] <= MOST_GRID
        if whole and grid[0] * grid[1] * groups * sites <= 1.25 * places:
            return Layout(grid, chunks, (_log(vectors), _log(wide), _log(apart), chunks, row, rows))
    grid = -(-places // (groups * sites)), 1
    return Layout(grid, chunks, (_log(vectors), _log(groups), _log(apart), chunks, places, 1))


def _log(power: int) -> int:
    return power.bit_length() - 1


def batches(samples: int, chunks: int = 1) -> Iterator[slice]:
    """Cut the samples into as many as one launch takes."""
    most = MOST_GRID // chunks
    for first in range(0, samples, most):
        yield slice(first, min(samples, first + most))


def row_of(stencil: Any) -> int | None:
    """The length of a row of outputs if they form an image."""
    return int(stencil.shape_out[-1]) if len(stencil.shape_out) > 1 else None


@device_function
def lane(sites, log_vectors, log_wide, log_apart):
    """This thread's vector within its chunk, its row, and the first of its places in that row."""
    t = int32(cuda.threadIdx.x)
    vector = t & ((int32(1) << log_vectors) - 1)
    group = t >> log_vectors
    down = int32(cuda.blockIdx.y) * (int32(cuda.blockDim.x) >> (log_vectors + log_wide)) + (group >> log_wide)
    across = (int32(cuda.blockIdx.x) << log_wide) + (group & ((int32(1) << log_wide) - 1))
    inner = across & ((int32(1) << log_apart) - 1)
    return int32(vector), int32(down), int32((across - inner) * sites + inner)


@device_function
def sample_and_chunk(chunks):
    """The sample of this block, and which of the chunks of its channels."""
    z = uint32(cuda.blockIdx.z)
    if chunks == 1:
        return int32(z), int32(0)
    sample = z // uint32(chunks)
    return int32(sample), int32(z - sample * uint32(chunks))
