"""Adopt the rows of an existing ``stock_data``: move those that cannot be true, and set every date to midnight.

A few statements over the whole table do it, whatever its size.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from domain.calendar import sessions_between, today
from domain.errors import DataError
from domain.models import CLOSE_METRICS, PRICE_COLUMNS, SYMBOL_LENGTH
from domain.validation import MAX_PRICE, MIN_PRICE
from storage.bulk import read_frame, temp_table
from storage.commits import count_commit
from storage.engine import database_time
from storage.refusals import is_time_up, server_error_fields
from storage.schema import ADOPTION, STOCK_DATA
from transformations import compute_metrics

EARLIEST, LATEST = date(1900, 1, 1), date(2099, 12, 31)  # years that the calendar knows
PIECE = 100_000  # rows whose metrics are computed at a time

# SQLSTATEs of a table that may not be rewritten: a view needs it, another role owns it, it is partitioned, or a foreign
# key waits for the end of the transaction.
NO_REWRITE = ("0A000", "42501", "42P16", "55006")


def adopt_rows(connection: Connection) -> list[str]:
    """Move rows that cannot be true to ``rejected_bars``, and set every date to midnight of its session.

    Of several rows of one symbol and session the one at midnight stays, or else the earliest. Rows that stay keep their
    values, except the metrics after a row that was moved.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a table that has passed :func:`storage.shape.check_shape`.

    Returns
    -------
    list of str
        A warning, if rows were moved.
    """
    count_commit(connection)
    on_sqlite = connection.dialect.name == "sqlite"
    if on_sqlite:
        driver: Any = connection.connection.dbapi_connection
        driver.create_function("sha256_hex", 1, lambda said: hashlib.sha256(said.encode()).hexdigest())
    days = np.array(_stored_sessions(connection), dtype="datetime64[s]")
    with temp_table(connection, "exchange_sessions", {"day": STOCK_DATA.c.date}, pd.DataFrame({"day": days})):
        connection.exec_driver_sql(_find_impossible(on_sqlite))
    _move_impossible(connection)
    twins = 0
    timed = f"SELECT EXISTS (SELECT 1 FROM stock_data WHERE date <> {_session(on_sqlite)})"
    if connection.exec_driver_sql(timed).scalar_one():
        twins = connection.exec_driver_sql(_find_twins(on_sqlite)).rowcount
        _move_impossible(connection)
        _set_midnight(connection)
    count = connection.exec_driver_sql("SELECT count(*) FROM impossible").scalar_one()
    if count:
        _recompute_metrics(connection)
        first = "SELECT symbol, CAST(session AS VARCHAR(40)), reason FROM impossible ORDER BY symbol, session LIMIT 1"
        symbol, session, reason = connection.exec_driver_sql(first).one()
    connection.exec_driver_sql("DROP TABLE impossible")
    if not count:
        return []
    return [
        f"{count} rows of the existing table stock_data cannot be true and were moved to rejected_bars,"
        f" {twins} of them second rows of a session; the first: {symbol} on {str(session)[:10]}: {reason}"
    ]


@contextmanager
def adoption_in_time(connection: Connection, seconds: float) -> Iterator[None]:
    """Say what a block did in vain if the time is over; the table stays as it was.

    PostgreSQL's transactions end in time. SQLite bounds the wait for a lock only, so that it is interrupted here.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside a transaction, which must be rolled back after the error.
    seconds : float
        The time that is left; may be infinite.

    Raises
    ------
    DataError
        If that is too little.
    """
    end = time.monotonic() + seconds
    driver: Any = connection.connection.dbapi_connection
    on_sqlite = connection.dialect.name == "sqlite"
    if on_sqlite:
        driver.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    try:
        yield
    except (DBAPIError, connection.dialect.loaded_dbapi.Error, TimeoutError) as error:
        if np.isinf(seconds) or not is_time_up(error):
            raise
        raise DataError(
            f"the existing table stock_data cannot be adopted in {max(seconds, 0):.0f} s and stays as it is:"
            " run the job once from a terminal, which has no time limit"
        ) from None
    finally:
        if on_sqlite and not connection.invalidated:  # an interrupt closes it
            driver.set_progress_handler(None, 0)


def _stored_sessions(connection: Connection) -> list[date]:
    """The sessions of the exchange from the first stored one to today."""
    query = f"SELECT min(date) FROM stock_data WHERE date BETWEEN '{EARLIEST}' AND '{LATEST}'"
    first, until = connection.exec_driver_sql(query).scalar(), today(database_time(connection))
    return list(sessions_between(date.fromisoformat(str(first)[:10]), until)) if first else []


def _session(on_sqlite: bool) -> str:
    return "substr(date, 1, 10) || ' 00:00:00'" if on_sqlite else "date_trunc('day', date)"


def _find_impossible(on_sqlite: bool) -> str:
    """Make the temporary table ``impossible``: the rows that validation would reject, each with its first reason.

    A NULL is no contradiction, except a missing close, from which the metrics are computed.
    """
    bad_symbol = "typeof(symbol) <> 'text' OR symbol GLOB '*[^!-~]*'" if on_sqlite else r"symbol !~ '^[\x21-\x7e]*$'"
    rules = [
        (
            f"symbol IS NULL OR length(symbol) NOT BETWEEN 1 AND {SYMBOL_LENGTH} OR {bad_symbol}",
            f"'its symbol is not text of 1 to {SYMBOL_LENGTH} ASCII characters'",
        ),
        ("date IS NULL", "'its date is missing'"),
        (
            f"{_session(on_sqlite)} NOT IN (SELECT day FROM exchange_sessions)",
            "CAST(date AS VARCHAR(40)) || ' is not a session of the exchange up to today'",
        ),
        ("close IS NULL", "'its close is missing or not a number'"),
    ]
    for name in (*PRICE_COLUMNS, "volume"):
        no_number = f"typeof({name}) IN ('text', 'blob')" if on_sqlite else f"CAST({name} AS text) = 'NaN'"
        rules.append((no_number, f"'its {name} is missing or not a number'"))
    for name in PRICE_COLUMNS:
        shown = f"CAST({name} AS VARCHAR(400))"
        rules.append((f"{name} <= 0", f"'its {name} ' || {shown} || ' is not above 0'"))
        limits = f"' is not from {MIN_PRICE:g} to {MAX_PRICE:g}'"
        rules.append((f"{name} < {MIN_PRICE} OR {name} > {MAX_PRICE:.0f}", f"'its {name} ' || {shown} || {limits}"))
    for low, high, said in (
        ("high", "low", "its high is below its low"),
        ("high", "open", "its high is below its open or close"),
        ("high", "close", "its high is below its open or close"),
        ("open", "low", "its low is above its open or close"),
        ("close", "low", "its low is above its open or close"),
    ):
        rules.append((f"{low} < {high}", f"'{said}: {low} ' || {low} || ', {high} ' || {high}"))
    rules.append(
        ("volume < 0 OR volume >= 9223372036854775807", "'its volume ' || volume || ' is not a count of shares'")
    )
    cases = " ".join(f"WHEN {broken} THEN {reason}" for broken, reason in rules)
    create = "CREATE TEMPORARY TABLE impossible" + ("" if on_sqlite else " ON COMMIT DROP")
    return (
        f"{create} AS SELECT symbol, date, {_session(on_sqlite)} AS session, {_bar(on_sqlite)} AS bar, reason FROM ("
        f"SELECT stock_data.*, CASE {cases} END AS reason FROM stock_data) AS stock_data WHERE reason IS NOT NULL"
    )


def _bar(on_sqlite: bool) -> str:
    """Return a stored row as JSON; a BLOB becomes text."""
    names = [column.name for column in STOCK_DATA.columns]
    if on_sqlite:
        values = [f"'{name}', CASE typeof({name}) WHEN 'blob' THEN quote({name}) ELSE {name} END" for name in names]
        return f"json_object({', '.join(values)})"
    return "CAST(json_build_object(" + ", ".join(f"'{name}', {name}" for name in names) + ") AS text)"


def _find_twins(on_sqlite: bool) -> str:
    """Add the rows that follow another one of the same symbol and session; midnight comes first."""
    order = "replace(date, 'T', ' '), date" if on_sqlite else "date"
    same = "substr(earlier, 1, 10) = substr(date, 1, 10)" if on_sqlite else "earlier >= date_trunc('day', date)"
    # Only the key is sorted, which takes a fraction of what whole rows take.
    keys = f"SELECT symbol, date, lag(date) OVER (PARTITION BY symbol ORDER BY {order}) AS earlier FROM stock_data"
    return (
        f"INSERT INTO impossible SELECT symbol, date, {_session(on_sqlite)}, {_bar(on_sqlite)},"
        " 'another row of this symbol and session is nearer to midnight' FROM stock_data"
        f" WHERE (symbol, date) IN (SELECT symbol, date FROM ({keys}) AS keys WHERE {same})"
    )


def _move_impossible(connection: Connection) -> None:
    """Move the rows of ``impossible``; those that were moved already are not there any more."""
    on_sqlite = connection.dialect.name == "sqlite"
    said = "coalesce(symbol, '') || '\n' || reason || '\n' || bar"
    digest = f"sha256_hex({said})" if on_sqlite else f"encode(sha256(convert_to({said}, 'UTF8')), 'hex')"
    # PostgreSQL knows infinite dates and years that Python does not.
    day = (
        "substr(session, 1, 10)"
        if on_sqlite
        else "CASE WHEN session BETWEEN '0001-01-01' AND '9999-12-31' THEN CAST(session AS date) END"
    )
    connection.exec_driver_sql(
        "INSERT INTO rejected_bars (run_id, symbol, date, reason, bar, digest)"
        f" SELECT '{ADOPTION}', coalesce(symbol, ''), {day}, reason, bar, {digest} FROM impossible WHERE true"
        " ON CONFLICT DO NOTHING"
    )
    connection.exec_driver_sql("DELETE FROM stock_data WHERE (symbol, date) IN (SELECT symbol, date FROM impossible)")
    connection.exec_driver_sql("DELETE FROM stock_data WHERE symbol IS NULL OR date IS NULL")


def _set_midnight(connection: Connection) -> None:
    """Set every date to midnight of its session.

    PostgreSQL rewrites the table and builds its indexes once, in a third of the time of an UPDATE and without leaving
    a dead version of each row. The table's rights and other columns stay.
    """
    session = _session(connection.dialect.name == "sqlite")
    if connection.dialect.name == "postgresql":
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"ALTER TABLE stock_data ALTER COLUMN date TYPE TIMESTAMP USING {session}")
                connection.exec_driver_sql("ANALYZE stock_data")  # the column's statistics are gone
            return
        except DBAPIError as error:
            if server_error_fields(error.orig).get("C") not in NO_REWRITE:
                raise
    connection.exec_driver_sql(f"UPDATE stock_data SET date = {session} WHERE date <> {session}")


def _recompute_metrics(connection: Connection) -> None:
    """Compute the metrics again of the rows that follow the first one of their symbol that was moved."""
    first = f"min(CASE WHEN session < '{EARLIEST}' THEN '{EARLIEST}' ELSE session END)"
    moved = read_frame(
        connection,
        f"SELECT moved.symbol, since AS date, count(*) AS rows FROM (SELECT symbol, {first} AS since FROM impossible"
        f" WHERE session <= '{LATEST}' GROUP BY 1) AS moved JOIN stock_data ON stock_data.symbol = moved.symbol"
        " GROUP BY 1, 2",
        ["symbol", "date", "rows"],
    )
    # Each piece reads the whole table, so that few large ones are faster than many small ones.
    for _, piece in moved.groupby(moved["rows"].cumsum() // PIECE):
        with temp_table(connection, "asked", {"symbol": STOCK_DATA.c.symbol}, piece):
            rows = read_frame(
                connection,
                "SELECT symbol, date, CAST(close AS DOUBLE PRECISION) AS close FROM stock_data"
                " WHERE symbol IN (SELECT symbol FROM asked)",
                ["symbol", "date", "close"],
            )
        code, symbols = pd.factorize(rows["symbol"])
        close = rows.pop("close").to_numpy(dtype=np.float64)
        _, average, change = compute_metrics(code, close, close, close)
        since = piece.set_index("symbol")["date"].reindex(symbols).to_numpy()[code]
        rows = rows.assign(**dict(zip(CLOSE_METRICS, (average, change), strict=True)))[rows["date"].to_numpy() > since]
        columns = {name: STOCK_DATA.c[name] for name in ("symbol", "date", *CLOSE_METRICS)}
        with temp_table(connection, "recomputed", columns, rows):
            values = ", ".join(f"{name} = recomputed.{name}" for name in CLOSE_METRICS)
            old, new = (
                ", ".join(f"{table}.{name}" for name in CLOSE_METRICS) for table in ("stock_data", "recomputed")
            )
            differs = "IS NOT" if connection.dialect.name == "sqlite" else "IS DISTINCT FROM"
            connection.exec_driver_sql(
                f"UPDATE stock_data SET {values} FROM recomputed WHERE stock_data.symbol = recomputed.symbol"
                f" AND stock_data.date = recomputed.date AND ({old}) {differs} ({new})"
            )
