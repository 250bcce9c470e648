"""The state of the table, as values."""

from __future__ import annotations

import io
import json
from datetime import date

import pytest
from rich.console import Console

from entrypoints.console import show_status
from entrypoints.status import SHOWN_SYMBOLS, read_status
from lambda_main import run_context
from pipeline.run import RunContext
from sandbox.server import MarketServer
from tests.conftest import Job

AS_OF = date(2013, 3, 2)


@pytest.fixture
def context(job: Job) -> RunContext:
    """The settings of :func:`job`, and its database with 5 sessions of GOOG, the last one missing."""
    job("initialize", symbols="GOOG", sessions=5, as_of="2013-03-01")
    return run_context(None)


def test_a_strip_shows_stored_and_missing_sessions_oldest_first(context: RunContext) -> None:
    state = read_status(context, ["GOOG"], AS_OF, strip=8)

    (symbol,) = state["symbols"]
    assert state["strip"] == {"first": "2013-02-20", "last": "2013-03-01", "count": 8}
    assert symbol["strip"] == "xx█████x"
    assert (symbol["rows"], symbol["missing"]) == (5, 3)
    assert (symbol["first"], symbol["last"]) == ("2013-02-22", "2013-02-28")
    assert (symbol["covered_from"], symbol["covered_to"]) == ("2013-02-22", "2013-02-28")
    assert json.loads(json.dumps(state)) == state


def test_a_covered_session_without_a_bar_has_its_own_mark(context: RunContext, job: Job) -> None:
    job("initialize", symbols="GOOG,NOBODY", sessions=5, as_of="2013-03-02")

    (symbol,) = read_status(context, ["NOBODY"], AS_OF, strip=5)["symbols"]

    assert symbol["strip"] == "·····"
    assert (symbol["rows"], symbol["first"], symbol["covered_to"]) == (0, None, "2013-03-01")


def test_symbols_with_the_most_missing_sessions_come_first_and_the_rest_is_counted(context: RunContext) -> None:
    others = [f"SYN{number}" for number in range(SHOWN_SYMBOLS)]

    state = read_status(context, ["GOOG", *others], AS_OF)

    assert [symbol["symbol"] for symbol in state["symbols"]] == others
    assert state["more_symbols"] == 1


def test_it_plans_the_next_update_and_lists_the_last_runs_without_a_call(
    context: RunContext, market: MarketServer
) -> None:
    market.reset_calls()

    state = read_status(context, ["GOOG"], AS_OF)

    assert state["next_run"]["calls"] == len(state["next_run"]["plan"]) == 1
    assert [(run["job_type"], run["status"], run["inserted"]) for run in state["runs"]] == [("initialize", "ok", 5)]
    assert market.calls == {}


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

    assert before["symbols"][0]["read_again"] == before["next_run"]["read_again"]["count"] == 3
    assert (before["symbols"][0]["oldest_reading"], before["changes"]) == ("2013-02-28", [])
    (symbol,) = after["symbols"]
    assert (symbol["read_again"], symbol["rejected"]) == (0, 1)
    assert {(change["session"], change["cause"]) for change in after["changes"]} == {
        ("2013-02-27", "withdrawn"),
        ("2013-02-28", "corrected"),
    }
    corrected = next(change for change in after["changes"] if change["cause"] == "corrected")
    assert corrected["as_of"] == "2013-03-02"
    assert (corrected["old"]["close"], corrected["new"]["close"]) == (801.2, 805)
    assert json.loads(json.dumps(after)) == after
    screen = Console(file=io.StringIO(), width=80, highlight=False)
    show_status(screen, after)
    assert isinstance(screen.file, io.StringIO)
    assert "GOOG 2013-02-27 withdrawn as of 2013-03-02: close 799.78 → –" in screen.file.getvalue()
    assert "1 rejected bar of these symbols in rejected_bars." in screen.file.getvalue()
