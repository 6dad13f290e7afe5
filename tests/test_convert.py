"""`spherecnn convert`: panorama, cross, strip, folder and view files, every kind of pixels, refusals."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from spherecnn.cli import main
from spherecnn.cli.pictures import read_picture, write_picture
from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, Equirect, Perspective, fold, unfold
from spherecnn.grids.cubemap import FACES
from spherecnn.grids.resample import resample
from spherecnn.viz import cubemap


def call(*args, code=0):
    """Run a command; return what it said."""
    result = CliRunner().invoke(main, ["convert", *map(str, args)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def refusal(*args):
    """Run a command that must be refused; return its one sentence."""
    result = call(*args, code=2)
    assert result.stderr.startswith("spherecnn: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.rstrip().endswith(".")
    return result.stderr


def picture(shape, channels=3, dtype=np.uint8):
    """Smooth and coloured, opaque where it has alpha."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    waves = [np.sin(y / 5) * np.cos(2 * np.pi * x / shape[1] * k) for k in range(1, channels + 1)]
    most = np.iinfo(dtype).max
    pixels = ((np.stack(waves, axis=-1) + 1) / 2.1 * most).astype(dtype)
    if channels in (2, 4):
        pixels[..., -1] = most
    return pixels


@pytest.fixture
def panorama(tmp_path):
    """A panorama of 24 x 48 and its pixels."""
    pixels = picture((24, 48))
    write_picture(tmp_path / "in.png", pixels)
    return tmp_path / "in.png", pixels


KINDS = [(1, np.uint8), (2, np.uint8), (3, np.uint8), (4, np.uint8), (1, np.uint16)]


@pytest.mark.parametrize(("channels", "dtype"), KINDS)
def test_channels_and_bits_stay(channels, dtype, tmp_path):
    pixels = picture((16, 32), channels, dtype)
    write_picture(tmp_path / "in.png", pixels)
    said = call(tmp_path / "in.png", "--to", "cubemap", "--size", 8, "--out", tmp_path / "cross.png").stdout
    assert f"of {8 * np.dtype(dtype).itemsize} bits" in said
    cross = read_picture(tmp_path / "cross.png")
    assert (cross.shape, cross.dtype) == ((24, 32, channels), dtype)
    expected = resample(pixels.astype(float), Equirect(16), Cubemap(8))
    assert np.abs(fold(cross) - expected).max() <= 0.5 + 1e-6 * np.iinfo(dtype).max
    call(tmp_path / "cross.png", "--to", "equirect", "--out", tmp_path / "back.png")
    back = read_picture(tmp_path / "back.png")
    assert (back.shape, back.dtype) == (pixels.shape, dtype)
    assert np.abs(back.astype(float) - pixels).mean() < 0.03 * np.iinfo(dtype).max


def test_layouts_go_into_each_other_to_the_bit(panorama, tmp_path):
    file, _ = panorama
    call(file, "--to", "cubemap", "--layout", "folder", "--out", tmp_path / "faces")
    assert sorted(p.stem for p in (tmp_path / "faces").iterdir()) == sorted(FACES)
    call(tmp_path / "faces", "--to", "cubemap", "--layout", "strip", "--out", tmp_path / "strip.png")
    call(tmp_path / "strip.png", "--to", "cubemap", "--out", tmp_path / "cross.png")
    faces = np.stack([read_picture(tmp_path / "faces" / f"{name}.png") for name in FACES])
    assert faces.shape == (6, 12, 12, 3)
    assert np.array_equal(read_picture(tmp_path / "strip.png"), unfold(faces, "strip"))
    assert np.array_equal(read_picture(tmp_path / "cross.png"), unfold(faces, "cross"))
    results = []
    for source in ("faces", "strip.png", "cross.png"):
        call(tmp_path / source, "--to", "equirect", "--height", 20, "--out", tmp_path / "back.png")
        results.append(read_picture(tmp_path / "back.png"))
    assert results[0].shape == (20, 40, 3)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_a_view_in_degrees(panorama, tmp_path):
    file, pixels = panorama
    looking = ("--lat", 20, "--lon", -100, "--roll", 15, "--fov", 70, "--height", 9, "--width", 12)
    call(file, "--to", "perspective", *looking, "--sampling", "bilinear", "--out", tmp_path / "view.png")
    view = Perspective(9, 12, 70, *np.radians([20, -100, 15]))
    expected = resample(pixels, Equirect(24), view)
    assert np.abs(read_picture(tmp_path / "view.png") - expected).max() <= 0.5 + 1e-4
    call(file, "--to", "perspective", "--width", 12, "--out", tmp_path / "view.png")
    assert read_picture(tmp_path / "view.png").shape == (12, 12, 3)


