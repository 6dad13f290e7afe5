"""Shapes on the command line: mesh project, train, evaluate, from mesh files to tables."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from test_cli import call, refusal

import spherecnn as sc
from spherecnn.datasets.shape_projection import DAMAGED

SMALL = "--level 2 --model mesh_classifier --width 2 --batch-size 4 --threads 2"


def make(kind, n):
    """A box, a ball or a cone, each of a form of its own."""
    import trimesh

    grown = 1 + 0.1 * n
    if kind == "box":
        return trimesh.creation.box(extents=[1, grown, 0.6])
    if kind == "ball":
        mesh = trimesh.creation.icosphere(subdivisions=2)
        mesh.apply_scale([1, 1, grown])
        return mesh
    return trimesh.creation.cone(radius=0.5, height=grown)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Boxes, balls and cones, five of each, named by class and number; two more are damaged."""
    root = tmp_path_factory.mktemp("shapes") / "raw"
    root.mkdir()
    for kind in ("box", "ball", "cone"):
        for n in range(5):
            make(kind, n).export(root / f"{kind}{n}.off")
    (root / "cone8.off").write_text("OFF\n4 4 0\n0 0 0")
    (root / "cone9.off").write_text("")
    return root


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run on meshes, which are projected first."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    said = call("mesh train", folder, SMALL, "--epochs 20 --lr 0.02 --test-numbers 3-4 --validation 0.34 --out", out)
    assert "15 shapes projected on Icosphere(2), 0 there already, 2 damaged" in said.stdout
    assert "6 shapes to train on and 3 to validate on, 3 classes, Icosphere(2)" in said.stdout
    assert f"spherecnn mesh evaluate {out}" in said.stdout
    return out


def rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("command", ["project", "train", "evaluate"])
def test_help_has_examples(command):
    assert f"spherecnn mesh {command}" in call("mesh", command, "--help").stdout.split("Example")[1]


# --- project -----------------------------------------------------------------------------------------------


def test_project_and_again(folder, tmp_path):
    out = tmp_path / "out"
    said = call("mesh project", folder, "--level 1 --jobs 1 --out", out).stdout
    assert "15 shapes projected on Icosphere(1), 0 there already, 2 damaged." in said
    assert str(folder / "cone8.off") in said
    assert f"Next: spherecnn mesh train {out}" in said
    assert len((out / DAMAGED).read_text().splitlines()) == 2
    assert (
        "0 shapes projected on Icosphere(1), 15 there already"
        in call("mesh project", folder, "--level 1 --out", out).stdout
    )
    with np.load(out / "ball0.npz", allow_pickle=False) as file:
        assert file["values"].shape == (42, 6)
        assert np.allclose(file["values"][:, :3], [0.03, 1, 0], atol=0.25)  # a ball fills the sphere


def test_project_for_other_methods(folder, tmp_path):
    call("mesh project", folder, "--method circular --height 8 --out", tmp_path / "pixels")
    call("mesh project", folder, "--method spherephd --level 1 --up-axis y --out", tmp_path / "faces")
    with np.load(tmp_path / "pixels" / "cone0.npz") as a, np.load(tmp_path / "faces" / "cone0.npz") as b:
        assert (a["values"].shape, b["values"].shape) == ((8, 16, 6), (80, 6))
        assert (str(a["kind"]), str(b["kind"])) == ("equirect", "polyhedron")


def test_a_projected_shape_is_a_signal_that_can_be_viewed(folder, tmp_path):
    call("mesh project", folder, "--level 2 --out", tmp_path / "out")
    call("mesh view", tmp_path / "out" / "box1.npz", "--channel hull_distance --out", tmp_path / "box.png")
    assert (tmp_path / "box.png").stat().st_size > 1000


# --- train -------------------------------------------------------------------------------------------------


def test_run_folder(run):
    assert {"config.toml", "log.csv", "best.safetensors", "last.safetensors", "curves.png"} <= {
        p.name for p in run.iterdir()
    }
    config = sc.training.load_config(run / "config.toml")
    assert (config["classes"], config["model"], config["method"]) == (
        ["ball", "box", "cone"],
        "mesh_classifier",
        "mesh",
    )
    assert config["data"] == str(run.parent / "raw-icosphere-2-z")
    train = sc.datasets.shapes(
        config["data"], sc.grids.Icosphere(2), split="train", test_numbers="3-4", validation=0.34
    )
    assert config["channel_mean"] == train.mean.tolist()
    assert config["channel_std"] == train.std.tolist()
    log = rows(run / "log.csv")
    assert len(log) == 20
    assert float(log[-1]["train_loss"]) < 0.7 * float(log[0]["train_loss"])


def test_resumed_run_has_the_bits_of_one_that_was_not_stopped(run, tmp_path):
    data = run.parent / "raw-icosphere-2-z"
    options = f"{SMALL} --schedule none --test-numbers 3-4 --augment yaw"
    call("mesh train", data, options, "--epochs 3 --out", tmp_path / "whole")
    call("mesh train", data, options, "--epochs 2 --out", tmp_path / "parts")
    call("mesh train --epochs 3 --resume", tmp_path / "parts")
    one, two = (sc.training.load_checkpoint(tmp_path / name / "last.safetensors")[1] for name in ("whole", "parts"))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert sc.training.load_config(tmp_path / "parts" / "config.toml")["epochs"] == 3


