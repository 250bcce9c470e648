"""The command line as a person types it: most commands in this process, some in one of their own."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import typer

import main
from commands.app import VERSION, app
from commands.app import command as add_command
from commands.output import console
from config import settings
from domain.clock import SystemClock
from sandbox.local_http import LocalServer, Reply
from sandbox.server import MarketServer
from tests.support.command_page import MARK, PAGE, group, help_text, written_part
from tests.support.parse_report import html_figures

ROOT = Path(__file__).parents[2]
SYMBOLS = "AAPL,FB,GOOG,IBM,MSFT"


@dataclass
class Finished:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Finished]


def command(*arguments: str, **variables: str) -> dict[str, Any]:
    """The arguments of :mod:`subprocess` for a command in a process of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "COLUMNS": "140", **variables}
    return {"args": [sys.executable, "-u", str(ROOT / "main.py"), *arguments], "env": environment, "text": True}


def run_process(*arguments: str, **variables: str) -> Finished:
    """Run a command in a process of its own."""
    done = subprocess.run(**command(*arguments, **variables), capture_output=True, timeout=60)
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sqlite_url: str, quiet_log: None) -> Run:
    """Run a command in this process; keyword arguments are environment variables."""

    def run_main(*arguments: str, **variables: str) -> Finished:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["main.py", *arguments])
            patch.setattr(console, "width", 140)
            for name, value in {"DATABASE_URL": sqlite_url, **variables}.items():
                patch.setenv(name, value)
            settings.cache_clear()
            capsys.readouterr()
            try:
                returncode = main.main()
            except SystemExit as exit_:
                returncode = int(exit_.code or 0)
            finally:
                settings.cache_clear()
        captured = capsys.readouterr()
        return Finished(returncode, captured.out, captured.err)

    return run_main


def test_help_loads_no_library_of_the_jobs() -> None:
    program = "import sys, main; sys.argv = ['main.py', '--help']; main.main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert "Usage: python main.py [OPTIONS]" in done.stdout, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "rich.console" in loaded
    assert not {"numpy", "pandas", "pydantic", "requests", "sqlalchemy", "schedule", "lambda_main", "sandbox"} & loaded
    assert not {"rich.table", "rich.progress", "rich.markdown", "config", "entrypoints"} & loaded


