"""Not-so-Clevr: train the networks of the CoordConv paper, and write the table beside the published numbers.

    python scripts/notsoclevr.py --help

Each network is trained once for each seed. A finished run is kept in the folder and not repeated, so that a long
table can be made in parts; the table and the picture show every run of the folder.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from reporting import Script, command_line, span, table_csv  # beside this file
from tqdm import tqdm

import spherecnn as sc
from spherecnn.cli.options import device_options
from spherecnn.datasets.notsoclevr import HOLDOUTS, SIZE, TASKS, NotSoClevr, not_so_clevr
from spherecnn.files import make_folder, write_atomic
from spherecnn.layers.base import Layer

Array = np.ndarray
BETAS = (0.9, 0.99)
MAP_SIZE = 256
COLUMNS = ("epoch", "seconds", "loss", "train", "test")
SUMMARY = ("task", "split", "network", "parameters", "settings", "seed", "epochs", "seconds", "train", "test", "solved")
LOSSES = {
    "classify": sc.training.CrossEntropyLoss(),
    "regress": sc.training.MSELoss(),
    "render": sc.training.BCEWithLogitsLoss(),
}
# What a score is, and from where on a task counts as solved.
SCORES = {"classify": "accuracy", "regress": "mean error, pixels", "render": "mean IoU"}
SOLVED = {
    "classify": lambda score: score == 1,
    "regress": lambda score: score < 0.5,
    "render": lambda score: score > 0.99,
}


@dataclass(frozen=True)
class Entry:
    """A row of the table: a network, how it is trained, and what the paper's authors reached with it.

    `published` has a text for each split. `cosine` lets the learning rate fall to 0 over the epochs.
    """

    task: str
    network: str
    build: Callable[[str, int], Layer]
    epochs: int
    batch_size: int
    lr: float
    l2: float = 0.0
    cosine: bool = False
    published: tuple[str, str] = ("", "")

    @property
    def settings(self) -> str:
        parts = [f"batch {self.batch_size}", f"lr {self.lr:g}", f"l2 {self.l2:g}" if self.l2 else ""]
        return ", ".join([p for p in parts if p] + ["cosine"] * self.cosine)


ENTRIES = [
    Entry(
        "classify",
        "CoordConv",
        lambda split, seed: sc.models.coordconv_painter(rng=seed),
        epochs=4,
        batch_size=16,
        lr=1e-2,
        l2=1e-3,
        cosine=True,
        published=("1", "1"),
    ),
    Entry(
        "classify",
        "deconvolution",
        lambda split, seed: sc.models.deconv_painter(3, rng=seed),
        epochs=300,
        batch_size=32,
        lr=5e-3,
        cosine=True,
        published=("at most 0.86", "about 0"),
    ),
    Entry(
        "regress",
        "CoordConv",
        lambda split, seed: sc.models.coordconv_regressor(rng=seed),
        epochs=20,
        batch_size=32,
        lr=1e-3,
        cosine=True,
    ),
    Entry(
        "regress",
        "convolution",
        lambda split, seed: sc.models.conv_regressor(split, rng=seed),
        epochs=20,
        batch_size=32,
        lr=1e-3,
        cosine=True,
    ),
    Entry(
        "render",
        "CoordConv",
        lambda split, seed: sc.models.coordconv_image_painter(rng=seed),
        epochs=15,
        batch_size=16,
        lr=5e-3,
        cosine=True,
    ),
    Entry(
        "render",
        "deconvolution",
        lambda split, seed: sc.models.deconv_painter(3, rng=seed),
        epochs=100,
        batch_size=32,
        lr=5e-3,
        cosine=True,
    ),
]


@dataclass(frozen=True)
class Run:
    """One training: an entry of the table on a split from a seed."""

    entry: Entry
    split: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.entry.task}-{self.split}-{self.entry.network.lower()}-{self.seed}"


@click.command(
    cls=Script,
    epilog="""\b
