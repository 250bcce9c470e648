"""The table as it was known at a moment equals the table of that moment, value for value.

Random lives drive the real jobs while the provider corrects, withdraws, is late, splits and answers in part; after each
run the table is kept with the database's time. At the end each of these tables must be readable again: by
``utils.read_table`` on both databases, and by ``stock_data_known_at`` on PostgreSQL.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text

import utils
from config import Settings
from domain.calendar import sessions_between
from domain.clock import Deadline, SystemClock
from domain.errors import StockTrackerError
from domain.models import JobType, Request, Split
from pipeline import jobs
from pipeline.run import RunContext
from sandbox.history import PriceHistory
from sandbox.server import MarketServer
from storage.engine import database_time, open_engine, transaction
from storage.migration import ensure_schema
from storage.schema import ADOPTION, LOADS, STOCK_DATA
from tests.support import tables
from tests.support.oracle import Row
from tests.support.tables import stock_data

SYMBOLS = ("AAA", "BBB", "CCC")
SESSIONS = sessions_between(date(2012, 10, 15), date(2012, 12, 14))
BEGIN = 12  # index in SESSIONS of the market's first today
FIRST_LOAD = 8
DAY = timedelta(days=1)
COLUMNS = "symbol, date, open, high, low, close, volume, volatility, rolling_avg, daily_pct_change"

Step = tuple[Any, ...]


class Life:
    """A market and a database, with the tables of all moments so far."""

    def __init__(self, market: MarketServer, engine: Engine, prices: int) -> None:
        self.market, self.engine = market, engine
        self.settings = Settings(
            polygon_base_url=market.url,
            polygon_api_key=market.key,
            polygon_calls_per_minute=0,
            history_sessions=FIRST_LOAD,
        )
        self.moments: list[tuple[datetime, list[Row], list[tuple[Any, ...]]]] = []
        self.day = BEGIN
        history = PriceHistory.synthetic(1, 1)
        history.remove_bar(history.symbols[0], history.first)
        market.history, market.today = history, SESSIONS[BEGIN]
        for n, symbol in enumerate(SYMBOLS):
            for k, session in enumerate(SESSIONS):
                noise = (prices * 7919 + n * 104729 + k * 15485863) % 997
                if noise % 17:  # a few are halted
                    self.put(symbol, session, 200 + n * 300 + noise)

    def put(self, symbol: str, session: date, level: int) -> None:
        """Set a bar whose close is near the level, in prices of three decimals."""
        open_, high, low, close = (float(Decimal(level * 10 + shift) / 1000) for shift in (3, 9, 0, 3 + level % 7))
        self.market.history.put_bar(
            symbol, session, open=open_, high=high, low=low, close=close, volume=1000 + level * 13
        )

    def take(self, step: Step) -> None:
        """Take a step; after a run, keep the table of this moment."""
        kind, *arguments = step
        getattr(self, kind)(*arguments)

    def advance(self, sessions: int) -> None:
        self.day = min(self.day + sessions, len(SESSIONS) - 1)
        self.market.today = SESSIONS[self.day]

    def correct(self, symbol: str, back: int, level: int) -> None:
        self.put(symbol, SESSIONS[max(self.day - back, 0)], level)

    def nudge(self, symbol: str, back: int, level: int) -> None:
        """Correct a bar by so little that nobody suspects a restatement."""
        session = SESSIONS[max(self.day - back, 0)]
        for bar in self.market.history.range_bars(symbol, session, session, adjusted=False, today=self.market.today):
            high = bar["h"] + level / 1000
            values = {"open": bar["o"], "high": high, "low": bar["l"], "close": bar["c"], "volume": bar["v"]}
            self.market.history.put_bar(symbol, session, **values)

    def withdraw(self, symbol: str, back: int) -> None:
        self.market.history.remove_bar(symbol, SESSIONS[max(self.day - back, 0)])

    def late(self, symbol: str) -> None:
        """Read the last session before a symbol's bar of it is there, and again the day after."""
        session = SESSIONS[self.day - 1]
        self.market.history.remove_bar(symbol, session)
        self.run("daily_update", SYMBOLS, 0, False)
        self.put(symbol, session, 500)
        self.advance(1)
        self.run("daily_update", SYMBOLS, 0, False)

    def empty(self, symbol: str) -> None:
        """Withdraw so much that the answer is doubted."""
        for session in SESSIONS[: self.day]:
            self.market.history.remove_bar(symbol, session)

    def split(self, symbol: str, ahead: int, old: int, new: int) -> None:
        day = SESSIONS[min(self.day + ahead, len(SESSIONS) - 1)]
        if (symbol, day) not in {(split.symbol, split.execution_date) for split in self.market.history.splits}:
            self.market.history.add_split(Split(symbol, day, old, new))

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
        self.keep()

    def run(self, job_type: JobType, symbols: tuple[str, ...], back: int, force: bool) -> None:
        request: dict[str, Any] = {"as_of": self.market.today, "sessions": FIRST_LOAD, "force": force}
        if job_type == "initialize" and back:
            request["start"] = SESSIONS[max(self.day - back, 0)]
        context = RunContext(settings=self.settings, engine=self.engine, deadline=Deadline(None, SystemClock()))
        with suppress(StockTrackerError):
            jobs.run_job(Request(job_type, symbols, **request), context)
        self.keep()

    def keep(self) -> None:
        with transaction(self.engine, write=False) as connection:
            moment = database_time(connection)
        self.moments.append((moment, stock_data(self.engine), texts(self.engine, "stock_data")))

    def check(self) -> None:
        """Compare the table known at each moment with the one that was kept then."""
        for moment, rows, written in self.moments:
            with transaction(self.engine, write=False) as connection:
                table = utils.read_table(connection, ["*"], known_at=moment)
                middle = SESSIONS[self.day - 9], SESSIONS[self.day - 3]
                part = utils.read_history(connection, ["AAA", "CCC"], *middle, known_at=moment)
            assert rows_of(table) == rows
            wanted = [row for row in rows if row.symbol != "BBB" and middle[0] <= row.session <= middle[1]]
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
symbols = st.one_of(st.lists(symbol, min_size=1, max_size=3, unique=True).map(tuple), st.just(SYMBOLS), st.just(("*",)))
back = st.integers(1, BEGIN)
forced = st.sampled_from([False, False, False, True])
update = st.tuples(st.just("run"), st.just("daily_update"), symbols, st.just(0), st.just(False))
step = st.one_of(
    update,
    update,
    st.tuples(st.just("run"), st.just("initialize"), symbols, st.integers(0, BEGIN), forced),
    st.tuples(st.just("run"), st.just("initialize"), symbols, st.just(BEGIN), st.just(True)),
    st.tuples(st.just("advance"), st.integers(1, 4)),
    st.tuples(st.just("advance"), st.just(1)),
    st.tuples(st.just("correct"), symbol, back, st.integers(100, 900)),
    st.tuples(st.just("nudge"), symbol, st.integers(1, 4), st.integers(1, 9)),
    st.tuples(st.just("nudge"), symbol, st.integers(1, 4), st.integers(1, 9)),
    st.tuples(st.just("late"), symbol),
    st.tuples(st.just("withdraw"), symbol, st.integers(1, 4)),
    st.tuples(st.just("empty"), symbol),
    st.tuples(st.just("split"), symbol, st.integers(-3, 2), st.sampled_from([1, 3]), st.sampled_from([2, 7])),
    st.tuples(st.just("adopt")),
)
prices = st.integers(0, 40_000)
SHARDS = [0, 1, *(pytest.param(shard, marks=pytest.mark.deep) for shard in range(2, 12))]


