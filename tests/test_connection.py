"""Connections over TCP and TLS settings, against a real PostgreSQL behind a relay that a test can cut."""

from __future__ import annotations

import gc
import socket
import threading
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from connection import describe, open_engine, run_lock, transaction
from errors import ConfigError, DataError


class Relay:
    """A TCP port of this machine that leads to a PostgreSQL server, wherever that listens."""

    def __init__(self, url: str) -> None:
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
            server = self._reach()
            self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                thread = threading.Thread(target=self._pump, args=(source, target))
                self._threads.append(thread)
                thread.start()

    def _reach(self) -> socket.socket:
        port = self._target.port or 5432
        if folder := self._target.query.get("host"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{folder}/.s.PGSQL.{port}")
            return server
        return socket.create_connection((self._target.host, port))

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def cut(self) -> None:
        """End all connections, as a NAT gateway or a restarted server does."""
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=5)
        for connection in self._open:
            connection.close()


@pytest.fixture
def relay(postgresql_url: str) -> Iterator[Relay]:
    relay = Relay(postgresql_url)
    try:
        yield relay
    finally:
        relay.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the driver drops a connection that was cut unclosed
            gc.collect()


@pytest.fixture
def tcp_url(relay: Relay, postgresql_url: str) -> Iterator[str]:
    target = make_url(postgresql_url)
    host = {"host": "127.0.0.1", "port": relay.port}
    url = target.set(**host, query={}).render_as_string(hide_password=False)
    yield url
    open_engine(url).dispose()


def test_a_server_is_reached_over_tcp(tcp_url: str) -> None:
    with transaction(open_engine(tcp_url)) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_connection_that_died_while_the_container_slept_is_replaced(tcp_url: str, relay: Relay) -> None:
    with transaction(open_engine(tcp_url)) as connection:
        first = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    relay.cut()

    with transaction(open_engine(tcp_url)) as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() != first


def test_a_connection_that_dies_inside_a_transaction_is_one_line(tcp_url: str, relay: Relay) -> None:
    with pytest.raises(DataError, match=r"^PostgreSQL at 127\.0\.0\.1:\d+/") as caught:
        with transaction(open_engine(tcp_url)) as connection:
            connection.execute(text("SELECT 1"))
            relay.cut()
            connection.execute(text("SELECT 1"))
    assert "\n" not in str(caught.value)


def test_tls_is_demanded_when_the_url_says_so(tcp_url: str) -> None:
    with pytest.raises(DataError, match=r"SSL|TLS"), transaction(open_engine(f"{tcp_url}?sslmode=require")):
        raise AssertionError("an unencrypted connection was made")


def test_a_wrong_password_is_not_in_the_message() -> None:
    url = "postgresql://someone:hidden-word@127.0.0.1:9/prices"
    with pytest.raises(DataError, match=r"^PostgreSQL at 127.0.0.1:9/prices cannot be reached") as caught:
        with transaction(open_engine(url)):
            raise AssertionError("connected to nothing")
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "DATABASE_URL is not a database URL"),
        ("postgresql://u:hidden-word@host:port/db", "DATABASE_URL is not a database URL"),
        ("mysql://u:hidden-word@host/db", "DATABASE_URL names 'mysql'"),
        ("sqlite://", "DATABASE_URL names no file"),
        (
            "postgresql://u:hidden-word@host/db?sslmode=maybe",
            "DATABASE_URL has sslmode='maybe'; valid",
        ),
        ("postgresql://u:hidden-word@host/db?color=red", "DATABASE_URL has the option color; valid are"),
        ("postgresql://u:hidden-word@host/db?sslrootcert=nowhere.pem", "DATABASE_URL has sslrootcert='nowhere.pem'"),
    ],
)
def test_a_bad_url_is_one_line_that_names_what_is_valid(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_engine(url)
    assert str(caught.value).startswith(message)
    assert "hidden-word" not in str(caught.value)


def test_a_place_is_described_without_user_and_password() -> None:
    assert (
        describe(open_engine("postgresql://me:hidden@db.example.com/prices"))
        == "PostgreSQL at db.example.com:5432/prices"
    )


def test_a_transaction_is_all_or_nothing(database_url: str) -> None:
    engine = open_engine(database_url)
    with transaction(engine) as connection:
        connection.execute(text("CREATE TABLE kept (n INTEGER)"))
    with pytest.raises(ZeroDivisionError), transaction(engine) as connection:
        connection.execute(text("INSERT INTO kept VALUES (1)"))
        raise ZeroDivisionError
    with transaction(engine, write=False) as connection:
        assert connection.execute(text("SELECT count(*) FROM kept")).scalar() == 0


def test_a_second_run_waits_for_the_first_and_then_says_so(database_url: str) -> None:
    engine = open_engine(database_url)
    with run_lock(engine, 1):
        with pytest.raises(DataError, match="another run is still going on; try again later"):
            with run_lock(engine, 0.2):
                raise AssertionError("two runs at once")
    with run_lock(engine, 1):
        pass


JANUARY, FEBRUARY = [date(2013, 1, day) for day in range(1, 32)], [date(2013, 2, day) for day in range(1, 29)]


def test_runs_of_other_sessions_go_on_at_the_same_time(postgresql_url: str) -> None:
    engine = open_engine(postgresql_url)
    with run_lock(engine, 1, JANUARY) as alone, run_lock(engine, 1, FEBRUARY) as alone_too:
        assert (alone, alone_too) == (False, False)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(JANUARY, JANUARY, id="the same sessions"),
        pytest.param(JANUARY, [*JANUARY[-1:], *FEBRUARY], id="a session in common"),
        pytest.param(JANUARY, [], id="all sessions, while one holds some"),
        pytest.param([], JANUARY, id="some sessions, while one holds all"),
        pytest.param(JANUARY, [date.fromordinal(735_000 + n) for n in range(261)], id="too many to hold one by one"),
    ],
)
def test_runs_that_could_meet_follow_one_another(postgresql_url: str, first: list[date], second: list[date]) -> None:
    engine = open_engine(postgresql_url)
    with run_lock(engine, 1, first):
        with pytest.raises(DataError, match="another run is still going on"), run_lock(engine, 0.2, second):
            raise AssertionError("two runs at once")
    with run_lock(engine, 1, second):
        pass


def test_on_sqlite_every_run_is_alone(sqlite_url: str) -> None:
    with run_lock(open_engine(sqlite_url), 1, JANUARY) as alone:
        assert alone
        with pytest.raises(DataError, match="another run"), run_lock(open_engine(sqlite_url), 0.2, FEBRUARY):
            raise AssertionError("two runs at once")


def test_a_sqlite_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/no-such-folder/prices.db")
    with pytest.raises(DataError, match=r"^SQLite file .*no-such-folder/prices.db: unable to open database file$"):
        with transaction(engine):
            raise AssertionError("opened nothing")
