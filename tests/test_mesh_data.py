"""Data on mesh vertices: spherical MNIST, pickles that are not unpickled, 2D-3D-S and climate."""

from __future__ import annotations

import gzip
import os
import pickle
import zipfile

import numpy as np
import pytest
from scipy import sparse
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import map_coordinates

import spherecnn as sc
from spherecnn.datasets import (
    DigitProjection,
    MeshMnist,
    make_2d3ds,
    make_climate,
    make_digits,
    make_mnist_archive,
    mesh_2d3ds,
    mesh_climate,
    mesh_mnist,
    read_mesh_mnist,
    read_pickled_arrays,
    rooms_weight,
)
from spherecnn.errors import InputError

Icosphere = sc.grids.Icosphere
BLACK = np.float32((0 - 0.1307) / 0.3081)
RNG = np.random.default_rng(0)


# --- spherical MNIST ---------------------------------------------------------------------------------------


def on_sphere(row, column):
    """Where the light through the middle of a pixel leaves the sphere: solved on the ray, then turned to its place."""
    q = np.array([(row + 0.5) / 28 * 3 - 1.5, (column + 0.5) / 28 * 3 - 1.5, 0.0])
    source = np.array([0, 0, 2.001])
    along, centre = q - source, source - np.array([0, 0, 1.0])
    a, b, c = along @ along, 2 * along @ centre, centre @ centre - 1
    x, y, z = source + along * (-b + np.sqrt(b * b - 4 * a * c)) / (2 * a) - np.array([0, 0, 1.0])
    return np.array([-x, z, -y])


@pytest.mark.parametrize(("row", "column"), [(14, 14), (6, 20), (22, 9), (2, 2)])
def test_a_pixel_lies_where_the_light_through_it_meets_the_sphere(row, column):
    grid = Icosphere(5)
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, row, column] = 255
    x = DigitProjection(grid, "direct")(image)[0, :, 0] - BLACK
    centre = x @ grid.xyz / np.linalg.norm(x @ grid.xyz)
    assert centre @ on_sphere(row, column) > np.cos(np.deg2rad(0.6))


def test_seen_from_outside_digits_are_a_quarter_turn_clockwise():
    """At lat 0, lon -90 east is +x and north is +z: what is above in the picture lies east, what is right south."""
    above, right = on_sphere(4, 14), on_sphere(14, 23)
    assert above[0] > 0.5
    assert abs(above[2]) < 0.1
    assert right[2] < -0.5
    assert abs(right[0]) < 0.1


def test_the_picture_covers_two_fifths_of_the_sphere():
    xyz = RNG.normal(size=(200_000, 3))
    xyz /= np.linalg.norm(xyz, axis=1)[:, None]
    share = (np.abs(xyz[:, :2] * (2.001 / (1.001 - xyz[:, 2:]))).max(axis=1) < 1.5).mean()
    grid = Icosphere(5)
    covered = DigitProjection(grid, "direct").weights.sum(axis=1) @ grid.area / (4 * np.pi)
    assert covered == pytest.approx(share, abs=0.005)


def published(images, xyz):
    """The published way, step by step, with the taps of its first reading where they belong."""
    steps = np.arange(120)
    colat, lon = np.meshgrid(steps * np.pi / 120, steps * np.pi / 60, indexing="ij")
    x, y, z = np.sin(colat) * np.cos(lon), np.sin(colat) * np.sin(lon), np.cos(colat) + 1
    t = -z / (z - 2.001)
    places = [(t * q + q + 1.5) / 3 * 28 for q in (x, y)]
    values = []
    for image in images:
        seen = map_coordinates(image.astype(float), places, order=1, mode="grid-constant")
        seen = ((seen - seen.min()) / (seen.max() - seen.min()) * 255).astype(np.uint8)
        wide = np.concatenate([seen, seen[:, :1]], axis=1)
        read = RegularGridInterpolator((np.linspace(-np.pi / 2, np.pi / 2, 120), np.linspace(-np.pi, np.pi, 121)), wide)
        turned = xyz @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
        lat = np.arctan2(turned[:, 2], np.hypot(turned[:, 0], turned[:, 1]))
        values.append(read(np.stack([lat, np.arctan2(turned[:, 1], turned[:, 0])], axis=1)))
    return (np.stack(values) / 255 - 0.1307) / 0.3081


