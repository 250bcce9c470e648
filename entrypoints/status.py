"""The state of the table: what is stored, missing and to be read again, what changed, and the last runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from itertools import groupby
from typing import Any, NamedTuple, TypedDict

from sqlalchemy import Connection

import utils
from domain.calendar import last_sessions, previous_session
from domain.coverage import count_pairs, unread_pairs
from domain.models import EVERY_SYMBOL, PRICE_COLUMNS, Request, Revision, SessionSpan
from domain.planner import places
from pipeline.context import RunContext, is_sandbox, provider_host
from pipeline.plan import LoadPlan, plan_update, shown_calls, span_of
from storage.engine import redacted_url

STORED, EMPTY, MISSING, UNTRACKED = "█", "·", "x", " "  # the marks of a strip
SHOWN_RUNS = 5
SHOWN_CHANGES = 5
SHOWN_REJECTED = 5
LEAST_WIDTH = 10  # of a strip


class SymbolState(TypedDict):
    """What is stored, missing and to be read again of one symbol; dates are ISO dates.

    ``missing`` counts the sessions that were never read, ``read_again`` those that the next update reads once more:
    they are provisional, or the symbol's history is restated. The spans name them. ``read_to`` is the last session that
    was read, and ``oldest_reading`` the last session that was published when the part read longest ago was read.
    ``"*"`` stands for all symbols.
    """

    symbol: str
    rows: int
    first: str | None
    last: str | None
    read_to: str | None
    missing: int
    missing_sessions: list[SessionSpan]
    read_again: int
    read_again_sessions: list[SessionSpan]
    oldest_reading: str | None
    rejected: int


class Totals(TypedDict):
    """All that is stored, of whatever symbols."""

    rows: int
    first: str | None
    last: str | None


class BarChange(TypedDict):
    """How the prices of a stored bar, or of a history up to it, changed.

    Dates are ISO dates; an empty mapping is no bar.
    """

    symbol: str
    session: str
    cause: str
    as_of: str
    bars: int
    old: dict[str, float | None]
    new: dict[str, float | None]


class Rejected(TypedDict):
    """A bar that was not stored, and why."""

    symbol: str
    session: str
    reason: str


class TableState(TypedDict):
    """What ``main.py status`` shows; JSON-serializable.

    ``missing`` and ``read_again`` count pairs of a symbol and a session; together they are what the next daily update
    reads. ``complete`` is true if nothing is missing, up to the session before ``as_of``.
    """

    database: str
    as_of: str
    complete: bool
    tracked: SessionSpan
    missing: int
    read_again: int
    oldest_reading: str | None
    stored: Totals
    other_symbols: list[str]  # stored, but not asked for
    symbols: list[SymbolState]  # those with the most missing sessions first
    changes: list[BarChange]  # newest first
    rejected: list[Rejected]  # latest session first
    calls: int  # of the next update, splits not counted
    plan: list[str]
    runs: list[dict[str, Any]]  # rows of job_runs, newest first
    notes: list[str]


def read_demo_event(context: RunContext) -> dict[str, str]:
    """Return the symbols and the date of a database that holds recorded prices only; empty for any other.

    Against today's date such a database lacks years, and the configured symbols are not its own.
    """
    if is_sandbox(provider_host(context.settings)):
        return {}
    with utils.reading(context.engine) as connection:
        providers = [] if connection is None else utils.read_providers(connection)
        if connection is None or not providers or not all(map(is_sandbox, providers)):
            return {}
        as_of, symbols = utils.read_loaded_as_of(connection), utils.read_stored_symbols(connection)
    return {"as_of": str(as_of), "symbols": ",".join(symbols) or EVERY_SYMBOL}


def read_status(context: RunContext, symbols: Sequence[str], as_of: date) -> TableState:
    """Read the state of the table, and plan the next daily update. Nothing is written.

    Parameters
    ----------
    context : RunContext
    symbols : sequence of str
        ``["*"]`` is the whole market.
    as_of : datetime.date
        Stands for today.
    """
    plan = plan_update(Request("daily_update", tuple(symbols), as_of, dry_run=True), context)
    lines, calls = shown_calls(plan.calls)
    missing = count_pairs(plan.missing)
    state: TableState = {
        "database": redacted_url(context.engine),
        "as_of": str(as_of),
        "complete": not missing and plan.sessions[-1:] == [previous_session(as_of)],
        "tracked": span_of(plan.sessions),
        "missing": missing,
        "read_again": count_pairs(plan.provisional),
        "oldest_reading": None,
        "stored": {"rows": 0, "first": None, "last": None},
        "other_symbols": [],
        "symbols": [_empty_state(symbol, plan, row) for row, symbol in enumerate(symbols)],
        "changes": [],
        "rejected": [],
        "calls": calls,
        "plan": lines,
        "runs": [],
        "notes": [],
    }
    with utils.reading(context.engine) as connection:
        if connection is not None:
            _add_stored(connection, state, symbols, as_of)
    if connection is None:
        with utils.reading_prices(context.engine) as adoptable:
            if adoptable is not None:
                state["stored"] = _totals(adoptable)
                state["notes"].append(
                    "no run has used this table yet: the first one checks its rows and takes them over"
                )
    state["symbols"].sort(key=lambda symbol: -symbol["missing"])
    return state


def _empty_state(symbol: str, plan: LoadPlan, row: int) -> SymbolState:
    missing, again = plan.missing[row], plan.provisional[row]
    return {
        "symbol": symbol,
        "rows": 0,
        "first": None,
        "last": None,
        "read_to": None,
        "missing": missing.bit_count(),
        "missing_sessions": _spans(plan.sessions, missing),
        "read_again": again.bit_count(),
        "read_again_sessions": _spans(plan.sessions, again),
        "oldest_reading": None,
        "rejected": 0,
    }


def _spans(sessions: Sequence[date], chosen: int) -> list[SessionSpan]:
    """The unbroken runs of the chosen sessions."""
    runs = groupby(enumerate(places(chosen)), key=lambda pair: pair[1] - pair[0])
    return [span_of([sessions[place] for _, place in run]) for _, run in runs]


def _add_stored(connection: Connection, state: TableState, symbols: Sequence[str], as_of: date) -> None:
    state["stored"] = _totals(connection)
    coverage = utils.read_coverage(connection, symbols)
    market = coverage.get(EVERY_SYMBOL, ())
    rejected = utils.count_rejected(connection, symbols)
    stored: dict[str, Totals] = {EVERY_SYMBOL: state["stored"]}
    if EVERY_SYMBOL not in symbols:
        for symbol, (count, first, last) in utils.read_stored(connection, symbols).items():
            stored[symbol] = {"rows": count, "first": str(first), "last": str(last)}
        state["other_symbols"] = sorted({*utils.read_stored_symbols(connection)} - {*symbols})
    for each in state["symbols"]:
        symbol = each["symbol"]
        readings = coverage.get(symbol, ()) if symbol == EVERY_SYMBOL else (*market, *coverage.get(symbol, ()))
        if known := stored.get(symbol):
            each["rows"], each["first"], each["last"] = known["rows"], known["first"], known["last"]
        each["rejected"] = rejected.get(symbol, 0)
        if readings:
            each["read_to"] = str(max(reading.last for reading in readings))
            each["oldest_reading"] = str(min(reading.oldest for reading in readings))
    state["oldest_reading"] = min(
        (each["oldest_reading"] for each in state["symbols"] if each["oldest_reading"]), default=None
    )
    changes = utils.read_revisions(connection, symbols, date.min, as_of, newest=SHOWN_CHANGES)
    state["changes"] = [bar_change(change) for change in changes]
    bars = utils.read_rejected(connection, symbols, date.min, as_of)[: -SHOWN_REJECTED - 1 : -1]
    state["rejected"] = [{"symbol": symbol, "session": str(day), "reason": reason} for symbol, day, reason in bars]
    runs = utils.read_last_runs(connection, SHOWN_RUNS)
    state["runs"] = [{key: _json_value(value) for key, value in row.items()} for row in runs]


def _totals(connection: Connection) -> Totals:
    rows, first, last = utils.read_totals(connection)
    return {"rows": rows, "first": first, "last": last}


class Strips(NamedTuple):
    """The end of the tracked history, one character per session, oldest first.

    ``█`` is stored, ``·`` read without a bar, ``x`` missing, and a blank is before the symbols were tracked.
    """

    sessions: list[date]
    by_symbol: dict[str, str]


def read_strips(context: RunContext, state: TableState, symbols: Sequence[str], width: int) -> Strips:
    """Draw the last `width` sessions of each of the symbols; ``"*"`` has no strip."""
    sessions = last_sessions(width, date.fromisoformat(state["as_of"])) if width >= LEAST_WIDTH else []
    named = [symbol for symbol in symbols if symbol != EVERY_SYMBOL]
    with utils.reading(context.engine) as connection:
        if connection is None or not named or not sessions:
            return Strips([], {})
        unread = unread_pairs(named, sessions, utils.read_coverage(connection, named))
        stored = utils.read_stored_sessions(connection, named, sessions[0], sessions[-1])
    first = date.fromisoformat(state["tracked"]["first"] or state["as_of"])

    def mark(symbol: str, session: date, is_unread: bool) -> str:
        if is_unread and session >= first:
            return MISSING
        if session in stored.get(symbol, ()):
            return STORED
        return UNTRACKED if is_unread else EMPTY

    marks = {
        symbol: "".join(mark(symbol, session, bool(days >> place & 1)) for place, session in enumerate(sessions))
        for symbol, days in zip(named, unread, strict=True)
    }
    return Strips(sessions, marks)


def bar_change(change: Revision) -> BarChange:
    """Return a change of stored bars as JSON holds it."""

    def prices(values: tuple[float | None, ...]) -> dict[str, float | None]:
        return {} if all(value is None for value in values) else dict(zip(PRICE_COLUMNS, values, strict=True))

    return {
        "symbol": change.symbol,
        "session": str(change.session),
        "cause": change.cause,
        "as_of": str(change.as_of),
        "bars": change.bars,
        "old": prices(change.old),
        "new": prices(change.new),
    }


def _json_value(value: Any) -> str | int | None:
    return value if value is None or isinstance(value, int) else str(value)
