"""`spherecnn mesh`: making, measuring, converting and viewing meshes, and their operators."""

from __future__ import annotations

import re

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner
from scipy import sparse

from spherecnn.cli import main
from spherecnn.cli.pictures import read_picture, write_picture
from spherecnn.cli.signals import Signal, read_signal, write_signal
from spherecnn.grids import Equirect, Icosphere, MeshGrid, Polyhedron, read_mesh, write_mesh

OCTAHEDRON = MeshGrid(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]],
    [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]],
)


def call(*args, code=0):
    result = CliRunner().invoke(main, ["mesh", *(word for arg in args for word in _words(arg))])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.stdout if code == 0 else result.stderr


def _words(arg):
    return arg.split() if isinstance(arg, str) else [str(arg)]


def waves(grid):
    """Smooth colours of 8 bits."""
    return np.rint(127 * (grid.xyz + 1)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder that the commands run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- help --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["icosphere", "info", "operators", "convert", "view"])
def test_help_has_an_example(command):
    said = call(command, "--help")
    assert f"spherecnn mesh {command}" in said.split("Example")[1]


def test_a_wrong_command_is_one_sentence():
    said = call("paint", code=2)
    assert said.count("\n") == 1
    assert "No such command 'paint'" in said


# --- icosphere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["off", "obj", "ply", "stl", "glb"])
def test_an_icosphere_in_every_format(suffix, folder):
    said = call(f"icosphere --level 2 --out s.{suffix}")
    assert "162 vertices and 320 faces" in said
    assert "Next: spherecnn mesh info" in said
    mesh = trimesh.load(folder / f"s.{suffix}", force="mesh")
    mesh.merge_vertices()
    assert (len(mesh.vertices), len(mesh.faces), mesh.is_watertight) == (162, 320, True)
    assert np.allclose(np.linalg.norm(mesh.vertices, axis=1), 1, atol=1e-6)


def test_orders_of_vertices(folder):
    call("icosphere --level 3 --out ours.off")
    assert np.array_equal(read_mesh("ours.off").vertices, Icosphere(3).vertices)
    call("icosphere --level 3 --order trimesh --out theirs.off")
    theirs = trimesh.creation.icosphere(subdivisions=3)
    assert np.allclose(read_mesh("theirs.off").vertices, theirs.vertices, atol=1e-15)
    assert np.array_equal(read_mesh("theirs.off").faces, theirs.faces)


def test_refined_meshes_and_a_picture(folder):
    write_mesh("o.off", OCTAHEDRON)
    call("icosphere --from o.off --out once.off")
    call("icosphere --from o.off --refine 3 --out fine.off --picture fine.png")
    assert (read_mesh("once.off").sites, read_mesh("fine.off").sites) == (18, 258)  # 2 + 4^(n + 1)
    assert np.allclose(np.linalg.norm(read_mesh("fine.off").vertices, axis=1), 1)
    assert read_picture(folder / "fine.png").std() > 10


# --- info --------------------------------------------------------------------------------------------------


def test_info_of_a_level(folder):
    said = call("info --level 2 --out i.png")
    for line in ("vertices +162", "edges +480", "faces +320", "Euler number +2", "solid angles +12.566371, 1.000000"):
        assert re.search(rf"^{line}", said, re.MULTILINE), line
    assert "5 neighbours: 12; 6 neighbours: 150 vertices." in said
    errors = [float(e) for e in re.findall(r"^[1-8] +([\d.e-]+) %", said, re.MULTILINE)]
    assert len(errors) == 8
    assert errors[0] < 5 < errors[7]
    assert read_picture(folder / "i.png").std() > 10