def test_published_digits_are_those_of_the_published_steps():
    grid = Icosphere(4)
    images = RNG.integers(0, 256, (3, 28, 28)).astype(np.uint8)
    difference = np.abs(DigitProjection(grid)(images)[..., 0] - published(images, grid.xyz))
    level = 1 / 255 / 0.3081
    assert difference.max() < 1.01 * level  # whole numbers may be cut on the other side of a rounding error
    assert (difference > 1e-5).mean() < 0.01


def test_published_digits_have_the_middle_of_the_picture_opposite_and_direct_ones_have_not():
    grid = Icosphere(4)
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 12:16, 12:16] = 255
    opposite = int(grid.nearest(np.array([[0.0, 1.0, 0.0]]))[0])
    assert DigitProjection(grid, "published")(image)[0, opposite, 0] > 2.8
    assert DigitProjection(grid, "direct")(image)[0, opposite, 0] == pytest.approx(BLACK)


@pytest.mark.parametrize("projection", ["published", "direct"])
def test_a_black_picture_is_black(projection):
    x = DigitProjection(Icosphere(2), projection)(np.zeros((2, 28, 28), np.uint8))
    np.testing.assert_allclose(x, BLACK, rtol=1e-6)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    make_digits(folder, samples=(60, 20))
    return folder


@pytest.mark.parametrize("projection", ["published", "direct"])
def test_digits_are_the_same_read_at_once_and_in_batches(digits, projection):
    pick = np.array([5, 0, 41])
    lazy = mesh_mnist(digits, Icosphere(3), projection=projection)
    x, y = lazy.batch(pick)
    again, same = mesh_mnist(digits, Icosphere(3), projection=projection).load(progress=False).batch(pick)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, same)
    assert (len(lazy), x.shape, x.dtype, lazy.classes[-1]) == (60, (3, 642, 1), np.float32, "9")
    np.testing.assert_array_equal(lazy.flat.batch(pick)[0], lazy.images[pick])


def test_digits_need_pictures_of_one_size_and_a_known_projection(digits):
    with pytest.raises(InputError, match=r"have shape \(2, 20, 20\); expected \(n, 28, 28\)"):
        DigitProjection(Icosphere(2))(np.zeros((2, 20, 20)))
    with pytest.raises(InputError, match="expected one of 'published', 'direct'"):
        mesh_mnist(digits, Icosphere(2), projection="gnomonic")
    with pytest.raises(InputError, match="1 pictures and 2 labels"):
        MeshMnist(np.zeros((1, 28, 28)), np.array([0, 1]), Icosphere(2))


# --- pickles -----------------------------------------------------------------------------------------------


