"""Frames into tables: temporary ones that carry a question or a load, and the insertion of many rows at once.

What comes in: a frame, and the columns that its table has. What goes out: rows, by COPY on PostgreSQL and by one
prepared statement on SQLite. Nothing here knows what the rows mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Column, Connection

COPY_ROWS = 1_024  # in one message of COPY, about 90 KB


def stage(connection: Connection, name: str, columns: Mapping[str, Column[Any]], frame: pd.DataFrame) -> None:
    """Put a frame into a temporary table.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    name : str
        The temporary table; it must not exist, and ends with :func:`drop_stage` or with the transaction.
    columns : mapping of str to sqlalchemy.Column
        Its columns, each with the type of one that exists.
    frame : pandas.DataFrame
        Holds these columns; NaN is NULL.
    """
    if connection.dialect.name == "postgresql":
        source = next(iter(columns.values())).table
        types = ", ".join(f"{column.name} AS {alias}" for alias, column in columns.items())
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {types} FROM {source} WITH NO DATA"
        )
    else:
        # Not CREATE TABLE AS, which would lose NUMERIC's affinity: 130.0 would differ from the 130 that is stored.
        types = ", ".join(f"{alias} {column.type.compile(connection.dialect)}" for alias, column in columns.items())
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {name} ({types})")
    insert_frame(connection, name, columns, frame)


def drop_stage(connection: Connection, name: str) -> None:
    """Remove a temporary table made by :func:`stage`."""
    connection.exec_driver_sql(f"DROP TABLE {name}")


def insert_frame(connection: Connection, table: str, columns: Mapping[str, Column[Any]], frame: pd.DataFrame) -> None:
    """Insert a frame, of which no row may be there already: by COPY where the database has it.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    table : str
    columns : mapping of str to sqlalchemy.Column
        As :func:`stage` takes them.
    frame : pandas.DataFrame
        Holds these columns; NaN is NULL.
    """
    if connection.dialect.name == "postgresql":
        _copy(connection, table, list(columns), frame)
        return
    types = {alias: column.type.compile(connection.dialect) for alias, column in columns.items()}
    values = [_sqlite_values(frame[alias], declared) for alias, declared in types.items()]
    places = ", ".join("?" for _ in columns)
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"
    connection.exec_driver_sql(statement, list(zip(*values, strict=True)))


def _sqlite_values(column: pd.Series[Any], declared: str) -> list[Any]:
    if declared in ("TIMESTAMP", "DATE"):
        # Few different sessions, many rows: format each once.
        days, position = np.unique(column.to_numpy().astype("datetime64[D]"), return_inverse=True)
        midnight = " 00:00:00" if declared == "TIMESTAMP" else ""
        return list(np.array([f"{day}{midnight}" for day in days], dtype=object)[position])
    if column.dtype.kind == "f":
        values = column.to_numpy().astype(object)
        values[column.isna().to_numpy()] = None
        return list(values)
    return list(column.tolist())


def _copy(connection: Connection, table: str, columns: Sequence[str], frame: pd.DataFrame) -> None:
    """COPY a frame into a PostgreSQL table; Arrow writes the CSV, an order of magnitude faster than Python."""
    driver: Any = connection.connection.dbapi_connection
    lines = csv_pieces(frame[list(columns)])
    driver.cursor().execute(f"COPY {table} ({', '.join(columns)}) FROM STDIN WITH (FORMAT csv)", stream=lines)


def csv_pieces(frame: pd.DataFrame) -> Iterator[bytes]:
    """A frame as CSV in pieces: the server parses one while the next is written, and no piece is large."""
    import pyarrow as pa
    from pyarrow import csv

    options = csv.WriteOptions(include_header=False, batch_size=COPY_ROWS)
    for batch in pa.Table.from_pandas(frame, preserve_index=False).to_batches(COPY_ROWS):
        piece = pa.BufferOutputStream()
        csv.write_csv(batch, piece, options)
        yield piece.getvalue().to_pybytes()
