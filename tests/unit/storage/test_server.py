"""What a server says of itself: TLS as it is, and connections as they are."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import Connection

from storage.engine import open_engine, transaction
from storage.server import count_connections, encryption, is_pooled, server_version
from tests.support.mail_server import make_certificate, server_context
from tests.support.rough_server import rough_server, silent


@pytest.mark.parametrize(
    ("verified", "hosts", "found"),
    [
        (False, False, "TLSv1.3, certificate not verified"),
        (True, False, "TLSv1.3, certificate verified"),
        (True, True, "TLSv1.3, certificate and host verified"),
    ],
)
def test_the_encryption_is_told_as_it_is(tmp_path: Path, verified: bool, hosts: bool, found: str) -> None:
    certificate = make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = hosts
    context.verify_mode = ssl.CERT_REQUIRED if verified else ssl.CERT_NONE
    with rough_server(silent, server_context(certificate)) as server:
        plain = socket.create_connection(("127.0.0.1", server.port))
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted:
            assert encryption(cast(Connection, SimpleNamespace(info={"socket": encrypted}))) == found


def test_a_plain_connection_is_told_as_none(postgresql_url: str) -> None:
    with transaction(open_engine(postgresql_url), write=False) as connection:
        assert encryption(connection) is None


def test_connections_are_counted(postgresql_url: str) -> None:
    other = open_engine(f"{postgresql_url}&application_name=another")
    with transaction(other, write=False), transaction(open_engine(postgresql_url), write=False) as connection:
        most, used = count_connections(connection)
        limit = int(connection.exec_driver_sql("SHOW max_connections").scalar_one())
        assert not is_pooled(connection)
    other.dispose()
    assert 2 <= used <= most < limit, "some are reserved for superusers"


def test_the_version_is_a_number(postgresql_url: str) -> None:
    with transaction(open_engine(postgresql_url), write=False) as connection:
        assert int(server_version(connection).split(".")[0]) >= 14
