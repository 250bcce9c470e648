"""pg8000 with one round trip for each statement.

For a statement with parameters the driver parses, then describes, then executes, and waits for an answer each time. The
protocol lets all of it be sent at once: the server answers in order, and skips the rest after an error. Where the
database is a network away, this is two thirds of the time of a small run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pg8000
from pg8000.core import DESCRIBE, NULL_BYTE, PORTAL, SYNC_MSG, Context, _flush, _write, make_params


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
