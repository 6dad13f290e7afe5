"""Groups of commands, one module a command, each imported when it is needed, and errors in one sentence."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from spherecnn.errors import InputError


class Commands(click.Group):
    """A group whose commands are modules of a package, and whose errors are one sentence.

    Parameters
    ----------
    package : str
        The package; its module NAME holds `command`.
    modules : sequence of str
        The names, in the order of the help.
    """

    def __init__(self, *args: Any, package: str = "", modules: Sequence[str] = (), **extra: Any):
        super().__init__(*args, **{"invoke_without_command": True, **extra})
        self.package, self.modules = package, tuple(modules)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        return importlib.import_module(f"{self.package}.{cmd_name}").command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the group; without a command, show its help."""
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            click.echo(ctx.get_help())
        return result

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
