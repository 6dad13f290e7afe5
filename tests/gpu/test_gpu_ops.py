"""Every op on the GPU against its definition in float64, in each precision, and twice to the same bits."""

import numpy as np
import pytest
from gpu_cases import on_both, on_devices
from op_cases import OP_CASES, PRODUCTS, resolved
from parity import arrays_in, compare, definition_of, error_of, values

import spherecnn as sc
from spherecnn.kernels import arrays
from spherecnn.kernels.gpu.array import to_device, to_host
from spherecnn.kernels.op import OPS
from spherecnn.kernels.precision import PRECISIONS

TOLERANCE = {"float32": 1e-5, "tf32": 1e-3, "bf16": 1e-2}
SIMULATED = ("relu-2x3x5", "gather_gemm-circular-3-5", "spmm-13-9-3", "adam_step-3x4-True", "mse_loss-sites")
MULTIPLIED = [case for case in OP_CASES if case.op in PRODUCTS]


def moved(args):
    """The arrays among arguments on the GPU, also those in lists; sparse matrices and stencils stay."""
    if isinstance(args, (tuple, list)):
        return type(args)(moved(a) for a in args)
    return to_device(args) if isinstance(args, np.ndarray) else args


def run(case):
    """The results of an op on the GPU, and its arrays after the call."""
    args = moved(case.args())
    results = OPS[case.op](*resolved(args))
    for result in results if isinstance(results, tuple) else (results,):
        assert not isinstance(result, np.ndarray), f"{case.name} gives an array on the host"
    return results, arrays_in(args)


@on_devices(OP_CASES, SIMULATED)
def test_op_agrees_with_its_definition(device, case):
    compare(case.name, run(case), definition_of(case), TOLERANCE["float32"])


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@on_devices(MULTIPLIED, ["gather_gemm-circular-4-16"])
def test_products_agree_in_lower_precision(device, case, precision):
    with sc.precision(precision):
        compare(case.name, run(case), definition_of(case), TOLERANCE[precision])


@on_devices([case for case in MULTIPLIED if case.name == "gather_gemm-wide-64-64"])
def test_precisions_differ_as_they_should(device, case):
    """None of them is another one by another name: errors as rounding to 10 and to 7 digits makes them."""
    expected, errors = values(definition_of(case))[0], {}
    for precision in PRECISIONS:
        with sc.precision(precision):
            errors[precision] = error_of(values(run(case))[0], expected)
    assert errors["float32"] < 1e-5, errors
    assert 3e-5 < errors["tf32"] < 1e-3 < errors["bf16"] < 1e-2, errors


@on_devices(OP_CASES, ["softmax-5x3"])
def test_op_gives_equal_bits_twice(device, case):
    first, second = values(run(case)), values(run(case))
    for i, (one, other) in enumerate(zip(first, second, strict=True)):
        assert (one is None) == (other is None)
        assert one is None or one.tobytes() == other.tobytes(), f"{case.name}: value {i} has other bits"


@on_both
@pytest.mark.parametrize("shape", [(3, 50), (4, 5, 7)])
def test_masks_are_drawn_at_their_rate_and_again_from_the_same_state(device, shape):
    like = to_device(np.zeros(1, np.float32))
    draws = [to_host(arrays.keep_mask(shape, 0.3, np.random.default_rng(seed), like)) for seed in (5, 5, 6)]
    assert draws[0].dtype == np.bool_
    assert draws[0].shape == shape
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    deviation = np.sqrt(0.3 * 0.7 / draws[0].size)
    assert abs(draws[0].mean() - 0.7) < 5 * deviation


@pytest.mark.gpu
def test_large_masks_are_drawn_at_their_rate(device):
    like = to_device(np.zeros(1, np.float32))
    mask = to_host(arrays.keep_mask((1 << 22,), 0.3, np.random.default_rng(0), like))
    assert abs(mask.mean() - 0.7) < 5 * np.sqrt(0.21 / mask.size)
    # Neither neighbours nor places at powers of two are drawn alike.
    for lag in (1, 2, 4, 32, 128, 1024, 1 << 20):
        assert abs(np.mean(mask[lag:] & mask[:-lag]) - 0.49) < 5 * np.sqrt(0.25 / mask.size), lag
