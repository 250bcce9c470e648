"""Bring a database to the tables of this version, be it empty, with a ``stock_data``, or of an earlier version.

All of it is part of the first run's transaction, so that an interruption leaves what was there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Column, Connection, MetaData, func, insert, inspect, select, text

from domain.errors import DataError
from storage.engine import database_time
from storage.known_at import create_known_at
from storage.schema import ADOPTION, COVERAGE, JOB_RUNS, LOADS, METADATA, SENT_REPORTS, STOCK_DATA
from storage.shape import check_shape

StoredColumns = Mapping[str, frozenset[str]]
SchemaState = Literal["none", "current", "earlier", "adoptable"]

# What the earlier version lacks, with values for its rows. What it covered counts as read when the last covered session
# was published: the sessions just before that are provisional, all earlier ones settled.
_LAST_COVERED = "(SELECT max(last_session) FROM {schema}coverage)"
_ADDED: dict[str, dict[str, str]] = {
    COVERAGE.name: {"seen_to": _LAST_COVERED, "oldest_reading": _LAST_COVERED},
    JOB_RUNS.name: {"corrected": "0", "withdrawn": "0", "seen_to": _LAST_COVERED, "history_days": "NULL"}
    | dict.fromkeys(("place", "held_from", "held_to", "leased_until"), "NULL"),
    SENT_REPORTS.name: {"symbols": "''", "undelivered": "NULL"},
}

_POSTGRESQL_COLUMNS = """
SELECT relname, string_agg(attname, chr(10)) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE attnum > 0 AND NOT attisdropped
    AND pg_class.oid IN (SELECT to_regclass(name) FROM unnest(CAST(:names AS text[])) AS name)
