"""No layer and no network touches NumPy outside ops: all run on arrays that NumPy does not know.

A stand-in for arrays on the GPU has no more than they have, and refuses everything else. Every op has a body for it,
made of its NumPy definition; so results agree with those on NumPy arrays, and whatever a layer does past the ops fails.
"""

import copy
import sys
import types

import numpy as np
import pytest
from cases import CASES
from test_models import TINY

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.kernels import arrays
from spherecnn.kernels.op import OPS, device_of
from spherecnn.layers.combine import floating
from spherecnn.models import MESH_MODELS, MODELS
from spherecnn.testing import check_op, smooth_input


class ForeignArray:
    """An array with the interface of those on the GPU, and nothing else."""

    __slots__ = ("__weakref__", "_values")
    __array_ufunc__ = None

    def __init__(self, values):
        assert type(values) is np.ndarray
        assert values.flags.c_contiguous
        object.__setattr__(self, "_values", values)

    def __setattr__(self, name, value):
        raise AssertionError(f"{name} of an array on the GPU was set")

    @property
    def __cuda_array_interface__(self):
        return {"version": 3}

    def __array__(self, *_, **__):
        raise AssertionError("an array on the GPU was given to NumPy")

    def __array_function__(self, function, *_):
        raise AssertionError(f"an array on the GPU was given to numpy.{function.__name__}")

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    size = property(lambda self: self._values.size)
    ndim = property(lambda self: self._values.ndim)

    def __len__(self):
        return len(self._values)

    def __bool__(self):
        raise AssertionError("an array on the GPU was asked whether it is true")

    def __iter__(self):
        raise AssertionError("an array on the GPU was iterated over")

    def reshape(self, *shape):
        return ForeignArray(self._values.reshape(*shape))

    def ravel(self):
        return ForeignArray(self._values.reshape(-1))

    def copy(self):
        return ForeignArray(self._values.copy())

    def fill(self, value):
        assert value == 0
        self._values.fill(0)

    def __getitem__(self, key):
        assert type(key) is slice, f"an array on the GPU was indexed with {key!r}"
        assert key.step is None
        assert all(type(end) in (int, type(None)) for end in (key.start, key.stop)), key
        return ForeignArray(self._values[key])


def there(x):
    """Wrap the arrays of a result; floats become float32, as they are on the GPU."""
    if isinstance(x, (tuple, list)):
        return type(x)(there(v) for v in x)
    return ForeignArray(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x


def here(x):
    """The values of arrays, in place."""
    if isinstance(x, (tuple, list)):
        return type(x)(here(v) for v in x)
    return x._values if isinstance(x, ForeignArray) else x


def definition_of(operation):
    """A body of an op: its definition, on the values of the arrays, in place."""
    return lambda *args, **kwargs: there(
        operation.definition(*map(here, args), **{k: here(v) for k, v in kwargs.items()})
    )


@pytest.fixture
def elsewhere(monkeypatch):
    """Every op takes foreign arrays, and so do copies to the GPU and back."""
    for operation in OPS.values():
        monkeypatch.setitem(operation.bodies, "cuda", definition_of(operation))
    whole = {
        "to_device": lambda x: x if isinstance(x, ForeignArray) else ForeignArray(np.array(x, order="C")),
        "to_host": lambda x: np.array(here(x)),
    }
    for module in (arrays, sc.layers.base):
        for name, function in whole.items():
            monkeypatch.setattr(module, name, function)

    def assign(target, source):
        here(target)[...] = here(source)

    monkeypatch.setattr(sc.layers.base, "assign", assign)


def close(name, ours, theirs, rtol):
    """Agreement relative to the largest element, and 1 where all are less; of integers, equality."""
    ours, theirs = here(ours), here(theirs)
    assert (ours is None) == (theirs is None), name
    if ours is None:
        return
    assert ours.shape == theirs.shape, name
    assert ours.dtype == theirs.dtype, name
    scale = abs(theirs).max(initial=1) if theirs.dtype.kind == "f" else 0
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=rtol * scale, err_msg=name)


def listed(x):
    return list(x) if isinstance(x, tuple) else [x]