Examples:
  python scripts/notsoclevr.py --task classify --network coordconv --out runs/notsoclevr
  python scripts/notsoclevr.py --seed 0 --seed 1 --seed 2 --out runs/notsoclevr""",
)
@click.option("--task", type=click.Choice([*TASKS, "all"]), default="all", show_default=True, help="What to learn.")
@click.option(
    "--split",
    type=click.Choice([*HOLDOUTS, "both"]),
    default="both",
    show_default=True,
    help="Which places are held out for testing.",
)
@click.option(
    "--network",
    type=click.Choice(["coordconv", "ordinary", "both"]),
    default="both",
    show_default=True,
    help="With coordinates, or without.",
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of every network, instead of the table's own.")
@click.option(
    "--seed", "seeds", type=click.IntRange(0), default=(0,), multiple=True, show_default=True, help="May be repeated."
)
@click.option("--quick", is_flag=True, help="256 pictures and one epoch, to see that it runs; the scores mean nothing.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/notsoclevr"),
    show_default=True,
    help="Folder to write.",
)
@device_options
def main(
    task: str, split: str, network: str, epochs: int | None, seeds: tuple[int, ...], quick: bool, out: Path, device: str
) -> None:
    """Train the networks of the CoordConv paper on Not-so-Clevr; write a table and a picture."""
    make_folder(out)
    chosen = [
        Run(entry, holdout, seed)
        for entry in ENTRIES
        for holdout in HOLDOUTS
        for seed in seeds
        if task in (entry.task, "all")
        and split in (holdout, "both")
        and network in ("coordconv" if entry.network == "CoordConv" else "ordinary", "both")
    ]
    for run in chosen:
        if (out / f"{run.name}.csv").exists():
            click.echo(f"{run.name}: kept from before")
        else:
            execute(run, 1 if quick else epochs or run.entry.epochs, quick, out, device)
    rows = report(out)
    click.echo(f"\n{rows}\nWrote {out}: results.csv, results.md, a CSV for each run" + draw(out))


def execute(run: Run, epochs: int, quick: bool, out: Path, device: str) -> None:
    """Train a run and write its log and the sums of its pictures."""
    parts = [not_so_clevr(run.entry.task, holdout=run.split, split=part) for part in ("train", "test")]
    if quick:
        parts = [NotSoClevr(data.points[:256], data.task) for data in parts]
    model = run.entry.build(run.split, run.seed).to(device)
    rows = []
    for row in train(model, run, epochs, *parts):
        rows.append(row)
        scores = f"train {row[3]:.4f}, test {row[4]:.4f} ({SCORES[run.entry.task]})"
        click.echo(f"{run.name} {row[0]}/{epochs}: {row[1]:.1f} s, loss {row[2]:.5f}, {scores}")
    if run.entry.task != "regress":
        maps = {name: sum_of_maps(model, data) for name, data in zip(("train", "test"), parts, strict=True)}
        write_atomic(out / f"{run.name}.npz", npz(maps))
    about = f"# {model.parameter_count} parameters; {run.entry.settings}{'; quick' if quick else ''}"
    write_atomic(out / f"{run.name}.csv", table_csv([COLUMNS, *rows], about))


def train(model: Layer, run: Run, epochs: int, data: NotSoClevr, test: NotSoClevr) -> Iterator[tuple[Any, ...]]:
    """Yield (epoch, seconds of training so far, loss, scores on the training and on the test places)."""
    entry, loss = run.entry, LOSSES[run.entry.task]
    optimizer = sc.training.Adam(model.named_params(), lr=entry.lr, betas=BETAS)
    schedule = sc.training.CosineLR(optimizer, epochs) if entry.cosine else None
    kernels = [p for name, p in model.named_params().items() if name.endswith("weight") and p.value.ndim == 4]
    order, seconds = np.random.default_rng(run.seed), 0.0
    for epoch in range(1, epochs + 1):
        total, start = 0.0, time.perf_counter()
        steps = list(sc.training.batches(len(data), entry.batch_size, order))
        for indices in tqdm(steps, f"{run.name} {epoch}/{epochs}", leave=False, disable=None):
            x, target = data.batch(indices)
            y, backward = model.forward(beside(model, x), train=True)
            value, dy = loss(y, target if entry.task == "classify" else target.reshape(y.shape))
            value = float(value)
            if not np.isfinite(value):
                raise sc.training.TrainingDiverged(f"{run.name} diverged in epoch {epoch}; lower its learning rate.")
            optimizer.zero_grad()
            backward(dy, inputs=False)
            for kernel in kernels if entry.l2 else ():
                kernel.add_grad(beside(model, 2 * entry.l2 * sc.to_host(kernel.value)))
            optimizer.step()
            total += value * len(x)
        seconds += time.perf_counter() - start
        if schedule is not None:
            schedule.step()
        yield epoch, round(seconds, 2), total / len(data), score(model, data), score(model, test)


def beside(model: Layer, x: Array) -> Any:
    """An array on the device of a model."""
    return x if model.device == "cpu" else sc.to_device(x)


def score(model: Layer, data: NotSoClevr) -> float:
    """Accuracy, mean distance in pixels, or mean intersection over union of the pixels above 1/2."""
    found = []
    for indices in sc.training.batches(len(data), 64):
        x, target = data.batch(indices)
        y = sc.to_host(model(beside(model, x)))
        if data.task == "classify":
            found.append(y.argmax(axis=1) == target)
        elif data.task == "regress":
            found.append(SIZE * np.linalg.norm(y - target, axis=1))
        else:
            painted, square = y.reshape(len(x), -1) > 0, target.reshape(len(x), -1) > 0.5
            found.append((painted & square).sum(axis=1) / (painted | square).sum(axis=1))
    return float(np.concatenate(found).mean())


def sum_of_maps(model: Layer, data: NotSoClevr) -> Array:
    """Sum of the pictures (64, 64) of all points: of the softmax over the pixels, or of each pixel's probability."""
    total = np.zeros(SIZE * SIZE)
    act = sc.layers.Softmax() if data.task == "classify" else sc.layers.Sigmoid()
    for indices in sc.training.batches(len(data), 64):
        total += act(sc.to_host(model(beside(model, data.scaled[indices]))).reshape(len(indices), -1)).sum(axis=0)
    return total.reshape(SIZE, SIZE).astype(np.float32)


