"""Whatever happens in a table's life, after a quiet week it is what one bulk load would have made it.

Random lives drive the real jobs against a provider that misbehaves. It stalls, publishes a symbol late, answers with
half of what it has, sends impossible bars, corrects and withdraws bars, and restates histories with and without listing
a split. Meanwhile symbols come and go, sessions are skipped, repeated and backfilled out of order, runs are killed at
any statement or refused, and two runs overlap. Then follows a week of ordinary mornings and an audit, after which the
table must equal, value for value, an independent bulk load of the market's bars.

``make test`` lives the same 100 lives on SQLite and 24 on PostgreSQL every time, and every life that found a fault.
``make test-deep`` lives new ones: 1,000 on SQLite and 200 on PostgreSQL, times ``DEEPER``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from config import Settings
from domain.calendar import previous_session, session_dates, sessions_between
from domain.clock import Deadline, SystemClock
from domain.errors import StockTrackerError
from domain.models import JobType, Request, Split
from pipeline import jobs
from pipeline.audit import audit
from pipeline.run import Run, RunContext, journaled
from sandbox.history import PriceHistory
from sandbox.server import Fault, MarketServer
from storage.engine import open_engine, transaction
from tests.support import deep, oracle, runs, tables
from tests.support.oracle import Bar
from tests.support.tables import has_tables, rows, scalar, stock_data

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
SESSIONS = sessions_between(date(2012, 10, 15), date(2012, 12, 31))  # with a hurricane and Thanksgiving
BEGIN = 12  # index in SESSIONS of the market's first today
FIRST_LOAD = 8  # sessions
QUIET = 5  # mornings of the quiet week
END = len(SESSIONS) - QUIET - 1  # how far a life goes before it
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # on Linux, a folder that no commit has to wait for

Step = tuple[Any, ...]
"""The kind of step, then its arguments."""

Live = Callable[[int, list[Step]], None]
"""Lives a life of these prices and steps on an empty database, and checks how it ends."""


class Killed(BaseException):
    """Stands for the end of a killed process: no code catches it."""


class Provider(PriceHistory):
    """Prices that are published late, or only in part."""

    def __init__(self, history: PriceHistory) -> None:
        super().__init__(history._arrays)
        self._changes = history._changes
        self.stalled_at: date | None = None
        self.late: set[tuple[str, date]] = set()
        self.halves = False

    def range_bars(self, symbol: str, first: date, last: date, *, adjusted: bool, today: date) -> list[Any]:
        bars = super().range_bars(symbol, first, last, adjusted=adjusted, today=self.published(today))
        shown = [bar for bar in bars if (symbol, _session_of(bar)) not in self.late]
        return shown[: len(shown) // 2] if self.halves else shown

    def grouped_bars(self, session: date, *, adjusted: bool, today: date) -> list[Any]:
        bars = super().grouped_bars(session, adjusted=adjusted, today=self.published(today))
        shown = [bar for bar in bars if (bar["T"], session) not in self.late]
        return shown[: len(shown) // 2] if self.halves else shown

    def published(self, today: date) -> date:
        """The day up to which sessions are published."""
        return min(today, self.stalled_at or today)


def _session_of(bar: Mapping[str, Any]) -> date:
    day: date = session_dates([bar["t"]]).tolist()[0]
    return day


class World:
    """A market, a database, and the test's own record of the market's bars.

    One number decides all its prices.
    """

    def __init__(self, market: MarketServer, engine: Engine, prices: int) -> None:
        self.market, self.engine = market, engine
        self.settings = Settings(
            polygon_base_url=market.url,
            polygon_api_key=market.key,
            polygon_calls_per_minute=0,
            history_sessions=FIRST_LOAD,
        )
        self.bars: dict[tuple[str, date], Bar] = {}
        self.splits: list[tuple[str, date, int, int]] = []
        self.warnings: list[str] = []
        self.broken: set[tuple[str, date]] = set()
        self.changed: set[tuple[str, date]] = set()  # bars that were corrected, or never right
        self.earliest = SESSIONS[BEGIN - FIRST_LOAD]  # the first session that an update of an empty database loads
        self.provider = Provider(_empty_history())
        market.history = self.provider
        market.forget_faults()
        market.today = SESSIONS[BEGIN]
        for n, symbol in enumerate(SYMBOLS):
            for k, session in enumerate(SESSIONS):
                noise = (prices * 7919 + n * 104729 + k * 15485863) % 997
                if noise % 23 == 0 or (symbol == "DDD" and k < 9):  # halted, or not yet listed
                    continue
                self.put(symbol, session, 20 + n * 55 + noise)

    def put(self, symbol: str, session: date, level: int) -> None:
        """Set the bar of a symbol and session; the level decides its prices and volume."""
        cents = [level * 10 + shift for shift in (3, 9, 0, 3 + level % 7)]
        open_, high, low, close = (Decimal(cent) / 100 for cent in cents)
        self.set(Bar(symbol, session, open_, high, low, close, Decimal(1000 + level * 13)))

    def set(self, bar: Bar) -> None:
        """Publish a bar in place of any other of its symbol and session."""
        self.bars[bar.symbol, bar.session] = bar
        self.broken.discard((bar.symbol, bar.session))
        values = {name: float(getattr(bar, name)) for name in ("open", "high", "low", "close")}
        self.market.history.put_bar(bar.symbol, bar.session, volume=int(bar.volume), **values)

    def remove(self, symbol: str, session: date) -> None:
        """Withdraw the bar of a symbol and session."""
        self.bars.pop((symbol, session), None)
        self.market.history.remove_bar(symbol, session)

    def run(self, job_type: JobType, **request: Any) -> Mapping[str, Any]:
        """Run a job, by default as of the market's today."""
        if request.get("start"):
            self.earliest = min(self.earliest, request["start"])
        context = RunContext(settings=self.settings, engine=self.engine, deadline=Deadline(None, SystemClock()))
        result = jobs.run_job(
            Request(job_type, **{"as_of": self.market.today, "sessions": FIRST_LOAD, **request}), context
        )
        self.warnings += result["warnings"]
        self.inspect()
        return result

    def inspect(self) -> None:
        """Check what holds after every run: metrics are of the stored bars, and only published sessions are read."""
        stored = stock_data(self.engine)
        bars = [Bar(*row[:6], Decimal(row.volume)) for row in stored]
        assert stored == oracle.table(bars)
        last = max(session for _, session in self.bars if session < self.provider.published(self.market.today))
        assert not rows(self.engine, f"SELECT * FROM coverage WHERE last_session > '{last}' OR seen_to > '{last}'")

    def is_mixed(self) -> bool:
        """Whether stored closes of a symbol are on more than one adjustment basis."""
        today = self.market.today
        current = {bar[:2]: bar.close for bar in oracle.adjusted(self.bars.values(), today, self.splits)}
        factors: dict[str, list[Decimal]] = {}
        for row in stock_data(self.engine):
            if row[:2] in current and row[:2] not in self.changed:
                factors.setdefault(row.symbol, []).append(row.close / current[row[:2]])
        return any(max(some) / min(some) > Decimal("1.01") for some in factors.values())

    def audit(self) -> None:
        """Read settled history again, as a weekly report does before it is sent."""
        context = RunContext(settings=self.settings, engine=self.engine, deadline=Deadline(None, SystemClock()))
        run = Run(Request("weekly_report", SYMBOLS, self.market.today), context)
        with journaled(run):
            audit(run, lambda coverage: jobs._tracked_sessions(run, coverage))
            with transaction(self.engine) as connection:
                run.save(connection, status="ok")
        self.warnings += run.warnings

    def expected(self) -> list[oracle.Row]:
        """An independent bulk load of everything the market has published by its today."""
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
    """Kill what runs inside at its n-th SQL statement, if it makes that many."""
    remaining = statement

    def count(*_: Any) -> None:
        nonlocal remaining
        remaining -= 1
        if remaining == 0:
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
    st.tuples(st.just("break"), symbol, past),
    st.tuples(st.just("correct"), symbol, past, st.integers(1, 400)),
    st.tuples(st.just("withdraw"), symbol, past),
    st.tuples(st.just("split"), symbol, st.integers(1, 3), ratio),
    st.tuples(st.just("restate"), symbol, ratio),
    st.tuples(st.just("audit")),
)
prices = st.integers(0, 40_000)
LIVES = settings(deadline=None, derandomize=False, database=None, suppress_health_check=list(HealthCheck))

