"""Spherical MNIST and the seams of SpherePHD: the two scripts, and what is committed of their results."""

import csv
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from script_modules import script_modules

import spherecnn as sc

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "spherical_mnist.md"


@pytest.fixture(scope="module")
def scripts():
    """The modules of the two scripts, by name."""
    with script_modules("spherical_mnist", "seams") as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in the format of MNIST: class 0 is bright on its left half, class 1 everywhere."""
    made = tmp_path_factory.mktemp("mnist")
    for prefix, count in (("train", 96), ("t10k", 40)):
        labels = np.arange(count, dtype=np.uint8) % 2
        images = np.full((count, 28, 28), 255, np.uint8)
        images[labels == 0, :, 14:] = 0
        for stem, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (made / f"{prefix}-{stem}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return made


def call(script, *words):
    result = CliRunner().invoke(script.main, list(map(str, words)))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def read(path):
    lines = path.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


# --- spherical MNIST ---------------------------------------------------------------------------------------


def test_every_method_has_about_as_many_sites(scripts):
    for level, faces, pixels in ((3, 1280, 24 * 48), (4, 5120, 52 * 104), (5, 20480, 100 * 200)):
        assert scripts["spherical_mnist"].grid_of("spherephd", level).sites == faces
        assert scripts["spherical_mnist"].grid_of("planar", level).sites == pixels


def test_every_method_has_about_as_many_parameters(scripts):
    """Of width w with t taps: t (w + 30 w^2) weights, 26 w of the normalisation, 40 w + 10 of the last layer."""
    for method, taps, width in (("planar", 9, 16), ("circular", 9, 16), ("spherephd", 10, 15)):
        count = taps * (width + 30 * width**2) + 66 * width + 10
        assert scripts["spherical_mnist"].fitting_width(method, 4, 16, 10) == (width, count)
        assert abs(count / 70_330 - 1) < 0.05


def test_the_script_writes_goes_on_and_keeps(scripts, folder, tmp_path):
    words = ("--data", folder, "--level", 2, "--width", 2, "--epochs", 2, "--lr", 0.05, "--out", tmp_path)
    call(scripts["spherical_mnist"], *words, "--method", "spherephd", "--train", "none")
    (row,) = read(tmp_path / "results.csv")
    assert (row["method"], row["train"], row["sites"], row["digits"]) == ("spherephd", "none", "320", "96")
    (run,) = (p.parent for p in tmp_path.glob("*/tested.csv"))
    assert len(read(run / "log.csv")) == 2
    before = (run / "last.safetensors").read_bytes()

    said = call(scripts["spherical_mnist"], *words, "--method", "spherephd", "--method", "planar", "--train", "none")
    assert said.count("kept from before") == 1
    assert (run / "last.safetensors").read_bytes() == before
    assert [r["method"] for r in read(tmp_path / "results.csv")] == ["planar", "spherephd"]
    assert said.index("| upright | planar | 288 |") < said.index("| upright | spherephd | 320 |")
    assert (tmp_path / "spherical_mnist.png").stat().st_size > 10_000


def test_accuracies_are_those_of_the_saved_network_on_both_kinds_of_digits(scripts, folder, tmp_path):
    words = ("--level", 2, "--width", 2, "--epochs", 3, "--lr", 0.05, "--method", "planar", "--train", "so3")
    call(scripts["spherical_mnist"], "--data", folder, "--out", tmp_path, *words)
    (row,), (run,) = read(tmp_path / "results.csv"), tmp_path.glob("planar*")
    net = sc.models.classifier("planar", 1, 2, sc.grids.Equirect(12), int(row["width"]))
    header, arrays, _ = sc.training.load_checkpoint(run / "last.safetensors")
    sc.training.checkpoint.restore_model(net, header, arrays)
    for kind, place in (("upright", "none"), ("rotated", "so3")):
        test = sc.datasets.mnist(folder, net.grid, split="test", rotate=place, seed=1)
        x, y = test.batch(np.arange(len(test)))
        assert float(row[f"{kind} accuracy %"]) == pytest.approx(100 * (net(x).argmax(axis=1) == y).mean(), abs=0.01)


# --- seams -------------------------------------------------------------------------------------------------


def test_a_response_of_latitude_alone_has_no_spread(scripts):
    grid = sc.grids.Polyhedron(4)
    y = np.stack([np.sin(3 * grid.lat), np.cos(2 * grid.lat)], axis=1)
    assert max(scripts["seams"].spread(grid, y)) < 1e-8


def test_a_wave_along_the_parallels_is_spread_by_its_own_size(scripts):
    """Faces come in fives, 72 degrees apart: cos lon has the mean 0 and the mean square 1/2 on each five."""
    grid = sc.grids.Polyhedron(4)
    kept = grid.north_up
    base, wave = np.sin(grid.lat), 0.3 * np.cos(grid.lon)
    whole = np.average((base - np.average(base[kept], weights=grid.area[kept])) ** 2 * kept, weights=grid.area * kept)
    expected = np.sqrt(0.09 / 2 / (whole + 0.09 / 2))
    caps, belt, most = scripts["seams"].spread(grid, (base + wave)[:, None])
    assert (caps, belt) == (pytest.approx(expected, rel=1e-6), pytest.approx(expected, rel=1e-6))
    assert most == pytest.approx(np.sqrt(2) * expected, rel=0.01)


def test_a_kernel_of_the_face_alone_answers_with_the_field(scripts):
    grid = sc.grids.Polyhedron(3)
    kernel = np.zeros((10, 1))
    kernel[0] = 2
    for way in ("section", "north"):
        np.testing.assert_allclose(
            scripts["seams"].response(grid, kernel, way)[:, 0], 2 * np.sin(3 * grid.lat), atol=1e-12
        )


def test_the_north_orientation_removes_the_seams(scripts, tmp_path):
    call(scripts["seams"], "--level", 3, "--kernels", 20, "--out", tmp_path)
    shares = {(r["kernels"], r["orientation"]): float(r["caps %"]) for r in read(tmp_path / "seams.csv")}
    assert len(shares) == 6
    for kernels in ("as drawn", "sum 0", "sum 0, over the edge"):
        assert shares[kernels, "section"] > 4 * shares[kernels, "north"]
    assert (tmp_path / "seams.png").stat().st_size > 10_000


# --- what is committed -------------------------------------------------------------------------------------


def test_the_tables_in_the_docs_are_what_the_committed_csv_say(scripts):
    for name, script in (("spherical_mnist",) * 2, ("spherical_mnist_60000", "spherical_mnist"), ("seams",) * 2):
        table = scripts[script].markdown(read(ROOT / "benchmarks" / f"{name}.csv"))
        assert table.count("\n") > 4
        assert table in DOCS.read_text()


@pytest.mark.parametrize(
    ("name", "trained"), [("spherical_mnist", ("none", "so3")), ("spherical_mnist_60000", ("so3",))]
)
def test_the_committed_runs_compare_equals(name, trained):
    rows = read(ROOT / "benchmarks" / f"{name}.csv")
    for train in trained:
        own = [row for row in rows if row["train"] == train]
        assert {"planar", "circular", "spherephd"} <= {row["method"] for row in own}
        assert len({(row["digits"], row["epochs"], row["lr"], row["batch"], row["fov"]) for row in own}) == 1
        for column, tolerance in (("parameters", 0.05), ("sites", 0.06)):
            counts = [int(row[column]) for row in own]
            assert max(counts) / min(counts) - 1 < tolerance
