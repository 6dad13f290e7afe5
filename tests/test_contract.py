"""Every layer keeps the contract; and the checker itself finds what breaks it."""

import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest
from cases import CASES

import spherecnn.layers
from spherecnn.kernels.op import Op
from spherecnn.layers.base import Layer, Param
from spherecnn.layers.combine import Composite
from spherecnn.layers.norm import BatchNorm
from spherecnn.testing import check_layer, check_op, smooth_input

DOCS = Path(__file__).parent.parent / "docs" / "layers.md"


def layer_classes():
    """Public layer classes that compute something, by forward or trace; not the bases of those on faces and meshes."""
    found = set()
    for info in pkgutil.iter_modules(spherecnn.layers.__path__):
        module = importlib.import_module(f"spherecnn.layers.{info.name}")
        for name, item in vars(module).items():
            if not isinstance(item, type) or not issubclass(item, Layer) or name.startswith("_"):
                continue
            base = item in (Layer, Composite) or item.__module__ == "spherecnn.layers.site_layers"
            if not base and item.forward is not Layer.forward:
                found.add(item)
    return sorted(found, key=lambda c: c.__name__)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_contract(case):
    rng = np.random.default_rng(0)
    layer = case.build(rng)
    for p in layer.named_params().values():  # away from the ones and zeros that hide mistakes
        p.value += rng.uniform(-0.3, 0.3, p.value.shape).astype(p.value.dtype)
    check_layer(layer, *(smooth_input(*shape, rng=rng) for shape in case.shapes), *case.integers, rng=rng)


@pytest.mark.parametrize("cls", layer_classes(), ids=lambda cls: cls.__name__)
def test_every_layer_has_a_case_and_a_line_in_the_docs(cls):
    built = {type(case.build(np.random.default_rng(0))) for case in CASES}
    assert cls in built, f"add a case for {cls.__name__} to tests/cases.py"
    if DOCS.exists():
        assert re.search(rf"\b{cls.__name__}\b", DOCS.read_text()), f"describe {cls.__name__} in docs/layers.md"


class Scale(Layer):
    """y = weight x: correct, for the faulty ones below to spoil."""

    def __init__(self):
        super().__init__()
        self.weight = Param(np.full(3, 2.0, np.float32))

    def forward(self, x, *, train):
        def backward(dy, inputs=True):
            self.weight.add_grad((dy * x).sum(axis=0))
            return dy * self.weight.value if inputs else None

        return x * self.weight.value, backward

    def out_shape(self, shape):
        return shape


class WrongInputGradient(Scale):
    def forward(self, x, *, train):
        y, backward = super().forward(x, train=train)
        return y, lambda dy, inputs=True: backward(dy, inputs) * 1.000001 if inputs else backward(dy, inputs)


class WrongParameterGradient(Scale):
    def forward(self, x, *, train):
        def backward(dy, inputs=True):
            self.weight.add_grad((dy * x).sum(axis=0)[::-1])
            return dy * self.weight.value if inputs else None

        return x * self.weight.value, backward


class Assigns(Scale):
    def forward(self, x, *, train):
        def backward(dy, inputs=True):
            self.weight.zero_grad()
            self.weight.add_grad((dy * x).sum(axis=0))
            return dy * self.weight.value if inputs else None

        return x * self.weight.value, backward


class WritesInput(Scale):
    def forward(self, x, *, train):
        y, backward = super().forward(x, train=train)
        x[0, 0] = 0
        return y, backward


class WritesDy(Scale):
    def forward(self, x, *, train):
        y, backward = super().forward(x, train=train)

        def spoil(dy, inputs=True):
            dx = backward(dy, inputs)
            dy *= 2
            return dx

        return y, spoil


class Upcasts(Scale):
    def forward(self, x, *, train):
        y, backward = super().forward(x, train=train)
        return y.astype(np.float64), backward


class WrongShape(Scale):
    def out_shape(self, shape):
        return (*shape[:-1], 1)


class MixesSamples(Scale):
    def forward(self, x, *, train):
        y, backward = super().forward(x, train=train)
        return (y, backward) if train else (y + x.mean(), backward)


class IgnoresInputsFlag(Scale):
    def forward(self, x, *, train):
        y, backward = super().forward(x, train=train)
        return y, lambda dy, inputs=True: backward(dy)


class ForgetsOnLoad(Scale):
    def load_state(self, arrays):
        super().load_state(arrays)
        self.weight.value += 1


def test_checker_accepts_a_correct_layer():
    check_layer(Scale(), smooth_input(4, 3))


@pytest.mark.parametrize(
    ("cls", "sentence"),
    [
        (WrongInputGradient, "gradient of input 0 is off"),
        (WrongParameterGradient, "gradient of weight is off"),
        (Assigns, "does not add to the gradient of weight"),
        (WritesInput, "input 0 was written"),
        (WritesDy, "dy was written"),
        (Upcasts, "output has dtype float64"),
        (WrongShape, "out_shape says"),
        (MixesSamples, "sample 0 alone"),
        (IgnoresInputsFlag, "None is expected"),
        (ForgetsOnLoad, "does not restore weight"),
    ],
)
def test_checker_finds(cls, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_layer(cls(), smooth_input(4, 3))


def test_checker_leaves_the_layer_as_it_was():
    layer = BatchNorm(3)
    check_layer(layer, smooth_input(4, 3))
    assert layer.dtype == np.float32
    assert layer.weight is layer.params["weight"]
    assert (layer.buffers["running_mean"] == 0).all()
    assert (layer.weight.grad == 0).all()


def test_check_op_finds_a_difference():
    double = Op(lambda x: 2 * x)
    double.on("cpu")(lambda x: x + x)
    check_op(double, np.arange(3.0))
    double.on("cpu")(lambda x: x + x + 1e-9)
    with pytest.raises(AssertionError, match="differs from its definition"):
        check_op(double, np.arange(3.0))
    double.on("cpu")(lambda x: (x + x).astype(np.float32))
    with pytest.raises(AssertionError, match="dtype float32"):
        check_op(double, np.arange(3.0))


def test_check_op_compares_what_is_written_in_place():
    def spoil(x):
        x += 1

    touch = Op(lambda x: None)
    touch.__name__ = touch.name = "touch"
    touch.on("cpu")(spoil)
    with pytest.raises(AssertionError, match="touch: value 1 differs"):
        check_op(touch, np.arange(3.0))


@pytest.mark.parametrize("n", [1, 2, 5, 60])
def test_smooth_input_keeps_its_distances(n):
    x = np.sort(smooth_input(n))
    assert (np.abs(x) >= 1 / n - 1e-12).all()
    assert (np.diff(x) >= 4 / n - 1e-12).all()
    assert np.abs(x).max() <= 2
