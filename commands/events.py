"""Run an event as AWS does, on live or on recorded prices, and show what becomes of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from typing import Any

from commands.output import apply_log_level, console, print_note
from domain.errors import PayloadError

SANDBOX_TODAY = date(2013, 3, 2)
SANDBOX_SYMBOLS = "AAPL,FB,GOOG,IBM,MSFT"


def run_event(
    event: Any, *, sandbox: bool = False, misbehave: Sequence[str] | None = None, as_json: bool = False
) -> None:
    """Call the handler with an event, and show progress and the result.

    Parameters
    ----------
    event : Any
        As :func:`lambda_main.handler` takes it.
    sandbox : bool
        Whether to serve recorded prices, whose symbols and date the event need not name.
    misbehave : sequence of str, optional
        What the sandbox does wrong.
    as_json : bool
        Whether to print the result as JSON, and nothing else.
    """
    from entrypoints.console import progress_bar, show_result

    apply_log_level()
    if misbehave and not sandbox:
        raise PayloadError("--misbehave is for the sandbox: add --sandbox")
    with ExitStack() as stack:
        if sandbox and isinstance(event, dict):
            if event.get("job_type") != "doctor":  # which has no such keys
                if "symbols" not in event:
                    note_own_symbols()
                event = {"symbols": SANDBOX_SYMBOLS, "as_of": str(SANDBOX_TODAY), **event}
            charts = event.get("job_type") in ("weekly_report", "doctor")
            stack.enter_context(serving_sandbox(charts=charts, misbehave=misbehave))
        with progress_bar(console, quiet=as_json) as context:
            from lambda_main import handler

            result = handler(event, context)
    if as_json:
        print(json.dumps(result))
    else:
        show_result(console, result)


def note_own_symbols() -> None:
    """Say that recorded prices have symbols of their own, if others were configured."""
    from config import Settings, settings

    if settings().symbols != Settings.model_fields["symbols"].default:
        print_note(f"recorded prices are of {SANDBOX_SYMBOLS.replace(',', ', ')}: SYMBOLS of the settings is not used")


@contextmanager
def serving_sandbox(
    *,
    charts: bool,
    port: int = 0,
    day: date = SANDBOX_TODAY,
    calls_per_minute: int = 0,
    misbehave: Sequence[str] | None = None,
) -> Iterator[dict[str, str]]:
    """Serve recorded prices and charts, and point the settings to these servers; yield these settings."""
    from config import settings
    from sandbox.history import PriceHistory
    from sandbox.misbehavior import parse_misbehavior
    from sandbox.renderer import Renderer, RendererUnavailable
    from sandbox.server import MarketServer

    with ExitStack() as stack:
        market = MarketServer(PriceHistory.recorded(), today=day, port=port, calls_per_minute=calls_per_minute)
        try:
            market.misbehaviors = tuple(parse_misbehavior(form, day) for form in misbehave or ())
        except ValueError as error:
            raise PayloadError(f"--misbehave {error}") from None
        try:
            stack.enter_context(market)
        except OSError as error:
            raise PayloadError(
                f"--port is {port}, where nothing can listen on 127.0.0.1: {error.strerror}; valid is a free port, or 0"
            ) from None
        variables = {
            "POLYGON_BASE_URL": market.url,
            "POLYGON_API_KEY": market.key,
            "POLYGON_CALLS_PER_MINUTE": "0",
            "SYMBOLS": SANDBOX_SYMBOLS,
            "MAIL_TRANSPORT": "outbox",  # nobody gets mail about recorded prices
        }
        if charts and "QUICKCHART_URL" not in os.environ:
            try:
                variables["QUICKCHART_URL"] = stack.enter_context(Renderer()).url
            except RendererUnavailable as error:
                print_note(error)
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        settings.cache_clear()
        try:
            yield variables
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            settings.cache_clear()
