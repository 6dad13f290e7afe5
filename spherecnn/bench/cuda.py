"""`spherecnn bench --device cuda`: the speed table on a GPU, beside torch and beside what the card can do."""

from __future__ import annotations

import csv
import gc
import io
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

import spherecnn as sc
from spherecnn.bench import torch_cuda
from spherecnn.bench.case import Case, Work, against, on
from spherecnn.bench.traffic import Traffic, counted
from spherecnn.errors import InputError
from spherecnn.files import write_atomic
from spherecnn.kernels.precision import PRECISIONS

COLUMNS = (
    *("case", "shape", "pass", "precision", "ours ms", "torch ms", "ratio", "GB/s", "of copy", "TFLOP/s", "of peak"),
    *("ours peak MiB", "torch peak MiB", "note"),
)
TURNS, QUICK_TURNS = 15, 5
TURN_SECONDS, MOST_REPEATS = 4e-3, 100
LAUNCHES = 1000
COPIED = 1 << 30  # bytes, far beyond any cache
WAVES, ARITHMETIC_TURNS = 16, 4096  # blocks on each multiprocessor, turns of their loop
TINY = (1, 4, 8, 4)


@dataclass
class Bench:
    """One run: its clocks, what was found, and where it goes.

    Attributes
    ----------
    clock, torch_clock : callable
        ``clock(work, repeats)`` gives seconds, ``clock.issue`` those of the host, ``clock.peak`` MiB.
    torch : module or None
    turns : int
    header : list of str
        What was measured on.
    cache : int
        Bytes of the card's second-level cache.
    """

    clock: Any
    torch: Any
    torch_clock: Any
    turns: int
    header: list[str]
    out: Path
    cache: int = 0
    table: list[dict[str, str]] = field(default_factory=list)
    ceilings: dict[str, float] = field(default_factory=dict)

    def add(self, **cells: Any) -> None:
        """Put a row to the table, and write all that there is: a run that breaks off keeps what it has."""
        named = {name.replace("_", " "): str(value) for name, value in cells.items() if value is not None}
        self.table.append({column: named.get(column, "") for column in COLUMNS})
        self.write()

    def write(self) -> None:
        text = io.StringIO()
        text.writelines(f"# {line}\n".replace(",", ";") for line in self.header)
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.table)
        write_atomic(self.out, text.getvalue().encode())

    # --- what the card can do ----------------------------------------------------------------------------------

    def measure_ceilings(self, copied: int = COPIED, waves: int = WAVES, turns: int = ARITHMETIC_TURNS) -> None:
        """Copies, multiply-adds and products, each the best of several turns."""
        from spherecnn.kernels.gpu import ceilings, device
        from spherecnn.kernels.gpu.array import empty, zeros

        size = ceilings.whole_copies(copied)
        x, y = zeros((size,), np.float32), empty((size,), np.float32)
        blocks = waves * device.current().multiprocessors
        sums = empty((blocks * ceilings.THREADS,), np.float32)
        for work in (ceilings.copy_ceiling(x, y), *ceilings.arithmetic_ceilings(sums, blocks, turns)):
            work()
            seconds = min(self.clock(work, 3) for _ in range(self.turns))
            rate = self.ceilings[work.name] = work.amount / seconds
            unit = {"GB/s": f"{rate / 1e9:.1f}"} if work.name == "copy" else {"TFLOP/s": f"{rate / 1e12:.2f}"}
            shape = f"{x.nbytes / 2**20:.0f} MiB" if work.name == "copy" else f"{blocks} blocks"
            self.add(case=f"ceiling: {work.name}", shape=shape, ours_ms=f"{seconds * 1e3:.3f}", **unit)

    # --- rows ----------------------------------------------------------------------------------------------------

    def measure(self, case: Case) -> None:
        """A row in each precision; in one only where nothing is multiplied."""
        made, traffic = None, None
        for precision in PRECISIONS:
            with sc.precision(precision), on("cuda"):
                if made is None or case.which == "step":  # a recorded step keeps its precision
                    made = None
                    gc.collect()
                    ours, theirs, note = self._make(case)
                    with counted("cuda") as traffic:
                        ours()
                    made = ours, theirs, note
                assert traffic is not None
                self._row(case, precision, *made, traffic)
            if not traffic.flop:
                break

    def _make(self, case: Case) -> tuple[Work, Work | None, str]:
        """The two pieces of work; without torch's, and why, where torch cannot."""
        try:
            with torch_cuda.making(self.torch) as torch:
                return *case.make(torch), ""
        except Exception as error:
            if self.torch is None or _broken():
                raise
            return case.make(None)[0], None, _told("torch", error)

    def _row(self, case: Case, precision: str, ours: Work, theirs: Work | None, note: str, traffic: Traffic) -> None:
        peer = None if theirs is None else torch_cuda.in_precision(self.torch, theirs, precision)
        works, notes = [(self.clock, ours)], [note] if note else []
        if peer is not None:
            try:
                self.torch_clock(peer, 3)
                works.append((self.torch_clock, peer))
            except Exception as error:
                if _broken():
                    raise
                notes.append(_told("torch", error))
        seconds = alternate(works, self.turns)
        if traffic.bytes < self.cache:
            notes.append("fits the cache")
        rates = self._rates(case, precision, seconds[0], traffic)
        peaks = [f"{clock.peak(work):.0f}" for clock, work in works]
        if case.which == "step":
            peaks[0] = ""  # the memory of a graph is its own, and taken once
        self.add(
            case=case.name,
            shape=case.shape,
            precision=precision,
            ours_ms=f"{seconds[0] * 1e3:.4f}",
            torch_ms=f"{seconds[1] * 1e3:.4f}" if len(seconds) > 1 else None,
            ratio=f"{seconds[1] / seconds[0]:.2f}" if len(seconds) > 1 else None,
            note="; ".join(notes),
            **{"pass": case.which, "ours peak MiB": peaks[0], "torch peak MiB": peaks[1] if len(peaks) > 1 else None},
            **rates,
        )

    def _rates(self, case: Case, precision: str, seconds: float, traffic: Traffic) -> dict[str, str]:
        """Achieved bandwidth and operations, and their share of what the card can do."""
        moved = traffic.bytes / seconds
        found = {"GB/s": f"{moved / 1e9:.1f}", "of copy": f"{moved / self.ceilings['copy']:.3f}"}
        if traffic.flop:
            done = traffic.flop / seconds
            found |= {"TFLOP/s": f"{done / 1e12:.3f}", "of peak": f"{done / self.ceilings[precision]:.3f}"}
        return found

    # --- launches and graphs -------------------------------------------------------------------------------------

    def measure_launches(self, count: int = LAUNCHES) -> None:
        """Time of the host for each call of a layer so small that the GPU has nothing to do."""
        for name, make in tiny_layers():
            for which in ("forward", "forward+backward"):
                with on("cuda"), torch_cuda.making(self.torch) as torch:
                    ours, theirs = make(torch, which)
                works = [(self.clock, ours)]
                if theirs is not None:
                    works.append((self.torch_clock, torch_cuda.in_precision(self.torch, theirs, "float32")))
                seconds = []
                for clock, work in works:
                    clock(work, 3)
                    seconds.append(statistics.median(clock.issue(work, count) for _ in range(3)))
                self.add(
                    case=f"launch: {name}",
                    shape="x".join(map(str, TINY)),
                    ours_ms=f"{seconds[0] * 1e3:.4f}",
                    torch_ms=f"{seconds[1] * 1e3:.4f}" if len(seconds) > 1 else None,
                    ratio=f"{seconds[1] / seconds[0]:.2f}" if len(seconds) > 1 else None,
                    note=f"time of the host, a call of {count}",
                    **{"pass": which},
                )

    def measure_graph(self, shape: tuple[int, ...] = (16, 64, 128, 3), width: int = 16) -> None:
        """A training step whose work is launched each time, and one that is recorded and replayed."""
        for recorded in (False, True):
            step = classifier_step(shape, width, recorded)
            for _ in range(4):
                step()
            seconds = alternate([(self.clock, step)], self.turns)[0]
            issued = statistics.median(self.clock.issue(step, 10) for _ in range(3))
            self.add(
                case="training step, " + ("replayed" if recorded else "launched"),
                shape="x".join(map(str, shape)) + f", width {width}",
                precision="float32",
                ours_ms=f"{seconds * 1e3:.4f}",
                note=f"the host takes {issued * 1e3:.4f} ms of it",
                **{"pass": "step"},
            )


