"""pg8000 with one round trip for each statement, and with an end for answers that are not PostgreSQL's.

For a statement with parameters the driver parses, then describes, then executes, and waits for an answer each time. The
protocol lets all of it be sent at once: the server answers in order, and skips the rest after an error. Where the
database is a network away, this is two thirds of the time of a small run.

COPY TO sends a message per row, for each of which the driver would read twice and call a function.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any

import pg8000
from pg8000.converters import DATE, date_in
from pg8000.core import (
    COPY_DATA,
    COPY_DONE_MSG,
    DESCRIBE,
    NULL_BYTE,
    PORTAL,
    READY_FOR_QUERY,
    SYNC_MSG,
    Context,
    _flush,
    _read,
    _write,
    ci_unpack,
    make_params,
)

LARGEST_MESSAGE = 16_000_000  # bytes; the driver would make room for any length that a message declares
HEADER = struct.Struct("!cI")  # of a message: its kind, and its length without the kind
LENGTH_SIZE = 4  # which the length counts
RECEIVED = 128 * 1024  # bytes at a time, about 1,200 rows


class Connection(pg8000.Connection):  # type: ignore[misc]
    """A connection whose statements, its COMMIT and ROLLBACK among them, take a single round trip, and so does COPY."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_in_adapter(DATE, _read_date)

    def execute_unnamed(
        self, statement: str, vals: Sequence[Any] = (), oids: Sequence[int] = (), stream: Iterable[bytes] | None = None
    ) -> Any:
        """Execute a statement as the driver's method of this name does."""
        if stream is not None:
            return self.copy_in([statement], stream)
        context = Context(statement)
        self.send_PARSE(NULL_BYTE, statement, oids)
        self.send_BIND(NULL_BYTE, make_params(self.py_types, vals))
        self._send_message(DESCRIBE, PORTAL + NULL_BYTE)
        self.send_EXECUTE()
        _write(self._sock, SYNC_MSG)
        _flush(self._sock)
        self.handle_messages(context)
        return context

    def copy_in(self, statements: Sequence[str], rows: Iterable[bytes]) -> Any:
        """Execute statements of which the last one is ``COPY … FROM STDIN``, and send its rows at once.

        A server that refuses one of them skips all up to the SYNC, which also tells a pooler that the answer is whole.
        """
        context = Context(statements[-1])
        for statement in statements:
            self.send_PARSE(NULL_BYTE, statement, ())
            self.send_BIND(NULL_BYTE, ())
            self.send_EXECUTE()
        for piece in rows:
            self._send_message(COPY_DATA, piece)
        _write(self._sock, COPY_DONE_MSG)
        _write(self._sock, SYNC_MSG)
        _flush(self._sock)
        self.handle_messages(context)
        return context

    def handle_COPY_IN_RESPONSE(self, _data: bytes, _context: Context) -> None:  # noqa: N802 - the driver's name
        """Do nothing about the server's being ready for rows, which were sent already."""

    def handle_messages(self, context: Context) -> None:
        """Handle the messages of one answer as the driver's method of this name does."""
        code = None
        while code != READY_FOR_QUERY:
            code, length = ci_unpack(_read(self._sock, 5))
            self._check_head(code, length)
            message = _read(self._sock, length - 4)
            try:
                self.message_types[code](message, context)
            except (LookupError, ValueError, struct.error):
                raise _foreign(f"{code!r} cannot be read") from None
        if context.error is not None:
            raise context.error

    def copy_out(self, statement: str) -> Iterator[bytes]:
        """Execute ``COPY … TO STDOUT``, and yield what it sends: many whole rows at a time.

        The connection is of no other use before the last piece was taken.
        """
        context = Context(statement, stream=io.BytesIO())  # the driver asks for a stream; nothing is written to it
        self.send_QUERY(statement)
        _flush(self._sock)
        received, is_over = b"", False
        while not is_over:
            received += self._receive()
            rows, start, size = [], 0, len(received)
            while size - start >= HEADER.size:
                kind, length = HEADER.unpack_from(received, start)
                end = start + 1 + length
                if kind == COPY_DATA and length >= LENGTH_SIZE and end <= size:  # a message for each row
                    rows.append(received[start + HEADER.size : end])
                else:
                    self._check_head(kind, length)
                    if end > size:
                        break
                    self.message_types[kind](received[start + HEADER.size : end], context)
                    is_over = kind == READY_FOR_QUERY
                start = end
            received = received[start:]
            if rows:
                yield b"".join(rows)
        if context.error is not None:
            raise context.error

    def _check_head(self, kind: bytes, length: int) -> None:
        """Refuse a message of no known kind, or of a length that none has."""
        if kind not in self.message_types or not LENGTH_SIZE <= length <= LARGEST_MESSAGE:
            raise _foreign(f"{kind!r}, {length} bytes")

    def _receive(self) -> bytes:
        """Wait for some bytes; failures are told as the driver tells them."""
        try:
            received: bytes = self._sock.read1(RECEIVED)
        except OSError as error:
            raise pg8000.InterfaceError("network error") from error
        if not received:
            raise pg8000.InterfaceError("network error")
        return received


def _read_date(text: str) -> Any:
    """Read a date, which ``strptime`` of the driver does twenty times slower."""
    try:
        return date.fromisoformat(text)
    except ValueError:  # "infinity", or a year beyond 9999
        return date_in(text)


def _foreign(what: str) -> pg8000.InterfaceError:
    return pg8000.InterfaceError(f"its answer is not PostgreSQL's: {what}")
