"""The state of the table: what is stored, covered and missing a symbol, the last runs, and what the next would do.

What comes in: settings, a database, symbols and a date. What goes out: plain values, for the terminal or as JSON. It
only reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import pandas as pd
from sqlalchemy import Connection

import utils
from domain.calendar import last_sessions
from domain.models import EVERY_SYMBOL, Request
from domain.planner import missing_pairs
from pipeline import jobs
from pipeline.run import RunContext
from storage.engine import redacted_url

STORED, COVERED, MISSING = "█", "·", "x"
SHOWN_SYMBOLS = 30
SHOWN_RUNS = 5


def read_status(context: RunContext, symbols: Sequence[str], as_of: date, *, strip: int = 40) -> dict[str, Any]:
    """Read what there is to know of the table.

    Parameters
    ----------
    context : RunContext
    symbols : sequence of str
        ``["*"]`` is the whole market.
    as_of : datetime.date
        Stands for today.
    strip : int
        How many of the last sessions each symbol's strip shows, oldest first: ``█`` stored, ``·`` fetched and without a
        bar, ``x`` missing.

    Returns
    -------
    dict
        ``database, as_of, strip`` (its first and last session), ``symbols`` (those with something missing first, at
        most 30), ``more_symbols``, ``next_run`` and ``runs``; JSON-serialisable.
    """
    sessions = last_sessions(strip, as_of)
    state: dict[str, Any] = {
        "database": redacted_url(context.engine),
        "as_of": str(as_of),
        "strip": {"first": str(sessions[0]), "last": str(sessions[-1]), "count": len(sessions)},
        "symbols": [],
        "more_symbols": 0,
        "next_run": jobs.run_job(Request("daily_update", tuple(symbols), as_of, dry_run=True), context),
        "runs": [],
    }
    with utils.reading(context.engine) as connection:
        if connection is None:
            return state
        lines = _symbol_lines(connection, symbols, sessions)
        state["symbols"] = lines[:SHOWN_SYMBOLS]
        state["more_symbols"] = max(len(lines) - SHOWN_SYMBOLS, 0)
        runs = utils.read_last_runs(connection, SHOWN_RUNS)
        state["runs"] = [{key: _plain(value) for key, value in row.items()} for row in runs]
    return state


def _symbol_lines(connection: Connection, symbols: Sequence[str], sessions: list[date]) -> list[dict[str, Any]]:
    coverage = utils.read_coverage(connection, symbols)
    missing = missing_pairs(symbols, sessions, coverage)
    lacking = sorted(range(len(symbols)), key=lambda row: -int(missing[row].sum()))
    shown = [symbols[row] for row in lacking[:SHOWN_SYMBOLS] if symbols[row] != EVERY_SYMBOL]
    history = utils.read_history(connection, shown, sessions[0], sessions[-1])
    stored = {row["symbol"]: row for row in utils.read_stored(connection, shown).to_dict("records")}
    traded = {symbol: set(dates) for symbol, dates in history.groupby("symbol")["date"]}
    lines = []
    for row in lacking:
        symbol = symbols[row]
        has = stored.get(symbol)
        ranges = coverage.get(symbol, []) + coverage.get(EVERY_SYMBOL, [])
        lines.append(
            {
                "symbol": symbol,
                "rows": int(has["rows"]) if has else 0,
                "first": str(has["first"].date()) if has else None,
                "last": str(has["last"].date()) if has else None,
                "covered_from": str(min(ranges)[0]) if ranges else None,
                "covered_to": str(max(last for _, last in ranges)) if ranges else None,
                "missing": int(missing[row].sum()),
                "strip": "".join(
                    _mark(pd.Timestamp(session) in traded.get(symbol, ()), lacks)
                    for session, lacks in zip(sessions, missing[row].tolist(), strict=True)
                ),
            }
        )
    return lines


def _mark(is_stored: bool, is_missing: bool) -> str:
    if is_missing:
        return MISSING
    return STORED if is_stored else COVERED


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int) else str(value)