class TestHelp:
    NAMES = (None, *group().commands)

    @pytest.mark.parametrize("name", NAMES)
    def test_it_is_the_same_by_h_wraps_at_80_columns_and_shows_flags_as_flags(self, run: Run, name: str | None) -> None:
        command = [name] if name else []

        shown = run(*command, "--help", COLUMNS="80")

        assert (shown.returncode, shown.stderr) == (0, "")
        assert run(*command, "-h", COLUMNS="80") == shown
        assert shown.stdout.rstrip("\n") == help_text(name)
        assert max(map(len, shown.stdout.splitlines())) <= 80
        assert "--no-" not in shown.stdout

    def test_the_page_of_commands_shows_every_help(self) -> None:
        page = PAGE.read_text(encoding="utf-8")
        assert page.partition(MARK)[2] == f"\n{written_part()}", "make docs-commands updates it"

    @pytest.mark.parametrize("name", NAMES[1:])
    def test_it_ends_with_examples_that_are_valid(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        _, _, examples = help_text(name).rpartition("\nExample")
        lines = examples.splitlines()[1:]
        assert lines
        for line in lines:
            program, script, *arguments = shlex.split(line)
            assert (program, script, arguments[0]) == ("python", "main.py", name)
            group().commands[name].make_context(name, arguments[1:])

    def test_without_a_command_it_is_shown_with_status_2(self, run: Run) -> None:
        result = run()

        assert (result.returncode, result.stderr) == (2, "")
        assert result.stdout.startswith("Usage: python main.py [OPTIONS] COMMAND")

    def test_the_version_is_that_of_the_package(self, run: Run) -> None:
        assert run("--version") == Finished(0, f"stock-tracker {VERSION}\n", "")


class TestUsageErrors:
    """Arguments that are not valid."""

    ROWS = re.findall(
        r"^\| `(.+)` \| `(.+)` \|$", PAGE.read_text().partition("| arguments |")[2].partition(MARK)[0], re.MULTILINE
    )

    @pytest.mark.parametrize(("arguments", "error"), ROWS)
    def test_one_is_the_line_of_the_document_and_status_2(self, run: Run, arguments: str, error: str) -> None:
        assert run(*shlex.split(arguments)) == Finished(2, "", f"error: {error}\n") or "invoke" in arguments

    def test_the_document_has_each_kind(self) -> None:
        assert len(self.ROWS) == 10

    def test_one_is_json_as_well_where_a_program_reads(self, run: Run) -> None:
        result = run("status", "--json", "--sinbols", "IBM")

        assert result.returncode == 2
        assert f"error: {json.loads(result.stdout)['error']}\n" == result.stderr


def without_node(folder: Path) -> dict[str, str]:
    (folder / "bin").mkdir()
    return {"PATH": str(folder / "bin")}


def test_run_without_a_key_or_node_loads_recorded_prices_and_leaves_a_report(tmp_path: Path) -> None:
    variables = without_node(tmp_path)

    first, second = run_process("run", **variables), run_process("run", **variables)

    assert first.returncode == 0, first.stderr
    assert "350 inserted" in first.stdout
    assert "5 inserted" in first.stdout
    assert "Weekly Market Report - Best: FB: 2.3% | Worst: AAPL: -5.2%" in first.stdout
    assert "open outbox/weekly-report-2013-03-01.html" in first.stdout
    charts, *page = first.stderr.splitlines()
    assert charts.startswith("note: charts need Node.js")
    # It is there once `make site-assets` has run, or another test has built it.
    assert not page or page[0].startswith("note: the market page is left out")
    assert Path("outbox/weekly-report-2013-03-01.html").exists()
    assert "already_sent" in second.stdout
    assert "inserted" not in second.stdout


def test_a_job_takes_every_payload_key_as_an_option(run: Run) -> None:
    result = run(
        *["initialize", "--sandbox", "--json", "--symbols", "GOOG,IBM", "--as-of", "2013-03-02"],
        *["--start", "2013-02-25", "--end", "2013-02-28", "--force"],
    )

    loaded = json.loads(result.stdout)
    assert loaded["sessions"] == {"first": "2013-02-25", "last": "2013-02-28", "count": 4}
    assert loaded["rows"]["inserted"] == 8


def test_a_dry_run_prints_the_plan(run: Run) -> None:
    result = run("initialize", "--sandbox", "--dry-run", "--symbols", "GOOG,IBM", "--as-of", "2013-03-02")

    assert "would make 2 calls" in result.stdout
    assert "would ask for GOOG from 2012-11-19 to 2013-03-01" in result.stdout
    assert not Path("stock_tracker.db").exists()


def test_invoke_takes_the_event_as_aws_does(run: Run) -> None:
    event = {"job_type": "daily_update", "symbols": ["IBM"], "as_of": "2013-03-02"}

    result = run("invoke", json.dumps(event), "--sandbox")

    assert json.loads(result.stdout)["rows"]["inserted"] == 70


def test_the_doctor_examines_the_sandbox_too(run: Run) -> None:
    result = run("invoke", '{"job_type": "doctor"}', "--sandbox")

    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["key"]["message"].startswith("127.0.0.1:")
    assert checks["database"]["status"] == "ok"
    assert not Path("stock_tracker.db").exists()


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
def test_a_failure_is_one_line_and_exit_status_1(run: Run, arguments: list[str], message: str) -> None:
    result = run(*arguments)
    as_json = result if "invoke" in arguments else run(*arguments, "--json")

    assert result.returncode == as_json.returncode == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert result.stdout == "" or result is as_json
    assert as_json.stderr == result.stderr
    assert f"error: {json.loads(as_json.stdout)['error']}\n" == result.stderr
    assert not Path("stock_tracker.db").exists()


def test_a_schedule_without_a_key_does_not_begin(run: Run) -> None:
    result = run("schedule")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: POLYGON_API_KEY is not set")


@pytest.mark.parametrize("arguments", [["--debug", "daily_update"], ["daily_update", "--debug"]])
def test_debug_shows_the_traceback_above_the_error(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)

    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert result.stderr.splitlines()[-1].startswith("error: POLYGON_API_KEY is not set")


def test_a_failure_does_not_wait_for_a_thread_whose_answer_is_late() -> None:
    program = (
        "import main, threading, time; main.main = lambda: 1;"
        " threading.Thread(target=time.sleep, args=(60,)).start(); main.program()"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=30).returncode == 1


def test_a_package_that_is_not_installed_is_named_with_the_way_to_it() -> None:
    program = "import sys; sys.modules['typer'] = None; import main; main.program()"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"error: the package 'typer' is not installed for {sys.executable}: ")


