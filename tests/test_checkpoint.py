"""Checkpoints: what goes in comes out, damage is noticed, a failed write leaves the old file."""

import errno
import json
import os

import numpy as np
import pytest
from safetensors.numpy import save_file

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.training import load_checkpoint, restore_model, save_checkpoint


class Net(sc.layers.Sequential):
    def __init__(self, width=4, seed=0, method="circular"):
        rng = np.random.default_rng(seed)
        super().__init__(
            sc.layers.Linear(3, width, rng=rng),
            sc.layers.BatchNorm(width),
            sc.layers.Dropout(0.5, rng=rng),
            sc.layers.Linear(width, 2, rng=rng),
        )
        self.config = {"method": method, "shape": (3, width)}


def weights(model):
    return {name: value.copy() for name, value in model.state().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "last.safetensors"


@pytest.fixture
def saved(path):
    save_checkpoint(path, Net(), {"epoch": 3}, {"momentum.w": np.arange(3.0)})
    return path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip(path, dtype):
    net = Net(seed=0).astype(dtype)
    extra = {"a": np.arange(3), "scalar": np.array(2.5), "none": np.zeros((0, 2), np.float32)}
    save_checkpoint(path, net, {"epoch": 3, "loss": 0.1 + 0.2}, extra)
    header, arrays, found = load_checkpoint(path)
    assert (header["epoch"], header["loss"]) == (3, 0.1 + 0.2)
    assert header["model"] == {"method": "circular", "shape": [3, 4]}
    assert {"spherecnn", "numpy", "numba", "python"} <= header["versions"].keys()
    assert_same(found, extra)
    other = Net(seed=1).astype(dtype)
    restore_model(other, header, arrays)
    assert_same(weights(other), weights(net))


def test_strided_arrays_are_saved_as_they_read(path):
    table = np.arange(12.0).reshape(3, 4)
    net = sc.layers.Linear(3, 4, rng=0)
    net.weight.value = np.arange(12, dtype=np.float32).reshape(net.weight.value.shape[::-1]).T
    save_checkpoint(path, net, None, {"t": table.T, "s": table[:, ::2]})
    _, arrays, extra = load_checkpoint(path)
    assert_same(extra, {"t": table.T, "s": table[:, ::2]})
    np.testing.assert_array_equal(arrays["weight"], net.weight.value)


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.MT19937])
def test_random_state_of_layers_goes_on(path, bits):
    a, b = Net(seed=0), Net(seed=0)
    a[2].rng, b[2].rng = np.random.Generator(bits(1)), np.random.Generator(bits(2))
    x = np.ones((8, 3), np.float32)
    a.forward(x, train=True)
    save_checkpoint(path, a)
    expected = a.forward(x, train=True)[0]
    restore_model(b, *load_checkpoint(path)[:2])
    np.testing.assert_array_equal(b.forward(x, train=True)[0], expected)


def test_random_state_of_another_generator(path):
    a, b = Net(), Net()
    b[2].rng = np.random.Generator(np.random.MT19937(0))
    save_checkpoint(path, a)
    with pytest.raises(InputError, match="MT19937"):
        restore_model(b, *load_checkpoint(path)[:2])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_truncated(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(saved)


def test_every_damaged_array_byte_is_noticed(saved):
    content = saved.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for i in range(start, len(content), 7):
        saved.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(InputError, match="damaged"):
            load_checkpoint(saved)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not this", bytes(200), b"\xff" * 64])
def test_garbage(path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or not a checkpoint"):
        load_checkpoint(path)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="is not a file"):
            load_checkpoint(path)


def test_foreign_safetensors(path):
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(InputError, match="no spherecnn header"):
        load_checkpoint(path)
    save_file({"a": np.zeros(2)}, path, metadata={"spherecnn": "{"})
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path)


def test_other_format_version(path):
    save_file({"a": np.zeros(2)}, path, metadata={"spherecnn": json.dumps({"format": 99})})
    with pytest.raises(InputError, match="format version 99"):
        load_checkpoint(path)


@pytest.mark.parametrize("other", [Net(width=5), Net(method="planar")], ids=["width", "method"])
def test_checkpoint_of_another_model(saved, other):
    before = weights(other)
    with pytest.raises(InputError, match="another model"):
        restore_model(other, *load_checkpoint(saved)[:2])
    assert_same(weights(other), before)


def test_checkpoint_of_another_model_without_config(path):
    save_checkpoint(path, sc.layers.Linear(3, 2, rng=0))
    with pytest.raises(InputError, match="another model"):
        restore_model(sc.layers.Linear(3, 4, rng=0), *load_checkpoint(path)[:2])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_weights_are_not_saved(saved, bad):
    before = saved.read_bytes()
    net = Net(seed=5)
    net[0].weight.value.flat[1] = bad
    with pytest.raises(InputError, match=r"0\.weight holds NaN or infinite"):
        save_checkpoint(saved, net)
    assert saved.read_bytes() == before


def test_nan_weights_are_not_loaded(saved):
    header, arrays, _ = load_checkpoint(saved)
    arrays["3.bias"] = np.full_like(arrays["3.bias"], np.nan)
    with pytest.raises(InputError, match=r"3\.bias holds NaN"):
        restore_model(Net(), header, arrays)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_keeps_the_old_checkpoint(saved, monkeypatch, call):
    before = saved.read_bytes()

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(InputError, match="No space left on device"):
        save_checkpoint(saved, Net(seed=9))
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert load_checkpoint(saved)[0]["epoch"] == 3
    assert os.listdir(saved.parent) == [saved.name]


def test_write_cut_off_by_the_system_keeps_the_old_checkpoint(saved):
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    before = saved.read_bytes()
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, old_limit[1]))
    try:
        with pytest.raises(InputError, match="could not be written"):
            save_checkpoint(saved, Net(seed=9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_unwritable_folder(tmp_path):
    with pytest.raises(InputError, match="could not be written"):
        save_checkpoint(tmp_path / "none" / "a.safetensors", Net())


def test_interrupt_while_saving_leaves_no_temporary_file(saved, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, Net(seed=9))
    monkeypatch.undo()
    assert os.listdir(saved.parent) == [saved.name]
    assert load_checkpoint(saved)[0]["epoch"] == 3
