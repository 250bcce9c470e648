"""A market of four symbols that misbehaves, the database that jobs fill from it, and what can happen to both.

Random lives take these steps one after another. Each test of such lives adds what it checks, and steps of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import Engine, event

from config import Settings
from domain.calendar import session_dates, sessions_between
from domain.clock import Deadline, SystemClock
from domain.models import JobType, Request, Split
from pipeline import jobs
from pipeline.audit import audit
from pipeline.context import RunContext
from pipeline.plan import tracked_sessions
from pipeline.run import Run, journaled
from sandbox.history import PriceHistory
from sandbox.server import MarketServer
from storage.engine import open_engine, transaction
from tests.support import oracle, runs, tables
from tests.support.oracle import Bar

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
SESSIONS = sessions_between(date(2012, 10, 15), date(2012, 12, 31))  # with a hurricane and Thanksgiving
BEGIN = 12  # index in SESSIONS of the market's first today
FIRST_LOAD = 8  # sessions
QUIET = 5  # mornings of the quiet week
END = len(SESSIONS) - QUIET - 1  # how far a life goes before it
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # on Linux, a folder that no commit has to wait for

Step = tuple[Any, ...]
"""The kind of step, then its arguments."""


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
        self.provider = Provider(empty_history())
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
        """Set a symbol's bar for a session; the level decides its prices and volume."""
        cents = [level * 10 + shift for shift in (3, 9, 0, 3 + level % 7)]
        open_, high, low, close = (Decimal(cent) / 100 for cent in cents)
        self.set(Bar(symbol, session, open_, high, low, close, Decimal(1000 + level * 13)))

    def set(self, bar: Bar) -> None:
        """Publish a bar in place of any other of its symbol for that session."""
        self.bars[bar.symbol, bar.session] = bar
        self.broken.discard((bar.symbol, bar.session))
        values = {name: float(getattr(bar, name)) for name in ("open", "high", "low", "close")}
        self.market.history.put_bar(bar.symbol, bar.session, volume=int(bar.volume), **values)

    def remove(self, symbol: str, session: date) -> None:
        """Withdraw a symbol's bar for a session."""
        self.bars.pop((symbol, session), None)
        self.market.history.remove_bar(symbol, session)

    def context(self) -> RunContext:
        """What a run needs: these settings, this database and no deadline."""
        return RunContext(settings=self.settings, engine=self.engine, deadline=Deadline(None, SystemClock()))

    def run(self, job_type: JobType, **request: Any) -> Mapping[str, Any]:
        """Run a job, by default as of the market's today."""
        if request.get("start"):
            self.earliest = min(self.earliest, request["start"])
        asked = Request(job_type, **{"as_of": self.market.today, "sessions": FIRST_LOAD, **request})
        result = jobs.run_job(asked, self.context())
        self.warnings += result["warnings"]
        return result

    def audit(self) -> None:
        """Read settled history again, as a weekly report does before it is sent."""
        context = self.context()
        run = Run(Request("weekly_report", SYMBOLS, self.market.today), context)
        with journaled(run):
            audit(run, partial(tracked_sessions, run.request, run.context))
            with transaction(self.engine) as connection:
                run.save(connection, status="ok")
        self.warnings += run.warnings

    def advance(self, sessions: int) -> None:
        """Let some sessions pass; what was late is published."""
        position = SESSIONS.index(session_from(self.market.today)) + sessions
        self.market.today = SESSIONS[min(position, END)]
        self.provider.late.clear()

    def load(self, what: Step) -> None:
        job_type, chosen, one, other, force = what
        if job_type == "daily_update":
            self.run("daily_update", symbols=chosen, force=force)
            return
        start, end = SESSIONS[min(one, other)], SESSIONS[max(one, other)]
        if start < self.market.today:
            self.run("initialize", symbols=chosen, start=start, end=end, force=force)

    def kill(self, what: Step, statement: int) -> None:
        with killed_at(self.engine, statement):
            self.load(what)
        if tables.has_tables(self.engine):
            runs.let_leases_end(self.engine)

    def together(self, *loads: Step) -> None:
        with ThreadPoolExecutor(len(loads)) as pool:
            for future in [pool.submit(self.load, each) for each in loads]:
                future.result()

    def correct(self, symbol: str, position: int, level: int) -> None:
        self.put(symbol, SESSIONS[position], level)
        self.changed.add((symbol, SESSIONS[position]))

    def withdraw(self, symbol: str, position: int) -> None:
        self.remove(symbol, SESSIONS[position])

    def restate(self, symbol: str, ratio: tuple[int, int]) -> None:
        """Restate all history before today by a split that is never listed."""
        split_from, split_to = ratio
        for (name, session), bar in list(self.bars.items()):
            if name == symbol and session < self.market.today and (name, session) not in self.broken:
                open_, high, low, close = (
                    (price * split_from / split_to).quantize(oracle.PLACES) for price in bar[2:6]
                )
                self.set(bar._replace(open=open_, high=high, low=low, close=close))

    def split(self, symbol: str, days: int, ratio: tuple[int, int]) -> None:
        day = self.market.today + timedelta(days=days)
        if not any(split[:2] == (symbol, day) for split in self.splits):
            self.splits.append((symbol, day, *ratio))
            self.market.history.add_split(Split(symbol, day, *ratio))


def empty_history() -> PriceHistory:
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


@contextmanager
def sqlite_engine() -> Iterator[Engine]:
    """Yield the engine of an empty SQLite database, which is removed afterwards."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        engine = open_engine(f"sqlite:///{Path(folder)}/stock_tracker.db")
        try:
            yield engine
        finally:
            engine.dispose()


def session_from(day: date) -> date:
    return next(session for session in SESSIONS if session >= day)
