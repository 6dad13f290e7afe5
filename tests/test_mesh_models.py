"""Networks on a mesh: the authors' numbers, published parameter counts, and back from a checkpoint."""

from pathlib import Path

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.grids import Icosphere
from spherecnn.layers import BatchNorm
from spherecnn.models import MeshResBlock, mesh_classifier, mesh_modelnet, mesh_unet

REFERENCE = np.load(Path(__file__).parent / "reference" / "ugscnn_nets.npz")


PAIRS = (("conv", "conv"), ("norm", "bn"))


def names(block="", shortcut=True):
    """Our layers and theirs, of a residual block."""
    found = {f"{block}{ours}{k}": f"{block}{theirs}{k}" for k in (1, 2, 3) for ours, theirs in PAIRS}
    return found | ({f"{block}shortcut.0": f"{block}conv_", f"{block}shortcut.1": f"{block}bn_"} if shortcut else {})


MNIST = {"conv": "in_conv", "norm": "in_bn", "head": "out_layer"} | names("block1.") | names("block2.")


def published(net, layers, case, part):
    """Their arrays under our names: all weights are (out, in, ...) there."""
    found = {}
    for name in net.state():
        layer, last = name.rsplit(".", 1)
        for theirs in (last, "coeffs") if last == "weight" else (last,):
            key = f"{case}/{part}/{layers[layer]}.{theirs}"
            if key in REFERENCE:
                found[name] = REFERENCE[key].astype(np.float64).T
    return found


def load(net, layers, case):
    net.astype(np.float64)
    net.load_state(published(net, layers, case, "state"))
    return (np.moveaxis(REFERENCE[f"{case}/{part}"].astype(np.float64), 1, -1) for part in ("x", "gy"))


def close(ours, theirs, tolerance=1e-5):
    """They rounded operators, and we their numbers, to single precision."""
    assert abs(ours - theirs).max() <= tolerance * max(1, abs(theirs).max())


def some(values):
    """Every fourth vertex, channels second: what is kept of outputs and input gradients."""
    return values.transpose(0, 2, 1)[:, :, ::4]


@pytest.fixture
def frozen(monkeypatch):
    """Normalisation by running statistics, with gradients."""
    forward = BatchNorm.forward
    monkeypatch.setattr(BatchNorm, "forward", lambda self, x, *, train: forward(self, x, train=False))


def test_published_block(frozen):
    block = MeshResBlock(8, 6, 8, Icosphere(3))
    x, dy = load(block, names(shortcut=False), "same")
    y, backward = block.forward(x, train=True)
    close(some(y), REFERENCE["same/y"])
    close(some(backward(dy)), REFERENCE["same/gx"])


def test_published_block_to_the_coarser_mesh():
    """In training: gradients of all parameters, and running statistics afterwards."""
    block, layers = MeshResBlock(4, 6, 8, Icosphere(3), coarsen=True), names()
    x, dy = load(block, layers, "coarsen")
    y, backward = block.forward(x, train=True)
    close(some(y), REFERENCE["coarsen/y"])
    close(some(backward(dy)), REFERENCE["coarsen/gx"])
    grads, after = (published(block, layers, "coarsen", part) for part in ("grad", "state_after"))
    assert grads.keys() == block.named_params().keys()
    for name, param in block.named_params().items():
        close(param.grad, grads[name])
    assert len(after) == 8
    for name, value in after.items():
        close(block.state()[name], value)


def test_published_classifier(frozen):
    net = mesh_classifier(1, 10, Icosphere(4), width=4, dropout=0.0)
    x, dy = load(net, MNIST, "mnist")
    scores, backward = net.forward(x, train=True)
    y = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))  # theirs ends with log softmax
    close(y, REFERENCE["mnist/y"])
    close(some(backward(dy - np.exp(y) * dy.sum(axis=1, keepdims=True))), REFERENCE["mnist/gx"])
    grads = published(net, MNIST, "mnist", "grad")
    assert grads.keys() == net.named_params().keys()
    for name, param in net.named_params().items():
        close(param.grad, grads[name])


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: mesh_classifier(1, 10, Icosphere(4)), 61_658),
        (lambda: mesh_modelnet(), 960_056),
        (lambda: mesh_modelnet(width=32), 3_737_160),
        (lambda: mesh_modelnet(width=8, expansion=2), 70_192),
        (lambda: mesh_modelnet(width=1, expansion=2), 2_558),
        (lambda: mesh_unet(4, 15, Icosphere(5), width=16), 1_301_167),
        (lambda: mesh_unet(4, 15, Icosphere(5)), 5_180_239),
        (lambda: mesh_unet(16, 3, Icosphere(5), width=8), 328_339),
        (lambda: mesh_unet(16, 3, Icosphere(5), width=16), 1_301_155),
    ],
)
def test_published_parameter_counts(build, count):
    assert build().parameter_count == count


