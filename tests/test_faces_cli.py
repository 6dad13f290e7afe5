"""Networks on the faces of a polyhedron on the command line: every task, from train to predict."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image
from test_cli import call, refusal

import spherecnn as sc
from spherecnn.cli import demo
from spherecnn.cli.tasks import TASKS
from spherecnn.datasets.folder import fit_to_grid

GRID = sc.grids.Polyhedron(2)
FACES = "--method spherephd --level 2 --width 2"
DENSE = f"{FACES} --batch-size 2 --lr 0.01 --validation 0.34"
HEIGHT = 32  # of the pictures, and of the panoramas that 320 faces are drawn as


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six pictures, bright on half the sphere where the class is 1 and the value 3 instead of 1."""
    root = tmp_path_factory.mktemp("faces")
    for i in range(6):
        rng = np.random.default_rng(i)
        bright = np.roll(np.arange(64) < 32, rng.integers(64))[None] & np.ones((HEIGHT, 1), bool)
        pixels = (rng.integers(0, 40, (HEIGHT, 64, 3)) + 160 * bright[..., None]).astype(np.uint8)
        for task, labels in (
            ("segment", bright.astype(np.uint8)),
            ("regress", (1000 + 2000 * bright).astype(np.uint16)),
        ):
            for part, picture in (("images", pixels), ("labels", labels)):
                (root / task / part).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(root / task / part / f"p{i}.png")
    return root


def trained(out, options):
    call("train", options, "--out", out)
    return out


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained(
        tmp_path_factory.mktemp("runs") / "c", f"--data digits {FACES} --epochs 2 --batch-size 256 --lr 0.01"
    )


@pytest.fixture(scope="module")
def segment(folder, tmp_path_factory):
    options = f"--task segment {DENSE} --class-weights balanced --augment yaw --epochs 12 --data {folder}/segment"
    return trained(tmp_path_factory.mktemp("runs") / "s", options)


@pytest.fixture(scope="module")
def regress(folder, tmp_path_factory):
    options = f"--task regress {DENSE} --label-scale 0.001 --augment so3 --epochs 6 --data {folder}/regress"
    return trained(tmp_path_factory.mktemp("runs") / "r", options)


@pytest.fixture(scope="module")
def inpaint(folder, tmp_path_factory):
    options = f"--task inpaint {DENSE} --holes caps --up transpose --augment so3 --epochs 2 --data {folder}/segment"
    return trained(tmp_path_factory.mktemp("runs") / "i", options)


def model_of(run):
    header, arrays, _ = sc.training.load_checkpoint(run / "best.safetensors")
    model = sc.models.build(header["model"])
    model.load_state(arrays)
    return model


def seen(path):
    """A picture file as the network sees it: (1, P, 3)."""
    return fit_to_grid(sc.datasets.read_panorama(path), GRID)[None] / 255


def rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# --- classification ----------------------------------------------------------------------------------------


def test_digits_run_says_its_level(digits, tmp_path):
    config = sc.training.load_config(digits / "config.toml")
    assert (config["method"], config["level"], "height" in config) == ("spherephd", 2, False)
    assert model_of(digits).grid == GRID
    said = call("summary", digits).stdout
    assert "spherephd on Polyhedron(2), input (320, 1)" in said
    assert said.splitlines()[2:] == call("summary --classes 10 --in-channels 1", FACES).stdout.splitlines()[2:]


def test_evaluate_digits(digits, tmp_path):
    said = [call("evaluate", digits, "--rotate", kind, "--out", tmp_path / kind).stdout for kind in ("none", "so3")]
    assert all("359 pictures" in text for text in said)
    model, data = model_of(digits), sc.datasets.digits(GRID, split="test")
    right = (model(data.batch(np.arange(359))[0]).argmax(-1) == data.labels).mean()
    assert f"accuracy {right:.1%}" in said[0]


