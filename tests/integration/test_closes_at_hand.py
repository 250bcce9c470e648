"""Closes kept in memory between the batches of a load change no row, whoever else writes between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Connection, Engine, text

import database
import utils
from domain.models import Cause, JobResult, Request
from pipeline import fetcher, jobs
from pipeline.closes import ClosesAtHand
from pipeline.context import RunContext
from sandbox.server import MarketServer
from storage.commits import read_commits
from storage.engine import database_time, transaction
from tests.support import oracle
from tests.support.tables import rows, scalar, stock_data
from tests.support.world import SESSIONS, SYMBOLS, World, empty_history
from transformations import add_metrics

pytestmark = pytest.mark.in_turn

MARKET = ("*",)
BEFORE, LOADED = SESSIONS[6:10], SESSIONS[10:20]  # what is stored, and what is loaded then

Meanwhile = Callable[[], object]


@pytest.fixture(scope="module")
def server() -> Iterator[MarketServer]:
    with MarketServer(empty_history(), today=SESSIONS[0]) as market:
        yield market


@pytest.fixture(params=[True, False], ids=["with closes at hand", "without"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether closes are kept; if not, every batch reads what it needs."""
    if not request.param:
        monkeypatch.setattr(ClosesAtHand, "keep", lambda *_: None)
    return bool(request.param)


class Batches(World):
    """A world in which each answer is a batch, and something can happen between two of them."""

    def load(self, *sessions: date, meanwhile: Meanwhile | None = None) -> JobResult:  # type: ignore[override]
        """Load the whole market from the first to the last of the sessions, with an interruption half way."""
        context, half, due = self.context(), len(sessions) // 2, [meanwhile] if meanwhile else []

        def progress(done: int, _total: int, _doing: str) -> None:
            if done == half and due:
                due.pop()()

        context = RunContext(context.settings, context.engine, context.deadline, progress=progress)
        request = Request("initialize", MARKET, self.market.today, start=sessions[0], end=sessions[-1])
        return jobs.run_job(request, context)

    def read_again(self) -> None:
        """Let another run read again what was stored before."""
        result = self.run("initialize", symbols=MARKET, start=BEFORE[0], end=BEFORE[-1], force=True)
        assert result["status"] == "ok"

    def expected(self, first: date = BEFORE[0], last: date = LOADED[-1]) -> list[oracle.Row]:
        return oracle.table(bar for bar in self.bars.values() if first <= bar.session <= last)

    def close_of(self, symbol: str, session: date, close: str) -> None:
        """Publish another close of a bar."""
        bar, price = self.bars[symbol, session], Decimal(close)
        self.set(bar._replace(close=price, high=max(bar.high, price), low=min(bar.low, price)))


@pytest.fixture
def world(engine: Engine, server: MarketServer, monkeypatch: pytest.MonkeyPatch) -> Batches:
    monkeypatch.setattr(fetcher, "BATCH_ROWS", 1)
    world = Batches(server, engine, 1)
    world.market.today = SESSIONS[30]
    return world


