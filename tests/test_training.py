"""fit, evaluate and predict: learning, exact resume, early stopping, divergence, the run folder."""

import csv
import errno
import itertools
import os
import tomllib

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.training import (
    SGD,
    Adam,
    AdamW,
    ArrayDataset,
    CosineLR,
    CrossEntropyLoss,
    MSELoss,
    ReduceOnPlateau,
    StepLR,
    Subset,
    TrainingDiverged,
    batches,
    dump_config,
    evaluate,
    fit,
    load_checkpoint,
    load_config,
    predict,
    split,
)


def net(seed=0):
    rng = np.random.default_rng(seed)
    return sc.layers.Sequential(
        sc.layers.Linear(4, 8, rng=rng),
        sc.layers.BatchNorm(8),
        sc.layers.ReLU(),
        sc.layers.Dropout(0.3, rng=np.random.default_rng(seed + 1)),
        sc.layers.Linear(8, 3, rng=rng),
    )


def samples(n=50, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 4)).astype(np.float32)
    return ArrayDataset(x, x[:, :3].argmax(1))


def jitter(x, y, rng):
    return x + rng.standard_normal(x.shape).astype(x.dtype) * np.float32(0.1), y


def weights(model):
    return {name: value.copy() for name, value in model.state().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def log(folder):
    with open(folder / "log.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: Adam(p, lr=0.01),
    "adamw": lambda p: AdamW(p, lr=0.01),
}
SCHEDULES = {
    None: lambda o: None,
    "step": lambda o: StepLR(o, 1, 0.5),
    "cosine": lambda o: CosineLR(o, 4, warmup=1),
    "plateau": lambda o: ReduceOnPlateau(o, patience=0, threshold=0.5),
}


class Killed(Exception):
    pass


def run(folder, optimizer="adam", schedule="cosine", epochs=4, resume=False, kill_after=None, seed=0):
    model = net()
    made = OPTIMIZERS[optimizer](model.named_params())
    calls = itertools.count(1)

    def augment(x, y, rng):
        if next(calls) == kill_after:
            raise Killed
        return jitter(x, y, rng)

    settings = {"batch_size": 16, "clip_norm": 1.0, "augment": augment, "seed": seed, "progress": False}
    fit(
        model,
        samples(),
        validation=samples(20, 1),
        optimizer=made,
        schedule=SCHEDULES[schedule](made),
        epochs=epochs,
        out=folder,
        resume=resume,
        **settings,
    )
    return model, made


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [("sgd", None), ("adam", "step"), ("adamw", "cosine"), ("sgd", "plateau")]
)
def test_resumed_run_gives_the_same_bits(tmp_path, optimizer, schedule):
    whole, made = run(tmp_path / "whole", optimizer, schedule)
    run(tmp_path / "parts", optimizer, schedule, epochs=2)
    resumed, again = run(tmp_path / "parts", optimizer, schedule, resume=True)
    assert_same(weights(whole), weights(resumed))
    assert_same(made.state(), again.state())
    assert log(tmp_path / "whole") == log(tmp_path / "parts")
    assert len(log(tmp_path / "parts")) == 4
    for name in ("last.safetensors", "best.safetensors"):
        a, b = (load_checkpoint(tmp_path / folder / name) for folder in ("whole", "parts"))
        assert_same(a[1], b[1])
        assert_same(a[2], b[2])
        for key in ("epoch", "step", "order", "augmentation", "layer_rng", "schedule"):
            assert a[0][key] == b[0][key]


def test_killed_run_resumes_to_the_same_bits(tmp_path):
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_after=4 * 2 + 3)
    assert len(log(tmp_path / "killed")) == 2
    resumed, _ = run(tmp_path / "killed", resume=True)
    assert_same(weights(whole), weights(resumed))
    assert log(tmp_path / "whole") == log(tmp_path / "killed")


