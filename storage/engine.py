"""Connections: the engine for a ``DATABASE_URL``, its TLS, and transactions with one-line errors.

Transactions commit as a whole, one writer at a time. No message holds a password.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from domain.errors import ConfigError, CredentialsError, DataError, StockTrackerError

CONNECT_SECONDS = 10
LOCAL_HOSTS = ("", "localhost", "127.0.0.1", "::1")
SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN")
WRITE_LOCK = 0x53544F434B01  # arbitrary, but the same for every process of this project
LOGIN_REFUSED = "28"  # class of SQLSTATE: invalid authorization specification


@lru_cache(maxsize=4)
def open_engine(url: str) -> Engine:
    """Return the engine for a ``DATABASE_URL``: made once, connected at first use, kept between warm invocations.

    Parameters
    ----------
    url : str
        ``sqlite:///file.db`` or ``postgresql://user:password@host:port/database``. For PostgreSQL the query may hold
        libpq's ``sslmode`` (default: ``verify-full``, but ``prefer`` on this machine), ``sslrootcert`` (a CA file) and
        ``host`` (the folder of a Unix socket).

    Raises
    ------
    ConfigError
        If the URL is malformed or names another kind of database.
    """
    try:
        parsed = make_url(url)
        parsed.port  # noqa: B018 - a malformed port shows here
    except (ArgumentError, ValueError):
        raise ConfigError("DATABASE_URL is not a database URL; valid is sqlite:///file.db or postgresql://…") from None
    if "@" in f"{parsed.host}{parsed.database}" and parsed.host:
        raise ConfigError("DATABASE_URL has an @ in its password or name: percent-encode it as %40")
    if not "".join(map(str, (parsed.host, parsed.database, *parsed.query, *parsed.query.values()))).isprintable():
        raise ConfigError("DATABASE_URL has a character in its host, database or options that cannot be printed")
    kind = parsed.drivername
    if kind in ("sqlite", "sqlite+pysqlite"):
        return _sqlite_engine(parsed)
    if kind in ("postgres", "postgresql", "postgresql+pg8000"):
        return _postgresql_engine(parsed)
    raise ConfigError(f"DATABASE_URL names {kind!r}; valid is sqlite:///file.db or postgresql://…")


def _sqlite_engine(url: URL) -> Engine:
    import sqlite3

    if url.query or url.host or url.port or not url.database or url.database.startswith((":memory:", "file:")):
        raise ConfigError(
            "DATABASE_URL names no file; valid is sqlite:///file.db, as every run starts from what is stored"
        )
    engine = create_engine(url, connect_args={"timeout": 60})

    @event.listens_for(engine, "do_connect")
    def _connect_where_nothing_can_be_written(dialect: Any, _record: Any, args: Any, params: Any) -> Any:
        connection = dialect.connect(*args, **params)
        try:
            connection.execute("PRAGMA page_count")
        except sqlite3.DatabaseError as error:
            connection.close()
            # SQLite makes files beside one in WAL mode even to read it. Without them, that one is all there is.
            has_others = any(Path(f"{args[0]}{name}").exists() for name in ("-wal", "-journal"))
            if has_others or not error.sqlite_errorname.startswith(UNWRITABLE):
                raise
            return dialect.connect(f"{Path(args[0]).as_uri()}?immutable=1", uri=True, **params)
        return connection

    @event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        if connection.execute("PRAGMA page_count").fetchone() == (0,):  # a new file: readers need not wait for writers
            # The first two connections may try at once, and SQLite refuses one without waiting; the mode is the file's.
            with suppress(sqlite3.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: waiting for it later could fail with "database is locked".
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgresql_engine(url: URL) -> Engine:
    query = dict(url.query)
    mode, authority = query.pop("sslmode", None), query.pop("sslrootcert", None)
    folder = query.pop("host", None)
    query.pop("channel_binding", None)  # hosted services put it into their URLs; pg8000 binds by itself
    if query.keys() - {"unix_sock", "application_name"}:
        unknown = ", ".join(sorted(query))
        raise ConfigError(f"DATABASE_URL has the option {unknown}; valid are host, sslmode, sslrootcert, unix_sock")
    port = url.port or 5432
    if folder:
        query["unix_sock"] = f"{folder}/.s.PGSQL.{port}"
    host, local = url.host or "", "unix_sock" in query or (url.host or "") in LOCAL_HOSTS
    context = _ssl_context(str(mode or ("prefer" if local else "verify-full")), authority)
    url = url.set(
        drivername="postgresql+pg8000",
        query=query,
        username=url.username or "postgres",
        host=host or "localhost",
        port=port,
    )
    engine = create_engine(url, pool_pre_ping=True, pool_recycle=600, connect_args={"ssl_context": context})

    if "unix_sock" not in query:

        @event.listens_for(engine, "do_connect")
        def _connect_within_bounds(_dialect: Any, record: Any, _args: Any, params: dict[str, Any]) -> Any:
            import pg8000

            with ExitStack() as on_failure:
                connection = on_failure.enter_context(_open_socket(host or "localhost", port))
                connected = pg8000.Connection(sock=connection, **params)
                record.info["socket"] = connection
                on_failure.pop_all()
            return connected

        @event.listens_for(engine, "invalidate")
        def _close_socket(_connection: Any, record: Any, _error: Any) -> None:
            # The driver does not close the socket of a connection that died; the pool would report that it failed to.
            if dead := record.info.pop("socket", None):
                dead.close()

        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

    return engine


def _open_socket(host: str, port: int) -> socket.socket:
    """Open a TCP connection that gives up on an unreachable host, while connecting and afterwards."""
    connection = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages are sent at once
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # a warm container's connection may have been dropped silently
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, CONNECT_SECONDS * 1000)
    return connection


def _ssl_context(mode: str, authority: str | tuple[str, ...] | None) -> ssl.SSLContext | bool | None:
    """Translate libpq's ``sslmode`` into pg8000's terms: False is without TLS, None is TLS where the server has it."""
    if mode not in SSL_MODES:
        raise ConfigError(f"DATABASE_URL has sslmode={mode!r}; valid are {', '.join(SSL_MODES)}")
    if mode in ("disable", "prefer"):
        return False if mode == "disable" else None
    try:
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
    except OSError as error:
        raise ConfigError(f"DATABASE_URL has sslrootcert={authority!r}, which cannot be read: {error}") from None
    if mode != "verify-full":
        context.check_hostname = False
    if mode == "require" and not authority:  # libpq, too, verifies under "require" when it has a CA file
        context.verify_mode = ssl.CERT_NONE
    return context


def redacted_url(engine: Engine) -> str:
    """Name the place of the database, without user and password."""
    url = engine.url
    if url.get_backend_name() == "sqlite":
        return f"SQLite file {url.database}"
    return f"PostgreSQL at {url.query.get('unix_sock') or f'{url.host}:{url.port}'}/{url.database or url.username}"


@contextmanager
def transaction(engine: Engine, *, write: bool = True) -> Iterator[Connection]:
    """Run one transaction: all of it is committed, or none.

    Parameters
    ----------
    engine : sqlalchemy.Engine
    write : bool
        Take the write lock first, so that each writer sees all that the one before wrote.

    Raises
    ------
    DataError
        If the database cannot be reached or refuses; one line, with its place and without a password.
    CredentialsError
        If it refuses the login.
    """
    with ExitStack() as stack:
        with connecting(engine):
            connection = stack.enter_context(engine.connect())
        stack.enter_context(_one_line_errors(engine))
        with connection.execution_options(write=write).begin():
            if write and engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITE_LOCK})
            yield connection


def database_time(connection: Connection) -> datetime:
    """Return the moment by the database's clock; SQLite's is this machine's."""
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment


