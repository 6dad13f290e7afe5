"""Training on a device that is simulated: the same losses as on the host, steps recorded and replayed, no waiting."""

import numpy as np
import pytest
from simulated_graph import RecordingDevice

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.kernels import arrays
from spherecnn.kernels.gpu import device
from spherecnn.layers.base import Layer, Param
from spherecnn.training import step as steps
from spherecnn.training.losses import Loss
from spherecnn.training.optim import Optimizer


@pytest.fixture
def recording():
    """A simulated device with graphs."""
    made = RecordingDevice(1)
    device.push(made)
    try:
        yield made
    finally:
        device.pop()
    made.check()


class Offset(Layer):
    """y = x + b: a layer whose kernels are cheap to simulate."""

    def __init__(self, channels):
        super().__init__()
        self.offset = Param(np.linspace(-0.1, 0.1, channels).astype(np.float32))
        self.buffers["seen"] = np.zeros(channels, np.float32)

    def out_shape(self, shape):
        return shape

    def forward(self, x, *, train):
        y = x.copy()
        arrays.accumulate(y, self.offset.value)
        if train:
            arrays.accumulate(self.buffers["seen"], arrays.sum_over(x, (0,)))

        def backward(dy, inputs=True):
            self.offset.add_grad(arrays.sum_over(dy, (0,)))
            return dy if inputs else None

        return y, backward


def data_of(count, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, channels)).astype(np.float32)
    return sc.training.ArrayDataset(x, rng.integers(0, channels, count))


def fit(net, data, **settings):
    given = {"task": "classify", "epochs": 1, "batch_size": 4, "lr": 0.05, "seed": 3, "progress": False}
    return sc.training.fit(net, data, **(given | settings))


def host(net):
    return {name: sc.to_host(value).copy() for name, value in net.state().items()}


def check_equal(one, other, rtol=0.0):
    one, other = host(one), host(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], rtol=rtol, atol=rtol, err_msg=name)


def test_a_network_trains_as_on_the_host_and_nothing_waits(recording):
    data = data_of(16, 6)
    data.y %= 3
    nets = [sc.layers.Sequential(sc.layers.Linear(6, 3, rng=0)) for _ in range(2)]
    expected = fit(nets[0], data, clip_norm=0.5)
    found = fit(nets[1], data, clip_norm=0.5, device="cuda")
    assert nets[1].device == "cuda"
    assert recording.replays == 2  # of four steps, after two that run as they are
    assert recording.waits == 2  # for weight and bias, when the epoch is over
    assert recording.fetched == [4, 4, 4] * 4  # the loss, the norm of the gradient, four classes of one byte
    check_equal(*nets, rtol=1e-5)
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
    assert found["train_accuracy"] == expected["train_accuracy"]


def test_batches_of_other_shapes_and_epochs(recording):
    data, nets = data_of(10), [Offset(3) for _ in range(2)]
    expected = fit(nets[0], data, epochs=4, schedule="cosine", optimizer="sgd")
    found = fit(nets[1], data, epochs=4, schedule="cosine", optimizer="sgd", device="cuda")
    check_equal(*nets, rtol=1e-5)
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
    assert recording.replays == 8  # 2 + 3 + 3: the smaller batch is recorded when it comes the third time


def test_recorded_steps_have_the_bits_of_others(recording, monkeypatch):
    def trained():
        net = sc.layers.Sequential(sc.layers.Dropout(0.5, rng=0), Offset(4))
        fit(net, data_of(20, 4), clip_norm=0.3, device="cuda")
        return net

    one, before = trained(), recording.replays
    again = trained()
    assert recording.replays == 2 * before == 6
    monkeypatch.setattr(
        steps.DeviceStep,
        "_record",
        lambda self, key, x, given, target: self.run(sc.to_device(x), lambda y: self.task.measure(y, target)),
    )
    plain = trained()
    assert recording.replays == 6
    check_equal(one, again)
    check_equal(one, plain)


