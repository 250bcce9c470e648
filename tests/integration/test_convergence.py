"""Whatever happens to a history, the table ends as one bulk load would have made it.

Random histories drive the real jobs against the sandbox market: symbols come and go, sessions are skipped, repeated and
backfilled out of order, bars are corrected, symbols split, runs are killed at any statement or refused by the provider,
and two run at once. At the end the table must equal, value for value, an independent bulk load of the market's bars.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, text

from config import Settings
from domain.calendar import previous_session, sessions_between
from domain.clock import Deadline, SystemClock
from domain.errors import StockTrackerError
from domain.models import Request
from pipeline import jobs
from pipeline.run import RunContext
from sandbox.history import PriceHistory, Split
from sandbox.server import Fault, MarketServer
from storage.engine import open_engine
from tests.support import oracle
from tests.support.oracle import Bar
from tests.support.tables import scalar, stock_data

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
SESSIONS = sessions_between(date(2012, 10, 15), date(2012, 12, 14))  # with a hurricane and Thanksgiving
BEGIN = 12  # where in SESSIONS a history's today starts
FIRST_LOAD = 8  # sessions
DEEPER = int(os.environ.get("DEEPER", "1"))  # make test-deep multiplies the number of histories


class Killed(BaseException):
    """What a killed process looks like from inside: nothing catches it."""


class World:
    """A market, a database, and the test's own record of what the market's bars are."""

    def __init__(self, market: MarketServer, engine: Engine, seed: int) -> None:
        self.market, self.engine = market, engine
        self.settings = Settings(
            polygon_base_url=market.url,
            polygon_api_key=market.key,
            polygon_calls_per_minute=0,
            history_sessions=FIRST_LOAD,
        )
        self.bars: dict[tuple[str, date], Bar] = {}
        self.splits: list[tuple[str, date, int, int]] = []
        self.corrected: set[str] = set()
        self.earliest = SESSIONS[BEGIN - FIRST_LOAD]  # where an update of an empty database starts
        market.history = _empty_history()
        market.forget_faults()
        market.today = SESSIONS[BEGIN]
        for n, symbol in enumerate(SYMBOLS):
            for k, session in enumerate(SESSIONS):
                noise = (seed * 7919 + n * 104729 + k * 15485863) % 997
                if noise % 23 == 0 or (symbol == "DDD" and k < 9):  # halted, or not yet listed
                    continue
                self.put(symbol, session, 20 + n * 55 + noise)

    def put(self, symbol: str, session: date, level: int) -> None:
        """Trade a symbol in a session around a price that the level stands for."""
        cents = [level * 10 + shift for shift in (3, 9, 0, 3 + level % 7)]
        open_, high, low, close = (Decimal(cent) / 100 for cent in cents)
        volume = Decimal(1000 + level * 13)
        self.bars[symbol, session] = Bar(symbol, session, open_, high, low, close, volume)
        values = {"open": float(open_), "high": float(high), "low": float(low), "close": float(close)}
        self.market.history.put_bar(symbol, session, volume=int(volume), **values)

    def run(self, job_type: str, **request: Any) -> dict[str, Any]:
        """Run a job as of the market's today."""
        if request.get("start"):
            self.earliest = min(self.earliest, request["start"])
        context = RunContext(settings=self.settings, engine=self.engine, deadline=Deadline(None, SystemClock()))
        return jobs.run_job(
            Request(job_type, **{"as_of": self.market.today, "sessions": FIRST_LOAD, **request}), context
        )

    def expected(self) -> list[oracle.Row]:
        """An independent bulk load of all that the market has up to its today."""
        last = previous_session(self.market.today)
        chosen = [bar for bar in self.bars.values() if self.earliest <= bar.session <= last]
        return oracle.table(oracle.adjusted(chosen, self.market.today, self.splits))


def _empty_history() -> PriceHistory:
    history = PriceHistory.synthetic(1, 1)
    for symbol in history.symbols:
        history.remove_bar(symbol, history.first)
    return history


@contextmanager
def killed_at(engine: Engine, statement: int) -> Iterator[None]:
    """Kill whatever runs at its n-th statement, if it gets so far."""
    left = statement

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    event.listen(engine, "before_cursor_execute", count)
    try:
        with suppress(Killed):
            yield
    finally:
        event.remove(engine, "before_cursor_execute", count)


symbols = st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=4, unique=True).map(tuple)
past = st.integers(0, len(SESSIONS) - 1)
load = st.one_of(
    st.tuples(st.just("daily_update"), symbols, st.just(0), st.just(0), st.booleans()),
    st.tuples(st.just("initialize"), symbols, past, past, st.booleans()),
)
step = st.one_of(
    st.tuples(st.just("advance"), st.integers(1, 4)),
    st.tuples(st.just("load"), load),
    st.tuples(st.just("load"), load),
    st.tuples(st.just("kill"), load, st.integers(1, 60)),
    st.tuples(st.just("refuse"), load, st.integers(0, 4)),
    st.tuples(st.just("together"), load, load),
    st.tuples(st.just("early"), symbols),
    st.tuples(st.just("correct"), st.sampled_from(SYMBOLS), past, st.integers(1, 400)),
    st.tuples(st.just("split"), st.sampled_from(SYMBOLS), st.integers(1, 3), st.sampled_from([(1, 2), (3, 1), (2, 3)])),
)


