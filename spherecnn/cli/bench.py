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
  spherecnn bench --only SpherePHD --out faces.csv""",
)
@click.option("--quick", is_flag=True, help="Fewer repetitions: rougher figures, sooner.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("speed.csv"),
    show_default=True,
    help="CSV file.",
)
@click.option("--memory/--no-memory", default=True, help="Measure peak memory too, each in a process of its own.")
@click.option("--only", metavar="TEXT", default="", help="Measure the rows whose names contain this.")
@o.threads_option
def command(quick: bool, out: Path, memory: bool, only: str, threads: int | None) -> None:
    """Measure the kernels and a training step, beside torch where it is installed; write a CSV."""
    bench.run(out=out, quick=quick, memory=memory, only=only)
