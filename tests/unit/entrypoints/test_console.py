"""What the command line prints, on a console of 80 columns."""

from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from domain.models import JobResult
from entrypoints.console import progress_bar, show_debug_lines, show_result

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


def test_progress_is_not_shown_where_there_is_no_terminal(console: Console) -> None:
    with progress_bar(console) as context:
        context.progress(1, 2, "GOOG")
    assert printed(console) == ""


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
