"""Networks: the published sizes, torch's numbers, every method, every grid that fits, and back from a checkpoint."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import spherecnn as sc
from spherecnn.cli import main
from spherecnn.errors import InputError
from spherecnn.models import MODELS
from spherecnn.models.blocks import he_normal
from spherecnn.testing import smooth_input

GRID = sc.grids.Equirect(16)
TINY = {
    "classifier": lambda method, grid=GRID: sc.models.classifier(method, 2, 3, grid, width=2, rng=0),
    "resnet": lambda method, grid=GRID: sc.models.resnet(method, 2, 3, grid, width=2, rng=0),
    "encoder_decoder": lambda method, grid=GRID: sc.models.encoder_decoder(method, 2, 3, grid, width=2, depth=2, rng=0),
    "deeplab": lambda method, grid=GRID: sc.models.deeplab(method, 2, 3, grid, width=2, output_stride=4, rng=0),
    "inpainter": lambda method, grid=GRID: sc.models.inpainter(method, 2, 3, grid, width=2, rng=0),
    "spherenet": lambda method, grid=GRID: sc.models.spherenet(method, 2, 3, grid, width=2, rng=0),
    "spherephd": lambda method, grid=GRID: sc.models.spherephd(method, 2, 3, grid, width=2, rng=0),
    "stack": lambda method, grid=GRID: sc.models.stack(method, 2, 3, grid, width=2, depth=2, rng=0),
    "unet": lambda method, grid=GRID: sc.models.unet(method, 2, 3, grid, width=2, depth=2, rng=0),
}
CLASSIFIERS = ("classifier", "resnet", "spherenet", "spherephd")


# Kernels with the footprint that they have on a tangent plane, which shows less than half a coarse sphere.
FOOTPRINTS = ("tangent", "sphconv", "ktn")
# Methods whose grids have levels, not rows.
LEVELS = {"mesh": 3, "mesh_compass": 3, "spherephd": 3, "spherephd_north": 3}


def small_grid(method, height=16):
    """A grid that a method works on."""
    size = {"level": LEVELS[method]} if method in LEVELS else {"height": height}
    return sc.layers.method(method).grid(**size)


def test_every_network_is_tested():
    assert TINY.keys() == MODELS.keys()


@pytest.mark.parametrize("method", sc.layers.METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_every_network_takes_every_method(name, method, tmp_path):
    grid = small_grid(method, 32 if method in FOOTPRINTS and name == "resnet" else 16)
    if method in (*FOOTPRINTS, *LEVELS) and name in ("deeplab", "inpainter"):
        with pytest.raises(InputError, match="dilation" if method in FOOTPRINTS else "dilation|kernel_size is 5"):
            TINY[name](method, grid)
        return
    net = TINY[name](method, grid)
    x = smooth_input(2, *grid.shape, 2).astype(np.float32)
    y, backward = net.forward(x, train=True)
    assert y.shape == net.out_shape(x.shape) == ((2, 3) if name in CLASSIFIERS else (2, *grid.shape, 3))
    assert np.isfinite(backward(np.ones_like(y))).all()
    assert all(p.has_grad for p in net.named_params().values())
    assert net.config["method"] == method

    sc.training.save_checkpoint(tmp_path / "net.safetensors", net)
    header, arrays, _ = sc.training.load_checkpoint(tmp_path / "net.safetensors")
    other = sc.models.build(header["model"], rng=1)
    sc.training.restore_model(other, header, arrays)
    assert json.loads(json.dumps(other.config)) == header["model"]
    np.testing.assert_array_equal(other(x), net(x))


@pytest.mark.parametrize("name", MODELS)
def test_summary_shows_every_network(name):
    result = CliRunner().invoke(main, f"summary --model {name} --height 32 --width 2 --classes 3".split())
    assert result.exit_code == 0, result.output
    rows = result.stdout.split("---\n")[-1].split("\n\n")[0].splitlines()
    counts = [int(row.split()[-1].replace(",", "")) for row in rows]
    assert f"{sum(counts):,} parameters" in result.stdout


@pytest.mark.parametrize(("depth", "count"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_resnet_has_the_parameters_of_torchvision(depth, count):
    net = sc.models.resnet("planar", 3, 1000, sc.grids.Equirect(64), depth=depth, stem="imagenet", rng=0)
    assert net.parameter_count == count
    assert net.encoder.grid_out == sc.grids.Equirect(2)
    assert net.out_shape((1, 64, 128, 3)) == (1, 1000)


def test_resnet_on_faces_begins_with_the_widest_kernel_there_is():
    net = sc.models.resnet("spherephd", 1, 2, sc.grids.Polyhedron(5), width=2, stem="imagenet", rng=0)
    assert net.encoder.grid_out == sc.grids.Polyhedron(0)


def test_resnet_suits_its_stem_to_the_grid():
    stems = {h: sc.models.resnet("circular", 1, 2, sc.grids.Equirect(h), width=1, rng=0) for h in (64, 128)}
    assert [net.config["stem"] for net in stems.values()] == ["small", "imagenet"]
    assert [net.encoder.grid_out.height for net in stems.values()] == [8, 4]


def test_an_output_stride_dilates_instead():
    from spherecnn.models.resnet import ResNetEncoder

    kind, rng = sc.layers.method("circular"), np.random.default_rng(0)
    for stride, dilations in ((32, [1, 1, 1, 1]), (16, [1, 1, 1, 2]), (8, [1, 1, 2, 4]), (4, [1, 2, 4, 8])):
        encoder = ResNetEncoder(kind, 3, sc.grids.Equirect(64), 50, 2, "imagenet", rng, output_stride=stride)
        assert encoder.grid_out == sc.grids.Equirect(64 // stride)
        assert encoder.out_shape((1, 64, 128, 3)) == (1, 64 // stride, 128 // stride, 64)
        assert [stage[-1].conv.conv.dilation[0] for stage in encoder.stages] == dilations
    with pytest.raises(InputError, match="output_stride is 2; expected one of 4, 8, 16, 32"):
        ResNetEncoder(kind, 3, GRID, 18, 2, "imagenet", rng, output_stride=2)


def test_deeplab_has_published_proportions():
    net = sc.models.deeplab("circular", 3, 21, sc.grids.Equirect(128), width=64, depth=50, rng=0)
    assert net.config["output_stride"] == 16
    assert net.encoder.out_channels == 2048
    assert net.config["channels"] == 256
    assert [branch[0].dilation[0] for branch in list(net.aspp.convs.children.values())[1:4]] == [2, 3, 4]
    assert net.out_shape((1, 128, 256, 3)) == (1, 128, 256, 21)
    small = sc.models.deeplab("circular", 3, 2, sc.grids.Equirect(64), width=2, atrous_rates=(6, 12, 18), rng=0)
    assert (small.config["output_stride"], small.config["atrous_rates"]) == (8, [6, 12, 18])


def test_he_normal_keeps_the_variance():
    layer = he_normal(sc.layers.Conv2d(64, 128, 3, rng=0), np.random.default_rng(0))
    assert layer.weight.value.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
    assert not layer.bias.value.any()


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: sc.models.resnet("circular", 3, 10, GRID, depth=20), "depth is 20; expected one of 18, 34, 50"),
        (lambda: sc.models.resnet("circular", 3, 10, GRID, stem="big"), "stem is 'big'; expected one of"),
        (lambda: sc.models.resnet("sphere", 3, 10, sc.grids.Equirect(60)), "has an odd number of columns"),
        (lambda: sc.models.unet("circular", 3, 1, sc.grids.Equirect(8)), "is too small for a depth of 4; expected a"),
        (lambda: sc.models.unet("circular", 3, 1, GRID, up="cubic"), "up is 'cubic'; expected one of"),
        (lambda: sc.models.unet("circular", 3, 1, GRID, norm="layer"), "norm is 'layer'; expected one of"),
        (lambda: sc.models.unet("circular", 3, 1, GRID, activation="sine"), "activation is 'sine'; expected one of"),
        (lambda: sc.models.unet("circular", 3, 0, GRID), "out_channels is 0"),
        (lambda: sc.models.deeplab("circular", 3, 1, GRID, output_stride=16), "expected one of 1, 2, 4, 8"),
        (lambda: sc.models.deeplab("circular", 3, 1, GRID, atrous_rates=()), "atrous_rates is empty"),
        (lambda: sc.models.spherenet("circular", 3, 2, GRID, pool_size=4), "pool_size is 4; expected one of 2, 3"),
        (lambda: sc.models.build({"model": "vit"}), "the model is 'vit'; expected one of"),
        (lambda: sc.models.build({"model": "unet", "grid": GRID.config(), "size": 1}), "does not fit unet"),
    ],
)
def test_bad_options_are_told(build, sentence):
    with pytest.raises(InputError, match=sentence):
        build()


# --- beside torch --------------------------------------------------------------------------------------------


class Torch:
    """A plain second account of the planar networks, in torch, on the parameters of ours."""

    def __init__(self, net):
        self.torch = pytest.importorskip("torch")
        self.f = self.torch.nn.functional
        self.params = {n: self.torch.tensor(self.layout(p.value), requires_grad=True) for n, p in params(net)}

    @staticmethod
    def layout(value):
        return value.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim])

    def conv(self, x, name, stride=1, act=True):
        w = self.params[f"{name}.conv.weight"]
        x = self.f.conv2d(x, w, self.params.get(f"{name}.conv.bias"), stride, w.shape[-1] // 2)
        if f"{name}.norm.weight" in self.params:
            w, b = self.params[f"{name}.norm.weight"], self.params[f"{name}.norm.bias"]
            x = self.f.batch_norm(x, None, None, w, b, training=True)
        return self.f.relu(x) if act else x

    def double(self, x, name):
        return self.conv(self.conv(x, f"{name}.first"), f"{name}.second")

    def resnet(self, x, area, steps, stem, blocks):
        x = self.conv(x, "encoder.stem.0", 2 if stem == "imagenet" else 1)
        if stem == "imagenet":
            x = self.f.max_pool2d(x, 3, 2, 1)
        for stage, count in enumerate(blocks):
            for i in range(count):
                name, stride = f"encoder.stage{stage + 1}.{i}", 2 if stage and not i else 1
                y = x
                for step in steps:
                    moves = stride if step == ("conv" if "conv" in steps else "first") else 1
                    y = self.conv(y, f"{name}.{step}", moves, act=step != steps[-1])
                around = f"{name}.shortcut"
                if f"{around}.conv.weight" in self.params:
                    x = self.conv(x, around, stride, act=False)
                x = self.f.relu(x + y)
        weights = self.torch.tensor(area / area.sum()).reshape(x.shape[2:])
        return self.f.linear((x * weights).sum((2, 3)), self.params["head.weight"], self.params["head.bias"])

    def unet(self, x, depth):
        skips = []
        for stage in range(depth):
            skips.append(self.double(x, f"down{stage + 1}"))
            x = self.f.max_pool2d(skips[-1], 2)
        x = self.double(x, "bottom")
        for stage in reversed(range(depth)):
            w = self.params[f"up{stage + 1}.up.weight"].transpose(0, 1)
            x = self.f.conv_transpose2d(x, w, self.params[f"up{stage + 1}.up.bias"], 2)
            x = self.double(self.torch.cat([skips.pop(), x], 1), f"up{stage + 1}.convs")
        return self.f.conv2d(x, self.params["head.weight"], self.params["head.bias"])

    def spherenet(self, x, pool_size):
        for name in ("features.0", "features.3"):
            w = self.params[f"{name}.weight"]
            x = self.f.conv2d(x, w, self.params[f"{name}.bias"], 1, w.shape[-1] // 2)
            x = self.f.relu(self.f.max_pool2d(x, pool_size, 2, pool_size // 3))
        return self.f.linear(x.permute(0, 2, 3, 1).flatten(1), self.params["head.weight"], self.params["head.bias"])


def params(net):
    return net.named_params().items()


def assert_same_as_torch(net, run):
    """Compare output and all gradients in float64; `run(torch model, x)` is the network in torch."""
    rng = np.random.default_rng(3)
    net.astype(np.float64)
    for _, p in params(net):
        p.value += rng.uniform(-0.1, 0.1, p.value.shape)
    x = rng.standard_normal((2, *net.grid.shape, net.config["in_channels"]))
    other = Torch(net)
    y, backward = net.forward(x, train=True)
    at = other.torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    out = run(other, at)
    dy = rng.standard_normal(y.shape)
    pictures = y.ndim == 4
    out.backward(other.torch.tensor(dy.transpose(0, 3, 1, 2) if pictures else dy))
    seen = out.detach().numpy()
    near(seen.transpose(0, 2, 3, 1) if pictures else seen, y)
    near(at.grad.numpy().transpose(0, 2, 3, 1), backward(dy))
    for name, p in params(net):
        near(other.params[name].grad.numpy(), Torch.layout(p.grad))


def near(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * max(1, np.abs(b).max()))


@pytest.mark.parametrize(
    ("depth", "stem", "steps"),
    [
        (18, "imagenet", ("first", "second")),
        (18, "small", ("first", "second")),
        (50, "small", ("reduce", "conv", "expand")),
    ],
)
def test_resnet_is_torchs(depth, stem, steps):
    grid = sc.grids.Equirect(32 if stem == "imagenet" else 16)
    net = sc.models.resnet("planar", 3, 4, grid, depth=depth, width=3, stem=stem, rng=0)
    area, blocks = net.encoder.grid_out.area, (3, 4, 6, 3) if depth == 50 else (2, 2, 2, 2)
    assert_same_as_torch(net, lambda t, x: t.resnet(x, area, steps, stem, blocks))


@pytest.mark.parametrize(("kernel_size", "pool_size"), [(3, None), (5, 3)])
def test_spherenet_is_torchs(kernel_size, pool_size):
    net = sc.models.spherenet("planar", 2, 3, sc.grids.Equirect(12, 12), 3, kernel_size, pool_size, rng=0)
    assert_same_as_torch(net, lambda t, x: t.spherenet(x, pool_size or 2))


def test_unet_is_torchs():
    net = sc.models.unet("planar", 2, 3, GRID, width=3, depth=2, up="transpose", rng=0)
    assert_same_as_torch(net, lambda t, x: t.unet(x, 2))


def test_unet_has_the_parameters_of_the_published_one():
    net = sc.models.unet("planar", 1, 2, sc.grids.Equirect(32), width=64, up="transpose", norm=None, rng=0)
    assert net.parameter_count == 31_030_658


def test_inpainter_has_the_parameters_of_the_published_one():
    """The coarse network of generative_inpainting with cnum=48, whose input has a channel of ones too."""
    net = sc.models.inpainter("planar", 5, 3, GRID, rng=0)
    convs = [(5, 48, 5), (24, 96, 3), (48, 96, 3), (48, 192, 3), *[(96, 192, 3)] * 8]
    convs += [(96, 96, 3), (48, 96, 3), (48, 48, 3), (24, 24, 3), (12, 3, 3)]
    assert net.parameter_count == sum(reads * gives * k * k + gives for reads, gives, k in convs) == 1_631_151


def test_inpainter_reaches_the_other_side():
    """A change at one pixel is felt half a turn away, through the dilated middle."""
    net = sc.models.inpainter("circular", 1, 1, sc.grids.Equirect(32), width=4, rng=0)
    x = np.zeros((1, 32, 64, 1), np.float32)
    before = net(x)
    x[0, 16, 3] = 1
    assert (net(x) != before)[0, 16, 30:40].any()


def test_signals_keep_their_size():
    """Without normalisation neither depth nor gates make a signal vanish."""
    x = np.random.default_rng(0).standard_normal((1, *GRID.shape, 3)).astype(np.float32)
    for build in (
        lambda: sc.models.inpainter("circular", 3, 3, GRID, width=16, rng=0),
        lambda: sc.models.unet("circular", 3, 3, GRID, width=16, norm=None, rng=0),
        lambda: sc.models.encoder_decoder("circular", 3, 3, GRID, width=16, norm=None, rng=0),
    ):
        assert 0.01 < build()(x).std() < 10


def test_the_decoder_mirrors_the_encoder():
    net = sc.models.encoder_decoder("planar", 3, 3, GRID, width=4, depth=3, norm=None, rng=0)
    shapes = [p.value.shape[2:] for n, p in params(net) if n.endswith("conv.weight")]
    assert shapes[:6] == [(3, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)]
    assert shapes[6:] == [(16, 16), (16, 8), (8, 8), (8, 4), (4, 4), (4, 4)]


def test_values_go_back_to_where_they_were():
    """With kernels that copy, an encoder-decoder keeps each maximum at its place and zeros elsewhere."""
    grid = sc.grids.Equirect(5, 11)
    net = sc.models.encoder_decoder("circular", 1, 1, grid, width=1, depth=1, norm=None, rng=0)
    for _, p in params(net):
        p.value[...] = 0
        if p.value.ndim == 4:
            p.value[p.value.shape[0] // 2, p.value.shape[1] // 2] = 1
    x = np.random.default_rng(0).random((1, *grid.shape, 1)).astype(np.float32)
    expected = np.zeros_like(x)
    for i in range(0, 4, 2):
        for j in range(0, 10, 2):
            block = x[0, i : i + 2, j : j + 2, 0]
            expected[0, i : i + 2, j : j + 2, 0] = np.where(block == block.max(), block, 0)
    np.testing.assert_array_equal(net(x), expected)


@pytest.mark.parametrize("up", ["bilinear", "nearest", "transpose"])
@pytest.mark.parametrize("method", ["planar", "circular", "coord"])
def test_unet_takes_sizes_that_do_not_divide(up, method):
    grid = sc.grids.Equirect(15, 30)
    net = sc.models.unet(method, 1, 2, grid, width=2, depth=3, up=up, rng=0)
    x = np.ones((1, *grid.shape, 1), np.float32)
    y, backward = net.forward(x, train=True)
    assert y.shape == (1, *grid.shape, 2)
    assert np.isfinite(backward(np.ones_like(y))).all()


def test_interpolation_follows_the_edges_of_the_method():
    modes = {}
    for name, kind in sc.layers.METHODS.items():
        if name in LEVELS:
            continue
        modes[name] = kind.upsample(sc.grids.Equirect(4), sc.grids.Equirect(8)).padding_mode
    wrapped = dict.fromkeys(("circular", "sphere", *FOOTPRINTS), "sphere")
    assert modes == {"planar": "replicate", "coord": "replicate"} | wrapped
    odd, poles = sc.grids.Equirect(4, 7), sc.grids.Equirect(5, 8, pole_rows=True)
    fine = sc.grids.Equirect(9, 16, pole_rows=True)
    circular = sc.layers.method("circular")
    assert circular.upsample(odd, sc.grids.Equirect(8, 14)).padding_mode == "circular"
    assert circular.upsample(poles, fine).padding_mode == "sphere_poles"
    with pytest.raises(InputError, match="cannot interpolate"):
        sc.layers.method("planar").upsample(poles, fine)


def test_grids_with_rows_on_the_poles():
    grid = sc.grids.Equirect(17, 32, pole_rows=True)
    kind = sc.layers.method("sphere")
    assert kind.conv(1, 1, grid, rng=0).padding_mode == "sphere_poles"
    assert kind.strided(grid) == kind.pool(grid, kernel_size=3)[1] == sc.grids.Equirect(9, 16, pole_rows=True)
    net = sc.models.resnet("sphere", 1, 2, grid, width=2, rng=0)
    assert net(np.ones((1, *grid.shape, 1), np.float32)).shape == (1, 2)
    with pytest.raises(InputError, match="rows H with H - 1 divisible by the stride 2"):
        kind.strided(sc.grids.Equirect(8, 16, pole_rows=True))
    with pytest.raises(InputError, match="has rows on the poles"):
        kind.conv_transpose(1, 1, grid, grid)


class Bare(sc.layers.Method):
    """A method that convolves only."""


def test_a_method_says_what_it_lacks():
    with pytest.raises(InputError, match="method 'bare' has no pooling"):
        Bare("bare", "").pool(GRID)
    with pytest.raises(InputError, match="method 'bare' has no transposed convolution"):
        Bare("bare", "").conv_transpose(1, 1, GRID, GRID)
