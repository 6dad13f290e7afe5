"""Every layer and network on the GPU against float64 on the CPU: outputs, inference, gradients, buffers."""

import copy
import importlib

import numpy as np
import pytest
from cases import CASES
from gpu_cases import on_devices
from layer_runs import draw_of, errors, run, steady_draw
from parity import values

import spherecnn as sc
from spherecnn.kernels import arrays
from spherecnn.kernels.gpu.array import to_device, to_host
from spherecnn.kernels.op import OPS
from spherecnn.layers.combine import floating
from spherecnn.layers.norm import BatchNorm, GroupNorm, LayerNorm

FLOAT32 = 1e-5
LIKE_THE_CPU = 8  # where float32 on the CPU is off by more, the GPU may be off by so many times that
TOLERANCE = {"tf32": 1e-3, "bf16": 1e-2}
SIMULATED = ["relu", "linear", "batch_norm_plain"]
BENT = ("pool", "relu", "leaky", "elu", "dropout", "gate", "act", "net", "block", "aspp", "resnet", "deeplab")


def multiplies(case):
    """Whether a layer is one product of channels, whose precision can be chosen."""
    layer = case.build(np.random.default_rng(0))
    return "weight" in layer.params and not layer.children and not isinstance(layer, (BatchNorm, GroupNorm, LayerNorm))


@pytest.fixture
def masks_of_the_host(monkeypatch):
    """Dropout masks are drawn on the host, so that both devices drop the same."""
    importlib.import_module("spherecnn.kernels.gpu.bodies")  # or they would be registered in the place of this
    monkeypatch.setitem(
        OPS["keep_mask"].bodies,
        "cuda",
        lambda shape, p, rng, like: to_device(arrays.keep_mask.definition(shape, p, rng, None)),
    )


@on_devices(CASES, SIMULATED)
def test_layer_agrees_with_float64(device, case, masks_of_the_host):
    draw, expected, rounded = steady_draw(case.name)
    allowed = max(FLOAT32, LIKE_THE_CPU * max(rounded.values(), default=0.0))
    off = {name: e for name, e in errors(run(draw, to_device), expected).items() if not e <= allowed}
    assert not off, f"{case.name}: off by more than {allowed:.2g} of the largest: {off}"


@pytest.mark.parametrize("precision", TOLERANCE)
@on_devices([case for case in CASES if multiplies(case)], ["linear"])
def test_layer_agrees_in_lower_precision(device, case, precision):
    draw = draw_of(case, 0)
    expected = run(draw.widened())
    with sc.precision(precision):
        found = errors(run(draw, to_device), expected)
    off = {name: e for name, e in found.items() if not e <= TOLERANCE[precision]}
    assert not off, f"{case.name}: off by more than {TOLERANCE[precision]:.2g} of the largest: {off}"


@on_devices(CASES, ["relu"])
def test_layer_gives_equal_bits_twice(device, case):
    draw = draw_of(case, 0)
    first, second = run(draw, to_device), run(draw, to_device)
    for name, one in first.items():
        assert one is None or one.tobytes() == second[name].tobytes(), f"{case.name}: {name} has other bits"


SMOOTH = [case for case in CASES if not any(word in case.name for word in BENT) and len(case.integers) == 0]
STEP = 2.0**-4


@on_devices(SMOOTH, ["tanh", "linear"])
def test_gradients_are_slopes(device, case):
    """Along a random direction, in float32 on the GPU, the gradient is the slope of the output.

    The step is long, so that rounding counts little; what a long step leaves out is the same in float64 on the CPU,
    whose difference of the same step is subtracted from its gradient.
    """
    draw, rng = draw_of(case, 1), np.random.default_rng(2)
    wide = draw.widened()
    gradients, exact = run(draw, to_device), run(wide)
    size = np.sqrt(sum(np.square(dy * y).sum() for dy, y in zip(wide.dys, outputs_of(exact), strict=True)))
    rounding = 200 * np.finfo(np.float32).eps * size / STEP
    for name in gradients:
        if not name.startswith("gradient"):
            continue
        v = rng.uniform(-1, 1, gradients[name].shape).astype(np.float32)
        left_out = slope(wide, name, v, None) - (exact[name] * v).sum()
        found, expected = slope(draw, name, v, to_device) - left_out, (gradients[name].astype(np.float64) * v).sum()
        typical = np.linalg.norm(exact[name] * v)
        assert abs(found - expected) <= 1e-4 * typical + rounding, (
            f"{case.name}: {name} along a direction is {expected:.6g}, the slope of the output {found:.6g}"
        )


def outputs_of(found):
    return [y for name, y in found.items() if name.startswith("output") and y.dtype.kind == "f"]


def slope(draw, name, v, move):
    """<dys, (y(a + h v) - y(a - h v)) / 2h> for the input or parameter a that `name` is the gradient of."""
    what = name.removeprefix("gradient of ")
    total = 0.0
    for sign in (1, -1):
        total += sign * shifted(draw, what, sign * STEP * v, move)
    return total / (2 * STEP)


def shifted(draw, what, by, move):
    """<dys, ys> with one array shifted."""
    layer, xs = copy.deepcopy(draw.layer), list(draw.xs)
    if what.startswith("input"):
        i = int(what.split()[1])
        xs[i] = (xs[i] + by).astype(xs[i].dtype)
    else:
        p = layer.named_params()[what]
        p.value = (p.value + by).astype(p.value.dtype)
    if move is not None:
        layer.to("cuda")
    ys = floating(layer.forward(*(x if move is None else move(x) for x in xs), train=True)[0])
    pairs = zip(draw.dys, values(list(ys)), strict=True)
    return sum((dy.astype(np.float64) * y).sum() for dy, y in pairs)


@pytest.mark.gpu
def test_layers_come_back_from_the_gpu_as_they_were(device):
    net = sc.models.classifier("circular", 3, 4, sc.grids.Equirect(16), width=8, rng=0)
    before = {name: value.copy() for name, value in net.state().items()}
    net.to("cuda").to("cpu")
    for name, value in net.state().items():
        assert isinstance(value, np.ndarray)
        assert np.array_equal(value, before[name])
    x = np.random.default_rng(0).standard_normal((2, 16, 32, 3)).astype(np.float32)
    expected = net(x)
    got = to_host(net.to("cuda")(to_device(x)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