GROUP BY relname
"""
_SQLITE_COLUMNS = """
SELECT found.name, group_concat(fields.name, char(10))
FROM sqlite_master AS found JOIN pragma_table_info(found.name) AS fields
WHERE found.type IN ('table', 'view') GROUP BY found.name
"""


def stored_columns(connection: Connection) -> StoredColumns:
    """Return the columns of each of our tables that is there, by one query."""
    if connection.dialect.name == "postgresql":
        rows = connection.execute(text(_POSTGRESQL_COLUMNS), {"names": list(METADATA.tables)})
    else:
        rows = connection.execute(text(_SQLITE_COLUMNS))
    return {table: frozenset(names.split("\n")) for table, names in rows if table in METADATA.tables}


def is_current(columns: StoredColumns) -> bool:
    """Return whether all tables have all columns of this version."""
    return all(set(table.columns.keys()) <= columns.get(name, set()) for name, table in METADATA.tables.items())


def is_earlier(columns: StoredColumns) -> bool:
    """Return whether the tables are those of the earlier version, in whole or in part."""
    known = set(COVERAGE.columns.keys()) - _ADDED[COVERAGE.name].keys()
    return known <= columns.get(COVERAGE.name, set()) and STOCK_DATA.name in columns and not is_current(columns)


def schema_state(connection: Connection) -> SchemaState:
    """Return what the next run finds: no tables, this version, an earlier one, or a ``stock_data`` to adopt.

    Raises
    ------
    DataError
        As :func:`ensure_schema`, which would refuse as well.
    """
    columns = stored_columns(connection)
    _check_other_tables(columns)
    if STOCK_DATA.name in columns and COVERAGE.name not in columns:
        check_shape(connection)
        return "adoptable"
    if is_current(columns):
        return "current"
    return "earlier" if columns else "none"


def ensure_schema(connection: Connection) -> list[str]:
    """Create the tables that are absent, adopt an existing ``stock_data``, and bring up those of the earlier version.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside a transaction that holds the write lock, so that two first runs do not create at once.

    Returns
    -------
    list of str
        Warnings: what of an existing ``stock_data`` could not be true.

    Raises
    ------
    DataError
        If an existing table cannot be used as it is; it names the statement that changes that. Nothing was changed.
    """
    columns = stored_columns(connection)
    adopts = STOCK_DATA.name in columns and COVERAGE.name not in columns
    upgrades = is_earlier(columns) and not _ADDED[COVERAGE.name].keys() <= columns[COVERAGE.name]
    _check_other_tables(columns)
    if adopts:
        check_shape(connection)
    for table, added in _ADDED.items():
        if table in columns:
            _add_columns(connection, table, {name: added[name] for name in added if name not in columns[table]})
    if "symbols" not in columns.get(SENT_REPORTS.name, {"symbols"}):
        _key_reports_by_symbols(connection)
    absent = [table for table in METADATA.sorted_tables if table.name not in columns]
    METADATA.create_all(connection, tables=absent, checkfirst=False)
    create_known_at(connection)
    warnings: list[str] = []
    if adopts:
        from storage.adoption import adopt_rows  # needs pandas, which the checks above do not wait for

        warnings = adopt_rows(connection)
    if adopts or upgrades:
        _record_adoption(connection)
    return warnings


def _check_other_tables(columns: StoredColumns) -> None:
    """Refuse a table of somebody else that has the name of one of ours."""
    for name, present in columns.items():
        lacking = set(METADATA.tables[name].columns.keys()) - present - _ADDED.get(name, {}).keys()
        if lacking and name != STOCK_DATA.name:
            raise DataError(
                f"the existing table {name} has no column {', '.join(sorted(lacking))};"
                f" run: ALTER TABLE {name} RENAME TO {name}_before"
            )


def _add_columns(connection: Connection, table: str, values: Mapping[str, str]) -> None:
    """Add columns to a table, with a value for the rows that are there."""
    for name, value in values.items():
        column = METADATA.tables[table].columns[name]
        default = "'1970-01-01'" if "coverage" in value else value
        constraint = "" if column.nullable else f" NOT NULL DEFAULT {default}"
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {name} {_type_of(connection, column)}{constraint}")
        if default != value:
            connection.exec_driver_sql(f"UPDATE {table} SET {name} = {value.format(schema='')}")
        if constraint and connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT")


def _key_reports_by_symbols(connection: Connection) -> None:
    """Extend the primary key of ``sent_reports``, which was the week alone.

    Of a report that was claimed and not confirmed, nobody is known to have it.
    """
    name = SENT_REPORTS.name
    if connection.dialect.name == "postgresql":
        key = inspect(connection).get_pk_constraint(name)["name"]
        connection.exec_driver_sql(f'ALTER TABLE {name} DROP CONSTRAINT "{key}", ADD PRIMARY KEY (week, symbols)')
    else:  # SQLite cannot change a key
        table = SENT_REPORTS.to_metadata(MetaData(), name=f"{name}_with_symbols")
        table.create(connection)
        connection.execute(insert(table).from_select(SENT_REPORTS.columns.keys(), select(SENT_REPORTS)))
        SENT_REPORTS.drop(connection)
        connection.exec_driver_sql(f"ALTER TABLE {table.name} RENAME TO {name}")
    connection.exec_driver_sql(f"UPDATE {name} SET recipients = '' WHERE status = 'claimed'")


def _type_of(connection: Connection, column: Column[Any]) -> str:
    return str(column.type.compile(connection.dialect))


def _record_adoption(connection: Connection) -> None:
    """Record that all rows that are there were known before any run."""
    first, last = connection.execute(select(func.min(STOCK_DATA.c.date), func.max(STOCK_DATA.c.date))).one()
    if isinstance(first, datetime):
        pairs = [{"symbols": ["*"], "first": str(first.date()), "last": str(last.date())}]
        values = {"run_id": ADOPTION, "loaded_at": database_time(connection), "pairs": json.dumps(pairs)}
        connection.execute(insert(LOADS).values(**values))


@contextmanager
def shown_as_current(connection: Connection, columns: StoredColumns) -> Iterator[None]:
    """Show the tables of the earlier version as those of this one, for the time of a block, by temporary views.

    Nothing that is stored is touched or locked, so that a dry run works without the right to change tables.
    """
    schema = "main."
    if connection.dialect.name == "postgresql":
        found = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('coverage')"
        schema = f"{connection.exec_driver_sql(found).scalar_one()}."
    with connection.begin_nested() as savepoint:
        for name, table in METADATA.tables.items():
            lacking = [column for column in table.columns if column.name not in columns.get(name, ())]
            if not lacking:
                continue
            values = _ADDED.get(name, {})
            shown = [
                _as_shown(connection, column, values.get(column.name, "NULL").format(schema=schema))
                if column in lacking
                else column.name
                for column in table.columns
            ]
            source = f"FROM {schema}{name}" if name in columns else "WHERE 1 = 0"
            connection.exec_driver_sql(f"CREATE TEMPORARY VIEW {name} AS SELECT {', '.join(shown)} {source}")
        yield
        savepoint.rollback()


def _as_shown(connection: Connection, column: Column[Any], value: str) -> str:
    if connection.dialect.name == "postgresql":
        value = f"CAST({value} AS {_type_of(connection, column)})"
    return f"{value} AS {column.name}"
