"""The comparison of methods over latitude: its measures on cases known by hand, and the whole of it in small."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from script_modules import script_modules

import spherecnn as sc

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script():
    """The module of scripts/sphconv_accuracy.py."""
    with script_modules("sphconv_accuracy") as found:
        yield found["sphconv_accuracy"]


@pytest.fixture(scope="module")
def methods(script):
    return sys.modules["sphconv_accuracy_methods"]


@pytest.fixture(scope="module")
def quick(script, tmp_path_factory):
    """The folder and the output of a quick run."""
    out = tmp_path_factory.mktemp("quick")
    result = CliRunner().invoke(script.main, ["--quick", "--out", str(out)])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return out, result.output


def rows_of(path):
    return list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#")))


def column(rows, method, what="error"):
    return {float(r["latitude"]): float(r[what]) for r in rows if r["method"] == method}


def test_it_says_how_to_use_it(script):
    said = CliRunner().invoke(script.main, ["--help"]).output
    assert "python scripts/sphconv_accuracy.py" in said.split("Examples")[1]


def test_quick_writes_what_it_says(quick, script):
    out, said = quick
    for name in ("results.csv", "results.md", "sphconv_accuracy.png"):
        assert name in said
        assert (out / name).stat().st_size > 0
    rows = rows_of(out / "results.csv")
    assert len(script.names(rows)) == 11
    assert len(rows) == 11 * len(script.QUICK.latitudes)
    assert script.markdown(rows) in (out / "results.md").read_text()


def test_the_statements_of_the_paper_hold(quick, script):
    rows = rows_of(quick[0] / "results.csv")
    errors = {name.split(",")[0] if "," in name else name: column(rows, name) for name in script.names(rows)}
    sphconv, projected = column(rows, script.SPHCONV), column(rows, script.PROJECTED)
    high = [lat for lat in sphconv if lat > 30]
    assert high
    for lat in high:
        assert sphconv[lat] < 0.5 * errors["DIRECT"][lat]
        assert sphconv[lat] < errors["INTERP"][lat]
        assert projected[lat] < errors["DIRECT"][lat]
    assert not any(errors["exact"].values())


def test_interp_costs_no_less_than_sphconv(quick, script):
    rows = rows_of(quick[0] / "results.csv")
    cost = {r["method"].split(",")[0]: float(r["multiply_adds"]) for r in rows}
    assert cost["SphConv"] <= cost["INTERP"] < cost["exact"]


def test_errors_are_those_of_the_rows_near_a_latitude(script):
    sphere = script.Sphere(4, 8)  # rows at 67.5, 22.5, -22.5 and -67.5 degrees
    truth = np.zeros((1, 4, 8, 1))
    truth[..., ::2, :] = 2  # the mean is 1 and the spread 1
    found = truth + np.array([0.1, 0.3, 0.3, 0.1]).reshape(4, 1, 1)
    np.testing.assert_allclose(script.errors(found, truth, sphere, np.array([20, 70])), [0.3, 0.1])


def test_tangent_sites_at_the_equator_are_a_square_of_pixels(script):
    sphere = script.Sphere(64, 5)
    row, column = np.divmod(sphere.tangent_sites(sphere.grid.row_lat[32], sphere.grid.column_lon[64]), 128)
    assert (row.reshape(5, 5) == np.arange(30, 35)[:, None]).all()
    assert (column.reshape(5, 5) == np.arange(62, 67)).all()


def test_pictures_stand_upright_where_they_are_placed(script):
    sphere = script.Sphere(32, 8)
    picture = np.zeros((8, 8, 1), np.float32)
    picture[:4] = 1  # its upper half
    panorama = sphere.panoramas(picture[None, None], np.array([[[0.4, 1.0]]]))[0, :, :, 0]
    lat = np.radians(5) * np.array([1, -1]) + 0.4
    sites = sc.grids.resample.nearest_sites(sphere.grid, sc.grids.directions(lat, np.array([1.0, 1.0])))
    north, south = panorama.ravel()[sites]
    assert north > 0.9
    assert south == 0


def test_interpolation_leaves_what_is_known_and_is_linear_between(methods):
    matrix = methods.linear(np.array([0, 2, 4]), np.arange(5))
    np.testing.assert_allclose(matrix @ [1.0, 3.0, 7.0], [1, 2, 3, 5, 7])


def test_costs_by_hand(methods):
    grid = sc.grids.Equirect(8)
    net = sc.models.stack("planar", 1, 4, grid, width=2, depth=2, rng=0)
    # 3x3 outputs of 9 x 2 multiply-adds, one of 9 x 8; 25 pixels of the patch, each read from four.
    assert methods.exact_cost(net) == 9 * 18 + 72 + 4 * 25
    assert methods.network_cost(net) == 128 * (18 + 72)
    tangent = sc.transfer.to_sphere(net, "tangent")[0]
    assert methods.network_cost(tangent) == 128 * (18 + 72 + 4 * 9 * (1 + 2))
    sphconv = sc.models.build(net.config | {"method": "sphconv"})
    taps = [16 * sum(kh * kw for kh, kw in sphconv.features[i].sizes) for i in (0, 2)]
    assert methods.network_cost(sphconv) == 2 * taps[0] + 8 * taps[1]


@pytest.mark.parametrize("name", ["perspective", "interp"])
def test_a_constant_panorama_has_constant_features(methods, name):
    net = sc.models.stack("planar", 1, 3, sc.grids.Equirect(16), width=2, depth=2, rng=0)
    method = methods.perspective(net) if name == "perspective" else methods.interp(net, methods.network_cost(net))
    x = np.full((1, 16, 32, 1), 0.7, np.float32)
    np.testing.assert_allclose(method.features(x), methods.exact_method(net).features(x), atol=1e-6)


@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_the_tables_of_the_page_are_what_the_committed_csv_says(script, name):
    rows = rows_of(ROOT / "benchmarks" / f"sphconv_accuracy_{name}.csv")
    assert script.markdown(rows) in (ROOT / "docs" / "sphconv_accuracy.md").read_text()
