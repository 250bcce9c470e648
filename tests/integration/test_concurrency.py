"""Two handlers at the same moment in two processes, as EventBridge may start them: it delivers at least once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

import utils
from domain.calendar import sessions_between
from domain.coverage import unread_ranges
from domain.models import Split
from lambda_main import handler
from sandbox.bars import Bar, recorded_bars
from sandbox.history import PriceHistory
from sandbox.server import MarketServer
from storage.engine import open_engine, transaction
from tests.conftest import SYMBOLS, Job
from tests.support import oracle, runs, tables
from tests.support.tables import rows, stock_data

ROOT = Path(__file__).parents[2]
TODAY = date(2013, 3, 2)

# A process that imports the handler once and then runs the events of each line it reads, as a warm container does.
WORKER = """
import json, os, sys
from config import settings
from lambda_main import handler
for line in sys.stdin:
    order = json.loads(line)
    os.environ["DATABASE_URL"], os.environ["OUTBOX"] = order["database"], order["outbox"]
    settings.cache_clear()
    results = [handler(event) for event in order["events"]]
    print(json.dumps(results), flush=True)
"""

EVENTS: list[dict[str, Any]] = [
    {"job_type": "initialize", "as_of": "2013-03-01", "sessions": 20},
    {"job_type": "daily_update", "as_of": "2013-03-02"},
    {"job_type": "weekly_report", "as_of": "2013-03-02"},
]


class Handlers:
    """Two warm processes that run the handler."""

    def __init__(self, market: MarketServer, folder: Path) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
            "PYTHONPATH": str(ROOT),
            "POLYGON_BASE_URL": market.url,
            "POLYGON_API_KEY": market.key,
            "POLYGON_CALLS_PER_MINUTE": "0",
            "QUICKCHART_URL": "http://127.0.0.1:9/chart",
            "SYMBOLS": ",".join(SYMBOLS),
        }
        pipes: dict[str, Any] = {"text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = [sys.executable, "-c", WORKER]
        self._processes = [subprocess.Popen(command, env=environment, cwd=folder, **pipes) for _ in range(2)]

    def run(self, url: str, outbox: Path, *events: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """Run one list of events in each process, both at once, and return the results of each."""
        for process, own in zip(self._processes, events):
            assert process.stdin
            process.stdin.write(json.dumps({"database": url, "outbox": str(outbox), "events": own}) + "\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in self._processes if process.stdout]

    def stop(self) -> None:
        """End both processes."""
        for process in self._processes:
            if process.stdin:
                process.stdin.close()  # which ends its loop
        for process in self._processes:
            process.wait(timeout=30)
            if process.stdout:
                process.stdout.close()


@pytest.fixture(scope="module")
def shared_market() -> Iterator[MarketServer]:
    with MarketServer(PriceHistory.recorded(), today=TODAY) as market:
        yield market


@pytest.fixture
def market(shared_market: MarketServer) -> MarketServer:
    """The recorded market on Saturday 2013-03-02, at the same address for all tests of this module."""
    shared_market.history = PriceHistory.recorded()
    shared_market.today = TODAY
    shared_market.forget_faults()
    shared_market.reset_calls()
    return shared_market


@pytest.fixture(scope="module")
def handlers(shared_market: MarketServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Handlers]:
    """Two processes for all tests of this module, as each takes a second to start."""
    handlers = Handlers(shared_market, tmp_path_factory.mktemp("handlers"))
    yield handlers
    handlers.stop()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize("times", [5, pytest.param(50, marks=pytest.mark.deep)])
def test_two_handlers_at_once_end_as_one_every_time(
    kind: str, times: int, market: MarketServer, handlers: Handlers, tmp_path: Path, postgresql_database: str
) -> None:
    expected = None
    for pair in range(times):
        url = postgresql_database if kind == "postgresql" else f"sqlite:///{tmp_path}/{pair}.db"
        engine = open_engine(url)
        if kind == "postgresql":
            tables.clear(engine)
        market.reset_calls()
        results = handlers.run(url, tmp_path / str(pair), EVENTS, EVENTS)

        statuses = [sorted(result[n]["status"] for result in results) for n in range(len(EVENTS))]
        assert statuses == [["nothing_to_do", "ok"], ["nothing_to_do", "ok"], ["already_sent", "sent"]]
        # The history by symbol, a morning by session, and the audit by symbol: each once, whoever was first.
        assert dict(market.calls) == {"range": 5 + 5, "grouped": 4, "splits": 1}
        assert rows(engine, "SELECT status, attempts FROM sent_reports") == [("sent", 1)]
        table = stock_data(engine)
        expected = expected or oracle.table(bar for bar in oracle.recorded_bars() if bar.session >= table[0].session)
        assert table == expected
        engine.dispose()


class MeetingHistory(PriceHistory):
    """Prices that are answered only once another range is asked for as well, or after 15 seconds without."""

    def __init__(self) -> None:
        super().__init__(recorded_bars())
        self.ranges: set[date] = set()
        self.met = threading.Event()

    def range_bars(self, symbol: str, first: date, last: date, *, adjusted: bool, today: date) -> list[Bar]:
        self.ranges.add(first)
        if len(self.ranges) == 2:
            self.met.set()
        if not self.met.wait(timeout=15):
            self.ranges.clear()  # the other one comes too late
        return super().range_bars(symbol, first, last, adjusted=adjusted, today=today)


def loads(*ranges: tuple[str, str]) -> list[list[dict[str, Any]]]:
    """For each range, the events of a process that loads it."""
    return [
        [{"job_type": "initialize", "as_of": "2013-03-02", "start": start, "end": end, "symbols": ["AAPL", "IBM"]}]
        for start, end in ranges
    ]


def table_from(start: str, end: str) -> list[oracle.Row]:
    return oracle.table(
        bar for bar in oracle.recorded_bars() if bar.symbol in ("AAPL", "IBM") and start <= str(bar.session) <= end
    )


def test_two_ranges_load_at_the_same_time_and_end_as_one_load(
    market: MarketServer, handlers: Handlers, tmp_path: Path, postgresql_url: str
) -> None:
    market.history = MeetingHistory()

    results = handlers.run(postgresql_url, tmp_path, *loads(("2012-03-01", "2012-08-31"), ("2012-09-04", "2013-02-28")))

    assert market.history.met.is_set(), "the two loads did not overlap"
    assert [result[0]["status"] for result in results] == ["ok", "ok"]
    engine = open_engine(postgresql_url)
    assert stock_data(engine) == table_from("2012-03-01", "2013-02-28")
    with transaction(engine, write=False) as connection:
        coverage = utils.read_coverage(connection, ["AAPL", "IBM"])
    for symbol in ("AAPL", "IBM"):
        assert (coverage[symbol][0].first, coverage[symbol][-1].last) == (date(2012, 3, 1), date(2013, 2, 28))
        assert unread_ranges(coverage[symbol], date(2012, 3, 1), date(2013, 2, 28)) == ()


@pytest.mark.parametrize(
    "other", [("2013-01-02", "2013-02-28"), ("2012-11-16", "2013-01-31")], ids=["equal", "overlap"]
)
def test_sessions_that_two_ranges_share_are_fetched_once(
    market: MarketServer, handlers: Handlers, tmp_path: Path, postgresql_url: str, other: tuple[str, str]
) -> None:
    handlers.run(postgresql_url, tmp_path, *loads(("2013-01-02", "2013-02-28"), other))

    asked = [
        re.fullmatch(r".*/ticker/(.*)/range/1/day/(.*)/(.*)\?.*", path)
        for kind, path in market.requests
        if kind == "range"
    ]
    sessions = [
        (call[1], day)
        for call in asked
        if call
        for day in sessions_between(date.fromisoformat(call[2]), date.fromisoformat(call[3]))
    ]
    assert all(asked)
    assert len(sessions) == len(set(sessions)), "a session of a symbol was fetched twice"
    assert stock_data(open_engine(postgresql_url)) == table_from(min(other[0], "2013-01-02"), "2013-02-28")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("stored", ["GOOG", "AAPL"], ids=["of a stored symbol", "of one that another run may store"])
def test_a_split_is_restated_only_when_no_other_run_can_hold_an_older_answer(
    market: MarketServer, job: Job, database_url: str, stored: str
) -> None:
    """Otherwise a bar fetched before the restatement could be stored after all others were restated."""
    engine = open_engine(database_url)
    job("initialize", as_of="2013-02-23", symbols=stored)
    split = ("GOOG", date(2013, 2, 26), 1, 2)
    market.history.add_split(Split(*split))
    before = stock_data(engine)
    payload = {"job_type": "initialize", "as_of": "2013-03-02", "start": "2012-11-09", "symbols": ["AAPL", "GOOG"]}

    with runs.at_work(engine, (date(2012, 11, 8), date(2012, 11, 8))):
        beside = handler(payload)

    assert beside["status"] == "partial"
    assert beside["warnings"] == ["a history that was restated is left for the next run, which works alone"]
    assert [row for row in stock_data(engine) if row.symbol == "GOOG"] == [
        row for row in before if row.symbol == "GOOG"
    ]
    assert handler(payload)["splits"] == ["GOOG 2:1 on 2013-02-26: history restated"]
    bars = [
        bar for bar in oracle.recorded_bars() if bar.symbol in ("AAPL", "GOOG") and bar.session >= date(2012, 11, 9)
    ]
    assert stock_data(engine) == oracle.table(oracle.adjusted(bars, date(2013, 3, 2), [split]))
