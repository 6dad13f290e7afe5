"""Shapes seen from the sphere: rays against closed formulas and against every triangle, folders, the data set."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import spherecnn as sc
from spherecnn.datasets import project_shape, project_shapes, read_shape, shapes
from spherecnn.datasets.raycast import first_hits
from spherecnn.datasets.shape_files import find_shapes, in_test, numbers
from spherecnn.datasets.shape_projection import DAMAGED
from spherecnn.errors import InputError
from spherecnn.grids import Equirect, Icosphere, Polyhedron

GRID = Icosphere(3)
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
# Corners of the faces of a cube, in pairs -x, x, -y, y, -z, z.
SQUARES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
CUBE = np.array([CORNERS[[q[i], q[j], q[k]]] for q in SQUARES for i, j, k in ((0, 1, 2), (0, 2, 3))])
AXES = np.concatenate([np.eye(3), -np.eye(3)])
OCTAHEDRON = np.array([AXES[[i, j, k]] for i in (0, 3) for j in (1, 4) for k in (2, 5)])
TETRAHEDRON = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], float)[
    [(0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 3, 2)]
]


def directions(count, seed=0):
    xyz = np.random.default_rng(seed).standard_normal((count, 3))
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True)


def check(seen, distance, dot):
    assert np.allclose(seen[:, 0], distance, atol=1e-6)
    assert np.allclose(seen[:, 1], dot, atol=1e-6)
    assert np.allclose(seen[:, 2], np.sqrt(np.maximum(1 - dot**2, 0)), atol=1e-6)


# --- shapes with a formula ---------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [GRID, Equirect(12), Polyhedron(2)])
def test_cube(grid):
    seen = project_shape(CUBE, grid).reshape(-1, 6)
    longest = np.abs(grid.xyz).max(axis=1)
    for part in (seen[:, :3], seen[:, 3:]):
        check(part, 1 - 0.99 / 3**0.5 / longest, longest)


def test_octahedron():
    seen = project_shape(OCTAHEDRON, GRID)
    total = np.abs(GRID.xyz).sum(axis=1)
    for part in (seen[:, :3], seen[:, 3:]):
        check(part, 1 - 0.99 / total, total / 3**0.5)


def test_tetrahedron():
    """The face that a ray leaves first decides: those opposite the corners, at a third of their distance."""
    turn = Rotation.from_euler("xyz", [0.3, -1.1, 2.0])
    seen = project_shape(turn.apply(TETRAHEDRON.reshape(-1, 3)).reshape(-1, 3, 3), GRID)
    outward = -turn.apply([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / 3**0.5
    steepest = (GRID.xyz @ outward.T).max(axis=1)
    for part in (seen[:, :3], seen[:, 3:]):
        check(part, 1 - 0.33 / steepest, steepest)


def ball(centre, radius, level=5):
    mesh = Icosphere(level)
    return (radius * mesh.vertices + centre)[mesh.faces]


def test_sphere_about_a_point_near_the_centre():
    centre, radius = np.array([0.2, -0.1, 0.3]), 0.6
    along = GRID.xyz @ centre
    root = np.sqrt(along**2 - centre @ centre + radius**2)
    height, face = first_hits(ball(centre, radius), GRID.xyz)
    assert np.abs(height - (along + root)).max() < 1e-3  # the mesh lies within the sphere by as much
    assert (face >= 0).all()


def test_sphere_beside_the_centre():
    """Some rays meet it, the opposite ones meet it beyond the centre, the others nothing."""
    centre, radius = np.array([0.1, 0.5, -0.2]), 0.3
    xyz = directions(4000)
    along = xyz @ centre
    inside = along**2 - centre @ centre + radius**2
    height, face = first_hits(ball(centre, radius), xyz)
    clear = np.abs(inside) > 2e-3
    assert ((face >= 0) == (inside > 0))[clear].all()
    met = clear & (inside > 0)
    assert np.abs(height - along - np.sqrt(np.maximum(inside, 0)))[met].max() < 5e-3
    assert (height[met] < 0).sum() > 100


# --- against every triangle --------------------------------------------------------------------------------


def by_every_triangle(triangles, xyz):
    """The first hit by solving d s = a + p (b - a) + q (c - a) for each pair: another way than the one under test."""
    height = np.full(len(xyz), np.nan)
    for n, d in enumerate(xyz):
        a, b, c = np.moveaxis(triangles, 1, 0)
        matrix = np.stack([np.broadcast_to(d, a.shape), a - b, a - c], axis=-1)
        good = np.abs(np.linalg.det(matrix)) > 1e-14
        s, p, q = np.linalg.solve(matrix[good], a[good][..., None])[..., 0].T
        s = s[(p >= -1e-10) & (q >= -1e-10) & (p + q <= 1 + 1e-10)]
        before = s[s >= 0]
        height[n] = before.max() if len(before) else s.max() if len(s) else np.nan
    return height


@pytest.mark.parametrize("kind", ["large", "small", "slivers", "about the centre"])
def test_triangles_at_random(kind):
    rng = np.random.default_rng(1)
    middle = rng.uniform(-0.4, 0.4, (120, 1, 3))
    size = {"large": 0.4, "small": 0.05, "slivers": 0.4, "about the centre": 0.3}[kind]
    triangles = middle + rng.uniform(-size, size, (120, 3, 3))
    if kind == "slivers":
        triangles[:, 2] = triangles[:, :2].mean(axis=1) + rng.uniform(-1e-3, 1e-3, (120, 3))
    if kind == "about the centre":
        triangles -= triangles.mean(axis=1, keepdims=True) * (1 - 10.0 ** -rng.integers(0, 17, (120, 1, 1)))
    xyz = directions(500)
    height, face = first_hits(triangles, xyz)
    truth = by_every_triangle(triangles, xyz)
    assert np.allclose(height, truth, atol=1e-8, equal_nan=True)
    assert np.array_equal(face < 0, np.isnan(height))
    met = face >= 0
    if kind != "about the centre":
        assert met.any()
        assert not met.all() or kind == "large"
        normal = np.cross(*(triangles[face[met]][:, k] - triangles[face[met]][:, 0] for k in (1, 2)))
        away = np.einsum("pi,pi->p", normal, height[met, None] * xyz[met] - triangles[face[met]][:, 0])
        assert np.abs(away).max() < 1e-8


def test_a_triangle_through_the_centre_stops_every_ray_there():
    flat = np.array([[[0.5, 0, 0], [-0.3, 0.4, 0], [-0.3, -0.4, 0]]])
    for triangle in (flat, flat - flat[:, :1], flat - flat[:, :2].mean(axis=1, keepdims=True)):
        height, face = first_hits(triangle, directions(300))
        assert np.abs(height).max() < 1e-12
        assert (face == 0).all()


def test_no_ray_slips_through_an_edge_or_a_corner():
    mesh = Icosphere(3)
    turn = Rotation.from_euler("xyz", [0.1, 0.2, 0.3])
    vertices = turn.apply(mesh.vertices.copy()) * [0.9, 0.5, 0.7]
    a, b = vertices[mesh.faces], vertices[np.roll(mesh.faces, -1, axis=1)]
    share = np.random.default_rng(0).random((5, *a.shape[:2], 1))
    points = np.concatenate([vertices, (a + share * (b - a)).reshape(-1, 3)])
    length = np.linalg.norm(points, axis=1)
    height, face = first_hits(vertices[mesh.faces], points / length[:, None])
    assert (face >= 0).all()
    assert np.allclose(height, length, atol=1e-12)


# --- what a ray does not meet ------------------------------------------------------------------------------


def test_open_shape_and_its_hull():
    tube = CUBE[:8]  # without the squares at z = -1 and z = 1
    seen = project_shape(tube, GRID)
    longest = np.abs(GRID.xyz).max(axis=1)
    check(seen[:, 3:], 1 - 0.99 / 3**0.5 / longest, longest)
    open_ = np.abs(GRID.xyz[:, 2]) > longest - 1e-9
    sides = np.abs(GRID.xyz[:, :2]).max(axis=1)
    through = np.abs(GRID.xyz[:, 2]) > sides + 1e-9
    assert through.any()
    assert np.array_equal(seen[through, :3], np.tile(np.float32([1, 0, 0]), (through.sum(), 1)))
    check(seen[~open_, :3], 1 - 0.99 / 3**0.5 / longest[~open_], longest[~open_])


def test_rays_go_on_beyond_the_centre():
    box = 0.5 * CUBE[:10]  # without the square at z = 1
    height, face = first_hits(box, np.array([[0.0, 0.0, 1.0], [0.0, 0.6, 0.8], [0.0, 0.0, -1.0]]))
    assert np.allclose(height, [-0.5, -0.625, 0.5])
    assert set(face) <= {8, 9}


def test_flat_shape_stands_for_its_hull():
    seen = project_shape(CUBE[:2] * [1, 0.5, 0.3], GRID)
    assert np.array_equal(seen[:, :3], seen[:, 3:])


# --- place, size, sense, turn ------------------------------------------------------------------------------


def test_place_size_and_sense_do_not_matter():
    rng = np.random.default_rng(0)
    shape = rng.uniform(-1, 1, (200, 3, 3))
    seen = project_shape(shape, GRID)
    other = project_shape(shape[:, ::-1] * 40 + [3, -70, 9], GRID)
    assert np.mean(np.abs(seen - other).max(axis=1) > 1e-5) < 0.01  # a ray beside an edge may change its side


def test_a_turned_shape_is_seen_turned():
    grid = Equirect(10)
    shape = np.random.default_rng(2).uniform(-1, 1, (40, 3, 3))
    quarter = shape[..., [1, 0, 2]] * [-1, 1, 1]
    assert np.allclose(project_shape(quarter, grid), np.roll(project_shape(shape, grid), 5, axis=1), atol=1e-5)


def test_refuses_what_is_no_surface():
    for bad in (np.zeros((3, 3)), np.zeros((0, 3, 3)), np.ones((4, 3, 3)), np.full((2, 3, 3), np.nan)):
        with pytest.raises(InputError, match="expected"):
            project_shape(bad, GRID)


# --- files -------------------------------------------------------------------------------------------------


def off(path, triangles):
    """Write triangles as an OFF file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vertices = np.reshape(triangles, (-1, 3))
    lines = ["OFF", f"{len(vertices)} {len(triangles)} 0"]
    lines += [" ".join(map(repr, v)) for v in vertices.tolist()]
    lines += [f"3 {3 * f} {3 * f + 1} {3 * f + 2}" for f in range(len(triangles))]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", ["off", "obj", "ply", "stl", "glb"])
