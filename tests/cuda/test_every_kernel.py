"""Every kernel runs in the simulator, by cases of the table of ops, and agrees with the definition in float64.

Which kernels a case launches depends on shapes only, so a device that launches nothing tells it. Of the tiny cases,
the first of each op and, for each kernel that none of them launches, one more are run in earnest.
"""

import numpy as np
import pytest
from op_cases import OP_CASES, PRODUCTS
from parity import compare, definition_of
from simulated import SimulatedDevice

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.kernels.gpu import bodies, device, launch  # noqa: F401  bodies makes all kernels
from spherecnn.kernels.gpu.array import to_device
from spherecnn.kernels.op import OPS
from spherecnn.kernels.precision import PRECISIONS

TOLERANCE = {"float32": 1e-5, "tf32": 1e-3, "bf16": 1e-2}
ELSEWHERE = {
    # kernel: the test that runs it
    "copy_fours": "test_ceilings",
    "multiply_add": "test_ceilings",
    "multiply_matrices_tf32": "test_ceilings",
    "multiply_matrices_bf16": "test_ceilings",
}
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


def moved(x):
    if isinstance(x, (tuple, list)):
        return type(x)(moved(part) for part in x)
    return to_device(x) if isinstance(x, np.ndarray) else x


def run(case, precision):
    args = moved(case.args())
    with sc.precision(precision):
        results = OPS[case.op](*args)
    return results, [a for a in args if hasattr(a, "__cuda_array_interface__")]


def launched(case, precision):
    """Names of the kernels that a case launches."""
    idle = Idle()
    device.push(idle)
    try:
        run(case, precision)
    except InputError:
        pass  # of what was not computed
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


def test_every_kernel_is_launched_by_a_tiny_case(cover):
    own = {name for name, k in launch.KERNELS.items() if k.function.__module__.startswith("spherecnn.")}
    missing = own - cover[1] - ELSEWHERE.keys()
    assert not missing, f"add cases to tests/op_cases.py that launch {sorted(missing)}"


@pytest.mark.parametrize("op", sorted({case.op for case, _ in TINY}))
def test_cases_that_reach_every_kernel_agree_with_definitions(simulated, op, cover):
    for case, precision in cover[0][op]:
        compare(f"{case.name}, {precision}", run(case, precision), definition_of(case), TOLERANCE[precision])
