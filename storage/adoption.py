"""Adopt the rows of an existing ``stock_data``: move those that cannot be true, and set every date to midnight.

A few statements over the whole table do it, whatever its size.
"""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection, text

from domain.calendar import sessions_between, today
from domain.models import CLOSE_METRICS, PRICE_COLUMNS, SYMBOL_LENGTH
from domain.validation import MAX_PRICE, MIN_PRICE
from storage.bulk import read_frame, temp_table
from storage.engine import database_time
from storage.schema import ADOPTION, STOCK_DATA
from transformations import ROLLING_SESSIONS, compute_metrics

EARLIEST, LATEST = date(1900, 1, 1), date(2099, 12, 31)  # years that the calendar knows
PIECE = 200  # symbols whose metrics are computed at a time


def adopt_rows(connection: Connection) -> list[str]:
    """Move rows that cannot be true to ``rejected_bars``, and set every date to midnight of its session.

    Of several rows of one symbol and session the one at midnight stays, or else the earliest. Rows that stay keep their
    values, except the metrics that were computed from a row that was moved.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a table that has passed :func:`storage.shape.check_shape`.

    Returns
    -------
    list of str
        A warning, if rows were moved.
    """
    on_sqlite = connection.dialect.name == "sqlite"
    if on_sqlite:
        driver: Any = connection.connection.dbapi_connection
        driver.create_function("sha256_hex", 1, lambda said: hashlib.sha256(said.encode()).hexdigest())
    days = np.array(sorted(_stored_sessions(connection)), dtype="datetime64[s]")
    with temp_table(connection, "exchange_sessions", {"day": STOCK_DATA.c.date}, pd.DataFrame({"day": days})):
        connection.exec_driver_sql(_find_impossible(connection))
    _move(connection, twins=False)
    connection.exec_driver_sql(_find_twins(on_sqlite))
    _move(connection, twins=True)
    connection.exec_driver_sql(
        f"UPDATE stock_data SET date = {_session(on_sqlite)} WHERE date <> {_session(on_sqlite)}"
    )
    count, twins = connection.exec_driver_sql("SELECT count(*), sum(twin) FROM impossible").one()
    if count:
        _recompute_metrics(connection)
        first = "SELECT symbol, session, reason FROM impossible ORDER BY symbol, session LIMIT 1"
        symbol, session, reason = connection.exec_driver_sql(first).one()
    connection.exec_driver_sql("DROP TABLE impossible")
    if not count:
        return []
    return [
        f"{count} rows of the existing table stock_data cannot be true and were moved to rejected_bars,"
        f" {twins} of them second rows of a session; the first: {symbol} on {str(session)[:10]}: {reason}"
    ]


def _sessions(first: date, last: date) -> set[date]:
    return set(sessions_between(max(first, EARLIEST), min(last, LATEST)))


def _stored_sessions(connection: Connection) -> set[date]:
    """The sessions of the exchange from the first stored one to today."""
    first = connection.exec_driver_sql(f"SELECT min(date) FROM stock_data WHERE date >= '{EARLIEST}'").scalar()
    until = today(database_time(connection))
    return _sessions(date.fromisoformat(str(first)[:10]), until) if first and str(first)[:10] <= str(until) else set()


def _session(on_sqlite: bool) -> str:
    return "substr(date, 1, 10) || ' 00:00:00'" if on_sqlite else "date_trunc('day', date)"


