"""Connecting ends in time, whatever the look-up of a name and the addresses of a host do."""

import socket
import threading
import time
from functools import partial

import pytest

from network.connect import connect, within

HELD = threading.Event()  # what a test left waiting may go on once the tests are over


@pytest.fixture(scope="module", autouse=True)
def _release():
    yield
    HELD.set()


@pytest.fixture
def names(monkeypatch):
    """A function that sets the addresses of every host."""
    real = socket.getaddrinfo

    def resolve(addresses, host, port, *args, **named):
        if host != "host.example":
            return real(host, port, *args, **named)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return lambda *addresses: monkeypatch.setattr(socket, "getaddrinfo", partial(resolve, addresses))


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_an_address_that_refuses_is_followed_by_the_next(names, server):
    names("127.0.0.2", "127.0.0.1")  # the server listens at the second only
    with connect("host.example", server, 5) as connection:
        assert connection.getpeername() == ("127.0.0.1", server)


def test_an_address_that_is_silent_takes_its_share_of_the_time_only(names, server, monkeypatch):
    names("192.0.2.1", "127.0.0.1")
    shares, real = [], socket.create_connection

    def dial(address, timeout):
        shares.append(timeout)
        if address[0] == "192.0.2.1":
            raise TimeoutError
        return real(address, timeout)

    monkeypatch.setattr(socket, "create_connection", dial)
    connect("host.example", server, 8).close()
    assert 3.5 < shares[0] <= 4
    assert 7 < shares[1] <= 8


def test_the_last_refusal_is_the_error(names, server):
    names("127.0.0.3", "127.0.0.2")
    with pytest.raises(ConnectionRefusedError):
        connect("host.example", server, 5)


def test_a_name_without_an_address_is_an_error(names):
    names()
    with pytest.raises(OSError, match="no address"):
        connect("host.example", 80, 5)


@pytest.mark.parametrize("name", ["x" * 70, "a..b"])
def test_what_is_no_name_is_an_error(name):
    with pytest.raises((UnicodeError, OSError)):
        connect(name, 80, 5)


def test_a_look_up_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: HELD.wait(30) and [])
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        connect("host.example", 80, 0.1)
    assert time.monotonic() - started < 0.1 + 2


def test_what_is_given_up_does_not_keep_the_process_from_ending():
    with pytest.raises(TimeoutError):
        within(0.01, partial(HELD.wait, 30))
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "within")


def test_a_function_in_time_returns_or_raises():
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
