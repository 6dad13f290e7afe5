"""A turned panorama gives a turned result: every layer and network without coordinates: exact ones to the bit."""

import numpy as np
import pytest
from cases import CASES

import spherecnn as sc
from spherecnn import layers
from spherecnn.layers import Composite, CoordConv2d, Flatten, GlobalAvgPool, GroupNorm, InstanceNorm, MaxUnpool2d
from spherecnn.layers.combine import floating
from spherecnn.layers.conv import Window

GRID = sc.grids.Equirect(16)
# Where a sum runs in the order of the sites, a turned one differs by rounding.
ROUNDING = 1e-6


def total_stride(layer, *shapes):
    """Columns of the input for one column of the coarsest picture; 0 where a layer does not divide the columns."""
    least, divides = shapes[0][2], True

    def call(part, *given):
        nonlocal least, divides
        if isinstance(part, Composite):
            return part.trace(call, *given)
        out = part.out_shape(*given)
        for made in out if isinstance(out[0], tuple) else (out,):
            if len(made) == len(given[0]) == 4:
                least, (few, many) = min(least, made[2]), sorted((made[2], given[0][2]))
                divides = divides and many % few == 0
        return out

    call(layer, *shapes)
    return shapes[0][2] // least if divides else 0


def sums(layer):
    """Whether a layer sums in the order of the sites: over the sphere, or where unpooled windows overlap."""

    def one(part):
        overlaps = isinstance(part, MaxUnpool2d) and part.kernel_size != part.stride
        return overlaps or isinstance(part, (GlobalAvgPool, GroupNorm, InstanceNorm))

    return any(one(part) for _, part in layer.walk())


def wraps(layer):
    """Whether all parts see the panorama as a ring, and none its coordinates."""
    for _, part in layer.walk():
        if isinstance(part, (CoordConv2d, Flatten)):
            return False
        touches = isinstance(part, Window) and (any(map(sum, part.padding)) or part.kernel_size != part.stride)
        mode = getattr(part, "padding_mode", "sphere")
        if mode not in ("circular", "sphere", "sphere_poles") and (touches or not isinstance(part, Window)):
            return False
    return True


