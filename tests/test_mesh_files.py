"""Meshes in files: the order kept, what is damaged refused in a sentence, colours, and trimesh's icosphere."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import trimesh

from spherecnn.errors import InputError
from spherecnn.grids import Equirect, Icosphere, MeshGrid, read_mesh, read_triangles, trimesh_order, write_mesh

FORMATS = ["off", "obj", "ply", "stl", "glb"]
OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)])
EIGHT = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
BY_HAND = {
    "off": "OFF\n# an octahedron\n6 8 12\n"
    + "".join(f"{x} {y} {z}\n" for x, y, z in OCTAHEDRON)
    + "".join(f"3 {a} {b} {c}\n" for a, b, c in EIGHT),
    "obj": "o octahedron\nmtllib none.mtl\nvt 0 0\nvt 1 1\nvn 1 0 0\n"
    + "".join(f"v {x} {y} {z}\n" for x, y, z in OCTAHEDRON)
    + "".join(f"f {a + 1}/{i % 2 + 1}/1 {b + 1}/1/1 {c + 1}/2/1\n" for i, (a, b, c) in enumerate(EIGHT)),
    "ply": "ply\nformat ascii 1.0\nelement vertex 6\nproperty double x\nproperty double y\nproperty double z\n"
    "element face 8\nproperty list uchar int vertex_indices\nend_header\n"
    + "".join(f"{x} {y} {z}\n" for x, y, z in OCTAHEDRON)
    + "".join(f"3 {a} {b} {c}\n" for a, b, c in EIGHT),
    "stl": "solid octahedron\n"
    + "".join(
        "facet normal 0 0 0\nouter loop\n"
        + "".join("vertex {} {} {}\n".format(*OCTAHEDRON[v]) for v in face)
        + "endloop\nendfacet\n"
        for face in EIGHT
    )
    + "endsolid octahedron\n",
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_files_by_hand(tmp_path, kind):
    """Of STL vertices appear as 0, 1, 2, 3, 4, 5 too: the faces name them in this order."""
    path = tmp_path / f"octahedron.{kind}"
    path.write_text(BY_HAND[kind])
    assert read_mesh(path) == MeshGrid(OCTAHEDRON, EIGHT)
    assert read_mesh(str(path)).shape == (6,)


def test_triangles_of_any_mesh(tmp_path):
    """An open sheet is no grid, but can be read."""
    path = tmp_path / "sheet.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\nf 1 3 4\n")
    vertices, faces = read_triangles(path)
    assert vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    with pytest.raises(InputError, match=r"sheet\.obj, if it is complete, is no grid of the sphere: there are 2 faces"):
        read_mesh(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_there_and_back(tmp_path, kind):
    """To the bit in OFF and OBJ, else to float32; the order is kept, in STL the one in which faces name vertices."""
    grid, path = Icosphere(2), tmp_path / f"mesh.{kind.upper()}"
    write_mesh(path, grid)
    again = read_mesh(path)
    kept = grid.vertices if kind in ("off", "obj") else grid.vertices.astype(np.float32).astype(float)
    assert np.array_equal(again.vertices[again.faces], kept[grid.faces])
    if kind != "stl":
        assert np.array_equal(again.vertices, kept)
        assert np.array_equal(again.faces, grid.faces)
        assert again.coarsen().shape == (42,)
    first = again.faces.ravel()[np.sort(np.unique(again.faces, return_index=True)[1])]
    assert kind != "stl" or np.array_equal(first, np.arange(162))
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", ["off", "obj"])
@pytest.mark.parametrize("size", [1e-30, 1e-3, 1.0, 1e6, 1e30])
def test_vertices_anywhere_to_the_bit(tmp_path, kind, size):
    rng = np.random.default_rng(0)
    grid = MeshGrid(size * (OCTAHEDRON * np.pi * np.arange(1, 7)[:, None] + 1e-6 * rng.random((6, 3))), EIGHT)
    write_mesh(tmp_path / f"far.{kind}", grid)
    assert read_mesh(tmp_path / f"far.{kind}") == grid


def test_squares_are_divided(tmp_path):
    """A cube of six squares, the corners from the bits of their numbers."""
    corners = [[2 * (i >> k & 1) - 1 for k in range(3)] for i in range(8)]
    squares = [[1, 3, 7, 5], [0, 4, 6, 2], [2, 6, 7, 3], [0, 1, 5, 4], [4, 5, 7, 6], [0, 2, 3, 1]]
    lines = [
        "OFF",
        "8 6 12",
        *(" ".join(map(str, x)) for x in corners),
        *(" ".join(map(str, [4, *q])) for q in squares),
    ]
    (tmp_path / "cube.off").write_text("\n".join(lines))
    grid = read_mesh(tmp_path / "cube.off")
    assert (grid.sites, len(grid.faces)) == (8, 12)
    assert np.array_equal(grid.vertices, corners)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.98])
def test_files_cut_short(tmp_path, kind, share):
    path = tmp_path / f"mesh.{kind}"
    write_mesh(path, Icosphere(1))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError) as error:
        read_mesh(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert message.count(". ") == 0
    assert len(message.removeprefix(str(path))) < 300


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("content", [b"one small step\n", bytes(range(256)), b"\n \n"])
def test_files_of_another_kind(tmp_path, kind, content):
    path = tmp_path / f"mesh.{kind}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"mesh.{kind} (is empty|is damaged or not a mesh|has no faces)"):
        read_mesh(path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("mesh.off", None, "cannot be read (No such file"),
        ("mesh.txt", "OFF", "has the suffix '.txt'; expected one of glb, obj, off, ply, stl"),
        ("mesh", "OFF", "has the suffix ''"),
        ("points.off", "OFF\n6 0 0\n" + BY_HAND["off"].split("12\n")[1], "has no faces; expected a mesh of triangles"),
        ("points.obj", "v 1 0 0\nv 0 1 0\nv 0 0 1\n", "has no faces"),
        ("open.off", BY_HAND["off"].replace("6 8 12", "6 7 12"), "edge (0, 4) has one face; expected a closed mesh"),
        ("nan.off", BY_HAND["off"].replace("1.0 0.0 0.0", "nan 0 0", 1), "vertex 0 is (nan, 0, 0)"),
        ("aside.off", BY_HAND["off"].replace("-1.0", "0.5"), "expected a star-shaped mesh"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, sentence):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as error:
        read_mesh(path)
    assert sentence in str(error.value)
    assert name in str(error.value)


# --- writing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ply", "glb"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours(tmp_path, kind, channels):
    grid, path = Icosphere(1), tmp_path / f"mesh.{kind}"
    colours = np.random.default_rng(0).integers(0, 256, (42, channels)).astype(np.uint8)
    write_mesh(path, grid, colours)
    found = trimesh.load(path, force="mesh", process=False).visual.vertex_colors
    assert np.array_equal(found[:, :channels], colours)
    assert np.all(found[:, channels:] == 255)
    assert np.array_equal(read_mesh(path).faces, grid.faces)


GREY = np.full((42, 3), 127, np.uint8)


@pytest.mark.parametrize(
    ("name", "grid", "colours", "sentence"),
    [
        ("mesh.txt", Icosphere(1), None, "expected one of glb, obj, off, ply, stl"),
        ("mesh.off", Equirect(2), None, "the grid is Equirect(2, 4); expected a mesh"),
        ("mesh.off", Icosphere(1), GREY, "OFF files hold no colours of vertices here; expected PLY or GLB"),
        ("mesh.obj", Icosphere(1), GREY, "OBJ files hold no colours"),
        ("mesh.stl", Icosphere(1), GREY, "STL files hold no colours"),
        ("mesh.ply", Icosphere(1), GREY / 255, "colours are float64 of shape (42, 3); expected uint8"),
        ("mesh.ply", Icosphere(2), GREY, "expected uint8 of shape (162, 3) or (162, 4) for Icosphere(2)"),
        ("mesh.ply", Icosphere(1), GREY[:, :2], "colours are uint8 of shape (42, 2)"),
        ("none/mesh.off", Icosphere(1), None, "could not be written"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, grid, colours, sentence):
    with pytest.raises(InputError) as error:
        write_mesh(tmp_path / name, grid, colours)
    assert sentence in str(error.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="folders are locked otherwise")
def test_what_stood_there_stays(tmp_path, monkeypatch):
    path = tmp_path / "mesh.off"
    write_mesh(path, Icosphere(0))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_mesh(path, Icosphere(1))
    assert read_mesh(path).shape == (12,)
    assert os.listdir(tmp_path) == ["mesh.off"]


def test_trimesh_reads_what_we_write(tmp_path):
    """A library of its own finds a closed surface, and the volume of the octahedron."""
    for kind in FORMATS:
        write_mesh(tmp_path / f"o.{kind}", MeshGrid(OCTAHEDRON, EIGHT))
        mesh = trimesh.load(tmp_path / f"o.{kind}", force="mesh")
        assert mesh.is_watertight
        assert np.isclose(mesh.volume, 4 / 3)


# --- trimesh's icosphere -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(6))
def test_the_order_of_trimesh(level):
    theirs = trimesh.creation.icosphere(subdivisions=level)
    grid, order = Icosphere(level), trimesh_order(level)
    assert np.array_equal(np.sort(order), np.arange(grid.sites))
    assert np.allclose(grid.vertices[order], theirs.vertices, rtol=0, atol=1e-12)
    assert np.array_equal(order[:12], np.arange(12))
    assert np.array_equal(order, np.arange(grid.sites)) == (level == 0)
    # the same triangles
    ours = {frozenset(f) for f in grid.faces.tolist()}
    assert {frozenset(f) for f in order[theirs.faces].tolist()} == ours


def test_another_icosphere_is_noticed(monkeypatch):
    made = trimesh.creation.icosphere(subdivisions=1)
    made.apply_transform(trimesh.transformations.rotation_matrix(0.1, [0, 0, 1]))
    monkeypatch.setattr("trimesh.creation.icosphere", lambda subdivisions: made)
    with pytest.raises(InputError, match="makes another icosphere of level 1"):
        trimesh_order(1)
    with pytest.raises(InputError, match="level is -1"):
        trimesh_order(-1)