def test_an_integer_that_a_command_returns_is_the_exit_status(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "registered_commands", [*app.registered_commands])
    monkeypatch.setattr(typer.main, "get_command", inspect.unwrap(typer.main.get_command))
    added = add_command("check", "check")
    added(lambda: 3)

    assert run("check") == Finished(3, "", "")


def test_a_flag_behind_two_dashes_is_none(run: Run) -> None:
    result = run("invoke", "--", "--debug")

    assert (result.returncode, result.stderr) == (
        2,
        'error: PAYLOAD is \'--debug\': valid is JSON such as {"job_type": "daily_update"}\n',
    )


class TestQuiet:
    LOAD = ("daily_update", "--sandbox", "--symbols", "IBM", "--as-of", "2013-03-02")

    @pytest.mark.parametrize("arguments", [[*LOAD, "--quiet"], ["--quiet", *LOAD], ["schedule", "--once", "--quiet"]])
    def test_a_command_that_works_prints_nothing(self, run: Run, arguments: list[str]) -> None:
        assert run(*arguments, LOG_LEVEL="DEBUG") == Finished(0, "", "")

    def test_an_error_is_shown(self, run: Run) -> None:
        result = run("daily_update", "--quiet")

        assert result.returncode == 1
        assert result.stderr.startswith("error: POLYGON_API_KEY is not set")

    def test_what_a_program_reads_is_printed(self, run: Run) -> None:
        assert json.loads(run(*self.LOAD, "--json", "--quiet").stdout)["status"] == "ok"
        assert run("export", "--output", "-", "--quiet").stdout.startswith("date,symbol,")
        assert run("export", "--output", "prices.csv", "--quiet").stdout == ""

    def test_it_does_not_outlast_its_command(self, run: Run) -> None:
        run("schedule", "--once", "--quiet")

        assert run("schedule", "--once").stdout.startswith("Scheduled: ")


def test_a_terminal_wraps_at_words(tmp_path: Path) -> None:
    lines = {}
    for arguments in (("schedule", "--once"), ("status", "--symbols", "not a symbol!")):
        whole = run_process(*arguments, POLYGON_API_KEY="key", TZ="UTC")
        shown = on_terminal(*arguments, POLYGON_API_KEY="key", TZ="UTC", COLUMNS="80", TERM="xterm")
        lines[arguments[0]] = shown
        assert max(map(len, shown)) <= 80
        assert " ".join(" ".join(shown).split()) == " ".join((whole.stdout + whole.stderr).split())

    assert lines["schedule"][1].startswith("  ")
    assert not lines["schedule"][2].startswith("   ")
    assert lines["status"][0].startswith("error: symbols is ")
    assert lines["status"][1].startswith("  ")


