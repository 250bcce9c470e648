"""A database that is silent, slow, stopped, locked or set up otherwise: runs end in time, and the next one goes on."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pg8000
import pytest
from sqlalchemy import Connection, Engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

from config import Settings
from domain.clock import Deadline, SystemClock
from domain.errors import DataError, StockTrackerError, TimeUpError
from domain.models import JobResult, Request
from pipeline import jobs
from pipeline.context import RunContext
from sandbox.server import MarketServer
from storage import limits
from storage.bulk import temp_table
from storage.engine import WRITE_LOCK, open_engine, transaction, until
from storage.schema import STOCK_DATA
from tests.conftest import SYMBOLS
from tests.support import oracle, pgbouncer, tcp_proxy
from tests.support.mail_server import make_certificate, server_context
from tests.support.rough_server import Answering, dripping, rough_server, sending
from tests.support.tables import rows, scalar, stock_data
from tests.support.tcp_proxy import Forward, TcpProxy

TODAY = date(2013, 3, 2)
SECONDS = 3.0  # of a run, of which it keeps one back

LOCKS = {
    "stock_data": "LOCK TABLE stock_data IN ACCESS EXCLUSIVE MODE",
    "job_runs": "LOCK TABLE job_runs IN ACCESS EXCLUSIVE MODE",
    "the write lock": f"SELECT pg_advisory_xact_lock({WRITE_LOCK})",
}


@pytest.fixture
def plain_url(tcp_url: str) -> Iterator[str]:
    """The URL of a database through the proxy, without TLS."""
    url = f"{tcp_url}?sslmode=disable"
    yield url
    open_engine(url).dispose()


@pytest.fixture
def settings(market: MarketServer) -> Settings:
    return Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=0)


def run_job(
    settings: Settings, engine: Engine, seconds: float | None = None, reserve: float = 1, **more: Any
) -> JobResult:
    """Load the recorded history of five symbols."""
    deadline = Deadline(seconds, SystemClock(), reserve=reserve)
    return jobs.run_job(Request("initialize", SYMBOLS, TODAY), RunContext(settings, engine, deadline, **more))


@contextmanager
def in_time(seconds: float = SECONDS) -> Iterator[None]:
    """Check that a block takes no longer than a deadline and 2 seconds."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + 2


def at_call(number: int, do: Callable[[], object]) -> Callable[[int, int, str], None]:
    """A progress function that does something before a call of the provider."""

    def progress(done: int, total: int, _doing: str) -> None:
        if done == number < total:
            do()

    return progress


def expected() -> list[oracle.Row]:
    first = date(2012, 11, 19)
    return oracle.table(bar for bar in oracle.recorded_bars() if bar.symbol in SYMBOLS and bar.session >= first)


def last_status(engine: Engine) -> Any:
    return scalar(engine, "SELECT status FROM job_runs ORDER BY place DESC LIMIT 1")


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("options", ["", "?sslmode=disable"], ids=["TLS", "without TLS"])
def test_a_database_that_accepts_and_never_answers_ends_the_run_in_time(
    settings: Settings, silent_server: int, options: str
) -> None:
    engine = open_engine(f"postgresql://someone:hidden-word@127.0.0.1:{silent_server}/prices{options}")

    with in_time(), pytest.raises(TimeUpError) as caught:
        run_job(settings, engine, SECONDS)

    assert str(caught.value) == f"PostgreSQL at 127.0.0.1:{silent_server}/prices did not answer in time"


