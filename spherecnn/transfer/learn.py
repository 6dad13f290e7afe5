"""Descent on the squared difference to exact outputs: for kernels that are no linear least squares, and for chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from spherecnn.errors import InputError, check_at_least
from spherecnn.kernels.arrays import beside, to_host
from spherecnn.layers import BatchNorm, Dropout, Layer
from spherecnn.layers.base import Array, Backward, Param
from spherecnn.training.optim import Adam
from spherecnn.training.placement import moved, on

# Of Adam, published for KTN: learning rate and pictures a step.
RATE, BATCH = 1e-3, 4


def run(layers: Sequence[Layer], x: Array, train: bool = False) -> tuple[Array, list[Backward]]:
    """Run layers one after another; return the output and the backward pass of each.

    Normalisation and dropout always run as in inference.
    """
    steps = []
    for layer in layers:
        x, backward = layer.forward(x, train=train and not isinstance(layer, (BatchNorm, Dropout)))
        steps.append(backward)
    return x, steps


def apply(layers: Sequence[Layer], x: Array, batch_size: int = BATCH, device: str = "cpu") -> Array:
    """Outputs of layers for many pictures, some at a time, on a device; pictures and outputs are on the host."""
    with moved(layers, device):
        parts = (x[i : i + batch_size] for i in range(0, len(x), batch_size))
        return np.concatenate([to_host(run(layers, on(device, part))[0]) for part in parts])


def descend(
    layers: Sequence[Layer],
    params: dict[str, Param],
    x: Array,
    targets: Array,
    rows: Array,
    columns: Array,
    *,
    steps: int,
    lr: float = RATE,
    batch_size: int = BATCH,
    seed: int = 0,
    progress: bool = False,
    name: str = "",
    device: str = "cpu",
) -> tuple[float, float]:
    r"""Train parameters of a chain of layers by Adam so that its outputs come near to targets at some pixels.

    .. math:: L = \frac{1}{2 S K} \sum_{s,k} (y_{s,k} - t_{s,k})^2

    over the S samples of a batch. Normalisation runs as in inference: its statistics stay. The learning rate falls to
    zero along half a cosine. Where the loss over all pictures has not fallen in the end, the parameters are put back.

    Source: the loss and the optimizer of Su and Grauman, Kernel Transformer Networks, CVPR 2019, section 4.

    Parameters
    ----------
    layers : sequence of Layer
    params : dict of str to Param
        What to train.
    x : ndarray (N, H, W, C)
        Inputs of the first layer.
    targets : ndarray (N, rows, columns, K)
    rows, columns : ndarray of int
        Where the targets stand in the output of the last layer.
    steps : int
    lr : float
    batch_size : int
        Pictures a step.
    seed : int
        Of the order of the pictures.
    progress : bool
        Show a bar called `name`.
    device : {"cpu", "cuda"}
        Where the layers run; they are moved there, and back in the end.

    Returns
    -------
    (float, float)
        Loss over all pictures before and after.

    Raises
    ------
    InputError
        If there is nothing to train or to learn from, or the loss is not finite.

    Examples
    --------
    >>> import spherecnn as sc
    >>> one, other = sc.layers.Conv2d(1, 1, 1, rng=0), sc.layers.Conv2d(1, 1, 1, rng=1)
    >>> x, every = np.random.default_rng(0).standard_normal((8, 4, 8, 1)).astype(np.float32), np.arange(4)
    >>> targets = other(x)[:, every][:, :, every]
    >>> before, after = descend([one], one.named_params(), x, targets, every, every, steps=200, lr=0.05)
    >>> after < 1e-3 * before
    True
    """
    check_at_least("steps", steps, 1)
    if not params:
        raise InputError("there are no parameters to train; expected some of the layers': choose a method with some.")
    with moved(layers, device):
        at = np.ix_(rows, columns)
        optimizer, rng = Adam(params, lr), np.random.default_rng(seed)
        kept = {key: param.value.copy() for key, param in params.items()}
        before = _loss(layers, x, targets, at, batch_size, device)
        order: list[int] = []
        with tqdm(
            total=steps, desc=name or "training", unit="step", leave=False, disable=None if progress else True
        ) as bar:
            for step in range(steps):
                if len(order) < min(batch_size, len(x)):
                    order += rng.permutation(len(x)).tolist()
                some, order = order[:batch_size], order[batch_size:]
                optimizer.lr = lr * 0.5 * (1 + np.cos(np.pi * step / steps))
                loss = _step(layers, params, on(device, x[some]), targets[some], at)
                if not np.isfinite(loss):
                    raise InputError(
                        f"the loss is {loss} at step {step + 1}; expected a finite number: use a lower learning rate."
                    )
                optimizer.step()
                bar.set_postfix(loss=f"{loss:.3g}", refresh=False)
                bar.update()
        for layer in layers:
            layer.zero_grad()
        after = _loss(layers, x, targets, at, batch_size, device)
        if not after < before:
            for key, param in params.items():
                param.value = kept[key]
            return before, before
        return before, after


def _step(layers: Sequence[Layer], params: dict[str, Param], x: Array, targets: Array, at: tuple[Any, ...]) -> float:
    """Set the gradients to those of a batch; return its loss."""
    for layer in layers:
        layer.zero_grad()
    out, backwards = run(layers, x, train=True)
    y = to_host(out)
    wrong = y[(slice(None), *at)] - targets
    off = np.zeros_like(y)
    off[(slice(None), *at)] = wrong / wrong.size
    dy = beside(out, off)
    trained = {id(param) for param in params.values()}
    first = next(i for i, layer in enumerate(layers) if any(id(p) in trained for p in layer.named_params().values()))
    for backward in backwards[:first:-1]:
        dy = backward(dy)
    backwards[first](dy, inputs=False)
    return float(0.5 * np.square(wrong, dtype=np.float64).mean())


def _loss(
    layers: Sequence[Layer], x: Array, targets: Array, at: tuple[Any, ...], batch_size: int, device: str
) -> float:
    y = apply(layers, x, batch_size, device)
    return float(0.5 * np.square(y[(slice(None), *at)] - targets, dtype=np.float64).mean())
