"""What people meet on the command line when something is in the way: one line that says what, and the exit status."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, make_url, text

import main
from config import settings
from sandbox.local_http import LocalServer, Reply, Request
from storage.engine import open_engine
from tests.support.postgresql import hot_standby
from tests.support.tables import rows, stock_data

pytestmark = pytest.mark.in_turn

ROOT = Path(__file__).parents[2]
NOBODY = 65_534
AS_OF = ("--as-of", "2013-03-02")
SANDBOX = ("--sandbox", "--as-of", "2013-03-01", "--symbols", "AAPL,IBM")
LOAD = ("initialize", *SANDBOX)
READS = {
    "status": ("status", *AS_OF, "--symbols", "AAPL,IBM,GOOG"),
    "status of the market": ("status", *AS_OF, "--symbols", "*"),
    "a dry run": ("daily_update", "--dry-run", *AS_OF, "--symbols", "AAPL,IBM"),
    "a report's dry run": ("weekly_report", "--dry-run", *AS_OF, "--symbols", "AAPL,IBM"),
    "an export": ("export", "--output", "-", "--symbols", "AAPL"),
    "an earlier export": ("export", "--output", "-", "--symbols", "AAPL", "--known-at", "2040-01-01T00:00:00Z"),
}
WITHOUT_CHARTS = {"QUICKCHART_URL": "http://127.0.0.1:9/chart"}

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process, and return its exit status and what it printed; keywords are variables."""

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["main.py", *arguments])
            for name, value in {**WITHOUT_CHARTS, **variables}.items():
                patch.setenv(name, value)
            settings.cache_clear()
            capfd.readouterr()
            try:
                status = main.main()
            finally:
                settings.cache_clear()
                if "DATABASE_URL" in variables:
                    open_engine(variables["DATABASE_URL"]).dispose()
        printed = capfd.readouterr()
        return status, printed.out, printed.err

    return run


def process(*arguments: str, **variables: str) -> dict[str, Any]:
    """The arguments of :mod:`subprocess` for a command in a process of its own."""
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "80", **WITHOUT_CHARTS, **variables}
    return {"args": [sys.executable, str(ROOT / "main.py"), *arguments], "env": environment}


def one_line(printed: str, kind: str = "error") -> str:
    """The only line that was printed, without its kind."""
    assert printed.startswith(f"{kind}: "), printed
    assert printed.endswith("\n")
    line = printed.removesuffix("\n")
    assert line.isprintable(), "one line"
    return line.removeprefix(f"{kind}: ")


