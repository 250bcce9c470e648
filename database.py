"""Everything that writes: the load of bars, coverage, rejected bars, runs and sent reports.

What comes in: rows with their metrics, inside a transaction that holds the write lock. What goes out: counts of what
changed. Bars that are stored already are staged and merged by one statement that touches only rows that differ, so that
a repeat writes nothing. This module opens no connection and computes no figure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime, time
from typing import Any

import pandas as pd
from sqlalchemy import Connection, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from domain.models import Counts, RejectedBar, Split
from storage.bulk import drop_stage, insert_frame, stage
from storage.schema import COVERAGE, JOB_RUNS, REJECTED_BARS, SENT_REPORTS, SPLITS, STOCK_DATA

VALUES = ["open", "high", "low", "close", "volume", "volatility", "rolling_avg", "daily_pct_change"]
COLUMNS = ["date", "symbol", *VALUES]
SYMBOL_LENGTH = 10  # of a symbol in all tables
RESTATED = ["rolling_avg", "daily_pct_change"]


def load_bars(connection: Connection, rows: pd.DataFrame, restated: pd.DataFrame, present: int) -> Counts:
    """Bring ``stock_data`` to the given rows, writing only what differs.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside a transaction that holds the write lock.
    rows : pandas.DataFrame
        New bars with metrics: ``symbol, date, open, high, low, close, volume, volatility, rolling_avg,
        daily_pct_change``, at most one a symbol and session; NaN is NULL.
    restated : pandas.DataFrame
        ``symbol, date, rolling_avg, daily_pct_change`` of stored rows whose metrics depend on the new bars.
    present : int
        How many of `rows` have a row in the table, as read in this transaction. With none, they are copied straight
        into it; else they are staged and merged.

    Returns
    -------
    Counts
        ``unchanged`` counts the new bars that were stored already; ``updated`` includes restated rows that changed.
    """
    counts = Counts(inserted=len(rows) - present)
    if present:
        counts.updated = merge_bars(connection, rows, present) - counts.inserted
        counts.unchanged = present - counts.updated
    elif len(rows):
        insert_bars(connection, rows)
    if len(restated):
        stage(connection, "restated", {name: STOCK_DATA.c[name] for name in ["date", "symbol", *RESTATED]}, restated)
        counts.updated += connection.execute(text(_restate_statement(connection.dialect.name))).rowcount
        drop_stage(connection, "restated")
    return counts


def insert_bars(connection: Connection, rows: pd.DataFrame) -> None:
    """Copy rows of which none is stored straight into ``stock_data``."""
    insert_frame(connection, "stock_data", {name: STOCK_DATA.c[name] for name in COLUMNS}, rows)


def merge_bars(connection: Connection, rows: pd.DataFrame, present: int) -> int:
    """Insert rows that are not stored and update those that differ; `present` are stored. The number written."""
    stage(connection, "incoming", {name: STOCK_DATA.c[name] for name in COLUMNS}, rows)
    statement = merge_statement(connection.dialect.name, mostly_stored=2 * present > len(rows))
    written = connection.execute(text(statement)).rowcount
    drop_stage(connection, "incoming")
    return int(written)


def merge_statement(dialect: str, *, mostly_stored: bool) -> str:
    """The one statement that brings ``stock_data`` to what the temporary table ``incoming`` holds.

    Where most rows are stored, those that are stored as they are do not reach ``ON CONFLICT``, which would lock each of
    them, and so write it. Where few are, the planner may see an empty table and scan it for each row, as it grows.
    """
    names = ", ".join(COLUMNS)
    values = ", ".join(f"{name} = excluded.{name}" for name in VALUES)
    news = "true"  # also since SQLite could otherwise not tell ON CONFLICT from the ON of a join
    if mostly_stored:
        news = (
            "NOT EXISTS (SELECT 1 FROM stock_data AS stored WHERE stored.symbol = incoming.symbol "
            f"AND stored.date = incoming.date AND NOT ({_differs(dialect, 'stored', 'incoming', VALUES)}))"
        )
    return (
        f"INSERT INTO stock_data ({names}) SELECT {names} FROM incoming WHERE {news} "
        f"ON CONFLICT (symbol, date) DO UPDATE SET {values} WHERE {_differs(dialect, 'stock_data', 'excluded', VALUES)}"
    )


def _restate_statement(dialect: str) -> str:
    values = ", ".join(f"{name} = restated.{name}" for name in RESTATED)
    return (
        f"UPDATE stock_data SET {values} FROM restated WHERE stock_data.symbol = restated.symbol "
        f"AND stock_data.date = restated.date AND {_differs(dialect, 'stock_data', 'restated', RESTATED)}"
    )


def _differs(dialect: str, left: str, right: str, names: Sequence[str]) -> str:
    operator = "IS DISTINCT FROM" if dialect == "postgresql" else "IS NOT"
    one, other = (", ".join(f"{table}.{name}" for name in names) for table in (left, right))
    return f"({one}) {operator} ({other})"


def replace_coverage(connection: Connection, ranges: Mapping[str, Sequence[tuple[date, date]]]) -> None:
    """Replace the fetched ranges of the given symbols; symbols not named keep theirs.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside the transaction that loads the bars.
    ranges : mapping of str to sequence of (first, last)
        All ranges of each symbol, merged.
    """
    rows = [(symbol, first, last) for symbol, parts in ranges.items() for first, last in parts]
    if not rows:
        return
    frame = pd.DataFrame(rows, columns=["symbol", "first_session", "last_session"])
    frame = frame.astype({"first_session": "datetime64[s]", "last_session": "datetime64[s]"})
    stage(connection, "covered", dict(COVERAGE.c.items()), frame)
    connection.exec_driver_sql("DELETE FROM coverage WHERE symbol IN (SELECT symbol FROM covered)")
    connection.exec_driver_sql("INSERT INTO coverage SELECT symbol, first_session, last_session FROM covered")
    drop_stage(connection, "covered")


def record_rejected(connection: Connection, run_id: str, bars: Iterable[RejectedBar]) -> int:
    """Keep rejected bars with their reasons; one that is known already, with the same reason, is not repeated.

    Returns
    -------
    int
        How many were given.
    """
    rows = [{"run_id": run_id, "digest": _digest(bar), **asdict(bar)} for bar in bars]
    if rows:
        connection.execute(_dialect(connection).insert(REJECTED_BARS).on_conflict_do_nothing(), rows)
    return len(rows)


def _digest(bar: RejectedBar) -> str:
    return hashlib.sha256("\n".join((bar.symbol, bar.reason, bar.bar)).encode()).hexdigest()


def delete_bars(connection: Connection, symbol: str, sessions: Sequence[date]) -> None:
    """Remove rows of a symbol from ``stock_data``."""
    stamps = [datetime.combine(session, time()) for session in sessions]
    connection.execute(delete(STOCK_DATA).where(STOCK_DATA.c.symbol == symbol, STOCK_DATA.c.date.in_(stamps)))


def record_splits(connection: Connection, splits: Iterable[Split], *, pending: Container[str], now: datetime) -> None:
    """Keep splits not yet known; those of symbols in `pending` wait for their history to be restated."""
    rows = [
        {**asdict(split), "restated_at": None if split.symbol in pending else now}
        for split in splits
        if len(split.symbol) <= SYMBOL_LENGTH  # no other can be stored
    ]
    if rows:
        connection.execute(_dialect(connection).insert(SPLITS).on_conflict_do_nothing(), rows)


def mark_restated(connection: Connection, symbol: str, now: datetime) -> None:
    """Record that a symbol's stored history has the scale of all its known splits."""
    waiting = update(SPLITS).where(SPLITS.c.symbol == symbol, SPLITS.c.restated_at.is_(None))
    connection.execute(waiting.values(restated_at=now))


