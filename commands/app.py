"""The Typer application to which each module of this package adds its commands, and the options of all of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from commands.output import be_quiet

VERSION = "1.0.0"
INSTALLED = "stock-tracker"  # the command that an installation has; a checkout is run as `python main.py`
PROGRAM = INSTALLED if Path(sys.argv[0]).stem == INSTALLED else "python main.py"
ANYWHERE = ("--verbose", "--quiet", "--debug")  # flags that may also stand behind the command

EPILOG = f"""
--verbose, --quiet and --debug may stand before or after the command. Each command has a help of its own, with examples:
{PROGRAM} status --help
"""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def words_of(arguments: Sequence[str]) -> Sequence[str]:
    """Return the arguments in which flags count: those before ``--``."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


class _Group(TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as usual, with the options of the whole program moved to where Typer expects them."""
        words = words_of(args)
        flags = [word for word in words if word in ANYWHERE]
        return super().parse_args(ctx, [*flags, *(w for w in words if w not in ANYWHERE), *args[len(words) :]])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands with the first sentence of their help, wrapped instead of cut."""
        rows = [(name, self.commands[name].get_short_help_str(1_000)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class _Command(TyperCommand):
    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """List the examples, one per line."""
        examples = str(self.epilog).splitlines()
        with formatter.section("Examples" if len(examples) > 1 else "Example"):
            formatter.write("".join(f"  {example}\n" for example in examples))


app = typer.Typer(
    cls=_Group,
    rich_markup_mode=None,  # plain help is wrapped at words, and needs no second library to start
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    add_completion=PROGRAM == INSTALLED,  # shells complete the arguments of a command of its own name only
    pretty_exceptions_enable=False,
)


def command(name: str, *examples: str) -> Callable[[_Function], _Function]:
    """Add a function as a command whose help ends with examples; each is what follows the program's name.

    The function's docstring is the help. An integer that it returns is the exit status.
    """
    return app.command(name, cls=_Command, epilog="\n".join(f"{PROGRAM} {example}" for example in examples))


class Invalid(typer.BadParameter):
    """A value that is not valid: one line that names the option or argument, the value, and what is valid."""

    def __init__(self, name: str, value: object, valid: str) -> None:
        super().__init__(f"{name} is {str(value)[:80]!r}: valid is {valid}")

    def format_message(self) -> str:
        """Return the message, without the words that Typer puts before one."""
        return self.message


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"{INSTALLED} {VERSION}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def _options(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show each step on standard error.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print errors only, and what --json or a '-' asks for.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Keep a table of daily stock prices complete and correct, and mail a weekly report."""
    del debug, version  # main() looks for --debug in the arguments: an error may precede this function
    if verbose and quiet:
        raise typer.BadParameter("--quiet and --verbose exclude each other: give one of them")
    be_quiet(quiet)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
    if verbose:
        from entrypoints.console import show_debug_lines

        show_debug_lines()


def usage_message(error: typer.TyperException) -> str:
    """Say in one line what of the arguments is not valid, and what is, or where to read it."""
    from pydantic import ValidationError

    from config import explain

    if isinstance(error, Invalid):
        return error.message
    if isinstance(error, typer.BadParameter) and error.param and isinstance(error.__cause__, ValidationError):
        detail = error.__cause__.errors()[0]
        return explain(detail, error.param.opts[0], repr(detail["input"])[:80])
    said = " ".join(error.format_message().split())
    said = f"{said[:1].lower()}{said[1:]}{'' if said.endswith(('.', '?')) else '.'}"
    context = getattr(error, "ctx", None)
    return f"{said} See {context.command_path} --help" if context else said.removesuffix(".")
