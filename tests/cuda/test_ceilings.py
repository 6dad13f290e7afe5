"""The kernels that measure what a GPU can do compute what they say, in the simulator."""

import numpy as np
import pytest

from spherecnn.kernels.gpu import ceilings
from spherecnn.kernels.gpu.array import empty, to_device, to_host


def test_copies_are_whole(simulated):
    size = ceilings.whole_copies(1)
    x = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    y = empty(x.shape, np.float32)
    work = ceilings.copy_ceiling(to_device(x), y)
    assert (work.grid, work.amount) == (1, 2 * x.nbytes)
    work()
    assert np.array_equal(to_host(y), x)


def test_sizes_are_whole_blocks():
    each = 4 * ceilings.COPY_THREADS * ceilings.FOURS
    assert [ceilings.whole_copies(n) for n in (0, 4 * each, 9 * each, 2 << 30)] == [each, each, 2 * each, 1 << 29]


def test_multiply_adds_are_as_many_as_counted(simulated):
    """s = s / 2 + 1 comes to 2 from any start: after t turns it is 2 + (s - 2) / 2^t."""
    y = empty((ceilings.THREADS,), np.float32)
    work = ceilings.arithmetic_ceilings(y, 1, 3)[0]
    work()
    starts = np.arange(ceilings.CHAINS)
    assert (to_host(y) == (2 + (starts - 2) / 8).sum()).all()
    assert work.amount == 2 * ceilings.CHAINS * 3 * ceilings.THREADS


@pytest.mark.parametrize(("place", "depth"), [(1, 8), (2, 16)])
def test_products_are_as_many_as_counted(simulated, place, depth):
    """Each element of a product is depth times 1/8; every second bfloat16 of a pair is zero."""
    y = empty((ceilings.THREADS,), np.float32)
    work = ceilings.arithmetic_ceilings(y, 1, 2)[place]
    work()
    element = 2 * 8 * 0.5 * 0.25
    assert (to_host(y) == 4 * ceilings.PRODUCTS * element).all()
    assert work.amount == 2 * 16 * 8 * depth * ceilings.PRODUCTS * 2 * ceilings.THREADS / 32
