"""The three jobs, any event, and all three in order."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Annotated, Any

import typer

from commands.app import Invalid, command
from commands.events import SANDBOX_SYMBOLS, SANDBOX_TODAY, note_own_symbols, run_event, serving_sandbox
from commands.options import AsJson, AsOf, DryRun, Force, Misbehave, Sandbox, Symbols, build_event
from commands.output import console
from commands.site import show_demo_page


@command(
    "initialize",
    "initialize --symbols NVDA",
    "initialize --start 2026-01-02 --end 2026-03-31 --dry-run",
)
def initialize(
    symbols: Symbols = None,
    as_of: AsOf = None,
    sessions: Annotated[
        int | None, typer.Option(metavar="COUNT", help="How many trading sessions back; default 70.")
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="DATE", help="First session, instead of --sessions.")] = None,
    end: Annotated[str | None, typer.Option(metavar="DATE", help="Last session; default the previous one.")] = None,
    dry_run: DryRun = False,
    force: Force = False,
    sandbox: Sandbox = False,
    misbehave: Misbehave = None,
    as_json: AsJson = False,
) -> None:
    """Load the last trading sessions of every symbol."""
    more = {"sessions": sessions, "start": start, "end": end}
    event = build_event("initialize", symbols, as_of, dry_run=dry_run, force=force, **more)
    run_event(event, sandbox=sandbox, misbehave=misbehave, as_json=as_json)


@command("daily_update", "daily_update", "daily_update --sandbox --misbehave stall:1")
def daily_update(
    symbols: Symbols = None,
    as_of: AsOf = None,
    dry_run: DryRun = False,
    force: Force = False,
    sandbox: Sandbox = False,
    misbehave: Misbehave = None,
    as_json: AsJson = False,
) -> None:
    """Load the previous trading session, and earlier ones that are missing."""
    event = build_event("daily_update", symbols, as_of, dry_run=dry_run, force=force)
    run_event(event, sandbox=sandbox, misbehave=misbehave, as_json=as_json)


@command("weekly_report", "weekly_report --force", "weekly_report --as-of 2026-03-07 --dry-run")
def weekly_report(
    symbols: Symbols = None,
    as_of: AsOf = None,
    dry_run: DryRun = False,
    force: Force = False,
    sandbox: Sandbox = False,
    misbehave: Misbehave = None,
    as_json: AsJson = False,
) -> None:
    """Mail the last week's performance with candlestick charts."""
    event = build_event("weekly_report", symbols, as_of, dry_run=dry_run, force=force)
    run_event(event, sandbox=sandbox, misbehave=misbehave, as_json=as_json)


@command("invoke", 'invoke \'{"job_type": "daily_update", "force": true}\' --sandbox')
def invoke(
    payload: Annotated[
        str, typer.Argument(metavar="PAYLOAD", help='The event, such as \'{"job_type": "daily_update"}\'.')
    ],
    sandbox: Sandbox = False,
) -> None:
    """Call the handler with an event, as AWS does, and print the result as JSON."""
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        raise Invalid("PAYLOAD", payload, 'JSON such as {"job_type": "daily_update"}') from None
    run_event(event, sandbox=sandbox, as_json=True)


@command("run", "run", "run --json")
def run(as_json: AsJson = False) -> None:
    """Run the three jobs in order; without POLYGON_API_KEY, on recorded prices as of 2013-03-02."""
    from config import settings

    before: dict[str, Any] = {}
    now: dict[str, Any] = {}
    with ExitStack() as stack:
        if not settings().polygon_api_key.get_secret_value():
            before = {"symbols": SANDBOX_SYMBOLS, "as_of": "2013-03-01"}  # leaves a session for the update
            now = {"symbols": SANDBOX_SYMBOLS, "as_of": str(SANDBOX_TODAY)}
            if not as_json:
                console.print("No POLYGON_API_KEY is set: using recorded real prices, as of Saturday 2013-03-02.")
                note_own_symbols()
            stack.enter_context(serving_sandbox(charts=True))
        run_event({"job_type": "initialize", **before}, as_json=as_json)
        run_event({"job_type": "daily_update", **now}, as_json=as_json)
        run_event({"job_type": "weekly_report", **now}, as_json=as_json)
    if not as_json:
        show_demo_page()