class Harmful:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.fixture(scope="module")
def archive(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "mnist_ico3.zip"
    make_mnist_archive(path, *(mesh_mnist(digits, Icosphere(3), split=split) for split in ("train", "test")))
    return path


def test_the_published_archive_is_read_as_what_it_was_made_of(archive, digits):
    parts = read_mesh_mnist(archive, Icosphere(3))
    for split, count in (("train", 60), ("test", 20)):
        x, y = parts[split].batch(np.arange(count))
        expected, labels = mesh_mnist(digits, Icosphere(3), split=split).batch(np.arange(count))
        np.testing.assert_allclose(x, expected, atol=2e-5)
        np.testing.assert_array_equal(y, labels)
        assert (len(parts[split]), x.dtype, y.dtype) == (count, np.float32, np.int64)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("packed", [False, True])
def test_arrays_are_read_from_every_protocol(tmp_path, protocol, packed):
    arrays = {
        "C": RNG.normal(size=(3, 4)).astype(np.float32),
        "F": np.asfortranarray(RNG.normal(size=(3, 4))),
        "big": np.arange(5, dtype=">i4"),
        "none": np.zeros((0, 3)),
        "text": np.array(["ab", "c"]),
        "true": np.array([True, False]),
        "number": np.float64(2.5),
        "more": (np.arange(2), [1, "x", None]),
        "coo": sparse.coo_matrix(np.array([[0, 2.0], [1, 0]])),
        "csc": sparse.csc_matrix(np.array([[0, 2.0, 0], [1, 0, 3]])),
    }
    path = tmp_path / "arrays.pkl"
    content = pickle.dumps(arrays, protocol=protocol)
    path.write_bytes(gzip.compress(content) if packed else content)
    found = read_pickled_arrays(path)
    assert list(found) == list(arrays)
    for name in ("C", "F", "big", "none", "text", "true", "number"):
        np.testing.assert_array_equal(found[name], arrays[name])
        assert found[name].dtype == arrays[name].dtype.newbyteorder("=")
    np.testing.assert_array_equal(found["more"][0], [0, 1])
    assert found["more"][1] == [1, "x", None]
    for name in ("coo", "csc"):
        np.testing.assert_array_equal(found[name].toarray(), arrays[name].toarray())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ((os.system, ("touch {}",)), r"posix\.system|nt\.system"),
        ((eval, ("open('{}', 'w')",)), r"builtins\.eval"),
        ((pickle.loads, (b"",)), r"_pickle\.loads|pickle\.loads"),
        ((np.load, ("{}",)), r"numpy\.load"),
        ((np.fromfile, ("{}",)), "numpy"),
        ((getattr, ("a", "join")), r"builtins\.getattr"),
    ],
)
def test_a_file_that_asks_for_anything_else_is_refused_and_runs_nothing(tmp_path, call, said):
    victim, path = tmp_path / "made", tmp_path / "harmful.zip"
    function, words = call
    words = tuple(w.format(victim) if isinstance(w, str) else w for w in words)
    path.write_bytes(gzip.compress(pickle.dumps({"train_inputs": Harmful(function, words)})))
    with pytest.raises(InputError, match=f"asks for ({said}).*expected nothing but arrays"):
        read_pickled_arrays(path)
    assert not victim.exists()


def test_an_array_of_objects_and_bytes_beyond_its_shape_are_refused(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"x": np.array([None, {}], object)}))
    with pytest.raises(InputError, match="an array of 'O8', and not of numbers"):
        read_pickled_arrays(path)
    content = pickle.dumps({"x": np.arange(4)}, protocol=4).replace(b"K\x04\x85", b"K\x09\x85")
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"shape \(9,\) has 32 bytes"):
        read_pickled_arrays(path)


def test_what_a_pickle_shares_is_made_once(tmp_path):
    """Lists that hold one list twice, forty times over: 2^40 of them if each was made anew."""
    nested = [np.arange(3)]
    for _ in range(40):
        nested = [nested, nested]
    (tmp_path / "nested.pkl").write_bytes(pickle.dumps({"x": nested}))
    found = read_pickled_arrays(tmp_path / "nested.pkl")["x"]
    assert found[0] is found[1]


def test_a_pickle_does_not_say_how_much_room_is_made(tmp_path):
    """An object numbered 2^31 - 1, for which unpicklers in C make room for as many."""
    (tmp_path / "sparse.pkl").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    assert read_pickled_arrays(tmp_path / "sparse.pkl") == {}


def test_one_array_named_as_an_archive_is_told(tmp_path):
    from spherecnn.datasets.shape_folder import read_projection

    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, np.zeros((3, 4)))
    with pytest.raises(InputError, match="it is one array"):
        read_projection(tmp_path / "a.npz", ["values"])


def test_no_attribute_of_the_reader_can_be_set(tmp_path):
    """BUILD on what a name stands for, in place of an object."""
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}X\x05\x00\x00\x00stateK\x01s\x86b.")
    with pytest.raises(InputError, match="no whole pickle of arrays"):
        read_pickled_arrays(path)


