"""The state of the table."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from commands.app import command
from commands.options import AsJson, AsOf, Symbols, build_event
from commands.output import apply_log_level, console

OF_DEMO = {"symbols": "symbols", "as_of": "date"}  # what a database of recorded prices decides
Check = Annotated[
    bool, typer.Option("--check", help="Exit with 1 unless nothing is missing, the last session included.")
]


@command("status", "status", "status --symbols AAPL,GOOG --json", "status --check")
def status(symbols: Symbols = None, as_of: AsOf = None, check: Check = False, as_json: AsJson = False) -> int:
    """Show what is stored, missing and to be read again, what changed, and the last runs."""
    from domain.calendar import today
    from entrypoints.payload import parse_payload
    from entrypoints.status import read_demo_event, read_status, read_strips
    from entrypoints.status_view import SHOWN_SYMBOLS, show_status, strip_width
    from lambda_main import run_context

    apply_log_level()
    context = run_context(None)
    asked = build_event("daily_update", symbols, as_of, dry_run=True)
    demo = read_demo_event(context)
    request = parse_payload({**demo, **asked}, context.settings, today(context.now()))
    state = read_status(context, request.symbols, request.as_of)
    if used := [OF_DEMO[key] for key in demo if key not in asked]:
        state["notes"].append(f"the database holds recorded prices: taken are their {' and their '.join(used)}")
    if as_json:
        print(json.dumps(state))
    else:
        shown = [symbol["symbol"] for symbol in state["symbols"][:SHOWN_SYMBOLS]]
        show_status(console, state, read_strips(context, state, shown, strip_width(console, state["symbols"])))
    return 0 if state["complete"] or not check else 1
