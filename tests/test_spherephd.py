"""SpherePHD: tables, convolution and pooling against published numbers, by hand, and by the icosahedron's symmetry."""

from pathlib import Path

import numba
import numpy as np
import pytest

import spherecnn as sc
from spherecnn import InputError, layers
from spherecnn.stencils import FACE_KERNELS, face_taps

GOLDEN = np.load(Path(__file__).parent / "reference" / "spherephd.npz")
LEVELS = (0, 1, 2)


def golden(group, *names):
    """Published arrays of a group, floats in double precision."""
    found = (GOLDEN[f"{group}/{name}"] for name in names)
    return [a.astype(np.float64) if a.dtype.kind == "f" else a for a in found]


def near(got, expected):
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * max(1, np.abs(expected).max()))


def convolved(x, weight, bias, faces):
    """The convolution spelled out, tap by tap."""
    return sum(x[:, faces[:, t]] @ weight[t] for t in range(faces.shape[1])) + bias


def turned(level):
    """Where each face goes when the polyhedron is turned by 72 degrees about the poles, to the east.

    Sections 0-4, 5-9, 10-14 and 15-19 are rings about the axis, so that a turn leads each to the next of its ring, with
    its apex and its rows: all faces of a ring have equal frames there.
    """
    each = 4**level
    return np.roll(np.arange(20 * each).reshape(4, 5, each), -1, axis=1).ravel()


# --- tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_published_tables(level):
    grid, group = sc.grids.Polyhedron(level), f"tables_l{level}"
    rotated, unrotated, hexagonal = golden(group, "radius2", "radius2_norotation1", "radius2_norotation2")
    np.testing.assert_array_equal(face_taps(grid, "rotated"), rotated)
    np.testing.assert_array_equal(face_taps(grid, "edge"), rotated[:, :4])
    np.testing.assert_array_equal(face_taps(grid, "point"), rotated[:, :1])
    np.testing.assert_array_equal(face_taps(grid, "unrotated"), unrotated)
    np.testing.assert_array_equal(face_taps(grid, "hexagonal"), hexagonal)
    names = {"section": "section", "x": "column", "y": "row", "up_in_section": "upright", "up_on_sphere": "north_up"}
    for published, ours in names.items():
        np.testing.assert_array_equal(getattr(grid, ours), GOLDEN[f"{group}/{published}"])
    near(grid.xyz, *golden(group, "face_centres"))
    if level:
        np.testing.assert_array_equal(grid.coarsen().children, GOLDEN[f"{group}/children"])


@pytest.mark.parametrize("level", range(5))
def test_every_face_is_read_as_often_as_there_are_taps(level):
    grid = sc.grids.Polyhedron(level)
    for kernel in ("rotated", "hexagonal", "edge", "point"):
        faces = face_taps(grid, kernel)
        assert (np.bincount(faces.ravel(), minlength=grid.sites) == FACE_KERNELS[kernel]).all()
    rotated = np.sort(face_taps(grid), axis=1)
    assert (rotated[:, 1:] != rotated[:, :-1]).all()  # ten different faces, around the 12 corners too


@pytest.mark.parametrize("level", range(9))
def test_areas_sum_to_the_sphere(level):
    assert sc.grids.Polyhedron(level).area.sum() == pytest.approx(4 * np.pi, rel=1e-13)


# --- convolution -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("level", [0, 2])
def test_published_convolution_and_gradients(level, relu):
    x, weight, bias, dy = golden(f"conv_l{level}", "x", "weight", "bias", "grad_out")
    names = ("y_relu", "relu_grad_x", "relu_grad_weight", "relu_grad_bias")
    y, dx, dw, db = golden(f"conv_l{level}", *(names if relu else ("y", "grad_x", "grad_weight", "grad_bias")))
    conv = layers.SpherePHDConv(3, 5, sc.grids.Polyhedron(level)).astype(np.float64)
    conv.weight.value[...], conv.bias.value[...] = weight, bias
    net = layers.Sequential(conv, layers.ReLU()) if relu else conv
    got, backward = net.forward(x, train=True)
    near(got, y)
    near(backward(dy), dx)
    near(conv.weight.grad, dw)
    near(conv.bias.grad, db)


