"""The command line: `spherecnn COMMAND`, one file a command, each imported when it is needed."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from spherecnn.errors import InputError

COMMANDS = ("demo", "train", "evaluate", "predict", "transfer", "convert", "summary", "info", "warmup", "bench")


class Commands(click.Group):
    """A group whose commands are the modules beside this file, and whose errors are one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"spherecnn.cli.{cmd_name}").command

    def main(self, args: Any = None, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]
        """Run a command; exit with 0, with 2 and one sentence on bad input, or with 130 when interrupted."""
        args = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(args, standalone_mode=False, **extra)
        except (click.ClickException, click.Abort, InputError, OSError, MemoryError) as error:
            if "--debug" in args or not standalone_mode:
                raise
            click.echo(f"spherecnn: {sentence(error)}", err=True)
            sys.exit(130 if isinstance(error, click.Abort) else 2)
        if standalone_mode:
            sys.exit(code)
        return code


def sentence(error: BaseException) -> str:
    """Say an error in one sentence."""
    if isinstance(error, click.Abort):
        return "stopped by the keyboard."
    if isinstance(error, click.UsageError):
        help_for = error.ctx.command_path if error.ctx else "spherecnn"
        return f"{one_line(error.format_message()).rstrip('.')}: see `{help_for} --help`."
    if isinstance(error, click.ClickException):
        return one_line(error.format_message())
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    if isinstance(error, MemoryError):
        return f"out of memory ({one_line(str(error)).rstrip('.')}): use a smaller batch or grid."
    return one_line(str(error))


def one_line(text: str) -> str:
    """Join the lines of a text by spaces."""
    return " ".join(text.split())


@click.command(cls=Commands, name="spherecnn", invoke_without_command=True)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="spherecnn")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """Convolutional networks on spherical (360 degree) images.

    \b
    Start here:
      spherecnn demo --quick
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
