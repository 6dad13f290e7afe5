"""Divergence and vorticity on meshes, and the scripts that measure the mesh operators on harmonics and on winds."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from script_modules import script_modules

from spherecnn.errors import InputError
from spherecnn.grids import Icosphere, operators
from spherecnn.grids.base import compass

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "mesh.md"


@pytest.fixture(scope="module")
def scripts():
    """The modules of the two scripts, by name."""
    with script_modules("mesh_operators", "mesh_winds") as found:
        yield found


def read(scripts, path):
    return scripts["mesh_operators"].read(path)


def on(grid, vectors):
    """Components (P,) to the east and to the north of vectors (P, 3)."""
    return tuple((vectors * way).sum(axis=1) for way in compass(grid.lat, grid.lon))


def applied(pair, components):
    return sum(matrix @ part for matrix, part in zip(pair, components, strict=True))


# --- divergence and vorticity ------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 0, 0), (0.3, -0.5, 0.7)])
def test_a_rotating_sphere(axis):
    """About any axis a: no divergence, and the vorticity 2 a . x, at the poles as elsewhere."""
    off = []
    for level in (4, 5):
        grid = Icosphere(level)
        wind = on(grid, np.cross(axis, grid.xyz))
        assert abs(applied(operators.divergence(grid), wind)).max() < 1e-11
        off.append(abs(applied(operators.vorticity(grid), wind) - 2 * grid.xyz @ axis).max())
    assert off[0] < 0.012
    assert off[1] < off[0] / 1.8


@pytest.mark.parametrize("axis", [(0, 0, 1), (1, 0, 0), (0.3, -0.5, 0.7)])
def test_a_wind_towards_a_point(axis):
    """The gradient of a . x is a less its part along x: its divergence is -2 a . x, and it does not turn."""
    off = []
    for level in (4, 5):
        grid = Icosphere(level)
        wind = on(grid, axis - (grid.xyz @ axis)[:, None] * grid.xyz)
        found = applied(operators.divergence(grid), wind) + 2 * grid.xyz @ axis
        off.append(max(abs(found).max(), abs(applied(operators.vorticity(grid), wind)).max()))
    assert off[0] < 0.02
    assert off[1] < off[0] / 1.8


def test_all_circulations_cancel():
    """Every edge is gone along in both directions, whatever the wind."""
    grid = Icosphere(3)
    wind = np.random.default_rng(0).standard_normal((2, grid.sites))
    turning = applied(operators.vorticity(grid), wind)
    whole = operators.vertex_areas(grid, "barycentric") * turning
    assert abs(whole.sum()) < 1e-11 * abs(whole).sum()


def test_they_read_what_the_other_operators_read():
    grid = Icosphere(2)
    pattern = operators.laplacian(grid) != 0
    for matrix in (*operators.divergence(grid), *operators.vorticity(grid)):
        assert ((matrix != 0) > pattern).nnz == 0


# --- harmonics ---------------------------------------------------------------------------------------------


def test_harmonics_are_orthonormal(scripts):
    """By Gauss's quadrature in latitude and even steps in longitude, which are exact."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    lon = np.arange(24) * np.pi / 12
    lat, lon = (x.ravel() for x in np.meshgrid(np.arcsin(nodes), lon, indexing="ij"))
    share = np.repeat(weights, 24) * np.pi / 12
    values = np.hstack([scripts["mesh_operators"].harmonics(degree, lat, lon)[0] for degree in range(1, 9)])
    np.testing.assert_allclose(values.T @ (share[:, None] * values), np.eye(80), atol=1e-12)


def test_harmonics_of_degree_two_by_their_polynomials(scripts):
    """With x, y, z on the sphere; gradients are those in space along the unit vectors."""
    grid, norm = Icosphere(2), np.sqrt(15 / (4 * np.pi))
    x, y, z = grid.xyz.T
    zero = np.zeros_like(x)
    values = [(3 * z**2 - 1) / np.sqrt(12), z * x, z * y, (x**2 - y**2) / 2, x * y]
    gradients = [
        (zero, zero, 6 * z / np.sqrt(12)),
        (z, zero, x),
        (zero, z, y),
        (x, -y, zero),
        (y, x, zero),
    ]
    found = scripts["mesh_operators"].harmonics(2, grid.lat, grid.lon)
    np.testing.assert_allclose(found[0], norm * np.stack(values, axis=1), atol=1e-12)
    for k, gradient in enumerate(gradients):
        east, north = on(grid, np.stack(gradient, axis=1))
        np.testing.assert_allclose(found[1][:, k], norm * east, atol=1e-12)
        np.testing.assert_allclose(found[2][:, k], norm * north, atol=1e-12)