def test_info_of_a_file_names_its_radius(folder):
    write_mesh("o.off", MeshGrid(3 * OCTAHEDRON.vertices, OCTAHEDRON.faces))
    said = call("info o.off")
    assert "radius        3 to 3" in said
    assert re.search(r"edge length +4.243 +4.243 +4.243 +1$", said, re.MULTILINE)
    assert "4 neighbours: 6 vertices." in said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v, f: (v, f[2:]), "(4 edges of one face in all, in 6 faces and 6 vertices)"),
        (lambda v, f: (v, np.concatenate([f[:1, ::-1], f[1:]])), "(1 face turned away from the origin in all"),
        (lambda v, f: (v + [5, 0, 0], f), "(4 faces turned away from the origin in all"),
        (lambda v, f: (np.concatenate([v, v[:1]]), f), "1 vertex that repeats another, 1 vertex without a face"),
    ],
)
def test_a_mesh_that_is_refused_says_how_often(change, says, folder):
    vertices, faces = change(OCTAHEDRON.vertices, OCTAHEDRON.faces)
    trimesh.Trimesh(vertices, faces, process=False).export("bad.off")
    said = call("info bad.off --out i.png", code=2)
    assert says in said
    assert said.count("\n") == 1
    assert not (folder / "i.png").exists()


# --- operators ---------------------------------------------------------------------------------------------


def test_matrices_of_an_octahedron(folder):
    """Faces are equilateral with sides of sqrt 2: cotangents of 1 / sqrt 3, areas of sqrt 3 / 2."""
    write_mesh("o.off", OCTAHEDRON)
    call("operators o.off --laplacian published --out ops.npz")
    with np.load("ops.npz", allow_pickle=False) as file:
        found = dict(file)

    def matrix(name):
        parts = found[f"{name}_data"], found[f"{name}_indices"], found[f"{name}_indptr"]
        return sparse.csr_array(parts, shape=found[f"{name}_shape"]).toarray()

    opposite = np.roll(np.eye(6), 3, axis=1)
    expected = (1 - np.eye(6) - opposite) / 3**0.5 - 4 / 3**0.5 * np.eye(6)
    assert np.allclose(matrix("laplacian"), expected)
    assert np.allclose(found["face_areas"], 3**0.5 / 2)
    assert np.allclose(found["vertex_areas"], 4 * 3**0.5 / 2 / 3)
    assert np.allclose(matrix("face_to_vertex").sum(axis=1), 1)
    normals = np.sign(OCTAHEDRON.vertices[OCTAHEDRON.faces].sum(axis=1)) / 3**0.5
    assert np.allclose(found["face_normals"], normals)
    slopes = (matrix("gradient") @ OCTAHEDRON.vertices[:, 2]).reshape(3, 8).T
    assert np.allclose(slopes, [0, 0, 1] - normals[:, 2:] * normals)
    assert str(found["kind"]) == "mesh"
    assert np.array_equal(found["vertices"], OCTAHEDRON.vertices)
    call("operators o.off --out mass.npz")
    with np.load("mass.npz") as file:
        assert np.allclose(file["laplacian_data"], found["laplacian_data"] / (2 / 3**0.5))


def test_operators_of_values(folder):
    """z has the Laplacian -2 z and the slope cos lat to the north; with a radius of 2 they are a quarter and a half."""
    grid = Icosphere(4)
    write_signal(folder / "z.npz", Signal(grid.xyz[:, 2:], grid))
    said = call("operators --apply z.npz --radius 2 --out made.npz")
    made = read_signal(folder / "made.npz")
    assert made.names == ("laplacian", "east", "north")
    assert made.grid == grid
    assert np.allclose(made.values[:, 0], -2 * grid.xyz[:, 2] / 4, atol=0.01)
    assert np.allclose(made.values[:, 1], 0, atol=0.05)
    inside = np.abs(grid.lat) < 1.5
    assert np.allclose(made.values[inside, 2], np.cos(grid.lat[inside]) / 2, atol=0.01)
    assert "per unit of length squared" in said
    assert read_picture(folder / "made.png").std() > 10


def test_operators_of_a_wind(folder):
    """Air that turns with the sphere has the vorticity 2 sin lat and no divergence."""
    grid = Icosphere(4)
    flow = np.stack([np.ones(grid.sites), np.cos(grid.lat), 0 * grid.lat], axis=-1)
    write_signal(folder / "w.npz", Signal(flow, grid, ("height", "u", "v")))
    call("operators --apply w.npz --wind --channel u --channel v --out made.npz --picture seen.png")
    made = read_signal(folder / "made.npz")
    assert made.names == ("divergence", "vorticity")
    assert np.allclose(made.values[:, 0], 0, atol=1e-9)
    assert np.allclose(made.values[:, 1], 2 * np.sin(grid.lat), atol=0.03)
    assert (folder / "seen.png").exists()
    assert "3 came" in call("operators --apply w.npz --wind --out o.npz", code=2)


