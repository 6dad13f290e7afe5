"""Every op in the simulator, by cases of the table of ops, against the definition in float64; and every kernel.

Which kernels a case launches depends on shapes only, so a device that launches nothing tells it. Of the tiny cases,
the first of each op and, for each kernel that none of them launches, one more are run in earnest.
"""

from pathlib import Path

import numpy as np
import pytest
from op_cases import OP_CASES, PRODUCTS, resolved
from parity import arrays_in, compare, definition_of
from simulated import LAUNCHED, SimulatedDevice

import spherecnn as sc
from spherecnn.kernels.gpu import bodies, ceilings, device, launch  # noqa: F401  these make all kernels
from spherecnn.kernels.gpu.array import to_device
from spherecnn.kernels.op import OPS
from spherecnn.kernels.precision import PRECISIONS

TOLERANCE = {"float32": 1e-5, "tf32": 1e-3, "bf16": 1e-2}
TINY = [
    (case, precision)
    for case in OP_CASES
    if case.tiny
    for precision in (PRECISIONS if case.op in PRODUCTS else ("float32",))
]


class Idle(SimulatedDevice):
    """Notes launches, and runs none."""

    def launch(self, kernel, grid, args, shared):
        self.launches[kernel.name] += 1


@pytest.fixture
def shuffled():
    """One order of threads: kernels have tests of their own in more."""
    made = SimulatedDevice(2)
    device.push(made)
    yield made
    device.pop()
    made.check()


def moved(x):
    if isinstance(x, (tuple, list)):
        return type(x)(moved(part) for part in x)
    return to_device(x) if isinstance(x, np.ndarray) else x


def run(case, precision):
    args = moved(case.args())
    with sc.precision(precision):
        results = OPS[case.op](*resolved(args))
    return results, arrays_in(args)


def launched(case, precision):
    """Names of the kernels that a case launches."""
    idle = Idle()
    device.push(idle)
    try:
        run(case, precision)
    except Exception:
        pass  # of what was not computed; if it is more, the case fails when it is run in earnest
    finally:
        device.pop()
    return frozenset(idle.launches)


@pytest.fixture(scope="module")
def cover():
    """The chosen cases by op, and the kernels that they launch."""
    chosen, reached = {}, set()
    names = {pair: launched(*pair) for pair in TINY}
    for pair in TINY:
        if pair[0].op not in chosen:
            chosen[pair[0].op] = [pair]
            reached |= names[pair]
    while more := {pair: kernels - reached for pair, kernels in names.items() if kernels - reached}:
        best = max(more, key=lambda pair: len(more[pair]))
        chosen[best[0].op].append(best)
        reached |= names[best]
    return chosen, reached


@pytest.mark.parametrize("op", sorted({case.op for case, _ in TINY}))
def test_cases_that_reach_every_kernel_agree_with_definitions(shuffled, op, cover):
    for case, precision in cover[0][op]:
        compare(f"{case.name}, {precision}", run(case, precision), definition_of(case), TOLERANCE[precision])


@pytest.mark.last
def test_every_kernel_was_run_in_the_simulator(request):
    """By the tests above or by its own: all of this folder must have run in this process."""
    run = {item.path for item in request.session.items}
    others = sorted(file.name for file in Path(__file__).parent.glob("test_*.py") if file not in run)
    if others or request.config.option.keyword:
        pytest.skip(f"looks back on all tests of tests/cuda, and {', '.join(others) or 'some'} were left out")
    own = {name for name, kernel in launch.KERNELS.items() if kernel.function.__module__.startswith("spherecnn.")}
    missing = sorted(own - LAUNCHED)
    assert not missing, f"no test has run these kernels; add a test, or a case to tests/op_cases.py: {missing}"
