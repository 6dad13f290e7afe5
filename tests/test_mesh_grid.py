"""Any triangle mesh as a grid: what is refused, areas, search, reading, refinement, and what a checkpoint keeps."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import tomllib

import numpy as np
import pytest
from scipy.spatial import ConvexHull

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.grids import Cubemap, Equirect, Healpix, Icosphere, MeshGrid, Polyhedron, from_config
from spherecnn.grids.resample import resample, sampling_matrix
from spherecnn.training import dump_config

OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)])
NORTH = [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2]]
SOUTH = [[1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
EIGHT = np.array(NORTH + SOUTH)


def unit(xyz):
    return xyz / np.linalg.norm(xyz, axis=-1, keepdims=True)


def hull(points):
    """The convex hull about the origin, faces counterclockwise from outside."""
    faces = ConvexHull(points).simplices.astype(np.int64)
    inward = np.linalg.det(points[faces]) < 0
    faces[inward] = faces[inward][:, ::-1]
    return MeshGrid(points, faces)


def shapes():
    rng = np.random.default_rng(0)
    ico = Icosphere(3)
    crowded = np.concatenate([1e-3 * rng.standard_normal((300, 3)) + [1, 0, 0], rng.standard_normal((40, 3))])
    rings = sc.grids.directions(*np.meshgrid(np.arange(-8, 9) * 0.18, np.arange(24) * np.pi / 12))
    bumpy = ico.xyz * (1 + 0.3 * np.sin(3 * ico.lat) * np.cos(2 * ico.lon))[:, None]
    return {
        "octahedron": MeshGrid(OCTAHEDRON, EIGHT),
        "icosphere": MeshGrid(ico.vertices, ico.faces),
        "bumpy": MeshGrid(bumpy, ico.faces),
        "random": hull(unit(rng.standard_normal((400, 3)))),
        "crowded": hull(unit(crowded)),
        "meridians": hull(np.concatenate([rings.reshape(-1, 3), [[0, 0, 1], [0, 0, -1]]])),
        "needle": hull(np.array([[1, 0.01, 0.01], [1, -0.01, -0.01], [1, 0.01, -0.02], [-30, 0, 0.001]])),
    }


SHAPES = shapes()
EACH = pytest.mark.parametrize("grid", SHAPES.values(), ids=SHAPES)


def anywhere(count=1000):
    return unit(np.random.default_rng(1).standard_normal((count, 3)))


def on_edges(grid, count=500):
    rng = np.random.default_rng(2)
    a, b, _ = grid.xyz[grid.faces[rng.integers(0, len(grid.faces), count)]].transpose(1, 0, 2)
    share = rng.random((count, 1))
    return unit(share * a + (1 - share) * b)


# --- what is refused ---------------------------------------------------------------------------------------


def test_arrays_are_kept_as_given():
    points, faces = 2 * OCTAHEDRON.astype(np.float32), EIGHT.astype(np.uint8)
    grid = MeshGrid(points, faces)
    points[:], faces[:] = 0, 0
    assert grid.vertices.dtype == np.float64
    assert grid.faces.dtype == np.int64
    assert np.array_equal(grid.vertices, 2 * OCTAHEDRON)
    assert np.array_equal(grid.xyz, OCTAHEDRON)
    assert np.array_equal(grid.faces, EIGHT)
    for x in (grid.vertices, grid.faces, grid.xyz, grid.lat, grid.lon, grid.area):
        assert not x.flags.writeable


def changed(row, to, of=OCTAHEDRON):
    x = of.copy()
    x[row] = to
    return x


def pinched():
    """Two octahedra, one the other's mirror image about x = 3, that share the vertex (3, 0, 0)."""
    points = np.concatenate([OCTAHEDRON * [3, 1, 1], (OCTAHEDRON * [3, 1, 1] - [6, 0, 0]) * [-1, 1, 1]])
    faces = np.concatenate([EIGHT, 6 + EIGHT[:, ::-1]])
    keep = np.delete(np.arange(12), 6)  # (3, 0, 0) again
    number = np.zeros(12, int)
    number[keep] = np.arange(11)
    return points[keep], number[faces]


