"""What a load reads around new bars, what it leaves alone, and how it spends the plan's limit."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine

import database
import utils
from config import Settings
from domain.calendar import sessions_between
from domain.clock import Deadline
from domain.models import Request
from pipeline import jobs
from pipeline.context import RunContext
from sandbox.history import PriceHistory
from sandbox.server import Fault, MarketServer
from storage.engine import database_time, open_engine, transaction
from storage.migration import ensure_schema
from tests.conftest import SYMBOLS, Job
from tests.support.clocks import FrozenClock
from tests.support.tables import scalar, stock_data
from transformations import add_metrics

SESSIONS = sessions_between(date(2001, 1, 2), date(2002, 12, 31))  # among them the closed week of September 2001


def bars(symbol: str, sessions: list[date]) -> pd.DataFrame:
    """Bars of one symbol, each session with another price."""
    close = [100.0 + SESSIONS.index(session) for session in sessions]
    return pd.DataFrame(
        {
            "symbol": pd.Series([symbol] * len(sessions), dtype="str"),
            "date": np.array(sessions, dtype="datetime64[s]"),
            **dict.fromkeys(["open", "high", "low", "close"], close),
            "volume": 1,
        }
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_neighbors_of_new_bars_are_read_across_any_gap(engine: Engine, seed: int) -> None:
    chance = random.Random(seed)
    with transaction(engine) as connection:
        ensure_schema(connection)
    stored: dict[str, list[date]] = {}
    for symbol in ("A", "B", "C", "D"):
        kept = sorted(chance.sample(SESSIONS, chance.choice([0, 1, 4, 40, 250, 300, 400])))
        if chance.random() < 0.5:  # a halt of months
            kept = [day for day in kept if not date(2001, 8, 1) <= day <= date(2002, 2, 1)]
        stored[symbol] = kept
        with transaction(engine) as connection:
            metrics = add_metrics(bars(symbol, kept), utils.no_history())
            database.load_bars(connection, metrics, run_id="test", at=database_time(connection))
    spans = {symbol: sorted(chance.sample(SESSIONS, chance.choice([1, 1, 2, 6]))) for symbol in stored}
    new = pd.concat([bars(symbol, days) for symbol, days in spans.items()], ignore_index=True)

    with transaction(engine) as connection:
        ends = new.groupby("symbol", as_index=False).agg(earliest=("date", "min"), latest=("date", "max"))
        read = utils.read_neighbors(connection, ends)

    assert not read.duplicated(["symbol", "date"]).any()
    for symbol, days in spans.items():
        found = sorted(read.loc[read["symbol"] == symbol, "date"].dt.date)
        before = [day for day in stored[symbol] if day < days[0]]
        after = [day for day in stored[symbol] if day > days[-1]]
        within = [day for day in stored[symbol] if days[0] <= day <= days[-1]]
        assert set(before[-4:] + within + after[:4]) <= set(found)
        # Without holes, as metrics depend on adjacent sessions.
        assert found == [day for day in stored[symbol] if found and found[0] <= day <= found[-1]]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)  # only PostgreSQL has xmin and xmax
def test_a_forced_repeat_neither_rewrites_nor_locks_a_row(job: Job, engine: Engine) -> None:
    job("initialize", as_of="2013-03-01")
    before = scalar(engine, "SELECT string_agg(xmin::text, ',' ORDER BY symbol, date) FROM stock_data")

    result = job("initialize", as_of="2013-03-01", force=True)

    assert result["rows"] == {
        "inserted": 0,
        "updated": 0,
        "unchanged": 350,
        "rejected": 0,
        "corrected": 0,
        "withdrawn": 0,
    }
    assert scalar(engine, "SELECT string_agg(xmin::text, ',' ORDER BY symbol, date) FROM stock_data") == before
    assert scalar(engine, "SELECT count(*) FROM stock_data WHERE xmax <> 0") == 0


@pytest.mark.slow
def test_500_sessions_of_the_whole_market_take_500_calls_and_under_100_minutes_on_the_free_plan(
    sqlite_url: str,
) -> None:
    end, today = date(2012, 12, 31), date(2013, 1, 2)
    clock = FrozenClock()
    with MarketServer(PriceHistory.synthetic(3, 500, seed=1, end=end), today=today) as market:
        settings = Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=5)
        context = RunContext(settings=settings, engine=open_engine(sqlite_url), deadline=Deadline(None, clock))

        result = jobs.run_job(Request("initialize", ("*",), today, sessions=500), context)

        assert dict(market.calls) == {"grouped": 500}
    assert result["rows"]["inserted"] == 1500
    assert timedelta(minutes=95) < timedelta(seconds=clock.now) <= timedelta(minutes=100)


def test_a_number_beyond_float64_costs_only_its_own_bar(job: Job, market: MarketServer, engine: Engine) -> None:
    bar = '{"o":1,"h":2,"l":1,"c":1.5,"v":%s,"t":%d}'
    starts = [1361941200000, 1362027600000]  # 2013-02-27 and 28
    bars = ",".join(bar % (volume, start) for volume, start in zip(("1e400", "10"), starts, strict=True))
    market.fail_next(Fault(body=f'{{"status":"OK","results":[{bars}]}}'.encode()))

    result = job("initialize", symbols="IBM", as_of="2013-03-01", sessions=2)

    assert result["rows"] == {
        "inserted": 1,
        "updated": 0,
        "unchanged": 0,
        "rejected": 1,
        "corrected": 0,
        "withdrawn": 0,
    }
    assert scalar(engine, "SELECT reason FROM rejected_bars") == "its volume inf is not a count of shares"


def test_a_bar_that_is_published_between_two_answers_is_loaded_the_next_morning(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    latest = date(2013, 3, 1)
    job("initialize", as_of="2013-02-15")

    def answer(symbol: str) -> bytes:
        bars = market.history.range_bars(
            symbol, date(2013, 2, 12), date(2013, 2, 28), adjusted=True, today=market.today
        )
        return json.dumps({"status": "OK", "results": bars}).encode()

    market.fail_next(Fault(delay=0.0), Fault(body=answer("AAPL")), Fault(body=answer("FB")))

    job("daily_update", as_of="2013-03-02")

    last = {row.symbol: row.session for row in stock_data(engine)}
    assert last == {**dict.fromkeys(SYMBOLS, latest), **dict.fromkeys(["AAPL", "FB"], date(2013, 2, 28))}
    market.today = date(2013, 3, 5)
    assert job("daily_update", as_of="2013-03-05")["rows"]["inserted"] == 2
    last = {row.symbol: row.session for row in stock_data(engine)}
    assert last == dict.fromkeys(SYMBOLS, latest)


def test_a_latest_session_whose_bars_are_all_rejected_is_read_again_the_next_morning(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    *settled, bar = market.history.range_bars(
        "IBM", date(2013, 2, 26), date(2013, 3, 1), adjusted=True, today=market.today
    )
    odd = json.dumps({"status": "OK", "results": [*settled, {**bar, "v": None}]}).encode()
    job("initialize", symbols="IBM", as_of="2013-03-01")
    market.fail_next(Fault(delay=0.0), Fault(body=odd))

    result = job("daily_update", symbols="IBM", as_of="2013-03-02")

    assert (result["rows"]["inserted"], result["rows"]["rejected"]) == (0, 1)
    assert scalar(engine, "SELECT reason FROM rejected_bars") == "its volume is missing or not a number"
    assert job("daily_update", symbols="IBM", as_of="2013-03-02")["status"] == "nothing_to_do"

    market.today = date(2013, 3, 5)
    assert job("daily_update", symbols="IBM", as_of="2013-03-05")["rows"]["inserted"] == 1
    assert stock_data(engine)[-1].session == date(2013, 3, 1)
    assert scalar(engine, "SELECT cause FROM bar_revisions") == "appeared"