@contextmanager
def without_rights() -> Iterator[None]:
    """Be a user without the rights of root, who may do everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


class TestReadOnly:
    """``status``, a dry run and ``export`` read, whatever keeps the database from being written."""

    @pytest.fixture(params=["file", "folder", "folder and file", "old journal"])
    def sealed(self, request: pytest.FixtureRequest, tmp_path: Path, command: Command) -> Iterator[Path]:
        """A SQLite file with prices that cannot be written, and how the folder around it is sealed."""
        folder = tmp_path / "sealed"
        folder.mkdir()
        path = folder / "prices.db"
        url = f"sqlite:///{path}"
        assert command(*LOAD, DATABASE_URL=url)[0] == 0
        for reading in READS.values():  # whatever it imports is imported while everything can be read
            command(*reading, DATABASE_URL=url)
        open_engine(url).dispose()
        if request.param == "old journal":
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")
            connection.close()
        assert [each.name for each in folder.glob("*-*")] == []
        tmp_path.chmod(0o755)
        for parent in tmp_path.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o055)  # without -n the last of them is the machine's
        (tmp_path / "outbox").mkdir(exist_ok=True)
        for each in (tmp_path / "outbox", *(tmp_path / "outbox").iterdir()):
            each.chmod(0o777)
        path.chmod(0o444 if "file" in request.param else 0o644)
        folder.chmod(0o777 if request.param == "file" else 0o555)
        with without_rights():
            yield path
        folder.chmod(0o755)
        open_engine(url).dispose()

    def test_a_sqlite_file_that_cannot_be_written_can_be_read(self, sealed: Path, command: Command) -> None:
        content = sealed.read_bytes()
        for name, reading in READS.items():
            status, printed, error = command(*reading, DATABASE_URL=f"sqlite:///{sealed}")
            assert (status, error) == (0, ""), name
            if name == "status":
                assert "AAPL      70  2012-11-16  2013-02-28" in printed
            if "export" in name:
                assert printed.count("\n") == 71, name
        assert sealed.read_bytes() == content

    def test_a_job_says_that_it_cannot_write(self, sealed: Path, command: Command) -> None:
        status, printed, error = command("daily_update", "--sandbox", DATABASE_URL=f"sqlite:///{sealed}")

        assert (status, printed) == (1, "")
        assert one_line(error) == (
            f"SQLite file {sealed}: attempt to write a readonly database;"
            " its folder must exist, and you need the right to write to the folder and the file"
        )

    @pytest.mark.parametrize("role", ["a role that may only read", "a session that is read-only"])
    def test_postgresql_without_the_right_to_write_can_be_read(
        self, role: str, postgresql_url: str, command: Command
    ) -> None:
        assert command(*LOAD, DATABASE_URL=postgresql_url)[0] == 0
        name = "reader" if role.endswith("read") else "sealed"
        database = make_url(postgresql_url).database
        engine = open_engine(postgresql_url)
        with engine.begin() as connection:
            connection.execute(text(f"DROP ROLE IF EXISTS {name}"))
            if name == "reader":
                connection.execute(text(f"CREATE ROLE {name} LOGIN"))
                connection.execute(text(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"))
                connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {name}"))
                connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}"))
            else:
                connection.execute(text(f"CREATE ROLE {name} LOGIN SUPERUSER"))
                connection.execute(text(f"ALTER ROLE {name} SET default_transaction_read_only = on"))
        url = make_url(postgresql_url).set(username=name).render_as_string(hide_password=False)
        try:
            self.reads_and_refuses(command, url)
        finally:
            open_engine(url).dispose()
            with engine.begin() as connection:
                connection.execute(text(f"DROP OWNED BY {name}"))
                connection.execute(text(f"DROP ROLE {name}"))

    def test_a_hot_standby_can_be_read(self, command: Command) -> None:
        def load(url: str) -> None:
            assert command(*LOAD, DATABASE_URL=url)[0] == 0
            open_engine(url).dispose()

        with hot_standby(load) as url:
            self.reads_and_refuses(command, url)
            open_engine(url).dispose()

    def reads_and_refuses(self, command: Command, url: str) -> None:
        for name, reading in READS.items():
            status, printed, error = command(*reading, DATABASE_URL=url)
            assert (status, error) == (0, ""), name
            if name == "status":
                assert "AAPL      70  2012-11-16  2013-02-28" in printed
            if "export" in name:
                assert printed.count("\n") == 71, name
        status, printed, error = command("daily_update", "--sandbox", DATABASE_URL=url)
        assert (status, printed) == (1, "")
        assert "permission denied for table" in one_line(error) or "read-only transaction" in error


class SlowProvider(LocalServer):
    """A provider that does not answer until it is told to."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()
        super().__init__(self.answer)

    def answer(self, _request: Request) -> Reply | None:
        """Wait, and close the connection."""
        self.asked.set()
        self.go_on.wait(30)
        return None


@pytest.fixture
def slow_provider() -> Iterator[SlowProvider]:
    """A provider that does not answer."""
    server = SlowProvider()
    server.start()
    yield server
    server.go_on.set()
    server.stop()