def nested():
    return np.concatenate([OCTAHEDRON, 2 * OCTAHEDRON]), np.concatenate([EIGHT, EIGHT + 6])


def dented():
    """An icosphere with one vertex pulled through the origin to the other side."""
    ico = Icosphere(1)
    return changed(12, [0, 0, -0.1], ico.vertices), ico.faces


@pytest.mark.parametrize(
    ("vertices", "faces", "sentence"),
    [
        (OCTAHEDRON[:, :2], EIGHT, "vertices has shape (6, 2); expected (P, 3)"),
        ("mesh", EIGHT, "vertices has shape ()"),
        ([[1, 2, 3], [4, 5]], EIGHT, "vertices is no array"),
        (OCTAHEDRON + 0j, EIGHT, "vertices has dtype complex128"),
        (OCTAHEDRON, [[0, 1, 2, 3]], "divide faces of four corners in triangles"),
        (OCTAHEDRON, EIGHT.astype(float), "faces has dtype float64"),
        (OCTAHEDRON[:3], EIGHT, "there are 3 vertices; expected at least 4"),
        (OCTAHEDRON, EIGHT[:0], "there are 0 faces"),
        (changed(4, [0, np.nan, 1]), EIGHT, "vertex 4 is (0, nan, 1); expected finite"),
        (changed(4, [0, np.inf, 1]), EIGHT, "vertex 4 is (0, inf, 1)"),
        (OCTAHEDRON * 1e200, EIGHT, "the vertices reach as far as 1e+200"),
        (OCTAHEDRON, changed(3, [4, 0, 6], EIGHT), "face 3 is (4, 0, 6); expected vertices from 0 to 5"),
        (OCTAHEDRON, changed(3, [4, 0, -1], EIGHT), "face 3 is (4, 0, -1)"),
        (np.concatenate([OCTAHEDRON, [[9, 9, 9]]]), EIGHT, "vertex 6 belongs to no face"),
        (changed(4, OCTAHEDRON[1]), EIGHT, "vertices 1 and 4 are the same point"),
        (OCTAHEDRON, changed(2, [3, 3, 2], EIGHT), "face 2, (3, 3, 2), has no area"),
        (changed(2, [0.5, 0.5, 0]), EIGHT, "face 0, (0, 1, 2), has no area"),
        (OCTAHEDRON, EIGHT[:-1], "edge (0, 4) has one face; expected a closed mesh"),
        (OCTAHEDRON, np.concatenate([EIGHT, EIGHT[:1]]), "edge (0, 1) has 3 faces; expected a manifold mesh"),
        (OCTAHEDRON, changed(1, [3, 1, 2], EIGHT), "faces 0 and 1 run along their edge (1, 2) in the same sense"),
        (*pinched(), "the faces at vertex 0 make 2 rings"),
        (OCTAHEDRON, EIGHT[:, ::-1], "the faces are clockwise seen from outside; expected counterclockwise: flip"),
        (OCTAHEDRON + [2, 0, 0], EIGHT, "seen from its outer side by the origin; expected a star-shaped mesh"),
        (OCTAHEDRON + [1, 0, 0], EIGHT, "vertex 3 is the origin"),
        (OCTAHEDRON + [0.5, 0.5, 0], EIGHT, "face 2, (3, 4, 2), lies in a plane through the origin"),
        (*dented(), "expected a star-shaped mesh"),
        (*nested(), "the mesh goes round the origin 2.00 times"),
    ],
)
def test_what_is_no_mesh_about_the_origin(vertices, faces, sentence):
    with pytest.raises(InputError) as error:
        MeshGrid(vertices, faces)
    message = str(error.value)
    assert sentence in message
    assert ": " in message
    assert message.endswith(".")
    assert message.count(". ") == 0