def turned_apart(layer, shapes, shift, rng, train=False):
    """Largest difference between the result of turned inputs and the turned result, relative to the largest value.

    With `train`, gradients of the inputs are compared too.
    """

    def turn(y):
        return np.roll(y, shift * y.shape[2] // shapes[0][2], 2) if y.ndim == 4 else y

    xs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    y, backward = layer.forward(*xs, train=train)
    z, turned_backward = layer.forward(*(turn(x) for x in xs), train=train)
    pairs = list(zip(floating(y), floating(z), strict=True))
    if train:
        dys = [rng.standard_normal(part.shape).astype(np.float32) for part in floating(y)]
        dxs, others = backward(*dys), turned_backward(*(turn(dy) for dy in dys))
        pairs += zip(dxs, others, strict=True) if isinstance(dxs, tuple) else [(dxs, others)]
    return max(np.abs(turn(a) - b).max() / np.abs(a).max() for a, b in pairs)


def bound(layer):
    """How far a turned result may be from the turned result."""
    return ROUNDING if sums(layer) else 0.0


def ring_cases():
    for case in CASES:
        layer = case.build(np.random.default_rng(0))
        pictures = not case.integers and all(len(shape) == 4 for shape in case.shapes)
        if pictures and wraps(layer) and total_stride(layer, *case.shapes):
            yield case


RING = list(ring_cases())


@pytest.mark.parametrize("case", RING, ids=lambda case: case.name)
def test_layers_turn_with_the_panorama(case):
    rng = np.random.default_rng(1)
    layer = case.build(rng).set_exact()
    stride = total_stride(layer, *case.shapes)
    for shift in {stride, case.shapes[0][2] - stride}:
        assert turned_apart(layer, case.shapes, shift, rng) <= bound(layer)


@pytest.mark.parametrize("seed", range(12))
def test_convolutions_turn_with_the_panorama(seed):
    rng = np.random.default_rng(seed)
    mode = ("circular", "sphere", "sphere_poles")[seed % 3]
    groups = int(rng.choice([1, 1, 2, 4]))
    channels = groups * rng.integers(1, 9, 2)
    kernel, dilation = rng.integers(1, 6, 2), rng.integers(1, 4, 2)
    stride = int(rng.choice([1, 1, 2, 4]))
    layer = sc.layers.Conv2d(
        *map(int, channels), tuple(map(int, kernel)), stride, "same", tuple(map(int, dilation)), groups,
        padding_mode=mode, exact=True, rng=rng,
    )  # fmt: skip
    shapes = ((2, 9, 16, int(channels[0])),)
    for shift in (stride, 8, 16 - stride):
        assert turned_apart(layer, shapes, shift, rng, train=True) == 0


def test_the_tables_hold_what_wraps():
    names = {case.name for case in RING}
    assert {"circular", "circular_strided", "circular_depthwise", "conv_sphere", "max_pool_seam"} <= names
    assert not {"conv", "coord", "conv_replicate", "classifier_planar"} & names


@pytest.mark.parametrize("name", ["conv", "conv_depthwise", "conv_reflect", "coord", "avg_pool_uncounted"])
def test_planar_layers_do_not(name):
    case = next(case for case in CASES if case.name == name)
    rng = np.random.default_rng(1)
    layer = case.build(rng)
    assert not wraps(layer)
    assert turned_apart(layer, case.shapes, 2, rng) > 1e-3


NETWORKS = {
    "classifier": lambda method: sc.models.classifier(method, 2, 3, GRID, width=8, rng=0),
    "resnet": lambda method: sc.models.resnet(method, 2, 3, GRID, width=4, rng=0),
    "encoder_decoder": lambda method: sc.models.encoder_decoder(method, 2, 3, GRID, width=4, rng=0),
    "deeplab": lambda method: sc.models.deeplab(method, 2, 3, GRID, width=4, output_stride=4, rng=0),
    "inpainter": lambda method: sc.models.inpainter(method, 2, 3, GRID, width=4, rng=0),
    "spherephd": lambda method: sc.models.spherephd(method, 2, 3, GRID, width=4, rng=0),
    "stack": lambda method: sc.models.stack(method, 2, 3, GRID, width=4, depth=2, rng=0),
    "unet": lambda method: sc.models.unet(method, 2, 3, GRID, width=8, depth=3, rng=0),
    "unet_transpose": lambda method: sc.models.unet(method, 2, 3, GRID, width=8, depth=2, up="transpose", rng=0),
    "unet_group": lambda method: sc.models.unet(method, 2, 3, GRID, width=8, depth=2, norm="group", rng=0),
    "unet_nearest": lambda method: sc.models.unet(method, 2, 3, GRID, width=4, depth=1, up="nearest", rng=0),
}
DENSE = {
    "encoder_decoder": lambda method: sc.models.encoder_decoder(method, 2, 3, GRID, width=4, norm=None, rng=0),
    "inpainter": lambda method: sc.models.inpainter(method, 2, 3, GRID, width=4, rng=0),
    "unet": lambda method: sc.models.unet(method, 2, 3, GRID, width=8, depth=3, norm=None, rng=0),
}


@pytest.mark.parametrize("method", ["circular", "sphere"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_turn_with_the_panorama(name, method):
    rng = np.random.default_rng(2)
    net = NETWORKS[name](method).set_exact()
    shapes = ((1, *GRID.shape, 2),)
    stride = total_stride(net, *shapes)
    assert wraps(net)
    assert (1 if name == "stack" else 2) <= stride < GRID.width
    for shift in (stride, GRID.width - stride):
        assert turned_apart(net, shapes, shift, rng) <= bound(net)


def test_every_network_is_turned():
    turned = {NETWORKS[name]("planar").config["model"] for name in NETWORKS}
    assert turned == sc.models.MODELS.keys() - {"spherenet"}, "the linear layer of spherenet is tied to the place"


@pytest.mark.parametrize("method", ["circular", "sphere"])
def test_spherenet_turns_with_the_panorama_up_to_its_linear_layer(method):
    features = sc.models.spherenet(method, 2, 3, GRID, width=4, rng=0).features.set_exact()
    shapes = ((2, *GRID.shape, 2),)
    assert wraps(features)
    assert turned_apart(features, shapes, total_stride(features, *shapes), np.random.default_rng(2), train=True) == 0


@pytest.mark.parametrize("method", ["circular", "sphere"])
@pytest.mark.parametrize("name", DENSE)
def test_gradients_turn_with_the_panorama(name, method):
    net = DENSE[name](method).set_exact()
    shapes = ((1, *GRID.shape, 2),)
    assert turned_apart(net, shapes, total_stride(net, *shapes), np.random.default_rng(2), train=True) <= bound(net)


FAST = {
    "layer": lambda method: layers.method(method).conv(32, 48, GRID, rng=0),
    "classifier": lambda method: sc.models.classifier(method, 2, 3, GRID, width=16, rng=0),
    "unet": lambda method: sc.models.unet(method, 2, 3, GRID, width=16, depth=2, norm=None, rng=0),
}


@pytest.mark.parametrize("method", ["circular", "sphere"])
@pytest.mark.parametrize("name", FAST)
def test_fast_convolutions_turn_within_their_error_and_exact_ones_to_the_bit(name, method):
    """16 channels and more, where `Conv2d` takes Winograd's tiles, whose stated error is 1e-5 a layer."""
    rng, net = np.random.default_rng(2), FAST[name](method)
    shapes = ((1, *GRID.shape, 32 if name == "layer" else 2),)
    shift, train = max(4, total_stride(net, *shapes)) + 1, name != "classifier"
    if name != "layer":
        shift -= 1
    depth = sum(hasattr(part, "exact") for _, part in net.walk())
    assert 0 < turned_apart(net, shapes, shift, rng, train=train) < 1e-5 * depth
    assert turned_apart(net.set_exact(), shapes, shift, rng, train=train) <= bound(net)


@pytest.mark.parametrize("method", ["planar", "coord"])
@pytest.mark.parametrize("name", NETWORKS)
def test_planar_networks_do_not(name, method):
    rng = np.random.default_rng(2)
    net = NETWORKS[name](method)
    shapes = ((1, *GRID.shape, 2),)
    assert turned_apart(net, shapes, total_stride(net, *shapes), rng) > 100 * ROUNDING
