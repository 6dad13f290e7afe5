"""The command line: `spherecnn COMMAND`, one file a command, each imported when it is needed."""

from __future__ import annotations

import click

from spherecnn.cli.group import Commands

__all__ = ["COMMANDS", "main"]

COMMANDS = ("demo", "train", "evaluate", "predict", "transfer", "convert", "mesh", "summary", "info", "warmup", "bench")


@click.command(cls=Commands, name="spherecnn", package=__name__, modules=COMMANDS)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="spherecnn")
def main(debug: bool) -> None:
    """Convolutional networks on spherical (360 degree) images.

    \b
    Start here:
      spherecnn demo --quick
    """