def test_seed_decides_the_bits(tmp_path):
    a, b, c = (weights(run(tmp_path / str(i), seed=s)[0]) for i, s in enumerate((0, 0, 1)))
    assert_same(a, b)
    assert not np.array_equal(a["0.weight"], c["0.weight"])


def test_threads_do_not_change_the_bits(tmp_path):
    before = sc.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            try:
                sc.set_num_threads(threads)
            except InputError:
                pytest.skip("one thread only")
            found.append(weights(run(tmp_path / str(threads), epochs=2)[0]))
    finally:
        sc.set_num_threads(before)
    assert_same(*found)


def test_full_disk_keeps_the_last_epoch_and_a_resume_goes_on(tmp_path, monkeypatch):
    whole, _ = run(tmp_path / "whole", epochs=3)
    run(tmp_path / "full", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left on device"):
            run(tmp_path / "full", epochs=3, resume=True)
    assert load_checkpoint(tmp_path / "full" / "last.safetensors")[0]["epoch"] == 1
    assert not list((tmp_path / "full").glob(".*"))
    resumed, _ = run(tmp_path / "full", epochs=3, resume=True)
    assert_same(weights(whole), weights(resumed))


def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_learns_and_writes_the_run_folder(tmp_path):
    model = net()
    history = fit(
        model,
        samples(400),
        validation=samples(100, 1),
        lr=0.02,
        epochs=6,
        out=tmp_path / "run",
        progress=False,
    )
    assert history["val_accuracy"][-1] > 0.8
    assert history.best == min(history["val_loss"]) == history["val_loss"][history.best_epoch - 1]
    names = {"config.toml", "log.csv", "best.safetensors", "last.safetensors", "curves.png"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == names
    rows = log(tmp_path / "run")
    assert [float(r["val_loss"]) for r in rows] == history["val_loss"]
    assert [int(r["epoch"]) for r in rows] == [1, 2, 3, 4, 5, 6]
    assert load_config(tmp_path / "run" / "config.toml")["training"]["lr"] == 0.02
    header, arrays, _ = load_checkpoint(tmp_path / "run" / "best.safetensors")
    best = net(seed=3)
    best.load_state(arrays)
    assert header["epoch"] == history.best_epoch
    assert evaluate(best, samples(100, 1))["loss"] == history.best


def test_config_of_the_caller_stays_through_a_resume(tmp_path):
    config = {"method": "circular", "data": {"name": "digits", "seed": 3}}
    options = {"out": tmp_path, "progress": False}
    fit(net(), samples(), epochs=1, config=config, **options)
    fit(net(), samples(), epochs=2, resume=True, **options)
    assert load_config(tmp_path / "config.toml") == config


def test_regression_without_validation():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 4))
    data = ArrayDataset(x, x @ rng.standard_normal((4, 2)))
    model = sc.layers.Linear(4, 2, rng=0).astype("float64")
    history = fit(model, data, loss="mse", lr=0.1, epochs=60, progress=False)
    assert history["train_loss"][-1] < 1e-2
    assert history["val_loss"] == [None] * 60
    assert history.columns == ["epoch", "lr", "train_loss", "val_loss", "seconds"]
    assert set(evaluate(model, data, loss="mse")) == {"loss"}


@pytest.mark.parametrize("batch_size", [1, 7, 16, 50])
def test_evaluate_does_not_depend_on_the_batches(batch_size):
    data = samples()
    data.y[::3] = -100
    whole = evaluate(net(), data, batch_size=50, metrics=("accuracy", "confusion", "iou"))
    found = evaluate(net(), data, batch_size=batch_size, metrics=("accuracy", "confusion", "iou"))
    assert found["loss"] == pytest.approx(whole["loss"], rel=1e-6)
    for name in ("accuracy", "confusion", "iou", "mean_iou"):
        np.testing.assert_array_equal(found[name], whole[name])
    assert whole["confusion"].sum() == (data.y >= 0).sum()


