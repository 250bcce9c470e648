"""The table as a file: ``stock_data`` in one of several formats, as it is or as it was known at a moment."""

from __future__ import annotations

import os
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, cast, get_args

import pyarrow as pa
from sqlalchemy import Connection, Engine

import utils
from domain.errors import DataError, PayloadError
from domain.models import EVERY_SYMBOL, ProgressFunction
from entrypoints.table_formats import Encoder, Format, make_encoder
from storage.engine import database_exists, redacted_url, transaction

STANDARD_OUTPUT = "-"
ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrows": "arrow",
    "": "csv",  # of standard output, a device or a pipe, too
}
BINARY = ("parquet", "arrow")


@dataclass(frozen=True)
class Selection:
    """Which rows to export; default all, as they are now.

    Attributes
    ----------
    symbols : sequence of str
        ``["*"]`` is every symbol.
    start, end : datetime.date, optional
        The first and the last session, both included.
    known_at : datetime.datetime, optional
        With a zone, by the database's clock; default now.
    """

    symbols: Sequence[str] = (EVERY_SYMBOL,)
    start: date | None = None
    end: date | None = None
    known_at: datetime | None = None


def parse_selection(
    symbols: Sequence[str] = (EVERY_SYMBOL,),
    start: str | None = None,
    end: str | None = None,
    known_at: str | None = None,
) -> Selection:
    """Validate the options of the command.

    Raises
    ------
    PayloadError
        If a date is none, the dates are in the wrong order, or the moment has no zone.
    """
    first, last = _parse_date("--start", start), _parse_date("--end", end)
    if first and last and first > last:
        raise PayloadError(f"--start is {first}, which is after --end, {last}")
    return Selection(symbols, first, last, None if known_at is None else _parse_moment(known_at))


def _parse_date(option: str, value: str | None) -> date | None:
    if value is None:
        return None
    with suppress(ValueError):
        day = date.fromisoformat(value)
        if str(day) == value:  # Python also takes 20260302 and numbers of weeks
            return day
    raise PayloadError(f"{option} is {value!r}; valid is an ISO date such as 2026-03-02")


def _parse_moment(value: str) -> datetime:
    """Parse an ISO moment. It must have a zone: taken for another, it would show another table."""
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo:
            return moment.astimezone(UTC)
    raise PayloadError(
        f"--known-at is {value!r}; valid is a moment with its zone, such as 2026-03-01T09:00:00Z"
        " or 2026-03-01T09:00:00-05:00"
    )


def choose_format(output: str, file_format: str | None) -> Format:
    """Return the format that was asked for, or else that of the output's ending.

    Raises
    ------
    PayloadError
        If there is no such format, or it is not text and the output is a terminal.
    """
    ending = Path(output).suffix.lower()
    chosen = file_format or ENDINGS.get(ending)
    if chosen is None:
        known = ", ".join(filter(None, ENDINGS))
        raise PayloadError(f"--output is {output!r}, whose ending names no format; valid is {known}, or add --format")
    if chosen not in get_args(Format):
        raise PayloadError(f"--format is {chosen!r}; valid is {', '.join(get_args(Format))}")
    if chosen in BINARY and output == STANDARD_OUTPUT and sys.stdout.isatty():
        raise PayloadError(f"--format is {chosen!r}, which a terminal cannot show: name a file with --output")
    return cast(Format, chosen)


def is_taken(output: str) -> bool:
    """Return whether the output is a file that exists and would be replaced; a device or a pipe is none."""
    return output != STANDARD_OUTPUT and Path(output).is_file()


def export_table(
    engine: Engine,
    selection: Selection,
    *,
    output: str,
    file_format: Format,
    decimal: bool = False,
    progress: ProgressFunction | None = None,
) -> int:
    """Write the table to a file: all of it, or no file at all.

    The columns are those of ``stock_data``, sorted by symbol, in the order of its bytes, then session. Memory stays
    small however many rows there are.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    selection : Selection
    output : str
        The file, which is replaced if it exists; ``-`` is standard output.
    file_format : {"csv", "jsonl", "parquet", "arrow"}
    decimal : bool
        Whether prices and metrics of Parquet and Arrow are decimals instead of doubles.
    progress : callable, optional
        Called with how many symbols of how many are written, and a description.

    Returns
    -------
    int
        The number of rows.

    Raises
    ------
    DataError
        If there is no table or nothing in it, nothing of a symbol was ever stored, the moment is before the first
        load, or the file cannot be written.
    """
    rows = 0
    with _snapshot(engine) as connection:
        names = _exported_symbols(engine, connection, selection)
        tables = utils.stream_table(
            connection,
            names,
            selection.start,
            selection.end,
            known_at=selection.known_at,
            complete=EVERY_SYMBOL in selection.symbols,
        )
        with _replacing(output) as file:
            encoder = make_encoder(file_format, decimal=decimal)
            for table, encoded in _encoded(encoder, tables):
                file.write(encoded)
                rows += len(table)
                if progress:
                    progress(bisect_left(names, table["symbol"][-1].as_py()), len(names), "export")
            file.write(encoder.finish())
    return rows


def _encoded(encoder: Encoder, tables: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, bytes]]:
    """Encode each table in a thread while the next one is read."""
    with ThreadPoolExecutor(1) as pool:
        before: tuple[pa.Table, Future[bytes]] | None = None
        for table in tables:
            if before:
                yield before[0], before[1].result()
            before = (table, pool.submit(encoder.encode, table)) if len(table) else None
        if before:
            yield before[0], before[1].result()


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


def _exported_symbols(engine: Engine, connection: Connection, selection: Selection) -> list[str]:
    known = utils.read_known_symbols(connection)
    if not known:
        raise DataError(f"{redacted_url(engine)} holds no prices yet: run initialize first")
    moment, first_load = selection.known_at, utils.read_first_load(connection)
    if moment and first_load and moment < first_load:
        raise DataError(f"--known-at is {moment.isoformat()}, before the first load at {first_load.isoformat()}")
    if EVERY_SYMBOL in selection.symbols:
        return known
    unknown = sorted(set(selection.symbols) - set(known))
    if unknown:
        raise DataError(f"--symbols has {', '.join(map(repr, unknown))}, of which nothing was ever stored")
    return sorted(set(selection.symbols))


@contextmanager
def _replacing(output: str) -> Iterator[IO[bytes]]:
    """Open the output; a file gets its name once all of it is written, and a device or a pipe stays what it is."""
    try:
        if output == STANDARD_OUTPUT:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        else:
            yield from _opened(output)
    except (TimeoutError, ConnectionResetError):  # of the database's socket
        raise
    except OSError as error:
        if output == STANDARD_OUTPUT:
            raise OSError(error.errno, error.strerror, "standard output") from None
        raise DataError(f"--output is {output!r}, which cannot be written: {error.strerror or error}") from None


def _opened(output: str) -> Iterator[IO[bytes]]:
    target = Path(output).resolve()  # a link stays one
    if target.is_dir() or not output:
        raise IsADirectoryError("it is a folder" if output else "it is empty")
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
