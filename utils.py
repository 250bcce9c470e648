"""Everything that reads the tables: values, and frames with fixed columns.

Nothing here writes: all of it works on a database that cannot be written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, Engine, case, func, or_, select, text

from domain.coverage import Reading, Readings
from domain.models import EVERY_SYMBOL, PRICE_COLUMNS, SINGLE_BARS, WHOLE_HISTORIES, Revision, SentReport, Split
from storage.commits import read_commits
from storage.engine import database_exists, database_time, transaction
from storage.migration import is_current, is_earlier, shown_as_current, stored_columns
from storage.questions import EACH_ASKED, asked_parameters, midnight
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
    TABLE,
)

if TYPE_CHECKING:
    from storage.history import no_closes as no_closes
    from storage.history import no_history as no_history
    from storage.history import read_history as read_history
    from storage.history import read_neighbors as read_neighbors
    from storage.history import read_table as read_table
    from storage.history import stream_table as stream_table

OVERLAP = timedelta(hours=1)  # longer than any transaction
FEW_SYMBOLS = 200  # up to here a statement names them; beyond, all are read


@contextmanager
def reading(engine: Engine, *, snapshot: bool = False) -> Iterator[Connection | None]:
    """Open a transaction to read in; it is None where there is no database, or none with these tables, yet.

    Tables of the earlier version are shown as those of this one.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    snapshot : bool
        Whether each statement sees what the first one saw, instead of what was committed before it. On SQLite all
        transactions are so.
    """
    if not database_exists(engine):
        yield None
        return
    with transaction(engine, write=False) as connection:
        if snapshot and connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
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


class Marks(NamedTuple):
    """How far earlier runs came to know the provider, and what was stored before any of them; None where nothing is.

    Attributes
    ----------
    seen_to : datetime.date or None
        The last session of which a bar of any symbol is known to have been published.
    splits_until : datetime.date or None
        The day up to which splits are known.
    history_days : int or None
        How many days the provider's plan reaches back, as the last refusal showed.
    adopted_to : datetime.date or None
        The last session that was stored when the table was adopted.
    """

    seen_to: date | None = None
    splits_until: date | None = None
    history_days: int | None = None
    adopted_to: date | None = None


def read_marks(connection: Connection) -> Marks:
    """Return how far earlier runs came to know the provider, and what was stored before any of them."""
    seen_to, splits_until, history_days, adopted = connection.execute(_MARKS).one()
    sessions = [date.fromisoformat(entry["last"]) for entry in json.loads(adopted or "[]")]
    return Marks(seen_to, splits_until, history_days, max(sessions, default=None))


_REFUSED = select(JOB_RUNS.c.history_days).where(JOB_RUNS.c.history_days.is_not(None))
_LAST_REFUSED = _REFUSED.order_by(JOB_RUNS.c.started_at.desc()).limit(1).scalar_subquery()
_ADOPTED = select(LOADS.c.pairs).where(LOADS.c.run_id == ADOPTION).limit(1).scalar_subquery()
_MARKS = select(func.max(JOB_RUNS.c.seen_to), func.max(JOB_RUNS.c.splits_until), _LAST_REFUSED, _ADOPTED)


def read_oldest_reading(connection: Connection, symbols: Sequence[str]) -> date | None:
    """Return the date of the oldest reading of the symbols: the last session that was published then."""
    coverage = read_coverage(connection, symbols)
    return min((reading.oldest for readings in coverage.values() for reading in readings), default=None)


def keep_alive(connection: Connection) -> None:
    """Say something in a transaction in which other work is done, so that the server does not end it as idle."""
    connection.execute(select(1))


class Watermark(NamedTuple):
    """How far the changes of ``stock_data`` were known at a moment: what :func:`read_changed_symbols` starts from.

    Attributes
    ----------
    commits : int
        The counter of commits that changed the table.
    revision, load : int
        The last revision, and the last entry of what was first loaded.
    at : str
        The moment by the database's clock, ISO.
    """

    commits: int
    revision: int
    load: int
    at: str


def read_watermark(connection: Connection) -> Watermark:
    """Return how far the changes of ``stock_data`` are known now."""
    revision, load = (
        connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()
        for table in (BAR_REVISIONS, LOADS)
    )
    return Watermark(read_commits(connection), revision, load, database_time(connection).isoformat())


def read_changed_symbols(connection: Connection, since: Watermark, until: date) -> set[str]:
    """Return the symbols of which a bar up to a session was replaced, removed or added after a watermark.

    ``"*"`` among them stands for all. Symbols that were forgotten are not among them. Rows may be named that changed
    shortly before the watermark.
    """
    if read_commits(connection) == since.commits:
        return set()
    columns = BAR_REVISIONS.c
    # Forgetting a symbol may free the highest numbers for later revisions, which then have their moment only.
    lately = or_(columns.id > since.revision, columns.replaced_at >= datetime.fromisoformat(since.at) - OVERLAP)
    revised = select(columns.symbol).distinct().where(lately, columns.date <= midnight(until))
    changed = set(connection.execute(revised).scalars())
    for pairs in connection.execute(select(LOADS.c.pairs).where(LOADS.c.id > since.load)).scalars():
        for pair in json.loads(pairs):
            if date.fromisoformat(pair["first"]) <= until:
                changed.update(pair["symbols"])
    return changed


def read_stored_symbols(connection: Connection) -> list[str]:
    """Return every symbol that has a row, by one index lookup per symbol, and as one text, which is quicker to read."""
    joined = (
        "string_agg(symbol, chr(10))" if connection.dialect.name == "postgresql" else "group_concat(symbol, char(10))"
    )
    symbols = connection.execute(text(f"{_STORED_SYMBOLS} SELECT {joined} FROM stored")).scalar()
    return str(symbols).splitlines() if symbols else []


def read_first_load(connection: Connection) -> datetime | None:
    """Return the moment of the first load, in UTC; at an earlier one nothing was known."""
    moment = connection.execute(select(func.min(LOADS.c.loaded_at))).scalar()
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


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


def read_last_rejected(connection: Connection, count: int) -> list[tuple[str, date | None, str, str]]:
    """Return symbol, session, reason and the bar as received (JSON) of the bars rejected last, newest first."""
    bars = REJECTED_BARS.c
    query = select(bars.symbol, bars.date, bars.reason, bars.bar).order_by(bars.id.desc()).limit(count)
    return [tuple(row) for row in connection.execute(query)]


def read_corrected(connection: Connection, first: date, last: date) -> list[tuple[str, date]]:
    """Return symbol and session of the bars from one session to another that were corrected, withdrawn or late."""
    bars = BAR_REVISIONS.c
    query = select(bars.symbol, bars.date).distinct().where(bars.cause.in_(SINGLE_BARS))
    rows = connection.execute(query.where(bars.date.between(midnight(first), midnight(last))))
    return [(symbol, moment.date()) for symbol, moment in rows]


def count_rejected(connection: Connection, symbols: Sequence[str]) -> dict[str, int]:
    """Return how many bars and other records of each of the symbols were rejected, if any."""
    query = select(REJECTED_BARS.c.symbol, func.count()).where(REJECTED_BARS.c.symbol.in_(symbols))
    return {str(row[0]): int(row[1]) for row in connection.execute(query.group_by(REJECTED_BARS.c.symbol))}


def read_revisions(
    connection: Connection,
    symbols: Sequence[str],
    first: date,
    last: date,
    *,
    newest: int | None = None,
) -> list[Revision]:
    """Return how the prices of stored bars changed after they were first stored, in the order of the sessions.

    A history that a run replaced is one change: that of its last bar. Bars of which only the volume changed, and those
    that came to be beside adopted ones, are left out.

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
    together = (revised.c.run_id, revised.c.symbol, revised.c.cause)
    changes = (
        select(
            *(revised.c[name] for name in ("symbol", "date", "cause", "replaced_at", "id")),
            JOB_RUNS.c.as_of,
            func.row_number().over(partition_by=together, order_by=revised.c.date.desc()).label("place"),
            func.count().over(partition_by=together).label("bars"),
            *(price.label(f"old_{name}") for name, price in zip(PRICE_COLUMNS, old, strict=True)),
            *(price.label(f"new_{name}") for name, price in zip(PRICE_COLUMNS, new, strict=True)),
        )
        .join(JOB_RUNS, JOB_RUNS.c.run_id == revised.c.run_id)
        .outerjoin(STOCK_DATA, (stored.symbol == revised.c.symbol) & (stored.date == revised.c.date))
        .where(revised.c.cause.in_([*SINGLE_BARS, *WHOLE_HISTORIES]))
        .where(or_(*(before.is_distinct_from(after) for before, after in zip(old, new, strict=True))))
        .subquery()
    )
    told = select(changes).where(changes.c.cause.in_(SINGLE_BARS) | (changes.c.place == 1))
    if newest is None:
        told = told.order_by(changes.c.date, changes.c.symbol, changes.c.replaced_at, changes.c.id)
    else:
        told = told.order_by(changes.c.replaced_at.desc(), changes.c.id.desc()).limit(newest)
    return [
        Revision(
            row["symbol"],
            row["date"].date(),
            row["cause"],
            row["as_of"],
            _numbers([row[f"old_{name}"] for name in PRICE_COLUMNS]),
            _numbers([row[f"new_{name}"] for name in PRICE_COLUMNS]),
            bars=row["bars"] if row["cause"] in WHOLE_HISTORIES else 1,
        )
        for row in connection.execute(told).mappings()
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
    return set(connection.execute(_UNRESTATED).scalars())


_UNRESTATED = select(SPLITS.c.symbol).where(SPLITS.c.restated_at.is_(None)).union(select(SUSPECTS.c.symbol))


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
        f"SELECT symbol FROM ({EACH_ASKED[connection.dialect.name]}) AS asked"
        " WHERE NOT EXISTS (SELECT 1 FROM stock_data WHERE stock_data.symbol = asked.symbol)"
    )
    unknown = set(connection.execute(text(query), asked_parameters(connection, symbols)).scalars())
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


