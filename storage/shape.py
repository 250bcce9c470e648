"""Refuse an existing ``stock_data`` whose types or key cannot be used.

A refusal changes nothing. It names the statement that mends the table: one that converts it where its types are common
ones, else one that renames it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from domain.errors import DataError
from domain.models import BAR_COLUMNS, METRIC_COLUMNS, PRICE_COLUMNS, SYMBOL_LENGTH
from storage.refusals import one_line_message, server_error_fields
from storage.schema import STOCK_DATA

NUMBERS = [*PRICE_COLUMNS, "volume", *METRIC_COLUMNS]
NAMED = 3  # duplicates in a message
RENAME = "ALTER TABLE stock_data RENAME TO stock_data_before"
TEXTS = ("text", "character", "character varying")
COUNTS = ("smallint", "integer", "bigint")
REALS = ("numeric", "double precision", "real")


def check_shape(connection: Connection) -> None:
    """Check that ``stock_data`` is a table with the types and the key that every statement relies on.

    Raises
    ------
    DataError
        Of one line; it ends with the statement that mends the table, or the query that shows what is wrong.
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


def _check_columns(fields: Sequence[_Field], relax: str) -> None:
    """Refuse columns that are missing, or that may not be NULL although a row of ours can leave them so."""
    present = {field.name for field in fields}
    lacking = [column for column in STOCK_DATA.columns if column.name not in present]
    if lacking:
        statements = [f"ALTER TABLE stock_data ADD COLUMN {column.name} {column.type}" for column in lacking]
        statement = "; ".join(statements) if {"date", "symbol"} <= present else RENAME
        raise _refuse(f"has no column {', '.join(column.name for column in lacking)}", statement)
    for field in fields:
        if field.name not in BAR_COLUMNS and (field.required or (field.not_null and field.name in METRIC_COLUMNS)):
            raise _refuse(f"has a column {field.name} that may not be NULL", relax.format(field.name))


def _refuse_duplicates(connection: Connection, moment: str = "date") -> None:
    """Refuse a table in which rows would have the same symbol and date, by the query that shows them."""
    query = (
        f"SELECT symbol, {moment} AS date, count(*) FROM stock_data"
        f" WHERE symbol IS NOT NULL AND {moment} IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1"
    )
    found = connection.exec_driver_sql(f"{query} ORDER BY 1, 2").fetchmany(NAMED + 1)
    if found:
        shown = ", ".join(f"{symbol} at {moment}" for symbol, moment, _ in found[:NAMED])
        shown += " and more" if len(found) > NAMED else ""
        raise DataError(
            f"the existing table stock_data has several rows of one symbol and date ({shown}): keep one of each;"
            f" they are shown by: {query}"
        )


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
    kind = connection.exec_driver_sql("SELECT relkind::text FROM pg_class WHERE oid = to_regclass('stock_data')")
    if shown := _VIEWS.get(kind.scalar_one()):
        raise _refuse(f"is a {shown.lower()}", RENAME.replace("TABLE", shown, 1))
    fields = [_Field(*row) for row in connection.exec_driver_sql(_FIELDS)]
    _check_columns(fields, "ALTER TABLE stock_data ALTER COLUMN {} DROP NOT NULL")
    _check_types(connection, [field for field in fields if field.name in STOCK_DATA.columns])
    if not connection.exec_driver_sql(_KEY).scalar_one():
        _refuse_duplicates(connection)
        raise _refuse("has no UNIQUE (symbol, date)", "ALTER TABLE stock_data ADD UNIQUE (symbol, date)")


def _check_types(connection: Connection, fields: Sequence[_Field]) -> None:
    """Refuse columns of other types, by one statement that changes them all."""
    wrong = [field for field in fields if not _is_valid(field)]
    if not wrong:
        return
    types = ", ".join(f"{field.name} is {field.type.upper()}" for field in wrong)
    problem = f"has columns of other types ({types})"
    try:
        with connection.begin_nested():
            found = [(field.name, _cast(connection, field)) for field in wrong]
            casts = {name: cast for name, cast in found if cast}
            counts = ", ".join(f"count({cast})" for _, cast in casts.values())
            connection.exec_driver_sql(f"SELECT {counts} FROM stock_data")
    except DBAPIError as error:
        if not server_error_fields(error.orig).get("C", "").startswith("22"):  # data exception
            raise
        raise DataError(
            f"the existing table stock_data has columns of other types ({types}) and values that cannot be read:"
            f" correct or remove them ({one_line_message(error.orig)})"
        ) from None
    if len(casts) < len(found):
        raise _refuse(problem, RENAME)
    if "date" in casts:
        _refuse_duplicates(connection, casts["date"][1])
    changes = ", ".join(f"ALTER COLUMN {name} TYPE {to} USING {cast}" for name, (to, cast) in casts.items())
    raise _refuse(problem, f"ALTER TABLE stock_data {changes}")


def _is_valid(field: _Field) -> bool:
    """Return whether a column's type can be used.

    Prices need exact decimals: DOUBLE PRECISION loses digits on the way to ``bar_revisions``, and NUMERIC with a scale
    rounds what was received.
    """
    base, _, length = field.type.partition("(")
    if field.name == "date":
        return field.type.startswith("timestamp") and field.type.endswith("without time zone")
    if field.name == "symbol":
        return base == "text" or (base == "character varying" and (not length or int(length[:-1]) >= SYMBOL_LENGTH))
    return field.type == ("bigint" if field.name == "volume" else "numeric")


