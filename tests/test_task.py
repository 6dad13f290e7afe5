"""Dense tasks in the loop: missing targets, scores weighted by area, the best epoch, exact resume."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.training import (
    ArrayDataset,
    BerHuLoss,
    Classify,
    HuberLoss,
    Inpaint,
    InpaintLoss,
    L1Loss,
    MSELoss,
    Regress,
    Segment,
    class_weights,
    evaluate,
    fit,
    hole_errors,
    load_checkpoint,
    predict,
    regression_errors,
    target_moments,
)
from spherecnn.training.history import History

GRID = sc.grids.Equirect(4)
AREA = np.broadcast_to(GRID.area.reshape(1, 4, 8, 1), (3, 4, 8, 2))
LOSSES = [MSELoss, L1Loss, HuberLoss, BerHuLoss]


class Net(sc.layers.Composite):
    """Two circular convolutions."""

    def __init__(self, inputs, outputs, seed=0):
        super().__init__()
        self.grid = GRID
        rng = np.random.default_rng(seed)
        self.first = sc.layers.CircularConv2d(inputs, 8, 3, padding="same", rng=rng)
        self.act = sc.layers.ReLU()
        self.last = sc.layers.CircularConv2d(8, outputs, 1, padding="same", rng=rng)

    def trace(self, r, x):
        return r(self.last, r(self.act, r(self.first, x)))


def arrays(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, 3, 4, 8, 2)).astype(dtype)


# --- losses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", LOSSES)
def test_missing_targets_do_not_count(kind, dtype):
    """The loss of targets with gaps is that of the rest, gathered by hand."""
    y, target = arrays(dtype=dtype)
    missing = np.random.default_rng(1).random(y.shape) < 0.3
    gaps = np.where(missing, np.array([np.nan, np.inf, -np.inf], dtype)[np.arange(y.size).reshape(y.shape) % 3], target)
    value, dy = kind(area=GRID.area)(y, gaps)
    rest, weight = ~missing, AREA[~missing]
    expected, slope = kind(area=weight)(y[rest][None, :, None], target[rest][None, :, None])
    assert value == pytest.approx(expected, rel=1e-5)
    assert dy.dtype == dtype
    assert (dy[missing] == 0).all()
    np.testing.assert_allclose(dy[rest], slope.ravel(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_mask_of_zeros_leaves_out_what_a_gap_would(kind):
    y, target = arrays()
    mask = np.random.default_rng(1).random(y.shape[:-1]) < 0.5
    gaps = np.where(mask[..., None], target, np.nan)
    loss = kind(area=GRID.area)
    for given in (mask, mask[..., None], mask[..., None].astype(float)):
        value, dy = loss(y, target, given)
        expected, slope = loss(y, gaps)
        assert value == pytest.approx(expected)
        np.testing.assert_allclose(dy, slope)
    assert loss.count(y, target, mask) == pytest.approx(AREA[np.broadcast_to(mask[..., None], y.shape)].sum())


@pytest.mark.parametrize("kind", LOSSES)
def test_nothing_that_counts_gives_zero(kind):
    y, _ = arrays()
    value, dy = kind(area=GRID.area)(y, np.full_like(y, np.nan))
    assert value == 0
    assert (dy == 0).all()


@pytest.mark.parametrize("kind", LOSSES)
def test_nan_of_the_network_shows(kind):
    y, target = arrays()
    target[0, 0, 0] = np.nan
    y[1, 2, 3, 0] = np.nan
    assert np.isnan(kind()(y, target)[0])


@pytest.mark.parametrize("kind", [MSELoss, HuberLoss, BerHuLoss, InpaintLoss])
def test_gradient_of_gappy_targets(kind):
    y, target = arrays(3)
    target[0, 1] = np.nan
    if kind is InpaintLoss:
        target = np.concatenate([np.nan_to_num(target), np.random.default_rng(0).random((3, 4, 8, 1)) < 0.4], axis=-1)
    loss = kind(area=GRID.area)
    _, dy = loss(y, target)
    rng = np.random.default_rng(4)
    for _ in range(5):
        way = rng.standard_normal(y.shape)
        if kind is BerHuLoss:  # its threshold, a share of the largest error, is held constant
            off = np.where(np.isfinite(target), np.abs(y - target), 0)
            way[np.unravel_index(off.argmax(), off.shape)] = 0
        step = 1e-6 * way
        slope = (loss(y + step, target)[0] - loss(y - step, target)[0]) / 2e-6
        assert slope == pytest.approx((dy * way).sum(), rel=1e-5, abs=1e-9)


def test_berhu_bends_at_a_share_of_the_largest_error():
    y, target = np.array([[5.0], [1.0], [100.0]]), np.array([[0.0], [0.0], [np.nan]])
    value, dy = BerHuLoss()(y, target)
    assert value == pytest.approx(((25 + 1) / 2 + 1) / 2)
    np.testing.assert_allclose(dy.ravel(), [2.5, 0.5, 0])
    assert BerHuLoss()(target[:1], target[:1]) == (0, 0)


def test_inpaint_loss_by_hand():
    y, picture = arrays(5)
    hole = np.random.default_rng(0).random((3, 4, 8, 1)) < 0.3
    value, dy = InpaintLoss(area=GRID.area, hole=5, valid=0.5)(y, np.concatenate([picture, hole], axis=-1))
    weight = AREA * np.where(hole, 5, 0.5)
    assert value == pytest.approx((weight * abs(y - picture)).sum() / weight.sum())
    np.testing.assert_allclose(dy, weight * np.sign(y - picture) / weight.sum())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: L1Loss()(np.zeros((1, 4, 8, 1)), np.zeros((1, 4, 8, 1)), np.zeros((3, 3))), "the mask has shape"),
        (lambda: L1Loss()(np.zeros((2, 1)), np.zeros((2, 1)), np.array([1, -1])), "the mask has shape"),
        (lambda: BerHuLoss(share=0), "share is 0"),
        (lambda: InpaintLoss("berhu"), "loss is 'berhu'"),
        (lambda: InpaintLoss(hole=0), "hole is 0"),
        (lambda: InpaintLoss()(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 3))), "one channel more"),
        (lambda: Regress(std=0), "std is 0"),
        (lambda: Segment("mse"), "loss is 'mse'"),
        (lambda: regression_errors(np.zeros((2, 1)), np.zeros((3, 1))), "expected equal"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(InputError, match=says):
        call()


# --- scores ------------------------------------------------------------------------------------------------


def test_regression_errors_by_hand():
    rng = np.random.default_rng(0)
    t, y = rng.uniform(1, 5, (2, 3, 4, 8, 2))
    gaps = t.copy()
    gaps[rng.random(t.shape) < 0.2] = np.nan
    counted = np.isfinite(gaps)
    w = AREA[counted] / AREA[counted].sum()
    p, q = y[counted], t[counted]
    ratio = np.maximum(p / q, q / p)
    expected = {
        "rmse": math.sqrt((w * (p - q) ** 2).sum()),
        "mae": (w * abs(p - q)).sum(),
        "abs_rel": (w * abs(p - q) / q).sum(),
        "sq_rel": (w * (p - q) ** 2 / q).sum(),
        "rmse_log": math.sqrt((w * (np.log(p) - np.log(q)) ** 2).sum()),
    } | {f"delta{k}": (w * (ratio < 1.25**k)).sum() for k in (1, 2, 3)}
    found = regression_errors(y, gaps, area=GRID.area)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected)
    assert regression_errors(y, t, area=GRID.area, mask=counted) == pytest.approx(expected)
    tiny = regression_errors(np.array([[-5.0]]), np.array([[1.0]]))
    assert tiny["rmse_log"] == pytest.approx(math.log(1000))
    assert tiny["delta3"] == 0


def test_relative_errors_are_for_depths():
    found = regression_errors(np.array([[1.0], [2.0]]), np.array([[-1.0], [2.0]]))
    assert (found["mae"], found["rmse"]) == (1, math.sqrt(2))
    assert math.isnan(found["abs_rel"])
    assert math.isnan(found["delta1"])
    assert math.isnan(regression_errors(np.zeros((2, 1)), np.full((2, 1), np.nan))["rmse"])


def test_area_decides_what_an_error_weighs():
    target = np.zeros((1, 4, 8, 1))
    polar, equatorial = target.copy(), target.copy()
    polar[0, 0], equatorial[0, 1] = 1, 1
    band = (1 - math.sqrt(0.5)) / 2
    assert regression_errors(polar, target, area=GRID.area)["mae"] == pytest.approx(band)
    assert regression_errors(equatorial, target, area=GRID.area)["mae"] == pytest.approx(0.5 - band)


def test_hole_errors_look_into_the_hole_only():
    y, picture = arrays(6)
    hole = np.random.default_rng(0).random((3, 4, 8, 1)) < 0.3
    found = hole_errors(y, np.concatenate([picture, hole], axis=-1), area=GRID.area)
    inside = np.broadcast_to(hole, y.shape)
    w, off = AREA[inside] / AREA[inside].sum(), (y - picture)[inside]
    assert found["hole_l1"] == pytest.approx((w * abs(off)).sum())
    assert found["hole_l2"] == pytest.approx((w * off**2).sum())
    assert found["hole_psnr"] == pytest.approx(-10 * math.log10(found["hole_l2"]))
    assert math.isnan(hole_errors(y, np.concatenate([picture, 0 * hole], axis=-1))["hole_l1"])


def test_class_weights_balance_areas():
    rng = np.random.default_rng(0)
    target = rng.choice([0, 1, 3, 255], (5, 4, 8), p=[0.6, 0.2, 0.1, 0.1])
    data = ArrayDataset(np.zeros((5, 4, 8, 1), np.float32), target)
    weight = class_weights(data, 4, area=GRID.area, ignore_index=255, batch_size=2)
    area = np.broadcast_to(GRID.area.reshape(4, 8), target.shape)
    amounts = np.array([weight[k] * area[target == k].sum() for k in (0, 1, 3)])
    np.testing.assert_allclose(amounts, area[target != 255].sum() / 3)
    assert weight[2] == 0
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    flat = target[target != 255]
    theirs = sklearn.compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=flat)
    np.testing.assert_allclose(class_weights(data, 4, ignore_index=255)[[0, 1, 3]], theirs)
    with pytest.raises(InputError, match="a target is class 255"):
        class_weights(data, 4)
    with pytest.raises(InputError, match="no target counts"):
        class_weights(ArrayDataset(np.zeros((1, 1)), np.array([7])), 4, ignore_index=7)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_target_moments(batch_size):
    rng = np.random.default_rng(0)
    target = rng.normal(1e4, 3, (8, 4, 8, 1)).astype(np.float32)
    target[rng.random(target.shape) < 0.2] = np.nan
    target[5] = np.nan
    counted = np.isfinite(target)
    w = np.broadcast_to(GRID.area.reshape(4, 8, 1), target.shape)[counted]
    values = target[counted].astype(float)
    mean = (w @ values) / w.sum()
    found = target_moments(ArrayDataset(np.zeros((8, 1)), target), area=GRID.area, batch_size=batch_size)
    assert found == pytest.approx((mean, math.sqrt(w @ (values - mean) ** 2 / w.sum())))
    assert target_moments(ArrayDataset(np.zeros((1, 1)), np.full((1, 1), 3.0))) == (3, 1)
    with pytest.raises(InputError, match="no target is finite"):
        target_moments(ArrayDataset(np.zeros((1, 1)), np.full((1, 1), np.nan)))


# --- the loop ----------------------------------------------------------------------------------------------


def dense_data(task, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((12, 4, 8, 2)).astype(np.float32)
    if task == "segment":
        y = (x[..., 0] > 0).astype(np.int64)
        y[:, 0, 0] = 255
        data = ArrayDataset(x, y)
        data.ignore_index = 255
        return data
    if task == "regress":
        y = 100 + 20 * x[..., :1]
        y[:, 0, 0] = np.nan
        return ArrayDataset(x, y)
    pictures = 0.5 + 0.3 * np.sin(x[:, :1, :1] + np.arange(8).reshape(1, 1, 8, 1)) * np.ones((1, 4, 1, 1))
    return ArrayDataset(*sc.datasets.hide(pictures.astype(np.float32), rng.random((12, 4, 8)) < 0.3))


MAKE = {
    "segment": lambda: "segment",
    "regress": lambda: Regress(area=GRID.area, mean=100.0, std=20.0),
    "inpaint": lambda: "inpaint",
}
CHANNELS = {"segment": (2, 2), "regress": (2, 1), "inpaint": (3, 2)}


def train(task, folder, epochs, resume=False, **options):
    net = Net(*CHANNELS[task])
    settings = {"lr": 0.02, "batch_size": 4, "progress": False, "augment": sc.datasets.RotateAugment(GRID, "so3")}
    history = fit(
        net,
        dense_data(task),
        validation=dense_data(task, 1),
        task=MAKE[task](),
        epochs=epochs,
        out=folder,
        resume=resume,
        **settings | options,
    )
    return net, history


@pytest.mark.parametrize("task", MAKE)
def test_task_learns_and_resumes_to_the_same_bits(task, tmp_path):
    whole, history = train(task, tmp_path / "whole", 8)
    train(task, tmp_path / "parts", 5)
    resumed, again = train(task, tmp_path / "parts", 8, resume=True)
    for name, value in whole.state().items():
        np.testing.assert_array_equal(value, resumed.state()[name])
    assert history.best == again.best
    made = Regress if task == "regress" else {"segment": Segment, "inpaint": Inpaint}[task]
    scores = history[f"val_{made.criterion}"]
    better = max if made.goal == "max" else min
    assert history.best == better(scores)
    assert scores.index(history.best) + 1 == history.best_epoch
    assert history["train_loss"][-1] < history["train_loss"][0]
    assert load_checkpoint(tmp_path / "whole" / "best.safetensors")[0]["epoch"] == history.best_epoch
    with open(tmp_path / "whole" / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert {f"{part}_{name}" for part in ("train", "val") for name in made.metrics} <= rows[0].keys()
    assert [float(r[f"val_{made.criterion}"]) for r in rows] == scores
    assert (tmp_path / "whole" / "curves.png").stat().st_size > 5000


@pytest.mark.parametrize("batch_size", [1, 5, 12])
@pytest.mark.parametrize("task", MAKE)
def test_evaluate_does_not_depend_on_the_batches(task, batch_size):
    net, data = Net(*CHANNELS[task]), dense_data(task)
    whole = evaluate(net, data, task=MAKE[task](), batch_size=12)
    found = evaluate(net, data, task=MAKE[task](), batch_size=batch_size)
    assert found.keys() == whole.keys()
    for name in whole:
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-5)


def test_named_task_takes_area_and_ignored_label():
    net, data = Net(2, 2), dense_data("segment")
    found = evaluate(net, data, task="segment")
    expected = evaluate(net, data, task=Segment(area=GRID.area, ignore_index=255))
    np.testing.assert_equal(found, expected)
    assert set(found) == {"loss", "accuracy", "mean_iou", "iou"}
    with pytest.raises(InputError, match="class"):
        evaluate(net, data, task=Segment(area=GRID.area))


def test_predict_gives_what_the_outputs_mean():
    x = dense_data("segment").x
    net = Net(2, 2)
    np.testing.assert_array_equal(predict(net, x, 5, task=Segment()), net(x).argmax(-1))
    np.testing.assert_array_equal(predict(net, x, 5, task="segment"), net(x).argmax(-1))
    regress = Regress(mean=3.0, std=2.0)
    np.testing.assert_allclose(predict(net, x, 5, task=regress), net(x) * 2 + 3, rtol=1e-6)
    net, data = Net(3, 2), dense_data("inpaint")
    filled, hole = predict(net, data.x, 5, task=Inpaint()), data.x[..., -1] > 0
    np.testing.assert_array_equal(filled[~hole], data.x[~hole][:, :2])
    np.testing.assert_array_equal(filled[hole], np.clip(net(data.x), 0, 1)[hole])


def test_regress_scores_are_in_the_unit_of_the_targets():
    data, net = dense_data("regress"), Net(2, 1)
    found = evaluate(net, data, task=Regress(area=GRID.area, mean=100.0, std=20.0))
    expected = regression_errors(net(data.x).astype(float) * 20 + 100, data.y, area=GRID.area)
    assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-5)


def test_hole_scores_are_of_the_filled_pictures():
    data, net = dense_data("inpaint"), Net(3, 2)
    net.last.bias.value[:] = 3
    found = evaluate(net, data, task="inpaint")
    filled = predict(net, data.x, task=Inpaint())
    expected = hole_errors(filled, data.y, area=GRID.area)
    assert {k: found[k] for k in expected} == pytest.approx(expected, rel=1e-5)
    assert found["hole_l1"] < 1


def test_best_epoch_by_a_score_that_may_be_missing():
    history = History(metrics=["mean_iou"], criterion="mean_iou", goal="max")
    scores = [math.nan, 0.2, 0.5, math.nan, 0.4]
    best = [
        history.add({"epoch": i + 1, "train_loss": 1.0, "val_loss": 1.0, "val_mean_iou": s})
        for i, s in enumerate(scores)
    ]
    assert best == [True, True, True, False, False]
    assert (history.best, history.best_epoch) == (0.5, 3)


def test_patience_follows_the_score():
    net, data = Net(2, 2), dense_data("segment")
    frozen = sc.training.SGD(net.named_params(), lr=0.0)
    history = fit(net, data, validation=data, task="segment", optimizer=frozen, epochs=9, patience=2, progress=False)
    assert (history.epochs, history.stopped_early) == (3, True)


def test_bad_tasks(tmp_path):
    net, data = Net(2, 2), dense_data("segment")
    with pytest.raises(InputError, match="task is 'paint'"):
        fit(net, data, task="paint", progress=False)
    with pytest.raises(InputError, match="leave loss out"):
        fit(net, data, task=Segment(), loss="mse", progress=False)
    with pytest.raises(InputError, match="loss is 'l1'"):
        fit(net, data, task="segment", loss="l1", progress=False)
    with pytest.raises(InputError, match="a metric is 'rmse'"):
        evaluate(net, data, task="segment", metrics=["rmse"])
    fit(net, data, task="segment", epochs=1, out=tmp_path, progress=False)
    with pytest.raises(InputError, match="is of the task 'segment'; expected 'classify'"):
        fit(net, data, task=Classify(ignore_index=255), out=tmp_path, resume=True, progress=False)