def test_a_vertex_around_which_faces_wind_twice():
    """A double cover of the sphere, branched at the poles: closed, manifold, each face seen from inside, but twice."""
    ring = np.arange(8) * np.pi / 2
    points = np.stack([np.cos(ring), np.sin(ring), np.repeat([0.0, 0.1], 4)], axis=-1)
    points = np.concatenate([points, [[0, 0, 1], [0, 0, -1]]])
    k = np.arange(8)
    up = np.stack([k, (k + 1) % 8, np.full(8, 8)], axis=-1)
    down = np.stack([(k + 1) % 8, k, np.full(8, 9)], axis=-1)
    with pytest.raises(InputError, match=r"goes round the origin 2\.00 times"):
        MeshGrid(points, np.concatenate([up, down]))


# --- areas, and where directions lie -----------------------------------------------------------------------


def test_areas_by_hand():
    """Each vertex of the octahedron has a third of four eighths of the sphere, however far out it is."""
    far = MeshGrid(OCTAHEDRON * np.arange(1, 7)[:, None], EIGHT)
    assert np.allclose(far.area, 4 * np.pi / 6, rtol=1e-14)
    assert np.allclose(far.lat, [0, 0, np.pi / 2, 0, 0, -np.pi / 2])
    assert np.allclose(far.lon[[0, 1, 3, 4]], [0, np.pi / 2, -np.pi, -np.pi / 2])


@EACH
def test_areas_sum_to_the_sphere(grid):
    assert abs(grid.area.sum() - 4 * np.pi) < 1e-12
    assert grid.area.min() > 0
    assert grid.pixel_side == np.sqrt(4 * np.pi / grid.sites)


def test_a_mesh_is_what_the_icosphere_is():
    """Two searches for the face, by distance and down the levels; all else is one code with one result."""
    ico, xyz = Icosphere(4), anywhere(5000)
    grid = MeshGrid(ico.vertices, ico.faces)
    assert isinstance(ico, MeshGrid)
    assert np.array_equal(grid.face_of(xyz), ico.face_of(xyz))
    assert np.array_equal(grid.nearest(xyz), ico.nearest(xyz))
    assert np.allclose(grid.area, ico.area, rtol=1e-12)
    assert grid != ico
    assert ico != grid


@EACH
def test_nearest_is_the_smallest_angle(grid):
    xyz = anywhere()
    cosine = xyz @ grid.xyz.T
    found = grid.nearest(3 * xyz)
    assert np.allclose(cosine[np.arange(len(xyz)), found], cosine.max(axis=1), rtol=0, atol=1e-14)
    assert np.array_equal(grid.nearest(grid.vertices), np.arange(grid.sites))


def depth(grid, xyz):
    """Sine of the angle of each direction to the nearest side of each face, negative outside, by brute force."""
    a, b, c = grid.xyz[grid.faces].transpose(1, 0, 2)
    return np.min([xyz @ unit(np.cross(p, q)).T for p, q in ((a, b), (b, c), (c, a))], axis=0)


@EACH
def test_the_face_of_a_direction_holds_it(grid):
    middles = unit(grid.xyz[grid.faces].mean(axis=1))
    for xyz in (anywhere(), middles[:1000], on_edges(grid), grid.xyz):
        inside, found = depth(grid, xyz), grid.face_of(0.3 * xyz)
        assert inside[np.arange(len(xyz)), found].min() > -1e-12
        clear = (inside > 1e-10).any(axis=1)
        assert np.array_equal(found[clear], inside[clear].argmax(axis=1))
    assert np.array_equal(grid.face_of(middles), np.arange(len(grid.faces)))


