"""The table of ops and arguments: none is missing, and the arguments are such that the CPU agrees with definitions."""

import importlib
import pkgutil

import pytest
from op_cases import APART, OP_CASES, resolved
from parity import arrays_in, compare, definition_of

import spherecnn.kernels
from spherecnn.kernels.op import OPS


def test_every_op_has_a_case_on_arrays_of_any_size():
    for info in pkgutil.iter_modules(spherecnn.kernels.__path__):
        if info.name not in ("cuda", "gpu"):
            importlib.import_module(f"spherecnn.kernels.{info.name}")
    named = {name for name, op in OPS.items() if op.definition.__module__.startswith("spherecnn.")}
    for cases in (OP_CASES, [case for case in OP_CASES if case.tiny]):
        assert named - {case.op for case in cases} == set(APART), "add a line to tests/op_cases.py"
    assert len({case.name for case in OP_CASES}) == len(OP_CASES)


@pytest.mark.parametrize("case", [case for case in OP_CASES if case.tiny], ids=lambda case: case.name)
def test_the_cpu_agrees_with_the_definition(case):
    args = case.args()
    expected = definition_of(case)
    compare(case.name, (OPS[case.op](*resolved(args)), arrays_in(args)), expected, 1e-5)
