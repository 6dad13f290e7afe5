"""Layers between meshes: the authors' numbers, small cases by hand, and definitions in NumPy."""

from pathlib import Path

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.grids import Icosphere, operators
from spherecnn.layers import MeshConvTranspose, MeshPool, MeshUnpool, MeshUpsample

REFERENCE = np.load(Path(__file__).parent / "reference" / "ugscnn.npz")


def ends_of(level):
    """The two ends of the edge on whose middle each new vertex of this level lies: by distance, not by faces."""
    fine, coarse = Icosphere(level), Icosphere(level - 1)
    near = fine.xyz[coarse.sites :] @ coarse.xyz.T
    return np.sort(np.argsort(-near, axis=1)[:, :2], axis=1)


def windows(level):
    """Vertices of the window of each vertex of the coarser mesh."""
    kept, ends = Icosphere(level - 1).sites, ends_of(level)
    return [[p, *(kept + np.flatnonzero((ends == p).any(axis=1)))] for p in range(kept)]


# --- pooling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2])
def test_subsampling_takes_what_comes_first(level):
    """And so does the published one: x[..., :nv_prev], whose gradient is zero elsewhere."""
    grid, x = Icosphere(level), np.random.default_rng(0).standard_normal((2, Icosphere(level).sites, 3))
    y, backward = MeshPool(grid, "subsample").forward(x, train=True)
    np.testing.assert_array_equal(y, x[:, : grid.coarsen().sites])
    dx = backward(y)
    np.testing.assert_array_equal(dx[:, : y.shape[1]], y)
    assert not dx[:, y.shape[1] :].any()


@pytest.mark.parametrize("level", [1, 2])
def test_pooling_by_definition(level):
    grid, rng = Icosphere(level), np.random.default_rng(1)
    x, found = rng.standard_normal((2, grid.sites, 3)), windows(level)
    assert [len(w) for w in found] == [6] * 12 + [7] * (len(found) - 12)
    np.testing.assert_array_equal(MeshPool(grid)(x), np.stack([x[:, w].max(axis=1) for w in found], axis=1))
    np.testing.assert_allclose(MeshPool(grid, "mean")(x), np.stack([x[:, w].mean(axis=1) for w in found], axis=1))
    shares = [np.r_[grid.area[w[0]], grid.area[w[1:]] / 2] for w in found]
    means = [np.average(x[:, w], axis=1, weights=s) for w, s in zip(found, shares, strict=True)]
    np.testing.assert_allclose(MeshPool(grid, "area")(x), np.stack(means, axis=1))


def test_area_pooling_keeps_the_integral():
    grid = Icosphere(3)
    x = np.random.default_rng(2).standard_normal((1, grid.sites, 1))
    share = np.array([grid.area[w[0]] + grid.area[w[1:]].sum() / 2 for w in windows(3)])
    assert np.isclose((MeshPool(grid, "area")(x)[0, :, 0] * share).sum(), (x[0, :, 0] * grid.area).sum())


def test_the_first_of_equal_vertices_has_the_gradient():
    """Nothing else is a tie: the vertex, then neighbours in the order of their numbers."""
    grid, found = Icosphere(1), windows(1)
    x = np.zeros((1, 42, 2))
    x[:, :12, 1] = -1  # so that neighbours are equal, and larger than the vertex
    y, backward = MeshPool(grid).forward(x, train=True)
    dx = backward(np.ones_like(y))
    np.testing.assert_array_equal(dx[0, :, 0], np.arange(42) < 12)
    np.testing.assert_array_equal(dx[0, :, 1], np.bincount([min(w[1:]) for w in found], minlength=42))


def test_nan_wins():
    x = np.zeros((1, 42, 1))
    x[0, 30] = np.nan
    assert np.isnan(MeshPool(Icosphere(1))(x)).sum() == 2  # both ends of its edge
    assert np.isnan(MeshPool(Icosphere(1), "mean")(x)).sum() == 2


def test_unpooling_puts_maxima_back():
    """A middle that is the maximum of both its ends gets both."""
    grid, rng = Icosphere(2), np.random.default_rng(3)
    x = rng.standard_normal((2, grid.sites, 3))
    y, indices = MeshPool(grid, return_indices=True)(x)
    np.testing.assert_array_equal(np.take_along_axis(x, indices.astype(int), axis=1), y)
    values, expected = rng.standard_normal(y.shape), np.zeros(x.shape)
    n, _, c = np.indices(y.shape)
    np.add.at(expected, (n, indices, c), values)
    np.testing.assert_allclose(MeshUnpool(grid)(values, indices), expected)
    assert np.unique(indices[0, :, 0]).size < 42  # some do


