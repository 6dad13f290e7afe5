"""`spherecnn warmup`: compile the kernels, so that nothing later waits for it."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

import click
import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

import spherecnn as sc
from spherecnn.cli import options as o
from spherecnn.datasets.project import project_planar
from spherecnn.datasets.transforms import rotate
from spherecnn.errors import InputError
from spherecnn.kernels.jit import cache_folder
from spherecnn.layers.base import DEVICES
from spherecnn.layers.registry import METHODS
from spherecnn.training.losses import LOSSES
from spherecnn.training.optim import OPTIMIZERS

GRID = sc.grids.Equirect(16)
# A small grid of each kind.
GRIDS: dict[type[sc.grids.Grid], sc.grids.Grid] = {
    type(grid): grid for grid in (GRID, sc.grids.Polyhedron(2), sc.grids.Icosphere(2))
}


@click.command(
    "warmup",
    epilog="""\b
Examples:
  spherecnn warmup
  spherecnn warmup --device cuda
  spherecnn warmup --device cuda --cc 9.0
  spherecnn warmup --clear""",
)
@click.option("--clear", is_flag=True, help="Delete all compiled kernels, of every version, instead.")
@click.option("--float64", is_flag=True, help="Compile for double precision too.")
@click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="cpu",
    show_default=True,
    help="cuda: the kernels of an NVIDIA GPU, in several processes at once.",
)
@click.option("--cc", metavar="X.Y", help="Compute capability of the GPU; by default that of this machine's.")
@o.threads_option
def command(clear: bool, float64: bool, device: str, cc: str | None, threads: int | None) -> None:
    """Compile the kernels into the cache on disk."""
    parent = cache_folder().parent
    if cc is not None and device == "cpu":
        raise InputError(f"--cc is {cc!r} without --device cuda; expected both: it is of the kernels of a GPU.")
    if float64 and device == "cuda":
        raise InputError(
            "--float64 was given with --device cuda; expected one of them, as the GPU computes in float32: leave "
            "--float64 out."
        )
    if clear:
        for folder in parent.iterdir():
            if re.fullmatch(r"(gpu-)?[0-9a-f]{16}", folder.name):
                shutil.rmtree(folder)
        click.echo(f"Cleared {parent}.\nNext: spherecnn warmup")
        return
    start = time.perf_counter()
    if device == "cuda":
        click.echo(warm_gpu(capability(cc), threads or os.cpu_count() or 1))
        return
    for dtype in (np.float32, np.float64) if float64 else (np.float32,):
        work = list(jobs(np.dtype(dtype)))
        with tqdm(work, unit="step", leave=False, disable=None) as bar:
            for name, job in bar:
                bar.set_description(f"{name}, {np.dtype(dtype)}")
                job()
    click.echo(f"All kernels are ready in {cache_folder()}, after {time.perf_counter() - start:.1f} s.")


def capability(given: str | None) -> tuple[int, int]:
    """A compute capability as it is written, or that of the GPU."""
    if given is None:
        return o.gpu().cc
    found = re.fullmatch(r"(\d+)\.(\d)", given)
    if found is None or (int(found[1]), int(found[2])) < (8, 0):
        raise InputError(f"--cc is {given!r}; expected a compute capability from 8.0 on, such as 9.0: correct it.")
    return int(found[1]), int(found[2])


def warm_gpu(cc: tuple[int, int], workers: int) -> str:
    """Compile the kernels of a GPU that are not in the cache; return what to say."""
    from spherecnn.kernels.gpu import bodies, launch  # noqa: F401  the bodies make all kernels

    start = time.perf_counter()
    missing = [name for name, kernel in launch.KERNELS.items() if not kernel.file(cc).exists()]
    spawn = multiprocessing.get_context("spawn")
    with (
        tqdm(total=len(missing), unit="kernel", leave=False, disable=None) as bar,
        ProcessPoolExecutor(max(1, min(workers, len(missing))), spawn) as pool,
    ):
        for done in as_completed(pool.submit(compile_one, name, cc) for name in missing):
            bar.set_description(done.result())
            bar.update()
    return (
        f"All {len(launch.KERNELS)} kernels for compute capability {cc[0]}.{cc[1]} are ready in "
        f"{launch.cache_folder()}: {len(missing)} were compiled, in {time.perf_counter() - start:.1f} s."
    )


def compile_one(name: str, cc: tuple[int, int]) -> str:
    """Compile a kernel of a GPU into the cache; return its name."""
    from spherecnn.kernels.gpu import bodies, launch  # noqa: F401

    launch.KERNELS[name].cubin(cc)
    return name


def jobs(dtype: np.dtype) -> Iterator[tuple[str, Callable[[], object]]]:
    """Small pieces of work that together call every kernel."""
    x = inputs(GRID, dtype)
    for method in METHODS:
        yield method, lambda method=method: train_step("classifier", method, dtype)  # type: ignore[misc]
    for method in ("circular", "spherephd"):
        yield (
            f"unpooling, {method}",
            lambda method=method: train_step("encoder_decoder", method, dtype, depth=1),  # type: ignore[misc]
        )
    for method in ("spherephd", "mesh"):
        yield f"U-Net, {method}", lambda method=method: train_step("unet", method, dtype, depth=1)  # type: ignore[misc]
    for layer in layers():
        yield type(layer).__name__, lambda layer=layer: step(layer.astype(dtype), x)  # type: ignore[misc]
    for name in LOSSES:
        yield name, lambda name=name: measure(name, x)  # type: ignore[misc]
    for name, settings in [*((name, {}) for name in OPTIMIZERS), ("sgd", {"momentum": 0.9})]:
        yield name, lambda name=name, settings=settings: optimise(name, dtype, settings)  # type: ignore[misc]
    turn = Rotation.from_euler("y", 0.3)
    yield "rotate", lambda: rotate(x, turn, GRID)
    yield "project", lambda: project_planar(x[..., 0], GRID, rotations=turn)


def layers() -> Iterator[sc.layers.Layer]:
    """Layers whose kernels the classifiers do not use."""
    yield sc.layers.CircularConv2d(16, 16, 3, rng=0)
    yield sc.layers.Conv2d(16, 16, 3, padding_mode="sphere", exact=True, rng=0)
    yield sc.layers.Conv2d(16, 16, 3, stride=2, rng=0)
    yield sc.layers.Conv2d(16, 16, 3, groups=16, rng=0)
    yield sc.layers.Conv2d(16, 32, 3, groups=2, rng=0)
    yield sc.layers.MaxPool2d(2)
    yield sc.layers.AvgPool2d(2)
    yield sc.layers.TangentMaxPool2d(3, 2, grid=GRID)
    yield sc.layers.TangentAvgPool2d(3, 2, grid=GRID)
    yield sc.layers.BatchNorm(16)
    yield sc.layers.LayerNorm(16)
    yield sc.layers.GroupNorm(4, 16)
    yield sc.layers.GatedConv2d(16, 16, 3, rng=0)
    yield sc.layers.Upsample(scale_factor=2, mode="bilinear")
    for activation in ("ReLU", "LeakyReLU", "ELU", "GELU", "Sigmoid", "Tanh", "Softmax"):
        yield getattr(sc.layers, activation)()
    yield sc.layers.Dropout(0.5, rng=0)


def step(layer: sc.layers.Layer, x: np.ndarray) -> None:
    """Forward and backward once, and forward as at test time."""
    y, backward = layer.forward(x, train=True)
    backward(np.ones_like(y))
    layer(x)


def inputs(grid: sc.grids.Grid, dtype: np.dtype) -> np.ndarray:
    """Two random pictures of 16 channels."""
    return np.random.default_rng(0).random((2, *grid.shape, 16)).astype(dtype)


def train_step(model: str, method: str, dtype: np.dtype, **options: int) -> None:
    """Forward and backward of a network on a small grid of the method."""
    grid = GRIDS[type(METHODS[method].grid())]
    step(sc.models.MODELS[model](method, 16, 4, grid, width=16, **options, rng=0).astype(dtype), inputs(grid, dtype))


def measure(loss: str, x: np.ndarray) -> None:
    """A loss on one value per pixel, weighed by area."""
    target = np.zeros(x.shape[:-1], int) if loss == "cross_entropy" else x
    LOSSES[loss](area=GRID.area)(x, target)


def optimise(name: str, dtype: np.dtype, settings: dict[str, float]) -> None:
    """One step of an optimiser, with the gradient clipped."""
    linear = sc.layers.Linear(4, 4, rng=0).astype(dtype)
    step(linear, np.ones((2, 4), dtype))
    sc.training.clip_grad_norm(linear.named_params(), 1.0)
    OPTIMIZERS[name](linear.named_params(), lr=0.1, **settings).step()
