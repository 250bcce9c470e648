"""The state of the table: what is stored and missing per symbol, what changed, the last runs, and the next one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, TypedDict

import pandas as pd
from sqlalchemy import Connection

import utils
from domain.calendar import last_sessions
from domain.coverage import provisional_pairs, unread_pairs
from domain.models import EVERY_SYMBOL, PRICE_COLUMNS, JobResult, Request, Revision, SessionSpan
from pipeline import jobs
from pipeline.run import RunContext
from storage.engine import redacted_url

STORED, COVERED, MISSING = "█", "·", "x"
SHOWN_SYMBOLS = 30
SHOWN_RUNS = 5
SHOWN_CHANGES = 5


class SymbolState(TypedDict):
    """What is stored, covered and missing of one symbol; dates are ISO dates.

    ``strip`` has one character per session, oldest first: ``█`` stored, ``·`` covered without a bar, ``x`` missing.
    ``read_again`` counts the provisional sessions that the next update reads again, ``rejected`` the rejected bars.
    ``oldest_reading`` is the last session that was published when the part read longest ago was read.
    """

    symbol: str
    rows: int
    first: str | None
    last: str | None
    covered_from: str | None
    covered_to: str | None
    missing: int
    read_again: int
    oldest_reading: str | None
    rejected: int
    strip: str


class BarChange(TypedDict):
    """How the prices of a stored bar changed; dates are ISO dates, an empty mapping is no bar."""

    symbol: str
    session: str
    cause: str
    as_of: str
    old: dict[str, float | None]
    new: dict[str, float | None]


class TableState(TypedDict):
    """What ``main.py status`` shows; JSON-serializable."""

    database: str
    as_of: str
    strip: SessionSpan
    symbols: list[SymbolState]
    more_symbols: int
    changes: list[BarChange]  # newest first
    next_run: JobResult
    runs: list[dict[str, Any]]  # rows of job_runs, newest first


def read_status(context: RunContext, symbols: Sequence[str], as_of: date, *, strip: int = 40) -> TableState:
    """Read the state of the table, and plan the next daily update. Nothing is written.

    Parameters
    ----------
    context : RunContext
    symbols : sequence of str
        ``["*"]`` is the whole market.
    as_of : datetime.date
        Stands for today.
    strip : int
        Number of sessions that each symbol's strip shows, up to the last one before `as_of`.

    Returns
    -------
    TableState
        At most 30 symbols, those with the most missing sessions first; ``more_symbols`` counts the others.
    """
    sessions = last_sessions(strip, as_of)
    plan = jobs.run_job(Request("daily_update", tuple(symbols), as_of, dry_run=True), context)
    state: TableState = {
        "database": redacted_url(context.engine),
        "as_of": str(as_of),
        "strip": {"first": str(sessions[0]), "last": str(sessions[-1]), "count": len(sessions)},
        "symbols": [],
        "more_symbols": 0,
        "changes": [],
        "next_run": plan,
        "runs": [],
    }
    with utils.reading(context.engine) as connection:
        if connection is None:
            return state
        states = _symbol_states(connection, symbols, sessions, context.settings.settle_sessions)
        state["symbols"] = states[:SHOWN_SYMBOLS]
        state["more_symbols"] = max(len(states) - SHOWN_SYMBOLS, 0)
        changes = utils.read_revisions(connection, symbols, date.min, as_of, newest=SHOWN_CHANGES)
        state["changes"] = [_bar_change(change) for change in changes]
        runs = utils.read_last_runs(connection, SHOWN_RUNS)
        state["runs"] = [{key: _json_value(value) for key, value in row.items()} for row in runs]
    return state


def _symbol_states(
    connection: Connection, symbols: Sequence[str], sessions: list[date], settle: int
) -> list[SymbolState]:
    coverage = utils.read_coverage(connection, symbols)
    missing = unread_pairs(symbols, sessions, coverage)
    again = provisional_pairs(symbols, sessions, coverage, settle)
    order = sorted(range(len(symbols)), key=lambda row: -int(missing[row].sum()))
    shown = [symbols[row] for row in order[:SHOWN_SYMBOLS] if symbols[row] != EVERY_SYMBOL]
    history = utils.read_history(connection, shown, sessions[0], sessions[-1])
    stored = {row["symbol"]: row for row in utils.read_stored(connection, shown).to_dict("records")}
    rejected = utils.count_rejected(connection, shown)
    stored_sessions = {symbol: set(dates) for symbol, dates in history.groupby("symbol")["date"]}
    states: list[SymbolState] = []
    for row in order:
        symbol = symbols[row]
        summary = stored.get(symbol)
        readings = (*coverage.get(symbol, ()), *coverage.get(EVERY_SYMBOL, ()))
        states.append(
            {
                "symbol": symbol,
                "rows": int(summary["rows"]) if summary else 0,
                "first": str(summary["first"].date()) if summary else None,
                "last": str(summary["last"].date()) if summary else None,
                "covered_from": str(min(readings).first) if readings else None,
                "covered_to": str(max(reading.last for reading in readings)) if readings else None,
                "missing": int(missing[row].sum()),
                "read_again": int(again[row].sum()),
                "oldest_reading": str(min(reading.oldest for reading in readings)) if readings else None,
                "rejected": rejected.get(symbol, 0),
                "strip": "".join(
                    _mark(pd.Timestamp(session) in stored_sessions.get(symbol, ()), is_missing)
                    for session, is_missing in zip(sessions, missing[row].tolist(), strict=True)
                ),
            }
        )
    return states


def _mark(is_stored: bool, is_missing: bool) -> str:
    if is_missing:
        return MISSING
    return STORED if is_stored else COVERED


def _bar_change(change: Revision) -> BarChange:
    def prices(values: tuple[float | None, ...]) -> dict[str, float | None]:
        return {} if all(value is None for value in values) else dict(zip(PRICE_COLUMNS, values, strict=True))

    return {
        "symbol": change.symbol,
        "session": str(change.session),
        "cause": change.cause,
        "as_of": str(change.as_of),
        "old": prices(change.old),
        "new": prices(change.new),
    }


def _json_value(value: Any) -> str | int | None:
    return value if value is None or isinstance(value, int) else str(value)
