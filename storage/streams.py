"""Rows of ``stock_data`` as a stream of Arrow tables, so that memory stays small however many rows there are.

A price or metric is the text of a decimal, as PostgreSQL stores it. A number that SQLite holds in binary is the
shortest decimal that stands for it. Whoever needs doubles or decimals casts the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from sqlalchemy import Connection, Numeric

from domain.errors import DataError
from storage.schema import STOCK_DATA

NUMBERS = [column.name for column in STOCK_DATA.columns if isinstance(column.type, Numeric)]
COLUMN_TYPES = {"date": pa.timestamp("s"), "symbol": pa.string(), "volume": pa.int64()}
TEXT_SCHEMA = pa.schema([(column.name, COLUMN_TYPES.get(column.name, pa.string())) for column in STOCK_DATA.columns])
NO_NUMBERS = ["", "NaN", "Infinity", "-Infinity"]  # which only an adopted table can hold; SQLite has no NaN either

# A table of a stream: larger ones gain little time, and a process that holds three of them has to stay under 256 MB.
FETCHED_ROWS = 25_000
COPIED_BYTES = 1536 * 1024  # of CSV, about 16,000 rows


def copy_tables(connection: Connection, query: str) -> Iterator[pa.Table]:
    """Read a query of all columns of ``stock_data`` from PostgreSQL by COPY, in tables of about the same size.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        Its transaction has no time limit for a statement any more: whoever takes the tables may be slow.
    query : str
        Values stand in it as literals: COPY takes no parameters.

    Raises
    ------
    DataError
        If a value is none that a run stores.
    """
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    for content in _read_ahead(_copied(connection, query)):
        yield _parsed(content)


def _copied(connection: Connection, query: str) -> Iterator[bytes]:
    driver: Any = connection.connection.dbapi_connection
    pieces, size = [], 0
    # A symbol may be called NaN: in quotes it is no missing value.
    for piece in driver.copy_out(f"COPY ({query}) TO STDOUT WITH (FORMAT csv, FORCE_QUOTE (symbol))"):
        pieces.append(piece)
        size += len(piece)
        if size >= COPIED_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


def _read_ahead(contents: Iterator[bytes]) -> Iterator[bytes]:
    """Receive the next content in a thread while one is parsed: the server would wait for its reader meanwhile."""
    pool = ThreadPoolExecutor(1)
    try:
        coming = pool.submit(next, contents, b"")
        while content := coming.result():
            coming = pool.submit(next, contents, b"")
            yield content
    finally:
        pool.shutdown(wait=False)  # after an interrupt the connection is closed, which ends the thread


def _parsed(content: bytes) -> pa.Table:
    try:
        return csv.read_csv(
            pa.BufferReader(content),
            csv.ReadOptions(column_names=TEXT_SCHEMA.names, block_size=len(content), use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types=TEXT_SCHEMA,
                null_values=NO_NUMBERS,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise unknown_value(error) from None


def fetch_tables(connection: Connection, query: str, parameters: Mapping[str, Any]) -> Iterator[pa.Table]:
    """Read a query of all columns of ``stock_data`` from SQLite, in tables of the same size.

    Raises
    ------
    DataError
        If a value is none that a run stores.
    """
    driver: Any = connection.connection.dbapi_connection  # SQLAlchemy would make an object of each row
    cursor = driver.execute(query, parameters)
    while rows := cursor.fetchmany(FETCHED_ROWS):
        columns = dict(zip(TEXT_SCHEMA.names, zip(*rows, strict=True), strict=True))
        try:
            arrays = {name: pa.array(values, _fetched_type(name)) for name, values in columns.items()}
            yield _as_text(pa.table(arrays))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise unknown_value(error) from None


def _fetched_type(name: str) -> pa.DataType:
    if name == "date":
        return pa.string()
    return pa.float64() if name in NUMBERS else COLUMN_TYPES[name]


def frame_table(frame: pd.DataFrame) -> pa.Table:
    """Turn a frame of :func:`utils.read_table` into a table of the stream; NaN is NULL."""
    return _as_text(pa.table({name: pa.array(frame[name], from_pandas=True) for name in TEXT_SCHEMA.names}))


def _as_text(table: pa.Table) -> pa.Table:
    for place, name in enumerate(table.column_names):
        if name in NUMBERS:
            numbers = table[name]
            table = table.set_column(place, name, pc.if_else(pc.is_finite(numbers), numbers, None))
    return table.cast(TEXT_SCHEMA)


def unknown_value(error: Exception) -> DataError:
    """Return the error of ours for a value that Arrow cannot take."""
    return DataError(f"stock_data holds a value that no run stores: {str(error).splitlines()[0]}")
