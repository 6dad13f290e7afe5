"""Images read at directions on the GPU in the simulator, against the definitions in float64."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from site_stencils import numbers

from spherecnn.errors import InputError
from spherecnn.grids import Equirect
from spherecnn.kernels.gpu.array import to_device, to_host
from spherecnn.kernels.sample import sample_equirect, sample_tangent

TURNS = Rotation.from_rotvec([[0.3, -1.1, 0.7], [2.0, 0.1, -0.4]]).as_matrix().astype(np.float32)


def directions(seed, sets, points):
    xyz = np.random.default_rng(seed).standard_normal((sets, points, 3))
    return (xyz / np.linalg.norm(xyz, axis=-1, keepdims=True)).astype(np.float32)


def read(op, images, xyz, *rest):
    """The op on the device."""
    return to_host(op(*(to_device(a) if isinstance(a, np.ndarray) else a for a in (images, xyz, *rest))))


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize("poles", [False, True])
@pytest.mark.parametrize(("height", "width"), [(8, 16), (5, 7), (2, 1), (2, 3)])
def test_sample_equirect_is_its_definition(simulated, channels, poles, height, width):
    images, xyz = numbers(0, 2, height, width, channels), directions(1, 2, 50)
    xyz[0, :6] = [[0, 0, 1], [0, 0, -1], [1e-9, 0, 1], [-1, 0, 0], [0, 1, 0], [-3, -1e-8, 0]]
    y = read(sample_equirect, images, xyz, None, poles)
    wanted = sample_equirect.definition(images.astype(float), xyz, None, poles)
    np.testing.assert_allclose(y, wanted, atol=2e-5)


@pytest.mark.parametrize(("sets", "turns"), [(1, 2), (2, 1), (1, 1)])
def test_directions_and_turns_of_one_or_all_images(simulated, sets, turns):
    images, xyz = numbers(0, 2, 6, 12, 4), directions(2, sets, 40)
    y = read(sample_equirect, images, xyz, TURNS[:turns])
    np.testing.assert_allclose(y, sample_equirect.definition(images.astype(float), xyz, TURNS[:turns]), atol=2e-5)


@pytest.mark.parametrize(("height", "most"), [(512, 5e-5), (2048, 2e-4)])
def test_positions_are_right_to_a_small_part_of_a_pixel(simulated, height, most):
    image = np.zeros((1, height, 2 * height, 2), np.float32)
    image[0, :, 1::2, 0], image[0, 1::2, :, 1] = 1, 1  # a step of one from pixel to pixel
    xyz = directions(3, 1, 300)
    xyz = xyz[:, np.abs(xyz[0, :, 2]) < np.sin(np.radians(80))]
    y, wanted = read(sample_equirect, image, xyz), sample_equirect.definition(image, xyz)
    assert np.abs(y - wanted).max() < most


@pytest.mark.parametrize("poles", [False, True])
def test_pixel_centres_give_their_bits_and_no_neighbours(simulated, poles):
    grid, image = Equirect(64, pole_rows=poles), numbers(0, 1, 64, 128, 1)
    rng = np.random.default_rng(1)
    inner = rng.choice(np.arange(2 * 128, 62 * 128), 400, replace=False)
    image[0, 30] = np.nan
    y = read(sample_equirect, image, grid.xyz[None, inner].astype(np.float32), None, poles)
    np.testing.assert_array_equal(y[0, :, 0], image.reshape(-1)[inner])


def test_nan_of_a_pixel_is_read_about_it(simulated):
    image = np.ones((1, 4, 8, 4), np.float32)
    image[0, 2, 3, 1] = np.nan
    xyz = directions(4, 1, 200)
    y, wanted = read(sample_equirect, image, xyz), sample_equirect.definition(image, xyz)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
    assert np.isnan(y[..., 1]).any()
    assert not np.isnan(y[..., [0, 2, 3]]).any()


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize(("height", "width"), [(5, 8), (1, 1), (4, 3)])
def test_sample_tangent_is_its_definition(simulated, channels, height, width):
    images, xyz = numbers(0, 2, height, width, channels), directions(1, 1, 80)
    xyz[0, 0] = [0, 0, 1]
    extent = 1.3, 0.8
    y = read(sample_tangent, images, xyz, extent, TURNS)
    wanted = sample_tangent.definition(images.astype(float), xyz, extent, TURNS)
    np.testing.assert_allclose(y, wanted, atol=2e-5)
    assert (y == 0).any()
    assert (y != 0).any()


@pytest.mark.parametrize(
    ("xyz", "turns", "said"),
    [
        (np.ones((3, 4, 3), np.float32), None, "xyz has shape"),
        (np.ones((4, 3), np.float32), None, "xyz has shape"),
        (np.ones((1, 4, 3), np.int32), None, "dtype int32"),
        (np.ones((1, 4, 3), np.float32), np.ones((1, 2, 3), np.float32), "rotations has shape"),
    ],
)
def test_bad_directions_are_refused(simulated, xyz, turns, said):
    with pytest.raises(InputError, match=said):
        read(sample_equirect, numbers(0, 2, 4, 8, 4), xyz, turns)