def test_train_on_all_without_validation(run, tmp_path):
    said = call(
        "mesh train", run.parent / "raw-icosphere-2-z", SMALL, "--epochs 1 --validation 0 --out", tmp_path / "r"
    )
    # of each class of five the last two are left for testing
    assert "9 shapes to train on and 0 to validate on" in said.stdout
    assert "in training: loss" in said.stdout
    assert (
        "val_loss" not in rows(tmp_path / "r" / "log.csv")[0] or rows(tmp_path / "r" / "log.csv")[0]["val_loss"] == ""
    )


def test_other_methods_and_the_general_command(folder, tmp_path):
    call("mesh train", folder, "--method spherephd --level 2 --width 2 --epochs 1 --out", tmp_path / "faces")
    assert sc.training.load_config(tmp_path / "faces" / "config.toml")["model"] == "classifier"
    assert "6 shapes" in call("mesh evaluate", tmp_path / "faces").stdout
    data = tmp_path / "raw-polyhedron-2-z"
    options = "--method spherephd --level 2 --width 2 --epochs 1 --test-numbers 0 --out"
    said = call("train --data", data, options, tmp_path / "general").stdout
    assert "shapes to train on" in said
    assert "3 shapes" in call("evaluate", tmp_path / "general").stdout


def test_the_published_network_is_the_default(folder, tmp_path):
    said = call("mesh train", folder, "--level 4 --width 1 --epochs 1 --batch-size 8 --out", tmp_path / "r").stdout
    assert "mesh_modelnet, mesh" in said


# --- evaluate ----------------------------------------------------------------------------------------------


def test_evaluate(run, tmp_path):
    said = call("mesh evaluate", run, "--weights last --out", tmp_path / "e").stdout
    assert "6 shapes, as they are: accuracy" in said
    table = rows(tmp_path / "e" / "classes.csv")
    assert [row["class"] for row in table] == ["ball", "box", "cone"]
    assert [int(row["samples"]) for row in table] == [2, 2, 2]
    accuracy = sum(int(row["correct"]) for row in table) / 6
    assert f"accuracy {accuracy:.1%}" in said
    with open(tmp_path / "e" / "confusion.csv") as file:
        counts = np.array([line[1:] for line in csv.reader(file)][1:], int)
    assert np.trace(counts) == accuracy * 6
    assert (tmp_path / "e" / "confusion.png").exists()


def test_evaluate_on_other_parts_and_folders(run, folder, tmp_path):
    assert "3 shapes" in call("mesh evaluate", run, "--part validation").stdout
    assert "15 shapes, turned about the axis" in call("mesh evaluate", run, "--part all --rotate yaw").stdout
    assert (run / "evaluate-all-yaw" / "confusion.png").exists()
    said = call("mesh evaluate", run, folder, "--out", tmp_path / "e").stdout
    assert "0 shapes projected on Icosphere(2), 15 there already" in said
    assert "6 shapes, as they are" in said


def test_folders_of_one_name_are_projected_apart(tmp_path):
    """Two folders that are both called `shapes`, of other shapes by the same names."""
    import trimesh

    for place, extents in (("one", [1, 1, 1]), ("two", [1, 3, 1])):
        (tmp_path / place / "shapes").mkdir(parents=True)
        for n in range(4):
            for label in "ab":
                mesh = trimesh.creation.box(extents=np.add(extents, 0.1 * n))
                mesh.export(tmp_path / place / "shapes" / f"{label}{n}.off")
    used = []
    for place in ("one", "two", "one"):
        options = f"{SMALL} --epochs 1 --out"
        said = call("mesh train", tmp_path / place / "shapes", options, tmp_path / f"run{len(used)}").stdout
        assert ("8 there already" in said) == (len(used) == 2)
        used.append(sc.training.load_config(tmp_path / f"run{len(used)}" / "config.toml")["data"])
    assert used[0] == used[2] != used[1]


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ("mesh project nowhere --out x", "is not a folder"),
        ("mesh train nowhere", "holds neither meshes nor projected shapes"),
        ("mesh train", "no FOLDER of shapes was given"),
        ("mesh train {folder} --height 4 --out {tmp}/r", "height is 4 for method 'mesh'"),
        ("mesh train {folder} --level 1 --out {tmp}/r", "too small"),
        ("mesh train {folder} --level 1 --model classifier --test-numbers 77 --out {tmp}/r", "those of no shapes"),
        ("mesh train {data} --level 3 --out {tmp}/r", "expected shapes on Icosphere(3)"),
        ("mesh train --resume {run} --width 3", "leave out width"),
        ("mesh train {folder} --resume {run}", "leave out FOLDER"),
        ("mesh train --resume {tmp}", "holds no last.safetensors"),
        ("train --data {folder} --method mesh", "run `spherecnn mesh project` first"),
        ("mesh evaluate {tmp}", "holds no config.toml"),
    ],
)
def test_refusals(run, folder, tmp_path, args, sentence):
    data = run.parent / "raw-icosphere-2-z"
    assert sentence in refusal(args.format(run=run, folder=folder, tmp=tmp_path, data=data))
    assert not (tmp_path / "r").exists()


def test_evaluate_refuses_a_run_on_pictures(tmp_path):
    call("train --data digits --height 8 --width 1 --epochs 1 --batch-size 512 --out", tmp_path / "r")
    assert "is no run on shapes" in refusal("mesh evaluate", tmp_path / "r")
