"""Torch's weights in our networks: parity where torch is installed, and the map of names without it."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.layers import BatchNorm, Conv2d, ConvTranspose2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from spherecnn.transfer import from_torch


def ours():
    """Two convolutions of equal shape, and a linear layer behind a Flatten."""
    return Sequential(
        Conv2d(2, 4, 3, rng=0),
        BatchNorm(4),
        ReLU(),
        Conv2d(4, 4, 3, rng=1, groups=2),
        ReLU(),
        Conv2d(4, 4, 3, rng=2, groups=2),
        MaxPool2d(2),
        Flatten(),
        BatchNorm(4 * 3 * 5),
        Linear(4 * 3 * 5, 7, rng=3),
    )


def arrays(**changes):
    """Torch's arrays for `ours`, under names of its own."""
    rng = np.random.default_rng(0)
    shapes = {
        "conv1.weight": (4, 2, 3, 3),
        "conv1.bias": (4,),
        "conv2.weight": (4, 2, 3, 3),
        "conv2.bias": (4,),
        "conv10.weight": (4, 2, 3, 3),
        "conv10.bias": (4,),
        "fc.weight": (7, 60),
        "fc.bias": (7,),
    }
    for name, n in (("norm", 4), ("flat_norm", 60)):
        shapes |= {f"{name}.{own}": (n,) for own in ("weight", "bias", "running_mean", "running_var")}
    found = {name: rng.random(shape).astype(np.float32) for name, shape in shapes.items()}
    found["norm.num_batches_tracked"] = np.array(3)
    return found | changes


@pytest.fixture
def file(tmp_path):
    save_file(arrays(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_layers_are_matched_by_shape_and_by_number(file):
    net = ours()
    # The first convolution has (3, 3, 2, 4), as the grouped ones have: all three fit, in the order of their numbers.
    pairs = from_torch(file, net, input_shape=(1, 6, 10, 2))
    assert list(pairs) == list(net.state())
    assert [pairs[f"{i}.weight"] for i in (0, 3, 5)] == ["conv1.weight", "conv2.weight", "conv10.weight"]
    assert pairs["8.running_var"] == "flat_norm.running_var"
    theirs = arrays()
    for i, j, c, k in ((0, 2, 1, 3), (1, 0, 0, 2)):
        assert net[5].weight.value[i, j, c, k] == theirs["conv10.weight"][k, c, i, j]
    for i, j, c, k in ((0, 4, 1, 3), (2, 0, 3, 6)):
        assert net[9].weight.value[(i * 5 + j) * 4 + c, k] == theirs["fc.weight"][k, (c * 3 + i) * 5 + j]
        at = (c * 3 + i) * 5 + j
        assert net[8].buffers["running_mean"][(i * 5 + j) * 4 + c] == theirs["flat_norm.running_mean"][at]


MAP = {"0": "conv10", "1": "norm", "3": "conv2", "5": "conv1", "8": "flat_norm", "9.weight": "fc.weight"}


@pytest.mark.parametrize("kind", ["dict", "json", "toml"])
def test_a_map_of_names(file, tmp_path, kind):
    names = MAP | {"9.bias": "fc.bias"}
    if kind == "json":
        (tmp_path / "map.json").write_text(json.dumps(names))
    if kind == "toml":
        (tmp_path / "map.toml").write_text(
            "".join(f'"{o}" = "{t}"\n' for o, t in MAP.items()) + '[9]\nbias = "fc.bias"'
        )
    net = ours()
    pairs = from_torch(file, net, names if kind == "dict" else tmp_path / f"map.{kind}", input_shape=(1, 6, 10, 2))
    assert pairs["0.weight"] == "conv10.weight"
    assert pairs["1.running_var"] == "norm.running_var"
    assert (net[5].bias.value == arrays()["conv1.bias"]).all()


def test_names_that_say_nothing_need_a_map(file, tmp_path):
    found = arrays()
    found |= {f"last.{own}": found.pop(f"conv10.{own}") for own in ("weight", "bias")}
    save_file(found, tmp_path / "other.safetensors")
    before = ours().state()
    net = ours()
    with pytest.raises(InputError, match=r"0, 3, 5 \(Conv2d\) could be conv1, conv2, last, and nothing says which"):
        from_torch(tmp_path / "other.safetensors", net, input_shape=(1, 6, 10, 2))
    assert all((value == before[name]).all() for name, value in net.state().items())


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (MAP, "nothing for our 9.bias; left over fc.bias"),
        (MAP | {"9.bias": "conv1.bias"}, "left over fc.bias; used twice conv1.bias"),
        (MAP | {"9.bias": "fc.offset"}, "'fc.offset', which the file does not hold"),
        (MAP | {"11": "fc"}, "'11', which is no array or layer"),
        (MAP | {"9.bias": "fc.weight", "9.weight": "fc.bias"}, r"fc.bias of .* expected \(60, 7\) for 9.weight"),
        ("nowhere.toml", "nowhere.toml cannot be read"),
    ],
)
def test_maps_that_do_not_fit(file, names, says):
    with pytest.raises(InputError, match=says):
        from_torch(file, ours(), names, input_shape=(1, 6, 10, 2))