def report(out: Path) -> str:
    """Write results.csv, one row a run, and results.md, the table; return the table."""
    rows = list(summaries(out))
    write_atomic(out / "results.csv", table_csv([SUMMARY, *rows], "# " + command_line("notsoclevr")))
    text = markdown([dict(zip(SUMMARY, row, strict=True)) for row in rows])
    write_atomic(out / "results.md", text.encode())
    return text


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table, a line for each network and split: ranges over the seeds, beside what is published."""
    lines = [
        "| task | split | network | parameters | seeds | epochs | seconds | train | test | solved in | published |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in ENTRIES:
        for split, published in zip(HOLDOUTS, entry.published, strict=True):
            key = (entry.task, split, entry.network)
            found = [r for r in rows if (r["task"], r["split"], r["network"]) == key]
            if found:
                cells = [*key, f"{int(found[0]['parameters']):,}", *merged(found), published or "-"]
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def merged(rows: list[dict[str, Any]]) -> list[str]:
    """Cells of the runs that differ in their seed only: the range where they differ."""
    solved = [int(r["solved"]) for r in rows if r["solved"] != ""]
    when = f"epoch {span(solved, 0)}" if solved else "never"
    cells = [
        span([float(r[name]) for r in rows], digits) for name, digits in zip(SUMMARY[6:10], (0, 0, 3, 3), strict=True)
    ]
    return [str(len(rows)), *cells, when + (f" ({len(solved)} of {len(rows)})" if 0 < len(solved) < len(rows) else "")]


def summaries(out: Path) -> Iterator[tuple[Any, ...]]:
    """Yield a row of `SUMMARY` for every run of a folder: its last epoch, and the first that solved the test."""
    for entry in ENTRIES:
        for split in HOLDOUTS:
            for path in sorted(out.glob(f"{entry.task}-{split}-{entry.network.lower()}-*.csv")):
                about, log = read_run(path)
                last = log[-1]
                solved = next((r["epoch"] for r in log if SOLVED[entry.task](r["test"])), "")
                parameters, settings = re.fullmatch(r"# (\d+) parameters; (.*)", about).groups()
                yield (
                    *(entry.task, split, entry.network, int(parameters), settings, int(path.stem.split("-")[-1])),
                    *(int(last["epoch"]), last["seconds"], last["train"], last["test"]),
                    solved if solved == "" else int(solved),
                )


def read_run(path: Path) -> tuple[str, list[dict[str, float]]]:
    """Return what a run says about itself, and its epochs."""
    *lines, about = path.read_text().splitlines()
    return about, [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(lines)]


def draw(out: Path) -> str:
    """Draw notsoclevr.png when both networks have classified both splits; return what to add to the message."""
    from notsoclevr_figure import figure  # beside this file

    runs = {}
    for split in HOLDOUTS:
        for network in ("coordconv", "deconvolution"):
            found = sorted(out.glob(f"classify-{split}-{network}-*.csv"))
            if not found:
                return "."
            with np.load(found[0].with_suffix(".npz")) as maps:
                runs[split, network] = read_run(found[0])[1], dict(maps)
    parts = {s: [not_so_clevr(holdout=s, split=part) for part in ("train", "test")] for s in HOLDOUTS}
    truth = {s: [data.onehots().sum(axis=0)[..., 0] for data in both] for s, both in parts.items()}
    sc.viz.save(figure(runs, truth), out / "notsoclevr.png", dpi=100)
    return " and notsoclevr.png."


def npz(arrays: dict[str, Array]) -> bytes:
    """Arrays as the bytes of an .npz file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
