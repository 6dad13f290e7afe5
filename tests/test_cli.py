"""The command line, from help to a whole round trip."""

import csv
import re
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import spherecnn as sc
from spherecnn.cli import COMMANDS, main
from spherecnn.cli.options import table

TINY = "--data digits --height 8 --width 4"


def call(*args, code=0):
    """Run a command; return what it said."""
    result = CliRunner().invoke(main, " ".join(map(str, args)).split())
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def refusal(*args):
    """Run a command that must be refused; return its one sentence."""
    result = call(*args, code=2)
    assert result.stderr.startswith("spherecnn: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.rstrip().endswith(".")
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny run on the digits."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    said = call(f"train {TINY} --epochs 3 --batch-size 64 --lr 0.01 --out", out)
    assert f"spherecnn evaluate {out}" in said.stdout
    return out


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of four small pictures each, one dark and one bright."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("bright", 200)):
        (folder / name).mkdir()
        for i in range(4):
            pixels = (level + rng.integers(0, 40, (16, 32, 3))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


# --- help --------------------------------------------------------------------------------------------------


def test_help_lists_every_command():
    said = call("--help").stdout
    assert all(re.search(rf"^  {name} ", said, re.MULTILINE) for name in COMMANDS)
    assert call().stdout == said


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command):
    said = call(command, "--help").stdout
    assert f"spherecnn {command}" in said.split("Example")[1]


def test_version():
    assert sc.__version__ in call("--version").stdout


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("paint", "No such command 'paint'"),
        ("--colour", "No such option"),
        ("train --data digits --colour", "No such option"),
        ("train", "Missing option '--data'"),
        ("train --data digits --epochs 0", "--epochs"),
        ("train --data digits --method cubist", "cubist"),
        ("train --data nowhere", "expected digits, a folder"),
        ("train --resume nowhere", "last.safetensors"),
        ("train --config nowhere.toml", "nowhere.toml"),
        ("evaluate nowhere", "config.toml"),
        ("predict nowhere a.png --out b.csv", "config.toml"),
        ("predict nowhere --out b.csv", "Missing argument"),
        ("summary nowhere", "config.toml"),
        ("warmup --threads 100000", "number of threads is 100000"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(command, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in refusal(command)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["demo", "train --data digits"])
def test_without_scikit_learn(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert "scikit-learn, which is not installed" in refusal(command, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_debug_shows_the_traceback():
    result = CliRunner().invoke(main, ["--debug", "evaluate", "nowhere"])
    assert isinstance(result.exception, sc.errors.InputError)


# --- a whole run -------------------------------------------------------------------------------------------


def test_run_folder(run):
    names = {"config.toml", "log.csv", "best.safetensors", "last.safetensors", "curves.png"}
    assert names <= {p.name for p in run.iterdir()}


def test_a_second_run_does_not_overwrite(run):
    assert "holds a run already" in refusal(f"train {TINY} --out", run)


def test_evaluate(run, tmp_path):
    said = call("evaluate", run, "--out", tmp_path / "e").stdout
    with open(tmp_path / "e" / "confusion.csv") as file:
        header, *rows = csv.reader(file)
    matrix = np.array([row[1:] for row in rows], float)
    assert header[1:] == [str(k) for k in range(10)]
    assert matrix.sum() == 359
    assert f"accuracy {np.trace(matrix) / 359:.1%}" in said
    with Image.open(tmp_path / "e" / "confusion.png") as picture:
        assert min(picture.size) > 100


def test_turned_digits_are_harder(run, tmp_path):
    said = [call("evaluate", run, "--rotate", kind, "--out", tmp_path / kind).stdout for kind in ("none", "so3")]
    upright, turned = (float(re.search(r"accuracy ([\d.]+)%", text).group(1)) for text in said)
    assert upright > turned + 10
    assert (tmp_path / "none" / "confusion.csv").read_text() != (tmp_path / "so3" / "confusion.csv").read_text()


def test_predict_gives_what_the_model_gives(run, tmp_path):
    grid = sc.grids.Equirect(8)
    x, _ = sc.datasets.digits(grid, split="test").batch(np.arange(3))
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, picture in zip(files, x, strict=True):
        Image.fromarray((picture[..., 0] * 255).round().astype(np.uint8)).save(file)
    out = tmp_path / "p.csv"
    call("predict", run, *files, "--out", out)
    with open(out) as file:
        rows = list(csv.DictReader(file))
    header, arrays, _ = sc.training.load_checkpoint(run / "best.safetensors")
    model = sc.models.build(header["model"])
    model.load_state(arrays)
    y = model(((x * 255).round() / 255).astype(np.float32)).astype(float)
    probability = np.exp(y) / np.exp(y).sum(-1, keepdims=True)
    assert [row["file"] for row in rows] == [str(f) for f in files]
    assert [int(row["class"]) for row in rows] == y.argmax(-1).tolist()
    np.testing.assert_allclose([float(r["probability"]) for r in rows], probability.max(-1), atol=1e-3)


def test_predict_writes_nothing_when_a_picture_is_damaged(run, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "bad.png" in refusal("predict", run, tmp_path / "bad.png", "--out", tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_summary_counts_the_parameters_of_the_run(run):
    said = call("summary", run).stdout
    header, _, _ = sc.training.load_checkpoint(run / "best.safetensors")
    count = sc.models.build(header["model"]).parameter_count
    assert f"{count:,} parameters" in said
    rows = said.split("---\n")[-1].split("\n\n")[0].splitlines()
    assert sum(int(row.split()[-1].replace(",", "")) for row in rows) == count


def test_resume_equals_a_whole_run(tmp_path):
    settings = f"train {TINY} --batch-size 256 --schedule none"
    call(settings, "--epochs 2 --out", tmp_path / "whole")
    call(settings, "--epochs 1 --out", tmp_path / "parts")
    call("train --resume", tmp_path / "parts", "--epochs 2")
    one, two = (sc.training.load_checkpoint(tmp_path / n / "last.safetensors")[1] for n in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_resume_refuses_other_settings(run):
    assert "leave out lr" in refusal("train --resume", run, "--lr 0.1")


def test_config_option_counts_more(tmp_path):
    (tmp_path / "c.toml").write_text('data = "digits"\nheight = 8\nwidth = 4\nepochs = 1\nbatch_size = 512\nlr = 0.5\n')
    call("train --config", tmp_path / "c.toml", "--lr 0.001 --out", tmp_path / "run")
    saved = sc.training.load_config(tmp_path / "run" / "config.toml")
    assert (saved["lr"], saved["batch_size"], saved["optimizer"]) == (0.001, 512, "adam")


def test_config_of_a_run_repeats_it(run, tmp_path):
    call("train --config", run / "config.toml", "--out", tmp_path / "again")
    one, two = (sc.training.load_checkpoint(r / "last.safetensors")[1] for r in (run, tmp_path / "again"))
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("text", "says"), [("colour = 1\n", "'colour'"), ("lr = \n", "not TOML"), ("lr = 'a'\n", "--lr")]
)
def test_bad_config(text, says, tmp_path):
    (tmp_path / "c.toml").write_text(text)
    assert says in refusal("train --data digits --config", tmp_path / "c.toml", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_pictures(photos, tmp_path):
    out = tmp_path / "run"
    call("train --data", photos, "--height 8 --width 4 --epochs 1 --validation 0.25 --out", out)
    assert "2 pictures" in call("evaluate", out).stdout
    assert "8 pictures" in call("evaluate", out, "--data", photos, "--rotate yaw").stdout
    call("predict", out, *sorted(photos.rglob("*.png")), "--out", tmp_path / "p.csv")
    with open(tmp_path / "p.csv") as file:
        assert {row["class"] for row in csv.DictReader(file)} <= {"bright", "dark"}
    assert "classes" in refusal("evaluate", out, "--data digits")


# --- the machine -------------------------------------------------------------------------------------------


def test_info():
    said = call("info").stdout
    assert sc.__version__ in said
    assert np.__version__ in said
    assert re.search(r"kernel cache +\S+: \d+ files, [\d.]+ MiB", said)


def test_warmup_runs_every_method():
    assert re.search(r"All kernels are ready in \S+, after [\d.]+ s", call("warmup").stdout)


def test_table_aligns_text_left_and_numbers_right():
    assert table(["a", "n"], [["xyz", 5], ["b", 1000]]) == "a        n\n---  -----\nxyz      5\nb    1,000"