def read_loaded_as_of(connection: Connection) -> date | None:
    """Return the day that stood for today in the last run that asked the provider."""
    query = select(JOB_RUNS.c.as_of).where(JOB_RUNS.c.api_calls > 0).order_by(JOB_RUNS.c.started_at.desc()).limit(1)
    return connection.execute(query).scalar()


def read_last_runs(connection: Connection, count: int) -> list[dict[str, Any]]:
    """Return the last runs, newest first, as rows of ``job_runs``."""
    query = select(JOB_RUNS).order_by(JOB_RUNS.c.started_at.desc(), JOB_RUNS.c.run_id).limit(count)
    return [dict(row) for row in connection.execute(query).mappings()]


def read_stored(connection: Connection, symbols: Sequence[str]) -> dict[str, tuple[int, date, date]]:
    """Return the number of stored rows, and their first and last session, of each of the symbols that has any."""
    count, first, last = func.count(), func.min(STOCK_DATA.c.date), func.max(STOCK_DATA.c.date)
    query = select(STOCK_DATA.c.symbol, count, first, last).group_by(STOCK_DATA.c.symbol)
    if list(symbols) != [EVERY_SYMBOL]:
        query = query.where(STOCK_DATA.c.symbol.in_(symbols))
    rows = connection.execute(query)
    return {symbol: (int(rows_), first_.date(), last_.date()) for symbol, rows_, first_, last_ in rows}