def test_on_edges_the_lower_number_is_taken():
    grid = MeshGrid(OCTAHEDRON, EIGHT)
    ends = OCTAHEDRON[EIGHT], OCTAHEDRON[np.roll(EIGHT, -1, axis=1)]
    for share in (0.5, 0.1, 0.73):
        xyz = share * ends[0] + (1 - share) * ends[1]
        corners = np.sort(np.stack([EIGHT, np.roll(EIGHT, -1, axis=1)], axis=-1), axis=-1)
        first = [[min(f for f in range(8) if set(pair) <= set(EIGHT[f])) for pair in face] for face in corners.tolist()]
        assert np.array_equal(grid.face_of(xyz.reshape(-1, 3)), np.ravel(first))
    assert np.array_equal(grid.face_of(OCTAHEDRON), [0, 0, 0, 1, 2, 4])


def test_the_numbers_of_faces_decide_not_their_places():
    """The same mesh with its faces in another order holds directions in the same faces, off the edges."""
    grid, xyz = SHAPES["crowded"], anywhere()
    order = np.random.default_rng(0).permutation(len(grid.faces))
    other = MeshGrid(grid.vertices, grid.faces[order])
    assert np.array_equal(order[other.face_of(xyz)], grid.face_of(xyz))


# --- reading -----------------------------------------------------------------------------------------------


def test_taps_by_hand():
    """Half way from x to y the line of sight meets the edge from (2, 0, 0) to (0, 1, 0) in (2/3, 2/3, 0)."""
    grid = MeshGrid(OCTAHEDRON * [[2], [1], [1], [1], [1], [1]], EIGHT)
    sites, weights = grid.taps(np.array([[1.0, 1.0, 0.0]]))
    assert sites.tolist() == [[0, 1, 2]]
    assert np.allclose(weights, [[1 / 3, 2 / 3, 0]], rtol=1e-14)


@EACH
def test_taps_meet_the_flat_faces(grid):
    """The weighted vertices lie on the line of sight: what barycentric weights mean."""
    xyz = np.concatenate([anywhere(), on_edges(grid)])
    sites, weights = grid.taps(2 * xyz)
    assert weights.min() >= 0
    assert np.allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-15)
    point = np.einsum("pt,pti->pi", weights, grid.vertices[sites])
    assert np.allclose(unit(point), xyz, rtol=0, atol=1e-8)


@EACH
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_reading_at_the_vertices_is_the_identity(grid, method):
    matrix = sampling_matrix(grid, 0.3 * grid.vertices, method)
    assert matrix.nnz == grid.sites
    assert np.array_equal(matrix.diagonal(), np.ones(grid.sites))


@pytest.mark.parametrize("name", ["icosphere", "bumpy", "random", "meridians"])
def test_parts_make_up_the_areas(name):
    """Each vertex has the thirds of its faces; small triangles are cut in nearly equal parts."""
    grid = SHAPES[name]
    fine = grid.refine().refine() if name == "icosphere" else grid
    total = sum(area for _, area in fine.divide(6))
    assert abs(total.sum() - 4 * np.pi) < 1e-2
    assert np.allclose(total, fine.area, rtol=1e-4 if name == "icosphere" else 0.02)
    for xyz, area in itertools.islice(grid.divide(1), 10):
        assert np.allclose(np.linalg.norm(xyz, axis=1), 1)
        assert np.all(grid.xyz[area > 0][:, None] @ xyz[area > 0][:, :, None] > 0)


GRIDS = [Equirect(9), Equirect(8, 16), Cubemap(4), Healpix(4), Polyhedron(2), Icosphere(3), MeshGrid(OCTAHEDRON, EIGHT)]
MESHES = [SHAPES["bumpy"], SHAPES["random"]]


