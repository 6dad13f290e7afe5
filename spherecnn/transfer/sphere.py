"""From a planar network to the same network on the sphere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spherecnn.errors import InputError, check_array, check_at_least, check_choice
from spherecnn.grids import Equirect
from spherecnn.layers import KTNConv2d, Layer, Param, SphConv2d
from spherecnn.layers.base import DEVICES, Array
from spherecnn.training.placement import moved
from spherecnn.transfer.chain import chain_to, convolutions
from spherecnn.transfer.copying import copy_state, rebuilt
from spherecnn.transfer.exact import exact, row_latitudes
from spherecnn.transfer.learn import apply, descend
from spherecnn.transfer.report import LayerErrors, Report, rmse_rows, size_rows
from spherecnn.transfer.rows import fit_rows, project_rows

COPIED = ("circular", "sphere", "tangent")
LEARNED = ("sphconv", "ktn")
INPUTS = ("own", "exact")


def to_sphere(
    model: Layer,
    method: str,
    *,
    images: Array | None = None,
    grid: Equirect | None = None,
    pitch: float | tuple[float, float] | None = None,
    inputs: str = "own",
    samples: int = 40,
    ridge: float = 0.03,
    steps: int = 300,
    finetune_steps: int = 0,
    validation: float = 0.2,
    seed: int = 0,
    progress: bool = False,
    device: str | None = None,
) -> tuple[Any, Report]:
    r"""Carry a planar network over to the sphere.

    - "circular", "sphere", "tangent": the weights are copied unchanged.
    - "sphconv": each row's kernels start as the planar kernel on the row's tangent plane (`project_rows`) and are then
      solved for, layer by layer, so that they reproduce the exact outputs on panoramas (`fit_rows`).
    - "ktn": the planar kernels stay; what makes the kernels of the rows from them starts from geometry and is trained
      by Adam, layer by layer, on the same loss.

    Everything else, normalisation and linear layers, is copied. With `finetune_steps` the learned kernels of all layers
    are then trained together by Adam on the last convolution's outputs.

    Source: Su and Grauman, NIPS 2017, section 3.3 ("sphconv"); CVPR 2019 ("ktn").

    Parameters
    ----------
    model : Layer
        A network of `models`, built with the method "planar".
    method : str
        "circular", "sphere", "tangent", "sphconv" or "ktn".
    images : ndarray (N, H, W, C), optional
        Panoramas to learn from and to measure on, of the dtype of the network; needed for "sphconv" and "ktn".
    grid : Equirect, optional
        Of the panoramas, where the network was trained on pictures of another size; the model's by default.
    pitch : float or (rows, columns), optional
        Pixel of the tangent planes, see `exact`.
    inputs : {"own", "exact"}
        What a layer learns to map to its exact outputs: the outputs of the transferred layers before it, so that it
        also makes good for their errors, or, as published, their exact outputs, each layer on its own.
    samples : int
        Columns of each row that are computed exactly, equally spaced; 40 as published.
    ridge : float
        See `fit_rows`.
    steps : int
        Of Adam for each layer of "ktn".
    finetune_steps : int
        Of Adam for all layers together.
    validation : float
        Share of the panoramas, one at least, that is not learned from but measured on.
    seed : int
        Of which panoramas those are, and of the order in training.
    progress : bool
        Show bars.
    device : {"cpu", "cuda"}, optional
        Where networks run, to learn and to measure; by default where the model is. Kernels that are solved for are
        solved for on the host.

    Returns
    -------
    model : Layer
        The network of the method, on that device.
    report : Report
        What was copied and learned, and each layer's errors at each row before and after.

    Raises
    ------
    InputError
        If the model is not planar, panoramas are missing or do not fit, or a layer cannot be computed exactly.

    Examples
    --------
    >>> import spherecnn as sc
    >>> planar = sc.models.classifier("planar", 1, 10, sc.grids.Equirect(16), rng=0)
    >>> sphere, report = to_sphere(planar, "circular")
    >>> sphere.config["method"], bool((sphere.head.weight.value == planar.head.weight.value).all()), report.learned
    ('circular', True, [])
    """
    check_choice("method", method, COPIED + LEARNED)
    check_choice("inputs", inputs, INPUTS)
    check_at_least("samples", samples, 1)
    check_at_least("finetune_steps", finetune_steps, 0)
    if device is not None:
        check_choice("device", device, DEVICES)
    where = device or model.device or "cpu"
    with moved([model], "cpu"):
        sphere = rebuilt(model, method, grid)
        learned = {name: layer for name, layer in sphere.walk() if isinstance(layer, (SphConv2d, KTNConv2d))}
        if images is None:
            if method in LEARNED:
                raise InputError(
                    f"no images are given; expected panoramas (N, H, W, C) for method {method!r}, whose kernels are "
                    "learned from them: pass images, or choose circular, sphere or tangent."
                )
            return sphere.to(where), Report(method, copy_state(model.state(), sphere), [])
        _check_images(images, model, sphere)
        fitting, held = _shares(len(images), validation, seed, bool(learned))
        leave = tuple(f"{name}." for name in learned)
        report = Report(method, copy_state(model.state(), sphere, leave), [], pictures=(len(fitting), len(held)))
        task = _Task(model, sphere, sphere.grid, pitch, samples, progress, where)
        if learned:
            settings: dict[str, Any] = {"inputs": inputs, "ridge": ridge, "steps": steps, "seed": seed}
            report.learned = _learn(task, learned, images[fitting], finetune_steps, **settings)
        report.errors = _measure(task, images[held])
    return sphere.to(where), report


@dataclass
class _Task:
    """A planar network, its counterpart, and how exact outputs are sampled."""

    planar: Layer
    sphere: Layer
    grid: Equirect
    pitch: float | tuple[float, float] | None
    samples: int
    progress: bool
    device: str

    def __post_init__(self) -> None:
        self.names = convolutions(self.planar)
        self.chain = chain_to(self.planar, self.names[-1])
        stray = [name for name in self.names if name not in self.chain.names]
        if stray:
            raise InputError(
                f"{stray[0]} stands on another branch than {self.names[-1]}; expected one chain of layers for exact "
                "outputs: copy the weights instead, with method circular, sphere or tangent."
            )
        layers = dict(self.sphere.walk())
        self.layers = [layers[name] for name in self.chain.names]

    def columns(self, name: str) -> Array:
        """The sampled columns of a layer's output."""
        width = chain_to(self.planar, name).out_shape((1, *self.grid.shape, self.channels))[2]
        count = min(width, self.samples)
        return np.unique((np.arange(count) + 0.5) * width / count).astype(int)

    @property
    def channels(self) -> int:
        return int(self.planar.config["in_channels"])  # type: ignore[attr-defined]

    def exact(self, name: str, images: Array, columns: Array | None = None) -> Array:
        options: dict[str, Any] = {"pitch": self.pitch, "grid": self.grid}
        options |= {"progress": self.progress, "device": self.device}
        return exact(self.planar, name, images, columns=columns, **options)