def test_a_run_goes_on_on_another_device(recording, tmp_path):
    data = data_of(12)
    nets = [Offset(3) for _ in range(2)]
    fit(nets[0], data, epochs=3, out=tmp_path / "host")
    for epochs, where in ((1, "cuda"), (2, "cpu"), (3, "cuda")):
        nets[1] = Offset(3)
        fit(nets[1], data, epochs=epochs, out=tmp_path / "both", resume=epochs > 1, device=where)
        assert nets[1].device == where
    check_equal(*nets, rtol=1e-5)
    stored, *_ = (sc.training.load_checkpoint(tmp_path / run / "last.safetensors")[2] for run in ("host", "both"))
    assert stored["exp_avg.offset"].shape == (3,)


def test_a_model_and_an_optimizer_that_were_used_on_the_host(recording):
    nets = [Offset(3) for _ in range(2)]
    for net, where in zip(nets, ("cpu", "cuda"), strict=True):
        adam = sc.training.Adam(net.named_params(), lr=0.05)
        fit(net, data_of(8), optimizer=adam)
        fit(net, data_of(8), optimizer=adam, device=where)
    check_equal(*nets, rtol=1e-5)


def test_a_model_that_moved_is_not_run_by_an_old_recording(recording):
    net = Offset(3).to("cuda")
    task = sc.training.Classify()
    train = steps.DeviceStep(net, task, sc.training.SGD(net.named_params(), lr=0.1), None)
    x, y = data_of(4).batch(np.arange(4))
    other = Offset(3)
    plain = steps.Step(other, task, sc.training.SGD(other.named_params(), lr=0.1), None)
    for k in range(6):
        if k == 4:
            net.to("cpu").to("cuda")
        outcomes = [run(k, x, y, lambda outcome: None) for run in (train, plain)]
        for outcome in outcomes:
            outcome.wait()
        assert outcomes[0].loss == pytest.approx(outcomes[1].loss, rel=1e-5)
    check_equal(net, other, rtol=1e-5)
    assert recording.replays == 3


def test_a_loss_on_the_host_runs_as_it_is_and_says_so(recording):
    def loss(y, target):
        value, dy = sc.training.CrossEntropyLoss()(sc.to_host(y), target)
        return sc.to_device(np.float32(value)), sc.to_device(dy)

    net, other = Offset(3), Offset(3)
    with pytest.warns(UserWarning, match="not recorded as a CUDA graph: the loss is a function"):
        fit(net, data_of(16), task=None, loss=loss, device="cuda")
    fit(other, data_of(16))
    check_equal(net, other, rtol=1e-5)
    assert recording.replays == 0


class Replacing(Optimizer):
    """Makes new parameters, those with the gradients added, instead of changing them in place."""

    def apply(self):
        for name in self.reached:
            param = self.params[name]
            param.value = param.value.copy()
            arrays.accumulate(param.value, param.grad)


def test_what_cannot_be_recorded_runs_as_it_is_and_says_so(recording):
    net, other = Offset(3), Offset(3)
    with pytest.warns(UserWarning, match="replaces arrays"):
        fit(net, data_of(16), optimizer=Replacing(net.named_params(), 0.1), device="cuda")
    fit(other, data_of(16), optimizer=Replacing(other.named_params(), 0.1))
    check_equal(net, other, rtol=1e-5)
    assert recording.replays == 0


class Halved(sc.training.Classify):
    """Another loss than that of its class, in `measure` alone."""

    def measure(self, y, target):
        value, dy = super().measure(y, target)
        dy = sc.to_host(dy) * np.float32(0.5)
        return 0.5 * float(value), sc.to_device(dy) if hasattr(y, "memory") else dy


class Called(Loss):
    """A loss of the contract before `inputs` and `errors`."""

    def __call__(self, y, target):
        return sc.training.CrossEntropyLoss()(y, target)

    def count(self, y, target):
        return float(len(target))


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (Halved(), "Halved has a measure of its own"),
        (sc.training.Task(Called()), "Called has a __call__ of its own"),
    ],
)
def test_what_says_a_loss_in_one_part_is_trained_on(recording, task, reason):
    nets = [Offset(3), Offset(3)]
    expected = fit(nets[0], data_of(16), task=task, optimizer="sgd")
    with pytest.warns(UserWarning, match=reason):
        found = fit(nets[1], data_of(16), task=task, optimizer="sgd", device="cuda")
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
    check_equal(*nets, rtol=1e-5)
    assert recording.replays == 0


