"""What a refused, a contradictory or a short answer costs: itself, and never what is stored or what others brought."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine

from config import Settings
from domain.calendar import last_sessions, previous_session
from domain.clock import Deadline
from domain.errors import ApiError, DataError, EnvelopeError
from domain.models import Request
from pipeline import jobs
from pipeline.context import RunContext
from sandbox.server import Fault, MarketServer
from storage.engine import open_engine
from tests.conftest import SYMBOLS, Job
from tests.support import oracle
from tests.support.clocks import TickingClock
from tests.support.tables import rows, scalar, stock_data

TODAY = date(2013, 3, 2)
REFUSED = Fault(status=403, body=b'{"status":"NOT_AUTHORIZED","message":"Your plan does not include this data"}')
USUAL = Fault()


def expected(first: date, symbols: tuple[str, ...] = SYMBOLS, today: date = TODAY) -> list[oracle.Row]:
    chosen = [
        b for b in oracle.recorded_bars() if b.symbol in symbols and first <= b.session <= previous_session(today)
    ]
    return oracle.table(oracle.adjusted(chosen, today))


def answer(market: MarketServer, symbol: str, first: str, last: str, **envelope: Any) -> Fault:
    """The answer to a range, in an envelope of its own."""
    bars = market.history.range_bars(
        symbol, date.fromisoformat(first), date.fromisoformat(last), adjusted=True, today=market.today
    )
    return Fault(body=json.dumps({"status": "OK", "results": bars, **envelope}).encode())


def test_a_commit_that_fails_counts_nothing(job: Job, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", postgresql_url)
    engine = open_engine(postgresql_url)
    job("daily_update", as_of="2013-03-01", symbols="IBM")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more rows'; END $$"
        )
        connection.exec_driver_sql(
            "CREATE CONSTRAINT TRIGGER refused AFTER INSERT ON stock_data INITIALLY DEFERRED"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )

    with pytest.raises(DataError, match="no more rows"):
        job("daily_update", as_of="2013-03-02", symbols="IBM")

    last = "SELECT status, inserted FROM job_runs ORDER BY started_at DESC LIMIT 1"
    assert rows(engine, last) == [("failed", 0)]


class TestEnvelope:
    def test_bars_of_another_ticker_are_not_stored_under_the_name_that_was_asked_for(
        self, job: Job, market: MarketServer, engine: Engine
    ) -> None:
        wrong = answer(market, "MSFT", "2012-11-16", "2013-02-28", ticker="MSFT")
        market.fail_next(wrong, wrong)

        with pytest.raises(EnvelopeError, match="has ticker 'MSFT', not 'AAPL'"):
            job("initialize", as_of="2013-03-01")

        assert stock_data(engine) == expected(date(2012, 11, 16), ("FB", "GOOG", "IBM", "MSFT"), date(2013, 3, 1))
        assert not rows(engine, "SELECT * FROM coverage WHERE symbol = 'AAPL'")
        assert scalar(engine, "SELECT status FROM job_runs") == "failed"
        assert job("initialize", as_of="2013-03-01")["rows"]["inserted"] == 70
        assert stock_data(engine) == expected(date(2012, 11, 16), today=date(2013, 3, 1))

    def test_bars_of_another_ticker_are_told_by_a_run_that_ends_out_of_time_too(
        self, market: MarketServer, engine: Engine
    ) -> None:
        wrong = answer(market, "MSFT", "2012-11-16", "2013-02-28", ticker="MSFT")
        market.fail_next(wrong, wrong)
        settings = Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=4)
        context = RunContext(settings=settings, engine=engine, deadline=Deadline(50, TickingClock()))

        result = jobs.run_job(Request("initialize", SYMBOLS, date(2013, 3, 1)), context)

        assert result["status"] == "partial"
        assert any("has ticker 'MSFT', not 'AAPL'" in warning for warning in result["warnings"]), result["warnings"]

    def test_an_answer_of_more_bars_than_days_is_refused_and_stops_no_other_call(
        self, job: Job, market: MarketServer, engine: Engine
    ) -> None:
        junk = Fault(body=json.dumps({"status": "OK", "results": [{}] * 300}).encode())
        market.fail_next(junk, junk)

        with pytest.raises(EnvelopeError, match=r"/AAPL/.* has 300 results, more than 205"):
            job("initialize", as_of="2013-03-01")

        assert not rows(engine, "SELECT * FROM rejected_bars")
        assert {symbol for symbol, *_ in rows(engine, "SELECT symbol FROM coverage")} == {*SYMBOLS} - {"AAPL"}
        assert job("initialize", as_of="2013-03-01")["rows"]["inserted"] == 70

    def test_an_answer_that_is_all_junk_is_refused_and_asked_for_again_by_the_next_run(
        self, job: Job, market: MarketServer, engine: Engine
    ) -> None:
        market.fail_next(Fault(body=json.dumps({"status": "OK", "results": [{}] * 10_001}).encode()))

        with pytest.raises(
            EnvelopeError, match="sent 10,001 bars that cannot be stored, more than 10,000: of the first"
        ):
            job("initialize", as_of="2013-03-01", symbols="*", sessions=1)

        assert not rows(engine, "SELECT * FROM rejected_bars")
        assert not rows(engine, "SELECT * FROM coverage")
        assert job("initialize", as_of="2013-03-01", symbols="*", sessions=1)["rows"]["inserted"] == 5

    def test_an_answer_with_fewer_bars_than_it_says_is_asked_again(
        self, job: Job, market: MarketServer, engine: Engine
    ) -> None:
        market.fail_next(answer(market, "AAPL", "2012-11-16", "2013-01-02", resultsCount=70))

        result = job("initialize", as_of="2013-03-01")

        assert (result["status"], result["rows"]["inserted"], result["api_calls"]) == ("ok", 350, 6)
        assert stock_data(engine) == expected(date(2012, 11, 16), today=date(2013, 3, 1))

    def test_a_bad_record_among_the_splits_is_rejected_and_stops_nothing(
        self, job: Job, market: MarketServer, engine: Engine
    ) -> None:
        job("initialize", as_of="2013-03-01")
        items: list[Any] = [
            {"ticker": "IBM", "execution_date": "2013-03-01", "split_from": 1, "split_to": 0},
            {"ticker": "FB", "execution_date": "", "split_from": 1, "split_to": 2},
            None,
        ]
        market.fail_next(Fault(body=json.dumps({"status": "OK", "results": items}).encode()))

        result = job("daily_update", as_of="2013-03-02")

        assert (result["status"], result["rows"]["rejected"], result["rows"]["inserted"]) == ("ok", 3, 5)
        kept = rows(engine, "SELECT symbol, reason FROM rejected_bars ORDER BY symbol")
        assert kept == [
            ("FB", "a split that cannot be read: its execution date is not an ISO date"),
            ("IBM", "a split that cannot be read: a split of 1.0 into 0.0: both must be positive"),
            ("null", "a split that cannot be read: it is not an object"),
        ]
        assert stock_data(engine) == expected(date(2012, 11, 16))


class TestReach:
    def test_a_symbol_added_beyond_the_plans_history_is_loaded_from_its_first_day_on(
        self, job: Job, market: MarketServer, engine: Engine
    ) -> None:
        job("initialize", as_of="2013-03-01", symbols="IBM", start="2010-01-04")
        first = date(2011, 3, 2)  # of a plan of two years
        market.reset_calls()
        market.fail_next(USUAL, REFUSED)  # the splits, then AAPL since 2010

        result = job("daily_update", as_of="2013-03-02", symbols="AAPL,IBM")

        assert result["status"] == "ok"
        assert [warning for warning in result["warnings"] if "out of reach" in warning] == [
            f"sessions before {first} are out of reach of the provider's plan: kept as they are, and not asked for"
            " again"
        ]
        table = stock_data(engine)
        assert [row for row in table if row.symbol == "AAPL"] == expected(first, ("AAPL",))
        assert [row for row in table if row.symbol == "IBM"] == expected(date(2010, 1, 4), ("IBM",))
        assert dict(market.calls) == {"splits": 1, "failed": 1, "range": 2}

    def test_what_is_out_of_reach_is_neither_missing_nor_named_again(self, job: Job, market: MarketServer) -> None:
        job("initialize", as_of="2013-03-01", symbols="IBM", start="2010-01-04")
        market.fail_next(USUAL, REFUSED)
        job("daily_update", as_of="2013-03-01", symbols="AAPL,IBM")
        market.reset_calls()

        again = job("daily_update", as_of="2013-03-01", symbols="AAPL,IBM")
        later = job("daily_update", as_of="2013-03-02", symbols="AAPL,IBM")

        assert (again["status"], again["warnings"]) == ("nothing_to_do", [])
        assert (later["status"], later["warnings"], later["rows"]["inserted"]) == ("ok", [], 2)
        assert dict(market.calls) == {"splits": 1, "range": 2}

    def test_a_refusal_of_the_latest_session_is_an_error(self, job: Job, market: MarketServer, engine: Engine) -> None:
        market.fail_next(*[REFUSED] * 9)

        with pytest.raises(ApiError, match=r"the plan of this POLYGON_API_KEY does not include /v2/aggs/.* \(403, "):
            job("initialize", as_of="2013-03-01", sessions=1)
        assert scalar(engine, "SELECT count(*) FROM stock_data") == 0

    def test_the_audit_stays_within_reach(self, job: Job, market: MarketServer) -> None:
        job("initialize", as_of="2013-02-23", symbols="IBM", start="2010-01-04")
        market.fail_next(USUAL, REFUSED)
        job("daily_update", as_of="2013-02-23", symbols="AAPL,IBM")
        job("daily_update", as_of="2013-03-02", symbols="AAPL,IBM")
        market.reset_calls()

        job("weekly_report", as_of="2013-03-02", symbols="AAPL,IBM")

        asked = [path.partition("?")[0].split("/")[-2] for kind, path in market.requests if kind == "range"]
        assert asked
        assert min(asked) >= "2011-02-23"


class TestDoubt:
    def test_a_consistent_answer_with_half_of_the_bars_withdraws_nothing(
        self, job: Job, market: MarketServer, engine: Engine
    ) -> None:
        job("initialize", as_of="2013-03-01", symbols="IBM")
        for day in last_sessions(35, date(2013, 3, 1)):
            market.history.remove_bar("IBM", day)
        before = stock_data(engine)

        result = job("weekly_report", as_of="2013-03-02", symbols="IBM")

        assert any("lacks 32 of 67 stored bars: they are kept as they are" in warning for warning in result["warnings"])
        assert [row for row in stock_data(engine) if row.session < date(2013, 3, 1)] == before
        assert scalar(engine, "SELECT count(*) FROM bar_revisions") == 0

    def test_a_ticker_that_the_provider_renamed_keeps_its_history(
        self, job: Job, market: MarketServer, engine: Engine
    ) -> None:
        job("initialize", as_of="2013-03-01", symbols="IBM")
        before = stock_data(engine)
        for row in before:
            market.history.remove_bar("IBM", row.session)
        market.history.remove_bar("IBM", date(2013, 3, 1))

        results = [job(name, as_of="2013-03-02", symbols="IBM") for name in ("daily_update", "weekly_report")]

        assert all("force accepts it" in " ".join(result["warnings"]) for result in results)
        assert stock_data(engine) == before