def test_files_that_are_refused(tmp_path):
    net = Sequential(Conv2d(2, 4, 3))
    (tmp_path / "a.pth").write_bytes(b"PK" + bytes(100))
    save_file({"0.weight": np.zeros((4, 2, 3, 3), np.int32)}, tmp_path / "b.safetensors")
    (tmp_path / "map.json").write_text("{'a': 1}")
    with pytest.raises(InputError, match="save_file"):
        from_torch(tmp_path / "a.pth", net)
    with pytest.raises(InputError, match="int32; expected floating"):
        from_torch(tmp_path / "b.safetensors", net)
    with pytest.raises(InputError, match="is not a file"):
        from_torch(tmp_path / "c.safetensors", net)
    save_file({"0.weight": np.zeros((4, 2, 3, 3)), "0.bias": np.zeros(4)}, tmp_path / "d.safetensors")
    with pytest.raises(InputError, match="neither JSON nor TOML"):
        from_torch(tmp_path / "d.safetensors", net, tmp_path / "map.json")


def test_a_flatten_needs_the_input_shape(file):
    with pytest.raises(InputError, match="input_shape"):
        from_torch(file, ours())


def test_our_networks_know_their_input_shape(tmp_path):
    net = sc.models.classifier("planar", 1, 3, sc.grids.Equirect(8), width=2, rng=0)
    other = sc.models.classifier("planar", 1, 3, sc.grids.Equirect(8), width=2, rng=1)
    theirs = {}
    for name, value in other.state().items():
        theirs[name] = np.ascontiguousarray(np.moveaxis(value, (-1, -2), (0, 1)) if value.ndim == 4 else value.T)
    save_file(theirs, tmp_path / "same.safetensors")
    pairs = from_torch(tmp_path / "same.safetensors", net)
    assert all(ours == name for ours, name in pairs.items())
    assert all((value == other.state()[name]).all() for name, value in net.state().items())


def test_parity_with_torch(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    torch.manual_seed(0)
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 2, 2, groups=2),
        nn.Conv2d(4, 8, (3, 5), padding=(1, 2), groups=4, bias=False),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.BatchNorm1d(8 * 3 * 5),
        nn.Linear(8 * 3 * 5, 9),
        nn.ReLU(),
        nn.Linear(9, 3),
    )
    x = np.random.default_rng(0).standard_normal((5, 6, 10, 2)).astype(np.float32)
    given = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    for _ in range(3):
        theirs(given)
    theirs.eval()
    save_torch(theirs.state_dict(), tmp_path / "net.safetensors")
    net = Sequential(
        Conv2d(2, 6, 3),
        BatchNorm(6),
        ReLU(),
        ConvTranspose2d(6, 4, 2, 2, groups=2),
        Conv2d(4, 8, (3, 5), groups=4, bias=False),
        MaxPool2d(4),
        Flatten(),
        BatchNorm(8 * 3 * 5),
        Linear(8 * 3 * 5, 9),
        ReLU(),
        Linear(9, 3),
    )
    from_torch(tmp_path / "net.safetensors", net, input_shape=x.shape)
    with torch.no_grad():
        wanted = theirs(given).numpy()
    assert np.abs(net(x) - wanted).max() < 1e-5 * np.abs(wanted).max()
