"""Answers over TLS: the certificates are read once, and count for each connection."""

import ssl

import pytest
from urllib3.util.ssl_ import create_urllib3_context

from network import http
from network.http import BoundedSession
from tests.support.mail_server import make_certificate, server_context
from tests.support.rough_server import HEAD, rough_server, sending

ANSWER = HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path)


@pytest.fixture
def read(certificate):
    """Ask a server of that certificate, each time by a new session."""
    with rough_server(sending(ANSWER), server_context(certificate)) as server:
        yield lambda: BoundedSession().read(server.url, None, 5.0, 100)[1]


def test_all_connections_share_one_context(read, certificate, monkeypatch):
    made = []

    def counted():
        made.append(create_urllib3_context())
        return made[-1]

    monkeypatch.setattr(http, "create_urllib3_context", counted)
    monkeypatch.setattr("urllib3.connection.create_urllib3_context", None)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert [read(), read(), read()] == [b"ok"] * 3
    assert [context.verify_mode for context in made] == [ssl.CERT_REQUIRED]


def test_a_shared_context_does_not_trust_for_others(read, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert read() == b"ok"
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(ssl.SSLCertVerificationError):
        read()


def test_the_name_is_checked_too(certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with rough_server(sending(ANSWER), server_context(certificate)) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            BoundedSession().read(url, None, 5.0, 100)
