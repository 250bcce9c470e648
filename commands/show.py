"""The prices of one symbol."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.app import command
from commands.events import serving_sandbox
from commands.options import AsJson
from commands.output import apply_log_level, console

if TYPE_CHECKING:
    from pipeline.context import RunContext

Days = Annotated[int, typer.Option("--days", min=1, max=5_000, metavar="COUNT", help="How many sessions.")]


@command("show", "show AAPL", "show AAPL --days 60 --open")
def show(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="A stored symbol, such as AAPL.")],
    days: Days = 20,
    open_picture: Annotated[
        bool, typer.Option("--open", help="Draw a picture of the last 30 sessions into the outbox, and open it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the last bars of a symbol as candlesticks and as a table, with its splits and corrections."""
    from entrypoints.prices import read_prices, show_prices
    from lambda_main import run_context

    apply_log_level()
    context = run_context(None)
    prices, bars = read_prices(context.engine, symbol, days)
    if as_json:
        print(json.dumps(prices))
    else:
        show_prices(console, prices, bars)
    if open_picture:
        path = _draw(context, symbol)
        if not as_json:
            console.print(f"open {path}", markup=False)
        typer.launch(path.as_uri())


def _draw(context: RunContext, symbol: str) -> Path:
    """Draw the picture: of recorded prices by the sandbox's chart service, else by the one of the settings."""
    from config import settings
    from entrypoints.prices import save_picture
    from entrypoints.status import read_demo_event

    with ExitStack() as stack:
        if read_demo_event(context):
            stack.enter_context(serving_sandbox(charts=True))
        now = settings()
        return save_picture(context.engine, symbol, url=str(now.quickchart_url), folder=now.outbox)