def test_epoch_mean_weighs_the_smaller_last_batch():
    data = ArrayDataset(np.arange(5, dtype=np.float32)[:, None], np.zeros((5, 1), np.float32))
    model = sc.layers.Linear(1, 1, bias=False, rng=0)
    model.weight.value[:] = 1
    frozen = SGD(model.named_params(), lr=0.0)
    history = fit(model, data, loss="mse", optimizer=frozen, epochs=1, batch_size=2, progress=False)
    assert history["train_loss"] == pytest.approx([np.mean(np.arange(5.0) ** 2)])


def test_dense_loss_by_name_uses_the_area_of_the_grid():
    grid = sc.grids.Equirect(4)
    model = sc.layers.Linear(2, 3, rng=0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 8, 2)).astype(np.float32)
    data = ArrayDataset(x, rng.integers(0, 3, (2, 4, 8)))
    plain = evaluate(model, data)
    model.grid = grid
    weighted = evaluate(model, data)
    assert weighted["loss"] == evaluate(model, data, loss=CrossEntropyLoss(area=grid.area))["loss"]
    assert abs(weighted["loss"] - plain["loss"]) > 1e-4


def test_predict_joins_batches():
    model, x = net(), samples().x
    np.testing.assert_allclose(predict(model, x, batch_size=7), model(x), rtol=1e-6)


def test_early_stopping():
    model = net()
    frozen = SGD(model.named_params(), lr=0.0)
    history = fit(
        model,
        samples(),
        validation=samples(20, 1),
        optimizer=frozen,
        loss=still,
        epochs=20,
        patience=3,
        progress=False,
    )
    assert history.epochs == 4
    assert history.best_epoch == 1
    assert history.stopped_early


def still(y, target):
    return 1.0, np.zeros_like(y)


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    data = samples()
    calls = itertools.count(1)

    def poison(x, y, rng):
        return (x * np.float32(np.nan) if next(calls) == 6 else x), y

    with pytest.raises(TrainingDiverged, match="epoch 2, step 2: the loss is NaN") as caught:
        fit(net(), data, batch_size=16, augment=poison, out=tmp_path, progress=False)
    assert "last.safetensors holds epoch 1" in str(caught.value)
    header, arrays, _ = load_checkpoint(tmp_path / "last.safetensors")
    assert header["epoch"] == 1
    assert all(np.isfinite(a).all() for a in arrays.values())
    assert len(log(tmp_path)) == 1


@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_nan_gradient_stops(clip_norm):
    def broken(y, target):
        return 1.0, np.full_like(y, np.nan)

    with pytest.raises(TrainingDiverged, match="epoch 1"):
        fit(net(), samples(20), loss=broken, batch_size=20, clip_norm=clip_norm, progress=False)


def test_ctrl_c_says_how_to_resume(tmp_path, capsys):
    calls = itertools.count(1)

    def interrupt(x, y, rng):
        if next(calls) == 6:
            raise KeyboardInterrupt
        return x, y

    with pytest.raises(KeyboardInterrupt):
        fit(net(), samples(), batch_size=16, augment=interrupt, out=tmp_path, progress=False)
    said = capsys.readouterr().err
    assert "stopped in epoch 2" in said
    assert f"spherecnn train --resume {tmp_path}" in said
    assert load_checkpoint(tmp_path / "last.safetensors")[0]["epoch"] == 1


def test_progress_prints_one_line_an_epoch(capsys):
    fit(net(), samples(), validation=samples(20, 1), epochs=2)
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("val loss" in line and "val accuracy" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"clip_norm": 0.0}, "clip_norm is 0"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"optimizer": "lion"}, "optimizer is 'lion'"),
        ({"schedule": "cyclic"}, "schedule is 'cyclic'"),
        ({"resume": True}, "resume got no run folder"),
    ],
)
def test_bad_settings(options, words):
    with pytest.raises(InputError, match=words):
        fit(net(), samples(), progress=False, **options)


