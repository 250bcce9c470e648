"""Connections: the engine for a ``DATABASE_URL``, its TLS, and transactions with limits and one-line errors.

Transactions commit as a whole, one writer at a time, and none waits past its deadline. A process keeps one connection,
and holds it only inside a transaction. No message holds a password.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from domain.clock import Deadline
from domain.errors import ConfigError, CredentialsError, DataError, StockTrackerError, TimeUpError
from domain.text import clean_text
from storage.limits import ALIVE_SECONDS, CONNECT_SECONDS, IDLE_SECONDS, Limits

LOCAL_HOSTS = ("", "localhost", "127.0.0.1", "::1")
SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN")
WRITE_LOCK = 0x53544F434B01  # arbitrary, but the same for every process of this project
LONGEST_MESSAGE = 500  # characters of what the server says
LOGIN_REFUSED = "28"  # class of SQLSTATE: invalid authorization specification
LOCK_NOT_AVAILABLE, QUERY_CANCELED = "55P03", "57014"  # SQLSTATE of a limit that was reached
SQLITE_BUSY = 5  # its primary result code
ONE_CONNECTION: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 60}

# Whatever the server, the database or the role says, values are read and written in this form, and each statement sees
# what was committed before it. A pooler in transaction mode keeps nothing else than what a transaction sets itself.
BEGIN = "; ".join(
    (
        "BEGIN ISOLATION LEVEL READ COMMITTED",
        "SET LOCAL client_encoding = 'UTF8'",
        "SET LOCAL datestyle = 'ISO, MDY'",
        "SET LOCAL timezone = 'UTC'",
        "SET LOCAL intervalstyle = 'postgres'",
        "SET LOCAL extra_float_digits = 1",
        "SET LOCAL standard_conforming_strings = on",
        "SET LOCAL lock_timeout = {lock:.0f}",
        "SET LOCAL statement_timeout = {statement:.0f}",
        f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_SECONDS * 1000:.0f}",
    )
)

_limits: ContextVar[Limits] = ContextVar("_limits")
"""The limits of the transaction that a connection is opened for."""


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
    if not "".join(
        map(str, (parsed.username, parsed.host, parsed.database, *parsed.query, *parsed.query.values()))
    ).isprintable():
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
    engine = create_engine(url, **ONE_CONNECTION)

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
            with suppress(connection.OperationalError):
                connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock at once: waiting for it later could fail with "database is locked".
        options = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {options.get('limits', Limits()).lock * 1000:.0f}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("write") else "BEGIN")

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
    engine = create_engine(url, pool_recycle=600, connect_args={"ssl_context": context}, **ONE_CONNECTION)

    @event.listens_for(engine, "do_connect")
    def _connect_within_limits(_dialect: Any, record: Any, _args: Any, params: dict[str, Any]) -> Any:
        import pg8000

        path = params.pop("unix_sock", None)
        with ExitStack() as on_failure:
            seconds = _limits.get(Limits()).connect
            opened = _open_socket(path or (host or "localhost", port), seconds)
            on_failure.callback(_abandon, opened)
            try:
                connected = pg8000.Connection(sock=opened, **params)
            except pg8000.InterfaceError as error:
                raise _login_refusal(error) from None
            record.info["socket"] = connected._usock  # the same one, or TLS around it
            on_failure.pop_all()
        return connected

    @event.listens_for(engine, "before_cursor_execute")
    def _limit_silence(connection: Connection, *_: Any) -> None:
        limits = connection.get_execution_options().get("limits", Limits())
        connection.info["socket"].settimeout(limits.silence)

    @event.listens_for(engine, "invalidate")
    def _close_socket(driver: Any, record: Any, _error: Any) -> None:
        # The driver does not close the socket of a connection that died, nor what is buffered for it; the pool and the
        # garbage collector would report that they failed to.
        if dead := record.info.pop("socket", None):
            with suppress(OSError):  # it may be closed already
                dead.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                driver._sock.close()
            dead.close()

    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

    return engine


def _login_refusal(error: BaseException) -> BaseException:
    """Return the server's refusal of a login. The driver's failure to close what the server has closed hides it."""
    refusal: BaseException | None = error
    while refusal is not None and not server_error_fields(refusal):
        refusal = refusal.__context__
    return refusal or error


def _abandon(connection: socket.socket) -> None:
    """Close a socket at once, also if the driver still refers to it."""
    if (descriptor := connection.detach()) >= 0:
        socket.close(descriptor)


def _open_socket(address: str | tuple[str, int], seconds: float) -> socket.socket:
    """Open a connection over TCP, or to a Unix socket, that waits only so long until a transaction sets its limits."""
    if isinstance(address, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(seconds)
        try:
            connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection
    connection = socket.create_connection(address, timeout=seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small messages are sent at once
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A warm container's connection may have been dropped silently: ask after 10 s, and give up after 10 more.
    seconds_each = {"TCP_KEEPIDLE": CONNECT_SECONDS, "TCP_KEEPINTVL": CONNECT_SECONDS / 5, "TCP_KEEPCNT": 5}
    for name, value in {**seconds_each, "TCP_USER_TIMEOUT": CONNECT_SECONDS * 1000}.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), int(value))
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
        return f"SQLite file {Path(str(url.database)).absolute()}"
    return f"PostgreSQL at {url.query.get('unix_sock') or f'{url.host}:{url.port}'}/{url.database or url.username}"


def until(engine: Engine, deadline: Deadline) -> Engine:
    """Return the engine with a deadline that bounds each of its transactions."""
    return engine.execution_options(deadline=deadline)


@contextmanager
def transaction(engine: Engine, *, write: bool = True) -> Iterator[Connection]:
    """Run one transaction: all of it is committed, or none.

    Nothing in it waits past the engine's deadline (:func:`until`); without one, a minute for a lock, and ten for a
    statement. After any failure but a refused statement the connection is closed: the rest of an answer may be in it.

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
    TimeUpError
        If it does not answer before the deadline, or another session holds a lock until then.
    """
    limits = Limits(engine.get_execution_options().get("deadline"))
    with ExitStack() as stack:
        stack.enter_context(_one_line_errors(engine, limits))
        with _connecting(engine, limits):
            connection = stack.enter_context(engine.connect().execution_options(write=write, limits=limits))
            if engine.dialect.name == "postgresql":
                with _closed_after_failure(connection):
                    _begin(connection, limits, write=write)
        with connection.begin(), _closed_after_failure(connection):
            yield connection


def _begin(connection: Connection, limits: Limits, *, write: bool) -> None:
    """Begin a transaction with its settings and limits, and take the write lock: one message, if that is free.

    A connection that was used before may have died silently; it is then replaced by a new one, once.
    """
    message = BEGIN.format(lock=limits.lock * 1000, statement=limits.statement * 1000)
    if write:
        message += f"; SELECT pg_try_advisory_xact_lock({WRITE_LOCK})"
    was_used = "used" in connection.info
    try:
        answer = _send(connection, message, min(ALIVE_SECONDS, limits.silence / 2) if was_used else limits.silence)
    except (connection.dialect.loaded_dbapi.Error, OSError):
        if not was_used:
            raise
        connection.invalidate()
        answer = _send(connection, message, limits.silence)
    connection.info["used"] = True
    if write and answer.rows != [[True]]:
        _send(connection, f"SELECT pg_advisory_xact_lock({WRITE_LOCK})", limits.silence)


def _send(connection: Connection, message: str, seconds: float) -> Any:
    """Send statements by the driver, which would put a round trip for BEGIN before the first of them."""
    driver: Any = connection.connection.dbapi_connection
    connection.info["socket"].settimeout(seconds)
    return driver.execute_simple(message)


@contextmanager
def _closed_after_failure(connection: Connection) -> Iterator[None]:
    """Close the connection, instead of returning it to the pool, unless all that happened is a refused statement.

    After an interrupt or an error inside the driver, the rest of an answer would be read as the next one's.
    """
    try:
        yield
    except BaseException as error:
        refused = error.orig if isinstance(error, DBAPIError) else error
        if not server_error_fields(refused) and not hasattr(refused, "sqlite_errorcode"):
            connection.invalidate()
        raise


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
def _one_line_errors(engine: Engine, limits: Limits) -> Iterator[None]:
    """Turn database errors into one line. COPY bypasses SQLAlchemy: its errors are the driver's own or a socket's."""
    try:
        yield
    except DBAPIError as error:
        raise _refusal(engine, error.orig, limits) from None
    except (engine.dialect.loaded_dbapi.Error, TimeoutError, ConnectionResetError) as error:
        raise _refusal(engine, error, limits) from None
    except PoolTimeoutError:
        raise DataError(f"{redacted_url(engine)}: this process uses its one connection already") from None


def _refusal(engine: Engine, error: BaseException | None, limits: Limits) -> StockTrackerError:
    place, code = redacted_url(engine), server_error_fields(error).get("C", "")
    message = f"{place}: {one_line_message(error)}"
    if code.startswith(LOGIN_REFUSED):
        return CredentialsError(f"{message}; check the user and the password in DATABASE_URL")
    is_locked = code == LOCK_NOT_AVAILABLE or getattr(error, "sqlite_errorcode", 0) & 0xFF == SQLITE_BUSY
    is_silent = _is_silence(error)
    if is_locked:
        message = f"{place}: another session holds a lock that is needed, for more than {limits.lock:.0f} s"
    elif is_silent:
        message = f"{place} did not answer in time"
    is_time = is_locked or is_silent or code == QUERY_CANCELED
    if str(getattr(error, "sqlite_errorname", "")).startswith(UNWRITABLE):
        message = f"{message}; its folder must exist, and you need the right to write to both"
    return TimeUpError(message) if limits.is_deadline and is_time else DataError(message)


def _is_silence(error: BaseException | None) -> bool:
    """Whether the server was silent for longer than the socket waits; the driver names the cause of its own error."""
    return isinstance(error, TimeoutError) or (error is not None and isinstance(error.__cause__, TimeoutError))


@contextmanager
def _connecting(engine: Engine, limits: Limits) -> Iterator[None]:
    """Open a connection within the limits; its failures are of one line."""
    token = _limits.set(limits)
    try:
        with _one_line_errors(engine, limits):
            yield
    except (OSError, UnicodeError) as error:
        raise DataError(f"{redacted_url(engine)} cannot be reached: {error}") from None
    finally:
        _limits.reset(token)


def one_line_message(error: BaseException | None) -> str:
    """Return the driver's or the server's message as one clean line."""
    said = error.args[0] if error and error.args else error
    return clean_text(server_error_fields(error).get("M") or str(said), LONGEST_MESSAGE)


def server_error_fields(error: BaseException | None) -> dict[str, str]:
    """Return the fields of PostgreSQL's error (``C`` is the SQLSTATE, ``M`` the message); empty for other errors."""
    said = error.args[0] if error and error.args else None
    return said if isinstance(said, dict) else {}