def alternate(works: Sequence[tuple[Callable[[Work, int], float], Work]], turns: int) -> list[float]:
    """Median seconds of each piece of work, run turn about; a turn repeats short work."""
    repeats = []
    for clock, work in works:
        clock(work, 2)  # compiles, allocates, tunes
        repeats.append(int(np.clip(TURN_SECONDS / max(clock(work, 1), 1e-9), 1, MOST_REPEATS)))
    found: list[list[float]] = [[] for _ in works]
    for _ in range(turns):
        for (clock, work), often, seconds in zip(works, repeats, found, strict=True):
            seconds.append(clock(work, often))
    return [statistics.median(seconds) for seconds in found]


def tiny_layers() -> Iterator[tuple[str, Callable[[Any, str], tuple[Work, Work | None]]]]:
    """Layers on `TINY`, beside torch's."""
    channels = TINY[-1]

    def relu(torch: Any, which: str) -> tuple[Work, Work | None]:
        return against(torch, sc.layers.ReLU(), torch and torch.nn.ReLU(), TINY, which)

    def convolution(torch: Any, which: str) -> tuple[Work, Work | None]:
        peer = torch and torch.nn.Conv2d(channels, channels, 3, padding=1)
        layer = sc.layers.Conv2d(channels, channels, 3, padding=1, rng=0)
        return against(torch, layer, peer, TINY, which, tuple(peer.parameters()) if peer else ())

    def batch_norm(torch: Any, which: str) -> tuple[Work, Work | None]:
        peer = torch and torch.nn.BatchNorm2d(channels)
        return against(
            torch, sc.layers.BatchNorm(channels), peer, TINY, which, tuple(peer.parameters()) if peer else ()
        )

    yield from (("ReLU", relu), ("3x3 convolution", convolution), ("batch norm", batch_norm))


def classifier_step(shape: tuple[int, ...], width: int, recorded: bool) -> Work:
    """A training step of `models.classifier` on the GPU."""
    from spherecnn.bench.case import images
    from spherecnn.training.step import DeviceStep
    from spherecnn.training.task import Classify

    n, h, w, c = shape
    net = sc.models.classifier("circular", c, 10, sc.grids.Equirect(h, w), width=width, rng=0).to("cuda")
    adam = sc.training.Adam(net.named_params(), lr=1e-3)
    step = DeviceStep(net, Classify(sc.training.CrossEntropyLoss()), adam, None)
    step.refused = not recorded
    x, labels = images(*shape), np.arange(n) % 10
    return lambda: step(1, x, labels, lambda _: None)


def _broken() -> bool:
    """Whether the GPU itself has failed, so that nothing can run after that."""
    from spherecnn.kernels.gpu import device

    try:
        device.current().synchronize()
    except device.CudaError:
        return True
    return False


def _told(who: str, error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{who} failed: {type(error).__name__}: {line}"[:200]


def versions(torch: Any) -> str:
    """Versions of all that takes part."""
    found = [f"spherecnn {sc.__version__}", f"Python {platform.python_version()}", f"numpy {np.__version__}"]
    for package in ("numba", "numba-cuda", "cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    if torch is None:
        return ", ".join([*found, "no torch"])
    return ", ".join([*found, f"torch {torch.__version__}", f"cuDNN {torch.backends.cudnn.version()}"])


def run(cases: Sequence[Case], out: str | os.PathLike[str], quick: bool = False) -> list[dict[str, str]]:
    """Measure the card, then every case beside torch, then launches and graphs; print the table and write it as CSV.

    Times are those between events on the GPU, the median of several turns, ours and torch's in turn. Bandwidth is of
    the arrays that the ops of a row read and write, each once an op; operations are those of a direct convolution.

    Parameters
    ----------
    cases : sequence of Case
    out : path
        CSV file; it is written after each row.
    quick : bool
        Fewer turns.

    Returns
    -------
    list of dict
        One row a case and precision.

    Raises
    ------
    InputError
        If there is no GPU, or a row failed: those before it and after it are in the file.
    """
    from spherecnn.kernels.gpu import device

    gpu = device.current()
    from spherecnn.bench import gpu_clock

    torch, missing = torch_cuda.find()
    bench = Bench(
        clock=gpu_clock.Clock(),
        torch=torch,
        torch_clock=gpu_clock.TorchClock(torch) if torch else None,
        turns=QUICK_TURNS if quick else TURNS,
        header=[gpu_clock.card(gpu), versions(torch)],
        out=Path(out),
        cache=gpu_clock.cache_bytes(gpu),
    )
    if missing:
        click.echo(missing, err=True)
    return conduct(bench, cases)


def conduct(bench: Bench, cases: Sequence[Case]) -> list[dict[str, str]]:
    """Run all parts of a bench; report what failed at the end."""
    failed: list[str] = []
    parts: list[tuple[str, Callable[[], None]]] = [("what the card can do", bench.measure_ceilings)]
    parts += [(f"{c.name}, {c.shape}, {c.which}", lambda c=c: bench.measure(c)) for c in cases]  # type: ignore[misc]
    parts += [("launches", bench.measure_launches), ("graphs", bench.measure_graph)]
    with tqdm(parts, unit="row", leave=False, disable=None) as bar:
        for name, part in bar:
            bar.set_description(name)
            try:
                part()
            except Exception as error:
                if name == parts[0][0]:
                    raise
                failed.append(f"{name}: {_told('ours', error)}")
                bench.add(case=name, note=failed[-1])
                if _broken():
                    failed.append("the GPU cannot be used after that, and the rest was not measured")
                    break
    report(bench)
    if failed:
        raise InputError(
            f"{len(failed)} rows of the table could not be measured: {'; '.join(failed[:3])}; the others are in "
            f"{bench.out}: run these alone with --only and SPHERECNN_CUDA_SYNC=1, and report what they say."
        )
    return bench.table


def report(bench: Bench) -> None:
    """Print the table, and what was done."""
    shown = [c for c in COLUMNS if any(row[c] for row in bench.table)]
    widths = [max(len(c), *(len(row[c]) for row in bench.table)) for c in shown]
    for line in (dict(zip(COLUMNS, COLUMNS, strict=True)), *bench.table):
        click.echo("  ".join(line[c].ljust(w) for c, w in zip(shown, widths, strict=True)).rstrip())
    click.echo("\n" + "\n".join(bench.header))
    click.echo(f"Wrote {bench.out}. Ratio: torch's time over ours; shares are of the copies and products at the top.")
    if bench.torch is None:
        click.echo("Next: install torch with CUDA to measure it beside ours.")
    else:
        click.echo("Next: docs/cuda.md says how to read the table; pytest -m gpu proves the results on this card.")