# --- convert -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["npz", "ply", "glb"])
def test_a_picture_goes_to_vertices_and_back(suffix, folder):
    pixels = waves(Equirect(64)).reshape(64, 128, 3)
    write_picture(folder / "in.png", pixels)
    said = call(f"convert in.png --level 5 --out v.{suffix}")
    assert "to Icosphere(5)" in said
    back = call(f"convert v.{suffix} --height 64 --out back.png")
    assert "Equirect(64, 128)" in back
    assert np.abs(read_picture(folder / "back.png").astype(int) - pixels).max() <= 3
    if suffix == "npz":
        signal = read_signal(folder / "v.npz")
        assert (signal.grid, signal.values.dtype) == (Icosphere(5), np.uint8)
        assert np.abs(signal.values.astype(int) - waves(Icosphere(5))).max() <= 2


def test_levels_and_meshes(folder):
    fine = Icosphere(5)
    write_signal(folder / "f.npz", Signal(fine.xyz.astype(np.float32), fine, ("x", "y", "z")))
    call("convert f.npz --level 3 --out c.npz")
    coarse = read_signal(folder / "c.npz")
    assert (coarse.grid, coarse.names, coarse.values.dtype) == (Icosphere(3), ("x", "y", "z"), np.float32)
    assert np.abs(coarse.values - Icosphere(3).xyz).max() < 0.02  # means over what is around a vertex
    call("convert f.npz --level 3 --sampling bilinear --out c.npy")
    assert np.allclose(np.load("c.npy"), Icosphere(3).xyz, atol=1e-6)  # the coarse vertices are fine ones
    write_mesh("o.off", OCTAHEDRON)
    call("convert f.npz --onto o.off --sampling nearest --out o.npz")
    there = read_signal(folder / "o.npz")
    assert there.grid == OCTAHEDRON
    assert np.abs(there.values - OCTAHEDRON.vertices).max() < 0.05
    call("convert c.npy --out again.npz")
    assert read_signal(folder / "again.npz").grid == Icosphere(3)


def test_meshes_between_formats(folder):
    call("icosphere --level 2 --out s.off")
    assert "Next: spherecnn mesh info s.obj" in call("convert s.off --out s.obj")
    assert np.array_equal(read_mesh("s.obj").vertices, Icosphere(2).vertices)
    write_mesh("c.ply", Icosphere(2), waves(Icosphere(2)))
    assert "without its values" in call("convert c.ply --out c.off")
    assert read_mesh("c.off").sites == 162


def test_a_channel_becomes_colours(folder):
    grid = Icosphere(3)
    write_signal(folder / "f.npz", Signal(np.stack([grid.lon, grid.xyz[:, 2]], axis=-1), grid, ("lon", "z")))
    call("convert f.npz --channel z --cmap gray --limits -1 1 --out z.ply")
    colours = trimesh.load("z.ply", process=False).visual.vertex_colors
    assert np.abs(colours[:, :3] - 127.5 * (1 + grid.xyz[:, 2:])).max() < 1.5
    call("convert f.npz --channel 1 --cmap gray --limits -1 1 --height 20 --out z.png")
    rows = read_picture(folder / "z.png")[..., 0]
    assert np.abs(rows - 127.5 * (1 + Equirect(20).xyz[:, 2].reshape(20, 40))).max() < 4


def test_faces_become_vertices_and_labels_stay(folder):
    grid = Polyhedron(4)
    labels = np.where(grid.lat > 0, 7, 3)[:, None]
    write_signal(folder / "faces.npz", Signal(labels, grid))
    call("convert faces.npz --level 3 --sampling nearest --out v.npz")
    found = read_signal(folder / "v.npz")
    away = np.abs(found.grid.lat) > 0.1
    assert np.array_equal(found.values[away, 0], np.where(found.grid.lat > 0, 7, 3)[away])
    assert found.values.dtype == labels.dtype


