"""No layer and no network touches NumPy outside ops: all run on arrays that NumPy does not know.

A stand-in for arrays on the GPU has no more than they have, and refuses everything else. Every op has a body for it,
made of its NumPy definition; so results agree with those on NumPy arrays, and whatever a layer does past the ops fails.
"""

import copy

import numpy as np
import pytest
from cases import CASES
from test_models import TINY

import spherecnn as sc
from spherecnn.kernels import arrays
from spherecnn.kernels.op import OPS
from spherecnn.layers.combine import floating
from spherecnn.models import MESH_MODELS, MODELS
from spherecnn.testing import smooth_input


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
    """Every op takes foreign arrays; to_device, to_host and assign do."""
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


def run_on_both(layer, xs, rtol=1e-10):
    """Compare a training step, and inference, on foreign arrays with those on NumPy arrays, in float64."""
    layer.astype(np.float64)
    rng = np.random.default_rng(1)
    other = copy.deepcopy(layer).to("cuda")
    assert other.device in ("cuda", None)
    y, backward = layer.forward(*xs, train=True)
    other_y, other_backward = other.forward(*there(tuple(xs)), train=True)
    for i, (one, two) in enumerate(zip(listed(other_y), listed(y), strict=True)):
        assert type(one) is ForeignArray
        close(f"output {i}", one, two, rtol)
    dys = tuple(rng.standard_normal(v.shape) for v in floating(y))
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
