"""Fixtures for all tests: an isolated environment, real databases, and the sandbox market.

PostgreSQL is the server of ``TEST_DATABASE_URL`` if that is set, else a server from a wheel on a Unix socket. Each
worker creates its own database there, and each test starts with an empty one.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any
from zlib import crc32

import hypothesis
import pytest
import typer
from sqlalchemy import Engine, make_url, text

from config import Settings, settings
from lambda_main import handler
from sandbox.history import PriceHistory
from sandbox.server import MarketServer
from storage.engine import open_engine
from tests.support import deep, postgresql, tables
from tests.support.tcp_proxy import TcpProxy

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")

LONGEST = ["test_replay.py", "test_concurrency.py", "test_package.py", "test_convergence.py"]

KINDS = ("sqlite", "postgresql")

Job = Callable[..., Any]

# A busy machine fails no test, and the same examples are tried each time; `make test-deep` tries new ones.
typer.main.get_command = functools.cache(typer.main.get_command)  # else each command of a test builds all of them

IS_DEEP = "DEEPER" in os.environ
hypothesis.settings.register_profile(
    "untimed", deadline=None, derandomize=not IS_DEEP, max_examples=100 if IS_DEEP else 50
)
hypothesis.settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Call half of what is `in_turn` slow, and run the longest tests first: so all workers finish at the same time."""
    for item in items:
        if item.get_closest_marker("in_turn") and (kind := _kind(item)):
            turn = crc32(item.nodeid.replace(kind, "").encode()) % len(KINDS)
            if kind != KINDS[turn]:
                item.add_marker("slow")
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_collection_finish() -> None:
    """Keep what all tests share out of garbage collections, which would look through it again and again."""
    gc.collect()
    gc.freeze()


def _kind(item: pytest.Item) -> str | None:
    """The kind of database of a test of both; None for one of no database, or of one that it names."""
    is_chosen = any("database_url" in mark.args[0] for mark in item.iter_markers("parametrize"))
    kind = item.callspec.params.get("database_url") if hasattr(item, "callspec") else None
    return None if is_chosen else kind


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip the remaining deep tests once their time limit is over."""
    if item.get_closest_marker("deep") and deep.time_is_up():
        pytest.skip(f"the time limit of {deep.SECONDS:.0f} s is over")


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the settings of this machine out of tests: its variables, its ``.env`` and its working directory."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()
    open_engine(Settings.model_fields["database_url"].default.get_secret_value()).dispose()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server's maintenance database."""
    with postgresql.postgresql_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_database(postgresql_server: str) -> Iterator[str]:
    """The URL of this worker's database."""
    name = f"stock_tracker_test_{uuid.uuid4().hex[:12]}"
    _autocommit(postgresql_server, f"CREATE DATABASE {name}")
    _autocommit(postgresql_server, f"ALTER DATABASE {name} SET synchronous_commit = off")
    path, _, query = postgresql_server.partition("?")
    url = f"{path.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    try:
        yield url
    finally:
        open_engine(url).dispose()
        _autocommit(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")


def _autocommit(url: str, statement: str) -> None:
    """Execute a statement outside any transaction, on a new connection."""
    server = open_engine(url)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    server.dispose()


@pytest.fixture
def postgresql_url(postgresql_database: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    tables.clear(open_engine(postgresql_database))
    yield postgresql_database
    open_engine(postgresql_database).dispose()


@pytest.fixture
def proxy(postgresql_url: str) -> Iterator[TcpProxy]:
    """A TCP proxy to :func:`postgresql_url` whose connections a test can cut."""
    proxy = TcpProxy(postgresql_url)
    try:
        yield proxy
    finally:
        proxy.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the driver does not close a connection that was cut
            gc.collect()


@pytest.fixture
def tcp_url(proxy: TcpProxy, postgresql_url: str) -> Iterator[str]:
    """The URL of :func:`postgresql_url` through the proxy."""
    target = make_url(postgresql_url)
    host = {"host": "127.0.0.1", "port": proxy.port}
    url = target.set(**host, query={}).render_as_string(hide_password=False)
    yield url
    open_engine(url).dispose()


@pytest.fixture
def quiet_log() -> Iterator[None]:
    """The ``stock_tracker`` loggers as they are before anything configures them, and again after the test."""
    package = logging.getLogger("stock_tracker")
    before = package.handlers, package.level, package.propagate
    package.handlers, package.propagate = [], True
    package.setLevel(logging.NOTSET)
    yield
    package.handlers, level, package.propagate = before
    package.setLevel(level)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a SQLite file that does not exist yet."""
    url = f"sqlite:///{tmp_path}/stock_tracker.db"
    yield url
    open_engine(url).dispose()


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of each kind in turn."""
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def engine(database_url: str) -> Engine:
    """The engine of :func:`database_url`."""
    return open_engine(database_url)


@pytest.fixture
def market() -> Iterator[MarketServer]:
    """The recorded market on Saturday 2013-03-02."""
    with MarketServer(PriceHistory.recorded(), today=date(2013, 3, 2)) as server:
        yield server


@pytest.fixture
def job(database_url: str, market: MarketServer, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A function that runs a job through the handler; its keyword arguments are the payload."""
    environment = {
        "DATABASE_URL": database_url,
        "POLYGON_BASE_URL": market.url,
        "POLYGON_API_KEY": market.key,
        "POLYGON_CALLS_PER_MINUTE": "0",
        "QUICKCHART_URL": "http://127.0.0.1:9/chart",  # nothing listens there
        "SYMBOLS": ",".join(SYMBOLS),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()

    def run(job_type: str, **payload: Any) -> Any:
        return handler({"job_type": job_type, **payload})

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print measurements that tests recorded with ``record_property("peak memory", text)``."""
    for report in terminalreporter.getreports("passed"):
        for name, measured in report.user_properties:
            terminalreporter.write_line(f"{name}: {measured}")
