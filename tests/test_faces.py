"""Reading the faces of a polyhedron, every grid from every other, face files and globes of them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from spherecnn.cli import main
from spherecnn.cli.pictures import read_picture, write_picture
from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, Equirect, Grid, Healpix, Icosphere, Perspective, Polyhedron, angles
from spherecnn.grids.equirect import cubic, linear
from spherecnn.grids.resample import resample, sampling_matrix
from spherecnn.viz import render_globe

REFERENCE = Path(__file__).parent / "reference" / "spherephd_erp.npz"
METHODS = ("nearest", "bilinear", "supersample")


def everywhere(count, seed=0):
    xyz = np.random.default_rng(seed).standard_normal((count, 3))
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True)


def inward(grid):
    """Normals (P, 3, 3) of the planes through the sides of each face."""
    corners = grid.vertices[grid.faces]
    return np.cross(corners, np.roll(corners, -1, axis=1))


def read(values, grid, xyz):
    sites, weights = grid.taps(xyz)
    return np.einsum("pt,pt...->p...", weights, values[sites])


# --- the face that holds a direction ------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(4))
def test_nearest_is_the_face_inside_whose_sides_a_direction_lies(level):
    grid, xyz = Polyhedron(level), everywhere(3000)
    inside = (np.einsum("fki,pi->pfk", inward(grid), xyz) > 0).all(axis=-1)
    assert np.all(inside.sum(axis=1) == 1)
    assert np.array_equal(grid.nearest(3.5 * xyz), inside.argmax(axis=1))


def test_nearest_at_a_fine_level():
    grid, xyz = Polyhedron(7), everywhere(50_000)
    found = grid.nearest(xyz)
    assert np.einsum("pki,pi->pk", inward(grid)[found], xyz).min() > -1e-15
    assert np.array_equal(grid.nearest(grid.xyz), np.arange(grid.sites))


def test_faces_are_found_as_often_as_they_are_large():
    grid, count = Polyhedron(2), 200_000
    expected = grid.area * count / (4 * np.pi)
    found = np.bincount(grid.nearest(everywhere(count)), minlength=grid.sites)
    assert np.abs((found - expected) / np.sqrt(expected)).max() < 4.5


def test_a_direction_on_a_side_or_corner_is_in_a_face_that_touches_it():
    grid = Polyhedron(2)
    corners = grid.vertices[grid.faces]
    for xyz in (corners[:, 0], corners[:, 0] + corners[:, 1], corners[:, 1] + 0.3 * corners[:, 2]):
        found = grid.nearest(xyz)
        assert np.einsum("pki,pi->pk", inward(grid)[found], xyz).min() > -1e-14


# --- linear between the centres -----------------------------------------------------------------------------


def test_taps_by_hand():
    """On the icosahedron: at a pole five faces alike, in the middle of a side its two, and in between."""
    grid = Polyhedron(0)
    beside = grid.neighbours[0, 1]  # across the left side, from the north pole to the left corner
    middle = grid.xyz[0] + grid.xyz[beside]
    between = middle + grid.vertices[0]
    matrix = sampling_matrix(grid, np.stack([grid.vertices[0], middle, between])).toarray()
    expected = np.zeros((3, 20))
    expected[0, :5] = 1 / 5
    expected[1, [0, beside]] = 1 / 2
    expected[2, :5] = 1 / 15  # a third, for the corner, spread over five
    expected[2, [0, beside]] += 1 / 3
    assert np.allclose(matrix, expected, atol=1e-14)


@pytest.mark.parametrize("level", [0, 1, 3, 5])
def test_taps_are_weights_and_exact_at_the_centres(level):
    grid, rng = Polyhedron(level), np.random.default_rng(0)
    sites, weights = grid.taps(everywhere(5000))
    assert sites.shape == weights.shape == (5000, 6)
    assert weights.min() >= 0
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-14)
    values = rng.standard_normal(grid.sites)
    assert np.array_equal(read(values, grid, grid.xyz), values)


def test_taps_do_not_jump():
    """Across sides, through corners, and across the lines between the centres of neighbours."""
    grid, rng = Polyhedron(2), np.random.default_rng(0)
    values, corners = rng.standard_normal(grid.sites), grid.vertices[grid.faces]
    t = rng.random((grid.sites, 1))
    lines = [t * corners[:, 0] + (1 - t) * corners[:, 1], corners[:, 2], t * grid.xyz + (1 - t) * corners[:, 1]]
    lines += [t * grid.xyz + (1 - t) * grid.xyz[grid.neighbours[:, k]] for k in range(3)]
    for xyz in lines:
        step = 1e-9 * rng.standard_normal(xyz.shape)
        assert np.abs(read(values, grid, xyz + step) - read(values, grid, xyz - step)).max() < 1e-6


def test_what_is_read_lies_in_the_direction_asked_for():
    """The centres themselves are read back: along the sphere the place is right to third order."""
    off = []
    for level in (3, 4, 5):
        grid, xyz = Polyhedron(level), everywhere(20_000)
        place = read(grid.xyz, grid, xyz)
        assert np.linalg.norm(place, axis=1).min() > 1 - 0.5 * grid.pixel_side**2
        off.append(np.abs(place / np.linalg.norm(place, axis=1, keepdims=True) - xyz).max())
    assert off[0] < 2e-4
    assert off[0] > 6 * off[1] > 36 * off[2]


# --- every grid from every other ----------------------------------------------------------------------------

GRIDS = [Equirect(32), Equirect(31, 45), Equirect(17, 34, pole_rows=True), Cubemap(16), Healpix(16)]
GRIDS += [Healpix(8, "nested"), Icosphere(3), Polyhedron(2), Polyhedron(3)]


@pytest.mark.parametrize(("source", "target"), list(product(GRIDS, GRIDS)), ids=repr)
def test_all_pairs(source, target):
    x = np.concatenate([np.ones((source.sites, 1)), source.xyz], axis=1).reshape(*source.shape, 4)
    # HEALPix reads a ring of four pixels for all about a pole
    rough = (0.25 if isinstance(source, Healpix) else 0.45 * source.pixel_side) * source.pixel_side
    bounds = {"nearest": source.pixel_side, "bilinear": rough, "supersample": rough + 0.2 * target.pixel_side**2}
    for method, bound in bounds.items():
        y = resample(x, source, target, method).reshape(-1, 4)
        assert np.allclose(y[:, 0], 1, atol=1e-12)  # no black faces
        if method != "supersample" or not isinstance(target, Equirect):  # the middle of a wedge is not its centre
            assert np.abs(y[:, 1:] - target.xyz).max() < bound


@pytest.mark.parametrize("target", [Polyhedron(5), Healpix(16), Icosphere(4)], ids=repr)
@pytest.mark.parametrize("grid", [Equirect, Cubemap, Polyhedron], ids=lambda g: g.__name__)
def test_centres_are_read_at_the_right_half_pixel(grid, target):
    """A picture of the coordinates: the error falls by four where pixels halve."""
    sizes = (2, 3, 4) if grid is Polyhedron else (16, 32, 64)
    errors = [np.abs(resample(g.xyz.reshape(*g.shape, 3), g, target) - target.xyz).max() for g in map(grid, sizes)]
    assert errors[0] > 3.4 * errors[1] > 11.5 * errors[2] > 0


@pytest.mark.parametrize(("down", "right"), [(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
def test_half_a_pixel_off_would_be_seen(down, right):
    source, target = Equirect(64), Polyhedron(4)
    row, column = np.indices(source.shape).reshape(2, -1)
    shifted = source.at((row + down, column + right))[0].reshape(64, 128, 3)
    right_one = np.abs(resample(source.xyz.reshape(64, 128, 3), source, target) - target.xyz).max()
    assert right_one < 0.3 * source.pixel_side**2
    assert np.abs(resample(shifted, source, target) - target.xyz).max() > 10 * right_one


@pytest.mark.parametrize("method", METHODS)
def test_north_is_up_and_east_is_right(method):
    picture = np.zeros((32, 64, 2))
    picture[:16, :, 0], picture[:, 32:, 1] = 1, 1
    grid = Polyhedron(4)
    y, away = resample(picture, Equirect(32), grid, method), 2.5 * Equirect(32).pixel_side
    clear = np.abs(grid.lat) > away
    assert np.allclose(y[clear, 0], grid.lat[clear] > 0, atol=1e-12)
    clear = (np.abs(grid.xyz[:, 1]) > away) & (np.abs(grid.lat) < 1)
    assert np.allclose(y[clear, 1], grid.lon[clear] > 0, atol=1e-12)


# --- averages over sites ------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "grid", [Equirect(8), Cubemap(6), Healpix(3), Healpix(4, "nested"), Icosphere(2), Polyhedron(2)], ids=repr
)
def test_parts_lie_in_their_sites_and_add_up(grid, parts):
    total = np.zeros(grid.sites)
    for xyz, area in grid.divide(parts):
        seen = area > 0
        if isinstance(grid, Icosphere):  # a third of a face: where its vertex counts most
            sites, weights = grid.taps(xyz[seen])
            assert np.array_equal(sites[np.arange(len(sites)), weights.argmax(axis=1)], np.flatnonzero(seen))
        else:
            assert np.array_equal(grid.nearest(xyz), np.arange(grid.sites))
        total += area
    assert np.allclose(total, grid.area, rtol=0.25 if parts == 1 else 0.12)


@pytest.mark.parametrize("target", [Polyhedron(2), Healpix(4), Healpix(5), Icosphere(2)], ids=repr)
def test_supersample_is_the_average_over_a_site(target):
    """Against a finer panorama, every pixel put into its site; reading centres alone misses what is fine."""
    source, fine = Equirect(48), Equirect(384)
    stripes = np.sin(11 * source.lon) * np.cos(source.lat) + np.cos(9 * source.lat)
    x = stripes.reshape(48, 96, 1)
    values = resample(x, source, fine).ravel()
    if isinstance(target, Icosphere):
        sites, weights = target.taps(fine.xyz)
        place = sites[np.arange(len(sites)), weights.argmax(axis=1)]
    else:
        place = target.nearest(fine.xyz)
    expected = np.bincount(place, values * fine.area) / np.bincount(place, fine.area)
    error, centres = (
        np.abs(resample(x, source, target, m)[:, 0] - expected).max() for m in ("supersample", "bilinear")
    )
    assert error < 0.06
    assert centres > 5 * error


def test_a_grid_without_parts_is_refused():
    class Dots(Grid):
        shape, lat, lon = (1,), np.zeros(1), np.zeros(1)

    with pytest.raises(InputError, match="can be cut into parts"):
        resample(np.ones((4, 8, 1)), Equirect(4), Dots(), "supersample")


# --- cubic --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "lines"), [("linear", linear), ("cubic", cubic)])
def test_reading_a_picture_equals_the_published_positions_and_values(name, lines):
    golden = np.load(REFERENCE)
    sites, weights = Equirect(64, 128).taps_at(golden["phi"] - 1, golden["theta"] - 1, lines)
    values = np.einsum("pt,pt->p", weights, golden["image"].ravel()[sites].astype(float))
    assert np.abs(values - golden[name]).max() < 1e-11


def test_published_positions_are_the_centres_of_faces():
    """Their rows run from south to north and are half a pixel off: row 1 lies where its north side should."""
    golden, grid = np.load(REFERENCE), Polyhedron(2)
    lat, _ = angles(grid.xyz[::4])
    assert np.allclose(golden["phi"], (lat + np.pi / 2) * 64 / np.pi, atol=1e-9)


CUBIC = [Equirect(24), Equirect(24, 47), Equirect(25, 48, pole_rows=True), Equirect(25, 45, pole_rows=True)]


@pytest.mark.parametrize("grid", CUBIC, ids=repr)
def test_cubic_over_seam_and_poles(grid):
    xyz = np.concatenate([everywhere(4000), [[0, 0, 1], [0, 0, -1], [-1, 0, 0], [-1, -1e-9, 0.5]]])
    x, y, z = grid.xyz.T
    values = np.stack([np.ones_like(x), x, z, x * y, y * z], axis=-1)
    x, y, z = (xyz / np.linalg.norm(xyz, axis=1, keepdims=True)).T
    expected = np.stack([np.ones_like(x), x, z, x * y, y * z], axis=-1)
    error = {m: np.abs(sampling_matrix(grid, xyz, m) @ values - expected).max(axis=0) for m in ("bilinear", "cubic")}
    assert error["cubic"][0] < 1e-13
    assert np.all(error["cubic"][1:] < 0.25 * error["bilinear"][1:])
    assert np.allclose(sampling_matrix(grid, grid.xyz, "cubic").toarray(), np.eye(grid.sites), atol=1e-12)


@pytest.mark.parametrize(
    "grid", [Equirect(1), Equirect(1, 1), Equirect(2, 3), Equirect(2, 2, pole_rows=True)], ids=repr
)
def test_cubic_on_tiny_pictures(grid):
    assert np.allclose(sampling_matrix(grid, everywhere(50), "cubic").sum(axis=1), 1)


@pytest.mark.parametrize("source", [Cubemap(4), Polyhedron(1), Icosphere(1), Healpix(2), Perspective(4, 4)], ids=repr)
def test_cubic_is_for_panoramas(source):
    with pytest.raises(InputError, match="expected an Equirect for method 'cubic'"):
        sampling_matrix(source, np.array([[1.0, 0, 0]]), "cubic")


# --- files and pictures -------------------------------------------------------------------------------------


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
        ("in.png --to equirect --level 2 --out o.png", "expected it with --to spherephd only"),
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
