"""The table as it was known at a moment equals the table of that moment, value for value.

Random lives drive the real jobs while the provider corrects, withdraws, is late and splits, and runs are killed and
overlap; after each step the table is kept with the database's time. At the end each of these tables must be readable
again: by ``utils.read_table`` on both databases, and by ``stock_data_known_at`` on PostgreSQL.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text

import utils
from domain.calendar import sessions_between
from domain.errors import StockTrackerError
from domain.models import Cause
from sandbox.misbehavior import Reach
from sandbox.server import MarketServer
from storage.engine import database_time, open_engine, transaction
from storage.migration import ensure_schema
from storage.questions import midnight
from storage.schema import ADOPTION, LOADS, STOCK_DATA
from tests.support import tables
from tests.support.oracle import Row
from tests.support.tables import scalar, stock_data
from tests.support.world import BEGIN, SESSIONS, SYMBOLS, Step, World, empty_history, sqlite_engine

pytestmark = pytest.mark.in_turn

DAY = timedelta(days=1)
COLUMNS = "symbol, date, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change"


class Life(World):
    """A world with the tables of all moments so far."""

    def __init__(self, market: MarketServer, engine: Engine, prices: int) -> None:
        super().__init__(market, engine, prices)
        market.misbehaviors = ()
        self.moments: list[tuple[datetime, list[Row], list[tuple[Any, ...]]]] = []

    def take(self, step: Step) -> None:
        """Take a step, and keep the table of this moment."""
        kind, *arguments = step
        with suppress(StockTrackerError):
            getattr(self, kind)(*arguments)
        self.keep()

    def back(self, sessions: int) -> int:
        """The position of the session that lies so many before the market's today."""
        return max(SESSIONS.index(self.market.today) - sessions, 0)

    def correct_back(self, symbol: str, back: int, level: int) -> None:
        self.correct(symbol, self.back(back), level)

    def withdraw_back(self, symbol: str, back: int) -> None:
        self.withdraw(symbol, self.back(back))

    def initialize(self, symbols: tuple[str, ...], back: int, force: bool) -> None:
        self.run("initialize", symbols=symbols, start=SESSIONS[self.back(back)], force=force)

    def update(self, symbols: tuple[str, ...]) -> None:
        self.run("daily_update", symbols=symbols)

    def nudge(self, symbol: str, back: int, level: int) -> None:
        """Correct a bar by so little that nobody suspects a restatement, in prices of three decimals."""
        if bar := self.bars.get((symbol, SESSIONS[self.back(back)])):
            self.set(bar._replace(high=bar.high + Decimal(level) / 1000))

    def late(self, symbol: str) -> None:
        """Read the last session before a symbol's bar of it is there, and again the day after."""
        position = self.back(1)
        self.withdraw(symbol, position)
        self.update(SYMBOLS)
        self.keep()
        self.put(symbol, SESSIONS[position], 500)
        self.advance(1)
        self.update(SYMBOLS)

    def empty(self, symbol: str) -> None:
        """Withdraw so much that the answer is doubted."""
        for session in SESSIONS[: self.back(0)]:
            self.remove(symbol, session)

    def outgrow(self, symbol: str) -> None:
        """Load a history of two years, the first part of which the plan no longer includes afterwards."""
        old = sessions_between(date(2010, 10, 1), date(2010, 12, 31))
        for n, session in enumerate(old):
            self.put(symbol, session, 300 + n)
        self.run("initialize", symbols=(symbol,), start=old[0])
        self.market.misbehaviors = (Reach(date(2010, 11, 3)),)

    def adopt(self) -> None:
        """Forget how the rows came to be, and the earlier moments: another program has stored them."""
        with self.engine.begin() as connection:
            if not utils.schema_exists(connection):
                return
            for table in ("coverage", "bar_revisions", "loads", "job_runs", "splits", "suspects"):
                connection.execute(text(f"DELETE FROM {table}"))
            span = connection.execute(text("SELECT min(date), max(date) FROM stock_data")).one()
            if not span[0]:
                return
            first, last = (str(end)[:10] for end in span)
            pairs = f'[{{"symbols": ["*"], "first": "{first}", "last": "{last}"}}]'
            connection.execute(insert(LOADS).values(run_id=ADOPTION, loaded_at=database_time(connection), pairs=pairs))
        self.moments.clear()

    def keep(self) -> None:
        if not tables.has_tables(self.engine):
            return
        with transaction(self.engine, write=False) as connection:
            moment = database_time(connection)
        self.moments.append((moment, stock_data(self.engine), texts(self.engine, "stock_data")))

    def check(self) -> None:
        """Compare the table known at each moment with the one that was kept then."""
        for moment, rows, written in self.moments:
            with transaction(self.engine, write=False) as connection:
                table = utils.read_table(connection, ["*"], known_at=moment)
                middle = SESSIONS[self.back(9)], SESSIONS[self.back(3)]
                part = utils.read_history(connection, ["AAA", "CCC"], *middle, known_at=moment)
            assert rows_of(table) == rows
            wanted = [row for row in rows if row.symbol in ("AAA", "CCC") and middle[0] <= row.session <= middle[1]]
            assert [row[:9] for row in rows_of(part)] == [row[:9] for row in wanted]
            if self.engine.dialect.name == "postgresql":
                assert texts(self.engine, f"stock_data_known_at('{moment.isoformat()}')") == written


