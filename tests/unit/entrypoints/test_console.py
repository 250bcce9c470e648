"""What the command line prints, on a console of 80 columns."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from config import settings
from domain.clock import Deadline
from domain.models import JobResult, SessionSpan
from entrypoints.console import progress_bar, show_debug_lines, show_result
from tests.support.clocks import FrozenClock

RESULT: JobResult = {
    "status": "ok",
    "job_type": "daily_update",
    "run_id": "1",
    "as_of": "2013-03-02",
    "symbols": ["GOOG"],
    "sessions": {"first": "2013-03-01", "last": "2013-03-01", "count": 1},
    "api_calls": 1,
    "rows": {"inserted": 1_000, "updated": 0},
    "warnings": [],
    "elapsed_seconds": 0.25,
}


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False, soft_wrap=True)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_result_is_one_line(console: Console) -> None:
    show_result(console, RESULT)
    assert printed(console).split(maxsplit=2)[:2] == ["daily_update", "ok"]
    assert printed(console).endswith("1 session, 2013-03-01 · rows: 1,000 inserted · 1 API call · 0.2 s\n")


def test_a_plan_and_warnings_follow_it(console: Console) -> None:
    show_result(console, {**RESULT, "calls": 2, "plan": ["[GOOG]", "IBM"], "warnings": ["[late]"]})
    first, *others = printed(console).splitlines()
    assert "would make 2 calls" in first
    assert others == ["  would ask for [GOOG]", "  would ask for IBM", "  warning: [late]"], (
        "no markup is read from data"
    )


def test_corrected_rows_are_shown_as_a_part_of_those_updated(console: Console) -> None:
    rows = {"inserted": 5, "updated": 1_004, "unchanged": 15, "rejected": 0, "corrected": 2, "withdrawn": 1}
    show_result(console, {**RESULT, "rows": rows})
    assert "rows: 5 inserted, 1,004 updated (2 corrected), 15 unchanged, 1 withdrawn" in printed(console)


def test_a_plan_says_what_is_read_again_and_how_old_the_oldest_reading_is(console: Console) -> None:
    again: SessionSpan = {"first": "2013-02-26", "last": "2013-02-28", "count": 3}
    show_result(console, {**RESULT, "calls": 1, "plan": ["IBM"], "read_again": again, "oldest_reading": "2013-02-28"})
    assert printed(console).splitlines()[1:] == [
        "  would ask for IBM",
        "  of this, read again: 3 sessions, 2013-02-26 to 2013-02-28",
        "  the oldest reading is from when 2013-02-28 was the latest session",
    ]


def test_progress_is_not_shown_where_there_is_no_terminal(console: Console) -> None:
    with progress_bar(console) as context:
        context.progress(1, 2, "GOOG")
    assert printed(console) == ""


@pytest.mark.parametrize(("terminal", "quiet"), [(True, False), (True, True), (False, False)])
def test_a_wait_says_on_a_terminal_what_for_and_how_long_still(
    terminal: bool, quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrypoints.console.PROGRESS_DELAY", 0.0)
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    deadline = Deadline(None, FrozenClock())
    with progress_bar(console, quiet=quiet) as context:
        deadline.on_wait.append(context.waiting)
        deadline.sleep(42, "the plan's limit of 5 calls per minute")
    shown = "waiting 1 s: the plan's limit of 5 calls per minute" in printed(console)
    assert shown == (terminal and not quiet)


def test_debug_lines_hold_no_secret(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_API_KEY", "hunter2-do-not-tell")
    settings()
    package = logging.getLogger("stock_tracker")
    before = package.handlers, package.level
    try:
        show_debug_lines()
        raise ValueError("no hunter2-do-not-tell for you")
    except ValueError:
        logging.getLogger("stock_tracker.test").exception("says %s", "hunter2-do-not-tell")
    finally:
        package.handlers = before[0]
        package.setLevel(before[1])
    errors = capsys.readouterr().err
    assert "says ***" in errors
    assert "ValueError: no *** for you" in errors


def test_debug_lines_go_to_standard_error_once(capsys: pytest.CaptureFixture[str]) -> None:
    package = logging.getLogger("stock_tracker")
    before = package.handlers, package.level
    try:
        show_debug_lines()
        show_debug_lines()
        logging.getLogger("stock_tracker.storage.engine").debug("a step")
    finally:
        package.handlers = before[0]
        package.setLevel(before[1])
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.count("a step\n") == 1
