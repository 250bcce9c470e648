"""Stored rows as frames: histories, the table as it was known at a moment, and the closes around new bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection

from domain.models import BAR_COLUMNS, METRIC_COLUMNS
from storage.bulk import frame_of, read_frame
from storage.known_at import known_bars
from storage.questions import (
    EACH_ASKED,
    asked_condition,
    asked_parameters,
    midnight,
    rows_parameter,
    rows_query,
)
from storage.schema import TABLE
from transformations import ROLLING_SESSIONS, compute_metrics

if TYPE_CHECKING:
    import pyarrow as pa

LAST_LETTER = "right(symbol, 1)"
NEAR_DAYS = 9  # days before a session, among which 4 others lie unless something unusual happened
CLOSES = ["symbol", "date", "close"]
PLACES = ["place", "date", "close"]  # with the place of a span, a number, which is read sooner than a symbol
HISTORY = ["symbol", "date", "open", "high", "low", "close", "volume", "volatility", "rolling_avg"]
KEY = ["symbol", "date"]
PIECE = 500  # symbols per statement of a stream from SQLite
KNOWN_PIECE = 100  # the same for an earlier moment, where all of their rows are in memory


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
    symbols, earliest, latest = spans["symbol"].array, spans["earliest"].to_numpy(), spans["latest"].to_numpy()
    if connection.dialect.name != "postgresql":
        bounds = rows_parameter(zip(symbols.tolist(), _midnights(earliest), _midnights(latest), strict=True))
        return read_frame(connection, _NEIGHBORS_SQLITE, CLOSES, parameters=bounds)
    since = earliest - np.timedelta64(NEAR_DAYS, "D")
    most = (latest - since) // np.timedelta64(1, "D") + ROLLING_SESSIONS  # a row per day, and 4 after
    asked = list(zip(range(len(spans)), symbols.tolist(), _midnights(since), most.tolist(), strict=True))
    # Index scans read all matches of a page whatever the LIMIT, so the first one begins shortly before the span, where
    # nearly every symbol has all it needs. The second one is for the symbols that have fewer than 4 sessions there.
    near = read_frame(connection, _NEAR, PLACES, parameters=rows_parameter(asked))
    place = near["place"].to_numpy()
    is_early = near["date"].to_numpy() < earliest[place]
    is_lacking = np.bincount(place[is_early], minlength=len(spans)) < ROLLING_SESSIONS - 1
    if is_lacking.any():
        lacking = rows_parameter(compress(asked, is_lacking))
        near = pd.concat([near, read_frame(connection, _OLDER, PLACES, parameters=lacking)], ignore_index=True)
        place = near["place"].to_numpy()
    return pd.DataFrame({"symbol": symbols[place], "date": near["date"].to_numpy(), "close": near["close"].to_numpy()})


def _midnights(moments: npt.NDArray[Any]) -> list[str]:
    days: list[str] = np.datetime_as_string(moments, unit="D").tolist()
    return [f"{day} 00:00:00" for day in days]


_SPANS = rows_query("postgresql", {"place": "bigint", "symbol": "text", "since": "timestamp", "most": "bigint"})
_SPANS_SQLITE = rows_query("sqlite", {"symbol": "text", "earliest": "timestamp", "latest": "timestamp"})
# LATERAL with LIMIT uses the index, symbol by symbol, whatever the planner assumes about how many rows there are.
_NEAR = f"""
SELECT place, near.date, near.close FROM ({_SPANS}) AS spans CROSS JOIN LATERAL (
    SELECT date, close FROM stock_data WHERE symbol = spans.symbol AND date >= since ORDER BY date LIMIT most
) AS near
"""
_OLDER = f"""
SELECT place, older.date, older.close FROM ({_SPANS}) AS spans CROSS JOIN LATERAL (
    SELECT date, close FROM stock_data WHERE symbol = spans.symbol AND date < since
    ORDER BY date DESC LIMIT {ROLLING_SESSIONS - 1}
) AS older
"""
# SQLite has no LATERAL: the bounds of each symbol first, then the rows between them.
_NEIGHBORS_SQLITE = f"""
WITH spans AS MATERIALIZED ({_SPANS_SQLITE}), bounds AS MATERIALIZED (
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
    complete: bool = False,
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
    complete : bool
        Whether no other symbol is stored, which spares the server the comparison.

    Yields
    ------
    pyarrow.Table
        With the schema :data:`storage.streams.TEXT_SCHEMA`; all of them together are sorted by symbol, then session.
    """
    from storage.streams import copy_tables, fetch_tables, frame_table  # no job needs what they import

    if known_at is not None:
        for piece in _pieces(symbols, KNOWN_PIECE):
            yield frame_table(read_table(connection, piece, first, last, known_at=known_at).sort_values(KEY))
        return
    days = [("date >=", first), ("date <=", last)]
    inside = "".join(f" AND {compared} '{_bound(connection, day)}'" for compared, day in days if day)
    if connection.dialect.name == "postgresql":
        yield from copy_tables(connection, _copied_rows(connection, symbols, inside, complete=complete))
        return
    for piece in _pieces(symbols, PIECE):
        query = f"SELECT {', '.join(TABLE)} FROM stock_data WHERE symbol IN ({EACH_ASKED['sqlite']}){inside}"
        yield from fetch_tables(connection, f"{query} ORDER BY symbol, date", asked_parameters(connection, piece))


def _pieces(symbols: Sequence[str], size: int) -> list[Sequence[str]]:
    return [symbols[start : start + size] for start in range(0, len(symbols), size)]


def _copied_rows(connection: Connection, symbols: Sequence[str], inside: str, *, complete: bool) -> str:
    """Build the query of some symbols' rows, in the order of the symbols.

    The least work is the order of the index, which is Python's unless the database sorts by the rules of a language.
    """
    from pg8000.native import literal

    asked = f"CAST(ARRAY[{', '.join(map(literal, symbols))}] AS text[])"
    names = f"SELECT symbol FROM stock_data WHERE false UNION ALL SELECT unnest({asked})"  # sorted as the column is
    query = f"SELECT array_agg(symbol::text ORDER BY symbol) = {asked} FROM ({names}) AS names"
    order = "symbol" if connection.exec_driver_sql(query).scalar() else 'symbol COLLATE "C"'
    is_asked = "true" if complete else f"symbol = ANY({asked})"
    return f"SELECT {', '.join(TABLE)} FROM stock_data WHERE {is_asked}{inside} ORDER BY {order}, date"


def _read_rows(
    connection: Connection, symbols: Sequence[str], first: date | None, last: date | None, names: Sequence[str]
) -> pd.DataFrame:
    numbers = ", ".join(f"CAST({name} AS DOUBLE PRECISION) AS {name}" for name in names[2:])
    is_asked, parameters = asked_condition(connection, symbols)
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
    where, parameters = asked_condition(connection, symbols)
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


def no_history() -> pd.DataFrame:
    """Return what :func:`read_history` returns for a database without tables."""
    return frame_of([], HISTORY)


@lru_cache(maxsize=1)
def no_closes() -> pd.DataFrame:
    """Return what :func:`read_neighbors` returns where nothing is stored."""
    return frame_of([], CLOSES)