def test_resume_equals_a_whole_run(tmp_path):
    settings = f"train --data digits {FACES} --batch-size 256 --schedule none"
    call(settings, "--epochs 2 --out", tmp_path / "whole")
    call(settings, "--epochs 1 --out", tmp_path / "parts")
    call("train --resume", tmp_path / "parts", "--epochs 2")
    one, two = (sc.training.load_checkpoint(tmp_path / n / "last.safetensors")[1] for n in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_config_of_a_run_repeats_it(digits, tmp_path):
    call("train --config", digits / "config.toml", "--out", tmp_path / "again")
    one, two = (sc.training.load_checkpoint(r / "last.safetensors")[1] for r in (digits, tmp_path / "again"))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_sizes_by_default(tmp_path):
    """The method decides; a run of before, which knew a height only, stays as it is."""
    assert "on Polyhedron(4)" in call("summary --method spherephd --width 1").stdout
    assert "on Equirect(60, 120)" in call("summary --width 1").stdout
    (tmp_path / "old.toml").write_text('data = "digits"\nmethod = "planar"\nheight = 8\nwidth = 1\nepochs = 1\n')
    assert "Equirect(8, 16)" in call("train --config", tmp_path / "old.toml", "--out", tmp_path / "run").stdout
    config = sc.training.load_config(tmp_path / "run" / "config.toml")
    assert (config["height"], "level" in config) == (8, False)


# --- every pixel -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "depth"), [(1, 1), (2, 1), (4, 3), (6, 4)])
def test_depth_of_the_unet_suits_the_level(level, depth):
    grid = sc.grids.Polyhedron(level)
    data = sc.training.ArrayDataset(np.zeros((1, grid.sites, 3), np.float32), np.zeros(1), classes=["a", "b"])
    data.grid = grid
    config = {"model": "unet", "method": "spherephd", "width": 1, "seed": 0, "up": "nearest"}
    net = TASKS["segment"].build(config, data)
    assert net.config["depth"] == depth
    assert net.out_shape((1, grid.sites, 3)) == (1, grid.sites, 2)


def test_segment(segment, folder, tmp_path):
    said = call("evaluate", segment, "--out", tmp_path / "e").stdout
    mean = np.mean([float(row["iou"]) for row in rows(tmp_path / "e" / "iou.csv")])
    assert f"mean IoU {mean:.4f}" in said
    assert mean > 0.5
    assert (
        "6 pictures" in call("evaluate", segment, "--rotate so3 --data", folder / "segment", "--out", tmp_path).stdout
    )
    picture = folder / "segment" / "images" / "p2.png"
    call("predict", segment, picture, "--out", tmp_path / "p")
    assert names(tmp_path / "p") == ["p2-globe.png", "p2-labels.png", "p2-overlay.png"]
    labels = sc.datasets.read_labels(tmp_path / "p" / "p2-labels.png")
    classes = model_of(segment)(seen(picture)).argmax(-1)[0]
    face = GRID.nearest(sc.grids.Equirect(HEIGHT).xyz)
    np.testing.assert_array_equal(labels, classes[face].reshape(HEIGHT, 64))


def test_regress(regress, folder, tmp_path):
    call("evaluate", regress, "--out", tmp_path / "e")
    found = {row["error"]: float(row["value"]) for row in rows(tmp_path / "e" / "errors.csv")}
    assert found["rmse"] == pytest.approx(min(float(r["val_rmse"]) for r in rows(regress / "log.csv")), rel=1e-6)
    assert sorted(name.split("-")[-1] for name in names(tmp_path / "e")) == [
        *["error.png"] * 2,
        "errors.csv",
        *["predicted.png"] * 2,
    ]
    picture = folder / "regress" / "images" / "p1.png"
    call("predict", regress, picture, "--png16 --out", tmp_path / "p")
    assert names(tmp_path / "p") == ["p1-globe.png", "p1-map.png", "p1-values.png", "p1.npy"]
    values = np.load(tmp_path / "p" / "p1.npy")
    config = sc.training.load_config(regress / "config.toml")
    expected = model_of(regress)(seen(picture))[0, :, 0] * config["label_std"] + config["label_mean"]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    stored = sc.datasets.read_labels(tmp_path / "p" / "p1-values.png", "values")[..., 0] * 0.001
    sites, weights = GRID.taps(sc.grids.Equirect(HEIGHT).xyz)
    np.testing.assert_allclose(stored.ravel(), (values[sites] * weights).sum(-1), atol=0.00051)


def test_inpaint_fills_the_holes_and_nothing_else(inpaint, folder, tmp_path):
    said = call("evaluate", inpaint, "--out", tmp_path / "e").stdout
    assert "PSNR" in said
    assert names(tmp_path / "e") == ["errors.csv", "examples.png"]
    picture, hole = folder / "segment" / "images" / "p1.png", np.zeros((HEIGHT, 64), np.uint8)
    hole[: HEIGHT // 2] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(hole).save(tmp_path / "masks" / "p1.png")
    call("predict", inpaint, picture, "--masks", tmp_path / "masks", "--out", tmp_path / "p")
    assert names(tmp_path / "p") == ["p1-filled.png", "p1-globe.png", "p1-holes.png"]
    given, filled = (np.asarray(Image.open(tmp_path / "p" / f"p1-{n}.png")).astype(int) for n in ("holes", "filled"))
    assert given.shape == (HEIGHT, 64, 3)
    north, south = sc.grids.Equirect(HEIGHT).row_lat > 0.3, sc.grids.Equirect(HEIGHT).row_lat < -0.7
    assert (given[north] == 0).all()
    assert (filled[north] != 0).any()
    np.testing.assert_array_equal(filled[south], given[south])
    whole = sc.viz.panorama(seen(picture)[0], GRID)
    np.testing.assert_allclose(filled[south], whole[south] * 255, atol=0.51)


def test_a_hole_however_small_is_filled(inpaint):
    """A hole of a pixel hides the face that holds it, and none but those around."""
    grid, source = GRID, sc.grids.Equirect(64)
    for pixel in np.random.default_rng(0).integers(source.sites, size=40):
        hole = np.zeros((source.sites, 1), np.float32)
        hole[pixel] = 1
        hidden = fit_to_grid(hole.reshape(64, 128, 1), grid)[:, 0] > 1e-6
        assert hidden[grid.nearest(source.xyz[pixel : pixel + 1])].all()
        assert hidden.sum() < 12


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("train --data digits --method spherephd --height 8", "height is 8 for method 'spherephd'"),
        ("train --data digits --method circular --level 2", "level is 2 for method 'circular'"),
        ("train --data digits --method spherephd --level 9", "--level"),
        ("train --data digits --method spherephd --level 1", "Polyhedron(0)"),
        ("train --task inpaint --data {}/segment --method spherephd --level 2 --model inpainter", "kernel_size is 5"),
        ("train --task segment --data {}/segment --method spherephd --level 4 --model deeplab", "dilation is 2"),
        ("summary --method spherephd --height 8", "height is 8"),
        ("summary --method tangent --level 2", "level is 2"),
    ],
)
def test_bad_options_are_answered_in_one_sentence(options, says, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refusal(options.format(folder))
    assert not list(tmp_path.iterdir())


def test_help_says_which_methods_take_which_size():
    for command in ("train", "summary"):
        said = " ".join(call(command, "--help").stdout.split())
        assert "Rows for equirectangular methods, 60 by default" in said
        assert "Level, 4 by default: 20 * 4^level triangles for spherephd" in said


# --- demo --------------------------------------------------------------------------------------------------


def test_demo_puts_the_same_digits_on_pixels_and_faces(tmp_path, capsys):
    pytest.importorskip("sklearn")
    for size in (demo.FULL, demo.QUICK):
        pixels, faces, vertices = (size.grid(method).sites for method in ("circular", "spherephd", "mesh"))
        assert 0.6 < faces / pixels < 1
        assert 0.3 < vertices / pixels < 1.3
    pixels, faces = (demo.open_digits(grid, 3) for grid in (sc.grids.Equirect(8), GRID))
    for one, other in zip(pixels, faces, strict=True):
        pick = np.arange(20)
        np.testing.assert_array_equal(one.batch(pick)[1], other.batch(pick)[1])
    np.testing.assert_array_equal(pixels.rotated.images, faces.rotated.images)
    np.testing.assert_array_equal(pixels.rotated.rotations.as_quat(), faces.rotated.rotations.as_quat())
