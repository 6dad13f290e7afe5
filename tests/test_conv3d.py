"""Convolution of video: parity with torch, frames apart, adjoints, time without a seam."""

import numpy as np
import pytest
from test_conv import TOLERANCE, relative, torch_pad

from spherecnn.errors import InputError
from spherecnn.layers import Conv2d, Conv3d
from spherecnn.stencils import PADDING_MODES


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    return torch


def padded(torch, x, padding, mode):
    """Pad (N, C, T, H, W): each frame by `torch_pad`, then time by whole frames."""
    n, c, t, h, w = x.shape
    frames = torch_pad(torch, x.transpose(1, 2).reshape(n * t, c, h, w), padding[1:], mode)
    x = frames.reshape(n, t, c, *frames.shape[2:]).transpose(1, 2)
    if mode in ("reflect", "replicate"):
        at = np.pad(np.arange(t), padding[0], {"replicate": "edge"}.get(mode, mode))
        return x[:, :, torch.from_numpy(at)]
    return torch.nn.functional.pad(x, (0, 0, 0, 0, *padding[0]))


def random_layer(rng, mode, **options):
    """A random layer of any kind, and an input."""
    while True:
        kernel, stride, dilation = (tuple(map(int, rng.integers(1, n, 3))) for n in (4, 4, 3))
        sides = rng.integers(0, 3, (3, 2))
        padding = [int(sides[0, 0]), tuple(map(int, sides[:, 0])), tuple(map(tuple, sides)), "same", "valid"]
        groups = int(rng.choice([1, 1, 2]))
        reads, makes = (int(v) for v in rng.choice([1, 3, 8, 17], 2))
        if rng.random() < 0.15:
            groups, reads, makes = int(rng.integers(2, 20)), 1, 1
        options |= {"groups": groups, "padding_mode": mode, "rng": rng}
        layer = Conv3d(
            reads * groups, makes * groups, kernel, stride, padding[rng.integers(5)], dilation=dilation, **options
        )
        shape = 2, *map(int, rng.integers(3, 7, 2)), 2 * int(rng.integers(2, 5)), reads * groups
        if mode.startswith("sphere") and max(layer.padding[1]) >= shape[2]:
            continue
        try:
            layer.out_shape(shape)
        except InputError:
            continue
        return layer, rng.standard_normal(shape)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("seed", range(12))
def test_parity_with_torch(torch, seed, mode, dtype):
    rng = np.random.default_rng([seed, len(mode), dtype == "float32"])
    layer, x = random_layer(rng, mode, bias=bool(seed % 3))
    layer.astype(dtype)
    x = x.astype(dtype)
    y, backward = layer.forward(x, train=True)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = backward(dy)

    tx = torch.from_numpy(x).permute(0, 4, 1, 2, 3).contiguous().requires_grad_()
    tw = torch.from_numpy(layer.weight.value).permute(4, 3, 0, 1, 2).contiguous().requires_grad_()
    tb = None if layer.bias is None else torch.from_numpy(layer.bias.value).requires_grad_()
    options = (layer.stride, 0, layer.dilation, layer.groups)
    ty = torch.nn.functional.conv3d(padded(torch, tx, layer.padding, mode), tw, tb, *options)
    ty.backward(torch.from_numpy(dy).permute(0, 4, 1, 2, 3).contiguous())
    assert relative(y, ty.detach().permute(0, 2, 3, 4, 1).numpy()) < TOLERANCE[dtype]
    assert relative(dx, tx.grad.permute(0, 2, 3, 4, 1).numpy()) < TOLERANCE[dtype]
    assert relative(layer.weight.grad, tw.grad.permute(2, 3, 4, 1, 0).numpy()) < TOLERANCE[dtype]
    if tb is not None:
        assert relative(layer.bias.grad, tb.grad.numpy()) < TOLERANCE[dtype]


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("seed", range(5))
def test_data_gradient_is_the_adjoint(mode, seed):
    rng = np.random.default_rng(seed)
    layer, x = random_layer(rng, mode, bias=False)
    layer.astype("float64")
    y, backward = layer.forward(x, train=True)
    dy = rng.standard_normal(y.shape)
    assert abs((y * dy).sum() - (x * backward(dy)).sum()) < 1e-11 * np.linalg.norm(y) * np.linalg.norm(dy)


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_a_kernel_of_one_frame_convolves_frames_apart(mode):
    rng = np.random.default_rng(0)
    video = Conv3d(3, 5, (1, 3, 3), padding_mode=mode, rng=rng)
    flat = Conv2d(3, 5, 3, padding_mode=mode)
    flat.weight.value[...], flat.bias.value[...] = video.weight.value[0], video.bias.value
    frame = rng.standard_normal((2, 1, 6, 8, 3), dtype=np.float32)
    still = video(np.repeat(frame, 4, axis=1))
    for t in range(4):
        np.testing.assert_allclose(still[:, t], flat(np.ascontiguousarray(frame[:, 0])), rtol=0, atol=1e-6)


def test_time_has_no_seam_and_the_panorama_has_none_either():
    """A kernel that reads only the frame before: the first frame sees zeros, however the columns wrap."""
    video = Conv3d(1, 1, 3, padding_mode="circular", bias=False)
    video.weight.value[...] = 0
    video.weight.value[0, 1, 0] = 1  # one frame before, one column to the left
    x = np.arange(1.0, 9, dtype=np.float32).reshape(1, 2, 1, 4, 1)
    assert video(x)[0, :, 0, :, 0].tolist() == [[0, 0, 0, 0], [4, 1, 2, 3]]


def test_initial_weights_have_the_spread_of_torch(torch):
    ours, theirs = Conv3d(8, 2000, 3, rng=0).weight.value, torch.nn.Conv3d(8, 2000, 3).weight.detach()
    assert np.abs(ours).max() <= 1 / np.sqrt(216)
    assert abs(ours.std() / float(theirs.std()) - 1) < 0.05


@pytest.mark.parametrize(
    ("use", "sentence"),
    [
        (lambda: Conv3d(3, 4, 3)(np.zeros((2, 4, 8, 3), np.float32)), r"expected 5 axes \(N, T, H, W, C\)"),
        (lambda: Conv3d(3, 4, (3, 3)), r"kernel_size is \(3, 3\); expected an integer of at least 1"),
        (lambda: Conv3d(3, 4, 3, padding="full"), "padding is 'full'; expected a number, a triple"),
        (lambda: Conv3d(3, 4, 3, padding=((1, 1), (1, 1), (1, -1))), "padding is -1; expected an integer"),
        (lambda: Conv3d(3, 4, 3, groups=2), "groups is 2 for 3 input and 4 output channels"),
        (lambda: Conv3d(3, 4, 5, padding="valid").out_shape((1, 4, 8, 8, 3)), "expected at least 5 for kernel 5"),
        (lambda: Conv3d(3, 4, 3, padding_mode="sphere").out_shape((1, 4, 8, 7, 3)), "7 columns; expected an even"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(use, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        use()
    assert "\n" not in str(caught.value)
