"""Paired folders, holes to fill, and rotations that keep pictures and labels aligned."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from spherecnn.datasets import Holes, NewHoles, RotateAugment, hide, inpainting, paired, read_labels
from spherecnn.datasets.transforms import rotate
from spherecnn.errors import InputError
from spherecnn.grids import Equirect

GRID = Equirect(8)
RNG = np.random.default_rng


def save(path, array, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
        return
    picture = Image.fromarray(array)
    if palette:
        picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    picture.save(path)


@pytest.fixture
def folder(tmp_path):
    """Five pictures of 16 x 32 whose red channel shows the class."""
    for i in range(5):
        labels = RNG(i).integers(0, 3, (16, 32)).astype(np.uint8)
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[..., 0] = labels * 100
        save(tmp_path / "images" / f"p{i}.png", pixels)
        save(tmp_path / "labels" / (f"p{i}.png" if i < 4 else "p4.npy"), labels, palette=i == 2)
    return tmp_path


# --- classes -----------------------------------------------------------------------------------------------


def test_pictures_meet_their_labels(folder):
    data = paired(folder, Equirect(16)).load(progress=False)
    x, y = data.batch(np.array([2, 0, 4]))
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((3, 16, 32, 3), np.float32, (3, 16, 32), np.int64)
    assert data.classes == ["0", "1", "2"]
    np.testing.assert_array_equal((x[..., 0] * 2.55).round().astype(int), y)


def test_palette_numbers_are_the_classes(folder):
    labels = read_labels(folder / "labels" / "p2.png")
    np.testing.assert_array_equal(labels, RNG(2).integers(0, 3, (16, 32)))


def test_labels_shrink_by_the_nearest_pixel(folder):
    _, y = paired(folder, GRID).batch(np.array([0]))
    source = read_labels(folder / "labels" / "p0.png")
    corners = np.stack([source[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    assert (corners == y[0]).any(axis=0).all()


def test_split_is_a_partition_that_the_seed_decides(folder):
    parts = [paired(folder, GRID, split=s, validation=0.4, seed=3).files for s in ("train", "validation", "all")]
    assert (len(parts[0]), len(parts[1])) == (3, 2)
    assert sorted(parts[0] + parts[1]) == parts[2]
    assert paired(folder, GRID, split="train", validation=0.4, seed=3).files == parts[0]


def test_names_come_from_classes_txt(folder):
    (folder / "classes.txt").write_text("sea\n land \n\nice\nlake\n")
    assert paired(folder, GRID).classes == ["sea", "land", "ice", "lake"]
    (folder / "classes.txt").write_text("sea\nland\n")
    with pytest.raises(InputError, match=r"labels/p\d\.(png|npy) holds class 2; expected 0 to 1, or 255"):
        paired(folder, GRID).load(progress=False)
    (folder / "classes.txt").write_text("sea\nsea\n")
    with pytest.raises(InputError, match=r"classes\.txt names 2 classes, 1 of them different"):
        paired(folder, GRID)


def test_ignored_number_is_no_class(folder):
    labels = RNG(0).integers(0, 3, (16, 32)).astype(np.uint8)
    labels[:4] = 255
    save(folder / "labels" / "p0.png", labels)
    data = paired(folder, Equirect(16))
    assert len(data.classes) == 3
    assert (data.batch(np.array([0]))[1][0, :4] == 255).all()
    assert len(paired(folder, GRID, ignore_index=-100).classes) == 256


# --- values ------------------------------------------------------------------------------------------------


def values_folder(root, values, name="p0.npy"):
    save(root / "images" / "p0.png", np.zeros((*values.shape[:2], 3), np.uint8))
    save(root / "labels" / name, values)
    return root


def test_sixteen_bits_with_scale_and_missing(tmp_path):
    values = (RNG(0).integers(1, 60000, (8, 16))).astype(np.uint16)
    values[2, 3] = 0
    data = paired(values_folder(tmp_path, values, "p0.png"), GRID, kind="values", scale=0.001, missing=0)
    _, y = data.batch(np.array([0]))
    expected = np.where(values == 0, np.nan, values * 0.001)
    np.testing.assert_allclose(y[0, ..., 0], expected, rtol=1e-6)
    assert (y.shape, y.dtype) == ((1, 8, 16, 1), np.float32)


def test_values_are_averaged_over_those_that_are_there(tmp_path):
    values = np.full((16, 32), 7.0)
    values[0, 0] = np.nan
    values[4:6, 8:10] = [[np.inf, np.nan], [-np.inf, np.nan]]
    values[10:12, 20:22] = [[1, np.nan], [1, np.nan]]
    _, y = paired(values_folder(tmp_path, values), GRID, kind="values").batch(np.array([0]))
    expected = np.full((8, 16), 7.0)
    expected[2, 4], expected[5, 10] = np.nan, 1
    np.testing.assert_allclose(y[0, ..., 0], expected, rtol=1e-6)


def test_area_average_weighs_rows_by_area(tmp_path):
    values = np.zeros((16, 32))
    values[1::2] = 1
    _, y = paired(values_folder(tmp_path, values), GRID, kind="values").batch(np.array([0]))
    area = Equirect(16).row_area
    np.testing.assert_allclose(y[0, :, 0, 0], area[1::2] / (area[0::2] + area[1::2]), rtol=1e-5)


def test_larger_grid_interpolates_and_keeps_what_is_missing(tmp_path):
    values = np.full((8, 16), 5.0)
    values[2:6, 4:10] = np.nan
    _, y = paired(values_folder(tmp_path, values), Equirect(16), kind="values").batch(np.array([0]))
    assert np.isnan(y[0, 5:11, 9:19]).all()
    np.testing.assert_allclose(y[np.isfinite(y)], 5, rtol=1e-6)


def test_several_values_a_pixel(tmp_path):
    values = RNG(0).standard_normal((8, 16, 3)).astype(np.float32)
    _, y = paired(values_folder(tmp_path, values), GRID, kind="values").batch(np.array([0]))
    np.testing.assert_array_equal(y[0], values)


# --- what is refused ---------------------------------------------------------------------------------------


def test_partners_are_needed(folder):
    (folder / "labels" / "p1.png").rename(folder / "labels" / "q.png")
    with pytest.raises(InputError, match=r"p1\.png has no partner in labels/; expected p1\.png or p1\.npy"):
        paired(folder, GRID)
    (folder / "images" / "p1.png").unlink()
    with pytest.raises(InputError, match=r"q\.png has no partner in images/"):
        paired(folder, GRID)
    (folder / "labels" / "q.png").unlink()
    assert len(paired(folder, GRID)) == 4
    save(folder / "labels" / "p0.npy", np.zeros((16, 32), int))
    with pytest.raises(InputError, match="have the same stem"):
        paired(folder, GRID)


def test_sizes_must_agree(folder):
    save(folder / "labels" / "p3.png", np.zeros((8, 16), np.uint8))
    with pytest.raises(InputError, match=r"p3\.png is 16 x 8 pixels and .*images/p3\.png is 32 x 16"):
        paired(folder, GRID).load(progress=False)


@pytest.mark.parametrize("name", ["p0.png", "p4.npy"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9])
def test_a_damaged_label_file_is_named(folder, name, keep):
    path = folder / "labels" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(InputError, match=f"{name} cannot be read") as error:
        paired(folder, GRID).load(progress=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("array", "kind", "says"),
    [
        (np.array([{"a": 1}], object), "classes", "cannot be read as an array"),
        (np.zeros((16, 32)), "classes", "expected class numbers"),
        (np.zeros((16, 32, 3), int), "classes", "expected class numbers"),
        (np.zeros((16, 32), complex), "values", "expected numbers"),
        (np.zeros(16), "values", "expected numbers"),
        (np.zeros((0, 32)), "values", "expected numbers"),
    ],
)
def test_arrays_that_are_no_labels(tmp_path, array, kind, says):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=says):
        read_labels(tmp_path / "a.npy", kind)


def test_pictures_that_are_no_labels(tmp_path):
    save(tmp_path / "rgb.png", np.zeros((4, 8, 3), np.uint8))
    save(tmp_path / "p.png", np.zeros((4, 8), np.uint8), palette=True)
    for path, kind in (
        (tmp_path / "rgb.png", "classes"),
        (tmp_path / "rgb.png", "values"),
        (tmp_path / "p.png", "values"),
    ):
        with pytest.raises(InputError, match=r"is a picture of mode (RGB|P); expected"):
            read_labels(path, kind)
    with open(tmp_path / "z.npy", "wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(InputError, match="NPZ archive"):
        read_labels(tmp_path / "z.npy")


def test_folders_that_cannot_serve(tmp_path):
    with pytest.raises(InputError, match="has no folder images"):
        paired(tmp_path, GRID)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    with pytest.raises(InputError, match="images has no pictures"):
        paired(tmp_path, GRID)
    save(tmp_path / "images" / "a.png", np.zeros((8, 16, 3), np.uint8))
    save(tmp_path / "labels" / "a.png", np.full((8, 16), 255, np.uint8))
    with pytest.raises(InputError, match="hold no class beside the ignored 255"):
        paired(tmp_path, GRID)
    save(tmp_path / "labels" / "a.png", np.zeros((8, 16), np.uint8))
    with pytest.raises(InputError, match="hold class 0 alone"):
        paired(tmp_path, GRID)
    save(tmp_path / "labels" / "a.png", np.eye(8, 16, dtype=np.uint8))
    with pytest.raises(InputError, match="the validation part of"):
        paired(tmp_path, GRID, split="validation")


# --- rotations ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["yaw", "so3"])
def test_labels_turn_with_their_picture(kind):
    """The picture shows its own labels, smooth values and classes of half the sphere, so all can be compared."""
    grid = Equirect(32)
    value = grid.xyz[:, :1].reshape(1, *grid.shape, 1).astype(np.float32)
    x, values = np.concatenate([value] * 3), np.concatenate([value] * 3)
    augment = RotateAugment(grid, kind)
    turned, turned_values = augment(x, values, RNG(5))
    again, classes = augment(x, (values[..., 0] > 0).astype(np.int64), RNG(5))
    np.testing.assert_array_equal(turned, again)
    np.testing.assert_array_equal(turned, turned_values)
    assert np.abs(turned - x).max() > 0.5
    clear = np.abs(turned[..., 0]) > 0.08
    np.testing.assert_array_equal(classes[clear], (turned[..., 0] > 0)[clear])
    if kind == "yaw":
        np.testing.assert_array_equal(classes, turned[..., 0] > 0)


@pytest.mark.parametrize("values", ["bilinear", "nearest"])
@pytest.mark.parametrize("kind", ["yaw", "so3"])
def test_missing_values_turn_without_spreading(kind, values):
    grid = Equirect(24)
    there = (grid.lat < 0.7).reshape(1, *grid.shape, 1)
    y = np.where(there, np.float32(3), np.float32(np.nan))
    x = there.astype(np.float32)
    turned, found = RotateAugment(grid, kind, values)(x, y, RNG(2))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[np.isfinite(found)], 3, rtol=1e-6)
    known = np.isfinite(found)
    assert known[turned > 0.999].all()
    assert not known[turned < 0.001].any()


def test_whole_columns_are_rolls():
    grid = Equirect(8)
    y = RNG(0).standard_normal((2, 8, 16, 1)).astype(np.float32)
    y[0, 3, 4] = np.nan
    _, turned = RotateAugment(grid, "yaw")(y, y, RNG(0))
    for one, before in zip(turned, y, strict=True):
        assert any(np.array_equal(one, np.roll(before, k, axis=1), equal_nan=True) for k in range(16))
    quarter = rotate(y[1:], Rotation.from_euler("z", 90, degrees=True), grid)
    np.testing.assert_array_equal(quarter, np.roll(y[1:], 4, axis=2))


# --- inpainting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [Equirect(1, 2), Equirect(4), Equirect(32)], ids=repr)
@pytest.mark.parametrize("kind", ["mixed", "caps", "boxes", "strokes"])
def test_holes_cover_the_share(kind, grid):
    masks = [Holes(grid, kind, (0.2, 0.3)).draw(RNG(i)) for i in range(5)]
    shares = [grid.area @ m.ravel() / (4 * np.pi) for m in masks]
    assert min(shares) >= 0.2
    assert grid.height < 32 or max(shares) < 0.45


def test_caps_are_as_likely_at_the_pole_as_their_area():
    grid = Equirect(16)
    mean = np.mean([Holes(grid, "caps").draw(RNG(i)) for i in range(300)], axis=0)
    rows = mean.mean(axis=1)
    assert 0.7 < rows[:2].mean() / rows[7:9].mean() < 1.4


def test_inpainting_hides_the_hole_and_keeps_the_picture(folder):
    data = inpainting(folder, GRID, seed=4)
    x, y = data.batch(np.arange(5))
    assert x.shape == y.shape == (5, 8, 16, 4)
    np.testing.assert_array_equal(x[..., 3], y[..., 3])
    hole = x[..., 3] > 0
    assert (x[hole][:, :3] == 0).all()
    np.testing.assert_array_equal(x[~hole], y[~hole])
    assert 0 < hole.mean() < 0.9
    np.testing.assert_array_equal(data.batch(np.array([3]))[0][0], x[3])
    assert not np.array_equal(inpainting(folder, GRID, seed=5).batch(np.arange(5))[0], x)
    assert len(inpainting(folder / "images", GRID, split="validation")) == 1


def test_parts_of_a_folder_do_not_share_their_holes(folder):
    whole = inpainting(folder, GRID)
    parts = [inpainting(folder, GRID, split=s, validation=0.4) for s in ("train", "validation")]
    masks = np.concatenate([p.batch(np.arange(len(p)))[0][..., 3] for p in parts])
    kept = np.concatenate([p.numbers for p in parts])
    np.testing.assert_array_equal(masks, whole.batch(kept)[0][..., 3])


def test_new_holes_are_drawn_in_the_whole_picture():
    pictures = RNG(0).random((2, 8, 16, 3)).astype(np.float32)
    x, y = hide(pictures, np.ones((2, 8, 16), bool))
    x, y = NewHoles(Holes(GRID))(x, y, RNG(0))
    np.testing.assert_array_equal(y[..., :3], pictures)
    np.testing.assert_array_equal(x[..., :3], np.where(y[..., 3:] > 0, 0, pictures))
    assert 0 < y[..., 3].mean() < 0.9


def test_holes_that_cannot_be():
    for share in ((0, 0.5), (0.5, 0.2), (0.5, 1.0)):
        with pytest.raises(InputError, match="share is"):
            Holes(GRID, share=share)
    with pytest.raises(InputError, match="kind is 'stars'"):
        Holes(GRID, "stars")