class TestInterrupt:
    @pytest.mark.parametrize(("name", "exit_status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
    def test_an_interrupted_run_says_so_is_recorded_and_loses_nothing(
        self,
        name: str,
        exit_status: int,
        database_url: str,
        engine: Engine,
        slow_provider: SlowProvider,
        command: Command,
    ) -> None:
        assert command("initialize", "--sandbox", *AS_OF, "--symbols", "IBM", DATABASE_URL=database_url)[0] == 0
        before = stock_data(engine)
        provider = {"POLYGON_BASE_URL": slow_provider.url, "POLYGON_API_KEY": "sandbox"}
        job = process("initialize", "--json", *AS_OF, "--symbols", "AAPL,IBM", DATABASE_URL=database_url, **provider)

        with subprocess.Popen(
            **job, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_default_signals
        ) as running:
            assert slow_provider.asked.wait(60)
            running.send_signal(signal.Signals[name])
            printed, error = running.communicate(timeout=60)

        said = one_line(error, "interrupted")
        assert (running.returncode, json.loads(printed)) == (exit_status, {"error": f"interrupted {said}"})
        assert said == f"by {name}; what was stored stays, and the next run goes on from there"
        query = "SELECT status, error FROM job_runs WHERE finished_at > started_at ORDER BY started_at DESC LIMIT 1"
        assert rows(engine, query) == [("interrupted", f"interrupted by {name}")]
        assert stock_data(engine) == before
        status, printed, _ = command("status", *AS_OF, DATABASE_URL=database_url)
        assert (status, "interrupted" in printed) == (0, True)
        again = command("initialize", "--sandbox", "--json", *AS_OF, "--symbols", "AAPL,IBM", DATABASE_URL=database_url)
        assert json.loads(again[1])["rows"]["inserted"] == 70

    @pytest.mark.parametrize("module", ["errno", "typer", "commands.app", "pandas", "pipeline.jobs", "sandbox.server"])
    def test_an_interrupt_during_the_imports_shows_no_traceback(self, module: str) -> None:
        job = process("daily_update", "--sandbox")
        job["args"][1:1] = ["-X", "importtime"]  # names each module on standard error once it is imported
        with subprocess.Popen(
            **job, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=_default_signals
        ) as running:
            assert running.stderr is not None
            assert any(line.split("|")[-1].strip() == module for line in running.stderr)
            running.send_signal(signal.SIGINT)
            _, error = running.communicate(timeout=60)

        assert "Traceback" not in error
        assert running.returncode in (130, -signal.SIGINT)


def _default_signals() -> None:
    """Ignore no signal; a child inherits what its parent ignores, as under ``nohup``."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)


class TestOutput:
    """Standard output that is full, closed or of another encoding."""

    @pytest.fixture
    def stored(self, command: Command, sqlite_url: str) -> str:
        """A database with prices."""
        assert command(*LOAD, DATABASE_URL=sqlite_url)[0] == 0
        open_engine(sqlite_url).dispose()
        return sqlite_url

    @pytest.mark.parametrize(
        "arguments",
        [READS["status"], ("status", "--json", *AS_OF), READS["an export"], ("--help",), LOAD],
        ids=["status", "JSON", "export", "help", "job"],
    )
    def test_a_full_disk_behind_standard_output_is_one_line(self, arguments: tuple[str, ...], stored: str) -> None:
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                **process(*arguments, DATABASE_URL=stored), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
            )

        assert done.returncode == 1
        assert one_line(done.stderr) == "standard output cannot be used: No space left on device"

    @pytest.mark.parametrize("file_format", ["csv", "parquet"])
    def test_a_reader_that_leaves_is_no_news(self, file_format: str, stored: str) -> None:
        arguments = (*READS["an export"], "--format", file_format)
        with subprocess.Popen(
            **process(*arguments, DATABASE_URL=stored), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as running:
            assert running.stdout is not None
            running.stdout.close()
            assert running.stderr is not None
            assert running.stderr.read() == b""
        assert running.returncode == 1

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
    def test_a_terminal_of_another_encoding_shows_the_rest(self, encoding: str, stored: str) -> None:
        done = subprocess.run(
            **process(*READS["status"], DATABASE_URL=stored, PYTHONIOENCODING=encoding),
            capture_output=True,
            timeout=60,
        )

        assert (done.returncode, done.stderr) == (0, b"")
        assert b"? stored" in done.stdout
        assert b"AAPL      70  2012-11-16  2013-02-28" in done.stdout


class TestInTheWay:
    """Places and arguments that cannot be used."""

    def test_a_port_in_use_is_named(self, command: Command) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            status, printed, error = command("sandbox", "--port", str(port))

        assert (status, printed) == (1, "")
        assert one_line(error) == (
            f"--port is {port}, where nothing can listen on 127.0.0.1: Address already in use;"
            " valid is a free port, or 0"
        )

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("folder", None, "unable to open database file"),
            ("text", b"date,symbol\n" * 100, "file is not a database"),
            ("corrupt", b"SQLite format 3\x00" + b"\x10\x00\x01\x01\x00" + b"?" * 9000, ""),
            ("missing/prices", None, "folder"),
        ],
    )
    @pytest.mark.parametrize(
        "arguments", [READS["status"], READS["a dry run"], READS["an export"], LOAD], ids=lambda words: words[0]
    )
    def test_a_place_that_holds_no_database_is_one_line(
        self, name: str, content: bytes | None, said: str, arguments: tuple[str, ...], command: Command
    ) -> None:
        if content:
            Path(name).write_bytes(content)
        elif "/" not in name:
            Path(name).mkdir()

        status, _, error = command(*arguments, DATABASE_URL=f"sqlite:///{name}")

        assert status == 1
        assert said in one_line(error)

    @pytest.mark.parametrize("output", ["", "taken", "missing/prices.csv", "/dev/full"])
    def test_an_export_that_cannot_be_written_is_one_line(self, output: str, command: Command, sqlite_url: str) -> None:
        command(*LOAD, DATABASE_URL=sqlite_url)
        Path("taken").mkdir()

        status, printed, error = command("export", "--output", output, DATABASE_URL=sqlite_url)

        assert (status, printed) == (1, "")
        assert one_line(error).startswith(f"--output is {output!r}, which cannot be written: ")
        assert Path("/dev/full").is_char_device()

    def test_a_report_that_cannot_be_written_is_one_line(self, command: Command, sqlite_url: str) -> None:
        Path("taken").write_text("a file", encoding="utf-8")

        status, _, error = command("weekly_report", "--sandbox", DATABASE_URL=sqlite_url, OUTBOX="taken")

        assert status == 1
        assert one_line(error) == "the outbox 'taken' cannot be written: File exists; set OUTBOX to a folder"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("invoke", "[" * 100_000), "valid is JSON such as"),
            (("status", "--as-of", "2013-02-30"), 'as_of is "2013-02-30": valid is an ISO date'),
            (("status", "--symbols", "A\nB\x1b[31m"), r"'B\x1b[31m' is not a symbol"),
            (("export", "--output", "x", "--known-at", "0001-01-01T00:00:00+14:00"), "--known-at is '0001-01-01"),
            (("sandbox", "--today", "soon"), "--today is 'soon': valid is an ISO date"),
        ],
    )
    def test_an_argument_that_is_not_valid_is_named(
        self, arguments: tuple[str, ...], said: str, command: Command, sqlite_url: str
    ) -> None:
        status, printed, error = command(*arguments, DATABASE_URL=sqlite_url, COLUMNS="300")

        assert said in one_line(error)
        assert printed == "" or arguments[0] == "invoke"
        assert status in (1, 2)

    def test_a_working_directory_that_is_gone_is_one_line(self, tmp_path: Path) -> None:
        gone = tmp_path / "gone"
        gone.mkdir()

        done = subprocess.run(
            **process("status"), cwd=gone, preexec_fn=gone.rmdir, capture_output=True, text=True, timeout=60
        )

        assert (done.returncode, done.stdout) == (1, "")
        assert "No such file or directory" in one_line(done.stderr)
