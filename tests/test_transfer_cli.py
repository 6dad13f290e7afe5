"""`spherecnn transfer` from a planar run, and from torch's weights, to each method."""

import csv
import re

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import save_file

import spherecnn as sc
from spherecnn.cli import main


def call(*args, code=0):
    result = CliRunner().invoke(main, " ".join(map(str, args)).split())
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout if code == 0 else result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny planar run on the digits."""
    out = tmp_path_factory.mktemp("runs") / "planar"
    call("train --data digits --method planar --height 16 --width 2 --epochs 1 --batch-size 128 --out", out)
    return out


@pytest.mark.parametrize("method", ["circular", "sphere", "tangent"])
def test_copies_run_where_the_run_did(run, tmp_path, method):
    out = tmp_path / method
    said = call(f"transfer --weights {run}/best.safetensors --to {method} --out {out}")
    assert f"Next: spherecnn evaluate {out} --rotate so3" in said
    assert sorted(p.name for p in out.iterdir()) == ["best.safetensors", "config.toml"]
    assert sc.training.load_config(out / "config.toml")["method"] == method
    assert "accuracy" in call(f"evaluate {out} --rotate so3 --batch-size 128")


def test_kernels_of_rows_are_learned_from_the_data_of_the_run(run, tmp_path):
    out = tmp_path / "sphconv"
    said = call(f"transfer --weights {run}/best.safetensors --to sphconv --pictures 20 --samples 6 --out {out}")
    assert "copied 22 arrays, learned 5 from 16 panoramas" in said
    assert "exact outputs of 4 panoramas" in said
    names = ["best.safetensors", "config.toml", "errors.csv", "errors.png"]
    assert sorted(p.name for p in out.iterdir()) == names
    lines = list(csv.DictReader((out / "errors.csv").read_text().splitlines()))
    assert len(lines) == 16 + 8 + 8 + 4 + 4
    assert all(float(line["sphconv"]) < float(line["planar"]) for line in lines if line["layer"] == "features.0")
    with Image.open(out / "errors.png") as picture:
        assert picture.size[0] > 1000
    assert "accuracy" in call(f"evaluate {out} --batch-size 128")
    header, _, _ = sc.training.load_checkpoint(out / "best.safetensors")
    assert header["model"]["method"] == "sphconv"
    assert header["transfer"]["from"] == str((run / "best.safetensors").resolve())


def test_what_makes_kernels_is_learned(run, tmp_path):
    out = tmp_path / "ktn"
    options = "--pictures 6 --samples 4 --steps 4 --finetune 2"
    said = call(f"transfer --weights {run}/best.safetensors --to ktn --data digits {options} --out {out}")
    assert "classifier, ktn on Equirect(16, 32)" in said
    assert re.search(r"learned \d+ from 5 panoramas", said)
    assert "accuracy" in call(f"evaluate {out} --batch-size 128")


def test_errors_on_a_folder_of_pictures_of_another_height(run, tmp_path):
    folder = tmp_path / "photos" / "one"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (20, 40, 3), np.uint8)).save(folder / f"{i}.png")
    out = tmp_path / "out"
    options = f"--data {folder.parent} --rotate yaw --height 20 --pitch 12 --samples 5 --out {out}"
    said = call(f"transfer --weights {run}/best.safetensors --to circular {options}")
    assert "Equirect(20, 40)" in said
    assert "exact outputs of 3 panoramas" in said
    assert sc.training.load_config(out / "config.toml")["height"] == 20


MODEL = """model = "classifier"
in_channels = 1
classes = 10
width = 2

[grid]
kind = "equirect"
height = 16
width = 32
"""


def test_weights_of_torch(run, tmp_path):
    _, arrays, _ = sc.training.load_checkpoint(run / "best.safetensors")
    names = {f"{name}.": f"net.{name.replace('features', 'f')}." for name in ("features", "head")}
    theirs = {}
    for name, value in arrays.items():
        for own, other in names.items():
            name = name.replace(own, other)
        theirs[name] = np.ascontiguousarray(np.moveaxis(value, (-1, -2), (0, 1)) if value.ndim == 4 else value.T)
    save_file(theirs, tmp_path / "torch.safetensors")
    (tmp_path / "net.toml").write_text(MODEL)
    layers = [0, 1, 4, 5, 7, 8, 11, 12, 14, 15]
    lines = [f'"features.{i}" = "net.f.{i}"\n' for i in layers]
    (tmp_path / "names.toml").write_text("".join(lines) + 'head = "net.head"\n')
    files = f"--weights {tmp_path}/torch.safetensors --model {tmp_path}/net.toml"
    said = call(f"transfer {files} --map {tmp_path}/names.toml --to sphere --out {tmp_path}/out")
    assert "features.0.weight         net.f.0.weight" in said
    assert "load_checkpoint" in said
    header, found, _ = sc.training.load_checkpoint(tmp_path / "out" / "best.safetensors")
    assert header["model"]["method"] == "sphere"
    assert all((found[name] == arrays[name]).all() for name in arrays)
    # Two convolutions and two normalisations of equal shape differ in numbers only: no map is needed.
    assert "net.head.bias" in call(f"transfer {files} --to circular --out {tmp_path}/again")
    assert "name a TOML file" in call(
        f"transfer --weights {tmp_path}/torch.safetensors --to circular --out {tmp_path}/none", code=2
    )
    assert "expected --data" in call(f"transfer {files} --to sphconv --out {tmp_path}/none", code=2)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--weights nowhere.safetensors --to circular", "is not a file"),
        ("--weights RUN/config.toml --to circular", "is not safetensors"),
        ("--weights RUN/best.safetensors --to circular --out RUN", "expected another folder"),
        ("--weights RUN/best.safetensors --to coord", "'coord' is not one of"),
        ("--weights RUN/best.safetensors --to circular --model RUN/config.toml", "leave them out"),
        ("--weights RUN/best.safetensors --to sphconv --data nowhere", "folder of panoramas: check the path"),
        ("--weights RUN/best.safetensors --to sphconv --data RUN", "holds 1 pictures"),
        ("--weights RUN/best.safetensors --to sphconv --pictures 1", "--pictures"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(run, options, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = call("transfer", options.replace("RUN", str(run)), code=2)
    assert says in said
    assert said.startswith("spherecnn: ")
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
