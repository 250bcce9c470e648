"""A local HTTP/1.1 server: a function from request to reply, with keep-alive, on 127.0.0.1 only.

Stopping it closes every open connection. It writes no log.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOST = "127.0.0.1"
_POLL_SECONDS = 0.02
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Request:
    """A request; ``target`` is the raw path and query, ``headers`` are case-insensitive."""

    method: str
    target: str
    headers: Message
    body: bytes


@dataclass(frozen=True)
class Reply:
    """A reply; the server adds ``Content-Length``."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Responder = Callable[[Request], Reply | None]
"""Called in the connection's thread; None closes the connection without an answer."""


class LocalServer(ThreadingHTTPServer):
    """The server: it listens once constructed, and answers between :meth:`start` and :meth:`stop`.

    Parameters
    ----------
    port : int, default 0
        0 picks a free port.

    Raises
    ------
    OSError
        If the port is taken.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, respond: Responder, port: int = 0) -> None:
        self.respond = respond
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        """Bind without the parent's DNS lookup."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://{HOST}:{self.server_port}"

    def start(self) -> None:
        """Answer in the background."""
        threading.Thread(target=self.serve_forever, args=(_POLL_SECONDS,), name="sandbox", daemon=True).start()

    def stop(self) -> None:
        """Close the port and every connection, and wait for running requests."""
        self.shutdown()
        self.server_close()
        with self._changed:
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # the client closed it first
                    continue
            self._changed.wait_for(lambda: not self._connections, timeout=_PATIENCE_SECONDS)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection and track it for :meth:`stop`."""
        connection, address = super().get_request()
        with self._changed:
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and stop tracking it."""
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnected; show any other error, since it is a bug."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # send headers and body in one packet
    server: LocalServer

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.server.respond(Request(self.command, self.path, self.headers, body))
        if reply is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""
