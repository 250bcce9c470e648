"""The state of the table."""

from __future__ import annotations

import json

from commands.app import command
from commands.options import AsJson, AsOf, Symbols, build_event
from commands.output import apply_log_level, console


@command("status", "status", "status --symbols AAPL,GOOG --json")
def status(symbols: Symbols = None, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """Show what is stored, covered and missing, and the last runs."""
    from domain.calendar import today
    from entrypoints.console import show_status
    from entrypoints.payload import parse_payload
    from entrypoints.status import read_status
    from lambda_main import run_context

    apply_log_level()
    context = run_context(None)
    event = build_event("daily_update", symbols, as_of, dry_run=True)
    request = parse_payload(event, context.settings, today(context.now()))
    width = max(min(console.width - 60, 70), 10)
    state = read_status(context, request.symbols, request.as_of, strip=width)
    if as_json:
        print(json.dumps(state))
    else:
        show_status(console, state)
