"""The script of the land, sea and lake task, on a small planet made here in the same file formats."""

from __future__ import annotations

import csv
import gzip
import zlib

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from script_modules import script_modules

import spherecnn as sc

SMALL = ["--height", "8", "--epochs", "1", "--steps", "2", "--batch-size", "2", "--width", "2", "--depth", "2"]
COLOURS = np.array([[5, 15, 70], [120, 100, 50], [20, 60, 120]], np.uint8)


@pytest.fixture(scope="module")
def script():
    """The module of scripts/earth.py."""
    with script_modules("earth") as found:
        yield found["earth"]


def planet():
    """Classes (32, 64), north first: two continents, and a lake in the held-out band; its edges are even."""
    classes = np.zeros((32, 64), int)
    classes[8:20, 30:50] = 1
    classes[22:28, 4:16] = 1
    classes[10:16, 38:44] = 2
    return classes


def write(folder, classes, pack=gzip.compress, picture=None):
    """The files of the planet, of which the mask says `classes`, and the picture too where it is given."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.repeat(np.repeat(COLOURS[planet() if picture is None else picture], 2, axis=0), 2, axis=1)
    Image.fromarray(pixels).save(folder / "bmng.jpg", quality=95)
    (folder / "lsmask_10min_h.bin").write_bytes(pack(classes[::-1].astype(np.uint8).tobytes()))
    return folder


def call(script, *words, code=0):
    result = CliRunner().invoke(script.main, list(map(str, words)))
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


# --- from files to a table -----------------------------------------------------------------------------------


def test_files_to_table_and_picture_and_a_finished_run_is_kept(script, tmp_path):
    data, out = write(tmp_path / "data", planet()), tmp_path / "out"
    words = ["--data", data, *SMALL, "--method", "planar", "--method", "circular", "--out", out]
    assert "Wrote" in call(script, *words)
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert [r["method"] for r in rows] == ["planar", "circular"]
    planar, circular = ({k: float(v) for k, v in r.items() if k != "method"} for r in rows)
    assert planar["parameters"] == circular["parameters"]
    for row in (planar, circular):
        assert all(0 <= row[k] <= 1 for k in row if k.startswith(("iou", "strip", "changed")) and np.isfinite(row[k]))
    assert circular["changed_half_turn"] == circular["strip_changed"] == 0
    assert circular["iou_inside"] == circular["iou_away"]
    with Image.open(out / "earth.png") as picture:
        assert picture.size[0] > 600
    weights = {m: (out / f"{m}-0" / "last.safetensors").read_bytes() for m in ("planar", "circular")}
    assert "epoch" not in call(script, *words)
    assert weights == {m: (out / f"{m}-0" / "last.safetensors").read_bytes() for m in weights}
    assert "other settings" in call(script, *words, "--lr", 1, code=1)


def test_nothing_of_the_band_is_trained_on(script, tmp_path):
    other = planet()
    other[24:, 40:44] = 1  # 45 to 67 degrees east; a JPEG block ends where this does
    grid, weights = sc.grids.Equirect(8), []
    pictures, labels = [], []
    for name, classes in (("true", planet()), ("other", other)):
        data = write(tmp_path / name, classes, picture=classes)
        picture, label = script.read_earth(data, grid)
        pictures.append(picture)
        labels.append(label)
        call(script, "--data", data, *SMALL, "--method", "circular", "--out", tmp_path / f"out-{name}")
        weights.append(sc.training.load_checkpoint(tmp_path / f"out-{name}" / "circular-0" / "last.safetensors")[1])
    assert not np.array_equal(*pictures)
    assert not np.array_equal(*labels)
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_hidden_columns_have_the_mean_colour_of_the_others(script):
    grid = sc.grids.Equirect(8)
    rng = np.random.default_rng(0)
    picture, labels = rng.random((8, 16, 3)).astype(np.float32), rng.integers(0, 3, (8, 16))
    columns = np.arange(16) < 5
    shown, known = script.hide(picture, labels, columns, grid)
    assert shown.dtype == np.float32
    assert (known[:, :5] == script.IGNORED).all()
    assert np.array_equal(shown[:, 5:], picture[:, 5:])
    assert np.array_equal(known[:, 5:], labels[:, 5:])
    mean = np.average(picture[:, 5:].mean(axis=1), axis=0, weights=np.cos(grid.row_lat))
    np.testing.assert_allclose(shown[:, :5], np.broadcast_to(mean, (8, 5, 3)), rtol=1e-5)


# --- the planet ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_the_mask_is_read_north_first(script, tmp_path, pack):
    folder = write(tmp_path, planet(), pack)
    assert np.array_equal(script.read_mask(folder / script.MASK), planet())
    picture, labels = script.read_earth(folder, sc.grids.Equirect(16))
    assert np.array_equal(labels, planet()[::2, ::2])
    assert picture[5, 17, 0] > picture[5, 17, 2]  # land
    assert picture[12, 20, 0] < picture[12, 20, 2]  # sea, where a picture upside down has land


@pytest.mark.parametrize(
    "move",
    [
        lambda m: m[::-1],
        lambda m: m[:, ::-1],
        lambda m: np.roll(m, 32, axis=1),
        lambda m: np.roll(m, 1, axis=0),
        lambda m: np.roll(m, -1, axis=1),
    ],
    ids=["upside down", "mirrored", "half a turn", "a row", "a column"],
)
def test_a_mask_that_does_not_fit_the_picture_is_refused(script, tmp_path, move):
    folder = write(tmp_path, move(planet()))
    with pytest.raises(sc.InputError, match="do not coincide"):
        script.read_earth(folder, sc.grids.Equirect(8))


def test_what_is_missing_or_damaged_is_said_in_one_sentence(script, tmp_path):
    said = call(script, "--data", tmp_path, *SMALL, code=1)
    assert "has no bmng.jpg; expected a folder with" in said
    assert said.count("\n") == 1
    folder = write(tmp_path / "data", planet())
    whole = (folder / script.MASK).read_bytes()
    for content, words in (
        (whole[:40], "is damaged"),
        (b"no mask", "is damaged"),
        (gzip.compress(b"\0" * 33), "holds 33 bytes"),
        (gzip.compress(b"\3" * 32), "up to 3"),
    ):
        (folder / script.MASK).write_bytes(content)
        said = call(script, "--data", folder, *SMALL, code=1)
        assert words in said
        assert said.count("\n") == 1


def test_bands_of_columns(script):
    grid = sc.grids.Equirect(18)  # columns of 10 degrees
    centres = np.degrees(grid.column_lon)
    assert centres[script.columns_in((20.0, 80.0), grid)].round().tolist() == [25, 35, 45, 55, 65, 75]
    assert centres[script.columns_in((170.0, -170.0), grid)].round().tolist() == [-175, 175]
    assert script.columns_in((-180.0, 180.0), grid).all()
    first = script.all_seams((20.0, 80.0), grid)[0]
    assert (centres[first - 1] + centres[first]) / 2 == pytest.approx(50)


def test_labels_turn_with_the_picture(script):
    grid = sc.grids.Equirect(32)
    labels = planet().astype(np.int64)
    labels[:, 50:54] = script.IGNORED
    x = np.repeat(labels[None, ..., None].astype(np.float32), 8, axis=0)
    y = np.repeat(labels[None], 8, axis=0)
    turned, target = script.Turns(grid, tilt=False)(x, y, np.random.default_rng(0))
    assert np.array_equal(turned[..., 0], target)
    assert not np.array_equal(target, y)
    turned, target = script.Turns(grid)(x, y, np.random.default_rng(0))
    assert set(np.unique(target)) == {0, 1, 2, script.IGNORED}
    assert np.mean(np.abs(turned[..., 0] - target) < 0.5) > 0.85
    tilted = [not any(np.array_equal(np.roll(labels, k, axis=1), t) for k in range(64)) for t in target]
    assert 0 < sum(tilted) < 8


# --- the scores ----------------------------------------------------------------------------------------------


class Told:
    """Views of a network that knows the truth; `broken` makes it wrong in the column west of the seam."""

    def __init__(self, labels, broken):
        self.labels, self.broken = labels, broken

    def __getitem__(self, seam):
        p = np.eye(3)[self.labels]
        if self.broken:
            p[:, (seam - 1) % p.shape[1]] = np.roll(p[:, (seam - 1) % p.shape[1]], 1, axis=-1)
        return p


def test_scores_of_a_network_that_sees_no_seam(script):
    grid = sc.grids.Equirect(16)
    labels = planet()[::2, ::2]
    found = script.measure(Told(labels, False), labels, (20.0, 80.0), grid, 4)
    for name in ("iou_away", "iou_inside", "strip_iou_away", "strip_iou_inside", "strip_accuracy_inside"):
        assert found[name] == 1
    assert found["changed_half_turn"] == found["changed_other_turn"] == found["strip_changed"] == 0
    np.testing.assert_allclose(found["profile"], 1)  # every column is the seam's once


def test_scores_of_a_network_that_is_wrong_at_the_seam(script):
    grid = sc.grids.Equirect(16)
    labels = planet()[::2, ::2]
    found = script.measure(Told(labels, True), labels, (20.0, 80.0), grid, 4)
    assert found["iou_away"] == found["strip_iou_away"] == 1
    assert found["strip_iou_inside"] < found["iou_inside"] < 1
    assert found["strip_accuracy_inside"] == pytest.approx(0.5)  # of the two columns of a strip
    assert found["strip_changed"] == pytest.approx(0.5)
    assert found["changed_half_turn"] == pytest.approx(2 / 32)
    assert found["jump"] == found["profile"][0] > 3
    np.testing.assert_allclose(found["profile"][1:-1], found["profile"][1])