def read_stored_sessions(
    connection: Connection, symbols: Sequence[str], first: date, last: date
) -> dict[str, set[date]]:
    """Return the stored sessions of each of the symbols from one session to another."""
    columns = STOCK_DATA.c
    query = select(columns.symbol, columns.date).where(columns.symbol.in_(symbols))
    sessions: dict[str, set[date]] = {}
    for symbol, moment in connection.execute(query.where(columns.date.between(midnight(first), midnight(last)))):
        sessions.setdefault(symbol, set()).add(moment.date())
    return sessions


def read_rows_as_stored(connection: Connection, symbol: str) -> list[tuple[Any, ...]]:
    """Return the rows of a symbol with the columns of :data:`TABLE`, as the driver returns them, oldest first."""
    query = text(f"SELECT {', '.join(TABLE)} FROM stock_data WHERE symbol = :symbol ORDER BY date")
    return [tuple(row) for row in connection.execute(query, {"symbol": symbol})]


def read_totals(connection: Connection) -> tuple[int, str | None, str | None]:
    """Return how many rows are stored, and their first and last session as ISO dates."""
    count, first, last = connection.execute(text("SELECT count(*), min(date), max(date) FROM stock_data")).one()
    return int(count), str(first)[:10] if count else None, str(last)[:10] if count else None


# Frames wait until one is asked for: to import pandas takes longer than all that reads values.
_FRAMES = ("no_closes", "no_history", "read_history", "read_neighbors", "read_table", "stream_table")


def __getattr__(name: str) -> Any:
    if name not in _FRAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from storage import history

    return getattr(history, name)
