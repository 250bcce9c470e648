"""The table is true, whatever the provider does: each test is a week in which it misbehaves as real ones do.

In the end the table equals what an independent calculation makes of what the provider says then, and a repeat on the
same morning asks for no bars and rewrites no row.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from config import Settings
from domain.calendar import last_sessions, previous_session, sessions_between
from domain.clock import Deadline
from domain.errors import ApiError
from domain.models import JobType, Request, Split
from entrypoints.status import read_status
from entrypoints.telemetry import sessions_behind
from lambda_main import run_context
from pipeline import jobs
from pipeline.context import RunContext
from sandbox.history import PriceHistory
from sandbox.misbehavior import (
    BadSplits,
    Correct,
    Garble,
    Half,
    Late,
    Misbehavior,
    Reach,
    Rename,
    Restate,
    Short,
    Stall,
    Withdraw,
    WrongTicker,
)
from sandbox.server import MarketServer
from storage.engine import open_engine
from tests.conftest import SYMBOLS, Job
from tests.support import oracle
from tests.support.clocks import FrozenClock
from tests.support.tables import rows, scalar, stock_data

pytestmark = pytest.mark.in_turn

START = date(2013, 2, 20)  # the day of the first load, a Wednesday
FIRST = last_sessions(70, START)[0]
DAY = timedelta(days=1)
SPLIT = Split("IBM", date(2013, 2, 21), split_from=1, split_to=2)
OLD = date(2013, 1, 15)  # a session that was settled by the first load
LATE = [  # days after which a split is listed
    pytest.param(3, id="3 days", marks=pytest.mark.slow),
    pytest.param(20, id="20 days"),
    pytest.param(62, id="two months", marks=pytest.mark.slow),
]
LATEST = date(2013, 2, 19)  # the last session of the first load

Pair = tuple[str, date]


class Life:
    """A table and its provider, lived morning by morning."""

    def __init__(self, job: Job, market: MarketServer, engine: Engine) -> None:
        self.job, self.market, self.engine = job, market, engine
        self.symbols: tuple[str, ...] = SYMBOLS

    def begin(self, **payload: Any) -> Any:
        """The first load, on START unless said otherwise."""
        as_of = date.fromisoformat(payload.setdefault("as_of", str(START)))
        self.market.today = as_of
        return self.job("initialize", symbols=list(self.symbols), **payload)

    def misbehave(self, *misbehaviors: Misbehavior) -> None:
        self.market.misbehaviors = misbehaviors

    def morning(self, today: date, **payload: Any) -> Any:
        """One daily update; the counters of calls start anew."""
        self.market.today = today
        self.market.reset_calls()
        return self.job("daily_update", symbols=list(self.symbols), as_of=str(today), **payload)

    def mornings(self, first: date, last: date) -> list[Any]:
        """A daily update on each morning after a session."""
        return [self.morning(session + DAY) for session in sessions_between(first - DAY, last - DAY)]

    def report(self, today: date) -> Any:
        """The weekly report, which audits."""
        self.market.today = today
        self.market.reset_calls()
        return self.job("weekly_report", symbols=list(self.symbols), as_of=str(today))

    @property
    def bars_calls(self) -> int:
        calls = self.market.calls
        return calls["range"] + calls["grouped"]

    def assert_true(
        self,
        *,
        first: date = FIRST,
        closes: dict[Pair, Decimal] | None = None,
        without: set[Pair] | None = None,
        splits: tuple[Split, ...] = (),
    ) -> None:
        """The table is what the provider says; and a repeat asks for no bars and rewrites no row."""
        today = self.market.today
        bars = []
        for bar in oracle.recorded_bars():
            if bar.symbol not in self.symbols or not first <= bar.session <= previous_session(today):
                continue
            if (bar.symbol, bar.session) in (without or ()):
                continue
            if close := (closes or {}).get((bar.symbol, bar.session)):
                bar = bar._replace(close=close, high=max(bar.high, close), low=min(bar.low, close))
            bars.append(bar)
        listed = [(split.symbol, split.execution_date, 1, int(split.split_to)) for split in splits]
        assert stock_data(self.engine) == oracle.table(oracle.adjusted(bars, today, listed))
        self.assert_idle()

    def assert_idle(self) -> None:
        before = self._versions()
        result = self.morning(self.market.today)
        assert self.bars_calls == 0, self.market.requests
        assert result["status"] == "nothing_to_do"
        assert self._versions() == before

    def _versions(self) -> list[tuple[Any, ...]]:
        version = "xmin" if self.engine.dialect.name == "postgresql" else "rowid"
        query = f"SELECT CAST(CAST({version} AS TEXT) AS BIGINT) AS version, symbol, date FROM"
        return rows(self.engine, f"{query} stock_data ORDER BY symbol, date") + rows(
            self.engine, "SELECT symbol, first_session, last_session, seen_to FROM coverage ORDER BY 1, 2"
        )

    def revisions(self, cause: str) -> list[Pair]:
        found = rows(self.engine, f"SELECT symbol, date FROM bar_revisions WHERE cause = '{cause}' ORDER BY 1, 2")
        return [(symbol, datetime.fromisoformat(str(moment)[:19]).date()) for symbol, moment in found]


@pytest.fixture
def life(job: Job, market: MarketServer, engine: Engine) -> Life:
    return Life(job, market, engine)


def raised(symbol: str, session: date) -> dict[Pair, Decimal]:
    """The close that :class:`Correct` makes of a recorded one: 1 % more."""
    (close,) = [bar.close for bar in oracle.recorded_bars() if (bar.symbol, bar.session) == (symbol, session)]
    return {(symbol, session): (close * Decimal("1.01")).quantize(Decimal("0.0001"))}


class TestSilence:
    def test_three_mornings_without_data_lose_nothing_and_are_said_to_be_stale(self, life: Life) -> None:
        life.begin()
        life.misbehave(Stall(LATEST, until=date(2013, 2, 26)))

        behind = []
        for number, result in enumerate(life.mornings(date(2013, 2, 21), date(2013, 2, 23)), start=1):
            latest = previous_session(date.fromisoformat(result["as_of"]))
            assert result["warnings"][-1] == f"the provider has no bar of {latest} yet: the next run asks again"
            assert len(result["warnings"]) == number
            behind.append(sessions_behind(life.engine, SYMBOLS, date.fromisoformat(result["as_of"])))
        assert behind == [1, 2, 3]
        assert [each["missing"] for each in self._status(date(2013, 2, 23))["symbols"]] == [3] * 5

        life.morning(date(2013, 2, 26))
        life.assert_true()
        assert sessions_behind(life.engine, SYMBOLS, date(2013, 2, 26)) == 0

    @staticmethod
    def _status(as_of: date) -> Any:
        return read_status(run_context(None), SYMBOLS, as_of)

    def test_a_month_of_silence_covers_nothing(self, life: Life) -> None:
        life.begin(as_of="2013-01-24")
        life.misbehave(Stall(date(2013, 1, 23), until=date(2013, 2, 27)))
        for day in (date(2013, 1, 25), date(2013, 2, 6), date(2013, 2, 26)):
            life.morning(day)
        assert str(scalar(life.engine, "SELECT max(last_session) FROM coverage")) == "2013-01-23"

        life.morning(date(2013, 2, 27))
        life.assert_true(first=last_sessions(70, date(2013, 1, 24))[0])

    def test_a_clock_that_is_days_ahead_covers_nothing(self, life: Life) -> None:
        life.begin()
        result = life.job("daily_update", as_of="2013-03-15")

        assert any("no bar of 2013-03-14 yet" in warning for warning in result["warnings"])
        assert str(scalar(life.engine, "SELECT max(last_session) FROM coverage")) == "2013-02-19"
        life.mornings(date(2013, 2, 21), date(2013, 3, 2))
        life.assert_true()

    def test_a_session_that_the_provider_skips_is_warned_of_once_by_name_when_settled(self, life: Life) -> None:
        life.begin()
        skipped = date(2013, 2, 20)
        for symbol in SYMBOLS:
            life.market.history.remove_bar(symbol, skipped)

        told = {
            result["as_of"]: [warning for warning in result["warnings"] if "although the exchange was open" in warning]
            for result in life.mornings(date(2013, 2, 21), date(2013, 3, 2))
        }
        assert {as_of: len(warnings) for as_of, warnings in told.items() if warnings} == {"2013-02-26": 1}
        assert f"no bar of any symbol on {skipped}" in told["2013-02-26"][0]
        life.assert_true(without={(symbol, skipped) for symbol in SYMBOLS})

    def test_a_lone_symbol_that_is_halted_costs_one_grouped_call_per_new_session(self, life: Life) -> None:
        life.symbols = ("IBM",)
        life.begin()
        halted = sessions_between(START, date(2013, 3, 1))
        for session in halted:
            life.market.history.remove_bar("IBM", session)

        for session in halted:
            result = life.morning(session + DAY)
            assert (life.market.calls["range"], life.market.calls["grouped"]) == (1, 1)
            assert not [warning for warning in result["warnings"] if "yet" in warning]
            life.assert_idle()
        life.assert_true(without={("IBM", session) for session in halted})


class TestLateness:
    def test_a_symbol_that_appears_late_is_there_the_next_morning(self, life: Life) -> None:
        life.begin()
        life.misbehave(Late("IBM", LATEST, until=date(2013, 2, 22)))

        assert life.morning(date(2013, 2, 21))["rows"]["inserted"] == 4
        life.assert_true(without={("IBM", date(2013, 2, 20))})
        life.morning(date(2013, 2, 22))
        life.assert_true()
        assert life.revisions("appeared") == [("IBM", date(2013, 2, 20))]

    def test_a_lone_symbol_that_appears_late_is_there_the_next_morning(self, life: Life) -> None:
        life.symbols = ("IBM",)
        life.begin()
        life.misbehave(Late("IBM", LATEST, until=date(2013, 2, 22)))

        life.morning(date(2013, 2, 21))
        life.morning(date(2013, 2, 22))
        life.assert_true()

    def test_half_of_a_range_answer_is_completed_by_settling_and_the_audit(self, life: Life) -> None:
        life.misbehave(Half("IBM", until=date(2013, 2, 21)))
        assert life.begin()["rows"]["inserted"] == 4 * 70 + 35

        life.mornings(date(2013, 2, 21), date(2013, 2, 23))
        life.report(date(2013, 2, 23))
        life.assert_true()

    def test_half_of_a_lone_range_answer_is_completed_by_settling_and_the_audit(self, life: Life) -> None:
        life.symbols = ("IBM",)
        life.misbehave(Half("IBM", until=date(2013, 2, 21)))
        life.begin()

        life.mornings(date(2013, 2, 21), date(2013, 2, 23))
        life.report(date(2013, 2, 23))
        life.assert_true()

    def test_fewer_results_than_said_are_an_error_that_covers_nothing(self, life: Life) -> None:
        life.misbehave(Short("IBM", until=date(2013, 2, 21)))
        with pytest.raises(ApiError, match="has 69 results and says 70"):
            life.begin()
        assert scalar(life.engine, "SELECT count(DISTINCT symbol) FROM coverage") == 4

        life.morning(date(2013, 2, 21))
        life.assert_true()

    def test_a_rejected_bar_that_is_right_the_next_day_is_stored_then(self, life: Life) -> None:
        life.begin()
        life.misbehave(Garble("IBM", date(2013, 2, 20), until=date(2013, 2, 22)))

        assert life.morning(date(2013, 2, 21))["rows"]["rejected"] == 1
        life.assert_true(without={("IBM", date(2013, 2, 20))})
        life.morning(date(2013, 2, 22))
        life.assert_true()


class TestChange:
    def test_a_corrected_close_is_found_by_settling(self, life: Life) -> None:
        life.begin()
        life.misbehave(Correct("IBM", LATEST))

        result = life.morning(date(2013, 2, 21))

        assert (result["rows"]["corrected"], result["rows"]["inserted"]) == (1, 5)
        life.assert_true(closes=raised("IBM", LATEST))
        assert life.revisions("corrected") == [("IBM", LATEST)]

    def test_a_close_that_is_corrected_after_it_was_settled_is_found_by_the_audit(self, life: Life) -> None:
        life.begin()
        life.misbehave(Correct("IBM", OLD))
        life.mornings(date(2013, 2, 21), date(2013, 2, 23))
        assert life.revisions("corrected") == []

        result = life.report(date(2013, 2, 23))

        assert result["rows"]["corrected"] == 1
        life.assert_true(closes=raised("IBM", OLD))

    def test_a_withdrawn_bar_is_removed_by_settling_and_by_the_audit(self, life: Life) -> None:
        life.begin()
        life.misbehave(Withdraw("IBM", LATEST), Withdraw("MSFT", OLD))

        assert life.morning(date(2013, 2, 21))["rows"]["withdrawn"] == 1
        life.mornings(date(2013, 2, 22), date(2013, 2, 23))
        assert life.report(date(2013, 2, 23))["rows"]["withdrawn"] == 1
        life.assert_true(without={("IBM", LATEST), ("MSFT", OLD)})
        assert life.revisions("withdrawn") == [("IBM", LATEST), ("MSFT", OLD)]

    def test_another_tickers_bars_are_not_stored_and_the_other_symbols_are(self, life: Life) -> None:
        life.misbehave(WrongTicker("IBM", "MSFT", until=date(2013, 2, 21)))
        with pytest.raises(ApiError, match="has ticker 'MSFT', not 'IBM'"):
            life.begin()
        assert [symbol for (symbol,) in rows(life.engine, "SELECT DISTINCT symbol FROM stock_data ORDER BY 1")] == [
            *("AAPL", "FB", "GOOG", "MSFT")
        ]

        life.morning(date(2013, 2, 21))
        life.assert_true()


class TestRestatement:
    def test_without_a_listed_split_it_is_found_by_settling_and_no_scales_mix(self, life: Life) -> None:
        life.begin()
        life.misbehave(Restate(SPLIT))

        result = life.morning(date(2013, 2, 21))

        assert result["splits"] == ["IBM: history restated, by no listed split"]
        life.assert_true(splits=(SPLIT,))
        life.mornings(date(2013, 2, 22), date(2013, 2, 26))
        life.assert_true(splits=(SPLIT,))
        assert scalar(life.engine, "SELECT min(daily_pct_change) FROM stock_data WHERE symbol = 'IBM'") > -10

    def test_without_a_listed_split_it_is_found_by_the_audit_when_no_update_ran(self, life: Life) -> None:
        life.begin()
        life.misbehave(Restate(SPLIT))

        life.report(date(2013, 2, 23))

        life.morning(date(2013, 2, 23))
        life.assert_true(splits=(SPLIT,))

    def test_a_range_loaded_after_a_split_waits_for_the_restatement(self, life: Life) -> None:
        life.begin(start="2013-02-11")
        life.market.history.add_split(SPLIT)
        life.market.today = date(2013, 2, 23)

        life.job("initialize", start="2013-02-20", end="2013-02-20", as_of="2013-02-23")

        assert scalar(life.engine, "SELECT min(daily_pct_change) FROM stock_data WHERE symbol = 'IBM'") > -10
        life.morning(date(2013, 2, 23))
        life.assert_true(first=date(2013, 2, 11), splits=(SPLIT,))

    @pytest.mark.parametrize("late", LATE)
    def test_a_split_that_is_listed_late_rescales_nothing_twice(self, life: Life, late: int) -> None:
        split = Split("IBM", date(2012, 12, 12), 1, 2)
        life.begin(as_of="2012-12-11")
        first = last_sessions(70, date(2012, 12, 11))[0]
        life.misbehave(Restate(split, listed=split.execution_date + late * DAY))

        life.mornings(date(2012, 12, 12), date(2012, 12, 14))
        life.assert_true(first=first, splits=(split,))
        for day in (split.execution_date + late * DAY, split.execution_date + (late + 3) * DAY):
            life.morning(day)
            life.assert_true(first=first, splits=(split,))
        assert len(life.revisions("restated")) == len(set(life.revisions("restated")))

    @pytest.mark.parametrize("late", LATE)
    def test_kept_history_out_of_reach_is_rescaled_once(self, life: Life, late: int) -> None:
        split = Split("IBM", date(2012, 12, 12), 1, 2)
        first = date(2010, 6, 1)
        life.begin(start=str(first), as_of="2012-12-11")
        life.misbehave(Reach(date(2010, 12, 12)), Restate(split, listed=split.execution_date + late * DAY))

        results = life.mornings(date(2012, 12, 12), date(2012, 12, 14))
        rescaled = [warning for result in results for warning in result["warnings"] if "rescaled" in warning]
        assert len(rescaled) == 1
        life.assert_true(first=first, splits=(split,))
        life.morning(split.execution_date + late * DAY)
        life.assert_true(first=first, splits=(split,))
        life.report(split.execution_date + (late + 7) * DAY)
        life.morning(split.execution_date + (late + 7) * DAY)
        life.assert_true(first=first, splits=(split,))
        assert len(life.revisions("rescaled")) == len(sessions_between(first, date(2010, 12, 11)))


class TestDoubt:
    def test_a_consistent_answer_with_half_the_market_withdraws_nothing(
        self, job: Job, market: MarketServer, engine: Engine
    ) -> None:
        market.history = PriceHistory.synthetic(60, 13, seed=3, end=date(2013, 3, 1))
        life = Life(job, market, engine)
        life.symbols = ("*",)
        life.begin(as_of="2013-02-27", sessions=10)
        life.misbehave(Half("*", until=date(2013, 3, 1)))

        result = life.morning(date(2013, 2, 28))

        assert result["rows"]["withdrawn"] == 0
        assert sum("lacks 30 of 60 stored bars: they are kept" in warning for warning in result["warnings"]) == 3
        assert scalar(engine, "SELECT count(*) FROM stock_data") == 60 * 10 + 30
        life.mornings(date(2013, 3, 1), date(2013, 3, 2))
        assert scalar(engine, "SELECT count(*) FROM stock_data") == 60 * 13
        life.assert_idle()

    def test_half_of_grouped_answers_is_completed_by_settling_and_the_audit(self, life: Life) -> None:
        life.begin()
        life.misbehave(Half("*", until=date(2013, 2, 22)))

        life.morning(date(2013, 2, 21))
        assert scalar(life.engine, "SELECT count(*) FROM stock_data") == 352 - 9

        life.mornings(date(2013, 2, 22), date(2013, 2, 23))
        life.report(date(2013, 2, 23))
        life.assert_true()

    def test_a_renamed_ticker_keeps_its_history(self, life: Life) -> None:
        life.begin()
        life.misbehave(Rename("FB", "META"))

        life.mornings(date(2013, 2, 21), date(2013, 2, 23))
        result = life.report(date(2013, 2, 23))

        assert any("lacks" in warning and "FB" in warning and "kept" in warning for warning in result["warnings"])
        assert scalar(life.engine, "SELECT count(*) FROM stock_data WHERE symbol = 'FB'") >= 67
        life.symbols = ("AAPL", "GOOG", "IBM", "MSFT")
        rest = [row for row in stock_data(life.engine) if row.symbol != "FB"]
        bars = [bar for bar in oracle.recorded_bars() if bar.symbol in life.symbols and bar.session >= FIRST]
        assert rest == oracle.table(bar for bar in bars if bar.session <= date(2013, 2, 22))


class TestReach:
    PLAN = Reach(date(2011, 2, 21))  # two years

    def test_an_audit_beyond_the_plans_reach_keeps_what_is_stored(self, life: Life) -> None:
        first = date(2010, 6, 1)
        life.begin(start=str(first))
        life.misbehave(self.PLAN, Correct("IBM", OLD))
        life.mornings(date(2013, 2, 21), date(2013, 2, 23))

        result = life.report(date(2013, 2, 23))

        assert (result["rows"]["corrected"], result["rows"]["withdrawn"]) == (1, 0)
        assert sum("out of reach" in warning for warning in result["warnings"]) == 1
        life.assert_true(first=first, closes=raised("IBM", OLD))
        life.mornings(date(2013, 2, 26), date(2013, 3, 2))
        assert not any("out of reach" in warning for warning in life.report(date(2013, 3, 2))["warnings"])

    def test_a_symbol_added_after_the_plans_two_years_is_loaded_from_the_plans_first_day(self, life: Life) -> None:
        first = date(2010, 6, 1)
        life.symbols = ("IBM",)
        life.begin(start=str(first))
        before = len(stock_data(life.engine))
        life.symbols = ("IBM", "MSFT", "GOOG")
        life.misbehave(self.PLAN)

        result = life.morning(date(2013, 2, 21))

        assert result["status"] == "ok"
        assert sum("out of reach" in warning for warning in result["warnings"]) == 1
        counts = dict(rows(life.engine, "SELECT symbol, count(*) FROM stock_data GROUP BY symbol"))
        assert counts["IBM"] == before + 1
        assert counts["MSFT"] == counts["GOOG"] == len(sessions_between(date(2011, 2, 21), date(2013, 2, 20)))
        life.assert_idle()
        again = life.morning(date(2013, 2, 22))
        assert (again["status"], again["warnings"], life.market.calls["refused"]) == ("ok", [], 0)


def test_bad_split_records_are_kept_as_rejected_and_stop_nothing(life: Life) -> None:
    life.begin()
    life.misbehave(BadSplits())

    result = life.morning(date(2013, 2, 21))

    assert (result["status"], result["rows"]["rejected"], result["rows"]["inserted"]) == ("ok", 3, 5)
    life.assert_true()
    reasons = [reason for (reason,) in rows(life.engine, "SELECT reason FROM rejected_bars")]
    assert len(reasons) == 3
    assert all(reason.startswith("a split that cannot be read: ") for reason in reasons)


@pytest.mark.parametrize(
    ("symbols", "ordinary", "week_away", "audit"),
    [
        pytest.param(1, 1, 1, 1, id="1 symbol"),
        pytest.param(5, 4, 5, 5, id="5 symbols"),
        pytest.param(50, 4, 8, 5, id="50 symbols"),
        pytest.param(11_000, 4, 8, 5, id="the whole market", marks=pytest.mark.slow),
    ],
)
def test_the_exact_calls_of_an_ordinary_day_of_a_week_away_and_of_an_audit(
    sqlite_url: str, symbols: int, ordinary: int, week_away: int, audit: int
) -> None:
    history = PriceHistory.synthetic(symbols, 14, end=date(2013, 3, 8))
    names = ["*"] if symbols > 1_000 else history.symbols
    with MarketServer(history, today=date(2013, 2, 27)) as market:
        life = Life(_direct(sqlite_url, market), market, open_engine(sqlite_url))
        life.symbols = tuple(names)
        life.begin(as_of="2013-02-27", sessions=6)
        for morning, calls in ((date(2013, 2, 28), ordinary), (date(2013, 3, 7), week_away)):
            life.morning(morning)
            assert (life.bars_calls, life.market.calls["splits"]) == (calls, 1)
            life.assert_idle()
        life.morning(date(2013, 3, 8))
        life.morning(date(2013, 3, 9))
        assert (life.bars_calls, life.market.calls["splits"]) == (ordinary, 1)
        life.report(date(2013, 3, 9))
        assert (life.bars_calls, life.market.calls["splits"]) == (audit, 0)


def _direct(url: str, market: MarketServer, clock: FrozenClock | None = None, calls_per_minute: int = 0) -> Job:
    """Run jobs without the handler, on a clock that stands still."""
    settings = Settings(
        polygon_base_url=market.url,
        polygon_api_key=market.key,
        polygon_calls_per_minute=calls_per_minute,
        quickchart_url="http://127.0.0.1:9/chart",
    )

    def run(job_type: JobType, *, symbols: list[str], as_of: str, start: str | None = None, sessions: int = 70) -> Any:
        context = RunContext(settings, open_engine(url), Deadline(None, clock or FrozenClock()))
        begin = date.fromisoformat(start) if start else None
        request = Request(job_type, tuple(symbols), date.fromisoformat(as_of), sessions=sessions, start=begin)
        return jobs.run_job(request, context)

    return run


class TestFreePlan:
    @pytest.fixture
    def clock(self) -> FrozenClock:
        return FrozenClock()

    @pytest.fixture
    def life(self, market: MarketServer, sqlite_url: str, clock: FrozenClock) -> Life:
        life = Life(_direct(sqlite_url, market, clock, 5), market, open_engine(sqlite_url))
        life.begin()
        return life

    def test_an_ordinary_morning_of_five_symbols_never_waits(self, life: Life, clock: FrozenClock) -> None:
        for session in sessions_between(START, date(2013, 3, 1)):
            clock.now += 86_400
            life.morning(session + DAY)
            assert sum(life.market.calls.values()) == 5
        assert clock.slept == []

    @pytest.mark.parametrize("stalled", [1, *(pytest.param(days, marks=pytest.mark.slow) for days in (2, 3)), 5])
    def test_after_a_stall_it_waits_at_most_once(self, life: Life, clock: FrozenClock, stalled: int) -> None:
        sessions = sessions_between(START, date(2013, 3, 1))
        life.misbehave(Stall(LATEST, until=sessions[stalled] + DAY))
        for session in sessions:
            clock.now += 86_400
            clock.slept.clear()
            life.morning(session + DAY)
            assert sum(clock.slept) <= 60, life.market.requests
        life.assert_true()

    def test_after_a_missed_day_it_waits_at_most_once(self, life: Life, clock: FrozenClock) -> None:
        clock.now += 86_400
        life.morning(date(2013, 2, 22))
        assert sum(clock.slept) <= 60
        life.assert_true()

    def test_the_limit_counts_over_all_clients_of_the_process(self, life: Life, clock: FrozenClock) -> None:
        life.morning(date(2013, 2, 21))  # in the same minute as the 5 calls of the first load
        assert 0 < sum(clock.slept) <= 60
        assert clock.now == 60


def test_each_of_the_demos_jobs_makes_at_most_five_calls(sqlite_url: str, market: MarketServer) -> None:
    job = _direct(sqlite_url, market)
    calls = []
    for job_type, as_of in (
        ("initialize", "2013-03-01"),
        ("daily_update", "2013-03-02"),
        ("weekly_report", "2013-03-02"),
    ):
        market.reset_calls()
        result = job(job_type, symbols=list(SYMBOLS), as_of=as_of)
        calls.append((sum(market.calls.values()), result["rows"]["inserted"]))
    assert calls == [(5, 350), (5, 5), (5, 0)]


@pytest.mark.parametrize("months", [2, pytest.param(12, marks=pytest.mark.deep)])
@pytest.mark.parametrize(
    "symbols",
    [
        pytest.param(["SYN00000", "SYN00001"], id="two symbols"),
        pytest.param(["*"], id="the whole market", marks=pytest.mark.slow),
    ],
)
def test_coverage_stays_small_through_a_year(sqlite_url: str, symbols: list[str], months: int) -> None:
    history = PriceHistory.synthetic(2, 300, end=date(2013, 3, 1))
    sessions = sessions_between(date(2013, 3, 1) - timedelta(days=months * 30), date(2013, 3, 1))
    most = 0
    with MarketServer(history, today=sessions[0]) as market:
        life = Life(_direct(sqlite_url, market), market, open_engine(sqlite_url))
        life.symbols = tuple(symbols)
        life.begin(as_of=str(sessions[0]), sessions=10)
        for session in sessions:
            life.morning(session + DAY)
            if session.isoweekday() == 5:
                life.report(session + DAY)
            most = max(most, scalar(life.engine, "SELECT count(*) FROM coverage"))
    assert most <= max(months, 6) * len(symbols)
