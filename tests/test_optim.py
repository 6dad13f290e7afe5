"""Losses, optimizers, gradient clipping and schedules against torch."""

import numpy as np
import pytest

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.layers.base import Param
from spherecnn.training import (
    SGD,
    Adam,
    AdamW,
    BCEWithLogitsLoss,
    CosineLR,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    ReduceOnPlateau,
    StepLR,
    clip_grad_norm,
)

torch = pytest.importorskip("torch")
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-10}
PRECISIONS = list(TOLERANCE)


def close(a, b, dtype):
    b = b.detach().numpy() if isinstance(b, torch.Tensor) else b
    scale = max(np.abs(b).max(), 1e-3) if np.size(b) else 1.0
    np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


def rows_first(y):
    """Channels-last scores as torch wants them: (N, K, ...)."""
    return torch.tensor(np.moveaxis(y, -1, 1).copy(), requires_grad=True)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", [(7, 5), (2, 4, 8, 3), (3, 12, 2)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignore", [-100, 1])
def test_cross_entropy(dtype, shape, weighted, smoothing, ignore):
    rng = np.random.default_rng(0)
    y = (3 * rng.standard_normal(shape)).astype(dtype)
    target = rng.integers(0, shape[-1], shape[:-1])
    target.flat[::5] = ignore
    weight = rng.uniform(0.5, 2, shape[-1]) if weighted else None
    loss = CrossEntropyLoss(weight=weight, ignore_index=ignore, label_smoothing=smoothing)
    value, dy = loss(y, target)
    ty = rows_first(y)
    expected = torch.nn.functional.cross_entropy(
        ty,
        torch.tensor(target),
        weight=None if weight is None else torch.tensor(weight.astype(dtype)),
        ignore_index=ignore,
        label_smoothing=smoothing,
    )
    expected.backward()
    assert isinstance(value, float)
    assert dy.dtype == dtype
    close(value, expected.item(), dtype)
    close(dy, np.moveaxis(ty.grad.numpy(), 1, -1), dtype)


ELEMENTWISE = {
    "mse": (MSELoss, torch.nn.MSELoss, {}),
    "l1": (L1Loss, torch.nn.L1Loss, {}),
    "huber": (HuberLoss, torch.nn.HuberLoss, {"delta": 0.7}),
    "bce": (BCEWithLogitsLoss, torch.nn.BCEWithLogitsLoss, {}),
}


