"""ASPP beside a torch network of the same weights, with dilations beyond the picture, and its image pooling."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.grids import Equirect
from spherecnn.layers.aspp import ASPP
from spherecnn.layers.combine import Parallel
from spherecnn.layers.registry import method
from spherecnn.layers.shape import Broadcast


def peer_of(torch, layer, rates, channels, out):
    """The ASPP of torchvision, with the weights of ours."""
    nn = torch.nn

    class Pool(nn.Sequential):
        def forward(self, x):
            return super().forward(x).expand(-1, -1, *x.shape[-2:])

    def branch(c, kernel, rate):
        padding = rate * (kernel // 2)
        return [nn.Conv2d(c, out, kernel, padding=padding, dilation=rate, bias=False), nn.BatchNorm2d(out), nn.ReLU()]

    convs = nn.ModuleList([nn.Sequential(*branch(channels, 1, 1))])
    convs.extend(nn.Sequential(*branch(channels, 3, rate)) for rate in rates)
    convs.append(Pool(nn.AdaptiveAvgPool2d(1), *branch(channels, 1, 1)))
    project = nn.Sequential(*branch(len(convs) * out, 1, 1), nn.Dropout(0.0))
    net = nn.ModuleDict({"convs": convs, "project": project}).double()
    for name, value in layer.state().items():
        theirs = net.get_buffer(name) if "running" in name else net.get_parameter(name)
        ours = value[None, None] if value.ndim == 2 else value
        theirs.data.copy_(torch.from_numpy(ours.transpose(3, 2, 0, 1) if ours.ndim == 4 else ours))
    return net, lambda x: project(torch.cat([conv(x) for conv in convs], dim=1))


@pytest.mark.parametrize("train", [False, True])
def test_parity_with_torchvisions_definition(train):
    torch = pytest.importorskip("torch")
    rng, rates = np.random.default_rng(0), (1, 2, 9)
    layer = ASPP(4, rates, 6, grid=Equirect(5, 7), weighted=False, dropout=0.0, rng=rng).astype(np.float64)
    net, compute = peer_of(torch, layer, rates, 4, 6)
    net.train(train)
    x, dy = rng.standard_normal((3, 5, 7, 4)), rng.standard_normal((3, 5, 7, 6))
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    ty = compute(tx)
    ty.backward(torch.from_numpy(dy).permute(0, 3, 1, 2))
    y, backward = layer.forward(x, train=train)
    np.testing.assert_allclose(y, ty.detach().permute(0, 2, 3, 1).numpy(), rtol=0, atol=1e-10)
    if not train:
        return
    np.testing.assert_allclose(backward(dy), tx.grad.permute(0, 2, 3, 1).numpy(), rtol=0, atol=1e-10)
    for name, p in layer.named_params().items():
        theirs = net.get_parameter(name).grad.numpy()
        theirs = theirs.transpose(2, 3, 1, 0) if theirs.ndim == 4 else theirs
        np.testing.assert_allclose(p.grad, theirs.reshape(p.grad.shape), rtol=0, atol=1e-10)


def test_dilation_beyond_the_picture_reads_around_it():
    """Columns wrap: a dilation of W and one turn more reads what a dilation of one column more does."""
    grid = Equirect(3, 6)
    layers = [ASPP(2, (rate,), 3, grid=grid, method="circular", rng=0) for rate in (7, 1)]
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 2)).astype(np.float32)
    wide, near = (layer.convs[1][0] for layer in layers)
    for conv in (wide, near):
        conv.weight.value[[0, 2]] = 0  # rows beyond the poles are zero in one and pixels in the other
    np.testing.assert_array_equal(wide(x), near(x))
    assert layers[0](x).shape == (2, 3, 6, 3)
    for kind in ("planar", "circular", "coord"):
        layer = ASPP(2, (40,), 3, grid=grid, method=kind, rng=0)
        y, backward = layer.forward(x, train=True)
        assert np.isfinite(y).all()
        assert np.isfinite(backward(np.ones_like(y))).all()


def test_a_rolled_picture_gives_a_rolled_one():
    layer = ASPP(3, (2, 5), 8, grid=Equirect(4), method="circular", rng=0)
    x = np.random.default_rng(0).standard_normal((2, 4, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(layer(np.roll(x, 3, 2)), np.roll(layer(x), 3, 2), rtol=1e-5, atol=1e-6)


def test_the_mean_of_the_picture_is_weighed_by_solid_angle():
    grid = Equirect(16)
    x = grid.xyz.reshape(1, 16, 32, 3)[..., 2:] ** 2  # mean of z^2 over the sphere: 1/3, more at the poles
    means = [ASPP(1, (1,), 2, grid=grid, weighted=w).convs[2][0](x).item() for w in (True, False)]
    assert abs(means[0] - 1 / 3) < 0.02
    assert means[1] > 0.45
    np.testing.assert_array_equal(Broadcast((2, 3))(np.array([[1.0, 2.0]]))[0, 1, 2], [1, 2])


def test_broadcast_is_the_adjoint_of_a_sum():
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 5)), rng.standard_normal((2, 3, 4, 5))
    y, backward = Broadcast((3, 4)).forward(x, train=True)
    assert (y * dy).sum() == pytest.approx((x * backward(dy)).sum(), rel=1e-12)


def test_options_and_errors():
    grid = Equirect(4)
    assert ASPP(3, (2,), 4, grid=grid, method=method("coord")).out_shape((1, 4, 8, 3)) == (1, 4, 8, 4)
    assert ASPP(3, (2,), 4, grid=grid, dropout=0.2).project[3].p == 0.2
    with pytest.raises(InputError, match="atrous_rates is empty"):
        ASPP(3, (), 4, grid=grid)
    with pytest.raises(InputError, match="an atrous rate is 0"):
        ASPP(3, (0,), 4, grid=grid)
    with pytest.raises(InputError, match="method is 'cubic'"):
        ASPP(3, (2,), 4, grid=grid, method="cubic")
    with pytest.raises(InputError, match="use the grid of the input"):
        ASPP(3, (2,), 4, grid=grid)(np.zeros((2, 8, 16, 3), np.float32))
    with pytest.raises(InputError, match="two or more"):
        Parallel(Broadcast((2,)))
