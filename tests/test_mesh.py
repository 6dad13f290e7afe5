"""Mesh convolution: operators and layers against the authors' numbers, by hand, and by what derivatives must do."""

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.grids import Icosphere, operators
from spherecnn.layers import MeshConv
from spherecnn.stencils import mesh

REFERENCE = np.load(Path(__file__).parent / "reference" / "ugscnn.npz")


def published(level, name, shape):
    """A matrix of the published meshes."""
    values, row, column = (REFERENCE[f"mesh_l{level}/{name}_{part}"] for part in ("data", "row", "col"))
    return sparse.csr_array((values, (row, column)), shape=shape)


def close(ours, theirs, tolerance=1e-12):
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= tolerance


# --- operators -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1, 2])
def test_published_operators(level):
    grid = Icosphere(level)
    p, f = grid.sites, len(grid.faces)
    g, mean = published(level, "G", (3 * f, p)), published(level, "F2V", (p, f))
    close(operators.gradient(grid), g)
    close(operators.laplacian(grid), published(level, "L", (p, p)))
    close(operators.face_to_vertex(grid), mean)
    close(operators.vertex_areas(grid), REFERENCE[f"mesh_l{level}/M"])
    close(operators.face_normals(grid), REFERENCE[f"mesh_l{level}/N"])
    for found, ways in zip(operators.derivatives(grid), ("EW", "NS"), strict=True):
        along = REFERENCE[f"mesh_l{level}/{ways}"]
        close(found, mean @ sum(sparse.diags_array(along[:, k]) @ g[k * f : (k + 1) * f] for k in range(3)))


def test_the_laplacian_is_the_energy_of_the_gradient():
    """u' L v = - sum over faces of A grad u . grad v, for any functions."""
    grid, rng = Icosphere(2), np.random.default_rng(0)
    u, v = rng.standard_normal((2, grid.sites))
    area = np.tile(operators.face_areas(grid), 3)
    energy = (area * (operators.gradient(grid) @ u) * (operators.gradient(grid) @ v)).sum()
    assert np.isclose(u @ (operators.laplacian(grid) @ v), -energy)


@pytest.mark.parametrize("kind", ["voronoi", "barycentric"])
def test_vertex_areas_sum_to_the_area_of_the_mesh(kind):
    grid = Icosphere(3)
    assert np.isclose(operators.vertex_areas(grid, kind).sum(), operators.face_areas(grid).sum())


def test_the_scaled_laplacian_is_of_the_size_of_the_published_one():
    """A harmonic of degree 2 has the eigenvalue -6, here times the mean area of a vertex."""
    grid = Icosphere(4)
    u = 3 * grid.xyz[:, 2] ** 2 - 1
    mean = operators.face_areas(grid).sum() / grid.sites
    off = operators.laplacian(grid, "scaled") @ u / mean + 6 * u
    assert np.sqrt((off**2).mean()) < 0.01 * np.sqrt((36 * u**2).mean())
    ratio = abs(operators.laplacian(grid, "scaled")).max() / abs(operators.laplacian(grid)).max()
    assert 0.7 < ratio < 1.5


@pytest.mark.parametrize("kind", operators.LAPLACIANS)
def test_constants_have_no_laplacian_and_no_derivatives(kind):
    grid, one = Icosphere(3), np.ones(Icosphere(3).sites)
    assert abs(operators.laplacian(grid, kind) @ one).max() < 1e-10
    for ways in operators.DERIVATIVES:
        for matrix in operators.derivatives(grid, ways):
            assert abs(matrix @ one).max() < 1e-12


def test_there_is_no_direction_at_a_pole():
    grid = Icosphere(3)
    for matrix in operators.derivatives(grid, "compass"):
        assert abs(matrix[12:14]).max() == 0


@pytest.mark.parametrize("ways", operators.DERIVATIVES)
def test_half_a_turn_about_the_axis_commutes_with_every_operator(ways):
    """The icosahedron has this turn; published derivatives mean nothing at the poles themselves."""
    grid, rng = Icosphere(3), np.random.default_rng(1)
    turn = grid.nearest(grid.xyz * [-1, -1, 1])
    u = rng.standard_normal(grid.sites)
    away = np.flatnonzero(abs(grid.xyz[:, 2]) < 1 - 1e-9)
    for matrix in (operators.laplacian(grid), operators.laplacian(grid, "mass"), *operators.derivatives(grid, ways)):
        close((matrix @ u[turn])[away], (matrix @ u)[turn][away], 1e-11)


