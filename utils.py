"""Query helpers: everything that reads the tables.

What comes in: a connection, symbols and sessions. What goes out: values and frames with fixed columns. Nothing here
writes, except a temporary table that carries a question's symbols.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Engine, func, inspect, select, text

from domain.models import EVERY_SYMBOL, Split
from storage.bulk import drop_stage, frame_of, read_frame, stage, stamps
from storage.engine import database_exists, transaction
from storage.schema import COVERAGE, JOB_RUNS, METADATA, REJECTED_BARS, SENT_REPORTS, SPLITS, STOCK_DATA
from transformations import ROLLING_SESSIONS

Ranges = dict[str, list[tuple[date, date]]]
LAST_LETTER = "right(symbol, 1)"
NEAR_DAYS = 9  # before a session in which 4 others lie, unless something unusual happened
CLOSES = ["symbol", "date", "close"]
HISTORY = ["symbol", "date", "open", "high", "low", "close", "volume", "volatility", "rolling_avg"]
FEW_SYMBOLS = 200  # up to here a statement names them; beyond, a temporary table does


@contextmanager
def reading(engine: Engine) -> Iterator[Connection | None]:
    """A transaction to read in, or None where there is no database, or none with these tables, yet."""
    if not database_exists(engine):
        yield None
        return
    with transaction(engine, write=False) as connection:
        yield connection if schema_exists(connection) else None


def schema_exists(connection: Connection) -> bool:
    """Whether all tables are there."""
    return set(METADATA.tables) <= set(inspect(connection).get_table_names())


def read_coverage(connection: Connection, symbols: Sequence[str]) -> Ranges:
    """The fetched ranges of the symbols, and of the whole market (``"*"``), ascending."""
    query = select(COVERAGE).order_by(COVERAGE.c.symbol, COVERAGE.c.first_session)
    if len(symbols) <= FEW_SYMBOLS:
        query = query.where(COVERAGE.c.symbol.in_([EVERY_SYMBOL, *symbols]))
    ranges: Ranges = {}
    for symbol, first, last in connection.execute(query):
        ranges.setdefault(symbol, []).append((first, last))
    return ranges


def read_neighbours(connection: Connection, bars: pd.DataFrame) -> pd.DataFrame:
    """The stored closes around new bars: those that their metrics need, and those whose metrics need them.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside the transaction that will load `bars`.
    bars : pandas.DataFrame
        Sorted by symbol and date.

    Returns
    -------
    pandas.DataFrame
        ``symbol, date, close`` (float64) of the same symbols, each at least from 4 sessions before its first new bar to
        4 after its last, by the index.
    """
    if bars.empty:
        return frame_of([], CLOSES)
    symbol, dates = bars["symbol"], bars["date"].to_numpy()
    starts = np.flatnonzero((symbol != symbol.shift()).to_numpy(dtype=bool))
    ends = np.append(starts[1:], len(bars)) - 1
    earliest, latest = dates[starts], dates[ends]
    since = earliest - np.timedelta64(NEAR_DAYS, "D")
    spans = pd.DataFrame(
        {
            "symbol": symbol.take(starts).to_numpy(),
            "earliest": earliest,
            "latest": latest,
            "since": since,
            "most": (latest - since) // np.timedelta64(1, "D") + ROLLING_SESSIONS,  # a row a day, and 4 after
            "place": np.arange(len(starts)),
        }
    )
    if connection.dialect.name != "postgresql":
        return _ask_of(connection, spans, _NEIGHBOURS_SQLITE, CLOSES)
    # Index scans read all matches of a page whatever the LIMIT, so the first one begins shortly before the span: it
    # brings what is wanted of nearly every symbol. The second one is for those that have less than 4 sessions there.
    near = _ask_of(connection, spans, _NEAR, [*CLOSES, "place"])
    before = np.bincount(near.pop("place").dropna().astype("int64"), minlength=len(spans))
    lacking = spans[before < ROLLING_SESSIONS - 1]
    return pd.concat([near, _ask_of(connection, lacking, _OLDER, CLOSES)], ignore_index=True) if len(lacking) else near


def _ask_of(connection: Connection, spans: pd.DataFrame, query: str, names: Sequence[str]) -> pd.DataFrame:
    types = {"symbol": STOCK_DATA.c.symbol} | dict.fromkeys(["earliest", "latest", "since"], STOCK_DATA.c.date)
    stage(connection, "spans", {**types, "most": STOCK_DATA.c.volume, "place": STOCK_DATA.c.volume}, spans)
    found = read_frame(connection, query, names)
    drop_stage(connection, "spans")
    return found


# By the index, one symbol after the other, whatever the planner believes of the size of either table; `place` says
# which span a close lies before.
_NEAR = """
SELECT near.symbol, near.date, near.close, CASE WHEN near.date < earliest THEN place END AS place
FROM spans CROSS JOIN LATERAL (
    SELECT symbol, date, close FROM stock_data WHERE symbol = spans.symbol AND date >= since ORDER BY date LIMIT most
) AS near
"""
_OLDER = f"""
SELECT older.symbol, older.date, older.close FROM spans CROSS JOIN LATERAL (
    SELECT symbol, date, close FROM stock_data WHERE symbol = spans.symbol AND date < since
    ORDER BY date DESC LIMIT {ROLLING_SESSIONS - 1}
) AS older
"""
# SQLite has no LATERAL: the bounds of each symbol first, then the rows between them.
_NEIGHBOURS_SQLITE = f"""
WITH bounds AS MATERIALIZED (
    SELECT symbol,
        COALESCE(
            (SELECT date FROM stock_data WHERE symbol = spans.symbol AND date < earliest
             ORDER BY date DESC LIMIT 1 OFFSET {ROLLING_SESSIONS - 2}), '0001-01-01 00:00:00') AS lower_bound,
        COALESCE(
            (SELECT date FROM stock_data WHERE symbol = spans.symbol AND date > latest
             ORDER BY date LIMIT 1 OFFSET {ROLLING_SESSIONS - 2}), '9999-12-31 00:00:00') AS upper_bound
    FROM spans
)
SELECT stock_data.symbol, stock_data.date, CAST(close AS DOUBLE PRECISION) AS close
FROM bounds JOIN stock_data
    ON stock_data.symbol = bounds.symbol AND stock_data.date >= lower_bound AND stock_data.date <= upper_bound
