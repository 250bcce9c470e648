"""Frames into tables and out of them: temporary tables that carry a question or a load, and many rows at once.

What comes in: a frame and the columns that its table has, or a query. What goes out: rows, by COPY on PostgreSQL and by
one prepared statement on SQLite; or a frame. Arrow writes and reads the text in between, an order of magnitude faster
than Python. Nothing here knows what the rows mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sqlalchemy import Column, Connection, text

pa.set_memory_pool(pa.system_memory_pool())  # which gives back what is no longer needed: a function has 256 MB

WHOLE = "()"  # GROUP BY () is one group
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
    from pyarrow import csv

    table = pa.table({name: pa.array(_dates_where_midnight(frame[name]), from_pandas=True) for name in frame.columns})
    options = csv.WriteOptions(include_header=False, batch_size=COPY_ROWS)
    for batch in table.to_batches(COPY_ROWS):
        piece = pa.BufferOutputStream()
        csv.write_csv(batch, piece, options)
        yield piece.getvalue().to_pybytes()


def _dates_where_midnight(column: pd.Series[Any]) -> pd.Series[Any] | npt.NDArray[Any]:
    """A column as it is, but midnights as dates, which are shorter and sooner parsed."""
    if column.dtype.kind != "M":
        return column
    moments = column.to_numpy()
    days = moments.astype("datetime64[D]")
    return days if (days == moments).all() else moments


def read_frame(connection: Connection, query: str, names: Sequence[str], *, piece: str = WHOLE) -> pd.DataFrame:
    """What a query of (symbol, date, numbers…) without parameters returns, each piece by symbol and date; NULL is NaN.

    On PostgreSQL it comes as CSV, since rows one by one cost the driver twenty times as long.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    query : str
    names : sequence of str
        Its columns: symbol, date, and any that are numbers.
    piece : str
        What to GROUP BY in SQL, so that a large answer comes in pieces, of which one is held at a time; by default it
        comes as one.

    Returns
    -------
    pandas.DataFrame
        ``symbol`` (str), ``date`` (datetime64[s]), and the others as float64.
    """
    if connection.dialect.name != "postgresql":
        return frame_of(connection.execute(text(f"{query} ORDER BY 1, 2")).all(), names)
    from pyarrow import csv

    numbers = [f"coalesce({name}::text, '')" for name in names[2:]]
    line = " || ',' || ".join(["quote_ident(symbol)", "date", *numbers])
    pieces = connection.exec_driver_sql(
        f"SELECT string_agg({line}, E'\\n') FROM ({query}) AS asked GROUP BY {piece}",
        execution_options={"stream_results": piece != WHOLE, "max_row_buffer": 1},
    )
    types = {names[0]: pa.string(), names[1]: pa.timestamp("s"), **dict.fromkeys(names[2:], pa.float64())}
    parsed = [
        csv.read_csv(
            pa.BufferReader(content.encode()),
            csv.ReadOptions(column_names=list(names), use_threads=False),
            convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        ).sort_by([(name, "ascending") for name in names[:2]])
        for (content,) in pieces
        if content
    ]
    if not parsed:
        return frame_of([], names)
    table = pa.concat_tables(parsed)
    del parsed
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)  # a column at a time, not two frames
    return frame


def frame_of(rows: Sequence[Any], names: Sequence[str]) -> pd.DataFrame:
    """Rows of (symbol, date, numbers…) as the frame that :func:`read_frame` returns."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    frame = {names[0]: pd.Series(columns[0], dtype="str"), names[1]: stamps(columns[1])}
    frame |= {name: np.array(values, dtype=np.float64) for name, values in zip(names[2:], columns[2:], strict=True)}
    return pd.DataFrame(frame)


def stamps(values: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    """Sessions from PostgreSQL's datetimes or from SQLite's text."""
    return np.array(values, dtype="datetime64[us]").astype("datetime64[s]")