def test_the_other_convert_reads_and_writes_vertices(folder):
    def convert(*words):
        result = CliRunner().invoke(main, ["convert", *" ".join(words).split()])
        assert result.exit_code == 0, result.output
        return result.output

    pixels = waves(Equirect(64)).reshape(64, 128, 3)
    write_picture(folder / "in.png", pixels)
    assert "Icosphere(5)" in convert("in.png --to icosphere --level 5 --out v.npz")
    assert np.abs(read_signal(folder / "v.npz").values.astype(int) - waves(Icosphere(5))).max() <= 2
    convert("v.npz --to equirect --height 64 --out back.png")
    assert np.abs(read_picture(folder / "back.png").astype(int) - pixels).max() <= 3
    convert("v.npz --to spherephd --level 3 --out f.npz")
    assert np.abs(np.load("f.npz")["values"].astype(int) - waves(Polyhedron(3))).max() <= 2
    convert("v.npz --to globe --size 40 --out g.png")
    assert read_picture(folder / "g.png").shape == (40, 40, 4)


# --- view --------------------------------------------------------------------------------------------------


def test_views_of_meshes_and_values(folder):
    grid = Icosphere(3)
    write_mesh("s.ply", grid, waves(grid))
    write_signal(folder / "f.npz", Signal(np.stack([grid.lon, grid.lat], axis=-1), grid, ("lon", "lat")))
    assert "RGB of 8 bits" in call("view s.ply --size 60 --out s.png")
    said = call("view f.npz --channel lat --unit rad --elevation 30 --size 60 --no-unrolled --out f.png")
    assert "2 channels of float64 (lon, lat)" in said
    assert "--channel shows another channel" in said
    assert all(read_picture(folder / name).std() > 10 for name in ("s.png", "f.png"))


