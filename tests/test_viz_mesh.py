"""Pictures of meshes: what is in front, what is where, and in which colour."""

from __future__ import annotations

import numpy as np
import pytest

from spherecnn.cli.pictures import read_picture
from spherecnn.errors import InputError
from spherecnn.grids import Equirect, Icosphere, MeshGrid, Polyhedron
from spherecnn.viz import draw_fields, draw_mesh, draw_quality, render_mesh, unroll_mesh
from spherecnn.viz.labels import IGNORED
from spherecnn.viz.mesh import Colours
from spherecnn.viz.raster import rasterise

RED, BLUE = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
GREY = Colours("gray", -1, 1)
OCTAHEDRON = MeshGrid(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]],
    [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]],
)


def middles(size):
    """Right and up at the middles of the pixels of a view."""
    line = (np.arange(size) + 0.5) * 2 / size - 1
    return np.meshgrid(line, -line)


# --- triangles as pixels -----------------------------------------------------------------------------------


def test_pixels_of_a_triangle_and_their_weights():
    """The lower left half of a view: a pixel is inside where right + up < 0."""
    corners = np.array([[[0.0, -1, -1], [0, 1, -1], [0, -1, 1]]])
    face, weights = rasterise(corners, 16)
    right, up = middles(16)
    inside = right + up < 1e-9
    assert np.array_equal(face, np.where(inside, 0, -1))
    there = weights[inside]
    assert np.allclose(there, np.stack([-(right + up), right + 1, up + 1], axis=-1)[inside] / 2)
    assert not weights[~inside].any()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_foremost_is_seen_and_the_back_is_not(order):
    big = [[0.0, -3, -3], [0, 3, -3], [0, 0, 5]]
    small = [[0.1, -0.5, -0.5], [0.1, 0.5, -0.5], [0.1, 0, 0.5]]
    face, _ = rasterise(np.array([big, small])[order], 20)
    assert face[12, 10] == order.index(1)
    assert face[2, 10] == order.index(0)
    turned, _ = rasterise(np.array([big, small[::-1]]), 20)
    assert (turned == 0).all()


def test_where_planes_cross_each_is_in_front_on_its_side():
    """Two triangles that fill the view, one nearer to the left, the other nearer to the right."""
    one = [[4.0, -4, -4], [-4, 4, -4], [0, 0, 8]]
    other = [[-4.0, -4, -4], [4, 4, -4], [0, 0, 8]]
    face, _ = rasterise(np.array([one, other]), 30)
    right, _ = middles(30)
    assert np.array_equal(face, np.where(right < 0, 0, 1))


@pytest.mark.parametrize("level", [0, 2, 5])
def test_pixels_cover_the_silhouette(level):
    """The area of the silhouette by Cauchy's formula: its mean over directions is a quarter of the surface."""
    grid = Icosphere(level)
    faces = grid.vertices[grid.faces]
    surface = np.linalg.norm(np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0]), axis=1).sum() / 2
    covered = []
    for turn in np.linalg.qr(np.random.default_rng(0).normal(size=(40, 3, 3)))[0]:
        turn = turn * np.sign(np.linalg.det(turn))
        covered.append(4 * (rasterise(faces @ turn, 64)[0] >= 0).mean())
    assert np.isclose(np.mean(covered), surface / 4, rtol=0.01)


# --- views -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "view", "red", "blue"),
    [
        (lambda lat, lon: lon > 0, (0, 0), (20, 30), (20, 10)),  # east is right of Greenwich
        (lambda lat, lon: lon > 0, (0, 180), (20, 10), (20, 30)),
        (lambda lat, lon: lat > 0, (0, 75), (10, 20), (30, 20)),  # north is up
        (lambda lat, lon: abs(lon) < 90, (90, 0), (30, 20), (10, 20)),  # from above the pole, lon 0 is down
        (lambda lat, lon: abs(lon) < 90, (-90, 0), (10, 20), (30, 20)),
        (lambda lat, lon: lat > 50, (50, 130), (5, 20), (25, 20)),
    ],
)
@pytest.mark.parametrize("radius", [1, 7.5])
def test_a_view_has_east_right_and_north_up(where, view, red, blue, radius):
    grid = MeshGrid(radius * Icosphere(4).vertices, Icosphere(4).faces)
    values = np.where(where(np.degrees(grid.lat), np.degrees(grid.lon))[:, None], RED, BLUE)
    picture = render_mesh(grid, values, *view, size=40)
    assert np.allclose(picture[red], [*RED, 1], atol=1e-5)
    assert np.allclose(picture[blue], [*BLUE, 1], atol=1e-5)
    assert picture[0, 0, 3] == 0


@pytest.mark.parametrize("level", [0, 3])
def test_values_are_linear_between_vertices(level):
    """From (0, 0) the y of a flat triangle is what lies to the right."""
    grid = Icosphere(level)
    view = render_mesh(grid, grid.vertices[:, 1], 0, 0, size=50, edges=False, scale=GREY)
    right, _ = middles(50)
    inside = view[..., 3] == 1
    assert inside.mean() > 0.5
    assert np.abs(view[..., 0] - (right + 1) / 2)[inside].max() < 1.5 / 255


