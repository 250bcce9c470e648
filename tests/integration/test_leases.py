"""A run holds a lease and no connection: it waits its turn, loses what it does not renew, and needs one connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text

from config import Settings
from domain.clock import Deadline, SystemClock
from domain.errors import DataError
from domain.models import JobResult, Request
from pipeline import jobs
from pipeline import run as run_module
from pipeline.context import RunContext
from pipeline.run import Run, journaled
from sandbox.server import MarketServer
from storage.engine import open_engine, transaction
from storage.locks import close_abandoned
from tests.conftest import SYMBOLS, Job
from tests.support import oracle, pgbouncer, runs, tables
from tests.support.tables import rows, scalar, stock_data

TODAY = date(2013, 3, 2)
JANUARY, FEBRUARY = (date(2013, 1, 2), date(2013, 1, 31)), (date(2013, 2, 1), date(2013, 2, 28))

RunJob = Callable[..., JobResult]


@pytest.fixture
def settings(market: MarketServer) -> Settings:
    return Settings(
        polygon_base_url=market.url,
        polygon_api_key=market.key,
        polygon_calls_per_minute=0,
        quickchart_url="http://127.0.0.1:9/chart",  # nothing listens there
    )


def context_of(settings: Settings, engine: Engine, deadline: Deadline | None = None, **more: Any) -> RunContext:
    return RunContext(settings, engine, deadline or Deadline(None, SystemClock()), **more)


def expected(first: date) -> list[oracle.Row]:
    return oracle.table(bar for bar in oracle.recorded_bars() if bar.symbol in SYMBOLS and bar.session >= first)


def statuses(engine: Engine) -> list[str]:
    return [str(status) for (status,) in rows(engine, "SELECT status FROM job_runs ORDER BY place")]


def test_the_next_run_closes_a_run_that_was_killed_and_goes_on(job: Job, engine: Engine) -> None:
    runs.start(engine)
    runs.let_leases_end(engine)

    assert job("initialize", as_of="2013-03-02")["status"] == "ok"

    assert statuses(engine) == ["abandoned", "ok"]
    assert scalar(engine, "SELECT error FROM job_runs WHERE status = 'abandoned'") == "it ended without recording how"


def test_a_run_that_an_earlier_version_left_running_is_closed(job: Job, engine: Engine) -> None:
    runs.start(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE job_runs SET place = NULL, leased_until = NULL"))

    job("initialize", as_of="2013-03-02")

    assert sorted(statuses(engine)) == ["abandoned", "ok"]


def test_a_run_waits_without_a_connection_until_the_run_before_it_ends(settings: Settings, engine: Engine) -> None:
    deadline, other = Deadline(None, SystemClock()), runs.start(engine)
    waited: list[str] = []

    def while_waiting(reason: str, _seconds: float) -> None:
        waited.append(reason)
        assert engine.pool.status().endswith("Current Checked out connections: 0")
        assert statuses(engine) == ["running", "running"], "a run that waits is alive"
        if len(waited) == 2:
            runs.end(engine, other)

    deadline.on_wait.append(while_waiting)

    result = jobs.run_job(Request("initialize", SYMBOLS, TODAY), context_of(settings, engine, deadline))

    assert result["status"] == "ok"
    assert waited == ["waiting for another run to end"] * 2
    assert deadline.on_wait == [while_waiting], "the run's own renewal ends with it"


def test_a_run_that_waits_is_next_when_the_run_before_it_was_killed(settings: Settings, engine: Engine) -> None:
    deadline = Deadline(None, SystemClock())
    killed = runs.start(engine)

    def while_waiting(_reason: str, _seconds: float) -> None:
        with engine.begin() as connection:
            statement = "UPDATE job_runs SET leased_until = '2000-01-01 00:00:00' WHERE run_id = :killed"
            connection.execute(text(statement), {"killed": killed})

    deadline.on_wait.append(while_waiting)

    assert jobs.run_job(Request("initialize", SYMBOLS, TODAY), context_of(settings, engine, deadline))["status"] == "ok"
    assert statuses(engine) == ["abandoned", "ok"]


def test_a_run_that_cannot_wait_any_longer_fails_in_time_and_leaves_the_queue(
    settings: Settings, engine: Engine
) -> None:
    started = time.monotonic()
    with runs.at_work(engine), pytest.raises(DataError, match="another run is still going on; try again later"):
        context = context_of(settings, engine, Deadline(1.5, SystemClock(), reserve=0.5))
        jobs.run_job(Request("initialize", SYMBOLS, TODAY), context)

    assert time.monotonic() - started < 1.5 + 2
    assert statuses(engine) == ["ok", "failed"]
    assert jobs.run_job(Request("initialize", SYMBOLS, TODAY), context_of(settings, engine))["status"] == "ok"


@pytest.mark.parametrize(
    ("held", "beside"),
    [(JANUARY, True), (FEBRUARY, False), (None, False)],
    ids=["other sessions", "the same sessions", "all sessions"],
)
def test_a_range_is_loaded_beside_runs_of_other_sessions_only(
    settings: Settings, engine: Engine, held: tuple[date, date] | None, beside: bool
) -> None:
    request = Request("initialize", SYMBOLS, TODAY, start=FEBRUARY[0], end=FEBRUARY[1])
    with runs.at_work(engine, held):
        context = context_of(settings, engine, Deadline(0.7, SystemClock(), reserve=0) if not beside else None)
        if beside:
            assert jobs.run_job(request, context)["status"] == "ok"
            return
        with pytest.raises(DataError, match="another run is still going on"):
            jobs.run_job(request, context)


def test_a_run_that_lost_its_lease_commits_nothing_more_and_is_partial(settings: Settings, engine: Engine) -> None:
    def stand_still(done: int, _total: int, _doing: str) -> None:
        if done == 2:
            runs.let_leases_end(engine)
            with transaction(engine) as connection:
                close_abandoned(connection, datetime.now(UTC))

    context = context_of(settings, engine, progress=stand_still)

    result = jobs.run_job(Request("initialize", SYMBOLS, TODAY), context)

    assert result["status"] == "partial"
    assert "this run stood still for over 60 s, and another one has taken over" in result["warnings"][-1]
    assert result["rows"]["inserted"] == len(stock_data(engine)) == 0, "what was fetched was not committed yet"
    assert statuses(engine) == ["partial"]
    again = jobs.run_job(Request("initialize", SYMBOLS, TODAY), context_of(settings, engine))
    assert again["rows"]["inserted"] == 350


def test_a_run_that_lost_its_lease_mails_nothing(
    job: Job, settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline import compose

    job("initialize", as_of="2013-03-02")
    fetch = compose._fetch_charts

    def slowly(*arguments: Any) -> Any:
        runs.let_leases_end(engine)
        with transaction(engine) as connection:
            close_abandoned(connection, datetime.now(UTC))
        return fetch(*arguments)

    monkeypatch.setattr(compose, "_fetch_charts", slowly)
    with pytest.raises(Exception, match="another one has taken over"):
        job("weekly_report", as_of="2013-03-02")

    assert scalar(engine, "SELECT count(*) FROM sent_reports") == 0
    monkeypatch.undo()


def test_a_lease_is_renewed_once_a_third_of_it_is_over(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(Request("initialize", SYMBOLS, TODAY), context_of(settings, engine))
    with journaled(run):
        first = scalar(engine, "SELECT leased_until FROM job_runs")
        run.progress(0, 1, "")
        assert scalar(engine, "SELECT leased_until FROM job_runs") == first, "quick steps cost nothing"
        monkeypatch.setattr(run_module, "RENEW_SECONDS", 0.0)
        run.context.deadline.sleep(0.01, "a wait")
        second = scalar(engine, "SELECT leased_until FROM job_runs")
        run.progress(0, 1, "")
        assert first < second < scalar(engine, "SELECT leased_until FROM job_runs")


@pytest.fixture(params=["postgresql", 1, 2], ids=["direct", "pooler of one", "pooler of two"])
def pooled_url(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[str]:
    """The database, directly or through a pooler in transaction mode with one or two connections."""
    if request.param == "postgresql":
        yield postgresql_url
        return
    if not pgbouncer.program():
        pytest.skip("pgbouncer is not on PATH, and `make build/pgbouncer` could not fetch Debian's package")
    with pgbouncer.pooler(postgresql_url, connections=request.param) as url:
        yield url
        open_engine(url).dispose()


def test_one_connection_is_enough_for_every_job(settings: Settings, pooled_url: str) -> None:
    engine = open_engine(pooled_url)

    def run(*request: Any, **more: Any) -> str:
        return jobs.run_job(Request(*request, **more), context_of(settings, engine))["status"]

    assert run("initialize", SYMBOLS, date(2013, 3, 1), sessions=20) == "ok"
    assert run("daily_update", SYMBOLS, TODAY, dry_run=True) == "ok"
    assert run("daily_update", SYMBOLS, TODAY) == "ok"
    assert run("initialize", ("*",), TODAY, sessions=4, force=True) == "ok"
    assert run("weekly_report", SYMBOLS, TODAY) == "sent"
    assert stock_data(engine) == expected(date(2013, 1, 31))


def test_many_runs_pass_through_few_connections(settings: Settings, pooled_url: str) -> None:
    """Each with the one connection of a process of its own."""
    engines = [open_engine.__wrapped__(pooled_url) for _ in range(6)]

    def run(engine: Engine) -> str:
        return jobs.run_job(Request("initialize", SYMBOLS, TODAY), context_of(settings, engine))["status"]

    with ThreadPoolExecutor(len(engines)) as pool:
        ended = list(pool.map(run, engines))

    assert sorted(ended) == ["nothing_to_do"] * 5 + ["ok"]
    assert stock_data(engines[0]) == expected(date(2012, 11, 19))
    for engine in engines:
        engine.dispose()


def test_a_database_of_this_version_before_leases_is_brought_up(job: Job, engine: Engine) -> None:
    job("initialize", as_of="2013-03-01")
    with engine.begin() as connection:
        for column in ("place", "held_from", "held_to", "leased_until"):
            connection.execute(text(f"ALTER TABLE job_runs DROP COLUMN {column}"))

    assert job("daily_update", as_of="2013-03-02", dry_run=True)["status"] == "ok"
    assert job("daily_update", as_of="2013-03-02")["rows"]["inserted"] == 5
    assert sorted(tables.rows(engine, "SELECT place FROM job_runs WHERE place IS NOT NULL")) == [(1,)]