FAULTS: dict[str, tuple[int, list[Step]]] = {
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
}
"""Lives that failed before the fault they found was mended: the number of their prices, and their steps."""


def play(world: World, steps: list[Step]) -> None:
    """Take the steps one after another."""
    for kind, *arguments in steps:
        STEPS[kind](world, *arguments)


def _advance(world: World, sessions: int) -> None:
    """Let some sessions pass; what was late is published."""
    position = SESSIONS.index(_session_from(world.market.today)) + sessions
    world.market.today = SESSIONS[min(position, END)]
    world.provider.late.clear()


def _morning(world: World, chosen: tuple[str, ...]) -> None:
    """Update on the next morning; unless the provider is silent, a repeat makes no call."""
    _advance(world, 1)
    result = world.run("daily_update", symbols=chosen)
    if world.provider.stalled_at is None and not result["warnings"]:
        world.market.reset_calls()
        world.run("daily_update", symbols=chosen)
        assert not world.market.calls["range"] + world.market.calls["grouped"], world.market.requests


def _load(world: World, what: Step) -> None:
    job_type, chosen, one, other, force = what
    if job_type == "daily_update":
        world.run("daily_update", symbols=chosen, force=force)
        return
    start, end = SESSIONS[min(one, other)], SESSIONS[max(one, other)]
    if start < world.market.today:
        world.run("initialize", symbols=chosen, start=start, end=end, force=force)


def _kill(world: World, what: Step, statement: int) -> None:
    with killed_at(world.engine, statement):
        _load(world, what)
    if has_tables(world.engine):
        runs.let_leases_end(world.engine)