def test_derivatives_of_harmonics_are_limits_of_differences(scripts):
    harmonics, step = scripts["mesh_operators"].harmonics, 1e-5
    lat, lon = np.random.default_rng(0).uniform(-1.4, 1.4, (2, 50))
    _, east, north = harmonics(8, lat, lon)
    by_lon = (harmonics(8, lat, lon + step)[0] - harmonics(8, lat, lon - step)[0]) / (2 * step)
    by_lat = (harmonics(8, lat + step, lon)[0] - harmonics(8, lat - step, lon)[0]) / (2 * step)
    np.testing.assert_allclose(east, by_lon / np.cos(lat)[:, None], atol=1e-6)
    np.testing.assert_allclose(north, by_lat, atol=1e-6)


def test_the_laplacian_divided_by_areas_stays_off_at_thirty_vertices(scripts):
    """The middles of the icosahedron's edges, the poles among them; the corners with five neighbours are right."""
    grid = Icosphere(5)
    value = scripts["mesh_operators"].harmonics(4, grid.lat, grid.lon)[0]
    off = abs(operators.laplacian(grid, "mass") @ value + 20 * value).max(axis=1) / (20 / np.sqrt(4 * np.pi))
    assert set(np.flatnonzero(off > 0.05)) == set(range(12, 42))
    assert off[:12].max() < 0.003
    share = operators.vertex_areas(grid)[:12] / operators.vertex_areas(grid, "barycentric")[:12]
    assert share == pytest.approx(1.15, abs=0.005)


# --- the scripts -------------------------------------------------------------------------------------------