def elementwise_case(name, shape, dtype):
    rng = np.random.default_rng(1)
    y = (2 * rng.standard_normal(shape)).astype(dtype)
    target = rng.uniform(0, 1, shape) if name == "bce" else rng.standard_normal(shape)
    return y, target.astype(dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", [(6, 1), (2, 4, 8, 3), (2, 5, 2)], ids=str)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_losses(dtype, shape, name):
    own, theirs, options = ELEMENTWISE[name]
    y, target = elementwise_case(name, shape, dtype)
    value, dy = own(**options)(y, target)
    ty = torch.tensor(y, requires_grad=True)
    expected = theirs(**options)(ty, torch.tensor(target))
    expected.backward()
    assert dy.dtype == dtype
    close(value, expected.item(), dtype)
    close(dy, ty.grad, dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", ["cross_entropy", *ELEMENTWISE])
def test_area_weighted_mean(dtype, name):
    grid = sc.grids.Equirect(4)
    area = torch.tensor(grid.area.reshape(4, 8).astype(dtype))
    if name == "cross_entropy":
        rng = np.random.default_rng(2)
        y, target = rng.standard_normal((2, 4, 8, 3)).astype(dtype), rng.integers(0, 3, (2, 4, 8))
        target[0, :2] = -100
        value, dy = CrossEntropyLoss(area=grid.area)(y, target)
        ty = rows_first(y)
        each = torch.nn.functional.cross_entropy(ty, torch.tensor(target), reduction="none")
        expected = (each * area).sum() / (area * torch.tensor(target >= 0)).sum()
    else:
        own, theirs, options = ELEMENTWISE[name]
        y, target = elementwise_case(name, (2, 4, 8, 3), dtype)
        value, dy = own(area=grid.area, **options)(y, target)
        ty = torch.tensor(y, requires_grad=True)
        each = theirs(reduction="none", **options)(ty, torch.tensor(target))
        expected = (each * area[..., None]).sum() / (area.sum() * 2 * 3)
    expected.backward()
    gradient = np.moveaxis(ty.grad.numpy(), 1, -1) if name == "cross_entropy" else ty.grad.numpy()
    close(value, expected.item(), dtype)
    close(dy, gradient, dtype)


def test_constant_error_has_its_own_size_under_any_area():
    grid = sc.grids.Equirect(8)
    y = np.full((2, 8, 16, 3), 2.0)
    assert MSELoss(area=grid.area)(y, np.zeros_like(y))[0] == pytest.approx(4.0)
    assert L1Loss(area=grid.area)(y, np.zeros_like(y))[0] == pytest.approx(2.0)


def test_huge_scores_stay_finite():
    y = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
    value, dy = CrossEntropyLoss()(y, np.array([0, 0]))
    assert value == pytest.approx(1e4)
    np.testing.assert_allclose(dy, [[0, 0], [-0.5, 0.5]], atol=1e-7)
    value, dy = BCEWithLogitsLoss()(y, np.ones_like(y))
    assert value == pytest.approx(5e3)
    assert np.isfinite(dy).all()


@pytest.mark.parametrize(
    "loss",
    [CrossEntropyLoss(), MSELoss(), L1Loss(), HuberLoss(), BCEWithLogitsLoss()],
    ids=lambda o: type(o).__name__,
)
def test_nan_shows(loss):
    y = np.zeros((4, 3), np.float32)
    y[2, 1] = np.nan
    target = np.zeros(4, int) if isinstance(loss, CrossEntropyLoss) else np.zeros((4, 3), np.float32)
    assert np.isnan(loss(y, target)[0])


def test_all_ignored_is_no_error():
    y = np.ones((3, 2))
    value, dy = CrossEntropyLoss()(y, np.full(3, -100))
    assert value == 0.0
    assert not dy.any()


@pytest.mark.parametrize(
    ("loss", "y", "target", "words"),
    [
        (CrossEntropyLoss(), (4, 3), np.zeros(5, int), "targets"),
        (CrossEntropyLoss(), (4, 3), np.zeros(4), "integers"),
        (CrossEntropyLoss(), (4, 3), np.full(4, 3), "outside 0 to 2"),
        (CrossEntropyLoss(), (4, 3), np.full(4, -1), "outside 0 to 2"),
        (CrossEntropyLoss(weight=np.ones(2)), (4, 3), np.zeros(4, int), "weight"),
        (CrossEntropyLoss(area=np.ones(5)), (2, 4, 8, 3), np.zeros((2, 4, 8), int), "area has 5 sites"),
        (CrossEntropyLoss(area=np.ones(5)), (2, 3), np.zeros(2, int), "area"),
        (MSELoss(), (4, 3), np.zeros((4, 1)), "targets"),
        (MSELoss(area=np.ones(5)), (2, 4, 8, 3), np.zeros((2, 4, 8, 3)), "area has 5 sites"),
    ],
)
def test_bad_input_of_losses(loss, y, target, words):
    with pytest.raises(InputError, match=words):
        loss(np.zeros(y), target)


@pytest.mark.parametrize("smoothing", [-0.1, 1.5])
def test_bad_smoothing(smoothing):
    with pytest.raises(InputError, match="label_smoothing"):
        CrossEntropyLoss(label_smoothing=smoothing)


def test_bad_delta():
    with pytest.raises(InputError, match="delta"):
        HuberLoss(delta=0.0)


SGD_CASES = [
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.9, "nesterov": True},
    {"weight_decay": 0.1},
    {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
]
ADAM_CASES = [{}, {"betas": (0.8, 0.95)}, {"eps": 1e-3}, {"weight_decay": 0.1}]
OPTIMIZER_CASES = [
    *((SGD, torch.optim.SGD, c) for c in SGD_CASES),
    *((Adam, torch.optim.Adam, c) for c in ADAM_CASES),
    *((AdamW, torch.optim.AdamW, c) for c in ADAM_CASES),
]
SHAPES = ((3, 4), (5,), (2, 3, 3, 2))


def twins(dtype):
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(s).astype(dtype) for s in SHAPES]
    own = {f"p{i}": Param(v.copy()) for i, v in enumerate(values)}
    return own, [torch.tensor(v.copy(), requires_grad=True) for v in values]


def give_gradients(own, theirs, rng, skip=()):
    for i, (p, t) in enumerate(zip(own.values(), theirs, strict=True)):
        p.zero_grad()
        t.grad = None
        if i not in skip:
            g = rng.standard_normal(p.value.shape).astype(p.value.dtype)
            p.add_grad(g.copy())
            t.grad = torch.tensor(g)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("own_kind", "torch_kind", "options"), OPTIMIZER_CASES)