def test_formats(tmp_path, kind):
    import trimesh

    mesh = trimesh.Trimesh(CUBE.reshape(-1, 3), np.arange(36).reshape(12, 3), process=False)
    mesh.export(tmp_path / f"cube.{kind}")
    assert np.allclose(np.sort(read_shape(tmp_path / f"cube.{kind}"), axis=0), np.sort(CUBE, axis=0))


@pytest.mark.parametrize(
    ("content", "faces"),
    [
        ("OFF4 1 0\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n", 1),  # as in ModelNet: no line break
        ("OFF\n4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n", 2),
        ("OFF\n4 2 0\n0 0 0\n1 0 0\n1 nan 0\n0 1 0\n3 0 1 3\n3 0 1 2\n", 1),
        ("OFF\n4 2 0\n0 0 0\n1 0 0\n2 0 0\n0 1 0\n3 0 1 3\n3 0 1 2\n", 1),
    ],
    ids=["header", "square", "not finite", "no area"],
)
def test_odd_files(tmp_path, content, faces):
    (tmp_path / "a.off").write_text(content)
    assert read_shape(tmp_path / "a.off").shape == (faces, 3, 3)


BROKEN = {
    "empty": "",
    "text": "hello",
    "truncated": "OFF\n4 4 0\n0 0 0\n1 0 0\n0 1",
    "outside": "OFF\n3 1 0\n0 0 0\n1 0 0\n1 1 0\n3 0 1 7\n",
    "points": "OFF\n3 0 0\n0 0 0\n1 0 0\n1 1 0\n",
    "line": "OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_files_are_named(tmp_path, name):
    path = tmp_path / f"{name}.off"
    path.write_text(BROKEN[name])
    with pytest.raises(InputError) as error:
        read_shape(path)
    assert str(path) in str(error.value)
    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_other_files_are_named(tmp_path):
    with pytest.raises(InputError, match="is not there"):
        read_shape(tmp_path / "a.off")
    with pytest.raises(InputError, match="no mesh file by its name"):
        read_shape(tmp_path / "a.txt")


# --- layouts -----------------------------------------------------------------------------------------------


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cup/train/cup_0001.off", "cup/test/cup_0002.off"], [("cup", "train", 1), ("cup", "test", 2)]),
        (["night_stand10.off", "night_stand9.off"], [("night_stand", None, 9), ("night_stand", None, 10)]),
        (["b/x.obj", "a/y7.ply"], [("a", None, 7), ("b", None, None)]),
        (["m40_train/cup_1.off", "m40_test/cup_1.off"], [("cup", "test", 1), ("cup", "train", 1)]),
        (["train/cup/1.off", "test/cup/2.off"], [("cup", "train", 1), ("cup", "test", 2)]),
    ],
    ids=["modelnet", "flat", "folders", "published", "parts first"],
)
def test_layouts(tmp_path, names, expected):
    touch(tmp_path, *names, ".hidden/a1.off", "readme.txt")
    assert [(f.label, f.part, f.number) for f in find_shapes(tmp_path)] == expected