def test_a_view_from_one_side_shows_that_side(folder):
    """The northern half white: from the north the disc is white, from the south black."""
    grid = Icosphere(3)
    write_signal(folder / "f.npy", Signal(np.where(grid.lat > 0, 255, 0).astype(np.uint8)[:, None], grid))
    means = []
    for lat in (90, -90):
        call(f"view f.npy --elevation {lat} --size 60 --no-unrolled --no-edges --title '' --out o.png")
        pixels = read_picture(folder / "o.png")[..., :3].astype(int)
        middle = pixels[
            int(0.4 * len(pixels)) : int(0.6 * len(pixels)), int(0.4 * pixels.shape[1]) : int(0.6 * pixels.shape[1])
        ]
        means.append(np.median(middle))
    assert means[0] > 200
    assert means[1] < 50


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("icosphere --level 2 --out s.txt", "expected a name in .ply"),
        ("icosphere --out s.ply", "no mesh was given"),
        ("icosphere --level 2 --refine 1 --out s.ply", "--refine was given without --from"),
        ("icosphere --level 2 --from s.off --out t.ply", "--from and --level were given"),
        ("icosphere --from s.off --refine 8 --out t.ply", "refine it less"),
        ("icosphere --level 2 --out t.ply --picture p.bmp", "the picture to write is p.bmp"),
        ("info", "no mesh was given"),
        ("info s.off --level 2", "leave one out"),
        ("info text.ply", "text.ply is damaged or not a mesh"),
        ("info --level 2 --out i.gif", "i.gif"),
        ("operators --level 2 --out o.txt", "expected a name in .npz"),
        ("operators --level 2 --wind --out o.npz", "--wind was given without --apply"),
        ("operators --apply s.off --out o.npz", "expected values in .npz or .npy"),
        ("operators --apply f.npz --level 3 --out o.npz", "expected one mesh"),
        ("operators --apply nan.npz --out o.npz", "missing or infinite values"),
        ("operators --apply p.npy --out o.npz", "values on Polyhedron(1)"),
        ("operators --apply f.npz --channel 2 --out o.npz", "expected 0 to 1"),
        ("convert s.off --out o.npz", "a mesh without values"),
        ("convert s.off --level 3 --out o.ply", "--level asks for some"),
        ("convert f.npz --out o.txt", "expected a name in .ply, .off"),
        ("convert f.npz --level 2 --onto s.off --out o.npz", "expected one of them"),
        ("convert f.npz --cmap magma --out o.npz", "--cmap was given for values"),
        ("convert f.npz --cmap nope --out o.png", "expected a colour map of matplotlib"),
        ("convert f.npz --limits 2 1 --out o.png", "exchange them"),
        ("convert f.npz --channel rgb --out o.png", "expected three or more"),
        ("convert f.npz --mesh s.off --out o.npz", None),
        ("convert s.off --mesh s.off --out o.ply", "--mesh was given for s.off"),
        ("convert cut.npz --out o.png", "cannot be read as a signal"),
        ("convert object.npy --out o.png", "holds Python objects"),
        ("convert odd.npy --out o.png", "name their mesh by --mesh"),
        ("convert odd.npy --mesh s.off --out o.npz", "expected (162, C)"),
        ("convert kind.npz --out o.npz", "says no grid"),
        ("view f.npz --channel lat --out o.png", "--channel is lat; expected 0 to 1, or rgb"),
        ("view f.npz --channel rgb --out o.bmp", "o.bmp"),
        ("view in.png --out o.png", "expected a mesh or values on one"),
        ("view text.npz --out o.png", "it is no such file, or holds Python objects"),
    ],
)
def test_refusals(words, says, folder):
    write_mesh("s.off", Icosphere(2))
    write_signal(folder / "f.npz", Signal(Icosphere(2).xyz[:, :2], Icosphere(2)))
    write_signal(folder / "nan.npz", Signal(np.full((162, 1), np.nan), Icosphere(2)))
    np.save("p.npy", np.ones((80, 1)))
    np.save("odd.npy", np.ones((100, 2)))
    np.save("object.npy", np.array([{}, 1], object))
    np.savez("kind.npz", values=np.ones((162, 1)), kind="cube", level=2)
    write_picture(folder / "in.png", np.zeros((8, 16, 3), np.uint8))
    (folder / "cut.npz").write_bytes((folder / "f.npz").read_bytes()[:-200])
    (folder / "text.npz").write_text("hello")
    (folder / "text.ply").write_text("hello")
    before = sorted(folder.iterdir())
    if says is None:  # the file says its mesh, and is believed
        call(words)
        assert read_signal(folder / "o.npz").grid == Icosphere(2)
        return
    said = call(words, code=2)
    assert says in said
    assert said.count("\n") == 1
    assert sorted(folder.iterdir()) == before


# --- files of signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "grid", "shape"),
    [
        ({"values": np.ones((42, 5))}, Icosphere(1), (42, 5)),
        ({"values": np.ones(42, bool)}, Icosphere(1), (42, 1)),
        ({"data": np.ones((16, 162), np.float16)}, Icosphere(2), (162, 16)),  # channels first, as published
        ({"values": np.ones((80, 2)), "kind": "polyhedron", "level": 1}, Polyhedron(1), (80, 2)),
        ({"values": np.ones((6, 3)), **OCTAHEDRON.config()}, OCTAHEDRON, (6, 3)),
    ],
)
def test_signals_as_they_come(arrays, grid, shape, folder):
    np.savez("s.npz", **arrays)
    signal = read_signal(folder / "s.npz")
    assert signal.grid == grid
    assert signal.values.shape == shape


def test_a_mesh_stays_with_its_values(folder):
    signal = Signal(np.arange(12.0).reshape(6, 2), OCTAHEDRON, ("a", "b"))
    write_signal(folder / "s.npz", signal)
    with np.load("s.npz", allow_pickle=False) as file:
        assert sorted(file) == ["faces", "kind", "names", "values", "vertices"]
    found = read_signal(folder / "s.npz")
    assert (found.grid, found.names) == (OCTAHEDRON, ("a", "b"))
    assert np.array_equal(found.values, signal.values)
