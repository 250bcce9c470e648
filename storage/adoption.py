"""Adopt an existing ``stock_data``: refuse one whose types or keys cannot be used, and move rows that cannot be true.

A refusal changes nothing and names the statement that mends the table. What can be adopted is adopted by a few
statements over the whole table, whatever its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from domain.calendar import sessions_between, today
from domain.errors import DataError
from domain.models import BAR_COLUMNS, CLOSE_METRICS, METRIC_COLUMNS, PRICE_COLUMNS, SYMBOL_LENGTH
from domain.validation import MAX_PRICE, MIN_PRICE
from storage.bulk import read_frame, temp_table
from storage.engine import database_time
from storage.schema import ADOPTION, STOCK_DATA
from transformations import ROLLING_SESSIONS, compute_metrics

EARLIEST, LATEST = date(1900, 1, 1), date(2099, 12, 31)  # years that the calendar knows
NUMBERS = [*PRICE_COLUMNS, *METRIC_COLUMNS]
NAMED = 3  # duplicates in a message
PIECE = 200  # symbols whose metrics are computed at a time
TEXTS = ("text", "character", "character varying")
COUNTS = ("smallint", "integer", "bigint")
REALS = ("numeric", "double precision", "real")


def check_shape(connection: Connection) -> None:
    """Check that ``stock_data`` is a table with the types and the key that every statement relies on.

    Raises
    ------
    DataError
        Of one line; it ends with the statement that mends the table.
    """
    if connection.dialect.name == "postgresql":
        _check_postgresql(connection)
    else:
        _check_sqlite(connection)


class _Field(NamedTuple):
    """A column as the database describes it; `required` if a row that does not name it is refused."""

    name: str
    type: str
    not_null: bool
    required: bool


def _refuse(problem: str, statement: str) -> DataError:
    return DataError(f"the existing table stock_data {problem}; run: {statement}")


def _check_columns(fields: Sequence[_Field], alter: str) -> None:
    present = {field.name for field in fields}
    lacking = [column for column in STOCK_DATA.columns if column.name not in present]
    if not lacking:
        return
    names = ", ".join(column.name for column in lacking)
    if {"date", "symbol"} & {column.name for column in lacking}:
        raise _refuse(f"has no column {names}", "ALTER TABLE stock_data RENAME TO stock_data_before")
    statements = "; ".join(f"{alter} ADD COLUMN {column.name} {column.type}" for column in lacking)
    raise _refuse(f"has no column {names}", statements)


# PostgreSQL: types by column

_FIELDS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull,
    attnotnull AND NOT atthasdef AND attidentity = '' AS required
FROM pg_attribute WHERE attrelid = to_regclass('stock_data') AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
# A partial or deferrable key, or one of an expression, is none that ON CONFLICT (symbol, date) can use.
_KEY = """
SELECT count(*) FROM pg_index
WHERE indrelid = to_regclass('stock_data') AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL
AND indexprs IS NULL AND indnkeyatts = 2 AND (
    SELECT array_agg(attname::text ORDER BY attname) FROM pg_attribute
    WHERE attrelid = indrelid AND attnum IN (indkey[0], indkey[1])
) = ARRAY['date', 'symbol']
"""
_VIEWS = {"v": "VIEW", "m": "MATERIALIZED VIEW", "f": "FOREIGN TABLE"}


def _check_postgresql(connection: Connection) -> None:
    kind = connection.exec_driver_sql(
        "SELECT relkind::text FROM pg_class WHERE oid = to_regclass('stock_data')"
    ).scalar()
    if kind in _VIEWS:
        shown = _VIEWS[kind]
        raise _refuse(f"is a {shown.lower()}", f"ALTER {shown} stock_data RENAME TO stock_data_before")
    fields = [_Field(*row) for row in connection.exec_driver_sql(_FIELDS)]
    _check_columns(fields, "ALTER TABLE stock_data")
    _check_types(connection, [field for field in fields if field.name in STOCK_DATA.columns])
    for field in fields:
        written = field.name in {"date", "symbol", *BAR_COLUMNS}
        if not written and (field.required or (field.not_null and field.name in METRIC_COLUMNS)):
            raise _refuse(
                f"has a column {field.name} that may not be NULL",
                f"ALTER TABLE stock_data ALTER COLUMN {field.name} DROP NOT NULL",
            )
    if not connection.exec_driver_sql(_KEY).scalar_one():
        _refuse_duplicates(connection, "date")
        raise _refuse("has no UNIQUE (symbol, date)", "ALTER TABLE stock_data ADD UNIQUE (symbol, date)")


def _check_types(connection: Connection, fields: Iterable[_Field]) -> None:
    """Refuse columns of other types by one statement that changes them all."""
    wrong, casts = [], {}
    for field in fields:
        valid, to, cast = _postgresql_type(connection, field)
        if valid:
            continue
        wrong.append(f"{field.name} is {field.type.upper()}")
        if not cast:
            problem = f"has columns of other types ({', '.join(wrong)})"
            raise _refuse(problem, "ALTER TABLE stock_data RENAME TO stock_data_before")
        casts[field.name] = to, cast, field.type
    if not casts:
        return
    for name, (to, cast, stored) in casts.items():
        _refuse_unreadable(connection, name, to, cast, stored)
    if "date" in casts:
        _refuse_duplicates(connection, casts["date"][1])
    changes = ", ".join(f"ALTER COLUMN {name} TYPE {to} USING {cast}" for name, (to, cast, _) in casts.items())
    raise _refuse(f"has columns of other types ({', '.join(wrong)})", f"ALTER TABLE stock_data {changes}")


def _postgresql_type(connection: Connection, field: _Field) -> tuple[bool, str, str | None]:
    """Return whether a column's type can be used; if not, the type it needs, and its values as that type.

    Prices need exact decimals: DOUBLE PRECISION loses digits on the way to ``bar_revisions``, and NUMERIC with a scale
    rounds what was received.
    """
    name, base = field.name, field.type.partition("(")[0]
    if name == "date":
        if base.startswith("timestamp"):
            return field.type.endswith("without time zone"), "TIMESTAMP", _at_zone(connection, "date")
        if base in ("date", *TEXTS):
            return False, "TIMESTAMP", "date::timestamp"
        return False, "TIMESTAMP", _from_number(connection) if base in (*COUNTS, *REALS) else None
    if name == "symbol":
        length = field.type.partition("(")[2].rstrip(")")
        valid = base == "text" or (base == "character varying" and (not length or int(length) >= SYMBOL_LENGTH))
        return valid, "TEXT", "symbol::text"
    readable = base in (*TEXTS, *COUNTS, *REALS, "money")
    if name == "volume":
        return field.type == "bigint", "BIGINT", "round(volume::numeric)::bigint" if readable else None
    return field.type == "numeric", "NUMERIC", f"{name}::numeric" if readable else None


def _from_number(connection: Connection) -> str:
    """The moments of dates that are numbers: 20130301, or seconds or milliseconds since 1970."""
    low, high = connection.exec_driver_sql("SELECT min(date), max(date) FROM stock_data").one()
    if low is not None and low >= 19000101 and high <= 20991231:
        return "to_date(date::text, 'YYYYMMDD')::timestamp"
    divisor = " / 1000.0" if high is not None and abs(high) > 1e11 else ""
    return _at_zone(connection, f"to_timestamp(date{divisor})")


def _at_zone(connection: Connection, moment: str) -> str:
    """The moments in the zone in which most of them are on a session of the exchange."""
    server = connection.exec_driver_sql("SELECT current_setting('TimeZone')").scalar_one()
    best, fewest = "UTC", None
    for zone in dict.fromkeys(("UTC", "America/New_York", server)):
        local = f"({moment} AT TIME ZONE '{zone}')"
        query = f"SELECT {local}::date, count(*) FROM stock_data WHERE isfinite({local}) GROUP BY 1"
        days = {day: count for day, count in connection.exec_driver_sql(query) if isinstance(day, date)}
        sessions = _sessions(min(days, default=LATEST), LATEST)
        outside = sum(count for day, count in days.items() if day not in sessions)
        if fewest is None or outside < fewest:
            best, fewest = zone, outside
    return f"{moment} AT TIME ZONE '{best}'"


def _refuse_unreadable(connection: Connection, name: str, to: str, cast: str, stored: str) -> None:
    """Refuse a column with values that the cast cannot read, by the query that shows them."""
    savepoint = connection.begin_nested()
    try:
        connection.exec_driver_sql(f"SELECT count({cast}) FROM stock_data")
    except DBAPIError:
        savepoint.rollback()
    else:
        savepoint.rollback()
        return
    version = connection.dialect.server_version_info or (0,)
    if not stored.startswith(TEXTS):
        bad = f"NOT abs({name}::numeric) < 9223372036854775807"
    elif version >= (16,):
        bad = f"NOT pg_input_is_valid({name}::text, '{'timestamp' if to == 'TIMESTAMP' else 'numeric'}')"
    else:
        date_like, number_like = r"^\s*\d{4}-?\d\d-?\d\d([ T].*)?$", r"^\s*[-+]?\d+(\.\d*)?([eE][-+]?\d+)?\s*$"
        bad = f"{name} !~ '{date_like if to == 'TIMESTAMP' else number_like}'"
    raise DataError(
        f"the existing table stock_data has values of {name} ({stored.upper()}) that are no {to}:"
        f" correct or remove them; they are shown by: SELECT * FROM stock_data WHERE {bad}"
    )


# SQLite: types by value

# Any text that starts with an ISO date can be brought to one spelling, which is what the key compares.
_IS_DATE = (
    "(typeof(date) = 'text' AND date(substr(date, 1, 10), '+0 days') IS substr(date, 1, 10)"  # not February 30th
    " AND (length(date) = 10 OR substr(date, 11, 1) IN (' ', 'T')))"
)
_DIGITS = "CAST(date AS TEXT) GLOB '[12][0-9][0-9][0-9][01][0-9][0-3][0-9]'"
_READ_DATE = (
    f"CASE WHEN {_DIGITS} THEN substr(date, 1, 4) || '-' || substr(date, 5, 2) || '-' || substr(date, 7, 2)"
    " WHEN date GLOB '[01][0-9]/[0-3][0-9]/[12][0-9][0-9][0-9]'"
    " THEN substr(date, 7, 4) || '-' || substr(date, 1, 2) || '-' || substr(date, 4, 2)"
    " WHEN typeof(date) = 'real' AND date BETWEEN 2000000 AND 3000000 THEN datetime(date)"
    " WHEN typeof(date) IN ('integer', 'real') AND abs(date) > 100000000000 THEN datetime(date / 1000, 'unixepoch')"
    " WHEN typeof(date) IN ('integer', 'real') THEN datetime(date, 'unixepoch') END"
)


def _check_sqlite(connection: Connection) -> None:
    kind, source = connection.exec_driver_sql("SELECT type, sql FROM sqlite_master WHERE name = 'stock_data'").one()
    if kind == "view":
        raise _refuse(f"is a view ({' '.join(str(source).split())})", "DROP VIEW stock_data")
    fields = [
        _Field(name, kind.upper(), bool(not_null), bool(not_null) and default is None and not key)
        for _, name, kind, not_null, default, key in connection.exec_driver_sql("PRAGMA table_info(stock_data)")
    ]
    _check_columns(fields, "ALTER TABLE stock_data")
    for field in fields:
        written = field.name in {"date", "symbol", *BAR_COLUMNS}
        if not written and (field.required or (field.not_null and field.name in METRIC_COLUMNS)):
            rename = "ALTER TABLE stock_data RENAME TO stock_data_before"
            raise _refuse(f"has a column {field.name} that may not be NULL", rename)
    _check_dates(connection)
    _check_numbers(connection, fields)
    if not _has_sqlite_key(connection):
        _refuse_duplicates(connection, "date")
        create = "CREATE UNIQUE INDEX stock_data_symbol_date ON stock_data (symbol, date)"
        raise _refuse("has no UNIQUE (symbol, date)", create)


def _has_sqlite_key(connection: Connection) -> bool:
    for row in connection.exec_driver_sql("PRAGMA index_list(stock_data)").mappings().all():
        columns = connection.exec_driver_sql(f'PRAGMA index_info("{row["name"]}")').mappings()
        if row["unique"] and not row["partial"] and sorted(str(each["name"]) for each in columns) == ["date", "symbol"]:
            return True
    return False


def _check_dates(connection: Connection) -> None:
    bad = f"date IS NOT NULL AND NOT {_IS_DATE}"
    query = f"SELECT count(*), max({_READ_DATE} IS NULL), min(date) FROM stock_data WHERE {bad}"
    count, unreadable, example = connection.exec_driver_sql(query).one()
    if not count:
        return
    problem = f"has {count} dates that are not text such as 2013-03-01 00:00:00 (one is {example!r})"
    if unreadable:
        none = f"date IS NOT NULL AND NOT {_IS_DATE} AND {_READ_DATE} IS NULL"
        raise DataError(
            f"the existing table stock_data {problem}: correct them, or remove those that cannot be read;"
            f" they are shown by: SELECT * FROM stock_data WHERE {none}; run: DELETE FROM stock_data WHERE {none}"
        )
    _refuse_duplicates(connection, f"CASE WHEN {bad} THEN {_READ_DATE} ELSE date END")
    raise _refuse(problem, f"UPDATE stock_data SET date = {_READ_DATE} WHERE NOT {_IS_DATE}")


def _check_numbers(connection: Connection, fields: Iterable[_Field]) -> None:
    """Refuse columns that turn numbers into text, and metrics that are text."""
    for name, kind in ((field.name, field.type) for field in fields):
        if name not in (*NUMBERS, "volume"):
            continue
        if "INT" not in kind and any(word in kind for word in ("CHAR", "CLOB", "TEXT")):
            right = STOCK_DATA.c[name].type
            raise _refuse(
                f"has columns of other types ({name} is {kind})",
                f"ALTER TABLE stock_data RENAME COLUMN {name} TO {name}_before;"
                f" ALTER TABLE stock_data ADD COLUMN {name} {right}; UPDATE stock_data SET {name} = {name}_before;"
                f" ALTER TABLE stock_data DROP COLUMN {name}_before",
            )
        is_text = f"typeof({name}) IN ('text', 'blob')"
        found = f"SELECT count(*) FROM stock_data WHERE {is_text}"
        if name in METRIC_COLUMNS and (count := connection.exec_driver_sql(found).scalar_one()):
            clear = f"UPDATE stock_data SET {name} = NULL WHERE {is_text}"
            raise _refuse(f"has {count} values of {name} that are no numbers", clear)


def _refuse_duplicates(connection: Connection, moment: str) -> None:
    """Refuse a table in which rows would have the same symbol and date, by the query that shows them."""
    query = f"SELECT symbol, {moment} AS date, count(*) FROM stock_data GROUP BY 1, 2 HAVING count(*) > 1"
    found = connection.exec_driver_sql(f"{query} ORDER BY 1, 2").fetchmany(NAMED + 1)
    found = [row for row in found if row[0] is not None and row[1] is not None]
    if found:
        shown = ", ".join(f"{symbol} at {moment}" for symbol, moment, _ in found[:NAMED])
        shown += " and more" if len(found) > NAMED else ""
        raise DataError(
            f"the existing table stock_data has several rows of one symbol and date ({shown}): keep one of each;"
            f" they are shown by: {query}"
        )


# Rows that cannot be true


def adopt_rows(connection: Connection) -> list[str]:
    """Move rows that cannot be true to ``rejected_bars``, and set every date to midnight of its session.

    Of several rows of one symbol and session the one at midnight stays, or else the earliest. Rows that stay keep their
    values, except the metrics that were computed from a row that was moved.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Of a table that has passed :func:`check_shape`.

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
        first = "SELECT symbol, CAST(session AS VARCHAR(40)), reason FROM impossible ORDER BY symbol, session LIMIT 1"
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
    known = f"date >= '{EARLIEST}' AND date <= '{LATEST}'"
    first = connection.exec_driver_sql(f"SELECT min(date) FROM stock_data WHERE {known}").scalar()
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
