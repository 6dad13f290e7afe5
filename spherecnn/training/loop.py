"""The training loop."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.files import make_folder, write_atomic
from spherecnn.kernels.arrays import to_host
from spherecnn.kernels.precision import get_precision
from spherecnn.kernels.precision import precision as use_precision
from spherecnn.layers.base import Array, Layer
from spherecnn.training.checkpoint import (
    load_checkpoint,
    random_state,
    restore_model,
    save_checkpoint,
    set_random_state,
)
from spherecnn.training.config import save_config
from spherecnn.training.data import Dataset, batches
from spherecnn.training.evaluation import as_input, evaluate
from spherecnn.training.history import History
from spherecnn.training.optim import OPTIMIZERS, Optimizer
from spherecnn.training.placement import place
from spherecnn.training.schedule import SCHEDULES, CosineLR, ReduceOnPlateau, Schedule, StepLR
from spherecnn.training.step import DeviceStep, Outcome, Outcomes, Step
from spherecnn.training.task import LossFunction, Tally, Task, make_task

SHOWN = 10  # steps between two looks at the loss on the GPU
Augment = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]


class TrainingDiverged(InputError):
    """The loss, the gradients or the weights became NaN or infinite."""


def fit(
    model: Layer,
    data: Dataset,
    *,
    validation: Dataset | None = None,
    task: str | Task | None = None,
    loss: str | LossFunction | None = None,
    optimizer: str | Optimizer | None = None,
    schedule: str | Schedule | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    lr: float = 1e-3,
    clip_norm: float | None = None,
    augment: Augment | None = None,
    patience: int | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    config: dict[str, Any] | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | None = None,
    precision: str | None = None,
) -> History:
    """Train a model in place; it ends with the weights of the last epoch, on the device that it was trained on.

    Equal seeds give equal bits, on one GPU too. A run that was stopped and resumed gives the bits of one that was not:
    weights, optimizer state, log, everything but the seconds. Checkpoints hold arrays of the host: a run may go on
    on another device.

    On the GPU (see `training.step.DeviceStep`) batches are copied there, and of each step the loss comes back, with
    the class of each site where the log has scores of classes, or the outputs where it has other scores. Nothing
    waits for them: a loss that is not finite is seen some steps later, at the latest at the end of the epoch, before
    anything is saved. A `loss` of your own gets an output on the GPU and a target on the host, and returns both
    results on the GPU.

    Parameters
    ----------
    model : Layer
    data, validation : Dataset
        What to train on, and what to measure at the end of each epoch.
    task : str or Task, optional
        What to learn: a name of `TASKS` ("classify", "segment", "regress", "inpaint") or a task. It brings the
        loss, the scores of the log and what decides which epoch is the best. By name, outputs on the sites of
        ``model.grid`` are weighted by the grid's area. Without it, the loss decides: classes for the
        cross-entropy, and no scores for others.
    loss : str or callable, optional
        A name of `LOSSES`, or ``loss(y, target) -> (value, dy)``; that of the task by default, the
        cross-entropy without a task.
    optimizer : str or Optimizer, optional
        A name of `OPTIMIZERS` (with `lr` and defaults) or an optimizer; Adam by default.
    schedule : str or Schedule, optional
        "cosine" over `epochs`, "step" (a tenth after each third of `epochs`), "plateau", or a schedule.
    epochs, batch_size : int
    lr : float
        Learning rate, where the optimizer is not given as an object.
    clip_norm : float, optional
        Largest norm of the whole gradient.
    augment : callable, optional
        ``augment(x, y, rng) -> (x, y)`` on every training batch.
    patience : int, optional
        Stop when the loss, or the score that decides for this task, has not improved for this many epochs; in
        validation, or in training without validation.
    seed : int
        Seeds the order of the samples and the augmentation.
    out : path, optional
        Run folder: config.toml, log.csv, last.safetensors, best.safetensors, and curves.png at the end.
    config : dict, optional
        Plain values for config.toml; the settings of this call by default.
    resume : bool
        Go on from last.safetensors in `out`, up to `epochs` in all.
    progress : bool
        Show a bar and one line an epoch.
    device : {"cpu", "cuda"}, optional
        Where to train; the model is moved there first. By default where it is.
    precision : {"float32", "tf32", "bf16"}, optional
        Of products on the GPU, see `spherecnn.precision`; by default that of the with block around the call.

    Returns
    -------
    History

    Raises
    ------
    TrainingDiverged
        If the loss becomes NaN or infinite; the last good checkpoint stays.
    InputError
        If a setting or the data do not fit, there is no GPU, `out` holds another run, or a file cannot be written.

    Examples
    --------
    >>> import spherecnn as sc
    >>> from spherecnn.training import ArrayDataset
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((64, 2)).astype(np.float32)
    >>> data = ArrayDataset(x, (x[:, 0] > x[:, 1]).astype(int))
    >>> net = sc.layers.Linear(2, 2, rng=0)
    >>> history = fit(net, data, epochs=5, lr=0.1, progress=False)
    >>> history["train_loss"][-1] < history["train_loss"][0]
    True
    """
    check_at_least("epochs", epochs, 1)
    check_at_least("batch_size", batch_size, 1)
    if patience is not None:
        check_at_least("patience", patience, 1)
    if clip_norm is not None and not clip_norm > 0:
        raise InputError(f"clip_norm is {clip_norm}; expected a number above 0: change it, or leave it out.")
    where = place(model, device, precision)
    made_task = make_task(task, loss, model, data)
    settings = {
        "task": made_task.name,
        "loss": loss if isinstance(loss, str) else _name(made_task.loss),
        "optimizer": _name(optimizer) or "adam",
        "schedule": _name(schedule),
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "clip_norm": clip_norm,
        "patience": patience,
        "seed": seed,
    }
    made = _make_optimizer(optimizer, model, lr)
    order, augmentation = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    run = _Run(
        model=model,
        where=where,
        precision=precision or get_precision(),
        data=data,
        validation=validation,
        task=made_task,
        optimizer=made,
        schedule=_make_schedule(schedule, made, epochs),
        epochs=epochs,
        batch_size=batch_size,
        clip_norm=clip_norm,
        patience=patience,
        augment=augment,
        order=order,
        augmentation=augmentation,
        out=None if out is None else Path(out),
        progress=progress,
        history=History(metrics=list(made_task.metrics), criterion=made_task.criterion, goal=made_task.goal),
    )
    run.open_folder(
        config or {"training": settings, "model": getattr(model, "config", None)},
        keep_config=resume and config is None,
        resume=resume,
    )
    with use_precision(run.precision):
        run.train()
    return run.history


@dataclasses.dataclass
class _Run:
    """One call of `fit`: everything that changes while it trains, and its folder."""

    model: Layer
    where: str
    precision: str
    data: Dataset
    validation: Dataset | None
    task: Task
    optimizer: Optimizer
    schedule: Schedule | None
    epochs: int
    batch_size: int
    clip_norm: float | None
    patience: int | None
    augment: Augment | None
    order: np.random.Generator
    augmentation: np.random.Generator
    out: Path | None
    progress: bool
    history: History
    saved: int = 0

    @cached_property
    def steps(self) -> Step:
        """What trains on a batch; on the GPU it keeps its recordings from epoch to epoch."""
        kind = Step if self.where == "cpu" else DeviceStep
        return kind(self.model, self.task, self.optimizer, self.clip_norm)

    def train(self) -> None:
        try:
            while self.history.epochs < self.epochs and not self.out_of_patience():
                self.run_epoch(self.history.epochs + 1)
        except (KeyboardInterrupt, TrainingDiverged) as stop:
            if isinstance(stop, KeyboardInterrupt):
                tqdm.write(f"stopped in epoch {self.saved + 1}; {self.kept()}", file=sys.stderr)
            self.draw()
            raise
        self.history.stopped_early = self.history.epochs < self.epochs
        self.draw()

    def out_of_patience(self) -> bool:
        return self.patience is not None and self.history.epochs - self.history.best_epoch >= self.patience

    def run_epoch(self, epoch: int) -> None:
        start, lr = time.perf_counter(), self.optimizer.lr
        names = self.task.metrics
        trained = self.train_epoch(epoch).results(names)
        row = {"epoch": epoch, "lr": lr} | {f"train_{name}": value for name, value in trained.items()}
        if self.validation is not None:
            measured = evaluate(
                self.model,
                self.validation,
                task=self.task,
                batch_size=self.batch_size,
                metrics=names,
                progress=self.progress,
            )
            row |= {f"val_{name}": value for name, value in measured.items()}
            self.check_finite(measured["loss"], "validation loss", epoch)
        for name, param in self.model.named_params().items():
            self.check_finite(to_host(param.value), name, epoch)
        row["seconds"] = round(time.perf_counter() - start, 3)
        best = self.history.add(row)
        if self.schedule is not None:
            self.schedule.step(row.get("val_loss", row["train_loss"]))
        if self.out is not None:
            self.save(best)
        if self.progress:
            tqdm.write(self.line(row), file=sys.stderr)

    def train_epoch(self, epoch: int) -> Tally:
        tally = Tally(self.task)
        run_step = self.steps
        run_step.meter = tally.meter
        shown = 1 if self.where == "cpu" else SHOWN
        order: Iterable[Array] = batches(len(self.data), self.batch_size, self.order)
        total = math.ceil(len(self.data) / self.batch_size)
        hidden = None if self.progress else True
        with (
            tqdm(order, f"epoch {epoch}/{self.epochs}", total, leave=False, disable=hidden) as bar,
            Outcomes(lambda outcome: self.take(outcome, tally, epoch), tally.meter) as outcomes,
        ):
            for step, indices in enumerate(bar, 1):
                x, target = self.data.batch(indices)
                if self.augment is not None:
                    x, target = self.augment(x, target, self.augmentation)
                outcomes.add(run_step(step, as_input(self.model, x), target, partial(self.check, epoch=epoch)))
                if step % shown == 0:
                    bar.set_postfix_str(f"loss {tally.loss:.4f}", refresh=False)
        return tally

    def take(self, outcome: Outcome, tally: Tally, epoch: int) -> None:
        """Add a batch to the sums of an epoch, once its results are on the host."""
        self.check(outcome, epoch)
        tally.add(outcome.seen, outcome.target, outcome.loss, outcome.count)

    def check(self, outcome: Outcome, epoch: int) -> None:
        self.check_finite(outcome.loss, "loss", epoch, outcome.step)
        if outcome.norm is not None:
            self.check_finite(outcome.norm, "gradient norm", epoch, outcome.step)

    def check_finite(self, value: Any, name: str, epoch: int, step: int | None = None) -> None:
        if not np.isfinite(value).all():
            at = f"epoch {epoch}" if step is None else f"epoch {epoch}, step {step}"
            raise TrainingDiverged(
                f"training diverged in {at}: the {name} is NaN or infinite; {self.kept()}; "
                "expected finite numbers: lower lr, set clip_norm or check the data for NaN."
            )

    def kept(self) -> str:
        """Say what of this run is on disk."""
        if self.out is None:
            return "nothing is saved, as no run folder was given"
        if not self.saved:
            return "nothing is saved, as no epoch was finished"
        return (
            f"{self.out / 'last.safetensors'} holds epoch {self.saved}, "
            f"and fit(..., resume=True) or `spherecnn train --resume {self.out}` goes on from there"
        )

    def open_folder(self, config: dict[str, Any], keep_config: bool, resume: bool) -> None:
        if self.out is None:
            if resume:
                raise InputError("resume got no run folder; expected the folder of the run to go on with: pass out.")
            return
        last = self.out / "last.safetensors"
        if resume:
            self.load(last)
        elif last.exists():
            raise InputError(f"{self.out} holds a run already; expected a new folder: resume that run or name another.")
        make_folder(self.out)
        if not keep_config:
            save_config(self.out / "config.toml", config)
        write_atomic(self.out / "log.csv", self.history.to_csv().encode())

    def save(self, best: bool) -> None:
        assert self.out is not None
        header = {
            "task": self.task.name,
            "epoch": self.history.epochs,
            "step": self.history.epochs * math.ceil(len(self.data) / self.batch_size),
            "optimizer": _kind(self.optimizer),
            "schedule": _kind(self.schedule),
            "schedule_state": None if self.schedule is None else self.schedule.state(),
            "order": random_state(self.order),
            "augmentation": random_state(self.augmentation),
            "history": dataclasses.asdict(self.history),
            "metrics": self.history.rows[-1],
        }
        if best:
            save_checkpoint(self.out / "best.safetensors", self.model, header)
        save_checkpoint(self.out / "last.safetensors", self.model, header, self.optimizer.state())
        self.saved = self.history.epochs
        write_atomic(self.out / "log.csv", self.history.to_csv().encode())

    def load(self, path: Path) -> None:
        header, arrays, state = load_checkpoint(path)
        saved = header["optimizer"], header["schedule"]
        given = _kind(self.optimizer), _kind(self.schedule)
        if saved != given:
            raise InputError(
                f"{path} has optimizer and schedule {saved}; expected {given}, those of this call: "
                "resume with the settings of the run."
            )
        if header.get("task", self.task.name) != self.task.name:
            raise InputError(
                f"{path} is of the task {header['task']!r}; expected {self.task.name!r}, that of this call: "
                "resume with the task of the run."
            )
        restore_model(self.model, header, arrays)
        self.optimizer.load_state(state)
        if self.schedule is not None:
            self.schedule.load_state(header["schedule_state"])
        set_random_state(self.order, header["order"])
        set_random_state(self.augmentation, header["augmentation"])
        kept = {name: header["history"][name] for name in ("rows", "best", "best_epoch", "stopped_early")}
        self.history = dataclasses.replace(self.history, **kept)
        self.saved = self.history.epochs

    def line(self, row: dict[str, Any]) -> str:
        """One line about an epoch."""
        names = [name for name in self.history.columns[2:-1] if row.get(name) is not None]
        parts = [f"{name.replace('_', ' ')} {row[name]:.4f}" for name in names]
        return f"epoch {row['epoch']}/{self.epochs}: {', '.join(parts)}, {row['seconds']:.1f} s"

    def draw(self) -> None:
        if self.out is not None and self.history.rows:
            from spherecnn.viz.curves import curves_png

            write_atomic(self.out / "curves.png", curves_png(self.history.rows))


def _make_optimizer(optimizer: str | Optimizer | None, model: Layer, lr: float) -> Optimizer:
    if isinstance(optimizer, Optimizer):
        return optimizer
    name = optimizer or "adam"
    check_choice("optimizer", name, tuple(OPTIMIZERS))
    return OPTIMIZERS[name](model.named_params(), lr=lr)


def _make_schedule(schedule: str | Schedule | None, optimizer: Optimizer, epochs: int) -> Schedule | None:
    if isinstance(schedule, Schedule) and schedule.optimizer is not optimizer:
        raise InputError("the schedule drives another optimizer; expected the one given to fit: pass both.")
    if schedule is None or isinstance(schedule, Schedule):
        return schedule
    check_choice("schedule", schedule, tuple(SCHEDULES))
    if schedule == "cosine":
        return CosineLR(optimizer, epochs)
    return StepLR(optimizer, max(1, epochs // 3)) if schedule == "step" else ReduceOnPlateau(optimizer)


def _name(choice: Any) -> str | None:
    if choice is None or isinstance(choice, str):
        return choice
    return getattr(choice, "__name__", type(choice).__name__)


def _kind(part: object) -> str | None:
    return None if part is None else type(part).__name__
