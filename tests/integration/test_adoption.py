"""An existing ``stock_data`` is adopted or refused untouched, and tables of the earlier version are brought up."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

import database
import utils
from config import load_settings
from domain.clock import Deadline, SystemClock
from domain.errors import DataError
from entrypoints.status import read_status
from pipeline.run import RunContext
from sandbox.server import MarketServer
from tests.conftest import SYMBOLS, Job
from tests.support.tables import rows, scalar, stock_data

DATA = Path(__file__).parents[1] / "data"
COLUMNS = {
    "date": "TIMESTAMP NOT NULL",
    "symbol": "VARCHAR(10) NOT NULL",
    **dict.fromkeys(("open", "high", "low", "close"), "NUMERIC"),
    "volume": "BIGINT",
    **dict.fromkeys(("volatility", "rolling_avg", "daily_pct_change"), "NUMERIC"),
}
KEY = "UNIQUE (symbol, date)"
EVERYTHING = {
    "sqlite": "SELECT type, name, sql FROM sqlite_master ORDER BY name",
    "postgresql": "SELECT table_name, column_name, data_type FROM information_schema.columns"
    " WHERE table_schema = 'public' ORDER BY 1, 2",
}
BAR = "'GE', 10, 12, 9, 11, 500"


def create(engine: Engine, *statements: str, key: str = KEY, **changed: str) -> None:
    """Create a ``stock_data`` with some columns of other types, and execute statements."""
    columns = ", ".join(f"{name} {kind}" for name, kind in (COLUMNS | changed).items())
    execute(engine, f"CREATE TABLE stock_data ({columns}{', ' if key else ''}{key})", *statements)


def execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def insert(*values: str) -> str:
    shown = ", ".join(f"({moment}, {BAR})" for moment in values)
    return f"INSERT INTO stock_data (date, symbol, open, high, low, close, volume) VALUES {shown}"


def everything(engine: Engine) -> Any:
    return rows(engine, EVERYTHING[engine.dialect.name]), rows(engine, "SELECT * FROM stock_data")


def refusal(job: Job, engine: Engine) -> str:
    """The message of a run that refuses the table and changes nothing."""
    before = everything(engine)
    with pytest.raises(DataError, match="the existing table stock_data") as refused:
        job("initialize", as_of="2013-03-01")
    assert everything(engine) == before
    message = str(refused.value)
    assert "\n" not in message
    return message


def mend(job: Job, engine: Engine) -> None:
    """Execute the statements of the refusals, at most two, until a run succeeds."""
    message = refusal(job, engine)
    execute(engine, *message.partition("run: ")[2].split("; "))
    assert job("initialize", as_of="2013-03-01")["rows"]["inserted"] == 350


ON_POSTGRESQL = [
    ({"date": "TIMESTAMPTZ"}, ["'2013-02-20 05:00+00'", "'2013-02-21 00:00+00'"]),
    ({"date": "DATE"}, ["'2013-02-20'", "'2013-02-21'"]),
    ({"date": "TEXT"}, ["'2013-02-20'", "'2013-02-21 05:00:00'"]),
    ({"date": "INTEGER"}, ["20130220", "20130221"]),
    ({"date": "BIGINT"}, ["1361336400000", "1361422800000"]),
    ({"date": "INTEGER"}, ["1361336400", "1361422800"]),
    ({"date": "TIMESTAMPTZ", "close": "DOUBLE PRECISION", "volume": "INTEGER"}, ["'2013-02-20'", "'2013-02-21'"]),
    ({"close": "NUMERIC(12,2)", "open": "TEXT", "volume": "NUMERIC"}, ["'2013-02-20'", "'2013-02-21'"]),
    ({"symbol": "CHAR(4)"}, ["'2013-02-20'", "'2013-02-21'"]),
    ({"rolling_avg": "NUMERIC NOT NULL DEFAULT 1"}, ["'2013-02-20'", "'2013-02-21'"]),
]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("changed", "dates"), ON_POSTGRESQL, ids=str)
def test_columns_of_other_types_are_refused_on_postgresql(
    job: Job, engine: Engine, changed: dict[str, str], dates: list[str]
) -> None:
    create(engine, insert(*dates), **changed)

    mend(job, engine)

    stored = [row.session for row in stock_data(engine, "WHERE symbol = 'GE'")]
    assert stored == [date(2013, 2, 20), date(2013, 2, 21)]


ON_SQLITE = [
    ({"date": "TIMESTAMP"}, ["20130220", "20130221"]),
    ({"date": "INTEGER"}, ["1361336400000", "1361422800"]),
    ({"date": "TEXT"}, ["'02/20/2013'", "'20130221'"]),
    ({"close": "TEXT"}, ["'2013-02-20'", "'2013-02-21T05:00:00Z'"]),
]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("changed", "dates"), ON_SQLITE, ids=str)
def test_values_of_other_types_are_refused_on_sqlite(
    job: Job, engine: Engine, changed: dict[str, str], dates: list[str]
) -> None:
    create(engine, insert(*dates), **changed)

    mend(job, engine)

    assert [row.session for row in stock_data(engine, "WHERE symbol = 'GE'")] == [date(2013, 2, 20), date(2013, 2, 21)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_date_that_cannot_be_read_is_refused_with_the_query_that_shows_it(job: Job, engine: Engine) -> None:
    create(engine, insert("'2013-02-20'", "'yesterday'"))
    message = refusal(job, engine)
    assert "one is 'yesterday'" in message
    query = re.search(r"shown by: (SELECT .*); run:", message)
    assert query
    assert rows(engine, query[1])[0][0] == "yesterday"
    mend(job, engine)


@pytest.mark.parametrize("partial", [False, True], ids=["missing", "partial"])
def test_a_table_without_its_key_is_refused(job: Job, engine: Engine, *, partial: bool) -> None:
    create(engine, insert("'2013-02-20'"), key="")
    if partial:
        execute(engine, "CREATE UNIQUE INDEX part ON stock_data (symbol, date) WHERE volume > 0")
    mend(job, engine)


def test_duplicates_are_named_with_the_query_that_shows_them(job: Job, engine: Engine) -> None:
    create(engine, insert("'2013-02-20'", "'2013-02-20'"), key="")
    message = refusal(job, engine)
    assert "GE at 2013-02-20" in message
    ((symbol, _, count),) = rows(engine, message.partition("shown by: ")[2])
    assert (symbol, count) == ("GE", 2)


def test_a_view_is_refused(job: Job, engine: Engine) -> None:
    create(engine)
    execute(engine, "ALTER TABLE stock_data RENAME TO prices", "CREATE VIEW stock_data AS SELECT * FROM prices")
    mend(job, engine)


def test_missing_columns_are_refused_with_the_statement_that_adds_them(job: Job, engine: Engine) -> None:
    execute(engine, "CREATE TABLE stock_data (date TIMESTAMP NOT NULL, symbol VARCHAR(10) NOT NULL, close NUMERIC)")
    message = refusal(job, engine)
    assert "has no column open, high, low, volume" in message
    execute(engine, *message.partition("run: ")[2].split("; "))
    mend(job, engine)


IMPOSSIBLE = {
    "02-23 00:00:00 is not a session": "'2013-02-23', 'IBM', 10, 12, 9, 11, 500",
    "2099-01-05": "'2099-01-05', 'IBM', 10, 12, 9, 11, 500",
    "its close is missing": "'2013-02-20', 'IBM', 10, 12, 9, NULL, 500",
    "its close 0 is not above 0": "'2013-02-20', 'IBM', 10, 12, 9, 0, 500",
    "its open -1 is not above 0": "'2013-02-20', 'IBM', -1, 12, 9, 11, 500",
    "its high is below its low": "'2013-02-20', 'IBM', 10, 8, 9, 11, 500",
    "its high is below its open or close": "'2013-02-20', 'IBM', 10, 10.5, 9, 11, 500",
    "its volume -5": "'2013-02-20', 'IBM', 10, 12, 9, 11, -5",
    "nearer to midnight": "'2013-02-19 05:00:00', 'IBM', 10, 12, 9, 11, 500",
}


@pytest.mark.parametrize("reason", IMPOSSIBLE)
def test_a_row_that_cannot_be_true_is_moved_and_poisons_no_metric(job: Job, engine: Engine, reason: str) -> None:
    job("initialize", as_of="2013-02-23", symbols="IBM")
    execute(engine, "DELETE FROM stock_data WHERE date = '2013-02-20 00:00:00'")
    drop_ours(engine)
    values = IMPOSSIBLE[reason].replace("02-23'", "02-23 00:00:00'").replace("02-20'", "02-20 00:00:00'")
    execute(
        engine,
        f"INSERT INTO stock_data (date, symbol, open, high, low, close, volume) VALUES ({values})",
        "UPDATE stock_data SET rolling_avg = -1, daily_pct_change = -1 WHERE date > '2013-02-21'",
    )

    result = job("daily_update", as_of="2013-02-23", symbols="GOOG")

    (warning,) = [warning for warning in result["warnings"] if "cannot be true" in warning]
    assert warning.startswith("1 rows of the existing table stock_data")
    ((symbol, shown, bar),) = rows(engine, "SELECT symbol, reason, bar FROM rejected_bars")
    assert symbol == "IBM"
    assert reason in shown
    assert '"symbol"' in bar
    kept = stock_data(engine, "WHERE symbol = 'IBM'")
    assert len(kept) == 69
    # The first of them follows the row that was moved where that is not the last one.
    if "2099" in reason or "02-23" in reason:
        assert kept[-1].rolling_avg == -1
    else:
        assert kept[-1].rolling_avg == sum(row.close for row in kept[-5:]) / 5
    job("initialize", as_of="2013-02-23", symbols="IBM")
    repaired = stock_data(engine, "WHERE symbol = 'IBM'")
    drop_ours(engine)
    execute(engine, "DROP TABLE stock_data")
    job("initialize", as_of="2013-02-23", symbols="IBM")
    assert repaired == stock_data(engine)


def drop_ours(engine: Engine) -> None:
    """Leave ``stock_data`` as if another program had made it."""
    names = ("coverage", "job_runs", "splits", "bar_revisions", "loads", "suspects", "rejected_bars", "sent_reports")
    execute(engine, *(f"DROP TABLE {name}" for name in names))


def test_what_was_adopted_is_in_the_ledger(job: Job, engine: Engine) -> None:
    create(engine, insert("'2013-02-20 05:00:00'", "'2013-02-21 00:00:00'"))
    job("initialize", as_of="2013-03-01")
    pairs = '[{"symbols": ["*"], "first": "2013-02-20", "last": "2013-02-21"}]'
    assert scalar(engine, "SELECT pairs FROM loads WHERE run_id = 'adoption'") == pairs


def test_a_table_of_somebody_else_is_refused(job: Job, engine: Engine) -> None:
    execute(engine, "CREATE TABLE splits (name TEXT)")
    with pytest.raises(DataError, match=r"run: ALTER TABLE splits RENAME TO splits_before$"):
        job("initialize", as_of="2013-03-01")
    execute(engine, "ALTER TABLE splits RENAME TO splits_before")
    assert job("initialize", as_of="2013-03-01")["rows"]["inserted"] == 350


@pytest.fixture
def earlier(engine: Engine) -> Engine:
    """The database of five symbols and 25 sessions up to 2013-02-26 as the earlier version left it."""
    dump = (DATA / f"earlier_{engine.dialect.name}.sql").read_text(encoding="utf-8")
    if engine.dialect.name == "sqlite":
        with closing(sqlite3.connect(str(engine.url.database))) as connection:
            connection.executescript(dump)
    else:
        execute(engine, *(statement for statement in dump.split(";\n") if statement.strip()))
    return engine


def dump_of(engine: Engine) -> Any:
    names = ("coverage", "job_runs", "rejected_bars", "sent_reports", "splits")
    return everything(engine), [rows(engine, f"SELECT * FROM {name}") for name in names]


def test_the_earlier_version_is_brought_up(job: Job, market: MarketServer, earlier: Engine) -> None:
    execute(earlier, "INSERT INTO splits VALUES ('FB', '2013-02-25', 1, 1, NULL)")
    before = stock_data(earlier)

    result = job("daily_update", as_of="2013-03-01")

    assert result["rows"]["inserted"] == 10
    assert result["rows"]["updated"] == 0
    # FB's whole history for the pending split; for the others 3 provisional and 2 new sessions by one range each.
    assert market.calls["range"] + market.calls["grouped"] == 5
    assert scalar(earlier, "SELECT count(*) FROM splits WHERE restated_at IS NULL") == 0
    assert [row for row in stock_data(earlier) if row.session <= date(2013, 2, 26)] == before
    pairs = '[{"symbols": ["*"], "first": "2013-01-22", "last": "2013-02-26"}]'
    assert scalar(earlier, "SELECT pairs FROM loads WHERE run_id = 'adoption'") == pairs
    assert scalar(earlier, "SELECT count(*) FROM bar_revisions") == 0
    assert job("initialize", as_of="2013-03-01")["status"] == "ok"
    assert job("weekly_report", as_of="2013-03-02")["status"] == "sent"
    stored = stock_data(earlier)
    drop_ours(earlier)
    execute(earlier, "DROP TABLE stock_data")
    job("initialize", as_of="2013-03-02", sessions=71)
    assert stored == stock_data(earlier)


def test_reports_that_were_recorded_by_week_alone_are_kept(job: Job, engine: Engine) -> None:
    job("initialize", as_of="2013-03-02")
    values = "'id', 'weekly-report', 'Best', 'one@example.com, two@example.com', 1, '2013-03-02 16:00:00'"
    execute(
        engine,
        "DROP TABLE sent_reports",
        "CREATE TABLE sent_reports (week DATE NOT NULL, status VARCHAR(20) NOT NULL, run_id VARCHAR(36) NOT NULL,"
        " message_id TEXT NOT NULL, subject TEXT NOT NULL, recipients TEXT NOT NULL, attempts INTEGER NOT NULL,"
        f" claimed_at {'TIMESTAMPTZ' if engine.dialect.name == 'postgresql' else 'DATETIME'} NOT NULL,"
        f" sent_at {'TIMESTAMPTZ' if engine.dialect.name == 'postgresql' else 'DATETIME'}, PRIMARY KEY (week))",
        f"INSERT INTO sent_reports SELECT '2013-02-25', 'sent', {values}, '2013-03-02 16:00:01'",
        f"INSERT INTO sent_reports SELECT '2013-02-18', 'claimed', {values}, NULL",
    )
    before = rows(engine, "SELECT * FROM sent_reports ORDER BY week")
    assert "only force sends it again" in job("weekly_report", as_of="2013-03-02", dry_run=True)["warnings"][-1]
    assert rows(engine, "SELECT * FROM sent_reports ORDER BY week") == before

    again = job("weekly_report", as_of="2013-03-02")

    assert (again["status"], again["recipients"]) == ("already_sent", ["one@example.com", "two@example.com"])
    assert job("weekly_report", as_of="2013-03-02", symbols="IBM")["status"] == "sent"
    with utils.reading(engine) as stored:
        claimed = utils.read_sent_report(stored, date(2013, 2, 18))
    assert (claimed.status, claimed.lacking(["one@example.com"])) == ("claimed", ("one@example.com",))
    shown = rows(engine, "SELECT CAST(week AS TEXT), symbols FROM sent_reports ORDER BY week, symbols")
    assert shown == [("2013-02-18", ""), ("2013-02-25", ""), ("2013-02-25", "IBM")]
    with pytest.raises(DBAPIError, match=r"(?i)unique"):
        execute(engine, "INSERT INTO sent_reports SELECT * FROM sent_reports WHERE symbols = 'IBM'")


def test_an_ordinary_morning_after_the_upgrade_reads_the_last_sessions_again(
    job: Job, market: MarketServer, earlier: Engine
) -> None:
    result = job("daily_update", as_of="2013-02-28")
    assert market.calls["grouped"] == 4
    assert market.calls["range"] == 0
    assert (result["rows"]["inserted"], result["rows"]["unchanged"]) == (5, 15)
    assert job("daily_update", as_of="2013-02-28")["status"] == "nothing_to_do"


def test_dry_run_and_status_plan_as_if_the_earlier_version_was_brought_up(job: Job, earlier: Engine) -> None:
    before = dump_of(earlier)
    for _ in range(2):
        assert job("daily_update", as_of="2013-02-28", dry_run=True)["calls"] == 4
        assert job("weekly_report", as_of="2013-03-02", dry_run=True)["calls"] > 0
        assert job("initialize", as_of="2013-02-27", sessions=25, dry_run=True)["status"] == "nothing_to_do"
    status = read_status(
        RunContext(load_settings(), earlier, Deadline(None, SystemClock())), list(SYMBOLS), date(2013, 2, 28)
    )
    assert {state["rows"] for state in status["symbols"]} == {25}
    assert len(status["runs"]) == 5
    assert dump_of(earlier) == before


def test_a_dry_run_needs_no_right_to_write(job: Job, earlier: Engine) -> None:
    if earlier.dialect.name == "sqlite":
        Path(str(earlier.url.database)).chmod(0o444)
    else:
        earlier.dispose()
        with earlier.connect() as connection:
            name = connection.execute(text("SELECT current_database()")).scalar_one()
        execute(earlier, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        earlier.dispose()
    try:
        if earlier.dialect.name == "sqlite":
            assert job("daily_update", as_of="2013-02-28", dry_run=True)["calls"] == 4
        else:
            with pytest.raises(DataError, match="read-only transaction"):
                job("daily_update", as_of="2013-02-28", dry_run=True)
    finally:
        if earlier.dialect.name == "postgresql":
            execute(earlier, "SET TRANSACTION READ WRITE", f"ALTER DATABASE {name} RESET ALL")
            earlier.dispose()


def test_an_interrupted_upgrade_leaves_the_earlier_version(
    job: Job, earlier: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dump_of(earlier)

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database, "start_run", die)
        with pytest.raises(KeyboardInterrupt):
            job("daily_update", as_of="2013-02-28")
    assert dump_of(earlier) == before
    assert job("daily_update", as_of="2013-02-28")["rows"]["inserted"] == 5