def test_the_script_measures_what_is_committed(scripts, tmp_path):
    result = CliRunner().invoke(
        scripts["mesh_operators"].main, ["--level", "2", "--level", "3", "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output + repr(result.exception)
    for name in ("", "_poles"):
        committed = read(scripts, ROOT / "benchmarks" / f"mesh_operators{name}.csv")
        committed = [row for row in committed if row["level"] in "23"]
        assert len(committed) > 8
        for found, row in zip(read(scripts, tmp_path / f"mesh_operators{name}.csv"), committed, strict=True):
            for column, value in row.items():
                if "rms" in column or "largest" in column:
                    assert float(found[column]) == pytest.approx(float(value), rel=2e-3)
                else:
                    assert found[column] == value
    turned = read(scripts, tmp_path / "mesh_operators_rotation.csv")
    committed = read(scripts, ROOT / "benchmarks" / "mesh_operators_rotation.csv")
    for found, row in zip(turned, [row for row in committed if row["level"] in "23"], strict=True):
        assert all(found[name] == row[name] for name in ("level", "angle", "operator", "form"))
        assert (float(found["rms"]) < 1e-12) == (found["angle"] == "180")
        if found["angle"] != "180":  # rounding alone
            assert float(found["rms"]) == pytest.approx(float(row["rms"]), rel=0.06)
    assert (tmp_path / "mesh_operators.png").stat().st_size > 20_000


@pytest.fixture(scope="module")
def winds(tmp_path_factory):
    """A turning and a spreading wind in the layout of the reference files: a stream function and a potential."""
    folder, radius = tmp_path_factory.mktemp("winds"), 6.3712e6
    lat = np.radians(np.linspace(90, -90, 37))[:, None]
    lon = np.radians(np.arange(72) * 5)
    psi, chi = 1e8 * np.sin(lat) + 0 * lon, 2e7 * np.cos(lat) * np.cos(lon)
    u = (-1e8 * np.cos(lat) - 2e7 * np.sin(lon)) / radius
    v = -2e7 * np.sin(lat) * np.cos(lon) / radius
    fields = {"uwnd": u, "vwnd": v, "psi": psi, "chi": chi, "vrt": -2 * psi / radius**2, "div": -2 * chi / radius**2}
    for name, field in fields.items():
        np.save(folder / f"{name}.ref.npy", field.astype(np.float32)[(None,) * 2 if name in ("uwnd", "vwnd") else ...])
    return folder


def test_winds_agree_with_what_they_are_made_of(scripts, winds, tmp_path):
    result = CliRunner().invoke(
        scripts["mesh_winds"].main, ["--winds", str(winds), "--level", "4", "--out", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output + repr(result.exception)
    rows = read(scripts, tmp_path / "mesh_winds.csv")
    assert len(rows) == 16
    for row in rows:
        if row["read"] == "quintic":
            assert float(row["correlation"]) > 0.9999, row
            assert float(row["difference"]) < 0.01, row
    assert (tmp_path / "mesh_winds.png").stat().st_size > 20_000


def test_fields_are_read_over_the_seam_and_the_poles(scripts, winds):
    script, grid = scripts["mesh_winds"], Icosphere(3)
    fields = script.load(winds)
    x, _, z = grid.xyz.T
    np.testing.assert_allclose(script.read_at(fields["psi"], grid.xyz, 5), 1e8 * z, atol=20)
    np.testing.assert_allclose(script.read_at(fields["chi"], grid.xyz, 5), 2e7 * x, atol=20)
    u, v = script.winds_at(fields, grid, 5)
    pole = 12  # its east is that of longitude 0, along y
    assert v[pole] == pytest.approx(-2e7 / 6.3712e6, abs=1e-4)
    assert u[pole] == pytest.approx(0, abs=1e-4)


def test_smoothing_takes_a_degree_by_half(scripts):
    grid = Icosphere(4)
    value = scripts["mesh_operators"].harmonics(5, grid.lat, grid.lon)[0]
    smooth = scripts["mesh_winds"].smoother(grid, 5)
    smoothed = np.stack([smooth(column) for column in value.T], axis=1)
    np.testing.assert_allclose(smoothed, value / 2, atol=0.02)


def test_winds_that_cannot_be_read(scripts, winds, tmp_path):
    load = scripts["mesh_winds"].load
    with pytest.raises(InputError, match=r"uwnd\.ref\.npy cannot be read .*; expected wind to the east"):
        load(tmp_path)
    for path in winds.iterdir():
        np.save(tmp_path / path.name, np.load(path))
    np.save(tmp_path / "div.ref.npy", np.zeros((36, 72)))
    with pytest.raises(InputError, match=r"div\.ref\.npy has shape \(36, 72\)"):
        load(tmp_path)
    (tmp_path / "vrt.ref.npy").write_bytes((tmp_path / "vrt.ref.npy").read_bytes()[:200])
    result = CliRunner().invoke(scripts["mesh_winds"].main, ["--winds", str(tmp_path)])
    assert result.exit_code == 1
    assert "vrt.ref.npy cannot be read" in result.output


# --- what is committed -------------------------------------------------------------------------------------


def test_the_tables_in_the_docs_are_what_the_committed_csv_say(scripts):
    page, script = PAGE.read_text(), scripts["mesh_operators"]
    found = {
        name: read(scripts, ROOT / "benchmarks" / f"{name}.csv")
        for name in ("mesh_operators", "mesh_operators_poles", "mesh_operators_rotation", "mesh_winds")
    }
    tables = [
        script.markdown(found["mesh_operators"]),
        script.meshes_markdown(found["mesh_operators"]),
        script.poles_markdown(found["mesh_operators_poles"]),
        script.rotation_markdown(found["mesh_operators_rotation"]),
        scripts["mesh_winds"].markdown(found["mesh_winds"]),
    ]
    for table in tables:
        assert table.count("\n") > 8
        assert table in page
    icosphere = script.pooled([row for row in found["mesh_operators"] if row["mesh"] == "icosphere"])
    published, compass = icosphere["north", "published"], icosphere["north", "compass"]
    whole, belt, same = published["largest"][7], published["largest in the belt"][7], compass["largest in the belt"][7]
    assert same == pytest.approx(belt, rel=0.01)
    assert f"of {100 * whole:.0f} % over the sphere, but of {script.percent(belt)} % within 75 degrees" in page


def test_orders_of_convergence(scripts):
    """Of second order in the mean, less where the sizes of faces jump; published forms stay off somewhere."""
    rows = read(scripts, ROOT / "benchmarks" / "mesh_operators.csv")
    found = scripts["mesh_operators"].pooled([row for row in rows if row["mesh"] == "icosphere"])
    order = scripts["mesh_operators"].order
    for name in ("east", "north", "divergence", "vorticity"):
        form = "compass" if name in ("east", "north") else "faces"
        assert order(found[name, form]["rms"]) > 1.7
        assert order(found[name, form]["largest"]) > 1.1
    assert order(found["laplacian", "mass"]["rms"]) > 1.4
    for name in ("laplacian", "east", "north"):
        assert abs(order(found[name, "published"]["largest"])) < 0.2
    assert abs(order(found["laplacian", "published"]["rms"])) < 0.2


def test_what_the_docs_say_of_mnist_is_what_the_committed_csv_says(scripts):
    page = PAGE.read_text()
    (row,) = read(scripts, ROOT / "benchmarks" / "mesh_mnist.csv")
    curve = read(scripts, ROOT / "benchmarks" / "mesh_mnist_curve.csv")
    assert f"**{row['test last %']} %** of the 10,000 test digits" in page
    assert f"and {row['test best %']} % with the weights" in page
    assert f"{int(row['parameters']):,} parameters" in page
    assert f"took {float(row['seconds']) / 60:.0f} minutes" in page
    assert len(curve) == int(row["epochs"])
    assert max(float(epoch["val_accuracy"]) for epoch in curve) == pytest.approx(float(row["validation %"]) / 100)
