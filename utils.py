"""Everything that reads the tables: values, and frames with fixed columns.

Nothing here writes. Only what a load asks for inside its own transaction uses temporary tables: all the rest works on a
database that cannot be written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Engine, case, func, or_, select, text

from domain.coverage import Reading, Readings
from domain.models import BAR_COLUMNS, EVERY_SYMBOL, METRIC_COLUMNS, PRICE_COLUMNS, Revision, SentReport, Split
from storage.bulk import frame_of, read_frame, stamps, temp_table
from storage.engine import database_exists, transaction
from storage.known_at import known_bars
from storage.migration import is_current, is_earlier, shown_as_current, stored_columns
from storage.schema import (
    ADOPTION,
    BAR_REVISIONS,
    COVERAGE,
    JOB_RUNS,
    LOADS,
    REJECTED_BARS,
    SENT_REPORTS,
    SPLITS,
    STOCK_DATA,
    SUSPECTS,
)
from transformations import ROLLING_SESSIONS, compute_metrics

if TYPE_CHECKING:
    import pyarrow as pa

LAST_LETTER = "right(symbol, 1)"
NEAR_DAYS = 9  # days before a session, among which 4 others lie unless something unusual happened
CLOSES = ["symbol", "date", "close"]
HISTORY = ["symbol", "date", "open", "high", "low", "close", "volume", "volatility", "rolling_avg"]
TABLE = ["date", "symbol", *BAR_COLUMNS[2:], *METRIC_COLUMNS]
KEY = ["symbol", "date"]
PIECE = 500  # symbols per statement of a stream
KNOWN_PIECE = 100  # the same for an earlier moment, where all of their rows are in memory
FEW_SYMBOLS = 200  # up to here a statement names them; beyond, a temporary table does


@contextmanager
def reading(engine: Engine) -> Iterator[Connection | None]:
    """Open a transaction to read in; it is None where there is no database, or none with these tables, yet.

    Tables of the earlier version are shown as those of this one.
    """
    if not database_exists(engine):
        yield None
        return
    with transaction(engine, write=False) as connection:
        columns = stored_columns(connection)
        if is_earlier(columns):
            with shown_as_current(connection, columns):
                yield connection
        else:
            yield connection if is_current(columns) else None


@contextmanager
def reading_prices(engine: Engine) -> Iterator[Connection | None]:
    """Open a transaction to read ``stock_data`` in, also before the first run has adopted it; None if there is none."""
    if not database_exists(engine):
        yield None
        return
    with transaction(engine, write=False) as connection:
        yield connection if STOCK_DATA.name in stored_columns(connection) else None


def schema_exists(connection: Connection) -> bool:
    """Return whether all tables are there, with all columns of this version."""
    return is_current(stored_columns(connection))


def read_coverage(connection: Connection, symbols: Sequence[str]) -> dict[str, Readings]:
    """Return the readings of the symbols and of the whole market (``"*"``), ascending.

    For the whole market those of all symbols are returned.
    """
    columns = COVERAGE.c
    query = select(columns.symbol, columns.first_session, columns.last_session, columns.seen_to, columns.oldest_reading)
    if len(symbols) <= FEW_SYMBOLS and EVERY_SYMBOL not in symbols:
        query = query.where(columns.symbol.in_([EVERY_SYMBOL, *symbols]))
    coverage: dict[str, list[Reading]] = {}
    for symbol, *reading in connection.execute(query.order_by(columns.symbol, columns.first_session)):
        coverage.setdefault(symbol, []).append(Reading(*reading))
    return {symbol: tuple(readings) for symbol, readings in coverage.items()}


def read_seen_to(connection: Connection) -> date | None:
    """Return the last session of which a bar of any symbol is known to have been published."""
    return connection.execute(select(func.max(JOB_RUNS.c.seen_to))).scalar()


def read_oldest_reading(connection: Connection, symbols: Sequence[str]) -> date | None:
    """Return the date of the oldest reading of the symbols: the last session that was published then."""
    coverage = read_coverage(connection, symbols)
    return min((reading.oldest for readings in coverage.values() for reading in readings), default=None)


def read_history_days(connection: Connection) -> int | None:
    """Return how many days the provider's plan reaches back, as the last refusal showed; None if none did."""
    query = select(JOB_RUNS.c.history_days).where(JOB_RUNS.c.history_days.is_not(None))
    return connection.execute(query.order_by(JOB_RUNS.c.started_at.desc()).limit(1)).scalar()