def test_class_numbers_are_not_blended_and_missing_values_are_grey():
    grid = Icosphere(2)
    labels = np.where(grid.lat > 0, 7, 3)
    view = render_mesh(grid, labels, 0, 0, size=60, edges=False, scale=Colours("gray", 3, 7))
    shades = view[view[..., 3] == 1][:, 0]
    assert np.isin(shades.round(6), [0, 1]).mean() > 0.9  # the rest are pixels on the border
    field = np.where(grid.lat > 0.2, np.nan, 0.0)
    view = render_mesh(grid, field, 0, 0, size=60, edges=False, scale=GREY)
    assert np.allclose(view[8, 30, :3], IGNORED, atol=1e-6)
    assert np.allclose(view[50, 30, :3], 0.5, atol=0.01)


def test_values_on_faces():
    grid = Polyhedron(2)
    view = render_mesh(grid, np.where(grid.lat[:, None] > 0, RED, BLUE), 0, 90, size=40)
    assert np.allclose(view[[5, 34], 20, :3].max(axis=-1), 1, atol=0.3)
    assert view[5, 20, 0] > 0.5 > view[5, 20, 2]
    assert view[34, 20, 2] > 0.5 > view[34, 20, 0]


def test_edges_are_dark_and_light_comes_from_the_left():
    plain = render_mesh(OCTAHEDRON, None, 30, 0, size=80, edges=False)
    drawn = render_mesh(OCTAHEDRON, None, 30, 0, size=80, edges=True)
    darker = drawn[..., 0] < 0.9 * plain[..., 0]
    assert darker[:, 39:41].any(axis=1)[15:65].mean() > 0.9  # the meridian of Greenwich is an edge
    assert darker[..., :].mean() < 0.15
    assert plain[30, 30, 0] > plain[30, 50, 0]


# --- unrolled ----------------------------------------------------------------------------------------------


def test_unrolled_is_where_the_ray_meets_the_face():
    """On the octahedron |x| + |y| + |z| = 1, so that z is that of the direction over the sum of its three parts."""
    pixels = unroll_mesh(OCTAHEDRON, OCTAHEDRON.vertices[:, 2], height=32, edges=False, scale=GREY)
    xyz = Equirect(32).xyz
    expected = (xyz[:, 2] / np.abs(xyz).sum(axis=1)).reshape(32, 64)
    assert pixels.shape == (32, 64, 3)
    assert np.abs(2 * pixels[..., 0] - 1 - expected).max() < 0.02


def test_unrolled_faces_and_mesh():
    grid = Polyhedron(1)
    pixels = unroll_mesh(grid, np.where(grid.lat[:, None] > 0, RED, BLUE), height=16, edges=False)
    assert np.allclose(pixels[:4], RED)
    assert np.allclose(pixels[-4:], BLUE)
    lines = unroll_mesh(OCTAHEDRON, None, height=32, edges=True)[..., 0]
    # edges run along the equator and the meridians of 0, 90 and 180 degrees
    assert lines[15:17].mean() < 0.8 * lines[8].max()
    assert np.all(lines[5:12, [15, 31, 47]] < 0.8 * lines[8].max())


# --- whole pictures ----------------------------------------------------------------------------------------


def test_colours_of_a_field():
    assert Colours.of(np.array([2.0, np.nan, 5.0])) == Colours("viridis", 2, 5)
    assert Colours.of(np.array([-1.0, 4.0])) == Colours("RdBu_r", -4, 4)
    assert Colours.of(np.array([-1.0, 4.0]), "magma", (0, 1)) == Colours("magma", 0, 1)
    assert Colours.of(np.array([np.nan])) == Colours("viridis", 0, 1)
    assert np.allclose(Colours("gray", 3, 3).rgb(np.array([3.0, np.nan]))[1], IGNORED)


def test_pictures_are_written(tmp_path):
    grid = Icosphere(3)
    draw_mesh(grid, grid.lat, tmp_path / "field.png", size=100, unit="radians", title="latitude")
    draw_mesh(grid, None, tmp_path / "mesh.png", [(20, 30)], size=80, unrolled=False)
    draw_mesh(grid, (grid.xyz + 1) / 2, tmp_path / "rgb.jpg", size=100, graticule=True, edges=False)
    draw_fields(grid, {"a": grid.lat}, tmp_path / "one.png", units={"a": "m"})
    draw_quality(Icosphere(0), tmp_path / "even.png", np.ones((8, 2)), title="even")  # every area is the same
    seen = {p.name: read_picture(p) for p in tmp_path.iterdir()}
    assert all(pixels[..., :3].std() > 10 for pixels in seen.values())
    # half as many pixels across a view, half as large a picture
    draw_mesh(grid, None, tmp_path / "large.png", [(20, 30)], size=160, unrolled=False)
    assert read_picture(tmp_path / "large.png").shape[1] == pytest.approx(2 * seen["mesh.png"].shape[1], abs=2)


@pytest.mark.parametrize("shape", [(41,), (42, 2), (42, 3, 1), ()])
def test_foreign_values_are_refused(shape, tmp_path):
    with pytest.raises(InputError, match=r"expected \(42,\) at the vertices or \(80,\) on the faces"):
        draw_mesh(Icosphere(1), np.zeros(shape), tmp_path / "o.png")
    assert not list(tmp_path.iterdir())


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(InputError, match="no fields"):
        draw_fields(Icosphere(1), {}, tmp_path / "o.png")
    with pytest.raises(InputError, match="suffix"):
        draw_mesh(Icosphere(1), None, tmp_path / "o.bmp", size=20)