def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record of which symbols each batch reads closes from the table."""
    symbols, read = list[list[str]](), utils.read_neighbors

    def record(connection: Connection, spans: pd.DataFrame) -> pd.DataFrame:
        symbols.append(spans["symbol"].tolist())
        return read(connection, spans)

    monkeypatch.setattr(utils, "read_neighbors", record)
    return symbols


class TestUsed:
    """A load that goes forward reads the closes of a symbol once."""

    def test_each_symbol_is_read_when_it_first_appears(self, world: Batches, monkeypatch: pytest.MonkeyPatch) -> None:
        for session in LOADED[:4]:
            world.remove("BBB", session)
        read = asked(monkeypatch)

        world.load(*LOADED)

        # The latest session is asked for first and committed last.
        assert sorted(read[0]) == [symbol for symbol in SYMBOLS if symbol != "BBB"]
        assert read[1:] == [[], [], [], ["BBB"], *[[]] * 5]
        assert stock_data(world.engine) == world.expected(LOADED[0])

    def test_a_symbol_with_later_rows_is_read_each_time_and_no_other(
        self, world: Batches, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.run("initialize", symbols=("BBB",), start=LOADED[-1], end=SESSIONS[25])
        read = asked(monkeypatch)

        world.load(*LOADED[:-1])

        assert sorted(read[0]) == list(SYMBOLS)
        assert read[1:] == [["BBB"]] * 8
        stored = [bar for bar in world.bars.values() if LOADED[0] <= bar.session <= SESSIONS[25]]
        assert stock_data(world.engine) == oracle.table(
            bar for bar in stored if bar.symbol == "BBB" or bar.session < LOADED[-1]
        )

    def test_a_load_that_goes_back_reads_what_it_has_just_stored(
        self, world: Batches, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One symbol lacks all sessions and the others one in the middle: a range of the one, then a session of all."""
        others = tuple(symbol for symbol in SYMBOLS if symbol != "BBB")
        world.run("initialize", symbols=others, start=LOADED[0], end=LOADED[4])
        world.run("initialize", symbols=others, start=LOADED[6], end=LOADED[-1])
        world.market.reset_calls()
        read = asked(monkeypatch)

        world.run("initialize", symbols=SYMBOLS, start=LOADED[0], end=LOADED[-1])

        assert (world.market.calls["range"], world.market.calls["grouped"]) == (1, 1)
        assert read == [["BBB"], list(SYMBOLS)]
        assert stock_data(world.engine) == world.expected(LOADED[0])


@pytest.mark.usefixtures("kept")
class TestBesideOthers:
    """Another commit between two batches is taken into account, as if every batch read the table."""

    def test_another_run_loads_the_sessions_before(self, world: Batches) -> None:
        world.load(*LOADED, meanwhile=lambda: world.run("initialize", symbols=MARKET, start=BEFORE[0], end=BEFORE[-1]))

        assert stock_data(world.engine) == world.expected()

    def test_another_run_corrects_a_close(self, world: Batches) -> None:
        world.load(*BEFORE)
        before = world.bars["AAA", BEFORE[-1]].close

        def correct() -> None:
            world.close_of("AAA", BEFORE[-1], str(before + Decimal("0.50")))
            world.read_again()

        world.load(*LOADED[:4], meanwhile=correct)

        assert scalar(world.engine, "SELECT count(*) FROM bar_revisions WHERE cause = 'corrected'") == 1
        assert stock_data(world.engine) == world.expected(last=LOADED[3])

    def test_another_run_withdraws_a_bar(self, world: Batches) -> None:
        world.load(*BEFORE)

        def withdraw() -> None:
            world.remove("AAA", BEFORE[-1])
            world.read_again()

        world.load(*LOADED[:4], meanwhile=withdraw)

        assert scalar(world.engine, "SELECT count(*) FROM bar_revisions WHERE cause = 'withdrawn'") == 1
        assert stock_data(world.engine) == world.expected(last=LOADED[3])

    def test_a_late_bar_appears(self, world: Batches) -> None:
        late = world.bars["CCC", BEFORE[-1]]
        world.remove("CCC", BEFORE[-1])
        world.load(*BEFORE)

        def publish() -> None:
            world.set(late)
            world.read_again()

        world.load(*LOADED[:4], meanwhile=publish)

        assert scalar(world.engine, "SELECT count(*) FROM bar_revisions WHERE cause = 'appeared'") == 1
        assert stock_data(world.engine) == world.expected(last=LOADED[3])

    @pytest.mark.parametrize("cause", ["restated", "rescaled"])
    def test_a_history_is_restated(self, world: Batches, cause: Cause) -> None:
        """No run does this beside another one; whoever writes is noticed all the same."""
        world.load(*LOADED, meanwhile=lambda: halve(world.engine, "AAA", cause))

        stored = stock_data(world.engine)
        closes = {row.session: row.close for row in stored if row.symbol == "AAA"}
        half = {session: world.bars["AAA", session].close / 2 for session in closes if session < LOADED[4]}
        assert half == {session: close for session, close in closes.items() if session < LOADED[4]}
        assert stored == oracle.table(oracle.Bar(*row[:6], Decimal(row.volume)) for row in stored)

    def test_rows_are_removed(self, world: Batches) -> None:
        world.load(*LOADED, meanwhile=lambda: remove(world.engine, LOADED[3]))

        assert stock_data(world.engine) == oracle.table(
            bar for bar in world.bars.values() if bar.session in LOADED and bar.session != LOADED[3]
        )

    def test_rows_before_are_adopted(self, world: Batches) -> None:
        world.load(*BEFORE)
        with world.engine.begin() as connection:
            for table in ("coverage", "bar_revisions", "loads", "job_runs", "splits", "suspects", "commits"):
                connection.execute(text(f"DROP TABLE {table}"))

        world.load(*LOADED)

        assert stock_data(world.engine) == world.expected()