def test_a_loss_in_two_parts_is_recorded(recording):
    class Doubled(sc.training.CrossEntropyLoss):
        def errors(self, y, *inputs):
            value, dy = super().errors(y, *inputs)
            arrays.accumulate(dy, dy.copy())
            return value, dy

    nets = [Offset(3), Offset(3)]
    for net, where in zip(nets, ("cpu", "cuda"), strict=True):
        fit(net, data_of(16), task=None, loss=Doubled(), optimizer="sgd", device=where)
    check_equal(*nets, rtol=1e-5)
    assert recording.replays == 2


def one_step(net, optimizer, where):
    net.to(where)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    _, backward = net.forward(sc.to_device(x) if where == "cuda" else x, train=True)
    backward(sc.to_device(x) if where == "cuda" else x)
    optimizer.step()


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam"])
def test_an_optimizer_goes_on_on_another_device(recording, kind):
    def made(net):
        return (
            sc.training.Adam(net.named_params(), lr=0.1)
            if kind == "adam"
            else sc.training.SGD(net.named_params(), lr=0.1, momentum=0.9 * (kind == "momentum"))
        )

    nets = [Offset(3), Offset(3)]
    optimizers = [made(net) for net in nets]
    for where in ("cuda", "cpu", "cpu", "cuda"):
        one_step(nets[0], optimizers[0], where)
        one_step(nets[1], optimizers[1], "cpu")
        check_equal(*nets, rtol=1e-5)


def test_an_update_of_its_own_is_used_and_not_recorded(recording):
    class Frozen(sc.training.Adam):
        def update(self, param, name):
            calls.append(self.steps[name])

    class Twice(sc.training.AdamW):
        def update(self, param, name):
            super().update(param, name)
            super().update(param, name)

    calls, net = [], Offset(3)
    before = net.offset.value.copy()
    with pytest.warns(UserWarning, match="Frozen has an update of its own"):
        fit(net, data_of(16), optimizer=Frozen(net.named_params(), lr=0.1), clip_norm=0.1, device="cuda")
    assert calls == [1, 2, 3, 4]
    np.testing.assert_array_equal(sc.to_host(net.offset.value), before)
    for where in ("cpu", "cuda"):
        # The first step of Adam goes by the rate, whatever the gradient is.
        net = Offset(1)
        net.offset.value[:] = 1
        adam = Twice(net.named_params(), lr=0.1, weight_decay=0)
        net.to(where).offset.add_grad(arrays.beside(net.offset.value, np.ones(1, np.float32)))
        adam.step()
        # The second mean is 0.19 / 0.1, the second square 0.001999 / 0.001, both over the corrections of step one.
        assert sc.to_host(net.offset.value)[0] == pytest.approx(1 - 0.1 - 0.1 * 1.9 / np.sqrt(1.999), rel=1e-5)


def test_a_model_that_is_in_two_places_moves(recording):
    nets = [sc.layers.Sequential(Offset(3), Offset(3)) for _ in range(2)]
    nets[1].children["0"].to("cuda")
    for net, where in zip(nets, ("cpu", "cuda"), strict=True):
        fit(net, data_of(8), device=where)
    check_equal(*nets, rtol=1e-5)
    buffers = nets[1].children["1"].buffers
    buffers["seen"] = sc.to_host(buffers["seen"])
    fit(nets[1], data_of(8), device="cuda")
    assert arrays.device_of(buffers["seen"]) == "cuda"


def test_a_step_that_does_not_fit_a_second_time_runs_as_it_is(recording, monkeypatch):
    full = "the GPU Card has 0.0 of 80.0 GiB free"

    class Full(type(recording.graph())):
        def record(self):
            raise InputError(full)

    nets = [Offset(3), Offset(3)]
    fit(nets[0], data_of(10), epochs=4)
    monkeypatch.setattr(recording, "graph", lambda: Full(recording))
    with pytest.warns(UserWarning, match=full) as said:
        fit(nets[1], data_of(10), epochs=4, device="cuda")  # two shapes
    assert len(said) == 1
    check_equal(*nets, rtol=1e-5)
    assert recording.replays == 0


