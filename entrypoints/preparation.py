"""What Lambda does before the first event: with a whole core, import and build what every job needs.

An invocation of 256 MB has a seventh of a core. What a library does at its first use, such as importing more of itself,
takes seven times as long there.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from typing import Any

import pandas as pd
from requests.adapters import DEFAULT_CA_BUNDLE_PATH

from config import settings
from domain.calendar import last_sessions
from domain.errors import StockTrackerError
from domain.validation import validate_bars
from network.connect import within
from network.http import tls_context
from report import delivery
from report.chart_config import CHART_SESSIONS, alt_text, chart_request
from report.email import build_message
from report.model import Week
from reporting import build_report
from storage.bulk import csv_pieces
from storage.engine import open_engine
from transformations import add_metrics, clean, weekly_performance
from utils import no_closes

LATER = (  # modules that are imported where they are first needed, so that the command line starts at once
    "entrypoints.telemetry",
    "pg8000",
    "pipeline.audit",
    "pipeline.jobs",
    "pipeline.weekly_report",
    "storage.adoption",
    "storage.driver",
)
SETTINGS_SECONDS = 5.0  # INIT has 10 s: a secret that is late is read again by the first invocation


def prepare() -> None:
    """Import the modules of all jobs, rehearse them on a few bars, and read certificates and settings.

    Settings that cannot be read are an error of the invocation, which reads them again.
    """
    for name in LATER:
        import_module(name)
    rehearse()
    tls_context(DEFAULT_CA_BUNDLE_PATH)
    with suppress(StockTrackerError, TimeoutError):
        configured = within(SETTINGS_SECONDS, settings)
        open_engine(configured.database_url.get_secret_value())
        delivery.prepare(configured)


def rehearse() -> None:
    """Take two symbols the way of a bar, from the provider's answer to the mail, without a database or a network."""
    sessions = last_sessions(CHART_SESSIONS, date(2013, 3, 2))
    bars = [_bar(symbol, day, n) for n, symbol in enumerate(("A", "B"), 100) for day in sessions]
    accepted, _ = validate_bars(bars, sessions)
    rows = add_metrics(clean(accepted), no_closes()).rows
    for _ in csv_pieces(rows, list(rows.columns)):
        pass
    monday = sessions[-1] - timedelta(days=sessions[-1].weekday())
    performance = weekly_performance(rows, pd.Timestamp(monday))
    for symbol, history in rows.groupby("symbol"):
        chart_request(str(symbol), history)
        alt_text(str(symbol), history)
    report = build_report(performance, Week(monday, sessions[-1], 5))
    build_message(report, sender=None, recipients=(), sent_at=datetime.now(UTC)).as_bytes()


def _bar(symbol: str, day: date, price: int) -> dict[str, Any]:
    moment = datetime(day.year, day.month, day.day, 21, tzinfo=UTC).timestamp() * 1000
    close = price + day.day / 8
    return {"T": symbol, "t": moment, "o": price, "h": close + 1, "l": price - 1, "c": close, "v": 1000.0}
