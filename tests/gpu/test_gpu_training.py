"""Training on the GPU: as accurate as on the CPU, the same bits from the same seed, graphs as without them."""

import copy

import numpy as np
import pytest
from gpu_cases import on_both

import spherecnn as sc
from spherecnn.training import Adam, ArrayDataset, evaluate, fit
from spherecnn.training.step import DeviceStep
from spherecnn.training.task import make_task

GRID = sc.grids.Equirect(16)
CLASSES = 4
ACCURACY = 0.9
BETWEEN_DEVICES = 0.03  # 15 of 512; trainings that round differently part


def stripes(count, seed):
    """Panoramas with waves along the longitude, whose number is the class, in noise and at any phase."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, count)
    lat, lon = (a.reshape(GRID.shape) for a in (GRID.lat, GRID.lon))
    phase = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    wave = np.cos((label + 1)[:, None, None] * lon + phase) * np.cos(lat)
    x = wave[..., None] + 2.4 * rng.standard_normal((count, *GRID.shape, 1))
    return ArrayDataset(x.astype(np.float32), label)


def trained(device, precision="float32", epochs=6, **options):
    net = sc.models.classifier("circular", 1, CLASSES, GRID, width=8, rng=0)
    history = fit(
        net,
        stripes(512, 0),
        epochs=epochs,
        lr=5e-3,
        seed=0,
        device=device,
        precision=precision,
        progress=False,
        **options,
    )
    return net, history


@pytest.fixture(scope="module")
def on_the_cpu():
    net, _ = trained("cpu")
    return evaluate(net.to("cpu"), stripes(512, 1), progress=False)["accuracy"]


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_training_reaches_the_accuracy_of_the_cpu(device, on_the_cpu, precision):
    net, _ = trained("cuda", precision)
    accuracy = evaluate(net.to("cpu"), stripes(512, 1), progress=False)["accuracy"]
    assert on_the_cpu > ACCURACY
    assert accuracy > on_the_cpu - BETWEEN_DEVICES


@pytest.mark.gpu
def test_equal_seeds_give_equal_bits(device):
    states = [{name: sc.to_host(v).tobytes() for name, v in trained("cuda", epochs=2)[0].state().items()} for _ in "ab"]
    assert states[0] == states[1]


@pytest.mark.gpu
def test_checkpoints_go_between_devices(device, tmp_path):
    """Trained on the GPU, resumed on the CPU, and the reverse."""
    for first, then in (("cuda", "cpu"), ("cpu", "cuda")):
        out = tmp_path / first
        trained(first, epochs=1, out=out)
        _, history = trained(then, epochs=2, out=out, resume=True)
        assert history.epochs == 2
        assert history["train_loss"][1] < history["train_loss"][0]


@on_both
def test_a_tiny_network_learns_as_on_the_cpu(device):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 4)).astype(np.float32)
    data = ArrayDataset(x, (x[:, 0] > x[:, 1]).astype(np.int64))
    net = sc.layers.Linear(4, 2, rng=0)
    nets = [copy.deepcopy(net) for _ in range(3)]
    losses = [
        fit(n, data, epochs=2, batch_size=4, lr=0.1, device=d, progress=False)["train_loss"]
        for n, d in zip(nets, ("cpu", "cuda", "cuda"), strict=True)
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    weights = [sc.to_host(n.weight.value) for n in nets]
    np.testing.assert_allclose(weights[1], weights[0], rtol=0, atol=1e-5 * np.abs(weights[0]).max())
    assert weights[1].tobytes() == weights[2].tobytes()


def stepped(recorded, net, data, steps):
    """Weights and losses after some steps of Adam: each launched by itself, or recorded and replayed."""
    step = DeviceStep(net, make_task("classify", None, net, data), Adam(net.named_params(), lr=1e-2), None)
    step.refused = not recorded
    losses = []
    for i in range(steps):
        outcome = step(i + 1, *data.batch(np.arange(len(data))), lambda _: None)
        outcome.wait()
        losses.append(outcome.loss)
    assert bool(step.recorded) == recorded, "nothing was recorded" if recorded else "a step was recorded"
    return losses, {name: sc.to_host(v).tobytes() for name, v in net.state().items()}


@pytest.mark.gpu
def test_a_replayed_step_has_the_bits_of_a_launched_one(device):
    data = stripes(16, 0)
    nets = [sc.models.classifier("circular", 1, CLASSES, GRID, width=8, rng=0).to("cuda") for _ in range(2)]
    launched, replayed = (stepped(recorded, net, data, 8) for recorded, net in zip((False, True), nets, strict=True))
    assert launched[0][-1] < launched[0][0]
    assert launched == replayed


@on_both
def test_a_replayed_step_of_a_tiny_network(device):
    x = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    data = ArrayDataset(x, (x[:, 0] > x[:, 1]).astype(np.int64))
    nets = [sc.layers.Linear(4, 2, rng=0).to("cuda") for _ in range(2)]
    launched, replayed = (stepped(recorded, net, data, 4) for recorded, net in zip((False, True), nets, strict=True))
    assert launched == replayed
