"""Find out whether a run may write, by writing in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from storage.migration import StoredColumns, is_earlier, stored_columns
from storage.refusals import UNWRITABLE, one_line_message, server_error_fields
from storage.schema import METADATA

PROBE = "stock_tracker_doctor"  # a table that no commit ever contains
NO_RIGHT, READ_ONLY = ("42501", "3F000"), "25006"  # SQLSTATE; a schema without the right to use it is none
READ_ONLY_CURE = (
    "connect to the server that can be written, or set default_transaction_read_only of the role or the database to off"
)


class Refusal(NamedTuple):
    """What the database said, and what to do."""

    message: str
    cure: str


def try_to_write(connection: Connection) -> Refusal | None:
    """Make a table, and write no rows to those that are there; return the refusal, if any.

    Rights are checked also where no row matches, and no row is locked. Whoever calls it need not roll back.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside a transaction.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        If something else than a right is missing.
    """
    columns = stored_columns(connection)
    try:
        with connection.begin_nested() as savepoint:
            for statement in _statements(columns, connection.dialect.name):
                connection.exec_driver_sql(statement)
            savepoint.rollback()
    except DBAPIError as error:
        if cure := _cure(connection, error):
            return Refusal(one_line_message(error.orig), cure)
        raise
    return None


def _statements(columns: StoredColumns, dialect: str) -> Iterator[str]:
    yield f"CREATE TEMPORARY TABLE {PROBE} (n INTEGER)"
    yield f"DROP TABLE {PROBE}"
    if columns.keys() < METADATA.tables.keys():
        yield f"CREATE TABLE {PROBE} (n INTEGER)"
        yield f"INSERT INTO {PROBE} VALUES (1)"
    for table, present in columns.items():
        names = ", ".join(sorted(present))
        yield f"INSERT INTO {table} ({names}) SELECT {names} FROM {table} WHERE 1 = 0"
        yield f"UPDATE {table} SET {min(present)} = {min(present)} WHERE 1 = 0"
        yield f"DELETE FROM {table} WHERE 1 = 0"
        if is_earlier(columns) and dialect == "postgresql":
            yield f"COMMENT ON TABLE {table} IS NULL"  # only its owner may, as with the columns that a run will add


def _cure(connection: Connection, error: DBAPIError) -> str | None:
    code = server_error_fields(error.orig).get("C")
    if code == READ_ONLY:
        return READ_ONLY_CURE
    if code in NO_RIGHT:
        quote = connection.dialect.identifier_preparer.quote
        found = connection.exec_driver_sql("SELECT current_user, current_database(), current_schema()").one()
        user, database, schema = (quote(name or "public") for name in found)
        if "owner" in one_line_message(error.orig):
            return f"let the owner of the tables run the next job, or run as the owner: REASSIGN OWNED BY … TO {user}"
        return (
            f"as its owner, run: GRANT TEMPORARY ON DATABASE {database} TO {user};"
            f" GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user}"
        )
    if str(getattr(error.orig, "sqlite_errorname", "")).startswith(UNWRITABLE):
        return "give yourself the right to write to the file and to its folder"
    return None
