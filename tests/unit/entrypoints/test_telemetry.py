"""The log and the metrics of an invocation, read as CloudWatch would read them."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

import pytest
from sqlalchemy import make_url

from config import settings
from database import replace_coverage
from domain.clock import SystemClock
from domain.coverage import Reading, Readings
from domain.errors import StockTrackerError
from entrypoints.telemetry import SERVICE, SESSIONS_PER_YEAR, SHOWN_EVENT, sessions_behind
from lambda_main import handler
from sandbox.server import Fault, MarketServer
from storage.engine import open_engine, transaction
from storage.migration import ensure_schema
from tests.support import cloudwatch
from tests.support.mail_server import Box, smtp_server
from tests.unit.test_template_alarms import STALE, DailyUpdate, Simulation

ROOT = Path(__file__).parents[3]
KEY = "hunter2-key"
RUNS = {"RunSucceeded", "RunFailed", "RunPartial"}

Lines = Callable[..., list[str]]


class Context:
    """The context that Lambda gives."""

    aws_request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    function_name = SERVICE

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


# The argument is an event.
INVOKE = """
import json, sys
from lambda_main import handler

class Context:
    aws_request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    def get_remaining_time_in_millis(self):
        return 300_000

handler(json.loads(sys.argv[1]), Context())
"""


def redirect_log(stream: TextIO | None) -> None:
    """Point the handler, which lives as long as the process, to the standard output of this test."""
    for log_handler in logging.getLogger(SERVICE).handlers:
        assert isinstance(log_handler, logging.StreamHandler)
        log_handler.stream = stream


@pytest.fixture
def environment(market: MarketServer, sqlite_url: str) -> dict[str, str]:
    """The variables of a deployed function, with the sandbox as provider."""
    market.key = KEY
    return {
        "DATABASE_URL": sqlite_url,
        "POLYGON_BASE_URL": market.url,
        "POLYGON_API_KEY": KEY,
        "POLYGON_CALLS_PER_MINUTE": "0",
        "SYMBOLS": "AAPL,FB,GOOG,IBM,MSFT",
        "POWERTOOLS_SERVICE_NAME": "another-name",
    }


@pytest.fixture
def lines(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Lines]:
    """Handle events in this process, as a warm container does, and return the lines that it logged."""
    package = logging.getLogger("stock_tracker")
    before = package.handlers, package.level, package.propagate

    def run(*events: dict[str, Any], stack: str = SERVICE, **variables: str) -> list[str]:
        redirect_log(sys.stdout)
        with monkeypatch.context() as patch:
            for name, value in {**environment, **variables}.items():
                patch.setenv(name, value)
            settings.cache_clear()
            for event in events:
                context = Context()
                context.function_name = stack
                try:
                    handler(event, context)
                except StockTrackerError:
                    continue
        settings.cache_clear()
        output, errors = capsys.readouterr()
        assert KEY not in output + errors
        return output.splitlines()

    yield run
    redirect_log(sys.__stdout__)
    package.handlers, level, package.propagate = before
    package.setLevel(level)


INITIALIZE = {"job_type": "initialize", "as_of": "2013-03-01"}
UPDATE = {"job_type": "daily_update", "as_of": "2013-03-02"}


def by_job(line: str, job: str) -> dict[str, float]:
    """The metrics of a line by name; each counts under its job and over all jobs alike."""
    metrics = cloudwatch.metrics(json.loads(line))
    over_all = {name: value for (name, dimensions), value in metrics.items() if not dimensions}
    of_job = {name: value for (name, dimensions), value in metrics.items() if dimensions == (("job", job),)}
    assert over_all == of_job
    return {name: value for name, (value, _) in of_job.items()}


def test_a_run_logs_its_start_its_metrics_and_last_its_result(environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", INVOKE, json.dumps(INITIALIZE)]  # the peak of memory belongs to a process
    done = subprocess.run(command, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    start, blob, result = done.stdout.splitlines()

    assert json.loads(start)["message"] == "initialize starts"
    assert json.loads(start)["symbols"] == {"count": 5, "first": ["AAPL", "FB", "GOOG", "IBM", "MSFT"]}
    measured = by_job(blob, "initialize")
    assert measured.pop("DurationSeconds") > 0
    assert 50 < measured.pop("PeakMemoryMB") < 256
    assert measured == {
        "RunSucceeded": 1,
        "SessionsLoaded": 70,
        "RowsInserted": 350,
        "RowsUpdated": 0,
        "RowsRejected": 0,
        "RowsCorrected": 0,
        "RowsWithdrawn": 0,
        "ApiCalls": 5,
    }
    last = json.loads(result)
    assert (last["level"], last["message"], last["job"]) == ("INFO", "initialize ok", "initialize")
    assert last["result"]["rows"]["inserted"] == 350
    assert last["run_id"] == last["result"]["run_id"] == json.loads(start)["run_id"] == json.loads(blob)["run_id"]


def test_a_daily_update_measures_how_fresh_the_table_is(lines: Lines) -> None:
    *_, blob, result = lines(INITIALIZE, UPDATE)
    assert by_job(blob, "daily_update")["FreshnessSessions"] == 0
    assert json.loads(result)["message"] == "daily_update ok"


def test_the_table_grows_stale_while_the_provider_is_silent(lines: Lines, market: MarketServer) -> None:
    """Runs that got nothing succeed, but their freshness says how many sessions they lack."""
    market.today = date(2013, 2, 23)
    lines({**INITIALIZE, "as_of": "2013-02-23"})
    mornings = [f"2013-02-{day}" for day in range(26, 29)] + ["2013-03-01", "2013-03-02"]

    measured = [by_job(lines({**UPDATE, "as_of": morning})[-2], "daily_update") for morning in mornings]
    market.today = date(2013, 3, 2)
    healed = by_job(lines(UPDATE)[-2], "daily_update")

    assert [run["FreshnessSessions"] for run in measured] == [1, 2, 3, 4, 5]
    assert all(run["RunSucceeded"] == 1 and run["RowsInserted"] == 0 for run in measured)
    assert (healed["FreshnessSessions"], healed["RowsInserted"]) == (0, 25)

    tuesday = datetime(2013, 2, 26, 13, tzinfo=UTC)
    updates = [
        (tuesday - timedelta(days=3), 0),  # initialize emits none; Saturday's daily_update left the prices up to date
        *((tuesday + timedelta(days=n), int(run["FreshnessSessions"])) for n, run in enumerate(measured)),
    ]
    runs = [DailyUpdate(ended, behind) for ended, behind in updates]
    stale = Simulation(STALE, runs, datetime(2013, 2, 23, tzinfo=UTC), datetime(2013, 3, 3, tzinfo=UTC))
    assert stale.on[0] == datetime(2013, 2, 26, 18, tzinfo=UTC), "76 hours after the last fresh prices"
    assert stale.on[-1] == stale.end


def test_corrected_and_withdrawn_rows_are_counted(lines: Lines, market: MarketServer) -> None:
    lines(INITIALIZE)
    day = date(2013, 2, 28)
    market.history.put_bar("IBM", day, open=200, high=202, low=200, close=201, volume=1)
    market.history.remove_bar("FB", day)

    measured = by_job(lines(UPDATE)[-2], "daily_update")

    assert {name: measured[name] for name in ("RowsInserted", "RowsUpdated", "RowsCorrected", "RowsWithdrawn")} == {
        "RowsInserted": 5,
        "RowsUpdated": 1,
        "RowsCorrected": 1,
        "RowsWithdrawn": 1,
    }


def test_recipients_who_lack_the_report_are_counted(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("report.delivery._FIRST_PAUSE", 60.0)  # one attempt per run
    two, three = "two@example.com", "three@example.com"
    replies = {two: ["450 greylisted"] * 9, three: ["550 no such mailbox"]}
    with smtp_server(Box(replies)) as port:
        mail = {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_SECURITY": "none",
            "MAIL_FROM": "me@example.com",
            "MAIL_TO": f"me@example.com,{two},{three}",
            "QUICKCHART_URL": "http://127.0.0.1:9/chart",
        }
        report = {"job_type": "weekly_report", "as_of": "2013-03-02"}
        *_, blob, _ = lines(report, **mail)
        assert by_job(blob, "weekly_report")["RecipientsNotReached"] == 2
        replies.clear()
        *_, blob, result = lines(report, **mail)
    assert by_job(blob, "weekly_report")["RecipientsNotReached"] == 1
    assert json.loads(result)["result"]["refused"] == {three: "550 no such mailbox"}


def test_a_failed_daily_update_measures_how_stale_the_table_is(lines: Lines, market: MarketServer) -> None:
    lines(INITIALIZE)
    market.key = "rotated"
    _, blob, result = lines({**UPDATE, "as_of": "2013-03-02"})

    measured = by_job(blob, "daily_update")
    assert measured.keys() == {"RunFailed", "FreshnessSessions", "DurationSeconds", "PeakMemoryMB"}
    assert measured["FreshnessSessions"] == 1
    last = json.loads(result)
    assert (last["level"], last["error"]) == ("ERROR", "CredentialsError")
    assert last["message"].startswith("the provider refused the key in POLYGON_API_KEY (401, ")
    assert "exception" not in last


def test_a_refused_database_login_is_the_last_line_without_a_freshness(lines: Lines, tcp_url: str) -> None:
    nobody = make_url(tcp_url).set(username="nobody_here").render_as_string(hide_password=False)
    *_, unknown, blob, result = lines(UPDATE, DATABASE_URL=nobody)

    assert json.loads(unknown)["message"].startswith("the freshness is not known: PostgreSQL at ")
    assert by_job(blob, "daily_update").keys() == {"RunFailed", "DurationSeconds", "PeakMemoryMB"}
    assert json.loads(result)["error"] == "CredentialsError"
    assert json.loads(result)["message"].endswith("; check the user and the password in DATABASE_URL")


def test_no_line_holds_a_key_that_the_provider_or_the_event_repeats(lines: Lines, market: MarketServer) -> None:
    said = json.dumps({"status": "ERROR", "error": f"no {KEY} for you"}).encode()
    market.fail_next(Fault(status=404, body=said))

    *_, result = lines({**INITIALIZE, "symbols": ["GOOG"]}, LOG_LEVEL="DEBUG")
    *_, refused = lines({**INITIALIZE, "note": KEY})

    assert "(404, ERROR: no *** for you)" in json.loads(result)["message"]
    assert json.loads(json.loads(refused)["event"])["note"] == "***"


def test_no_line_holds_a_part_of_a_key_in_an_event_that_is_cut(lines: Lines) -> None:
    filler = SHOWN_EVENT - json.dumps({**INITIALIZE, "note": KEY}).index(KEY)
    for shown in range(4, len(KEY)):
        *_, refused = lines({**INITIALIZE, "note": "x" * (filler - shown) + KEY})
        assert "xxx" in refused
        assert KEY[:4] not in refused


def test_no_line_of_metrics_holds_a_password_that_is_taken_for_a_symbol(lines: Lines) -> None:
    secret = "Short-1"
    assert not [
        line for line in lines({**INITIALIZE, "symbols": ["GOOG", secret]}, SMTP_PASSWORD=secret) if secret in line
    ]


def test_a_wait_is_one_line(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "sleep", lambda _, seconds: None)
    logged = [json.loads(line) for line in lines(INITIALIZE, POLYGON_CALLS_PER_MINUTE="4")]
    waits = [line["message"] for line in logged if line.get("message", "").startswith("waiting ")]
    (wait,) = waits
    assert re.fullmatch(
        r"waiting (5\d|60) s: the plan's limit of 4 calls per minute", wait
    )  # counted from the first call


def test_a_payload_without_a_valid_job_counts_as_a_failure_of_an_unknown_job(lines: Lines) -> None:
    blob, result = lines({"job_type": "explode", "note": "x" * 5000})
    assert by_job(blob, "unknown").keys() == {"RunFailed", "DurationSeconds", "PeakMemoryMB"}
    assert json.loads(result)["error"] == "PayloadError"
    assert len(result) < 3000


def test_a_dry_run_emits_no_metrics(lines: Lines) -> None:
    start, result = lines({**UPDATE, "dry_run": True})
    assert json.loads(result)["result"]["status"] == "ok"
    assert "_aws" not in json.loads(start)


def test_each_run_emits_exactly_one_outcome(lines: Lines) -> None:
    emitted = [
        document for document in cloudwatch.documents(lines(INITIALIZE, UPDATE, UPDATE, {})) if "_aws" in document
    ]
    assert [RUNS & document.keys() for document in emitted] == [{"RunSucceeded"}] * 3 + [{"RunFailed"}]


def test_a_long_list_of_symbols_does_not_fill_the_log(lines: Lines) -> None:
    symbols = ["AAPL", *(f"SYN{number:05}" for number in range(3000))]
    logged = lines({**UPDATE, "symbols": symbols}, HISTORY_SESSIONS="1")
    assert json.loads(logged[-1])["result"]["symbols"]["count"] == 3001
    assert max(map(len, logged)) < 5000


def test_the_query_of_the_aws_guide_finds_what_it_names(lines: Lines) -> None:
    section = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8").partition("## What happened last night")[2]
    query = section.partition("```text\n")[2].partition("```")[0]
    named = set(re.findall(r"[a-z_]+(?:\.[a-z_]+)*", query.partition("\n|")[0])) - {"fields", "timestamp"}
    conditions = re.search(r'\| filter ispresent\((\S+)\) or (\w+) = "(\w+)"', query)
    assert conditions is not None

    logged = [
        dict(cloudwatch.fields(each)) for each in cloudwatch.documents(lines(INITIALIZE, UPDATE, {"job_type": "x"}))
    ]
    found = [line for line in logged if conditions[1] in line or line.get(conditions[2]) == conditions[3]]

    assert [line["message"].partition(":")[0] for line in found] == [
        "initialize ok",
        "daily_update ok",
        'job_type is "x"',
    ]
    assert all(named <= line.keys() for line in found[:2])
    assert {"message", "level"} <= found[2].keys()


class TestLevels:
    """``LOG_LEVEL``, which sets the level of the ``stock_tracker`` loggers."""

    def test_debug_lines_are_json_with_the_keys_of_the_run(self, lines: Lines) -> None:
        documents = [json.loads(line) for line in lines(INITIALIZE, LOG_LEVEL="DEBUG")]

        calls = [line for line in documents if line.get("name") == "stock_tracker.api_client"]
        assert len(calls) == 5
        result = documents[-1]["result"]
        for call in calls:
            assert call["level"] == "DEBUG"
            assert re.fullmatch(
                r"200 in \d+\.\d{3} s: /v2/aggs/ticker/[A-Z]+/range/1/day/[0-9-]+/[0-9-]+", call["message"]
            )
            assert (call["run_id"], call["job"], call["as_of"]) == (result["run_id"], "initialize", "2013-03-01")
            assert (call["service"], call["function_request_id"]) == (SERVICE, Context.aws_request_id)

    def test_it_is_quiet_by_default_also_after_a_verbose_run(self, lines: Lines) -> None:
        lines(INITIALIZE, LOG_LEVEL="DEBUG")
        assert {document.get("level", "INFO") for document in map(json.loads, lines(UPDATE))} == {"INFO"}

    @pytest.mark.parametrize("level", ["WARNING", "ERROR"])
    def test_the_result_is_logged_at_every_level(self, lines: Lines, level: str) -> None:
        blob, result = lines({**INITIALIZE, "sessions": 1}, LOG_LEVEL=level)
        assert "RunSucceeded" in json.loads(blob)
        assert json.loads(result)["message"] == "initialize ok"

    def test_no_key_of_a_run_is_left_for_the_next(self, lines: Lines) -> None:
        *_, result = lines(INITIALIZE, {"job_type": "explode"})
        assert json.loads(result)["error"] == "PayloadError"
        assert not {"run_id", "job", "as_of", "symbols"} & json.loads(result).keys()


def read_to(last: date) -> Readings:
    """The sessions from the year's first on, read on the morning after the last."""
    return (Reading(date(2013, 1, 2), last, last, last),)