def test_folder_of_another_run_is_not_overwritten(tmp_path):
    fit(net(), samples(), epochs=1, out=tmp_path, progress=False)
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds a run already"):
        fit(net(1), samples(), epochs=1, out=tmp_path, progress=False)
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_resume_of_nothing_and_of_another_model_or_optimizer(tmp_path):
    with pytest.raises(InputError, match="is not a file"):
        fit(net(), samples(), out=tmp_path / "none", resume=True, progress=False)
    fit(net(), samples(), epochs=1, out=tmp_path, progress=False)
    with pytest.raises(InputError, match="another model"):
        fit(sc.layers.Linear(4, 3, rng=0), samples(), out=tmp_path, resume=True, progress=False)
    with pytest.raises(InputError, match="has optimizer and schedule"):
        fit(net(), samples(), optimizer="sgd", out=tmp_path, resume=True, progress=False)


def test_schedule_of_another_optimizer():
    model = net()
    other = CosineLR(Adam(model.named_params()), 3)
    with pytest.raises(InputError, match="another optimizer"):
        fit(model, samples(), schedule=other, progress=False)


def test_batches_cover_every_sample_once():
    found = list(batches(10, 4, np.random.default_rng(0)))
    assert [len(b) for b in found] == [4, 4, 2]
    order = np.concatenate(found)
    assert sorted(order) == list(range(10))
    assert list(order) != list(range(10))
    assert list(np.concatenate(list(batches(10, 4)))) == list(range(10))


def test_split_is_a_partition():
    data = ArrayDataset(np.arange(20.0)[:, None], np.arange(20), classes=["a", "b"])
    train, held = split(data, 0.25, seed=3)
    assert isinstance(train, Subset)
    assert (len(train), len(held)) == (15, 5)
    seen = [part.batch(np.arange(len(part)))[1] for part in (train, held)]
    assert sorted(np.concatenate(seen)) == list(range(20))
    assert held.classes == ["a", "b"]
    np.testing.assert_array_equal(split(data, 0.25, seed=3)[1].indices, held.indices)
    assert not np.array_equal(split(data, 0.25, seed=4)[1].indices, held.indices)
    for fraction in (0.0, 0.01, 1.0):
        with pytest.raises(InputError, match="leaves one part empty"):
            split(data, fraction)


def test_bad_arrays():
    with pytest.raises(InputError, match="x holds 3 samples"):
        ArrayDataset(np.zeros((3, 1)), np.zeros(2))
    with pytest.raises(InputError, match="x holds no samples"):
        predict(net(), np.zeros((0, 4), np.float32))


@pytest.mark.parametrize(
    "config",
    [
        {"a": 1, "b": -2.5, "c": True, "d": "x", "e": [1, 2], "f": {"g": {"h": "i"}, "j": 1e-30}},
        {"quotes": 'a "b" \\ \n\t\x7f é 🌍', "a key with.dots": 1, "empty": {}, "inf": float("inf")},
        {"words": ["a", "b c"], "nested": [[1], [2.0]], "deep": {"deeper": {"deepest": {}}}},
    ],
)
def test_config_reads_back(config):
    assert tomllib.loads(dump_config(config)) == config


def test_config_leaves_none_out_and_refuses_objects(tmp_path):
    assert dump_config({"a": None, "b": 1}) == "b = 1\n"
    with pytest.raises(InputError, match=r"the setting a\.b is a ndarray"):
        dump_config({"a": {"b": np.zeros(1)}})
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(InputError, match="is not TOML"):
        load_config(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not TOML"):
        load_config(tmp_path / "bad.toml")


def test_custom_loss_object():
    loss = MSELoss()
    y = np.array([[1.0], [3.0]])
    value, dy = loss(y, np.zeros_like(y))
    assert value == pytest.approx(5.0)
    np.testing.assert_allclose(dy, y)