def _dialect(connection: Connection) -> Any:
    return postgresql if connection.dialect.name == "postgresql" else sqlite


def start_run(connection: Connection, **columns: Any) -> None:
    """Open the run's row in ``job_runs``: ``run_id, job_type, payload, as_of, provider, started_at``."""
    connection.execute(insert(JOB_RUNS).values(status="running", **columns))


def update_run(connection: Connection, run_id: str, counts: Counts, **columns: Any) -> None:
    """Bring the run's row up to date: its counts, and ``status, finished_at, api_calls, splits_until`` or ``error``."""
    connection.execute(update(JOB_RUNS).where(JOB_RUNS.c.run_id == run_id).values(**vars(counts), **columns))


def claim_report(connection: Connection, week: date, **columns: Any) -> None:
    """Claim a week's report before it is handed over.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    week : datetime.date
        The week's Monday.
    **columns
        ``run_id, message_id, subject, recipients, claimed_at``.
    """
    attempts = connection.execute(select(SENT_REPORTS.c.attempts).where(SENT_REPORTS.c.week == week)).scalar()
    values = {**columns, "status": "claimed", "attempts": (attempts or 0) + 1, "sent_at": None}
    if attempts is None:
        connection.execute(insert(SENT_REPORTS).values(week=week, **values))
    else:
        connection.execute(update(SENT_REPORTS).where(SENT_REPORTS.c.week == week).values(**values))


def confirm_report(connection: Connection, week: date, sent_at: datetime, status: str = "sent") -> None:
    """Record that the week's report was handed over, as ``sent``, ``resent`` or ``no_prices``."""
    connection.execute(update(SENT_REPORTS).where(SENT_REPORTS.c.week == week).values(status=status, sent_at=sent_at))
