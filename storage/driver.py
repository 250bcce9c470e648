"""pg8000 with one round trip for each statement, and with an end for answers that are not PostgreSQL's.

For a statement with parameters the driver parses, then describes, then executes, and waits for an answer each time. The
protocol lets all of it be sent at once: the server answers in order, and skips the rest after an error. Where the
database is a network away, this is two thirds of the time of a small run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import pg8000
from pg8000.core import (
    COPY_IN_RESPONSE,
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


class Connection(pg8000.Connection):  # type: ignore[misc]
    """A connection whose statements, its COMMIT and ROLLBACK among them, take a single round trip; COPY takes two."""

    def execute_unnamed(
        self, statement: str, vals: Sequence[Any] = (), oids: Sequence[int] = (), stream: Iterable[bytes] | None = None
    ) -> Any:
        """Execute a statement as the driver's method of this name does."""
        context = Context(statement, stream=stream)
        self.send_PARSE(NULL_BYTE, statement, oids)
        self.send_BIND(NULL_BYTE, make_params(self.py_types, vals))
        self._send_message(DESCRIBE, PORTAL + NULL_BYTE)
        self.send_EXECUTE()
        _write(self._sock, SYNC_MSG)
        _flush(self._sock)
        self.handle_messages(context)
        return context

    def handle_messages(self, context: Context) -> None:
        """Handle the messages of one answer as the driver's method of this name does."""
        code = None
        while code != READY_FOR_QUERY:
            code, length = ci_unpack(_read(self._sock, 5))
            if code not in self.message_types or not 4 <= length <= LARGEST_MESSAGE:
                raise pg8000.InterfaceError(f"its answer is not PostgreSQL's: {code!r}, {length} bytes")
            message = _read(self._sock, length - 4)
            try:
                self.message_types[code](message, context)
            except (LookupError, ValueError, struct.error):
                if code == COPY_IN_RESPONSE:  # the error is that of the rows, which this message asks for
                    raise
                raise pg8000.InterfaceError(f"its answer is not PostgreSQL's: {code!r} cannot be read") from None
        if context.error is not None:
            raise context.error