@pytest.mark.parametrize("method", ["nearest", "bilinear", "supersample"])
@pytest.mark.parametrize(
    ("source", "target"), [p for a, b in itertools.product(GRIDS, MESHES) for p in ((a, b), (b, a))], ids=repr
)
def test_between_all_pairs_of_grids(source, target, method):
    """A constant stays, and a picture of the heights is one again; vertices at random leave some room between them."""
    x = np.stack([np.ones(source.sites), source.xyz[:, 2]], axis=-1).reshape(1, *source.shape, 2)
    y = resample(x, source, target, method).reshape(-1, 2)
    assert np.allclose(y[:, 0], 1, rtol=1e-12)
    coarser = max(source.pixel_side, target.pixel_side)
    assert np.abs(y[:, 1] - target.xyz[:, 2]).max() < 1.5 * coarser


def test_area_averages_are_refused_in_one_sentence():
    with pytest.raises(InputError, match="'supersample'"):
        resample(np.ones((6, 1)), MeshGrid(OCTAHEDRON, EIGHT), Equirect(2), "area")


def test_error_is_of_second_order_on_any_mesh():
    """A quadratic field on a bumpy mesh and its refinement; the error falls by four."""
    xyz, errors = anywhere(4000), []
    for grid in (SHAPES["bumpy"], SHAPES["bumpy"].refine()):
        field = lambda v: v[:, 0] * v[:, 1] + v[:, 2] ** 2  # noqa: E731
        errors.append(np.sqrt(np.mean((sampling_matrix(grid, xyz) @ field(grid.xyz) - field(xyz)) ** 2)))
    assert 3.3 < errors[0] / errors[1] < 4.7


# --- finer and coarser -------------------------------------------------------------------------------------


def test_refined_as_the_icosphere():
    """The same places and, face by face, the same children; only the numbers of the new vertices differ."""
    grid = MeshGrid(Icosphere(0).vertices, Icosphere(0).faces)
    for level in (1, 2, 3):
        grid = grid.refine()
        ico = Icosphere(level)
        assert grid.shape == ico.shape
        assert np.allclose(grid.vertices[grid.faces], ico.vertices[ico.faces], rtol=0, atol=1e-14)
        assert np.allclose(np.linalg.norm(grid.vertices, axis=1), 1, rtol=0, atol=1e-15)


def test_off_the_sphere_middles_stay_on_the_edges():
    grid = MeshGrid(3 * OCTAHEDRON, EIGHT)
    fine = grid.refine()
    assert fine.shape == (18,)
    assert np.array_equal(fine.vertices[:6], grid.vertices)
    ends = np.array([p for p in itertools.combinations(range(6), 2) if p[1] != p[0] + 3])
    assert np.array_equal(fine.vertices[6:], 3 * OCTAHEDRON[ends].mean(axis=1))
    assert np.array_equal(np.abs(fine.vertices).sum(axis=1), np.full(18, 3.0))  # the octahedron still


