"""The next run loads whatever was missed, in the fewest calls, and never mixes pre-split and post-split prices."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from config import Settings
from domain.calendar import last_sessions, previous_session, session_dates
from domain.clock import Deadline
from domain.errors import ApiError, DataError
from domain.models import JobType, Request, Split
from pipeline import jobs
from pipeline.context import RunContext
from sandbox.history import PriceHistory
from sandbox.server import Fault, MarketServer
from storage.engine import open_engine
from tests.conftest import SYMBOLS, Job
from tests.support import oracle
from tests.support.clocks import TickingClock
from tests.support.tables import rows, scalar, stock_data

pytestmark = pytest.mark.in_turn

TODAY = date(2013, 3, 2)


def expected(
    first: date, symbols: tuple[str, ...] = SYMBOLS, today: date = TODAY, splits: list = oracle.SPLITS
) -> list[oracle.Row]:
    last = previous_session(today)
    bars = [b for b in oracle.recorded_bars() if b.symbol in symbols and first <= b.session <= last]
    return oracle.table(oracle.adjusted(bars, today, splits))


def test_a_missed_week_of_5_symbols_costs_one_call_per_session(job: Job, market: MarketServer, engine: Engine) -> None:
    job("initialize", as_of="2013-02-23")
    market.reset_calls()

    result = job("daily_update", as_of="2013-03-02")

    assert result["sessions"] == {"first": "2013-02-25", "last": "2013-03-01", "count": 5}
    assert market.calls["grouped"] + market.calls["range"] == 5
    assert stock_data(engine) == expected(last_sessions(70, date(2013, 2, 23))[0])


def test_a_missed_month_costs_one_call_per_symbol(job: Job, market: MarketServer) -> None:
    job("initialize", as_of="2013-02-02")
    market.reset_calls()

    job("daily_update", as_of="2013-03-02")

    assert dict(market.calls) == {"splits": 1, "range": 5}


def test_a_symbol_added_to_the_list_is_backfilled_as_deep_as_the_others(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    job("initialize", as_of="2013-03-01", symbols="AAPL,IBM")
    market.reset_calls()

    job("daily_update", as_of="2013-03-02", symbols="AAPL,IBM,MSFT")

    # One call fetches MSFT's whole history, and one each the last session of the two others and what settles.
    assert dict(market.calls) == {"splits": 1, "range": 3}
    assert stock_data(engine) == expected(date(2012, 11, 16), ("AAPL", "IBM", "MSFT"))


def test_an_update_of_an_empty_database_loads_what_initialize_would(job: Job, engine: Engine) -> None:
    assert job("daily_update", as_of="2013-03-02")["rows"]["inserted"] == 350
    assert stock_data(engine) == expected(last_sessions(70, TODAY)[0])


def test_a_halted_symbol_is_covered_and_not_asked_for_again(job: Job, market: MarketServer, engine: Engine) -> None:
    for day in (date(2013, 1, 10), date(2013, 2, 28)):
        market.history.remove_bar("IBM", day)
    job("initialize", as_of="2013-03-01")
    market.reset_calls()

    assert job("initialize", as_of="2013-03-01")["status"] == "nothing_to_do"
    assert sum(market.calls.values()) == 0
    assert scalar(engine, "SELECT count(*) FROM coverage") == len(SYMBOLS)


def test_a_session_that_the_provider_skips_for_good_is_warned_of_once_when_it_is_settled(
    job: Job, market: MarketServer
) -> None:
    closed = date(2013, 2, 26)
    for symbol in SYMBOLS:
        market.history.remove_bar(symbol, closed)
    job("initialize", as_of=str(closed))
    warning = f"the provider has no bar of any symbol on {closed}, although the exchange was open: taken as final"

    # Two sessions after it are published on the first morning, and the third on the last.
    mornings = [job("daily_update", as_of=day) for day in ("2013-02-28", "2013-02-28", "2013-03-01", "2013-03-02")]
    mornings.append(job("daily_update", as_of="2013-03-02", force=True))

    assert [each["status"] for each in mornings] == ["ok", "nothing_to_do", "ok", "ok", "ok"]
    assert [warning in each["warnings"] for each in mornings] == [False, False, False, True, False]


def test_a_session_that_is_late_for_all_symbols_is_loaded_whenever_it_appears(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    late = date(2013, 2, 26)
    bars = [bar for bar in oracle.recorded_bars() if bar.session == late]
    for symbol in SYMBOLS:
        market.history.remove_bar(symbol, late)
    job("initialize", as_of=str(late))
    job("daily_update", as_of="2013-02-28")
    for bar in bars:
        values = {name: float(getattr(bar, name)) for name in ("open", "high", "low", "close", "volume")}
        market.history.put_bar(bar.symbol, late, **values)

    assert job("daily_update", as_of="2013-03-01")["rows"]["inserted"] == 10
    assert {row[0] for row in rows(engine, "SELECT cause FROM bar_revisions")} == {"appeared"}
    job("daily_update", as_of="2013-03-02")
    assert stock_data(engine) == expected(last_sessions(70, late)[0])


def test_the_hurricane_of_2012_closed_the_exchange_for_two_days(job: Job, engine: Engine) -> None:
    job("initialize", start="2012-10-26", end="2012-10-31", as_of="2013-03-02", symbols="IBM")

    assert [row.session for row in stock_data(engine)] == [date(2012, 10, 26), date(2012, 10, 31)]


@pytest.mark.parametrize(
    "splits",
    [
        pytest.param([("GOOG", date(2013, 2, 27), 1, 2)], id="between two missed days"),
        pytest.param([("GOOG", date(2013, 2, 26), 1, 2), ("GOOG", date(2013, 2, 28), 5, 1)], id="two in one gap"),
        pytest.param([("GOOG", date(2013, 3, 2), 1, 20)], id="on this very morning"),
        pytest.param([("GOOG", date(2013, 2, 25), 1, 2), ("IBM", date(2013, 3, 1), 2, 3)], id="two symbols"),
    ],
)
def test_a_split_in_a_gap_restates_all_history(
    job: Job, market: MarketServer, engine: Engine, splits: list[tuple[str, date, int, int]]
) -> None:
    market.today = date(2013, 2, 23)
    job("initialize", as_of="2013-02-23")
    for split in splits:
        market.history.add_split(Split(*split))
    market.today = TODAY
    market.reset_calls()

    result = job("daily_update", as_of="2013-03-02")

    split_symbols = {split[0] for split in splits}
    assert len(result["splits"]) == len(split_symbols)
    assert stock_data(engine) == expected(last_sessions(70, date(2013, 2, 23))[0], splits=splits)
    # One call per split symbol restates it and includes its missed week; the other symbols take the fewest calls.
    others = min(len(SYMBOLS) - len(split_symbols), 5)
    assert dict(market.calls) == {"splits": 1, "range": len(split_symbols) + others}


def test_a_provider_that_is_late_on_the_morning_of_a_split_is_asked_again(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    job("initialize", as_of="2013-03-01")
    listed = b'{"status":"OK","results":[{"ticker":"GOOG","execution_date":"2013-03-02","split_from":1,"split_to":2}]}'
    market.fail_next(Fault(status=200, body=listed))  # the split is listed, but its bars are not restated yet

    early = job("daily_update", as_of="2013-03-02")

    assert any("not restated its history yet" in warning for warning in early["warnings"])
    assert early["splits"] == []
    assert early["rows"]["inserted"] == 5
    assert stock_data(engine) == expected(date(2012, 11, 16)), "GOOG's bars are all on the old basis"
    assert scalar(engine, "SELECT count(*) FROM splits WHERE restated_at IS NULL") == 1
    split = ("GOOG", TODAY, 1, 2)
    market.history.add_split(Split(*split))
    assert job("daily_update", as_of="2013-03-02")["splits"] == ["GOOG 2:1 on 2013-03-02: history restated"]
    assert stock_data(engine) == expected(date(2012, 11, 16), splits=[split])
    assert scalar(engine, "SELECT count(*) FROM splits WHERE restated_at IS NULL") == 0


def test_whole_market_history_that_waits_for_a_split_is_restated_with_whatever_range_is_next(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    market.today = date(2013, 2, 25)
    job("initialize", as_of="2013-02-25", symbols="*", start="2013-02-15", end="2013-02-20")
    listed = b'{"status":"OK","results":[{"ticker":"GOOG","execution_date":"2013-02-25","split_from":1,"split_to":2}]}'
    market.fail_next(Fault(status=200, body=listed))  # the split is listed, but its bars are not restated yet
    job("initialize", as_of="2013-02-25", symbols="*", start="2013-02-21", end="2013-02-22")
    assert set(stock_data(engine)) <= set(expected(date(2013, 2, 15), today=date(2013, 2, 25))), "all on the old basis"
    split = ("GOOG", date(2013, 2, 25), 1, 2)
    market.history.add_split(Split(*split))

    job("initialize", as_of="2013-02-25", symbols="*", start="2013-02-12", end="2013-02-14")

    assert stock_data(engine) == expected(date(2013, 2, 12), today=date(2013, 2, 25), splits=[split])


def test_a_stored_bar_that_the_restated_history_lacks_is_withdrawn_into_bar_revisions(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    job("initialize", as_of="2013-03-01")
    (before,) = [row for row in stock_data(engine) if (row.symbol, row.session) == ("GOOG", date(2013, 1, 15))]
    market.history.remove_bar("GOOG", date(2013, 1, 15))
    market.history.add_split(Split("GOOG", date(2013, 3, 1), 1, 2))

    result = job("daily_update", as_of="2013-03-02")

    assert (result["rows"]["withdrawn"], result["rows"]["rejected"]) == (1, 0)
    assert not rows(engine, "SELECT * FROM stock_data WHERE symbol = 'GOOG' AND date = '2013-01-15 00:00:00'")
    kept = rows(
        engine,
        "SELECT CAST(open AS DOUBLE PRECISION), CAST(close AS DOUBLE PRECISION), volume, cause, run_id"
        " FROM bar_revisions WHERE date = '2013-01-15 00:00:00'",
    )
    assert kept == [(float(before.open), float(before.close), before.volume, "withdrawn", result["run_id"])]
    causes = rows(engine, "SELECT cause, count(*) FROM bar_revisions GROUP BY cause ORDER BY cause")
    assert causes == [("restated", 69), ("withdrawn", 1)]


def test_a_run_that_is_out_of_time_is_partial_and_the_next_ones_continue(market: MarketServer, engine: Engine) -> None:
    settings = Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=0)
    statuses: list[str] = []
    inserted = 0
    while len(statuses) < 10 and (not statuses or statuses[-1] == "partial"):
        context = RunContext(settings=settings, engine=engine, deadline=Deadline(20, TickingClock()))
        result = jobs.run_job(Request("initialize", SYMBOLS, TODAY), context)
        statuses.append(result["status"])
        inserted += result["rows"]["inserted"]

    assert statuses[0] == "partial"
    assert statuses[-1] == "ok"
    assert inserted == 350
    assert stock_data(engine) == expected(last_sessions(70, TODAY)[0])
    assert market.calls["range"] == 5


def test_runs_of_the_whole_market_that_hold_a_few_calls_each_come_to_an_end(
    market: MarketServer, engine: Engine
) -> None:
    settings = Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=0)
    statuses: list[str] = []
    while len(statuses) < 12 and (not statuses or statuses[-1] == "partial"):
        context = RunContext(settings=settings, engine=engine, deadline=Deadline(25, TickingClock()))
        statuses.append(jobs.run_job(Request("initialize", ("*",), TODAY, sessions=6), context)["status"])

    assert statuses[0] == "partial"
    assert statuses[-1] == "ok"
    assert stock_data(engine) == expected(last_sessions(6, TODAY)[0])
    assert market.calls["grouped"] <= 7, "the answer that shows the latest session may be asked for once more"


def test_the_latest_session_is_kept_beside_a_restatement(job: Job, market: MarketServer, engine: Engine) -> None:
    market.today = date(2013, 2, 28)
    job("initialize", as_of="2013-02-28")
    split = ("IBM", date(2013, 3, 1), 1, 2)
    market.history.add_split(Split(*split))
    market.today = TODAY

    job("initialize", as_of=str(TODAY), sessions=2)

    assert stock_data(engine) == expected(last_sessions(70, date(2013, 2, 28))[0], splits=[split])


def test_an_answer_that_shows_the_latest_session_outlives_a_later_failure(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    job("initialize", as_of="2013-02-28", symbols="*", sessions=2)
    with engine.begin() as connection:
        connection.execute(text("UPDATE coverage SET last_session = first_session"))
        connection.execute(text("DELETE FROM stock_data WHERE date >= '2013-02-27 00:00:00'"))
    market.fail_next(Fault(), Fault(), Fault(status=404, body=b"{}"))

    with pytest.raises(ApiError):
        job("initialize", as_of="2013-03-02", symbols="*", sessions=4)

    assert date(2013, 3, 1) in {row.session for row in stock_data(engine)}


def test_the_plans_limit_never_makes_a_run_wait_past_its_deadline(market: MarketServer, engine: Engine) -> None:
    settings = Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=2)
    context = RunContext(settings=settings, engine=engine, deadline=Deadline(55, TickingClock()))

    result = jobs.run_job(Request("initialize", SYMBOLS, TODAY), context)

    assert result["status"] == "partial"
    assert result["rows"]["inserted"] == 140
    assert "limit of 2 calls per minute" in result["warnings"][0]


def test_the_whole_market_is_covered_in_one_row_and_heals_through_a_week_of_splits(
    postgresql_url: str, sqlite_url: str
) -> None:
    history = PriceHistory.synthetic(60, 30, seed=3, end=date(2013, 2, 28))
    bars = [
        oracle.Bar(symbol, day, *(Decimal(repr(bar[key])) for key in "ohlcv"))
        for symbol in history.symbols
        for bar, day in _bars(history, symbol)
    ]
    splits = [
        (symbol, date(2013, 2, 25) + timedelta(days=n % 4), 1, 2 + n % 3)
        for n, symbol in enumerate(history.symbols[::6])
    ]
    for url in (postgresql_url, sqlite_url):
        engine = open_engine(url)
        with MarketServer(
            PriceHistory.synthetic(60, 30, seed=3, end=date(2013, 2, 28)), today=date(2013, 2, 22)
        ) as market:
            settings = Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=0)

            def run(job_type: JobType, as_of: date, **more: Any) -> Any:
                context = RunContext(settings=settings, engine=engine, deadline=Deadline(None, TickingClock()))  # noqa: B023
                return jobs.run_job(Request(job_type, ("*",), as_of, **more), context)

            run("initialize", date(2013, 2, 22), sessions=20)
            assert dict(market.calls) == {"grouped": 20}
            assert scalar(engine, "SELECT count(*) FROM coverage") == 1
            for split in splits:
                market.history.add_split(Split(*split))
            market.today = date(2013, 3, 1)
            market.reset_calls()

            result = run("daily_update", date(2013, 3, 1))

            # The missed week, and the three sessions before it that were not settled.
            assert dict(market.calls) == {"splits": 1, "range": len(splits), "grouped": 5 + 3}
            # One row of what was read before, and one of what was read this morning.
            read = rows(engine, "SELECT oldest_reading FROM coverage WHERE symbol = '*' ORDER BY first_session")
            assert [str(day) for (day,) in read] == ["2013-02-21", "2013-02-28"]
            assert len(result["splits"]) == len(splits)
        first = last_sessions(20, date(2013, 2, 22))[0]
        wanted = [bar for bar in bars if bar.session >= first]
        assert stock_data(engine) == oracle.table(oracle.adjusted(wanted, date(2013, 3, 1), splits))


def _bars(history: PriceHistory, symbol: str) -> list[tuple[dict, date]]:
    raw = history.range_bars(symbol, date(2012, 1, 1), date(2013, 2, 28), adjusted=False, today=date(2013, 3, 1))
    return list(zip(raw, session_dates([bar["t"] for bar in raw]).tolist(), strict=True))


def test_a_split_that_is_listed_late_still_restates_history(job: Job, market: MarketServer, engine: Engine) -> None:
    job("initialize", as_of="2013-02-28")
    split = ("IBM", date(2013, 2, 27), 1, 2)
    market.history.add_split(Split(*split))

    result = job("daily_update", as_of="2013-03-02")

    assert result["splits"] == ["IBM 2:1 on 2013-02-27: history restated"]
    assert stock_data(engine) == expected(last_sessions(70, date(2013, 2, 28))[0], splits=[split])


def test_an_adopted_history_from_before_a_split_is_restated(job: Job, market: MarketServer, engine: Engine) -> None:
    job("initialize", as_of="2013-02-20")
    with engine.begin() as connection:
        for table in ("coverage", "job_runs", "splits"):
            connection.execute(text(f"DROP TABLE {table}"))
    split = ("IBM", date(2013, 2, 25), 1, 2)
    market.history.add_split(Split(*split))

    job("daily_update", as_of="2013-03-02")

    assert stock_data(engine) == expected(last_sessions(70, date(2013, 2, 20))[0], splits=[split])


def test_restated_history_that_lacks_much_of_what_is_stored_is_doubted(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    job("initialize", as_of="2013-03-01")
    before = [row for row in stock_data(engine) if row.symbol == "IBM"]
    for session in last_sessions(60, date(2013, 3, 1)):
        market.history.remove_bar("IBM", session)
    market.history.add_split(Split("IBM", date(2013, 3, 1), 1, 2))

    result = job("daily_update", as_of="2013-03-02")

    assert result["warnings"] == [
        "the answer to IBM from 2012-11-16 to 2013-03-01, whole history lacks 60 of 70 stored bars:"
        " they are kept as they are; force accepts it"
    ]
    assert result["rows"]["withdrawn"] == 0
    assert [row for row in stock_data(engine) if row.symbol == "IBM"] == before

    forced = job("daily_update", as_of="2013-03-02", force=True)

    assert forced["rows"]["withdrawn"] == 60
    assert forced["splits"] == ["IBM 2:1 on 2013-03-01: history restated"]
    assert len([row for row in stock_data(engine) if row.symbol == "IBM"]) == 11
    assert scalar(engine, "SELECT count(*) FROM bar_revisions WHERE cause = 'withdrawn'") == 60


def test_a_copy_that_the_database_refuses_is_one_line(postgresql_url: str, market: MarketServer) -> None:
    engine = open_engine(postgresql_url)
    settings = Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=0)
    context = RunContext(settings=settings, engine=engine, deadline=Deadline(None, TickingClock()))
    jobs.run_job(Request("initialize", ("IBM",), date(2013, 2, 1), sessions=1), context)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE stock_data ADD exchange TEXT"))
        connection.execute(text("UPDATE stock_data SET exchange = 'N'"))
        connection.execute(text("ALTER TABLE stock_data ALTER exchange SET NOT NULL"))

    with pytest.raises(DataError, match='null value in column "exchange"') as caught:
        jobs.run_job(Request("daily_update", ("IBM",), TODAY), context)
    assert "\n" not in str(caught.value)