@pytest.mark.parametrize("level", [1, 2, 3])
def test_upsampling_by_definition(level):
    coarse, ends = Icosphere(level - 1), ends_of(level)
    x = np.random.default_rng(4).standard_normal((2, coarse.sites, 3))
    for mode, middles in (("bilinear", x[:, ends].mean(axis=2)), ("nearest", x[:, ends[:, 0]])):
        up = MeshUpsample(coarse, mode)
        assert up.grid_out == Icosphere(level)
        np.testing.assert_allclose(up(x), np.concatenate([x, middles], axis=1))


def test_the_method_goes_up_several_levels():
    kind, x = sc.layers.method("mesh"), np.random.default_rng(9).standard_normal((2, 12, 3))
    steps = MeshUpsample(Icosphere(1))(MeshUpsample(Icosphere(0))(x))
    np.testing.assert_array_equal(kind.upsample(Icosphere(0), Icosphere(2))(x), steps)
    y, backward = kind.upsample(Icosphere(2), Icosphere(2)).forward(steps, train=True)
    np.testing.assert_array_equal(backward(y), steps)


# --- transposed convolution ------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [1, 2])
def test_published_transposed_convolution(level):
    conv = MeshConvTranspose(3, 5, Icosphere(level - 1)).astype(np.float64)
    conv.weight.value = REFERENCE[f"convT_l{level}_s2/coeffs"].transpose(2, 1, 0).astype(np.float64)
    conv.bias.value = REFERENCE[f"convT_l{level}_s2/bias"].astype(np.float64)
    x, dy = (REFERENCE[f"convT_l{level}_s2/{part}"].transpose(0, 2, 1).astype(np.float64) for part in ("x", "gy"))
    y, backward = conv.forward(x, train=True)
    found = y, backward(dy), conv.weight.grad.transpose(2, 1, 0), conv.bias.grad
    theirs = (REFERENCE[f"convT_l{level}_s2/{part}"] for part in ("y", "gx", "gcoeffs", "gbias"))
    for ours, published in zip(found, theirs, strict=True):
        published = published.transpose(0, 2, 1) if ours.ndim == 3 and len(ours) == 2 else published
        np.testing.assert_allclose(ours, published, atol=1e-10)


@pytest.mark.parametrize("fill", ["ones", "zeros", "interpolated"])
@pytest.mark.parametrize("kinds", [("published", "published"), ("mass", "compass")])
def test_transposed_convolution_by_definition(fill, kinds):
    """Fill the new vertices, then apply the operators of the fine mesh."""
    coarse, fine, rng = Icosphere(1), Icosphere(2), np.random.default_rng(5)
    conv = MeshConvTranspose(3, 4, coarse, fill, laplacian=kinds[0], derivatives=kinds[1], rng=0).astype(np.float64)
    x = rng.standard_normal((2, coarse.sites, 3))
    new = {"ones": np.ones((2, 120, 3)), "zeros": np.zeros((2, 120, 3)), "interpolated": x[:, ends_of(2)].mean(axis=2)}
    full = np.concatenate([x, new[fill]], axis=1)
    matrices = [operators.laplacian(fine, kinds[0]), *operators.derivatives(fine, kinds[1])]
    taps = np.stack([full, *(np.stack([m @ sample for sample in full]) for m in matrices)])
    expected = np.einsum("tnpc,tck->npk", taps, conv.weight.value) + conv.bias.value
    np.testing.assert_allclose(conv(x), expected, atol=1e-10)


def test_interpolated_vertices_make_no_steps():
    """A constant has neither a Laplacian nor derivatives; filled with ones or zeros it does."""
    coarse, x = Icosphere(2), np.full((1, 162, 1), 3.0)
    largest = {}
    for fill in ("ones", "zeros", "interpolated"):
        conv = MeshConvTranspose(1, 1, coarse, fill, operators=("laplacian", "east", "north"), bias=False, rng=0)
        largest[fill] = abs(conv.astype(np.float64)(x)).max()
    assert largest["interpolated"] < 1e-12
    assert min(largest["ones"], largest["zeros"]) > 1


# --- other meshes ----------------------------------------------------------------------------------------------


def bumpy(times):
    """An octahedron divided in four so many times, its vertices moved in and out."""
    corners = np.concatenate([np.eye(3), -np.eye(3)])
    turns = [(0, 1, 2), (1, 3, 2), (3, 4, 2), (4, 0, 2), (1, 0, 5), (3, 1, 5), (4, 3, 5), (0, 4, 5)]
    grid = sc.grids.MeshGrid(corners, np.array(turns))
    for _ in range(times):
        grid = grid.refine()
    scale = 1 + 0.2 * np.random.default_rng(6).random((grid.sites, 1))
    return sc.grids.MeshGrid(grid.vertices * scale, grid.faces)


