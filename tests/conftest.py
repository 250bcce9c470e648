"""What every test may use: an isolated environment, real databases, and the sandbox market.

PostgreSQL is the server of ``TEST_DATABASE_URL`` if that is set, else one that starts from a wheel on a Unix socket.
Each worker makes a database of its own there, and each test finds it empty.
"""

from __future__ import annotations

import gc
import uuid
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, text

from config import Settings, settings
from lambda_main import handler
from sandbox.history import PriceHistory
from sandbox.server import MarketServer
from storage.engine import open_engine
from tests.support import postgresql
from tests.support.tcp_proxy import Relay

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")

LONGEST = ("test_replay", "test_convergence")  # minutes

Job = Callable[..., dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that the workers end together."""
    items.sort(key=lambda item: not item.path.name.startswith(LONGEST))


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of this machine reaches a test: no variable, no .env, no file in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server's maintenance database."""
    with postgresql.postgresql_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_database(postgresql_server: str) -> Iterator[str]:
    """The URL of a database that belongs to this worker."""
    name = f"stock_tracker_test_{uuid.uuid4().hex[:12]}"
    _execute_alone(postgresql_server, f"CREATE DATABASE {name}")
    path, _, query = postgresql_server.partition("?")
    url = f"{path.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    try:
        yield url
    finally:
        open_engine(url).dispose()
        _execute_alone(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")


def _execute_alone(url: str, statement: str) -> None:
    """Execute what cannot run inside a transaction, on a new connection."""
    server = open_engine(url)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    server.dispose()


@pytest.fixture
def postgresql_url(postgresql_database: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with open_engine(postgresql_database).begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    yield postgresql_database
    open_engine(postgresql_database).dispose()


@pytest.fixture
def relay(postgresql_url: str) -> Iterator[Relay]:
    """A way to :func:`postgresql_url` over TCP that a test can cut."""
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
    """The URL of :func:`postgresql_url` by the relay."""
    target = make_url(postgresql_url)
    host = {"host": "127.0.0.1", "port": relay.port}
    url = target.set(**host, query={}).render_as_string(hide_password=False)
    yield url
    open_engine(url).dispose()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> Iterator[str]:
    """The URL of a SQLite file that does not exist yet."""
    url = f"sqlite:///{tmp_path}/stock_tracker.db"
    yield url
    open_engine(url).dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Both databases in turn, each empty."""
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
    """Run a job by the handler, against the market and an empty database; keyword arguments make the payload."""
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

    def run(job_type: str, **payload: Any) -> dict[str, Any]:
        return handler({"job_type": job_type, **payload})

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured: ``record_property("peak memory", text)``."""
    for report in terminalreporter.getreports("passed"):
        for name, measured in report.user_properties:
            terminalreporter.write_line(f"{name}: {measured}")
