"""The Typer application to which each module of this package adds its commands, and the options of all of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class _Group(TyperGroup):
    """Accept the options of the whole program after the command as well."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = [argument for argument in args if argument in ("--verbose", "--debug")]
        return super().parse_args(ctx, [*flags, *(argument for argument in args if argument not in flags)])


app = typer.Typer(
    cls=_Group,
    help="Keep a table of daily stock prices complete and correct, and mail a weekly report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show each step on standard error.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Keep a table of daily stock prices complete and correct, and mail a weekly report."""
    del debug  # main() looks for it in the arguments: an error may precede this function
    if verbose:
        from entrypoints.console import show_debug_lines

        show_debug_lines()
