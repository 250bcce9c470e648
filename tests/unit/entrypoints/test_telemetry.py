"""What an invocation tells its log, read as CloudWatch would read it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from database import replace_coverage
from entrypoints.telemetry import SESSIONS_A_YEAR, sessions_behind
from sandbox.server import MarketServer
from storage.engine import open_engine, transaction
from storage.schema import ensure_schema
from tests.support import cloudwatch

ROOT = Path(__file__).parents[3]
KEY = "hunter2-key"
RUNS = {"RunSucceeded", "RunFailed", "RunPartial"}

# Each argument is an event; a fresh process, as the logger belongs to its process and writes to its output.
INVOKE = """
import json, sys
from lambda_main import handler

class Context:
    aws_request_id = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    def get_remaining_time_in_millis(self):
        return 300_000

for event in sys.argv[1:]:
    try:
        handler(json.loads(event), Context())
    except Exception:
        pass
"""


@pytest.fixture
def lines(market: MarketServer, tmp_path: Path) -> Any:
    """Run handlers for events in one warm process and return the lines that it logged."""
    market.key = KEY

    def run(*events: dict[str, Any], **environment: str) -> list[str]:
        usual = {
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": f"sqlite:///{tmp_path}/stock_tracker.db",
            "POLYGON_BASE_URL": market.url,
            "POLYGON_API_KEY": KEY,
            "POLYGON_CALLS_PER_MINUTE": "0",
            "SYMBOLS": "AAPL,FB,GOOG,IBM,MSFT",
            "POWERTOOLS_SERVICE_NAME": "another-name",
        }
        command = [sys.executable, "-c", INVOKE, *map(json.dumps, events)]
        done = subprocess.run(command, env={**usual, **environment}, capture_output=True, text=True, check=True)
        assert KEY not in done.stdout + done.stderr
        return done.stdout.splitlines()

    return run


INITIALIZE = {"job_type": "initialize", "as_of": "2013-03-01"}
UPDATE = {"job_type": "daily_update", "as_of": "2013-03-02"}


def by_job(line: str, job: str) -> dict[str, float]:
    """The metrics of a line under one job, which must be the same over all jobs."""
    metrics = cloudwatch.metrics(json.loads(line))
    over_all = {name: value for (name, dimensions), value in metrics.items() if not dimensions}
    of_job = {name: value for (name, dimensions), value in metrics.items() if dimensions == (("job", job),)}
    assert over_all == of_job
    return {name: value for name, (value, _) in of_job.items()}


def test_a_run_tells_its_start_its_metrics_and_last_its_result(lines: Any) -> None:
    start, blob, result = lines(INITIALIZE)

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
        "ApiCalls": 5,
    }
    last = json.loads(result)
    assert (last["level"], last["message"], last["job"]) == ("INFO", "initialize ok", "initialize")
    assert last["result"]["rows"]["inserted"] == 350
    assert last["run_id"] == last["result"]["run_id"] == json.loads(start)["run_id"] == json.loads(blob)["run_id"]


def test_a_daily_update_tells_how_fresh_the_table_is(lines: Any) -> None:
    *_, blob, result = lines(INITIALIZE, UPDATE)
    assert by_job(blob, "daily_update")["FreshnessSessions"] == 0
    assert json.loads(result)["message"] == "daily_update ok"


def test_a_daily_update_that_failed_tells_how_stale_the_table_is(lines: Any, market: MarketServer) -> None:
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


def test_a_database_that_refuses_the_login_is_the_last_line_without_a_freshness(lines: Any, tcp_url: str) -> None:
    nobody = make_url(tcp_url).set(username="nobody_here").render_as_string(hide_password=False)
    *_, unknown, blob, result = lines(UPDATE, DATABASE_URL=nobody)

    assert json.loads(unknown)["message"].startswith("the freshness is not known: PostgreSQL at ")
    assert by_job(blob, "daily_update").keys() == {"RunFailed", "DurationSeconds", "PeakMemoryMB"}
    assert json.loads(result)["error"] == "CredentialsError"
    assert json.loads(result)["message"].endswith("; check the user and the password in DATABASE_URL")


def test_a_payload_that_names_no_job_counts_as_a_failure_of_an_unknown_one(lines: Any) -> None:
    blob, result = lines({"job_type": "explode", "note": "x" * 5000})
    assert by_job(blob, "unknown").keys() == {"RunFailed", "DurationSeconds", "PeakMemoryMB"}
    assert json.loads(result)["error"] == "PayloadError"
    assert len(result) < 3000


def test_a_dry_run_counts_nowhere(lines: Any) -> None:
    start, result = lines({**UPDATE, "dry_run": True})
    assert json.loads(result)["result"]["status"] == "ok"
    assert "_aws" not in json.loads(start)


def test_each_run_tells_exactly_one_outcome(lines: Any) -> None:
    told = [document for document in cloudwatch.documents(lines(INITIALIZE, UPDATE, UPDATE, {})) if "_aws" in document]
    assert [RUNS & document.keys() for document in told] == [{"RunSucceeded"}] * 3 + [{"RunFailed"}]


def test_a_long_list_of_symbols_does_not_fill_the_log(lines: Any) -> None:
    symbols = ["AAPL", *(f"SYN{number:05}" for number in range(3000))]
    logged = lines({**UPDATE, "symbols": symbols}, HISTORY_SESSIONS="1")
    assert json.loads(logged[-1])["result"]["symbols"]["count"] == 3001
    assert max(map(len, logged)) < 5000


def test_the_query_of_the_aws_guide_finds_what_it_names(lines: Any) -> None:
    section = (ROOT / "docs" / "aws.md").read_text(encoding="utf-8").partition("## What happened last night")[2]
    query = section.partition("```text\n")[2].partition("```")[0]
    named = set(re.findall(r"[a-z_]+(?:\.[a-z_]+)*", query.partition("\n|")[0])) - {"fields", "timestamp"}
    conditions = re.search(r'\| filter ispresent\((\S+)\) or (\w+) = "(\w+)"', query)
    assert conditions is not None

    told = [
        dict(cloudwatch.fields(each)) for each in cloudwatch.documents(lines(INITIALIZE, UPDATE, {"job_type": "x"}))
    ]
    found = [line for line in told if conditions[1] in line or line.get(conditions[2]) == conditions[3]]

    assert [line["message"].partition(":")[0] for line in found] == [
        "initialize ok",
        "daily_update ok",
        'job_type is "x"',
    ]
    assert all(named <= line.keys() for line in found[:2])
    assert {"message", "level"} <= found[2].keys()


class TestFreshness:
    @pytest.mark.parametrize(
        ("fetched", "behind"),
        [
            ({"AAPL": "2013-03-01", "IBM": "2013-03-01"}, 0),
            ({"AAPL": "2013-03-01", "IBM": "2013-02-27"}, 2),
            ({"AAPL": "2013-03-01"}, SESSIONS_A_YEAR),
            ({"*": "2013-02-28"}, 1),
            ({"*": "2013-02-28", "AAPL": "2013-03-01", "IBM": "2013-03-01"}, 0),
        ],
        ids=["all", "one is late", "one never", "the market", "the market and both"],
    )
    def test_the_symbol_that_is_behind_most_counts(self, sqlite_url: str, fetched: dict[str, str], behind: int) -> None:
        engine = open_engine(sqlite_url)
        with transaction(engine) as connection:
            ensure_schema(connection)
            ranges = {symbol: [(date(2013, 1, 2), date.fromisoformat(last))] for symbol, last in fetched.items()}
            replace_coverage(connection, ranges)
        assert sessions_behind(engine, ["AAPL", "IBM"], date(2013, 3, 2)) == behind

    def test_a_long_weekend_does_not_make_it_stale(self, sqlite_url: str) -> None:
        engine = open_engine(sqlite_url)
        with transaction(engine) as connection:
            ensure_schema(connection)
            replace_coverage(connection, {"IBM": [(date(2013, 1, 2), date(2013, 2, 15))]})
        assert sessions_behind(engine, ["IBM"], date(2013, 2, 19)) == 0, "the Tuesday after Presidents' Day"

    def test_without_tables_it_is_not_known(self, sqlite_url: str) -> None:
        assert sessions_behind(open_engine(sqlite_url), ["IBM"], date(2013, 3, 2)) is None
