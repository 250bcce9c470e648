"""Options that several commands share, and the event that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from domain.errors import PayloadError

if TYPE_CHECKING:
    from domain.models import JobType

MISBEHAVIORS = (  # of sandbox.misbehavior, which is imported only when it is needed
    "stall:MORNINGS",
    "late:SYMBOL:MORNINGS",
    "short:SYMBOL[:MORNINGS]",
    "half:SYMBOL[:MORNINGS]",
    "garble:SYMBOL:DATE[:MORNINGS]",
    "correct:SYMBOL:DATE",
    "withdraw:SYMBOL:DATE",
    "restate:SYMBOL:RATIO[:DAYS]",
    "wrong-ticker:SYMBOL:OTHER[:MORNINGS]",
    "rename:SYMBOL:NEW",
    "reach:DATE",
    "bad-splits",
)

Symbols = Annotated[
    str | None, typer.Option(metavar="SYMBOLS", help="Comma-separated symbols, @file, or '*' for the whole US market.")
]
AsOf = Annotated[str | None, typer.Option(metavar="DATE", help="The date to take for today in New York.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan; fetch, write and send nothing.")]
Force = Annotated[bool, typer.Option("--force", help="Fetch again what is covered; send again a report already sent.")]
Misbehave = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND",
        help="\b\nWhat the sandbox does wrong, any number of:\n" + "\n".join(MISBEHAVIORS),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the raw result as JSON, also that of a failure.")]
Sandbox = Annotated[bool, typer.Option("--sandbox", help="Use recorded prices, as of 2013-03-02; needs no key.")]


def build_event(
    job_type: JobType,
    symbols: str | None,
    as_of: str | None,
    *,
    dry_run: bool = False,
    force: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Build the event for these options; an option that was not given is left out."""
    if symbols and symbols.startswith("@"):
        symbols = ",".join(read_symbols(symbols))
    options = {"symbols": symbols, "as_of": as_of, "dry_run": dry_run or None, "force": force or None, **more}
    return {"job_type": job_type, **{key: value for key, value in options.items() if value is not None}}


def read_symbols(value: str) -> tuple[str, ...]:
    """Return the symbols of ``--symbols``, which may name a file.

    Raises
    ------
    PayloadError
    """
    from config import parse_symbols

    try:
        return parse_symbols(value, files=True)
    except ValueError as error:
        raise PayloadError(f"--symbols is {value!r}: {error}") from None