def test_nearest_keeps_labels(tmp_path):
    labels = np.random.default_rng(0).choice([3, 200], (16, 32, 1)).astype(np.uint8)
    write_picture(tmp_path / "in.png", labels)
    call(
        tmp_path / "in.png",
        "--to",
        "cubemap",
        "--layout",
        "strip",
        "--sampling",
        "nearest",
        "--out",
        tmp_path / "s.png",
    )
    assert set(np.unique(read_picture(tmp_path / "s.png"))) == {3, 200}


def test_clear_pixels_do_not_bleed(tmp_path):
    """Red beside clear green: what comes out is red wherever it is seen."""
    pixels = np.zeros((16, 32, 4), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = [255, 0, 0, 255], [0, 255, 0, 0]
    write_picture(tmp_path / "in.png", pixels)
    call(tmp_path / "in.png", "--to", "cubemap", "--size", 4, "--layout", "strip", "--out", tmp_path / "s.png")
    strip = read_picture(tmp_path / "s.png")
    assert 0 < strip[..., 3].mean() < 255
    seen = strip[strip[..., 3] > 0]
    assert np.all(seen[:, 0] >= 254)
    assert np.all(seen[:, 1] == 0)


def test_a_smaller_panorama_from_a_cubemap_and_an_odd_one(panorama, tmp_path):
    file, _ = panorama
    call(file, "--to", "cubemap", "--out", tmp_path / "cross.png")
    call(tmp_path / "cross.png", "--to", "equirect", "--height", 7, "--width", 15, "--out", tmp_path / "odd.png")
    assert read_picture(tmp_path / "odd.png").shape == (7, 15, 3)
    call(tmp_path / "odd.png", "--to", "cubemap", "--size", 3, "--out", tmp_path / "small.jpg")
    assert read_picture(tmp_path / "small.jpg").shape == (9, 12, 3)


def test_palettes_and_masks_are_read(tmp_path):
    grey = picture((8, 16), 1)[..., 0]
    Image.fromarray(grey).convert("P").save(tmp_path / "p.png")
    Image.fromarray(grey > 99).save(tmp_path / "1.png")
    assert read_picture(tmp_path / "p.png").shape == (8, 16, 3)
    assert set(np.unique(read_picture(tmp_path / "1.png"))) == {0, 255}


def test_colours_of_16_bits_are_told(tmp_path):
    """A PNG written by hand: Pillow makes none of 16-bit colours."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + np.full((4, 3), 0x8001, ">u2").tobytes() for _ in range(2))
    head = struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)
    file = tmp_path / "deep.png"
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert "upper 8" in call(file, "--to", "cubemap", "--out", tmp_path / "out.png").stdout
    assert np.all(fold(read_picture(tmp_path / "out.png")) == 0x80)


def test_a_photograph_is_no_cross(tmp_path):
    write_picture(tmp_path / "photo.png", picture((30, 40)))
    assert "say --from" in refusal(tmp_path / "photo.png", "--to", "equirect", "--out", tmp_path / "o.png")
    call(tmp_path / "photo.png", "--from", "cross", "--to", "equirect", "--out", tmp_path / "o.png")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("nowhere.png --to cubemap --out o.png", "nowhere.png"),
        ("in.png --to dodecahedron --out o.png", "dodecahedron"),
        ("in.png --to cubemap", "Missing option '--out'"),
        ("in.png --to cubemap --size 0 --out o.png", "--size"),
        ("in.png --to cubemap --out o.tif", "expected a name in .jpg, .jpeg, .png"),
        ("in.png --to cubemap --layout folder --out o.png", "expected the name of a folder"),
        ("in.png --to equirect --size 4 --out o.png", "expected it with --to cubemap or --to globe only"),
        ("in.png --to cubemap --fov 70 --out o.png", "expected it with --to perspective only"),
        ("in.png --to perspective --fov 180 --out o.png", "below 180"),
        ("in.png --to perspective --lat 91 --out o.png", "--lat"),
        ("in.png --to perspective --lon nan --out o.png", "finite angle"),
        ("in.png --from cross --to equirect --out o.png", "expected 3n x 4n pixels"),
        ("in.png --from strip --to equirect --out o.png", "expected n x 6n pixels"),
        ("in.png --from folder --to equirect --out o.png", "is a file"),
        ("empty --from equirect --to equirect --out o.png", "is a folder"),
        ("empty --to equirect --out o.png", "no pictures named front"),
        ("uneven --to equirect --out o.png", "expected six equal squares"),
        ("cut.png --to cubemap --out o.png", "cut.png cannot be read as a picture"),
        ("tall.png --to cubemap --out o.png", "expected twice as wide as high"),
        ("clear.png --to cubemap --out o.jpg", "without alpha"),
        ("in.png --to cubemap --out nowhere/o.png", "could not be written"),
    ],
)
def test_refusals(options, says, panorama, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, pixels = panorama
    (tmp_path / "cut.png").write_bytes(file.read_bytes()[:-300])
    write_picture(tmp_path / "tall.png", picture((20, 10)))
    write_picture(tmp_path / "clear.png", picture((8, 16), 4))
    (tmp_path / "empty").mkdir()
    (tmp_path / "uneven").mkdir()
    for i, name in enumerate(FACES):
        write_picture(tmp_path / "uneven" / f"{name}.png", pixels[:8, : 8 + i // 5])
    assert says in refusal(*options.split())
    assert not list(tmp_path.glob("o.*"))


def test_cubemap_drawn_unfolded(tmp_path):
    """Faces stand where the page says, and what has no face is white."""
    faces = np.zeros((6, 4, 4, 3))
    faces[:, :, :, 0] = np.arange(6)[:, None, None] / 5
    drawn = np.asarray(Image.open(cubemap(faces, tmp_path / "c.png", graticule=False)).convert("RGB")).astype(int)
    rows, columns = (np.flatnonzero((drawn[..., 1] < 100).any(axis=axis)) for axis in (1, 0))
    middle_rows = rows[0] + np.array([1, 3, 5]) * np.ptp(rows) // 6
    middle_columns = columns[0] + np.array([1, 3, 5, 7]) * np.ptp(columns) // 8
    seen = drawn[np.ix_(middle_rows, middle_columns)]
    assert seen[..., 1].tolist() == [[255, 0, 255, 255], [0, 0, 0, 0], [255, 0, 255, 255]]
    assert (seen[1, :, 0] / 51).tolist() == [3, 0, 1, 2]
    assert (seen[[0, 2], 1, 0] / 51).tolist() == [4, 5]
    with pytest.raises(InputError, match=r"expected \(6, n, n, C\)"):
        cubemap(faces[:5], tmp_path / "no.png")
    field = cubemap(np.random.default_rng(0).random((6, 4, 4)), tmp_path / "f.png")
    assert np.ptp(np.asarray(Image.open(field).convert("RGB")).astype(int)) > 100
