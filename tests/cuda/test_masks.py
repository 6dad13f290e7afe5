"""Dropout's masks on the GPU, in the simulator: the generator by its published answers, and what layers get."""

import numpy as np
import pytest

from spherecnn.kernels.arrays import keep_mask
from spherecnn.kernels.cuda import cuda, int32
from spherecnn.kernels.gpu.array import empty, to_device, to_host
from spherecnn.kernels.gpu.intrinsics import ld1, st1
from spherecnn.kernels.gpu.masks import philox
from spherecnn.layers.activation import Dropout

# Random123, kat_vectors: counter, key, and the four words of philox4x32-10.
ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return [int(word, 16) for word in text.split()]


def one_block(inputs, outputs):
    a, b, c, d = ld1(inputs, 0), ld1(inputs, 1), ld1(inputs, 2), ld1(inputs, 3)
    a, b, c, d = philox(a, b, c, d, ld1(inputs, 4), ld1(inputs, 5))
    at = int32(4 * cuda.threadIdx.x)
    st1(outputs, at, a)
    st1(outputs, at + 1, b)
    st1(outputs, at + 2, c)
    st1(outputs, at + 3, d)


@pytest.mark.parametrize(("counter", "key", "answer"), ANSWERS)
def test_philox_gives_the_published_answers(counter, key, answer):
    from simulator import simulate

    found = np.zeros(4, np.uint32)
    simulate(one_block, 1, 1, (np.array(words(counter) + words(key), np.uint32), found))
    assert found.tolist() == words(answer)


def expected_mask(count, p, key):
    """An independent Philox4x32-10, vectorised, of 64-bit integers."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    block = np.arange(-(-count // 4), dtype=np.uint64)
    a, b, c, d = block, np.zeros_like(block), np.zeros_like(block), np.zeros_like(block)
    k0, k1 = (np.uint64(k) for k in key)
    for _ in range(10):
        p0, p1 = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (p1 >> high) ^ b ^ k0, p1 & low, (p0 >> high) ^ d ^ k1, p0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    drawn = np.stack([a, b, c, d], axis=1).ravel()[:count]
    return (drawn >> np.uint64(8)) / 2**24 >= p


@pytest.mark.parametrize("shape", [(1,), (5, 7), (3, 500)])
@pytest.mark.parametrize("p", [0.25, 0.9, 1.0, 0.0])
def test_mask_comes_from_a_key_of_the_generator(simulated, shape, p):
    like = to_device(np.zeros(1, np.float32))
    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(2):
        keep = keep_mask(shape, p, rng, like)
        assert keep.dtype == np.bool_
        assert keep.shape == shape
        key = twin.integers(0, 2**32, 2, dtype=np.uint32)
        np.testing.assert_array_equal(to_host(keep).ravel(), expected_mask(int(np.prod(shape)), p, key))
    if p == 1:
        assert not to_host(keep).any()


def test_empty_mask(simulated):
    assert keep_mask((0, 3), 0.5, np.random.default_rng(0), empty((1,), np.float32)).shape == (0, 3)


def test_share_that_is_kept():
    kept = expected_mask(1 << 20, 0.3, (1, 2)).mean()
    assert abs(kept - 0.7) < 0.002


def test_a_graph_that_is_run_again_draws_the_masks_that_single_steps_draw():
    from simulated_graph import RecordingDevice

    from spherecnn.kernels.gpu import device

    made = RecordingDevice()
    device.push(made)
    try:
        like, rng, twin = to_device(np.zeros(1, np.float32)), np.random.default_rng(0), np.random.default_rng(0)
        graph = made.graph()
        with graph.record():
            masks = [keep_mask((50,), 0.5, rng, like), keep_mask((50,), 0.5, rng, like)]
        for _ in range(2):
            graph.replay()
            for mask in masks:
                np.testing.assert_array_equal(to_host(mask), to_host(keep_mask((50,), 0.5, twin, like)))
    finally:
        device.pop()


def test_dropout_layer(simulated):
    x = np.ones((7, 33), np.float32)
    y, backward = Dropout(0.25, rng=1).forward(to_device(x), train=True)
    kept = to_host(y) != 0
    assert 0.6 < kept.mean() < 0.9
    np.testing.assert_allclose(to_host(y), kept / 0.75, rtol=1e-6)
    np.testing.assert_allclose(to_host(backward(to_device(2 * x))), 2 * kept / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(to_host(Dropout(0.25, rng=1).forward(to_device(x), train=True)[0]), to_host(y))
