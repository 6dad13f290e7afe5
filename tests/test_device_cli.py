"""--device and --precision on the command line and in the scripts: passed on, or refused in one sentence."""

import re

import pytest
from click.testing import CliRunner
from script_modules import script_modules

import spherecnn as sc
from spherecnn.cli import main
from spherecnn.errors import InputError
from spherecnn.kernels.gpu import device

NO_GPU = "no NVIDIA GPU can be used here; expected one: use the CPU."
COMMANDS = [
    "train --data digits",
    "evaluate nowhere",
    "predict nowhere a.png",
    "demo",
    "transfer --weights nowhere --to circular",
    "mesh train nowhere",
    "mesh evaluate nowhere",
    "warmup",
]
SCRIPTS = {
    "earth": "--data nowhere",
    "omnimnist": "--data nowhere",
    "spherical_mnist": "--data nowhere",
    "sphconv_accuracy": "",
    "notsoclevr": "",
    "mesh_mnist": "--data nowhere",
    "mesh_modelnet": "",
    "mesh_climate": "",
    "mesh_2d3ds": "",
}


class Card:
    """Stands for a GPU."""

    name, cc = "Card", (9, 0)

    def describe(self):
        return "Card, compute capability 9.0, driver 580"


@pytest.fixture
def no_gpu(monkeypatch):
    def current():
        raise InputError(NO_GPU)

    monkeypatch.setattr(device, "current", current)


@pytest.fixture
def card(monkeypatch):
    monkeypatch.setattr(device, "current", Card)


def refusal(command, text, code=2):
    result = CliRunner().invoke(command, text.split())
    assert result.exit_code == code, result.output
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_gpu(command, no_gpu, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert NO_GPU in refusal(main, f"{command} --device cuda")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_without_a_gpu(script, no_gpu, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with script_modules(script) as modules:
        command = modules[script].main
        assert NO_GPU in refusal(command, f"{SCRIPTS[script]} --device cuda", 1)
        said = refusal(command, f"{SCRIPTS[script]} --precision tf32", 1)
    assert "--precision tf32 was given without --device cuda" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS[:-1])
def test_precision_is_of_the_gpu(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "--precision bf16 was given without --device cuda" in refusal(main, f"{command} --precision bf16")
    assert not list(tmp_path.iterdir())


class Stopped(Exception):
    """Nothing more is to be seen."""


def test_training_is_told_both(card, tmp_path, monkeypatch):
    told = []

    def fit(*args, **settings):
        told.append((settings["device"], sc.get_precision(), settings["config"]["precision"]))
        raise Stopped

    monkeypatch.setattr(sc.training, "fit", fit)
    options = f"train --data digits --height 8 --width 4 --device cuda --precision tf32 --out {tmp_path / 'run'}"
    result = CliRunner().invoke(main, options.split())
    assert isinstance(result.exception, Stopped)
    assert "; on the GPU Card\n" in result.stdout
    assert told == [("cuda", "tf32", "tf32")]
    assert sc.get_precision() == "float32"


def test_device_and_precision_may_change_when_a_run_goes_on(card, tmp_path, monkeypatch):
    run = tmp_path / "run"
    small = "train --data digits --height 8 --width 4 --batch-size 64"
    assert CliRunner().invoke(main, f"{small} --epochs 1 --out {run}".split()).exit_code == 0
    told = []

    def fit(*args, **settings):
        told.append((settings["device"], sc.get_precision(), settings["resume"]))
        raise Stopped

    monkeypatch.setattr(sc.training, "fit", fit)
    for given in ("", "--device cuda --precision bf16"):
        CliRunner().invoke(main, f"train --resume {run} --epochs 2 {given}".split())
    assert told == [("cpu", "float32", True), ("cuda", "bf16", True)]


def test_a_run_of_the_gpu_goes_on_on_the_cpu(card, tmp_path, monkeypatch):
    run = tmp_path / "run"
    small = "train --data digits --height 8 --width 4 --batch-size 64"
    assert CliRunner().invoke(main, f"{small} --epochs 1 --out {run}".split()).exit_code == 0
    config = run / "config.toml"
    lines = config.read_text().replace('precision = "float32"', 'precision = "tf32"')
    config.write_text(lines.replace('device = "cpu"', 'device = "cuda"'))
    told = []

    def fit(*args, **settings):
        told.append((settings["device"], sc.get_precision(), settings["config"]["precision"]))
        raise Stopped

    monkeypatch.setattr(sc.training, "fit", fit)
    result = CliRunner().invoke(main, f"train --resume {run} --epochs 2 --device cpu".split())
    assert "float32, and not tf32 as the config says" in result.stdout
    CliRunner().invoke(main, f"train --resume {run} --epochs 2".split())
    assert told == [("cpu", "float32", "float32"), ("cuda", "tf32", "tf32")]
    said = refusal(main, f"train --resume {run} --epochs 2 --device cpu --precision bf16")
    assert "--precision bf16 was given without --device cuda" in said


def test_info_says_what_gpu_there_is(card):
    said = CliRunner().invoke(main, ["info"]).stdout
    assert re.search(r"^GPU +Card, compute capability 9.0, driver 580$", said, re.MULTILINE)


def test_info_says_why_there_is_none(no_gpu):
    assert f"none: {NO_GPU}" in CliRunner().invoke(main, ["info"]).stdout


@pytest.mark.parametrize("cc", ["7.5", "sm_90", "9"])
def test_warmup_refuses_other_capabilities(cc):
    assert f"--cc is {cc!r}" in refusal(main, f"warmup --device cuda --cc {cc}")


def test_warmup_refuses_double_precision_on_a_gpu(card):
    assert "--float64 was given with --device cuda" in refusal(main, "warmup --device cuda --float64")


def test_capability_is_of_the_gpu():
    assert "without --device cuda" in refusal(main, "warmup --cc 9.0")