def rows_of(table: Any) -> list[Row]:
    """A frame as :func:`stock_data` returns a table."""
    names = [name for name in COLUMNS.split(", ") if name in table]
    rows = []
    for values in table[names].sort_values(["symbol", "date"]).itertuples(index=False):
        numbers: list[Any] = [None if value != value else Decimal(repr(float(value))) for value in values[2:]]
        numbers += [None] * (8 - len(numbers))
        rows.append(Row(values[0], values[1].date(), *numbers))
    return rows


def texts(engine: Engine, source: str) -> list[tuple[Any, ...]]:
    """The rows of a table or function, each value as the text that the database shows."""
    shown = ", ".join(f"CAST({name} AS TEXT)" for name in COLUMNS.split(", "))
    return tables.rows(engine, f"SELECT {shown} FROM {source} ORDER BY symbol, date".replace(":", "\\:"))


symbol = st.sampled_from(SYMBOLS)
named = st.lists(symbol, min_size=1, max_size=3, unique=True).map(tuple)
symbols = st.one_of(named, st.just(SYMBOLS), st.just(("*",)))
back = st.integers(1, BEGIN)
update = st.tuples(st.just("update"), symbols)
ratio = st.sampled_from([(1, 2), (3, 7)])
load = st.one_of(
    st.tuples(st.just("daily_update"), named, st.just(0), st.just(0), st.booleans()),
    st.tuples(st.just("initialize"), named, st.integers(0, BEGIN), st.integers(0, BEGIN), st.booleans()),
)
step = st.one_of(
    update,
    update,
    st.tuples(st.just("initialize"), symbols, back, st.sampled_from([False, False, False, True])),
    st.tuples(st.just("initialize"), symbols, st.just(BEGIN), st.just(True)),
    st.tuples(st.just("kill"), load, st.integers(1, 80)),
    st.tuples(st.just("together"), load, load),
    st.tuples(st.just("advance"), st.integers(1, 4)),
    st.tuples(st.just("advance"), st.just(1)),
    st.tuples(st.just("correct_back"), symbol, back, st.integers(1, 400)),
    st.tuples(st.just("nudge"), symbol, st.integers(1, 4), st.integers(1, 9)),
    st.tuples(st.just("nudge"), symbol, st.integers(1, 4), st.integers(1, 9)),
    st.tuples(st.just("late"), symbol),
    st.tuples(st.just("withdraw_back"), symbol, st.integers(1, 4)),
    st.tuples(st.just("empty"), symbol),
    st.tuples(st.just("split"), symbol, st.integers(-3, 2), ratio),
    st.tuples(st.just("restate"), symbol, ratio),
    st.tuples(st.just("adopt")),
)
prices = st.integers(0, 40_000)
SHARDS = [0, 1, *(pytest.param(shard, marks=pytest.mark.deep) for shard in range(2, 12))]


@pytest.fixture(scope="module")
def server() -> Iterator[MarketServer]:
    with MarketServer(empty_history(), today=SESSIONS[BEGIN]) as market:
        yield market


