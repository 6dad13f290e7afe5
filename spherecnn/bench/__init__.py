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
from pathlib import Path
from typing import Any

import click
import numpy as np
from tqdm import tqdm

import spherecnn as sc
from spherecnn.bench import convolution, decoder, faces, mesh, network, resize, sphere
from spherecnn.bench.case import Case, Work, images
from spherecnn.bench.network import torch_classifier
from spherecnn.errors import InputError, check_choice
from spherecnn.files import write_atomic
from spherecnn.kernels.memory import release

__all__ = ["Case", "Work", "alternate", "cases", "find_torch", "images", "machine", "run", "torch_classifier"]

MODULES = (convolution, sphere, faces, mesh, decoder, resize, network)
OUT = {"cpu": "speed.csv", "cuda": "cuda.csv"}
COLUMNS = ("case", "shape", "pass", "ours ms", "torch ms", "ratio", "ours peak MiB", "torch peak MiB")


def run(
    out: str | os.PathLike[str] | None = None,
    quick: bool = False,
    memory: bool = True,
    only: str = "",
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """Measure every case, print the table and write it as CSV.

    A figure is the median of several turns; ours and torch's alternate, so that both meet the same
    disturbances. Ratios count, absolute times depend on the machine. Torch is measured in its best form:
    channels_last, columns wrapped by `F.pad`, rows by the convolution's own zero padding, no gradients recorded
    in inference. Peak memory is that of a process that does this case only.

    Parameters
    ----------
    out : path, optional
        CSV file to write; speed.csv by default, and cuda.csv for a GPU.
    quick : bool
        Fewer turns and no memory measurement.
    memory : bool
        Measure peak memory too, each in a process of its own; on a GPU it is measured always.
    only : str
        Measure the rows whose names contain this.
    device : {"cpu", "cuda"}
        On a GPU see `bench.cuda.run`: its columns are others.

    Returns
    -------
    list of dict
        One row a case.

    Raises
    ------
    InputError
        If no row is left, or there is no GPU and one is asked for.
    """
    check_choice("device", device, tuple(OUT))
    chosen = [c for c in cases() if only.lower() in c.name.lower()]
    if not chosen:
        names = ", ".join(dict.fromkeys(c.name for c in cases()))
        raise InputError(f"no row has {only!r} in its name; expected a part of one of: {names}.")
    if device == "cuda":
        from spherecnn.bench import cuda

        return cuda.run(chosen, out or OUT[device], quick)
    torch = find_torch()
    table = []
    with tqdm(chosen, unit="case", leave=False, disable=None) as bar:
        for case in bar:
            bar.set_description(f"{case.name}, {case.which}")
            ours, theirs = case.make(torch)
            times = alternate([ours] if theirs is None else [ours, theirs], turns=5 if quick else 15)
            peaks = [peak(case, side) for side in ("ours", "torch")[: len(times)]] if memory and not quick else []
            table.append(row(case, times, peaks))
    report(table, Path(out or OUT[device]), torch)
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


def cases(smallest: bool = False) -> list[Case]:
    """All rows of the table; `smallest` gives the same rows on tiny images."""
    return [case for module in MODULES for case in module.cases(smallest)]
