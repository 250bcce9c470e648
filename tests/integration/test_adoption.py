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
import main
import utils
from config import Settings, load_settings
from domain.clock import Deadline, SystemClock
from domain.errors import DataError
from domain.models import Request
from entrypoints.status import read_status
from pipeline.context import RunContext
from pipeline.run import Run, journaled
from sandbox.server import MarketServer
from storage import adoption
from tests.conftest import SYMBOLS, Job
from tests.support import tables
from tests.support.tables import rows, scalar, stock_data

pytestmark = pytest.mark.in_turn

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
SQLITE_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
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
    ({"date": "TEXT"}, ["'2013-02-20T05:00:00Z'", "'20130221'"]),
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
@pytest.mark.parametrize("bad", ["'yesterday'", "20131345", "20130220.5", "x'00'", "'02/20/2013'", "1e30"])
def test_a_date_that_cannot_be_read_is_refused_with_the_query_that_shows_it(job: Job, engine: Engine, bad: str) -> None:
    create(engine, insert("'2013-02-20'", bad))
    message = refusal(job, engine)
    assert "1 dates that are not text" in message
    ((shown, *_),) = rows(engine, message.partition("shown by: ")[2])
    assert shown == scalar(engine, "SELECT date FROM stock_data WHERE date IS NOT '2013-02-20'")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("kind", "bad", "said"),
    [
        ("TEXT", "'first of May'", '"first of May"'),
        ("TEXT", "'2013-02-30'", '"2013-02-30"'),
        ("TEXT", "''", '""'),
        ("BIGINT", "20131345", "20131345"),
        ("BIGINT", "9223372036854775807", "out of range"),
    ],
)
def test_a_date_that_cannot_be_read_is_refused_with_the_servers_reason(
    job: Job, engine: Engine, kind: str, bad: str, said: str
) -> None:
    create(engine, insert(bad), date=kind)
    message = refusal(job, engine)
    assert f"date is {kind}" in message
    assert said in message


UNCOMMON = [
    ("postgresql", {"date": "DOUBLE PRECISION"}, "1361336400.5"),
    ("postgresql", {"date": "TIME"}, "'05:00'"),
    ("postgresql", {"volume": "MONEY"}, "'2013-02-20'"),
    ("sqlite", {"close": "TEXT"}, "'2013-02-20'"),
    ("sqlite", {"rolling_avg": "NUMERIC NOT NULL DEFAULT 1"}, "'2013-02-20'"),
]


@pytest.mark.parametrize(("database_url", "changed", "moment"), UNCOMMON, ids=str, indirect=["database_url"])
def test_a_table_of_uncommon_types_is_to_be_renamed(
    job: Job, engine: Engine, changed: dict[str, str], moment: str
) -> None:
    create(engine, insert(moment).replace("500)", "'500')"), **changed)

    mend(job, engine)

    assert scalar(engine, "SELECT count(*) FROM stock_data_before") == 1


IMPOSSIBLE_DATES = {
    "sqlite": ["'2013-02-30'", "'2013-13-01 00:00:00'", "'garbage'", "''", "x'00ff'", "1e300", "'0000-00-00'"],
    "postgresql": ["'infinity'", "'-infinity'", "'0044-03-15 BC'", "'20130-01-01'", "'290000-12-31 23:59:59.999999'"],
}


def test_no_date_of_an_existing_table_is_more_than_a_line(
    job: Job, engine: Engine, recwarn: pytest.WarningsRecorder
) -> None:
    for moment in IMPOSSIBLE_DATES[engine.dialect.name]:
        create(engine, insert(moment))
        if engine.dialect.name == "sqlite":
            assert "has 1 dates that are not text such as 2013-03-01 00:00:00" in refusal(job, engine)
            execute(engine, "DELETE FROM stock_data")
        loaded = job("initialize", as_of="2013-03-01")
        assert loaded["rows"]["inserted"] == 350
        if engine.dialect.name == "postgresql":
            assert "is not a session of the exchange up to today" in loaded["warnings"][0]
            tables.clear(engine)
        else:
            execute(engine, *(f"DROP TABLE {name}" for (name,) in rows(engine, SQLITE_TABLES)))
    assert [str(warning.message) for warning in recwarn if "BC" in str(warning.message)] == []


