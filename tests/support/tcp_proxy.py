"""A TCP proxy in front of PostgreSQL whose connections a test can cut or slow down."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from sqlalchemy import make_url

Forward = Callable[[socket.socket, bytes], None]
"""Forwards bytes to a socket, well or badly."""

FIELDS = b"SNOTICE\0C00000\0Mnothing is wrong\0\0"
NOTICE = b"N" + (len(FIELDS) + 4).to_bytes(4) + FIELDS  # a message that a server may send at any time


def at_once(target: socket.socket, data: bytes) -> None:
    """Forward bytes as they are."""
    target.sendall(data)


def byte_by_byte(target: socket.socket, data: bytes) -> None:
    """Forward ten bytes a second."""
    for n in range(len(data)):
        time.sleep(0.1)
        target.sendall(data[n : n + 1])


def slowly(target: socket.socket, data: bytes) -> None:
    """Forward five pieces a second."""
    time.sleep(0.2)
    target.sendall(data)


def notices_at_full_speed(target: socket.socket, _data: bytes) -> None:
    """Send notices without end instead."""
    while True:
        target.sendall(NOTICE * 100)


def a_notice_now_and_then(target: socket.socket, _data: bytes) -> None:
    """Send ten notices a second without end instead."""
    while True:
        time.sleep(0.1)
        target.sendall(NOTICE)


class TcpProxy:
    """A local TCP port that forwards to a PostgreSQL server, which may listen on TCP or on a Unix socket.

    Attributes
    ----------
    to_client, to_server : Forward
        How answers and questions are forwarded; a test may replace them at any time.
    """

    def __init__(self, url: str) -> None:
        self.to_client: Forward = at_once
        self.to_server: Forward = at_once
        self._target = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages are sent at once
            server = self._connect()
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                thread = threading.Thread(target=self._forward, args=(source, target, target is client))
                self._threads.append(thread)
                thread.start()

    def _connect(self) -> socket.socket:
        port = self._target.port or 5432
        if folder := self._target.query.get("host"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{folder}/.s.PGSQL.{port}")
            return server
        return socket.create_connection((self._target.host or "localhost", port))

    def _forward(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while data := source.recv(65_536):
                forward = self.to_client if is_answer else self.to_server
                forward(target, data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def cut(self) -> None:
        """Cut all connections, as a NAT gateway or a server restart does."""
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        """Stop listening and close all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=5)
        for connection in self._open:
            connection.close()