def _learn(
    task: _Task, learned: dict[str, Any], images: Array, finetune_steps: int, *, inputs: str, seed: int, **settings: Any
) -> list[str]:
    """Learn the kernels of one layer after the other, then of all; return the names of what was trained."""
    x, targets = images, images[:0]
    planar = dict(task.planar.walk())
    for i, (name, layer) in enumerate(zip(task.chain.names, task.layers, strict=True)):
        if name in learned:
            columns = task.columns(name)
            targets = task.exact(name, images, columns)
            source = x if inputs == "own" or not i else task.exact(task.chain.names[i - 1], images)
            options = settings | {"seed": seed, "name": name, "progress": task.progress, "device": task.device}
            _learn_layer(layer, planar[name], source, targets, columns, **options)
        if name != task.names[-1] and inputs == "own":
            x = apply([layer], x, device=task.device)
    params = {f"{name}.{key}": p for name, layer in learned.items() for key, p in trained(layer).items()}
    if finetune_steps:
        rows, columns = np.arange(targets.shape[1]), task.columns(task.names[-1])
        tuning: dict[str, Any] = {"steps": finetune_steps, "lr": 1e-4, "seed": seed, "progress": task.progress}
        tuning |= {"name": "all layers", "device": task.device}
        descend(task.layers, params, images, targets, rows, columns, **tuning)
    return list(params)


def _learn_layer(
    layer: Any, planar: Any, x: Array, targets: Array, columns: Array, *, ridge: float, steps: int, **options: Any
) -> None:
    bias = None if planar.bias is None else planar.bias.value
    if isinstance(layer, SphConv2d):
        project_rows(layer, planar.weight.value, bias)
        fit_rows(layer, x, targets, columns=columns, ridge=ridge)
        return
    layer.weight.value[...] = planar.weight.value
    if bias is not None:
        layer.bias.value[...] = bias
    rows = np.arange(targets.shape[1])
    descend([layer], trained(layer), x, targets, rows, columns, steps=steps, **options)


def trained(layer: Any) -> dict[str, Param]:
    """The parameters of a layer that a transfer trains: all but the planar kernel and bias of `KTNConv2d`."""
    frozen = ("weight", "bias") if isinstance(layer, KTNConv2d) else ()
    return {name: param for name, param in layer.named_params().items() if name not in frozen}


def _measure(task: _Task, images: Array) -> list[LayerErrors]:
    """Errors of the planar network and of the transferred one at the sampled columns, convolution by convolution."""
    errors = []
    before = after = images
    for name, own, other in zip(task.chain.names, task.chain.layers, task.layers, strict=True):
        before, after = (apply([run], y, device=task.device) for run, y in ((own, before), (other, after)))
        if name in task.names:
            columns = task.columns(name)
            truth = task.exact(name, images, columns)
            found = [rmse_rows(y[:, :, columns], truth) for y in (before, after)]
            lat = row_latitudes(chain_to(task.planar, name), task.grid, np.arange(truth.shape[1]))
            errors.append(LayerErrors(name, lat, size_rows(truth), *found))
    return errors


def _check_images(images: Array, model: Layer, sphere: Any) -> None:
    check_array("images", images, "N, H, W, C", model.dtype)
    wanted = (*sphere.grid.shape, sphere.config["in_channels"])
    if images.shape[1:] != wanted:
        raise InputError(
            f"images have shape {images.shape}; expected (N, {', '.join(map(str, wanted))}), the grid and channels of "
            "the network: resize them, or name another grid."
        )


def _shares(count: int, validation: float, seed: int, learns: bool) -> tuple[Array, Array]:
    """Which panoramas to learn from and which to measure on; all are measured on where nothing is learned."""
    if not learns:
        return np.arange(0), np.arange(count)
    if not 0 < validation < 1 or count < 2:
        raise InputError(
            f"there are {count} images and validation is {validation}; expected 2 images or more and a share between 0 "
            "and 1, so that errors are measured on what was not learned from: add images or change the share."
        )
    held = min(count - 1, max(1, round(count * validation)))
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])