def _find_impossible(connection: Connection) -> str:
    """Make the temporary table ``impossible``: the rows that validation would reject, each with its first reason.

    A NULL is no contradiction, except a missing close, from which the metrics are computed.
    """
    on_sqlite = connection.dialect.name == "sqlite"
    session = _session(on_sqlite)
    bad_symbol = "typeof(symbol) <> 'text' OR symbol GLOB '*[^!-~]*'" if on_sqlite else r"symbol !~ '^[\x21-\x7e]*$'"
    rules = [
        (
            f"symbol IS NULL OR length(symbol) NOT BETWEEN 1 AND {SYMBOL_LENGTH} OR {bad_symbol}",
            f"'its symbol is not text of 1 to {SYMBOL_LENGTH} ASCII characters'",
        ),
        ("date IS NULL", "'its date is missing'"),
        (
            f"{session} NOT IN (SELECT day FROM exchange_sessions)",
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
        f"{create} AS SELECT symbol, date, {session} AS session, {_bar(on_sqlite)} AS bar, reason, 0 AS twin FROM ("
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
    earlier = f"lag(date) OVER (PARTITION BY symbol ORDER BY {order}) AS earlier"
    return (
        f"INSERT INTO impossible SELECT symbol, date, {_session(on_sqlite)}, {_bar(on_sqlite)},"
        " 'another row of this symbol and session is nearer to midnight', 1"
        f" FROM (SELECT stock_data.*, {earlier} FROM stock_data) AS stock_data WHERE {same}"
    )


def _move(connection: Connection, *, twins: bool) -> None:
    on_sqlite = connection.dialect.name == "sqlite"
    said = "coalesce(symbol, '') || '\n' || reason || '\n' || bar"
    digest = f"sha256_hex({said})" if on_sqlite else f"encode(sha256(convert_to({said}, 'UTF8')), 'hex')"
    # PostgreSQL knows infinite dates and years that Python does not.
    day = (
        "substr(session, 1, 10)"
        if on_sqlite
        else ("CASE WHEN session BETWEEN '0001-01-01' AND '9999-12-31' THEN CAST(session AS date) END")
    )
    connection.exec_driver_sql(
        "INSERT INTO rejected_bars (run_id, symbol, date, reason, bar, digest)"
        f" SELECT '{ADOPTION}', coalesce(symbol, ''), {day}, reason, bar, {digest} FROM impossible"
        f" WHERE twin = {int(twins)} ON CONFLICT DO NOTHING"
    )
    found = f"SELECT symbol, date FROM impossible WHERE twin = {int(twins)}"
    connection.exec_driver_sql(f"DELETE FROM stock_data WHERE (symbol, date) IN ({found})")
    connection.exec_driver_sql("DELETE FROM stock_data WHERE symbol IS NULL OR date IS NULL")


def _recompute_metrics(connection: Connection) -> None:
    """Compute the metrics again of the rows that follow one that was moved, up to the length of the average."""
    query = "SELECT DISTINCT symbol FROM impossible WHERE symbol IN (SELECT symbol FROM stock_data) ORDER BY 1"
    symbols = list(connection.exec_driver_sql(query).scalars())
    for start in range(0, len(symbols), PIECE):
        asked = pd.DataFrame({"symbol": symbols[start : start + PIECE]})
        with temp_table(connection, "asked", {"symbol": STOCK_DATA.c.symbol}, asked):
            rows = read_frame(
                connection,
                "SELECT symbol, date, CAST(close AS DOUBLE PRECISION) AS close FROM stock_data"
                " WHERE symbol IN (SELECT symbol FROM asked)",
                ["symbol", "date", "close"],
            )
            moved = read_frame(
                connection,
                "SELECT DISTINCT symbol, session AS date FROM impossible"
                " WHERE symbol IN (SELECT symbol FROM asked) AND session IN (SELECT session FROM impossible)",
                ["symbol", "date"],
            )
        code = pd.factorize(rows["symbol"])[0]
        close = rows["close"].to_numpy(dtype=np.float64)
        _, average, change = compute_metrics(code, close, close, close)
        after = _follow(rows, moved)
        fresh = rows.loc[after, ["symbol", "date"]].reset_index(drop=True)
        fresh = fresh.assign(**dict(zip(CLOSE_METRICS, (average[after], change[after]), strict=True)))
        names = {name: STOCK_DATA.c[name] for name in ("symbol", "date", *CLOSE_METRICS)}
        with temp_table(connection, "recomputed", names, fresh):
            values = ", ".join(f"{name} = recomputed.{name}" for name in CLOSE_METRICS)
            connection.execute(
                text(
                    f"UPDATE stock_data SET {values} FROM recomputed"
                    " WHERE stock_data.symbol = recomputed.symbol AND stock_data.date = recomputed.date"
                )
            )


def _follow(rows: pd.DataFrame, moved: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which rows are among the 5 at or after a moved one of their symbol; both are sorted by symbol and date."""
    both = pd.concat([moved.assign(place=-1), rows[["symbol", "date"]].assign(place=np.arange(len(rows)))])
    both = both.sort_values(["symbol", "date", "place"], kind="stable")
    place = both["place"].to_numpy()
    is_row = place >= 0
    numbered = np.cumsum(is_row)
    last_moved = pd.Series(np.where(is_row, np.nan, numbered)).groupby(both["symbol"].to_numpy()).ffill().to_numpy()
    marked = is_row & (numbered - last_moved <= ROLLING_SESSIONS)
    after = np.zeros(len(rows), dtype=bool)
    after[place[marked]] = True
    return after