def _refuse(world: World, what: Step, answered: int) -> None:
    """Let the provider answer some calls of a load, then refuse one."""
    world.market.fail_next(*[Fault(delay=0.0)] * answered, Fault(status=404, body=b"{}"))
    with suppress(StockTrackerError):
        _load(world, what)
    world.market.forget_faults()


def _together(world: World, *loads: Step) -> None:
    with ThreadPoolExecutor(len(loads)) as pool:
        for future in [pool.submit(_load, world, each) for each in loads]:
            future.result()


def _early(world: World, chosen: tuple[str, ...]) -> None:
    """Update on a morning on which the provider still shows what it did yesterday."""
    position = SESSIONS.index(_session_from(world.market.today)) + 1
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
        _load(world, what)
    finally:
        world.provider.halves = False
    if before and not what[-1]:  # unless forced, no answer removes more than 3 bars, or 5 %
        lost = before - len(stock_data(world.engine))
        assert lost <= max(3, 0.05 * before) * (world.market.calls["range"] + world.market.calls["grouped"])


def _break(world: World, symbol: str, position: int) -> None:
    """Send an impossible bar, which is put right before the quiet week."""
    key = symbol, SESSIONS[position]
    if key in world.bars:
        bar = world.bars[key]
        values = {"open": float(bar.open), "high": 0.5, "low": float(bar.low), "close": float(bar.close)}
        world.market.history.put_bar(*key, volume=int(bar.volume), **values)
        world.broken.add(key)


def _correct(world: World, symbol: str, position: int, level: int) -> None:
    world.put(symbol, SESSIONS[position], level)
    world.changed.add((symbol, SESSIONS[position]))


def _withdraw(world: World, symbol: str, position: int) -> None:
    world.remove(symbol, SESSIONS[position])


def _restate(world: World, symbol: str, ratio: tuple[int, int]) -> None:
    """Restate all history before today by a split that is never listed."""
    split_from, split_to = ratio
    for (name, session), bar in list(world.bars.items()):
        if name == symbol and session < world.market.today and (name, session) not in world.broken:
            prices = [(price * split_from / split_to).quantize(oracle.PLACES) for price in bar[2:6]]
            world.set(bar._replace(**dict(zip(("open", "high", "low", "close"), prices, strict=True))))


def _audit(world: World) -> None:
    world.audit()


def _split(world: World, symbol: str, days: int, ratio: tuple[int, int]) -> None:
    day = world.market.today + timedelta(days=days)
    if not any(split[:2] == (symbol, day) for split in world.splits):
        world.splits.append((symbol, day, *ratio))
        world.market.history.add_split(Split(symbol, day, *ratio))


STEPS: dict[str, Callable[..., None]] = {
    "advance": _advance,
    "load": _load,
    "kill": _kill,
    "refuse": _refuse,
    "together": _together,
    "early": _early,
    "morning": _morning,
    "stall": _stall,
    "late": _late,
    "half": _half,
    "break": _break,
    "correct": _correct,
    "withdraw": _withdraw,
    "split": _split,
    "restate": _restate,
    "audit": _audit,
}


def _session_from(day: date) -> date:
    return next(session for session in SESSIONS if session >= day)


def check(world: World) -> None:
    """Let the provider have a quiet week, with an update each morning and an audit at its end, and compare."""
    world.provider.stalled_at = None
    world.provider.late.clear()
    for key in list(world.broken):
        world.set(world.bars[key])
    world.warnings.clear()
    world.run("initialize", symbols=SYMBOLS, start=world.earliest)
    for morning in range(QUIET):
        today = SESSIONS.index(_session_from(world.market.today)) + 1
        world.market.today = SESSIONS[today]
        world.run("daily_update", symbols=SYMBOLS)
        assert not world.is_mixed()
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
    """Live a life on an empty database, and check how it ends."""
    world = World(market, engine, prices)
    play(world, steps)
    check(world)


@pytest.fixture(scope="module")
def server() -> Iterator[MarketServer]:
    with MarketServer(_empty_history(), today=SESSIONS[BEGIN]) as market:
        yield market


@pytest.fixture(params=["sqlite", "postgresql"])
def live(request: pytest.FixtureRequest, server: MarketServer) -> Live:
    """A function that lives a life on an empty database, of each kind in turn, and checks how it ends."""

    def on_sqlite(prices: int, steps: list[Step]) -> None:
        with TemporaryDirectory(dir=MEMORY) as folder:
            engine = open_engine(f"sqlite:///{Path(folder)}/stock_tracker.db")
            try:
                check_life(server, engine, prices, steps)
            finally:
                engine.dispose()

    if request.param == "sqlite":
        return on_sqlite
    engine = open_engine(request.getfixturevalue("postgresql_url"))

    def on_postgresql(prices: int, steps: list[Step]) -> None:
        tables.clear(engine)
        check_life(server, engine, prices, steps)

    return on_postgresql


@pytest.mark.parametrize("fault", FAULTS)
def test_a_life_that_once_found_a_fault_converges(live: Live, fault: str) -> None:
    live(*FAULTS[fault])


@pytest.mark.parametrize("shard", range(4))
@pytest.mark.parametrize(("live", "lives"), [("sqlite", 25), ("postgresql", 6)], indirect=["live"])
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
