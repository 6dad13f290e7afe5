"""Not-so-Clevr: its pictures and splits, the published networks, and the script that makes the table."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from script_modules import script_modules

import spherecnn as sc
from spherecnn.datasets import not_so_clevr

ROOT = Path(__file__).resolve().parent.parent
HOLDOUTS, SPLITS = ("uniform", "quadrant"), ("train", "test")


# --- data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("holdout", "sizes"), [("uniform", (2368, 768)), ("quadrant", (2407, 729))])
def test_splits_have_the_published_sizes_and_cover_every_place_once(holdout, sizes):
    parts = [not_so_clevr(holdout=holdout, split=split).points for split in SPLITS]
    assert tuple(map(len, parts)) == sizes
    places = {(x, y) for x in range(4, 60) for y in range(4, 60)}
    assert {tuple(p) for p in np.concatenate(parts).tolist()} == places
    assert sum(sizes) == len(places) == 3136


def test_the_uniform_split_is_one_draw_a_place_with_x_the_slower():
    np.random.seed(20202)  # noqa: NPY002  (as the published generator does)
    held = [(x, y) for x in range(4, 60) for y in range(4, 60) if np.random.random() < 0.25]  # noqa: NPY002
    np.random.seed(10101)  # noqa: NPY002
    order = np.random.permutation(len(held))  # noqa: NPY002
    assert not_so_clevr(split="test").points.tolist() == [list(held[i]) for i in order]


def test_the_quadrant_is_right_and_below():
    train, test = (not_so_clevr(holdout="quadrant", split=split).points for split in SPLITS)
    assert (test > 32).all()
    assert not (train > 32).all(axis=1).any()


def test_pictures_have_the_point_at_row_y_and_column_x():
    data = not_so_clevr("render")
    i = int(np.flatnonzero((data.points == (4, 59)).all(axis=1) | (data.points == (7, 50)).all(axis=1))[0])
    x, y = data.points[i]
    (dot,), (square,) = data.onehots(np.array([i])), data.images(np.array([i]))
    assert dot.sum() == 1
    assert dot[y, x, 0] == 1
    expected = np.zeros((64, 64, 1), np.float32)
    expected[y - 4 : y + 5, x - 4 : x + 5] = 1
    assert np.array_equal(square, expected)
    assert dot.reshape(-1).argmax() == data.labels[i]


def test_images_are_onehots_convolved_with_nine_by_nine_ones():
    pick = np.arange(0, 2368, 97)
    data = not_so_clevr()
    conv = sc.layers.Conv2d(1, 1, 9, bias=False)
    conv.weight.value[...] = 1
    assert np.array_equal(conv(data.onehots(pick)), data.images(pick))


def test_a_scaled_point_equals_the_coordinates_of_its_pixel():
    data = not_so_clevr()
    field = sc.layers.CoordConv2d(1, 1, 1).coordinates(64, 64)
    x, y = data.points.T
    np.testing.assert_allclose(field[y, x], data.scaled, atol=1e-6)


def test_batches_of_each_task():
    pick = np.array([5, 0])
    for task, x_shape, y_shape in (
        ("classify", (2, 2), (2,)),
        ("regress", (2, 64, 64, 1), (2, 2)),
        ("render", (2, 2), (2, 64, 64, 1)),
    ):
        data = not_so_clevr(task)
        x, y = data.batch(pick)
        assert x.shape == x_shape
        assert y.shape == y_shape
        assert x.dtype == np.float32
    assert np.array_equal(not_so_clevr("regress").batch(pick)[1] * 64, data.points[pick])


@pytest.mark.parametrize("wrong", [{"task": "draw"}, {"holdout": "half"}, {"split": "validation"}])
def test_unknown_options_are_refused(wrong):
    with pytest.raises(sc.InputError, match="expected one of"):
        not_so_clevr(**wrong)


# --- networks ----------------------------------------------------------------------------------------------

COUNTS = [
    (sc.models.coordconv_painter, {}, 7553),
    *[
        (sc.models.deconv_painter, {"kernel_size": k, "mul": mul}, count)
        for mul, counts in ((1, (46465, 103585, 183553)), (2, (183041, 409921, 727553)), (3, (409729, 919009, 1632001)))
        for k, count in zip((2, 3, 4), counts, strict=True)
    ],
    (sc.models.coordconv_regressor, {}, 906),
    (sc.models.conv_regressor, {"holdout": "uniform"}, 72850),
    (sc.models.conv_regressor, {"holdout": "quadrant"}, 12914),
    (sc.models.coordconv_image_painter, {}, 8074),
    (sc.models.coordconv_image_painter, {"mul": 2}, 9490),
    (sc.models.coordconv_image_painter, {"kernel_size": 3}, 11850),
]


@pytest.mark.parametrize(("build", "options", "count"), COUNTS, ids=lambda v: getattr(v, "__name__", str(v)))
def test_parameters_are_as_many_as_published(build, options, count):
    net = build(**options, rng=0)
    assert net.parameter_count == count
    regress = build in (sc.models.coordconv_regressor, sc.models.conv_regressor)
    given = (2, 64, 64, 1) if regress else (2, 2)
    made = {sc.models.coordconv_image_painter: (2, 64, 64, 1)}.get(build, (2, 2) if regress else (2, 4096))
    assert net.out_shape(given) == made


def test_equal_seeds_give_equal_networks():
    for build, options, _ in COUNTS[::3]:
        first, second = (build(**options, rng=3).state() for _ in range(2))
        assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_regressor_finds_a_point_when_its_kernels_are_set_by_hand():
    """Each output is its coordinate at the point, and below every coordinate elsewhere: 3 [x = 1] + coordinate - 3."""
    net = sc.models.coordconv_regressor(rng=0)
    first, *rest = (net[i] for i in range(5))
    for layer in (first, *rest):
        layer.weight.value[...] = 0
    middle = [layer.weight.value.shape[0] // 2 for layer in rest]
    first.weight.value[0, 0, :, 0] = 3, 0.5, 0
    first.weight.value[0, 0, :, 1] = 3, 0, 0.5
    first.bias.value[:2] = -3
    for layer, m in zip(rest, middle, strict=True):
        layer.weight.value[m, m, [0, 1], [0, 1]] = 1
    data = not_so_clevr("regress")
    pick = np.arange(0, 2368, 200)
    np.testing.assert_allclose(net(data.onehots(pick)), data.scaled[pick] / 2, atol=1e-6)


def steps(net, loss, data, count, lr):
    """Train for some steps on the same few points; return the first and the last loss."""
    optimizer = sc.training.Adam(net.named_params(), lr=lr, betas=(0.9, 0.99))
    losses = []
    for _ in range(count):
        x, target = data.batch(np.arange(8))
        y, backward = net.forward(x, train=True)
        value, dy = loss(y, target if y.shape[:1] == target.shape else target.reshape(y.shape))
        optimizer.zero_grad()
        backward(dy, inputs=False)
        optimizer.step()
        losses.append(value)
    return losses[0], losses[-1]


@pytest.mark.parametrize(
    ("task", "build", "loss", "share"),
    [
        ("classify", sc.models.coordconv_painter, sc.training.CrossEntropyLoss(), 0.8),
        ("classify", sc.models.deconv_painter, sc.training.CrossEntropyLoss(), 0.5),
        ("regress", sc.models.coordconv_regressor, sc.training.MSELoss(), 0.5),
        ("regress", sc.models.conv_regressor, sc.training.MSELoss(), 0.5),
        ("render", sc.models.coordconv_image_painter, sc.training.BCEWithLogitsLoss(), 0.8),
        ("render", sc.models.deconv_painter, sc.training.BCEWithLogitsLoss(), 0.5),
    ],
)
def test_the_loss_falls(task, build, loss, share):
    first, last = steps(build(rng=0), loss, not_so_clevr(task), 30, 5e-3)
    assert last < share * first


# --- the script --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    """The module of scripts/notsoclevr.py."""
    with script_modules("notsoclevr") as found:
        yield found["notsoclevr"]


def call(script, *words):
    result = CliRunner().invoke(script.main, list(map(str, words)))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def test_the_script_says_how_to_use_it(script):
    said = call(script, "--help")
    assert "python scripts/notsoclevr.py" in said.split("Examples")[1]


def test_quick_writes_the_table_and_the_picture_and_goes_on(script, tmp_path):
    said = call(script, "--quick", "--task", "classify", "--out", tmp_path)
    assert "notsoclevr.png" in said
    lines = (tmp_path / "results.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert lines[-1].startswith("# ")
    assert [(r["split"], r["network"], r["parameters"]) for r in rows] == [
        ("uniform", "CoordConv", "7553"),
        ("quadrant", "CoordConv", "7553"),
        ("uniform", "deconvolution", "103585"),
        ("quadrant", "deconvolution", "103585"),
    ]
    assert (tmp_path / "results.md").read_text().count("\n") == 6
    again = call(script, "--quick", "--out", tmp_path, "--split", "quadrant", "--network", "coordconv", "--seed", 1)
    assert "classify-quadrant-coordconv-1 1/1" in again
    assert "| 906 | 1 | 1 |" in again
    once_more = call(script, "--quick", "--task", "classify", "--out", tmp_path)
    assert once_more.count("kept from before") == 4


def test_the_table_in_the_docs_is_what_the_committed_csv_says(script):
    lines = (ROOT / "benchmarks" / "notsoclevr.csv").read_text().splitlines()
    table = script.markdown(list(csv.DictReader(line for line in lines if not line.startswith("#"))))
    assert table.count("\n") > 2
    assert table in (ROOT / "docs" / "notsoclevr.md").read_text()
