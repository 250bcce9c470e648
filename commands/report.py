"""A report at will: a page of any symbols and week."""

from __future__ import annotations

import webbrowser
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from commands.app import Invalid, command
from commands.events import SANDBOX_TODAY, serving_sandbox
from commands.options import Sandbox, Symbols, build_event
from commands.output import apply_log_level, console


@command("report", "report --open", "report --symbols AAPL,MSFT --week 2013-02-22 --sandbox")
def report(
    symbols: Symbols = None,
    week: Annotated[str | None, typer.Option(metavar="DATE", help="Any day of the week; default the last one.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="The file to write; default in outbox/.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    sandbox: Sandbox = False,
) -> None:
    """Make a page of chosen symbols and week from what is stored; load, send and record nothing."""
    from domain.calendar import today, week_sessions
    from entrypoints.payload import parse_payload
    from lambda_main import run_context
    from pipeline.compose import make_page

    apply_log_level()
    with ExitStack() as stack:
        if sandbox:
            stack.enter_context(serving_sandbox(charts=True))
        context = run_context(None)
        now = SANDBOX_TODAY if sandbox else today(context.now())
        request = parse_payload(build_event("weekly_report", symbols, None), context.settings, now)
        day = _parse_day(week, now) if week else week_sessions(now)[-1]
        path, warnings = make_page(context, request.symbols, day, as_of=now, output=output)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    console.print(f"open {path}", markup=False)
    if open_page and not webbrowser.open(path.resolve().as_uri()):
        console.print("warning: no browser was found", style="yellow")


def _parse_day(text: str, now: date) -> date:
    from domain.calendar import FIRST_YEAR

    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise Invalid("--week", text, "an ISO date such as 2026-03-06") from None
    if not date(FIRST_YEAR, 1, 1) <= day <= now:
        raise Invalid("--week", day, f"{FIRST_YEAR}-01-01 to {now}")
    return day
