"""Learning-rate schedules: each sets `optimizer.lr` once an epoch."""

from __future__ import annotations

import math
from typing import Any

from spherecnn.errors import InputError, check_at_least, check_choice
from spherecnn.training.optim import Optimizer


class Schedule:
    """Sets the learning rate of the next epoch from the number of finished ones.

    A subclass implements ``rate(epoch)`` for epochs counted from 0.

    Attributes
    ----------
    base_lr : float
        The learning rate that the optimizer came with.
    epoch : int
        Finished epochs.
    """

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.base_lr = optimizer.lr
        self.epoch = 0
        optimizer.lr = self.rate(0)

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch."""
        raise NotImplementedError

    def step(self, metric: float | None = None) -> None:
        """Finish an epoch; `metric` (a loss) matters to `ReduceOnPlateau` alone."""
        self.epoch += 1
        self.optimizer.lr = self.rate(self.epoch)

    def state(self) -> dict[str, Any]:
        """Return how far the schedule is, as plain numbers."""
        return {name: value for name, value in vars(self).items() if name in self._progress}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned; settings stay, and the optimizer brings its own rate."""
        if state.keys() != self.state().keys():
            raise InputError(
                f"the schedule state has {sorted(state)}; expected {sorted(self.state())} of a "
                f"{type(self).__name__}: use the schedule that saved it."
            )
        vars(self).update(state)

    _progress: tuple[str, ...] = ("base_lr", "epoch")


class StepLR(Schedule):
    r"""Multiply the rate by gamma every `step_size` epochs.

    .. math:: lr_e = lr_0\,\gamma^{\lfloor e / s \rfloor}

    Examples
    --------
    >>> import numpy as np, spherecnn as sc
    >>> from spherecnn.training import SGD
    >>> optimizer = SGD(sc.layers.Linear(2, 2, rng=0).named_params(), lr=1.0)
    >>> schedule = StepLR(optimizer, step_size=1, gamma=0.5)
    >>> schedule.step()
    >>> optimizer.lr
    0.5
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1):
        self.step_size = check_at_least("step_size", step_size, 1)
        self.gamma = gamma
        super().__init__(optimizer)

    def rate(self, epoch: int) -> float:
        return self.base_lr * self.gamma ** (epoch // self.step_size)


class CosineLR(Schedule):
    r"""Half a cosine from the first rate to `min_lr`, after a linear warm-up; `min_lr` from then on.

    .. math::

        lr_e = \begin{cases} lr_0\,(e + 1) / (w + 1) & e < w \\
        lr_{min} + \tfrac12 (lr_0 - lr_{min}) (1 + \cos(\pi (e - w) / (E - w))) & w \le e \le E \end{cases}

    Source: Loshchilov and Hutter, ICLR 2017, eq. 5, without restarts.

    Parameters
    ----------
    optimizer : Optimizer
    epochs : int
        Length E, warm-up included.
    min_lr : float
        Last rate.
    warmup : int
        Epochs w of linear warm-up, fewer than `epochs`.
    """

    def __init__(self, optimizer: Optimizer, epochs: int, min_lr: float = 0.0, warmup: int = 0):
        self.epochs = check_at_least("epochs", epochs, 1)
        self.warmup = check_at_least("warmup", warmup, 0)
        if warmup >= epochs:
            raise InputError(f"warmup is {warmup}; expected fewer epochs than the {epochs} of the schedule: lower it.")
        self.min_lr = min_lr
        super().__init__(optimizer)

    def rate(self, epoch: int) -> float:
        if epoch < self.warmup:
            return self.base_lr * (epoch + 1) / (self.warmup + 1)
        done = min(1.0, (epoch - self.warmup) / (self.epochs - self.warmup))
        return self.min_lr + (self.base_lr - self.min_lr) * (1 + math.cos(math.pi * done)) / 2


class ReduceOnPlateau(Schedule):
    """Multiply the rate by `factor` when the metric has not improved for more than `patience` epochs.

    The arguments are those of ``torch.optim.lr_scheduler.ReduceLROnPlateau``.
    """

    _progress = ("base_lr", "epoch", "best", "bad_epochs", "cooldown_left")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ):
        check_choice("mode", mode, ("min", "max"))
        check_choice("threshold_mode", threshold_mode, ("rel", "abs"))
        if not 0 < factor < 1:
            raise InputError(f"factor is {factor}; expected a number between 0 and 1: choose for example 0.1.")
        self.mode, self.factor, self.patience, self.min_lr, self.eps = mode, factor, patience, min_lr, eps
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        self.best: float | None = None
        self.bad_epochs = self.cooldown_left = 0
        super().__init__(optimizer)

    def rate(self, epoch: int) -> float:
        return self.optimizer.lr

    def step(self, metric: float | None = None) -> None:
        """Finish an epoch whose loss (or score, with ``mode="max"``) is `metric`."""
        if metric is None:
            raise InputError("ReduceOnPlateau.step got no metric; expected the epoch's loss: call step(loss).")
        self.epoch += 1
        if self._better(metric):
            self.best, self.bad_epochs = metric, 0
        else:
            self.bad_epochs += 1
        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.bad_epochs = 0
        if self.bad_epochs > self.patience:
            lower = max(self.optimizer.lr * self.factor, self.min_lr)
            if self.optimizer.lr - lower > self.eps:
                self.optimizer.lr = lower
            self.cooldown_left, self.bad_epochs = self.cooldown, 0

    def _better(self, metric: float) -> bool:
        if self.best is None:
            return True
        sign = 1 if self.mode == "max" else -1
        margin = self.threshold * (self.best if self.threshold_mode == "rel" else 1)
        return sign * metric > sign * self.best + margin


SCHEDULES = {"step": StepLR, "cosine": CosineLR, "plateau": ReduceOnPlateau}