def test_any_mesh_that_halves_edges():
    """Each vertex between the two ends that share its faces; operators are those of the moved mesh."""
    fine = bumpy(2)
    coarse, kept = fine.coarsen(), 18
    assert (coarse.sites, fine.sites) == (kept, 66)
    around = [{v for face in fine.faces if p in face for v in face} - {p} for p in range(fine.sites)]
    ends = np.array([sorted(v for v in around[p] if v < kept) for p in range(kept, fine.sites)])
    x, rng = np.random.default_rng(7).standard_normal((1, fine.sites, 2)), np.random.default_rng(8)
    found = np.stack([x[0, [p, *around[p]]].max(axis=0) for p in range(kept)])
    np.testing.assert_array_equal(MeshPool(fine)(x)[0], found)
    small = rng.standard_normal((1, kept, 2))
    np.testing.assert_allclose(MeshUpsample(coarse, grid_out=fine)(small)[:, kept:], small[:, ends].mean(axis=2))
    nearer = np.linalg.norm(fine.vertices[ends] - fine.vertices[kept:, None], axis=2).argmin(axis=1)
    found = MeshUpsample(coarse, "nearest", grid_out=fine)(small)[:, kept:]
    np.testing.assert_array_equal(found, small[:, ends[np.arange(48), nearer]])

    conv = MeshConvTranspose(2, 1, coarse, "zeros", bias=False, operators="laplacian", grid_out=fine).astype(float)
    full = np.concatenate([small, np.zeros((1, 48, 2))], axis=1)
    np.testing.assert_allclose(conv(small)[0], operators.laplacian(fine) @ full[0] @ conv.weight.value[0], atol=1e-12)
    net = sc.models.mesh_unet(2, 3, fine, width=2, depth=2, rng=0)
    assert net.ups[-1].up.grid_out == fine != coarse.refine()
    assert sc.models.build(net.config).grid == fine
    other = sc.models.unet("mesh", 2, 3, fine, width=2, depth=1, up="transpose", rng=0)
    assert other.out_shape((1, 66, 2)) == (1, 66, 3)


# --- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: MeshPool(Icosphere(2), "median"), "mode is 'median'"),
        (lambda: MeshPool(Icosphere(2), "mean", return_indices=True), "expected 'max'"),
        (lambda: MeshPool(Icosphere(0)), "cannot be coarsened"),
        (lambda: MeshPool(sc.grids.Polyhedron(2)), "expected a mesh"),
        (lambda: MeshUpsample(Icosphere(2), "area"), "mode is 'area'"),
        (lambda: MeshConvTranspose(1, 1, Icosphere(1), "twos"), "fill is 'twos'"),
        (lambda: MeshConvTranspose(1, 1, Icosphere(1), operators=("curl",)), "operators is 'curl'"),
        (lambda: MeshPool(Icosphere(2))(np.zeros((1, 42, 1))), r"expected \(N, 162, C\)"),
        (lambda: MeshUpsample(Icosphere(2))(np.zeros((1, 42, 1))), r"expected \(N, 162, C\)"),
        (lambda: MeshUnpool(Icosphere(1))(np.zeros((1, 12, 1)), np.zeros((1, 12, 1))), "expected integers"),
        (lambda: MeshUnpool(Icosphere(1))(np.zeros((1, 12, 1)), np.full((1, 12, 1), 42)), "run from 42 to 42"),
        (lambda: MeshUnpool(Icosphere(1))(np.zeros((1, 12, 1)), np.zeros((1, 12, 1), int)), "not beside vertex 1"),
        (lambda: MeshUnpool(Icosphere(1))(np.zeros((1, 12, 2)), np.zeros((1, 12, 1), int)), "expected equal shapes"),
        (lambda: MeshUpsample(Icosphere(0), grid_out=Icosphere(2)), "not one level apart"),
        (lambda: sc.layers.method("mesh").grid(height=8), "height is 8 for method 'mesh'"),
        (lambda: sc.layers.method("mesh").conv(1, 1, Icosphere(1), kernel_size=5), "kernel_size is 5"),
        (lambda: sc.layers.method("mesh").conv(1, 1, Icosphere(1), dilation=2), "dilation is 2"),
        (lambda: sc.layers.method("mesh").conv(1, 1, sc.grids.Equirect(8)), "expected a mesh"),
        (lambda: sc.layers.method("mesh").upsample(Icosphere(2), Icosphere(1)), "does not refine"),
        (lambda: sc.layers.method("mesh").upsample(bumpy(1), Icosphere(2)), "does not refine"),
        (lambda: sc.layers.method("mesh").unpool(Icosphere(0), Icosphere(2)), "not one level apart"),
    ],
)
def test_refusals(build, says):
    with pytest.raises(InputError, match=says):
        build()
