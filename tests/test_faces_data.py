"""Data on the faces of a polyhedron: rotations, planar pictures, folders, labels, holes, and drawing them flat."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

import spherecnn as sc
from spherecnn.datasets import (
    Compose,
    Holes,
    NewHoles,
    Photometric,
    RotateAugment,
    digits,
    inpainting,
    looking_at,
    paired,
    panoramas,
    project_planar,
    random_rotation,
    rotate,
)
from spherecnn.datasets.folder import fit_to_grid
from spherecnn.errors import InputError
from spherecnn.grids import Equirect, Polyhedron

RNG = np.random.default_rng
GRID = Polyhedron(2)


def smooth(xyz):
    """A smooth function of directions (P, 3): (P,)."""
    x, y, z = xyz.T
    return x * y + z**3 + x


def slopes(grid):
    """Derivatives of `smooth` to the east and to the north at the sites, per radian."""
    x, y, z = grid.xyz.T
    gradient = np.stack([y + 1, x, 3 * z**2], axis=-1)
    east = np.stack([-np.sin(grid.lon), np.cos(grid.lon), np.zeros(grid.sites)], axis=-1)
    return [(gradient * direction).sum(axis=-1) for direction in (east, np.cross(grid.xyz, east))]


def before(turn, grid):
    """Where the sites come from: (P, 3)."""
    return turn.inv().apply(grid.xyz.copy())


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# --- rotations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("turns", [1, -2])
def test_yaw_by_72_degrees_only_moves_faces(method, turns):
    """Sections of a row follow one another to the east: face p of section s becomes face p of section s + 1."""
    x = RNG(0).standard_normal((2, GRID.sites, 3)).astype(np.float32)
    x[0, 5] = np.nan
    y = rotate(x, Rotation.from_euler("z", 72 * turns, degrees=True), GRID, method)
    assert y.dtype == np.float32
    expected = np.roll(x.reshape(2, 4, 5, -1, 3), turns, axis=2).reshape(x.shape)
    np.testing.assert_array_equal(y, expected)


def test_half_a_turn_about_an_edge_only_moves_faces():
    """A rotation of the icosahedron that does not keep the sections: faces are found by their turned centres."""
    axis = GRID.vertices[0] + GRID.vertices[1]
    turn = Rotation.from_rotvec(np.pi * axis / np.linalg.norm(axis))
    x = RNG(0).standard_normal((1, GRID.sites, 1))
    source = np.argmax(before(turn, GRID) @ GRID.xyz.T, axis=1)
    assert sorted(source) == list(range(GRID.sites))
    np.testing.assert_array_equal(rotate(x, turn, GRID), x[:, source])


@pytest.mark.parametrize(("level", "most"), [(2, 0.05), (3, 0.0125), (4, 0.0031)])
def test_a_turned_field_is_the_field_in_turned_directions(level, most):
    """Linear interpolation: the error falls to a quarter with each level."""
    grid, turns = Polyhedron(level), random_rotation(RNG(1), size=3)
    x = np.repeat(smooth(grid.xyz)[None, :, None], 3, axis=0)
    expected = np.stack([smooth(before(turn, grid)) for turn in turns])[..., None]
    assert np.abs(rotate(x, turns, grid) - expected).max() < most
    one = rotate(x, turns[1], grid)
    np.testing.assert_array_equal(one[0], rotate(x[:1], turns[1], grid)[0])
    assert np.abs(one - expected[1]).max() < most


def test_rotate_refuses():
    with pytest.raises(InputError, match=r"expected \(N, 320, C\) for Polyhedron\(2\)"):
        rotate(np.ones((1, 80, 1)), Rotation.identity(), GRID)
    with pytest.raises(InputError, match="there are 2 rotations for 3 images"):
        rotate(np.ones((3, 320, 1)), random_rotation(RNG(0), size=2), GRID)
    with pytest.raises(InputError, match="images has dtype int64"):
        rotate(np.ones((1, 320, 1), np.int64), Rotation.identity(), GRID)


@pytest.mark.parametrize("kind", ["yaw", "so3"])
def test_labels_and_values_turn_with_their_picture(kind):
    grid = Polyhedron(3)
    value = np.repeat(grid.xyz[None, :, :1], 3, axis=0).astype(np.float32)
    augment = RotateAugment(grid, kind)
    turned, turned_values = augment(value, value, RNG(5))
    again, classes = augment(value, (value[..., 0] > 0).astype(np.int64), RNG(5))
    np.testing.assert_array_equal(turned, again)
    np.testing.assert_array_equal(turned, turned_values)
    turns = random_rotation(RNG(5), kind, 3)
    expected = np.stack([before(turn, grid)[:, :1] for turn in turns])
    assert np.abs(turned - expected).max() < 0.01
    assert classes.dtype == np.int64
    clear = np.abs(expected[..., 0]) > 0.1
    np.testing.assert_array_equal(classes[clear], (expected[..., 0] > 0)[clear])
    assert augment(value, np.arange(3), RNG(0))[1].tolist() == [0, 1, 2]


def test_missing_values_turn_without_spreading():
    there = (GRID.lat < 0.7)[None, :, None]
    turned, found = RotateAugment(GRID, "so3")(there.astype(np.float32), np.where(there, 3.0, np.nan), RNG(2))
    known = np.isfinite(found)
    np.testing.assert_allclose(found[known], 3, rtol=1e-6)
    assert known[turned > 0.999].all()
    assert not known[turned < 0.001].any()


def test_photometric_on_faces():
    x = RNG(0).uniform(0.3, 0.6, (4, 80, 3)).astype(np.float32)
    y, _ = Photometric(brightness=0.2, contrast=0)(x, np.zeros(4), RNG(0))
    factor = y / x
    assert np.ptp(factor, axis=(1, 2)).max() < 1e-5
    assert np.ptp(factor[:, 0, 0]) > 0.01
    y, _ = Photometric(brightness=0, contrast=0.5)(x, np.zeros(4), RNG(0))
    np.testing.assert_allclose(y.mean(axis=(1, 2)), x.mean(axis=(1, 2)), atol=1e-5)


# --- planar pictures ---------------------------------------------------------------------------------------


def test_a_planar_picture_is_upright_and_not_mirrored():
    """Where a site sees the plane at (u, v), a linear picture has 3 + 2 u - v; row 0 is up, column 0 to the west."""
    grid, size, half = Polyhedron(3), 9, np.tan(np.radians(45))
    centres = (np.arange(size) + 0.5) * 2 * half / size - half
    picture = 3 + 2 * centres[None, :] - (-centres)[:, None]
    y = project_planar(picture[None], grid, fov_deg=90)[0, :, 0]
    x, u, v = grid.xyz[:, 0], *(grid.xyz[:, 1:] / grid.xyz[:, :1]).T
    inner = (x > 0) & (np.maximum(np.abs(u), np.abs(v)) < centres[-1])
    assert inner.sum() > 100
    np.testing.assert_allclose(y[inner], (3 + 2 * u - v)[inner], rtol=1e-12)
    assert (y[(x < 0) | (np.maximum(np.abs(u), np.abs(v)) > half)] == 0).all()


def test_a_planar_picture_goes_where_its_rotation_points():
    turn = looking_at(np.radians(40), np.radians(110))
    y = project_planar(np.ones((1, 9, 9)), Polyhedron(4), 40, turn)[0, :, 0]
    centre = (Polyhedron(4).area * y) @ Polyhedron(4).xyz
    np.testing.assert_allclose(centre / np.linalg.norm(centre), turn.apply([1, 0, 0]), atol=0.01)


def test_a_seven_is_a_seven():
    """The bar of a 7 is to the north, its foot south of it and west of the bar's eastern end."""
    pytest.importorskip("sklearn")
    data = digits(Polyhedron(3))
    x, _ = data.batch(np.flatnonzero(data.labels == 7))
    mean, lat, lon = x.mean(axis=0)[:, 0], data.grid.lat, data.grid.lon
    top, bottom = (mean * ((lat > low) & (lat < low + 0.3)) for low in (0.4, -0.5))
    assert (lon @ top) / top.sum() > (lon @ bottom) / bottom.sum() + 0.05
    assert mean[np.abs(lon) > np.pi / 2].max() == 0


