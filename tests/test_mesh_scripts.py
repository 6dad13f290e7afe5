"""The scripts of the mesh experiments on made-up data, at tiny levels."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from click.testing import CliRunner
from script_modules import script_modules

import spherecnn as sc

NAMES = ("mesh_mnist", "mesh_modelnet", "mesh_2d3ds", "mesh_climate")


@pytest.fixture(scope="module")
def scripts():
    """The modules of the scripts, by name."""
    with script_modules(*NAMES) as found:
        yield found


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    sc.datasets.make_digits(folder, samples=(48, 16))
    return folder


def call(script, *words, code=0):
    result = CliRunner().invoke(script.main, list(map(str, words)))
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def read(path):
    return list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#")))


def weights(run, which="last"):
    return sc.training.load_checkpoint(run / f"{which}.safetensors")[1]


MNIST = ("--level", 2, "--width", 2, "--held", 8, "--batch", 16, "--lr", 0.01)


def test_mnist_tests_what_it_saved_and_holds_digits_out(scripts, digits, tmp_path):
    said = call(scripts["mesh_mnist"], "--data", digits, *MNIST, "--epochs", 3, "--out", tmp_path)
    (row,), log = read(tmp_path / "results.csv"), read(tmp_path / "log.csv")
    assert (row["digits"], row["held"], row["epochs"], row["schedule"]) == ("40", "8", "3", "step")
    assert [r["lr"] for r in log] == ["0.01"] * 3
    assert int(row["best epoch"]) == 1 + np.argmax([float(r["val_accuracy"]) for r in log])
    test = sc.datasets.mesh_mnist(digits, sc.grids.Icosphere(2), split="test")
    net = sc.models.mesh_classifier(1, 10, test.grid, width=2)
    x, y = test.batch(np.arange(16))
    for which in ("last", "best"):
        header, arrays, _ = sc.training.load_checkpoint(tmp_path / f"{which}.safetensors")
        sc.training.restore_model(net, header, arrays)
        assert float(row[f"test {which} %"]) == pytest.approx(100 * (net(x).argmax(axis=1) == y).mean(), abs=0.01)
    assert "of 16 test digits with the last weights" in said
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("curves.png", "predictions.png"))


def test_mnist_in_pieces_gives_the_bits_of_one_run(scripts, digits, tmp_path):
    words = ("--data", digits, *MNIST, "--schedule", "cosine", "--shift", 1, "--turn", 5)
    call(scripts["mesh_mnist"], *words, "--epochs", 3, "--out", tmp_path / "whole")
    said = call(scripts["mesh_mnist"], *words, "--epochs", 3, "--minutes", 1e-6, "--out", tmp_path / "parts")
    assert "Stopped after 1 of 3 epochs" in said
    call(scripts["mesh_mnist"], *words, "--epochs", 3, "--minutes", 60, "--resume", "--out", tmp_path / "parts")
    whole, parts = (weights(tmp_path / name) for name in ("whole", "parts"))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    log = read(tmp_path / "whole" / "log.csv")
    assert len(read(tmp_path / "parts" / "log.csv")) == len(log) == 3
    assert [float(r["lr"]) for r in log] == pytest.approx([0.01, 0.0075, 0.0025])


def test_mnist_from_the_archive(scripts, digits, tmp_path):
    parts = (sc.datasets.mesh_mnist(digits, sc.grids.Icosphere(2), split=split) for split in ("train", "test"))
    sc.datasets.make_mnist_archive(tmp_path / "mnist_ico2.zip", *parts)
    call(scripts["mesh_mnist"], "--archive", tmp_path / "mnist_ico2.zip", *MNIST, "--epochs", 1, "--out", tmp_path)
    assert read(tmp_path / "results.csv")[0]["projection"] == "archive"


def test_wrong_calls_are_one_sentence(scripts, digits, tmp_path):
    mnist = scripts["mesh_mnist"]
    assert "expected --data FOLDER or --archive FILE" in call(mnist, "--out", tmp_path, code=2)
    assert "expected an MNIST folder" in call(mnist, "--data", tmp_path, "--out", tmp_path / "a", code=1)
    assert "expected at least 0 and fewer than all" in call(
        mnist, "--data", digits, "--level", 2, "--held", 48, "--out", tmp_path / "b", code=1
    )
    assert "no NPZ files" in call(scripts["mesh_2d3ds"], "--data", tmp_path, "--out", tmp_path / "c", code=1)
    call(mnist, "--data", digits, *MNIST, "--epochs", 1, "--out", tmp_path / "d")
    assert "holds a run already" in call(mnist, "--data", digits, *MNIST, "--out", tmp_path / "d", code=1)


def test_wobbling_moves_and_turns_digits(scripts):
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 4:8, 12:16] = 255
    seen = []
    wobble = scripts["mesh_mnist"].Wobble(lambda x: seen.append(x) or x, 3.0, 90.0)
    same, _ = scripts["mesh_mnist"].Wobble(lambda x: x, 0.0, 0.0)(image, np.zeros(1), np.random.default_rng(0))
    np.testing.assert_allclose(same, image, atol=1e-3)
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    moved, _ = wobble(np.repeat(image, 20, axis=0), np.zeros(20), rng)
    angle = np.deg2rad(again.uniform(-90, 90, (20, 1, 1)))[:, 0, 0]
    shift = again.uniform(-3, 3, (2, 20, 1, 1))[:, :, 0, 0]
    rows, columns = np.mgrid[:28, :28] - 13.5
    mass = moved.sum(axis=(1, 2))
    centre = np.stack([(moved * q).sum(axis=(1, 2)) / mass for q in (rows, columns)])
    # The middle of the bright square, (-8, 0), less the shift, turned: down is +, right is +.
    from_middle = np.stack([-8 * np.cos(angle), 8 * np.sin(angle)])
    turned_shift = np.stack(
        [np.cos(angle) * shift[0] + np.sin(angle) * shift[1], -np.sin(angle) * shift[0] + np.cos(angle) * shift[1]]
    )
    np.testing.assert_allclose(centre, from_middle + turned_shift, atol=0.06)
    assert np.abs(turned_shift).max() <= 3 * 2**0.5


def test_modelnet_on_made_up_shapes(scripts, tmp_path):
    said = call(scripts["mesh_modelnet"], "--quick", "--out", tmp_path)
    assert "making up shapes" in said
    (row,) = read(tmp_path / "results.csv")
    assert (row["classes"], row["shapes"], row["held"]) == ("6", "18", "6")
    assert len(list((tmp_path / "projected_4").rglob("*.npz"))) == 30
    assert (tmp_path / "predictions.png").stat().st_size > 5000


def test_rooms_on_made_up_data(scripts, tmp_path):
    said = call(scripts["mesh_2d3ds"], "--quick", "--fold", 1, "--out", tmp_path)
    (row,), classes = read(tmp_path / "results.csv"), read(tmp_path / "classes.csv")
    assert (row["data"], row["samples"], row["held"], row["area"]) == ("2d3ds fold 1", "13", "2", "equal")
    assert [r["class"] for r in classes] == list(sc.datasets.mesh_files.ROOMS[1:-1])
    scored = [float(r["IoU"]) for r in classes if r["IoU"]]
    assert float(row["mean_iou"]) == pytest.approx(np.mean(scored), abs=1e-3)
    log = read(tmp_path / "log.csv")
    assert [float(r["lr"]) for r in log] == [0.01, 0.01]
    assert int(row["epoch"]) == 1 + np.argmax([float(r["val_mean_iou"]) for r in log])
    assert (tmp_path / "prediction.png").stat().st_size > 5000
    assert "| wall |" in said


def test_climate_on_made_up_data(scripts, tmp_path):
    call(scripts["mesh_climate"], "--quick", "--area", "--out", tmp_path)
    (row,), classes = read(tmp_path / "results.csv"), read(tmp_path / "classes.csv")
    assert (row["samples"], row["held"], row["area"], row["schedule"]) == ("16", "4", "solid angle", "none")
    assert [r["class"] for r in classes] == ["background", "tropical cyclone", "atmospheric river"]
    assert float(row["mean_precision"]) == pytest.approx(
        np.mean([float(r["average precision"]) for r in classes]), abs=1e-3
    )
    assert (tmp_path / "prediction.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mesh_mnist", {"epochs": 100, "batch": 64, "lr": 1e-2, "schedule": "step", "width": 16, "level": 4}),
        ("mesh_modelnet", {"epochs": 300, "batch": 16, "lr": 5e-3, "schedule": "none", "width": 16, "level": 5}),
        (
            "mesh_2d3ds",
            {"epochs": 200, "batch": 16, "lr": 1e-2, "schedule": "step", "width": 16, "level": 5, "fold": 3},
        ),
        ("mesh_climate", {"epochs": 50, "batch": 256, "lr": 1e-2, "schedule": "none", "width": 8, "balance": True}),
    ],
)
def test_defaults_are_the_published_settings(scripts, name, settings):
    found = {option.name: option.default for option in scripts[name].main.params}
    assert {key: found[key] for key in settings} == settings
    said = call(scripts[name], "--help")
    assert f"python scripts/{name}.py" in said