def test_where_the_published_networks_end():
    assert mesh_classifier(1, 10, Icosphere(4)).pool.grid == Icosphere(2)
    assert mesh_modelnet(width=1).pool.grid == Icosphere(1)
    net = mesh_unet(4, 15, Icosphere(5), width=1)
    assert net.downs[-1].grid_out == Icosphere(0)
    assert net.out_shape((2, 10242, 4)) == (2, 10242, 15)


@pytest.mark.parametrize(
    "net",
    [
        mesh_classifier(2, 3, Icosphere(2), 2, rng=0),
        mesh_classifier(
            2, 3, Icosphere(3), 2, 1, 4, 2, True, dropout=0.1, laplacian="mass", derivatives="compass", rng=0
        ),
        mesh_unet(2, 3, Icosphere(2), 2, 2, rng=0),
        mesh_unet(2, 3, Icosphere(2), 2, 1, "interpolated", laplacian="mass", derivatives="compass", rng=0),
    ],
    ids=["classifier", "classifier_options", "unet", "unet_options"],
)
def test_back_from_a_checkpoint(net, tmp_path):
    x = np.random.default_rng(0).standard_normal((2, *net.grid.shape, 2)).astype(np.float32)
    y, backward = net.forward(x, train=True)
    backward(np.ones_like(y))
    assert all(p.has_grad for p in net.named_params().values())
    sc.training.save_checkpoint(tmp_path / "net.safetensors", net)
    header, arrays, _ = sc.training.load_checkpoint(tmp_path / "net.safetensors")
    other = sc.models.build(header["model"], rng=1)
    sc.training.restore_model(other, header, arrays)
    np.testing.assert_array_equal(other(x), net(x))


def test_half_a_turn_of_the_sphere():
    """It is a symmetry of the mesh and of its compass: the same scores, and turned maps."""
    grid = Icosphere(3)
    turn = grid.nearest(grid.xyz * [-1, -1, 1])
    x = np.random.default_rng(1).standard_normal((2, grid.sites, 2))
    kinds = {"laplacian": "mass", "derivatives": "compass"}  # the published derivatives at a pole are those of chance
    net = mesh_classifier(2, 3, grid, 4, **kinds, rng=0).astype(np.float64)
    np.testing.assert_allclose(net(x[:, turn]), net(x), atol=1e-9)
    dense = mesh_unet(2, 3, grid, 4, 2, "interpolated", **kinds, rng=0).astype(np.float64)
    np.testing.assert_allclose(dense(x[:, turn]), dense(x)[:, turn], atol=1e-9)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: mesh_classifier(1, 10, sc.grids.Equirect(16)), "expected a mesh"),
        (lambda: mesh_classifier(1, 10, Icosphere(1)), r"Icosphere\(1\) is too small .* coarsened 2 times, not 1"),
        (lambda: mesh_modelnet(grid=Icosphere(3)), "coarsened 4 times, not 3"),
        (lambda: mesh_unet(1, 2, Icosphere(4)), "coarsened 5 times, not 4"),
        (lambda: mesh_unet(1, 2, Icosphere(4), depth=2, fill="mean"), "fill is 'mean'"),
        (lambda: mesh_classifier(1, 10, Icosphere(4), laplacian="fem"), "laplacian is 'fem'"),
        (lambda: mesh_classifier(1, 10, Icosphere(4), dropout=2), "p is 2"),
        (lambda: mesh_classifier(1, 1, Icosphere(4)), "classes is 1"),
        (lambda: mesh_classifier(1, 10, Icosphere(4), stride=3), "power of two"),
    ],
)
def test_refusals(build, says):
    with pytest.raises(InputError, match=says):
        build()