def test_optimizers(dtype, own_kind, torch_kind, options):
    own, theirs = twins(dtype)
    a, b = own_kind(own, lr=0.05, **options), torch_kind(theirs, lr=0.05, **options)
    rng = np.random.default_rng(1)
    for step in range(6):
        give_gradients(own, theirs, rng, skip=(1,) if step in (0, 3) else ())
        if step == 4:
            a.lr = b.param_groups[0]["lr"] = 0.01
        a.step()
        b.step()
        for p, t in zip(own.values(), theirs, strict=True):
            close(p.value, t, dtype)


@pytest.mark.parametrize(("own_kind", "torch_kind", "options"), OPTIMIZER_CASES)
def test_defaults_are_those_of_torch(own_kind, torch_kind, options):
    own, theirs = twins(np.float64)
    lr = {"lr": 0.001} if own_kind is SGD else {}
    a, b = own_kind(own, **lr), torch_kind(theirs, **lr)
    rng = np.random.default_rng(1)
    for _ in range(3):
        give_gradients(own, theirs, rng)
        a.step()
        b.step()
    for p, t in zip(own.values(), theirs, strict=True):
        close(p.value, t, np.float64)


@pytest.mark.parametrize(("kind", "options"), [(k, o) for k, _, o in OPTIMIZER_CASES])
def test_optimizer_state_goes_on(kind, options):
    (own, theirs), (copy, _) = twins(np.float32), twins(np.float32)
    a, b = kind(own, lr=0.05, **options), kind(copy, lr=0.9, **options)
    rng = np.random.default_rng(1)
    for step in range(4):
        give_gradients(own, theirs, rng, skip=(1,) if step < 3 else ())
        if step == 2:
            b.load_state({name: array.copy() for name, array in a.state().items()})
            for name, p in own.items():
                copy[name].value[...] = p.value
        for name, p in own.items():
            copy[name].zero_grad()
            if p.has_grad:
                copy[name].add_grad(p.grad.copy())
        a.step()
        if step >= 2:
            b.step()
    for name, p in own.items():
        np.testing.assert_array_equal(copy[name].value, p.value)
    assert a.state().keys() == b.state().keys()


def test_optimizer_state_of_another_model_is_refused():
    own, _ = twins(np.float32)
    other = {"p0": Param(np.zeros((3, 5), np.float32))}
    a, b = Adam(own), Adam(other)
    give_gradients(own, twins(np.float32)[1], np.random.default_rng(0))
    a.step()
    with pytest.raises(InputError, match="state"):
        b.load_state(a.state())
    with pytest.raises(InputError, match="state"):
        Adam(own).load_state({k: v for k, v in a.state().items() if k != "exp_avg.p0"})
    with pytest.raises(InputError, match="state"):
        SGD(own, lr=0.1).load_state(a.state())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: SGD(p, lr=-1.0), "lr is -1"),
        (lambda p: SGD(p, lr=0.1, momentum=-0.1), "momentum is -0.1"),
        (lambda p: SGD(p, lr=0.1, nesterov=True), "nesterov"),
        (lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.1, nesterov=True), "nesterov"),
        (lambda p: Adam(p, betas=(1.0, 0.9)), "betas"),
        (lambda p: Adam(p, eps=-1e-8), "eps"),
        (lambda p: AdamW(p, weight_decay=-1.0), "weight_decay"),
        (lambda p: SGD({}, lr=0.1), "no parameters"),
    ],
)
def test_bad_optimizer_settings(make, words):
    with pytest.raises(InputError, match=words):
        make(twins(np.float32)[0])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("most", [0.5, 1e6])