def test_layouts_that_are_refused(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        find_shapes(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no shapes"):
        find_shapes(tmp_path)
    touch(tmp_path, "a/train/a1.off", "a/a2.off")
    with pytest.raises(InputError, match="neither train nor test"):
        find_shapes(tmp_path)
    touch(tmp_path, "a/train/a1.obj")
    with pytest.raises(InputError, match="suffix only"):
        find_shapes(tmp_path)


def test_which_are_there_to_test_on(tmp_path):
    touch(tmp_path, *(f"a{n}.off" for n in range(10)), "b1.off", "b2.off", "c5.off")
    files = find_shapes(tmp_path)
    assert [files[i].path.stem for i in np.flatnonzero(in_test(files))] == ["a7", "a8", "a9", "b2"]
    assert [files[i].path.stem for i in np.flatnonzero(in_test(files, "2,5"))] == ["a2", "a5", "b2", "c5"]
    for wrong, said in (("99", "those of no"), ("0-9", "those of all"), ("x", "expected numbers"), ("3-1", "expected")):
        with pytest.raises(InputError, match=said):
            in_test(files, wrong)
    assert numbers(" 1 - 3 , 8") == {1, 2, 3, 8}
    touch(tmp_path / "parts", "a/train/a1.off", "a/test/a2.off")
    assert in_test(find_shapes(tmp_path / "parts")).tolist() == [False, True]
    with pytest.raises(InputError, match="one of both"):
        in_test(find_shapes(tmp_path / "parts"), "1")


# --- projecting folders ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Five boxes and five spindles; each of a size of its own."""
    for n in range(5):
        off(tmp_path / "raw" / f"box{n}.off", CUBE * [1, 1 + 0.1 * n, 0.4])
        off(tmp_path / "raw" / f"spindle{n}.off", OCTAHEDRON * [0.3, 0.2 + 0.1 * n, 1])
    return tmp_path


def test_projection_goes_on_where_it_stopped(folder):
    raw, out, grid = folder / "raw", folder / "out", Icosphere(1)
    (raw / "box1.off").write_text("OFF")
    first = project_shapes(raw, out, grid, jobs=1, progress=False)
    assert (first.made, first.kept, len(first.damaged)) == (9, 0, 1)
    assert (out / DAMAGED).read_text().startswith(str(raw / "box1.off"))
    stamp = (out / "box0.npz").stat().st_mtime_ns
    (out / "box2.npz").write_bytes((out / "box2.npz").read_bytes()[:300])
    (out / "spindle4.npz").unlink()
    off(raw / "box1.off", CUBE)
    again = project_shapes(raw, out, grid, jobs=1, progress=False)
    assert (again.made, again.kept, again.damaged) == (3, 7, [])
    assert not (out / DAMAGED).exists()
    assert (out / "box0.npz").stat().st_mtime_ns == stamp
    assert project_shapes(raw, out, Icosphere(2), jobs=1, progress=False).made == 10
    assert project_shapes(raw, out, Icosphere(2), up="y", jobs=1, progress=False).made == 10


def test_a_shape_that_became_damaged_does_not_stay(folder):
    raw, out = folder / "raw", folder / "out"
    project_shapes(raw, out, Icosphere(1), jobs=1, progress=False)
    (raw / "box0.off").write_text("OFF")
    (out / "box0.npz").touch()
    import os

    os.utime(out / "box0.npz", (0, 0))
    assert len(project_shapes(raw, out, Icosphere(1), jobs=1, progress=False).damaged) == 1
    assert not (out / "box0.npz").exists()


def test_a_stop_leaves_whole_files(folder, monkeypatch):
    from spherecnn.datasets import shape_projection

    true, seen = shape_projection.project_shape, []

    def stops(triangles, grid):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return true(triangles, grid)

    monkeypatch.setattr(shape_projection, "project_shape", stops)
    with pytest.raises(KeyboardInterrupt):
        project_shapes(folder / "raw", folder / "out", Icosphere(1), jobs=1, progress=False)
    assert len(list((folder / "out").iterdir())) == 3
    assert project_shapes(folder / "raw", folder / "out", Icosphere(1), jobs=1, progress=False).kept == 3


def test_processes_write_the_same_bytes(folder):
    for jobs in (1, 2):
        project_shapes(folder / "raw", folder / str(jobs), Icosphere(1), jobs=jobs, progress=False)
    for path in (folder / "1").iterdir():
        one, two = (np.load(folder / name / path.name) for name in ("1", "2"))
        assert all(np.array_equal(one[key], two[key]) for key in one)


def test_all_damaged_is_refused(tmp_path):
    (tmp_path / "a1.off").write_text("OFF")
    with pytest.raises(InputError, match="all 1 shapes"):
        project_shapes(tmp_path, tmp_path / "out", Icosphere(1), jobs=1, progress=False)


# --- the data set ------------------------------------------------------------------------------------------


def test_data_set(folder):
    grid = Icosphere(2)
    project_shapes(folder / "raw", folder / "out", grid, up="y", jobs=1, progress=False)
    parts = {
        split: shapes(folder / "out", grid, split=split, test_numbers="3-4", validation=0.34)
        for split in ("all", "train", "validation", "test")
    }
    assert {name: len(data) for name, data in parts.items()} == {"all": 10, "train": 4, "validation": 2, "test": 4}
    assert parts["test"].classes == ["box", "spindle"]
    assert [f.stem for f in parts["test"].files] == ["box3", "box4", "spindle3", "spindle4"]
    assert not {*parts["train"].files} & {*parts["validation"].files, *parts["test"].files}
    x, y = parts["train"].batch(np.arange(4))
    assert (x.shape, x.dtype, y.tolist()) == ((4, 162, 6), np.float32, [0, 0, 1, 1])
    weight = grid.area / grid.area.sum()
    assert np.allclose(np.einsum("p,npc->c", weight, x) / 4, 0, atol=1e-5)
    assert np.allclose(np.einsum("p,npc->c", weight, x**2) / 4, 1, atol=1e-4)
    held = parts["test"]
    assert np.array_equal(held.mean, parts["train"].mean)
    turned = read_shape(folder / "raw" / "box3.off") @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)
    assert np.allclose(held.batch(np.array([0]))[0][0] * held.std + held.mean, project_shape(turned, grid), atol=1e-5)
    plain = shapes(folder / "out", grid, mean=[0] * 6, std=[1] * 6)
    assert np.allclose(plain.batch(np.array([3]))[0][0], project_shape(turned, grid), atol=1e-6)


def test_data_set_refuses(folder):
    grid, out = Icosphere(1), folder / "out"
    with pytest.raises(InputError, match="holds no projected shapes"):
        shapes(folder / "raw", grid)
    project_shapes(folder / "raw", out, grid, jobs=1, progress=False)
    with pytest.raises(InputError, match=r"expected shapes on Icosphere\(2\)"):
        shapes(out, Icosphere(2))
    with pytest.raises(InputError, match=r"validation part .* is empty"):
        shapes(out, grid, split="validation", validation=0)
    with pytest.raises(InputError, match="'half'"):
        shapes(out, grid, split="half")
    with pytest.raises(InputError, match="expected 6 numbers"):
        shapes(out, grid, mean=[0.0], std=[1.0])
    data = shapes(out, grid)
    np.savez(data.files[1], values=np.array([None, "x"], object))
    with pytest.raises(InputError, match="cannot be read as a projected shape"):
        data.batch(np.array([1]))
    data.files[2].write_bytes(data.files[2].read_bytes()[:-500])
    with pytest.raises(InputError, match="cannot be read as a projected shape"):
        data.batch(np.array([2]))


def test_training_on_shapes(folder):
    grid = Icosphere(2)
    project_shapes(folder / "raw", folder / "out", grid, jobs=1, progress=False)
    train = shapes(folder / "out", grid, split="train", validation=0)
    net = sc.models.mesh_classifier(6, 2, grid, width=2, dropout=0.0, rng=0)
    augment = sc.datasets.RotateAugment(grid, "yaw")
    history = sc.training.fit(net, train, epochs=10, batch_size=3, lr=0.02, augment=augment, progress=False)
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]
