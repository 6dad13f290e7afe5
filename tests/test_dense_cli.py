"""Segmentation, regression and inpainting on the command line, from folders to files."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import spherecnn as sc
from spherecnn.cli import main
from spherecnn.cli.tasks import TASKS
from spherecnn.cli.tasks.classify import ON_MESHES

SMALL = "--height 8 --width 2 --batch-size 2 --lr 0.01"


def call(*args, code=0):
    result = CliRunner().invoke(main, " ".join(map(str, args)).split())
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def refusal(*args):
    result = call(*args, code=2)
    assert result.stderr.startswith("spherecnn: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.output
    return result.stderr


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six pictures of 8 x 16: bright where the class is 1, and values that follow the brightness."""
    root = tmp_path_factory.mktemp("dense")
    for name in ("segment", "regress"):
        for i in range(6):
            rng = np.random.default_rng(i)
            bright = np.roll(np.arange(16) < 8, rng.integers(16))[None] & np.ones((8, 1), bool)
            noise = rng.integers(0, 40, (8, 16, 3))
            picture(root / name / "images" / f"p{i}.png", (noise + 160 * bright[..., None]).astype(np.uint8))
            if name == "segment":
                labels = bright.astype(np.uint8)
                labels[0, :2] = 9
                picture(root / name / "labels" / f"p{i}.png", labels)
            else:
                values = (1000 + 2000 * bright).astype(np.uint16)
                values[3, 3] = 0
                picture(root / name / "labels" / f"p{i}.png", values)
    (root / "segment" / "classes.txt").write_text("dark\nbright\n")
    return root


