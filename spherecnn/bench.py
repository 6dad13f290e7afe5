"""The speed table: our layers and torch's, in one process, turn about, on the same arrays and threads."""

from __future__ import annotations

import csv
import io
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

import spherecnn as sc
from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.kernels.loss import cross_entropy
from spherecnn.kernels.memory import empty, release

COLUMNS = ("case", "shape", "pass", "ours ms", "torch ms", "ratio", "ours peak MiB", "torch peak MiB")
Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """One row of the table: what is measured, and how to make the two pieces of work."""

    name: str
    shape: str
    which: str  # "forward", "forward+backward" or "step"
    make: Callable[[Any], tuple[Work, Work | None]]


def run(out: str | os.PathLike[str] = "speed.csv", quick: bool = False, memory: bool = True) -> list[dict[str, Any]]:
    """Measure every case, print the table and write it as CSV.

    A figure is the median of several turns; ours and torch's alternate, so that both meet the same
    disturbances. Ratios count, absolute times depend on the machine. Torch is measured in its best form:
    channels_last, columns wrapped by `F.pad`, rows by the convolution's own zero padding, no gradients recorded
    in inference. Peak memory is that of a process that does this case only.

    Parameters
    ----------
    out : path
        CSV file to write.
    quick : bool
        Fewer turns and no memory measurement.
    memory : bool
        Measure peak memory too, each in a process of its own.

    Returns
    -------
    list of dict
        One row a case.
    """
    torch = find_torch()
    table = []
    chosen = cases()
    with tqdm(chosen, unit="case", leave=False, disable=None) as bar:
        for case in bar:
            bar.set_description(f"{case.name}, {case.which}")
            ours, theirs = case.make(torch)
            times = alternate([ours] if theirs is None else [ours, theirs], turns=5 if quick else 15)
            peaks = [peak(case, side) for side in ("ours", "torch")[: len(times)]] if memory and not quick else []
            table.append(row(case, times, peaks))
    report(table, Path(out), torch)
    return table


def row(case: Case, times: list[float], peaks: list[float | None]) -> dict[str, Any]:
    """One line of the table."""
    cells: list[Any] = [case.name, case.shape, case.which, f"{times[0] * 1e3:.3f}", "", "", "", ""]
    if len(times) > 1:
        cells[4], cells[5] = f"{times[1] * 1e3:.3f}", f"{times[1] / times[0]:.2f}"
    cells[6 : 6 + len(peaks)] = ["" if p is None else f"{p:.0f}" for p in peaks]
    return dict(zip(COLUMNS, cells, strict=True))


def report(table: list[dict[str, Any]], out: Path, torch: Any) -> None:
    """Print the table and write the CSV, whose last line says what it was measured on."""
    widths = [max(len(c), *(len(str(r[c])) for r in table)) for c in COLUMNS]
    for line in (dict(zip(COLUMNS, COLUMNS, strict=True)), *table):
        click.echo("  ".join(str(line[c]).ljust(w) for c, w in zip(COLUMNS, widths, strict=True)).rstrip())
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    text.write(f"# {machine(torch)}\n".replace(",", ";"))
    write_atomic(out, text.getvalue().encode())
    click.echo(f"\n{machine(torch)}\nWrote {out}. Ratio: torch's time over ours.")
    if torch is None:
        click.echo("Next: pip install 'spherecnn[torch]' to measure torch beside it.")


def machine(torch: Any) -> str:
    """What the figures were measured on."""
    from spherecnn.kernels.vector import HOST

    peer = f"torch {torch.__version__}" if torch else "no torch"
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    versions = f"spherecnn {sc.__version__}, numpy {np.__version__}, {peer}"
    return f"{cpu}, {HOST.name}, {sc.get_num_threads()} threads, {versions}"


