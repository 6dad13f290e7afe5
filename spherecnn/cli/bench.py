"""`spherecnn bench`: the speed table of this machine."""

from __future__ import annotations

from pathlib import Path

import click

from spherecnn import bench
from spherecnn.cli import options as o


@click.command(
    "bench",
    epilog="""\b
Examples:
  spherecnn bench --quick
  spherecnn bench --out speed.csv
  spherecnn bench --only SpherePHD --out faces.csv
  spherecnn bench --device cuda --out benchmarks/cuda.csv""",
)
@click.option("--quick", is_flag=True, help="Fewer repetitions: rougher figures, sooner.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="CSV file.  [default: speed.csv, on a GPU cuda.csv]",
)
@click.option("--memory/--no-memory", default=True, help="Measure peak memory too, each in a process of its own.")
@click.option("--only", metavar="TEXT", default="", help="Measure the rows whose names contain this.")
@click.option(
    "--device",
    type=click.Choice([*bench.OUT]),
    default="cpu",
    show_default=True,
    help="cuda: an NVIDIA GPU, in float32, TF32 and bfloat16, beside torch with cuDNN and beside what the card can do.",
)
@o.threads_option
def command(quick: bool, out: Path | None, memory: bool, only: str, device: str, threads: int | None) -> None:
    """Measure the kernels and a training step, beside torch where it is installed; write a CSV."""
    bench.run(out=out, quick=quick, memory=memory, only=only, device=device)
