"""A real SMTP server on this machine, with optional TLS and login, and a box that keeps the mails."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.rough_server import Answering, rough_server

PASSWORD = "hunter2-secret"


class Box:
    """The handler of an SMTP server: it keeps each mail, unless `replies` per recipient or `accept` refuse it."""

    def __init__(
        self, replies: Mapping[str, list[str]] | None = None, accept: Callable[[Box], str] | None = None
    ) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []
        self.logins: list[tuple[str, str]] = []
        self.attempts = 0
        self.replies = replies or {}
        self.accept = accept or (lambda box: "250 OK")

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        replies = self.replies.get(address, [])
        reply = replies.pop(0) if replies else "250 OK"
        if reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        self.attempts += 1
        reply = self.accept(self)
        if reply.startswith("250"):
            self.mails.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.content))
        return reply

    def log_in(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)


@contextmanager
def smtp_server(
    box: Box,
    *,
    server_class: type[SMTP] = SMTP,
    port: int = 0,
    ssl_context: ssl.SSLContext | None = None,
    **options: Any,
) -> Iterator[int]:
    """Run an SMTP server in a thread and yield its port, a free one by default."""
    started = threading.Event()
    bound: dict[str, Any] = {}

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        bound["stop"] = lambda: loop.call_soon_threadsafe(stop.set)
        server = await loop.create_server(
            lambda: server_class(box, hostname="localhost", loop=loop, **options), "127.0.0.1", port, ssl=ssl_context
        )
        bound["port"] = server.sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    try:
        yield bound["port"]
    finally:
        bound["stop"]()
        thread.join()


@contextmanager
def raw_server(converse: Answering) -> Iterator[int]:
    """Run a server that does with each connection whatever a test wants, and yield its port."""
    with rough_server(converse) as server:
        yield server.port


def drip(connection: socket.socket, content: bytes = b"220-still here\r\n", pause: float = 0.1) -> None:
    """Send a content again and again, one byte after each pause, until the connection fails."""
    for byte in itertools.cycle(content):
        connection.sendall(bytes([byte]))
        time.sleep(pause)


Answer = bytes | Callable[[socket.socket], object]


def conversation(**answers: Answer) -> Callable[[socket.socket], None]:
    """A server for :func:`raw_server`: it says "250 OK" to all but the given commands.

    Parameters
    ----------
    **answers
        By command in upper case; ``GREETING`` is the first word, ``CONTENT`` the answer to the mail. A function does
        with the connection what it wants, and ends it by returning.
    """
    usual: dict[str, Answer] = {"GREETING": b"220 here\r\n", "DATA": b"354 go ahead\r\n", "QUIT": b"221 bye\r\n"}

    def converse(connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            command = "GREETING"
            while command:
                answer = {**usual, **answers}.get(command, b"250 OK\r\n")
                if callable(answer):
                    answer(connection)
                    return
                connection.sendall(answer)
                if command == "DATA" and answer.startswith(b"354"):
                    content = iter(lines.readline, b".\r\n")
                    command = "CONTENT" if all(content) else ""
                else:
                    command = lines.readline()[:4].decode("latin-1").strip().upper()

    return converse


def make_certificate(folder: Path) -> Path:
    """Write a key and its self-signed certificate for 127.0.0.1 into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    unencrypted = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *unencrypted) + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def server_context(certificate: Path) -> ssl.SSLContext:
    """A TLS context for a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
