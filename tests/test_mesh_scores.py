"""Scores of classes on a sphere that are rare or do not count: recall, IoU, average precision."""

from __future__ import annotations

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.training import Detect, Segment, average_precision, confusion, evaluate, iou, recall
from spherecnn.training.meters import ClassMeter
from spherecnn.training.precision import PrecisionMeter

RNG = np.random.default_rng(0)


def test_recall_and_iou_by_hand():
    truth, found = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 0, 1])
    each, mean = recall(found, truth, classes=4)
    np.testing.assert_allclose(each, [3 / 4, 1 / 2, 0, np.nan])
    assert mean == pytest.approx(5 / 12)
    np.testing.assert_allclose(iou(found, truth, classes=4)[0], [3 / 5, 1 / 4, 0, np.nan])


def test_unscored_classes_are_in_no_union_and_no_mean():
    """Vertices 5 and 6 are of class 0: whatever is predicted there counts nowhere; class 0 at vertex 3 is a miss."""
    truth, found = np.array([1, 1, 2, 2, 2, 0, 0]), np.array([1, 1, 2, 0, 1, 2, 1])
    meter = ClassMeter(None, -100, (0,))
    for part in (slice(0, 3), slice(3, 7)):
        meter.add(np.eye(3)[found[part]], truth[part])
    scores = meter.results()
    np.testing.assert_allclose(scores["iou"], [np.nan, 2 / 3, 1 / 3])
    np.testing.assert_allclose(scores["recall"], [np.nan, 1, 1 / 3])
    assert (scores["mean_iou"], scores["mean_recall"]) == (pytest.approx(1 / 2), pytest.approx(2 / 3))
    assert scores["accuracy"] == pytest.approx(3 / 5)


def test_scores_are_of_the_whole_set_and_not_means_over_batches():
    truth = np.repeat([0, 1], [6, 2])
    found = np.array([0, 0, 0, 1, 0, 0, 0, 1])
    meter = ClassMeter(None, -100)
    for k in range(4):  # the first three batches lack class 1
        part = slice(2 * k, 2 * k + 2)
        meter.add(np.eye(2)[found[part]], truth[part])
    np.testing.assert_allclose(meter.results()["iou"], [5 / 7, 1 / 3])


def test_unscored_targets_count_in_no_loss():
    y = RNG.normal(size=(1, 4, 3))
    target, kept = np.array([[1, 0, 2, 0]]), np.array([[1, 2]])
    value, dy = Segment(unscored=(0,)).measure(y, target)
    expected, _ = Segment().measure(y[:, ::2], kept)
    assert value == pytest.approx(expected)
    assert not dy[:, 1::2].any()
    with pytest.raises(InputError, match="a class of unscored is -1"):
        Segment(unscored=(-1,))


def odds(y):
    p = np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True)
    return p / (1 - p)


def test_average_precision_is_that_of_scikit_learn():
    score = pytest.importorskip("sklearn.metrics").average_precision_score
    y = RNG.normal(size=(40, 25, 3))
    target, area = RNG.integers(0, 3, (40, 25)), RNG.uniform(0.5, 1.5, 25)
    y[np.arange(40)[:, None], np.arange(25), target] += 0.5
    target[0, :5] = -100
    counted, weight = target != -100, np.broadcast_to(area, target.shape)
    for given, used in ((area, weight[counted]), (None, None)):
        each, mean = average_precision(y, target, area=given)
        expected = [score(target[counted] == k, odds(y)[counted][:, k], sample_weight=used) for k in range(3)]
        np.testing.assert_allclose(each, expected, rtol=1e-10)
        assert mean == pytest.approx(np.mean(expected))
        meter = PrecisionMeter(given, -100)
        for k in range(0, 40, 7):
            meter.add(y[k : k + 7], target[k : k + 7])
        np.testing.assert_allclose(meter.results()["average_precision"], expected, atol=2e-3)


def test_average_precision_by_hand_with_ties():
    """Log-odds 2, 1, 1, 0: one hit of one, then two of three, then two of four."""
    y = np.stack([np.zeros(4), np.array([2.0, 1, 1, 0])], axis=1)
    each, _ = average_precision(y, np.array([1, 0, 1, 0]))
    assert each[1] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    each, mean = average_precision(y, np.array([1, 1, 1, 1]))
    assert np.isnan(each[0])
    assert (each[1], mean) == (1, 1)


def test_average_precision_does_not_depend_on_the_constant_of_a_site():
    y, target = RNG.normal(size=(50, 3)), RNG.integers(0, 3, 50)
    np.testing.assert_allclose(
        average_precision(y, target)[0], average_precision(y + RNG.normal(size=(50, 1)), target)[0]
    )
    with pytest.raises(InputError, match="a target is class 3"):
        average_precision(y, target + 1)
    with pytest.raises(InputError, match="match them"):
        average_precision(y, target[:-1])


def test_detect_reports_its_scores_from_evaluate():
    class Net(sc.layers.ReLU):
        grid = sc.grids.Icosphere(1)

    x = np.abs(RNG.normal(size=(5, 42, 3))).astype(np.float32)
    target = RNG.integers(0, 3, (5, 42))
    task = Detect(area=Net.grid.area)
    found = evaluate(Net(), sc.training.ArrayDataset(x, target), task=task, batch_size=2)
    area = Net.grid.area
    np.testing.assert_allclose(found["average_precision"], average_precision(x, target, area=area)[0], atol=2e-3)
    matrix = confusion(x, target, area=area)
    np.testing.assert_allclose(found["recall"], np.diag(matrix) / matrix.sum(axis=1))
    assert set(found) == {"loss", *task.report}
