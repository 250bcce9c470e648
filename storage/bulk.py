"""Many rows at once: frames into tables, temporary tables, and frames out of queries.

PostgreSQL is loaded by COPY, and Arrow writes and reads the CSV in between, an order of magnitude faster than Python.
SQLite is loaded by prepared statements of many rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sqlalchemy import Column, Connection, text

from domain.errors import DataError
from storage.limits import Limits

pa.set_memory_pool(pa.system_memory_pool())  # it gives back what is no longer needed: a function has 256 MB

WHOLE = "()"  # GROUP BY () is one group
COPY_ROWS = 1_024  # per message of COPY, about 90 KB
SQLITE_ROWS = 100  # per statement: a quarter less time than a row at a time, and more rows gain nothing


@contextmanager
def temp_table(
    connection: Connection, name: str, columns: Mapping[str, Column[Any]], frame: pd.DataFrame
) -> Iterator[None]:
    """Put a frame into a temporary table for the time of a block.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Inside a transaction; if that fails, the table ends with it.
    name : str
        The temporary table; one that an earlier block of this name has left is replaced.
    columns : mapping of str to sqlalchemy.Column
        Its columns, each with the type of one that exists.
    frame : pandas.DataFrame
        Holds these columns; NaN is NULL.
    """
    if connection.dialect.name == "postgresql":
        source = next(iter(columns.values())).table
        types = ", ".join(f"{column.name} AS {alias}" for alias, column in columns.items())
        query = f"SELECT {types} FROM {source} WITH NO DATA"
        _copy(connection, name, list(columns), frame, after=_create_temporary(connection, name, query))
        yield
        return
    # CREATE TABLE AS would lose NUMERIC's affinity: 130.0 would differ from the 130 that is stored.
    types = ", ".join(f"{alias} {column.type.compile(connection.dialect)}" for alias, column in columns.items())
    connection.exec_driver_sql(f"CREATE TEMPORARY TABLE {name} ({types})")
    insert_frame(connection, name, columns, frame)
    yield
    connection.exec_driver_sql(f"DROP TABLE {name}")


@contextmanager
def temp_answer(connection: Connection, name: str, query: str) -> Iterator[None]:
    """Keep the answer to a query in a temporary table for the time of a block, as :func:`temp_table` does."""
    connection.exec_driver_sql("; ".join(_create_temporary(connection, name, query)))
    yield
    if connection.dialect.name != "postgresql":
        connection.exec_driver_sql(f"DROP TABLE {name}")


def _create_temporary(connection: Connection, name: str, query: str) -> list[str]:
    if connection.dialect.name != "postgresql":
        return [f"CREATE TEMPORARY TABLE {name} AS {query}"]
    # To drop it after the block would be a round trip of its own, and the end of the transaction does.
    return [f"DROP TABLE IF EXISTS pg_temp.{name}", f"CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS {query}"]


def insert_frame(connection: Connection, table: str, columns: Mapping[str, Column[Any]], frame: pd.DataFrame) -> None:
    """Insert a frame of rows that are not in the table yet.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    table : str
    columns : mapping of str to sqlalchemy.Column
        As :func:`temp_table` takes them.
    frame : pandas.DataFrame
        Holds these columns; NaN is NULL.
    """
    if connection.dialect.name == "postgresql":
        _copy(connection, table, list(columns), frame)
        return
    values = np.empty((len(frame), len(columns)), dtype=object)
    for place, (alias, column) in enumerate(columns.items()):
        values[:, place] = _sqlite_values(frame[alias], column.type.compile(connection.dialect))
    row = f"({', '.join('?' for _ in columns)})"
    driver: Any = connection.connection.dbapi_connection
    for start in range(0, len(values), SQLITE_ROWS):
        piece = values[start : start + SQLITE_ROWS]
        rows = ", ".join([row] * len(piece))
        driver.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES {rows}", piece.ravel().tolist())


def _sqlite_values(column: pd.Series[Any], declared: str) -> npt.NDArray[Any]:
    if declared == "TIMESTAMP":
        # Few different sessions, many rows: format each once.
        days, position = np.unique(column.to_numpy().astype("datetime64[D]"), return_inverse=True)
        return np.array([f"{day} 00:00:00" for day in days], dtype=object)[position]
    values = column.to_numpy(dtype=object)
    if column.dtype.kind == "f":
        values[column.isna().to_numpy()] = None
    return values


def _copy(
    connection: Connection, table: str, columns: Sequence[str], frame: pd.DataFrame, *, after: Sequence[str] = ()
) -> None:
    """Copy a frame into a table, in one message with the statements that come before."""
    driver: Any = connection.connection.dbapi_connection
    limits: Limits | None = connection.get_execution_options().get("limits")
    news = limits.news() if limits else None
    copy = f"COPY {table} ({', '.join(columns)}) FROM STDIN WITH (FORMAT csv)"
    driver.copy_in([*([news] if news else []), *after, copy], csv_pieces(frame, columns))


def csv_pieces(frame: pd.DataFrame, columns: Sequence[str]) -> Iterator[bytes]:
    """Yield columns of a frame as CSV in small pieces, so that the server parses one while the next is written."""
    from pyarrow import csv

    table = pa.table({name: pa.array(_dates_where_midnight(frame[name]), from_pandas=True) for name in columns})
    options = csv.WriteOptions(include_header=False, batch_size=COPY_ROWS)
    for batch in table.to_batches(COPY_ROWS):
        piece = pa.BufferOutputStream()
        csv.write_csv(batch, piece, options)
        yield piece.getvalue().to_pybytes()


def _dates_where_midnight(column: pd.Series[Any]) -> pd.Series[Any] | npt.NDArray[Any]:
    """Turn a column of midnights into dates, whose text is shorter and parsed sooner; return any other as it is."""
    if column.dtype.kind != "M":
        return column
    moments = column.to_numpy()
    days = moments.astype("datetime64[D]")
    return days if (days == moments).all() else moments


def read_frame(
    connection: Connection,
    query: str,
    names: Sequence[str],
    *,
    parameters: Mapping[str, Any] | None = None,
    piece: str = WHOLE,
) -> pd.DataFrame:
    """Read a query of (symbol, date, numbers…), each piece ordered by the first two; NULL is NaN.

    PostgreSQL joins the rows of a piece into one text of CSV. Row by row the driver takes twenty times as long, and
    COPY TO, which it reads a message per row, up to three times.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    query : str
        With ``:name`` for each parameter.
    names : sequence of str
        Its columns: symbol or place (an integer), date, and any that are numbers.
    parameters : mapping of str to object, optional
        Values to bind.
    piece : str
        What to GROUP BY in SQL, so that one piece of a large answer is held at a time; by default it is one piece.

    Returns
    -------
    pandas.DataFrame
        ``symbol`` (str) or ``place`` (int64), ``date`` (datetime64[s]), and the others as float64.
    """
    if connection.dialect.name != "postgresql":
        driver: Any = connection.connection.dbapi_connection  # SQLAlchemy would make an object of each row
        return frame_of(driver.execute(f"{query} ORDER BY 1, 2", parameters or {}).fetchall(), names)
    from pyarrow import csv

    numbers = [f"coalesce({name}\\:\\:text, '')" for name in names[2:]]
    by_symbol = names[0] == "symbol"
    line = " || ',' || ".join(["quote_ident(symbol)" if by_symbol else names[0], "date", *numbers])
    pieces = connection.execute(
        text(f"SELECT string_agg({line}, E'\\n') FROM ({query}) AS asked GROUP BY {piece}"),
        parameters,
        execution_options={"stream_results": piece != WHOLE, "max_row_buffer": 1},
    )
    types = {names[0]: pa.string() if by_symbol else pa.int64(), names[1]: pa.timestamp("s")}
    types |= dict.fromkeys(names[2:], pa.float64())
    try:
        parsed = [
            csv.read_csv(
                pa.BufferReader(content.encode()),
                csv.ReadOptions(column_names=list(names), use_threads=False),
                convert_options=csv.ConvertOptions(column_types=types, strings_can_be_null=False),
            ).sort_by([(name, "ascending") for name in names[:2]])
            for (content,) in pieces
            if content
        ]
    except pa.ArrowInvalid as error:
        raise DataError(f"stock_data holds a value that no run stores: {str(error).splitlines()[0]}") from None
    if not parsed:
        return frame_of([], names)
    table = pa.concat_tables(parsed)
    del parsed
    frame: pd.DataFrame = table.to_pandas(split_blocks=True, self_destruct=True)  # a column at a time, not two frames
    return frame


def frame_of(rows: Sequence[Any], names: Sequence[str]) -> pd.DataFrame:
    """Build the frame that :func:`read_frame` returns from rows of (symbol or place, date, numbers…)."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    first = pd.array(columns[0], dtype="str") if names[0] == "symbol" else np.array(columns[0], dtype=np.int64)
    frame: dict[str, Any] = {names[0]: first, names[1]: stamps(columns[1])}
    frame |= {name: np.array(values, dtype=np.float64) for name, values in zip(names[2:], columns[2:], strict=True)}
    return pd.DataFrame(frame)


def stamps(values: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    """Sessions from PostgreSQL's datetimes or from SQLite's text."""
    try:
        return np.array(values, dtype="datetime64[us]").astype("datetime64[s]")
    except (TypeError, ValueError) as error:
        raise DataError(f"stock_data holds a date that no run stores: {error}") from None
