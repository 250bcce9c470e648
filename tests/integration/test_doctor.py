"""The command doctor, and ``make doctor``, as a person sees them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domain.calendar import previous_session, today
from sandbox.history import PriceHistory
from sandbox.local_http import LocalServer, Reply, Request
from sandbox.server import MarketServer
from storage.engine import open_engine
from tests.support.tables import has_tables

ROOT = Path(__file__).parents[2]
PICTURE = Reply(200, b"\x89PNG\r\n\x1a\n" + b"picture", {"Content-Type": "image/png"})


@pytest.fixture
def environment(market: MarketServer, sqlite_url: str) -> Any:
    """The variables of a set-up in which only the run is lacking."""
    charts = LocalServer(lambda _: PICTURE)
    charts.start()
    market.today = today(datetime.now(UTC))
    market.history = PriceHistory.synthetic(1, 80, end=previous_session(market.today))
    yield {
        "PATH": os.environ["PATH"],
        "COLUMNS": "80",
        "TERM": "xterm",
        "DATABASE_URL": sqlite_url,
        "POLYGON_BASE_URL": market.url,
        "POLYGON_API_KEY": market.key,
        "POLYGON_CALLS_PER_MINUTE": "0",
        "SYMBOLS": "SYN00000",
        "QUICKCHART_URL": f"{charts.url}/chart",
    }
    charts.stop()


def doctor(environment: dict[str, str], *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, str(ROOT / "main.py"), "doctor", *arguments]
    return subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, check=False)


def test_its_exit_status_tells_whether_a_check_failed(environment: dict[str, str], tmp_path: Path) -> None:
    good, bad = doctor(environment), doctor(environment, POLYGON_API_KEY="wrong")

    assert (good.returncode, good.stderr) == (0, "")
    assert (bad.returncode, bad.stderr) == (1, "")
    assert "Nothing failed" in good.stdout.splitlines()[-1]
    assert bad.stdout.splitlines()[-1] == "1 of 12 checks failed."
    assert "cure: copy the key from https://massive.com again into POLYGON_API_KEY in the environment" in bad.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_is_the_whole_output(environment: dict[str, str]) -> None:
    for key, status in ((environment["POLYGON_API_KEY"], 0), ("wrong", 1)):
        done = doctor(environment, "--json", POLYGON_API_KEY=key)
        diagnosis = json.loads(done.stdout)
        assert (done.returncode, diagnosis["ok"], done.stderr) == (status, status == 0, "")
        assert {frozenset(check) for check in diagnosis["checks"]} == {frozenset({"name", "status", "message", "cure"})}


def test_settings_that_cannot_be_read_are_a_finding(environment: dict[str, str]) -> None:
    done = doctor(environment, LOG_LEVEL="loud")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("failed   settings   LOG_LEVEL is 'loud'")


def test_a_terminal_of_80_columns_holds_every_line(environment: dict[str, str]) -> None:
    parent, child = pty.openpty()
    command = [sys.executable, str(ROOT / "main.py"), "doctor"]
    environment |= {
        "NO_COLOR": "1",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": "9",
        "DATABASE_URL": "postgresql://127.0.0.1:9/x",
    }
    with subprocess.Popen(command, env=environment, stdout=child, stderr=child) as running:
        os.close(child)
        printed = b""
        try:
            while piece := os.read(parent, 65_536):
                printed += piece
        except OSError:  # Linux: the other end is closed
            pass
    os.close(parent)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", printed.decode()).splitlines()
    assert running.returncode == 1
    assert len(lines) > 15
    assert [line for line in lines if len(line) > 80] == []


@pytest.mark.parametrize(("key", "status"), [("sandbox-key", 0), ("wrong", 2)])
def test_make_doctor_shows_what_the_function_answers(
    environment: dict[str, str], tmp_path: Path, key: str, status: int
) -> None:
    """Make exits with 2 if a check failed. In place of AWS stands a server that runs the handler here."""
    variables = {**environment, "POLYGON_API_KEY": key}
    program = "import json, sys; from lambda_main import handler; print(json.dumps(handler(json.load(sys.stdin))))"
    asked: list[str] = []

    def invoke(request: Request) -> Reply:
        asked.append(request.target)
        answered = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=variables,
            input=request.body,
            capture_output=True,
            check=True,
        )
        return Reply(200, answered.stdout)

    (tmp_path / "production.env").write_text("Region=eu-west-1\n")
    amazon = LocalServer(invoke)
    amazon.start()
    words = ["--assume-old=.venv/.deploy", "doctor", f"BIN={Path(sys.executable).parent}", "SEND=1"]
    done = subprocess.run(
        ["make", *words, f"STAGES={tmp_path}"],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "AWS_ENDPOINT_URL": amazon.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    amazon.stop()

    assert asked == ["/2015-03-31/functions/stock-tracker/invocations"]
    assert done.returncode == status, done.stderr
    assert f"{'ok' if status == 0 else 'failed':<9}key " in done.stdout
    assert "skipped  test mail  reports are not mailed; set SMTP_HOST" in done.stdout
    assert "warning  alarms     nobody gets a mail when something fails" in done.stdout


def test_the_handler_makes_no_tables(environment: dict[str, str], postgresql_url: str) -> None:
    assert doctor(environment, DATABASE_URL=postgresql_url).returncode == 0
    assert not has_tables(open_engine(postgresql_url))
