"""A TCP server that answers byte by byte as a test says, so that no HTTP library keeps it from misbehaving."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answering = Callable[[socket.socket], object]
"""Called for each connection, in a thread of its own; the connection closes when it returns."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class RoughServer:
    """The server; ``connections`` counts those that were accepted."""

    def __init__(self, answer: Answering, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self._answer, self._tls = answer, tls
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return int(self._server.getsockname()[1])

    def stop(self) -> None:
        """Close the port and all connections."""
        for connection in [self._server, *self._open]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:  # stopped
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            self._answer(connection)
            connection.close()


@contextmanager
def rough_server(answer: Answering, tls: ssl.SSLContext | None = None) -> Iterator[RoughServer]:
    """Serve until the block ends."""
    server = RoughServer(answer, tls)
    try:
        yield server
    finally:
        server.stop()


def sending(*pieces: bytes, then: Answering | None = None) -> Answering:
    """Read a request, send some bytes, and do something with the connection before it closes."""

    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        for piece in pieces:
            connection.sendall(piece)
        if then:
            then(connection)

    return answer


def silent(connection: socket.socket) -> None:
    """Say nothing until the other side hangs up."""
    while connection.recv(65_536):
        pass


def dripping(start: bytes, drop: bytes = b" ", seconds: float = 0.1) -> Answering:
    """Send a start, and then a drop at a time, for ever."""

    def drip(connection: socket.socket) -> None:
        while True:
            time.sleep(seconds)
            connection.sendall(drop)

    return sending(start, then=drip)


def reset(connection: socket.socket) -> None:
    """Close the connection with a reset instead of its end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