@EACH
def test_refined_meshes_hold_what_is_asked_of_a_mesh(grid):
    fine = grid.refine()
    again = MeshGrid(fine.vertices, fine.faces)
    assert again == fine
    assert again.coarsen() == grid == fine.coarsen()
    assert fine.coarsen() is grid
    a, b = grid.vertices[grid.faces], grid.vertices[np.roll(grid.faces, -1, axis=1)]
    children = fine.faces.reshape(-1, 4, 3)
    assert np.array_equal(children[:, [0, 1, 2], [0, 1, 2]], grid.faces)
    middle = (a + b) / 2
    assert np.allclose(unit(fine.vertices[children[:, 3]]), unit(middle), rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", [SHAPES["random"], MeshGrid(OCTAHEDRON, EIGHT), hull(OCTAHEDRON + 0.1)])
def test_what_was_never_refined_is_not_coarsened(grid):
    with pytest.raises(InputError, match=r"cannot be coarsened; expected a mesh made by refine\(\)"):
        grid.coarsen()


def test_faces_in_fours_by_another_order_are_not_joined():
    fine = MeshGrid(OCTAHEDRON, EIGHT).refine()
    turned = fine.faces.copy()
    turned[7] = np.roll(turned[7], 1)
    for faces in (turned, fine.faces[::-1]):
        with pytest.raises(InputError, match="cannot be coarsened"):
            MeshGrid(fine.vertices, faces).coarsen()


def test_poolings():
    """How often at least 42 vertices are left: of 6, 18, 66, 258 the last may be halved once."""
    grid, found = MeshGrid(OCTAHEDRON, EIGHT), []
    for _ in range(5):
        found.append(grid.poolings)
        grid = grid.refine()
    assert found == [0, 0, 0, 1, 2]
    assert [Icosphere(level).poolings for level in range(5)] == [0, 0, 1, 2, 3]
    assert SHAPES["icosphere"].poolings == 2  # middles numbered otherwise than by refine, but faces in fours


# --- identity, and what is kept ----------------------------------------------------------------------------


def test_equality_and_hash_by_content():
    grid = MeshGrid(OCTAHEDRON, EIGHT)
    same = MeshGrid(OCTAHEDRON.copy(), EIGHT.tolist())
    assert grid == same
    assert hash(grid) == hash(same)
    assert grid != MeshGrid(2 * OCTAHEDRON, EIGHT)
    assert grid != MeshGrid(OCTAHEDRON, EIGHT[::-1])
    assert grid != Equirect(2)
    assert len({grid, same, grid.refine()}) == 2
    assert hash(MeshGrid(OCTAHEDRON * [1, 1, -1] * [1, 1, -1], EIGHT)) == hash(grid)  # zeros of either sign
    assert repr(grid) == "MeshGrid(6 vertices, 8 faces)"
    for twin in (copy.deepcopy(grid), pickle.loads(pickle.dumps(grid))):
        assert twin == grid


@EACH
@pytest.mark.parametrize("times", [0, 2])
def test_config_rebuilds_to_the_bit(grid, times):
    for _ in range(times):
        grid = grid.refine()
    config = grid.config()
    assert config["refined"] == times
    for read in (json.loads(json.dumps(config)), tomllib.loads(dump_config(config))):
        again = from_config(read)
        assert again == grid
        assert again.config() == config


def test_config_keeps_what_was_moved_after_refining():
    fine = MeshGrid(OCTAHEDRON, EIGHT).refine()
    moved = MeshGrid(fine.vertices * np.linspace(1, 1.1, 18)[:, None], fine.faces)
    assert moved.config()["refined"] == 0
    assert from_config(moved.config()) == moved
    assert np.array_equal(moved.coarsen().vertices, moved.vertices[:6])


def test_a_checkpoint_keeps_the_mesh(tmp_path):
    model = sc.layers.Linear(3, 2, rng=0)
    model.config = {"model": "linear", "grid": SHAPES["crowded"].config()}
    path = tmp_path / "last.safetensors"
    sc.training.save_checkpoint(path, model)
    header, arrays, _ = sc.training.load_checkpoint(path)
    assert from_config(header["model"]["grid"]) == SHAPES["crowded"]
    sc.training.checkpoint.restore_model(model, header, arrays)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vertices": "AAAA"}, "the vertices of the mesh in the config are damaged"),
        ({"faces": "no base64!"}, "the faces of the mesh in the config are damaged"),
        ({"faces": ""}, "there are 0 faces"),
        ({"refined": -1}, "refined is -1"),
    ],
)
def test_damaged_configs(change, sentence):
    with pytest.raises(InputError) as error:
        from_config(MeshGrid(OCTAHEDRON, EIGHT).config() | change)
    assert sentence in str(error.value)


def test_a_mesh_too_large_to_keep(monkeypatch):
    monkeypatch.setattr("spherecnn.grids.mesh._MOST_SAVED", 5)
    with pytest.raises(InputError, match="too large to be kept with a model; expected at most 5 vertices"):
        MeshGrid(OCTAHEDRON, EIGHT).config()