def test_without_a_deadline_a_silent_database_is_not_waited_for_for_ever(
    silent_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CONNECT_SECONDS", 0.5)
    with in_time(0.5), pytest.raises(DataError, match="did not answer in time"):
        with transaction(open_engine(f"postgresql://127.0.0.1:{silent_server}/prices")):
            raise AssertionError("connected to nothing")


LONG_MESSAGE = b"S\0\0\xff\xff"  # the head of a parameter's status, of 64 KB
TLS_RECORD = b"\x16\x03\x03\x40\0"  # the head of a part of the handshake, of 16 KB

SLOW_LOGINS = {
    "the handshake byte by byte": sending(b"S", then=dripping(TLS_RECORD)),
    "a message byte by byte": sending(b"N", then=dripping(LONG_MESSAGE)),
    "notices now and then": sending(b"N", then=dripping(b"", tcp_proxy.NOTICE)),
    "notices at full speed": sending(b"N", then=dripping(b"", tcp_proxy.NOTICE * 100, seconds=0)),
}


class TestSlowness:
    """A server that always sends something, so that no wait for its next byte is long."""

    @pytest.mark.parametrize("login", SLOW_LOGINS)
    def test_a_login_that_never_ends_ends_in_time(self, login: str) -> None:
        self.check_login(SLOW_LOGINS[login])

    def test_an_encrypted_login_that_never_ends_ends_in_time(self, tmp_path: Path) -> None:
        context = server_context(make_certificate(tmp_path))

        def login(connection: socket.socket) -> None:
            with context.wrap_socket(connection, server_side=True) as encrypted:
                dripping(LONG_MESSAGE)(encrypted)

        self.check_login(sending(b"S", then=login))

    def check_login(self, answer: Answering) -> None:
        """Check how a transaction ends whose server answers like that."""
        with rough_server(answer) as server:
            engine = open_engine(f"postgresql://someone:hidden-word@127.0.0.1:{server.port}/prices")
            with in_time(1), pytest.raises(TimeUpError) as caught:
                with transaction(until(engine, Deadline(1, SystemClock(), reserve=0))):
                    pytest.fail("logged in")
            assert str(caught.value) == f"PostgreSQL at 127.0.0.1:{server.port}/prices did not answer in time"

    def test_the_resolution_of_a_name_that_never_ends_ends_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [asked.wait(10)][:0])
        engine = until(open_engine("postgresql://database.invalid/prices"), Deadline(1, SystemClock(), reserve=0))
        with in_time(1), pytest.raises(TimeUpError, match="did not answer in time"), transaction(engine):
            pytest.fail("connected to nothing")
        asked.set()

    @pytest.mark.parametrize(
        "answers", [tcp_proxy.byte_by_byte, tcp_proxy.a_notice_now_and_then, tcp_proxy.notices_at_full_speed]
    )
    def test_answers_that_never_end_end_the_run_in_time_and_the_next_one_goes_on(
        self, settings: Settings, plain_url: str, proxy: TcpProxy, answers: Forward
    ) -> None:
        engine = open_engine(plain_url)  # the first byte of a notice would say that it has no TLS
        run_job(settings, engine)
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM stock_data; DELETE FROM coverage"))

        def slow_down() -> None:
            proxy.to_client = answers

        with in_time(), pytest.raises(TimeUpError, match="did not answer in time") as caught:
            run_job(settings, engine, SECONDS, reserve=2, progress=at_call(1, slow_down))
        assert "\n" not in str(caught.value)

        proxy.to_client = tcp_proxy.at_once
        with engine.begin() as connection:
            connection.execute(text("UPDATE job_runs SET leased_until = now() WHERE status = 'running'"))
        assert run_job(settings, engine)["status"] == "ok"
        assert stock_data(engine) == expected()

    @pytest.mark.parametrize("read", [False, True], ids=["read slowly", "answered slowly"])
    def test_a_copy_that_never_ends_ends_in_time_and_the_next_one_goes_on(
        self, settings: Settings, tcp_url: str, proxy: TcpProxy, read: bool
    ) -> None:
        engine = open_engine(tcp_url)
        run_job(settings, engine)
        frame = pd.DataFrame({"symbol": "SLOW", "close": np.arange(1_500_000)})  # more than the sockets' buffers hold
        columns = {"symbol": STOCK_DATA.c.symbol, "close": STOCK_DATA.c.close}

        def copy(connection: Any, slow: bool) -> None:
            with temp_table(connection, "slow", columns, frame[:10] if slow and read else frame):
                pass

        def slow_down(target: socket.socket, data: bytes) -> None:
            if read:
                proxy.to_client = tcp_proxy.byte_by_byte
            else:
                proxy.to_server = tcp_proxy.slowly
            tcp_proxy.at_once(target, data)

        short = until(engine, Deadline(1, SystemClock(), reserve=0))
        with in_time(1), pytest.raises(TimeUpError, match="did not answer in time"):
            with transaction(short) as connection:
                proxy.to_server = slow_down
                copy(connection, slow=True)

        proxy.to_client = proxy.to_server = tcp_proxy.at_once
        with transaction(engine) as connection:
            copy(connection, slow=False)

    def test_without_a_deadline_an_answer_that_never_ends_has_the_time_of_a_statement(
        self, tcp_url: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "STATEMENT_SECONDS", 1.0)
        with in_time(1), pytest.raises(DataError, match="did not answer in time"):
            with transaction(open_engine(tcp_url)) as connection:
                proxy.to_client = tcp_proxy.byte_by_byte
                connection.execute(text("SELECT repeat('x', 10000)"))

    def test_a_commit_whose_answer_never_ends_ends_in_time(self, tcp_url: str, proxy: TcpProxy) -> None:
        engine = open_engine(tcp_url)
        with in_time(1), pytest.raises(TimeUpError, match="did not answer in time"):
            with transaction(until(engine, Deadline(1, SystemClock(), reserve=0))):
                proxy.to_client = tcp_proxy.a_notice_now_and_then
        proxy.to_client = tcp_proxy.at_once
        with transaction(engine) as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"D\x7f\xff\xff\xff" + bytes(100),
        b"D\0\0\0\x02",
        b"T\0\0\0\x08\0\x05ab",
    ],
    ids=["another protocol", "a message of 2 GB", "no length", "a row of no columns"],
)
def test_an_answer_that_is_not_postgresqls_is_one_line_and_the_next_transaction_goes_on(
    plain_url: str, proxy: TcpProxy, garbage: bytes
) -> None:
    engine = open_engine(plain_url)

    def spoil(target: socket.socket, _data: bytes) -> None:
        target.sendall(garbage)

    with pytest.raises(DataError, match="its answer is not PostgreSQL's") as caught:
        with transaction(engine) as connection:
            proxy.to_client = spoil
            connection.execute(text("SELECT 1"))
    assert "\n" not in str(caught.value)

    proxy.to_client = tcp_proxy.at_once
    with transaction(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


class Stopped:
    """The process of a connection's backend, which is stopped for the time of a block."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pids: list[int] = []

    def stop(self) -> None:
        """Stop the backend of the engine's one connection."""
        with self._engine.connect() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        self.stop_process(pid)

    def stop_process(self, pid: int) -> None:
        """Stop a process on this machine."""
        try:
            os.kill(pid, signal.SIGSTOP)
        except (ProcessLookupError, PermissionError):
            pytest.skip("the PostgreSQL server is not a process that this one can stop")
        self._pids.append(pid)

    def resume(self) -> None:
        """Let the processes go on."""
        while self._pids:
            os.kill(self._pids.pop(), signal.SIGCONT)


@pytest.fixture
def stopped(postgresql_url: str) -> Iterator[Stopped]:
    stopped = Stopped(open_engine(postgresql_url))
    yield stopped
    stopped.resume()


def test_a_connection_whose_backend_stands_still_is_replaced(
    settings: Settings, postgresql_url: str, stopped: Stopped
) -> None:
    engine = open_engine(postgresql_url)

    with in_time(3 * SECONDS):
        result = run_job(settings, engine, 3 * SECONDS, progress=at_call(2, stopped.stop))

    assert result["status"] == "ok"
    assert stock_data(engine) == expected()


def test_a_backend_that_stands_still_within_a_commit_ends_the_run_in_time(
    settings: Settings, postgresql_url: str, stopped: Stopped
) -> None:
    engine = open_engine(postgresql_url)

    def stop(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM coverage") and not stopped._pids:
            cursor.execute("SELECT pg_backend_pid()")
            stopped.stop_process(cursor.fetchone()[0])

    event.listen(engine, "before_cursor_execute", stop)
    try:
        with in_time():
            result = run_job(settings, engine, SECONDS)
    finally:
        event.remove(engine, "before_cursor_execute", stop)

    assert result["status"] == last_status(engine) == "partial"
    assert "did not answer in time" in result["warnings"][0]
    stopped.resume()
    assert run_job(settings, engine)["status"] == "ok"
    assert stock_data(engine) == expected()


@contextmanager
def locked(url: str, what: str) -> Iterator[Callable[[], None]]:
    """Yield a function that takes a lock in a session of its own, until the end of the block."""
    other = open_engine.__wrapped__(url)
    connection = other.connect()

    def lock() -> None:
        connection.execute(text(LOCKS[what]))

    try:
        yield lock
    finally:
        connection.close()
        other.dispose()


@pytest.mark.parametrize("what", LOCKS)
def test_a_lock_of_another_session_ends_the_run_in_time_and_the_next_one_goes_on(
    settings: Settings, postgresql_url: str, what: str
) -> None:
    engine = open_engine(postgresql_url)
    with locked(postgresql_url, what) as lock, in_time():
        error = result = None
        try:
            result = run_job(settings, engine, SECONDS, progress=at_call(3, lock))
        except TimeUpError as raised:
            error = str(raised)

    said = error or str(result and result["warnings"])
    assert "another session holds a lock that is needed, for more than" in said
    assert "\n" not in said
    if what == "job_runs":
        assert error, "how it ended cannot be recorded"
        assert last_status(engine) == "running"
        with engine.begin() as connection:
            connection.execute(text("UPDATE job_runs SET leased_until = now()"))
    else:
        assert result
        assert result["status"] == last_status(engine) == "partial"
    assert run_job(settings, engine)["status"] == "ok"
    assert stock_data(engine) == expected()
    assert {status for (status,) in rows(engine, "SELECT status FROM job_runs")} <= {"ok", "partial", "abandoned"}


@pytest.mark.parametrize("what", LOCKS)
def test_a_lock_that_is_held_from_the_start_is_one_line_in_time(
    settings: Settings, postgresql_url: str, what: str
) -> None:
    engine = open_engine(postgresql_url)
    run_job(settings, engine)
    with locked(postgresql_url, what) as lock, in_time():
        lock()
        with pytest.raises(TimeUpError, match="another session holds a lock that is needed") as caught:
            run_job(settings, engine, SECONDS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("call", [0, 3], ids=["from the start", "midway"])
def test_a_sqlite_file_that_another_process_locks_ends_the_run_in_time(
    settings: Settings, sqlite_url: str, call: int
) -> None:
    engine = open_engine(sqlite_url)
    path = str(make_url(sqlite_url).database)
    if call == 0:
        run_job(settings, engine)
    other = sqlite3.connect(path, isolation_level=None)

    def lock() -> None:
        other.execute("BEGIN EXCLUSIVE")

    if call == 0:
        lock()
    with in_time(), pytest.raises(TimeUpError, match="another session holds a lock that is needed") as caught:
        run_job(settings, engine, SECONDS, progress=at_call(call or -1, lock))
    assert "\n" not in str(caught.value)

    other.execute("ROLLBACK")
    other.close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE job_runs SET leased_until = NULL WHERE status = 'running'"))
    assert run_job(settings, engine)["status"] in ("ok", "nothing_to_do")
    assert stock_data(engine) == expected()


class TestConnection:
    """What happens to a connection on which something went wrong."""

    def test_after_an_encoding_error_inside_the_driver_no_answer_belongs_to_another_question(
        self, database_url: str
    ) -> None:
        engine = open_engine(database_url)
        with pytest.raises(UnicodeEncodeError), transaction(engine) as connection:
            connection.execute(text("SELECT :text"), {"text": "\ud800"})
        for n in range(4):
            with transaction(engine) as connection:
                assert connection.execute(text("SELECT CAST(:n AS INTEGER)"), {"n": n}).scalar() == n

    @pytest.mark.parametrize("statement", ["SELECT pg_sleep(0.3)", None], ids=["statement", "commit"])
    def test_after_an_interrupt_no_answer_belongs_to_another_question(
        self, tcp_url: str, proxy: TcpProxy, statement: str | None
    ) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        engine, before = open_engine(tcp_url), signal.signal(signal.SIGALRM, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt), transaction(engine) as connection:
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                if statement:
                    connection.execute(text(statement))
                proxy.to_client = tcp_proxy.slowly
        finally:
            signal.signal(signal.SIGALRM, before)
            proxy.to_client = tcp_proxy.at_once
        for n in range(4):
            with transaction(engine) as connection:
                assert connection.execute(text("SELECT CAST(:n AS INTEGER)"), {"n": n}).scalar() == n

    def test_it_is_closed_in_order_after_the_end_of_its_last_transaction(
        self, tcp_url: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[bytes] = []

        def record(target: socket.socket, data: bytes) -> None:
            sent.append(data)
            tcp_proxy.at_once(target, data)

        monkeypatch.setattr(limits, "LEAST_SECONDS", 0.5)
        proxy.to_server = record
        engine = open_engine(tcp_url)
        with transaction(until(engine, Deadline(0, SystemClock(), reserve=0)), write=False):
            pass
        time.sleep(0.5 + 3 * limits.GRACE_SECONDS)
        engine.dispose()
        until_closed = time.monotonic() + 2
        while sent[-1] != b"X\0\0\0\4" and time.monotonic() < until_closed:
            time.sleep(0.01)
        assert sent[-1] == b"X\0\0\0\4"

    @pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, StockTrackerError])
    def test_it_is_closed_after_anything_but_a_refused_statement(
        self, database_url: str, error: type[BaseException]
    ) -> None:
        engine = open_engine(database_url)
        with pytest.raises(error), transaction(engine) as connection:
            first = connection.connection.dbapi_connection
            raise error
        with transaction(engine) as connection:
            assert connection.connection.dbapi_connection is not first

    def test_it_stays_after_a_refused_statement(self, database_url: str) -> None:
        engine = open_engine(database_url)
        with pytest.raises(DataError), transaction(engine) as connection:
            first = connection.connection.dbapi_connection
            connection.execute(text("SELECT * FROM nowhere"))
        with transaction(engine) as connection:
            assert connection.connection.dbapi_connection is first

    def test_a_transaction_of_several_slow_statements_ends_with_the_deadline(self, postgresql_url: str) -> None:
        engine = until(open_engine(postgresql_url), Deadline(1, SystemClock(), reserve=0))
        with in_time(1), pytest.raises(TimeUpError), transaction(engine) as connection:
            for _ in range(10):
                connection.execute(text("SELECT pg_sleep(0.8)"))

    def test_the_server_is_told_what_is_left_for_a_later_statement(self, postgresql_url: str) -> None:
        engine = until(open_engine(postgresql_url), Deadline(3, SystemClock(), reserve=0))
        with transaction(engine) as connection:
            assert self.statement_timeout(connection) > 2
            with pytest.raises(DBAPIError, match="division by zero"), connection.begin_nested():
                connection.execute(text("SELECT 1 / length(pg_sleep(0.6)::text)"))
            connection.execute(text("SELECT pg_sleep(0.6)"))
            assert self.statement_timeout(connection) < 3 + limits.GRACE_SECONDS - 1.2

    def statement_timeout(self, connection: Connection) -> float:
        """The server's limit of a statement, in seconds."""
        query = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"
        return int(connection.execute(text(query)).scalar_one()) / 1000

    def test_the_limits_of_a_quick_transaction_cost_no_message_of_their_own(
        self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[str] = []
        send = pg8000.Connection.execute_simple

        def record(driver: Any, statement: str) -> Any:
            sent.append(statement)
            return send(driver, statement)

        engine = until(open_engine(postgresql_url), Deadline(300, SystemClock()))
        with transaction(engine):
            pass
        monkeypatch.setattr(pg8000.Connection, "execute_simple", record)
        with transaction(engine) as connection:
            for _ in range(20):
                connection.execute(text("SELECT 1"))
        assert [statement.split()[0].upper() for statement in sent] == ["BEGIN", *["SELECT"] * 20]

    def test_the_transaction_of_a_process_that_died_silently_does_not_hold_the_write_lock_for_hours(
        self, postgresql_url: str
    ) -> None:
        with transaction(open_engine(postgresql_url)) as connection:
            assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "1min"


ODD = {
    "datestyle": "'SQL, DMY'",
    "timezone": "'Asia/Kathmandu'",
    "intervalstyle": "'iso_8601'",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "escape_string_warning": "off",
    "client_encoding": "'LATIN1'",
    "default_transaction_isolation": "'repeatable read'",
    "statement_timeout": "'1h'",
    "search_path": "elsewhere, public",
}


def _reset(url: str) -> None:
    """Set all but the search path back, for new connections."""
    owner, name = open_engine(url), make_url(url).database
    with owner.begin() as connection:
        connection.execute(text(f"ALTER DATABASE {name} RESET ALL"))
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    owner.dispose()


@pytest.fixture(params=["direct", "pooler"])
def odd_url(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[str]:
    """A database with settings that nobody expects, directly or through a pooler."""
    owner, name = open_engine(postgresql_url), make_url(postgresql_url).database
    with owner.begin() as connection:
        connection.execute(text("CREATE SCHEMA elsewhere"))
        for setting, value in ODD.items():
            connection.execute(text(f"ALTER DATABASE {name} SET {setting} = {value}"))
    owner.dispose()
    try:
        if request.param == "direct":
            yield postgresql_url
        elif not pgbouncer.program():
            pytest.skip("pgbouncer is not on PATH, and `make build/pgbouncer` could not fetch Debian's package")
        else:
            with pgbouncer.pooler(postgresql_url, connections=2) as url:
                yield url
                open_engine(url).dispose()
    finally:
        _reset(postgresql_url)
        with owner.begin() as connection:
            connection.execute(text("DROP SCHEMA elsewhere CASCADE"))


def test_whatever_the_databases_settings_are_the_table_is_the_same(
    settings: Settings, odd_url: str, postgresql_url: str
) -> None:
    engine = open_engine(odd_url)
    assert run_job(settings, engine)["status"] == "ok"
    assert run_job(settings, engine)["status"] == "nothing_to_do"
    with transaction(engine, write=False) as connection:
        found = {name: connection.execute(text(f"SHOW {name}")).scalar() for name in ODD}
        schema = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass('stock_data')"
        assert connection.execute(text(schema)).scalar() == "elsewhere", "the search path stays as it is found"
        started = connection.execute(text("SELECT started_at FROM job_runs LIMIT 1")).scalar_one()
    assert (found["datestyle"], found["extra_float_digits"], started.utcoffset()) == ("ISO, MDY", "1", timedelta())
    engine.dispose()
    _reset(postgresql_url)
    assert stock_data(open_engine(postgresql_url), schema="elsewhere") == expected()
