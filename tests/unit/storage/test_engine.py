"""Connections over TCP, TLS settings and transactions, against a real PostgreSQL behind a proxy that a test can cut."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text

from domain.errors import ConfigError, CredentialsError, DataError
from storage.engine import database_exists, open_engine, redacted_url, transaction
from tests.support.rough_server import rough_server, sending
from tests.support.tcp_proxy import TcpProxy


def test_a_server_is_reached_over_tcp(tcp_url: str) -> None:
    with transaction(open_engine(tcp_url)) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_a_connection_that_was_dropped_while_idle_is_replaced(tcp_url: str, proxy: TcpProxy) -> None:
    with transaction(open_engine(tcp_url)) as connection:
        first = connection.execute(text("SELECT pg_backend_pid()")).scalar()
    proxy.cut()

    with transaction(open_engine(tcp_url)) as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar() != first


def test_a_connection_that_dies_inside_a_transaction_is_one_line(tcp_url: str, proxy: TcpProxy) -> None:
    with pytest.raises(DataError, match=r"^PostgreSQL at 127\.0\.0\.1:\d+/") as caught:
        with transaction(open_engine(tcp_url)) as connection:
            connection.execute(text("SELECT 1"))
            proxy.cut()
            connection.execute(text("SELECT 1"))
    assert "\n" not in str(caught.value)


def test_a_refused_login_is_one_also_if_the_server_hangs_up_first(tmp_path: Path) -> None:
    fields = b"SFATAL\0VFATAL\0C28P01\0Mwrong password\0\0"

    def refuse(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65_536)
            connection.shutdown(socket.SHUT_RD)  # the driver's goodbye fails from now on
            connection.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
            connection.recv(1)

    with socket.socket(socket.AF_UNIX) as server, ThreadPoolExecutor() as pool:
        server.bind(f"{tmp_path}/.s.PGSQL.5432")
        server.listen()
        refused = pool.submit(refuse, server)
        with pytest.raises(CredentialsError, match="wrong password; check the user and the password in DATABASE_URL"):
            with transaction(open_engine(f"postgresql://u:p@/x?host={tmp_path}&sslmode=disable")):
                pass
        refused.result()


def test_sslmode_require_refuses_a_server_without_tls(tcp_url: str) -> None:
    with pytest.raises(DataError, match=r"SSL|TLS"), transaction(open_engine(f"{tcp_url}?sslmode=require")):
        raise AssertionError("an unencrypted connection was made")


@pytest.mark.parametrize("answers", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"N" + bytes(100)], ids=["HTTP", "zeros"])
def test_a_server_that_is_not_postgresql_is_one_line(answers: bytes) -> None:
    with rough_server(sending(answers)) as server:
        with pytest.raises(DataError, match=rf"^PostgreSQL at 127\.0\.0\.1:{server.port}/prices\b") as caught:
            with transaction(open_engine(f"postgresql://127.0.0.1:{server.port}/prices")):
                raise AssertionError("logged in")
    assert "\n" not in str(caught.value)


def test_a_password_that_is_missing_is_one_line() -> None:
    refused = b"SFATAL\0C28P01\0Mpassword authentication failed\0\0"
    asked = b"R" + (23).to_bytes(4) + (10).to_bytes(4) + b"SCRAM-SHA-256\0\0"

    def refuse(connection: socket.socket) -> None:
        sending(asked)(connection)
        sending(b"E" + (len(refused) + 4).to_bytes(4) + refused)(connection)

    with rough_server(sending(b"N", then=refuse)) as server:
        with pytest.raises(CredentialsError, match="check the user and the password in DATABASE_URL"):
            with transaction(open_engine(f"postgresql://someone@127.0.0.1:{server.port}/prices")):
                raise AssertionError("logged in")


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


def test_a_redacted_url_has_no_user_and_no_password() -> None:
    assert (
        redacted_url(open_engine("postgresql://me:hidden@db.example.com/prices"))
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


def test_a_sqlite_file_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/no-such-folder/prices.db")
    with pytest.raises(
        DataError,
        match=r"^SQLite file .*no-such-folder/prices.db: unable to open database file; its folder must exist, ",
    ):
        with transaction(engine):
            raise AssertionError("opened nothing")


def test_a_relative_sqlite_file_stays_where_the_engine_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    engine = open_engine("sqlite:///prices.db")
    (elsewhere / "prices.db").touch()

    monkeypatch.chdir(elsewhere)

    assert not database_exists(engine)
    with transaction(engine) as connection:
        connection.execute(text("CREATE TABLE kept (n INTEGER)"))
    engine.dispose()
    assert database_exists(engine)
    assert (tmp_path / "prices.db").stat().st_size > (elsewhere / "prices.db").stat().st_size == 0


def test_a_sqlite_file_in_no_folder_is_not_taken_for_one_that_is_empty(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/no-such-folder/prices.db")
    with pytest.raises(
        DataError, match=r"^SQLite file .*/no-such-folder/prices.db: there is no folder .*/no-such-folder$"
    ):
        database_exists(engine)