def read_adopted_to(connection: Connection) -> date | None:
    """Return the last session that was stored when the table was adopted, if it was."""
    query = select(LOADS.c.pairs).where(LOADS.c.run_id == ADOPTION)
    adopted = [json.loads(pairs) for pairs in connection.execute(query).scalars()]
    return max((date.fromisoformat(entry["last"]) for pairs in adopted for entry in pairs), default=None)


def read_first_load(connection: Connection) -> datetime | None:
    """Return the moment of the first load, in UTC; at an earlier one nothing was known."""
    moment = connection.execute(select(func.min(LOADS.c.loaded_at))).scalar()
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def read_stored_symbols(connection: Connection) -> list[str]:
    """Return every symbol that has a row, by one index lookup per symbol, and as one text, which is quicker to read."""
    joined = (
        "string_agg(symbol, chr(10))" if connection.dialect.name == "postgresql" else "group_concat(symbol, char(10))"
    )
    symbols = connection.execute(text(f"{_STORED_SYMBOLS} SELECT {joined} FROM stored")).scalar()
    return str(symbols).splitlines() if symbols else []


def read_known_symbols(connection: Connection) -> list[str]:
    """Return every symbol that has or had a row, sorted."""
    revised = connection.execute(select(BAR_REVISIONS.c.symbol).distinct()).scalars()
    return sorted({*read_stored_symbols(connection), *revised})


_STORED_SYMBOLS = """
WITH RECURSIVE stored(symbol) AS (
    SELECT min(symbol) FROM stock_data
    UNION ALL
    SELECT (SELECT min(symbol) FROM stock_data WHERE symbol > stored.symbol) FROM stored WHERE symbol IS NOT NULL
)
"""


def read_neighbors(connection: Connection, spans: pd.DataFrame) -> pd.DataFrame:
    """Read the stored closes of a span of each symbol, and those around it that metrics depend on.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside the transaction that will load the bars of these spans.
    spans : pandas.DataFrame
        ``symbol, earliest, latest`` (datetime64[s]), one row per symbol.

    Returns
    -------
    pandas.DataFrame
        ``symbol, date, close`` (float64) of the same symbols, each at least from 4 sessions before its span to 4 after.
    """
    if spans.empty:
        return no_closes()
    since = spans["earliest"] - pd.Timedelta(days=NEAR_DAYS)
    most = (spans["latest"] - since).dt.days + ROLLING_SESSIONS  # a row per day, and 4 after
    spans = spans.assign(since=since, most=most, place=np.arange(len(spans)))
    if connection.dialect.name != "postgresql":
        with _spans_table(connection, spans):
            return read_frame(connection, _NEIGHBORS_SQLITE, CLOSES)
    # Index scans read all matches of a page whatever the LIMIT, so the first one begins shortly before the span, where
    # nearly every symbol has all it needs. The second one is for the symbols that have fewer than 4 sessions there.
    near = _read_of(connection, spans, _NEAR)
    early = near["date"].to_numpy() < spans["earliest"].to_numpy()[near["place"]]
    lacking = spans[np.bincount(near["place"][early], minlength=len(spans)) < ROLLING_SESSIONS - 1]
    older = [_read_of(connection, lacking, _OLDER)] if len(lacking) else []
    closes = pd.concat([near, *older], ignore_index=True) if older else near
    closes.insert(0, "symbol", spans["symbol"].take(closes.pop("place").to_numpy()).reset_index(drop=True))
    return closes