def _cast(connection: Connection, field: _Field) -> tuple[str, str] | None:
    """Return the type that a column needs and its values as that type; None if they may mean anything."""
    name, base = field.name, field.type.partition("(")[0]
    if name == "symbol":
        return "TEXT", "symbol::text"
    if name == "date":
        if base in ("date", *TEXTS):
            return "TIMESTAMP", "date::timestamp"
        if base in COUNTS:
            return "TIMESTAMP", _moment_of_number(connection)
        return ("TIMESTAMP", _at_zone(connection, "date")) if base.startswith("timestamp") else None
    if base not in (*TEXTS, *COUNTS, *REALS):
        return None
    return ("BIGINT", "round(volume::numeric)::bigint") if name == "volume" else ("NUMERIC", f"{name}::numeric")


def _moment_of_number(connection: Connection) -> str:
    """The moments of dates that are numbers: 20130301, or seconds or milliseconds since 1970."""
    highest = connection.exec_driver_sql("SELECT max(date) FROM stock_data").scalar()
    if highest is None or highest < 100_000_000:
        return "to_date(date::text, 'YYYYMMDD')::timestamp"
    return _at_zone(connection, f"to_timestamp(date{' / 1000.0' if highest > 100_000_000_000 else ''})")


def _at_zone(connection: Connection, moment: str) -> str:
    """The moments in the zone in which the fewest of them are on a weekend; first in UTC."""
    query = (
        "SELECT name FROM (VALUES (1, 'UTC'), (2, 'America/New_York'), (3, current_setting('TimeZone'))) AS z (n, name)"
        f" ORDER BY (SELECT count(*) FROM stock_data WHERE extract(isodow FROM {moment} AT TIME ZONE name) > 5), n"
        " LIMIT 1"
    )
    return f"{moment} AT TIME ZONE '{connection.exec_driver_sql(query).scalar_one()}'"


# SQLite: types by value

# Any text that starts with an ISO date can be brought to one spelling, which is what the key compares.
_IS_DATE = (
    "(typeof(date) = 'text' AND date(substr(date, 1, 10), '+0 days') IS substr(date, 1, 10)"  # not February 30th
    " AND (length(date) = 10 OR substr(date, 11, 1) IN (' ', 'T')))"
)
_BAD_DATE = f"date IS NOT NULL AND NOT {_IS_DATE}"
_READ_DATE = (
    "CASE WHEN CAST(CAST(date AS INTEGER) AS TEXT) <> CAST(date AS TEXT) THEN NULL"
    " WHEN date + 0 BETWEEN 19000101 AND 20991231"
    " THEN date(substr(date, 1, 4) || '-' || substr(date, 5, 2) || '-' || substr(date, 7, 2))"
    " ELSE datetime(CASE WHEN abs(date) > 100000000000 THEN date / 1000 ELSE date END, 'unixepoch') END"
)


def _check_sqlite(connection: Connection) -> None:
    kind, source = connection.exec_driver_sql("SELECT type, sql FROM sqlite_master WHERE name = 'stock_data'").one()
    if kind == "view":
        raise _refuse(f"is a view ({' '.join(str(source).split())})", "DROP VIEW stock_data")
    fields = [
        _Field(name, kind.upper(), bool(not_null), bool(not_null) and default is None and not key)
        for _, name, kind, not_null, default, key in connection.exec_driver_sql("PRAGMA table_info(stock_data)")
    ]
    _check_columns(fields, RENAME)
    _check_dates(connection)
    for name, kind in ((field.name, field.type) for field in fields if field.name in NUMBERS):
        if "INT" not in kind and any(word in kind for word in ("CHAR", "CLOB", "TEXT")):  # turns numbers into text
            raise _refuse(f"has columns of other types ({name} is {kind})", RENAME)
    for name in METRIC_COLUMNS:
        is_text = f"typeof({name}) IN ('text', 'blob')"
        if connection.exec_driver_sql(f"SELECT count(*) FROM stock_data WHERE {is_text}").scalar_one():
            clear = f"UPDATE stock_data SET {name} = NULL WHERE {is_text}"
            raise _refuse(f"has values of {name} that are no numbers", clear)
    if not _has_sqlite_key(connection):
        _refuse_duplicates(connection)
        create = "CREATE UNIQUE INDEX stock_data_symbol_date ON stock_data (symbol, date)"
        raise _refuse("has no UNIQUE (symbol, date)", create)


def _check_dates(connection: Connection) -> None:
    query = f"SELECT count(*), max({_READ_DATE} IS NULL), min(date) FROM stock_data WHERE {_BAD_DATE}"
    count, unreadable, example = connection.exec_driver_sql(query).one()
    if not count:
        return
    if unreadable:
        raise DataError(
            f"the existing table stock_data has {count} dates that are not text such as 2013-03-01 00:00:00 (one is"
            f" {example!r}): correct or remove those that cannot be read; they are shown by: SELECT * FROM stock_data"
            f" WHERE {_BAD_DATE} AND {_READ_DATE} IS NULL"
        )
    _refuse_duplicates(connection, f"CASE WHEN {_BAD_DATE} THEN {_READ_DATE} ELSE date END")
    problem = f"has {count} dates that are not text such as 2013-03-01 00:00:00 (one is {example!r})"
    raise _refuse(problem, f"UPDATE stock_data SET date = {_READ_DATE} WHERE {_BAD_DATE}")


def _has_sqlite_key(connection: Connection) -> bool:
    for row in connection.exec_driver_sql("PRAGMA index_list(stock_data)").mappings().all():
        columns = connection.exec_driver_sql(f'PRAGMA index_info("{row["name"]}")').mappings()
        if row["unique"] and not row["partial"] and sorted(str(each["name"]) for each in columns) == ["date", "symbol"]:
            return True
    return False
