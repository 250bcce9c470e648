"""The state of the table, as values and on a terminal."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_property
from hypothesis import strategies as st
from rich.console import Console

from config import settings
from domain.calendar import count_sessions, last_sessions, previous_session, sessions_between
from domain.errors import DataError
from domain.models import SessionSpan, Split
from entrypoints.status import TableState, read_demo_event, read_status, read_strips
from entrypoints.status_view import SHOWN_SYMBOLS, show_status, strip_width
from lambda_main import handler, run_context
from pipeline.context import RunContext
from sandbox.history import PriceHistory
from sandbox.server import MarketServer
from storage.engine import open_engine
from tests.conftest import Job

AS_OF = date(2013, 3, 2)


@pytest.fixture
def context(job: Job) -> RunContext:
    """The settings of :func:`job`, and its database with 5 sessions of GOOG, the last one missing."""
    job("initialize", symbols="GOOG", sessions=5, as_of="2013-03-01")
    return run_context(None)


def printed(state: TableState, context: RunContext, width: int) -> str:
    """What a terminal of this width shows."""
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    shown = [symbol["symbol"] for symbol in state["symbols"]]
    show_status(screen, state, read_strips(context, state, shown, strip_width(screen, state["symbols"])))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def pairs(state: TableState, name: Literal["missing_sessions", "read_again_sessions"]) -> set[tuple[str, date]]:
    """The symbols and sessions that the spans of this name stand for."""

    def days(span: SessionSpan) -> list[date]:
        return sessions_between(date.fromisoformat(span["first"]), date.fromisoformat(span["last"]))

    return {(symbol["symbol"], day) for symbol in state["symbols"] for span in symbol[name] for day in days(span)}


def test_missing_counts_what_was_never_read_since_the_first_session_that_was(context: RunContext) -> None:
    state = read_status(context, ["GOOG", "NVDA"], AS_OF)

    other, google = state["symbols"]
    assert state["tracked"] == {"first": "2013-02-22", "last": "2013-03-01", "count": 6}
    assert google["missing_sessions"] == [{"first": "2013-03-01", "last": "2013-03-01", "count": 1}]
    assert (other["symbol"], other["missing"], other["rows"], other["read_to"]) == ("NVDA", 6, 0, None)
    assert (google["rows"], google["first"], google["last"]) == (5, "2013-02-22", "2013-02-28")
    assert (state["missing"], state["complete"]) == (7, False)
    assert json.loads(json.dumps(state)) == state


def test_a_table_that_was_updated_is_complete_and_has_nothing_to_read_again(context: RunContext, job: Job) -> None:
    job("daily_update", symbols="GOOG", as_of="2013-03-02")

    state = read_status(context, ["GOOG"], AS_OF)

    assert (state["complete"], state["missing"], state["read_again"], state["calls"]) == (True, 0, 0, 0)


def test_a_database_without_tables_lacks_what_an_update_would_load(job: Job) -> None:
    state = read_status(run_context(None), ["GOOG"], AS_OF)

    assert (state["missing"], state["complete"], state["stored"]["rows"]) == (70, False, 0)
    assert "Nothing is stored yet." in printed(state, run_context(None), 80)


def test_the_values_do_not_depend_on_who_looks_and_the_strip_is_the_end_of_them(context: RunContext) -> None:
    state = read_status(context, ["GOOG"], AS_OF)

    strips = read_strips(context, state, ["GOOG"], 10)
    assert strips.by_symbol == {"GOOG": "    █████x"}
    assert strips.sessions[-1] == date(2013, 3, 1)
    assert "last 26 to 2013-03-01" in printed(state, context, 80)
    assert "last 70 to 2013-03-01" in printed(state, context, 200)
    assert "last" not in printed(state, context, 50).splitlines()[6]  # there is no room for one


def test_a_session_that_was_read_without_a_bar_has_its_own_mark(context: RunContext, job: Job) -> None:
    job("initialize", symbols="GOOG,NOBODY", sessions=5, as_of="2013-03-02")

    state = read_status(context, ["NOBODY"], AS_OF)

    assert read_strips(context, state, ["NOBODY"], 10).by_symbol == {"NOBODY": "     ·····"}
    assert (state["symbols"][0]["rows"], state["symbols"][0]["read_to"]) == (0, "2013-03-01")


def test_all_symbols_count_and_a_terminal_shows_those_with_the_most_missing_sessions(context: RunContext) -> None:
    others = [f"SYN{number}" for number in range(SHOWN_SYMBOLS)]

    state = read_status(context, ["GOOG", *others], AS_OF)

    assert [symbol["symbol"] for symbol in state["symbols"]] == [*others, "GOOG"]
    screen = printed(state, context, 80)
    assert "and 1 more symbols" in screen
    assert "SYN29" in screen


def test_other_stored_symbols_are_named(context: RunContext, job: Job) -> None:
    job("initialize", symbols="IBM,MSFT", sessions=1, as_of="2013-03-02")

    state = read_status(context, ["GOOG"], AS_OF)

    assert state["other_symbols"] == ["IBM", "MSFT"]
    assert state["stored"] == {"rows": 7, "first": "2013-02-22", "last": "2013-03-01"}
    assert "Also stored: IBM, MSFT." in printed(state, context, 80)


def test_the_whole_market_is_one_line_with_all_rows(context: RunContext, job: Job) -> None:
    job("initialize", symbols="*", sessions=3, as_of="2013-03-02")

    state = read_status(context, ["*"], AS_OF)

    (market,) = state["symbols"]
    assert (market["symbol"], market["rows"]) == ("*", state["stored"]["rows"])
    assert (state["complete"], state["tracked"]["count"], state["other_symbols"]) == (True, 3, [])


def test_it_plans_the_next_update_and_lists_the_last_runs_without_a_call(
    context: RunContext, market: MarketServer
) -> None:
    market.reset_calls()

    state = read_status(context, ["GOOG"], AS_OF)

    assert state["calls"] == len(state["plan"]) == 1
    assert [(run["job_type"], run["status"], run["inserted"]) for run in state["runs"]] == [("initialize", "ok", 5)]
    assert market.calls == {}


def test_the_error_of_a_run_is_shown_whole(context: RunContext) -> None:
    state = read_status(context, ["GOOG"], AS_OF)
    state["runs"][0] |= {"status": "failed", "error": "the provider said " + "no " * 100 + "in the end"}

    assert "in the end" in printed(state, context, 80)
    assert all(len(line) <= 80 for line in printed(state, context, 80).splitlines())


def test_it_counts_what_is_read_again_and_shows_the_last_changes(
    context: RunContext, job: Job, market: MarketServer
) -> None:
    before = read_status(context, ["GOOG"], AS_OF)
    day = date(2013, 2, 28)
    market.history.put_bar("GOOG", day, open=800, high=810, low=790, close=805, volume=1)
    market.history.put_bar("GOOG", date(2013, 3, 1), open=800, high=1, low=790, close=805, volume=1)
    market.history.remove_bar("GOOG", date(2013, 2, 27))
    job("daily_update", symbols="GOOG", as_of="2013-03-02")

    after = read_status(context, ["GOOG"], AS_OF)

    assert (before["read_again"], before["oldest_reading"], before["changes"]) == (3, "2013-02-28", [])
    (symbol,) = after["symbols"]
    assert (symbol["read_again"], symbol["rejected"]) == (0, 1)
    assert {(change["session"], change["cause"]) for change in after["changes"]} == {
        ("2013-02-27", "withdrawn"),
        ("2013-02-28", "corrected"),
    }
    corrected = next(change for change in after["changes"] if change["cause"] == "corrected")
    assert corrected["as_of"] == "2013-03-02"
    assert (corrected["bars"], corrected["old"]["close"], corrected["new"]["close"]) == (1, 801.2, 805)
    assert json.loads(json.dumps(after)) == after
    assert "GOOG 2013-02-27 withdrawn as of 2013-03-02: close 799.78 → –" in printed(after, context, 80)
    assert [(bar["symbol"], bar["session"]) for bar in after["rejected"]] == [("GOOG", "2013-03-01")]
    assert "GOOG 2013-03-01: " in printed(after, context, 80)


@pytest.mark.parametrize("width", [30, 40, 56, 80])
def test_columns_give_way_where_the_terminal_is_narrow(context: RunContext, width: int) -> None:
    lines = printed(read_status(context, ["GOOG"], AS_OF), context, width).splitlines()

    header = next(line for line in lines if line.startswith("symbol "))
    assert "…" not in header + lines[lines.index(header) + 1]
    assert "missing" in header
    assert ("first" in header) == (width >= 56)


def test_a_restated_history_is_one_change_beside_the_others(
    context: RunContext, job: Job, market: MarketServer
) -> None:
    market.history.put_bar("GOOG", date(2013, 2, 28), open=800, high=810, low=790, close=805, volume=1)
    job("daily_update", symbols="GOOG", as_of="2013-03-01", force=True)
    market.history.add_split(Split("GOOG", date(2013, 3, 1), split_from=1, split_to=2))
    job("daily_update", symbols="GOOG", as_of="2013-03-02")

    state = read_status(context, ["GOOG"], AS_OF)

    changes = [(each["session"], each["cause"], each["bars"], each["new"]["close"]) for each in state["changes"]]
    assert changes == [("2013-02-28", "restated", 5, 402.5), ("2013-02-28", "corrected", 1, 805)]
    assert "GOOG 2013-02-28 restated with 4 earlier bars as of 2013-03-02: close 805 → 402.5" in printed(
        state, context, 120
    )


def test_a_database_of_recorded_prices_is_shown_as_of_its_own_date(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_demo_event(context) == {}  # these settings are the sandbox's own

    monkeypatch.delenv("POLYGON_BASE_URL")
    settings.cache_clear()

    assert read_demo_event(run_context(None)) == {"as_of": "2013-03-01", "symbols": "GOOG"}
    with pytest.raises(DataError, match="add --sandbox"):
        handler({"job_type": "weekly_report"})
    assert read_demo_event(run_context(None)) == {"as_of": "2013-03-01", "symbols": "GOOG"}


def test_a_table_that_no_run_has_adopted_yet_is_counted(job: Job, sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "stock_tracker.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE stock_data (date TIMESTAMP, symbol VARCHAR(10), close NUMERIC)")
        connection.execute("INSERT INTO stock_data VALUES ('2013-02-28 00:00:00', 'IBM', 200.83)")
    connection.close()

    state = read_status(run_context(None), ["IBM"], AS_OF)

    if open_engine(settings().database_url.get_secret_value()).dialect.name == "sqlite":
        assert state["stored"] == {"rows": 1, "first": "2013-02-28", "last": "2013-02-28"}
        assert "the first one checks its rows" in state["notes"][0]
    assert not state["complete"]


def test_it_works_on_a_file_that_cannot_be_written(
    job: Job, tmp_path: Path, request: pytest.FixtureRequest, context: RunContext
) -> None:
    path = tmp_path / "stock_tracker.db"
    if not path.exists():
        pytest.skip("a matter of SQLite")
    open_engine(settings().database_url.get_secret_value()).dispose()
    path.chmod(stat.S_IRUSR)
    request.addfinalizer(lambda: path.chmod(stat.S_IRUSR | stat.S_IWUSR))

    assert read_status(context, ["GOOG"], AS_OF)["stored"]["rows"] == 5


@st.composite
def loads(draw: st.DrawFn) -> list[dict[str, str]]:
    """Payloads of a few loads of some symbols, each over some sessions, as of some morning."""
    first, payloads = date(2013, 1, 7), []
    for _ in range(draw(st.integers(1, 4))):
        start = first + timedelta(days=draw(st.integers(0, 50)))
        as_of = start + timedelta(days=draw(st.integers(3, 12)))
        symbols = draw(st.sampled_from(["IBM", "GOOG", "IBM,GOOG", "*"]))
        payloads.append({"symbols": symbols, "start": str(start), "end": str(as_of), "as_of": str(as_of)})
    return payloads


@pytest.fixture(scope="module")
def recorded_market() -> Iterator[MarketServer]:
    """The recorded market for all examples of a property."""
    with MarketServer(PriceHistory.recorded(), today=AS_OF) as market:
        yield market


@pytest.fixture
def database_file(recorded_market: MarketServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a database that the settings name, with the recorded market."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/stock_tracker.db")
    monkeypatch.setenv("POLYGON_BASE_URL", recorded_market.url)
    monkeypatch.setenv("POLYGON_API_KEY", recorded_market.key)
    monkeypatch.setenv("POLYGON_CALLS_PER_MINUTE", "0")
    settings.cache_clear()
    return tmp_path / "stock_tracker.db"


def read_coverage(path: Path) -> list[tuple[str, date, date, date]]:
    """The symbol, first and last session, and ``seen_to`` of each reading in the file."""
    columns = "symbol, first_session, last_session, seen_to"
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(f"SELECT {columns} FROM coverage").fetchall()
    return [(symbol, *map(date.fromisoformat, days)) for symbol, *days in rows]


@settings_of_property(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(loads=loads(), as_of=st.dates(date(2013, 2, 10), AS_OF))
def test_missing_and_read_again_are_what_the_next_update_reads(
    loads: list[dict[str, str]], as_of: date, database_file: Path
) -> None:
    open_engine(f"sqlite:///{database_file}").dispose()
    for file in database_file.parent.glob("stock_tracker.db*"):
        file.unlink()
    for load in loads:
        handler({"job_type": "initialize", **load})
    symbols, latest = ["IBM", "GOOG", "MSFT"], previous_session(as_of)
    readings = [reading for reading in read_coverage(database_file) if reading[0] in (*symbols, "*")]
    since = min((first for _, first, _, _ in readings if first <= latest), default=None)
    missing, again = set(), set()
    for symbol in symbols:
        for day in sessions_between(since, latest) if since else last_sessions(70, as_of):
            seen = [
                seen_to for name, first, last, seen_to in readings if name in (symbol, "*") and first <= day <= last
            ]
            if not seen:
                missing.add((symbol, day))
            elif max(seen) < latest and count_sessions(day + timedelta(days=1), max(seen)) < 3:
                again.add((symbol, day))

    before = read_status(run_context(None), symbols, as_of)
    handler({"job_type": "daily_update", "symbols": symbols, "as_of": str(as_of)})
    after = read_status(run_context(None), symbols, as_of)

    assert pairs(before, "missing_sessions") == missing
    assert pairs(before, "read_again_sessions") == again
    assert (before["missing"], before["read_again"]) == (len(missing), len(again))
    assert (after["complete"], after["missing"], after["read_again"]) == (True, 0, 0)