# --- folders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [16, 40, 300])
def test_a_picture_on_faces_is_not_shifted(height):
    """Coarser and finer than the faces: no part of the error follows the slope to the east or to the north."""
    source = Equirect(height)
    y = fit_to_grid(smooth(source.xyz).reshape(*source.shape, 1), GRID)[:, 0]
    error = y - smooth(GRID.xyz)
    assert np.abs(error).max() < 0.05
    for slope in slopes(GRID):
        assert abs(error @ slope / (slope @ slope)) < 1e-3 * np.pi / height


def test_a_picture_on_faces_is_averaged_over_them():
    """Noise finer than the faces, beside the mean of the pixels in each face: also at the poles, where most are."""
    source = Equirect(256)
    noise = RNG(0).standard_normal((256, 512, 8)).astype(np.float32)
    face = GRID.nearest(source.xyz)
    whole = np.bincount(face, source.area)
    mean = np.stack([np.bincount(face, source.area * noise[..., c].ravel()) / whole for c in range(8)], axis=-1)
    y = fit_to_grid(noise, GRID)
    for near, far in ((0, 30), (30, 60), (60, 90)):
        band = (np.abs(np.degrees(GRID.lat)) >= near) & (np.abs(np.degrees(GRID.lat)) < far)
        assert np.sqrt(np.mean((y - mean)[band] ** 2)) < 0.5 * np.sqrt(np.mean(mean[band] ** 2))
        assert np.std(y[band]) < np.std(mean[band])