@pytest.fixture(scope="module")
def server() -> Iterator[MarketServer]:
    with MarketServer(PriceHistory.synthetic(1, 1), today=SESSIONS[BEGIN]) as market:
        yield market


def live(market: MarketServer, engine: Engine, prices: int, steps: list[Step]) -> None:
    life = Life(market, engine, prices)
    update: Step = ("run", "daily_update", SYMBOLS, 0, False)
    for each in [update, *steps, ("advance", 1), update]:
        life.take(each)
    life.check()


@pytest.mark.parametrize("shard", SHARDS)
def test_the_table_known_at_any_moment_is_the_one_of_that_moment_on_sqlite(server: MarketServer, shard: int) -> None:
    @seed(shard)
    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=10)
    @given(prices, st.lists(step, min_size=4, max_size=14))
    def holds(prices: int, steps: list[Step]) -> None:
        with TemporaryDirectory() as folder:
            engine = open_engine(f"sqlite:///{Path(folder)}/stock_tracker.db")
            try:
                live(server, engine, prices, steps)
            finally:
                engine.dispose()

    holds()


@pytest.mark.parametrize("shard", SHARDS)
def test_the_table_known_at_any_moment_is_the_one_of_that_moment_on_postgresql(
    server: MarketServer, postgresql_url: str, shard: int
) -> None:
    engine = open_engine(postgresql_url)

    @seed(shard)
    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=6)
    @given(prices, st.lists(step, min_size=4, max_size=14))
    def holds(prices: int, steps: list[Step]) -> None:
        tables.clear(engine)
        live(server, engine, prices, steps)

    holds()


def price(chance: random.Random) -> Decimal:
    return Decimal(chance.choice([1, 2, 4, 8, chance.randint(1, 10**6)]) * chance.choice([1, 5, 10**6])) / 10**7


@pytest.mark.parametrize("chance", [random.Random(n) for n in range(8)], ids=range(8))
def test_the_functions_metrics_are_the_products_to_the_last_digit(postgresql_url: str, chance: random.Random) -> None:
    """Prices of seven decimals make ties at the sixth; an adopted table may hold NULL and 0 as well."""
    engine = open_engine(postgresql_url)
    close = [chance.choice([None, Decimal(0)]) if chance.random() < 0.03 else price(chance) for _ in range(3000)]
    rows = [
        {
            "symbol": f"S{n // 100:02}",
            "date": utils.midnight(SESSIONS[0] + n % 100 * DAY),
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
