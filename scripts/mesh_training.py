"""What the scripts of the mesh experiments share: their options, training within a time, and rows of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from reporting import table_csv  # beside this file

import spherecnn as sc
from spherecnn.cli.options import FOLDER, device_options, seed_option, threads_option
from spherecnn.errors import InputError
from spherecnn.files import write_atomic

SCHEDULES = ("step", "cosine", "none")


class Best(sc.training.Classify):
    """Classes; the best epoch has the greatest accuracy."""

    criterion, goal = "accuracy", "max"


@dataclass(frozen=True)
class Settings:
    """How a network is trained; `step` and `gamma` are of the schedule "step"."""

    epochs: int
    batch: int
    lr: float
    schedule: str
    seed: int = 0
    step: int = 10
    gamma: float = 0.5
    minutes: float | None = None
    resume: bool = False

    def make(self, net: Any) -> dict[str, Any]:
        """The optimizer and the schedule, as arguments of `fit`."""
        adam = sc.training.Adam(net.named_params(), lr=self.lr)
        schedule: Any = None
        if self.schedule == "step":
            schedule = sc.training.StepLR(adam, self.step, self.gamma)
        elif self.schedule == "cosine":
            schedule = sc.training.CosineLR(adam, self.epochs)
        return {"optimizer": adam, "schedule": schedule}


def training_options(*, epochs: int, batch: int, lr: float, schedule: str, out: str) -> Callable[[Any], Any]:
    """The options that all the scripts have, with the published values as defaults."""
    options = (
        click.option("--epochs", type=click.IntRange(1), default=epochs, show_default=True),
        click.option("--batch", type=click.IntRange(1), default=batch, show_default=True, help="Samples a step."),
        click.option("--lr", type=click.FloatRange(0, min_open=True), default=lr, show_default=True, help="Of Adam."),
        click.option(
            "--schedule",
            type=click.Choice(SCHEDULES),
            default=schedule,
            show_default=True,
            help="Of the learning rate: the published steps, half a cosine over all epochs, or constant.",
        ),
        click.option(
            "--minutes",
            type=click.FloatRange(0, min_open=True),
            help="Train no epoch after this time; --resume goes on later.",
        ),
        click.option("--resume", is_flag=True, help="Go on after the last epoch in the run folder."),
        seed_option,
        device_options,
        threads_option,
        click.option("--out", type=FOLDER, default=Path(out), show_default=True, help="Run folder to write."),
    )

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def train(
    net: Any,
    data: Any,
    validation: Any,
    task: Any,
    settings: Settings,
    out: Path,
    config: dict[str, Any],
    augment: Any = None,
) -> Any:
    """Train up to the last epoch, or until the minutes are over; return the history."""
    started, resume = time.monotonic(), settings.resume and (out / "last.safetensors").exists()
    config = {"settings": {k: v for k, v in asdict(settings).items() if v is not None}, **config}

    def fit(epochs: int, resume: bool) -> Any:
        return sc.training.fit(
            net,
            data,
            validation=validation,
            task=task,
            epochs=epochs,
            batch_size=settings.batch,
            seed=settings.seed,
            out=out,
            resume=resume,
            augment=augment,
            config=config,
            **settings.make(net),
        )

    if settings.minutes is None:
        return fit(settings.epochs, resume)
    # Each call goes on where the last one stopped, to the bit.
    done = sc.training.load_checkpoint(out / "last.safetensors")[0]["epoch"] if resume else 0
    history = fit(max(1, done), resume)
    while history.epochs < settings.epochs:
        taken = (time.monotonic() - started) / 60
        if taken >= settings.minutes:
            click.echo(f"Stopped after {history.epochs} of {settings.epochs} epochs and {taken:.1f} minutes.")
            break
        history = fit(history.epochs + 1, True)
    return history


def with_weights(net: Any, out: Path, which: str) -> Any:
    """The network with the "last" or "best" weights of its run."""
    header, arrays, _ = sc.training.load_checkpoint(out / f"{which}.safetensors")
    sc.training.restore_model(net, header, arrays)
    return net


def test_accuracy(net: Any, out: Path, test: Any, validated: bool) -> dict[str, float]:
    """Percent of right classes with the "last" weights, and with the "best" in validation, NaN where there was none."""
    found = {"best": float("nan")}
    for which in ("best", "last") if validated else ("last",):
        scores = sc.training.evaluate(with_weights(net, out, which), test, task=Best(), batch_size=256, progress=True)
        found[which] = 100 * scores["accuracy"]
    return found


def in_words(found: dict[str, float], history: Any, test: Any, noun: str) -> str:
    """One sentence about `test_accuracy`."""
    text = f"{history.epochs} epochs: {found['last']:.2f} % of {len(test):,} test {noun} with the last weights"
    if np.isnan(found["best"]):
        return text
    return f"{text}, {found['best']:.2f} % with those of epoch {history.best_epoch}, the best in validation"


def held_out(samples: int, held: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices to train on, and of a validation part of so many samples."""
    if not 0 <= held < samples:
        raise InputError(
            f"{held} of {samples} samples are to be held out; expected at least 0 and fewer than all: change it."
        )
    order = np.random.default_rng(seed).permutation(samples)
    return np.sort(order[held:]), np.sort(order[:held])


def write_results(out: Path, header: Iterable[str], row: Iterable[Any], about: str) -> None:
    """Write results.csv of a run, one row."""
    write_atomic(out / "results.csv", table_csv([list(header), list(row)], f"# {about}"))


def draw_classes(
    fields: np.ndarray, data: Any, found: np.ndarray, truth: np.ndarray, path: Path, view: tuple[float, float]
) -> None:
    """Draw fields (n, P) on globes seen from above `view`, six a row, with the predicted classes and true others."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    low, high = fields.min(axis=1, keepdims=True), fields.max(axis=1, keepdims=True)
    scaled = (fields - low) / np.where(high > low, high - low, 1)
    padded = np.concatenate([scaled, np.zeros((-len(scaled) % 3, scaled.shape[1]), scaled.dtype)])
    # Three fields at a time are red, green and blue of one picture.
    seen = [
        sc.viz.render_globe(padded[i : i + 3].T, data.grid, *view, size=240, smooth=True)
        for i in range(0, len(padded), 3)
    ]
    figure = Figure(figsize=(12, 2.7 * -(-len(fields) // 6)), layout="constrained")
    panels = figure.subplots(-(-len(fields) // 6), 6, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for k, axes in zip(range(len(fields)), panels, strict=False):
        globe = colormaps["viridis"](seen[k // 3][..., k % 3])
        globe[..., 3] = seen[k // 3][..., 3]
        axes.imshow(globe)
        note = "" if truth[k] == found[k] else f",\ntruth {data.classes[truth[k]]}"
        axes.set_title(f"{data.classes[found[k]]}{note}", fontsize=10)
    sc.viz.save(figure, path, dpi=100)
