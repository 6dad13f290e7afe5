"""Networks on a mesh on the command line: every task, from train to predict."""

from __future__ import annotations

import numpy as np
import pytest
from test_cli import call, refusal
from test_faces_cli import folder, model_of, names  # noqa: F401  (folder is a fixture)

import spherecnn as sc

MESH = "--level 2 --width 2 --epochs 2 --lr 0.01"
DENSE = f"{MESH} --batch-size 2 --validation 0.34"


def test_digits(tmp_path):
    run = tmp_path / "run"
    call(f"train --data digits --method mesh {MESH} --batch-size 256 --out", run)
    config = sc.training.load_config(run / "config.toml")
    assert (config["method"], config["level"], "height" in config) == ("mesh", 2, False)
    assert model_of(run).grid == sc.grids.Icosphere(2)
    assert "mesh on Icosphere(2), input (162, 1)" in call("summary", run).stdout
    model, data = model_of(run), sc.datasets.digits(sc.grids.Icosphere(2), split="test", rotate="so3")
    right = (model(data.batch(np.arange(359))[0]).argmax(-1) == data.labels).mean()
    assert f"accuracy {right:.1%}" in call("evaluate", run, "--rotate so3").stdout


@pytest.mark.parametrize(
    ("task", "labels", "options"),
    [
        ("segment", "segment", "--method mesh --augment so3 --up transpose"),
        ("regress", "regress", "--method mesh_compass --label-scale 0.001 --model encoder_decoder"),
        ("inpaint", "segment", "--method mesh --holes caps"),
    ],
)
def test_dense_tasks(task, labels, options, folder, tmp_path):  # noqa: F811
    run, picture = tmp_path / "run", folder / labels / "images" / "p0.png"
    call(f"train --task {task} --data {folder}/{labels} {DENSE} {options} --out", run)
    call("evaluate", run)
    hidden = f"--masks {folder}/segment/labels" if task == "inpaint" else ""
    said = call(f"predict {run} {picture} {hidden} --out", tmp_path / "out").stdout
    assert "Wrote 1 picture" in said
    assert any(name.startswith("p0") for name in names(tmp_path / "out"))


def test_summary_of_a_network_without_a_method(tmp_path):
    net = sc.models.mesh_unet(3, 2, sc.grids.Icosphere(1), width=2, depth=1, rng=0)
    sc.training.save_checkpoint(tmp_path / "best.safetensors", net)
    (tmp_path / "config.toml").write_text("")
    assert "mesh_unet on Icosphere(1), input (42, 3)" in call("summary", tmp_path).stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("train --data digits --method mesh --height 8", "height is 8 for method 'mesh'"),
        ("train --data digits --method mesh --level 1", "Icosphere(0)"),
        ("train --task segment --data {}/segment --method mesh --level 4 --model deeplab", "dilation is 2"),
        ("train --task inpaint --data {}/segment --method mesh --level 2 --model inpainter", "kernel_size is 5"),
    ],
)
def test_refusals(options, says, folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    assert says in refusal(options.format(folder))
    assert not list(tmp_path.iterdir())
