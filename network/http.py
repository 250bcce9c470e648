"""Bounded HTTP: whole answers within a time and a size.

The timeouts of requests and urllib3 bound single steps, never a whole answer, and no size is too large for them.
"""

from __future__ import annotations

import errno
import http.client
import io
import os
import socket
import ssl
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    DecodeError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)
from urllib3.util.ssl_ import create_urllib3_context

from domain.errors import ConfigError
from domain.text import clean_text
from network.connect import connect

CONNECT_SECONDS = 5.0  # to connect, and again for the TLS handshake
MOST_BYTES = 16_000_000  # of one response on the wire: headers, chunk sizes and the body, compressed or not
PIECE = 65_536  # bytes
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # requests takes the first of these that is set

NETWORK_ERRORS = (OSError, HTTPError, http.client.HTTPException)  # requests' own are OSError


class NoAnswerError(Exception):
    """There is no whole answer; the message says why, in a few words."""


class TooLargeError(Exception):
    """The answer is larger than its limit."""


class BoundedSession(requests.Session):
    """A session that reads whole answers within a time and a size, and follows no redirection.

    Parameters
    ----------
    retries : urllib3.Retry, optional
        Default none.
    connections : int
        Kept open at most.
    """

    def __init__(self, retries: Retry | int = 0, connections: int = 10) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, _BoundedAdapter(max_retries=retries, pool_maxsize=connections))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: requests would read the whole body of a redirection, however large."""

    def read(
        self, url: str, query: Mapping[str, str] | None, seconds: float, limit: int
    ) -> tuple[requests.Response, bytes]:
        """Get an address; return the response and its body, decompressed.

        Parameters
        ----------
        url : str
        query : mapping of str to str or None
        seconds : float
            From connecting to the last byte.
        limit : int
            Bytes after decompression.

        Raises
        ------
        NoAnswerError
            If there is no connection, or the answer is late, breaks off or is not HTTP.
        TooLargeError
            If the body is larger than the limit.
        ssl.SSLCertVerificationError
            If the certificate of the server is not valid.
        ConfigError
            If the certificates to trust, as the environment names them, cannot be read.
        """
        try:
            with self.get(
                url, params=query, timeout=time_limit(seconds), stream=True, allow_redirects=False
            ) as response:
                return response, read_body(response, limit)
        except NETWORK_ERRORS as error:
            cause = _first_cause(error)
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise cause from None
            raise NoAnswerError(explain_failure(error, seconds)) from None


def time_limit(seconds: float) -> Any:
    """Return the ``timeout`` of a request that is to end within so many seconds.

    Half of the time is left for the TLS handshake, which may take as long as connecting.
    """
    return Timeout(total=seconds, connect=min(CONNECT_SECONDS, seconds / 2))


def read_body(response: requests.Response, limit: int) -> bytes:
    """Read the body of a streamed response, decompressed; raise a TooLargeError if it is larger than the limit."""
    pieces, size = [], 0
    for piece in response.iter_content(PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise TooLargeError
    return b"".join(pieces)


def _first_cause(error: BaseException) -> BaseException:
    """Return the error that requests and urllib3 wrapped in errors of their own."""
    while type(error) is not ConnectTimeoutError and isinstance(error.__context__, NETWORK_ERRORS):
        error = error.__context__
    return error


def explain_failure(error: BaseException, seconds: float) -> str:
    """Say in a few words why there is no whole answer within so many seconds."""
    cause = _first_cause(error)
    if type(cause) is ConnectTimeoutError:
        return "no connection in time"
    if isinstance(cause, TimeoutError | ReadTimeoutError):
        return f"no whole answer within {seconds:.2g} s"
    if isinstance(cause, OSError) and cause.strerror:
        return clean_text(cause.strerror)
    if isinstance(cause, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(cause, ProtocolError | DecodeError | http.client.IncompleteRead | zlib.error):
        return "the answer broke off"
    if isinstance(cause, http.client.HTTPException):
        return "the answer is not HTTP"
    return "the connection failed"


@lru_cache(maxsize=1)
def check_certificates(path: str) -> None:
    """Raise a ConfigError if there are no certificates at a path that the environment tells requests to use."""
    try:
        if not os.path.isdir(path):
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        name = next((name for name in BUNDLES if os.environ.get(name) == path), BUNDLES[0])
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"{name} names {path!r}, which cannot be used ({reason}); give a file of certificates in PEM, or unset it"
        ) from None


@lru_cache(maxsize=4)
def tls_context(path: str) -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates of a file. One for each connection would take 15 ms each."""
    context = create_urllib3_context()
    context.load_verify_locations(path)
    return context


class _BoundedReader(io.RawIOBase):
    """The bytes of one response, headers included, until its time or its size is used up.

    Timeouts of sockets bound the wait for the next byte only, so that a byte a second would keep a response going.
    """

    _raw: io.RawIOBase | None = None  # of one that an interrupt ends while it is made, and that is closed all the same

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._left = connection, MOST_BYTES
        self._end = time.monotonic() + (connection.gettimeout() or CONNECT_SECONDS)
        self._raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        self._connection.settimeout(seconds)
        count: int | None = self._raw.readinto(buffer) if self._raw else 0
        self._left -= count or 0
        if self._left < 0:
            raise ConnectionAbortedError(errno.ECONNABORTED, "it sends more than an answer can have")
        return count

    def close(self) -> None:
        if self._raw:
            self._raw.close()
        super().close()


@dataclass(frozen=True)
class _BoundedSource:
    """What a response makes its file of, in place of a socket."""

    connection: socket.socket

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self.connection))


class _BoundedResponse(http.client.HTTPResponse):
    """A response whose read timeout bounds all of it."""

    fp: Any = None  # as of the reader

    def __init__(self, sock: socket.socket, *args: Any, **named: Any) -> None:
        source: Any = _BoundedSource(sock)
        super().__init__(source, *args, **named)


class _BoundedConnection(HTTPConnection):
    """A connection that is made within its timeout, name resolution and all addresses included."""

    response_class = _BoundedResponse

    def _new_conn(self) -> socket.socket:
        timeout: Any = self.timeout
        try:
            connection = connect(self._dns_host.strip("[]"), self.port, timeout)
        except TimeoutError:
            raise ConnectTimeoutError(self, "no connection in time") from None
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(self, str(error)) from error
        for option in self.socket_options or ():
            connection.setsockopt(*option)
        connection.settimeout(timeout)
        return connection


class _BoundedTlsConnection(_BoundedConnection, HTTPSConnection):
    """The same with TLS, whose handshake has the connection's timeout as a whole."""


class _BoundedAdapter(HTTPAdapter):
    """Sends requests whose timeouts bound the whole connection and the whole response. It retries nothing."""

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        if isinstance(verify, str) and url.lower().startswith("https:"):
            check_certificates(verify)
        parent: Any = super()  # has no types
        parent.cert_verify(conn, url, verify, cert)
        if conn.ca_certs:
            conn.conn_kw["ssl_context"], conn.ca_certs = tls_context(conn.ca_certs), None

    def get_connection_with_tls_context(self, *args: Any, **named: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **named)
        pool.ConnectionCls = _BoundedTlsConnection if pool.scheme == "https" else _BoundedConnection
        return pool