@pytest.mark.parametrize(("kernel", "stride"), [(k, s) for k in FACE_KERNELS for s in (1, 2, 4)])
def test_convolution_is_its_definition(kernel, stride):
    rng, grid = np.random.default_rng(0), sc.grids.Polyhedron(2)
    conv = layers.SpherePHDConv(3, 4, grid, kernel, stride, rng=0).astype(np.float64)
    faces = face_taps(grid, kernel)
    middle, coarse = np.arange(grid.sites), grid
    while coarse != conv.grid_out:
        coarse = coarse.coarsen()
        middle = middle[coarse.children[:, 0]]
    faces, x = faces[middle], rng.standard_normal((2, grid.sites, 3))
    y, backward = conv.forward(x, train=True)
    near(y, convolved(x, conv.weight.value, conv.bias.value, faces))
    dy = rng.standard_normal(y.shape)
    dx, dw = np.zeros_like(x), np.zeros_like(conv.weight.value)
    for t in range(faces.shape[1]):
        for n in range(2):
            np.add.at(dx[n], faces[:, t], dy[n] @ conv.weight.value[t].T)
        dw[t] = np.einsum("npc,npk->ck", x[:, faces[:, t]], dy)
    near(backward(dy), dx)
    near(conv.weight.grad, dw)


@pytest.mark.parametrize("kernel", FACE_KERNELS)
def test_transposed_convolution_adds_copies_of_the_kernel(kernel):
    rng, grid = np.random.default_rng(0), sc.grids.Polyhedron(1)
    up = layers.SpherePHDConvTranspose(3, 4, grid, kernel, rng=0).astype(np.float64)
    x, faces = rng.standard_normal((2, grid.sites, 3)), face_taps(grid.refine(), kernel)[grid.children[:, 0]]
    expected = np.zeros((2, up.grid_out.sites, 4)) + up.bias.value
    for t in range(faces.shape[1]):
        for n in range(2):
            np.add.at(expected[n], faces[:, t], x[n] @ up.weight.value[t])
    near(up(x), expected)


@pytest.mark.parametrize("kernel", FACE_KERNELS)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_turn_by_a_fifth_permutes_the_output_bit_for_bit(kernel, stride):
    """All faces have equal frames in the sections of a ring, see `turned`; so the same sums run for each of them."""
    grid = sc.grids.Polyhedron(3)
    conv = layers.SpherePHDConv(5, 17, grid, kernel, stride, rng=0)
    x = np.random.default_rng(0).standard_normal((2, grid.sites, 5)).astype(np.float32)
    there, coarse = turned(3), turned(conv.grid_out.level)
    moved = np.empty_like(x)
    moved[:, there] = x
    y, z = conv(x), conv(moved)
    np.testing.assert_array_equal(z[:, coarse], y)
    assert np.abs(z - y).max() > 0.1


def test_the_turn_is_one_of_the_sphere():
    grid, angle = sc.grids.Polyhedron(3), 2 * np.pi / 5
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    near(grid.xyz[turned(3)], grid.xyz @ turn.T)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread only")
@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (2, 1), (4, 2), (2, 24)])
def test_equal_bits_on_one_and_two_threads(stride, groups):
    rng, grid = np.random.default_rng(0), sc.grids.Polyhedron(4)
    conv = layers.SpherePHDConv(24, 24, grid, stride=stride, groups=groups, rng=0)
    x = rng.standard_normal((2, grid.sites, 24), dtype=np.float32)
    dy = rng.standard_normal(conv.out_shape(x.shape), dtype=np.float32)
    before, results = numba.get_num_threads(), []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        conv.zero_grad()
        y, backward = conv.forward(x, train=True)
        results.append([y, backward(dy), conv.weight.grad, conv.bias.grad])
    numba.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert one.tobytes() == two.tobytes()


# --- pooling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["max", "mean"])
def test_published_pooling(mode):
    x, dy, y, dx = golden("pool_l2", "x", "grad_out", f"y_{mode}", f"grad_x_{mode}")
    got, backward = layers.SpherePHDPool(sc.grids.Polyhedron(2), mode).forward(x, train=True)
    near(got, y)
    near(backward(dy), dx)


def test_the_first_of_equal_maxima_has_the_gradient():
    """TensorFlow divides it among them: the sums over the children agree, and ours is where the first of them is."""
    grid = sc.grids.Polyhedron(2)
    x, y, dy, divided = golden("pool_l2", "tie_x", "tie_y_max", "grad_out", "tie_grad_x_max")
    children = grid.coarsen().children
    got, backward = layers.SpherePHDPool(grid).forward(x, train=True)
    near(got, y)
    dx, divided = backward(dy)[:, children], divided[:, children]
    assert ((divided != 0).sum(axis=2) > 1).any()
    first = np.argmax(divided != 0, axis=2)
    expected = np.zeros_like(dx)
    np.put_along_axis(expected, first[:, :, None], dy[:, :, None], axis=2)
    np.testing.assert_array_equal(dx, expected)


def test_nan_wins():
    grid = sc.grids.Polyhedron(1)
    x = np.zeros((1, 80, 3), np.float32)
    x[0, grid.coarsen().children[7, 2], 1] = np.nan
    y = layers.SpherePHDPool(grid)(x)
    assert np.isnan(y[0, 7, 1])
    assert np.isnan(y).sum() == 1