def _read_of(connection: Connection, spans: pd.DataFrame, query: str) -> pd.DataFrame:
    """Read closes with the place of their span, a number, which is read sooner than a symbol."""
    with _spans_table(connection, spans):
        return read_frame(connection, query, ["place", "date", "close"])


def _spans_table(connection: Connection, spans: pd.DataFrame) -> AbstractContextManager[None]:
    types = {"symbol": STOCK_DATA.c.symbol} | dict.fromkeys(["earliest", "latest", "since"], STOCK_DATA.c.date)
    types |= dict.fromkeys(["most", "place"], STOCK_DATA.c.volume)
    return temp_table(connection, "spans", types, spans)


# LATERAL with LIMIT uses the index, symbol by symbol, whatever the planner assumes about the size of either table.
_NEAR = """
SELECT place, near.date, near.close FROM spans CROSS JOIN LATERAL (
    SELECT date, close FROM stock_data WHERE symbol = spans.symbol AND date >= since ORDER BY date LIMIT most
) AS near
"""
_OLDER = f"""
SELECT place, older.date, older.close FROM spans CROSS JOIN LATERAL (
    SELECT date, close FROM stock_data WHERE symbol = spans.symbol AND date < since
    ORDER BY date DESC LIMIT {ROLLING_SESSIONS - 1}
) AS older
"""
# SQLite has no LATERAL: the bounds of each symbol first, then the rows between them.
_NEIGHBORS_SQLITE = f"""
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


def read_history(
    connection: Connection, symbols: Sequence[str], first: date, last: date, *, known_at: datetime | None = None
) -> pd.DataFrame:
    """Read stored rows of the symbols from one session to another, those of a symbol side by side, oldest first.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    symbols : sequence of str
        ``["*"]`` is every stored symbol.
    first, last : datetime.date
        Both included.
    known_at : datetime.datetime, optional
        As they were known at this moment, as :func:`read_table` takes it.

    Returns
    -------
    pandas.DataFrame
        ``symbol, date`` (datetime64[s]), ``open, high, low, close, volume, volatility, rolling_avg`` (float64).
    """
    if known_at is not None:
        return read_table(connection, symbols, first, last, known_at=known_at)[HISTORY]
    return _read_rows(connection, symbols, first, last, HISTORY)


def read_table(
    connection: Connection,
    symbols: Sequence[str],
    first: date | None = None,
    last: date | None = None,
    *,
    known_at: datetime | None = None,
) -> pd.DataFrame:
    """Read rows of ``stock_data`` with all its columns, as they are or as they were known at a moment.

    Metrics of an earlier moment are computed from the closes known then. The moment is one by the database's clock; at
    a moment before the first load there are no rows.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    symbols : sequence of str
        ``["*"]`` is every symbol.
    first, last : datetime.date, optional
        Both included; default all sessions.
    known_at : datetime.datetime, optional
        With a zone; default now.

    Returns
    -------
    pandas.DataFrame
        ``date`` (datetime64[s]), ``symbol``, and the numbers of ``stock_data`` in its order (float64), those of a
        symbol side by side, oldest first.

    Raises
    ------
    ValueError
        If `known_at` has no zone.
    """
    if known_at is None:
        return _read_rows(connection, symbols, first, last, [*BAR_COLUMNS, *METRIC_COLUMNS])[TABLE]
    if known_at.tzinfo is None:
        raise ValueError(f"known_at is {known_at}: a moment needs a zone")
    bars = _read_known_bars(connection, symbols, first, last, known_at)
    code, _ = pd.factorize(bars["symbol"])
    prices = (bars[name].to_numpy(dtype=np.float64) for name in ("high", "low", "close"))
    metrics = dict(zip(METRIC_COLUMNS, compute_metrics(code, *prices), strict=True))
    table = bars.assign(**metrics).replace([np.inf, -np.inf], np.nan)
    if first:
        table = table[table["date"] >= pd.Timestamp(first)].reset_index(drop=True)
    return table[TABLE]


def stream_table(
    connection: Connection,
    symbols: Sequence[str],
    first: date | None = None,
    last: date | None = None,
    *,
    known_at: datetime | None = None,
) -> Iterator[pa.Table]:
    """Read the rows that :func:`read_table` reads as a stream, exactly as they are stored.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of no other use before the last table was taken.
    symbols : sequence of str
        Sorted, as :func:`read_known_symbols` returns them; so are their rows.
    first, last, known_at
        As :func:`read_table` takes them.

    Yields
    ------
    pyarrow.Table
        With the schema :data:`storage.streams.TEXT_SCHEMA`; all of them together are sorted by symbol, then session.
    """
    from storage.streams import copy_tables, fetch_tables, frame_table  # no job needs what they import

    size = PIECE if known_at is None else KNOWN_PIECE
    pieces = [symbols[start : start + size] for start in range(0, len(symbols), size)]
    if known_at is not None:
        for piece in pieces:
            yield frame_table(read_table(connection, piece, first, last, known_at=known_at).sort_values(KEY))
        return
    days = [("date >=", first), ("date <=", last)]
    inside = "".join(f" AND {compared} '{_bound(connection, day)}'" for compared, day in days if day)
    if connection.dialect.name == "postgresql":
        yield from copy_tables(connection, (_copied_rows(piece, inside) for piece in pieces))
        return
    for piece in pieces:
        query = f"SELECT {', '.join(TABLE)} FROM stock_data WHERE symbol IN ({_EACH_ASKED['sqlite']}){inside}"
        yield from fetch_tables(connection, f"{query} ORDER BY symbol, date", _asked_parameters(connection, piece))


def _copied_rows(symbols: Sequence[str], inside: str) -> str:
    """Build the query of some symbols' rows, one range of the index after another.

    The rows come in the order of the symbols: a LATERAL with ORDER BY is always a nested loop, whose outer side is the
    list. To sort them as well takes the server half as long again.
    """
    from pg8000.native import literal

    names = ", ".join(f"stored.{name}" for name in TABLE)
    asked = f"unnest(CAST(ARRAY[{', '.join(map(literal, symbols))}] AS text[])) AS asked"
    stored = f"SELECT * FROM stock_data WHERE symbol = asked{inside} ORDER BY date"
    return f"SELECT {names} FROM {asked} CROSS JOIN LATERAL ({stored}) AS stored"


def _read_rows(
    connection: Connection, symbols: Sequence[str], first: date | None, last: date | None, names: Sequence[str]
) -> pd.DataFrame:
    numbers = ", ".join(f"CAST({name} AS DOUBLE PRECISION) AS {name}" for name in names[2:])
    is_asked, parameters = _asked(connection, symbols)
    query = f"SELECT symbol, date, {numbers} FROM stock_data WHERE {is_asked}"
    if first:
        query, parameters["first"] = f"{query} AND date >= :first", _bound(connection, first)
    if last:
        query, parameters["last"] = f"{query} AND date <= :last", _bound(connection, last)
    return read_frame(connection, query, names, parameters=parameters, piece=LAST_LETTER)


def _read_known_bars(
    connection: Connection, symbols: Sequence[str], first: date | None, last: date | None, known_at: datetime
) -> pd.DataFrame:
    """Read the bars known at a moment, with the 4 sessions before `first` that its metrics depend on."""
    moment = known_at.astimezone(UTC)
    on_postgresql = connection.dialect.name == "postgresql"
    where, parameters = _asked(connection, symbols)
    parameters["known_at"] = moment if on_postgresql else f"{moment:%Y-%m-%d %H:%M:%S.%f}"
    numbers = ", ".join(f"CAST({name} AS DOUBLE PRECISION) AS {name}" for name in BAR_COLUMNS[2:])
    if last:
        where, parameters["last"] = f"{where} AND date <= :last", _bound(connection, last)
    query = known_bars(connection.dialect.name, ":known_at", where=where)
    if first:
        query = (
            f"SELECT * FROM (SELECT then_known.*, max(date) OVER (PARTITION BY symbol ORDER BY date"
            f" ROWS BETWEEN CURRENT ROW AND {ROLLING_SESSIONS - 1} FOLLOWING) AS needed_by"
            f" FROM ({query}) AS then_known) AS followed WHERE needed_by >= :first"
        )
        parameters["first"] = _bound(connection, first)
    query = f"SELECT symbol, date, {numbers} FROM ({query}) AS needed"
    return read_frame(connection, query, BAR_COLUMNS, parameters=parameters, piece=LAST_LETTER)


def _bound(connection: Connection, session: date) -> datetime | str:
    """A session as a parameter of a textual query: SQLite's driver has no type for it."""
    moment = midnight(session)
    return moment if connection.dialect.name == "postgresql" else str(moment)


