"""Sparse products on the GPU in the simulator, against the definition in float64."""

import numpy as np
import pytest
from scipy import sparse
from site_stencils import numbers

from spherecnn.errors import InputError
from spherecnn.kernels.gpu.array import to_device, to_host
from spherecnn.kernels.spmm import spmm
from spherecnn.stencils.resize import resize


def check(matrix, x, atol=1e-6):
    y = to_host(spmm(matrix, to_device(x)))
    np.testing.assert_allclose(y, spmm.definition(matrix, x.astype(float)), rtol=1e-5, atol=atol)
    return y


@pytest.mark.parametrize("channels", [1, 3, 4, 20])
def test_rows_of_all_lengths(simulated, channels):
    dense = np.random.default_rng(0).standard_normal((40, 30))
    matrix = sparse.csr_array(np.where(np.arange(30) < (np.arange(40) % 12)[:, None], dense, 0))
    assert np.diff(matrix.indptr)[:12].tolist() == list(range(12))
    check(matrix, numbers(0, 2, 30, channels))


def test_resizing(simulated):
    for matrix in (resize((3, 6), (6, 12)), resize((6, 12), (3, 6), "area"), resize((3, 6), (6, 12), transposed=True)):
        check(matrix, numbers(1, 2, matrix.shape[1], 8))


@pytest.mark.parametrize(("rows", "channels"), [(1, 4), (1, 3), (2, 40)])
def test_long_rows_are_summed_by_many_blocks(simulated, rows, channels):
    data = np.random.default_rng(2).random((rows, 700)) / 700
    check(sparse.csr_array(data), numbers(3, 2, 700, channels))
    assert simulated.launches == {f"matrix_parts_{4 if channels % 4 == 0 else 1}": 1} | {
        f"sum_listed_{4 if channels % 4 == 0 else 1}": 1
    }


def test_a_long_row_and_an_empty_one(simulated):
    data = np.zeros((2, 600))
    data[0] = 1 / 600
    check(sparse.csr_array(data), numbers(3, 1, 600, 4))


def test_tables_of_a_matrix_are_made_once(simulated):
    matrix, x = sparse.eye_array(5, format="csr"), to_device(numbers(0, 1, 5, 4))
    spmm(matrix, x)
    before = simulated.uploaded
    np.testing.assert_array_equal(to_host(spmm(matrix, x)), to_host(x))
    assert simulated.uploaded == before


def test_nan_stays_in_its_rows(simulated):
    matrix = sparse.csr_array(np.array([[1.0, 1, 0], [0, 1, 1], [0, 0, 0]]))
    x = numbers(0, 1, 3, 4)
    x[0, 0, 2] = np.nan
    y = to_host(spmm(matrix, to_device(x)))
    np.testing.assert_array_equal(np.argwhere(np.isnan(y)), [[0, 0, 2]])


def test_a_sample_that_does_not_fit_32_bits_is_refused(simulated):
    matrix = sparse.csr_array((1 << 29, 1))
    with pytest.raises(InputError, match="process the picture in parts"):
        spmm(matrix, to_device(numbers(0, 1, 1, 4)))