UPDATE: Step = ("update", SYMBOLS)
CAUSES: dict[Cause, list[Step]] = {
    "corrected": [("nudge", "BBB", 2, 5)],
    "withdrawn": [("withdraw_back", "BBB", 2)],
    "appeared": [("advance", 1), ("late", "BBB")],
    "restated": [("split", "BBB", 1, (1, 2))],
    "rescaled": [("outgrow", "BBB"), ("restate", "BBB", (1, 2))],
    "loaded": [("adopt",), ("initialize", SYMBOLS, BEGIN, False)],
}
"""A life for each cause of a revision."""


def live(market: MarketServer, engine: Engine, prices: int, steps: list[Step]) -> None:
    life = Life(market, engine, prices)
    for each in [UPDATE, *steps, ("advance", 1), UPDATE]:
        life.take(each)
    life.check()
    market.misbehaviors = ()


@pytest.mark.parametrize("cause", CAUSES)
def test_the_table_is_known_at_any_moment_whatever_the_cause_of_a_revision(
    server: MarketServer, engine: Engine, cause: Cause
) -> None:
    live(server, engine, 1, CAUSES[cause])
    assert scalar(engine, f"SELECT count(*) FROM bar_revisions WHERE cause = '{cause}'") > 0


@pytest.mark.parametrize("shard", SHARDS)
def test_the_table_known_at_any_moment_is_the_one_of_that_moment_on_sqlite(server: MarketServer, shard: int) -> None:
    @seed(shard)
    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=5)
    @given(prices, st.lists(step, min_size=4, max_size=14))
    def holds(prices: int, steps: list[Step]) -> None:
        with sqlite_engine() as engine:
            live(server, engine, prices, steps)

    holds()


@pytest.mark.parametrize("shard", SHARDS)
def test_the_table_known_at_any_moment_is_the_one_of_that_moment_on_postgresql(
    server: MarketServer, postgresql_url: str, shard: int
) -> None:
    engine = open_engine(postgresql_url)

    @seed(shard)
    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=3)
    @given(prices, st.lists(step, min_size=4, max_size=14))
    def holds(prices: int, steps: list[Step]) -> None:
        tables.clear(engine)
        live(server, engine, prices, steps)

    holds()


def price(chance: random.Random) -> Decimal:
    return Decimal(chance.choice([1, 2, 4, 8, chance.randint(1, 10**6)]) * chance.choice([1, 5, 10**6])) / 10**7


@pytest.mark.parametrize(
    "chance",
    [pytest.param(random.Random(n), id=str(n), marks=[pytest.mark.slow] if n > 1 else []) for n in range(8)],
)
def test_the_functions_metrics_are_the_products_to_the_last_digit(postgresql_url: str, chance: random.Random) -> None:
    """Prices of seven decimals make ties at the sixth; an adopted table may hold NULL and 0 as well."""
    engine = open_engine(postgresql_url)
    close = [chance.choice([None, Decimal(0)]) if chance.random() < 0.03 else price(chance) for _ in range(3000)]
    rows = [
        {
            "symbol": f"S{n // 100:02}",
            "date": midnight(SESSIONS[0] + n % 100 * DAY),
            "high": price(chance),
            "low": price(chance),
            "close": value,
        }
        for n, value in enumerate(close)
    ]
    with transaction(engine) as connection:
        ensure_schema(connection)
        connection.execute(insert(STOCK_DATA), rows)
        pairs = '[{"symbols": ["*"], "first": "2012-01-01", "last": "2013-12-31"}]'
        connection.execute(insert(LOADS).values(run_id=ADOPTION, loaded_at=database_time(connection), pairs=pairs))
        moment = database_time(connection)
        table = utils.read_table(connection, ["*"], known_at=moment)
    names = "symbol, date, volatility, rolling_avg, daily_pct_change"
    found = tables.rows(engine, f"SELECT {names} FROM stock_data_known_at('infinity') ORDER BY symbol, date")

    computed = table[names.split(", ")].sort_values(["symbol", "date"]).to_numpy().tolist()
    averages = 0
    for row, (_, _, *metrics) in zip(found, computed, strict=True):
        assert list(row[2:]) == [None if value != value else Decimal(repr(value)) for value in metrics]
        averages += row[3] is not None
    assert averages > 1000


def test_a_moment_without_a_zone_is_refused(engine: Engine) -> None:
    with transaction(engine) as connection:
        ensure_schema(connection)
        with pytest.raises(ValueError, match="a moment needs a zone"):
            utils.read_table(connection, ["*"], known_at=datetime(2012, 12, 1))
