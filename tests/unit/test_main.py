"""The command line as a person types it, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from sandbox.server import MarketServer

ROOT = Path(__file__).parents[2]
SYMBOLS = "AAPL,FB,GOOG,IBM,MSFT"


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COLUMNS": "140", **variables}
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=60)


def without_node(folder: Path) -> dict[str, str]:
    (folder / "bin").mkdir()
    return {"PATH": str(folder / "bin")}


def test_run_without_a_key_or_node_loads_recorded_prices_and_leaves_a_report(tmp_path: Path) -> None:
    variables = without_node(tmp_path)

    first, second = run("run", **variables), run("run", **variables)

    assert first.returncode == 0, first.stderr
    assert "350 inserted" in first.stdout
    assert "5 inserted" in first.stdout
    assert "Weekly Market Report - Best: FB: 2.3% | Worst: AAPL: -5.2%" in first.stdout
    assert "open outbox/weekly-report-2013-03-01.html" in first.stdout
    assert [line for line in first.stdout.splitlines() if line.startswith("note: ")] != []
    assert Path("outbox/weekly-report-2013-03-01.html").exists()
    assert "already_sent" in second.stdout
    assert "inserted" not in second.stdout


def test_a_job_takes_every_payload_key_as_an_option() -> None:
    result = run(
        *["initialize", "--sandbox", "--json", "--symbols", "GOOG,IBM", "--as-of", "2013-03-02"],
        *["--start", "2013-02-25", "--end", "2013-02-28", "--force"],
    )

    loaded = json.loads(result.stdout)
    assert loaded["sessions"] == {"first": "2013-02-25", "last": "2013-02-28", "count": 4}
    assert loaded["rows"]["inserted"] == 8


def test_a_dry_run_prints_the_plan() -> None:
    result = run("initialize", "--sandbox", "--dry-run", "--symbols", "GOOG,IBM", "--as-of", "2013-03-02")

    assert "would make 2 calls" in result.stdout
    assert "would ask for GOOG from 2012-11-19 to 2013-03-01" in result.stdout
    assert not Path("stock_tracker.db").exists()


def test_invoke_takes_the_event_as_aws_does() -> None:
    event = {"job_type": "daily_update", "symbols": ["IBM"], "as_of": "2013-03-02"}

    result = run("invoke", json.dumps(event), "--sandbox")

    assert json.loads(result.stdout)["rows"]["inserted"] == 70


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["initialize", "--as-of", "yesterday"],
            'error: as_of is "yesterday": valid is an ISO date such as 2013-03-01',
        ),
        (["daily_update"], "error: POLYGON_API_KEY is not set"),
        (
            ["invoke", '{"job_type": "initialise"}'],
            'error: job_type is "initialise": valid are initialize, daily_update',
        ),
    ],
)
def test_a_failure_is_one_line_and_exit_status_1(arguments: list[str], message: str) -> None:
    result = run(*arguments)

    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert not Path("stock_tracker.db").exists()


def test_debug_shows_the_traceback() -> None:
    result = run("--debug", "daily_update")

    assert result.returncode == 1
    assert "Traceback" in result.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"DATABASE_URL": "postgresql://someone:secret@127.0.0.1:9/prices"},
            "PostgreSQL at 127.0.0.1:9/prices cannot be",
        ),
        ({"DATABASE_URL": "mysql://someone:secret@there/prices"}, "DATABASE_URL names 'mysql'; valid is"),
        ({"DATABASE_URL": "secret"}, "DATABASE_URL is not a database URL; valid is"),
        ({"POLYGON_CALLS_PER_MINUTE": "many"}, "POLYGON_CALLS_PER_MINUTE is 'many': "),
    ],
)
def test_a_bad_setting_is_one_line_without_its_secret(variables: dict[str, str], message: str) -> None:
    result = run("daily_update", POLYGON_API_KEY="key", **variables)

    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stdout + result.stderr


def test_an_unreachable_provider_is_one_line_without_the_key() -> None:
    result = run("daily_update", POLYGON_API_KEY="hidden", POLYGON_BASE_URL="http://127.0.0.1:9")

    assert result.stderr.startswith("error: the provider at 127.0.0.1:9 did not answer /v2/aggs")
    assert result.stderr.count("\n") == 1
    assert "hidden" not in result.stdout + result.stderr


def test_recorded_prices_and_live_ones_do_not_meet_in_one_database() -> None:
    run("initialize", "--sandbox", "--symbols", "IBM", "--as-of", "2013-03-02")

    result = run("daily_update", POLYGON_API_KEY="key", POLYGON_BASE_URL="http://example.invalid")

    assert result.stderr.startswith("error: SQLite file stock_tracker.db holds prices from 127.0.0.1")


def test_status_shows_what_is_stored_and_missing(market: MarketServer) -> None:
    run("initialize", "--sandbox", "--symbols", "GOOG", "--as-of", "2013-03-01")

    shown = run("status", "--symbols", "GOOG,IBM", "--as-of", "2013-03-02")
    state = json.loads(run("status", "--json", "--symbols", "GOOG,IBM", "--as-of", "2013-03-02").stdout)

    lines = {line["symbol"]: line for line in state["symbols"]}
    assert lines["GOOG"]["rows"] == 70
    assert lines["GOOG"]["strip"].endswith("█x")
    assert set(lines["IBM"]["strip"]) == {"x"}
    assert state["next_run"]["calls"] == 2
    assert [run["status"] for run in state["runs"]] == ["ok"]
    assert "GOOG" in shown.stdout
    assert "The next daily_update would make 2 calls" in shown.stdout


def test_status_of_a_database_without_tables_says_so_and_makes_none() -> None:
    result = run("status", "--symbols", "GOOG", "--as-of", "2013-03-02")

    assert "Nothing is stored yet." in result.stdout


def test_schedule_names_the_two_cron_times() -> None:
    result = run("schedule", "--once", POLYGON_API_KEY="key", TZ="UTC")

    assert "daily_update at 13:00 UTC, Tuesday to Saturday; weekly_report at 16:00 UTC on Saturday" in result.stdout
    assert result.stdout.count("13:00 local time: daily_update") == 5
    assert result.stdout.count("16:00 local time: weekly_report") == 1


def test_sandbox_serves_until_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "main.py"), "sandbox"],
        env={"COLUMNS": "140", **without_node(tmp_path)},
        text=True,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout as lines:
        settings = {}
        for line in lines:
            name, _, value = line.strip().partition("=")
            settings[name] = value
            if line.startswith("# Ctrl-C"):
                break
        url, key = settings["POLYGON_BASE_URL"], settings["POLYGON_API_KEY"]
        path = "/v2/aggs/ticker/GOOG/range/1/day/2013-03-01/2013-03-01"
        answer = requests.get(url + path, headers={"Authorization": f"Bearer {key}"}, timeout=10).json()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    assert answer["results"][0]["c"] == 806.19