def test_area_pooling_keeps_the_integral():
    grid = sc.grids.Polyhedron(3)
    x = np.random.default_rng(0).standard_normal((2, grid.sites, 3))
    y = layers.SpherePHDPool(grid, "area")(x)
    children = grid.coarsen().children
    shares = grid.area[children] / grid.area[children].sum(axis=1, keepdims=True)
    assert np.abs(shares - 0.25).max() > 1e-3
    near(y, np.einsum("ps,npsc->npc", shares, x[:, children]))
    # a spherical face is exactly its four children, so their solid angles add up to its own
    near(np.einsum("p,npc->nc", grid.coarsen().area, y), np.einsum("p,npc->nc", grid.area, x))


def test_overlapping_pooling_reads_the_ten_faces_about_the_middle():
    grid = sc.grids.Polyhedron(2)
    x = np.random.default_rng(0).standard_normal((2, grid.sites, 18))
    y, indices = layers.SpherePHDPool(grid, return_indices=True, kernel="rotated")(x)
    faces = face_taps(grid)[grid.coarsen().children[:, 0]]
    np.testing.assert_array_equal(y, x[:, faces].max(axis=2))
    np.testing.assert_array_equal(np.take_along_axis(x, indices, axis=1), y)


def test_values_go_back_to_where_they_were():
    grid = sc.grids.Polyhedron(2)
    x = np.random.default_rng(0).random((2, grid.sites, 3))
    y, indices = layers.SpherePHDPool(grid, return_indices=True)(x)
    assert indices.dtype == np.int32
    expected = np.where(x == y[:, grid.parent], x, 0)
    np.testing.assert_array_equal(layers.SpherePHDUnpool(grid)(y, indices), expected)


# --- upsampling ------------------------------------------------------------------------------------------------


def test_published_upsampling():
    x, y, dy, dx = golden("pool_l2", "up_in", "up_out", "x", "up_grad_in_for_x")
    got, backward = layers.SpherePHDUpsample(sc.grids.Polyhedron(1)).forward(x, train=True)
    near(got, y)
    near(backward(dy), dx)


def smooth_error(level):
    """Largest error, over all faces, of a smooth field that is interpolated from this level to the next."""
    grid = sc.grids.Polyhedron(level)

    def field(xyz):
        x, y, z = xyz.T
        return (np.sin(2 * x - y) + z * y + z**2)[None, :, None]

    up = layers.SpherePHDUpsample(grid, "smooth")
    return np.abs(up(field(grid.xyz)) - field(up.grid_out.xyz)).max()


def test_smooth_upsampling_is_of_second_order_everywhere():
    coarse, middle, fine = (smooth_error(level) for level in (2, 3, 4))
    assert coarse < 0.1
    assert middle < coarse / 3
    assert fine < middle / 3