"""


def read_history(connection: Connection, symbols: Sequence[str], first: date, last: date) -> pd.DataFrame:
    """Stored rows of the symbols from one session to another, those of a symbol side by side, oldest first.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    symbols : sequence of str
        ``["*"]`` is every stored symbol.
    first, last : datetime.date
        Both included.

    Returns
    -------
    pandas.DataFrame
        ``symbol, date`` (datetime64[s]), ``open, high, low, close, volume, volatility, rolling_avg`` (float64).
    """
    numbers = ", ".join(f"CAST({name} AS DOUBLE PRECISION) AS {name}" for name in HISTORY[2:])
    dates = f"date BETWEEN '{midnight(first)}' AND '{midnight(last)}'"
    query = f"SELECT symbol, date, {numbers} FROM stock_data WHERE {dates}"
    if list(symbols) == [EVERY_SYMBOL]:
        history = read_frame(connection, query, HISTORY, piece=LAST_LETTER)
    else:
        stage(connection, "asked", {"symbol": STOCK_DATA.c.symbol}, pd.DataFrame({"symbol": list(symbols)}))
        history = read_frame(
            connection, f"{query} AND symbol IN (SELECT symbol FROM asked)", HISTORY, piece=LAST_LETTER
        )
        drop_stage(connection, "asked")
    return history


def read_rejected(
    connection: Connection, symbols: Sequence[str], first: date, last: date
) -> list[tuple[str, date, str]]:
    """Symbol, session and reason of the bars rejected from one session to another, oldest first."""
    bars = REJECTED_BARS.c
    query = select(bars.symbol, bars.date, bars.reason).where(bars.date.between(first, last))
    if list(symbols) != [EVERY_SYMBOL]:
        query = query.where(bars.symbol.in_(symbols))
    return [tuple(row) for row in connection.execute(query.order_by(bars.date, bars.symbol, bars.id))]


def read_splits(connection: Connection, symbols: Sequence[str], first: date, last: date) -> list[tuple[Split, bool]]:
    """The known splits executed in these days, oldest first, each with whether the stored history has its scale."""
    columns = SPLITS.c
    query = select(
        columns.symbol, columns.execution_date, columns.split_from, columns.split_to, columns.restated_at.is_not(None)
    ).where(columns.execution_date.between(first, last))
    if list(symbols) != [EVERY_SYMBOL]:
        query = query.where(columns.symbol.in_(symbols))
    rows = connection.execute(query.order_by(columns.execution_date, columns.symbol))
    return [(Split(*split), bool(restated)) for *split, restated in rows]


def latest_is_known(connection: Connection, session: date) -> bool:
    """Whether a session was fetched for any symbol, so that the provider has it."""
    query = select(COVERAGE.c.symbol).where(COVERAGE.c.first_session <= session, COVERAGE.c.last_session >= session)
    return connection.execute(query.limit(1)).first() is not None


def read_splits_until(connection: Connection) -> date | None:
    """The day up to which splits are known, or None before the first run."""
    return connection.execute(select(func.max(JOB_RUNS.c.splits_until))).scalar()


def read_first_session(connection: Connection) -> date | None:
    """The first stored session of all, or None of an empty table."""
    first = connection.execute(select(func.min(STOCK_DATA.c.date))).scalar()
    return first.date() if first else None


def read_pending_splits(connection: Connection) -> list[Split]:
    """The splits whose symbols still have history of the old scale."""
    columns = (SPLITS.c.symbol, SPLITS.c.execution_date, SPLITS.c.split_from, SPLITS.c.split_to)
    query = select(*columns).where(SPLITS.c.restated_at.is_(None)).order_by(SPLITS.c.execution_date, SPLITS.c.symbol)
    return [Split(*row) for row in connection.execute(query)]


def read_covered_symbols(connection: Connection, limit: int) -> list[str]:
    """The symbols that were ever fetched, at most `limit` of them."""
    return list(connection.execute(select(COVERAGE.c.symbol).distinct().limit(limit)).scalars())


def read_spans(connection: Connection, symbols: Sequence[str]) -> dict[str, tuple[date, date]]:
    """The first and the last stored session of each of the symbols that has any."""
    first, last = func.min(STOCK_DATA.c.date), func.max(STOCK_DATA.c.date)
    query = select(STOCK_DATA.c.symbol, first, last).where(STOCK_DATA.c.symbol.in_(symbols))
    rows = connection.execute(query.group_by(STOCK_DATA.c.symbol))
    return {symbol: (start.date(), end.date()) for symbol, start, end in rows}


def read_unknown(connection: Connection, symbols: Sequence[str]) -> list[str]:
    """The symbols of which no bar is stored, in the order given."""
    stage(connection, "asked", {"symbol": STOCK_DATA.c.symbol}, pd.DataFrame({"symbol": list(symbols)}))
    query = "SELECT symbol FROM asked WHERE NOT EXISTS (SELECT 1 FROM stock_data WHERE symbol = asked.symbol)"
    unknown = set(connection.execute(text(query)).scalars())
    drop_stage(connection, "asked")
    return [symbol for symbol in symbols if symbol in unknown]


def read_sent_report(connection: Connection, week: date) -> Mapping[str, Any] | None:
    """The row of ``sent_reports`` of the week that starts on this Monday, or None."""
    row = connection.execute(select(SENT_REPORTS).where(SENT_REPORTS.c.week == week)).mappings().first()
    return dict(row) if row else None


def read_providers(connection: Connection) -> list[str]:
    """The hosts that bars were loaded from."""
    loads = select(JOB_RUNS.c.provider).where(JOB_RUNS.c.api_calls > 0).distinct()
    return list(connection.execute(loads).scalars())


def read_last_runs(connection: Connection, count: int) -> list[dict[str, Any]]:
    """The last runs, newest first, as rows of ``job_runs``."""
    query = select(JOB_RUNS).order_by(JOB_RUNS.c.started_at.desc(), JOB_RUNS.c.run_id).limit(count)
    return [dict(row) for row in connection.execute(query).mappings()]


def read_stored(connection: Connection, symbols: Sequence[str]) -> pd.DataFrame:
    """What is stored a symbol: ``symbol, rows, first, last`` (datetime64[s]), sorted by symbol."""
    count, first, last = func.count(), func.min(STOCK_DATA.c.date), func.max(STOCK_DATA.c.date)
    query = select(STOCK_DATA.c.symbol, count, first, last).group_by(STOCK_DATA.c.symbol).order_by(STOCK_DATA.c.symbol)
    if list(symbols) != [EVERY_SYMBOL]:
        query = query.where(STOCK_DATA.c.symbol.in_(symbols))
    rows = connection.execute(query).all()
    frame = frame_of([(row[0], row[2], row[1]) for row in rows], ["symbol", "date", "rows"])
    return frame.rename(columns={"date": "first"}).assign(last=stamps([row[3] for row in rows]))


def no_history() -> pd.DataFrame:
    """What :func:`read_history` returns for a database without tables."""
    return frame_of([], HISTORY)


def midnight(day: date) -> datetime:
    """A session as ``stock_data.date`` holds it."""
    return datetime.combine(day, time())