def find_torch() -> Any:
    """Import torch with our number of threads, or return None."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(sc.get_num_threads())
    return torch


def alternate(works: list[Work], turns: int, most_seconds: float = 20.0) -> list[float]:
    """Median seconds of each piece of work, run turn about."""
    for work in works:
        work()
        work()
    seconds: list[list[float]] = [[] for _ in works]
    begin = time.perf_counter()
    for turn in range(turns):
        for work, found in zip(works, seconds, strict=True):
            start = time.perf_counter()
            work()
            found.append(time.perf_counter() - start)
        if turn >= 4 and time.perf_counter() - begin > most_seconds:
            break
    return [statistics.median(s) for s in seconds]


def peak(case: Case, side: str) -> float | None:
    """MiB by which a process grows when it does this case three times; None where the system cannot tell."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    number = [(c.name, c.shape, c.which) for c in cases()].index((case.name, case.shape, case.which))
    done = subprocess.run(
        [sys.executable, "-c", f"from spherecnn import bench; bench.grow({number}, {side!r}, {sc.get_num_threads()})"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"the memory of {case.name} could not be measured: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.strip().splitlines()[-1])


def grow(number: int, side: str, threads: int) -> None:
    """Print by how many MiB the memory of this process peaks over what its arrays held before case `number`."""
    sc.set_num_threads(threads)
    torch = find_torch()
    which = 0 if side == "ours" else 1
    for small in (True, False):  # the small one compiles, and loads libraries
        work = cases(smallest=small)[number].make(torch)[which]
        release()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = resident("VmRSS")
        for _ in range(3):
            if work is not None:
                work()
    print(resident("VmHWM") - before)


def resident(field: str) -> float:
    """A field of this process's memory, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


# --- cases ---------------------------------------------------------------------------------------------------


def cases(smallest: bool = False) -> list[Case]:
    """All rows of the table; `smallest` gives the same rows on tiny images."""
    found = []

    def add(name: str, make: Any, size: tuple[int, int, int], options: tuple[Any, ...], text: str, which: str) -> None:
        sizes = (1, 8, 16) if smallest else size
        shape = "x".join(map(str, size)) + f", {text}"
        found.append(Case(name, shape, which, lambda torch: make(torch, *sizes, *options)))

    for name, size, channels, mode, groups in CONVOLUTIONS:
        for which in ("forward", "forward+backward"):
            options = (*channels, mode, groups, which)
            add(name, conv, size, options, f"{channels[0]} to {channels[1]}", which)
    for name, make in (("batch norm", batch_norm), ("max pool 2", max_pool)):
        add(name, make, (8, 64, 128), (64,), "64", "forward+backward")
    for width in (16, 32):
        add("circular classifier", classifier, (16, 64, 128), (width,), f"width {width}", "step")
    return found


# name, (samples, rows, columns), (channels in, out), padding mode, groups
CONVOLUTIONS = (
    *(("circular 3x3", (n, 64, 128), (c, c), "circular", 1) for c, n in ((32, 8), (64, 4), (128, 4))),
    *(("circular 3x3", (2, 128, 256), (c, c), "circular", 1) for c in (32, 64, 128)),
    *(("zero-padded 3x3", (n, 64, 128), (c, c), "zeros", 1) for c, n in ((32, 8), (64, 4), (128, 4))),
    ("RGB stem 3x3", (4, 256, 512), (3, 32), "circular", 1),
    ("depthwise 3x3, zeros", (8, 64, 128), (64, 64), "zeros", 64),
    ("depthwise 3x3, circular", (8, 64, 128), (64, 64), "circular", 64),
)


def images(*shape: int, seed: int = 0) -> np.ndarray:
    """Random images in aligned memory."""
    x = empty(shape, np.float32)
    x[...] = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return x


def conv(
    torch: Any, n: int, h: int, w: int, c: int, k: int, mode: str, groups: int, which: str
) -> tuple[Work, Work | None]:
    """A 3x3 convolution; a stem, on RGB, needs no gradient of its input."""
    stem = c == 3
    x, dy = images(n, h, w, c), images(n, h, w, k, seed=1)
    layer = sc.layers.Conv2d(c, k, 3, groups=groups, padding_mode=mode, rng=0)

    def ours() -> object:
        if which == "forward":
            return layer(x)
        layer.zero_grad()
        _, backward = layer.forward(x, train=True)
        return backward(dy, inputs=not stem)

    if torch is None:
        return ours, None
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_(not stem)
    tdy = torch.from_numpy(dy).permute(0, 3, 1, 2)
    weight = torch.from_numpy(np.ascontiguousarray(layer.weight.value.transpose(3, 2, 0, 1)))
    weight = weight.contiguous(memory_format=torch.channels_last).requires_grad_()
    bias = torch.from_numpy(layer.params["bias"].value.copy()).requires_grad_()
    function = torch.nn.functional

    def convolve() -> Any:
        if mode == "zeros":
            return function.conv2d(tx, weight, bias, padding=1, groups=groups)
        padded = function.pad(tx, (1, 1, 0, 0), mode="circular")
        return function.conv2d(padded, weight, bias, padding=(1, 0), groups=groups)

    def theirs() -> object:
        if which == "forward":
            with torch.no_grad():
                return convolve()
        return torch.autograd.grad(convolve(), (weight, bias) if stem else (tx, weight, bias), tdy)

    return ours, theirs


def batch_norm(torch: Any, n: int, h: int, w: int, c: int) -> tuple[Work, Work | None]:
    """Batch normalisation in training."""
    return _against(torch, sc.layers.BatchNorm(c), lambda nn: nn.BatchNorm2d(c), (n, h, w, c))


def max_pool(torch: Any, n: int, h: int, w: int, c: int) -> tuple[Work, Work | None]:
    """Max pooling in 2 x 2 windows."""
    return _against(torch, sc.layers.MaxPool2d(2), lambda nn: nn.MaxPool2d(2), (n, h, w, c))


def _against(torch: Any, layer: Any, peer: Callable[[Any], Any], shape: tuple[int, ...]) -> tuple[Work, Work | None]:
    x, dy = images(*shape), images(*layer.out_shape(shape), seed=1)

    def ours() -> object:
        return layer.forward(x, train=True)[1](dy)

    if torch is None:
        return ours, None
    module = peer(torch.nn)
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    tdy = torch.from_numpy(dy).permute(0, 3, 1, 2)

    def theirs() -> object:
        tx.grad = None
        return module(tx).backward(tdy)

    return ours, theirs


def classifier(torch: Any, n: int, h: int, w: int, width: int) -> tuple[Work, Work | None]:
    """A training step of the circular classifier with Adam, RGB input, 10 classes."""
    x, labels = images(n, h, w, 3), np.arange(n) % 10
    net = sc.models.classifier("circular", 3, 10, sc.grids.Equirect(h, w), width=width, rng=0)
    optimizer = sc.training.Adam(net.named_params(), lr=1e-3)

    def ours() -> None:
        optimizer.zero_grad()
        scores, backward = net.forward(x, train=True)
        _, count, dy = cross_entropy(scores, labels, None, None, -100, 0.0)
        backward(dy / count, inputs=False)
        optimizer.step()

    if torch is None:
        return ours, None
    peer = torch_classifier(torch, width).to(memory_format=torch.channels_last)
    tx, tlabels = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(labels)
    adam = torch.optim.Adam(peer.parameters(), lr=1e-3)

    def theirs() -> None:
        adam.zero_grad()
        torch.nn.functional.cross_entropy(peer(tx), tlabels).backward()
        adam.step()

    return ours, theirs


def torch_classifier(torch: Any, width: int, in_channels: int = 3, classes: int = 10) -> Any:
    """The network of `models.classifier("circular", ...)` in torch, with its best circular convolution."""
    nn = torch.nn

    class Circular(nn.Conv2d):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            padded = nn.functional.pad(x, (1, 1, 0, 0), mode="circular")
            return nn.functional.conv2d(padded, self.weight, self.bias, padding=(1, 0))

    class AreaMean(nn.Module):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            area = torch.from_numpy(np.array(sc.grids.Equirect(*x.shape[2:]).row_area, np.float32))
            return (x.mean(dim=3) * (area / area.sum())).sum(dim=2)

    steps, channels = [], in_channels
    for stage, convolutions in enumerate((1, 2, 2)):
        steps += [nn.MaxPool2d(2)] if stage else []
        for _ in range(convolutions):
            steps += [Circular(channels, width << stage, 3, bias=False), nn.BatchNorm2d(width << stage), nn.ReLU()]
            channels = width << stage
    return nn.Sequential(*steps, AreaMean(), nn.Linear(channels, classes))
