"""Loading through the real handler, against the sandbox market, on PostgreSQL and on SQLite."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from sqlalchemy import Engine, text

from config import Settings, settings
from domain.clock import Deadline
from domain.errors import ApiError, CredentialsError, DataError
from domain.models import JobType, Request
from pipeline import jobs
from pipeline.context import RunContext
from sandbox.server import Fault, MarketServer
from storage.engine import open_engine
from tests.conftest import SYMBOLS, Job
from tests.support import oracle
from tests.support.clocks import FrozenClock
from tests.support.tables import rows, scalar, stock_data

FIRST = date(2012, 11, 16)  # 70 sessions before 2013-03-01
BARS_CALLS = ("range", "grouped")


def bars_calls(market: MarketServer) -> int:
    return sum(market.calls[kind] for kind in BARS_CALLS)


def expected(first: date, last: date, today: date = date(2013, 3, 2)) -> list[oracle.Row]:
    chosen = [bar for bar in oracle.recorded_bars() if first <= bar.session <= last]
    return oracle.table(oracle.adjusted(chosen, today))


def test_initialize_loads_70_sessions_of_5_symbols_in_5_calls(job: Job, market: MarketServer, engine: Engine) -> None:
    result = job("initialize", as_of="2013-03-01")

    assert result["status"] == "ok"
    assert result["sessions"] == {"first": "2012-11-16", "last": "2013-02-28", "count": 70}
    assert result["rows"] == {
        "inserted": 350,
        "updated": 0,
        "unchanged": 0,
        "rejected": 0,
        "corrected": 0,
        "withdrawn": 0,
    }
    assert result["api_calls"] == bars_calls(market) == 5
    assert stock_data(engine) == expected(FIRST, date(2013, 2, 28))


def test_daily_update_loads_the_previous_session_and_reads_the_three_before_it_again(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    job("initialize", as_of="2013-03-01")
    market.reset_calls()

    result = job("daily_update", as_of="2013-03-02")

    assert result["status"] == "ok"
    assert result["sessions"] == {"first": "2013-03-01", "last": "2013-03-01", "count": 1}
    assert result["rows"] == {
        "inserted": 5,
        "updated": 0,
        "unchanged": 15,
        "rejected": 0,
        "corrected": 0,
        "withdrawn": 0,
    }
    asked = [path.partition("?")[0].rpartition("/")[2] for kind, path in market.requests if kind == "grouped"]
    assert asked == ["2013-03-01", "2013-02-26", "2013-02-27", "2013-02-28"]
    assert dict(market.calls) == {"splits": 1, "grouped": 4}
    assert stock_data(engine) == expected(FIRST, date(2013, 3, 1))


def test_daily_update_of_up_to_four_symbols_takes_a_call_of_each(job: Job, market: MarketServer) -> None:
    job("initialize", as_of="2013-03-01", symbols="AAPL,IBM")
    market.reset_calls()

    result = job("daily_update", as_of="2013-03-02", symbols="AAPL,IBM")

    assert result["rows"]["inserted"] == 2
    assert dict(market.calls) == {"splits": 1, "range": 2}


def test_with_nothing_to_settle_a_daily_update_is_one_call(
    job: Job, market: MarketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SETTLE_SESSIONS", "0")
    settings.cache_clear()
    job("initialize", as_of="2013-03-01")
    market.reset_calls()

    assert job("daily_update", as_of="2013-03-02")["rows"]["inserted"] == 5
    assert dict(market.calls) == {"splits": 1, "grouped": 1}


def test_a_dry_run_of_an_update_says_what_is_read_again_and_how_old_the_oldest_reading_is(
    job: Job, market: MarketServer
) -> None:
    job("initialize", as_of="2013-03-01")
    market.reset_calls()

    result = job("daily_update", as_of="2013-03-02", dry_run=True)

    assert result["plan"] == [
        f"all symbols on {day}" for day in ("2013-02-26", "2013-02-27", "2013-02-28", "2013-03-01")
    ]
    assert result["calls"] == 4
    assert result["read_again"] == {"first": "2013-02-26", "last": "2013-02-28", "count": 3}
    assert result["oldest_reading"] == "2013-02-28"
    assert not market.calls


@pytest.mark.parametrize(("job_type", "as_of"), [("initialize", "2013-03-01"), ("daily_update", "2013-03-02")])
def test_a_repeat_makes_no_call_and_rewrites_no_row(
    job: Job, market: MarketServer, engine: Engine, job_type: str, as_of: str
) -> None:
    job("initialize", as_of="2013-03-01")
    job("daily_update", as_of="2013-03-02")
    version = "xmin" if engine.dialect.name == "postgresql" else "rowid"
    before = rows(engine, f"SELECT {version}, * FROM stock_data ORDER BY symbol, date")
    market.reset_calls()

    result = job(job_type, as_of=as_of)

    assert result["status"] == "nothing_to_do"
    assert sum(market.calls.values()) == result["api_calls"] == 0
    assert rows(engine, f"SELECT {version}, * FROM stock_data ORDER BY symbol, date") == before


def test_a_forced_repeat_refetches_and_still_rewrites_no_row(job: Job, market: MarketServer, engine: Engine) -> None:
    job("initialize", as_of="2013-03-01")
    version = "xmin" if engine.dialect.name == "postgresql" else "rowid"
    before = rows(engine, f"SELECT {version}, * FROM stock_data ORDER BY symbol, date")
    market.reset_calls()

    result = job("initialize", as_of="2013-03-01", force=True)

    assert bars_calls(market) == 5
    assert result["rows"] == {
        "inserted": 0,
        "updated": 0,
        "unchanged": 350,
        "rejected": 0,
        "corrected": 0,
        "withdrawn": 0,
    }
    assert rows(engine, f"SELECT {version}, * FROM stock_data ORDER BY symbol, date") == before


def test_nothing_is_loaded_on_a_holiday(job: Job, market: MarketServer) -> None:
    job("initialize", as_of="2013-02-16")
    market.reset_calls()

    # Monday 2013-02-18 was Presidents' Day: on Tuesday morning the previous session is still Friday's.
    assert job("daily_update", as_of="2013-02-19")["status"] == "nothing_to_do"
    assert bars_calls(market) == 0


def test_all_recorded_history_agrees_with_the_independent_calculation(job: Job, engine: Engine) -> None:
    """12,154 rows across 26 changes of daylight-saving time and the splits of 2000, 2003 and 2005."""
    result = job("initialize", start="2000-03-01", as_of="2013-03-02")

    assert result["rows"]["inserted"] == 12_154
    assert stock_data(engine) == expected(date(2000, 3, 1), date(2013, 3, 1))


@pytest.mark.parametrize("job_type", ["initialize", "daily_update"])
def test_both_databases_hold_the_same_rows(
    market: MarketServer, sqlite_url: str, postgresql_url: str, job_type: JobType
) -> None:
    own = Settings(polygon_base_url=market.url, polygon_api_key=market.key, polygon_calls_per_minute=0)
    found = []
    for url in (sqlite_url, postgresql_url):
        context = RunContext(settings=own, engine=open_engine(url), deadline=Deadline(None, FrozenClock()))
        jobs.run_job(Request(job_type, SYMBOLS, date(2013, 3, 1)), context)
        found.append(stock_data(context.engine))

    assert found[0] == found[1]
    assert len(found[0]) == 350


def test_a_late_bar_recomputes_the_metrics_after_it(job: Job, market: MarketServer, engine: Engine) -> None:
    late = date(2013, 1, 15)
    bar = next(b for b in oracle.recorded_bars() if b.symbol == "GOOG" and b.session == late)
    market.history.remove_bar("GOOG", late)
    job("initialize", as_of="2013-03-01")
    values = {name: float(getattr(bar, name)) for name in ("open", "high", "low", "close", "volume")}
    market.history.put_bar("GOOG", late, **values)

    result = job("initialize", as_of="2013-01-16", sessions=1, symbols="GOOG", force=True)

    # The bar itself, the change and average of its successor, and the averages of the three after that.
    assert result["rows"] == {
        "inserted": 1,
        "updated": 4,
        "unchanged": 0,
        "rejected": 0,
        "corrected": 0,
        "withdrawn": 0,
    }
    assert rows(engine, "SELECT symbol, close, cause, run_id FROM bar_revisions") == [
        ("GOOG", None, "appeared", result["run_id"])
    ]
    assert stock_data(engine) == expected(FIRST, date(2013, 2, 28))


def test_an_unknown_symbol_is_named_and_the_others_load(job: Job, market: MarketServer, engine: Engine) -> None:
    result = job("initialize", as_of="2013-03-01", symbols=[*SYMBOLS, "XYZZ"])

    assert result["rows"]["inserted"] == 350
    assert any("'XYZZ'" in warning for warning in result["warnings"])
    assert stock_data(engine) == expected(FIRST, date(2013, 2, 28))


def test_a_rejected_bar_is_kept_with_its_reason(job: Job, market: MarketServer, engine: Engine) -> None:
    market.history.put_bar("IBM", date(2013, 2, 27), open=200, high=199, low=201, close=200, volume=1)

    result = job("initialize", as_of="2013-03-01")
    again = job("initialize", as_of="2013-03-01", force=True)

    assert result["rows"]["inserted"] == 349
    assert result["rows"]["rejected"] == again["rows"]["rejected"] == 1
    (kept,) = rows(engine, "SELECT symbol, reason, run_id FROM rejected_bars")
    assert kept == ("IBM", "its high 199.0 is below its low 201.0", result["run_id"])


def test_a_session_that_is_not_published_yet_is_asked_for_again(job: Job, market: MarketServer, engine: Engine) -> None:
    market.today = date(2013, 3, 1)  # the bars of 2013-03-01 do not exist yet
    job("initialize", as_of="2013-03-01")

    early = job("daily_update", as_of="2013-03-02")
    market.today = date(2013, 3, 2)
    later = job("daily_update", as_of="2013-03-02")

    assert any("2013-03-01" in warning and "next run" in warning for warning in early["warnings"])
    assert later["rows"]["inserted"] == 5
    assert stock_data(engine) == expected(FIRST, date(2013, 3, 1))


def test_a_failing_provider_leaves_what_was_committed_and_the_next_run_continues(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    market.fail_next(Fault(delay=0.0), Fault(delay=0.0), Fault(status=404, body=b"{}"))

    with pytest.raises(ApiError, match="404"):
        job("initialize", as_of="2013-03-01")
    assert scalar(engine, "SELECT count(*) FROM stock_data") == 140
    failed = rows(engine, "SELECT status, inserted, api_calls, error FROM job_runs")
    assert [row[:3] for row in failed] == [("failed", 140, 3)]
    assert "404" in failed[0][3]

    market.reset_calls()
    assert job("initialize", as_of="2013-03-01")["rows"]["inserted"] == 210
    assert bars_calls(market) == 3
    assert stock_data(engine) == expected(FIRST, date(2013, 2, 28))


def test_an_error_that_nobody_expected_is_recorded_without_the_name_of_its_class(
    job: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("no such\nthing")

    monkeypatch.setattr("pipeline.jobs.plan_load", fail)

    with pytest.raises(KeyError):
        job("initialize", as_of="2013-03-01")
    assert rows(engine, "SELECT status, error FROM job_runs") == [("failed", r"unexpected error: 'no such\nthing'")]


def test_a_database_that_refuses_the_record_of_an_error_does_not_hide_the_error(
    job: Job, market: MarketServer, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "stock_tracker")
    job("initialize", as_of="2013-03-01", symbols="IBM")
    refuse = {
        "sqlite": "CREATE TRIGGER refuse BEFORE UPDATE ON job_runs BEGIN SELECT RAISE(ABORT, 'no more'); END",
        "postgresql": "ALTER TABLE job_runs ADD CHECK (status IN ('ok', 'running'))",
    }
    with engine.begin() as connection:
        connection.exec_driver_sql(refuse[engine.dialect.name])
    market.key = "another"

    with pytest.raises(CredentialsError, match="the provider refused the key"):
        job("initialize", as_of="2013-03-01", symbols="AAPL")
    (said,) = [line for line in caplog.messages if "cannot be recorded" in line]
    assert said.startswith("the provider refused the key in POLYGON_API_KEY")


def test_a_key_that_the_provider_refuses_is_one_line_and_writes_no_bar(
    job: Job, market: MarketServer, engine: Engine
) -> None:
    market.key = "another"

    with pytest.raises(CredentialsError, match=r"^the provider refused the key in POLYGON_API_KEY \(401.*\)$"):
        job("initialize", as_of="2013-03-01")
    assert scalar(engine, "SELECT count(*) FROM stock_data") == 0
    assert scalar(engine, "SELECT status FROM job_runs") == "failed"


def test_a_dry_run_plans_and_leaves_nothing_behind(job: Job, market: MarketServer, engine: Engine) -> None:
    result = job("initialize", as_of="2013-03-01", dry_run=True)

    assert result["calls"] == 5
    assert result["plan"][0] == "AAPL from 2012-11-16 to 2013-02-28"
    assert sum(market.calls.values()) == 0
    assert not rows(engine, _TABLES[engine.dialect.name])


_TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgresql": "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
}


def test_an_existing_table_is_adopted_with_its_rows(job: Job, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE stock_data (date TIMESTAMP NOT NULL, symbol VARCHAR(10) NOT NULL, open NUMERIC,"
                " high NUMERIC, low NUMERIC, close NUMERIC, volume BIGINT, volatility NUMERIC, rolling_avg NUMERIC,"
                " daily_pct_change NUMERIC, UNIQUE (symbol, date))"
            )
        )
        connection.execute(
            text("INSERT INTO stock_data (date, symbol, close) VALUES ('1999-12-31 00:00:00', 'GE', 51.58)")
        )

    job("initialize", as_of="2013-03-01")

    table = stock_data(engine)
    assert len(table) == 351
    assert [row[1] for row in table if row.symbol == "GE"] == [date(1999, 12, 31)]


def test_adopted_rows_that_carry_a_time_of_day_become_their_sessions(job: Job, engine: Engine) -> None:
    """Other writers may store the provider's milliseconds in UTC, where midnight in New York is 05:00."""
    job("initialize", as_of="2013-03-01")
    before = stock_data(engine)
    shifted = (
        "date + interval '5 hours'" if engine.dialect.name == "postgresql" else "substr(date, 1, 11) || '05:00:00'"
    )
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE stock_data SET date = {shifted}"))
        for table in ("coverage", "job_runs", "splits"):
            connection.execute(text(f"DROP TABLE {table}"))

    result = job("initialize", as_of="2013-03-01")

    assert result["rows"]["inserted"] == 0
    assert stock_data(engine) == before


def test_a_table_that_cannot_be_adopted_is_named_and_left_alone(job: Job, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE stock_data (date TIMESTAMP NOT NULL, symbol VARCHAR(10) NOT NULL)"))

    with pytest.raises(DataError, match="the existing table stock_data has no column open, high"):
        job("initialize", as_of="2013-03-01")
    assert len(rows(engine, _TABLES[engine.dialect.name])) == 1