def run_on_both(layer, xs, rtol=1e-10, dtype=np.float64):
    """Compare a training step, and inference, on foreign arrays with those on NumPy arrays, in float64."""
    layer.astype(dtype)
    xs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in xs]
    rng = np.random.default_rng(1)
    other = copy.deepcopy(layer).to("cuda")
    assert other.device in ("cuda", None)
    y, backward = layer.forward(*xs, train=True)
    other_y, other_backward = other.forward(*there(tuple(xs)), train=True)
    for i, (one, two) in enumerate(zip(listed(other_y), listed(y), strict=True)):
        assert type(one) is ForeignArray
        close(f"output {i}", one, two, rtol)
    dys = tuple(rng.standard_normal(v.shape).astype(dtype) for v in floating(y))
    dxs, other_dxs = listed(backward(*dys)), listed(other_backward(*there(dys)))
    for i, (one, two) in enumerate(zip(other_dxs, dxs, strict=True)):
        assert type(one) in (ForeignArray, type(None))
        close(f"gradient of input {i}", one, two, rtol)
    params = layer.named_params()
    for name, param in other.named_params().items():
        assert type(param.grad) is ForeignArray
        close(f"gradient of {name}", param.grad, params[name].grad, rtol)
    for name, value in other.state().items():
        assert type(value) is ForeignArray
        close(name, value, layer.state()[name], rtol)
    for one, two in zip(listed(other(*there(tuple(xs)))), listed(layer(*xs)), strict=True):
        assert type(one) is ForeignArray
        close("inference", one, two, rtol)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_layer_runs_on_another_type_of_array(case, elsewhere):
    rng = np.random.default_rng(0)
    layer = case.build(rng)
    for p in layer.named_params().values():
        p.value += rng.uniform(-0.3, 0.3, p.value.shape).astype(p.value.dtype)
    run_on_both(layer, [*(smooth_input(*shape, rng=rng) for shape in case.shapes), *case.integers])


@pytest.mark.parametrize("groups", [1, 4], ids=["winograd", "joined_groups"])
def test_what_the_cpu_does_faster_in_float32_is_left_to_it(groups, elsewhere):
    conv = sc.layers.Conv2d(16, 16, 3, groups=groups, padding_mode="sphere", rng=0)
    run_on_both(conv, [smooth_input(2, 8, 16, 16)], 1e-4, np.float32)


def networks():
    """Every network at its smallest size, and those of a mesh."""
    mesh = sc.grids.Icosphere(2)
    found = {name: lambda name=name: (TINY[name]("circular"), sc.grids.Equirect(16)) for name in MODELS}
    found["mesh_classifier"] = lambda: (sc.models.mesh_classifier(2, 3, mesh, 2, 1, rng=0), mesh)
    found["mesh_unet"] = lambda: (sc.models.mesh_unet(2, 3, mesh, 3, 1, rng=0), mesh)
    assert found.keys() == {**MODELS, **MESH_MODELS}.keys()
    return found


@pytest.mark.parametrize("name", networks())
def test_every_network_runs_on_another_type_of_array(name, elsewhere):
    net, grid = networks()[name]()
    run_on_both(net, [smooth_input(2, *grid.shape, 2)], rtol=1e-9)


def test_arrays_on_the_gpu_have_what_these_have():
    """Everything above, and weak references, by which networks tell their values apart."""
    for name in vars(ForeignArray).keys() - {"_values", "__module__", "__array_function__", "__iter__", "__bool__"}:
        assert hasattr(sc.DeviceArray, name), name


# --- where a layer is ---------------------------------------------------------------------------------------------


def test_a_layer_moves_there_and_back(elsewhere):
    net = sc.layers.Sequential(sc.layers.Linear(2, 3, rng=0), sc.layers.BatchNorm(3))
    net[0].weight.grad.fill(1)
    before = {name: value.copy() for name, value in net.state().items()}
    assert net.device == "cpu"
    assert net.to("cuda") is net
    assert net.device == "cuda"
    assert not net[0].weight.has_grad
    assert {type(v) for v in net.state().values()} == {ForeignArray}
    kept = net.state()["0.weight"]
    net.load_state({name: value + 1 for name, value in before.items()})
    assert net.state()["0.weight"] is kept
    net.load_state({name: ForeignArray(value + 2) for name, value in before.items()})
    net.to("cpu").to("cpu")
    assert net.device == "cpu"
    for name, value in net.state().items():
        np.testing.assert_array_equal(value, before[name] + 2)