@pytest.mark.parametrize("command", ["status", "weekly_report --dry-run", "export --output -"])
def test_a_date_that_was_put_in_later_is_one_line(
    command: str, job: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job("initialize", as_of="2013-03-02", symbols="IBM")
    moment = "'2013-02-27 25:61'" if engine.dialect.name == "sqlite" else "'2013-02-27 23:59:59.999999'"
    if command == "status":
        moment = "'soon'" if engine.dialect.name == "sqlite" else "'infinity'"
    execute(engine, insert(moment).replace("GE", "IBM"))
    monkeypatch.setattr("sys.argv", ["main.py", *command.split(), "--symbols", "IBM"])

    with monkeypatch.context() as at:
        at.setattr("lambda_main.today", lambda _: date(2013, 3, 2))
        at.setattr("domain.calendar.today", lambda _: date(2013, 3, 2))
        assert main.main() == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: stock_data holds a (date|value) that no run stores: ", line)


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
    names = ("coverage", "job_runs", "splits", "bar_revisions", "loads", "commits", "suspects", "rejected_bars")
    execute(engine, *(f"DROP TABLE {name}" for name in (*names, "sent_reports")))


TIMED = ["'2013-02-20 05:00:00'", "'2013-02-21 05:00:00'", "'2013-02-21 21:00:00'"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_table_whose_dates_carry_a_time_is_rewritten_with_its_rights_and_extra_columns(
    job: Job, engine: Engine
) -> None:
    create(engine, insert(*TIMED), "ALTER TABLE stock_data ADD COLUMN note TEXT DEFAULT 'mine'")
    execute(engine, "GRANT SELECT ON stock_data TO pg_monitor")
    identity = "SELECT oid, relacl::text, relfilenode FROM pg_class WHERE relname = 'stock_data'"
    ((oid, rights, file),) = rows(engine, identity)

    job("initialize", as_of="2013-03-01")

    assert rows(engine, identity)[0][:2] == (oid, rights)
    assert rows(engine, identity)[0][2] != file
    stored = stock_data(engine, "WHERE symbol = 'GE'")
    assert [row.session for row in stored] == [date(2013, 2, 20), date(2013, 2, 21)]
    assert scalar(engine, "SELECT count(*) FROM stock_data WHERE symbol = 'GE' AND note = 'mine'") == 2
    assert scalar(engine, "SELECT date::text FROM rejected_bars") == "2013-02-21"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_table_that_a_view_reads_is_adopted_in_place(job: Job, engine: Engine) -> None:
    create(engine, insert(*TIMED), "CREATE VIEW days AS SELECT DISTINCT date FROM stock_data")
    job("initialize", as_of="2013-03-01", symbols="IBM")
    assert [row.session for row in stock_data(engine, "WHERE symbol = 'GE'")] == [date(2013, 2, 20), date(2013, 2, 21)]
    assert scalar(engine, "SELECT count(*) FROM days") == 70


def test_a_table_without_times_of_day_is_not_written(job: Job, engine: Engine) -> None:
    create(engine, insert("'2013-02-20 00:00:00'"), insert("'2013-02-19 00:00:00'").replace("GE", "GM"))
    place = "xmin::text" if engine.dialect.name == "postgresql" else "rowid"
    before = rows(engine, f"SELECT {place}, symbol FROM stock_data ORDER BY symbol")
    job("initialize", as_of="2013-03-01")
    found = rows(engine, f"SELECT {place}, symbol FROM stock_data WHERE symbol IN ('GE', 'GM') ORDER BY symbol")
    assert found == before


SLOW_TRIGGER = """
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(10); RETURN NULL; END';
CREATE TRIGGER wait BEFORE DELETE ON stock_data FOR EACH STATEMENT EXECUTE FUNCTION wait()
"""


def adopt_until(engine: Engine, market: MarketServer, deadline: Deadline) -> None:
    """Begin a run, which adopts the table."""
    settings = Settings(polygon_base_url=market.url, polygon_api_key=market.key)
    with journaled(Run(Request("initialize", SYMBOLS, date(2013, 3, 1)), RunContext(settings, engine, deadline))):
        pass


def test_an_adoption_that_does_not_end_in_time_leaves_the_table(engine: Engine, market: MarketServer) -> None:
    create(engine, insert(*TIMED))
    some = "WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < 20000)"
    execute(
        engine,
        f"INSERT INTO stock_data (date, symbol, close) {some} SELECT '2013-02-20 05:00:00', 'S' || k, 1 FROM n",
        *([SLOW_TRIGGER] if engine.dialect.name == "postgresql" else []),
    )
    before = everything(engine)

    with pytest.raises(DataError, match=r"^the existing table stock_data cannot be adopted in 0 s and stays"):
        adopt_until(engine, market, Deadline(0.01, SystemClock(), reserve=0))

    assert everything(engine) == before


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_table_that_a_view_reads_is_adopted_with_a_deadline_too(engine: Engine, market: MarketServer) -> None:
    create(engine, insert(*TIMED), "CREATE VIEW days AS SELECT DISTINCT date FROM stock_data")
    adopt_until(engine, market, Deadline(60, SystemClock(), reserve=0))
    assert [row.session for row in stock_data(engine)] == [date(2013, 2, 20), date(2013, 2, 21)]


def interrupt(job: Job, monkeypatch: pytest.MonkeyPatch, job_type: str, as_of: str) -> None:
    """Interrupt a job after the tables are ready, in the same transaction."""

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database, "start_run", die)
        with pytest.raises(KeyboardInterrupt):
            job(job_type, as_of=as_of)


def test_an_interrupted_adoption_leaves_the_table(job: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    create(engine, insert(*TIMED))
    before = everything(engine)
    interrupt(job, monkeypatch, "initialize", "2013-03-01")
    assert everything(engine) == before
    assert job("initialize", as_of="2013-03-01")["rows"]["inserted"] == 350


def test_metrics_are_computed_again_piece_by_piece(job: Job, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history that was stored twice, at midnight and at 05:00, whose metrics are therefore all wrong."""
    job("initialize", as_of="2013-03-01")
    stored = stock_data(engine)
    drop_ours(engine)
    later = "replace(date, '00:00:00', '05:00:00')" if engine.dialect.name == "sqlite" else "date + interval '5 hours'"
    copied = "symbol, open, high, low, close, volume, volatility"
    execute(
        engine,
        f"INSERT INTO stock_data (date, {copied}) SELECT {later}, {copied} FROM stock_data",
        "UPDATE stock_data SET daily_pct_change = 0, rolling_avg = close",
    )
    monkeypatch.setattr(adoption, "PIECE", 100)

    job("daily_update", as_of="2012-12-01", symbols="IBM")

    assert scalar(engine, "SELECT count(*) FROM rejected_bars") == 350
    adopted = stock_data(engine, "WHERE symbol <> 'IBM'")
    stored = [row for row in stored if row.symbol != "IBM"]
    first = stored[0].session  # no row was moved before it
    assert [row for row in adopted if row.session > first] == [row for row in stored if row.session > first]


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
    interrupt(job, monkeypatch, "daily_update", "2013-02-28")
    assert dump_of(earlier) == before
    assert job("daily_update", as_of="2013-02-28")["rows"]["inserted"] == 5
