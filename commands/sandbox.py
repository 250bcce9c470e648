"""Recorded prices and charts, served for other programs."""

from __future__ import annotations

import time
from datetime import date
from typing import Annotated

import typer

from commands.app import Invalid, command
from commands.events import SANDBOX_SYMBOLS, SANDBOX_TODAY, serving_sandbox
from commands.options import Misbehave
from commands.output import console
from commands.signals import until_interrupted


@command("sandbox", "sandbox", "sandbox --port 8080 --misbehave stall:1")
def sandbox(
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Port on 127.0.0.1; 0 picks a free one.", min=0, max=65_535)
    ] = 0,
    today_is: Annotated[str, typer.Option("--today", metavar="DATE", help="The server's date.")] = str(SANDBOX_TODAY),
    calls_per_minute: Annotated[
        int, typer.Option(metavar="COUNT", min=0, help="Answer 429 above this rate; 0 is unlimited.")
    ] = 0,
    misbehave: Misbehave = None,
) -> None:
    """Serve recorded prices in Polygon's wire format, and charts in QuickChart's, until interrupted."""
    try:
        day = date.fromisoformat(today_is)
    except ValueError:
        raise Invalid("--today", today_is, "an ISO date such as 2013-03-01") from None
    server = serving_sandbox(charts=True, port=port, day=day, calls_per_minute=calls_per_minute, misbehave=misbehave)
    with server as variables, until_interrupted():
        console.print(f"# Recorded prices of {SANDBOX_SYMBOLS} as of {day}. Use them with these settings:")
        for name, value in variables.items():
            console.print(f"{name}={value}")
        console.print("# Ctrl-C stops the server.")
        while True:
            time.sleep(1)