@pytest.mark.parametrize("mode", ["nearest", "smooth"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_constants_stay_constant(mode, dtype):
    grid = sc.grids.Polyhedron(2)
    y = layers.SpherePHDUpsample(grid, mode)(np.full((1, grid.sites, 9), 2.5, dtype))
    assert y.dtype == dtype
    np.testing.assert_allclose(y, 2.5, rtol=1e-6 if dtype == "float32" else 1e-14)


# --- networks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relu_logits", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_published_network_is_its_definition(weighted, relu_logits):
    grid = sc.grids.Polyhedron(3)
    net = sc.models.spherephd_mnist(grid, weighted=weighted, relu_logits=relu_logits, rng=0).astype(np.float64)
    assert net.parameter_count == 8_538
    x = z = np.random.default_rng(0).standard_normal((3, grid.sites, 1))
    at = grid
    for stage, name in enumerate(("features.0", "features.3", "features.6")):
        weight, bias = (net.named_params()[f"{name}.{p}"].value for p in ("weight", "bias"))
        z = convolved(z, weight, bias, face_taps(at))
        if stage < 2:
            at = at.coarsen()
            z = np.maximum(z, 0)[:, at.children].max(axis=2)
    z = np.maximum(z, 0) if relu_logits else z
    near(net(x), np.average(z, axis=1, weights=at.area if weighted else None))


FACES, TINY = sc.grids.Polyhedron(3), {"width": 4, "rng": 0}
NETWORKS = {
    "classifier": lambda: sc.models.classifier("spherephd", 2, 3, FACES, **TINY),
    "resnet": lambda: sc.models.resnet("spherephd", 2, 3, FACES, **TINY),
    "encoder_decoder": lambda: sc.models.encoder_decoder("spherephd", 2, 3, FACES, depth=2, **TINY),
    "unet": lambda: sc.models.unet("spherephd", 2, 3, FACES, depth=2, **TINY),
    "unet_nearest": lambda: sc.models.unet("spherephd", 2, 3, FACES, depth=2, up="nearest", **TINY),
    "unet_transpose": lambda: sc.models.unet("spherephd", 2, 3, FACES, depth=2, up="transpose", **TINY),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn(name):
    """A few steps on one batch lower the loss."""
    rng, net = np.random.default_rng(0), NETWORKS[name]()
    x = rng.standard_normal((4, net.grid.sites, 2)).astype(np.float32)
    dense = name.startswith(("unet", "encoder"))
    target = (x[..., 0] > 0).astype(int) if dense else np.array([0, 1, 2, 0])
    loss = sc.training.losses.LOSSES["cross_entropy"](**({"area": net.grid.area} if dense else {}))
    optimizer = sc.training.Adam(net.named_params(), lr=0.01)
    values = []
    for _ in range(4):
        y, backward = net.forward(x, train=True)
        value, dy = loss(y, target)
        values.append(value)
        backward(dy, inputs=False)
        optimizer.step()
        net.zero_grad()
    assert values[-1] < 0.95 * values[0]


# --- refusals --------------------------------------------------------------------------------------------------

GRID = sc.grids.Polyhedron(1)
SPHEREPHD, CIRCULAR = layers.method("spherephd"), layers.method("circular")


def test_methods_choose_their_grids():
    assert SPHEREPHD.grid() == sc.grids.Polyhedron(4)
    assert SPHEREPHD.grid(level=0) == sc.grids.Polyhedron(0)
    assert CIRCULAR.grid() == sc.grids.Equirect(60)
    assert CIRCULAR.grid(height=8) == sc.grids.Equirect(8)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: layers.SpherePHDConv(1, 1, sc.grids.Equirect(4)), "expected the faces of a polyhedron"),
        (lambda: layers.SpherePHDConv(1, 1, GRID, "round"), "kernel is 'round'; expected one of 'rotated'"),
        (lambda: layers.SpherePHDConv(1, 1, GRID, stride=3), "stride is 3 on .*; expected a power of two, at most 2"),
        (lambda: layers.SpherePHDConv(1, 1, GRID, stride=4), "stride is 4 on .*; expected a power of two, at most 2"),
        (lambda: layers.SpherePHDConv(1, 1, GRID, orientation="up"), "orientation is 'up'; expected one of 'section'"),
        (lambda: layers.SpherePHDConv(3, 4, GRID, groups=2), "groups is 2"),
        (lambda: layers.SpherePHDConv(3, 4, GRID)(np.zeros((1, 20, 3), np.float32)), r"expected \(N, 80, C\)"),
        (lambda: layers.SpherePHDConv(3, 4, GRID)(np.zeros((1, 80, 2), np.float32)), "has 2 channels"),
        (lambda: layers.SpherePHDPool(sc.grids.Polyhedron(0)), "is the icosahedron itself"),
        (lambda: layers.SpherePHDPool(GRID, "mean", return_indices=True), "expected 'max' for"),
        (lambda: layers.SpherePHDPool(GRID, "area", kernel="rotated"), "expected 'max' for"),
        (lambda: layers.SpherePHDUpsample(GRID, "cubic"), "mode is 'cubic'; expected one of 'nearest', 'smooth'"),
        (lambda: SPHEREPHD.grid(height=60), "height is 60 for method 'spherephd'; expected a level"),
        (lambda: CIRCULAR.grid(level=4), "level is 4 for method 'circular'; expected a height"),
        (lambda: SPHEREPHD.conv(1, 1, GRID, kernel_size=7), "kernel_size is 7 .*; expected 1 .*or 3"),
        (lambda: SPHEREPHD.conv(1, 1, GRID, dilation=2), "dilation is 2 for method 'spherephd'"),
        (lambda: SPHEREPHD.unpool(GRID, GRID), "are not one level apart"),
        (lambda: SPHEREPHD.upsample(GRID, sc.grids.Polyhedron(3)), "are not one level apart"),
        (lambda: SPHEREPHD.pool(GRID, kernel_size=5), "kernel_size is 5; expected one of 2, 3"),
        (lambda: sc.models.unet("spherephd", 1, 1, GRID, depth=2), "too small for a depth of 2"),
    ],
)
def test_bad_options_are_told(build, sentence):
    with pytest.raises(InputError, match=sentence):
        build()


@pytest.mark.parametrize(
    ("indices", "sentence"),
    [
        (np.zeros((1, 20, 1)), "the indices have dtype float64; expected integers"),
        (np.full((1, 20, 1), 80), "run from 80 to 80; expected faces of"),
        (np.full((1, 20, 1), -1), "run from -1 to -1; expected faces of"),
        (np.zeros((1, 20, 1), int), "index 0 does not lie in face 1 of"),
        (np.zeros((1, 20, 2), int), "expected equal shapes"),
    ],
)
def test_wrong_indices_are_told(indices, sentence):
    with pytest.raises(InputError, match=sentence):
        layers.SpherePHDUnpool(GRID)(np.zeros((1, 20, 1)), indices)