def halve(engine: Engine, symbol: str, cause: Cause) -> None:
    """Halve all stored prices of a symbol, as the restatement of a split does."""
    with transaction(engine) as connection:
        stored = utils.read_history(connection, [symbol], SESSIONS[0], SESSIONS[-1])
        bars = stored[["symbol", "date", "open", "high", "low", "close", "volume"]]
        bars = bars.assign(**{name: bars[name] / 2 for name in ("open", "high", "low", "close")})
        metrics = add_metrics(bars.astype({"volume": "int64"}), stored[["symbol", "date", "close"]])
        database.load_bars(connection, metrics, run_id="other", at=database_time(connection), cause=cause)


def remove(engine: Engine, session: date) -> None:
    """Withdraw all bars of a session that nothing stored depends on yet."""
    with transaction(engine) as connection:
        bars = utils.read_history(connection, MARKET, session, session)[["symbol", "date"]]
        at = database_time(connection)
        assert database.remove_bars(connection, bars, run_id="other", at=at, cause="withdrawn") == len(bars)


class TestCounter:
    """Every commit that changes a bar counts, and no other one does."""

    def test_each_way_to_change_a_bar_counts(self, world: Batches) -> None:
        counts = [0]

        def grown() -> bool:
            with transaction(world.engine, write=False) as connection:
                counts.append(read_commits(connection))
            return counts[-1] > counts[-2]

        world.load(*BEFORE)
        assert grown()
        world.close_of("AAA", BEFORE[0], str(world.bars["AAA", BEFORE[0]].close + Decimal("0.25")))
        world.read_again()
        assert grown()
        world.remove("AAA", BEFORE[0])
        world.read_again()
        assert grown()
        halve(world.engine, "AAA", "restated")
        assert grown()

    def test_a_repeat_and_answers_without_news_write_nothing(self, world: Batches) -> None:
        world.load(*BEFORE)
        before = counter(world.engine)

        world.load(*BEFORE)
        world.read_again()

        assert counter(world.engine) == before

    def test_a_database_of_this_version_before_the_counter_is_brought_up(self, world: Batches) -> None:
        world.load(*BEFORE)
        with world.engine.begin() as connection:
            connection.execute(text("DROP TABLE commits"))

        dry_run = Request("initialize", MARKET, world.market.today, start=LOADED[0], end=LOADED[-1], dry_run=True)
        assert jobs.run_job(dry_run, world.context())["status"] == "ok"
        world.load(*LOADED)

        assert stock_data(world.engine) == world.expected()
        assert counter(world.engine)


def counter(engine: Engine) -> list[tuple[Any, ...]]:
    """The row of the counter; on PostgreSQL with its version, which any write would change."""
    version = ", xmin::text" if engine.dialect.name == "postgresql" else ""
    return rows(engine, f"SELECT id, number{version} FROM commits")
