"""The formats of :mod:`entrypoints.export`: each encodes the tables of :func:`utils.stream_table` into bytes.

CSV and JSON lines hold numbers as the text that is stored. Parquet and Arrow hold doubles, or exact decimals.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from domain.errors import DataError
from storage.streams import NUMBERS, TEXT_SCHEMA

Format = Literal["csv", "jsonl", "parquet", "arrow"]

KEY = ["symbol", "date"]
JOINED_ROWS = 5_000  # of JSON

# 20 places hold every double from 0.0001 on, the smallest tick of US markets, digit for digit. The 18 digits that are
# left before the point hold more than the highest price that validation accepts, 1e15.
DECIMAL = pa.decimal128(38, 20)


class Encoder(Protocol):
    """Turns tables into the bytes of a file."""

    def encode(self, table: pa.Table) -> bytes:
        """Return the bytes that a table adds to the file."""

    def finish(self) -> bytes:
        """Return the bytes that end the file."""


def make_encoder(file_format: Format, *, decimal: bool = False) -> Encoder:
    """Return the encoder of a format; `decimal` makes the numbers of Parquet and Arrow exact decimals."""
    if file_format == "csv":
        return CsvEncoder()
    if file_format == "jsonl":
        return JsonEncoder()
    return ParquetEncoder(decimal=decimal) if file_format == "parquet" else ArrowEncoder(decimal=decimal)


class CsvEncoder:
    """Comma-separated values under a line of names; NULL is empty."""

    def __init__(self) -> None:
        self._head = f"{','.join(TEXT_SCHEMA.names)}\n".encode()

    def encode(self, table: pa.Table) -> bytes:
        """Return a line per row, at first below the names."""
        columns = _text_columns(table, _csv_cell)
        head, self._head = self._head, b""
        return head + _lines(pc.binary_join_element_wise(*columns, ",", null_handling="replace"))

    def finish(self) -> bytes:
        """Return the names, if there were no rows."""
        return self._head


class JsonEncoder:
    """A JSON object per line."""

    def encode(self, table: pa.Table) -> bytes:
        """Return a line per row; a few thousand at a time, because a join copies the names of all its lines."""
        starts = range(0, len(table), JOINED_ROWS)
        return b"".join(self._encode_few(table.slice(start, JOINED_ROWS)) for start in starts)

    def _encode_few(self, table: pa.Table) -> bytes:
        parts: list[Any] = []
        for name, column in zip(TEXT_SCHEMA.names, _text_columns(table, json.dumps), strict=True):
            parts += [f'{"," if parts else "{"}"{name}":', *(['"', column, '"'] if name == "date" else [column])]
        parts.append("}")
        return _lines(pc.binary_join_element_wise(*parts, "", null_handling="replace", null_replacement="null"))

    def finish(self) -> bytes:
        """Return nothing."""
        return b""


def _text_columns(table: pa.Table, write_symbol: Callable[[str], str]) -> list[pa.Array]:
    """Return the columns as text: dates in ISO form, and symbols as a function writes them."""
    table = table.combine_chunks()
    texts = {"date": _iso_dates(table["date"]), "symbol": _mapped(table["symbol"], write_symbol)}
    return [texts.get(name, table[name].cast(pa.string())) for name in TEXT_SCHEMA.names]


def _iso_dates(moments: pa.ChunkedArray) -> pa.ChunkedArray:
    days = moments.cast(pa.date32(), safe=False)
    are_midnights = pc.all(pc.equal(days.cast(moments.type), moments)).as_py()
    return (days if are_midnights else moments).cast(pa.string())


def _mapped(column: pa.ChunkedArray, function: Callable[[str], str]) -> pa.ChunkedArray:
    """Apply a function to each distinct text of a column."""
    distinct = pc.unique(column)
    return pa.array(map(function, distinct.to_pylist()), pa.string()).take(pc.index_in(column, distinct))


def _csv_cell(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"' if re.search('[",\r\n]', text) else text


def _lines(lines: pa.ChunkedArray) -> bytes:
    """Join lines, each of which ends with a line break."""
    all_lines = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), pa.concat_arrays(lines.chunks))
    joined: bytes = pc.binary_join(all_lines, "\n")[0].as_buffer().to_pybytes()
    return joined + b"\n" if joined else b""


class _ArrowWriter:
    """What Parquet and Arrow have in common: a schema with types, and a writer of pyarrow into memory."""

    def __init__(self, *, decimal: bool) -> None:
        types = {"date": pa.timestamp("us")}  # Parquet has no seconds
        types |= dict.fromkeys(NUMBERS, DECIMAL if decimal else pa.float64())
        self.schema = pa.schema(
            pa.field(field.name, types.get(field.name, field.type), nullable=field.name not in KEY)
            for field in TEXT_SCHEMA
        )
        self._written = _Written()
        self._writer = self._open(self._written)

    def _open(self, file: _Written) -> Any:
        raise NotImplementedError

    def encode(self, table: pa.Table) -> bytes:
        """Return what the writer makes of a table.

        Raises
        ------
        DataError
            If a number does not fit :data:`DECIMAL`.
        """
        try:
            typed = table.cast(self.schema)
        except pa.ArrowInvalid:
            raise DataError("a number of stock_data does not fit DECIMAL(38, 20): leave --decimal out") from None
        self._writer.write_table(typed)
        return self._written.take()

    def finish(self) -> bytes:
        """Return the end of the file, or all of it if there were no rows."""
        self._writer.close()
        return self._written.take()


class ParquetEncoder(_ArrowWriter):
    """Parquet, a row group per table."""

    def _open(self, file: _Written) -> Any:
        order = pq.SortingColumn.from_ordering(self.schema, [(name, "ascending") for name in KEY])
        # Few symbols and sessions repeat, and prices do not: without a dictionary of them the file is a sixth smaller
        # and written in half the time.
        return pq.ParquetWriter(
            file,
            self.schema,
            compression="zstd",
            use_dictionary=KEY,
            write_statistics=True,
            write_page_index=True,
            sorting_columns=order,
        )


class ArrowEncoder(_ArrowWriter):
    """An Arrow IPC stream, which :func:`stock_tracker.load` reads."""

    def _open(self, file: _Written) -> Any:
        return pa.ipc.new_stream(file, self.schema)


class _Written(io.RawIOBase):
    """A file in memory that gives away what was written to it, and remembers only how much that was."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        self._size += len(piece)
        return len(piece)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken
