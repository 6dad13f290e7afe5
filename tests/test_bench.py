"""The speed table: every row runs, and compares things that compute the same."""

import numpy as np
import pytest

from spherecnn import InputError, bench

CASES = bench.cases(smallest=True)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{c.name}, {c.shape}, {c.which}" for c in CASES])
def test_row_measures_the_same_on_both_sides(number):
    torch = pytest.importorskip("torch")
    ours, theirs = CASES[number].make(torch)
    got, expected = ours(), theirs()
    if CASES[number].which == "forward":
        expected = np.moveaxis(expected.numpy(), 1, -1)
        inner = (slice(None), *[slice(2, -2)] * (got.ndim - 2)) if "bilinear" in CASES[number].name else ...
        np.testing.assert_allclose(got[inner], expected[inner], rtol=0, atol=1e-4)
    elif isinstance(got, np.ndarray):
        dx = np.moveaxis((expected[0] if isinstance(expected, tuple) else expected).numpy(), 1, -1)
        if "bilinear" not in CASES[number].name:
            np.testing.assert_allclose(got, dx, rtol=0, atol=1e-4 * np.abs(dx).max())


def test_names_are_unique_and_rows_run_without_torch():
    names = [(c.name, c.shape, c.which) for c in bench.cases()]
    assert len(set(names)) == len(names) == len(CASES)
    ours, theirs = CASES[0].make(None)
    assert theirs is None
    assert np.isfinite(ours()).all()


def test_rows_are_chosen_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "cases", lambda smallest=False: CASES)
    table = bench.run(tmp_path / "speed.csv", quick=True, only="max unpool")
    assert table
    assert {row["case"] for row in table} == {"max unpool 2"}
    with pytest.raises(InputError, match="no row has 'cubes' in its name; expected a part of one of: circular 3x3"):
        bench.run(tmp_path / "speed.csv", only="cubes")
