"""Connections: the engine for a ``DATABASE_URL``, and transactions with limits and one-line errors.

Transactions commit as a whole, one writer at a time, and none waits past its deadline. A process keeps one connection,
and holds it only inside a transaction. No message holds a password.
"""

from __future__ import annotations

import logging
import math
import struct
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
from domain.errors import ConfigError, DataError
from storage.limits import IDLE_SECONDS, Limits
from storage.refusals import UNWRITABLE, login_refusal, refusal, server_error_fields
from storage.sockets import open_socket, tls_context

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
WAL_PAGES = 16_000  # of 4 KB, after which a commit copies SQLite's log into the file
WRITE_LOCK = 0x53544F434B01  # arbitrary, but the same for every process of this project
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


@lru_cache(maxsize=16)
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
    if parsed.host and "@" in f"{parsed.host}{parsed.database}":
        raise ConfigError("DATABASE_URL has an @ in its password or name: percent-encode it as %40")
    shown = (parsed.username, parsed.host, parsed.database, *parsed.query, *parsed.query.values())
    if not all(str(part).isprintable() for part in shown):
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
    engine = create_engine(url, execution_options={"path": Path(url.database).absolute()}, **ONE_CONNECTION)

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
        # A day of many symbols touches most pages of the index. By default each such commit would write them twice: to
        # the log and into the file. What is committed is on the disk all the same (synchronous = FULL).
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")

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
    host, port = url.host or "localhost", url.port or 5432
    if folder:
        query["unix_sock"] = f"{folder}/.s.PGSQL.{port}"
    is_local = "unix_sock" in query or host in LOCAL_HOSTS
    mode = str(mode or ("prefer" if is_local else "verify-full"))
    context = tls_context(mode, authority)
    username = url.username or "postgres"
    url = url.set(drivername="postgresql+pg8000", username=username, host=host, port=port, query=query)
    engine = create_engine(url, pool_recycle=600, **ONE_CONNECTION)

    @event.listens_for(engine, "do_connect")
    def _connect_within_limits(_dialect: Any, record: Any, _args: Any, params: dict[str, Any]) -> Any:
        import pg8000

        from storage.driver import Connection as DriverConnection

        params.setdefault("password", "")  # a server that asks for one refuses this; the driver would break on None
        address = params.pop("unix_sock", None) or (host, port)
        with ExitStack() as on_failure:
            opened = open_socket(address, _limits.get(Limits()).connect_end)
            on_failure.callback(opened.close)
            if context:
                opened = opened.start_tls(context, host, required=mode != "prefer")
                on_failure.callback(opened.close)
            try:
                connected = DriverConnection(sock=opened, ssl_context=False, **params)
            except pg8000.InterfaceError as error:
                if refused := login_refusal(error):
                    raise refused from None
                raise
            except (LookupError, ValueError, struct.error):
                raise ConnectionError("it does not answer as PostgreSQL does") from None
            record.info["socket"] = opened
            on_failure.pop_all()
        return connected

    @event.listens_for(engine, "connect")
    @event.listens_for(engine, "checkin")
    def _forget_end(_driver: Any, record: Any) -> None:
        # The end of a login or of a transaction is not that of what the connection is used for next.
        if opened := record.info.get("socket"):
            opened.end = math.inf

    @event.listens_for(engine, "before_cursor_execute")
    def _shorten_statement_timeout(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        limits = connection.get_execution_options().get("limits")
        # After a refused statement the server takes nothing but the rollback to a savepoint.
        if limits and not statement.startswith("ROLLBACK") and (news := limits.news()):
            _send(connection, news, limits.end)

    @event.listens_for(engine, "invalidate")
    def _close_socket(_driver: Any, record: Any, _error: Any) -> None:
        # The driver does not close the socket of a connection that died.
        if opened := record.info.pop("socket", None):
            opened.close()

    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

    return engine


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
    message = BEGIN.format(lock=limits.lock * 1000, statement=limits.statement() * 1000)
    if write:
        message += f"; SELECT pg_try_advisory_xact_lock({WRITE_LOCK}), clock_timestamp()"
    was_used = "used" in connection.info
    try:
        answer = _send(connection, message, limits.alive_end if was_used else limits.end)
    except (connection.dialect.loaded_dbapi.Error, OSError):
        if not was_used:
            raise
        connection.invalidate()
        answer = _send(connection, message, limits.end)
    connection.info["used"] = True
    connection.info["socket"].end = limits.end
    if write and not answer.rows[0][0]:
        answer = _send(connection, f"SELECT pg_advisory_xact_lock({WRITE_LOCK}), clock_timestamp()", limits.end)
    connection.info["locked_at"] = answer.rows[0][1] if write else None


def _send(connection: Connection, message: str, end: float) -> Any:
    """Send statements by the driver, which would put a round trip for BEGIN before the first of them."""
    driver: Any = connection.connection.dbapi_connection
    connection.info["socket"].end = end
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
    """Return the moment by the database's clock, of a transaction that writes when it took the write lock.

    SQLite's clock is this machine's.
    """
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    moment: datetime | None = connection.info["locked_at"]
    return moment or connection.execute(text("SELECT clock_timestamp()")).scalar_one()


def database_exists(engine: Engine) -> bool:
    """Return whether there is a database to connect to; connecting to a missing SQLite file would create it.

    Raises
    ------
    DataError
        If the folder of a SQLite file is missing: no run can make the file.
    """
    path: Path | None = engine.get_execution_options().get("path")  # as it was when the engine was made
    if path is not None and not path.parent.exists():
        raise DataError(f"{redacted_url(engine)}: there is no folder {path.parent}")
    return path is None or path.exists()


@contextmanager
def _one_line_errors(engine: Engine, limits: Limits) -> Iterator[None]:
    """Turn database errors into one line. COPY bypasses SQLAlchemy: its errors are the driver's own or a socket's."""
    try:
        yield
    except DBAPIError as error:
        raise refusal(redacted_url(engine), error.orig, limits) from None
    except (engine.dialect.loaded_dbapi.Error, TimeoutError, ConnectionResetError) as error:
        raise refusal(redacted_url(engine), error, limits) from None
    except PoolTimeoutError:
        raise DataError(f"{redacted_url(engine)}: this process uses its one connection already") from None


@contextmanager
def _connecting(engine: Engine, limits: Limits) -> Iterator[None]:
    """Open a connection within the limits; its failures are of one line."""
    token = _limits.set(limits)
    try:
        with _one_line_errors(engine, limits):
            yield
    except (OSError, UnicodeError) as error:
        raise DataError(
            f"{redacted_url(engine)} cannot be reached: {getattr(error, 'strerror', None) or error}"
        ) from None
    finally:
        _limits.reset(token)
