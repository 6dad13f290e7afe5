"""What the scripts share: errors in one sentence, results as CSV and Markdown."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from spherecnn.errors import InputError


class Script(click.Command):
    """A command whose errors are one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            raise click.ClickException(str(error)) from error


def markdown_table(header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table in Markdown."""
    header = list(header)
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def span(numbers: list[float], digits: int) -> str:
    """The least and the greatest of some numbers, or the one."""
    low, high = (f"{v:.{digits}f}" for v in (min(numbers), max(numbers)))
    return low if low == high else f"{low} to {high}"


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file; lines that begin with # do not count."""
    return list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#")))


def table_csv(rows: Iterable[Any], about: str = "") -> bytes:
    """Rows as CSV, with a last line that begins with #."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return (text.getvalue() + (about.replace("\n", " ") + "\n" if about else "")).encode()


def command_line(script: str) -> str:
    """How a script was called."""
    return " ".join([f"python scripts/{script}.py", *sys.argv[1:]])