@pytest.fixture(scope="module")
def segment(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "segment"
    options = f"--task segment {SMALL} --ignore-label 9 --class-weights balanced --validation 0.34"
    said = call("train", options, "--epochs 8 --augment yaw --data", folder / "segment", "--out", out).stdout
    assert "mean iou" in said
    assert "2 classes" in said
    return out


@pytest.fixture(scope="module")
def regress(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "regress"
    options = f"--task regress {SMALL} --loss huber --label-scale 0.001 --ignore-label 0 --validation 0.34"
    call("train", options, "--epochs 8 --data", folder / "regress", "--out", out)
    return out


@pytest.fixture(scope="module")
def inpaint(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "inpaint"
    options = f"--task inpaint {SMALL} --holes caps --up transpose --validation 0.34 --augment so3"
    call("train", options, "--epochs 2 --data", folder / "segment", "--out", out)
    return out


def rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def files(folder, end):
    return sorted(p.name for p in folder.iterdir() if p.name.endswith(end))


@pytest.mark.parametrize(("task", "model"), [(t, m) for t, kind in TASKS.items() for m in kind.models])
def test_every_network_that_is_offered_is_built(task, model):
    if model in ON_MESHES:  # these take no other method
        data = sc.training.ArrayDataset(np.zeros((2, 2562, 3), np.float32), np.arange(2), classes=["a", "b", "c"])
        data.grid = sc.grids.Icosphere(4)
        net = TASKS[task].build({"model": model, "method": "mesh", "width": 2, "seed": 0}, data)
        assert net.out_shape((1, 2562, 3)) == (1, 3)
        return
    grid = sc.grids.Equirect(32)
    data = sc.training.ArrayDataset(
        np.zeros((2, 32, 64, 3), np.float32), np.zeros((2, 32, 64, 4), np.float32), classes=["a", "b", "c"]
    )
    data.grid = grid
    config = {"model": model, "method": "circular", "width": 2, "seed": 0, "up": "nearest"}
    net = TASKS[task].build(config, data)
    outputs = {"classify": (3,), "segment": (32, 64, 3), "regress": (32, 64, 4), "inpaint": (32, 64, 3)}
    assert net.out_shape((1, 32, 64, 3)) == (1, *outputs[task])


# --- segmentation ------------------------------------------------------------------------------------------


def test_segment_run(segment):
    log = rows(segment / "log.csv")
    assert {"train_mean_iou", "val_mean_iou", "val_accuracy", "val_loss"} <= log[0].keys()
    config = sc.training.load_config(segment / "config.toml")
    assert (config["classes"], config["model"], config["ignore_label"]) == (["dark", "bright"], "unet", 9)
    assert len(config["class_weight"]) == 2
    header = sc.training.load_checkpoint(segment / "best.safetensors")[0]
    best = max(range(8), key=lambda i: float(log[i]["val_mean_iou"]))
    assert header["epoch"] == best + 1


def test_summary_of_a_dense_run(segment):
    header = sc.training.load_checkpoint(segment / "best.safetensors")[0]
    count = sc.models.build(header["model"]).parameter_count
    said = call("summary", segment).stdout
    assert f"{count:,} parameters" in said
    assert "(8, 16, 2)" in said


def test_segment_evaluate(segment, tmp_path):
    said = call("evaluate", segment, "--out", tmp_path / "e").stdout
    table = rows(tmp_path / "e" / "iou.csv")
    assert [row["class"] for row in table] == ["dark", "bright"]
    mean = np.mean([float(row["iou"]) for row in table])
    assert f"mean IoU {mean:.4f}" in said
    assert mean > 0.5
    assert re.search(r"^bright +\d", said, re.MULTILINE)
    assert len(files(tmp_path / "e", "-error.png")) == 2
    best = max(float(row["val_mean_iou"]) for row in rows(segment / "log.csv"))
    assert mean == pytest.approx(best, rel=1e-6)


def test_segment_evaluate_turned_pictures_and_other_data(segment, folder, tmp_path):
    assert (
        "6 pictures" in call("evaluate", segment, "--rotate so3 --data", folder / "segment", "--out", tmp_path).stdout
    )
    other = tmp_path / "other"
    for part in ("images", "labels"):
        (other / part).mkdir(parents=True)
        (other / part / "a.png").write_bytes((folder / "segment" / part / "p0.png").read_bytes())
    assert "1 pictures" in call("evaluate", segment, "--data", other, "--out", tmp_path / "o").stdout
    (other / "classes.txt").write_text("sea\nland\n")
    assert "expected ['dark', 'bright']" in refusal("evaluate", segment, "--data", other)


def test_segment_predict(segment, folder, tmp_path):
    pictures = sorted((folder / "segment" / "images").iterdir())
    said = call("predict", segment, *pictures, "--out", tmp_path / "p").stdout
    assert f"Wrote 6 pictures to {tmp_path / 'p'}" in said
    assert len(files(tmp_path / "p", "")) == 18
    header, arrays, _ = sc.training.load_checkpoint(segment / "best.safetensors")
    model = sc.models.build(header["model"])
    model.load_state(arrays)
    x = sc.datasets.read_panorama(pictures[2]).astype(np.float32)[None] / 255
    labels = sc.datasets.read_labels(tmp_path / "p" / "p2-labels.png")
    np.testing.assert_array_equal(labels, model(x).argmax(-1)[0])
    with Image.open(tmp_path / "p" / "p2-labels.png") as made:
        assert made.mode == "P"
        assert made.getpalette()[:3] == [0, 114, 178]
    for end in ("overlay", "globe"):
        with Image.open(tmp_path / "p" / f"p2-{end}.png") as made:
            assert min(made.size) > 100


def test_segment_resumes_to_the_same_bits(folder, tmp_path):
    options = f"train --task segment {SMALL} --ignore-label 9 --class-weights balanced --augment so3 --schedule none"
    call(options, "--epochs 2 --data", folder / "segment", "--out", tmp_path / "whole")
    call(options, "--epochs 1 --data", folder / "segment", "--out", tmp_path / "parts")
    call("train --resume", tmp_path / "parts", "--epochs 2")
    one, two = (sc.training.load_checkpoint(tmp_path / n / "last.safetensors")[1] for n in ("whole", "parts"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    keep = lambda name: [{k: v for k, v in r.items() if k != "seconds"} for r in rows(tmp_path / name / "log.csv")]  # noqa: E731
    assert keep("whole") == keep("parts")


# --- regression --------------------------------------------------------------------------------------------


def test_regress_run_and_evaluate(regress, tmp_path):
    config = sc.training.load_config(regress / "config.toml")
    assert 1 < config["label_mean"] < 3
    assert 0.5 < config["label_std"] < 1.5
    said = call("evaluate", regress, "--out", tmp_path / "e").stdout
    found = {row["error"]: float(row["value"]) for row in rows(tmp_path / "e" / "errors.csv")}
    assert set(found) == {"rmse", "mae", "abs_rel", "sq_rel", "rmse_log", "delta1", "delta2", "delta3"}
    assert f"{found['rmse']:.4g}" in said
    assert "delta < 1.25^2" in said
    assert found["rmse"] < 1
    assert found["rmse"] == pytest.approx(min(float(r["val_rmse"]) for r in rows(regress / "log.csv")), rel=1e-6)


def test_regress_predict(regress, folder, tmp_path):
    image = folder / "regress" / "images" / "p1.png"
    call("predict", regress, image, "--png16 --out", tmp_path / "p")
    values = np.load(tmp_path / "p" / "p1.npy")
    assert values.shape == (8, 16)
    header, arrays, _ = sc.training.load_checkpoint(regress / "best.safetensors")
    model = sc.models.build(header["model"])
    model.load_state(arrays)
    config = sc.training.load_config(regress / "config.toml")
    x = sc.datasets.read_panorama(image).astype(np.float32)[None] / 255
    expected = model(x)[0, ..., 0] * config["label_std"] + config["label_mean"]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    stored = sc.datasets.read_labels(tmp_path / "p" / "p1-values.png", "values")[..., 0]
    np.testing.assert_allclose(stored * 0.001, values, atol=0.00051)
    assert files(tmp_path / "p", "") == ["p1-globe.png", "p1-map.png", "p1-values.png", "p1.npy"]


# --- inpainting --------------------------------------------------------------------------------------------


def test_inpaint_run_and_evaluate(inpaint, tmp_path):
    assert {"val_hole_l1", "val_hole_psnr"} <= rows(inpaint / "log.csv")[0].keys()
    said = call("evaluate", inpaint, "--out", tmp_path / "e").stdout
    found = {row["error"]: float(row["value"]) for row in rows(tmp_path / "e" / "errors.csv")}
    assert f"PSNR {found['hole_psnr']:.2f} dB" in said
    assert found["hole_psnr"] == pytest.approx(-10 * np.log10(found["hole_l2"]))
    assert (tmp_path / "e" / "examples.png").is_file()


def test_inpaint_fills_the_holes_and_nothing_else(inpaint, folder, tmp_path):
    image = folder / "segment" / "images" / "p1.png"
    hole = np.zeros((8, 16), np.uint8)
    hole[2:5, 3:9] = 255
    picture(tmp_path / "masks" / "p1.png", hole)
    said = call("predict", inpaint, image, "--masks", tmp_path / "masks", "--out", tmp_path / "p").stdout
    assert "drawn at random" not in said
    before, filled = (np.asarray(Image.open(p)).astype(int) for p in (image, tmp_path / "p" / "p1-filled.png"))
    np.testing.assert_array_equal(filled[hole == 0], before[hole == 0])
    assert (filled[hole > 0] != before[hole > 0]).any()
    assert (np.asarray(Image.open(tmp_path / "p" / "p1-holes.png"))[hole > 0] == 0).all()
    assert "drawn at random" in call("predict", inpaint, image, "--out", tmp_path / "q").stdout
    assert "p2.png is missing" in refusal(
        "predict", inpaint, folder / "segment" / "images" / "p2.png", "--masks", tmp_path / "masks"
    )
    picture(tmp_path / "masks" / "p1.png", hole[:4])
    assert "expected a mask of the size of its picture" in refusal(
        "predict", inpaint, image, "--masks", tmp_path / "masks", "--out", tmp_path / "r"
    )


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--task segment --data nowhere", "has no folder images"),
        ("--task inpaint --data nowhere", "is not a folder"),
        ("--task paint --data nowhere", "--task"),
        ("--task segment --data {}/segment --loss l1", "expected one of cross_entropy"),
        ("--task regress --data {}/regress --loss cross_entropy", "expected one of l1, mse, huber, berhu"),
        ("--task segment --data {}/segment --model classifier", "expected one of unet"),
        ("--task segment --data {}/segment --label-scale 2", "--label-scale is 2.0, which the task segment"),
        ("--task regress --data {}/regress --class-weights balanced", "--class-weights is balanced"),
        ("--task classify --data digits --ignore-label 3", "--ignore-label is 3.0"),
        ("--task segment --data {}/segment", "holds class 9; expected 0 to 1, or 255"),
        ("--task segment --data {}/segment --ignore-label 1.5", "--ignore-label is 1.5"),
        ("--task regress --data {}/regress --label-scale 0", "scale is 0.0"),
    ],
)
def test_bad_options_are_answered_in_one_sentence(options, says, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refusal("train --height 8", options.format(folder), "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_picture_is_too_few(folder, tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.png").write_bytes((folder / "segment" / part / "p0.png").read_bytes())
    assert "the validation part of" in refusal("train --task segment --data", tmp_path, "--out", tmp_path / "run")


def test_bad_files_are_named(segment, folder, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "bad.png cannot be read" in refusal("predict", segment, bad, "--out", tmp_path / "p")
    twin = tmp_path / "p0.jpg"
    Image.new("RGB", (16, 8)).save(twin)
    assert "have the same stem" in refusal("predict", segment, folder / "segment" / "images" / "p0.png", twin)
    assert "--masks is given for a run of the task segment" in refusal("predict", segment, twin, "--masks", tmp_path)
    assert "--png16 is given" in refusal("predict", segment, twin, "--png16")
