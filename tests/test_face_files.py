"""Files of faces through `spherecnn convert`, what is refused, and globes of them."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from spherecnn.cli import main
from spherecnn.cli.pictures import read_picture, write_picture
from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, Equirect, Healpix, Icosphere, Perspective, Polyhedron
from spherecnn.grids.resample import resample
from spherecnn.viz import render_globe


def call(*args, code=0):
    result = CliRunner().invoke(main, ["convert", *map(str, args)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def picture(height, channels=3, dtype=np.uint8):
    grid = Equirect(height)
    waves = np.stack([grid.xyz[:, k % 3] * (1 - 0.2 * k) for k in range(channels)], axis=-1)
    most = np.iinfo(dtype).max
    pixels = ((waves + 1) / 2.1 * most).astype(dtype).reshape(*grid.shape, channels)
    if channels in (2, 4):
        pixels[..., -1] = most
    return pixels


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (4, np.uint8), (1, np.uint16)])
def test_there_and_back(channels, dtype, tmp_path):
    pixels, grid = picture(64, channels, dtype), Polyhedron(4)
    write_picture(tmp_path / "in.png", pixels)
    said = call(tmp_path / "in.png", "--to", "spherephd", "--level", 4, "--out", tmp_path / "f.npz").stdout
    assert "Polyhedron(4)" in said
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert (str(file["kind"]), int(file["level"])) == ("polyhedron", 4)
        values = file["values"]
    assert (values.shape, values.dtype) == ((grid.sites, channels), dtype)
    expected = resample(pixels.astype(float), Equirect(64), grid, "supersample")
    assert np.abs(values - expected).max() <= 0.5 + 1e-6 * np.iinfo(dtype).max
    call(tmp_path / "f.npz", "--to", "equirect", "--out", tmp_path / "back.png")
    back = read_picture(tmp_path / "back.png")
    assert (back.shape, back.dtype) == (pixels.shape, dtype)
    assert np.abs(back.astype(float) - pixels).max() < 0.01 * np.iinfo(dtype).max
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back.png", "f.npz", "in.png"]


def test_faces_to_everything_else(tmp_path):
    write_picture(tmp_path / "in.png", picture(32))
    call(tmp_path / "in.png", "--to", "spherephd", "--out", tmp_path / "f.npy")
    values = np.load(tmp_path / "f.npy", allow_pickle=False)
    assert values.shape == (1280, 3)  # the level with about as many faces as there are pixels, 2048
    call(tmp_path / "f.npy", "--from", "spherephd", "--to", "spherephd", "--out", tmp_path / "same.npz")
    with np.load(tmp_path / "same.npz") as file:
        assert np.array_equal(file["values"], values)
    for to, given, grid in (
        ("cubemap", ("--layout", "strip"), None),
        ("perspective", ("--lat", 30, "--width", 20), Perspective(20, 20, 90, np.radians(30))),
        ("equirect", ("--height", 20, "--width", 41), Equirect(20, 41)),
    ):
        call(tmp_path / "f.npy", "--to", to, *given, "--sampling", "bilinear", "--out", tmp_path / "o.png")
        made = read_picture(tmp_path / "o.png")
        if grid is None:
            assert made.shape == (16, 96, 3)
        else:
            assert np.abs(made - resample(values, Polyhedron(3), grid)).max() <= 0.5 + 1e-4


def test_labels_stay_and_cubic_is_read(tmp_path):
    labels = np.random.default_rng(0).choice([3, 200], (16, 32, 1)).astype(np.uint8)
    write_picture(tmp_path / "in.png", labels)
    nearest = ("--to", "spherephd", "--level", 3, "--sampling", "nearest", "--out", tmp_path / "f.npz")
    call(tmp_path / "in.png", *nearest)
    with np.load(tmp_path / "f.npz") as file:
        assert set(np.unique(file["values"])) == {3, 200}
    call(tmp_path / "in.png", *nearest[:5], "cubic", *nearest[6:])
    expected = np.rint(resample(labels.astype(float), Equirect(16), Polyhedron(3), "cubic")).clip(0, 255)
    with np.load(tmp_path / "f.npz") as file:
        assert np.abs(file["values"] - expected).max() <= 1


def test_a_globe_of_a_file(tmp_path):
    """The northern faces red, the others blue, seen from the east and from above."""
    grid = Polyhedron(3)
    np.save(tmp_path / "f.npy", np.where(grid.lat[:, None] > 0, [255, 0, 0], [0, 0, 255]).astype(np.uint8))
    call(tmp_path / "f.npy", "--to", "globe", "--lon", 90, "--size", 60, "--out", tmp_path / "g.png")
    seen = read_picture(tmp_path / "g.png")
    assert seen.shape == (60, 60, 4)
    assert seen[[10, 50, 0], [30, 30, 0]].tolist() == [[255, 0, 0, 255], [0, 0, 255, 255], [*seen[0, 0, :3], 0]]
    call(tmp_path / "f.npy", "--to", "globe", "--lat", 90, "--edges", "--size", 60, "--out", tmp_path / "g.jpg")
    seen = np.asarray(Image.open(tmp_path / "g.jpg")).astype(int)
    assert np.all(seen[0, 0] > 240)
    assert np.median(seen[10:50, 20:40, 0]) > 100 > 60 > seen[10:50, 20:40, 2].mean()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cut.npz", "cut", "cannot be read as faces"),
        ("text.npz", b"hello", "it is no such file, or holds Python objects"),
        ("empty.npy", b"", "cannot be read as faces"),
        ("head.npy", b"\x93NUMPY\x01\x00\x0a\x00{'descr':\n(", "cannot be read as faces"),
        ("other.npz", {"x": np.ones(3)}, "expected plain arrays named values, kind and level"),
        ("object.npz", {"values": np.array([{}, 1], object), "kind": "a", "level": 1}, "holds Python objects"),
        ("few.npz", {"values": np.ones((79, 3), np.uint8), "kind": "polyhedron", "level": 1}, "(79, 3) and uint8"),
        ("float.npz", {"values": np.ones((80, 3)), "kind": "polyhedron", "level": 1}, "float64"),
        ("wide.npz", {"values": np.ones((80, 7), np.uint8), "kind": "polyhedron", "level": 1}, "C from 1 to 4"),
        ("level.npz", {"values": np.ones((80, 3), np.uint8), "kind": "polyhedron", "level": 2}, "'level': 2"),
        ("kind.npz", {"values": np.ones((80, 3), np.uint8), "kind": "healpix", "level": 1}, "'healpix'"),
        ("flat.npy", np.ones(80, np.uint8), "shape (80,)"),
    ],
)
def test_damaged_and_foreign_files(name, content, says, tmp_path):
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(file, **content)
    elif isinstance(content, np.ndarray):
        np.save(file, content)
    else:
        np.savez(file, values=np.ones((80, 3), np.uint8), kind="polyhedron", level=1)
        file.write_bytes(file.read_bytes()[:-100])
    result = call(file, "--to", "equirect", "--out", tmp_path / "o.png", code=2)
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("in.png --to spherephd --level 9 --out o.npz", "--level"),
        ("in.png --to spherephd --level 2 --out o.png", "expected a name in .npz, .npy"),
        ("in.png --to equirect --level 2 --out o.png", "expected it with --to spherephd or --to icosphere only"),
        ("in.png --to cubemap --edges --out o.png", "expected it with --to globe only"),
        ("in.png --from spherephd --to equirect --out o.png", "expected a name in .npz, .npy"),
        ("f.npz --from equirect --to cubemap --out o.png", "cannot be read as a picture"),
        ("f.npz --to equirect --sampling cubic --out o.png", "expected an Equirect for method 'cubic'"),
        ("f.npz --to globe --out o.npz", "expected a name in .jpg"),
        ("in.png --to spherephd --level 2 --out nowhere/o.npz", "could not be written"),
        ("missing.npz --to equirect --out o.png", "missing.npz"),
    ],
)
def test_refusals(options, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "in.png", picture(8))
    call("in.png", "--to", "spherephd", "--level", 1, "--out", "f.npz")
    result = call(*options.split(), code=2)
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("o.*"))


@pytest.mark.parametrize("grid", [Polyhedron(3), Healpix(8), Icosphere(3), Cubemap(12)], ids=repr)
@pytest.mark.parametrize("smooth", [None, True])
def test_globes_of_other_grids(grid, smooth):
    """East is to the right, north is up, from a view aside."""
    colour = np.stack([grid.xyz[:, 1] > 0, grid.xyz[:, 2] > 0, np.zeros(grid.sites)], axis=-1)
    view = render_globe(colour.reshape(*grid.shape, 3), grid, 0, 0, size=40, smooth=smooth)
    corners = view[[12, 12, 28, 28], [12, 28, 12, 28], :2]
    assert np.allclose(corners, [[0, 1], [1, 1], [0, 0], [1, 0]])
    field = render_globe(grid.xyz[:, 2].reshape(grid.shape), grid, 0, 0, size=40, smooth=smooth, cmap="gray")
    column = field[4:36, 20, 0]
    assert column[0] > 0.8
    assert column[-1] < 0.2
    assert np.all(np.diff(column) <= 1e-6)


def test_faces_are_seen_as_triangles():
    """From above the pole of the icosahedron: five triangles of one colour each, dark lines only between them."""
    grid = Polyhedron(0)
    grey = np.linspace(0.5, 0.9, 20)[:, None]
    view = render_globe(grey, grid, 90, 0, size=200)[..., 0]
    near = view[60:140, 60:140]
    flat = np.isclose(near[..., None], grey[:5, 0], atol=1e-6).any(axis=-1)
    assert len(np.unique(near[flat].round(5))) == 5
    assert flat.mean() > 0.95
    lined = render_globe(grey, grid, 90, 0, size=200, edges=True)[60:140, 60:140, 0]
    assert 0.01 < (lined < 0.95 * near).mean() < 0.08
    assert np.allclose(lined[~(lined < near - 1e-6)], near[~(lined < near - 1e-6)])


def test_globe_of_wrong_values():
    with pytest.raises(InputError, match=r"expected \(80\) or \(80, C\)"):
        render_globe(np.ones((20, 3)), Polyhedron(1), 0, 0)