def test_a_constant_stays_and_no_face_is_black():
    for shape in ((4, 8), (33, 70), (64, 128)):
        np.testing.assert_allclose(fit_to_grid(np.full((*shape, 1), 7, np.uint8), GRID), 7, rtol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures of 32 x 64, brighter to the north, with classes and values of the hemispheres."""
    root = tmp_path_factory.mktemp("faces")
    lat = Equirect(32).lat.reshape(32, 64)
    for i in range(4):
        grey = (127.5 + 100 * np.sin(lat)).astype(np.uint8)
        save(root / "images" / f"p{i}.png", np.repeat(grey[..., None], 3, axis=-1))
        save(root / "labels" / f"p{i}.png", np.where(lat > 0, 1, 0).astype(np.uint8))
        save(
            root / "values" / "labels" / f"p{i}.png", np.where(lat > 0.5, 0, 1000 + 1000 * (lat > 0)).astype(np.uint16)
        )
        save(root / "values" / "images" / f"p{i}.png", np.repeat(grey[..., None], 3, axis=-1))
        save(root / "photos" / "ab"[i % 2] / f"p{i}.png", np.repeat(grey[..., None], 3, axis=-1))
    (root / "classes.txt").write_text("south\nnorth\n")
    return root


def test_pictures_and_classes_on_faces(folder):
    x, classes = paired(folder, GRID).batch(np.arange(4))
    assert (x.shape, classes.shape, classes.dtype) == ((4, 320, 3), (4, 320), np.int64)
    np.testing.assert_array_equal(classes[2], GRID.lat > 0)
    np.testing.assert_allclose(x[1, :, 0] * 255, 127.5 + 100 * np.sin(GRID.lat), atol=2)
    x, labels = panoramas(folder / "photos", GRID).batch(np.arange(4))
    assert (x.shape, labels.tolist()) == ((4, 320, 3), [0, 0, 1, 1])


def test_values_on_faces_are_means_of_those_that_are_there(folder):
    _, values = paired(folder / "values", GRID, kind="values", scale=0.001, missing=0).batch(np.arange(1))
    values = values[0, :, 0]
    side = GRID.pixel_side
    assert np.isnan(values[GRID.lat > 0.5 + side]).all()
    np.testing.assert_allclose(values[(GRID.lat > side) & (GRID.lat < 0.5)], 2, rtol=1e-5)
    np.testing.assert_allclose(values[GRID.lat < -side], 1, rtol=1e-5)


@pytest.mark.parametrize("kind", ["caps", "boxes", "strokes"])
def test_holes_on_faces(folder, kind):
    shares = [GRID.area @ Holes(GRID, kind, (0.2, 0.3)).draw(RNG(i)) / (4 * np.pi) for i in range(5)]
    assert 0.2 <= min(shares) <= max(shares) < 0.6
    holes = Holes(GRID, kind)
    x, y = inpainting(folder, GRID, holes=holes).batch(np.arange(4))
    turned, _ = Compose(RotateAugment(GRID, "so3"), NewHoles(holes))(x, y, RNG(0))
    for pictures in (x, turned):
        assert pictures.shape == (4, 320, 4)
        assert (pictures[pictures[..., 3] > 0][:, :3] == 0).all()
        assert (pictures[pictures[..., 3] == 0][:, :3] > 0).all()


# --- drawing -----------------------------------------------------------------------------------------------


def test_panorama_of_faces():
    """Classes are those of the face that holds a pixel; values are linear between faces."""
    target = Equirect(32)
    classes = sc.viz.panorama(np.arange(GRID.sites), GRID)
    np.testing.assert_array_equal(classes, GRID.nearest(target.xyz).reshape(target.shape))
    assert len(np.unique(classes)) == GRID.sites
    values = sc.viz.panorama(np.stack([smooth(GRID.xyz)] * 2, axis=-1), GRID)
    assert np.abs(values - smooth(target.xyz).reshape(32, 64, 1)).max() < 0.05
    flat = np.ones((8, 16, 3))
    assert sc.viz.panorama(flat, Equirect(8)) is flat
    with pytest.raises(InputError, match=r"expected \(320\)"):
        sc.viz.panorama(np.ones((80, 3)), GRID)


def test_losses_and_scores_on_faces_weigh_by_area():
    y, target = RNG(0).standard_normal((2, 80, 3)), RNG(1).integers(3, size=(2, 80))
    grid = Polyhedron(1)
    value, dy = sc.training.CrossEntropyLoss(area=grid.area)(y, target)
    share = np.exp(y) / np.exp(y).sum(-1, keepdims=True)
    lost = -np.log(np.take_along_axis(share, target[..., None], -1)[..., 0])
    assert value == pytest.approx((grid.area * lost).sum() / (2 * grid.area.sum()))
    expected = (share - np.eye(3)[target]) * (grid.area / (2 * grid.area.sum()))[:, None]
    np.testing.assert_allclose(dy, expected, atol=1e-14)
    right = (grid.area * (y.argmax(-1) == target)).sum() / (2 * grid.area.sum())
    assert sc.training.accuracy(y, target, area=grid.area) == pytest.approx(right)
    np.testing.assert_allclose(sc.layers.GlobalAvgPool(grid)(y), (grid.area @ y) / grid.area.sum())
    data = sc.training.ArrayDataset(y.astype(np.float32), target)
    net = sc.models.unet("spherephd", 3, 3, grid, width=2, depth=1, rng=0)
    np.testing.assert_array_equal(sc.training.task.site_area(net, data), grid.area)