# One parameter for any number of symbols; a temporary table would need a database that can be written.
_EACH_ASKED = {
    "postgresql": "SELECT unnest(CAST(:asked AS text[])) AS symbol",
    "sqlite": "SELECT value AS symbol FROM json_each(:asked)",
}


def _asked(connection: Connection, symbols: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the condition on ``symbol`` for the symbols of a question, and its parameters."""
    if list(symbols) == [EVERY_SYMBOL]:
        return "true", {}
    return f"symbol IN ({_EACH_ASKED[connection.dialect.name]})", _asked_parameters(connection, symbols)


def _asked_parameters(connection: Connection, symbols: Sequence[str]) -> dict[str, Any]:
    return {"asked": list(symbols) if connection.dialect.name == "postgresql" else json.dumps(list(symbols))}


def read_empty_sessions(connection: Connection, sessions: Sequence[date]) -> list[date]:
    """Return those of the sessions without a row, among sessions before and after them that have one."""
    first, last = connection.execute(select(func.min(STOCK_DATA.c.date), func.max(STOCK_DATA.c.date))).one()
    inside = [day for day in sessions if first and first < midnight(day) < last]
    query = select(STOCK_DATA.c.date).where(STOCK_DATA.c.date.in_([midnight(day) for day in inside])).distinct()
    stored = {moment.date() for moment in connection.execute(query).scalars()}
    return [day for day in inside if day not in stored]


def read_rejected(
    connection: Connection, symbols: Sequence[str], first: date, last: date
) -> list[tuple[str, date, str]]:
    """Return symbol, session and reason of the bars rejected from one session to another, oldest first."""
    bars = REJECTED_BARS.c
    query = select(bars.symbol, bars.date, bars.reason).where(bars.date.between(first, last))
    if list(symbols) != [EVERY_SYMBOL]:
        query = query.where(bars.symbol.in_(symbols))
    return [tuple(row) for row in connection.execute(query.order_by(bars.date, bars.symbol, bars.id))]


def count_rejected(connection: Connection, symbols: Sequence[str]) -> dict[str, int]:
    """Return how many bars and other records of each of the symbols were rejected, if any."""
    query = select(REJECTED_BARS.c.symbol, func.count()).where(REJECTED_BARS.c.symbol.in_(symbols))
    return {str(row[0]): int(row[1]) for row in connection.execute(query.group_by(REJECTED_BARS.c.symbol))}


def read_revisions(
    connection: Connection, symbols: Sequence[str], first: date, last: date, *, newest: int | None = None
) -> list[Revision]:
    """Return how the prices of stored bars changed after they were first stored, in the order of the sessions.

    Bars of which only the volume changed, and those that came to be beside adopted ones, are left out.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    symbols : sequence of str
        ``["*"]`` is every symbol.
    first, last : datetime.date
        The sessions of the bars; both included.
    newest : int, optional
        Return only so many changes, the last one first.
    """
    columns = BAR_REVISIONS.c
    bar, order = (columns.symbol, columns.date), (columns.replaced_at, columns.id)
    following = [
        func.lead(columns[name]).over(partition_by=bar, order_by=order).label(f"next_{name}")
        for name in ("id", *PRICE_COLUMNS)
    ]
    query = select(*columns, *following).where(columns.date.between(midnight(first), midnight(last)))
    if list(symbols) != [EVERY_SYMBOL]:
        query = query.where(columns.symbol.in_(symbols))
    revised, stored = query.subquery(), STOCK_DATA.c
    new = [case((revised.c.next_id.is_(None), stored[name]), else_=revised.c[f"next_{name}"]) for name in PRICE_COLUMNS]
    old = [revised.c[name] for name in PRICE_COLUMNS]
    changes = (
        select(revised.c.symbol, revised.c.date, revised.c.cause, JOB_RUNS.c.as_of, *old, *new)
        .join(JOB_RUNS, JOB_RUNS.c.run_id == revised.c.run_id)
        .outerjoin(STOCK_DATA, (stored.symbol == revised.c.symbol) & (stored.date == revised.c.date))
        .where(revised.c.cause != "loaded")
        .where(or_(*(before.is_distinct_from(after) for before, after in zip(old, new, strict=True))))
    )
    if newest is None:
        changes = changes.order_by(revised.c.date, revised.c.symbol, revised.c.replaced_at, revised.c.id)
    else:
        changes = changes.order_by(revised.c.replaced_at.desc(), revised.c.id.desc()).limit(newest)
    return [
        Revision(symbol, moment.date(), cause, as_of, _numbers(prices[:4]), _numbers(prices[4:]))
        for symbol, moment, cause, as_of, *prices in connection.execute(changes)
    ]


def _numbers(values: Sequence[Any]) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in values)


def read_splits(connection: Connection, symbols: Sequence[str], first: date, last: date) -> list[tuple[Split, bool]]:
    """Return the splits executed in these days, oldest first, each with whether stored history is adjusted for it."""
    columns = SPLITS.c
    query = select(
        columns.symbol, columns.execution_date, columns.split_from, columns.split_to, columns.restated_at.is_not(None)
    ).where(columns.execution_date.between(first, last))
    if list(symbols) != [EVERY_SYMBOL]:
        query = query.where(columns.symbol.in_(symbols))
    rows = connection.execute(query.order_by(columns.execution_date, columns.symbol))
    return [(Split(*split), bool(restated)) for *split, restated in rows]


def read_splits_until(connection: Connection) -> date | None:
    """Return the split watermark: the day up to which splits are known, or None before the first run."""
    return connection.execute(select(func.max(JOB_RUNS.c.splits_until))).scalar()


def read_first_session(connection: Connection) -> date | None:
    """Return the first stored session, or None for an empty table."""
    first = connection.execute(select(func.min(STOCK_DATA.c.date))).scalar()
    return first.date() if first else None


def read_pending_splits(connection: Connection) -> list[Split]:
    """Return the splits whose symbols' history has not been read again yet."""
    columns = (SPLITS.c.symbol, SPLITS.c.execution_date, SPLITS.c.split_from, SPLITS.c.split_to)
    query = select(*columns).where(SPLITS.c.restated_at.is_(None)).order_by(SPLITS.c.execution_date, SPLITS.c.symbol)
    return [Split(*row) for row in connection.execute(query)]


def read_unrestated(connection: Connection) -> set[str]:
    """Return the symbols whose whole history is to be read again: they split, or are suspect."""
    split = select(SPLITS.c.symbol).where(SPLITS.c.restated_at.is_(None))
    return set(connection.execute(split.union(select(SUSPECTS.c.symbol))).scalars())


def read_covered_symbols(connection: Connection, limit: int) -> list[str]:
    """Return the symbols that were ever read, at most `limit` of them."""
    return list(connection.execute(select(COVERAGE.c.symbol).distinct().limit(limit)).scalars())


def read_spans(connection: Connection, symbols: Sequence[str]) -> dict[str, tuple[date, date]]:
    """Return the first and the last stored session of each of the symbols that has any."""
    if not symbols:
        return {}
    first, last = func.min(STOCK_DATA.c.date), func.max(STOCK_DATA.c.date)
    query = select(STOCK_DATA.c.symbol, first, last).where(STOCK_DATA.c.symbol.in_(symbols))
    rows = connection.execute(query.group_by(STOCK_DATA.c.symbol))
    return {symbol: (start.date(), end.date()) for symbol, start, end in rows}


def read_unknown(connection: Connection, symbols: Sequence[str]) -> list[str]:
    """Return the symbols of which no bar is stored, in the order given."""
    query = (
        f"SELECT symbol FROM ({_EACH_ASKED[connection.dialect.name]}) AS asked"
        " WHERE NOT EXISTS (SELECT 1 FROM stock_data WHERE stock_data.symbol = asked.symbol)"
    )
    unknown = set(connection.execute(text(query), _asked_parameters(connection, symbols)).scalars())
    return [symbol for symbol in symbols if symbol in unknown]


def read_sent_report(connection: Connection, week: date, symbols: str = "") -> SentReport | None:
    """Return what is recorded of the report of the week that starts on this Monday, or None.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    week : datetime.date
    symbols : str
        As :func:`database.claim_report` takes it.
    """
    report = SENT_REPORTS.c
    query = select(
        report.status, report.message_id, report.subject, report.recipients, report.undelivered, report.sent_at
    )
    row = connection.execute(query.where(report.week == week, report.symbols == symbols)).first()
    if row is None:
        return None
    status, message_id, subject, recipients, undelivered, sent_at = row
    everyone = tuple(recipients.split(", ")) if recipients else ()
    return SentReport(status, message_id, subject, everyone, json.loads(undelivered or "{}"), sent_at)


def read_providers(connection: Connection) -> list[str]:
    """Return the hosts that bars were loaded from."""
    loads = select(JOB_RUNS.c.provider).where(JOB_RUNS.c.api_calls > 0).distinct()
    return list(connection.execute(loads).scalars())


def read_last_runs(connection: Connection, count: int) -> list[dict[str, Any]]:
    """Return the last runs, newest first, as rows of ``job_runs``."""
    query = select(JOB_RUNS).order_by(JOB_RUNS.c.started_at.desc(), JOB_RUNS.c.run_id).limit(count)
    return [dict(row) for row in connection.execute(query).mappings()]


def read_stored(connection: Connection, symbols: Sequence[str]) -> pd.DataFrame:
    """Return ``symbol, rows, first, last`` (datetime64[s]) of the stored rows per symbol, sorted by symbol."""
    count, first, last = func.count(), func.min(STOCK_DATA.c.date), func.max(STOCK_DATA.c.date)
    query = select(STOCK_DATA.c.symbol, count, first, last).group_by(STOCK_DATA.c.symbol).order_by(STOCK_DATA.c.symbol)
    if list(symbols) != [EVERY_SYMBOL]:
        query = query.where(STOCK_DATA.c.symbol.in_(symbols))
    rows = connection.execute(query).all()
    frame = frame_of([(row[0], row[2], row[1]) for row in rows], ["symbol", "date", "rows"])
    return frame.rename(columns={"date": "first"}).assign(last=stamps([row[3] for row in rows]))


def read_rows_as_stored(connection: Connection, symbol: str) -> list[tuple[Any, ...]]:
    """Return the rows of a symbol with the columns of :data:`TABLE`, as the driver returns them, oldest first."""
    query = text(f"SELECT {', '.join(TABLE)} FROM stock_data WHERE symbol = :symbol ORDER BY date")
    return [tuple(row) for row in connection.execute(query, {"symbol": symbol})]


def read_totals(connection: Connection) -> tuple[int, str | None, str | None]:
    """Return how many rows are stored, and their first and last session as ISO dates."""
    count, first, last = connection.execute(text("SELECT count(*), min(date), max(date) FROM stock_data")).one()
    return int(count), str(first)[:10] if count else None, str(last)[:10] if count else None


def no_history() -> pd.DataFrame:
    """Return what :func:`read_history` returns for a database without tables."""
    return frame_of([], HISTORY)


def no_closes() -> pd.DataFrame:
    """Return what :func:`read_neighbors` returns where nothing is stored."""
    return frame_of([], CLOSES)


def midnight(day: date) -> datetime:
    """Return a session as ``stock_data.date`` holds it."""
    return datetime.combine(day, time())
