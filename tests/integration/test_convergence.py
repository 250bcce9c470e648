"""Whatever happens in a table's life, after a quiet week it is what one bulk load would have made it.

Random lives drive the real jobs against a provider that misbehaves. It stalls, publishes a symbol late, answers with
half of what it has, sends impossible bars, corrects and withdraws bars, and restates histories with and without listing
a split. Meanwhile symbols come and go, sessions are skipped, repeated and backfilled out of order, runs are killed at
any statement or refused, and two runs overlap. Then follows a week of ordinary mornings and an audit, after which the
table must equal, value for value, an independent bulk load of the market's bars.

``make test`` lives the same 104 lives on SQLite and 39 on PostgreSQL every time, of which CI lives a few, and all that
once found a fault.
``make test-deep`` lives new ones: 1,000 on SQLite and 200 on PostgreSQL, times ``DEEPER``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from domain.calendar import previous_session
from domain.errors import StockTrackerError
from domain.models import JobType
from pipeline import fetcher
from sandbox.server import Fault, MarketServer
from storage.engine import open_engine
from tests.support import deep, oracle, tables
from tests.support.oracle import Bar
from tests.support.tables import has_tables, rows, scalar, stock_data
from tests.support.world import (
    BEGIN,
    END,
    QUIET,
    SESSIONS,
    SYMBOLS,
    Step,
    World,
    empty_history,
    session_from,
    sqlite_engine,
)

Live = Callable[[int, list[Step]], None]
"""Lives a life of these prices and steps on an empty database, and checks how it ends."""


class InspectedWorld(World):
    """A world that is inspected after every run."""

    def run(self, job_type: JobType, **request: Any) -> Mapping[str, Any]:
        """Run a job, and check what holds after every run."""
        result = super().run(job_type, **request)
        self.inspect()
        return result

    def inspect(self) -> None:
        """Check what holds after every run: metrics are of the stored bars, and only published sessions are read."""
        stored = stock_data(self.engine)
        bars = [Bar(*row[:6], Decimal(row.volume)) for row in stored]
        assert stored == oracle.table(bars)
        last = max(session for _, session in self.bars if session < self.provider.published(self.market.today))
        assert not rows(self.engine, f"SELECT * FROM coverage WHERE last_session > '{last}' OR seen_to > '{last}'")

    def read_again(self) -> set[str]:
        """The symbols of which a stored bar will be read again by the next update."""
        today = SESSIONS.index(session_from(self.market.today))
        stored = stock_data(self.engine) if has_tables(self.engine) else []
        return {row.symbol for row in stored if row.session in SESSIONS[today - 3 : today] and row[:2] in self.bars}

    def is_mixed(self, symbols: Iterable[str] = SYMBOLS) -> bool:
        """Whether stored closes of any of the symbols are on more than one adjustment basis."""
        today = self.market.today
        current = {bar[:2]: bar.close for bar in oracle.adjusted(self.bars.values(), today, self.splits)}
        factors: dict[str, list[Decimal]] = {}
        for row in stock_data(self.engine):
            if row.symbol in symbols and row[:2] in current and row[:2] not in self.changed:
                factors.setdefault(row.symbol, []).append(row.close / current[row[:2]])
        return any(max(some) / min(some) > Decimal("1.01") for some in factors.values())

    def expected(self) -> list[oracle.Row]:
        """An independent bulk load of everything the market has published by its today."""
        last = previous_session(self.market.today)
        chosen = [bar for bar in self.bars.values() if self.earliest <= bar.session <= last]
        return oracle.table(oracle.adjusted(chosen, self.market.today, self.splits))


symbols = st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=4, unique=True).map(tuple)
past = st.integers(0, len(SESSIONS) - 1)
load = st.one_of(
    st.tuples(st.just("daily_update"), symbols, st.just(0), st.just(0), st.booleans()),
    st.tuples(st.just("initialize"), symbols, past, past, st.booleans()),
)
symbol = st.sampled_from(SYMBOLS)
ratio = st.sampled_from([(1, 2), (3, 1), (2, 3)])
step = st.one_of(
    st.tuples(st.just("advance"), st.integers(1, 4)),
    st.tuples(st.just("load"), load),
    st.tuples(st.just("load"), load),
    st.tuples(st.just("morning"), symbols),
    st.tuples(st.just("kill"), load, st.integers(1, 80)),
    st.tuples(st.just("refuse"), load, st.integers(0, 4)),
    st.tuples(st.just("together"), load, load),
    st.tuples(st.just("early"), symbols),
    st.tuples(st.just("stall")),
    st.tuples(st.just("late"), symbol),
    st.tuples(st.just("half"), load),
    st.tuples(st.just("half audit")),
    st.tuples(st.just("halt"), symbol),
    st.tuples(st.just("break"), symbol, past),
    st.tuples(st.just("correct"), symbol, past, st.integers(1, 400)),
    st.tuples(st.just("withdraw"), symbol, past),
    st.tuples(st.just("split"), symbol, st.integers(1, 3), ratio),
    st.tuples(st.just("restate"), symbol, ratio),
    st.tuples(st.just("restate and kill"), symbol, ratio, st.integers(20, 120)),
    st.tuples(st.just("audit")),
)
prices = st.integers(0, 40_000)
LIVES = settings(deadline=None, derandomize=False, database=None, suppress_health_check=list(HealthCheck))

BATCHES = (fetcher.BATCH_ROWS, 1, 6)  # rows of a batch: all of a load, an answer, and a few answers

FAULTS: dict[str, tuple[int, list[Step]]] = {
    "a history that ends early is restated": (
        0,
        [("half", ("daily_update", ("AAA", "BBB", "CCC"), 0, 0, False)), ("restate", "CCC", (1, 2))],
    ),
    "a history that ends early is restated before its end is loaded": (
        0,
        [
            ("halt", "AAA"),
            ("half", ("daily_update", ("AAA", "BBB", "CCC"), 0, 0, False)),
            ("advance", 1),
            ("restate", "BBB", (1, 2)),
        ],
    ),
    "a symbol splits before its first session is loaded": (
        0,
        [
            ("kill", ("daily_update", ("AAA",), 0, 0, False), 1),
            ("correct", "AAA", 0, 1),
            ("split", "AAA", 3, (1, 2)),
            ("advance", 1),
        ],
    ),
    "an update runs before the provider knows this morning's split": (
        0,
        [
            ("split", "AAA", 1, (1, 2)),
            ("load", ("daily_update", ("AAA",), 0, 0, False)),
            ("early", ("AAA",)),
        ],
    ),
    "a symbol splits twice, once before and once after its first load": (
        0,
        [("split", "AAA", 1, (1, 2)), ("advance", 1), ("split", "AAA", 1, (1, 2))],
    ),
    "a run is killed while it makes its tables": (
        0,
        [("kill", ("daily_update", ("AAA",), 0, 0, False), 4)],
    ),
}
"""Lives that failed before the fault they found was mended: the number of their prices, and their steps."""


def play(world: World, steps: list[Step]) -> None:
    """Take the steps one after another."""
    for kind, *arguments in steps:
        STEPS[kind](world, *arguments)


def _morning(world: World, chosen: tuple[str, ...]) -> None:
    """Update on the next morning; unless the provider is silent, all is read, and a repeat makes no call."""
    world.advance(1)
    result = world.run("daily_update", symbols=chosen)
    if world.provider.stalled_at is None:
        last = previous_session(world.market.today)
        asks_again = any("the next run asks again" in warning for warning in result["warnings"])
        assert not asks_again or not any(session == last for _, session in world.bars), result["warnings"]
    if world.provider.stalled_at is None and not result["warnings"]:
        world.market.reset_calls()
        world.run("daily_update", symbols=chosen)
        assert not world.market.calls["range"] + world.market.calls["grouped"], world.market.requests


def _refuse(world: World, what: Step, answered: int) -> None:
    """Let the provider answer some calls of a load, then refuse one."""
    world.market.fail_next(*[Fault(delay=0.0)] * answered, Fault(status=404, body=b"{}"))
    with suppress(StockTrackerError):
        world.load(what)
    world.market.forget_faults()


def _early(world: World, chosen: tuple[str, ...]) -> None:
    """Update on a morning on which the provider still shows what it did yesterday."""
    position = SESSIONS.index(session_from(world.market.today)) + 1
    morning = SESSIONS[min(position, END)]
    world.run("daily_update", symbols=chosen, as_of=morning)
    world.market.today = morning


def _stall(world: World) -> None:
    """Publish no session from now on, or after a stall all of them."""
    world.provider.stalled_at = None if world.provider.stalled_at else world.market.today


def _late(world: World, symbol: str) -> None:
    """Publish the latest bar of a symbol only once another session has passed."""
    world.provider.late.add((symbol, previous_session(world.market.today)))


def _half(world: World, what: Step) -> None:
    """Answer a load with half of the bars, and counts that agree."""
    before = len(stock_data(world.engine)) if has_tables(world.engine) else 0
    world.market.reset_calls()
    world.provider.halves = True
    try:
        world.load(what)
    finally:
        world.provider.halves = False
    if before and not what[-1]:  # unless forced, no answer removes more than 3 bars, or 5 %
        lost = before - len(stock_data(world.engine))
        assert lost <= max(3, 0.05 * before) * (world.market.calls["range"] + world.market.calls["grouped"])


def _half_audit(world: World) -> None:
    """Answer an audit of a long history with half of the bars, and counts that agree."""
    world.load(("initialize", SYMBOLS, 0, END, False))
    world.advance(1)
    before = len(stock_data(world.engine))
    world.market.reset_calls()
    world.provider.halves = True
    try:
        world.audit()
    finally:
        world.provider.halves = False
    lost = before - len(stock_data(world.engine))
    assert lost <= 3 * (world.market.calls["range"] + world.market.calls["grouped"])


def _halt(world: World, symbol: str) -> None:
    """Let a symbol pause for a session, and update it alone on the next morning."""
    world.remove(symbol, session_from(world.market.today))
    _morning(world, (symbol,))


def _restate_and_kill(world: InspectedWorld, symbol: str, ratio: tuple[int, int], statement: int) -> None:
    """Restate a history that is up to date, and kill the update that finds it: the old basis stays, or the new one."""
    if world.provider.stalled_at or any(name == symbol for name, _ in world.broken):
        return
    world.run("daily_update", symbols=(symbol,))
    seen_again = {row[:2] for row in stock_data(world.engine)} & {
        (symbol, session) for session in SESSIONS[SESSIONS.index(session_from(world.market.today)) - 3 :]
    }
    if world.is_mixed() or not seen_again & world.bars.keys():
        return
    world.advance(1)
    world.restate(symbol, ratio)
    world.kill(("daily_update", (symbol,), 0, 0, False), statement)
    assert not world.is_mixed()


def _break(world: World, symbol: str, position: int) -> None:
    """Send an impossible bar, which is put right before the quiet week."""
    key = symbol, SESSIONS[position]
    if key in world.bars:
        bar = world.bars[key]
        values: dict[str, Any] = {
            "open": float(bar.open),
            "high": 0.5,
            "low": float(bar.low),
            "close": float(bar.close),
        }
        world.market.history.put_bar(*key, volume=int(bar.volume), **values)
        world.broken.add(key)


STEPS: dict[str, Callable[..., None]] = {
    "advance": World.advance,
    "load": World.load,
    "kill": World.kill,
    "refuse": _refuse,
    "together": World.together,
    "early": _early,
    "morning": _morning,
    "stall": _stall,
    "late": _late,
    "half": _half,
    "half audit": _half_audit,
    "halt": _halt,
    "break": _break,
    "correct": World.correct,
    "withdraw": World.withdraw,
    "split": World.split,
    "restate": World.restate,
    "restate and kill": _restate_and_kill,
    "audit": World.audit,
}


def check(world: InspectedWorld) -> None:
    """Let the provider have a quiet week, with an update each morning and an audit at its end, and compare."""
    world.provider.stalled_at = None
    world.provider.late.clear()
    for key in list(world.broken):
        world.set(world.bars[key])
    world.warnings.clear()
    restated_in_time = world.read_again()  # of others, the audit finds a restatement that no split lists
    world.run("initialize", symbols=SYMBOLS, start=world.earliest)
    for morning in range(QUIET):
        today = SESSIONS.index(session_from(world.market.today)) + 1
        world.market.today = SESSIONS[today]
        world.run("daily_update", symbols=SYMBOLS)
        assert not world.is_mixed(restated_in_time)
        world.market.reset_calls()
        again = world.run("daily_update", symbols=SYMBOLS)
        assert again["api_calls"] == 0, (morning, again["api_calls"], again["warnings"], world.market.requests)
        assert again["status"] == "nothing_to_do"
    world.audit()
    if any("force accepts it" in warning for warning in world.warnings):  # more was withdrawn than an answer may lack
        world.run("initialize", symbols=SYMBOLS, start=world.earliest, force=True)
    assert stock_data(world.engine) == world.expected()
    assert scalar(world.engine, "SELECT count(*) FROM splits WHERE restated_at IS NULL") == 0
    assert scalar(world.engine, "SELECT count(*) FROM suspects") == 0


def check_life(market: MarketServer, engine: Engine, prices: int, steps: list[Step]) -> None:
    """Live a life on an empty database, and check how it ends; its prices decide how large its batches are."""
    world = InspectedWorld(market, engine, prices)
    with patch.object(fetcher, "BATCH_ROWS", BATCHES[prices % len(BATCHES)]):
        play(world, steps)
    check(world)


@pytest.fixture(scope="module")
def server() -> Iterator[MarketServer]:
    with MarketServer(empty_history(), today=SESSIONS[BEGIN]) as market:
        yield market


@pytest.fixture(params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, server: MarketServer) -> Live:
    """A function that lives a life on an empty database, of each kind in turn, and checks how it ends."""

    def on_sqlite(prices: int, steps: list[Step]) -> None:
        with sqlite_engine() as engine:
            check_life(server, engine, prices, steps)

    if request.param == "sqlite":
        return on_sqlite
    engine = open_engine(request.getfixturevalue("postgresql_url"))

    def on_postgresql(prices: int, steps: list[Step]) -> None:
        tables.clear(engine)
        check_life(server, engine, prices, steps)

    return on_postgresql


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("live", "batches"), [("sqlite", 0), ("postgresql", 1), ("sqlite", 2)], indirect=["live"])
def test_a_life_that_once_found_a_fault_converges(live: Live, fault: str, batches: int) -> None:
    prices, steps = FAULTS[fault]
    live(prices + batches, steps)


@pytest.mark.parametrize("shard", [0, 1, *(pytest.param(shard, marks=pytest.mark.slow) for shard in range(2, 13))])
@pytest.mark.parametrize(("live", "lives"), [("sqlite", 8), ("postgresql", 3)], indirect=["live"])
def test_any_life_converges(live: Live, lives: int, shard: int) -> None:
    """The same lives each time, so that a failure comes from a change of the code."""

    @seed(shard)
    @settings(LIVES, max_examples=lives, phases=[Phase.generate])
    @given(prices, st.lists(step, min_size=1, max_size=8))
    def converges(prices: int, steps: list[Step]) -> None:
        live(prices, steps)

    converges()


@pytest.mark.deep
@pytest.mark.parametrize("shard", range(4))
@pytest.mark.parametrize(("live", "rounds"), [("sqlite", 10), ("postgresql", 2)], indirect=["live"])
def test_any_new_life_converges(live: Live, rounds: int, shard: int) -> None:
    """Other lives each time. A failure prints the steps of the shortest one: add it to ``FAULTS``."""

    @settings(LIVES, max_examples=25, phases=[Phase.generate, Phase.shrink])
    @given(prices, st.lists(step, min_size=1, max_size=8))
    def converges(prices: int, steps: list[Step]) -> None:
        live(prices, steps)

    for _ in range(rounds * deep.DEEPER):
        if not deep.time_is_up():
            converges()
