"""One table of ops with their arguments: every proof of kernels runs over it. A new op gets a line or more here."""

from __future__ import annotations

from op_case import OpCase, resolved, widened
from op_cases_rows import array_cases, element_cases, loss_cases, norm_cases, step_cases
from op_cases_sites import gemm_cases, sample_cases, site_cases, winograd_cases

__all__ = ["APART", "OP_CASES", "PRODUCTS", "OpCase", "resolved", "widened"]

PRODUCTS = ("gather_gemm", "gather_gemm_dx", "gather_gemm_dw", "winograd", "winograd_dw")
"""Ops whose products follow `sc.precision`."""

APART = ("keep_mask", "step_table")
"""Ops that rightly give other things on every device: random bits, addresses."""

OP_CASES = [
    *gemm_cases(),
    *winograd_cases(),
    *site_cases(),
    *element_cases(),
    *norm_cases(),
    *loss_cases(),
    *step_cases(),
    *array_cases(),
    *sample_cases(),
]
