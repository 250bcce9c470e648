"""The table as a file: ``stock_data`` as CSV, as it is or as it was known at a moment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal, get_args

import pandas as pd
from sqlalchemy import Connection, Engine

import utils
from domain.errors import DataError, PayloadError
from domain.models import EVERY_SYMBOL
from storage.bulk import csv_pieces
from storage.engine import database_exists, redacted_url, transaction
from storage.schema import TABLE

Format = Literal["csv"]
STANDARD_OUTPUT = "-"
PIECE = 500  # symbols in memory at a time


def export_table(
    engine: Engine,
    *,
    file_format: str,
    output: str,
    symbols: Sequence[str] = (EVERY_SYMBOL,),
    known_at: str | None = None,
) -> int:
    """Write the table to a file: all of it, or no file at all.

    The columns are those of ``stock_data``, sorted by symbol, then session; ``date`` is an ISO date, and NULL is empty.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    file_format : {"csv"}
    output : str
        The file, which is replaced if it exists; ``-`` is standard output.
    symbols : sequence of str
        ``["*"]`` is every symbol.
    known_at : str, optional
        An ISO moment with a zone, by the database's clock; default now.

    Returns
    -------
    int
        The number of rows.

    Raises
    ------
    PayloadError
        If an argument is not valid.
    DataError
        If there is no table, nothing of a symbol is in it, or the file cannot be written.
    """
    if file_format not in get_args(Format):
        raise PayloadError(f"--format is {file_format!r}; valid is {' or '.join(get_args(Format))}")
    moment = None if known_at is None else parse_moment(known_at)
    rows = 0
    with _snapshot(engine) as connection:
        names = _exported_symbols(connection, symbols)
        with _replacing(output) as file:
            file.write((",".join(TABLE) + "\n").encode())
            for start in range(0, len(names), PIECE):
                table = utils.read_table(connection, names[start : start + PIECE], known_at=moment)
                table = table.sort_values(["symbol", "date"]).assign(volume=table["volume"].astype("Int64"))
                file.writelines(csv_pieces(table, quoted=_needs_quotes(table)))
                rows += len(table)
    return rows


def parse_moment(value: str) -> datetime:
    """Parse an ISO moment. It must have a zone: taken for another, it would show another table.

    Raises
    ------
    PayloadError
    """
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo:
            return moment.astimezone(UTC)
    raise PayloadError(
        f"--known-at is {value!r}; valid is a moment with its zone, such as 2026-03-01T09:00:00Z"
        " or 2026-03-01T09:00:00-05:00"
    )


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    """Open a transaction in which every query sees the same commits."""
    missing = f"{redacted_url(engine)} has no tables yet: run initialize first"
    if not database_exists(engine):
        raise DataError(missing)
    with transaction(engine, write=False) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        if not utils.schema_exists(connection):
            raise DataError(missing)
        yield connection


def _exported_symbols(connection: Connection, symbols: Sequence[str]) -> list[str]:
    known = utils.read_known_symbols(connection)
    if EVERY_SYMBOL in symbols:
        return known
    unknown = sorted(set(symbols) - set(known))
    if unknown:
        raise DataError(f"--symbols has {', '.join(map(repr, unknown))}, of which nothing was ever stored")
    return sorted(set(symbols))


def _needs_quotes(table: pd.DataFrame) -> bool:
    """Whether a symbol has a character that CSV must quote; tickers have none, an adopted table may."""
    return bool(table["symbol"].str.contains('[",\r\n]').any())


@contextmanager
def _replacing(output: str) -> Iterator[IO[bytes]]:
    """Open the output; a file gets its name once all of it is written, and a device or a pipe stays what it is."""
    if output == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(output).resolve()  # a link stays one
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.is_dir() or not output:
            raise IsADirectoryError("it is a folder" if output else "it is empty")
        if target.exists() and not target.is_file():
            with target.open("wb") as file:
                yield file
            return
        try:
            with unfinished.open("xb") as file:
                yield file
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"--output is {output!r}, which cannot be written: {error.strerror or error}") from None
