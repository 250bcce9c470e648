"""Sockets to a PostgreSQL server that end in time, whatever it sends, and the TLS around them."""

from __future__ import annotations

import math
import socket
import ssl
import time
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import IO, Any, cast

from domain.errors import ConfigError
from storage import limits

# A warm container's connection may have been dropped silently: ask after 10 s of silence, and give up after 10 more.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 5, "TCP_USER_TIMEOUT": 10_000}
SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
TLS_REQUEST, HAS_TLS = b"\0\0\0\x08\x04\xd2\x16\x2f", b"S"  # the first message to PostgreSQL, and its answer


class BoundedSocket(socket.socket):
    """A socket whose answers have to be complete within a time, and on which nothing is waited for past its ``end``.

    The timeout of a socket bounds the wait for the next byte only, so that a byte a second would keep an answer going.

    Attributes
    ----------
    end : float
        By the monotonic clock; infinite outside a transaction.
    """

    end = math.inf
    _answer_end = math.inf
    _is_asking = False
    _file: IO[Any] | None = None

    def makefile(self, *args: Any, **named: Any) -> Any:
        """Return the buffered file that the driver reads and writes."""
        self._file = super().makefile(*args, **named)
        return self._file

    def send(self, *args: Any) -> int:
        """Send some bytes of a question, which begins with the first of them after an answer."""
        if not self._is_asking:
            self._answer_end = time.monotonic() + limits.STATEMENT_SECONDS + 2 * limits.GRACE_SECONDS
        self._is_asking = True
        self._wait_no_longer()
        return super().send(*args)

    def recv_into(self, *args: Any) -> int:
        """Receive some bytes of an answer."""
        self._is_asking = False
        self._wait_no_longer()
        return super().recv_into(*args)

    def start_tls(self, context: ssl.SSLContext, host: str, *, required: bool) -> BoundedSocket:
        """Return this connection encrypted, or as it is if the server has no TLS and it is not required."""
        self.send(TLS_REQUEST)
        answer = bytearray(1)
        self.recv_into(answer)
        if answer == HAS_TLS:
            self._wait_no_longer()
            encrypted = cast(_TlsSocket, context.wrap_socket(self, server_hostname=host))
            encrypted.end = self.end
            return encrypted
        if required:
            raise ConnectionError("it has no TLS, and only sslmode=disable or prefer goes without")
        return self

    def close(self) -> None:
        """Close the connection at once, and the driver's file, which would report that it cannot send its buffer."""
        file, self._file = self._file, None
        with suppress(OSError):  # it may not be connected any more
            self.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            if file:
                file.close()
        super().close()

    def _wait_no_longer(self) -> None:
        """Limit the wait of the next call to what is left."""
        left = min(self.end, self._answer_end) - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)


class _TlsSocket(BoundedSocket, ssl.SSLSocket):
    """The same with TLS. The timeout of one of its calls, also of the handshake, bounds the call as a whole."""


def open_socket(address: str | tuple[str, int], end: float) -> BoundedSocket:
    """Connect over TCP, or to the Unix socket of a path."""
    seconds = max(end - time.monotonic(), 0.001)
    if isinstance(address, str):
        connection = BoundedSocket(socket.AF_UNIX)
        connection.settimeout(seconds)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
    else:
        connection = BoundedSocket(fileno=_connect(address, seconds).detach())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages are sent at once
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection.end = end
    return connection


def _connect(address: tuple[str, int], seconds: float) -> socket.socket:
    """Connect in a thread: no timeout covers name resolution, and each address of a host has one of its own."""
    made: Future[socket.socket] = Future()

    def connect() -> None:
        try:
            made.set_result(socket.create_connection(address, seconds))
        except (OSError, UnicodeError) as error:  # a name may be no name at all
            made.set_exception(error)

    Thread(target=connect, name="connect", daemon=True).start()
    try:
        return made.result(seconds)
    except (TimeoutError, KeyboardInterrupt):
        made.add_done_callback(_close_late)
        raise


def _close_late(made: Future[socket.socket]) -> None:
    if not made.exception():
        made.result().close()


def tls_context(mode: str, authority: str | tuple[str, ...] | None) -> ssl.SSLContext | None:
    """Translate libpq's ``sslmode`` and ``sslrootcert``; None is without TLS."""
    if mode not in SSL_MODES:
        raise ConfigError(f"DATABASE_URL has sslmode={mode!r}; valid are {', '.join(SSL_MODES)}")
    if mode == "disable":
        return None
    try:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
    except OSError as error:
        raise ConfigError(f"DATABASE_URL has sslrootcert={authority!r}, which cannot be read: {error}") from None
    if mode != "verify-full":
        context.check_hostname = False
    if mode == "prefer" or (mode == "require" and not authority):  # libpq verifies under "require" with a CA file
        context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = _TlsSocket
    return context