def on_terminal(*arguments: str, **variables: str) -> list[str]:
    """Run a command whose output is a terminal, and return the lines that it shows."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(**command(*arguments, **variables), stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        process.wait(timeout=60)
    return shown.decode().replace("\r\n", "\n").splitlines()


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
def test_a_malformed_setting_is_one_line_without_its_secret(run: Run, variables: dict[str, str], message: str) -> None:
    result = run("daily_update", POLYGON_API_KEY="key", **variables)

    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stdout + result.stderr


def test_an_unreachable_provider_is_one_line_without_the_key(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(SystemClock, "sleep", lambda _, seconds: pauses.append(seconds))

    result = run("daily_update", POLYGON_API_KEY="hidden", POLYGON_BASE_URL="http://127.0.0.1:9")

    assert result.stderr.startswith("error: the provider at 127.0.0.1:9 did not answer /v2/aggs")
    assert result.stderr.count("\n") == 1
    assert "hidden" not in result.stdout + result.stderr
    assert result.stderr.endswith(" after 5 attempts: Connection refused\n")
    assert pauses


def test_the_sandbox_misbehaves_as_it_is_told(run: Run) -> None:
    load = ("daily_update", "--sandbox", "--json", "--symbols", "IBM")
    run(*load)

    result = run(*load, "--force", "--misbehave", "correct:IBM:2013-02-26", "--misbehave", "withdraw:IBM:2013-02-27")

    rows = json.loads(result.stdout)["rows"]
    assert (rows["corrected"], rows["withdrawn"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ("daily_update", "--sandbox", "--misbehave", "stall:x"),
            "--misbehave 'stall:x' is not stall:MORNINGS: 'x' is",
        ),
        (("sandbox", "--misbehave", "sulk"), "--misbehave 'sulk' is no misbehavior; valid is stall:MORNINGS, "),
        (("daily_update", "--misbehave", "stall:1"), "--misbehave is for the sandbox: add --sandbox"),
    ],
)
def test_a_malformed_misbehavior_is_one_line(run: Run, arguments: tuple[str, ...], error: str) -> None:
    result = run(*arguments)

    assert result.stderr.startswith(f"error: {error}")
    assert result.stderr.count("\n") == 1


def test_recorded_and_live_prices_do_not_mix_in_one_database(run: Run, tmp_path: Path) -> None:
    run("initialize", "--sandbox", "--symbols", "IBM", "--as-of", "2013-03-02")

    result = run("daily_update", POLYGON_API_KEY="key", POLYGON_BASE_URL="http://example.invalid")

    assert result.stderr.startswith(f"error: SQLite file {tmp_path}/stock_tracker.db holds prices from 127.0.0.1")


def test_status_shows_what_is_stored_and_missing(run: Run) -> None:
    run("initialize", "--sandbox", "--symbols", "GOOG", "--as-of", "2013-03-01")

    shown = run("status", "--symbols", "GOOG,IBM", "--as-of", "2013-03-02")
    state = json.loads(run("status", "--json", "--symbols", "GOOG,IBM", "--as-of", "2013-03-02").stdout)

    lines = {line["symbol"]: line for line in state["symbols"]}
    assert lines["GOOG"]["rows"] == 70
    assert (lines["GOOG"]["missing"], lines["IBM"]["missing"]) == (1, 71)
    assert state["calls"] == 2
    assert [run["status"] for run in state["runs"]] == ["ok"]
    assert "GOOG" in shown.stdout
    assert "The next daily_update would make 2 calls" in shown.stdout


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_status_in_json_does_not_depend_on_the_width(run: Run, width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("initialize", "--sandbox", "--symbols", "GOOG", "--as-of", "2013-03-01")
    usual = run("status", "--json").stdout
    monkeypatch.setenv("COLUMNS", width)

    assert run("status", "--json").stdout == usual


def test_status_check_tells_by_its_exit_status_whether_the_table_is_complete(run: Run) -> None:
    run("initialize", "--sandbox", "--symbols", "GOOG", "--as-of", "2013-03-01")

    assert run("status", "--check", "--symbols", "GOOG", "--as-of", "2013-03-01").returncode == 0
    assert run("status", "--check", "--symbols", "GOOG", "--as-of", "2013-03-02", "--quiet").returncode == 1
    assert run("status", "--check", "--symbols", "GOOG,IBM", "--as-of", "2013-03-01").returncode == 1


class TestShow:
    def test_it_draws_and_lists_the_last_sessions(self, run: Run) -> None:
        run("initialize", "--sandbox", "--symbols", "IBM", "--as-of", "2013-03-01")

        result = run("show", "IBM", "--days", "5")

        assert "2013-02-28  202.18  203.12  200.79  200.83  −0.74%    4.7M  1.16%  200.18" in result.stdout
        assert "█" in result.stdout
        bars = json.loads(run("show", "IBM", "--json").stdout)["bars"]
        assert (len(bars), bars[-1]["close"]) == (20, 200.83)

    def test_open_draws_a_picture_into_the_outbox(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[str] = []
        monkeypatch.setattr("typer.launch", opened.append)
        run("initialize", "--sandbox", "--symbols", "IBM", "--as-of", "2013-03-01")
        picture = Reply(200, b"\x89PNG\r\n\x1a\npicture", {"Content-Type": "image/png"})
        charts = LocalServer(lambda _: picture)
        charts.start()
        try:
            monkeypatch.setenv("QUICKCHART_URL", f"{charts.url}/chart")
            result = run("show", "IBM", "--open")
        finally:
            charts.stop()

        drawn = Path("outbox/IBM-2013-02-28.png").resolve()
        assert opened == [drawn.as_uri()]
        assert drawn.read_bytes().startswith(b"\x89PNG")
        assert f"open {drawn}" in result.stdout.replace("\n", "")

    def test_an_unknown_symbol_is_one_line(self, run: Run) -> None:
        run("initialize", "--sandbox", "--symbols", "IBM", "--as-of", "2013-03-01")

        result = run("show", "ibm")

        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert "did you mean IBM?" in result.stderr


class TestSymbols:
    def test_a_symbol_is_added_and_the_next_update_is_told(self, run: Run) -> None:
        Path(".env").write_text("SYMBOLS=GOOG\n")

        result = run("symbols", "add", "IBM")

        assert result.stdout.splitlines()[:3] == ["GOOG", "IBM", f"written to {Path('.env').absolute()}"]
        assert "The next daily_update would make 2 calls:" in result.stdout
        assert json.loads(run("symbols", "--json").stdout)["symbols"] == ["GOOG", "IBM"]
        assert "IBM was among them before." in run("symbols", "add", "IBM").stdout
        assert "stay, until you forget them" not in run("symbols", "remove", "IBM").stdout

    def test_a_database_of_recorded_prices_has_no_next_update(self, run: Run) -> None:
        run("initialize", "--sandbox", "--symbols", "IBM", "--as-of", "2013-03-01")
        Path(".env").write_text("SYMBOLS=GOOG,IBM\n")

        result = run("symbols", "remove", "IBM")

        assert "The stored rows of IBM stay, until you forget them." in result.stdout
        assert "next daily_update" not in result.stdout
        assert "live prices of these symbols need another one" in result.stderr
        assert json.loads(run("symbols", "--json").stdout)["next_update"] is None

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("add",), "error: SYMBOL is '': valid is at least one for add"),
            (("list", "IBM"), "error: SYMBOL is 'IBM': valid is none for list"),
        ],
    )
    def test_the_wrong_number_of_symbols_is_a_usage_error(
        self, run: Run, arguments: tuple[str, ...], message: str
    ) -> None:
        result = run("symbols", *arguments)

        assert (result.returncode, result.stderr.strip()) == (2, message)

    def test_an_environment_that_overrides_the_file_is_the_reason_to_stop(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SYMBOLS", "IBM")
        settings.cache_clear()

        result = run("symbols", "add", "NVDA")

        assert result.returncode == 1
        assert "SYMBOLS is set in the environment, which overrides .env" in result.stderr
        assert not Path(".env").exists()

    def test_forget_asks_and_a_file_keeps_the_rows(self, run: Run) -> None:
        run("initialize", "--sandbox", "--symbols", "IBM,MSFT", "--as-of", "2013-03-01")

        assert run("forget", "IBM").returncode == 1  # nobody answers
        assert len(json.loads(run("show", "IBM", "--json").stdout)["bars"]) == 20
        result = run("forget", "IBM", "--yes")

        assert "70 rows of IBM are removed" in result.stdout
        (backup,) = Path().glob("IBM-*.csv")
        assert len(backup.read_text().splitlines()) == 71
        assert run("show", "IBM").returncode == 1
        assert run("forget", "GOOG", "--yes").returncode == 1  # a configured symbol


def test_status_of_a_database_without_tables_says_so_and_creates_none(run: Run) -> None:
    result = run("status", "--symbols", "GOOG", "--as-of", "2013-03-02")

    assert "Nothing is stored yet." in result.stdout
    assert not Path("stock_tracker.db").exists()


class TestReport:
    """A page of any symbols and week, from what is stored."""

    @pytest.fixture(autouse=True)
    def _stored(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("QUICKCHART_URL", "http://127.0.0.1:9/chart")  # no charts: nothing listens there
        run("initialize", "--sandbox", "--symbols", "AAPL,IBM,MSFT", "--as-of", "2013-03-02")

    def test_a_report_of_chosen_symbols_and_week_is_a_preview(self, run: Run) -> None:
        result = run("report", "--sandbox", "--symbols", "MSFT,AAPL", "--week", "2013-02-20")

        path = Path("outbox/weekly-report-2013-02-22-AAPL-MSFT-preview.html")
        assert result.stdout.splitlines()[-1] == f"open {path}"
        assert list(html_figures(path.read_text(encoding="utf-8"))) == ["MSFT", "AAPL"]
        assert "warning: no chart for AAPL, MSFT: the chart service did not answer" in result.stdout
        assert "Preview of chosen symbols" in Path("outbox/index.html").read_text(encoding="utf-8")

    def test_it_loads_sends_and_records_nothing(self, run: Run) -> None:
        before = Path("stock_tracker.db").read_bytes()

        run("report", "--sandbox", "--symbols", "AAPL,KO")

        assert Path("stock_tracker.db").read_bytes() == before
        assert [file.suffix for file in Path("outbox").iterdir()] == [".html"] * 2, "no mail"
        page = Path("outbox/weekly-report-2013-03-01-AAPL-KO-preview.html").read_text(encoding="utf-8")
        assert "KO has no bar this week." in page

    def test_it_can_be_written_to_a_file_and_opened(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        opened: list[str] = []

        def browser(url: str) -> bool:
            opened.append(url)
            return True

        monkeypatch.setattr("webbrowser.open", browser)

        run("report", "--sandbox", "--symbols", "AAPL", "--output", "mine/page.html", "--open")

        assert opened == [Path("mine/page.html").resolve().as_uri()]
        assert list(html_figures(Path("mine/page.html").read_text(encoding="utf-8"))) == ["AAPL"]
        assert not Path("outbox").exists()

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (("--week", "2013-02-30"), 2, "--week is '2013-02-30': valid is an ISO date"),
            (("--week", "2013-03-03"), 2, "--week is '2013-03-03': valid is 1990-01-01 to 2013-03-02"),
            (("--symbols", "A B"), 1, "symbols"),
            (("--symbols", "KO"), 1, "no price of KO is stored for the week of 2013-02-25; load it with initialize"),
            (("--symbols", "IBM", "--week", "2012-01-03"), 1, "no price of IBM is stored for the week of 2012-01-02"),
            (("--symbols", "IBM", "--output", "/dev/null/x/y.html"), 1, "the page '/dev/null/x/y.html' cannot be"),
        ],
    )
    def test_what_cannot_be_shown_is_an_error(
        self, run: Run, arguments: tuple[str, ...], status: int, message: str
    ) -> None:
        result = run("report", "--sandbox", *arguments)

        assert result.returncode == status
        assert message in result.stderr
        assert not Path("outbox").exists()


def test_schedule_names_the_two_cron_times() -> None:
    stdout = run_process("schedule", "--once", POLYGON_API_KEY="key", TZ="UTC").stdout

    assert "daily_update at 13:00 UTC, Tuesday to Saturday; weekly_report at 16:00 UTC on Saturday" in stdout
    assert stdout.count("13:00 local time: daily_update") == 5
    assert stdout.count("16:00 local time: weekly_report") == 1


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_sandbox_serves_until_interrupted(tmp_path: Path, signal_number: signal.Signals) -> None:
    if signal_number == signal.SIGINT and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        pytest.skip("SIGINT is ignored here, as under nohup, and children inherit that")
    with subprocess.Popen(**command("sandbox", **without_node(tmp_path)), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            variables = {}
            for line in process.stdout:
                name, _, value = line.strip().partition("=")
                variables[name] = value
                if line.startswith("# Ctrl-C"):
                    break
            url, key = variables["POLYGON_BASE_URL"], variables["POLYGON_API_KEY"]
            path = "/v2/aggs/ticker/GOOG/range/1/day/2013-03-01/2013-03-01"
            answer = requests.get(url + path, headers={"Authorization": f"Bearer {key}"}, timeout=10).json()
            process.send_signal(signal_number)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    assert answer["results"][0]["c"] == 806.19


class TestLog:
    """The lines of the ``stock_tracker`` loggers."""

    LOAD = ("daily_update", "--sandbox", "--symbols", "GOOG", "--as-of", "2013-03-02")
    CALL = "/v2/aggs/ticker/GOOG/range/1/day/2012-11-19/2013-03-01"

    def test_it_is_quiet_by_default(self, run: Run) -> None:
        assert run(*self.LOAD).stderr == ""

    @pytest.mark.parametrize(
        ("arguments", "variables"),
        [
            ([*LOAD, "--verbose"], {}),
            (["--verbose", *LOAD], {}),
            (LOAD, {"LOG_LEVEL": "DEBUG"}),
            (["status", "--verbose", "--as-of", "2013-03-02"], {}),
        ],
        ids=["after the command", "before the command", "by LOG_LEVEL", "of status"],
    )
    def test_verbose_shows_each_step_on_standard_error(
        self, run: Run, arguments: list[str], variables: dict[str, str]
    ) -> None:
        result = run(*arguments, **variables)

        assert result.returncode == 0
        assert logging.getLogger("stock_tracker.anything").isEnabledFor(logging.DEBUG)
        if "status" not in arguments:
            (call,) = [line for line in result.stderr.splitlines() if self.CALL in line]
            time, _, message = call.partition(" ")
            assert time.count(":") == 2
            assert message.startswith("200 in 0.")
            assert self.CALL not in result.stdout

    def test_results_stay_json_beside_it(self, run: Run) -> None:
        assert json.loads(run(*self.LOAD, "--json", "--verbose").stdout)["status"] == "ok"

    def test_it_holds_no_key(self, run: Run, market: MarketServer) -> None:
        market.key = "hunter2-key"
        provider = {"POLYGON_BASE_URL": market.url, "POLYGON_API_KEY": market.key, "POLYGON_CALLS_PER_MINUTE": "0"}

        result = run("daily_update", "--verbose", "--symbols", "GOOG", "--as-of", "2013-03-02", **provider)

        assert self.CALL in result.stderr
        assert "hunter2-key" not in result.stdout + result.stderr
