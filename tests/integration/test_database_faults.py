"""A database that is silent, stopped, locked or set up otherwise: runs end in time, and the next one goes on."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, make_url, text

from config import Settings
from domain.clock import Deadline, SystemClock
from domain.errors import DataError, StockTrackerError, TimeUpError
from domain.models import JobResult, Request
from pipeline import jobs
from pipeline.run import RunContext
from sandbox.server import MarketServer
from storage import limits
from storage.engine import WRITE_LOCK, open_engine, transaction, until
from tests.conftest import SYMBOLS
from tests.support import oracle, pgbouncer
from tests.support.tables import rows, scalar, stock_data

TODAY = date(2013, 3, 2)
SECONDS = 3.0  # of a run, of which it keeps one back

LOCKS = {
    "stock_data": "LOCK TABLE stock_data IN ACCESS EXCLUSIVE MODE",
    "job_runs": "LOCK TABLE job_runs IN ACCESS EXCLUSIVE MODE",
    "the write lock": f"SELECT pg_advisory_xact_lock({WRITE_LOCK})",
}


@pytest.fixture
def settings(market: MarketServer) -> Settings:
    return Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=0)


def run_job(settings: Settings, engine: Engine, seconds: float | None = None, **more: Any) -> JobResult:
    """Load the recorded history of five symbols."""
    deadline = Deadline(seconds, SystemClock(), reserve=1)
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

    with in_time():
        result = run_job(settings, engine, SECONDS, progress=at_call(2, stopped.stop))

    assert result["status"] == "ok"
    assert stock_data(engine) == expected()


def test_a_backend_that_stands_still_within_a_commit_ends_the_run_in_time(
    settings: Settings, postgresql_url: str, stopped: Stopped
) -> None:
    engine = open_engine(postgresql_url)

    def stop(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO coverage") and not stopped._pids:
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

    def test_after_an_interrupt_no_answer_belongs_to_another_question(self, postgresql_url: str) -> None:
        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        engine, before = open_engine(postgresql_url), signal.signal(signal.SIGALRM, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt), transaction(engine) as connection:
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                connection.execute(text("SELECT pg_sleep(0.3)"))
        finally:
            signal.signal(signal.SIGALRM, before)
        for n in range(4):
            with transaction(engine) as connection:
                assert connection.execute(text("SELECT CAST(:n AS INTEGER)"), {"n": n}).scalar() == n

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