def test_the_derivative_of_a_rotated_field_is_the_rotated_derivative():
    """By any angle, in the limit: twice as fine, half the difference, away from the poles."""

    def field(xyz):
        x, y, z = xyz.T
        return x * y + 0.5 * z * x + np.cos(2 * y)

    turned = np.array([[np.cos(0.7), -np.sin(0.7), 0], [np.sin(0.7), np.cos(0.7), 0], [0, 0, 1]])
    off = []
    for level in (3, 4, 5):
        grid = Icosphere(level)
        sites, weights = grid.taps(grid.xyz @ turned)
        belt = abs(grid.lat) < 1.2
        differences = []
        for matrix in operators.derivatives(grid, "compass"):
            rotated = (weights * (matrix @ field(grid.xyz))[sites]).sum(axis=1)
            differences.append(abs(matrix @ field(grid.xyz @ turned) - rotated)[belt].max())
        off.append(max(differences))
    assert off[0] < 0.1
    assert off[1] < off[0] / 1.7
    assert off[2] < off[1] / 1.7


# --- layers ----------------------------------------------------------------------------------------------------

CASES = ["conv_l0_s1", "conv_l1_s1", "conv_l1_s2", "conv_l2_s1", "conv_l2_s2"]


def loaded(layer, name):
    """The layer in float64 with the published coefficients; the input and the gradient of the output."""
    layer.astype(np.float64)
    layer.weight.value = REFERENCE[f"{name}/coeffs"].transpose(2, 1, 0).astype(np.float64)
    layer.bias.value = REFERENCE[f"{name}/bias"].astype(np.float64)
    return (np.ascontiguousarray(REFERENCE[f"{name}/{part}"].transpose(0, 2, 1), np.float64) for part in ("x", "gy"))


@pytest.mark.parametrize("name", CASES)
def test_published_convolution(name):
    level, stride = int(name[6]), int(name[9])
    conv = MeshConv(3, 5, Icosphere(level), stride)
    x, dy = loaded(conv, name)
    y, backward = conv.forward(x, train=True)
    close(y.transpose(0, 2, 1), REFERENCE[f"{name}/y"], 1e-10)
    close(backward(dy).transpose(0, 2, 1), REFERENCE[f"{name}/gx"], 1e-10)
    close(conv.weight.grad.transpose(2, 1, 0), REFERENCE[f"{name}/gcoeffs"], 1e-10)
    close(conv.bias.grad, REFERENCE[f"{name}/gbias"], 1e-10)


def test_chosen_operators_are_rows_of_all_four():
    grid, rng = Icosphere(2), np.random.default_rng(2)
    every = MeshConv(3, 4, grid, rng=0).astype(np.float64)
    some = MeshConv(3, 4, grid, operators=("north", "identity"), rng=0).astype(np.float64)
    every.weight.value[[1, 2]] = 0
    some.weight.value[:] = every.weight.value[[3, 0]]
    some.bias.value[:] = every.bias.value
    x = rng.standard_normal((2, grid.sites, 3))
    assert np.allclose(every(x), some(x), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"operators": ("identity", "curl")}, "operators is 'curl'"),
        ({"operators": ("east", "east")}, "each once"),
        ({"operators": ()}, "one or more"),
        ({"laplacian": "fem"}, "laplacian is 'fem'"),
        ({"derivatives": "east"}, "derivatives is 'east'"),
        ({"stride": 3}, "power of two"),
        ({"stride": 8}, "cannot be coarsened"),
    ],
)
def test_refused_options(options, says):
    with pytest.raises(InputError, match=says):
        MeshConv(1, 1, Icosphere(2), **options)


def test_other_grids_are_refused():
    with pytest.raises(InputError, match="expected a mesh"):
        MeshConv(1, 1, sc.grids.Polyhedron(1))
    with pytest.raises(InputError, match=r"expected \(N, 42, C\)"):
        MeshConv(1, 1, Icosphere(1))(np.zeros((1, 12, 1), np.float32))


def test_neighbours_stay_near_in_the_order_of_computation():
    """Each vertex is within a few bands of those that it reads; in the published order they are all over the mesh."""
    grid = Icosphere(5)
    stencil = mesh(grid)
    rank = np.empty(grid.sites, int)
    rank[stencil.order] = np.arange(grid.sites)
    a, b = grid.faces.ravel(), np.roll(grid.faces, 1, axis=1).ravel()
    assert sorted(stencil.order) == list(range(grid.sites))
    assert abs(rank[a] - rank[b]).max() < 0.05 * grid.sites < abs(a - b).max()