def test_a_shared_parameter_stays_shared(elsewhere):
    first, second = sc.layers.Linear(2, 2, rng=0), sc.layers.Linear(2, 2, rng=0)
    second.weight = first.weight
    sc.layers.Sequential(first, second).to("cuda")
    assert type(first.weight.value) is ForeignArray
    assert second.weight is first.weight


def test_a_layer_moves_whole_or_not_at_all(elsewhere, monkeypatch):
    net = sc.layers.Sequential(sc.layers.Linear(2, 2, rng=0), sc.layers.BatchNorm(2))

    def narrow(x):
        if x.ndim == 1:
            raise InputError("no memory is left")
        return ForeignArray(x)

    monkeypatch.setattr(sc.layers.base, "to_device", narrow)
    with pytest.raises(InputError, match="no memory"):
        net.to("cuda")
    assert {type(v) for v in net.state().values()} == {np.ndarray}


def test_a_layer_without_parameters_is_where_its_input_is(elsewhere):
    relu = sc.layers.ReLU().to("cuda")
    assert relu.device is None
    assert type(relu(there(np.ones((1, 2))))) is ForeignArray


def test_what_does_not_fit_is_said(elsewhere):
    linear = sc.layers.Linear(2, 2, rng=0)
    with pytest.raises(InputError, match="device is 'gpu'; expected one of 'cpu', 'cuda'"):
        linear.to("gpu")
    linear.to("cuda")
    with pytest.raises(InputError, match=r"astype\(float64\) .* move it with layer.to\('cpu'\) first"):
        linear.astype("float64")
    with pytest.raises(InputError, match=r"got w, b on the GPU and x on the CPU; .* model.to\('cuda'\)"):
        linear(np.ones((1, 2), np.float32))
    with pytest.raises(InputError, match="bias holds NaN"):
        linear.load_state({"weight": np.ones((2, 2)), "bias": ForeignArray(np.array([0, np.nan]))})
    with pytest.raises(InputError, match="concatenate got arrays on the GPU and arrays on the CPU"):
        arrays.concatenate([np.ones(2), there(np.ones(2))], 0)
    with pytest.raises(InputError, match="dtype uint8; expected int32"):
        arrays.contiguous(there(np.ones(2, np.uint8)), np.int32)


def test_an_op_without_a_body_for_a_device_is_named(elsewhere, monkeypatch):
    monkeypatch.delitem(arrays.repeat.bodies, "cuda")
    monkeypatch.setitem(sys.modules, "spherecnn.kernels.gpu.bodies", types.ModuleType("bodies"))
    with pytest.raises(NotImplementedError, match="repeat has no cuda kernel in this version"):
        arrays.repeat(there(np.ones(2)), 2, 0)


@pytest.mark.parametrize("args", [(), (1, 2.0, None, "x"), ((2, 3), [4])])
def test_without_arrays_the_device_is_the_cpu(args):
    assert device_of(*args) == "cpu"
    assert device_of(*args, [(), (there(np.ones(1)),)]) == "cuda"
    assert device_of(*args, np.ma.masked_array([1])) == "cpu"


def test_indices_are_looked_at_once(elsewhere, monkeypatch):
    """A look waits for the GPU: of each shape the first is looked at, until one was right."""
    looks = []
    monkeypatch.setattr(arrays, "to_host", lambda x: looks.append(x) or here(x))
    unpool, x = sc.layers.MaxUnpool2d(2), there(np.ones((1, 1, 2, 1)))
    right, wrong = (there(np.array(i, np.int32).reshape(1, 1, 2, 1)) for i in ([0, 3], [0, 1]))
    for expected in (1, 2):
        with pytest.raises(InputError, match=r"index 1 does not lie in window \(0, 1\)"):
            unpool(x, wrong)
        assert len(looks) == expected
    for _ in range(2):
        np.testing.assert_array_equal(here(unpool(x, right))[0, :, :, 0], [[1, 0, 0, 1], [0, 0, 0, 0]])
    assert len(looks) == 3


