"""Whether the tests of this folder run at all."""

import pytest


def test_cuda_extra(missing_packages):
    if missing_packages:
        pytest.skip(f"tests of CUDA kernels need pip install 'spherecnn[cuda-test]' ({', '.join(missing_packages)})")