def database_exists(engine: Engine) -> bool:
    """Return whether there is a database to connect to; connecting to a missing SQLite file would create it."""
    return engine.dialect.name != "sqlite" or Path(str(engine.url.database)).exists()


@contextmanager
def _one_line_errors(engine: Engine) -> Iterator[None]:
    """Turn database errors into one line; COPY bypasses SQLAlchemy, so its errors are the driver's own."""
    try:
        yield
    except DBAPIError as error:
        raise _refusal(engine, error.orig) from None
    except engine.dialect.loaded_dbapi.Error as error:
        raise _refusal(engine, error) from None


def _refusal(engine: Engine, error: BaseException | None) -> StockTrackerError:
    message = f"{redacted_url(engine)}: {one_line_message(error)}"
    if server_error_fields(error).get("C", "").startswith(LOGIN_REFUSED):
        return CredentialsError(f"{message}; check the user and the password in DATABASE_URL")
    if str(getattr(error, "sqlite_errorname", "")).startswith(UNWRITABLE):
        return DataError(f"{message}; its folder must exist, and you need the right to write to both")
    return DataError(message)


@contextmanager
def connecting(engine: Engine) -> Iterator[None]:
    """Turn connection failures into a DataError or a CredentialsError of one line."""
    try:
        with _one_line_errors(engine):
            yield
    except (OSError, UnicodeError) as error:
        raise DataError(f"{redacted_url(engine)} cannot be reached: {error}") from None


def one_line_message(error: BaseException | None) -> str:
    """Return the driver's message in one line."""
    said = error.args[0] if error and error.args else error
    return " ".join((server_error_fields(error).get("M") or str(said)).split())


def server_error_fields(error: BaseException | None) -> dict[str, str]:
    """Return the fields of PostgreSQL's error (``C`` is the SQLSTATE, ``M`` the message); empty for other errors."""
    said = error.args[0] if error and error.args else None
    return said if isinstance(said, dict) else {}