# --- the ops ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_joining_and_cutting(axis):
    x = np.arange(60.0).reshape(3, 4, 5)
    size = x.shape[axis]
    parts = arrays.split(x, (1, size - 1), axis)
    for part, expected in zip(parts, np.split(x, [1], axis), strict=True):
        np.testing.assert_array_equal(part, expected)
        assert part.flags.c_contiguous
        assert not np.shares_memory(part, x)
    np.testing.assert_array_equal(arrays.concatenate(parts, axis), x)
    check_op(arrays.split, x, (1, size - 1), axis)
    check_op(arrays.concatenate, parts, axis)


def test_turning():
    x = np.arange(24.0).reshape(2, 3, 4)
    y = arrays.transpose(x, (2, 0, 1))
    assert [y[k, i, j] for i in range(2) for j in range(3) for k in range(4)] == list(range(24))
    assert y.flags.c_contiguous
    check_op(arrays.transpose, x, (2, 0, 1))


def test_adding_in_place():
    total = np.zeros((2, 3, 2))
    for x in (np.arange(2.0), np.arange(6.0).reshape(1, 3, 2), np.arange(12.0).reshape(2, 3, 2)):
        arrays.accumulate(total, x)
        check_op(arrays.accumulate, total, x)
    np.testing.assert_array_equal(total[1], [[6, 9], [10, 13], [14, 17]])
    part = np.zeros(4)
    arrays.accumulate(part[1:3], np.ones(2))
    assert part.tolist() == [0, 1, 1, 0]


def test_scaling_sites():
    x = np.ones((2, 3, 2), np.float32)
    y = arrays.scale_sites(x, np.array([1, 2, 3], np.float32))
    assert y[1, :, 1].tolist() == [1, 2, 3]
    check_op(arrays.scale_sites, x, np.array([0.1, 0.2, 0.3], np.float32))


def test_running_statistics_move():
    running = np.array([1, 2], np.float32)
    arrays.move_towards(running, np.array([3.0, 6.0]), 0.5, 2.0)
    assert running.tolist() == [3.5, 7]
    assert running.dtype == np.float32


def test_full_is_of_the_kind_asked_for(elsewhere):
    like = np.zeros(1, np.float32)
    assert arrays.full((2, 1), 3.0, like).dtype == np.float32
    assert arrays.full((2,), 0.0, like, np.int32).tolist() == [0, 0]
    assert type(arrays.full((2,), 0.0, there(like))) is ForeignArray
    assert arrays.full((2, 1), 3.0, like).tolist() == [[3], [3]]


def test_masks_are_those_of_the_generator():
    keep = arrays.keep_mask((2, 3), 0.4, np.random.default_rng(5), np.zeros(1))
    np.testing.assert_array_equal(keep, np.random.default_rng(5).random((2, 3), np.float32) >= 0.4)


def test_constants_are_made_once_for_each_key():
    made, constants, x = [], arrays.Constants(), np.zeros(1)
    for key in [(1,), (2,), (1,), *((k,) for k in range(3, 11)), (1,)]:
        table = constants.beside(x, key, lambda key=key: made.append(key) or np.array(key))
        assert table.tolist() == list(key)
    assert made.count((1,)) == 2  # it was the oldest when there were too many
    assert len(constants.kept) == arrays.MOST_CONSTANTS


def test_contiguous_copies_only_what_the_kernels_cannot_take():
    x = np.arange(6.0).reshape(2, 3)
    assert arrays.contiguous(x) is x
    assert arrays.contiguous(x.T).flags.c_contiguous
    frozen = x.copy()
    frozen.setflags(write=False)
    assert arrays.contiguous(frozen).flags.writeable
    assert arrays.contiguous(np.array([1], np.int64), np.int32).dtype == np.int32
    other = arrays.alias(x.T)
    assert other is not x.T
    assert np.shares_memory(other, x)


def test_a_layer_with_a_forward_pass_of_its_own_is_not_joined_to_the_relu_after_it():
    class Doubled(sc.layers.Linear):
        def forward(self, x, *, train):
            y, backward = super().forward(x, train=train)
            return y + y, backward

    layer, x = Doubled(3, 2, rng=0), np.ones((1, 3), np.float32)
    assert np.array_equal(sc.layers.Sequential(layer, sc.layers.ReLU())(x), np.maximum(layer(x), 0))
