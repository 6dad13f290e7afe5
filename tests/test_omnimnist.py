"""Omni-MNIST: where the digits lie and how, the published network, and the script that makes the table."""

import csv
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.spatial.transform import Rotation
from scipy.stats import kstest
from script_modules import script_modules

import spherecnn as sc
from spherecnn.datasets import PlanarDataset, looking_at, omni_mnist, project_planar, random_rotation
from spherecnn.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
GRID = sc.grids.Equirect(60, 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in the format of MNIST: pictures that are bright in the upper left quarter, and five classes."""
    made = tmp_path_factory.mktemp("mnist")
    for prefix, count in (("train", 300), ("t10k", 400)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 2:10, 3:12] = np.random.default_rng(count).integers(128, 256, (count, 8, 9))
        for stem, array in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8) % 5)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (made / f"{prefix}-{stem}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return made


# --- orientations ------------------------------------------------------------------------------------------


def test_tilts_are_uniform_from_pole_to_pole_with_north_up():
    turns = random_rotation(np.random.default_rng(0), "tilt", 5000)
    ahead, east = turns.apply([1.0, 0.0, 0.0]), turns.apply([0.0, 1.0, 0.0])
    lat, lon = np.arcsin(ahead[:, 2]), np.arctan2(ahead[:, 1], ahead[:, 0])
    assert kstest(lat / np.pi + 0.5, "uniform").pvalue > 0.01
    assert kstest(lon / (2 * np.pi) + 0.5, "uniform").pvalue > 0.01
    assert np.degrees(np.abs(lat)).max() > 89.5
    assert abs(np.corrcoef(lat, lon)[0, 1]) < 0.05
    assert np.abs(east[:, 2]).max() < 1e-12
    for i in range(3):
        np.testing.assert_allclose(turns[i].as_matrix(), looking_at(lat[i], lon[i]).as_matrix(), atol=1e-12)


def test_one_tilt_is_the_first_of_many():
    one, many = (random_rotation(np.random.default_rng(3), "tilt", size) for size in (None, 1))
    np.testing.assert_array_equal(one.as_matrix(), many[0].as_matrix())


def test_panoramas_are_not_tilted():
    with pytest.raises(InputError, match="kind is 'tilt'"):
        sc.datasets.RotateAugment(sc.grids.Equirect(8), "tilt")


# --- pictures ----------------------------------------------------------------------------------------------


def test_the_published_form(folder):
    train, test = (omni_mnist(folder, split=split) for split in ("train", "test"))
    x, y = test.batch(np.arange(7))
    assert (x.shape, x.dtype, y.dtype, test.grid) == ((7, 60, 60, 1), np.float32, np.int64, GRID)
    assert (len(train), len(test), train.classes) == (300, 400, list("01234"))
    assert 0 == x.min() < x.max() <= 1
    assert 0.4 < test.mirrored.mean() < 0.6
    assert not omni_mnist(folder, flip=False).mirrored.any()


@pytest.mark.parametrize("flip", [True, False])
def test_the_bright_quarter_is_up_and_to_the_left_and_to_the_right_in_mirrors(folder, flip):
    data = omni_mnist(folder, split="test", flip=flip)
    x, _ = data.batch(np.arange(len(data)))
    light = x.reshape(len(x), -1) * GRID.area
    middle = light @ GRID.xyz / light.sum(axis=1, keepdims=True)
    _, right, up = data.rotations.inv().apply(middle).T
    assert (up > 0.2).all()
    assert np.array_equal(right > 0.2, data.mirrored)
    assert np.array_equal(right < -0.2, ~data.mirrored)


def test_a_picture_at_the_equator_is_what_it_is_without_a_tilt(folder):
    """An upright picture is moved by whole columns; a mirrored one is the mirror of it."""
    data = omni_mnist(folder, split="test")
    data.rotations = Rotation.from_rotvec(np.tile([0, 0, 12 * np.pi / 30], (len(data), 1)))
    pick = [int(np.flatnonzero(data.mirrored == flipped)[0]) for flipped in (False, True)]
    upright, mirrored = (data.batch(np.array([i]))[0][0, :, :, 0] for i in pick)
    flat = data.images[pick] / 255
    centred = project_planar(flat.astype(np.float32), GRID)[..., 0]
    np.testing.assert_allclose(upright, np.roll(centred[0], 12, axis=1), atol=2e-6)
    np.testing.assert_allclose(mirrored, np.roll(centred[1, :, ::-1], 12, axis=1), atol=2e-6)


def test_a_picture_over_a_pole_reaches_around_it(folder):
    data = omni_mnist(folder, split="test")
    lat = np.degrees(np.arcsin(data.rotations.apply([1.0, 0.0, 0.0])[:, 2]))
    bright = PlanarDataset(np.ones((len(data), 28, 28)), data.labels, data.classes, GRID, rotate="tilt", seed=(1, 1))
    np.testing.assert_allclose(bright.rotations.as_matrix(), data.rotations.as_matrix())
    x, _ = bright.batch(np.arange(len(data)))
    for near, row in ((lat > 45, 0), (lat < -45, -1)):
        assert near.sum() > 50
        assert (x[near, row] == 1).all()
    assert (x[np.abs(lat) < 25][:, [0, -1]] == 0).all()


def test_the_test_set_is_fixed_and_the_training_set_is_drawn_anew(folder):
    data, again, other = (omni_mnist(folder, split="test", seed=seed) for seed in (1, 1, 2))
    every = np.arange(len(data))
    assert np.array_equal(data.batch(every)[0], again.batch(every)[0])
    assert np.array_equal(data.batch(every[[7, 3]])[0], again.batch(every)[0][[7, 3]])
    assert not np.array_equal(data.batch(every)[0], other.batch(every)[0])

    train = omni_mnist(folder)
    x, y = train.flat.batch(every[:50])
    rng = np.random.default_rng(0)
    first, second = (train.place(x, y, rng)[0] for _ in range(2))
    assert x.shape == (50, 28, 28, 1)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, train.place(x, y, np.random.default_rng(0))[0])
    assert np.array_equal(x, train.flat.batch(every[:50])[0]), "the flat pictures have changed"


def test_bad_options_are_told(folder):
    with pytest.raises(InputError, match="rotate is 'up'; expected one of 'none', 'yaw', 'so3', 'tilt'"):
        sc.datasets.mnist(folder, GRID, rotate="up")
    with pytest.raises(InputError, match="flip is 'often'"):
        omni_mnist(folder, flip="often")
    with pytest.raises(InputError, match="3 pictures and 2 labels"):
        PlanarDataset(np.zeros((3, 4, 4)), np.zeros(2, int), ["a"], GRID)


# --- network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["planar", "circular", "sphere", "tangent"])
@pytest.mark.parametrize(("kernel", "count"), [(3, 162_826), (5, 196_106)])
def test_the_published_parameters(method, kernel, count):
    net = sc.models.spherenet(method, 1, 10, GRID, kernel_size=kernel, rng=0)
    assert net.parameter_count == count
    assert net.features.out_shape((1, 60, 60, 1)) == (1, 15, 15, 64)
    assert net.config["pool_size"] == (3 if method == "tangent" else 2)


# --- the script --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    """The module of scripts/omnimnist.py."""
    with script_modules("omnimnist") as found:
        yield found["omnimnist"]


def call(script, *words):
    result = CliRunner().invoke(script.main, list(map(str, words)))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def read(path):
    lines = path.read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def test_the_script_says_how_to_use_it(script):
    assert "python scripts/omnimnist.py" in call(script, "--help").split("Examples")[1]


def test_the_script_writes_goes_on_and_keeps(script, folder, tmp_path):
    words = ("--data", folder, "--out", tmp_path, "--method", "planar", "--digits", 256, "--epochs", 2)
    call(script, *words)
    rows, bands = read(tmp_path / "results.csv"), read(tmp_path / "latitudes.csv")
    assert [(r["method"], r["parameters"], r["digits"], r["epoch"]) for r in rows] == [
        ("planar", str(162_826 - 5 * 14_401), "256", "1"),
        ("planar", str(162_826 - 5 * 14_401), "256", "2"),
    ]
    assert len(bands) == 6
    assert sum(int(r["test digits"]) for r in bands) == 400
    mean = sum(int(r["test digits"]) * float(r["test error %"]) for r in bands) / 400
    assert mean == pytest.approx(float(rows[-1]["test error %"]), abs=1e-3)
    assert (tmp_path / "omnimnist.png").stat().st_size > 10_000

    (run,) = (p.parent for p in tmp_path.glob("*/latitudes.csv"))
    stopped = read(run / "log.csv")
    again = call(script, *words, "--seeds", 2)
    assert again.count("kept from before") == 1
    assert "| 2 | 0.001, cosine | 2 |" in again
    assert read(run / "log.csv") == stopped


def test_a_stopped_run_goes_on_to_the_same_bits(script, folder, tmp_path, monkeypatch):
    words = ("--data", folder, "--method", "circular", "--digits", 128, "--epochs", 2, "--out")
    call(script, *words, tmp_path / "whole")
    whole_fit = sc.training.fit

    def stopping(*args, **kwargs):
        kwargs["schedule"] = sc.training.CosineLR(
            optimizer := sc.training.Adam(args[0].named_params(), lr=kwargs["lr"]), kwargs["epochs"]
        )
        whole_fit(*args, **kwargs | {"optimizer": optimizer, "epochs": 1})
        raise KeyboardInterrupt

    monkeypatch.setattr(sc.training, "fit", stopping)
    assert CliRunner().invoke(script.main, [*map(str, words), str(tmp_path / "parts")]).exit_code != 0
    monkeypatch.undo()
    (run,) = (p for p in (tmp_path / "parts").iterdir() if p.is_dir())
    assert len(read(run / "log.csv")) == 1
    call(script, *words, tmp_path / "parts")
    kept, other = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in read(tmp_path / name / "results.csv")]
        for name in ("whole", "parts")
    )
    assert kept == other
    assert len(kept) == 2


def test_the_table_in_the_docs_is_what_the_committed_csv_says(script):
    table = script.markdown(read(ROOT / "benchmarks" / "omnimnist.csv"))
    assert table.count("\n") > 5
    assert table in (ROOT / "docs" / "omnimnist.md").read_text()


def test_tangent_beats_planar_on_every_seed_that_both_were_trained_from():
    runs = {}
    for row in read(ROOT / "benchmarks" / "omnimnist.csv"):
        if row["epoch"] == row["epochs"]:
            runs[row["method"], row["kernel"], row["seed"]] = row
    pairs = [(runs["planar", *key[1:]], row) for key, row in runs.items() if key[0] == "tangent"]
    assert pairs
    for planar, tangent in pairs:
        assert tangent["parameters"] == planar["parameters"]
        assert float(tangent["test error %"]) < float(planar["test error %"])