def test_damaged_archives_are_told_in_one_sentence(tmp_path, archive):
    whole = archive.read_bytes()
    path = tmp_path / "a.zip"
    for content, said in (
        (whole[: len(whole) // 2], "damaged gzip file"),
        (gzip.compress(gzip.decompress(whole)[:5000]), "no whole pickle of arrays"),
        (b"", "no whole pickle"),
        (b"no pickle at all", "no whole pickle"),
        (pickle.dumps([1, 2]), "holds a list; expected a dictionary"),
        (pickle.dumps({"inputs": np.zeros(3)}), "has no array train_inputs but inputs"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=said) as caught:
            read_mesh_mnist(path, Icosphere(3))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_mesh_mnist(tmp_path / "none.zip", Icosphere(3))
    with pytest.raises(InputError, match=r"shape \(60, 642\).*\(n, 162\)"):
        read_mesh_mnist(archive, Icosphere(2))


# --- 2D-3D-S and climate -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rooms")
    make_2d3ds(folder, Icosphere(3), samples=2)
    return folder


@pytest.fixture(scope="module")
def climate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("climate")
    make_climate(folder, Icosphere(3), samples=(3, 2, 1))
    return folder


@pytest.mark.parametrize(("fold", "test"), [(1, ["5a", "5b"]), (2, ["2", "4"]), (3, ["1", "3", "6"])])
def test_folds_are_the_published_areas(rooms, fold, test):
    def areas(split):
        return {path.parent.name for path in mesh_2d3ds(rooms, Icosphere(2), fold=fold, split=split).files}

    assert areas("test") == {f"area_{a}" for a in test}
    assert areas("train") == {f"area_{a}" for a in ("1", "2", "3", "4", "5a", "5b", "6")} - areas("test")


def test_rooms_are_the_first_vertices_of_their_file_standardised(rooms):
    data = mesh_2d3ds(rooms, Icosphere(2), fold=1)
    x, y = data.batch(np.array([3, 0]))
    with np.load(data.files[3]) as found:
        values, labels = found["data"], found["labels"]
    assert (values.shape, labels.shape, values.dtype) == ((642, 4), (642,), np.float32)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((2, 162, 4), np.float32, (2, 162), np.int64)
    np.testing.assert_allclose(x[0, :, 3], (values[:162, 3] - 1.0961773) / 0.75536704, rtol=1e-5)
    np.testing.assert_allclose(x[0, :, 0], (values[:162, 0] - 0.4974898) / 0.23762763, atol=1e-6)
    np.testing.assert_array_equal(y[0], labels[:162])
    assert mesh_2d3ds(rooms, Icosphere(2), depth=False).batch(np.array([0]))[0].shape == (1, 162, 3)
    assert values[:, :3].min() >= 0
    assert values[:, :3].max() <= 1
    assert 0 < values[:, 3].min() <= values[:, 3].max() <= 5


def test_weights_of_rooms_are_the_published_ones():
    weight = rooms_weight()
    assert weight[[0, 14]].tolist() == [0, 0]
    assert weight[12] == pytest.approx(1 / np.log(1.02 + 0.2625963729249342))
    assert weight[10] == pytest.approx(44.91, abs=0.01)


def test_climate_files_have_the_published_layout_and_lists(climate):
    parts = {split: mesh_climate(climate, Icosphere(3), split=split) for split in ("train", "val", "test")}
    assert [len(part) for part in parts.values()] == [3, 2, 1]
    assert not set(parts["train"].files) & set(parts["val"].files)
    with np.load(parts["val"].files[1]) as found:
        values, labels = found["data"], found["labels"]
    assert (values.shape, labels.shape) == ((16, 642), (3, 642))
    x, y = parts["val"].batch(np.array([1]))
    np.testing.assert_allclose(x[0, :, 0], (values[0] - 26.160023) / 17.04294, atol=1e-5)
    np.testing.assert_array_equal(labels[y[0], np.arange(642)], 1)
    assert set(np.unique(parts["train"].batch(np.arange(3))[1])) == {0, 1, 2}


def broken(path, tmp_path, **changes):
    """A folder that holds the file alone, with other arrays."""
    with np.load(path) as found:
        arrays = dict(found) | changes
    made = tmp_path / "area_5a" / "a.npz"
    made.parent.mkdir(exist_ok=True)
    np.savez(made, **{name: array for name, array in arrays.items() if array is not None})
    return made


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": None}, "has no labels but data"),
        ({"labels": np.full(642, 15)}, "labels 15 to 15.*expected whole numbers from 0 to 14"),
        ({"labels": np.full(642, 0.5)}, "of float64; expected whole numbers"),
        ({"labels": np.zeros(600, int)}, "600 labels"),
        ({"labels": np.zeros((642, 15), int)}, r"expected \(P, 4\) and \(P,\)"),
        ({"data": np.zeros((642, 3))}, r"data \(642, 3\)"),
        ({"data": np.zeros((100, 4)), "labels": np.zeros(100, int)}, "at least 162 vertices"),
        ({"data": np.full((642, 4), np.nan)}, "NaN or infinite"),
        ({"data": np.full((642, 4), "a")}, "expected numbers with two axes"),
        ({"data": np.full((642, 4), None)}, "cannot be read"),
    ],
)
def test_wrong_files_of_rooms_are_told_in_one_sentence(rooms, tmp_path, changes, said):
    made = broken(mesh_2d3ds(rooms, Icosphere(2)).files[0], tmp_path, **changes)
    with pytest.raises(InputError, match=said) as caught:
        mesh_2d3ds(tmp_path, Icosphere(2), split="test").batch(np.array([0]))
    assert str(made) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_and_missing_files_are_told(rooms, climate, tmp_path):
    made = broken(mesh_2d3ds(rooms, Icosphere(2)).files[0], tmp_path)
    whole = made.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-10], b"", b"PK\x03\x04"):
        made.write_bytes(content)
        with pytest.raises(InputError, match="fetch it again"):
            mesh_2d3ds(tmp_path, Icosphere(2), split="test").batch(np.array([0]))
    flipped = bytearray(whole)
    with zipfile.ZipFile(mesh_2d3ds(rooms, Icosphere(2)).files[0]) as zipped:
        flipped[zipped.getinfo("data.npy").header_offset + 400] ^= 255
    made.write_bytes(flipped)
    with pytest.raises(InputError, match="cannot be read"):
        mesh_2d3ds(tmp_path, Icosphere(2), split="test").batch(np.array([0]))
    with pytest.raises(InputError, match="no NPZ files in area_2, area_4"):
        mesh_2d3ds(tmp_path, Icosphere(2), fold=2, split="test")
    with pytest.raises(InputError, match=r"train_split\.txt cannot be read"):
        mesh_climate(tmp_path, Icosphere(2))
    (tmp_path / "train_split.txt").write_text("a.npz\nb.npz\n")
    with pytest.raises(InputError, match="lacks 2 of the 2 files"):
        mesh_climate(tmp_path, Icosphere(2))
    with pytest.raises(InputError, match="at least 2562 vertices"):
        mesh_climate(climate, Icosphere(4)).batch(np.array([0]))


@pytest.mark.parametrize(
    "labels", [np.ones((3, 642), int), np.zeros((3, 642), int), np.zeros(642, int), np.eye(4, 642)]
)
def test_climate_labels_are_one_hot(climate, tmp_path, labels):
    with np.load(mesh_climate(climate, Icosphere(3)).files[0]) as found:
        np.savez(tmp_path / "a.npz", data=found["data"], labels=labels)
    (tmp_path / "test_split.txt").write_text("a.npz\n")
    with pytest.raises(InputError, match="a single 1 for each vertex"):
        mesh_climate(tmp_path, Icosphere(3), split="test").batch(np.array([0]))


def test_equal_seeds_make_equal_files(tmp_path, climate):
    make_climate(tmp_path, Icosphere(3), samples=(3, 2, 1))
    for path in climate.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes() or path.suffix == ".npz"
    x, y = (mesh_climate(folder, Icosphere(3)).batch(np.arange(3)) for folder in (climate, tmp_path))
    np.testing.assert_array_equal(x[0], y[0])
    np.testing.assert_array_equal(x[1], y[1])
