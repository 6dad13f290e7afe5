"""Accuracy, confusion matrix and IoU, with and without area weights and ignored targets."""

import numpy as np
import pytest

from spherecnn.errors import InputError
from spherecnn.grids import Equirect
from spherecnn.training import accuracy, confusion, iou


def by_hand(prediction, target, classes, weight, ignore):
    matrix = np.zeros((classes, classes))
    for p, t, w in zip(prediction.ravel(), target.ravel(), weight.ravel(), strict=True):
        if t != ignore:
            matrix[t, p] += w
    return matrix


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [-100, 1])
def test_confusion_counts_each_site_once(rng_seed, weighted, ignore):
    rng = np.random.default_rng(rng_seed)
    grid = Equirect(4)
    scores = rng.standard_normal((3, 4, 8, 5))
    target = rng.integers(0, 5, (3, 4, 8))
    area = grid.area if weighted else None
    weight = np.broadcast_to(grid.area.reshape(4, 8) if weighted else 1.0, target.shape)
    expected = by_hand(scores.argmax(-1), target, 5, weight, ignore)
    found = confusion(scores, target, area=area, ignore_index=ignore)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(
        found, confusion(scores.argmax(-1), target, classes=5, area=area, ignore_index=ignore)
    )
    share = expected.trace() / expected.sum()
    assert accuracy(scores, target, area=area, ignore_index=ignore) == pytest.approx(share)


@pytest.fixture(params=[0, 1])
def rng_seed(request):
    return request.param


def test_rows_are_the_truth():
    assert confusion(np.array([1]), np.array([0]), classes=3)[0, 1] == 1


def test_area_decides_where_the_error_is():
    grid = Equirect(4)
    target = np.zeros((1, 4, 8), int)
    polar, equatorial = target.copy(), target.copy()
    polar[0, 0] = 1
    equatorial[0, 1] = 1
    band = (1 - np.sqrt(0.5)) / 2
    assert accuracy(polar, target, classes=2, area=grid.area) == pytest.approx(1 - band)
    assert accuracy(equatorial, target, classes=2, area=grid.area) == pytest.approx(0.5 + band)
    assert accuracy(polar, target, classes=2) == accuracy(equatorial, target, classes=2) == 0.75


def test_iou_of_a_known_case():
    each, mean = iou(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), classes=3)
    np.testing.assert_allclose(each, [1 / 3, 2 / 4, np.nan])
    assert mean == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_nothing_counted_is_nan():
    target = np.full(4, -100)
    assert np.isnan(accuracy(np.zeros((4, 2)), target))
    assert np.isnan(iou(np.zeros((4, 2)), target)[1])


@pytest.mark.parametrize(
    ("y", "target", "options", "words"),
    [
        (np.zeros((4, 2)), np.zeros(3, int), {}, "shape"),
        (np.zeros(4, int), np.zeros(4, int), {}, "None classes"),
        (np.zeros((2, 3)), np.array([0, 3]), {}, "class 3"),
        (np.zeros((2, 3)), np.array([-1, 0]), {}, "class -1"),
        (np.zeros((1, 4, 8, 2)), np.zeros((1, 4, 8), int), {"area": np.ones(3)}, "area has 3 sites"),
        (np.zeros((5, 2)), np.zeros(5, int), {"area": np.ones(5)}, "area"),
    ],
)
def test_bad_input(y, target, options, words):
    with pytest.raises(InputError, match=words):
        confusion(y, target, **options)