def play(world: World, steps: list[Any]) -> None:
    """Take a history's steps one after another."""
    for kind, *what in steps:
        if kind == "advance":
            position = min(SESSIONS.index(_session_from(world.market.today)) + what[0], len(SESSIONS) - 1)
            world.market.today = SESSIONS[position]
        elif kind == "load":
            _load(world, what[0])
        elif kind == "kill":
            with killed_at(world.engine, what[1]):
                _load(world, what[0])
        elif kind == "refuse":
            world.market.fail_next(*[Fault(delay=0.0)] * what[1], Fault(status=404, body=b"{}"))
            with suppress(StockTrackerError):
                _load(world, what[0])
            world.market.forget_faults()
        elif kind == "together":
            with ThreadPoolExecutor(2) as pool:
                for future in [pool.submit(_load, world, each) for each in what]:
                    future.result()
        elif kind == "early":
            morning = SESSIONS[min(SESSIONS.index(_session_from(world.market.today)) + 1, len(SESSIONS) - 1)]
            world.run("daily_update", symbols=what[0], as_of=morning)  # the provider is still at yesterday
            world.market.today = morning
        elif kind == "correct":
            symbol, position, level = what
            world.put(symbol, SESSIONS[position], level)
            world.corrected.add(symbol)
        else:
            symbol, ahead, (split_from, split_to) = what
            day = world.market.today + timedelta(days=ahead)
            if not any(split[:2] == (symbol, day) for split in world.splits):
                world.splits.append((symbol, day, split_from, split_to))
                world.market.history.add_split(Split(symbol, day, split_from, split_to))


def _session_from(day: date) -> date:
    return next(session for session in SESSIONS if session >= day)


def _load(world: World, what: Any) -> None:
    job_type, chosen, one, other, force = what
    if job_type == "daily_update":
        world.run("daily_update", symbols=chosen, force=force)
        return
    start, end = SESSIONS[min(one, other)], SESSIONS[max(one, other)]
    if start < world.market.today:
        world.run("initialize", symbols=chosen, start=start, end=end, force=force)


def check(world: World) -> None:
    """Let the next run heal everything, and compare."""
    if world.corrected:  # a correction of a bar that was fetched is found by asking again
        world.run("initialize", symbols=tuple(sorted(world.corrected)), start=world.earliest, force=True)
    world.run("initialize", symbols=SYMBOLS, start=world.earliest)
    assert stock_data(world.engine) == world.expected()

    world.market.reset_calls()
    again = world.run("daily_update", symbols=SYMBOLS)
    assert again["api_calls"] == 0, again
    assert not world.market.calls["range"] + world.market.calls["grouped"]
    assert scalar(world.engine, "SELECT count(*) FROM splits WHERE restated_at IS NULL") == 0
    assert scalar(world.engine, "SELECT count(*) FROM rejected_bars") == 0


def histories(examples: int) -> Any:
    """Bound a property's number of random histories; the same ones each time, unless it is to go deeper."""
    return settings(
        max_examples=examples * DEEPER,
        deadline=None,
        derandomize=DEEPER == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if DEEPER == 1 else list(Phase),
    )


@pytest.fixture(scope="module")
def server() -> Iterator[MarketServer]:
    with MarketServer(_empty_history(), today=SESSIONS[BEGIN]) as market:
        yield market


@pytest.mark.parametrize("shard", range(4))
def test_any_history_converges_on_sqlite(server: MarketServer, shard: int) -> None:
    @histories(250)
    @given(st.lists(step, min_size=1, max_size=8), st.integers(0, 10_000))
    def converges(steps: list[Any], seed: int) -> None:
        with TemporaryDirectory() as folder:
            engine = open_engine(f"sqlite:///{Path(folder)}/stock_tracker.db")
            try:
                world = World(server, engine, seed * 4 + shard)
                play(world, steps)
                check(world)
            finally:
                engine.dispose()

    converges()


@pytest.mark.parametrize("shard", range(2))
def test_any_history_converges_on_postgresql(server: MarketServer, postgresql_database: str, shard: int) -> None:
    engine = open_engine(postgresql_database)

    @histories(50)
    @given(st.lists(step, min_size=1, max_size=8), st.integers(0, 10_000))
    def converges(steps: list[Any], seed: int) -> None:
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        world = World(server, engine, seed * 2 + shard)
        play(world, steps)
        check(world)

    converges()
