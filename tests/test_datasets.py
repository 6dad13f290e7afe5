"""Data sets: IDX files, digits, folders of pictures, augmentation."""

from __future__ import annotations

import gzip
import logging
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from spherecnn.datasets import (
    Compose,
    Photometric,
    PlanarDataset,
    RotateAugment,
    digits,
    mnist,
    panoramas,
    project_planar,
    read_idx,
    read_panorama,
    stratified_split,
)
from spherecnn.errors import InputError
from spherecnn.grids import Equirect

GRID = Equirect(8)
CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx_bytes(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def png16_rgb(array):
    """Encode (H, W, 3) uint16 as a PNG, which Pillow cannot."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", list(CODES))
@pytest.mark.parametrize("packed", [False, True])
def test_idx_round_trip(tmp_path, kind, packed):
    array = (np.random.default_rng(0).standard_normal((3, 4, 5)) * 50).astype(kind)
    content = idx_bytes(array)
    path = tmp_path / "set"
    path.write_bytes(gzip.compress(content) if packed else content)
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert np.array_equal(read, array)


GOOD = idx_bytes(np.arange(60, dtype=np.uint8).reshape(5, 3, 4))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOOD[:-1], "truncated"),
        (GOOD[:10], "ends within its header"),
        (GOOD + b"x", "too long"),
        (b"", "no IDX header"),
        (b"\x89PNG" + GOOD, "no IDX header"),
        (b"\0\0\x07\x01" + GOOD[4:], "no IDX header"),
        (gzip.compress(GOOD)[:-9], "damaged gzip"),
        (gzip.compress(GOOD)[:12] + b"\xff" * 30, "damaged gzip"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31), "truncated"),
    ],
)
def test_idx_refuses(tmp_path, content, sentence):
    path = tmp_path / "set.gz"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_idx(path)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)


def test_idx_names_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_idx(tmp_path / "nothing")


def write_mnist(folder, images, labels, dot="-", end=""):
    pack = gzip.compress if end else bytes
    (folder / f"t10k-images{dot}idx3-ubyte{end}").write_bytes(pack(idx_bytes(images)))
    (folder / f"t10k-labels{dot}idx1-ubyte{end}").write_bytes(pack(idx_bytes(labels)))


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_mnist_finds_its_files(tmp_path, dot, end):
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28)).astype(np.uint8)
    write_mnist(tmp_path, images, np.array([3, 0, 2, 1], np.uint8), dot, end)
    data = mnist(tmp_path, GRID, split="test")
    x, y = data.batch(np.array([2, 0]))
    assert (len(data), data.classes, y.tolist()) == (4, ["0", "1", "2", "3"], [2, 3])
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert np.allclose(x, project_planar(images[[2, 0]] / 255, GRID, 120), atol=1e-6)


def test_mnist_refuses(tmp_path):
    images, labels = np.zeros((4, 5, 5), np.uint8), np.zeros(3, np.uint8)
    with pytest.raises(InputError, match="expected an MNIST folder"):
        mnist(tmp_path, GRID)
    write_mnist(tmp_path, images, labels)
    with pytest.raises(InputError, match="4 pictures and 3 labels"):
        mnist(tmp_path, GRID, split="test")
    write_mnist(tmp_path, images[0], labels)
    with pytest.raises(InputError, match="MNIST format"):
        mnist(tmp_path, GRID, split="test")
    with pytest.raises(InputError, match="'validation'"):
        mnist(tmp_path, GRID, split="validation")


@pytest.mark.parametrize("rotate", ["none", "yaw", "so3"])
def test_orientations_stay_with_their_samples(rotate):
    pictures = np.random.default_rng(0).random((6, 8, 8))
    data, again = (PlanarDataset(pictures, np.arange(6), "abcdef", GRID, rotate=rotate) for _ in range(2))
    whole, _ = data.batch(np.arange(6))
    part, y = again.batch(np.array([4, 1]))
    assert np.array_equal(part, whole[[4, 1]])
    assert y.tolist() == [4, 1]
    other = PlanarDataset(pictures, np.arange(6), "abcdef", GRID, rotate=rotate, seed=1).batch(np.arange(6))[0]
    assert np.array_equal(other, whole) == (rotate == "none")


def test_digits_split_is_stratified_and_disjoint():
    pytest.importorskip("sklearn")
    train, test = (digits(GRID, split=s) for s in ("train", "test"))
    assert len(train) + len(test) == 1797
    share = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    assert np.abs(share - 0.2).max() < 0.01
    other = digits(GRID, split="test", seed=1)
    assert not np.array_equal(other.images, test.images)
    assert np.array_equal(digits(GRID, split="test").images, test.images)


def test_a_seven_is_a_seven():
    """The bar of a 7 is to the north, its foot south of it and west of the bar's eastern end."""
    pytest.importorskip("sklearn")
    data = digits(Equirect(36))
    x, _ = data.batch(np.flatnonzero(data.labels == 7))
    mean = x.mean(axis=0)[..., 0]
    columns = np.arange(72)
    top, bottom = mean[12:15].sum(axis=0), mean[21:24].sum(axis=0)
    assert (columns @ top) / top.sum() > (columns @ bottom) / bottom.sum() + 1
    assert mean[:6].max() == mean[30:].max() == mean[:, :18].max() == mean[:, 54:].max() == 0


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"spherecnn\[demo\]"):
        digits(GRID)