class TestFreshness:
    @pytest.mark.parametrize(
        ("fetched", "behind"),
        [
            ({"AAPL": "2013-03-01", "IBM": "2013-03-01"}, 0),
            ({"AAPL": "2013-03-01", "IBM": "2013-02-27"}, 2),
            ({"AAPL": "2013-03-01"}, SESSIONS_PER_YEAR),
            ({"*": "2013-02-28"}, 1),
            ({"*": "2013-02-28", "AAPL": "2013-03-01", "IBM": "2013-03-01"}, 0),
        ],
        ids=["all", "one is late", "one never", "the market", "the market and both"],
    )
    def test_the_symbol_that_is_furthest_behind_counts(
        self, sqlite_url: str, fetched: dict[str, str], behind: int
    ) -> None:
        engine = open_engine(sqlite_url)
        with transaction(engine) as connection:
            ensure_schema(connection)
            replace_coverage(
                connection, {symbol: read_to(date.fromisoformat(last)) for symbol, last in fetched.items()}
            )
        assert sessions_behind(engine, ["AAPL", "IBM"], date(2013, 3, 2)) == behind

    def test_a_long_weekend_does_not_make_the_table_stale(self, sqlite_url: str) -> None:
        engine = open_engine(sqlite_url)
        with transaction(engine) as connection:
            ensure_schema(connection)
            replace_coverage(connection, {"IBM": read_to(date(2013, 2, 15))})
        assert sessions_behind(engine, ["IBM"], date(2013, 2, 19)) == 0, "the Tuesday after Presidents' Day"

    def test_without_tables_the_freshness_is_not_known(self, sqlite_url: str) -> None:
        assert sessions_behind(open_engine(sqlite_url), ["IBM"], date(2013, 3, 2)) is None


@pytest.mark.parametrize(
    ("stack", "expected"),
    [("stock-tracker", "StockTracker"), ("stock-tracker-staging", "StockTracker/stock-tracker-staging")],
)
def test_each_stage_tells_its_metrics_in_a_namespace_of_its_own(lines: Lines, stack: str, expected: str) -> None:
    told = lines({"job_type": "daily_update", "as_of": "2013-03-02"}, {"job_type": "daily_update"}, stack=stack)
    documents = [json.loads(line) for line in told if '"_aws"' in line]
    assert documents
    assert {each["_aws"]["CloudWatchMetrics"][0]["Namespace"] for each in documents} == {expected}
