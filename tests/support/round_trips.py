"""Count what the PostgreSQL driver sends, and how often it waits for an answer."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine


class CountingFile:
    """The file of the driver's socket, which counts round trips and the messages that run a statement."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._is_sent = False
        self.round_trips = self.statements = 0

    def write(self, data: bytes) -> None:
        """Send; the driver writes each message at once."""
        self._is_sent = True
        self.statements += data[:1] in (b"Q", b"E")
        self._file.write(data)

    def read(self, size: int) -> bytes:
        """Wait for an answer, or read more of it."""
        self.round_trips += self._is_sent
        self._is_sent = False
        content: bytes = self._file.read(size)
        return content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def count_messages(engine: Engine) -> CountingFile:
    """Count on the engine's one connection, from now on."""
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver._sock = counting = CountingFile(driver._sock)
    return counting