def test_stratified_split_keeps_one_of_each_class_on_both_sides():
    labels = np.array([0] * 50 + [1] * 2 + [2])
    kept, held = stratified_split(labels, 0.1, seed=3)
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(53))
    assert np.bincount(labels[held], minlength=3).tolist() == [5, 1, 0]
    with pytest.raises(InputError):
        stratified_split(labels, 1.0)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("sea", 3), ("city", 4)):
        (tmp_path / name).mkdir()
        for i in range(count):
            pixels = rng.integers(0, 256, (16, 32, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.{'PNG' if i % 2 else 'jpg'}")
        (tmp_path / name / "notes.txt").write_text("not a picture")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_folder_classes_and_batches(folder):
    data = panoramas(folder, GRID).load(progress=False)
    assert (len(data), data.classes) == (7, ["city", "sea"])
    x, y = data.batch(np.array([6, 0]))
    assert (x.shape, x.dtype, y.dtype, y.tolist()) == ((2, 8, 16, 3), np.float32, np.int64, [1, 0])
    blocks = read_panorama(folder / "city" / "0.jpg").reshape(8, 2, 8, 4, 3)[:, 0].min() / 255
    assert 0 <= blocks <= x.min() < x.max() <= 1
    x[...] = 0
    assert data.batch(np.array([6]))[0].max() > 0


def test_folder_splits_each_class(folder):
    train, validation = (panoramas(folder, GRID, split=s, seed=5) for s in ("train", "validation"))
    assert sorted(train.files + validation.files) == sorted(panoramas(folder, GRID).files)
    assert np.bincount(validation.labels).tolist() == [1, 1]
    assert panoramas(folder, GRID, split="validation", seed=5).files == validation.files


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    """A picture bright in the east; each kind of file has to give the same."""
    (tmp_path / "a").mkdir()
    ramp = np.zeros((8, 16), np.uint8)
    ramp[:, 8:] = 255
    if mode == "I;16":
        Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "a" / "x.png")
    else:
        rgb = Image.fromarray(ramp).convert("RGB")
        rgb.convert(mode).save(tmp_path / "a" / ("x.jpg" if mode == "CMYK" else "x.png"))
    x, _ = panoramas(tmp_path, GRID).batch(np.array([0]))
    assert x.shape == (1, 8, 16, 3)
    assert np.allclose(x[0], (ramp / 255)[..., None], atol=0.02)


def test_sixteen_bits_of_grey_are_kept_and_of_colour_reduced(tmp_path):
    (tmp_path / "a").mkdir()
    grey = np.arange(8 * 16, dtype=np.uint16).reshape(8, 16) + 1000
    Image.fromarray(grey).save(tmp_path / "a" / "grey.png")
    (tmp_path / "a" / "rgb.png").write_bytes(png16_rgb(np.repeat(grey[..., None] * 50, 3, axis=-1)))
    data = panoramas(tmp_path, GRID)
    x, _ = data.batch(np.arange(2))
    assert np.allclose(x[0, ..., 1] * 65535, grey, atol=0.01)
    assert np.allclose(x[1, ..., 2], (grey * 50 // 256) / 255, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 32), (48, 24), (10, 5), (50, 9), (7, 30)])
def test_any_size_is_resized_without_a_seam(tmp_path, size):
    """A smooth picture stays smooth over the seam, enlarged or reduced."""
    (tmp_path / "a").mkdir()

    def field(grid):
        return 127.5 + 100 * (np.cos(grid.lat) * np.cos(grid.lon)).reshape(grid.shape)

    pixels = field(Equirect(size[1], size[0])).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    grid = Equirect(12)
    x, _ = panoramas(tmp_path, grid).batch(np.array([0]))
    assert np.abs(x[0, ..., 0] - field(grid) / 255).max() < 0.05
    assert np.allclose(x[0, 6, :, 0], x[0, 6, ::-1, 0], atol=0.01)


def test_exif_orientation_is_applied(tmp_path):
    (tmp_path / "a").mkdir()
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(upright[::-1, ::-1]).save(tmp_path / "a" / "x.png", exif=exif)
    x, _ = panoramas(tmp_path, GRID).batch(np.array([0]))
    assert x[0, :4].min() == 1
    assert x[0, 4:].max() == 0


def test_another_shape_is_noted_once(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    for i in range(2):
        Image.new("RGB", (20, 20)).save(tmp_path / "a" / f"{i}.png")
    with caplog.at_level(logging.WARNING):
        panoramas(tmp_path, GRID).load(progress=False)
    assert len(caplog.records) == 1
    assert "0.png is 20 x 20 pixels, not 2:1" in caplog.text


@pytest.mark.parametrize("name", ["1.PNG", "0.jpg"])
@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_damaged_picture_is_named(folder, name, keep):
    path = folder / "sea" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(InputError) as error:
        panoramas(folder, GRID).load(progress=False)
    assert str(path) in str(error.value)
    assert "replace or remove it" in str(error.value)


def test_folders_that_cannot_serve(folder, tmp_path_factory):
    with pytest.raises(InputError, match="is not a folder"):
        panoramas(folder / "nothing", GRID)
    with pytest.raises(InputError, match="has no sub-folders"):
        panoramas(tmp_path_factory.mktemp("bare"), GRID)
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no pictures"):
        panoramas(folder, GRID)


def test_photometric_keeps_the_range_and_differs_by_image():
    x = np.random.default_rng(0).random((4, 8, 16, 3)).astype(np.float32)
    kept = x.copy()
    y, labels = Photometric(0.5, 0.5, 0.1)(x, np.arange(4), np.random.default_rng(1))
    assert np.array_equal(x, kept)
    assert y.dtype == np.float32
    assert 0 <= y.min() < y.max() <= 1
    ratio = y.mean(axis=(1, 2, 3)) / x.mean(axis=(1, 2, 3))
    assert len(np.unique(ratio.round(4))) == 4
    assert labels.tolist() == [0, 1, 2, 3]
    still, _ = Photometric(0, 0, 0)(x, labels, np.random.default_rng(1))
    assert np.allclose(still, x, atol=1e-6)
    with pytest.raises(InputError, match="brightness"):
        Photometric(brightness=-1)


def test_contrast_scales_the_distance_from_the_mean():
    x = np.random.default_rng(0).uniform(0.4, 0.6, (1, 8, 16, 1))
    y, _ = Photometric(0, 0.5)(x, np.zeros(1), np.random.default_rng(3))
    scale = (y - y.mean()) / (x - x.mean())
    assert np.ptp(scale) < 1e-9
    assert 0.5 <= scale.mean() <= 1.5
    assert abs(scale.mean() - 1) > 0.01


def test_compose_applies_in_order_with_one_stream_of_numbers():
    x = np.random.default_rng(0).random((2, 8, 16, 1))
    turn, jitter = RotateAugment(GRID, "yaw"), Photometric(0.3, 0, 0)
    both, _ = Compose(turn, jitter)(x, np.zeros(2), np.random.default_rng(5))
    rng = np.random.default_rng(5)
    expected, _ = jitter(*turn(x, np.zeros(2), rng), rng)
    assert np.array_equal(both, expected)
    assert not np.array_equal(both, x)