def trainer(net):
    return steps.DeviceStep(net, sc.training.Classify(), sc.training.SGD(net.named_params(), lr=0.1), None)


def test_shapes_that_take_turns_are_recorded(recording, monkeypatch):
    emptied, made = [], recording.graph
    monkeypatch.setattr(recording, "graph", lambda: emptied.append(1) or made())
    net, other = Offset(3).to("cuda"), Offset(3)
    train = trainer(net)
    plain = steps.Step(other, train.task, sc.training.SGD(other.named_params(), lr=0.1), None)
    for k in range(18):
        batch = data_of(2 + k % 3).batch(np.arange(2 + k % 3))
        for run in (train, plain):
            run(k, *batch, lambda outcome: None).wait()
    check_equal(net, other, rtol=1e-5)
    assert len(emptied) == len(train.recorded) == steps.MOST_GRAPHS == 2
    assert recording.replays == 2 * 4  # of six steps of a shape


def test_a_frequent_shape_takes_the_place_of_a_rare_one(recording):
    train = trainer(Offset(3).to("cuda"))
    for k, size in enumerate([2] * 3 + [3] * 3 + [4] * 8):
        train(k, *data_of(size).batch(np.arange(size)), lambda outcome: None).wait()
    assert [key[0][0] for key in train.recorded] == [3, 4]


def test_divergence_is_said_before_anything_is_saved(recording, tmp_path):
    data = data_of(16)
    data.x[5, 1] = np.nan
    with pytest.raises(
        sc.training.TrainingDiverged, match=r"in epoch 1, step \d: the loss is NaN or infinite; nothing"
    ):
        fit(Offset(3), data, out=tmp_path, device="cuda")
    assert not (tmp_path / "last.safetensors").exists()


def test_measuring_and_predicting(recording):
    data, net = data_of(10), Offset(3)
    expected = sc.training.evaluate(net, data, batch_size=4, metrics=["accuracy", "iou"])
    classes = sc.training.predict(net, data.x, batch_size=4, task="classify")
    found = sc.training.evaluate(net, data, batch_size=4, metrics=["accuracy", "iou"], device="cuda")
    assert recording.waits == 0
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    np.testing.assert_array_equal(found["iou"], expected["iou"])
    np.testing.assert_array_equal(sc.training.predict(net, data.x, 4, task="classify"), classes)
    assert isinstance(sc.training.predict(net, data.x, device="cpu"), np.ndarray)
    assert net.device == "cpu"


def test_values_are_scored_on_the_host(recording):
    data = data_of(8)
    data.y = data.x[:, ::-1].copy()
    nets, task = [Offset(3), Offset(3)], sc.training.Regress("l1", mean=1.0, std=2.0)
    found = [fit(net, data, task=task, device=where) for net, where in zip(nets, ("cpu", "cuda"), strict=True)]
    assert found[1]["train_rmse"] == pytest.approx(found[0]["train_rmse"], rel=1e-5)
    check_equal(*nets, rtol=1e-5)


@pytest.mark.parametrize("run", [fit, sc.training.evaluate])
def test_precision_is_of_the_gpu(run):
    with pytest.raises(InputError, match="precision is 'tf32' and the model is on the CPU"):
        run(Offset(3), data_of(4), precision="tf32")
    with pytest.raises(InputError, match="device is 'gpu'; expected one of 'cpu', 'cuda'"):
        run(Offset(3), data_of(4), device="gpu")


def test_precision_holds_while_a_run_trains(recording):
    seen = []

    class Told(Offset):
        def forward(self, x, *, train):
            seen.append(sc.get_precision())
            return super().forward(x, train=train)

    fit(Told(3), data_of(4), validation=data_of(4), device="cuda", precision="bf16")
    with sc.precision("tf32"):
        fit(Told(3), data_of(4), device="cuda")
    assert seen == ["bf16", "bf16", "tf32"]
    assert sc.get_precision() == "float32"