def test_clip_grad_norm(dtype, most):
    own, theirs = twins(dtype)
    give_gradients(own, theirs, np.random.default_rng(1), skip=(1,))
    norm = clip_grad_norm(own, most)
    close(norm, torch.nn.utils.clip_grad_norm_(theirs, most).item(), dtype)
    for i, (p, t) in enumerate(zip(own.values(), theirs, strict=True)):
        assert p.has_grad == (i != 1)
        if p.has_grad:
            close(p.grad, t.grad, dtype)


def rates(schedule, optimizer, metrics):
    found = []
    for metric in metrics:
        found.append(optimizer.lr)
        schedule.step(metric)
    return found


def torch_rates(make, metrics=None, epochs=12):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    schedule = make(optimizer)
    found = []
    for i in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(*(() if metrics is None else (metrics[i],)))
    return found


def optimizer():
    return SGD(twins(np.float32)[0], lr=0.4)


schedulers = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("own", "theirs"),
    [
        (lambda o: StepLR(o, 3), lambda o: schedulers.StepLR(o, 3)),
        (lambda o: StepLR(o, 1, gamma=0.7), lambda o: schedulers.StepLR(o, 1, gamma=0.7)),
        (lambda o: CosineLR(o, 12), lambda o: schedulers.CosineAnnealingLR(o, 12)),
        (lambda o: CosineLR(o, 12, min_lr=0.1), lambda o: schedulers.CosineAnnealingLR(o, 12, eta_min=0.1)),
        (
            lambda o: CosineLR(o, 12, warmup=3),
            lambda o: schedulers.SequentialLR(
                o,
                [schedulers.LinearLR(o, 0.25, 1.0, 3), schedulers.CosineAnnealingLR(o, 9)],
                milestones=[3],
            ),
        ),
    ],
    ids=["step", "gamma", "cosine", "min_lr", "warmup"],
)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
def test_schedules(own, theirs):
    made = optimizer()
    found = rates(own(made), made, [None] * 12)
    np.testing.assert_allclose(found, torch_rates(theirs), rtol=1e-9, atol=1e-12)


METRICS = [3, 2, 2, 2, 2, 1.9999, 1, 1, 1.05, 1, 0.99, 0.98, 2, 2, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 2, "factor": 0.5, "cooldown": 2},
        {"patience": 0, "threshold": 0.1, "threshold_mode": "abs"},
        {"patience": 0, "min_lr": 0.05},
        {"patience": 1, "mode": "max"},
    ],
    ids=str,
)
def test_plateau(options):
    made = optimizer()
    found = rates(ReduceOnPlateau(made, **options), made, METRICS)
    expected = torch_rates(lambda o: schedulers.ReduceLROnPlateau(o, **options), METRICS, len(METRICS))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert len(set(found)) > 1


def test_cosine_stays_at_its_end():
    made = optimizer()
    found = rates(CosineLR(made, 3, min_lr=0.01), made, [None] * 8)
    assert found[3:] == [0.01] * 5


@pytest.mark.parametrize(
    "make",
    [lambda o: StepLR(o, 2), lambda o: CosineLR(o, 9, warmup=2), lambda o: ReduceOnPlateau(o, patience=0)],
    ids=["step", "cosine", "plateau"],
)
def test_schedule_state_goes_on(make):
    a, b = optimizer(), optimizer()
    whole = rates(make(a), a, METRICS[:9])
    first = make(b)
    found = rates(first, b, METRICS[:4])
    c = optimizer()
    second = make(c)
    second.load_state(first.state())
    c.lr = b.lr
    assert found + rates(second, c, METRICS[4:9]) == whole
    assert all(v is None or isinstance(v, int | float) for v in first.state().values())


def test_bad_schedule_settings():
    made = optimizer()
    for make, words in (
        (lambda: StepLR(made, 0), "step_size is 0"),
        (lambda: CosineLR(made, 3, warmup=3), "warmup is 3"),
        (lambda: ReduceOnPlateau(made, mode="up"), "mode is 'up'"),
        (lambda: ReduceOnPlateau(made, factor=1.0), "factor is 1"),
        (lambda: ReduceOnPlateau(made).step(), "got no metric"),
        (lambda: StepLR(made, 1).load_state(ReduceOnPlateau(made).state()), "schedule state"),
    ):
        with pytest.raises(InputError, match=words):
            make()
